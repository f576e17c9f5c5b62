package engine

import (
	"github.com/google/cel-go/common/ast"

	"github.com/betracehq/betrace/trace/columnar"
)

// membership is x in [a, b]: whether the first operand is equal to one of the others.
type membership struct{}

func lowerMembership(l *lowering, _ ast.Expr, call ast.CallExpr) *node {
	element, list := call.Args()[0], call.Args()[1]
	if list.Kind() != ast.ListKind || len(list.AsList().OptionalIndices()) > 0 {
		if n := l.inServices(element, list); n != nil {
			return n
		}
		return l.unknown("in a list or a map that is no literal")
	}
	of, unknownOf := l.operands(append([]ast.Expr{element}, list.AsList().Elements()...)...)
	if unknownOf != nil {
		return unknownOf
	}
	return newNode(&membership{}, true, of...)
}

// inServices lowers "x" in trace.services, which is spans.exists(s, s.service == "x").
func (l *lowering) inServices(element, list ast.Expr) *node {
	if list.Kind() != ast.SelectKind || list.AsSelect().FieldName() != "services" || !l.isTrace(list.AsSelect().Operand()) {
		return nil
	}
	x := l.lower(element)
	if !is[*constant](x) {
		return nil
	}
	b := l.bind(spans)
	return newQuantifier(quantExists, listSpans, b, nil, newComparison(columnar.Equal, newField("service", newVariable(b)), x))
}

func (*membership) name() string { return "in" }

// mayFail: the interpreter compares lists and maps.
func (*membership) mayFail(n *node) bool {
	for _, a := range n.args[1:] {
		if a.mayBeList() && n.args[0].mayBeList() {
			return true
		}
	}
	return false
}

func (*membership) required(n *node) []*node {
	for _, a := range n.args[1:] {
		if !a.total {
			return nil
		}
	}
	return n.args[:1]
}

func (*membership) condition(c *compiler, n *node, v *binder) *predicate {
	list := n.args[1:]
	for _, a := range list {
		if !is[*constant](a) {
			return nil
		}
	}
	return c.leaf(n.args[0], v, func(d domain, col *column) *predicate {
		if col.field == "kind" || col.field == "status" {
			return c.enum(d, col, func(name value) bool {
				for _, a := range list {
					if compare(columnar.Equal, name, a.is.(*constant).of) == isTrue {
						return true
					}
				}
				return false
			})
		}
		var ps []*predicate
		for _, a := range list {
			ps = append(ps, c.compared(d, col, columnar.Equal, a.is.(*constant).of))
		}
		return c.join(true, d, ps...)
	})
}

func (*membership) value(e *evaluation, n *node) value {
	element := e.value(n.args[0])
	if element.kind == kindUnknown {
		return unknownValue
	}
	found := isFalse
	for _, a := range n.args[1:] {
		switch compare(columnar.Equal, element, e.value(a)) {
		case isTrue:
			if found == isFalse {
				found = isTrue
			}
		case isUnknown:
			found = isUnknown // an error in the list is an error of the expression
		}
	}
	return found.value()
}
