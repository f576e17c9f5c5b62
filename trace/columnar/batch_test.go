package columnar_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

// rawSpans returns the spans of generated traces as they are sent: in any order, with further copies of some.
func rawSpans(t *testing.T, o tracetest.Options, r *rand.Rand) (ids []trace.ID, raw [][]trace.Span) {
	t.Helper()
	for g := range tracetest.New(o).All() {
		var spans []trace.Span
		for _, td := range g.Batches {
			traces, err := otlp.ToTraces(td)
			require.NoError(t, err)
			for _, tr := range traces {
				require.Equal(t, g.ID, tr.ID)
				spans = append(spans, tr.Spans...)
			}
		}
		for range r.IntN(3) { // further copies, some of which differ
			s := spans[r.IntN(len(spans))]
			switch r.IntN(8) {
			case 0:
				s.Start += trace.Time(r.IntN(3)) * 1e6
			case 1:
				s.ParentID = spans[r.IntN(len(spans))].ID
			case 2:
				s.Name += "x"
			case 3:
				s.Attributes = spans[r.IntN(len(spans))].Attributes
			case 4:
				s.Resource = spans[r.IntN(len(spans))].Resource
			case 5:
				s.Events, s.Links = spans[r.IntN(len(spans))].Events, spans[r.IntN(len(spans))].Links
			case 6:
				s.End, s.Status, s.StatusMessage = s.Start-1, trace.StatusError, "late"
			}
			spans = append(spans, s)
		}
		r.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
		ids, raw = append(ids, g.ID), append(raw, spans)
	}
	return ids, raw
}

func TestABatchHoldsTheNormalForm(t *testing.T) {
	filler := columnar.NewFiller(columnar.Needs{All: true}) // one Filler for all batches, because its memory is reused
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		o := tracetest.Mixed(seed, 60)
		for _, n := range tracetest.AllNasty() {
			o.Nasty[n] = 0.2
		}
		ids, raw := rawSpans(t, o, r)
		b := filler.FillRows(ids, raw)
		require.Equal(t, len(ids), b.NumTraces())
		spans := 0
		for i, id := range ids {
			want := trace.New(id, slices.Clone(raw[i]))
			spans += len(want.Spans)
			got := b.Trace(i)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(trace.Trace{})); diff != "" {
				t.Fatalf("seed %d, trace %d (-trace +batch):\n%.3000s", seed, i, diff)
			}
		}
		require.Equal(t, spans, b.NumSpans())
		require.NoError(t, b.Check())
	}
}

func TestABatchHoldsWhatIsNeededAndNoMore(t *testing.T) {
	o := tracetest.Mixed(7, 200)
	needs := columnar.Needs{Attributes: []columnar.AttributeKey{
		{Scope: columnar.ScopeSpan, Key: "http.request.method"}, {Scope: columnar.ScopeAny, Key: "deployment.environment.name"}, {Scope: columnar.ScopeEvent, Key: "exception.type"},
	}, Events: true}
	keep := func(as trace.Attributes, keys ...string) (kept trace.Attributes) {
		for _, a := range as {
			if slices.Contains(keys, a.Key) {
				kept = append(kept, a)
			}
		}
		return kept
	}
	seen := map[string]int{}
	for g := range tracetest.New(o).All() {
		traces, err := otlp.ToTraces(tracetest.Merge(g.Batches...))
		require.NoError(t, err)
		got := columnar.NewBatch(needs, traces...).Trace(0)
		for i, s := range traces[0].Spans {
			want := s
			want.StatusMessage, want.Scope, want.ScopeVersion, want.Links = "", "", "", nil
			want.Attributes = keep(s.Attributes, "http.request.method", "deployment.environment.name")
			want.Resource = keep(s.Resource, "service.name", "deployment.environment.name")
			want.Events = slices.Clone(s.Events)
			for j := range want.Events {
				want.Events[j].Attributes = keep(want.Events[j].Attributes, "exception.type")
				seen["event"] += len(want.Events[j].Attributes)
			}
			seen["span"] += len(want.Attributes)
			seen["resource"] += len(want.Resource) - 1
			if diff := cmp.Diff(want, got.Spans[i], cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("-want +batch:\n%s", diff)
			}
		}
	}
	for _, what := range []string{"event", "span", "resource"} {
		require.Positive(t, seen[what], what)
	}
}

func TestARowWithValuesOfTwoTypesKeepsTheGreater(t *testing.T) {
	var c columnar.Column
	c.Key = "k"
	columnar.ResetColumn(&c, 3)
	c.NeedTexts()
	c.NeedInts()
	c.Text.Codes[1], c.Ints[1] = c.Text.Intern([]byte("a")), 5
	c.IsInt.Set(1)
	c.Text.Codes[2] = c.Text.Intern([]byte("a"))
	var repeated []int32
	columnar.SettleColumn(&c, func(row int32) { repeated = append(repeated, row) })
	require.Equal(t, []int32{1}, repeated)
	require.Equal(t, trace.IntValue(5), c.Value(1))
	require.Equal(t, trace.StringValue("a"), c.Value(2))
	require.Zero(t, c.Text.Codes[1])
	require.True(t, c.Value(0).IsAbsent())
}

// TestARowThatWasGivenManyValuesKeepsTheGreatest gives a row values of several types in any order before it
// is settled.
func TestARowThatWasGivenManyValuesKeepsTheGreatest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		var c columnar.Column
		c.Key = "k"
		columnar.ResetColumn(&c, 1)
		// A source sets the first string or number of a row directly.
		want := trace.Value{}
		set := func(v trace.Value) {
			if v.Compare(want) > 0 {
				want = v
			}
		}
		if r.IntN(2) == 0 {
			c.NeedTexts()
			c.Text.Codes[0] = c.Text.Intern([]byte("a"))
			set(trace.StringValue("a"))
		}
		if r.IntN(2) == 0 {
			c.NeedInts()
			c.Ints[0] = int64(r.IntN(5))
			c.IsInt.Set(0)
			set(trace.IntValue(c.Ints[0]))
		}
		if r.IntN(2) == 0 {
			c.NeedDoubles()
			c.Doubles[0] = float64(r.IntN(5))
			c.IsDouble.Set(0)
			set(trace.DoubleValue(c.Doubles[0]))
		}
		for range r.IntN(4) {
			v := []trace.Value{trace.StringValue("b"), trace.BoolValue(r.IntN(2) == 0), trace.IntValue(int64(r.IntN(5))), trace.DoubleValue(float64(r.IntN(5))), trace.ArrayValue(trace.IntValue(int64(r.IntN(5))))}[r.IntN(5)]
			c.Put(0, v)
			set(v)
		}
		columnar.SettleColumn(&c, func(int32) {})
		require.True(t, want.Equal(c.Value(0)), "%s, not %s", want, c.Value(0))
	}
}

func TestTextsAreFoundAgain(t *testing.T) {
	var c columnar.TextColumn
	a, b := c.Intern([]byte("a")), c.Intern([]byte(""))
	require.NotEqual(t, a, b)
	require.Equal(t, a, c.Intern([]byte("a")))
	require.Equal(t, "a", c.Text(a))
	require.Equal(t, "", c.Text(b))
	require.NotZero(t, b, "the empty string is a string")
	likely := c.InternLikely([]byte("a session"))
	require.Equal(t, likely, c.InternLikely([]byte("a session")))
	for i := range 20_000 { // strings that are never repeated are added
		text := []byte{byte(i), byte(i >> 8), 'x'}
		require.Equal(t, string(text), c.Text(c.InternLikely(text)))
		if i%100 == 0 {
			require.Equal(t, a, c.Intern([]byte("a")))
		}
	}
	require.Equal(t, 20_003, c.NumTexts())
}

// TestUnequalCopiesMergeAlikeWhateverIsRead checks that the choice between unequal copies' events and links
// does not depend on the attributes that are read.
func TestUnequalCopiesMergeAlikeWhateverIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	attributes := func() (as trace.Attributes) {
		for _, key := range []string{"x", "y"} {
			if v := r.IntN(3); v > 0 {
				as = append(as, trace.Attribute{Key: key, Value: trace.IntValue(int64(v))})
			}
		}
		return as
	}
	merged, keyed := 0, 0
	for range 3000 {
		var spans []trace.Span
		for range 2 + r.IntN(2) {
			s := trace.Span{ID: trace.SpanID{7: 1}, Name: "s", Start: 1, End: 2}
			for range r.IntN(3) {
				s.Events = append(s.Events, trace.Event{Time: trace.Time(1 + r.IntN(2)), Name: []string{"a", "b"}[r.IntN(2)], Attributes: attributes()})
				s.Links = append(s.Links, trace.Link{TraceID: trace.ID{15: byte(1 + r.IntN(2))}, SpanID: trace.SpanID{7: byte(1 + r.IntN(2))}, Attributes: attributes()})
			}
			spans = append(spans, s)
		}
		id := trace.ID{15: 1}
		all := trace.New(id, slices.Clone(spans))
		require.Len(t, all.Spans, 1)
		r.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
		require.Empty(t, cmp.Diff(all.Spans, trace.New(id, slices.Clone(spans)).Spans, cmpopts.EquateEmpty()), "in another order")
		for _, keys := range [][]string{{}, {"x"}, {"y"}, {"x", "y"}} {
			needs := columnar.Needs{Events: true, Links: true}
			for _, key := range keys {
				needs.Attributes = append(needs.Attributes, columnar.AttributeKey{Scope: columnar.ScopeEvent, Key: key}, columnar.AttributeKey{Scope: columnar.ScopeLink, Key: key})
			}
			read := func(as trace.Attributes) trace.Attributes {
				return slices.DeleteFunc(slices.Clone(as), func(a trace.Attribute) bool { return !slices.Contains(keys, a.Key) })
			}
			want := all.Spans[0]
			want.Events, want.Links = slices.Clone(want.Events), slices.Clone(want.Links)
			for i := range want.Events {
				want.Events[i].Attributes, want.Links[i].Attributes = read(want.Events[i].Attributes), read(want.Links[i].Attributes)
				keyed += len(want.Events[i].Attributes)
			}
			got := columnar.NewFiller(needs).FillRows([]trace.ID{id}, [][]trace.Span{spans}).Trace(0)
			require.Empty(t, cmp.Diff(want.Events, got.Spans[0].Events, cmpopts.EquateEmpty()), "%v of %v", keys, spans)
			require.Empty(t, cmp.Diff(want.Links, got.Spans[0].Links, cmpopts.EquateEmpty()), "%v of %v", keys, spans)
		}
		if all.Flags&trace.FlagMerged != 0 {
			merged++
		}
	}
	require.Greater(t, merged, 1000)
	require.Greater(t, keyed, 1000)
}
