package traceql

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/betracehq/betrace/trace"
)

// condition is one comparison of an attribute with a constant.
type condition struct {
	field Field
	op    Op
	want  Const
}

func (c condition) expr() Expr { return Compare(c.field, c.op, c.want) }

func (c condition) isNegation() bool { return c.op == OpNotEqual || c.op == OpNotRegex }

// separate returns a wider expression in which no two conditions select values of one attribute. Attributes
// with the same key count as one, even if their scopes differ.
//
// Tempo reads the values of all attributes that a filter names in one pass, and keeps those that meet any of
// the filter's conditions on their type. From a list it keeps the elements that do. Then it evaluates the
// filter on the kept values, with two limitations:
//
//   - Tempo 2.8 holds the elements of all lists in one buffer, so those of a later span overwrite earlier ones.
//   - Tempo 3 requires that all kept elements meet != and !~, joins != and !~ on one attribute into one
//     condition, and does not evaluate lists that meet two equalities.
//
// Neither matters if all kept elements meet the same condition:
//
//   - A conjunction keeps only one condition on each attribute, the most selective.
//   - Conditions on one attribute in different parts of the filter are replaced by one that is true if any of
//     them is.
//   - A negation is dropped if another condition keeps elements that it excludes.
func (w *widener) separate(x Expr) Expr {
	x = w.onePerConjunction(x)
	var all []condition
	eachCondition(x, func(c condition) {
		if !slices.Contains(all, c) {
			all = append(all, c)
		}
	})
	joined := map[string][]condition{}
	for _, c := range all {
		joined[c.group()] = append(joined[c.group()], c)
	}
	replacement := map[string]Expr{}
	var kept []condition
	for group, list := range joined {
		union, ok := unionOf(list)
		switch {
		case !ok:
			replacement[group] = True
		case len(list) > 1:
			replacement[group] = union.expr()
			kept = append(kept, union)
		default:
			kept = append(kept, union)
		}
	}
	slices.SortFunc(kept, func(a, b condition) int { return cmp.Compare(text(a.expr()), text(b.expr())) })
	for i := 0; i < len(kept); i++ {
		c := kept[i]
		if c.isNegation() && slices.ContainsFunc(kept, func(d condition) bool { return d != c && d.keepsExcludedBy(c) }) {
			replacement[c.group()] = True
			kept = slices.Delete(kept, i, i+1)
			i--
		}
	}
	return replaceConditions(x, replacement)
}

// group identifies the attribute and the type of the values that the condition selects.
func (c condition) group() string {
	return strings.Join([]string{fmt.Sprint(c.class()), c.field.Key}, " ")
}

// class is TypeString, TypeInt for all numbers, or TypeBool.
func (c condition) class() Type {
	if c.want.Type.isNumber() {
		return TypeInt
	}
	return c.want.Type
}

// onePerConjunction removes the parts that are not sent to Tempo, and in each conjunction all conditions on
// an attribute except one.
func (w *widener) onePerConjunction(x Expr) Expr {
	b, ok := x.(Binary)
	if !ok {
		if f, ok := x.(Field); ok {
			return w.onePerConjunction(Compare(f, OpEqual, True))
		}
		if _, ok := x.(Const); ok {
			return x
		}
		return True
	}
	switch b.Op {
	case OpOr:
		parts := operands(x, OpOr)
		for i, part := range parts {
			parts[i] = w.onePerConjunction(part)
		}
		return AnyOf(parts...)
	case OpAnd:
		var parts []Expr
		for _, part := range operands(x, OpAnd) {
			parts = append(parts, operands(w.onePerConjunction(part), OpAnd)...)
		}
		return And(w.disjoint(parts)...)
	}
	f, op, c, ok := comparison(b)
	if !ok || w.compare(f, op, c) == Expr(True) {
		return True
	}
	return Compare(f, op, c)
}

// disjoint returns a subset of the parts, in their order, that have no attribute in common. It prefers the
// most selective.
func (w *widener) disjoint(parts []Expr) []Expr {
	order := make([]int, len(parts))
	rank := make([]int, len(parts))
	for i, part := range parts {
		order[i], rank[i] = i, Selectivity(w.widen(part))
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[b], rank[a]) })
	taken := map[string]bool{}
	keep := make([]bool, len(parts))
	for _, i := range order {
		var keys []string
		eachCondition(parts[i], func(c condition) { keys = append(keys, c.field.Key) })
		keep[i] = !slices.ContainsFunc(keys, func(key string) bool { return taken[key] })
		if keep[i] {
			for _, key := range keys {
				taken[key] = true
			}
		}
	}
	var kept []Expr
	for i, part := range parts {
		if keep[i] {
			kept = append(kept, part)
		}
	}
	return kept
}

// eachCondition calls do with each condition on an attribute.
func eachCondition(x Expr, do func(condition)) {
	b, ok := x.(Binary)
	if !ok {
		return
	}
	if b.Op == OpAnd || b.Op == OpOr {
		for _, part := range operands(x, b.Op) {
			eachCondition(part, do)
		}
		return
	}
	if f, op, c, ok := comparison(b); ok && f.Scope != ScopeIntrinsic {
		do(condition{f, op, c})
	}
}

// replaceConditions replaces conditions by the replacements of their groups, each in its own scope.
func replaceConditions(x Expr, replacement map[string]Expr) Expr {
	b, ok := x.(Binary)
	if !ok {
		return x
	}
	if b.Op == OpAnd || b.Op == OpOr {
		parts := operands(x, b.Op)
		for i, part := range parts {
			parts[i] = replaceConditions(part, replacement)
		}
		if b.Op == OpAnd {
			return And(parts...)
		}
		return AnyOf(parts...)
	}
	f, op, c, ok := comparison(b)
	if !ok || f.Scope == ScopeIntrinsic {
		return x
	}
	switch r := replacement[condition{f, op, c}.group()].(type) {
	case nil:
		return x
	case Binary:
		return Compare(f, r.Op, r.Right)
	default:
		return r
	}
}

// unionOf returns one condition that is true if any condition of the list is. ok is false if there is none.
func unionOf(list []condition) (condition, bool) {
	union := list[0]
	if sameTest(list) {
		return union, true
	}
	if slices.ContainsFunc(list, condition.isNegation) {
		return union, false
	}
	switch union.class() {
	case TypeString:
		var patterns []string
		for _, c := range list {
			pattern := regexp.QuoteMeta(c.want.Value.Str())
			if c.op == OpRegex {
				pattern = "(?:" + c.want.Value.Str() + ")"
			}
			if !slices.Contains(patterns, pattern) {
				patterns = append(patterns, pattern)
			}
		}
		pattern := strings.Join(patterns, "|")
		_, err := regexp.Compile("^(?s:" + pattern + ")$")
		union.op, union.want = OpRegex, String(pattern)
		return union, err == nil // the joined pattern may be too large
	case TypeInt:
		if c, ok := bound(list, OpGreater, OpGreaterEqual); ok {
			return c, true
		}
		return bound(list, OpLess, OpLessEqual)
	}
	return union, false
}

// sameTest reports whether all conditions have the same operator and constant; their scopes may differ.
func sameTest(list []condition) bool {
	return !slices.ContainsFunc(list, func(c condition) bool { return c.op != list[0].op || c.want != list[0].want })
}

// bound returns the widest of conditions that all limit numbers on the same side. beyond is OpGreater or
// OpLess; from is the same operator with equality.
func bound(list []condition, beyond, from Op) (condition, bool) {
	var widest condition
	for i, c := range list {
		switch c.op {
		case beyond:
		case OpEqual, from:
			c.op = from
		default:
			return c, false
		}
		if i == 0 {
			widest = c
			continue
		}
		sign, ordered := trace.CompareNumbers(c.want.Value, widest.want.Value)
		if !ordered {
			return c, false
		}
		if beyond == OpLess {
			sign = -sign
		}
		if sign < 0 || sign == 0 && c.op == from {
			widest = c
		}
	}
	return widest, true
}

// keepsExcludedBy reports whether c may be true for a value for which the negation n is false, so that Tempo
// keeps that value when it evaluates n.
func (c condition) keepsExcludedBy(n condition) bool {
	switch {
	case c.class() != n.class():
		return false
	case n.op == OpNotEqual && (c.op == OpRegex || c.op == OpNotRegex):
		re, err := regexp.Compile("^(?s:" + c.want.Value.Str() + ")$")
		return err != nil || re.MatchString(n.want.Value.Str()) == (c.op == OpRegex)
	case n.op == OpNotEqual:
		return holds(c.op, TypeAny, n.want.Value, c.want.Type, c.want.Value)
	case c.op == OpEqual: // n.op is !~
		re, err := regexp.Compile("^(?s:" + n.want.Value.Str() + ")$")
		return err != nil || re.MatchString(c.want.Value.Str())
	}
	return true
}

// Selectivity estimates from the form of an expression how few spans it selects. Equalities of strings count
// most, presence counts least.
func Selectivity(x Expr) int {
	b, ok := x.(Binary)
	if !ok {
		if x == Expr(False) {
			return 100
		}
		return 0
	}
	switch b.Op {
	case OpAnd:
		return Selectivity(b.Left) + Selectivity(b.Right)
	case OpOr:
		return min(Selectivity(b.Left), Selectivity(b.Right))
	}
	c, ok := b.Right.(Const)
	switch {
	case !ok:
		return 0
	case c.Type == TypeNil, b.Op == OpNotEqual, b.Op == OpNotRegex, c.Type == TypeBool, c.Type == TypeStatus, c.Type == TypeKind:
		return 1
	case c.Type == TypeString && b.Op == OpEqual:
		if b.Left == Expr(Attribute(ScopeResource, trace.ServiceName)) {
			return 3
		}
		return 5
	}
	return 2
}
