package engine

import (
	"math/bits"

	"github.com/betracehq/betrace/trace/columnar"
)

// Conditions on the parent, the ancestors, the children and the descendants of a span. They are passes over the column
// of parents.

// parentOf is the parent of a span.
type parentOf struct{}

func (*parentOf) name() string                                   { return "parent" }
func (*parentOf) condition(*compiler, *node, *binder) *predicate { return nil }
func (*parentOf) value(e *evaluation, n *node) value             { return e.objectValue(n) }

// hasParentCondition is true of spans whose parent is in the trace.
type hasParentCondition struct{}

func (*hasParentCondition) name() string                                  { return "hasParent" }
func (*hasParentCondition) traits() traits                                { return traits{cost: costHasParent, keep: true} }
func (*hasParentCondition) simplify(*evaluation, *predicate, *simplified) {}

func (*hasParentCondition) evaluate(e *evaluation, _ *predicate, mask, t, _ columnar.Bits) {
	parents, f := e.batch.Parents, &e.frames[spans]
	for w, in := range mask {
		out := uint64(0)
		if in != 0 {
			first := int(f.first) + 64*w
			for k, at := range parents[first:min(first+64, len(parents))] {
				out |= uint64(^uint32(at)>>31) << (k & 63)
			}
		}
		t[w] = in & out
	}
}

// ofParent returns the predicate of spans of whose parent another predicate is true.
func (c *compiler) ofParent(p *predicate) *predicate {
	switch {
	case p.isTrue():
		return c.predicate(&hasParentCondition{}, spans)
	case p.isFalse():
		return p
	}
	return c.predicate(&parentCondition{}, spans, p)
}

// parentCondition is true of spans of whose parent, or of one of whose ancestors, the operand is true.
type parentCondition struct{ isAncestor bool }

func (x *parentCondition) name() string {
	if x.isAncestor {
		return "ancestor"
	}
	return "parent"
}

func (x *parentCondition) traits() traits {
	if x.isAncestor {
		return traits{cost: costAncestor, anyRows: true}
	}
	return traits{cost: costParent, anyRows: true}
}

func (*parentCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	s.never = e.simple[p.args[0].id].never
}

func (x *parentCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	ofT, ofU := e.all(p.args[0])
	f := &e.frames[spans]
	if mask.Count() < int(f.high-f.low)/e.fewRows {
		asked := e.scratch.CopyOf(mask) // t may be the mask
		if x.upwards(e, ofT, asked, t) && (p.total || x.upwards(e, ofU, asked, u)) {
			if !p.total {
				u.Remove(t)
			}
			return
		}
		mask = asked
	}
	e.relate(p, ofT, ofU, mask, t, u, x.downwards)
}

// upwards sets out to the spans of the mask whose parent, or one of whose ancestors, is in of. It returns false if too
// many ancestors would have to be tested.
func (x *parentCondition) upwards(e *evaluation, of, mask, out columnar.Bits) bool {
	f := &e.frames[spans]
	left := f.high - f.low // so many steps take no longer than a pass over all spans
	for w, in := range mask {
		var found uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			at := e.batch.Parents[f.first+int32(64*w+k)]
			for at >= 0 {
				if of.Has(at - f.first) {
					found |= 1 << k
					break
				}
				if !x.isAncestor {
					break
				}
				if left--; left < 0 { // there may be a cycle, too
					return false
				}
				at = e.batch.Parents[at]
			}
		}
		out[w] = found
	}
	return true
}

// downwards sets out to the spans whose parent, or one of whose ancestors, is in of.
func (x *parentCondition) downwards(e *evaluation, of, out columnar.Bits) {
	clear(out)
	e.findUnordered()
	f, parents, number := &e.frames[spans], e.batch.Parents, e.frames[traces].first
	firsts := e.batch.First[number:]
	for i := of.Next(0); i >= 0; {
		t := e.strip.owner[i]
		low, high := firsts[t], firsts[t+1]
		switch {
		case !x.isAncestor:
			for row := low; row < high; row++ {
				if at := parents[row]; at >= 0 && of.Has(at-f.first) {
					out.Set(row - f.first)
				}
			}
		case !e.relations.unordered.Has(number + t):
			// Each parent comes before its children, so one pass is enough. It is branch-free, because the tree is
			// unpredictable.
			for row := i + 1 + f.first; row < high; row++ {
				at := parents[row]
				above := (at - f.first) &^ (at >> 31)
				found := (of[above>>6] | out[above>>6]) >> (above & 63) & uint64(^at>>31&1)
				k := row - f.first
				out[k>>6] |= found << (k & 63)
			}
		default:
			e.setBelow(of, out, low, high)
		}
		i = of.Next(high - f.first)
	}
}

// setBelow sets out to the spans of a trace that have an ancestor in of. The search from each span goes up until it
// reaches one in of, or one that was visited before: there may be a cycle.
func (e *evaluation) setBelow(of, out columnar.Bits, low, high int32) {
	f, parents := &e.frames[spans], e.batch.Parents
	visited := e.scratch.Take(f.words)
	clear(visited[(low-f.first)>>6 : (high-f.first+63)>>6])
	for row := low; row < high; row++ {
		found, at := false, row
		for !visited.Has(at - f.first) {
			visited.Set(at - f.first)
			above := parents[at]
			if above < 0 {
				break
			}
			if k := above - f.first; of.Has(k) || visited.Has(k) {
				found = of.Has(k) || out.Has(k)
				break
			}
			at = above
		}
		for at, top := row, at; found; at = parents[at] {
			out.Set(at - f.first)
			if at == top {
				break
			}
		}
	}
	e.scratch.Give(1)
}

// relationState holds the traces of the batch in which a parent comes after its child.
type relationState struct {
	isKnown   bool
	unordered columnar.Bits
}

func (e *evaluation) findUnordered() {
	s, b := &e.relations, e.batch
	if s.isKnown {
		return
	}
	s.isKnown = true
	s.unordered = s.unordered.Resized(b.NumTraces())
	clear(s.unordered)
	t := int32(0)
	for i, at := range b.Parents {
		if at >= int32(i) {
			for b.First[t+1] <= int32(i) {
				t++
			}
			s.unordered.Set(t)
		}
	}
}

// childCondition is true of spans of one of whose children, or descendants, the operand is true.
type childCondition struct{ isDescendant bool }

func (x *childCondition) name() string {
	if x.isDescendant {
		return "descendant"
	}
	return "child"
}

func (x *childCondition) traits() traits {
	if x.isDescendant {
		return traits{cost: costDescendant, keep: true}
	}
	return traits{cost: costChild, keep: true}
}

func (*childCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	s.never = e.simple[p.args[0].id].never
}

func (x *childCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	ofT, ofU := e.all(p.args[0])
	e.relate(p, ofT, ofU, mask, t, u, x.upwards)
}

// upwards sets out to the spans that have a child, or descendant, in of.
func (x *childCondition) upwards(e *evaluation, of, out columnar.Bits) {
	clear(out)
	f, parents := &e.frames[spans], e.batch.Parents
	for i := of.Next(0); i >= 0; i = of.Next(i + 1) {
		// The way up ends at a span that is set already: those above it are set, too.
		for at := parents[f.first+i]; at >= 0 && !out.Has(at-f.first); at = parents[at] {
			out.Set(at - f.first)
			if !x.isDescendant {
				break
			}
		}
	}
}

// relate evaluates a relation to the spans where the operand is true, and to those where it may be.
func (e *evaluation) relate(p *predicate, ofT, ofU, mask, t, u columnar.Bits, pass func(e *evaluation, of, out columnar.Bits)) {
	related := e.scratch.Take(e.frames[spans].words)
	pass(e, ofT, related)
	for w, in := range mask {
		t[w] = in & related[w]
	}
	if p.total {
		return
	}
	if ofU.IsEmpty() {
		clear(u)
		return
	}
	possible := e.scratch.CopyOf(ofT)
	possible.Add(ofU)
	pass(e, possible, related)
	for w := range u {
		u[w] = mask[w] & related[w] &^ t[w]
	}
}
