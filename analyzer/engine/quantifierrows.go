package engine

import (
	"bytes"
	"context"
	"math"
	"slices"

	"github.com/betracehq/betrace/trace/columnar"
)

// Quantifiers are evaluated for one row here.

// rowPlan is how a quantifier is evaluated for one row: rest is evaluated for the elements of which candidates is
// true. For quantAll, the body is true for all other elements.
type rowPlan struct {
	candidates *predicate  // nil: all elements
	rest       *node       // nil: nothing
	simple     *simpleRest // rest, if it has that form
}

// simpleRest are comparisons, all of which have to be true, of the element with values that do not depend on it.
type simpleRest struct {
	id    int // in Plan.simpleRests
	parts []simplePart
}

// mostParts is the maximum number of parts of a simpleRest.
const mostParts = 3

// simplePart compares an attribute or a field of the element.
type simplePart struct {
	op        columnar.Comparison
	attribute *attribute // of the element; nil if it is a field
	field     *field
	with      *node
	// differs: the part is whether the element's attribute is not equal to the same attribute of another span.
	differs bool
}

func (x *quantifier) prepare(c *compiler, n *node) {
	if x.plan != nil {
		return
	}
	x.plan = &rowPlan{}
	isAll := x.quantity == quantAll
	var candidates []*predicate
	var rest []*node
	for _, part := range operandsOf(n.args[0], isAll) {
		var p *predicate
		if part.usesOnly(x.binder) && part.total {
			p = c.condition(part, x.binder)
		}
		if p == nil || p.cost >= costRow {
			rest = append(rest, part)
			continue
		}
		if isAll {
			p = c.not(p)
		}
		candidates = append(candidates, p)
	}
	if len(candidates) > 0 {
		x.plan.candidates = c.join(false, x.binder.domain, candidates...)
		x.plan.candidates.keep = true
	}
	if len(rest) > 0 {
		x.plan.rest = newLogic(isAll, rest...)
		if !isAll {
			x.plan.simple = c.simpleRest(x.plan.rest, x.binder)
		}
	}
}

// simpleRest returns the comparisons that the rest of a body is; nil if it is another.
func (c *compiler) simpleRest(rest *node, element *binder) *simpleRest {
	s := &simpleRest{id: c.plan.simpleRests}
	for _, n := range conjuncts(rest) {
		x, ok := n.is.(*comparison)
		if !ok || len(s.parts) == mostParts {
			return nil
		}
		of, with, op := n.args[0], n.args[1], x.op
		if !of.uses(element) {
			of, with, op = with, of, swapped[op]
		}
		part := simplePart{op: op, with: with}
		part.attribute, _ = of.is.(*attribute)
		part.field, _ = of.is.(*field)
		if with.uses(element) || part.attribute == nil && part.field == nil || !of.args[0].isVariable(element) {
			return nil
		}
		if same, ok := with.is.(*attribute); ok && op == columnar.NotEqual && part.attribute != nil && element.domain == spans && same.isSameAs(part.attribute) {
			other, ok := with.args[0].is.(*variable)
			part.differs = ok && other.binder.domain == spans
		}
		s.parts = append(s.parts, part)
	}
	c.plan.simpleRests++
	return s
}

// value evaluates a quantifier over the elements that are related to one row.
func (x *quantifier) value(e *evaluation, n *node) value {
	of := int32(0)
	if len(n.args) > 1 {
		var ok bool
		if _, of, ok = e.object(n.args[1]); !ok {
			if n.isBool {
				return boolValue(false)
			}
			return value{}
		}
	}
	q := quantification{e: e, x: x}
	if x.plan.candidates != nil {
		q.candidates = e.row.candidates[x.plan.candidates.id]
	}
	var known *lastResult
	if simple := x.plan.simple; simple != nil {
		for i := range simple.parts {
			q.with[i] = e.value(simple.parts[i].with)
		}
		if x.list == listSpans && len(simple.parts) == 1 {
			if known = &e.row.last[simple.id]; known.isOf(e, q.with[0]) {
				return known.result
			}
		}
		if slices.ContainsFunc(simple.parts, func(p simplePart) bool { return p.differs && e.hasOneText(p.attribute) }) {
			return q.result()
		}
	}
	b := e.batch
	low, high, first := b.First[e.row.trace], b.First[e.row.trace+1], e.frames[spans].first
	switch x.list {
	case listSpans:
		q.each(low, high, first, nil)
	case listChildren:
		q.each(low, high, first, func(row int32) bool { return b.Parents[row] == of })
	case listDescendants:
		q.each(low, high, first, func(row int32) bool { return e.isAbove(of, row, high-low) })
	case listEvents:
		if b.Events.From != nil {
			q.each(b.Events.From[of], b.Events.To[of], 0, nil)
		}
	case listLinks:
		if b.Links.From != nil {
			q.each(b.Links.From[of], b.Links.To[of], 0, nil)
		}
	case listAncestors:
		steps := int32(0)
		for at := b.Parents[of]; at >= 0 && !q.done; at = b.Parents[at] {
			if steps++; steps > high-low { // a cycle: all have been evaluated
				q.again = true
				break
			}
			if q.candidates == nil || q.candidates.Has(at-first) {
				q.element(at)
			}
		}
	}
	if known != nil {
		*known = lastResult{e.frames[spans].stamp, e.row.trace, q.with[0], q.result()}
	}
	return q.result()
}

// lastResult is the last result of a quantifier over the spans of a trace that compares them with one value. Spans of
// one trace often have the same value.
type lastResult struct {
	stamp  uint64
	trace  int32
	with   value
	result value
}

func (r *lastResult) isOf(e *evaluation, with value) bool {
	return r.stamp == e.frames[spans].stamp && r.trace == e.row.trace && r.with.kind == with.kind && r.with.i == with.i &&
		math.Float64bits(r.with.f) == math.Float64bits(with.f) && bytes.Equal(r.with.s, with.s)
}

// sameText holds in which traces of the strip all strings of a column are equal.
type sameText struct {
	stamp uint64
	of    columnar.Bits
}

// hasOneText reports whether all spans of the trace that have an attribute certainly have the same string.
func (e *evaluation) hasOneText(x *attribute) bool {
	c := e.columns[x.own.id].attribute
	if x.of.Scope == columnar.ScopeAny && e.columns[x.resource.id].attribute != nil || x.of.Scope == columnar.ScopeResource {
		return false
	}
	if c == nil {
		return true
	}
	if c.IsInt != nil || c.IsDouble != nil || c.IsBool != nil || len(c.Others) > 0 {
		return false
	}
	s, f := &e.row.same[x.own.id], &e.frames[traces]
	if s.stamp != f.stamp {
		s.stamp = f.stamp
		s.of = s.of.Resized(64 * f.words)
		clear(s.of)
		for t := f.low; t < f.high; t++ {
			first, isOne := uint32(0), true
			for _, code := range c.Text.Codes[e.batch.First[t]:e.batch.First[t+1]] {
				if first == 0 {
					first = code
				}
				isOne = isOne && (code == 0 || code == first)
			}
			if isOne {
				s.of.Set(t - f.first)
			}
		}
	}
	return s.of.Has(e.row.trace - f.first)
}

// isAbove reports whether a span is an ancestor of another, in a trace of n spans.
func (e *evaluation) isAbove(above, row, n int32) bool {
	for at, steps := e.batch.Parents[row], int32(0); at >= 0 && steps <= n; at, steps = e.batch.Parents[at], steps+1 {
		if at == above {
			return true
		}
	}
	return false
}

// quantification is a quantifier that is being evaluated for one row.
type quantification struct {
	e          *evaluation
	x          *quantifier
	candidates columnar.Bits
	with       [mostParts]value // of the parts of a simpleRest
	count      int64            // of elements with a true body, for quantAll with a false one
	unknown    bool
	again      bool // elements may have been evaluated twice
	done       bool
}

// each evaluates the rows from low to high that are candidates and are accepted. A nil function accepts all.
func (q *quantification) each(low, high, first int32, accepts func(row int32) bool) {
	for row := low; row < high && !q.done; row++ {
		if q.candidates != nil {
			next := q.candidates.Next(row - first)
			if next < 0 || next+first >= high {
				return
			}
			row = next + first
		}
		if accepts == nil || accepts(row) {
			q.element(row)
		}
	}
}

func (q *quantification) element(row int32) {
	e, plan, isAll := q.e, q.x.plan, q.x.quantity == quantAll
	if e.row.steps++; e.row.steps&0xfff == 0 && context.Cause(e.ctx) != nil {
		q.done, q.unknown = true, true // the caller checks the context
		return
	}
	holds := isTrue
	switch {
	case plan.simple != nil:
		holds = q.compare(row)
	case plan.rest != nil:
		e.row.env[q.x.binder.id] = row
		holds = e.value(plan.rest).truth()
	case isAll:
		holds = isFalse // as it is for all candidates
	}
	switch holds {
	case isUnknown:
		q.unknown = true
	case isTrue:
		if !isAll {
			q.count++
			q.done = q.x.quantity == quantExists
		}
	case isFalse:
		if isAll {
			q.count++
			q.done = true
		}
	}
}

// compare evaluates the parts of a simpleRest for an element.
func (q *quantification) compare(row int32) truth {
	e, holds := q.e, isTrue
	for i := range q.x.plan.simple.parts {
		p := &q.x.plan.simple.parts[i]
		var v value
		if p.attribute != nil {
			v = p.attribute.at(e, row)
		} else {
			v = p.field.at(e, objectKinds[q.x.binder.domain], row)
		}
		switch compare(p.op, v, q.with[i]) {
		case isFalse:
			return isFalse
		case isUnknown:
			holds = isUnknown
		}
	}
	return holds
}

func (q *quantification) result() value {
	switch q.x.quantity {
	case quantExists, quantAll:
		if q.count > 0 {
			return boolValue(q.x.quantity == quantExists)
		}
		if q.unknown {
			return unknownValue
		}
		return boolValue(q.x.quantity == quantAll)
	}
	if q.unknown || q.again {
		return unknownValue
	}
	if q.x.quantity == quantOne {
		return boolValue(q.count == 1)
	}
	return value{kind: kindInt, i: q.count}
}
