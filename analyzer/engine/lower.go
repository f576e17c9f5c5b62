package engine

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace/columnar"
)

// op is what a node of a lowered expression does.
type op uint8

const (
	opUnknown    op = iota // what the plan does not do; reason says what
	opConst                // constant
	opVar                  // the span, event or link that binder stands for
	opParent               // parent of args[0]
	opRoot                 // root of the trace
	opTraceField           // field of the trace
	opField                // field of args[0]
	opAttribute            // attribute of args[0]
	opHas                  // whether args[0] has the attribute
	opPresent              // whether args[0], a span, is there
	opCompare              // args[0] compared with args[1]
	opIn                   // whether args[0] is one of the other args
	opAnd
	opOr
	opNot
	opTruth  // args[0], which may be of any type, as a truth value
	opChoose // args[0] ? args[1] : args[2]
	opCalculate
	opTextTest // args[0] tested by text
	opPart     // part of args[0]
	opQuantify // quantifier over list of args[0] (none: all spans)
)

// domain is what a variable stands for: a row of which table.
type domain uint8

const (
	traces domain = iota
	spans
	events
	links
	resources
)

// mostBinders is how many variables an expression may have: a bit each in node.free.
const mostBinders = 64

// binder is a variable of a quantifier.
type binder struct {
	id     int
	domain domain
}

// quantifier is what a comprehension makes of its elements.
type quantifier uint8

const (
	quantExists quantifier = iota
	quantAll
	quantOne
	quantCount
)

// listKind is what a quantifier ranges over.
type listKind uint8

const (
	listSpans listKind = iota
	listChildren
	listAncestors
	listDescendants
	listEvents
	listLinks
)

// node is a lowered expression: what the checked CEL says, with names resolved and
// macros recognised.
type node struct {
	op        op
	args      []*node
	constant  value
	binder    *binder
	field     string
	attribute columnar.AttributeKey
	// older are the older names of the attribute, see column.
	older      string
	comparison columnar.Comparison
	text       *textTest
	part       *lang.Part
	function   string // of opCalculate
	quantifier quantifier
	list       listKind
	reason     string
	// isBool: absent is false.
	isBool bool
	// total: its value is known wherever it is asked for.
	total bool
	// free are the variables in it that it does not bind itself, a bit each by ID.
	free uint64
	// own and resource are the columns of an attribute, in Plan.columns, once it is to be
	// read row by row.
	own, resource int
	// number is the field, once it is to be read row by row.
	number fieldNumber
	// row is how opQuantify is evaluated for one row.
	row *rowQuantifier
	key string
}

// lowering lowers one expression.
type lowering struct {
	x       *lang.Expression
	scope   []scoped
	binders int
	reasons []string
}

type scoped struct {
	name   string
	binder *binder // nil: not what the plan knows
}

// unknown is a part that the oracle has to decide, and why.
func (l *lowering) unknown(format string, args ...any) *node {
	reason := fmt.Sprintf(format, args...)
	l.reasons = append(l.reasons, reason)
	return &node{op: opUnknown, reason: reason, key: "?"}
}

func (l *lowering) make(n node) *node {
	n.total = n.total || n.op != opUnknown
	var key strings.Builder
	fmt.Fprintf(&key, "(%d", n.op)
	for _, a := range n.args {
		n.free |= a.free
		n.total = n.total && a.total
		key.WriteByte(' ')
		key.WriteString(a.key)
	}
	switch n.op {
	case opConst:
		fmt.Fprintf(&key, " %d:%d:%x:%q", n.constant.kind, n.constant.i, n.constant.f, n.constant.s)
	case opVar:
		n.free |= 1 << n.binder.id
		fmt.Fprintf(&key, " v%d", n.binder.id)
	case opTraceField, opField:
		key.WriteString(" " + n.field)
	case opAttribute, opHas:
		fmt.Fprintf(&key, " %d:%q", n.attribute.Scope, n.attribute.Key)
		if n.older != "" {
			fmt.Fprintf(&key, ",%q", n.older)
		}
	case opCompare:
		fmt.Fprintf(&key, " %d", n.comparison)
	case opCalculate:
		key.WriteString(" " + n.function)
		n.total = false // out of range, division by zero
	case opTextTest:
		key.WriteString(" " + n.text.key)
	case opPart:
		fmt.Fprintf(&key, " %p", n.part)
		n.total = false
	case opQuantify:
		n.free &^= 1 << n.binder.id
		if n.list == listAncestors && (n.quantifier == quantOne || n.quantifier == quantCount) {
			n.total = false // in a cycle they are met twice
		}
		fmt.Fprintf(&key, " %d %d v%d", n.quantifier, n.list, n.binder.id)
	}
	key.WriteByte(')')
	n.key = key.String()
	if n.op == opCompare && n.args[0].mayBeList() && n.args[1].mayBeList() {
		n.total = false // lists and maps are the oracle's
	}
	if n.op == opIn {
		for _, a := range n.args[1:] {
			n.total = n.total && !(a.mayBeList() && n.args[0].mayBeList())
		}
	}
	return &n
}

// mayBeList reports whether the value may be one that the plan does not look into.
func (n *node) mayBeList() bool {
	switch n.op {
	case opAttribute, opChoose, opUnknown:
		return true
	}
	return false
}

// truth lowers a part that is asked for a truth value.
func (l *lowering) truth(e ast.Expr) *node {
	n := l.lower(e)
	if n.isBool || n.op == opUnknown {
		return n
	}
	return l.make(node{op: opTruth, args: []*node{n}, isBool: true})
}

func (l *lowering) lower(e ast.Expr) *node {
	if v, ok := l.x.Constant(e); ok {
		if c, ok := constantOf(v); ok {
			return l.make(node{op: opConst, constant: c, isBool: c.kind == kindBool})
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
		if n.op == opUnknown {
			if part := l.part(e); part != nil {
				l.reasons = l.reasons[:mark]
				return part
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
		if part := l.part(e); part != nil {
			return part
		}
		return l.unknown("%s", whyNotQuantified(e.AsComprehension()))
	case ast.LiteralKind:
		return l.unknown("a literal of type %s", e.AsLiteral().Type().TypeName())
	case ast.ListKind, ast.MapKind:
		return l.unknown("a list or a map is made")
	}
	return l.unknown("an expression of another kind")
}

// constantOf returns a constant as the plan holds values.
func constantOf(v ref.Val) (value, bool) {
	switch v := v.(type) {
	case types.Bool:
		return boolValue(bool(v)), true
	case types.Int:
		return value{kind: kindInt, i: int64(v)}, true
	case types.Double:
		return value{kind: kindDouble, f: float64(v)}, true
	case types.String:
		return value{kind: kindText, s: []byte(v)}, true
	case types.Duration:
		return value{kind: kindDuration, i: int64(v.Duration)}, true
	case types.Timestamp:
		if t := v.Unix(); t >= 0 && t < math.MaxInt64/int64(time.Second) {
			return value{kind: kindTime, i: v.UnixNano()}, true
		}
	}
	return value{}, false
}

func (l *lowering) ident(name string) *node {
	for i := len(l.scope) - 1; i >= 0; i-- {
		if l.scope[i].name != name {
			continue
		}
		if l.scope[i].binder == nil {
			break
		}
		return l.make(node{op: opVar, binder: l.scope[i].binder})
	}
	return l.unknown("%s as a value", name)
}

// shadowed reports whether a name is a variable of the expression's own.
func (l *lowering) shadowed(name string) bool {
	for _, s := range l.scope {
		if s.name == name {
			return true
		}
	}
	return false
}

// object lowers a part that gives a span, event or link; nil if it is another.
func (l *lowering) object(e ast.Expr) *node {
	switch {
	case e.Kind() == ast.IdentKind:
		for i := len(l.scope) - 1; i >= 0; i-- {
			if l.scope[i].name == e.AsIdent() {
				if l.scope[i].binder == nil {
					return nil
				}
				return l.make(node{op: opVar, binder: l.scope[i].binder})
			}
		}
	case e.Kind() == ast.SelectKind && !e.AsSelect().IsTestOnly():
		of, field := e.AsSelect().Operand(), e.AsSelect().FieldName()
		switch {
		case field == "parent" && l.x.IsA(of, "Span"):
			if n := l.object(of); n != nil {
				return l.make(node{op: opParent, args: []*node{n}})
			}
		case field == "root" && l.isTrace(of):
			return l.make(node{op: opRoot})
		}
	}
	return nil
}

func (l *lowering) isTrace(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && e.AsIdent() == "trace" && !l.shadowed("trace")
}

// attribute lowers a part that reads an attribute by its key, or asks for one; nil if it
// is another.
func (l *lowering) attribute(e ast.Expr) *node {
	a, of, ok := l.x.Attribute(e)
	if !ok {
		return nil
	}
	optional := e.Kind() == ast.CallKind && (e.AsCall().FunctionName() == operators.OptIndex || e.AsCall().FunctionName() == operators.OptSelect)
	object := l.object(of)
	if object == nil || optional {
		return nil
	}
	older := strings.Join(l.x.OlderNames(a.Key), nameSeparator)
	has := e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() || e.Kind() == ast.CallKind && e.AsCall().FunctionName() == lang.FunctionIn
	if has {
		return l.make(node{op: opHas, attribute: a, older: older, args: []*node{object}, isBool: true})
	}
	return l.make(node{op: opAttribute, attribute: a, older: older, args: []*node{object}})
}

func (l *lowering) selection(e ast.Expr) *node {
	of, field := e.AsSelect().Operand(), e.AsSelect().FieldName()
	if e.AsSelect().IsTestOnly() {
		if (field == "parent" && l.x.IsA(of, "Span")) || (field == "root" && l.isTrace(of)) {
			if field == "root" {
				return l.make(node{op: opPresent, args: []*node{l.make(node{op: opRoot})}, isBool: true})
			}
			if n := l.object(of); n != nil {
				return l.make(node{op: opPresent, args: []*node{l.make(node{op: opParent, args: []*node{n}})}, isBool: true})
			}
		}
		return l.unknown("has(….%s)", field)
	}
	if n := l.object(e); n != nil {
		return n
	}
	switch {
	case l.isTrace(of):
		switch field {
		case "start", "end", "duration":
			return l.make(node{op: opTraceField, field: field})
		}
		return l.unknown("trace.%s", field)
	case l.x.IsA(of, "Span"):
		switch field {
		case "name", "service", "kind", "status", "statusMessage", "start", "end", "duration", "scope", "scopeVersion":
			if n := l.object(of); n != nil {
				return l.make(node{op: opField, field: field, args: []*node{n}})
			}
		}
	case l.x.IsA(of, "Event"):
		switch field {
		case "name", "time":
			if n := l.object(of); n != nil {
				return l.make(node{op: opField, field: field, args: []*node{n}})
			}
		}
	}
	return l.unknown("the field %s as a value", field)
}

var comparisonsOf = map[string]columnar.Comparison{
	lang.FunctionEquals: columnar.Equal, lang.FunctionNotEquals: columnar.NotEqual,
	operators.Less: columnar.Less, operators.LessEquals: columnar.LessEqual, operators.Greater: columnar.Greater, operators.GreaterEquals: columnar.GreaterEqual,
}

func (l *lowering) call(e ast.Expr, call ast.CallExpr) *node {
	args := call.Args()
	name := call.FunctionName()
	switch name {
	case operators.LogicalAnd, operators.LogicalOr:
		n := node{op: opAnd, isBool: true}
		if name == operators.LogicalOr {
			n.op = opOr
		}
		for _, a := range args {
			x := l.truth(a)
			if x.op == n.op {
				n.args = append(n.args, x.args...)
			} else {
				n.args = append(n.args, x)
			}
		}
		return l.make(n)
	case operators.LogicalNot:
		return l.make(node{op: opNot, args: []*node{l.truth(args[0])}, isBool: true})
	case operators.Conditional:
		n := node{op: opChoose, args: []*node{l.truth(args[0]), l.lower(args[1]), l.lower(args[2])}}
		n.isBool = n.args[1].isBool && n.args[2].isBool
		return l.make(n)
	case lang.FunctionIn:
		return l.in(args[0], args[1])
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		a, b := l.lower(args[0]), l.lower(args[1])
		for _, x := range []*node{a, b} {
			if x.op == opUnknown {
				return x
			}
		}
		return l.make(node{op: opCalculate, function: name, args: []*node{a, b}})
	case "before":
		if a, b := l.object(call.Target()), l.object(args[0]); a != nil && b != nil {
			return l.make(node{op: opCompare, comparison: columnar.LessEqual, isBool: true, args: []*node{
				l.make(node{op: opField, field: "end", args: []*node{a}}), l.make(node{op: opField, field: "start", args: []*node{b}}),
			}})
		}
		return l.unknown("before on other than spans of variables")
	case "startsWith", "endsWith", "contains", "matches", lang.FunctionHasCardNumber:
		if call.IsMemberFunction() {
			if t := newTextTest(name, l.x.Pattern(e), args); t != nil {
				mark := len(l.reasons)
				if of := l.lower(call.Target()); of.op != opUnknown {
					return l.make(node{op: opTextTest, text: t, args: []*node{of}, isBool: true})
				}
				l.reasons = l.reasons[:mark]
			}
		}
	case "size":
		of := call.Target()
		if !call.IsMemberFunction() {
			of = args[0]
		}
		if of.Kind() == ast.ComprehensionKind {
			if n := l.filterSize(of.AsComprehension()); n != nil {
				return n
			}
		}
		if n := l.listSize(of); n != nil {
			return n
		}
	}
	if op, ok := comparisonsOf[name]; ok {
		a, b := l.lower(args[0]), l.lower(args[1])
		for _, x := range []*node{a, b} {
			if x.op == opUnknown {
				return x
			}
		}
		return l.make(node{op: opCompare, comparison: op, args: []*node{a, b}, isBool: true})
	}
	return l.unknown("the function %s", strings.Trim(name, "@_"))
}

func (l *lowering) in(element, list ast.Expr) *node {
	if list.Kind() != ast.ListKind || len(list.AsList().OptionalIndices()) > 0 {
		if list.Kind() == ast.SelectKind && list.AsSelect().FieldName() == "services" && l.isTrace(list.AsSelect().Operand()) {
			// "x" in trace.services is what spans.exists(s, s.service == "x") is.
			if x := l.lower(element); x.op == opConst {
				b := l.bind(spans)
				service := l.make(node{op: opField, field: "service", args: []*node{l.make(node{op: opVar, binder: b})}})
				body := l.make(node{op: opCompare, comparison: columnar.Equal, args: []*node{service, x}, isBool: true})
				return l.quantify(node{op: opQuantify, quantifier: quantExists, list: listSpans, binder: b, isBool: true}, nil, body)
			}
		}
		return l.unknown("in a list or a map that is no literal")
	}
	n := node{op: opIn, args: []*node{l.lower(element)}, isBool: true}
	for _, e := range list.AsList().Elements() {
		n.args = append(n.args, l.lower(e))
	}
	for _, a := range n.args {
		if a.op == opUnknown {
			return a
		}
	}
	return l.make(n)
}

func (l *lowering) bind(d domain) *binder {
	l.binders++
	return &binder{l.binders - 1, d}
}

// listOf recognises what a quantifier ranges over.
func (l *lowering) listOf(e ast.Expr) (kind listKind, of *node, ok bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return listSpans, nil, e.AsIdent() == "spans" && !l.shadowed("spans")
	case ast.SelectKind:
		if e.AsSelect().IsTestOnly() || !l.x.IsA(e.AsSelect().Operand(), "Span") {
			return 0, nil, false
		}
		switch e.AsSelect().FieldName() {
		case "children":
			kind = listChildren
		case "events":
			kind = listEvents
		case "links":
			kind = listLinks
		default:
			return 0, nil, false
		}
		of = l.object(e.AsSelect().Operand())
	case ast.CallKind:
		switch e.AsCall().FunctionName() {
		case "ancestors":
			kind = listAncestors
		case "descendants":
			kind = listDescendants
		default:
			return 0, nil, false
		}
		of = l.object(e.AsCall().Target())
	}
	return kind, of, of != nil
}

var domainOf = [...]domain{spans, spans, spans, spans, events, links}

// quantify makes a quantifier over a list whose elements pass the filters, too.
func (l *lowering) quantify(n node, of *node, body *node) *node {
	n.args = []*node{body}
	if of != nil {
		n.args = append(n.args, of)
	}
	return l.make(n)
}

func (l *lowering) comprehension(c ast.ComprehensionExpr) *node {
	if c.HasIterVar2() {
		return nil
	}
	kind, predicate, ok := quantifierOf(c)
	if !ok {
		return nil
	}
	return l.over(kind, c.IterRange(), c.IterVar(), predicate)
}

// whyNotQuantified says what is ranged over, or made, that is not vectorised.
func whyNotQuantified(c ast.ComprehensionExpr) string {
	switch over := c.IterRange(); {
	case c.HasIterVar2(), over.Kind() == ast.SelectKind && (over.AsSelect().FieldName() == "attributes" || over.AsSelect().FieldName() == "resource"):
		return "it ranges over all attributes"
	case over.Kind() == ast.ListKind:
		return "it ranges over a list that is written out"
	}
	return "it makes a list or a map of elements"
}

// over lowers a quantifier over a list, which may be filtered.
func (l *lowering) over(kind quantifier, list ast.Expr, name string, predicate ast.Expr) *node {
	var filters []ast.ComprehensionExpr
	for list.Kind() == ast.ComprehensionKind {
		f := list.AsComprehension()
		if _, ok := filterOf(f); !ok || f.HasIterVar2() {
			return nil
		}
		filters = append(filters, f)
		list = f.IterRange()
	}
	listKind, of, ok := l.listOf(list)
	if !ok {
		return nil
	}
	if l.binders >= mostBinders {
		return nil
	}
	b := l.bind(domainOf[listKind])
	in := func(name string, e ast.Expr) *node {
		l.scope = append(l.scope, scoped{name, b})
		defer func() { l.scope = l.scope[:len(l.scope)-1] }()
		return l.truth(e)
	}
	var conditions []*node
	for i := len(filters) - 1; i >= 0; i-- {
		condition, _ := filterOf(filters[i])
		n := in(filters[i].IterVar(), condition)
		if !n.total {
			return nil // an error in a filter is the list's, whatever comes after
		}
		conditions = append(conditions, n)
	}
	body := l.make(node{op: opConst, constant: boolValue(true), isBool: true})
	if predicate != nil {
		body = in(name, predicate)
	}
	if len(conditions) > 0 {
		filter := l.join(opAnd, conditions...)
		if kind == quantAll {
			body = l.join(opOr, l.make(node{op: opNot, args: []*node{filter}, isBool: true}), body)
		} else {
			body = l.join(opAnd, filter, body)
		}
	}
	return l.quantify(node{op: opQuantify, quantifier: kind, list: listKind, binder: b, isBool: kind != quantCount}, of, body)
}

func (l *lowering) join(op op, args ...*node) *node {
	n := node{op: op, isBool: true}
	for _, a := range args {
		if a.op == op {
			n.args = append(n.args, a.args...)
		} else {
			n.args = append(n.args, a)
		}
	}
	if len(n.args) == 1 {
		return n.args[0]
	}
	return l.make(n)
}

// filterSize is filter(…).size().
func (l *lowering) filterSize(c ast.ComprehensionExpr) *node {
	condition, ok := filterOf(c)
	if !ok || c.HasIterVar2() {
		return nil
	}
	mark := len(l.reasons)
	n := l.over(quantCount, c.IterRange(), c.IterVar(), condition)
	if n == nil || !n.args[0].total {
		l.reasons = l.reasons[:mark]
		return nil
	}
	return n
}

// listSize is the size of spans, children, events and their like.
func (l *lowering) listSize(e ast.Expr) *node {
	if _, _, ok := l.listOf(e); !ok {
		return nil
	}
	return l.over(quantCount, e, "", nil)
}

// quantifierOf recognises what the macros exists, all, exists_one and count become.
func quantifierOf(c ast.ComprehensionExpr) (quantifier, ast.Expr, bool) {
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

// filterOf recognises what the macro filter becomes.
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

// tooLarge are functions whose results may be much larger than what they are made of.
var tooLarge = map[string]bool{"join": true, "format": true, "replace": true, "concat": true, "flatten": true, "lists.range": true, operators.Add: true}

// part lowers a truth value that depends on one attribute, or one text of a span, and on
// nothing else: it is asked once for each distinct text. Nil if it does not.
func (l *lowering) part(e ast.Expr) *node {
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
		if n := l.operand(e); n != nil {
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
			ok = bound[e.AsIdent()] > 0 || e.AsIdent() != "spans" && e.AsIdent() != "trace" && !l.shadowed(e.AsIdent())
		case ast.SelectKind:
			ok = false // of an object, or an optional
		case ast.CallKind:
			call := e.AsCall()
			ok = !tooLarge[call.FunctionName()]
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
	return l.make(node{op: opPart, part: l.x.Part(e, holes...), args: []*node{operand}, isBool: true})
}

// operand recognises what a part may depend on.
func (l *lowering) operand(e ast.Expr) *node {
	mark := len(l.reasons)
	defer func() { l.reasons = l.reasons[:mark] }()
	if n := l.attribute(e); n != nil && n.op == opAttribute {
		return n
	}
	if e.Kind() == ast.SelectKind && !e.AsSelect().IsTestOnly() {
		switch e.AsSelect().FieldName() {
		case "name", "service", "statusMessage", "scope", "scopeVersion":
			if n := l.selection(e); n.op == opField {
				return n
			}
		}
	}
	return nil
}

// textTest is a test of a text, mostly with a constant.
type textTest struct {
	function string
	with     []byte
	pattern  *regexp.Regexp
	literals *literalFinder // every text that matches pattern has one of them; nil: none is known
	key      string
}

// newTextTest returns the test of a text by a function with a constant, or with nothing; nil if it is none.
func newTextTest(function string, pattern *regexp.Regexp, with []ast.Expr) *textTest {
	if len(with) == 0 {
		return &textTest{function: function, key: function}
	}
	if with[0].Kind() != ast.LiteralKind {
		return nil
	}
	text, ok := with[0].AsLiteral().(types.String)
	if !ok || function == "matches" && pattern == nil {
		return nil
	}
	t := &textTest{function: function, with: []byte(text), pattern: pattern, key: fmt.Sprintf("%s %q", function, string(text))}
	if pattern != nil {
		t.literals = newLiteralFinder(requiredLiterals(pattern.String()))
	}
	return t
}
