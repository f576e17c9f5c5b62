package batches_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

var all = columnar.Needs{Attributes: []columnar.AttributeKey{
	{Scope: columnar.ScopeAny, Key: "user.id"}, {Scope: columnar.ScopeSpan, Key: "session.id"}, {Scope: columnar.ScopeSpan, Key: "http.response.status_code"},
	{Scope: columnar.ScopeSpan, Key: "app.payment.amount"}, {Scope: columnar.ScopeSpan, Key: "app.cache.hit"}, {Scope: columnar.ScopeResource, Key: "deployment.environment.name"},
}}

func TestASeedGivesTheSameTracesWhateverIsNeeded(t *testing.T) {
	opts := batches.Options{Seed: 5, Spans: 5000, MistakeEvery: 10}
	one, again := batches.Make(opts, all), batches.Make(opts, all)
	require.Len(t, one, 1)
	few := batches.Make(opts, columnar.Needs{})
	opts.Seed = 6
	other := batches.Make(opts, all)
	for i := range one[0].NumTraces() {
		a, b, c := one[0].Trace(i), again[0].Trace(i), few[0].Trace(i)
		require.Equal(t, a, b)
		require.Equal(t, a.ID, c.ID)
		require.Len(t, c.Spans, len(a.Spans))
		for k := range a.Spans {
			require.Equal(t, [3]any{a.Spans[k].ID, a.Spans[k].Start, a.Spans[k].Name}, [3]any{c.Spans[k].ID, c.Spans[k].Start, c.Spans[k].Name})
		}
	}
	require.NotEqual(t, one[0].IDs, other[0].IDs)
}

func TestTracesAreTreesOfManySizesWithValuesOfSeveralTypes(t *testing.T) {
	bs := batches.Make(batches.Options{Seed: 1, Spans: 60_000, PerBatch: 25_000}, all)
	require.Len(t, bs, 3)
	small, large, spans, orphans, late := 0, 0, 0, 0, 0
	for _, b := range bs {
		require.InDelta(t, 25_000, b.NumSpans(), 16_000)
		spans += b.NumSpans()
		for i := range b.NumTraces() {
			n := b.First[i+1] - b.First[i]
			require.LessOrEqual(t, n, int32(400))
			if n == 1 {
				small++
			}
			if n > 100 {
				large++
			}
			for s := b.First[i]; s < b.First[i+1]; s++ {
				require.Less(t, b.Ends[s]-b.Starts[s], trace.Time(3e9))
				switch p := b.Parents[s]; {
				case p < 0:
					orphans++
				case p > s:
					late++
				}
			}
		}
		require.Positive(t, b.Attribute("user.id").Text.NumTexts())
		require.Positive(t, b.Attribute("http.response.status_code").IsInt.Count())
		require.Positive(t, b.Attribute("app.payment.amount").IsDouble.Count())
		require.Positive(t, b.Attribute("app.cache.hit").IsBool.Count())
		require.Positive(t, b.ResourceAttribute("deployment.environment.name").Text.NumTexts())
	}
	require.Greater(t, spans, 59_999)
	require.Positive(t, small)
	require.Positive(t, large)
	require.Positive(t, late, "the batches hold no child that starts before its parent")
	require.Less(t, late, spans/100)
	traces := 0
	for _, b := range bs {
		traces += b.NumTraces()
	}
	require.Equal(t, traces, orphans, "each trace must be one tree")
}

func TestTracesHaveAsManySpansAsAreAskedFor(t *testing.T) {
	for _, n := range []int{1, 7, 1000} {
		for _, b := range batches.Make(batches.Options{Seed: 1, Spans: 3000, SpansPerTrace: n}, all) {
			for i := range b.NumTraces() {
				require.Equal(t, int32(n), b.First[i+1]-b.First[i])
			}
		}
	}
}

func TestAttributesHaveAsManyTextsAsAreAskedFor(t *testing.T) {
	opts := batches.Options{Seed: 1, Spans: 5000, Texts: 10, Plain: 2}
	needs := columnar.Needs{Attributes: []columnar.AttributeKey{{Scope: columnar.ScopeSpan, Key: "session.id"}, {Scope: columnar.ScopeSpan, Key: batches.PlainKey(1)}}}
	b := batches.Make(opts, needs)[0]
	require.Equal(t, 10, b.Attribute("session.id").Text.NumTexts())
	require.Equal(t, batches.PlainValues, b.Attribute(batches.PlainKey(1)).Text.NumTexts())
}
