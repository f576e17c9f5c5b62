package engine

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// predicateKind is what a predicate tests.
type predicateKind uint8

// The kinds of predicates, in the order of what they cost: a conjunction begins with what
// is cheap.
const (
	predFalse      predicateKind = iota
	predTrue                     //
	predTextIs                   // the column's text is one of texts
	predHasParent                // the span's parent is in the trace
	predEnum                     // kind or status is in mask
	predBroadcast                // args[0] is true of the trace
	predGather                   // args[0] is true of the span's resource
	predHas                      // the column has a value
	predIsText                   // the column has a text
	predBool                     // the column is a truth value, and which
	predNumber                   // the column's number passes the test
	predDuration                 // the span's duration passes the test
	predParent                   // args[0] is true of the span's parent
	predChild                    // args[0] is true of a child
	predAncestor                 // args[0] is true of an ancestor
	predDescendant               // args[0] is true of a descendant
	predOrder                    // a span of the trace of which args[0] is true has a time that compares with the span's
	predMember                   // args[0] is true of one of the span's events or links
	predTextTest                 // the column's text passes the test
	predNot
	predAnd
	predOr
	predPart // part is true of the column's value
	predRow  // node is true of the row
	// Of traces:
	predExists  // args[0] is true of a span
	predExtreme // the number of a span of which args[0] is true passes the test, which is one-sided
	predCount   // the number of spans of which args[0] is true passes the test
	predRoot    // args[0] is true of the root
	predUnknown
)

// predicate is a truth value for each row of a table: a bit for where it is true, and,
// unless it is total, one for where it is not known. Equal predicates are one.
type predicate struct {
	id     int
	kind   predicateKind
	domain domain
	args   []*predicate
	column int      // of a leaf: index into Plan.columns
	texts  []string // sorted
	group  *textGroup
	// classes are those of texts in group.
	classes []uint32
	mask    uint64
	number  columnar.NumberTest
	op      columnar.Comparison // of number
	// extremes is where predExtreme finds the numbers: index into Plan.extremes.
	extremes int
	times    timeOrder // of predOrder
	text     *textTest
	tests    *testGroup // of predTextTest of spans, and its number there
	test     int
	node     *node        // of predPart and predRow
	binder   *binder      // the row's variable in node; nil: of traces
	uses     []*predicate // what node's quantifiers ask of their elements
	total    bool
	// memo: it is evaluated on all rows, once, and kept.
	memo bool
	// rank orders operands of && and ||.
	rank int
	refs int
	key  string
}

// extremes are the least and greatest numbers of a column among the spans of each trace of
// which a predicate is true.
type extremes struct {
	of     *predicate
	column int
}

// nameSeparator is in no name of an alias.
const nameSeparator = "\x00"

// column is what a leaf reads of a table: a field, or an attribute by its key.
type column struct {
	domain domain
	field  string
	key    string
	// older are older names of the attribute, joined by nameSeparator, the newest first:
	// a row has the value of the first name that it has one for.
	older string
}

// compiler makes predicates.
type compiler struct {
	plan *Plan
	keys map[string]*predicate
	cols map[column]int
	// uses is how often each predicate is asked for, by key, if it is known from having
	// compiled the rules before.
	uses     map[string]int
	extremes map[extremes]int
}

func (c *compiler) predicate(p predicate, parts ...any) *predicate {
	var key strings.Builder
	fmt.Fprintf(&key, "%d/%d", p.kind, p.domain)
	p.total = true
	p.rank = int(p.kind)
	for _, a := range p.args {
		key.WriteByte(' ')
		key.WriteString(strconv.Itoa(a.id))
		p.total = p.total && a.total
		switch p.kind {
		case predAnd, predOr:
			p.rank = max(p.rank, a.rank)
		case predNot:
			p.rank = max(int(predEnum), a.rank+1) // it leaves more than its operand does
		}
	}
	for _, part := range parts {
		fmt.Fprintf(&key, " %q", fmt.Sprint(part))
	}
	p.key = key.String()
	switch p.kind {
	case predUnknown, predPart:
		p.total = false
	case predRow:
		p.total = p.node.total
	case predTextIs, predHas, predIsText, predHasParent, predEnum, predGather, predChild, predDescendant, predBool:
		p.memo = true
	}
	if found, ok := c.keys[p.key]; ok {
		found.refs++
		switch {
		case found.isCostly(): // cheaper where it is asked for
		case found.kind == predNumber || found.kind == predDuration:
			found.memo = found.memo || found.refs > 2
		default:
			found.memo = true
		}
		return found
	}
	p.id, p.refs = len(c.plan.predicates), 1
	c.plan.predicates = append(c.plan.predicates, &p)
	c.keys[p.key] = &p
	return &p
}

// isCostly reports whether a predicate takes long for each row that it is asked about, and has
// no operand that would leave few of all.
func (p *predicate) isCostly() bool {
	switch p.kind {
	case predRow, predPart, predTextTest:
		return true
	case predNot, predOr:
		return slices.ContainsFunc(p.args, (*predicate).isCostly)
	case predAnd:
		return p.args[0].isCostly() // the first is the cheapest
	}
	return false
}

func (c *compiler) constant(d domain, b bool) *predicate {
	if b {
		return c.predicate(predicate{kind: predTrue, domain: d})
	}
	return c.predicate(predicate{kind: predFalse, domain: d})
}

func (c *compiler) not(p *predicate) *predicate {
	switch p.kind {
	case predTrue, predFalse:
		return c.constant(p.domain, p.kind == predFalse)
	case predNot:
		return p.args[0]
	case predOr: // what holds is then looked for among the few of which the rest holds
		parts := make([]*predicate, len(p.args))
		for i, a := range p.args {
			parts[i] = c.not(a)
		}
		return c.join(predAnd, p.domain, parts...)
	}
	return c.predicate(predicate{kind: predNot, domain: p.domain, args: []*predicate{p}})
}

// join is && or ||, in the order of cost.
func (c *compiler) join(kind predicateKind, d domain, ps ...*predicate) *predicate {
	neutral, absorbing := predTrue, predFalse
	if kind == predOr {
		neutral, absorbing = predFalse, predTrue
	}
	var args []*predicate
	for _, p := range ps {
		switch p.kind {
		case absorbing:
			return c.constant(d, absorbing == predTrue)
		case neutral:
		case kind:
			args = append(args, p.args...)
		default:
			args = append(args, p)
		}
	}
	if kind == predOr {
		args = c.uniteTexts(args)
	}
	slices.SortStableFunc(args, func(a, b *predicate) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return a.id - b.id
	})
	args = slices.Compact(args)
	switch len(args) {
	case 0:
		return c.constant(d, neutral == predTrue)
	case 1:
		return args[0]
	}
	return c.predicate(predicate{kind: kind, domain: d, args: args})
}

// uniteTexts makes one predicate of those of a disjunction that ask for texts of one column.
func (c *compiler) uniteTexts(ps []*predicate) []*predicate {
	var out []*predicate
	for _, p := range ps {
		if p.kind == predTextIs {
			if i := slices.IndexFunc(out, func(o *predicate) bool { return o.kind == predTextIs && o.column == p.column && o.domain == p.domain }); i >= 0 {
				out[i] = c.textIs(p.domain, p.column, slices.Concat(out[i].texts, p.texts)...)
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

func (c *compiler) column(col column) int {
	if i, ok := c.cols[col]; ok {
		return i
	}
	c.cols[col] = len(c.plan.columns)
	c.plan.columns = append(c.plan.columns, col)
	return c.cols[col]
}

func (c *compiler) textIs(d domain, col int, texts ...string) *predicate {
	texts = slices.Clone(texts)
	slices.Sort(texts)
	texts = slices.Compact(texts)
	return c.predicate(predicate{kind: predTextIs, domain: d, column: col, texts: texts}, col, strings.Join(texts, "\x00"), len(texts))
}

// row evaluates the node for each row.
func (c *compiler) row(n *node, v *binder) *predicate {
	if n.op == opUnknown {
		return c.predicate(predicate{kind: predUnknown, domain: domainOfBinder(v)})
	}
	c.prepare(n)
	p := predicate{kind: predRow, domain: domainOfBinder(v), node: n, binder: v}
	var walk func(n *node)
	walk = func(n *node) {
		if n.row != nil && n.row.candidates != nil {
			p.uses = append(p.uses, n.row.candidates)
		}
		for _, a := range n.args {
			walk(a)
		}
	}
	walk(n)
	return c.predicate(p, n.key)
}

func domainOfBinder(v *binder) domain {
	if v == nil {
		return traces
	}
	return v.domain
}

// vector returns the predicate that a truth value is of the rows that v stands for, or of
// traces where v is nil. The node names no other variable. Nil: there is none, which only
// happens for events and links.
func (c *compiler) vector(n *node, v *binder) *predicate {
	d := domainOfBinder(v)
	ofSpan := d == spans || d == traces
	if n.op == opConst {
		return c.constant(d, n.constant.truth() == isTrue)
	}
	if n.op == opUnknown {
		if !ofSpan {
			return nil
		}
		return c.predicate(predicate{kind: predUnknown, domain: d})
	}
	if v != nil && n.free == 0 {
		if d != spans {
			return nil
		}
		return c.broadcast(c.vector(n, nil))
	}
	var p *predicate
	switch n.op {
	case opAnd, opOr:
		var ps []*predicate
		for _, a := range n.args {
			x := c.vector(a, v)
			if x == nil {
				return nil
			}
			ps = append(ps, x)
		}
		kind := predAnd
		if n.op == opOr {
			kind = predOr
		}
		return c.join(kind, d, ps...)
	case opNot:
		if x := c.vector(n.args[0], v); x != nil {
			return c.not(x)
		}
		return nil
	case opTruth:
		if a := n.args[0]; a.op == opAttribute {
			p = c.leaf(a, v, func(d domain, col int) *predicate { return c.isBool(d, col, true) })
		}
	case opHas:
		p = c.leaf(&node{op: opAttribute, attribute: n.attribute, older: n.older, args: n.args}, v, c.has)
	case opPresent:
		if at, ok := c.place(n.args[0], v); ok {
			p = at.of(c.constant(spans, true))
		}
	case opCompare:
		p = c.comparison(n, v)
	case opIn:
		p = c.in(n, v)
	case opTextTest:
		p = c.textTest(n.args[0], n.text, v)
	case opPart:
		p = c.part(n, v)
	case opQuantify:
		p = c.quantify(n, v)
	}
	if p == nil && ofSpan {
		p = c.row(n, v)
		if guards := c.guards(n, v); len(guards) > 0 {
			p = c.join(predAnd, d, append(guards, p)...)
		}
	}
	return p
}

// guards are what has to be there for a comparison to be true, so that it is not looked at
// row by row where it is not.
func (c *compiler) guards(n *node, v *binder) (guards []*predicate) {
	if v == nil || v.domain != spans || n.op != opCompare && n.op != opIn && n.op != opTextTest {
		return nil
	}
	var collect func(operands []*node)
	collect = func(operands []*node) {
		for i, o := range operands {
			// An error in another operand would beat what is absent.
			others := slices.Delete(slices.Clone(operands), i, i+1)
			if slices.ContainsFunc(others, func(x *node) bool { return !x.total }) {
				continue
			}
			switch o.op {
			case opAttribute:
				if p := c.leaf(o, v, c.has); p != nil {
					guards = append(guards, p)
				}
			case opCalculate:
				collect(o.args)
			}
		}
	}
	if n.op == opCompare {
		collect(n.args)
	} else if others := n.args[1:]; !slices.ContainsFunc(others, func(x *node) bool { return !x.total }) {
		collect(n.args[:1])
	}
	return guards
}

func (c *compiler) broadcast(p *predicate) *predicate {
	if p.kind == predTrue || p.kind == predFalse {
		return c.constant(spans, p.kind == predTrue)
	}
	return c.predicate(predicate{kind: predBroadcast, domain: spans, args: []*predicate{p}})
}

// place is a span seen from the row that a predicate is of: so many parents up, from the
// row itself or from the trace's root.
type place struct {
	c        *compiler
	parents  int
	fromRoot bool
}

func (c *compiler) place(object *node, v *binder) (at place, ok bool) {
	at.c = c
	for object.op == opParent {
		at.parents++
		object = object.args[0]
	}
	switch {
	case object.op == opRoot:
		at.fromRoot = true
		return at, v == nil
	case object.op == opVar && v != nil && object.binder.id == v.id:
		return at, v.domain == spans || at.parents == 0
	}
	return at, false
}

// of returns what a predicate of spans is of the row whose place it is.
func (at place) of(p *predicate) *predicate {
	for range at.parents {
		kind := predParent
		if p.kind == predTrue {
			kind = predHasParent
		}
		if p.kind != predFalse {
			q := predicate{kind: kind, domain: spans, args: []*predicate{p}}
			if kind == predHasParent {
				q.args = nil
			}
			p = at.c.predicate(q)
		}
	}
	if at.fromRoot {
		return at.c.predicate(predicate{kind: predRoot, domain: traces, args: []*predicate{p}})
	}
	return p
}

// leaf makes a predicate of a field or an attribute: test makes it of a column.
func (c *compiler) leaf(operand *node, v *binder, test func(d domain, col int) *predicate) *predicate {
	if operand.op != opAttribute && operand.op != opField {
		return nil
	}
	at, ok := c.place(operand.args[0], v)
	if !ok {
		return nil
	}
	d := spans
	if v != nil {
		d = v.domain
	}
	if operand.op == opField {
		if operand.field == "service" {
			return at.of(c.ofResource(column{domain: resources, field: "service"}, test))
		}
		return at.of(test(d, c.column(column{domain: d, field: operand.field})))
	}
	key, older := operand.attribute.Key, operand.older
	switch operand.attribute.Scope {
	case columnar.ScopeResource:
		return at.of(c.ofResource(column{domain: resources, key: key, older: older}, test))
	case columnar.ScopeAny:
		own := c.column(column{domain: spans, key: key, older: older})
		resource := c.ofResource(column{domain: resources, key: key, older: older}, test)
		return at.of(c.join(predOr, spans, test(spans, own), c.join(predAnd, spans, resource, c.not(c.has(spans, own)))))
	}
	return at.of(test(d, c.column(column{domain: d, key: key, older: older})))
}

// ofResource makes a predicate of spans of one of their resources.
func (c *compiler) ofResource(col column, test func(d domain, col int) *predicate) *predicate {
	p := test(resources, c.column(col))
	return c.gathered(p)
}

func (c *compiler) gathered(p *predicate) *predicate {
	switch {
	case p.domain == spans:
		return p
	case p.kind == predTrue || p.kind == predFalse:
		return c.constant(spans, p.kind == predTrue)
	case p.kind == predTextIs:
		return c.textIs(spans, p.column, p.texts...) // read by the class of the resource
	case p.kind == predNot:
		return c.not(c.gathered(p.args[0]))
	}
	return c.predicate(predicate{kind: predGather, domain: spans, args: []*predicate{p}})
}

func (c *compiler) has(d domain, col int) *predicate {
	return c.predicate(predicate{kind: predHas, domain: d, column: col}, col)
}

func (c *compiler) isText(d domain, col int) *predicate {
	if c.plan.columns[col].field != "" {
		return c.constant(d, true)
	}
	return c.predicate(predicate{kind: predIsText, domain: d, column: col}, col)
}

func (c *compiler) isBool(d domain, col int, want bool) *predicate {
	p := predicate{kind: predBool, domain: d, column: col}
	if want {
		p.mask = 1
	}
	return c.predicate(p, col, want)
}

func (c *compiler) isNumber(d domain, col int, op columnar.Comparison, want value) *predicate {
	v := trace.IntValue(want.i)
	if want.kind == kindDouble {
		v = trace.DoubleValue(want.f)
	}
	return c.predicate(predicate{kind: predNumber, domain: d, column: col, number: columnar.NewNumberTest(op, v), op: op}, col, op, want.kind, want.i, want.f)
}

var flipped = [...]columnar.Comparison{
	columnar.Equal: columnar.Equal, columnar.NotEqual: columnar.NotEqual,
	columnar.Less: columnar.Greater, columnar.LessEqual: columnar.GreaterEqual, columnar.Greater: columnar.Less, columnar.GreaterEqual: columnar.LessEqual,
}

// comparison is a comparison with a constant; nil if it is another.
func (c *compiler) comparison(n *node, v *binder) *predicate {
	a, b, op := n.args[0], n.args[1], n.comparison
	if a.op == opConst {
		a, b, op = b, a, flipped[op]
	}
	if b.op != opConst {
		return nil
	}
	want := b.constant
	if a.op == opQuantify && v == nil && a.quantifier == quantCount && a.list == listSpans && want.kind == kindInt && a.args[0].free&^(1<<a.binder.id) == 0 {
		p := c.vector(a.args[0], a.binder)
		return c.predicate(predicate{kind: predCount, domain: traces, args: []*predicate{p}, number: columnar.NewNumberTest(op, trace.IntValue(want.i))}, op, want.i)
	}
	return c.leaf(a, v, func(d domain, col int) *predicate { return c.compared(d, col, op, want) })
}

// compared is a column compared with a constant; nil has to be looked at row by row.
func (c *compiler) compared(d domain, col int, op columnar.Comparison, want value) *predicate {
	byRow := func() *predicate { return c.comparedByRow(d, col, op, want) }
	switch field := c.plan.columns[col].field; field {
	case "kind":
		return c.enum(d, col, trace.KindNames[:], op, want)
	case "status":
		return c.enum(d, col, trace.StatusNames[:], op, want)
	case "duration":
		if want.kind != kindDuration {
			return c.constant(d, false)
		}
		return c.predicate(predicate{kind: predDuration, domain: d, column: col, number: columnar.NewNumberTest(op, trace.IntValue(want.i)), op: op}, op, want.i)
	case "start", "end", "time":
		return byRow()
	}
	switch want.kind {
	case kindText:
		switch op {
		case columnar.Equal:
			return c.textIs(d, col, string(want.s))
		case columnar.NotEqual:
			return c.join(predAnd, d, c.isText(d, col), c.not(c.textIs(d, col, string(want.s))))
		}
		return c.tested(d, col, orderTest(op, want.s))
	case kindInt, kindDouble:
		if c.plan.columns[col].field == "" {
			return c.isNumber(d, col, op, want)
		}
	case kindBool:
		if c.plan.columns[col].field == "" {
			var ps []*predicate
			for _, b := range []bool{false, true} {
				if compare(op, boolValue(b), want) == isTrue {
					ps = append(ps, c.isBool(d, col, b))
				}
			}
			return c.join(predOr, d, ps...)
		}
	}
	return c.constant(d, false) // of another type
}

// comparedByRow is compared for points in time.
func (c *compiler) comparedByRow(d domain, col int, op columnar.Comparison, want value) *predicate {
	v := &binder{0, d}
	l := &lowering{}
	variable := l.make(node{op: opVar, binder: v})
	field := l.make(node{op: opField, field: c.plan.columns[col].field, args: []*node{variable}})
	return c.row(l.make(node{op: opCompare, comparison: op, isBool: true, args: []*node{field, l.make(node{op: opConst, constant: want})}}), v)
}

func (c *compiler) enum(d domain, col int, names []string, op columnar.Comparison, want value) *predicate {
	var mask uint64
	for i, name := range names {
		if compare(op, textValue([]byte(name)), want) == isTrue {
			mask |= 1 << i
		}
	}
	return c.enumOf(d, col, len(names), mask)
}

// enumOf is whether a number is in mask; one of which there is no name is the first.
func (c *compiler) enumOf(d domain, col, n int, mask uint64) *predicate {
	if bits.OnesCount64(mask) == n {
		return c.constant(d, true)
	}
	if mask&1 != 0 {
		mask |= ^uint64(0) << n
	}
	if mask == 0 {
		return c.constant(d, false)
	}
	return c.predicate(predicate{kind: predEnum, domain: d, column: col, mask: mask}, col, mask)
}

func (c *compiler) tested(d domain, col int, t *textTest) *predicate {
	return c.predicate(predicate{kind: predTextTest, domain: d, column: col, text: t}, col, t.key)
}

// in is membership in a list of constants; nil if one is none.
func (c *compiler) in(n *node, v *binder) *predicate {
	for _, a := range n.args[1:] {
		if a.op != opConst {
			return nil
		}
	}
	return c.leaf(n.args[0], v, func(d domain, col int) *predicate {
		var ps []*predicate
		for _, a := range n.args[1:] {
			ps = append(ps, c.compared(d, col, columnar.Equal, a.constant))
		}
		if field := c.plan.columns[col].field; field == "kind" || field == "status" {
			var mask uint64
			names := trace.KindNames[:]
			if field == "status" {
				names = trace.StatusNames[:]
			}
			for i, name := range names {
				for _, a := range n.args[1:] {
					if compare(columnar.Equal, textValue([]byte(name)), a.constant) == isTrue {
						mask |= 1 << i
					}
				}
			}
			return c.enumOf(d, col, len(names), mask)
		}
		return c.join(predOr, d, ps...)
	})
}

// textTest tests a text by a constant.
func (c *compiler) textTest(operand *node, t *textTest, v *binder) *predicate {
	if operand.op == opField && (operand.field == "kind" || operand.field == "status") {
		return nil
	}
	return c.leaf(operand, v, func(d domain, col int) *predicate { return c.tested(d, col, t) })
}

// part is what depends on one value alone.
func (c *compiler) part(n *node, v *binder) *predicate {
	if ofAbsent, err := n.part.Truth(trace.Value{}); err != nil || ofAbsent {
		return nil
	}
	return c.leaf(n.args[0], v, func(d domain, col int) *predicate {
		return c.predicate(predicate{kind: predPart, domain: d, column: col, node: n}, col, n.key)
	})
}

// quantify is a quantifier whose elements are looked at apart from the row: all of the
// trace's spans, or those in one relation to the row.
func (c *compiler) quantify(n *node, v *binder) *predicate {
	body, inner := n.args[0], uint64(1)<<n.binder.id
	d := domainOfBinder(v)
	if n.quantifier == quantExists {
		// What does not ask about the element is asked once.
		var apart, rest []*node
		for _, part := range conjuncts(body) {
			if part.free&inner == 0 && part.total && part.op != opConst {
				apart = append(apart, part)
			} else {
				rest = append(rest, part)
			}
		}
		if len(apart) > 0 {
			l := &lowering{}
			m := *n
			m.args, m.row = slices.Clone(n.args), nil
			if len(rest) == 0 {
				rest = []*node{l.make(node{op: opConst, constant: boolValue(true), isBool: true})}
			}
			m.args[0] = l.join(opAnd, rest...)
			m.free = 0
			ps := []*predicate{c.vector(l.make(m), v)}
			for _, a := range apart {
				ps = append(ps, c.vector(a, v))
			}
			if slices.Contains(ps, nil) {
				return nil
			}
			return c.join(predAnd, d, ps...)
		}
	}
	if body.free&^inner != 0 {
		if n.quantifier == quantExists && n.list == listSpans && v != nil && v.domain == spans {
			return c.ordered(body, n.binder, v)
		}
		return nil
	}
	if n.list == listSpans {
		if v != nil {
			return nil // names v: cannot be
		}
		of := c.vector(body, n.binder)
		switch n.quantifier {
		case quantExists:
			return c.exists(of)
		case quantAll:
			return c.not(c.exists(c.not(of)))
		case quantOne:
			return c.predicate(predicate{kind: predCount, domain: traces, args: []*predicate{of}, number: columnar.NewNumberTest(columnar.Equal, trace.IntValue(1))}, columnar.Equal, 1)
		}
		return nil
	}
	at, ok := c.place(n.args[1], v)
	if !ok || n.quantifier == quantOne || n.quantifier == quantCount {
		return nil
	}
	of := c.vector(body, n.binder)
	if of == nil {
		return nil
	}
	if n.quantifier == quantAll {
		of = c.not(of)
	}
	kind := map[listKind]predicateKind{
		listChildren: predChild, listAncestors: predAncestor, listDescendants: predDescendant, listEvents: predMember, listLinks: predMember,
	}[n.list]
	some := c.constant(spans, false)
	if of.kind != predFalse {
		of.memo = true
		some = c.predicate(predicate{kind: kind, domain: spans, args: []*predicate{of}}, n.list)
	}
	if n.quantifier == quantAll {
		some = c.not(some)
	}
	return at.of(some)
}

// isOneSided reports whether a predicate is true of a number and of all beyond it.
func (p *predicate) isOneSided() bool {
	return (p.kind == predNumber || p.kind == predDuration) && p.domain == spans && p.op != columnar.Equal && p.op != columnar.NotEqual
}

// exists is whether a span of the trace is such. Where a conjunction ends in a limit of a
// number, the greatest number of those of which the rest is true decides, or the least: rules
// that differ in their limit alone share all else.
func (c *compiler) exists(of *predicate) *predicate {
	if of.kind == predFalse {
		return c.constant(traces, false)
	}
	parts := []*predicate{of}
	if of.kind == predAnd {
		parts = of.args
	}
	limit, arms := -1, []*predicate(nil)
	for i, part := range parts {
		candidates := []*predicate{part}
		if part.kind == predOr {
			candidates = part.args
		}
		for _, p := range candidates {
			if p.isOneSided() && (limit < 0 || c.uses[p.key] <= c.uses[limitOf(arms).key]) {
				limit, arms = i, candidates
			}
		}
	}
	if limit < 0 || !of.total {
		return c.predicate(predicate{kind: predExists, domain: traces, args: []*predicate{of}})
	}
	rest := slices.Delete(slices.Clone(parts), limit, limit+1)
	var some []*predicate
	for _, arm := range arms {
		if !arm.isOneSided() {
			some = append(some, c.exists(c.join(predAnd, spans, append(slices.Clone(rest), arm)...)))
			continue
		}
		among := c.join(predAnd, spans, rest...)
		among.memo = true
		x := extremes{among, arm.column}
		at, ok := c.extremes[x]
		if !ok {
			at = len(c.plan.extremes)
			c.extremes[x] = at
			c.plan.extremes = append(c.plan.extremes, x)
		}
		some = append(some, c.predicate(predicate{
			kind: predExtreme, domain: traces, args: []*predicate{among}, column: arm.column, number: arm.number, op: arm.op, extremes: at,
		}, arm.key))
	}
	return c.join(predOr, traces, some...)
}

// limitOf returns the one-sided test among the operands of a disjunction.
func limitOf(arms []*predicate) *predicate {
	return arms[slices.IndexFunc(arms, (*predicate).isOneSided)]
}

func conjuncts(n *node) []*node {
	if n.op == opAnd {
		return n.args
	}
	return []*node{n}
}

func disjuncts(n *node) []*node {
	if n.op == opOr {
		return n.args
	}
	return []*node{n}
}

// rowQuantifier is how a quantifier is evaluated for one row: only the elements of which
// candidates is true are looked at, and of those only rest. For quantAll the others are
// known to hold.
type rowQuantifier struct {
	candidates *predicate       // nil: all
	rest       *node            // nil: nothing
	quick      *quickComparison // what rest is, if it is one
}

// quickComparison compares a quantifier's element with what is the same for all elements, in all
// parts.
type quickComparison struct {
	id    int // in Plan.quick
	parts []quickPart
}

// mostQuick is of how many parts a quickComparison is.
const mostQuick = 3

// quickPart compares a field or an attribute of the element.
type quickPart struct {
	op       columnar.Comparison
	of, with *node
	// differs: it is whether another span's attribute is not equal to the same of a span.
	differs bool
}

// ownDomain is the table that an attribute's first column is of.
var ownDomain = [...]domain{
	columnar.ScopeAny: spans, columnar.ScopeSpan: spans, columnar.ScopeResource: resources, columnar.ScopeEvent: events, columnar.ScopeLink: links,
}

// prepare makes the quantifiers within a node ready to be evaluated row by row.
func (c *compiler) prepare(n *node) {
	for _, a := range n.args {
		c.prepare(a)
	}
	n.number = fieldNumbers[n.field]
	if n.op == opAttribute || n.op == opHas {
		n.own = c.column(column{domain: ownDomain[n.attribute.Scope], key: n.attribute.Key, older: n.older})
		n.resource = c.column(column{domain: resources, key: n.attribute.Key, older: n.older})
	}
	if n.op != opQuantify || n.row != nil {
		return
	}
	n.row = &rowQuantifier{}
	parts, op := conjuncts(n.args[0]), opAnd
	if n.quantifier == quantAll {
		parts, op = disjuncts(n.args[0]), opOr
	}
	l := &lowering{}
	var sure []*predicate
	var rest []*node
	for _, part := range parts {
		var p *predicate
		if part.free&^(1<<n.binder.id) == 0 && part.total {
			p = c.vector(part, n.binder)
		}
		if p == nil || p.rank >= int(predRow) {
			rest = append(rest, part)
			continue
		}
		if n.quantifier == quantAll {
			p = c.not(p)
		}
		sure = append(sure, p)
	}
	if len(sure) > 0 {
		n.row.candidates = c.join(predAnd, n.binder.domain, sure...)
		n.row.candidates.memo = true
	}
	if len(rest) > 0 {
		n.row.rest = l.join(op, rest...)
		if n.quantifier != quantAll {
			n.row.quick = c.quickComparison(n.row.rest, n.binder)
		}
	}
}

// quickComparison is what is left of a quantifier's body if that compares the element with what
// does not depend on it: nil if it does not.
func (c *compiler) quickComparison(rest *node, element *binder) *quickComparison {
	q := &quickComparison{id: c.plan.quick}
	for _, n := range conjuncts(rest) {
		if n.op != opCompare || len(q.parts) == mostQuick {
			return nil
		}
		part := quickPart{op: n.comparison, of: n.args[0], with: n.args[1]}
		if part.of.free>>element.id&1 == 0 {
			part = quickPart{op: flipped[part.op], of: part.with, with: part.of}
		}
		if part.with.free>>element.id&1 != 0 || part.of.op != opAttribute && part.of.op != opField || part.of.args[0].op != opVar || part.of.args[0].binder.id != element.id {
			return nil
		}
		of, with := part.of, part.with
		part.differs = part.op == columnar.NotEqual && of.op == opAttribute && with.op == opAttribute && of.attribute == with.attribute && of.older == with.older &&
			with.args[0].op == opVar && with.args[0].binder.domain == spans && element.domain == spans
		q.parts = append(q.parts, part)
	}
	c.plan.quick++
	return q
}
