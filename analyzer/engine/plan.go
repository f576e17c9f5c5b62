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
	predicates []*predicate
	columns    []column
	groups     []*textGroup
	tests      []*testGroup
	extremes   []extremes
	orders     int // how many predOrder there are
	quick      int // how many quickComparison
}

// rulePlan is one rule of a plan.
type rulePlan struct {
	rule    *rules.Rule
	when    *predicate // nil: true
	clauses []clausePlan
	parts   []Part
}

type clausePlan struct {
	name   string
	of     *predicate
	broken bool
}

// textGroup are all predicates that ask for texts of one column, and the texts.
type textGroup struct {
	id      int
	column  int
	domain  domain
	texts   map[string]uint32 // to their classes, from 1
	lengths [64]bool          // of texts; the last is for longer ones
}

// Part says how one expression of a rule is judged.
type Part struct {
	// Name is "when", "always[0]", "never[1]".
	Name string
	// Reasons are why the interpreter has to judge it, or some traces by it: empty where
	// the expression is vectorised.
	Reasons []string
	// ByRow: some of it, such as what compares a span with another, is evaluated for one
	// span at a time, of those of which all else is true.
	ByRow bool
}

// Vectorised reports whether the interpreter is asked only about values that give an error
// or are lists and maps.
func (p Part) Vectorised() bool { return len(p.Reasons) == 0 }

// Compile compiles rules together.
func Compile(rs []*rules.Rule) *Plan {
	// Twice: the second time it is known what rules have in common.
	first := compile(rs, nil)
	uses := map[string]int{}
	for _, p := range first.predicates {
		uses[p.key] = p.refs
	}
	return compile(rs, uses)
}

func compile(rs []*rules.Rule, uses map[string]int) *Plan {
	p := &Plan{rules: make([]rulePlan, len(rs))}
	c := &compiler{plan: p, keys: map[string]*predicate{}, cols: map[column]int{}, uses: uses, extremes: map[extremes]int{}}
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
	for _, pred := range p.predicates { // what is kept is cheap for whoever asks again
		slices.SortStableFunc(pred.args, func(a, b *predicate) int { return a.order() - b.order() })
	}
	p.groupTexts()
	p.groupTests()
	return p
}

// order is the place of a predicate in a conjunction.
func (p *predicate) order() int {
	if p.memo && (p.kind == predNumber || p.kind == predDuration) {
		return int(predIsText)
	}
	return p.rank
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
	p := c.vector(n, nil)
	part.ByRow = p.byRow()
	out.parts = append(out.parts, part)
	return p
}

func (p *predicate) byRow() bool {
	return p.kind == predRow || slices.ContainsFunc(p.args, (*predicate).byRow)
}

func (p *Plan) groupTexts() {
	find := map[[2]int]*textGroup{}
	for _, pred := range p.predicates {
		if pred.kind != predTextIs {
			continue
		}
		key := [2]int{pred.column, int(pred.domain)}
		g := find[key]
		if g == nil {
			g = &textGroup{column: pred.column, domain: pred.domain, texts: map[string]uint32{}}
			find[key] = g
			p.groups = append(p.groups, g)
		}
		for _, t := range pred.texts {
			i, ok := g.texts[t]
			if !ok {
				i = uint32(len(g.texts) + 1)
				g.texts[t] = i
				g.lengths[min(len(t), len(g.lengths)-1)] = true
			}
			pred.classes = append(pred.classes, i)
		}
		pred.group = g
	}
	for i, g := range p.groups {
		g.id = i
	}
}

// Explain returns how the expressions of rule i are judged.
func (p *Plan) Explain(i int) []Part { return p.rules[i].parts }

// ruleLimit is on how large a trace a rule's verdict surely is its expressions'.
type ruleLimit struct {
	spans int
	sizes lang.Sizes // it was worked out for
}

// upTo returns the number of spans of the largest trace, of at most sizes.Spans, on which the
// rule is decided by its expressions alone.
func upTo(r *rules.Rule, sizes lang.Sizes) int {
	fits := func(spans int) bool {
		s := sizes
		s.Spans, s.Descendants, s.Children, s.Ancestors = spans, spans, spans, 2*spans
		if sizes.Depths > 0 {
			s.Ancestors, s.Children = min(s.Ancestors, sizes.Ancestors), min(s.Children, sizes.Children)
		}
		return r.Decidable(s)
	}
	if fits(sizes.Spans) {
		return sizes.Spans
	}
	low, high := 0, sizes.Spans // fits, does not
	for low+1 < high {
		if middle := (low + high) / 2; fits(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// roundUp returns the least power of two that is no less than n.
func roundUp(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

// boundsOf returns sizes that no trace of the batch exceeds, rounded up so that they are
// those of most batches.
func boundsOf(b *columnar.Batch) lang.Sizes {
	var s lang.Sizes
	for t := range b.NumTraces() {
		s.Spans = max(s.Spans, int(b.First[t+1]-b.First[t]))
	}
	s.Spans = roundUp(s.Spans)
	texts := func(c *columnar.TextColumn) { s.Text = max(s.Text, c.LongestText()) }
	columns := func(cols []*columnar.Column) {
		s.Attributes = max(s.Attributes, len(cols))
		for _, c := range cols {
			s.Text = max(s.Text, len(c.Key))
			texts(&c.Text)
			for _, v := range c.Others {
				s.AddValue(v)
			}
		}
	}
	texts(&b.Names)
	texts(&b.StatusMessages)
	texts(&b.Scopes)
	texts(&b.ScopeVersions)
	texts(&b.Events.Names)
	columns(b.Attributes)
	columns(b.ResourceAttributes)
	columns(b.Events.Attributes)
	columns(b.Links.Attributes)
	s.Events, s.Links = roundUp(len(b.Events.Times)), roundUp(len(b.Links.SpanIDs))
	s.AllEvents, s.AllLinks = s.Events, s.Links
	s.Text, s.List, s.Attributes = roundUp(s.Text), roundUp(s.List), roundUp(s.Attributes)
	return s
}

// addShape adds the sizes of the traces from first to end that only a walk over their spans gives,
// rounded up.
func addShape(s lang.Sizes, b *columnar.Batch, first, end int) lang.Sizes {
	most, all, children := 0, 0, int32(0)
	for t := first; t < end; t++ {
		m, a := lang.DepthsOf(int(b.First[t]), int(b.First[t+1]), func(i int) int { return int(b.Parents[i]) })
		most, all = max(most, m), max(all, a)
	}
	low, high := b.First[first], b.First[end]
	counts := make([]int32, high-low)
	for _, parent := range b.Parents[low:high] {
		if parent >= low {
			counts[parent-low]++
			children = max(children, counts[parent-low])
		}
	}
	s.Ancestors, s.Depths, s.Children = roundUp(most), roundUp(all), roundUp(int(children))
	return s
}

// selectTraces returns which traces of a batch a filter matches, in the memory of traces if it
// has room.
type selectTraces func(b *columnar.Batch, traces columnar.Bits) columnar.Bits

// traceQL are the filters of the rules that have one, each once.
func (p *Plan) traceQL() map[string]selectTraces {
	filters := map[string]selectTraces{}
	for i := range p.rules {
		if f := p.rules[i].rule.TraceQL; f != nil && filters[f.String()] == nil {
			filters[f.String()] = f.OnBatches().SelectTraces
		}
	}
	return filters
}
