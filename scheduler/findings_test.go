package scheduler

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace"
)

func TestFindingsDoNotDependOnTheOrderOfTraces(t *testing.T) {
	for _, c := range []struct {
		name        string
		limit, most int
		found       []int // new violations by rule
		kept        []int
	}{
		{"below the limit", 10, 100, []int{10, 3}, []int{10, 3}},
		{"above the limit", 10, 100, []int{11, 500, 3}, []int{10, 10, 3}},
		{"no limit", 0, 100, []int{60, 40}, []int{60, 40}},
		{"no limit, more than one tick keeps", 0, 100, []int{70, 40}, []int{50, 40}},
		{"rules that are below the limit, and together above the bound", 40, 100, []int{30, 30, 30, 30, 7}, []int{20, 20, 20, 20, 7}},
		{"one violation of each of many rules", 10, 3, []int{2, 2, 2, 2, 2, 2}, []int{1, 1, 1, 1, 1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := make([]*rules.Rule, len(c.found))
			type found struct{ rule, trace int }
			var order []found
			for i, n := range c.found {
				all[i] = &rules.Rule{ID: string(rune('a' + i))}
				for j := range n {
					order = append(order, found{i, j})
				}
			}
			for seed := range uint64(20) {
				r := rand.New(rand.NewPCG(seed, 1))
				r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
				f := &findings{limit: c.limit, most: c.most, byRule: map[*rules.Rule]*ruleFindings{}}
				for _, o := range order {
					v := evidence.Violation{RuleID: all[o.rule].ID, TraceID: trace.ID{byte(o.trace >> 8), byte(o.trace)}, About: make([]evidence.SpanRef, 200)}
					require.NoError(t, f.add(all[o.rule], state.Violation{Violation: v, Spans: 7}))
				}
				require.NoError(t, f.capAll())
				kept := make([]int, len(all))
				for _, v := range f.kept() {
					i := int(v.RuleID[0] - 'a')
					require.Equal(t, trace.ID{byte(kept[i] >> 8), byte(kept[i])}, v.TraceID, "the smallest trace IDs are kept")
					kept[i]++
				}
				require.Equal(t, c.kept, kept)
				for i, n := range c.found {
					require.Len(t, f.byRule[all[i]].capped, n-kept[i])
					for _, v := range f.byRule[all[i]].capped {
						require.Equal(t, 7, v.Spans)
						require.Len(t, v.About, evidence.MaxAbout)
					}
				}
			}
		})
	}
}

func TestTickThatIsDivisibleStartsAgainWithLess(t *testing.T) {
	r := &rules.Rule{}
	add := func(f *findings, n int) (err error) {
		for i := range n {
			if err == nil {
				err = f.add(r, state.Violation{Violation: evidence.Violation{TraceID: trace.ID{byte(i)}}})
			}
		}
		return err
	}
	for _, c := range []struct {
		name      string
		limit     int
		divisible bool
		want      error
	}{
		{"without a limit", 0, true, errOverLimit},
		{"without a limit, one block", 0, false, nil},
		{"with a limit", 50, true, nil},
	} {
		f := &findings{limit: c.limit, divisible: c.divisible, most: 10, byRule: map[*rules.Rule]*ruleFindings{}}
		require.ErrorIs(t, add(f, 30), c.want, c.name)
	}
	f := &findings{limit: 1, divisible: true, most: 10, listed: maxListed, byRule: map[*rules.Rule]*ruleFindings{}}
	require.ErrorIs(t, add(f, 2), errOverLimit, "too many traces to list")
	require.Len(t, slices.Concat(f.byRule[r].capped), 1)
}
