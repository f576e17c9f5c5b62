package engine

import (
	"fmt"
	"slices"

	"github.com/google/cel-go/common/ast"

	"github.com/betracehq/betrace/trace/columnar"
)

// quantifier is exists, all, exists_one or count over the spans of the trace, or over spans, events or links that are
// related to an object. Its operands are the body and, except for all spans, the object.
type quantifier struct {
	quantity quantity
	list     listKind
	binder   *binder
	// plan is how it is evaluated for one row, if it is.
	plan *rowPlan
}

// quantity is what a quantifier requires of the elements for which its body is true.
type quantity uint8

const (
	quantExists quantity = iota
	quantAll
	quantOne
	quantCount // their number
)

var quantityNames = [...]string{"exists", "all", "exists_one", "count"}

// listKind is what a quantifier ranges over.
type listKind uint8

const (
	listSpans listKind = iota
	listChildren
	listAncestors
	listDescendants
	listEvents
	listLinks
)

// lists are the names of lists, and the tables of their elements.
var lists = [...]struct {
	name   string
	domain domain
}{{"spans", spans}, {"children", spans}, {"ancestors", spans}, {"descendants", spans}, {"events", events}, {"links", links}}

func newQuantifier(quantity quantity, list listKind, b *binder, of, body *node) *node {
	args := []*node{body}
	if of != nil {
		args = append(args, of)
	}
	return newNode(&quantifier{quantity: quantity, list: list, binder: b}, quantity != quantCount, args...)
}

func (l *lowering) comprehension(c ast.ComprehensionExpr) *node {
	if c.HasIterVar2() {
		return nil
	}
	quantity, body, ok := quantifierOf(c)
	if !ok {
		return nil
	}
	return l.over(quantity, c.IterRange(), c.IterVar(), body)
}

// lowerSize lowers the size of a filtered list, or of spans, children, events and the like.
func lowerSize(l *lowering, _ ast.Expr, call ast.CallExpr) *node {
	of := call.Target()
	if !call.IsMemberFunction() {
		of = call.Args()[0]
	}
	if of.Kind() == ast.ComprehensionKind {
		c := of.AsComprehension()
		condition, ok := filterOf(c)
		if !ok || c.HasIterVar2() {
			return nil
		}
		return l.try(func() *node {
			if n := l.over(quantCount, c.IterRange(), c.IterVar(), condition); n != nil && n.args[0].total {
				return n
			}
			return nil
		})
	}
	if _, _, ok := l.listOf(of); !ok {
		return nil
	}
	return l.over(quantCount, of, "", nil)
}

// listOf recognises what a quantifier ranges over.
func (l *lowering) listOf(e ast.Expr) (kind listKind, of *node, ok bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return listSpans, nil, e.AsIdent() == "spans" && !l.isShadowed("spans")
	case ast.SelectKind:
		if e.AsSelect().IsTestOnly() || !l.x.IsA(e.AsSelect().Operand(), "Span") {
			return 0, nil, false
		}
		switch e.AsSelect().FieldName() {
		case "children":
			kind = listChildren
		case "events":
			kind = listEvents
		case "links":
			kind = listLinks
		default:
			return 0, nil, false
		}
		of = l.object(e.AsSelect().Operand())
	case ast.CallKind:
		switch e.AsCall().FunctionName() {
		case "ancestors":
			kind = listAncestors
		case "descendants":
			kind = listDescendants
		default:
			return 0, nil, false
		}
		of = l.object(e.AsCall().Target())
	}
	return kind, of, of != nil
}

// over lowers a quantifier over a list, which may be filtered. A nil body is true.
func (l *lowering) over(quantity quantity, list ast.Expr, name string, body ast.Expr) *node {
	var filters []ast.ComprehensionExpr
	for list.Kind() == ast.ComprehensionKind {
		f := list.AsComprehension()
		if _, ok := filterOf(f); !ok || f.HasIterVar2() {
			return nil
		}
		filters = append(filters, f)
		list = f.IterRange()
	}
	kind, of, ok := l.listOf(list)
	if !ok || l.binders >= mostBinders {
		return nil
	}
	b := l.bind(lists[kind].domain)
	in := func(name string, e ast.Expr) *node {
		l.scope = append(l.scope, scoped{name, b})
		defer func() { l.scope = l.scope[:len(l.scope)-1] }()
		return l.truth(e)
	}
	var conditions []*node
	for i := len(filters) - 1; i >= 0; i-- {
		condition, _ := filterOf(filters[i])
		n := in(filters[i].IterVar(), condition)
		if !n.total {
			return nil // an error in a filter is an error of the list, whatever the body is
		}
		conditions = append(conditions, n)
	}
	n := newConstant(boolValue(true))
	if body != nil {
		n = in(name, body)
	}
	if len(conditions) > 0 {
		filter := newLogic(false, conditions...)
		if quantity == quantAll {
			n = newLogic(true, newNot(filter), n)
		} else {
			n = newLogic(false, filter, n)
		}
	}
	return newQuantifier(quantity, kind, b, of, n)
}

func (x *quantifier) name() string {
	return fmt.Sprintf("%s %s v%d", quantityNames[x.quantity], lists[x.list].name, x.binder.id)
}

func (x *quantifier) binds() *binder { return x.binder }

// mayFail: an ancestor in a cycle occurs twice.
func (x *quantifier) mayFail(*node) bool {
	return x.list == listAncestors && (x.quantity == quantOne || x.quantity == quantCount)
}

// condition returns the predicate of a quantifier whose body does not depend on the row.
func (x *quantifier) condition(c *compiler, n *node, v *binder) *predicate {
	body := n.args[0]
	if x.quantity == quantExists {
		if p, ok := c.existsApart(x, n, v); ok {
			return p
		}
	}
	switch {
	case !body.usesOnly(x.binder):
		if x.quantity == quantExists && x.list == listSpans && v != nil && v.domain == spans {
			return c.ordered(body, x.binder, v)
		}
		return nil
	case x.list != listSpans:
		return c.related(x, n, v)
	case v != nil:
		return nil // it uses v, so this is not reached
	}
	of := c.condition(body, x.binder)
	switch x.quantity {
	case quantExists:
		return c.exists(of)
	case quantAll:
		return c.not(c.exists(c.not(of)))
	case quantOne:
		return c.count(of, columnar.Equal, 1)
	}
	return nil
}

// existsApart separates the conditions of an exists that do not depend on the element. It returns false if there are
// none.
func (c *compiler) existsApart(x *quantifier, n *node, v *binder) (*predicate, bool) {
	var apart, rest []*node
	for _, part := range conjuncts(n.args[0]) {
		if !part.uses(x.binder) && part.total && !is[*constant](part) {
			apart = append(apart, part)
		} else {
			rest = append(rest, part)
		}
	}
	if len(apart) == 0 {
		return nil, false
	}
	if len(rest) == 0 {
		rest = []*node{newConstant(boolValue(true))}
	}
	var of *node
	if len(n.args) > 1 {
		of = n.args[1]
	}
	ps := []*predicate{c.condition(newQuantifier(x.quantity, x.list, x.binder, of, newLogic(false, rest...)), v)}
	for _, a := range apart {
		ps = append(ps, c.condition(a, v))
	}
	if slices.Contains(ps, nil) {
		return nil, true
	}
	return c.join(false, domainOf(v), ps...), true
}

// related returns the predicate of a quantifier over spans, events or links that are related to the row.
func (c *compiler) related(x *quantifier, n *node, v *binder) *predicate {
	at, ok := c.place(n.args[1], v)
	if !ok || x.quantity == quantOne || x.quantity == quantCount {
		return nil
	}
	of := c.condition(n.args[0], x.binder)
	if of == nil {
		return nil
	}
	if x.quantity == quantAll {
		of = c.not(of)
	}
	some := c.constant(spans, false)
	if !of.isFalse() {
		of.keep = true
		some = c.predicate(relatedConditionOf(x.list), spans, of)
	}
	if x.quantity == quantAll {
		some = c.not(some)
	}
	return at.of(some)
}

// relatedConditionOf returns the condition that an operand is true of an element of a list.
func relatedConditionOf(list listKind) condition {
	switch list {
	case listChildren:
		return &childCondition{}
	case listAncestors:
		return &parentCondition{isAncestor: true}
	case listDescendants:
		return &childCondition{isDescendant: true}
	}
	return &memberCondition{list}
}
