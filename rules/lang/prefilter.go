package lang

import (
	"cmp"
	"regexp"
	"time"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/traceql"
)

// Prefilter returns a filter that matches every trace that filter matches and for which when is true or an
// error. A nil filter matches all traces; a nil when is true.
func Prefilter(filter *traceql.Filter, when *Expression) *traceql.Filter {
	best := traceql.Expr(traceql.True)
	if filter != nil {
		best = filter.Expr()
	}
	if when != nil && !when.mayFail() {
		best = moreSelective(best, prefilter{when}.ofTrace(when.root))
	}
	f, err := traceql.New(best)
	if err != nil {
		return traceql.All // an inexpressible part does not narrow the filter
	}
	return f
}

// mayFail reports whether an evaluation could fail on a trace that the derived filter does not match. The
// resulting error must not be missed, so in this case no filter is derived. Examples are indexing lists,
// dividing and converting.
func (p *Expression) mayFail() bool {
	fails := false
	ast.PreOrderVisit(p.root, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.CallKind {
			return
		}
		switch call := x.AsCall(); call.FunctionName() {
		case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.NotStrictlyFalse, operators.Conditional,
			equals, notEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals, isIn,
			"size", "startsWith", "endsWith", "contains", FunctionHasCardNumber, "before", "ancestors", "descendants", "lowerAscii", "upperAscii", "trim":
		case operators.Add:
			// Counting and joining cannot fail, but sums of attributes may overflow.
			for _, a := range call.Args() {
				if k := p.types[a.ID()].Kind(); k == types.DynKind {
					fails = true
				}
			}
		case operators.Subtract:
			for _, a := range call.Args() {
				if k := p.types[a.ID()].Kind(); k != types.TimestampKind && k != types.DurationKind {
					fails = true
				}
			}
		case "matches":
			fails = fails || p.patterns[x.ID()] == nil
		case "duration", "timestamp":
			if _, literal := literalString(call.Args()[0]); !literal {
				fails = true
			}
		case operators.Index:
			if !p.isA(call.Args()[0], "Span") {
				if _, isMap := p.attributeMap(call.Args()[0]); !isMap {
					fails = true
				}
			}
		default:
			fails = true
		}
	}))
	return fails
}

// prefilter derives filters from an expression.
type prefilter struct{ *Expression }

// ofTrace returns a filter that matches at least one span of every trace on which x is true.
func (p prefilter) ofTrace(x ast.Expr) traceql.Expr {
	switch x.Kind() {
	case ast.CallKind:
		args := x.AsCall().Args()
		switch name := x.AsCall().FunctionName(); name {
		case operators.LogicalAnd:
			best := p.ofTrace(args[0])
			for _, a := range args[1:] {
				best = moreSelective(best, p.ofTrace(a))
			}
			return best
		case operators.LogicalOr:
			any := make([]traceql.Expr, len(args))
			for i, a := range args {
				any[i] = p.ofTrace(a)
			}
			return traceql.AnyOf(any...)
		case isIn:
			if s, ok := literalString(args[0]); ok && s != "" && args[1].Kind() == ast.SelectKind && args[1].AsSelect().FieldName() == "services" && p.isA(args[1].AsSelect().Operand(), "Trace") {
				return traceql.Compare(serviceField, traceql.OpEqual, traceql.String(s))
			}
		case operators.Greater, operators.GreaterEquals, equals, notEquals:
			return p.ofCount(name, args[0], args[1])
		case operators.Less, operators.LessEquals:
			flipped := operators.Greater
			if name == operators.LessEquals {
				flipped = operators.GreaterEquals
			}
			return p.ofCount(flipped, args[1], args[0])
		}
	case ast.ComprehensionKind:
		fold := x.AsComprehension()
		// exists(s, P), or exists_one
		if predicate := existsPredicate(fold); predicate != nil {
			return traceql.And(p.ofRange(fold.IterRange()), p.ofSpan(predicate, fold.IterVar()))
		}
	}
	return traceql.True
}

// ofCount handles comparisons of size(…) and count(…) with a number that require at least one element.
func (p prefilter) ofCount(op string, counted, bound ast.Expr) traceql.Expr {
	if bound.Kind() != ast.LiteralKind {
		return traceql.True
	}
	n, ok := bound.AsLiteral().(types.Int)
	if !ok || !(op == operators.Greater && n >= 0 || op == operators.GreaterEquals && n >= 1 || op == equals && n >= 1 || op == notEquals && n == 0) {
		return traceql.True
	}
	if counted.Kind() == ast.ComprehensionKind {
		if fold := counted.AsComprehension(); isCount(fold) {
			return traceql.And(p.ofRange(fold.IterRange()), p.ofSpan(fold.LoopStep().AsCall().Args()[0], fold.IterVar()))
		}
	}
	if counted.Kind() == ast.CallKind && counted.AsCall().FunctionName() == "size" {
		list := counted.AsCall().Target()
		if !counted.AsCall().IsMemberFunction() {
			list = counted.AsCall().Args()[0]
		}
		return p.ofRange(list)
	}
	return traceql.True
}

// ofRange returns a filter that matches every span in the list, if the list is spans or a filter of it. For
// other lists it returns True.
func (p prefilter) ofRange(list ast.Expr) traceql.Expr {
	if list.Kind() != ast.ComprehensionKind {
		return traceql.True
	}
	fold := list.AsComprehension()
	element, condition := listStep(fold)
	if element == nil || condition == nil || element.Kind() != ast.IdentKind || element.AsIdent() != fold.IterVar() || fold.HasIterVar2() {
		return traceql.True
	}
	return traceql.And(p.ofRange(fold.IterRange()), p.ofSpan(condition, fold.IterVar()))
}

// existsPredicate returns P from exists(x, P) and exists_one(x, P).
func existsPredicate(c ast.ComprehensionExpr) ast.Expr {
	if c.HasIterVar2() || c.LoopStep().Kind() != ast.CallKind || c.AccuInit().Kind() != ast.LiteralKind {
		return nil
	}
	step := c.LoopStep().AsCall()
	if step.FunctionName() == operators.LogicalOr && c.AccuInit().AsLiteral() == types.False && isIdent(step.Args()[0], c.AccuVar()) {
		return step.Args()[1]
	}
	if isCountStep(c) && c.Result().Kind() == ast.CallKind { // result == 1
		return step.Args()[0]
	}
	return nil
}

func isCount(c ast.ComprehensionExpr) bool {
	return isCountStep(c) && c.Result().Kind() == ast.IdentKind
}

func isCountStep(c ast.ComprehensionExpr) bool {
	step := c.LoopStep()
	return !c.HasIterVar2() && step.Kind() == ast.CallKind && step.AsCall().FunctionName() == operators.Conditional &&
		c.AccuInit().Kind() == ast.LiteralKind && c.AccuInit().AsLiteral() == ref.Val(types.IntZero) && isIdent(step.AsCall().Args()[2], c.AccuVar())
}

func isIdent(x ast.Expr, name string) bool { return x.Kind() == ast.IdentKind && x.AsIdent() == name }

// ofSpan returns a filter that matches each span s for which x is true. s need not come from the list spans;
// it is a span of the trace in any case.
func (p prefilter) ofSpan(x ast.Expr, s string) traceql.Expr {
	if x.Kind() == ast.ComprehensionKind {
		// s.events.exists(e, P): a filter on attributes of events tests those of any event.
		fold := x.AsComprehension()
		if predicate := existsPredicate(fold); predicate != nil && fold.IterRange().Kind() == ast.SelectKind && isIdent(fold.IterRange().AsSelect().Operand(), s) {
			if name := fold.IterRange().AsSelect().FieldName(); name == "events" || name == "links" {
				return p.ofSpan(predicate, fold.IterVar())
			}
		}
		return traceql.True
	}
	if f, ok := p.field(x, s); ok && f.Scope != traceql.ScopeIntrinsic {
		if x.Kind() == ast.CallKind && x.AsCall().FunctionName() == isIn || x.Kind() == ast.SelectKind && x.AsSelect().IsTestOnly() {
			return p.anyName(f, traceql.OpNotEqual, traceql.Nil)
		}
		return p.anyName(f, traceql.OpEqual, traceql.True)
	}
	if x.Kind() != ast.CallKind {
		return traceql.True
	}
	call := x.AsCall()
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		parts := make([]traceql.Expr, len(args))
		for i, a := range args {
			parts[i] = p.ofSpan(a, s)
		}
		if name == operators.LogicalAnd {
			return traceql.And(parts...)
		}
		return traceql.AnyOf(parts...)
	case isIn:
		if args[1].Kind() == ast.ListKind && len(args[1].AsList().OptionalIndices()) == 0 {
			var any []traceql.Expr
			for _, e := range args[1].AsList().Elements() {
				any = append(any, p.comparison(args[0], traceql.OpEqual, e, s))
			}
			return traceql.AnyOf(any...)
		}
	case "startsWith", "endsWith", "contains", "matches", FunctionHasCardNumber:
		return p.textFunction(name, call, s)
	}
	if op, ok := comparisons[call.FunctionName()]; ok {
		if op.isFlipped(args) {
			return p.comparison(args[1], op.flipped, args[0], s)
		}
		return p.comparison(args[0], op.op, args[1], s)
	}
	return traceql.True
}

type comparison struct{ op, flipped traceql.Op }

func (comparison) isFlipped(args []ast.Expr) bool {
	_, ok := constant(args[0])
	return ok
}

var comparisons = map[string]comparison{
	equals:                  {traceql.OpEqual, traceql.OpEqual},
	notEquals:               {traceql.OpNotEqual, traceql.OpNotEqual},
	operators.Less:          {traceql.OpLess, traceql.OpGreater},
	operators.LessEquals:    {traceql.OpLessEqual, traceql.OpGreaterEqual},
	operators.Greater:       {traceql.OpGreater, traceql.OpLess},
	operators.GreaterEquals: {traceql.OpGreaterEqual, traceql.OpLessEqual},
}

var serviceField = traceql.Attribute(traceql.ScopeResource, trace.ServiceName)

// fields are the fields of spans and events that filters can express, by type.
var fields = map[string]map[string]traceql.Field{
	"Span": {
		"name": traceql.Intrinsic("span:name"), "kind": traceql.Intrinsic("span:kind"), "status": traceql.Intrinsic("span:status"),
		"statusMessage": traceql.Intrinsic("span:statusMessage"), "duration": traceql.Intrinsic("span:duration"), "service": serviceField,
	},
	"Event": {"name": traceql.Intrinsic("event:name")},
}

// field returns x as a field or attribute of s.
func (p prefilter) field(x ast.Expr, s string) (traceql.Field, bool) {
	if scope, key, ok := p.attribute(x); ok {
		return traceql.Attribute(scope, key), isIdent(subject(x), s)
	}
	if x.Kind() != ast.SelectKind || x.AsSelect().IsTestOnly() || !isIdent(x.AsSelect().Operand(), s) {
		return traceql.Field{}, false
	}
	t := p.types[x.AsSelect().Operand().ID()]
	f, ok := fields[t.TypeName()][x.AsSelect().FieldName()]
	return f, ok
}

// comparison returns the filter field op constant, or True if the comparison has another form.
func (p prefilter) comparison(left ast.Expr, op traceql.Op, right ast.Expr, s string) traceql.Expr {
	f, ok := p.field(left, s)
	if !ok {
		return traceql.True
	}
	c, ok := constant(right)
	if !ok {
		return traceql.True
	}
	isText := c.Type == traceql.TypeString
	switch {
	case isText && f.Key == "span:kind":
		for kind, name := range trace.KindNames {
			if name == c.Value.Str() && (op == traceql.OpEqual || op == traceql.OpNotEqual) {
				return traceql.Compare(f, op, traceql.Kind(trace.Kind(kind)))
			}
		}
		return traceql.True
	case isText && f.Key == "span:status":
		for status, name := range trace.StatusNames {
			if name == c.Value.Str() && (op == traceql.OpEqual || op == traceql.OpNotEqual) {
				return traceql.Compare(f, op, traceql.Status(trace.Status(status)))
			}
		}
		return traceql.True
	case isText && (f == serviceField || f.Key == "span:statusMessage") && (op != traceql.OpEqual || c.Value.Str() == ""):
		return traceql.True // "" corresponds to an absent value in TraceQL
	}
	return p.anyName(f, op, c)
}

// anyName compares an attribute under each of its names.
func (p prefilter) anyName(f traceql.Field, op traceql.Op, c traceql.Const) traceql.Expr {
	any := []traceql.Expr{traceql.Compare(f, op, c)}
	if f.Scope != traceql.ScopeIntrinsic {
		for _, name := range p.OlderNames(f.Key) {
			any = append(any, traceql.Compare(traceql.Attribute(f.Scope, name), op, c))
		}
	}
	return traceql.AnyOf(any...)
}

// textFunction returns a regular expression that matches whenever the function is true. TraceQL's regular
// expressions are anchored at both ends.
func (p prefilter) textFunction(name string, call ast.CallExpr, s string) traceql.Expr {
	operands := call.Args()
	if call.IsMemberFunction() {
		operands = append([]ast.Expr{call.Target()}, operands...)
	}
	f, ok := p.field(operands[0], s)
	text, literal := cardPattern, true
	if name != FunctionHasCardNumber {
		text, literal = literalString(operands[1])
	}
	if !ok || !literal || f.Key == "span:kind" || f.Key == "span:status" || f.Key == "span:duration" {
		return traceql.True
	}
	quoted := regexp.QuoteMeta(text)
	switch name {
	case "startsWith":
		quoted += ".*"
	case "endsWith":
		quoted = ".*" + quoted
	case "contains":
		quoted = ".*" + quoted + ".*"
	case "matches", FunctionHasCardNumber:
		quoted = ".*(?:" + text + ").*"
	}
	whole, err := regexp.Compile("^(?s:" + quoted + ")$")
	if err != nil || whole.MatchString("") {
		return traceql.True // "" may represent an absent value
	}
	return p.anyName(f, traceql.OpRegex, traceql.String(quoted))
}

// constant returns the value of x if it is a known constant.
func constant(x ast.Expr) (traceql.Const, bool) {
	if x.Kind() == ast.CallKind && x.AsCall().FunctionName() == "duration" {
		if text, ok := literalString(x.AsCall().Args()[0]); ok {
			if d, err := time.ParseDuration(text); err == nil {
				return traceql.Duration(d), true
			}
		}
		return traceql.Const{}, false
	}
	if x.Kind() != ast.LiteralKind {
		return traceql.Const{}, false
	}
	switch v := x.AsLiteral().(type) {
	case types.String:
		return traceql.String(string(v)), true
	case types.Int:
		return traceql.Int(int64(v)), true
	case types.Uint:
		if v <= 1<<63-1 {
			return traceql.Int(int64(v)), true
		}
	case types.Double:
		return traceql.Float(float64(v)), true
	case types.Bool:
		return traceql.Bool(bool(v)), true
	}
	return traceql.Const{}, false
}

// moreSelective returns the more selective filter, estimated from its form. The part that is sent to Tempo is
// compared first. Equalities of strings are the most selective, presence is the least.
func moreSelective(a, b traceql.Expr) traceql.Expr {
	if cmp.Or(cmp.Compare(sentSelectivity(b), sentSelectivity(a)), cmp.Compare(traceql.Selectivity(b), traceql.Selectivity(a))) > 0 {
		return b
	}
	return a
}

func sentSelectivity(x traceql.Expr) int {
	f, err := traceql.New(x)
	if err != nil {
		return 0
	}
	return traceql.Selectivity(f.Prefilter().Expr())
}
