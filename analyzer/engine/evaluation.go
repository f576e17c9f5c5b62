package engine

import (
	"context"

	"github.com/betracehq/betrace/trace/columnar"
)

// evaluation is the state of evaluating the predicates of a plan on one batch after another. The memory is
// reused.
type evaluation struct {
	plan *Plan
	// ctx and batch are those of the current batch.
	ctx   context.Context
	batch *columnar.Batch
	tuning
	// clock counts batches and strips: a result is valid if it has the stamp of its frame.
	clock   uint64
	frames  [numDomains]frame
	strip   strip
	results []result     // by predicate
	simple  []simplified // by predicate
	columns []columnData // by column
	scratch columnar.Scratch
	// These are the states of operators. Each has its own in its file.
	row       rowState
	texts     []textState // by text group
	matches   matchState
	extremes  []extremeState
	orders    []orderState
	relations relationState
}

// tuning are the numbers that decide how a batch is evaluated. They change the time, and never a verdict.
type tuning struct {
	// stripSpans is the maximum number of spans that are judged at a time, unless one trace has more. With
	// 24,576 spans the bitmaps of hundreds of rules stay in the processor's cache, and the work that is done
	// once for each strip costs little.
	stripSpans int32
	// fewRows decides between some rows and all: a result that is kept is computed for all rows of a strip
	// if at least one row in fewRows is needed.
	fewRows int
}

func defaultTuning() tuning { return tuning{stripSpans: 24576, fewRows: 16} }

// result is the kept result of a predicate for all rows of a frame.
type result struct {
	stamp uint64
	t, u  columnar.Bits
}

func newEvaluation(p *Plan) evaluation {
	n := len(p.predicates)
	return evaluation{
		plan: p, tuning: defaultTuning(),
		results: make([]result, n), simple: make([]simplified, n), columns: make([]columnData, len(p.columns)),
		row: newRowState(p), texts: newTextStates(p), matches: newMatchState(p), extremes: make([]extremeState, p.extremes), orders: make([]orderState, p.orders),
	}
}

// begin prepares for a batch.
func (e *evaluation) begin(ctx context.Context, b *columnar.Batch) {
	e.ctx, e.batch = ctx, b
	e.clock++
	e.frames[events].set(0, 0, int32(len(b.Events.Times)), e.clock)
	e.frames[links].set(0, 0, int32(len(b.Links.SpanIDs)), e.clock)
	e.frames[resources].set(0, 0, int32(b.Service().Rows()), e.clock)
	for i := range e.columns {
		e.columns[i].find(b, e.plan.columns[i])
	}
	e.relations.isKnown = false
	e.simplify()
}

// end releases the batch.
func (e *evaluation) end() { e.ctx, e.batch = nil, nil }

// batchStamp identifies the batch.
func (e *evaluation) batchStamp() uint64 { return e.frames[events].stamp }

// evaluate sets t to the rows of mask where the predicate is true and, unless the predicate is total, u to
// those where it is unknown. t may be mask if the predicate is total.
func (e *evaluation) evaluate(p *predicate, mask, t, u columnar.Bits) {
	s := &e.simple[p.id]
	if !p.total && (s.total || s.never || s.always) {
		clear(u)
	}
	switch {
	case s.never:
		clear(t)
		return
	case s.always:
		copy(t, mask)
		return
	}
	p = s.as
	if !e.simple[p.id].keep || e.isCheaperFor(p, mask) {
		e.compute(p, mask, t, u)
		return
	}
	allT, allU := e.all(p)
	if allU != nil { // before t, which may be mask
		for w, in := range mask {
			u[w] = in & allU[w]
		}
	}
	for w, in := range mask {
		t[w] = in & allT[w]
	}
}

// all returns the result for all rows of the predicate's frame. It is computed once. u is nil if the predicate
// is total.
func (e *evaluation) all(p *predicate) (t, u columnar.Bits) {
	f := &e.frames[p.domain]
	s := &e.simple[p.id]
	if !p.total {
		u = f.none
	}
	switch {
	case s.never:
		return f.none, u
	case s.always:
		return f.all, u
	}
	p = s.as
	if x, ok := p.is.(indexed); ok {
		if t := x.rows(e, p); t != nil {
			return t, u
		}
		return f.none, u
	}
	r := &e.results[p.id]
	if r.stamp != f.stamp {
		r.t = r.t.Resized(64 * f.words)
		if !p.total {
			r.u = r.u.Resized(64 * f.words)
		}
		e.compute(p, f.all, r.t, r.u)
		r.stamp = f.stamp
	}
	if !p.total {
		u = r.u
	}
	return r.t, u
}

// compute is like evaluate, but does not use kept results. The predicate is the simplified one, and not constant in the
// batch. u may be nil if no row of the batch is unknown.
func (e *evaluation) compute(p *predicate, mask, t, u columnar.Bits) {
	lent := e.scratch.Lent()
	p.is.evaluate(e, p, mask, t, u)
	e.scratch.GiveTo(lent)
}

// isCheaperFor reports whether a predicate that is kept, but has no result yet, is cheaper to evaluate for the
// rows of the mask than for all.
func (e *evaluation) isCheaperFor(p *predicate, mask columnar.Bits) bool {
	return p.traits.anyRows && e.results[p.id].stamp != e.frames[p.domain].stamp && mask.Count() < 64*len(mask)/e.fewRows
}

// marks returns the bits of a predicate's result, in which rows are set one by one; none is set at first.
func (e *evaluation) marks(p *predicate, f *frame) columnar.Bits {
	r := &e.results[p.id]
	if r.stamp != f.stamp {
		r.stamp = f.stamp
		r.t = r.t.Resized(64 * f.words)
		clear(r.t)
	}
	return r.t
}

// sized returns a slice of n elements, in the memory of s if it has room.
func sized[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n, n+n/4)
	}
	return s[:n]
}

func bit(is bool) (b uint64) {
	if is {
		b = 1
	}
	return b
}
