package trace

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Type is the type of an attribute's value. The numbers are those of the fields of OTLP's AnyValue, and
// [Value.Compare] orders types by them.
type Type uint8

// The types of OTLP's AnyValue. TypeAbsent is the type of a value without one.
const (
	TypeAbsent Type = iota
	TypeString
	TypeBool
	TypeInt
	TypeDouble
	TypeArray
	TypeMap
	TypeBytes
)

var typeNames = [...]string{"absent", "string", "bool", "int", "double", "array", "map", "bytes"}

// String returns the type's name in lower case.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "type(" + strconv.Itoa(int(t)) + ")"
}

// Value is one immutable attribute value of any OTLP type. The zero Value is absent. An accessor for a type
// other than the value's returns the zero value of its result.
type Value struct {
	typ  Type
	bits uint64    // bool, int, double
	text string    // string, bytes
	sub  *compound // array, map; nil if empty
}

type compound struct {
	list []Value
	attr Attributes
}

// StringValue returns a value of type string.
func StringValue(s string) Value { return Value{typ: TypeString, text: s} }

// BoolValue returns a value of type bool.
func BoolValue(b bool) Value {
	v := Value{typ: TypeBool}
	if b {
		v.bits = 1
	}
	return v
}

// IntValue returns a value of type int.
func IntValue(i int64) Value { return Value{typ: TypeInt, bits: uint64(i)} }

// DoubleValue returns a value of type double.
func DoubleValue(f float64) Value { return Value{typ: TypeDouble, bits: math.Float64bits(f)} }

// BytesValue returns a value of type bytes that holds a copy of b.
func BytesValue(b []byte) Value { return Value{typ: TypeBytes, text: string(b)} }

// ArrayValue returns a value of type array. It keeps list, which must not be changed afterwards. Absent
// elements keep their places.
func ArrayValue(list ...Value) Value {
	v := Value{typ: TypeArray}
	if len(list) > 0 {
		v.sub = &compound{list: list}
	}
	return v
}

// MapValue returns a value of type map (OTLP's key-value list).
func MapValue(attr Attributes) Value {
	v := Value{typ: TypeMap}
	if len(attr) > 0 {
		v.sub = &compound{attr: attr}
	}
	return v
}

// Type returns the value's type.
func (v Value) Type() Type { return v.typ }

// IsAbsent reports whether the value has no type.
func (v Value) IsAbsent() bool { return v.typ == TypeAbsent }

// Str returns a string value's content.
func (v Value) Str() string {
	if v.typ != TypeString {
		return ""
	}
	return v.text
}

// Len returns the length of a string or bytes value in bytes.
func (v Value) Len() int { return len(v.text) }

// Bool returns a boolean value's content.
func (v Value) Bool() bool { return v.typ == TypeBool && v.bits != 0 }

// Int returns an int value's content.
func (v Value) Int() int64 {
	if v.typ != TypeInt {
		return 0
	}
	return int64(v.bits)
}

// Double returns a double value's content.
func (v Value) Double() float64 {
	if v.typ != TypeDouble {
		return 0
	}
	return math.Float64frombits(v.bits)
}

// Bytes returns a copy of a bytes value's content.
func (v Value) Bytes() []byte {
	if v.typ != TypeBytes {
		return nil
	}
	return []byte(v.text)
}

// Array returns the elements of an array. The caller must not change the slice.
func (v Value) Array() []Value {
	if v.typ != TypeArray || v.sub == nil {
		return nil
	}
	return v.sub.list
}

// Map returns the entries of a map. The caller must not change the slice.
func (v Value) Map() Attributes {
	if v.typ != TypeMap || v.sub == nil {
		return nil
	}
	return v.sub.attr
}

// Compare defines a total order of all values and returns -1, 0 or 1. Absent values are less than all others;
// the rest are ordered by type in OTLP's order, then by value. Strings and bytes compare byte by byte, and
// false is less than true. Arrays and maps compare by length, then element by element (a map in key order:
// key, then value). Doubles compare as in [cmp.Compare], then by their bits, so that only identical doubles
// are equal.
//
// The order decides which of two unequal copies of a field wins. Rules compare values differently.
func (v Value) Compare(w Value) int {
	if c := cmp.Compare(v.typ, w.typ); c != 0 {
		return c
	}
	switch v.typ {
	case TypeString, TypeBytes:
		return strings.Compare(v.text, w.text)
	case TypeBool:
		return cmp.Compare(v.bits, w.bits)
	case TypeInt:
		return cmp.Compare(int64(v.bits), int64(w.bits))
	case TypeDouble:
		return cmp.Or(cmp.Compare(v.Double(), w.Double()), cmp.Compare(v.bits, w.bits))
	case TypeArray:
		return CompareLists(v.Array(), w.Array(), Value.Compare)
	case TypeMap:
		return v.Map().Compare(w.Map())
	}
	return 0
}

// Equal reports whether Compare returns 0. go-cmp uses it.
func (v Value) Equal(w Value) bool { return v.Compare(w) == 0 }

// String returns the value for display: strings unquoted, bytes in hexadecimal, arrays and maps like JSON.
func (v Value) String() string {
	switch v.typ {
	case TypeString:
		return v.text
	default:
		return string(v.append(nil))
	}
}

func (v Value) append(b []byte) []byte {
	switch v.typ {
	case TypeString:
		return strconv.AppendQuote(b, v.text)
	case TypeBool:
		return strconv.AppendBool(b, v.bits != 0)
	case TypeInt:
		return strconv.AppendInt(b, int64(v.bits), 10)
	case TypeDouble:
		return strconv.AppendFloat(b, v.Double(), 'g', -1, 64)
	case TypeBytes:
		const digits = "0123456789abcdef"
		for i := range len(v.text) {
			b = append(b, digits[v.text[i]>>4], digits[v.text[i]&15])
		}
		return b
	case TypeArray:
		b = append(b, '[')
		for i, e := range v.Array() {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = e.append(b)
		}
		return append(b, ']')
	case TypeMap:
		b = append(b, '{')
		for i, a := range v.Map() {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(strconv.AppendQuote(b, a.Key), ": "...)
			b = a.Value.append(b)
		}
		return append(b, '}')
	}
	return append(b, "absent"...)
}

// Attribute is one key and its value.
type Attribute struct {
	Key   string
	Value Value
}

// Attributes are a set of attributes in normal form: sorted by key, without repeated keys or absent values.
// Use [NewAttributes] to create one.
type Attributes []Attribute

// NewAttributes brings attributes into normal form, in place. If a key occurs more than once, its greatest
// value is kept; repeated reports whether a key had unequal values.
func NewAttributes(attrs []Attribute) (normal Attributes, repeated bool) {
	attrs = slices.DeleteFunc(attrs, func(a Attribute) bool { return a.Value.IsAbsent() })
	if len(attrs) == 0 {
		return nil, false
	}
	slices.SortFunc(attrs, func(a, b Attribute) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), b.Value.Compare(a.Value))
	})
	n := 1
	for _, a := range attrs[1:] {
		if a.Key == attrs[n-1].Key {
			repeated = repeated || !a.Value.Equal(attrs[n-1].Value)
			continue
		}
		attrs[n] = a
		n++
	}
	clear(attrs[n:])
	return attrs[:n:n], repeated
}

// Get returns the value of key, which is absent if there is none.
func (as Attributes) Get(key string) Value {
	i, ok := slices.BinarySearchFunc(as, key, func(a Attribute, key string) int { return strings.Compare(a.Key, key) })
	if !ok {
		return Value{}
	}
	return as[i].Value
}

// Compare compares attribute sets by length, then by key and value in key order.
func (as Attributes) Compare(bs Attributes) int {
	return CompareLists(as, bs, func(a, b Attribute) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), a.Value.Compare(b.Value))
	})
}

func (as Attributes) isNormal() bool {
	for i, a := range as {
		if a.Value.IsAbsent() || i > 0 && as[i-1].Key >= a.Key {
			return false
		}
	}
	return true
}

// merge returns the union of both sets, with the greater value of each key.
func (as Attributes) merge(bs Attributes) Attributes {
	if len(bs) == 0 || as.Compare(bs) == 0 {
		return as
	}
	both := make([]Attribute, 0, len(as)+len(bs))
	merged, _ := NewAttributes(append(append(both, as...), bs...))
	return merged
}

// CompareLists compares two lists by length, then element by element, and returns -1, 0 or 1.
func CompareLists[E any](as, bs []E, compare func(a, b E) int) int {
	if c := cmp.Compare(len(as), len(bs)); c != 0 {
		return c
	}
	return slices.CompareFunc(as, bs, compare)
}
