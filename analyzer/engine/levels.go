package engine

import "github.com/betracehq/betrace/trace/columnar"

// Conditions on the resource, the trace and the root of the rows that are evaluated.

// place is a span as seen from a row: a number of parents up, from the row itself or from the root of the trace.
type place struct {
	c        *compiler
	parents  int
	fromRoot bool
}

// place returns the place of an object. It returns false if the object is not reached from the row that v stands for.
func (c *compiler) place(object *node, v *binder) (at place, ok bool) {
	at.c = c
	for is[*parentOf](object) {
		at.parents++
		object = object.args[0]
	}
	if is[*rootOf](object) {
		at.fromRoot = true
		return at, v == nil
	}
	return at, v != nil && object.isVariable(v) && (v.domain == spans || at.parents == 0)
}

// of returns the predicate of the row that a predicate of spans is true of the place.
func (at place) of(p *predicate) *predicate {
	for range at.parents {
		p = at.c.ofParent(p)
	}
	if at.fromRoot {
		return at.c.predicate(&rootCondition{}, traces, p)
	}
	return p
}

// rootOf is the root of the trace.
type rootOf struct{}

func (*rootOf) name() string                                   { return "root" }
func (*rootOf) condition(*compiler, *node, *binder) *predicate { return nil }
func (*rootOf) value(e *evaluation, n *node) value             { return e.objectValue(n) }

// rootCondition is true of traces of whose root the operand is true.
type rootCondition struct{}

func (*rootCondition) name() string   { return "root" }
func (*rootCondition) traits() traits { return traits{cost: costRoot} }

func (*rootCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	s.never = e.simple[p.args[0].id].never
}

func (*rootCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	ofT, ofU := e.all(p.args[0])
	first := e.frames[spans].first
	of := e.scratch.CopyOf(mask)
	clear(t)
	if !p.total {
		clear(u)
	}
	for i := of.Next(0); i >= 0; i = of.Next(i + 1) {
		at := e.rootOf(i)
		switch {
		case at == noRoot:
		case ofT.Has(at - first):
			t.Set(i)
		case !p.total && ofU.Has(at-first):
			u.Set(i)
		}
	}
}

// ofResource returns the predicate of spans of whose resource a predicate is true.
func (c *compiler) ofResource(p *predicate) *predicate {
	switch is := p.is.(type) {
	case *constantCondition:
		return c.constant(spans, is.of)
	case *textIsCondition:
		return c.textIs(spans, is.column, is.texts...) // evaluated by the class of the resource
	case *notCondition:
		return c.not(c.ofResource(p.args[0]))
	}
	if p.domain == spans {
		return p
	}
	return c.predicate(&resourceCondition{}, spans, p)
}

// resourceCondition is true of spans of whose resource the operand is true.
type resourceCondition struct{}

func (*resourceCondition) name() string   { return "ofResource" }
func (*resourceCondition) traits() traits { return traits{cost: costOfResource, keep: true} }

func (*resourceCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	t, u := e.all(p.args[0])
	s.never = t.IsEmpty() && u.IsEmpty()
}

func (*resourceCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	ofT, ofU := e.all(p.args[0])
	if !p.total {
		e.gather(ofU, mask, u)
	}
	e.gather(ofT, mask, t)
}

// gather sets out to the spans of the mask whose resource is in of.
func (e *evaluation) gather(of, mask, out columnar.Bits) {
	if of.IsEmpty() {
		clear(out)
		return
	}
	rows, f := e.batch.Resources, &e.frames[spans]
	for w, in := range mask {
		var found uint64
		if in != 0 {
			first := int(f.first) + 64*w
			for k, r := range rows[first:min(first+64, len(rows))] {
				found |= of[r>>6] >> (r & 63) & 1 << (k & 63)
			}
		}
		out[w] = in & found
	}
}

// ofTrace returns the predicate of spans of whose trace a predicate is true.
func (c *compiler) ofTrace(p *predicate) *predicate {
	if is, ok := p.is.(*constantCondition); ok {
		return c.constant(spans, is.of)
	}
	return c.predicate(&traceCondition{}, spans, p)
}

// traceCondition is true of spans of whose trace the operand is true.
type traceCondition struct{}

func (*traceCondition) name() string   { return "ofTrace" }
func (*traceCondition) traits() traits { return traits{cost: costOfTrace} }

func (*traceCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	of := &e.simple[p.args[0].id]
	s.always, s.never = of.always, of.never
}

func (*traceCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	asked := e.scratch.Take(e.frames[traces].words)
	e.tracesOf(mask, asked)
	ofT, ofU := e.scratch.Take(len(asked)), e.scratch.Take(len(asked))
	e.evaluate(p.args[0], asked, ofT, ofU)
	if !p.total {
		e.spansOf(ofU, u, mask)
	}
	e.spansOf(ofT, t, mask)
}
