package engine

import (
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace/columnar"
)

// limits decide on which traces a rule is judged by its expressions alone: traces on which the limits of the interpreter
// cannot be exceeded. The interpreter judges larger traces.
type limits struct {
	rules []rulePlan
	// of are the limits of the batch, by rule.
	of []ruleLimit
	// withoutShape and withShape are the last limits for bounds without and with the shape of traces: the depths and
	// the children of spans. The shape is computed only if a batch has traces beyond the former.
	withoutShape, withShape []ruleLimit
	// bounds are those of the batch. byTrace are the sizes of the traces beyond both limits.
	bounds  lang.Sizes
	byTrace []lang.Sizes
}

func newLimits(p *Plan) limits {
	n := len(p.rules)
	return limits{rules: p.rules, of: make([]ruleLimit, n), withoutShape: make([]ruleLimit, n), withShape: make([]ruleLimit, n)}
}

// ruleLimit is the number of spans of the largest trace on which a rule is judged by its expressions alone.
type ruleLimit struct {
	spans int
	sizes lang.Sizes // for which it was computed
}

// update computes the limit for sizes, unless it is the same as for the last batch.
func (l *ruleLimit) update(r *rules.Rule, sizes lang.Sizes) ruleLimit {
	if l.sizes != sizes {
		*l = ruleLimit{upTo(r, sizes), sizes}
	}
	return *l
}

// begin finds the limits for a batch.
func (l *limits) begin(b *columnar.Batch) {
	l.bounds, l.byTrace = boundsOf(b), nil
	isWithin := true
	for i := range l.of {
		l.of[i] = l.withoutShape[i].update(l.rules[i].rule, l.bounds)
		isWithin = isWithin && l.of[i].spans >= l.bounds.Spans
	}
	if isWithin {
		return
	}
	shaped := addShape(l.bounds, b, 0, b.NumTraces())
	for i := range l.of {
		if l.of[i].spans < l.bounds.Spans {
			l.of[i] = l.withShape[i].update(l.rules[i].rule, shaped)
		}
	}
}

// exceed removes from traces those on which a rule is not judged by its expressions alone, and calls f for each.
func (l *limits) exceed(b *columnar.Batch, rule int, first int32, traces columnar.Bits, f func(t int32)) {
	for t := traces.Next(0); t >= 0; t = traces.Next(t + 1) {
		if n := int(b.First[first+t+1] - b.First[first+t]); n > l.of[rule].spans && !l.isDecidable(b, rule, first+t) {
			traces[t>>6] &^= 1 << (t & 63)
			f(t)
		}
	}
}

// isDecidable reports whether a rule is judged by its expressions alone on a trace that is larger than the limit: the
// deepest span of the batch, or the one with the most children, may be in another trace.
func (l *limits) isDecidable(b *columnar.Batch, rule int, t int32) bool {
	if l.byTrace == nil {
		l.byTrace = make([]lang.Sizes, b.NumTraces())
	}
	s := &l.byTrace[t]
	if s.Spans == 0 {
		*s = addShape(l.bounds, b, int(t), int(t)+1)
		s.Spans = int(b.First[t+1] - b.First[t])
		s.Descendants = s.Spans
	}
	return l.rules[rule].rule.Decidable(*s)
}

// upTo returns the number of spans of the largest trace, of at most sizes.Spans, on which the rule is judged by its
// expressions alone.
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

// roundUp returns the least power of two that is not less than n.
func roundUp(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

// boundsOf returns sizes that no trace of the batch exceeds. They are rounded up, so that most batches have the same.
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

// addShape adds the sizes of the traces from first to end that only a pass over their spans finds, rounded up.
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
