package engine

import (
	"slices"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace/columnar"
)

// Plan is a number of rules compiled together. It is immutable and may be shared.
type Plan struct {
	rules      []rulePlan
	predicates []*predicate // operands come first
	columns    []*column
	texts      []*textGroup
	matches    []*matchGroup
	// These are numbers of states, see evaluation.
	extremes, orders, simpleRests int
}

// rulePlan is one rule of a plan.
type rulePlan struct {
	rule    *rules.Rule
	when    *predicate // nil: true
	clauses []clausePlan
	parts   []Part
}

// clausePlan is a clause of a rule. The rule is violated if the predicate has the value broken.
type clausePlan struct {
	name   string
	of     *predicate
	broken bool
}

// Part describes how one expression of a rule is judged.
type Part struct {
	// Name is "when", "always[0]", "never[1]".
	Name string
	// Reasons are why the interpreter has to judge the expression, or some traces by it. They are empty if the
	// expression is vectorised.
	Reasons []string
	// ByRow is set if part of the expression, such as a comparison of a span with another, is evaluated for one span
	// at a time, for the spans where all else is true.
	ByRow bool
}

// Vectorised reports whether the interpreter is needed only for values that give an error or are lists and maps.
func (p Part) Vectorised() bool { return len(p.Reasons) == 0 }

// Compile compiles rules together.
func Compile(rs []*rules.Rule) *Plan {
	// The rules are compiled twice: the second time the uses of each predicate are known.
	first := compile(rs, nil)
	uses := map[string]int{}
	for _, p := range first.predicates {
		uses[p.key] = p.refs
	}
	return compile(rs, uses)
}

func compile(rs []*rules.Rule, uses map[string]int) *Plan {
	p := &Plan{rules: make([]rulePlan, len(rs))}
	c := &compiler{plan: p, keys: map[string]*predicate{}, cols: map[source]*column{}, uses: uses, extremes: map[extremeKey]int{}}
	for i, r := range rs {
		when, clauses := r.WhenAndClauses()
		out := &p.rules[i]
		out.rule = r
		if when != nil {
			out.when = c.expression(out, rules.ClauseWhen, when)
		}
		for _, cl := range clauses {
			out.clauses = append(out.clauses, clausePlan{cl.Name, c.expression(out, cl.Name, cl.Expression), cl.Broken})
		}
	}
	for _, pred := range p.predicates { // a result that is kept is cheap
		sortByCost(pred.args)
	}
	p.groupTexts()
	p.groupMatches()
	return p
}

// expression compiles one expression of a rule.
func (c *compiler) expression(out *rulePlan, name string, x *lang.Expression) *predicate {
	l := &lowering{x: x}
	n := l.truth(x.Root())
	part := Part{Name: name}
	for _, reason := range l.reasons {
		if !slices.Contains(part.Reasons, reason) {
			part.Reasons = append(part.Reasons, reason)
		}
	}
	p := c.condition(n, nil)
	part.ByRow = p.isByRow()
	out.parts = append(out.parts, part)
	return p
}

func (p *predicate) isByRow() bool {
	return p.traits.cost == costRow || slices.ContainsFunc(p.args, (*predicate).isByRow)
}

// Explain returns how the expressions of rule i are judged.
func (p *Plan) Explain(i int) []Part { return p.rules[i].parts }

// selectTraces returns the traces of a batch that a filter matches, in the memory of traces if it has room.
type selectTraces func(b *columnar.Batch, traces columnar.Bits) columnar.Bits

// traceQL returns the filters of the rules, each once.
func (p *Plan) traceQL() map[string]selectTraces {
	filters := map[string]selectTraces{}
	for i := range p.rules {
		if f := p.rules[i].rule.TraceQL; f != nil && filters[f.String()] == nil {
			filters[f.String()] = f.OnBatches().SelectTraces
		}
	}
	return filters
}
