package trace

import (
	"encoding/binary"
	"errors"
	"math"
)

// The fields of AnyValue, by tag.
const (
	tagString = 1<<3 + wireLen
	tagBool   = 2<<3 + wireVarint
	tagInt    = 3<<3 + wireVarint
	tagDouble = 4<<3 + wireI64
	tagArray  = 5<<3 + wireLen
	tagMap    = 6<<3 + wireLen
	tagBytes  = 7<<3 + wireLen
	tagIndex  = 8<<3 + wireVarint // a text by its number in a table that traces do not have: a value without a type
)

var (
	anyValueFields = []wireField{
		1: {"AnyValue.string_value", wireLen}, 2: {"AnyValue.bool_value", wireVarint}, 3: {"AnyValue.int_value", wireVarint}, 4: {"AnyValue.double_value", wireI64},
		5: {"AnyValue.array_value", wireLen}, 6: {"AnyValue.kvlist_value", wireLen}, 7: {"AnyValue.bytes_value", wireLen}, 8: {"AnyValue.string_value_strindex", wireVarint},
	}
	keyValueFields = []wireField{1: {"KeyValue.key", wireLen}, 2: {"KeyValue.value", wireLen}}
	arrayFields    = []wireField{1: {"ArrayValue.values", wireLen}}
	mapFields      = []wireField{1: {"KeyValueList.values", wireLen}}
)

// maxDepth is how many messages of an attribute lie one in the other at the most, as
// in pdata's unmarshaler.
const maxDepth = 100

var errTooDeep = errors.New("a value is nested too deeply")

// putScalar gives a row that has none the value of an AnyValue, if that is one text,
// number or truth value.
func (c *Column) putScalar(row int32, any []byte) bool {
	if len(any) < 2 {
		return false
	}
	switch any[0] {
	case tagString:
		from, to, ok := onlyLen(any, 0, tagString)
		if !ok || to != len(any) {
			return false
		}
		c.NeedTexts()
		c.Text.Codes[row] = c.Text.InternLikely(any[from:to])
	case tagInt:
		f := fields{b: any}
		v, end := f.varint(1)
		if end != len(any) {
			return false
		}
		c.NeedInts()
		c.Ints[row] = int64(v)
		c.IsInt.Set(row)
	case tagDouble:
		if len(any) != 9 {
			return false
		}
		c.NeedDoubles()
		c.Doubles[row] = math.Float64frombits(binary.LittleEndian.Uint64(any[1:]))
		c.IsDouble.Set(row)
	case tagBool:
		if len(any) != 2 || any[1] >= 0x80 {
			return false
		}
		c.NeedBools()
		c.IsBool.Set(row)
		if any[1] != 0 {
			c.Bools.Set(row)
		}
	default:
		return false
	}
	return true
}

// protoValue is a value that is read. A field that comes again replaces it.
type protoValue struct {
	Value
	repeated bool // a map in it had a key with unequal values
}

// readKeyValue reads a KeyValue of any kind. It is the plain way, for what is rare.
func (v *protoValue) readKeyValue(f fields, depth int) (key []byte, err error) {
	if depth >= maxDepth {
		return nil, errTooDeep
	}
	for f.next() {
		switch f.tag {
		case 1<<3 + wireLen:
			key = f.content()
		case 2<<3 + wireLen:
			if err := v.read(f.sub(), depth+1); err != nil {
				return nil, err
			}
		default:
			f.skip(keyValueFields)
		}
	}
	return key, f.err
}

// read reads an AnyValue.
func (v *protoValue) read(f fields, depth int) error {
	if depth >= maxDepth {
		return errTooDeep
	}
	for f.next() {
		var err error
		switch f.tag {
		case tagString:
			*v = protoValue{Value: StringValue(string(f.content()))}
		case tagBool:
			*v = protoValue{Value: BoolValue(f.value != 0)}
		case tagInt:
			*v = protoValue{Value: IntValue(int64(f.value))}
		case tagDouble:
			*v = protoValue{Value: DoubleValue(math.Float64frombits(f.value))}
		case tagArray:
			*v, err = readArray(f.sub(), depth+1)
		case tagMap:
			*v, err = readMap(f.sub(), depth+1)
		case tagBytes:
			*v = protoValue{Value: BytesValue(f.content())}
		case tagIndex:
			*v = protoValue{}
		default:
			f.skip(anyValueFields)
		}
		if err != nil {
			return err
		}
	}
	return f.err
}

func readArray(f fields, depth int) (protoValue, error) {
	if depth >= maxDepth {
		return protoValue{}, errTooDeep
	}
	var list []Value
	repeated := false
	for f.next() {
		if f.tag != 1<<3+wireLen {
			f.skip(arrayFields)
			continue
		}
		var v protoValue
		if err := v.read(f.sub(), depth+1); err != nil {
			return v, err
		}
		list, repeated = append(list, v.Value), repeated || v.repeated
	}
	return protoValue{ArrayValue(list...), repeated}, f.err
}

func readMap(f fields, depth int) (protoValue, error) {
	if depth >= maxDepth {
		return protoValue{}, errTooDeep
	}
	var attrs []Attribute
	repeated := false
	for f.next() {
		if f.tag != 1<<3+wireLen {
			f.skip(mapFields)
			continue
		}
		var v protoValue
		key, err := v.readKeyValue(f.sub(), depth+1)
		if err != nil {
			return v, err
		}
		attrs, repeated = append(attrs, Attribute{string(key), v.Value}), repeated || v.repeated
	}
	normal, again := NewAttributes(attrs)
	return protoValue{MapValue(normal), repeated || again}, f.err
}
