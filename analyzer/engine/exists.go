package engine

import (
	"fmt"
	"slices"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Conditions on traces by the spans of which another predicate is true: whether there is one, and how many there are.

// existsCondition is true of traces that have a span of which the operand is true.
type existsCondition struct{}

func (*existsCondition) name() string   { return "exists" }
func (*existsCondition) traits() traits { return traits{cost: costExists} }

func (*existsCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	of := &e.simple[p.args[0].id]
	s.always, s.never = of.always, of.never
}

func (*existsCondition) isNeverInStrip(e *evaluation, p *predicate) bool { return e.isNever(p.args[0]) }

func (*existsCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	ofT, ofU := e.spansWhere(p.args[0], mask)
	some := e.scratch.Take(len(mask))
	e.tracesOf(ofT, some)
	if !p.total {
		possible := e.scratch.Take(len(mask))
		e.tracesOf(ofU, possible)
		for w, in := range mask {
			u[w] = in & possible[w] &^ some[w]
		}
	}
	for w, in := range mask {
		t[w] = in & some[w]
	}
}

// spansWhere evaluates a predicate on the spans of the traces of the mask.
func (e *evaluation) spansWhere(p *predicate, mask columnar.Bits) (t, u columnar.Bits) {
	f := &e.frames[spans]
	if s := &e.simple[p.id]; s.never || s.always || e.simple[s.as.id].keep {
		return e.all(p)
	}
	within := f.all
	if !slices.Equal(mask, e.frames[traces].all) {
		within = e.scratch.Take(f.words)
		e.spansOf(mask, within, f.all)
	}
	t = e.scratch.Take(f.words)
	if !p.total {
		u = e.scratch.Take(f.words)
	}
	e.evaluate(p, within, t, u)
	return t, u
}

// countCondition compares the number of spans of which the operand is true with a constant.
type countCondition struct {
	op   columnar.Comparison
	with int64
	test columnar.NumberTest
}

// countCompared returns the predicate of a number of spans compared with a constant; nil if it is another comparison.
func (c *compiler) countCompared(x *quantifier, n *node, op columnar.Comparison, with value) *predicate {
	if x.quantity != quantCount || x.list != listSpans || with.kind != kindInt || !n.args[0].usesOnly(x.binder) {
		return nil
	}
	return c.count(c.condition(n.args[0], x.binder), op, with.i)
}

func (c *compiler) count(of *predicate, op columnar.Comparison, with int64) *predicate {
	return c.predicate(&countCondition{op, with, columnar.NewNumberTest(op, trace.IntValue(with))}, traces, of)
}

func (x *countCondition) name() string {
	return fmt.Sprintf("count %s %d", comparisonNames[x.op], x.with)
}
func (*countCondition) traits() traits                                { return traits{cost: costCount} }
func (*countCondition) simplify(*evaluation, *predicate, *simplified) {}

func (x *countCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	ofT, ofU := e.spansWhere(p.args[0], mask)
	first, firsts := e.frames[spans].first, e.batch.First[e.frames[traces].first:]
	of := e.scratch.CopyOf(mask)
	clear(t)
	if !p.total {
		clear(u)
	}
	for i := of.Next(0); i >= 0; i = of.Next(i + 1) {
		low, high := firsts[i]-first, firsts[i+1]-first
		if !p.total && ofU.AnyIn(low, high) {
			u.Set(i)
			continue
		}
		if x.test.Int(int64(ofT.CountIn(low, high))) {
			t.Set(i)
		}
	}
}
