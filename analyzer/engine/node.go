package engine

import (
	"strconv"
	"strings"
)

// domain is the table whose rows a variable stands for.
type domain uint8

const (
	traces domain = iota
	spans
	events
	links
	resources
	numDomains
)

var domainNames = [numDomains]string{"trace", "span", "event", "link", "resource"}

// mostBinders is the maximum number of variables of an expression: node.free has a bit for each.
const mostBinders = 64

// binder is a variable of a quantifier.
type binder struct {
	id     int
	domain domain
}

// domainOf returns the table of a variable's rows. A nil binder stands for the trace.
func domainOf(v *binder) domain {
	if v == nil {
		return traces
	}
	return v.domain
}

// expression is the operator of a node. Every operator of the language implements it.
type expression interface {
	// name identifies the expression among all that have equal operands.
	name() string
	// condition returns a predicate of the rows of v, or of traces if v is nil. It returns nil if the
	// expression has to be evaluated row by row.
	condition(c *compiler, n *node, v *binder) *predicate
	// value evaluates the expression for one row: variables are bound to the rows in e.row.
	value(e *evaluation, n *node) value
}

// These interfaces are for expressions that need them.
type (
	// A fallible expression may be unknown although its operands are known.
	fallible interface{ mayFail(n *node) bool }
	// A strict expression is false if one of the operands that required returns is absent.
	strict interface{ required(n *node) []*node }
	// A binding expression binds a variable in its operands.
	binding interface{ binds() *binder }
	// A prepared expression has to look up columns, or more, before it is evaluated row by row.
	prepared interface{ prepare(c *compiler, n *node) }
)

// node is a lowered expression: names are resolved and macros are recognised.
type node struct {
	is   expression
	args []*node
	// isBool is set if the value is a boolean for every row; an absent value is false then.
	isBool bool
	// total is set if the value is known for every row.
	total bool
	// free has a bit, by ID, for each variable that the node uses and does not bind itself.
	free uint64
	key  string
}

func newNode(is expression, isBool bool, args ...*node) *node {
	n := &node{is: is, args: args, isBool: isBool, total: true}
	var key strings.Builder
	key.WriteString("(" + is.name())
	for _, a := range args {
		n.free |= a.free
		n.total = n.total && a.total
		key.WriteString(" " + a.key)
	}
	key.WriteByte(')')
	n.key = key.String()
	if x, ok := is.(*variable); ok {
		n.free |= 1 << x.binder.id
	}
	if x, ok := is.(binding); ok {
		n.free &^= 1 << x.binds().id
	}
	if f, ok := is.(fallible); ok && f.mayFail(n) {
		n.total = false
	}
	return n
}

// uses reports whether a node uses a variable.
func (n *node) uses(v *binder) bool { return n.free>>v.id&1 != 0 }

// usesOnly reports whether a node uses no variable but one.
func (n *node) usesOnly(v *binder) bool { return n.free&^(1<<v.id) == 0 }

func is[E expression](n *node) bool {
	_, ok := n.is.(E)
	return ok
}

// constant is an expression with a value that does not depend on the trace.
type constant struct{ of value }

func newConstant(v value) *node { return newNode(&constant{v}, v.kind == kindBool) }

func (x *constant) name() string { return x.of.String() }

func (x *constant) condition(c *compiler, _ *node, v *binder) *predicate {
	return c.constant(domainOf(v), x.of.truth() == isTrue)
}

func (x *constant) value(*evaluation, *node) value { return x.of }

// unknown is an expression that the interpreter has to evaluate.
type unknown struct{}

func (*unknown) name() string       { return "?" }
func (*unknown) mayFail(*node) bool { return true }

func (*unknown) condition(c *compiler, _ *node, v *binder) *predicate {
	d := domainOf(v)
	if d != spans && d != traces {
		return nil
	}
	return c.predicate(&unknownCondition{}, d)
}

func (*unknown) value(*evaluation, *node) value { return unknownValue }

// variable is the span, event or link that a quantifier's variable stands for.
type variable struct{ binder *binder }

func newVariable(b *binder) *node { return newNode(&variable{b}, false) }

func (x *variable) name() string                                 { return "v" + strconv.Itoa(x.binder.id) }
func (*variable) condition(*compiler, *node, *binder) *predicate { return nil }
func (*variable) value(e *evaluation, n *node) value             { return e.objectValue(n) }

// isVariable reports whether a node is a variable.
func (n *node) isVariable(v *binder) bool {
	x, ok := n.is.(*variable)
	return ok && x.binder.id == v.id
}
