package lang

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // time zones mean the same on every machine

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"

	"github.com/betracehq/betrace/trace"
)

const maxNesting = 250

// The types of the values that expressions see.
var (
	spanType  = cel.ObjectType("Span")
	traceType = cel.ObjectType("Trace")
	eventType = cel.ObjectType("Event")
	linkType  = cel.ObjectType("Link")
	attrsType = cel.MapType(cel.StringType, cel.DynType)
	spansType = cel.ListType(spanType)
)

// fieldTypes are the fields of the types above.
var fieldTypes = map[string]map[string]*types.Type{
	"Trace": {
		"id": cel.StringType, "start": cel.TimestampType, "end": cel.TimestampType, "duration": cel.DurationType,
		"root": spanType, "services": cel.ListType(cel.StringType),
	},
	"Span": {
		"id": cel.StringType, "name": cel.StringType, "service": cel.StringType, "kind": cel.StringType,
		"status": cel.StringType, "statusMessage": cel.StringType,
		"start": cel.TimestampType, "end": cel.TimestampType, "duration": cel.DurationType,
		"scope": cel.StringType, "scopeVersion": cel.StringType,
		"attributes": attrsType, "resource": attrsType,
		"events": cel.ListType(eventType), "links": cel.ListType(linkType),
		"parent": spanType, "children": spansType,
	},
	"Event": {"name": cel.StringType, "time": cel.TimestampType, "attributes": attrsType},
	"Link":  {"traceId": cel.StringType, "spanId": cel.StringType, "attributes": attrsType},
}

// provider adds the types above to cel-go's own.
type provider struct{ types.Provider }

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := fieldTypes[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if fields, ok := fieldTypes[name]; ok {
		return slices.Sorted(maps.Keys(fields)), true
	}
	return p.Provider.FindStructFieldNames(name)
}

func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if fields, ok := fieldTypes[name]; ok {
		t, ok := fields[field]
		return &types.FieldType{Type: t}, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}

// equals, notEquals and isIn replace ==, != and in after parsing. Their operands may have different number
// types, which cel-go's checker would refuse. [checker.comparison] refuses operands that cannot be equal.
const (
	equals    = "@equals"
	notEquals = "@not_equals"
	isIn      = "@in_by_value"
)

// Environment compiles expressions.
type Environment struct {
	cel      *cel.Env
	maxBytes int // limit for one expression
	// implementations are cel-go's functions, by overload ID and by name.
	implementations map[string]*functions.Overload
	// aliases are the older names of attributes that expressions also read.
	aliases Aliases
}

// NewEnvironment returns an environment for expressions of at most maxBytes bytes, which also read attributes
// by their older names.
func NewEnvironment(maxBytes int, aliases Aliases) (*Environment, error) {
	options := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(maxBytes),
		cel.OptionalTypes(), ext.Strings(ext.StringsValidateFormatCalls(true)), ext.Lists(ext.ListsMaxRangeSize(maxElements)), ext.Sets(), ext.Math(), ext.Bindings(), ext.TwoVarComprehensions(),
		cel.Variable("trace", traceType),
		cel.Variable("spans", spansType),
		cel.Function(equals, cel.Overload("equals_by_value", []*cel.Type{cel.DynType, cel.DynType}, cel.BoolType)),
		cel.Function(notEquals, cel.Overload("not_equals_by_value", []*cel.Type{cel.DynType, cel.DynType}, cel.BoolType)),
		cel.Function(isIn, cel.Overload("in_by_value", []*cel.Type{cel.DynType, cel.DynType}, cel.BoolType)),
		cel.Function(operators.Index, cel.Overload("span_attribute", []*cel.Type{spanType, cel.StringType}, cel.DynType)),
		cel.Function(operators.OptIndex, cel.Overload("span_optional_attribute", []*cel.Type{spanType, cel.StringType}, cel.OptionalType(cel.DynType))),
		cel.Function("before", cel.MemberOverload("span_before_span", []*cel.Type{spanType, spanType}, cel.BoolType)),
		cel.Function("ancestors", cel.MemberOverload("span_ancestors", []*cel.Type{spanType}, spansType)),
		cel.Function("descendants", cel.MemberOverload("span_descendants", []*cel.Type{spanType}, spansType)),
		cardFunction(),
		cel.Macros(countMacro),
	}
	for _, op := range []struct{ name, id string }{
		{operators.Add, "add"}, {operators.Subtract, "subtract"}, {operators.Multiply, "multiply"}, {operators.Divide, "divide"},
	} {
		numbers := []*cel.Type{cel.IntType, cel.UintType, cel.DoubleType}
		for _, a := range numbers {
			for _, b := range numbers {
				if a == b {
					continue
				}
				result := cel.DoubleType
				if a != cel.DoubleType && b != cel.DoubleType {
					result = cel.IntType
				}
				options = append(options, cel.Function(op.name, cel.Overload(fmt.Sprintf("%s_%s_%s", op.id, a, b), []*cel.Type{a, b}, result)))
			}
		}
	}
	// This must be last, because the extensions add their types to cel-go's own provider.
	options = append(options, func(env *cel.Env) (*cel.Env, error) {
		return cel.CustomTypeProvider(provider{env.CELTypeProvider()})(env)
	})
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("CEL environment: %w", err)
	}
	e := &Environment{maxBytes: maxBytes, aliases: aliases, cel: env, implementations: map[string]*functions.Overload{}}
	for _, f := range env.Functions() {
		overloads, err := f.Bindings()
		if err != nil {
			return nil, fmt.Errorf("CEL function %s: %w", f.Name(), err)
		}
		for _, o := range overloads {
			e.implementations[o.Operator] = o
		}
	}
	return e, nil
}

// countMacro implements count(list, x, predicate), the number of elements for which the predicate is true.
var countMacro = cel.GlobalMacro("count", 3, func(f cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	if args[1].Kind() != ast.IdentKind {
		return nil, f.NewError(args[1].ID(), "count(list, x, predicate): x must be a name")
	}
	accu := f.AccuIdentName()
	step := f.NewCall(operators.Conditional, args[2], f.NewCall(operators.Add, f.NewAccuIdent(), f.NewLiteral(types.IntOne)), f.NewAccuIdent())
	return f.NewComprehension(args[0], args[1].AsIdent(), accu, f.NewLiteral(types.IntZero), f.NewLiteral(types.True), step, f.NewAccuIdent()), nil
})

// ResultType is the required type of an expression's result.
type ResultType uint8

// The required results: a boolean, a list of spans, a string.
const (
	WantBool ResultType = iota
	WantSpans
	WantText
	wantAny // any type, for tests
)

// Expression is one compiled expression of a rule.
type Expression struct {
	source string
	root   ast.Expr
	types  map[int64]*types.Type
	// functions are the implementations of calls, by the call's ID.
	functions map[int64]*functions.Overload
	// patterns are the regular expressions that are literals, by the call's ID.
	patterns map[int64]*regexp.Regexp
	// reads holds the IDs of parts that read a key. The value is true if the key is known to be an
	// attribute's, false if it may also be a key within an attribute's value.
	reads map[int64]bool
	// aliasesRead are the older names of the attributes that the expression reads, by key.
	aliasesRead Aliases
}

// SourceError is a mistake at a line (from 1) and column (from 0) of an expression.
type SourceError struct {
	Line, Column int
	text         string
}

func (e *SourceError) Error() string { return e.text }

// Compile parses and checks an expression, and refuses mistakes that can be detected without a trace. Its
// errors, joined, have type *SourceError.
func (e *Environment) Compile(source string, want ResultType) (*Expression, error) {
	env := e.cel
	if len(source) > e.maxBytes {
		return nil, &SourceError{1, 0, fmt.Sprintf("the expression has %d bytes, more than the limit of %d", len(source), e.maxBytes)}
	}
	if strings.TrimSpace(source) == "" {
		return nil, &SourceError{1, 0, "the expression is empty"}
	}
	if want == WantText {
		var err error
		if env, err = env.Extend(cel.Variable("about", spansType)); err != nil {
			return nil, fmt.Errorf("CEL environment: %w", err)
		}
	}
	parsed, issues := env.Parse(source)
	if issues.Err() != nil {
		return nil, syntaxErrors(issues, source)
	}
	native := parsed.NativeRep()
	compareByValue(native)
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, e.checkErrors(issues, native, source)
	}
	native = checked.NativeRep()
	p := &Expression{
		source: source, root: native.Expr(), types: native.TypeMap(),
		functions: map[int64]*functions.Overload{}, patterns: map[int64]*regexp.Regexp{},
	}
	c := checker{Environment: e, ast: native, program: p}
	p.noteOlderNames(e.aliases)
	c.result(want)
	ast.PreOrderVisit(native.Expr(), ast.NewExprVisitor(c.visit))
	if len(c.errs) == 0 && want != wantAny {
		if f := p.failing(p.root); f != nil {
			c.refuse(f.at, "%v, on every trace", f.err)
		}
	}
	return p, errors.Join(c.errs...)
}

// compareByValue replaces the operators ==, != and in of a parsed expression.
func compareByValue(a *ast.AST) {
	factory := ast.NewExprFactory()
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.CallKind {
			return
		}
		call := x.AsCall()
		switch call.FunctionName() {
		case operators.Equals:
			x.SetKindCase(factory.NewCall(x.ID(), equals, call.Args()...))
		case operators.NotEquals:
			x.SetKindCase(factory.NewCall(x.ID(), notEquals, call.Args()...))
		case operators.In:
			x.SetKindCase(factory.NewCall(x.ID(), isIn, call.Args()...))
		}
	}))
}

// newSourceError returns an error at line (from 1) and column (from 0), with an excerpt of the source.
func newSourceError(source string, line, column int, text string) *SourceError {
	return &SourceError{max(line, 1), max(column, 0), text + excerpt(source, line, column)}
}

// excerpt returns the source at the position of an error, for its message.
func excerpt(source string, line, column int) string {
	lines := strings.Split(source, "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	text := []rune(lines[line-1])
	from, to := max(0, column-40), min(len(text), column+20)
	if from >= to {
		return ""
	}
	return fmt.Sprintf(" (at %q)", string(text[min(max(column, 0), to):to]))
}

// checker refuses mistakes that cel-go's type checker accepts, and finds the implementations of functions.
type checker struct {
	*Environment
	ast     *ast.AST
	program *Expression
	errs    []error
}

func (c *checker) refuse(x ast.Expr, format string, args ...any) {
	at := c.ast.SourceInfo().GetStartLocation(x.ID())
	c.errs = append(c.errs, newSourceError(c.program.source, at.Line(), at.Column(), fmt.Sprintf(format, args...)))
}

func (c *checker) typeOf(x ast.Expr) *types.Type { return c.ast.GetType(x.ID()) }

// result checks the type of the whole expression.
func (c *checker) result(want ResultType) {
	t := c.typeOf(c.ast.Expr())
	switch want {
	case WantBool:
		if !isKind(t, types.BoolKind, types.DynKind) {
			c.refuse(c.ast.Expr(), "want a boolean, have %s", t)
		}
	case WantSpans:
		if !t.IsExactType(spansType) {
			c.refuse(c.ast.Expr(), "want a list of spans, have %s", t)
		}
	case WantText:
		if !isKind(t, types.StringKind, types.DynKind) {
			c.refuse(c.ast.Expr(), "want a string, have %s: use string(…)", t)
		}
	}
}

func isKind(t *types.Type, kinds ...types.Kind) bool { return slices.Contains(kinds, t.Kind()) }

func (c *checker) visit(x ast.Expr) {
	switch x.Kind() {
	case ast.SelectKind:
		operand := x.AsSelect().Operand()
		if isKind(ofOptional(c.typeOf(operand)), types.DynKind) {
			c.refuse(x, "field %q of an attribute's value cannot be selected: write the whole key in brackets, as in s.attributes[\"a.b\"]", x.AsSelect().FieldName())
		}
	case ast.StructKind:
		c.refuse(x, "%s{…}: messages cannot be constructed", x.AsStruct().TypeName())
	case ast.CallKind:
		c.call(x, x.AsCall())
	case ast.MapKind:
		c.keys(x.AsMap())
	}
}

// keys refuses map keys of types that keys cannot have, and repeated keys.
func (c *checker) keys(m ast.MapExpr) {
	seen := map[ref.Val]bool{}
	for _, entry := range m.Entries() {
		key := entry.AsMapEntry().Key()
		if t := c.typeOf(key); !isKind(t, types.StringKind, types.IntKind, types.UintKind, types.BoolKind, types.DynKind) {
			c.refuse(key, "a map key must be a string, a whole number or a boolean; this is %s", shortType(t))
		}
		if key.Kind() != ast.LiteralKind {
			continue
		}
		if seen[key.AsLiteral()] {
			c.refuse(key, "the key %v is repeated in this map", key.AsLiteral().Value())
		}
		seen[key.AsLiteral()] = true
	}
}

func (c *checker) call(x ast.Expr, call ast.CallExpr) {
	name := call.FunctionName()
	args := call.Args()
	switch name {
	case equals, notEquals:
		c.comparison(x, args[0], args[1])
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		c.noNull(x, args...)
	case isIn:
		c.membership(x, args[0], args[1])
	case "matches":
		pattern := args[len(args)-1]
		if text, ok := literalString(pattern); ok {
			re, err := regexp.Compile(text)
			if err != nil {
				c.refuse(pattern, "bad regular expression: %v", err)
				return
			}
			c.program.patterns[x.ID()] = re
		}
	case "duration", "timestamp":
		if len(args) == 1 {
			c.timeLiteral(name, args[0])
		}
	case "startsWith", "endsWith", "contains":
		if call.IsMemberFunction() && len(args) == 1 {
			c.partOfID(call.Target(), args[0])
		}
	case operators.Index:
		c.negativeIndex(args[0], args[1])
	}
	overloads := c.ast.GetOverloadIDs(x.ID())
	if o, ok := c.implementations[name]; ok {
		c.program.functions[x.ID()] = o
	}
	if len(overloads) == 1 {
		if o, ok := c.implementations[overloads[0]]; ok {
			c.program.functions[x.ID()] = o
		}
	}
	if strings.HasPrefix(name, "get") && call.IsMemberFunction() && len(args) == 1 {
		c.timeZone(x, args[0])
	}
}

// timeZone refuses an unknown time zone as an argument of a timestamp function.
func (c *checker) timeZone(x, zone ast.Expr) {
	text, ok := literalString(zone)
	o := c.program.functions[x.ID()]
	if !ok || o == nil || !isKind(c.typeOf(x.AsCall().Target()), types.TimestampKind) {
		return
	}
	if v := invoke(o, []ref.Val{types.Timestamp{Time: time.Unix(0, 0).UTC()}, types.String(text)}); types.IsError(v) {
		c.refuse(zone, `%v: write a name like "Europe/Berlin" or an offset like "+02:00"`, errorOf(v))
	}
}

// negativeIndex refuses spans[-1].
func (c *checker) negativeIndex(list, index ast.Expr) {
	if index.Kind() != ast.LiteralKind || !isKind(c.typeOf(list), types.ListKind) {
		return
	}
	if n, ok := index.AsLiteral().(types.Int); ok && n < 0 {
		c.refuse(index, "an index must not be negative: the last element of a list is l[l.size() - 1]")
	}
}

// timeLiteral refuses an invalid duration or timestamp literal.
func (c *checker) timeLiteral(function string, arg ast.Expr) {
	text, ok := literalString(arg)
	if !ok {
		return
	}
	if function == "duration" {
		if _, err := time.ParseDuration(text); err != nil {
			c.refuse(arg, "bad duration: %v: %s", err, durationHint(text))
		}
		return
	}
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		c.refuse(arg, "bad timestamp: %v: write it as 2026-01-31T00:00:00Z", err)
	} else if v := types.String(text).ConvertToType(types.TimestampType); types.IsError(v) {
		c.refuse(arg, "bad timestamp: %v: years range from 1 to 9999", errorOf(v))
	}
}

func (c *checker) comparison(x, a, b ast.Expr) {
	c.noNull(x, a, b)
	c.knownName(a, b)
	c.knownName(b, a)
	if !mayBeEqual(c.typeOf(a), c.typeOf(b)) {
		c.refuse(x, "%s is never equal to %s%s", shortType(c.typeOf(a)), shortType(c.typeOf(b)), neverEqualHint(c.typeOf(a), c.typeOf(b)))
	}
}

// membership refuses x in y if y is neither a list nor a map, or if its elements cannot equal x.
func (c *checker) membership(x, element, in ast.Expr) {
	c.noNull(x, element)
	t := c.typeOf(in)
	switch {
	case in.Kind() == ast.ListKind:
		for _, e := range in.AsList().Elements() {
			c.comparison(x, element, e)
		}
	case isKind(t, types.ListKind, types.MapKind):
		if !mayBeEqual(c.typeOf(element), t.Parameters()[0]) {
			c.refuse(x, "%s is never in %s", c.typeOf(element), t)
		}
	case !isKind(t, types.DynKind):
		hint := ""
		if isKind(c.typeOf(element), types.ListKind, types.MapKind) {
			hint = ": the list or map is on the right, as in \"a\" in trace.services"
		} else if isKind(t, types.StringKind) {
			hint = `: for a part of a string write a.contains("b")`
		}
		c.refuse(x, "in requires a list or a map on its right, have %s%s", t, hint)
	}
}

func (c *checker) noNull(x ast.Expr, operands ...ast.Expr) {
	for _, o := range operands {
		if o.Kind() == ast.LiteralKind && o.AsLiteral() == types.NullValue {
			c.refuse(x, "a comparison with null is always false: use has(…), or \"key\" in s.attributes")
		}
	}
}

// idDigits returns the number of digits of the ID that a part reads, or 0 if it reads no ID.
func (c *checker) idDigits(field ast.Expr) int {
	if field.Kind() != ast.SelectKind || field.AsSelect().IsTestOnly() {
		return 0
	}
	return idDigits[[2]string{c.typeOf(field.AsSelect().Operand()).TypeName(), field.AsSelect().FieldName()}]
}

// idDigits holds the number of hexadecimal digits of IDs, by type and field.
var idDigits = map[[2]string]int{{"Trace", "id"}: 32, {"Span", "id"}: 16, {"Link", "traceId"}: 32, {"Link", "spanId"}: 16}

// knownID refuses a comparison of an ID with a string that cannot be an ID.
func (c *checker) knownID(field, literal ast.Expr) {
	text, ok := literalString(literal)
	digits := c.idDigits(field)
	switch {
	case !ok || digits == 0:
	case c.digits(literal, text) && len(text) != digits:
		c.refuse(literal, "this ID has %d hexadecimal digits, %q has %d", digits, text, len(text))
	}
}

// partOfID refuses startsWith, endsWith and contains with a string that cannot be part of an ID.
func (c *checker) partOfID(field, literal ast.Expr) {
	text, ok := literalString(literal)
	digits := c.idDigits(field)
	switch {
	case !ok || digits == 0:
	case c.digits(literal, text) && len(text) > digits:
		c.refuse(literal, "this ID has %d hexadecimal digits, %q has %d", digits, text, len(text))
	}
}

// digits refuses a string with characters other than the digits of IDs.
func (c *checker) digits(literal ast.Expr, text string) bool {
	switch {
	case strings.Trim(text, "0123456789abcdef") == "":
		return true
	case strings.Trim(strings.ToLower(text), "0123456789abcdef") == "":
		c.refuse(literal, "IDs are written in lower case: %q", strings.ToLower(text))
	default:
		c.refuse(literal, "an ID consists of hexadecimal digits, 0-9 and a-f; %q does not", text)
	}
	return false
}

// knownName refuses unknown kinds and statuses, as in s.kind == "servr".
func (c *checker) knownName(field, literal ast.Expr) {
	c.knownID(field, literal)
	text, ok := literalString(literal)
	if !ok || field.Kind() != ast.SelectKind || !c.typeOf(field.AsSelect().Operand()).IsExactType(spanType) {
		return
	}
	switch name := field.AsSelect().FieldName(); {
	case name == "kind" && !slices.Contains(trace.KindNames[:], text):
		c.refuse(literal, "unknown kind %q: kinds are %s", text, strings.Join(trace.KindNames[:], ", "))
	case name == "status" && !slices.Contains(trace.StatusNames[:], text):
		c.refuse(literal, "unknown status %q: statuses are %s", text, strings.Join(trace.StatusNames[:], ", "))
	}
}

// mayBeEqual reports whether values of two types can be equal. Numbers compare by value, all other values
// only within their type.
func mayBeEqual(a, b *types.Type) bool {
	numbers := []types.Kind{types.IntKind, types.UintKind, types.DoubleKind}
	switch {
	case isKind(a, types.DynKind, types.TypeParamKind, types.NullTypeKind) || isKind(b, types.DynKind, types.TypeParamKind, types.NullTypeKind):
		return true
	case isKind(a, numbers...) && isKind(b, numbers...):
		return true
	case a.Kind() != b.Kind():
		return false
	case isKind(a, types.ListKind, types.MapKind):
		for i := range a.Parameters() {
			if !mayBeEqual(a.Parameters()[i], b.Parameters()[i]) {
				return false
			}
		}
		return true
	case isKind(a, types.StructKind, types.OpaqueKind):
		return a.TypeName() == b.TypeName()
	}
	return true
}

func literalString(x ast.Expr) (string, bool) {
	if x.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := x.AsLiteral().(types.String)
	return string(s), ok
}
