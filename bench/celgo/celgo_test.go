package celgo_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/bench/celgo"
	"github.com/betracehq/betrace/bench/rulesets"
	"github.com/betracehq/betrace/rules"
)

func TestVerdictsAreThoseOfTheOracle(t *testing.T) {
	set := append(rulesets.Set(200), rulesets.One)
	rs, err := rulesets.Compile(set)
	require.NoError(t, err)
	needs := rulesets.Needs(rs)
	keys := celgo.Keys(needs)
	programs, err := celgo.Compile(set, keys)
	require.NoError(t, err)
	outcomes := map[rules.Outcome]int{}
	for _, b := range batches.Make(batches.Options{Seed: 4, Spans: 8000, MistakeEvery: 4}, needs) {
		for i := range b.NumTraces() {
			view := b.Trace(i)
			prepared := celgo.Prepare(view, keys)
			for k, want := range analyzer.Judge(t.Context(), rs, view) {
				require.Equal(t, want.Outcome, programs[k].Judge(prepared), "%s on %s", set[k], view.ID)
				outcomes[want.Outcome]++
			}
		}
	}
	require.Positive(t, outcomes[rules.Pass])
	require.Positive(t, outcomes[rules.Violation])
}
