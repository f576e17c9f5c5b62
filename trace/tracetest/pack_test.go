package tracetest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace/tracetest"
)

func loadPack(t testing.TB) *rules.Pack {
	t.Helper()
	pack, err := rules.Parse("pack.yaml", []byte(tracetest.Pack), rules.Options{})
	require.NoError(t, err)
	return pack
}

func TestEachRuleOfThePackPassesItsTests(t *testing.T) {
	for _, rule := range loadPack(t).Rules {
		outcomes := map[rules.Outcome]bool{}
		for _, result := range rule.RunTests(context.Background()) {
			assert.NoError(t, result.Err)
			outcomes[result.Test.Want] = true
		}
		assert.True(t, outcomes[rules.Violation], "rule %s has no test of a violation", rule.ID)
		assert.True(t, outcomes[rules.Pass] || outcomes[rules.NotApplicable], "rule %s has no test without a violation", rule.ID)
	}
}

func TestThePackHasTheRulesOfTheBehaviours(t *testing.T) {
	var inPack, ofBehaviours []string
	for _, rule := range loadPack(t).Rules {
		inPack = append(inPack, rule.ID)
	}
	for _, b := range tracetest.Behaviours() {
		ofBehaviours = append(ofBehaviours, b.Rule)
	}
	assert.Equal(t, inPack, slices.Compact(ofBehaviours))
}

// TestTheEngineFindsWhatIsThere checks that the engine finds the planted violations and no others. If they
// differ, either side may be wrong; the predicates of truth_test.go show which.
func TestTheEngineFindsWhatIsThere(t *testing.T) {
	pack := loadPack(t)
	o := tracetest.Mixed(11, 1500)
	o.ViolationRate = 0.5
	if testing.Short() {
		o.Traces = 300
	}
	for g := range tracetest.New(o).All() {
		tr := g.Trace()
		var found []string
		for _, rule := range pack.Rules {
			v := rule.Judge(context.Background(), tr)
			if v.Outcome == rules.Violation {
				found = append(found, rule.ID)
			}
			assert.NotEqual(t, rules.Error, v.Outcome, "%s: %s: %v", g.ID, rule.ID, v.Err)
		}
		slices.Sort(found)
		if !assert.Equal(t, fmt.Sprint(g.Violations), fmt.Sprint(found), "%s %s %v %v", g.Kind, g.ID, g.Behaviours, g.Nasty) {
			return
		}
	}
}
