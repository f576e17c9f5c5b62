package lang

import (
	"context"
	"errors"
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// maxFoldedCost limits the cost of a part without variables that is evaluated when a rule is loaded.
const maxFoldedCost = 1e5

// failure is a part of an expression that gives an error on every trace.
type failure struct {
	at  ast.Expr
	err error
}

// failing returns a failure that makes the whole of x fail on every trace, or nil. The interpreter evaluates
// parts without variables. An error counts only if nothing can absorb it: it is not in a branch of ?: that
// may not be taken, not in && or || next to an operand that may decide, and not in a macro over a range that
// may be empty.
func (p *Expression) failing(x ast.Expr) *failure {
	switch x.Kind() {
	case ast.SelectKind:
		return p.failing(x.AsSelect().Operand())
	case ast.ListKind:
		return p.firstFailing(x.AsList().Elements()...)
	case ast.MapKind:
		for _, entry := range x.AsMap().Entries() {
			if f := p.firstFailing(entry.AsMapEntry().Key(), entry.AsMapEntry().Value()); f != nil {
				return f
			}
		}
	case ast.CallKind:
		return p.failingCall(x, x.AsCall())
	case ast.ComprehensionKind:
		return p.failingComprehension(x, x.AsComprehension())
	default:
		return nil
	}
	return p.failingConstant(x)
}

func (p *Expression) firstFailing(parts ...ast.Expr) *failure {
	for _, x := range parts {
		if f := p.failing(x); f != nil {
			return f
		}
	}
	return nil
}

// failingConstant evaluates a part without variables.
func (p *Expression) failingConstant(x ast.Expr) *failure {
	v, ok := p.constant(x)
	if !ok || !types.IsError(v) {
		return nil
	}
	return &failure{x, errorOf(v)}
}

// constant returns the value of a part without variables, which may be absent or an error. ok is false if the
// part has variables or costs too much.
func (p *Expression) constant(x ast.Expr) (ref.Val, bool) {
	if !isClosed(x, nil) {
		return nil, false
	}
	if cost, _ := newEstimator(Sizes{}).estimate(x); cost > maxFoldedCost {
		return nil, false
	}
	e := &evaluation{program: p}
	v := e.eval(context.Background(), x)
	return v, e.ended == nil
}

// isClosed reports whether a part uses only variables that it declares itself.
func isClosed(x ast.Expr, declared []string) bool {
	all := func(parts ...ast.Expr) bool {
		return !slices.ContainsFunc(parts, func(part ast.Expr) bool { return !isClosed(part, declared) })
	}
	switch x.Kind() {
	case ast.LiteralKind:
		return true
	case ast.IdentKind:
		_, isType := typeNames[x.AsIdent()]
		return isType || slices.Contains(declared, x.AsIdent())
	case ast.SelectKind:
		return all(x.AsSelect().Operand())
	case ast.CallKind:
		return all(operands(x.AsCall())...)
	case ast.ListKind:
		return all(x.AsList().Elements()...)
	case ast.MapKind:
		for _, entry := range x.AsMap().Entries() {
			if !all(entry.AsMapEntry().Key(), entry.AsMapEntry().Value()) {
				return false
			}
		}
		return true
	case ast.ComprehensionKind:
		c := x.AsComprehension()
		if !all(c.IterRange(), c.AccuInit()) {
			return false
		}
		declared = append(slices.Clone(declared), c.AccuVar(), c.IterVar(), c.IterVar2())
		return isClosed(c.LoopCondition(), declared) && isClosed(c.LoopStep(), declared) && isClosed(c.Result(), declared)
	}
	return false
}

// operands returns the target of a member function, if any, and the arguments.
func operands(call ast.CallExpr) []ast.Expr {
	if call.IsMemberFunction() {
		return append([]ast.Expr{call.Target()}, call.Args()...)
	}
	return call.Args()
}

func (p *Expression) failingCall(x ast.Expr, call ast.CallExpr) *failure {
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd:
		return p.failingLogical(args, false)
	case operators.LogicalOr:
		return p.failingLogical(args, true)
	case operators.Conditional:
		if f := p.failing(args[0]); f != nil {
			return f
		}
		if v, ok := p.constant(args[0]); ok {
			if isTrue(v) {
				return p.failing(args[1])
			}
			return p.failing(args[2])
		}
		if p.failing(args[2]) == nil {
			return nil
		}
		return p.failing(args[1])
	case operators.NotStrictlyFalse:
		return nil
	case "or", "orValue":
		if call.IsMemberFunction() { // the argument is evaluated only if needed
			return p.failing(call.Target())
		}
	}
	if f := p.firstFailing(operands(call)...); f != nil {
		return f
	}
	switch name := call.FunctionName(); name {
	case operators.Divide, operators.Modulo:
		if v, ok := p.constant(args[1]); ok && isZero(v, name == operators.Divide) {
			return &failure{x, errors.New("division by zero")}
		}
	case operators.Index:
		if f := p.failingIndex(x, args[0], args[1]); f != nil {
			return f
		}
	}
	return p.failingConstant(x)
}

// failingLogical handles && (decided by false) and || (decided by true). An error counts if every other
// operand also fails or is known not to decide.
func (p *Expression) failingLogical(args []ast.Expr, decisive bool) *failure {
	var first *failure
	for _, a := range args {
		if f := p.failing(a); f != nil {
			if first == nil {
				first = f
			}
		} else if v, ok := p.constant(a); !ok || isTrue(v) == decisive {
			return nil
		}
	}
	return first
}

func isZero(v ref.Val, fractions bool) bool {
	return v == types.Int(0) || v == types.Uint(0) || fractions && v == types.Double(0)
}

// failingIndex finds an index beyond the end of a list literal, and a key that a map literal does not have.
func (p *Expression) failingIndex(x, of, key ast.Expr) *failure {
	v, ok := p.constant(key)
	if !ok {
		return nil
	}
	switch of.Kind() {
	case ast.ListKind:
		if i, ok := v.(types.Int); ok && len(of.AsList().OptionalIndices()) == 0 && (i < 0 || int(i) >= of.AsList().Size()) {
			return &failure{x, errorOf(types.NewErr("index %d is beyond the end of a list of %d", i, of.AsList().Size()))}
		}
	case ast.MapKind:
		for _, entry := range of.AsMap().Entries() {
			k, ok := p.constant(entry.AsMapEntry().Key())
			if equal, comparable := compareEqual(k, v); !ok || entry.AsMapEntry().IsOptional() || equal || !comparable {
				return nil
			}
		}
		return &failure{x, errorOf(types.NewErr("no such key: %v", v.Value()))}
	}
	return nil
}

func (p *Expression) failingComprehension(x ast.Expr, c ast.ComprehensionExpr) *failure {
	if f := p.firstFailing(c.IterRange(), c.AccuInit()); f != nil {
		return f
	}
	if p.hasElements(c.IterRange()) {
		if f := p.failing(eachEvaluates(c)); f != nil {
			return f
		}
	}
	if f := p.failing(c.Result()); f != nil {
		return f
	}
	return p.failingConstant(x)
}

// hasElements reports whether a range is known not to be empty. Every trace has at least one span.
func (p *Expression) hasElements(x ast.Expr) bool {
	switch x.Kind() {
	case ast.IdentKind:
		return x.AsIdent() == "spans" && p.types[x.ID()].IsExactType(spansType)
	case ast.ListKind:
		return x.AsList().Size() > len(x.AsList().OptionalIndices())
	}
	return false
}

// eachEvaluates returns the part of a macro that is evaluated for each element. If it fails for each element,
// the macro fails.
func eachEvaluates(c ast.ComprehensionExpr) ast.Expr {
	if element, condition := listStep(c); element != nil {
		if condition != nil {
			return condition
		}
		return element
	}
	step := c.LoopStep()
	if step.Kind() == ast.CallKind {
		args := step.AsCall().Args()
		switch step.AsCall().FunctionName() {
		case operators.LogicalAnd, operators.LogicalOr: // all, exists
			if args[0].Kind() == ast.IdentKind && args[0].AsIdent() == c.AccuVar() && len(args) == 2 {
				return args[1]
			}
		case operators.Conditional: // count, exists_one
			return args[0]
		}
	}
	return step
}
