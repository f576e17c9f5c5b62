package engine

import (
	"fmt"
	"math/bits"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// interpreted is a condition that depends on one attribute or one string of a span, and on nothing else. The
// interpreter evaluates it, once for each distinct string.
type interpreted struct{ part *lang.Part }

// largeResults are functions whose results may be much larger than their arguments.
var largeResults = map[string]bool{"join": true, "format": true, "replace": true, "concat": true, "flatten": true, "lists.range": true, operators.Add: true}

// interpreted lowers a condition on one value. It returns nil if the expression is another.
func (l *lowering) interpreted(e ast.Expr) *node {
	if !l.x.IsBool(e) {
		return nil
	}
	var operand *node
	var holes []int64
	bound := map[string]int{}
	ok := true
	var walk func(e ast.Expr)
	walk = func(e ast.Expr) {
		if !ok {
			return
		}
		if n := l.singleValue(e); n != nil {
			if operand != nil && operand.key != n.key {
				ok = false
				return
			}
			operand = n
			holes = append(holes, e.ID())
			return
		}
		switch e.Kind() {
		case ast.LiteralKind:
		case ast.IdentKind:
			ok = bound[e.AsIdent()] > 0 || e.AsIdent() != "spans" && e.AsIdent() != "trace" && !l.isShadowed(e.AsIdent())
		case ast.SelectKind:
			ok = false // a field of an object, or an optional
		case ast.CallKind:
			call := e.AsCall()
			ok = !largeResults[call.FunctionName()]
			if call.IsMemberFunction() {
				walk(call.Target())
			}
			for _, a := range call.Args() {
				walk(a)
			}
		case ast.ListKind:
			for _, a := range e.AsList().Elements() {
				walk(a)
			}
		case ast.ComprehensionKind:
			c := e.AsComprehension()
			walk(c.IterRange())
			walk(c.AccuInit())
			names := []string{c.AccuVar(), c.IterVar()}
			if c.HasIterVar2() {
				names = append(names, c.IterVar2())
			}
			depth := len(l.scope)
			for _, name := range names {
				bound[name]++
				l.scope = append(l.scope, scoped{name, nil}) // hides a variable of the same name
			}
			walk(c.LoopCondition())
			walk(c.LoopStep())
			walk(c.Result())
			for _, name := range names {
				bound[name]--
			}
			l.scope = l.scope[:depth]
			ok = ok && c.AccuInit().Kind() == ast.LiteralKind // exists, all, count
		default:
			ok = false
		}
	}
	walk(e)
	if !ok || operand == nil {
		return nil
	}
	return newNode(&interpreted{l.x.Part(e, holes...)}, true, operand)
}

// singleValue lowers an attribute, or a field with a string; it returns nil for other expressions.
func (l *lowering) singleValue(e ast.Expr) *node {
	mark := len(l.reasons)
	defer func() { l.reasons = l.reasons[:mark] }()
	if n := l.attribute(e); n != nil && is[*attribute](n) {
		return n
	}
	if e.Kind() == ast.SelectKind && !e.AsSelect().IsTestOnly() {
		switch e.AsSelect().FieldName() {
		case "name", "service", "statusMessage", "scope", "scopeVersion":
			if n := l.selection(e); is[*field](n) {
				return n
			}
		}
	}
	return nil
}

func (x *interpreted) name() string { return fmt.Sprintf("interpreted %p", x.part) }

func (*interpreted) mayFail(*node) bool { return true }

func (x *interpreted) condition(c *compiler, n *node, v *binder) *predicate {
	if ofAbsent, err := x.part.Truth(trace.Value{}); err != nil || ofAbsent {
		return nil
	}
	return c.leaf(n.args[0], v, func(d domain, col *column) *predicate {
		return c.predicate(&interpretedCondition{col, x}, d)
	})
}

func (x *interpreted) value(e *evaluation, n *node) value {
	v := e.value(n.args[0])
	switch v.kind {
	case kindAbsent:
		return x.truth(trace.Value{}).value()
	case kindText:
		return x.truth(trace.StringValue(string(v.s))).value()
	case kindInt:
		return x.truth(trace.IntValue(v.i)).value()
	case kindDouble:
		return x.truth(trace.DoubleValue(v.f)).value()
	case kindBool:
		return x.truth(trace.BoolValue(v.i != 0)).value()
	}
	return unknownValue
}

func (x *interpreted) truth(v trace.Value) truth {
	holds, err := x.part.Truth(v)
	if err != nil {
		return isUnknown
	}
	return truthOf(holds)
}

// interpretedCondition evaluates an interpreted expression on a column: once for each string, and each time for
// other values.
type interpretedCondition struct {
	column *column
	of     *interpreted
}

func (x *interpretedCondition) name() string {
	return fmt.Sprintf("interpreted %v %p", x.column, x.of.part)
}

func (*interpretedCondition) traits() traits {
	return traits{cost: costInterpreted, fallible: true, slow: true}
}

func (x *interpretedCondition) simplify(e *evaluation, _ *predicate, s *simplified) {
	s.never = e.columns[x.column.id].text == nil
}

func (x *interpretedCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	col, f := &e.columns[x.column.id], &e.frames[p.domain]
	table := e.tableOf(p, col.text)
	for w, in := range mask {
		var trueRows, unknownRows uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			row := f.first + int32(64*w+k)
			found := isFalse
			if code := codeOf(col.text, row); code != 0 || col.isField {
				if table[code] == 0 {
					table[code] = 1 + uint8(x.of.truth(trace.StringValue(col.text.Text(code))))
				}
				found = truth(table[code] - 1)
			} else if v := col.attribute.Value(row); !v.IsAbsent() {
				found = x.of.truth(v)
			}
			switch found {
			case isTrue:
				trueRows |= 1 << k
			case isUnknown:
				unknownRows |= 1 << k
			}
		}
		t[w], u[w] = trueRows, unknownRows
	}
}
