package traceql

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// requireSame compares a filter on a batch with the filter on each span of its traces.
func requireSame(t *testing.T, f *Filter, bf *BatchFilter, b *columnar.Batch, traces []*trace.Trace) {
	t.Helper()
	memory := func() columnar.Bits { return slices.Repeat(columnar.Bits{math.MaxUint64}, 20) } // that has been used before
	spans, selected := bf.SelectSpans(b, memory()), bf.SelectTraces(b, memory())
	i, n := int32(0), 0
	for k, tr := range traces {
		any := false
		for j := range tr.Spans {
			want := f.MatchesSpan(tr, j)
			any = any || want
			if want {
				n++
			}
			if want != spans.Has(i) {
				t.Fatalf("%s: span %d of trace %d, %+v: have %v, want %v", f, j, k, tr.Spans[j], spans.Has(i), want)
			}
			i++
		}
		if any != selected.Has(int32(k)) {
			t.Fatalf("%s: trace %d: have %v, want %v", f, k, selected.Has(int32(k)), any)
		}
	}
	if n != spans.Count() {
		t.Fatalf("%s: %d spans match, %d bits are set", f, n, spans.Count())
	}
}

func TestAFilterMatchesTheSameOnBatchesAsOnTraces(t *testing.T) {
	batches, filters := 500, 100
	if testing.Short() {
		batches = 50
	}
	matched, missed := 0, 0
	for seed := range uint64(batches) {
		ft := newFilterTest(seed)
		b := ft.batch(columnar.Needs{All: true})
		read := make([]*trace.Trace, len(ft.traces)) // the traces as read from the batch
		for k := range read {
			read[k] = b.Trace(k)
		}
		other, otherRead := ft.batch(ft.filter().Needs()), make([]*trace.Trace, len(ft.traces))
		for k := range otherRead {
			otherRead[k] = other.Trace(k)
		}
		for i := range filters {
			f := ft.filter()
			bf := f.OnBatches()
			requireSame(t, f, bf, b, read)
			if i%8 == 0 {
				requireSame(t, f, bf, ft.batch(f.Needs()), ft.traces)
				requireSame(t, f, bf, other, otherRead) // attributes that it does not hold are absent
			}
			if n := bf.SelectSpans(b, nil).Count(); n > 0 && n < b.NumSpans() {
				matched++
			} else {
				missed++
			}
		}
	}
	require.Greater(t, matched, missed/2, "filters that match some spans, not all")
}

func TestBoundsHoldWhereTheComparisonDoes(t *testing.T) {
	values := slices.Clone(numbers)
	for _, v := range numbers {
		if v.Type() == trace.TypeInt {
			values = append(values, trace.IntValue(v.Int()+1), trace.IntValue(v.Int()-1), trace.DoubleValue(float64(v.Int())))
		} else {
			values = append(values, trace.DoubleValue(math.Nextafter(v.Double(), math.Inf(1))), trace.DoubleValue(math.Nextafter(v.Double(), math.Inf(-1))), trace.DoubleValue(v.Double()+0.5))
		}
	}
	for op := OpEqual; op <= OpGreaterEqual; op++ {
		for _, want := range values {
			test := columnar.NewNumberTest(comparisons[op], want)
			for _, v := range values {
				// Test the value alone, and together with so many others that vectors are used.
				have, among := test.Double(v.Double()), test.Doubles(slices.Repeat([]float64{v.Double()}, 64), math.MaxUint64>>1)
				if v.Type() == trace.TypeInt {
					have, among = test.Int(v.Int()), test.Ints(slices.Repeat([]int64{v.Int()}, 64), math.MaxUint64>>1)
				}
				require.Equal(t, holds(op, TypeAny, v, TypeAny, want), have, "%v %v %s %v %v", v.Type(), v, op, want.Type(), want)
				require.Equal(t, have, among == math.MaxUint64>>1, "%v %v %s %v %v", v.Type(), v, op, want.Type(), want)
				require.Equal(t, !have, among == 0)
			}
		}
	}
}

// TestAFilterOnBatchesMayBeNestedDeeply nests a filter deeper than maxBitmapDepth, so that parts are
// evaluated span by span.
func TestAFilterOnBatchesMayBeNestedDeeply(t *testing.T) {
	ft := newFilterTest(7)
	b := ft.batch(columnar.Needs{All: true})
	for depth := range 3 * maxBitmapDepth {
		x := Compare(Intrinsic("span:name"), OpLess, String("m"))
		for i := range depth {
			x = Binary{Op: OpOr + Op(i%2), Left: x, Right: Not{ft.expr(0)}}
		}
		if f, err := New(x); err == nil {
			requireSame(t, f, f.OnBatches(), b, ft.traces)
		}
	}
}

func TestABatchFilterRemembersNothingOfTheBatchBefore(t *testing.T) {
	var all []*BatchFilter
	var filters []*Filter
	for _, query := range []string{`{ childCount = 1 }`, `{ childCount > span.a }`, `{ name = "b" || .a > 1 }`, `{ event.a != nil && !(.a = 1) }`, `{ rootName = "a" || resource.b }`} {
		f, err := Parse(query)
		require.NoError(t, err)
		filters, all = append(filters, f), append(all, f.OnBatches())
	}
	for seed := range uint64(100) {
		ft := newFilterTest(seed)
		parents := []trace.SpanID{{1}, {1 + byte(seed)%2}} // of spans 2 and 3: the number of spans is the same, the children differ
		small := trace.New(trace.ID{1}, []trace.Span{{ID: trace.SpanID{1}}, {ID: trace.SpanID{2}, ParentID: parents[0]}, {ID: trace.SpanID{3}, ParentID: parents[1]}})
		for i, f := range filters {
			requireSame(t, f, all[i], columnar.NewBatch(f.Needs(), small), []*trace.Trace{small})
			if seed%5 == 0 {
				requireSame(t, f, all[i], ft.batch(f.Needs()), ft.traces)
			}
		}
	}
}

func TestABatchWithoutTracesHasNoMatch(t *testing.T) {
	f := All.OnBatches()
	b := columnar.NewBatch(columnar.Needs{})
	require.Empty(t, f.SelectSpans(b, nil))
	require.Empty(t, f.SelectTraces(b, columnar.Bits{1}))
}

func FuzzABatchMatchesAsItsTracesDo(f *testing.F) {
	for i, query := range []string{`{ }`, `{ .a = 1 && span.b =~ "a.*" || !(duration > 1.5s) }`, `{ -.a ^ 2 > 1e-3 }`, `{ event.a != nil || resource.b }`, `{ (.a = .b) = .c && childCount > 0 }`} {
		f.Add(uint64(i), query)
	}
	f.Fuzz(func(t *testing.T, seed uint64, query string) {
		ft := newFilterTest(seed)
		filter, err := Parse(query)
		if err != nil {
			filter = ft.filter()
		}
		bf := filter.OnBatches()
		requireSame(t, filter, bf, ft.batch(columnar.Needs{All: true}), ft.traces)
		requireSame(t, filter, bf, ft.batch(filter.Needs()), ft.traces)
	})
}
