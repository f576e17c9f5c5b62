package engine

import (
	"math/bits"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// timeOrder compares a time of a span of the trace with one of the span's own.
type timeOrder struct {
	id         int    // in Plan.orders
	other, own string // fields: start or end
	op         columnar.Comparison
}

// ordered is whether one of the trace's spans is such as the body says, which compares one of its
// times with one of v's and asks nothing else about v; nil if it does not. The least or greatest
// time of a trace decides.
func (c *compiler) ordered(body *node, element, v *binder) *predicate {
	var of []*predicate
	var found *timeOrder
	for _, part := range conjuncts(body) {
		if part.free>>v.id&1 != 0 {
			if found != nil {
				return nil
			}
			if found = timeOrderOf(part, element, v); found == nil {
				return nil
			}
			continue
		}
		p := c.vector(part, element)
		if p == nil || !p.total {
			return nil
		}
		of = append(of, p)
	}
	if found == nil {
		return nil
	}
	among := c.join(predAnd, spans, of...)
	if among.kind == predFalse {
		return c.constant(spans, false)
	}
	among.memo = true
	p := c.predicate(predicate{kind: predOrder, domain: spans, args: []*predicate{among}, times: *found}, found.other, found.own, found.op)
	if p.refs == 1 {
		p.times.id = c.plan.orders
		c.plan.orders++
	}
	return p
}

// timeOrderOf returns what a comparison of times says of an element; nil if it is none.
func timeOrderOf(n *node, element, v *binder) *timeOrder {
	if n.op != opCompare || n.comparison == columnar.Equal || n.comparison == columnar.NotEqual {
		return nil
	}
	a, b, op := n.args[0], n.args[1], n.comparison
	if isTimeOf(a, v) {
		a, b, op = b, a, flipped[op]
	}
	if !isTimeOf(a, element) || !isTimeOf(b, v) {
		return nil
	}
	return &timeOrder{other: a.field, own: b.field, op: op}
}

func isTimeOf(n *node, of *binder) bool {
	return n.op == opField && (n.field == "start" || n.field == "end") && n.args[0].op == opVar && n.args[0].binder.id == of.id
}

// orderData are the least, or greatest, times by trace of the strip.
type orderData struct {
	stamp uint64
	has   columnar.Bits // where there is one
	times []trace.Time
}

func (j *Judge) timesOf(field string) []trace.Time {
	if field == "start" {
		return j.b.Starts
	}
	return j.b.Ends
}

// orderOf returns the times of the traces of the strip that decide.
func (j *Judge) orderOf(p *predicate, f *frame) *orderData {
	d := &j.orders[p.times.id]
	least := p.times.op == columnar.Less || p.times.op == columnar.LessEqual
	if d.stamp != f.stamp {
		d.stamp = f.stamp
		d.has = d.has.Resized(len(j.roots))
		clear(d.has)
		d.times = sized(d.times, len(j.roots))
		among, _ := j.full(p.args[0])
		times := j.timesOf(p.times.other)
		for w, in := range among {
			for ; in != 0; in &= in - 1 {
				i := 64*w + bits.TrailingZeros64(in)
				at, of := times[int(f.first)+i], j.owner[i]
				switch {
				case !d.has.Has(of):
					d.has.Set(of)
					d.times[of] = at
				case least:
					d.times[of] = min(d.times[of], at)
				default:
					d.times[of] = max(d.times[of], at)
				}
			}
		}
	}
	return d
}

func (j *Judge) order(p *predicate, f *frame, mask, t columnar.Bits) {
	d := j.orderOf(p, f)
	own := j.timesOf(p.times.own)[f.first:]
	for w, in := range mask {
		var out uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			i := 64*w + k
			if of := j.owner[i]; d.has.Has(of) {
				out |= p.times.passes(d.times[of], own[i]) << k
			}
		}
		t[w] = out
	}
}

// passes returns 1 if the times compare so, without branches: which of two times is the later is hard
// to foresee.
func (o *timeOrder) passes(other, own trace.Time) uint64 {
	var isGreater, isLess uint64
	if other > own {
		isGreater = 1
	}
	if other < own {
		isLess = 1
	}
	switch o.op {
	case columnar.Less:
		return isLess
	case columnar.LessEqual:
		return isGreater ^ 1
	case columnar.Greater:
		return isGreater
	}
	return isLess ^ 1
}
