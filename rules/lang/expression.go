package lang

import (
	"context"
	"regexp"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Names that a checked [Expression] has instead of CEL's operators ==, != and in, because these compare by
// value.
const (
	FunctionEquals    = equals
	FunctionNotEquals = notEquals
	FunctionIn        = isIn
)

// FunctionHasCardNumber is the name of the function implemented by [HasCardNumber].
const FunctionHasCardNumber = "hasCardNumber"

// IsBounded reports whether an evaluation on a trace of these sizes cannot exceed the limits on memory.
func (x *Expression) IsBounded(sizes Sizes) bool {
	est := newEstimator(sizes)
	est.types = x.types
	return est.built(x.root) <= maxElements
}

// AliasesRead returns the older names of the attributes that the expression reads, by key.
func (x *Expression) AliasesRead() Aliases { return x.aliasesRead }

// Source returns the source of the expression.
func (x *Expression) Source() string { return x.source }

// Root returns the checked expression with expanded macros, and with [FunctionEquals], [FunctionNotEquals]
// and [FunctionIn]. It must not be changed.
func (x *Expression) Root() ast.Expr { return x.root }

// IsA reports whether a part of the expression has the object type of that name (Span, Trace, Event, Link).
func (x *Expression) IsA(part ast.Expr, typeName string) bool {
	t := x.types[part.ID()]
	return t != nil && t.TypeName() == typeName
}

// IsBool reports whether a part has type bool. At run time an absent value, or one of another type, is false
// in its place.
func (x *Expression) IsBool(part ast.Expr) bool {
	t := x.types[part.ID()]
	return t != nil && t.Kind() == types.BoolKind
}

// Pattern returns the regular expression of a call of matches, or nil if it is not a constant.
func (x *Expression) Pattern(call ast.Expr) *regexp.Regexp { return x.patterns[call.ID()] }

// Attribute recognizes a part that reads one attribute by its key, or tests its presence. of is the span,
// event or link to which the attribute belongs.
func (x *Expression) Attribute(part ast.Expr) (a columnar.AttributeKey, of ast.Expr, ok bool) {
	scope, key, ok := x.attribute(part)
	if !ok {
		return columnar.AttributeKey{}, nil, false
	}
	return columnar.AttributeKey{Scope: scope, Key: key}, subject(part), true
}

// OlderNames returns the older names of an attribute that the expression reads, newest first. In each set of
// attributes, the first name that is present is read.
func (x *Expression) OlderNames(key string) []string { return x.aliasesRead[key] }

// Constant returns the value of a part that consists of literals and functions only. ok is false if it does
// not, fails or is absent.
func (x *Expression) Constant(part ast.Expr) (ref.Val, bool) {
	literal := true
	ast.PreOrderVisit(part, ast.NewExprVisitor(func(e ast.Expr) {
		literal = literal && (e.Kind() == ast.LiteralKind || e.Kind() == ast.CallKind)
	}))
	if !literal {
		return nil, false
	}
	e := &evaluation{program: x}
	v := e.eval(context.Background(), part)
	if e.ended != nil || types.IsError(v) || isAbsent(v) {
		return nil, false
	}
	return v, true
}

// Part is a part of an expression that depends on one value only. Its result for that value is the same on
// all traces.
type Part struct {
	expression *Expression
	root       ast.Expr
	holes      map[int64]bool
}

// Part returns a part of the expression in which the parts with the given IDs are replaced by the value. It
// must not use any other variable.
func (x *Expression) Part(root ast.Expr, holes ...int64) *Part {
	p := &Part{expression: x, root: root, holes: map[int64]bool{}}
	for _, id := range holes {
		p.holes[id] = true
	}
	return p
}

// Truth reports whether the part is true for an attribute's value, which may be absent. The error is an error
// of the expression.
func (p *Part) Truth(v trace.Value) (bool, error) {
	e := &evaluation{program: p.expression, holes: p.holes, hole: valueOf(v)}
	found := e.eval(context.Background(), p.root)
	if e.ended != nil {
		found = e.ended
	}
	if types.IsError(found) {
		return false, errorOf(found)
	}
	return isTrue(found), nil
}
