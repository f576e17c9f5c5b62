package tracetest_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

func proto(t testing.TB, td ptrace.Traces) []byte {
	t.Helper()
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)
	return b
}

// same fails unless both traces are equal byte by byte.
func same(t *testing.T, want, got tracetest.Generated) {
	t.Helper()
	require.Len(t, got.Batches, len(want.Batches))
	for i := range want.Batches {
		assert.True(t, bytes.Equal(proto(t, want.Batches[i]), proto(t, got.Batches[i])), "batch %d of %s", i, want.ID)
	}
	want.Batches, got.Batches = nil, nil
	assert.Equal(t, want, got)
}

func TestTheSameSeedGivesTheSameBytes(t *testing.T) {
	o := tracetest.Mixed(42, 300)
	a, b := tracetest.New(o), tracetest.New(o)
	for range o.Traces {
		ga, _ := a.Next()
		gb, _ := b.Next()
		same(t, ga, gb)
	}
	_, more := a.Next()
	assert.False(t, more)
}

func TestATraceDependsOnItsIndexAlone(t *testing.T) {
	o := tracetest.Mixed(42, 50)
	all := slices.Collect(tracetest.New(o).All())
	require.Len(t, all, 50)
	o.Traces = 0
	g := tracetest.New(o)
	for i := len(all) - 1; i >= 0; i-- { // in another order, after other traces
		same(t, all[i], g.At(i))
	}
	_, more := g.Next()
	assert.False(t, more, "Traces is 0, and At does not move Next")
}

func TestAllGoesOnWhereNextWas(t *testing.T) {
	g := tracetest.New(tracetest.Clean(1, 5))
	g.Next()
	for range g.All() {
		break
	}
	assert.Len(t, slices.Collect(g.All()), 3)
}

func TestAnotherSeedGivesOtherTraces(t *testing.T) {
	seen := map[trace.ID]bool{}
	for seed := range uint64(20) {
		for g := range tracetest.New(tracetest.Mixed(seed, 100)).All() {
			assert.False(t, seen[g.ID], g.ID)
			seen[g.ID] = true
		}
	}
}

// TestATraceIsWhatItSays checks the size of traces, their IDs, starts and batches.
func TestATraceIsWhatItSays(t *testing.T) {
	o := tracetest.Mixed(8, 2000)
	o.Start, o.Window = time.Date(2026, 5, 1, 12, 0, 0, 5, time.UTC), 10*time.Minute
	kinds := map[tracetest.Kind]int{}
	for g := range tracetest.New(o).All() {
		tr := g.Trace() // panics on a span without an ID
		kinds[g.Kind]++
		assert.Equal(t, g.ID, tr.ID)
		assert.Len(t, tr.Spans, g.Spans)
		assert.GreaterOrEqual(t, g.Spans, 1)
		assert.LessOrEqual(t, g.Spans, 100)
		start := tr.Start().Time()
		assert.False(t, start.Before(o.Start) || !start.Before(o.Start.Add(o.Window)), "%v", start)
		for _, td := range g.Batches {
			assert.NotZero(t, td.SpanCount())
			all, err := otlp.ToTraces(td)
			require.NoError(t, err)
			assert.Len(t, all, 1)
		}
		assert.True(t, slices.IsSorted(g.Violations))
		assert.Zero(t, tr.Flags&trace.FlagRepeatedKey, "OTLP requires keys to be unique")
		assert.Equal(t, slices.Contains(g.Nasty, tracetest.UnequalCopies), tr.Flags&trace.FlagMerged != 0, "%s", g.ID)
		assert.Equal(t, slices.Contains(g.Nasty, tracetest.EndBeforeStart), tr.Flags&trace.FlagEndBeforeStart != 0, "%s", g.ID)
	}
	for _, k := range tracetest.AllKinds() {
		assert.InDelta(t, 2000/6, kinds[k], 5*math.Sqrt(2000./6), k)
	}
}

func TestSizes(t *testing.T) {
	for _, tc := range []struct{ min, max int }{{1, 1}, {2, 2}, {3, 9}, {100, 100}, {1, 2000}, {20_000, 20_000}, {100_000, 100_000}} {
		if testing.Short() && tc.max > 20_000 {
			continue
		}
		o := tracetest.Mixed(uint64(tc.max), 60)
		o.MinSpans, o.MaxSpans = tc.min, tc.max
		if tc.min > 1000 {
			o.Traces = 2
		}
		for g := range tracetest.New(o).All() {
			assert.True(t, tc.min <= g.Spans && g.Spans <= tc.max, "%d spans: want %d to %d", g.Spans, tc.min, tc.max)
			assert.Len(t, g.Trace().Spans, g.Spans)
		}
	}
}

func TestSmallTracesAreMoreFrequent(t *testing.T) {
	o := tracetest.Clean(1, 4000)
	o.MaxSpans = 999
	var decades [3]int
	for g := range tracetest.New(o).All() {
		decades[int(math.Log10(float64(g.Spans)))]++
	}
	for i, n := range decades {
		assert.InDelta(t, 4000/3, n, 5*math.Sqrt(4000./3), "traces of %d digits", i+1)
	}
}

func TestTheShareOfViolationsIsTheRate(t *testing.T) {
	for _, rate := range []float64{0, 0.3, 1} {
		for _, size := range []int{1, 5, 50} {
			o := tracetest.Clean(uint64(size), 1500)
			o.ViolationRate, o.MinSpans, o.MaxSpans = rate, size, size
			one, two := 0, 0
			for g := range tracetest.New(o).All() {
				if len(g.Violations) > 0 {
					one++
				}
				if len(g.Violations) > 1 {
					two++
				}
			}
			assert.InDelta(t, 1500*rate, one, 5*math.Sqrt(1500*rate*(1-rate)), "rate %v of traces of %d spans", rate, size)
			if size == 50 {
				assert.InDelta(t, float64(one)/3, two, 5*math.Sqrt(1500*rate)+1, "a third of them two")
			}
		}
	}
}

func TestKindsCanBeChosen(t *testing.T) {
	for _, k := range tracetest.AllKinds() {
		o := tracetest.Mixed(1, 50)
		o.Kinds = []tracetest.Kind{k}
		for g := range tracetest.New(o).All() {
			assert.Equal(t, k, g.Kind)
		}
	}
}

// TestOneTraceShowsTheServicesAtWork checks the shape of a checkout: which services call each other.
func TestOneTraceShowsTheServicesAtWork(t *testing.T) {
	o := tracetest.Clean(1, 200)
	o.Kinds, o.MinSpans, o.MaxSpans = []tracetest.Kind{tracetest.Checkout}, 60, 60
	edges := map[string]bool{}
	for g := range tracetest.New(o).All() {
		tr := g.Trace()
		for i := range tr.Spans {
			if p := tr.Parent(i); p >= 0 && tr.Spans[p].Service() != tr.Spans[i].Service() {
				edges[tr.Spans[p].Service()+" "+tr.Spans[i].Service()] = true
			}
			s := &tr.Spans[i]
			if s.Scope == "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp" {
				assert.Equal(t, trace.TypeString, s.Attributes.Get("http.request.method").Type())
				assert.Equal(t, trace.TypeInt, s.Attributes.Get("http.response.status_code").Type())
			}
			assert.Equal(t, "opentelemetry", s.Resource.Get("telemetry.sdk.name").Str())
		}
	}
	for _, edge := range []string{"web checkout", "checkout payment", "payment fraud", "checkout vault", "checkout orders", "orders shipping", "checkout pricing"} {
		assert.True(t, edges[edge], edge)
	}
}

func TestForTempoLeavesOutWhatTempoLosesOrAlters(t *testing.T) {
	o := tracetest.Mixed(1, 1000)
	for _, n := range tracetest.AllNasty() {
		o.Nasty[n] = 0.5
	}
	o.MaxSpans = 100_000
	o = o.ForTempo()
	o.MinSpans = 1000 // the largest ones
	largest := 0
	o.Traces = 150
	for g := range tracetest.New(o).All() {
		size := 0
		tr := g.Trace()
		for _, td := range g.Batches {
			size += len(proto(t, td))
			attributeSets([]ptrace.Traces{td}, func(_ string, attrs map[string]any) {
				for k, v := range attrs {
					text, _ := v.(string)
					assert.LessOrEqual(t, len(text), 2048, k)
					assert.False(t, isMixed(v), "%s: %v", k, v)
					assert.NotContains(t, []string{"absent", "[]uint8", "map[string]interface {}"}, typeName(v), k)
				}
			})
			for _, rs := range td.ResourceSpans().All() {
				for _, ss := range rs.ScopeSpans().All() {
					for _, s := range ss.Spans().All() {
						assert.LessOrEqual(t, s.EndTimestamp().AsTime().Sub(tr.Start().Time()), 40*time.Second)
						assert.GreaterOrEqual(t, s.EndTimestamp().AsTime().Sub(tr.Start().Time()), -5*time.Second)
					}
				}
			}
		}
		largest = max(largest, size)
	}
	t.Logf("the largest trace has %d bytes", largest)
	assert.Less(t, largest, 5_000_000)
	assert.Greater(t, largest, 1_000_000, "the limit should be used")
	assert.Equal(t, tracetest.MaxTempoSpans, o.MaxSpans)
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for want, o := range map[string]tracetest.Options{
		"Traces is -1: want 0 or more":                                         {Traces: -1},
		"MinSpans is 9 and MaxSpans 3: want 1 <= MinSpans <= MaxSpans":         {MinSpans: 9, MaxSpans: 3},
		"MinSpans is -1 and MaxSpans 100: want 1 <= MinSpans":                  {MinSpans: -1},
		"ViolationRate is 1.5: want a share of traces from 0 to 1":             {ViolationRate: 1.5},
		"Nasty[orphans] is NaN: want a share of traces from 0 to 1":            {Nasty: tracetest.Rates{tracetest.Orphans: math.NaN()}},
		"Nasty[cycles] is -0.1: want a share":                                  {Nasty: tracetest.Rates{tracetest.Cycles: -0.1}},
		"Nasty[0] is 0.1: want 0, because it means no difficulty":              {Nasty: tracetest.Rates{0: 0.1}},
		`unknown kind "shop": want one of ["checkout"`:                         {Kinds: []tracetest.Kind{"shop"}},
		"Kinds is empty: want nil for all kinds":                               {Kinds: []tracetest.Kind{}},
		"want a range between 1970 and 2200":                                   {Start: time.Unix(-1, 0)},
		"Window -1s: want a range":                                             {Window: -time.Second},
		"MaxSkew is 1ms: want 1s to 24h":                                       {MaxSkew: time.Millisecond},
		"Traces is -1: want 0 or more\ntracetest: ViolationRate is -1: want a": {Traces: -1, ViolationRate: -1},
	} {
		assert.ErrorContains(t, o.Validate(), want)
		assert.Panics(t, func() { tracetest.New(o) }, want)
	}
	assert.NoError(t, tracetest.Mixed(1, 1).Validate())
	assert.NoError(t, tracetest.Options{MinSpans: 500}.Validate(), "MaxSpans follows MinSpans")
}

func TestMergeHoldsTheSpansOfAll(t *testing.T) {
	o := tracetest.Mixed(3, 50)
	o.Nasty[tracetest.Late] = 1
	for g := range tracetest.New(o).All() {
		before := proto(t, g.Batches[0])
		merged := tracetest.Merge(g.Batches...)
		all, err := otlp.ToTraces(merged)
		require.NoError(t, err)
		require.Len(t, all, 1)
		assert.Empty(t, cmp.Diff(g.Trace(), all[0], cmpopts.IgnoreUnexported(trace.Trace{})))
		assert.Equal(t, before, proto(t, g.Batches[0]), "the batches are not changed")
	}
	assert.Zero(t, tracetest.Merge().SpanCount())
}

func TestSplitKeepsEverySpan(t *testing.T) {
	td := tracetest.New(tracetest.Options{Seed: 3, MinSpans: 100, MaxSpans: 100}).At(0).Batches[0]
	for _, most := range []int{1, 3, 7, 99, 100, 1000} {
		parts := tracetest.Split(td, most)
		assert.Len(t, parts, (100+most-1)/most)
		var c otlp.Collector
		for _, part := range parts {
			assert.LessOrEqual(t, part.SpanCount(), most)
			require.NoError(t, c.Add(part))
		}
		whole, err := otlp.ToTraces(td)
		require.NoError(t, err)
		assert.Empty(t, cmp.Diff(whole, c.Traces(), cmpopts.IgnoreUnexported(trace.Trace{})))
	}
	assert.Empty(t, tracetest.Split(ptrace.NewTraces(), 1))
	assert.PanicsWithValue(t, "tracetest.Split: maxSpans is 0: want 1 or more", func() { tracetest.Split(td, 0) })
}

// TestTracesSurviveTheirJSON checks that every value is unchanged after writing and reading a file.
func TestTracesSurviveTheirJSON(t *testing.T) {
	o := tracetest.Mixed(4, 100)
	for _, n := range tracetest.AllNasty() {
		o.Nasty[n] = 0.5
	}
	var file bytes.Buffer
	want := map[trace.ID]*trace.Trace{}
	for g := range tracetest.New(o).All() {
		require.NoError(t, tracetest.WriteJSONLines(&file, g.Batches...))
		want[g.ID] = g.Trace()
	}
	var c otlp.Collector
	lines := strings.Count(file.String(), "\n")
	messages := 0
	require.NoError(t, otlp.Read(&file, func(td ptrace.Traces) error { messages++; return c.Add(td) }))
	assert.Equal(t, lines, messages, "one message per line")
	got := c.Traces()
	assert.Len(t, got, len(want))
	for _, tr := range got {
		require.Empty(t, cmp.Diff(want[tr.ID], tr, cmpopts.IgnoreUnexported(trace.Trace{})))
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteJSONLinesReportsTheWriter(t *testing.T) {
	err := tracetest.WriteJSONLines(failingWriter{}, ptrace.NewTraces())
	assert.EqualError(t, err, "write message 0 as OTLP JSON: disk full")
}

func BenchmarkGenerator(b *testing.B) {
	clean, mixed := tracetest.Clean(1, 0), tracetest.Mixed(1, 0)
	for name, o := range map[string]tracetest.Options{"clean": clean, "mixed": mixed} {
		for _, size := range []int{25, 100_000} {
			o.MinSpans, o.MaxSpans = size, size
			b.Run(name+"/"+map[int]string{25: "25", 100_000: "100000"}[size], func(b *testing.B) {
				g := tracetest.New(o)
				spans := 0
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					spans += g.At(i).Spans
				}
				b.ReportMetric(float64(spans)/b.Elapsed().Seconds(), "spans/s")
			})
		}
	}
}
