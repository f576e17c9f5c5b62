package engine

import (
	"fmt"
	"math/bits"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// orderCondition is true of spans one of whose times compares with a time of some span of the trace of which the
// operand is true. The least or greatest of these times decides.
type orderCondition struct {
	other, own string // fields: start or end
	op         columnar.Comparison
	id         int // in evaluation.orders
}

// ordered returns the predicate of an exists over the spans of the trace whose body compares a time of the element with
// one of v, and uses v for nothing else; nil for another body.
func (c *compiler) ordered(body *node, element, v *binder) *predicate {
	var of []*predicate
	var found *orderCondition
	for _, part := range conjuncts(body) {
		if part.uses(v) {
			if found != nil {
				return nil
			}
			if found = orderOf(part, element, v); found == nil {
				return nil
			}
			continue
		}
		p := c.condition(part, element)
		if p == nil || !p.total {
			return nil
		}
		of = append(of, p)
	}
	if found == nil {
		return nil
	}
	among := c.join(false, spans, of...)
	if among.isFalse() {
		return c.constant(spans, false)
	}
	among.keep = true
	found.id = c.plan.orders
	p := c.predicate(found, spans, among)
	if p.refs == 1 {
		c.plan.orders++
	}
	return p
}

// orderOf returns the condition of a comparison of times; nil if it is another comparison.
func orderOf(n *node, element, v *binder) *orderCondition {
	x, ok := n.is.(*comparison)
	if !ok || x.op == columnar.Equal || x.op == columnar.NotEqual {
		return nil
	}
	a, b, op := n.args[0], n.args[1], x.op
	if a.isTimeOf(v) {
		a, b, op = b, a, swapped[op]
	}
	if !a.isTimeOf(element) || !b.isTimeOf(v) {
		return nil
	}
	return &orderCondition{other: a.is.(*field).of, own: b.is.(*field).of, op: op}
}

func (n *node) isTimeOf(v *binder) bool {
	x, ok := n.is.(*field)
	return ok && (x.of == "start" || x.of == "end") && n.args[0].isVariable(v)
}

func (x *orderCondition) name() string {
	return fmt.Sprintf("order %s %s %s", x.other, comparisonNames[x.op], x.own)
}

func (*orderCondition) traits() traits { return traits{cost: costOrder} }

func (*orderCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	s.never = e.simple[p.args[0].id].never
}

// orderState are the least, or greatest, times of the traces of the strip.
type orderState struct {
	stamp uint64
	has   columnar.Bits // the traces that have one
	times []trace.Time
}

func (e *evaluation) times(field string) []trace.Time {
	if field == "start" {
		return e.batch.Starts
	}
	return e.batch.Ends
}

// find returns the times of the traces of the strip that decide.
func (x *orderCondition) find(e *evaluation, among *predicate) *orderState {
	s, f := &e.orders[x.id], &e.frames[spans]
	if s.stamp == f.stamp {
		return s
	}
	s.stamp = f.stamp
	n := len(e.strip.roots)
	s.has = s.has.Resized(n)
	clear(s.has)
	s.times = sized(s.times, n)
	least := x.op == columnar.Less || x.op == columnar.LessEqual
	rows, _ := e.all(among)
	times := e.times(x.other)
	for w, in := range rows {
		for ; in != 0; in &= in - 1 {
			i := 64*w + bits.TrailingZeros64(in)
			at, of := times[int(f.first)+i], e.strip.owner[i]
			switch {
			case !s.has.Has(of):
				s.has.Set(of)
				s.times[of] = at
			case least:
				s.times[of] = min(s.times[of], at)
			default:
				s.times[of] = max(s.times[of], at)
			}
		}
	}
	return s
}

func (x *orderCondition) evaluate(e *evaluation, p *predicate, mask, t, _ columnar.Bits) {
	s := x.find(e, p.args[0])
	own := e.times(x.own)[e.frames[spans].first:]
	for w, in := range mask {
		var out uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			i := 64*w + k
			if of := e.strip.owner[i]; s.has.Has(of) {
				out |= x.passes(s.times[of], own[i]) << k
			}
		}
		t[w] = out
	}
}

// passes returns 1 if the times compare so. It is branch-free, because the outcome is unpredictable.
func (x *orderCondition) passes(other, own trace.Time) uint64 {
	isGreater, isLess := bit(other > own), bit(other < own)
	switch x.op {
	case columnar.Less:
		return isLess
	case columnar.LessEqual:
		return isGreater ^ 1
	case columnar.Greater:
		return isGreater
	}
	return isLess ^ 1
}
