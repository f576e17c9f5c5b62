package lang

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/betracehq/betrace/trace"
)

// Limits on the memory of one evaluation, regardless of its cost.
const (
	maxElements  = 1 << 22   // total elements of lists and maps
	maxTextBytes = 256 << 20 // total bytes of strings
)

// variable is a name and its value.
type variable struct {
	name  string
	value ref.Val
}

// evaluation evaluates an expression on a trace by walking the checked expression. It implements the
// operators that handle absent values; cel-go's functions implement the rest.
type evaluation struct {
	program *Expression
	t       *trace.Trace
	vars    []variable // the innermost last
	// holes are the IDs of parts whose value is replaced by hole; see Expression.Part.
	holes map[int64]bool
	hole  ref.Val
	steps int
	// elements and bytes are the amounts built so far.
	elements, bytes int
	// ended is the reason why the evaluation stopped, its context or a limit. Unlike other errors, no operator
	// absorbs it.
	ended ref.Val
}

// eval returns the expression's value, which may be absent or an error ([types.IsError]).
func (p *Expression) eval(ctx context.Context, t *trace.Trace, vars []variable) ref.Val {
	e := &evaluation{program: p, t: t, vars: vars}
	v := e.eval(ctx, p.root)
	if e.ended != nil {
		return e.ended
	}
	return v
}

func (e *evaluation) end(why error) ref.Val {
	if e.ended == nil {
		e.ended = types.WrapErr(fmt.Errorf("the evaluation was stopped: %w", why))
	}
	return e.ended
}

func (e *evaluation) eval(ctx context.Context, x ast.Expr) ref.Val {
	if e.ended != nil {
		return e.ended
	}
	if e.holes != nil && e.holes[x.ID()] {
		return e.hole
	}
	if e.steps++; e.steps&0xfff == 0 {
		if err := context.Cause(ctx); err != nil {
			return e.end(err)
		}
	}
	switch x.Kind() {
	case ast.LiteralKind:
		return x.AsLiteral()
	case ast.IdentKind:
		return e.ident(x)
	case ast.SelectKind:
		return e.selection(ctx, x, x.AsSelect())
	case ast.CallKind:
		return e.call(ctx, x, x.AsCall())
	case ast.ListKind:
		return e.list(ctx, x.AsList())
	case ast.MapKind:
		return e.mapping(ctx, x.AsMap())
	case ast.ComprehensionKind:
		return e.comprehension(ctx, x, x.AsComprehension())
	}
	return types.NewErr("unexpected expression")
}

func (e *evaluation) ident(x ast.Expr) ref.Val {
	name := x.AsIdent()
	for i := len(e.vars) - 1; i >= 0; i-- {
		if e.vars[i].name == name {
			return e.vars[i].value
		}
	}
	switch name {
	case "spans":
		return allSpans(e.t)
	case "trace":
		return objectVal{traceType, e.t, func(field string) ref.Val { return traceField(e.t, field) }}
	}
	if t, ok := typeNames[name]; ok {
		return t
	}
	return types.NewErr("unknown name %s", name)
}

// typeNames are the types that expressions can name, as in type(x) == int.
var typeNames = map[string]ref.Val{
	"bool": types.BoolType, "int": types.IntType, "uint": types.UintType, "double": types.DoubleType, "string": types.StringType,
	"bytes": types.BytesType, "list": types.ListType, "map": types.MapType, "null_type": types.NullType, "type": types.TypeType,
	"google.protobuf.Timestamp": types.TimestampType, "google.protobuf.Duration": types.DurationType,
}

func (e *evaluation) selection(ctx context.Context, x ast.Expr, s ast.SelectExpr) ref.Val {
	operand := e.eval(ctx, s.Operand())
	if types.IsError(operand) {
		return operand
	}
	o, isOptional := operand.(*types.Optional)
	field := absent
	switch {
	case !isOptional:
		field = e.fieldOf(x, operand, s.FieldName())
	case o.HasValue():
		field = e.fieldOf(x, o.GetValue(), s.FieldName())
	}
	switch {
	case s.IsTestOnly():
		return types.Bool(!isAbsent(field))
	case isOptional:
		return optionalOf(field)
	}
	return field
}

// optionalOf returns the result of a selection from an optional value.
func optionalOf(found ref.Val) ref.Val {
	if isAbsent(found) || types.IsError(found) {
		return types.OptionalNone
	}
	return types.OptionalOf(found)
}

// fieldOf returns a field of an object or the value of a map's key.
func fieldOf(v ref.Val, field string) ref.Val {
	switch v := v.(type) {
	case spanVal:
		return v.field(field)
	case objectVal:
		return v.get(field)
	case traits.Mapper:
		if found, ok := v.Find(types.String(field)); ok {
			return found
		}
	}
	return absent
}

func (e *evaluation) call(ctx context.Context, x ast.Expr, call ast.CallExpr) ref.Val {
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd:
		return e.logical(ctx, args, types.False)
	case operators.LogicalOr:
		return e.logical(ctx, args, types.True)
	case operators.LogicalNot:
		v := e.eval(ctx, args[0])
		if types.IsError(v) {
			return v
		}
		return types.Bool(!isTrue(v))
	case operators.Conditional:
		v := e.eval(ctx, args[0])
		switch {
		case types.IsError(v):
			return v
		case isTrue(v):
			return e.eval(ctx, args[1])
		}
		return e.eval(ctx, args[2])
	case operators.NotStrictlyFalse:
		return types.Bool(e.eval(ctx, args[0]) != types.False)
	case operators.OptSelect, operators.OptIndex:
		return e.optional(ctx, x, args[0], args[1], name == operators.OptSelect)
	case "or", "orValue":
		if call.IsMemberFunction() {
			return e.orValue(ctx, call.Target(), args[0])
		}
	}
	values := make([]ref.Val, 0, 3)
	if call.IsMemberFunction() {
		values = append(values, e.eval(ctx, call.Target()))
	}
	for _, a := range args {
		values = append(values, e.eval(ctx, a))
	}
	anyAbsent := false
	for _, v := range values {
		if types.IsError(v) {
			return v // takes precedence over an absent operand
		}
		anyAbsent = anyAbsent || isAbsent(v)
	}
	if anyAbsent {
		if call.FunctionName() == "optional.of" || call.FunctionName() == "optional.ofNonZeroValue" {
			return types.OptionalNone
		}
		return e.unfit(x)
	}
	result := e.apply(x, call, values)
	if isAbsent(result) || isUnfit(result) {
		return e.unfit(x)
	}
	if call.FunctionName() == operators.Index {
		return result // reading builds nothing
	}
	return e.built(result)
}

// unfit returns the value of an expression whose operands are absent or have types that do not fit.
func (e *evaluation) unfit(x ast.Expr) ref.Val {
	if t := e.program.types[x.ID()]; t != nil && t.Kind() == types.BoolKind {
		return types.False
	}
	return absent
}

// unfitErrors are the errors of cel-go's functions for operands that are absent or have types that do not
// fit, also within a list.
var unfitErrors = []string{
	"no such overload",
	", was given ",                       // format
	"list elements must be comparable",   // sort, sortBy
	"list elements must have the same t", // sort, sortBy
	"optional.none() dereference",
}

func isUnfit(v ref.Val) bool {
	err, ok := v.(*types.Err)
	return ok && slices.ContainsFunc(unfitErrors, func(text string) bool { return strings.Contains(err.Error(), text) })
}

// logical evaluates && (decided by false) and || (decided by true). An error is the result only if no operand
// decides.
func (e *evaluation) logical(ctx context.Context, args []ast.Expr, decisive ref.Val) ref.Val {
	var failed ref.Val
	for _, a := range args {
		v := e.eval(ctx, a)
		if types.IsError(v) {
			if failed == nil {
				failed = v
			}
			continue
		}
		if types.Bool(isTrue(v)) == decisive {
			return decisive
		}
	}
	if failed != nil {
		return failed
	}
	return types.Bool(decisive == types.False)
}

// apply calls a function with values that are neither absent nor errors.
func (e *evaluation) apply(x ast.Expr, call ast.CallExpr, v []ref.Val) ref.Val {
	switch name := call.FunctionName(); name {
	case equals:
		equal, comparable := compareEqual(v[0], v[1])
		return types.Bool(equal && comparable)
	case notEquals:
		equal, comparable := compareEqual(v[0], v[1])
		return types.Bool(!equal && comparable)
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return compareOrder(name, v[0], v[1])
	case isIn:
		return e.contains(x, v[0], v[1])
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		return arithmetic(name, v[0], v[1])
	case operators.Negate:
		switch n := v[0].(type) {
		case types.Int, types.Double, types.Duration: // not types.Uint: CEL does not negate it
			return n.(traits.Negater).Negate()
		}
		return absent
	case operators.Index:
		return e.index(x, v[0], v[1])
	case "matches":
		return e.matches(x, v[0], v[1])
	case "before", "ancestors", "descendants":
		if s, ok := v[0].(spanVal); ok {
			return spanFunction(name, s, v[1:])
		}
		return absent
	}
	o := e.program.functions[x.ID()]
	if o == nil {
		return types.NewErr("the function %s has no implementation", call.FunctionName())
	}
	return invoke(o, v)
}

// invoke calls one of cel-go's functions. Some of them panic if a type that is known only at run time is not
// the expected one.
func invoke(o *functions.Overload, v []ref.Val) (result ref.Val) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *runtime.TypeAssertionError:
			result = types.NoSuchOverloadErr()
		default:
			result = types.NewErr("%s: %v", o.Operator, r)
		}
	}()
	switch {
	case len(v) == 1 && o.Unary != nil:
		return o.Unary(v[0])
	case len(v) == 2 && o.Binary != nil:
		return o.Binary(v[0], v[1])
	case o.Function != nil:
		return o.Function(v...)
	}
	return types.NewErr("no such overload: %s with %d arguments", o.Operator, len(v))
}

func spanFunction(name string, s spanVal, args []ref.Val) ref.Val {
	switch name {
	case "ancestors":
		return spanList(s.t, s.t.Ancestors(s.i))
	case "descendants":
		return spanList(s.t, s.t.Descendants(s.i))
	}
	other, ok := args[0].(spanVal)
	return types.Bool(ok && s.span().End <= other.span().Start)
}

func (e *evaluation) matches(x ast.Expr, text, pattern ref.Val) ref.Val {
	t, ok := text.(types.String)
	if !ok {
		return types.False
	}
	re := e.program.patterns[x.ID()]
	if re == nil {
		p, ok := pattern.(types.String)
		if !ok {
			return types.False
		}
		var err error
		if re, err = regexp.Compile(string(p)); err != nil {
			return types.WrapErr(fmt.Errorf("bad regular expression: %w", err))
		}
	}
	return types.Bool(re.MatchString(string(t)))
}

// index evaluates v[key]: an attribute of a span, an element of a list, or a value of a map.
func index(v, key ref.Val) ref.Val {
	switch v := v.(type) {
	case *types.Optional:
		if !v.HasValue() {
			return v
		}
		return optionalOf(index(v.GetValue(), key))
	case spanVal:
		if k, ok := key.(types.String); ok {
			return valueOf(v.span().Attribute(string(k)))
		}
	case attrMap:
		return v.Get(key)
	case traits.Mapper:
		if found, ok := find(v, key); ok {
			return found
		}
		return types.NewErr("no such key: %v", key.Value())
	case traits.Lister:
		n, _, ok := number(key)
		if !ok {
			return absent
		}
		i := n.Int()
		if f := n.Double(); n.Type() == trace.TypeDouble {
			if i = int64(f); float64(i) != f {
				return types.NewErr("index %v is not a whole number", f)
			}
		}
		if size := int64(v.Size().(types.Int)); i < 0 || i >= size {
			return types.NewErr("index %d is beyond the end of a list of %d", i, size)
		}
		return v.Get(types.Int(i))
	}
	return absent
}

// optional evaluates v.?field and v[?key].
func (e *evaluation) optional(ctx context.Context, x, operand, key ast.Expr, isField bool) ref.Val {
	v, k := e.eval(ctx, operand), e.eval(ctx, key)
	for _, v := range []ref.Val{v, k} {
		if types.IsError(v) {
			return v
		}
	}
	if o, ok := v.(*types.Optional); ok {
		if !o.HasValue() {
			return o
		}
		v = o.GetValue()
	}
	var found ref.Val
	if name, ok := k.(types.String); ok && isField {
		found = e.fieldOf(x, v, string(name))
	} else {
		found = e.index(x, v, k)
	}
	return optionalOf(found)
}

// orValue evaluates o.or(other) and o.orValue(other). It evaluates other only if needed.
func (e *evaluation) orValue(ctx context.Context, target, other ast.Expr) ref.Val {
	v := e.eval(ctx, target)
	o, ok := v.(*types.Optional)
	switch {
	case types.IsError(v) || isAbsent(v):
		return v
	case !ok:
		return absent
	case !o.HasValue():
		return e.eval(ctx, other)
	case e.program.types[other.ID()].Kind() == types.OpaqueKind: // or
		return o
	}
	return o.GetValue()
}

func (e *evaluation) list(ctx context.Context, l ast.ListExpr) ref.Val {
	values := make([]ref.Val, 0, l.Size())
	for i, x := range l.Elements() {
		v := e.eval(ctx, x)
		if types.IsError(v) {
			return v
		}
		if l.IsOptional(int32(i)) {
			o, ok := v.(*types.Optional)
			if !ok || !o.HasValue() {
				continue
			}
			v = o.GetValue()
		}
		values = append(values, v)
	}
	return e.built(listOf(values))
}

func (e *evaluation) mapping(ctx context.Context, m ast.MapExpr) ref.Val {
	entries := make(map[ref.Val]ref.Val, m.Size())
	for _, entry := range m.Entries() {
		key, value := e.eval(ctx, entry.AsMapEntry().Key()), e.eval(ctx, entry.AsMapEntry().Value())
		for _, v := range []ref.Val{key, value} {
			if types.IsError(v) {
				return v
			}
		}
		if entry.AsMapEntry().IsOptional() {
			o, ok := value.(*types.Optional)
			if !ok || !o.HasValue() {
				continue
			}
			value = o.GetValue()
		}
		switch key.(type) {
		case types.String, types.Int, types.Uint, types.Bool:
			if _, twice := entries[key]; twice {
				return types.NewErr("the key %v is repeated in a map", key.Value())
			}
			entries[key] = value
		default:
			if !isAbsent(key) {
				return types.NewErr("%v cannot be a map key", key.Value())
			}
		}
	}
	e.elements += len(entries)
	return e.built(types.NewRefValMap(types.DefaultTypeAdapter, entries))
}

// built counts the result of a call and checks the limits.
func (e *evaluation) built(v ref.Val) ref.Val {
	switch v := v.(type) {
	case types.String:
		e.bytes += len(v)
	case types.Bytes:
		e.bytes += len(v)
	}
	if e.elements > maxElements {
		return e.end(fmt.Errorf("it builds lists of more than %d elements", maxElements))
	}
	if e.bytes > maxTextBytes {
		return e.end(fmt.Errorf("it builds strings of more than %d bytes", maxTextBytes))
	}
	return v
}

// comprehension evaluates the expansions of the macros all, exists, map, filter, count and similar ones.
func (e *evaluation) comprehension(ctx context.Context, x ast.Expr, c ast.ComprehensionExpr) ref.Val {
	over := e.eval(ctx, c.IterRange())
	if types.IsError(over) {
		return over
	}
	it, ok := iterate(over)
	if !ok {
		return e.unfit(x)
	}
	accu := e.eval(ctx, c.AccuInit())
	if types.IsError(accu) {
		return accu
	}
	depth := len(e.vars)
	defer func() { e.vars = e.vars[:depth] }()
	// The accumulator is first, then the variables, so that a step finds the variables first.
	e.vars = append(e.vars, variable{c.AccuVar(), accu})
	if element, condition := listStep(c); element != nil {
		return e.collect(ctx, c, it, element, condition)
	}
	if m, ok := accu.(traits.Mapper); ok && m.Size() == types.IntZero {
		e.vars[depth].value = types.NewMutableMap(types.DefaultTypeAdapter, map[ref.Val]ref.Val{})
	}
	for i := range it.values {
		e.bind(c, it, i)
		if e.eval(ctx, c.LoopCondition()) == types.False {
			e.vars = e.vars[:depth+1]
			break
		}
		next := e.eval(ctx, c.LoopStep())
		e.vars = e.vars[:depth+1]
		e.vars[depth].value = next
		if e.ended != nil {
			return e.ended
		}
	}
	if m, ok := e.vars[depth].value.(traits.MutableMapper); ok {
		e.elements += int(m.Size().(types.Int))
		e.vars[depth].value = m.ToImmutableMap()
	}
	return e.built(e.eval(ctx, c.Result()))
}

// bind sets the comprehension's variables for element i.
func (e *evaluation) bind(c ast.ComprehensionExpr, it iteration, i int) {
	switch {
	case c.HasIterVar2():
		e.vars = append(e.vars, variable{c.IterVar(), it.keys[i]}, variable{c.IterVar2(), it.values[i]})
	case it.overKeys:
		e.vars = append(e.vars, variable{c.IterVar(), it.keys[i]})
	default:
		e.vars = append(e.vars, variable{c.IterVar(), it.values[i]})
	}
}

// listStep recognizes a step that adds one element to a list, accu + [element], possibly on a condition, so
// that the list is not copied for each element.
func listStep(c ast.ComprehensionExpr) (element, condition ast.Expr) {
	if c.AccuInit().Kind() != ast.ListKind || c.AccuInit().AsList().Size() != 0 {
		return nil, nil
	}
	step := c.LoopStep()
	if step.Kind() == ast.CallKind && step.AsCall().FunctionName() == operators.Conditional {
		args := step.AsCall().Args()
		if args[2].Kind() != ast.IdentKind || args[2].AsIdent() != c.AccuVar() {
			return nil, nil
		}
		condition, step = args[0], args[1]
	}
	if step.Kind() != ast.CallKind || step.AsCall().FunctionName() != operators.Add {
		return nil, nil
	}
	args := step.AsCall().Args()
	if args[0].Kind() != ast.IdentKind || args[0].AsIdent() != c.AccuVar() || args[1].Kind() != ast.ListKind || args[1].AsList().Size() != 1 || len(args[1].AsList().OptionalIndices()) > 0 {
		return nil, nil
	}
	return args[1].AsList().Elements()[0], condition
}

// collect evaluates a comprehension that builds a list.
func (e *evaluation) collect(ctx context.Context, c ast.ComprehensionExpr, it iteration, element, condition ast.Expr) ref.Val {
	depth := len(e.vars)
	var list []ref.Val
	for i := range it.values {
		e.bind(c, it, i)
		keep := ref.Val(types.True)
		if condition != nil {
			keep = e.eval(ctx, condition)
		}
		var v ref.Val
		if isTrue(keep) {
			v = e.eval(ctx, element)
		}
		e.vars = e.vars[:depth]
		switch {
		case types.IsError(keep):
			return keep
		case v == nil:
			continue
		case types.IsError(v):
			return v
		}
		list = append(list, v)
		if e.elements++; e.elements > maxElements {
			return e.built(absent)
		}
	}
	e.vars[depth-1].value = listOf(list)
	return e.eval(ctx, c.Result())
}

// iteration is the sequence of a comprehension: the elements of a list with their indices, or the sorted keys
// of a map with their values.
type iteration struct {
	keys, values []ref.Val
	overKeys     bool // a single variable iterates over the keys
}

func iterate(v ref.Val) (iteration, bool) {
	switch v := v.(type) {
	case traits.Mapper:
		it := iteration{overKeys: true}
		for keys := v.Iterator(); keys.HasNext() == types.True; {
			it.keys = append(it.keys, keys.Next())
		}
		slices.SortFunc(it.keys, compareKeys)
		for _, k := range it.keys {
			value, found := v.Find(k)
			if !found {
				value = absent
			}
			it.values = append(it.values, value)
		}
		return it, true
	case traits.Lister:
		n := int(v.Size().(types.Int))
		it := iteration{keys: make([]ref.Val, n), values: make([]ref.Val, n)}
		for i := range n {
			it.keys[i], it.values[i] = types.Int(i), v.Get(types.Int(i))
		}
		return it, true
	}
	return iteration{}, false
}

// compareKeys orders a map's keys: false before true, then numbers, then strings.
func compareKeys(a, b ref.Val) int {
	if c, _, ok := compareNumbers(a, b); ok {
		return c
	}
	if a.Type() == b.Type() {
		if x, ok := a.(traits.Comparer); ok {
			if c, ok := x.Compare(b).(types.Int); ok {
				return int(c)
			}
		}
	}
	return keyRank(a) - keyRank(b)
}

func keyRank(v ref.Val) int {
	switch v.(type) {
	case types.Bool:
		return 0
	case types.String:
		return 2
	}
	return 1
}
