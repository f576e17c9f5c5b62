package traceql

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/betracehq/betrace/trace/columnar"
)

// BatchFilter evaluates a filter on batches of traces, column by column. It returns the same matches as
// [Filter.MatchesSpan] on the traces of the batch.
//
// The batch must have been created for needs that include those of [Filter.Needs]. Values that a batch does
// not hold are absent.
//
// A BatchFilter reuses its memory, so it serves one goroutine at a time. After a batch of equal or greater
// size it does not allocate, except for strings, events and links that are compared with other fields.
type BatchFilter struct {
	root node

	b       *columnar.Batch
	scratch columnar.Scratch
	// table holds for each code of a column whether its string matches, 1 or 0.
	table []uint8
	// children holds the number of children of each span of b. It is empty if they were not counted.
	children []int32
	digits   []byte         // buffer for an ID in hexadecimal
	columns  []fieldColumns // columns of fields that are evaluated span by span
}

// OnBatches returns the filter for batches.
func (f *Filter) OnBatches() *BatchFilter {
	return &BatchFilter{root: compile(f.expr, 0)}
}

// SelectSpans returns a bitmap of the spans that match. It reuses the memory of spans if it is large enough.
func (f *BatchFilter) SelectSpans(b *columnar.Batch, spans columnar.Bits) columnar.Bits {
	spans = spans.Resized(b.NumSpans())
	spans.Fill(b.NumSpans())
	f.b, f.children = b, f.children[:0]
	f.narrow(&f.root, spans)
	f.b = nil
	return spans
}

// SelectTraces returns a bitmap of the traces with a span that matches. It reuses the memory of traces if it
// is large enough.
func (f *BatchFilter) SelectTraces(b *columnar.Batch, traces columnar.Bits) columnar.Bits {
	spans := f.SelectSpans(b, f.scratch.Take(columnar.NumWords(b.NumSpans())))
	traces = traces.Resized(b.NumTraces())
	clear(traces)
	for t, i := int32(0), spans.Next(0); i >= 0; i = spans.Next(b.First[t]) {
		for b.First[t+1] <= i {
			t++
		}
		traces.Set(t)
		t++
	}
	f.scratch.Give(1)
	return traces
}

// node is a node of a compiled filter. It narrows a set of spans to those that match.
type node struct {
	kind nodeKind
	xs   []node // operands of and, or, not
	atom *atom
	of   Field // field whose presence is tested
	expr Expr  // expression that is evaluated on each span
}

type nodeKind uint8

// The kinds of nodes, ordered by cost: a conjunction evaluates cheap ones first.
const (
	nodeNone nodeKind = iota
	nodeAll
	nodePresent
	nodeAtom
	nodeNot
	nodeAnd
	nodeOr
	nodeRows
)

// maxBitmapDepth limits the nesting of nodes, because each level takes one or two bitmaps. Deeper expressions
// are evaluated on each span.
const maxBitmapDepth = 32

func compile(x Expr, depth int) node {
	if depth > maxBitmapDepth {
		return node{kind: nodeRows, expr: x}
	}
	switch x := x.(type) {
	case Const:
		return constant(x.Value.Bool())
	case Field:
		return compileTest(x, OpEqual, True, nil)
	case Not:
		switch inner := compile(x.X, depth+1); inner.kind {
		case nodeNone, nodeAll:
			return constant(inner.kind == nodeNone)
		case nodeNot:
			return inner.xs[0]
		default:
			return node{kind: nodeNot, xs: []node{inner}}
		}
	case Binary:
		switch {
		case x.Op == OpAnd || x.Op == OpOr:
			return compileJoin(x, depth)
		case x.Op.isComparison():
			return compileComparison(x)
		}
	}
	return constant(false) // for example, a number is not a boolean
}

func constant(b bool) node {
	if b {
		return node{kind: nodeAll}
	}
	return node{kind: nodeNone}
}

// compileJoin compiles && and ||. Their operands may be evaluated in any order.
func compileJoin(x Binary, depth int) node {
	n := node{kind: nodeAnd}
	neutral, absorbing := nodeAll, nodeNone
	if x.Op == OpOr {
		n.kind, neutral, absorbing = nodeOr, nodeNone, nodeAll
	}
	for _, part := range operands(x, x.Op) {
		switch c := compile(part, depth+1); c.kind {
		case absorbing:
			return c
		case neutral:
		case n.kind:
			n.xs = append(n.xs, c.xs...)
		default:
			n.xs = append(n.xs, c)
		}
	}
	if n.kind == nodeOr {
		n.xs = uniteAtoms(n.xs)
	}
	switch len(n.xs) {
	case 0:
		return node{kind: neutral}
	case 1:
		return n.xs[0]
	}
	slices.SortStableFunc(n.xs, func(a, b node) int { return cmp.Compare(a.kind, b.kind) })
	return n
}

// uniteAtoms merges the atoms of a disjunction that test the same field. The prefilter of many rules tests
// many names.
func uniteAtoms(xs []node) []node {
	tests := map[Field][]test{}
	for _, x := range xs {
		if x.kind == nodeAtom {
			tests[x.atom.field] = append(tests[x.atom.field], x.atom.tests...)
		}
	}
	united := xs[:0]
	for _, x := range xs {
		if x.kind == nodeAtom {
			field := x.atom.field
			if tests[field] == nil {
				continue // already merged into the first atom of that field
			}
			x.atom = newAtom(field, tests[field]...)
			tests[field] = nil
		}
		united = append(united, x)
	}
	return united
}

// compileComparison compiles comparisons of fields with constants to atoms. All others are evaluated on each
// span.
func compileComparison(x Binary) node {
	left, leftIsConst := constantOf(x.Left)
	right, rightIsConst := constantOf(x.Right)
	if leftIsConst && rightIsConst {
		return constant((&evaluation{}).truth(x))
	}
	if field, ok := x.Left.(Field); ok && rightIsConst {
		return compileTest(field, x.Op, right, x.regex)
	}
	if field, ok := x.Right.(Field); ok && leftIsConst && x.regex == nil && field != traceIDField {
		return compileTest(field, x.Op.flipped(), left, nil)
	}
	return node{kind: nodeRows, expr: x}
}

func compileTest(field Field, op Op, want Const, regex *regexp.Regexp) node {
	if want.Type == TypeNil {
		present := node{kind: nodePresent, of: field}
		if op == OpEqual {
			return node{kind: nodeNot, xs: []node{present}}
		}
		return present
	}
	if want.Value.IsAbsent() {
		return constant(false)
	}
	return node{kind: nodeAtom, atom: newAtom(field, newTest(field, op, want, regex))}
}

// constantOf returns the value of an expression that does not read a field.
func constantOf(x Expr) (Const, bool) {
	if c, ok := x.(Const); ok {
		return c, true
	}
	if len((&Filter{expr: x}).Fields()) > 0 {
		return Const{}, false
	}
	o := (&evaluation{}).operand(x)
	return Const{o.typ, o.one}, true
}

// narrow removes the spans from s that do not match.
func (f *BatchFilter) narrow(n *node, s columnar.Bits) {
	if s.IsEmpty() {
		return
	}
	switch n.kind {
	case nodeNone:
		clear(s)
	case nodeAll:
	case nodePresent:
		f.narrowPresent(n.of, s)
	case nodeAtom:
		f.narrowAtom(n.atom, s)
	case nodeNot:
		match := f.scratch.CopyOf(s)
		f.narrow(&n.xs[0], match)
		s.Remove(match)
		f.scratch.Give(1)
	case nodeAnd:
		for i := range n.xs {
			f.narrow(&n.xs[i], s)
		}
	case nodeOr:
		left, match := f.scratch.CopyOf(s), f.scratch.Take(len(s))
		clear(s)
		for i := range n.xs {
			copy(match, left)
			f.narrow(&n.xs[i], match)
			s.Add(match)
			left.Remove(match)
		}
		f.scratch.Give(2)
	case nodeRows:
		f.narrowRows(n.expr, s)
	}
}
