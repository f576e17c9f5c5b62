package engine

import (
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/betracehq/betrace/rules/lang"
)

// quantifierOf recognises the comprehensions that the macros exists, all, exists_one and count expand to.
func quantifierOf(c ast.ComprehensionExpr) (quantity, ast.Expr, bool) {
	isAccu := func(e ast.Expr) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == c.AccuVar() }
	step := c.LoopStep()
	if step.Kind() != ast.CallKind || c.AccuInit().Kind() != ast.LiteralKind {
		return 0, nil, false
	}
	args := step.AsCall().Args()
	init := c.AccuInit().AsLiteral()
	switch step.AsCall().FunctionName() {
	case operators.LogicalOr:
		if isAccu(args[0]) && isAccu(c.Result()) && init == types.False && len(args) == 2 {
			return quantExists, args[1], true
		}
	case operators.LogicalAnd:
		if isAccu(args[0]) && isAccu(c.Result()) && init == types.True && len(args) == 2 {
			return quantAll, args[1], true
		}
	case operators.Conditional:
		if !isAccu(args[2]) || init != types.IntZero || args[1].Kind() != ast.CallKind || args[1].AsCall().FunctionName() != operators.Add {
			return 0, nil, false
		}
		sum := args[1].AsCall().Args()
		if !isAccu(sum[0]) || sum[1].Kind() != ast.LiteralKind || sum[1].AsLiteral() != types.IntOne {
			return 0, nil, false
		}
		if isAccu(c.Result()) {
			return quantCount, args[0], true
		}
		if r := c.Result(); r.Kind() == ast.CallKind && r.AsCall().FunctionName() == lang.FunctionEquals {
			if one := r.AsCall().Args(); isAccu(one[0]) && one[1].Kind() == ast.LiteralKind && one[1].AsLiteral() == types.IntOne {
				return quantOne, args[0], true
			}
		}
	}
	return 0, nil, false
}

// filterOf recognises the comprehension that the macro filter expands to.
func filterOf(c ast.ComprehensionExpr) (condition ast.Expr, ok bool) {
	step := c.LoopStep()
	if c.AccuInit().Kind() != ast.ListKind || c.AccuInit().AsList().Size() != 0 || c.HasIterVar2() ||
		step.Kind() != ast.CallKind || step.AsCall().FunctionName() != operators.Conditional ||
		c.Result().Kind() != ast.IdentKind || c.Result().AsIdent() != c.AccuVar() {
		return nil, false
	}
	args := step.AsCall().Args()
	if args[1].Kind() != ast.CallKind || args[1].AsCall().FunctionName() != operators.Add || args[2].Kind() != ast.IdentKind || args[2].AsIdent() != c.AccuVar() {
		return nil, false
	}
	sum := args[1].AsCall().Args()
	if sum[0].Kind() != ast.IdentKind || sum[0].AsIdent() != c.AccuVar() || sum[1].Kind() != ast.ListKind {
		return nil, false
	}
	list := sum[1].AsList()
	if list.Size() != 1 || len(list.OptionalIndices()) > 0 || list.Elements()[0].Kind() != ast.IdentKind || list.Elements()[0].AsIdent() != c.IterVar() {
		return nil, false
	}
	return args[0], true
}

// whyNotQuantified returns why a comprehension is not vectorised.
func whyNotQuantified(c ast.ComprehensionExpr) string {
	switch over := c.IterRange(); {
	case c.HasIterVar2(), over.Kind() == ast.SelectKind && (over.AsSelect().FieldName() == "attributes" || over.AsSelect().FieldName() == "resource"):
		return "it ranges over all attributes"
	case over.Kind() == ast.ListKind:
		return "it ranges over a list that is written out"
	}
	return "it makes a list or a map of elements"
}
