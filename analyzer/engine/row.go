package engine

import (
	"math/bits"

	"github.com/betracehq/betrace/trace/columnar"
)

// Expressions that have no condition are evaluated row by row, on the rows where all else is true.

// rowState is the state of an evaluation of one row.
type rowState struct {
	env   [mostBinders]int32 // the rows that variables stand for
	trace int32              // the trace of the row
	steps int                // counts elements of quantifiers
	// candidates are, by predicate, the elements that quantifiers evaluate.
	candidates []columnar.Bits
	last       []lastResult // by simpleRest
	same       []sameText   // by column
}

func newRowState(p *Plan) rowState {
	return rowState{candidates: make([]columnar.Bits, len(p.predicates)), last: make([]lastResult, p.simpleRests), same: make([]sameText, len(p.columns))}
}

// value evaluates a node for the row.
func (e *evaluation) value(n *node) value { return n.is.value(e, n) }

// objectKinds are the kinds of values that rows of a table are.
var objectKinds = [numDomains]kind{spans: kindSpan, events: kindEvent, links: kindLink}

// object returns the row of a span, event or link. It returns false if there is none.
func (e *evaluation) object(n *node) (kind, int32, bool) {
	switch x := n.is.(type) {
	case *variable:
		return objectKinds[x.binder.domain], e.row.env[x.binder.id], true
	case *parentOf:
		_, row, ok := e.object(n.args[0])
		if !ok {
			return 0, 0, false
		}
		at := e.batch.Parents[row]
		return kindSpan, at, at >= 0
	case *rootOf:
		at := e.rootOf(e.row.trace - e.frames[traces].first)
		return kindSpan, at, at != noRoot
	}
	return 0, 0, false
}

func (e *evaluation) objectValue(n *node) value {
	kind, row, ok := e.object(n)
	if !ok {
		return value{}
	}
	return value{kind: kind, i: int64(row)}
}

// rowCondition evaluates a node for each row.
type rowCondition struct {
	node   *node
	binder *binder // the row's variable in node; nil for traces
	// uses are the candidates of the quantifiers in node.
	uses []*predicate
}

// row returns the predicate that evaluates a node for each row.
func (c *compiler) row(n *node, v *binder) *predicate {
	c.prepare(n)
	x := &rowCondition{node: n, binder: v}
	var walk func(n *node)
	walk = func(n *node) {
		if q, ok := n.is.(*quantifier); ok && q.plan.candidates != nil {
			x.uses = append(x.uses, q.plan.candidates)
		}
		for _, a := range n.args {
			walk(a)
		}
	}
	walk(n)
	return c.predicate(x, domainOf(v))
}

// prepare prepares a node and its operands to be evaluated row by row.
func (c *compiler) prepare(n *node) {
	for _, a := range n.args {
		c.prepare(a)
	}
	if x, ok := n.is.(prepared); ok {
		x.prepare(c, n)
	}
}

func (x *rowCondition) name() string { return "row " + x.node.key }

func (x *rowCondition) traits() traits {
	return traits{cost: costRow, fallible: !x.node.total, slow: true}
}

func (*rowCondition) simplify(*evaluation, *predicate, *simplified) {}

func (x *rowCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	if len(x.uses) > 0 {
		defer e.forgetCandidates(x)
		e.findCandidates(x, e.spansAround(p.domain, mask))
	}
	f := &e.frames[p.domain]
	for w, in := range mask {
		var trueRows, unknownRows uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			e.bindRow(x, p.domain, f, int32(64*w+k))
			switch e.value(x.node).truth() {
			case isTrue:
				trueRows |= 1 << k
			case isUnknown:
				unknownRows |= 1 << k
			}
		}
		t[w] = trueRows
		if !p.total {
			u[w] = unknownRows
		}
	}
}

// bindRow binds the variable of a condition to the row with a bit.
func (e *evaluation) bindRow(x *rowCondition, d domain, f *frame, i int32) {
	switch d {
	case traces:
		e.row.trace = f.first + i
	case spans:
		e.row.trace = e.frames[traces].first + e.strip.owner[i]
	}
	if x.binder != nil {
		e.row.env[x.binder.id] = f.first + i
	}
}

// findCandidates finds the elements of the quantifiers of a condition among spans, or among all if they are nil. It
// has to be called before a row is evaluated, since the evaluation of a row must not begin another.
func (e *evaluation) findCandidates(x *rowCondition, among columnar.Bits) {
	// All are found before any is set: finding one may evaluate another condition, which uses the same candidates and
	// forgets them when it is done.
	var few [8]columnar.Bits
	found := few[:0]
	for _, used := range x.uses {
		found = append(found, e.candidates(used, among))
	}
	for i, used := range x.uses {
		e.row.candidates[used.id] = found[i]
	}
}

func (e *evaluation) forgetCandidates(x *rowCondition) {
	for _, used := range x.uses {
		e.row.candidates[used.id] = nil
	}
}

// candidates returns the rows of a mask, or of all if it is nil, where a total predicate is true.
func (e *evaluation) candidates(p *predicate, mask columnar.Bits) columnar.Bits {
	s := &e.simple[p.id]
	_, isIndexed := s.as.is.(indexed)
	if mask == nil || p.domain != spans || s.never || s.always || isIndexed || e.results[s.as.id].stamp == e.frames[spans].stamp {
		t, _ := e.all(p)
		return t
	}
	t := e.scratch.Take(len(mask))
	e.compute(s.as, mask, t, nil)
	return t
}

// spansAround returns the spans of the traces of the rows of a mask, nil if they are many of all.
func (e *evaluation) spansAround(d domain, mask columnar.Bits) columnar.Bits {
	if d != spans && d != traces {
		return nil
	}
	of, f := mask, &e.frames[spans]
	if d == spans {
		of = e.scratch.Take(e.frames[traces].words)
		e.tracesOf(mask, of)
	}
	n, firsts := int32(0), e.batch.First[e.frames[traces].first:]
	for t := of.Next(0); t >= 0; t = of.Next(t + 1) {
		n += firsts[t+1] - firsts[t]
	}
	if int(n) > int(f.high-f.low)/e.fewRows {
		return nil
	}
	all := e.scratch.Take(f.words)
	e.spansOf(of, all, f.all)
	return all
}
