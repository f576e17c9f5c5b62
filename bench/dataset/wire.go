package dataset

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// OTLP is encoded by hand, because building and marshalling structs for millions of spans would take
// longer than Tempo takes to store them.

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendString(b []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendFixed64(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), v)
}

// Field numbers of AnyValue.
const (
	fieldString = 1
	fieldBool   = 2
	fieldInt    = 3
	fieldDouble = 4
)

func (g *generator) text(b []byte, field protowire.Number, key, v string) []byte {
	return g.keyValue(b, field, key, appendString(g.valueBuf[:0], fieldString, v))
}

func (g *generator) number(b []byte, field protowire.Number, key string, v int64) []byte {
	return g.keyValue(b, field, key, appendVarint(g.valueBuf[:0], fieldInt, uint64(v)))
}

func (g *generator) double(b []byte, field protowire.Number, key string, v float64) []byte {
	return g.keyValue(b, field, key, appendFixed64(g.valueBuf[:0], fieldDouble, math.Float64bits(v)))
}

func (g *generator) truth(b []byte, field protowire.Number, key string, v bool) []byte {
	return g.keyValue(b, field, key, appendVarint(g.valueBuf[:0], fieldBool, protowire.EncodeBool(v)))
}

func (g *generator) keyValue(b []byte, field protowire.Number, key string, value []byte) []byte {
	g.valueBuf = value
	g.keyBuf = appendBytes(appendString(g.keyBuf[:0], 1, key), 2, value)
	return appendBytes(b, field, g.keyBuf)
}
