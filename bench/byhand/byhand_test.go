package byhand_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/bench/byhand"
	"github.com/betracehq/betrace/bench/rulesets"
	"github.com/betracehq/betrace/rules"
)

func TestLoopsJudgeAsTheOracleDoes(t *testing.T) {
	for _, of := range []struct {
		name  string
		set   []rulesets.Rule
		loops []byhand.Loop
	}{{"one", []rulesets.Rule{rulesets.One}, []byhand.Loop{byhand.One}}, {"ten", rulesets.Ten, byhand.Ten}, {"tree", rulesets.Tree, byhand.Tree}} {
		t.Run(of.name, func(t *testing.T) {
			rs, err := rulesets.Compile(of.set)
			require.NoError(t, err)
			require.Len(t, of.loops, len(rs))
			violated := 0
			for _, b := range batches.Make(batches.Options{Seed: 2, Spans: 60_000, PerBatch: 20_000, MistakeEvery: 1}, rulesets.Needs(rs)) {
				got := make([][]rules.Outcome, len(rs))
				for i, loop := range of.loops {
					got[i] = make([]rules.Outcome, b.NumTraces())
					loop(b, got[i])
				}
				for i := range b.NumTraces() {
					for k, want := range analyzer.Judge(t.Context(), rs, b.Trace(i)) {
						require.Equal(t, want.Outcome, got[k][i], "%s on %s", rs[k].ID, b.IDs[i])
						if want.Outcome == rules.Violation {
							violated++
						}
					}
				}
			}
			require.Positive(t, violated)
		})
	}
}
