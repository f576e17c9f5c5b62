package rulesets_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/bench/rulesets"
	"github.com/betracehq/betrace/rules"
)

func compiled(t *testing.T, set []rulesets.Rule) []*rules.Rule {
	t.Helper()
	rs, err := rulesets.Compile(set)
	require.NoError(t, err)
	return rs
}

// counts judges generated traces by the compiled rules.
func counts(t *testing.T, rs []*rules.Rule, opts batches.Options) []engine.Counts {
	t.Helper()
	sum := make([]engine.Counts, len(rs))
	judge := engine.Compile(rs).NewJudge()
	for _, b := range batches.Make(opts, rulesets.Needs(rs)) {
		v, err := judge.Batch(t.Context(), b, nil)
		require.NoError(t, err)
		for i, c := range v.Counts {
			sum[i].NotApplicable += c.NotApplicable
			sum[i].Pass += c.Pass
			sum[i].Violation += c.Violation
			sum[i].Error += c.Error
		}
	}
	return sum
}

func TestNoRuleOfASetIsAnothersCopy(t *testing.T) {
	of := map[string]string{}
	for _, r := range compiled(t, rulesets.Set(1000)) {
		require.Empty(t, of[r.Digest], "%s has the same digest as %s", r.ID, of[r.Digest])
		of[r.Digest] = r.ID
	}
}

func TestASmallerSetIsTheBeginningOfALargerOne(t *testing.T) {
	large := rulesets.Set(1000)
	require.Equal(t, rulesets.Ten, rulesets.Set(10))
	require.Equal(t, large[:100], rulesets.Set(100))
}

func TestSetsMixRulesThatApplyAndThoseThatNeverDo(t *testing.T) {
	rs := compiled(t, rulesets.Set(1000))
	applied := func(c engine.Counts) bool { return c.Pass+c.Violation > 0 }
	sum := counts(t, rs, batches.Options{Seed: 1, Spans: 300_000, MistakeEvery: 100})
	for _, n := range []int{100, 1000} {
		never, some, violated, errors := 0, 0, 0, 0
		for _, c := range sum[:n] {
			switch {
			case !applied(c):
				never++
			case c.Violation > 0:
				violated++
			default:
				some++
			}
			errors += c.Error
		}
		t.Logf("of %d rules %d never apply, %d apply and pass, %d are violated", n, never, some, violated)
		require.Greater(t, never, n/10, "rules that never apply")
		require.Greater(t, some, n/3, "rules that apply and are not violated")
		require.Greater(t, violated, n/100, "rules that are violated")
		require.Zero(t, errors)
	}
}

func TestWithoutMistakesNothingIsViolated(t *testing.T) {
	set := append(rulesets.Set(1000), rulesets.One)
	set = append(set, rulesets.Tree...)
	for i := range set {
		set[i].ID += "-" + string(rune('a'+i%20)) // unique in the pack
	}
	rs := compiled(t, set)
	for i, c := range counts(t, rs, batches.Options{Seed: 1, Spans: 200_000}) {
		require.Zero(t, c.Violation+c.Error, "%s: %+v\nwhen %s\nalways %v\nnever %v", rs[i].ID, c, rs[i].When, rs[i].Always, rs[i].Never)
	}
}

func TestTreeRulesAndConditionsApply(t *testing.T) {
	for _, set := range [][]rulesets.Rule{{rulesets.One}, rulesets.Ten, rulesets.Tree, rulesets.OfConditions(rulesets.Conditions)} {
		rs := compiled(t, set)
		for i, c := range counts(t, rs, batches.Options{Seed: 1, Spans: 100_000, MistakeEvery: 50}) {
			require.Positive(t, c.Pass, "%s", rs[i].ID)
			require.Positive(t, c.NotApplicable, "%s", rs[i].ID)
		}
	}
}

func TestThePlanAgreesWithTheOracleOnTheSets(t *testing.T) {
	rs := compiled(t, append(rulesets.Set(150), rulesets.One))
	judge := engine.Compile(rs).NewJudge()
	for _, b := range batches.Make(batches.Options{Seed: 3, Spans: 10_000, MistakeEvery: 5}, rulesets.Needs(rs)) {
		v, err := judge.Batch(t.Context(), b, nil)
		require.NoError(t, err)
		found := v.Found
		for i := range b.NumTraces() {
			for k, want := range analyzer.Judge(t.Context(), rs, b.Trace(i)) {
				if want.Outcome != rules.Violation {
					continue
				}
				require.NotEmpty(t, found)
				require.Equal(t, [2]int{i, k}, [2]int{found[0].Trace, found[0].Rule})
				require.Equal(t, want, found[0].Verdict)
				found = found[1:]
			}
		}
		require.Empty(t, found)
	}
}
