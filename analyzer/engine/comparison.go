package engine

import (
	"bytes"
	"cmp"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// comparison is ==, !=, <, <=, > or >=. Compared with a constant, a column becomes a condition on its numbers
// (number.go), strings (text.go, textmatch.go), booleans (boolean.go) or names (enum.go).
type comparison struct{ op columnar.Comparison }

var comparisonsOf = map[string]columnar.Comparison{
	lang.FunctionEquals: columnar.Equal, lang.FunctionNotEquals: columnar.NotEqual,
	operators.Less: columnar.Less, operators.LessEquals: columnar.LessEqual, operators.Greater: columnar.Greater, operators.GreaterEquals: columnar.GreaterEqual,
}

var comparisonNames = [...]string{
	columnar.Equal: "==", columnar.NotEqual: "!=", columnar.Less: "<", columnar.LessEqual: "<=", columnar.Greater: ">", columnar.GreaterEqual: ">=",
}

// swapped are the comparisons with their operands exchanged.
var swapped = [...]columnar.Comparison{
	columnar.Equal: columnar.Equal, columnar.NotEqual: columnar.NotEqual,
	columnar.Less: columnar.Greater, columnar.LessEqual: columnar.GreaterEqual, columnar.Greater: columnar.Less, columnar.GreaterEqual: columnar.LessEqual,
}

func lowerComparison(l *lowering, _ ast.Expr, call ast.CallExpr) *node {
	of, unknownOf := l.operands(call.Args()...)
	if unknownOf != nil {
		return unknownOf
	}
	return newComparison(comparisonsOf[call.FunctionName()], of[0], of[1])
}

// lowerBefore lowers a.before(b), which is a.end <= b.start.
func lowerBefore(l *lowering, _ ast.Expr, call ast.CallExpr) *node {
	if a, b := l.object(call.Target()), l.object(call.Args()[0]); a != nil && b != nil {
		return newComparison(columnar.LessEqual, newField("end", a), newField("start", b))
	}
	return l.unknown("before on other than spans of variables")
}

func newComparison(op columnar.Comparison, a, b *node) *node {
	return newNode(&comparison{op}, true, a, b)
}

func (x *comparison) name() string { return comparisonNames[x.op] }

// mayFail: the interpreter compares lists and maps.
func (x *comparison) mayFail(n *node) bool { return n.args[0].mayBeList() && n.args[1].mayBeList() }

func (n *node) mayBeList() bool { return is[*attribute](n) || is[*choice](n) || is[*unknown](n) }

func (x *comparison) required(n *node) []*node { return n.args }

// condition returns the predicate of a comparison with a constant.
func (x *comparison) condition(c *compiler, n *node, v *binder) *predicate {
	a, b, op := n.args[0], n.args[1], x.op
	if is[*constant](a) {
		a, b, op = b, a, swapped[op]
	}
	with, ok := b.is.(*constant)
	if !ok {
		return nil
	}
	if q, ok := a.is.(*quantifier); ok && v == nil {
		return c.countCompared(q, a, op, with.of)
	}
	return c.leaf(a, v, func(d domain, col *column) *predicate { return c.compared(d, col, op, with.of) })
}

// compared returns the predicate of a column compared with a constant.
func (c *compiler) compared(d domain, col *column, op columnar.Comparison, with value) *predicate {
	switch col.field {
	case "kind", "status":
		return c.enumCompared(d, col, op, with)
	case "duration":
		return c.durationCompared(d, col, op, with)
	case "start", "end", "time":
		v := &binder{0, d}
		return c.row(newComparison(op, newField(col.field, newVariable(v)), newConstant(with)), v)
	}
	switch with.kind {
	case kindText:
		return c.textCompared(d, col, op, with)
	case kindInt, kindDouble:
		if col.field == "" {
			return c.numberCompared(d, col, op, with)
		}
	case kindBool:
		if col.field == "" {
			return c.boolCompared(d, col, op, with)
		}
	}
	return c.constant(d, false) // a value of another type
}

func (x *comparison) value(e *evaluation, n *node) value {
	return compare(x.op, e.value(n.args[0]), e.value(n.args[1])).value()
}

// compare compares two values.
func compare(op columnar.Comparison, a, b value) truth {
	switch {
	case a.kind == kindUnknown || b.kind == kindUnknown:
		return isUnknown
	case a.kind == kindAbsent:
		return isFalse
	case a.kind == kindOther && b.kind == kindOther:
		return isUnknown
	}
	var c int
	ordered := true
	switch {
	case a.kind == kindInt && b.kind == kindInt:
		c = cmp.Compare(a.i, b.i)
	case a.kind == kindDouble && b.kind == kindDouble:
		c, ordered = trace.CompareDoubles(a.f, b.f)
	case a.kind == kindInt && b.kind == kindDouble:
		c, ordered = trace.CompareIntDouble(a.i, b.f)
	case a.kind == kindDouble && b.kind == kindInt:
		c, ordered = trace.CompareIntDouble(b.i, a.f)
		c = -c
	case a.kind != b.kind:
		return isFalse
	case a.kind == kindText && op == columnar.Equal:
		return truthOf(bytes.Equal(a.s, b.s))
	case a.kind == kindText:
		c = bytes.Compare(a.s, b.s)
	case a.kind == kindTime:
		c = cmp.Compare(uint64(a.i), uint64(b.i))
	case a.kind == kindBool || a.kind == kindDuration:
		c = cmp.Compare(a.i, b.i)
	case op == columnar.Equal || op == columnar.NotEqual: // spans, events, links
		c = cmp.Compare(a.i, b.i)
	default:
		return isFalse
	}
	if !ordered {
		return truthOf(op == columnar.NotEqual)
	}
	return truthOf(op.Holds(c))
}
