package trace_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/analyzer/trace/tracetest"
)

// schema is the part of OTLP that FillOTLP reads, by field; nil for what is no message.
type schema map[int32]schema

var otlpSchema = func() schema {
	value := schema{1: nil, 2: nil, 3: nil, 4: nil, 7: nil, 8: nil}
	keyValue := schema{1: nil, 2: value}
	value[5], value[6] = schema{1: value}, schema{1: keyValue}
	span := schema{
		1: nil, 2: nil, 4: nil, 5: nil, 6: nil, 7: nil, 8: nil, 9: keyValue,
		11: {1: nil, 2: nil, 3: keyValue}, 13: {1: nil, 2: nil, 4: keyValue}, 15: {2: nil, 3: nil},
	}
	return schema{1: {1: {1: keyValue, 2: nil}, 2: {1: {1: nil, 2: nil}, 2: span}, 1000: nil}}
}()

// prune returns a message without the fields that are not in the schema, and whether
// it is made of fields at all. It is the plain counterpart of the reader of FillOTLP.
func prune(b []byte, s schema) (pruned []byte, ok bool) {
	for len(b) > 0 {
		tag, n := uvarint(b)
		num, typ := int32(tag>>3), tag&7
		if n == 0 || num <= 0 || typ == 4 {
			return nil, false
		}
		size := fieldSize(b)
		if size == 0 {
			return nil, false
		}
		field := b[:size]
		b = b[size:]
		inner, read := s[num]
		if num == 1000 && typ == 2 { // the older field of spans: pdata leaves it out beside the newer one
			num, inner = 2, s[2]
		}
		switch {
		case !read:
		case typ == 3: // pdata does not skip it
			return nil, false
		case typ == 2 && inner != nil:
			_, m := uvarint(field[n:])
			content, ok := prune(field[n+m:], inner)
			if !ok {
				return nil, false
			}
			pruned = appendLen(pruned, num, content)
		default:
			pruned = append(pruned, field...)
		}
	}
	return pruned, true
}

// hidesSpans reports whether a message that prune takes may have spans in fields that
// OTLP does not have: there is no child at some level, but such a field. last are the
// numbers of the last known field of each level, children those of the child.
func hidesSpans(b []byte, children, last []int32) bool {
	if len(children) == 0 {
		return false
	}
	unknown, child := false, false
	for len(b) > 0 {
		tag, n := uvarint(b)
		num, size := int32(tag>>3), fieldSize(b)
		isChild := (num == children[0] || num == 1000 && children[0] == 2 && len(children) == 2) && tag&7 == 2
		if isChild {
			_, m := uvarint(b[n:])
			child = true
			if hidesSpans(b[n+m:size], children[1:], last[1:]) {
				return true
			}
		} else if num > last[0] {
			unknown = true
		}
		b = b[size:]
	}
	return unknown && !child
}

// fieldSize returns the size of the field that b begins with, 0 if it is none.
func fieldSize(b []byte) int {
	tag, n := uvarint(b)
	if n == 0 || int32(tag>>3) <= 0 {
		return 0
	}
	size := 0
	switch rest := b[n:]; tag & 7 {
	case 0:
		_, m := uvarint(rest)
		if m == 0 {
			return 0
		}
		size = n + m
	case 1:
		size = n + 8
	case 2:
		length, m := uvarint(rest)
		if m == 0 || length > uint64(len(rest)-m) {
			return 0
		}
		size = n + m + int(length)
	case 3:
		for depth := 1; depth > 0; {
			inner, m := uvarint(b[n:])
			switch {
			case m > 0 && int32(inner>>3) > 0 && inner&7 == 3:
				depth++
			case m > 0 && int32(inner>>3) > 0 && inner&7 == 4:
				depth--
			default:
				m = fieldSize(b[n:])
			}
			if m == 0 {
				return 0
			}
			n += m
		}
		size = n
	case 5:
		size = n + 4
	}
	if size > len(b) {
		return 0
	}
	return size
}

// uvarint reads a number of up to 10 bytes, as pdata does; its size is 0 if it is none.
func uvarint(b []byte) (v uint64, size int) {
	for i, c := range b[:min(10, len(b))] {
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

func appendUvarint(b []byte, v uint64) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func appendLen(b []byte, num int32, content []byte) []byte {
	b = appendUvarint(appendUvarint(b, uint64(num)<<3|2), uint64(len(content)))
	return append(b, content...)
}

// FuzzFillOTLP holds FillOTLP against pdata and the Collector. It takes what they take
// of the message without what it does not read: trace state, attributes of scopes,
// schema URLs, entities, counts of what was dropped, unknown fields. In those it is
// the more lenient.
//
// pdata is the more lenient with a group that does not end: it takes it as over after
// its first field. Here that is an error, and groups that end are skipped, in which
// pdata mostly fails.
func FuzzFillOTLP(f *testing.F) {
	for seed := range uint64(20) {
		o := tracetest.Mixed(seed, 1)
		o.MaxSpans = 5
		for _, n := range tracetest.AllNasty() {
			o.Nasty[n] = 0.3
		}
		o.Nasty[tracetest.LongValues] = 0
		td := tracetest.Merge(tracetest.New(o).At(0).Batches...)
		r := rand.New(rand.NewPCG(seed, 5))
		alter(td, r)
		f.Add(append(marshal(f, td), repeatKeys(td, r)...))
	}
	f.Add([]byte("\x0a\x05\xc2\x3e\x02\x12\x00"))
	f.Add([]byte("\x0a\x03\xa2\x06\x00"))
	f.Add([]byte("\x13\x08\x01"))
	f.Add([]byte("\x1b\x08\x01\x1c\x0a\x00"))
	f.Fuzz(func(t *testing.T, m []byte) {
		b, err := trace.NewFiller(trace.Needs{All: true}).FillOTLP(m)
		pruned, ok := prune(m, otlpSchema)
		if !ok {
			require.Error(t, err, "it is no message")
			return
		}
		if hidesSpans(m, []int32{1, 2, 2}, []int32{1, 3, 3}) {
			require.Error(t, err, "spans may be in unknown fields")
			return
		}
		want, wantErr := collect(pruned)
		if wantErr != nil {
			require.Error(t, err, "pdata and the Collector do not take it: %v", wantErr)
			return
		}
		require.NoError(t, err, "pdata and the Collector take it")
		require.Equal(t, len(want), b.NumTraces())
		for i := range want {
			requireSame(t, want[i], b.Trace(i))
		}
		if all, err := collect(m); err == nil && !bytes.Contains(m, []byte{0xc2, 0x3e}) { // other fields do not matter; pdata leaves out field 1000
			require.Equal(t, len(want), len(all))
			for i := range want {
				requireSame(t, want[i], all[i])
			}
		}
	})
}
