package engine

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"github.com/betracehq/betrace/rules/lang"
)

// lowering lowers one expression: checked CEL becomes nodes.
type lowering struct {
	x       *lang.Expression
	scope   []scoped
	binders int
	// reasons are why parts of the expression are not vectorised.
	reasons []string
}

// scoped is a name in scope. The binder is nil if the name hides a variable and is nothing that the engine
// evaluates.
type scoped struct {
	name   string
	binder *binder
}

// loweringOf returns the function that lowers calls of a function of CEL; nil if none does. The function
// returns nil if the call has a form that is not vectorised.
func loweringOf(function string) func(*lowering, ast.Expr, ast.CallExpr) *node {
	switch function {
	case operators.LogicalAnd, operators.LogicalOr:
		return lowerLogic
	case operators.LogicalNot:
		return lowerNegation
	case operators.Conditional:
		return lowerChoice
	case lang.FunctionEquals, lang.FunctionNotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return lowerComparison
	case lang.FunctionIn:
		return lowerMembership
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		return lowerCalculation
	case "startsWith", "endsWith", "contains", "matches", lang.FunctionHasCardNumber:
		return lowerTextMatch
	case "before":
		return lowerBefore
	case "size":
		return lowerSize
	}
	return nil
}

// unknown returns a node that the interpreter has to evaluate, and notes the reason.
func (l *lowering) unknown(format string, args ...any) *node {
	l.reasons = append(l.reasons, fmt.Sprintf(format, args...))
	return newNode(&unknown{}, false)
}

// try calls f, and forgets the reasons that it adds if it returns nil.
func (l *lowering) try(f func() *node) *node {
	mark := len(l.reasons)
	n := f()
	if n == nil {
		l.reasons = l.reasons[:mark]
	}
	return n
}

// truth lowers an expression that is used as a condition.
func (l *lowering) truth(e ast.Expr) *node {
	n := l.lower(e)
	if n.isBool || is[*unknown](n) {
		return n
	}
	return newNode(&truthOfValue{}, true, n)
}

// lower lowers an expression.
func (l *lowering) lower(e ast.Expr) *node {
	if v, ok := l.x.Constant(e); ok {
		if c, ok := constantOf(v); ok {
			return newConstant(c)
		}
	}
	if n := l.attribute(e); n != nil {
		return n
	}
	switch e.Kind() {
	case ast.IdentKind:
		return l.ident(e.AsIdent())
	case ast.SelectKind:
		return l.selection(e)
	case ast.CallKind:
		mark := len(l.reasons)
		n := l.call(e, e.AsCall())
		if is[*unknown](n) {
			if alone := l.interpreted(e); alone != nil {
				l.reasons = l.reasons[:mark]
				return alone
			}
			l.reasons = l.reasons[:min(mark+1, len(l.reasons))]
		}
		return n
	case ast.ComprehensionKind:
		if n := l.comprehension(e.AsComprehension()); n != nil {
			return n
		}
		if l.binders >= mostBinders {
			return l.unknown("more than %d quantifiers", mostBinders)
		}
		if alone := l.interpreted(e); alone != nil {
			return alone
		}
		return l.unknown("%s", whyNotQuantified(e.AsComprehension()))
	case ast.LiteralKind:
		return l.unknown("a literal of type %s", e.AsLiteral().Type().TypeName())
	case ast.ListKind, ast.MapKind:
		return l.unknown("a list or a map is made")
	}
	return l.unknown("an expression of another kind")
}

func (l *lowering) call(e ast.Expr, call ast.CallExpr) *node {
	if lower := loweringOf(call.FunctionName()); lower != nil {
		if n := lower(l, e, call); n != nil {
			return n
		}
	}
	return l.unknown("the function %s", strings.Trim(call.FunctionName(), "@_"))
}

// operands lowers the arguments of a function. It returns one that is unknown, if there is one.
func (l *lowering) operands(args ...ast.Expr) (of []*node, unknownOf *node) {
	for _, a := range args {
		of = append(of, l.lower(a))
	}
	for _, n := range of {
		if is[*unknown](n) {
			return nil, n
		}
	}
	return of, nil
}

func (l *lowering) ident(name string) *node {
	for i := len(l.scope) - 1; i >= 0; i-- {
		if l.scope[i].name != name {
			continue
		}
		if l.scope[i].binder == nil {
			break
		}
		return newVariable(l.scope[i].binder)
	}
	return l.unknown("%s as a value", name)
}

// isShadowed reports whether a name is a variable of the expression.
func (l *lowering) isShadowed(name string) bool {
	for _, s := range l.scope {
		if s.name == name {
			return true
		}
	}
	return false
}

func (l *lowering) bind(d domain) *binder {
	l.binders++
	return &binder{l.binders - 1, d}
}

// object lowers an expression whose value is a span, event or link; it returns nil for others.
func (l *lowering) object(e ast.Expr) *node {
	switch {
	case e.Kind() == ast.IdentKind:
		for i := len(l.scope) - 1; i >= 0; i-- {
			if l.scope[i].name == e.AsIdent() {
				if l.scope[i].binder == nil {
					return nil
				}
				return newVariable(l.scope[i].binder)
			}
		}
	case e.Kind() == ast.SelectKind && !e.AsSelect().IsTestOnly():
		of, field := e.AsSelect().Operand(), e.AsSelect().FieldName()
		switch {
		case field == "parent" && l.x.IsA(of, "Span"):
			if n := l.object(of); n != nil {
				return newNode(&parentOf{}, false, n)
			}
		case field == "root" && l.isTrace(of):
			return newNode(&rootOf{}, false)
		}
	}
	return nil
}

func (l *lowering) isTrace(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && e.AsIdent() == "trace" && !l.isShadowed("trace")
}

// selection lowers the selection of a field, or has() of one.
func (l *lowering) selection(e ast.Expr) *node {
	of, name := e.AsSelect().Operand(), e.AsSelect().FieldName()
	if e.AsSelect().IsTestOnly() {
		return l.presence(of, name)
	}
	if n := l.object(e); n != nil {
		return n
	}
	if l.isTrace(of) {
		switch name {
		case "start", "end", "duration":
			return newNode(&traceField{name}, false)
		}
		return l.unknown("trace.%s", name)
	}
	if l.x.IsA(of, "Span") && isSpanField(name) || l.x.IsA(of, "Event") && isEventField(name) {
		if n := l.object(of); n != nil {
			return newField(name, n)
		}
	}
	return l.unknown("the field %s as a value", name)
}
