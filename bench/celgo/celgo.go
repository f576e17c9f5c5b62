// Package celgo judges traces by rules with cel-go, used as efficiently as possible: spans are native
// values whose fields are read without a lookup by name, attributes are in slots that are resolved when a
// rule is compiled, all values are made beforehand, programs are compiled once and optimised, and a rule
// ends where its when is false.
//
// An absent attribute is a value of its own. It equals nothing and makes no comparison true, as in
// BeTrace's rules. A function of an absent string is an error here. In the rules of package rulesets such
// an error counts as false, so the verdicts are the same.
package celgo

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/betracehq/betrace/bench/rulesets"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace/columnar"
)

// Rule is a compiled rule.
type Rule struct {
	when, always, never cel.Program
}

// Compile compiles rules that read the attributes with these keys. Each part of a rule becomes a program.
func Compile(set []rulesets.Rule, keys []string) ([]Rule, error) {
	env, err := newEnv(keys)
	if err != nil {
		return nil, err
	}
	out := make([]Rule, len(set))
	for i, r := range set {
		for _, part := range []struct {
			text string
			to   *cel.Program
		}{{r.When, &out[i].when}, {r.Always, &out[i].always}, {r.Never, &out[i].never}} {
			if part.text == "" {
				continue
			}
			checked, issues := env.Compile(translate(part.text))
			if issues.Err() != nil {
				return nil, fmt.Errorf("rule %s: %w", r.ID, issues.Err())
			}
			if *part.to, err = env.Program(checked, cel.EvalOptions(cel.OptOptimize)); err != nil {
				return nil, fmt.Errorf("rule %s: %w", r.ID, err)
			}
		}
	}
	return out, nil
}

// unequal finds comparisons of an attribute by !=. CEL would evaluate them to true if the attribute is
// absent.
var unequal = regexp.MustCompile(`\b([a-z])\["([^"]+)"\] != ("[^"]*"|\d+|[a-z]\["[^"]+"\])`)

func translate(text string) string {
	return unequal.ReplaceAllString(text, `("$2" in $1.attributes && $0)`)
}

// Judge returns the rule's outcome on a trace.
func (r *Rule) Judge(t *Trace) rules.Outcome {
	vars := activation{t.list}
	switch {
	case !holds(r.when, vars):
		return rules.NotApplicable
	case r.always != nil && !holds(r.always, vars), r.never != nil && holds(r.never, vars):
		return rules.Violation
	}
	return rules.Pass
}

// holds reports whether a program evaluates to true. An error counts as false.
func holds(p cel.Program, vars activation) bool {
	v, _, _ := p.Eval(vars)
	return v == types.True
}

// activation resolves the variable spans.
type activation struct{ spans ref.Val }

func (a activation) ResolveName(name string) (any, bool) { return a.spans, name == "spans" }
func (a activation) Parent() cel.Activation              { return nil }

// provider declares the types of spans for cel-go: their fields, and attributes by key, in slots.
type provider struct {
	types.Provider
	slots map[string]int
}

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if name == spanType.TypeName() {
		return types.NewTypeTypeWithParam(spanType), true
	}
	return p.Provider.FindStructType(name)
}

var fields = map[string]struct {
	typ *types.Type
	at  field
}{
	"name": {types.StringType, fieldName}, "service": {types.StringType, fieldService}, "kind": {types.StringType, fieldKind},
	"status": {types.StringType, fieldStatus}, "duration": {types.DurationType, fieldDuration}, "children": {types.NewListType(spanType), fieldChildren},
	"attributes": {attributesType, fieldAttributes}, "resource": {attributesType, fieldResource},
}

func (p provider) FindStructFieldType(name, key string) (*types.FieldType, bool) {
	if name != spanType.TypeName() {
		return p.Provider.FindStructFieldType(name, key)
	}
	always := func(any) bool { return true }
	if key == "parent" {
		return &types.FieldType{
			Type:    spanType,
			IsSet:   func(of any) bool { return !of.(*span).isAbsent() && !of.(*span).parent.isAbsent() },
			GetFrom: func(of any) (any, error) { return parentOf(of.(*span)), nil },
		}, true
	}
	if f, ok := fields[key]; ok {
		return &types.FieldType{Type: f.typ, IsSet: always, GetFrom: func(of any) (any, error) { return of.(*span).fields[f.at], nil }}, true
	}
	if slot, ok := p.slots[key]; ok {
		return &types.FieldType{Type: types.DynType, IsSet: always, GetFrom: func(of any) (any, error) {
			if s := of.(*span); !s.isAbsent() {
				return s.values[slot], nil
			}
			return absent, nil
		}}, true
	}
	return nil, false
}

func parentOf(s *span) *span {
	if s.isAbsent() {
		return s
	}
	return s.parent
}

func newEnv(keys []string) (*cel.Env, error) {
	slots := make(map[string]int, len(keys))
	for i, key := range keys {
		slots[key] = i
	}
	lists := types.NewListType(spanType)
	options := []cel.EnvOption{
		cel.Variable("spans", lists),
		cel.CrossTypeNumericComparisons(true),
		cel.Macros(count),
		cel.Function(operators.Index, cel.Overload("span_attribute", []*cel.Type{spanType, cel.StringType}, cel.DynType)),
		cel.Function("before", cel.MemberOverload("span_before_span", []*cel.Type{spanType, spanType}, cel.BoolType,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				x, y := a.(*span), b.(*span)
				return types.Bool(!x.isAbsent() && !y.isAbsent() && x.end <= y.start)
			}))),
		cel.Function("ancestors", cel.MemberOverload("span_ancestors", []*cel.Type{spanType}, lists, cel.UnaryBinding(func(v ref.Val) ref.Val {
			s := v.(*span)
			if s.ancestors == nil {
				s.ancestors = listOf(s.up)
			}
			return s.ancestors
		}))),
		cel.Function("descendants", cel.MemberOverload("span_descendants", []*cel.Type{spanType}, lists, cel.UnaryBinding(func(v ref.Val) ref.Val {
			s := v.(*span)
			if s.all == nil {
				s.all = listOf(s.below)
			}
			return s.all
		}))),
		func(env *cel.Env) (*cel.Env, error) {
			return cel.CustomTypeProvider(provider{env.CELTypeProvider(), slots})(env)
		},
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("CEL environment: %w", err)
	}
	return env, nil
}

// count is the macro count(list, x, predicate).
var count = cel.GlobalMacro("count", 3, func(f cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	step := f.NewCall(operators.Conditional, args[2], f.NewCall(operators.Add, f.NewAccuIdent(), f.NewLiteral(types.IntOne)), f.NewAccuIdent())
	return f.NewComprehension(args[0], args[1].AsIdent(), f.AccuIdentName(), f.NewLiteral(types.IntZero), f.NewLiteral(types.True), step, f.NewAccuIdent()), nil
})

// Keys returns the keys of the needed attributes.
func Keys(needs columnar.Needs) []string {
	keys := append(needs.Keys(columnar.ScopeSpan), needs.Keys(columnar.ScopeResource)...)
	slices.Sort(keys)
	return slices.Compact(keys)
}
