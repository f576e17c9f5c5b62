package engine

import (
	"context"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Judge judges batches by a plan. It reuses its memory: it serves one goroutine at a time and, once it has judged a
// batch of a size, allocates only for violations and errors in batches of that size.
type Judge struct {
	// Workers is the number of goroutines that judge single traces by single rules. If 0, it is the number of cores.
	Workers int

	plan       *Plan
	evaluation evaluation
	limits     limits
	filters    filters
	findings   findings
	// active are the rules that may apply to a trace of the batch.
	active []int
}

// filters are the TraceQL filters of rules, and the traces of the batch that they match.
type filters struct {
	of      map[string]selectTraces
	matches map[string]columnar.Bits
}

// Counts are the numbers of verdicts of a rule by outcome.
type Counts struct {
	NotApplicable, Pass, Violation, Error int
}

// Add counts a verdict with an outcome.
func (c *Counts) Add(o rules.Outcome) {
	switch o {
	case rules.NotApplicable:
		c.NotApplicable++
	case rules.Pass:
		c.Pass++
	case rules.Violation:
		c.Violation++
	case rules.Error:
		c.Error++
	}
}

// Found is a violation or an error.
type Found struct {
	// Trace is the number of the trace in the batch.
	Trace int
	// Rule is the number of the rule in the plan.
	Rule    int
	Verdict rules.Verdict
	// View is the trace.
	View *trace.Trace
}

// Verdicts are the verdicts on a batch.
type Verdicts struct {
	// Counts are by rule.
	Counts []Counts
	// Found are the violations and errors, by trace, then by rule.
	Found []Found
}

// NewJudge returns a judge.
func (p *Plan) NewJudge() *Judge {
	return &Judge{
		plan: p, evaluation: newEvaluation(p), limits: newLimits(p), findings: newFindings(p),
		filters: filters{p.traceQL(), map[string]columnar.Bits{}},
	}
}

// Batch judges the selected traces of a batch, a bit for each; if selected is nil, it judges all. The result is valid
// until the next call. An error is that of the context.
func (j *Judge) Batch(ctx context.Context, b *columnar.Batch, selected columnar.Bits) (*Verdicts, error) {
	v := &Verdicts{}
	var err error
	v.Counts, err = j.Each(ctx, b, selected, func(found []Found) error {
		v.Found = append(v.Found, found...)
		return nil
	})
	return v, err
}

// Each is like Batch, but delivers violations and errors in parts, some traces at a time. The slice is reused. It
// returns the counts by rule, which are valid until the next call.
func (j *Judge) Each(ctx context.Context, b *columnar.Batch, selected columnar.Bits, deliver func([]Found) error) ([]Counts, error) {
	j.findings.begin()
	if b.NumTraces() == 0 {
		return j.findings.counts, context.Cause(ctx)
	}
	j.evaluation.begin(ctx, b)
	defer j.evaluation.end()
	j.limits.begin(b)
	for name, selectTraces := range j.filters.of {
		j.filters.matches[name] = selectTraces(b, j.filters.matches[name])
	}
	j.findActive(b)
	for from := int32(0); int(from) < b.NumTraces(); {
		to := from + 1
		for int(to) < b.NumTraces() && b.First[to+1]-b.First[from] <= j.evaluation.stripSpans {
			to++
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		j.strip(from, to, selected)
		from = to
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err // the last results may be wrong
	}
	if err := j.findings.resolve(ctx, b, j.Workers, deliver); err != nil {
		return nil, err
	}
	return j.findings.counts, nil
}

// findActive finds the rules that may apply to a trace of the batch.
func (j *Judge) findActive(b *columnar.Batch) {
	longest := int32(0)
	for t := range b.NumTraces() {
		longest = max(longest, b.First[t+1]-b.First[t])
	}
	j.active = j.active[:0]
	for i := range j.plan.rules {
		when := j.plan.rules[i].when
		if when == nil || !j.evaluation.simple[when.id].never || j.limits.of[i].spans < int(longest) {
			j.active = append(j.active, i)
		}
	}
}

// strip judges the traces from the first to the second number.
func (j *Judge) strip(from, to int32, selected columnar.Bits) {
	e := &j.evaluation
	e.enter(from, to)
	judged := e.scratch.CopyOf(e.frames[traces].all)
	if selected != nil {
		for t := from; t < to; t++ {
			if !selected.Has(t) {
				judged[(t-from)>>6] &^= 1 << ((t - from) & 63)
			}
		}
	}
	if n := judged.Count(); n > 0 {
		j.findings.countNotApplicable(n)
		for _, i := range j.active {
			when := j.plan.rules[i].when
			if when != nil && j.limits.of[i].spans >= int(e.strip.longest) && e.isNever(when) {
				continue
			}
			j.rule(i, judged)
		}
	}
	e.scratch.Give(1)
}

// rule judges traces of the strip by one rule.
func (j *Judge) rule(i int, judged columnar.Bits) {
	e, r := &j.evaluation, &j.plan.rules[i]
	defer e.scratch.GiveTo(e.scratch.Lent())
	words, first := e.frames[traces].words, e.frames[traces].first
	within := judged
	if filter := r.rule.TraceQL; filter != nil {
		within = e.scratch.CopyOf(within)
		matches := j.filters.matches[filter.String()]
		for t := within.Next(0); t >= 0; t = within.Next(t + 1) {
			if !matches.Has(first + t) {
				within[t>>6] &^= 1 << (t & 63)
			}
		}
	}
	later := func(of columnar.Bits, clause int32) {
		for t := of.Next(0); t >= 0; t = of.Next(t + 1) {
			j.findings.add(i, first+t, clause)
		}
	}
	if j.limits.of[i].spans < int(e.strip.longest) {
		within = e.scratch.CopyOf(within)
		j.limits.exceed(e.batch, i, first, within, func(t int32) { j.findings.add(i, first+t, clauseUnknown) })
	}
	if within.IsEmpty() { // results that are kept would be computed for traces that are too large
		return
	}
	applies := within
	if r.when != nil {
		applies = e.scratch.Take(words)
		unknown := e.scratch.Take(words)
		e.evaluate(r.when, within, applies, unknown)
		if !r.when.total {
			later(unknown, clauseUnknown)
		}
	}
	if applies.IsEmpty() {
		return
	}
	if len(r.clauses) == 0 {
		later(applies, clauseWhen)
		return
	}
	left, holds, unknown := e.scratch.CopyOf(applies), e.scratch.Take(words), e.scratch.Take(words)
	for k := range r.clauses {
		c := &r.clauses[k]
		e.evaluate(c.of, left, holds, unknown)
		if c.of.total {
			clear(unknown)
		}
		for w := range left {
			broken := left[w] & holds[w]
			if !c.broken {
				broken = left[w] &^ holds[w] &^ unknown[w]
			}
			holds[w] = broken
			left[w] &^= broken | unknown[w]
		}
		later(holds, int32(k))
		later(unknown, clauseUnknown)
		if left.IsEmpty() {
			return
		}
	}
	j.findings.countPassed(i, left.Count())
}
