package engine

import (
	"math/bits"

	"github.com/betracehq/betrace/trace/columnar"
)

// relation is what is true of a span in some relation to the span.
func (j *Judge) relation(p *predicate, f *frame, mask, t, u columnar.Bits) {
	if p.kind == predHasParent {
		parents := j.b.Parents
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
		return
	}
	ofT, ofU := j.full(p.args[0])
	if (p.kind == predParent || p.kind == predAncestor) && mask.Count() < int(f.high-f.low)/j.by.fewRows {
		asked := j.scratch.CopyOf(mask) // t may be the mask
		if j.upwards(p.kind, ofT, asked, t, f) && (p.total || j.upwards(p.kind, ofU, asked, u, f)) {
			if !p.total {
				u.Remove(t)
			}
			return
		}
		mask = asked
	}
	related := j.scratch.Take(f.words)
	j.relate(p.kind, ofT, related, f)
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
	possible := j.scratch.CopyOf(ofT)
	possible.Add(ofU)
	j.relate(p.kind, possible, related, f)
	for w := range u {
		u[w] = mask[w] & related[w] &^ t[w]
	}
}

// upwards sets out to those spans of the mask whose parent, or one of whose ancestors, is in of. It
// returns false if ancestors are too many to be met one after another.
func (j *Judge) upwards(kind predicateKind, of, mask, out columnar.Bits, f *frame) bool {
	left := f.high - f.low // so many steps take no longer than to look at all spans
	for w, in := range mask {
		var found uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			at := j.b.Parents[f.first+int32(64*w+k)]
			for at >= 0 {
				if of.Has(at - f.first) {
					found |= 1 << k
					break
				}
				if kind == predParent {
					break
				}
				if left--; left < 0 { // there may be a cycle, too
					return false
				}
				at = j.b.Parents[at]
			}
		}
		out[w] = found
	}
	return true
}

// relate sets out to the spans that have one of of as their parent, child, ancestor or
// descendant.
func (j *Judge) relate(kind predicateKind, of, out columnar.Bits, f *frame) {
	clear(out)
	parents := j.b.Parents
	switch kind {
	case predChild:
		for i := of.Next(0); i >= 0; i = of.Next(i + 1) {
			if at := parents[f.first+i]; at >= 0 {
				out.Set(at - f.first)
			}
		}
		return
	case predDescendant:
		// Each span goes up until it meets one that was met before.
		for i := of.Next(0); i >= 0; i = of.Next(i + 1) {
			j.setAbove(parents[f.first+i], out, f)
		}
		return
	}
	j.findUnordered()
	trc := j.frame[traces].first
	firsts := j.b.First[trc:]
	for i := of.Next(0); i >= 0; {
		t := j.owner[i]
		low, high := firsts[t], firsts[t+1]
		switch {
		case kind == predParent:
			for row := low; row < high; row++ {
				if at := parents[row]; at >= 0 && of.Has(at-f.first) {
					out.Set(row - f.first)
				}
			}
		case !j.unordered.Has(trc + t):
			// A parent comes before its children: one pass downwards, without branches that depend
			// on the tree.
			for row := i + 1 + f.first; row < high; row++ {
				at := parents[row]
				above := (at - f.first) &^ (at >> 31)
				found := (of[above>>6] | out[above>>6]) >> (above & 63) & uint64(^at>>31&1)
				k := row - f.first
				out[k>>6] |= found << (k & 63)
			}
		default:
			j.setBelow(of, out, low, high, f)
		}
		i = of.Next(high - f.first)
	}
}

// findUnordered finds the traces in which a parent comes after its child.
func (j *Judge) findUnordered() {
	if j.related {
		return
	}
	j.related = true
	j.unordered = j.unordered.Resized(j.b.NumTraces())
	clear(j.unordered)
	t := int32(0)
	for i, at := range j.b.Parents {
		if at >= int32(i) {
			for j.b.First[t+1] <= int32(i) {
				t++
			}
			j.unordered.Set(t)
		}
	}
}

// setAbove sets the bits of a span and of all above it, until it meets one that is set.
func (j *Judge) setAbove(at int32, out columnar.Bits, f *frame) {
	for ; at >= 0 && !out.Has(at-f.first); at = j.b.Parents[at] {
		out.Set(at - f.first)
	}
}

// setBelow sets out to the spans of a trace that have an ancestor in of. Each goes up until it meets one
// in of, or one that was met before: there may be a cycle.
func (j *Judge) setBelow(of, out columnar.Bits, low, high int32, f *frame) {
	met, parents := j.scratch.Take(f.words), j.b.Parents
	clear(met[(low-f.first)>>6 : (high-f.first+63)>>6])
	for row := low; row < high; row++ {
		found, at := false, row
		for !met.Has(at - f.first) {
			met.Set(at - f.first)
			above := parents[at]
			if above < 0 {
				break
			}
			if k := above - f.first; of.Has(k) || met.Has(k) {
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
	j.scratch.Give(1)
}
