package columnar_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// TestSpansOfATraceAreSortedTheSameWhereverTheyLie checks that adjacent spans, for which a faster sort is
// used, have the same order as others, for any starts.
func TestSpansOfATraceAreSortedTheSameWhereverTheyLie(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 5000 {
		n := 1 + r.IntN(80)
		if r.IntN(20) == 0 {
			n = 1 + r.IntN(600) // too many for a table of bytes
		}
		apart := uint64(1) << r.IntN(62) // maximum distance of starts
		first := r.Uint64() >> 2
		unique := r.IntN(2) == 0
		fill := func(f *columnar.Filler) {
			r := rand.New(rand.NewPCG(apart, uint64(n)))
			f.Keys.Resize(0)
			f.Keys.Resize(n)
			for i := range n {
				f.Keys.Starts[i] = trace.Time(first + r.Uint64N(apart))
				f.Keys.Ends[i] = f.Keys.Starts[i] + trace.Time(r.IntN(9)) - 1
				id := uint64(r.IntN(n) + 1)
				if unique {
					id = uint64(i+1) * 0x9e3779b97f4a7c15
				}
				binary.BigEndian.PutUint64(f.Keys.IDs[i][:], id)
				f.Keys.ParentIDs[i] = f.Keys.IDs[r.IntN(i+1)]
				f.Keys.Kinds[i] = trace.Kind(r.IntN(6))
			}
			f.Reset()
		}
		one, two := columnar.NewFiller(columnar.Needs{}), columnar.NewFiller(columnar.Needs{})
		fill(one)
		one.AddTrace(trace.ID{1}, columnar.SpanRun{From: 0, To: int32(n)})
		fill(two)
		cut := int32(r.IntN(n + 1))
		two.AddTrace(trace.ID{1}, columnar.SpanRun{From: cut, To: int32(n)}, columnar.SpanRun{From: 0, To: cut})
		a, b := one.Layout(1, 0, 0), two.Layout(1, 0, 0)
		// Further copies of a span with equal starts may be in any order.
		require.Equal(t, b.SpanIDs[:one.NumSpans()], a.SpanIDs[:one.NumSpans()])
		a, b = one.Finish(), two.Finish()
		require.Equal(t, b.Trace(0), a.Trace(0))
		for i := 1; i < a.NumSpans(); i++ {
			require.LessOrEqual(t, a.Starts[i-1], a.Starts[i])
		}
	}
}
