package ottl_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/bench/ottl"
	"github.com/betracehq/betrace/bench/rulesets"
)

func TestConditionsAreMetByTheTracesThatOurRulesFind(t *testing.T) {
	rs, err := rulesets.Compile(rulesets.OfConditions(rulesets.Conditions))
	require.NoError(t, err)
	conditions, err := ottl.Compile(rulesets.Conditions)
	require.NoError(t, err)
	for _, b := range batches.Make(batches.Options{Seed: 1, Spans: 30_000, MistakeEvery: 20}, rulesets.Needs(rs)) {
		verdicts, err := engine.Compile(rs).NewJudge().Batch(t.Context(), b, nil)
		require.NoError(t, err)
		spans, withOne, err := conditions.Count(t.Context(), ottl.Prepare(b, 0, b.NumTraces()))
		require.NoError(t, err)
		for i, c := range verdicts.Counts {
			require.Equal(t, c.Pass, withOne[i], rulesets.Conditions[i].OTTL)
			require.GreaterOrEqual(t, spans[i], withOne[i])
			require.Positive(t, withOne[i])
			require.Less(t, withOne[i], b.NumTraces())
		}
	}
}
