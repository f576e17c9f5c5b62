package engine

import (
	"cmp"
	"context"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// So many traces with something found, or of so many spans, are in memory at a time.
const (
	foundTraces = 256
	foundSpans  = 50_000
)

// Judge judges batches by a plan. It uses its memory again: it serves one goroutine at a
// time, and once it has seen a batch as large it allocates only for what it finds.
type Judge struct {
	// Workers is how many goroutines work out what is found; 0: one a core.
	Workers int

	by       thresholds
	plan     *Plan
	filters  map[string]selectTraces
	filtered map[string]columnar.Bits
	limits   []ruleLimit // by rule, in use
	// limits without and with the shape of traces: the depths and the children of spans, which
	// are counted only if a batch has traces beyond the former.
	withoutShape, withShape []ruleLimit
	// bounds are those of the batch, and shaped, by trace, those of each trace beyond both limits.
	bounds  lang.Sizes
	shaped  []lang.Sizes
	counts  []Counts
	pending []pending
	found   []Found

	ctx   context.Context
	steps int
	b     *columnar.Batch
	clock uint64 // of what is evaluated
	frame [resources + 1]frame
	memos []memo
	// of the batch
	columns  []columnData
	groups   []groupData
	tests    []testData
	tables   []table
	extremes []extremeData
	orders   []orderData
	quick    []quickData
	ones     []oneData // by column
	// candidates are, by predicate, the elements that quantifiers look at row by row.
	candidates []columnar.Bits
	folded     []folded // by predicate
	active     []activeRule
	needs      []*predicate  // tests of texts that active rules need
	unordered  columnar.Bits // traces with a parent that comes after its child
	related    bool          // unordered is known
	// of the strip
	owner []int32 // trace, from the strip's first, by span, from the first bit
	roots []int32 // of traces; -2: not known
	// lasted are the durations of spans, from the first bit, of the strip with the stamp.
	lasted      []int64
	durationsOf uint64
	codes       []uint32 // what is looked at instead of a column's codes, by span, from the first bit

	scratch columnar.Scratch
	env     [mostBinders]int32 // rows that variables stand for
	trace   int32              // whose row is evaluated
}

// Counts are how many verdicts a rule gave of each outcome.
type Counts struct {
	NotApplicable, Pass, Violation, Error int
}

// Add counts a verdict of an outcome.
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
	// Trace is which of the batch's.
	Trace int
	// Rule is which of the plan's.
	Rule    int
	Verdict rules.Verdict
	// View is the trace.
	View *trace.Trace
}

// Verdicts are what a batch was found to be.
type Verdicts struct {
	// Counts are by rule.
	Counts []Counts
	// Found are the violations and errors, by trace, then by rule.
	Found []Found
}

// frame is the rows of a table that are evaluated: low to high. Bit 0 of its bitmaps is row
// first.
type frame struct {
	first, low, high int32
	words            int
	all              columnar.Bits // the rows
	none             columnar.Bits
	stamp            uint64
}

func (f *frame) set(first, low, high int32, stamp uint64) {
	f.first, f.low, f.high, f.stamp = first, low, high, stamp
	f.words = columnar.NumWords(int(high - first))
	f.all = f.all.Resized(64 * f.words)
	clear(f.all)
	f.all.SetRange(low-first, high-first)
	if cap(f.none) < f.words {
		f.none = make(columnar.Bits, f.words, 2*f.words)
	}
	f.none = f.none[:f.words]
}

// memo is what a predicate is of all rows of its frame.
type memo struct {
	stamp uint64
	t, u  columnar.Bits
}

// pending is a verdict that is to be worked out on the trace: a violation of which the
// clause is known, or all of it.
type pending struct {
	trace, rule int32
	clause      int32 // of the rule; -1: its when; ask: not known
}

const ask = -2

// NewJudge returns a judge.
func (p *Plan) NewJudge() *Judge {
	j := &Judge{
		plan: p, by: defaultThresholds(), filters: p.traceQL(), filtered: map[string]columnar.Bits{}, limits: make([]ruleLimit, len(p.rules)), withoutShape: make([]ruleLimit, len(p.rules)), withShape: make([]ruleLimit, len(p.rules)), counts: make([]Counts, len(p.rules)),
		memos: make([]memo, len(p.predicates)), columns: make([]columnData, len(p.columns)), groups: make([]groupData, len(p.groups)), tests: make([]testData, len(p.tests)), tables: make([]table, len(p.predicates)),
		extremes: make([]extremeData, len(p.extremes)), orders: make([]orderData, p.orders), quick: make([]quickData, p.quick), ones: make([]oneData, len(p.columns)), candidates: make([]columnar.Bits, len(p.predicates)), folded: make([]folded, len(p.predicates)),
	}
	for i := range j.groups {
		n := len(p.groups[i].texts) + 1
		j.groups[i].live, j.groups[i].of = make([]bool, n), make([]textRows, n)
	}
	return j
}

// Batch judges the traces of a batch that are selected, a bit a trace; nil: all. What it
// returns is valid until it is called again. An error is the context's.
func (j *Judge) Batch(ctx context.Context, b *columnar.Batch, selected columnar.Bits) (*Verdicts, error) {
	v := &Verdicts{}
	var err error
	v.Counts, err = j.Each(ctx, b, selected, func(found []Found) error {
		v.Found = append(v.Found, found...)
		return nil
	})
	return v, err
}

// Each is Batch for a caller that takes what is found as it comes, of some traces at a
// time; the slice is used again. It returns the counts by rule, valid until the next call.
func (j *Judge) Each(ctx context.Context, b *columnar.Batch, selected columnar.Bits, deliver func([]Found) error) ([]Counts, error) {
	j.ctx, j.b = ctx, b
	defer func() { j.ctx, j.b = nil, nil }()
	clear(j.counts)
	j.pending = j.pending[:0]
	if b.NumTraces() == 0 {
		return j.counts, context.Cause(ctx)
	}
	j.begin()
	j.limit()
	j.fold()
	for from := int32(0); int(from) < b.NumTraces(); {
		to := from + 1
		for int(to) < b.NumTraces() && b.First[to+1]-b.First[from] <= j.by.strip {
			to++
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		j.strip(from, to, selected)
		from = to
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err // what was evaluated last is not known
	}
	if err := j.resolve(deliver); err != nil {
		return nil, err
	}
	return j.counts, nil
}

// begin prepares for a batch.
func (j *Judge) begin() {
	j.clock++
	b := j.b
	j.frame[events].set(0, 0, int32(len(b.Events.Times)), j.clock)
	j.frame[links].set(0, 0, int32(len(b.Links.SpanIDs)), j.clock)
	j.frame[resources].set(0, 0, int32(b.Service().Rows()), j.clock)
	for i := range j.columns {
		j.columns[i].find(b, j.plan.columns[i])
	}
	j.related = false
	for name, selectTraces := range j.filters {
		j.filtered[name] = selectTraces(b, j.filtered[name])
	}
}

// activeRule is a rule that may have something to say of the batch.
type activeRule struct {
	rule int
	// limit is how many spans a trace may have for what follows to be so. The rule does not apply to
	// traces if one of its needs, those in j.needs from to to, is not there, or, if asked, its condition is
	// never true.
	limit    int
	from, to int
	asked    bool
}

// limit finds the traces on which each rule is decided by its expressions alone.
func (j *Judge) limit() {
	sizes := boundsOf(j.b)
	j.bounds, j.shaped = sizes, nil
	isWithin := true
	for i := range j.limits {
		j.limits[i] = j.withoutShape[i].of(j.plan.rules[i].rule, sizes)
		isWithin = isWithin && j.limits[i].spans >= sizes.Spans
	}
	if isWithin {
		return
	}
	shaped := addShape(sizes, j.b, 0, j.b.NumTraces())
	for i := range j.limits {
		if j.limits[i].spans < sizes.Spans {
			j.limits[i] = j.withShape[i].of(j.plan.rules[i].rule, shaped)
		}
	}
}

// isDecidable reports whether a rule is decided by its expressions alone on a trace that is larger
// than the limit: another trace of the batch may have the deepest span, or the one with the
// most children.
func (j *Judge) isDecidable(rule int, t int32) bool {
	if j.shaped == nil {
		j.shaped = make([]lang.Sizes, j.b.NumTraces())
	}
	s := &j.shaped[t]
	if s.Spans == 0 {
		*s = addShape(j.bounds, j.b, int(t), int(t)+1)
		s.Spans = int(j.b.First[t+1] - j.b.First[t])
		s.Descendants = s.Spans
	}
	return j.plan.rules[rule].rule.Decidable(*s)
}

// of returns the limit for sizes, which is kept for batches of the same.
func (l *ruleLimit) of(r *rules.Rule, sizes lang.Sizes) ruleLimit {
	if l.sizes != sizes {
		*l = ruleLimit{upTo(r, sizes), sizes}
	}
	return *l
}

// strip judges the traces from to to.
func (j *Judge) strip(from, to int32, selected columnar.Bits) {
	b := j.b
	j.clock++
	low, high := b.First[from], b.First[to]
	j.frame[spans].set(low&^63, low, high, j.clock)
	j.frame[traces].set(from, from, to, j.clock)
	first := j.frame[spans].first
	if n := int(high - first); cap(j.owner) < n {
		j.owner = make([]int32, n+n/4)
	}
	j.owner = j.owner[:high-first]
	if n := int(to - from); cap(j.roots) < n {
		j.roots = make([]int32, n+n/4)
	}
	j.roots = j.roots[:to-from]
	longest := int32(0)
	for t := from; t < to; t++ {
		j.roots[t-from] = rootUnknown
		longest = max(longest, b.First[t+1]-b.First[t])
		own := j.owner[b.First[t]-first : b.First[t+1]-first]
		for i := range own {
			own[i] = t - from
		}
	}
	f := &j.frame[traces]
	judged := j.scratch.Take(f.words)
	copy(judged, f.all)
	if selected != nil {
		for t := from; t < to; t++ {
			if !selected.Has(t) {
				judged[(t-from)>>6] &^= 1 << ((t - from) & 63)
			}
		}
	}
	if numJudged := judged.Count(); numJudged > 0 {
		for i := range j.counts {
			j.counts[i].NotApplicable += numJudged
		}
		for i := range j.active {
			a := &j.active[i]
			if a.limit >= int(longest) && j.isOut(a) {
				continue
			}
			j.rule(a.rule, judged, longest)
		}
	}
	j.scratch.Give(1)
}

// rule judges the traces of the strip that are judged by one rule.
func (j *Judge) rule(i int, judged columnar.Bits, longest int32) {
	r, counts := &j.plan.rules[i], &j.counts[i]
	defer j.scratch.GiveTo(j.scratch.Lent())
	f := &j.frame[traces]
	within := judged
	if filter := r.rule.TraceQL; filter != nil {
		within = j.scratch.CopyOf(within)
		matches := j.filtered[filter.String()]
		for t := within.Next(0); t >= 0; t = within.Next(t + 1) {
			if !matches.Has(f.first + t) {
				within[t>>6] &^= 1 << (t & 63)
			}
		}
	}
	if limit := j.limits[i].spans; limit < int(longest) {
		within = j.scratch.CopyOf(within)
		for t := within.Next(0); t >= 0; t = within.Next(t + 1) {
			if int(j.b.First[f.first+t+1]-j.b.First[f.first+t]) > limit && !j.isDecidable(i, f.first+t) {
				within[t>>6] &^= 1 << (t & 63)
				j.later(counts, i, t, ask)
			}
		}
	}
	if within.IsEmpty() { // what is kept would be worked out for traces that are too large
		return
	}
	applies := within
	if r.when != nil {
		applies = j.scratch.Take(f.words)
		unknown := j.scratch.Take(f.words)
		j.eval(r.when, within, applies, unknown)
		if !r.when.total {
			for t := unknown.Next(0); t >= 0; t = unknown.Next(t + 1) {
				j.later(counts, i, t, ask)
			}
		}
	}
	if applies.IsEmpty() {
		return
	}
	if len(r.clauses) == 0 {
		for t := applies.Next(0); t >= 0; t = applies.Next(t + 1) {
			j.later(counts, i, t, -1)
		}
		return
	}
	left, holds, unknown := j.scratch.CopyOf(applies), j.scratch.Take(f.words), j.scratch.Take(f.words)
	for k := range r.clauses {
		c := &r.clauses[k]
		j.eval(c.of, left, holds, unknown)
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
		for t := holds.Next(0); t >= 0; t = holds.Next(t + 1) {
			j.later(counts, i, t, int32(k))
		}
		if !c.of.total {
			for t := unknown.Next(0); t >= 0; t = unknown.Next(t + 1) {
				j.later(counts, i, t, ask)
			}
		}
		if left.IsEmpty() {
			return
		}
	}
	passed := left.Count()
	counts.Pass += passed
	counts.NotApplicable -= passed
}

// later notes that a verdict on trace t of the strip is to be worked out.
func (j *Judge) later(counts *Counts, rule int, t, clause int32) {
	counts.NotApplicable--
	j.pending = append(j.pending, pending{j.frame[traces].first + t, int32(rule), clause})
}

// resolve works out the verdicts that are pending, in order, and delivers what is found.
func (j *Judge) resolve(deliver func([]Found) error) error {
	slices.SortFunc(j.pending, func(a, b pending) int { return cmp.Or(cmp.Compare(a.trace, b.trace), cmp.Compare(a.rule, b.rule)) })
	for rest := j.pending; len(rest) > 0; {
		n, numTraces, numSpans := 0, 0, int32(0)
		for n < len(rest) {
			if t := rest[n].trace; n == 0 || t != rest[n-1].trace {
				if numTraces >= foundTraces || numSpans >= foundSpans {
					break
				}
				numTraces++
				numSpans += j.b.First[t+1] - j.b.First[t]
			}
			n++
		}
		if err := j.resolveSome(rest[:n], deliver); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (j *Judge) resolveSome(some []pending, deliver func([]Found) error) error {
	workers := j.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	j.found = slices.Grow(j.found[:0], len(some))[:len(some)]
	var group errgroup.Group
	group.SetLimit(workers)
	for from := 0; from < len(some); {
		to := from + 1
		for to < len(some) && some[to].trace == some[from].trace {
			to++
		}
		of, out := some[from:to], j.found[from:to]
		group.Go(func() error {
			view := j.b.Trace(int(of[0].trace))
			sizes := lang.SizesOf(view)
			for i, p := range of {
				r := &j.plan.rules[p.rule]
				f := Found{Trace: int(p.trace), Rule: int(p.rule), View: view}
				switch p.clause {
				case ask:
					f.Verdict = r.rule.JudgeSized(j.ctx, view, sizes)
				case -1:
					f.Verdict = r.rule.Violated(j.ctx, view, rules.ClauseWhen, sizes)
				default:
					f.Verdict = r.rule.Violated(j.ctx, view, r.clauses[p.clause].name, sizes)
				}
				out[i] = f
			}
			return context.Cause(j.ctx)
		})
		from = to
	}
	if err := group.Wait(); err != nil {
		return err
	}
	kept := j.found[:0]
	for _, f := range j.found {
		c := &j.counts[f.Rule]
		c.Add(f.Verdict.Outcome)
		if f.Verdict.Outcome == rules.Violation || f.Verdict.Outcome == rules.Error {
			kept = append(kept, f)
		}
	}
	defer clear(j.found)
	if len(kept) == 0 {
		return nil
	}
	return deliver(kept)
}
