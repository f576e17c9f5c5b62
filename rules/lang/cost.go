package lang

import (
	"fmt"
	"math"
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/betracehq/betrace/trace"
)

// Sizes are the counts of a trace from which a rule's cost is computed.
type Sizes struct {
	// Spans is the number of spans of the trace, Descendants the maximum number of descendants of a span.
	Spans, Descendants int
	// The maximum numbers per span. Ancestors is that of the deepest span.
	Children, Ancestors, Events, Links, Attributes int
	// Text is the length of the longest string or byte string in bytes, List that of the longest array.
	Text, List int
	// Depths is the total number of ancestors of all spans, which equals the total number of descendants.
	// AllEvents and AllLinks are the totals of events and links. 0 means unknown.
	Depths, AllEvents, AllLinks int
}

// DefaultSizes are the sizes of the trace for which costs are checked when rules are loaded.
var DefaultSizes = Sizes{
	Spans: 10_000, Descendants: 10_000, Children: 100, Ancestors: 100, Events: 100, Links: 100,
	Attributes: 100, Text: 1024, List: 100,
}

// String lists the counts that matter most.
func (s Sizes) String() string {
	return fmt.Sprintf("%d spans (at most %d children, %d ancestors, %d events per span, strings of %d bytes)", s.Spans, s.Children, s.Ancestors, s.Events, s.Text)
}

// SizesOf returns the sizes of a trace.
func SizesOf(t *trace.Trace) Sizes {
	s := Sizes{Spans: len(t.Spans), Descendants: len(t.Spans)}
	text := func(texts ...string) {
		for _, v := range texts {
			s.Text = max(s.Text, len(v))
		}
	}
	for i := range t.Spans {
		span := &t.Spans[i]
		s.Children = max(s.Children, len(t.Children(i)))
		s.Events = max(s.Events, len(span.Events))
		s.Links = max(s.Links, len(span.Links))
		s.AllEvents += len(span.Events)
		s.AllLinks += len(span.Links)
		text(span.Name, span.StatusMessage, span.Scope, span.ScopeVersion)
		s.addAttributes(span.Attributes)
		s.addAttributes(span.Resource)
		for _, e := range span.Events {
			text(e.Name)
			s.addAttributes(e.Attributes)
		}
		for _, l := range span.Links {
			s.addAttributes(l.Attributes)
		}
	}
	s.Ancestors, s.Depths = DepthsOf(0, len(t.Spans), t.Parent)
	return s
}

// DepthsOf returns the maximum number of ancestors of the spans from first to before end, and the total of
// all of them. If the ancestors of a span form a cycle, the span counts as at most twice as many as it has.
func DepthsOf(first, end int, parent func(i int) int) (most, all int) {
	depth := make([]int32, end-first) // 0 means not known yet
	for i := range depth {
		d := int(depthOf(i, func(i int) int { return parent(first+i) - first }, depth))
		most, all = max(most, d), all+d
	}
	return most, all
}

// AddValue raises the sizes of strings, lists and attributes to those of a value.
func (s *Sizes) AddValue(v trace.Value) {
	switch v.Type() {
	case trace.TypeString, trace.TypeBytes:
		s.Text = max(s.Text, v.Len())
	case trace.TypeArray:
		s.List = max(s.List, len(v.Array()))
		for _, e := range v.Array() {
			s.AddValue(e)
		}
	case trace.TypeMap:
		s.List = max(s.List, len(v.Map()))
		s.addAttributes(v.Map())
	}
}

func (s *Sizes) addAttributes(as trace.Attributes) {
	s.Attributes = max(s.Attributes, len(as))
	for _, a := range as {
		s.Text = max(s.Text, len(a.Key))
		s.AddValue(a.Value)
	}
}

// depthOf returns the number of ancestors of span i, or at most twice that number if they form a cycle.
func depthOf(i int, parent func(i int) int, depth []int32) int32 {
	const walking = -1
	var path []int
	at := i
	for at >= 0 && depth[at] == 0 {
		depth[at] = walking
		path = append(path, at)
		at = parent(at)
	}
	known := int32(0) // 1 + ancestors of the span that the walk ended at
	switch {
	case at >= 0 && depth[at] == walking: // a cycle: all its spans are ancestors
		known = int32(len(path) - slices.Index(path, at))
	case at >= 0:
		known = depth[at]
	}
	for n := len(path) - 1; n >= 0; n-- {
		known++
		depth[path[n]] = known
	}
	return depth[i] - 1
}

// Cost returns the maximum total cost of the expressions on a trace of these sizes; nil expressions cost
// nothing. The cost is the number of steps of an evaluation that never stops early. It depends on the checked
// expressions only:
//
//   - A constant, a name, a field, an operator or a function costs 1 plus the cost of its operands.
//   - A function that reads strings or lists costs 1 more for each 16 bytes of a string and for each element
//     of a list. matches costs the product of the lengths of the string and the pattern, divided by 64. sets
//     functions, distinct and sort cost the product of their lists' lengths.
//   - A quantifier or any other macro over a list costs as much as the list plus, for each element, 1 and the
//     cost of its condition and its body.
//
// The lengths of strings and lists are taken from sizes: spans has the length Spans, children Children,
// descendants() Descendants, any string Text, an attribute's list List, and so on. The results of filter and
// map have the lengths of their lists.
//
// The cost of nested macros is less than the product of their maximum lengths if the total is known to be
// smaller: each span has one parent, so the children of all spans together are at most the number of spans,
// and the descendants of all spans together are the sum of all depths. See [spanVar].
// most the spans, and the descendants of all spans together are the sum of all depths. See
// [spanVar].
func Cost(sizes Sizes, programs ...*Expression) float64 {
	cost := 0.0
	for _, p := range programs {
		if p != nil {
			c, _ := newEstimator(sizes).estimate(p.root)
			cost += c
		}
	}
	return cost
}

// extent is the size of a value: n elements or bytes. Each element has the extent element.
type extent struct {
	n       float64
	element *extent
	// span is set if the value is the variable of a macro over spans.
	span *spanVar
	// distinct is set for a list of spans without repetition. If the list was read from a span variable, via
	// is that variable, average is the average length of the list over the iterations of the variable, and
	// repeats is the maximum number of those lists in which one span can be. via and average are also set for
	// lists of events and links.
	distinct         bool
	via              *spanVar
	average, repeats float64
}

func (x extent) of() extent {
	if x.element == nil {
		return extent{n: 1}
	}
	return *x.element
}

// iterations returns how often a macro over the list evaluates its body, as an average if it is known.
func (x extent) iterations() float64 {
	if x.via != nil && !*x.via.spent {
		return x.average
	}
	return x.n
}

// spanVar is a variable for spans. A total over all spans limits the lists that are read from it: in
// spans.exists(a, a.children.exists(b, …)) b has at most as many values as there are spans, however many
// children one span has. Several such limits do not multiply: a list of a's children within a macro over a's
// children is longest for spans with many children. Therefore only the outermost macro uses its limit, even
// if the limit is not less than the maximum of one span: the choice must not depend on the sizes, or a larger
// trace could cost less.
type spanVar struct {
	// times is the estimated number of values that the variable has in total, and most the maximum number of
	// times that one span is among them.
	times, most float64
	// spent is set within a macro over a list that was read from the variable, or from a span above it.
	spent *bool
}

type estimator struct {
	sizes Sizes
	vars  map[string]extent
	// types are the types of the expression's parts, by ID, if they are known.
	types map[int64]*types.Type
	// times is how often the estimated expression is evaluated.
	times float64
}

func newEstimator(sizes Sizes) *estimator {
	return &estimator{sizes: sizes, vars: map[string]extent{}, times: 1}
}

// read returns the extent of a list that is read from a span: it has at most most elements, and at most all
// elements over all spans.
func (e *estimator) read(of extent, most int, all, repeats float64) extent {
	x := e.listOf(most, extent{n: 1})
	if v := of.span; v != nil && !*v.spent {
		x.via, x.average, x.repeats = v, x.n, repeats
		if v.times > 0 {
			x.average = min(x.n, v.most*all/v.times)
		}
	}
	return x
}

// spansOf is read for lists of spans without repetition.
func (e *estimator) spansOf(of extent, most int, all, repeats float64) extent {
	x := e.read(of, most, all, repeats)
	x.distinct = true
	return x
}

// total returns the number in a whole trace: the counted number if known, otherwise the number of spans times
// the maximum per span.
func (e *estimator) total(counted, most int) float64 {
	if counted > 0 {
		return float64(counted)
	}
	return float64(e.sizes.Spans) * float64(most)
}

func (e *estimator) children(of extent) extent {
	return e.spansOf(of, e.sizes.Children, float64(e.sizes.Spans), 1)
}

func (e *estimator) ancestors(of extent) extent {
	return e.spansOf(of, e.sizes.Ancestors, e.total(e.sizes.Depths, e.sizes.Ancestors), float64(e.sizes.Descendants))
}

func (e *estimator) descendants(of extent) extent {
	return e.spansOf(of, e.sizes.Descendants, e.total(e.sizes.Depths, e.sizes.Ancestors), float64(e.sizes.Ancestors))
}

// parent returns the variable for the parents of a variable's values. A span is the parent of as many spans
// as it has children.
func (e *estimator) parent(of *spanVar) *spanVar {
	if of == nil {
		return nil
	}
	return &spanVar{times: of.times, most: math.Min(of.times, of.most*float64(e.sizes.Children)), spent: of.spent}
}

// loop begins the body of a macro over a list, and end ends it. v is nil if the macro's variable is not a
// span.
func (e *estimator) loop(over extent) (v *spanVar, end func()) {
	before := e.times
	e.times = math.Min(before*over.iterations(), math.MaxFloat64)
	if over.distinct {
		v = &spanVar{times: e.times, most: before, spent: new(bool)}
		if via := over.via; via != nil && !*via.spent && via.times > 0 {
			v.most = math.Min(v.most, via.most*over.repeats*before/via.times)
		}
	}
	spent := over.via != nil && *over.via.spent
	if over.via != nil {
		*over.via.spent = true
	}
	return v, func() {
		e.times = before
		if over.via != nil {
			*over.via.spent = spent
		}
	}
}

func (e *estimator) text() extent { return extent{n: float64(max(e.sizes.Text, 1))} }

// dynamic returns the extent of an attribute's value, which may be a string or a list.
func (e *estimator) dynamic() extent {
	inner := extent{n: float64(max(e.sizes.Text, e.sizes.List, 1))}
	return extent{n: inner.n, element: &inner}
}

func (e *estimator) listOf(n int, element extent) extent {
	return extent{n: float64(n), element: &element}
}

// estimate returns the cost of an expression and the size of its value.
func (e *estimator) estimate(x ast.Expr) (float64, extent) {
	switch x.Kind() {
	case ast.LiteralKind:
		if s, ok := x.AsLiteral().(types.String); ok {
			return 1, extent{n: float64(len(s))}
		}
		return 1, extent{n: 1}
	case ast.IdentKind:
		return 1, e.ident(x.AsIdent())
	case ast.SelectKind:
		cost, operand := e.estimate(x.AsSelect().Operand())
		return cost + 1, e.field(x.AsSelect().FieldName(), operand)
	case ast.CallKind:
		return e.call(x.AsCall())
	case ast.ListKind:
		cost, element := 1.0, extent{n: 1}
		for _, v := range x.AsList().Elements() {
			c, size := e.estimate(v)
			cost += c
			element = larger(element, size)
		}
		return cost, extent{n: float64(x.AsList().Size()), element: &element}
	case ast.MapKind:
		cost, element := 1.0, extent{n: 1}
		for _, entry := range x.AsMap().Entries() {
			k, _ := e.estimate(entry.AsMapEntry().Key())
			v, size := e.estimate(entry.AsMapEntry().Value())
			cost += k + v
			element = larger(element, size)
		}
		return cost, extent{n: float64(x.AsMap().Size()), element: &element}
	case ast.ComprehensionKind:
		return e.comprehension(x.AsComprehension())
	}
	return 1, extent{n: 1}
}

// larger returns an extent that covers both. It does not preserve the relation of a value to a variable.
func larger(a, b extent) extent {
	out := extent{n: max(a.n, b.n), element: a.element}
	switch {
	case a.element == nil:
		out.element = b.element
	case b.element != nil:
		element := larger(*a.element, *b.element)
		out.element = &element
	}
	return out
}

func (e *estimator) ident(name string) extent {
	if v, ok := e.vars[name]; ok {
		return v
	}
	switch name {
	case "spans":
		x := e.listOf(e.sizes.Spans, extent{n: 1})
		x.distinct = true
		return x
	case "about":
		return e.listOf(e.sizes.Spans, extent{n: 1})
	}
	return extent{n: 1}
}

func (e *estimator) field(name string, operand extent) extent {
	switch name {
	case "services":
		return e.listOf(e.sizes.Spans, e.text())
	case "children":
		return e.children(operand)
	case "events":
		return e.read(operand, e.sizes.Events, e.total(e.sizes.AllEvents, e.sizes.Events), 1)
	case "links":
		return e.read(operand, e.sizes.Links, e.total(e.sizes.AllLinks, e.sizes.Links), 1)
	case "attributes", "resource":
		return e.listOf(e.sizes.Attributes, e.dynamic())
	case "parent":
		return extent{n: 1, span: e.parent(operand.span)}
	case "start", "end", "duration", "root", "time":
		return extent{n: 1}
	case "name", "service", "statusMessage", "scope", "scopeVersion":
		return e.text()
	case "id", "kind", "status", "traceId", "spanId":
		return extent{n: 32}
	}
	return larger(e.dynamic(), operand.of())
}

// flat lists the functions whose cost does not grow with their operands.
var flat = map[string]bool{
	operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true, operators.Conditional: true, operators.Index: true,
	operators.OptIndex: true, operators.OptSelect: true, operators.NotStrictlyFalse: true, "size": true, "before": true, "or": true,
	"orValue": true, "hasValue": true, "value": true, "optional.of": true, "optional.none": true, "first": true, "last": true,
}

func (e *estimator) call(call ast.CallExpr) (float64, extent) {
	operands := call.Args()
	if call.IsMemberFunction() {
		operands = append([]ast.Expr{call.Target()}, operands...)
	}
	cost := 1.0
	sizes := make([]extent, len(operands))
	all := extent{n: 1}
	sum, product := 0.0, 1.0
	for i, x := range operands {
		var c float64
		c, sizes[i] = e.estimate(x)
		cost += c
		sum += sizes[i].n
		product *= max(sizes[i].n, 1)
		all = larger(all, sizes[i])
	}
	name := call.FunctionName()
	switch name {
	case operators.Conditional:
		return cost, larger(sizes[1], sizes[2])
	case operators.Index, operators.OptIndex, operators.OptSelect:
		return cost, larger(e.dynamic(), sizes[0].of())
	case "value", "optional.of", "or", "orValue", "first", "last":
		return cost, larger(all, all.of())
	case "ancestors":
		x := e.ancestors(sizes[0])
		return cost + x.iterations(), x
	case "descendants":
		x := e.descendants(sizes[0])
		return cost + x.iterations(), x
	case "matches":
		return cost + product/64, extent{n: 1}
	case FunctionHasCardNumber:
		return cost + sum/16, extent{n: 1}
	case equals, notEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return cost + sum/16, extent{n: 1}
	case isIn:
		return cost + sizes[1].n*(1+sizes[0].n/16), extent{n: 1}
	case operators.Add:
		if all.of().n > 1 {
			cost += sum // the operands may be lists
		}
		return cost + sum/16, extent{n: sum, element: all.element}
	case "join", "format", "concat":
		inner := all.of()
		return cost + sum/16, extent{n: sum * max(1, inner.n), element: &inner}
	case "string":
		return cost + sum/16, extent{n: max(sum, 32)} // a string, whatever the type of the attribute
	case "replace":
		return cost + product/16, extent{n: product}
	case "flatten":
		inner := all.of().of()
		return cost + product*all.of().n, extent{n: all.n * all.of().n, element: &inner}
	case "lists.range":
		n := float64(maxElements)
		if literal, ok := operands[0].AsLiteral().(types.Int); ok {
			n = float64(literal)
		}
		return cost + n, extent{n: n}
	case "sets.contains", "sets.intersects", "sets.equivalent", "distinct", "sort", "@sortByAssociatedKeys":
		if len(operands) == 1 {
			product *= product
		}
		return cost + product, all
	}
	if !flat[name] {
		cost += sum / 16
		if inner := all.of().n; inner > 1 {
			cost += sum
		}
	}
	return cost, all
}

func (e *estimator) comprehension(c ast.ComprehensionExpr) (float64, extent) {
	rangeCost, over := e.estimate(c.IterRange())
	initCost, accu := e.estimate(c.AccuInit())
	times := over.iterations()
	leave := e.enter(c, over)
	if c.AccuInit().Kind() == ast.ListKind || c.AccuInit().Kind() == ast.MapKind {
		accu = extent{n: over.n, element: over.element}
	}
	var each float64
	if element, condition := listStep(c); element != nil {
		cost, size := e.estimate(element)
		each = cost
		if isVariable(element, c.IterVar()) && !c.HasIterVar2() { // filter
			accu = over
		} else {
			inner := larger(size, extent{})
			accu = extent{n: over.n, element: &inner}
		}
		if condition != nil {
			cost, _ := e.estimate(condition)
			each += cost
		}
	} else {
		condition, _ := e.estimate(c.LoopCondition())
		step, _ := e.estimate(c.LoopStep())
		each = condition + step
	}
	leave()
	defer e.set(c.AccuVar(), accu)()
	resultCost, result := e.estimate(c.Result())
	return math.Min(rangeCost+initCost+times*(1+each)+resultCost, math.MaxFloat64), result
}

func isVariable(x ast.Expr, name string) bool {
	return x.Kind() == ast.IdentKind && x.AsIdent() == name
}

// enter begins the body of a comprehension over a list and sets the extents of its variables, until leave is
// called.
func (e *estimator) enter(c ast.ComprehensionExpr, over extent) (leave func()) {
	v, end := e.loop(over)
	element := larger(over.of(), extent{n: 1})
	last := c.IterVar()
	undo := []func(){end, e.set(c.AccuVar(), extent{n: 1})}
	if c.HasIterVar2() {
		undo = append(undo, e.set(c.IterVar(), element))
		last = c.IterVar2()
	}
	element.span = v
	undo = append(undo, e.set(last, element))
	return func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
}

// set sets the extent of a variable until undo is called.
func (e *estimator) set(name string, x extent) (undo func()) {
	old, had := e.vars[name]
	e.vars[name] = x
	return func() {
		if had {
			e.vars[name] = old
		} else {
			delete(e.vars, name)
		}
	}
}

// built returns the maximum number of elements of lists and maps that evaluating an expression can build. 64
// bytes of a string count as one element.
func (e *estimator) built(x ast.Expr) float64 {
	sum := 0.0
	add := func(xs ...ast.Expr) {
		for _, x := range xs {
			sum += e.built(x)
		}
	}
	switch x.Kind() {
	case ast.SelectKind:
		add(x.AsSelect().Operand())
	case ast.CallKind:
		call := x.AsCall()
		if call.IsMemberFunction() {
			add(call.Target())
		}
		add(call.Args()...)
		switch name := call.FunctionName(); {
		case buildsNothing[name], e.isFixed(x):
		case buildsItsOperands[name]:
			size := 0.0
			for _, operand := range append([]ast.Expr{x}, call.Args()...) {
				_, extent := e.estimate(operand)
				size += extent.n
			}
			sum += 1 + size/64
		default:
			return math.Inf(1)
		}
	case ast.ListKind:
		add(x.AsList().Elements()...)
	case ast.MapKind:
		return math.Inf(1)
	case ast.ComprehensionKind:
		c := x.AsComprehension()
		add(c.IterRange(), c.AccuInit())
		_, over := e.estimate(c.IterRange())
		times := over.iterations()
		leave := e.enter(c, over)
		each := 0.0
		if element, condition := listStep(c); element != nil {
			each = 1 + e.built(element)
			if condition != nil {
				each += e.built(condition)
			}
		} else {
			if k := c.AccuInit().Kind(); k == ast.ListKind || k == ast.MapKind {
				leave()
				return math.Inf(1)
			}
			each = e.built(c.LoopCondition()) + e.built(c.LoopStep())
		}
		leave()
		sum += times * each
		if element, _ := listStep(c); element == nil {
			defer e.set(c.AccuVar(), extent{n: 1})()
			add(c.Result())
		}
	}
	return sum
}

// isFixed reports whether a part is known to be a value of a fixed size, such as a sum of numbers.
func (e *estimator) isFixed(x ast.Expr) bool {
	t := e.types[x.ID()]
	return t != nil && fixedKinds[t.Kind()]
}

var fixedKinds = map[types.Kind]bool{
	types.BoolKind: true, types.IntKind: true, types.UintKind: true, types.DoubleKind: true, types.DurationKind: true, types.TimestampKind: true,
}

// buildsNothing lists the functions whose results take no significant memory.
var buildsNothing = map[string]bool{
	operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true, operators.Conditional: true, operators.NotStrictlyFalse: true,
	equals: true, notEquals: true, isIn: true, operators.Less: true, operators.LessEquals: true, operators.Greater: true, operators.GreaterEquals: true,
	operators.Index: true, operators.Subtract: true, operators.Multiply: true, operators.Divide: true, operators.Modulo: true, operators.Negate: true,
	"matches": true, "startsWith": true, "endsWith": true, "contains": true, FunctionHasCardNumber: true, "size": true, "before": true, "ancestors": true, "descendants": true,
	"duration": true, "timestamp": true, "int": true, "double": true,
}

// buildsItsOperands lists the functions whose results are strings that are not larger than the operands or
// than the estimated result.
var buildsItsOperands = map[string]bool{
	operators.Add: true, "string": true, "lowerAscii": true, "upperAscii": true, "trim": true, "substring": true, "charAt": true, "reverse": true,
}
