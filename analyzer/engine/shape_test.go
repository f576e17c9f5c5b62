package engine_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Beyond its limit a rule is judged by the interpreter, which is far slower.
func TestNoShippedRuleLeavesATraceOfTenThousandSpansToTheInterpreter(t *testing.T) {
	packs, err := rules.Load([]string{"../../rules/packs"}, rules.Options{})
	require.NoError(t, err)
	var rs []*rules.Rule
	var needs columnar.Needs
	for _, p := range packs {
		for _, r := range p.Rules {
			rs = append(rs, r)
			needs = needs.Union(r.Needs())
		}
	}
	require.Greater(t, len(rs), 80)
	// Each span has at most 16 children.
	spans := make([]trace.Span, 10_000)
	for i := range spans {
		id := i + 1
		spans[i] = trace.Span{
			ID: trace.SpanID{6: byte(id >> 8), 7: byte(id)}, Name: "GET /orders", Start: trace.Time(i), End: trace.Time(i + 10),
			Attributes: trace.Attributes{{Key: "db.query.text", Value: trace.StringValue(strings.Repeat("x", 1000))}},
		}
		if i > 0 {
			parent := (i-1)/16 + 1
			spans[i].ParentID = trace.SpanID{6: byte(parent >> 8), 7: byte(parent)}
		}
	}
	judge := engine.Compile(rs).NewJudge()
	_, err = judge.Batch(t.Context(), columnar.NewBatch(needs, trace.New(trace.ID{1}, spans)), nil)
	require.NoError(t, err)
	for i, r := range rs {
		require.GreaterOrEqual(t, judge.Limit(i), len(spans), r.ID)
	}
}

// A trace in which all spans are children of one leaves the others of its batch alone.
func TestAWideTraceDoesNotLeaveOthersToTheInterpreter(t *testing.T) {
	rs, err := packWith(t, rules.Options{MaxCost: 1e9}, `spans.exists(s, s.parent.children.exists(a, a.name == "x" && a.before(s)))`)
	require.NoError(t, err)
	of := func(id byte, children int) *trace.Trace {
		spans := make([]trace.Span, 10_000)
		for i := range spans {
			spans[i] = trace.Span{ID: trace.SpanID{6: byte((i + 1) >> 8), 7: byte(i + 1)}, Start: trace.Time(i)}
			if i > 0 {
				parent := (i-1)/children + 1
				spans[i].ParentID = trace.SpanID{6: byte(parent >> 8), 7: byte(parent)}
			}
		}
		return trace.New(trace.ID{id}, spans)
	}
	judge := engine.Compile(rs).NewJudge()
	for _, wide := range []int{0, 1, 2} {
		traces := []*trace.Trace{of(1, 16), of(2, 16), of(3, 16)}
		traces[wide] = of(byte(wide+1), 10_000)
		v, err := judge.Batch(t.Context(), columnar.NewBatch(rs[0].Needs(), traces...), nil)
		require.NoError(t, err)
		require.Equal(t, map[engine.Asked]bool{{Trace: wide, Rule: 0}: true}, judge.Asked())
		require.Equal(t, []engine.Counts{{NotApplicable: 2, Error: 1}}, v.Counts)
	}
}
