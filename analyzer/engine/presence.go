package engine

import (
	"fmt"

	"github.com/google/cel-go/common/ast"

	"github.com/betracehq/betrace/trace/columnar"
)

// hasAttribute is whether a span, event or link has an attribute.
type hasAttribute struct{ of attribute }

func (x *hasAttribute) name() string { return "has " + x.of.name() }

func (x *hasAttribute) condition(c *compiler, n *node, v *binder) *predicate {
	return c.leaf(newNode(&x.of, false, n.args...), v, c.has)
}

func (x *hasAttribute) prepare(c *compiler, n *node) { x.of.prepare(c, n) }

func (x *hasAttribute) value(e *evaluation, n *node) value {
	return boolValue(x.of.value(e, n).kind != kindAbsent)
}

// isPresent is whether a parent or a root is in the trace.
type isPresent struct{}

// presence lowers has() of a field.
func (l *lowering) presence(of ast.Expr, field string) *node {
	switch {
	case field == "parent" && l.x.IsA(of, "Span"):
		if n := l.object(of); n != nil {
			return newNode(&isPresent{}, true, newNode(&parentOf{}, false, n))
		}
	case field == "root" && l.isTrace(of):
		return newNode(&isPresent{}, true, newNode(&rootOf{}, false))
	}
	return l.unknown("has(….%s)", field)
}

func (*isPresent) name() string { return "present" }

func (*isPresent) condition(c *compiler, n *node, v *binder) *predicate {
	if at, ok := c.place(n.args[0], v); ok {
		return at.of(c.constant(spans, true))
	}
	return nil
}

func (*isPresent) value(e *evaluation, n *node) value {
	_, _, ok := e.object(n.args[0])
	return boolValue(ok)
}

// hasCondition is true of rows that have a value in a column.
type hasCondition struct{ column *column }

func (c *compiler) has(d domain, col *column) *predicate { return c.predicate(&hasCondition{col}, d) }

func (x *hasCondition) name() string { return fmt.Sprintf("has %v", x.column) }

func (*hasCondition) traits() traits { return traits{cost: costHas, keep: true} }

func (x *hasCondition) simplify(e *evaluation, _ *predicate, s *simplified) {
	col := &e.columns[x.column.id]
	s.always, s.never = col.isField, !col.isField && col.attribute == nil
}

func (x *hasCondition) evaluate(e *evaluation, p *predicate, mask, t, _ columnar.Bits) {
	c, f := e.columns[x.column.id].attribute, &e.frames[p.domain]
	for w, in := range mask {
		t[w] = c.Present(int(f.first>>6)+w, in)
	}
	for row := range c.Others { // mask is not t, since the result is kept
		if row >= f.low && row < f.high {
			if i := row - f.first; mask.Has(i) {
				t.Set(i)
			}
		}
	}
}

// isTextCondition is true of rows that have a string in a column of attributes.
type isTextCondition struct{ column *column }

func (c *compiler) isText(d domain, col *column) *predicate {
	if col.field != "" {
		return c.constant(d, true)
	}
	return c.predicate(&isTextCondition{col}, d)
}

func (x *isTextCondition) name() string { return fmt.Sprintf("isText %v", x.column) }

func (*isTextCondition) traits() traits { return traits{cost: costIsText, keep: true} }

func (x *isTextCondition) simplify(e *evaluation, _ *predicate, s *simplified) {
	a := e.columns[x.column.id].attribute
	s.never = a == nil || a.Text.Codes == nil
}

func (x *isTextCondition) evaluate(e *evaluation, p *predicate, mask, t, _ columnar.Bits) {
	c, first := e.columns[x.column.id].attribute, int(e.frames[p.domain].first>>6)
	for w, in := range mask {
		t[w] = c.Text.Present(first+w, in)
	}
}

// guards returns predicates that have to be true for a strict expression to be true. They exclude rows before the
// expression is evaluated row by row.
func (c *compiler) guards(n *node, v *binder) (guards []*predicate) {
	x, ok := n.is.(strict)
	if !ok || v == nil || v.domain != spans {
		return nil
	}
	var collect func(operands []*node, all []*node)
	collect = func(operands, all []*node) {
		for _, o := range operands {
			if o.hasFallibleSibling(all) { // its error counts, whether the operand is absent or not
				continue
			}
			switch o.is.(type) {
			case *attribute:
				if p := c.leaf(o, v, c.has); p != nil {
					guards = append(guards, p)
				}
			case *calculation:
				collect(o.args, o.args)
			}
		}
	}
	required := x.required(n)
	collect(required, required)
	return guards
}

func (n *node) hasFallibleSibling(all []*node) bool {
	for _, other := range all {
		if other != n && !other.total {
			return true
		}
	}
	return false
}
