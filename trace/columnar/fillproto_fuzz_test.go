package columnar_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/tracetest"
	"github.com/betracehq/betrace/trace/wire/wiretest"
)

var otlpSchema = func() wiretest.Schema {
	value := wiretest.Schema{1: nil, 2: nil, 3: nil, 4: nil, 7: nil, 8: nil}
	keyValue := wiretest.Schema{1: nil, 2: value}
	value[5], value[6] = wiretest.Schema{1: value}, wiretest.Schema{1: keyValue}
	span := wiretest.Schema{
		1: nil, 2: nil, 4: nil, 5: nil, 6: nil, 7: nil, 8: nil, 9: keyValue,
		11: {1: nil, 2: nil, 3: keyValue}, 13: {1: nil, 2: nil, 4: keyValue}, 15: {2: nil, 3: nil},
	}
	return wiretest.Schema{1: {1: {1: keyValue, 2: nil}, 2: {1: {1: nil, 2: nil}, 2: span}, 1000: nil}}
}()

// hidesSpans reports whether a message that Prune accepts may have spans in unknown fields: at some level it
// has no child but an unknown field. last holds the number of the last known field of each level, children
// the number of the child.
func hidesSpans(b []byte, children, last []int32) bool {
	if len(children) == 0 {
		return false
	}
	unknown, child := false, false
	for len(b) > 0 {
		tag, n := wiretest.Uvarint(b)
		num, size := int32(tag>>3), wiretest.FieldSize(b)
		isChild := (num == children[0] || num == 1000 && children[0] == 2 && len(children) == 2) && tag&7 == 2
		if isChild {
			_, m := wiretest.Uvarint(b[n:])
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

// FuzzFillOTLP compares FillOTLP with pdata and the Collector. FillOTLP accepts the same messages, except
// that it is more lenient in fields that it does not read: trace state, attributes of scopes, schema URLs,
// entities, counts of dropped data, unknown fields.
//
// pdata is more lenient if a group does not end: it treats a group as finished after its first field.
// FillOTLP returns an error for such a group and skips groups that end, for which pdata usually fails.
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
		tracetest.Alter(td, r)
		f.Add(append(marshal(f, td), repeatKeys(td, r)...))
	}
	f.Add([]byte("\x0a\x05\xc2\x3e\x02\x12\x00"))
	f.Add([]byte("\x0a\x03\xa2\x06\x00"))
	f.Add([]byte("\x13\x08\x01"))
	f.Add([]byte("\x1b\x08\x01\x1c\x0a\x00"))
	f.Fuzz(func(t *testing.T, m []byte) {
		b, err := columnar.NewFiller(columnar.Needs{All: true}).FillOTLP(m)
		pruned, ok := wiretest.Prune(m, otlpSchema)
		if !ok {
			require.Error(t, err, "the input is not a message")
			return
		}
		if hidesSpans(m, []int32{1, 2, 2}, []int32{1, 3, 3}) {
			require.Error(t, err, "spans may be in unknown fields")
			return
		}
		want, wantErr := collect(pruned)
		if wantErr != nil {
			require.Error(t, err, "pdata and the Collector refuse it: %v", wantErr)
			return
		}
		require.NoError(t, err, "pdata and the Collector accept it")
		require.Equal(t, len(want), b.NumTraces())
		for i := range want {
			requireSame(t, want[i], b.Trace(i))
		}
		if all, err := collect(m); err == nil && !bytes.Contains(m, []byte{0xc2, 0x3e}) { // other fields do not matter; pdata drops field 1000
			require.Equal(t, len(want), len(all))
			for i := range want {
				requireSame(t, want[i], all[i])
			}
		}
	})
}
