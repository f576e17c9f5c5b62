package columnar

import (
	"encoding/binary"
	"math"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/wire"
)

// The fields of AnyValue, by tag.
const (
	tagString = 1<<3 + wire.Len
	tagBool   = 2<<3 + wire.Varint
	tagInt    = 3<<3 + wire.Varint
	tagDouble = 4<<3 + wire.I64
	tagArray  = 5<<3 + wire.Len
	tagMap    = 6<<3 + wire.Len
	tagBytes  = 7<<3 + wire.Len
	tagIndex  = 8<<3 + wire.Varint // an index into a table of strings, which traces do not have, so the value has no type
)

var (
	anyValueFields = []field{
		1: {"AnyValue.string_value", wire.Len}, 2: {"AnyValue.bool_value", wire.Varint}, 3: {"AnyValue.int_value", wire.Varint}, 4: {"AnyValue.double_value", wire.I64},
		5: {"AnyValue.array_value", wire.Len}, 6: {"AnyValue.kvlist_value", wire.Len}, 7: {"AnyValue.bytes_value", wire.Len}, 8: {"AnyValue.string_value_strindex", wire.Varint},
	}
	keyValueFields = []field{1: {"KeyValue.key", wire.Len}, 2: {"KeyValue.value", wire.Len}}
	arrayFields    = []field{1: {"ArrayValue.values", wire.Len}}
	mapFields      = []field{1: {"KeyValueList.values", wire.Len}}
)

// putScalar sets the value of a row that has none, if the AnyValue is exactly one string, number or boolean.
// Otherwise it returns false.
func (c *Column) putScalar(row int32, any []byte) bool {
	if len(any) < 2 {
		return false
	}
	switch any[0] {
	case tagString:
		from, to, ok := wire.OnlyLen(any, 0, tagString)
		if !ok || to != len(any) {
			return false
		}
		c.NeedTexts()
		c.Text.Codes[row] = c.Text.InternLikely(any[from:to])
	case tagInt:
		f := wire.Fields{Bytes: any}
		v, end := f.Varint(1)
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

// protoValue is a value that is being read. If a field is repeated, the last one is used.
type protoValue struct {
	trace.Value
	repeated bool // a map in it had a key with unequal values
}

// readKeyValue reads any KeyValue. It is the simple implementation, for rare forms.
func (v *protoValue) readKeyValue(f wire.Fields, depth int) (key []byte, err error) {
	if depth >= wire.MaxDepth {
		return nil, wire.ErrTooDeep
	}
	for f.Next() {
		switch f.Tag {
		case 1<<3 + wire.Len:
			key = f.Content()
		case 2<<3 + wire.Len:
			if err := v.read(f.Sub(), depth+1); err != nil {
				return nil, err
			}
		default:
			skip(&f, keyValueFields)
		}
	}
	return key, f.Err
}

// read reads an AnyValue.
func (v *protoValue) read(f wire.Fields, depth int) error {
	if depth >= wire.MaxDepth {
		return wire.ErrTooDeep
	}
	for f.Next() {
		var err error
		switch f.Tag {
		case tagString:
			*v = protoValue{Value: trace.StringValue(string(f.Content()))}
		case tagBool:
			*v = protoValue{Value: trace.BoolValue(f.Value != 0)}
		case tagInt:
			*v = protoValue{Value: trace.IntValue(int64(f.Value))}
		case tagDouble:
			*v = protoValue{Value: trace.DoubleValue(math.Float64frombits(f.Value))}
		case tagArray:
			*v, err = readArray(f.Sub(), depth+1)
		case tagMap:
			*v, err = readMap(f.Sub(), depth+1)
		case tagBytes:
			*v = protoValue{Value: trace.BytesValue(f.Content())}
		case tagIndex:
			*v = protoValue{}
		default:
			skip(&f, anyValueFields)
		}
		if err != nil {
			return err
		}
	}
	return f.Err
}

func readArray(f wire.Fields, depth int) (protoValue, error) {
	if depth >= wire.MaxDepth {
		return protoValue{}, wire.ErrTooDeep
	}
	var list []trace.Value
	repeated := false
	for f.Next() {
		if f.Tag != 1<<3+wire.Len {
			skip(&f, arrayFields)
			continue
		}
		var v protoValue
		if err := v.read(f.Sub(), depth+1); err != nil {
			return v, err
		}
		list, repeated = append(list, v.Value), repeated || v.repeated
	}
	return protoValue{trace.ArrayValue(list...), repeated}, f.Err
}

func readMap(f wire.Fields, depth int) (protoValue, error) {
	if depth >= wire.MaxDepth {
		return protoValue{}, wire.ErrTooDeep
	}
	var attrs []trace.Attribute
	repeated := false
	for f.Next() {
		if f.Tag != 1<<3+wire.Len {
			skip(&f, mapFields)
			continue
		}
		var v protoValue
		key, err := v.readKeyValue(f.Sub(), depth+1)
		if err != nil {
			return v, err
		}
		attrs, repeated = append(attrs, trace.Attribute{Key: string(key), Value: v.Value}), repeated || v.repeated
	}
	normal, again := trace.NewAttributes(attrs)
	return protoValue{trace.MapValue(normal), repeated || again}, f.Err
}
