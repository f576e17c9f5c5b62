package engine

import (
	"fmt"
	"math/bits"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// eval sets t to those rows of mask of which the predicate is true, and u, unless the
// predicate is total, to those of which it is not known. t may be mask itself if the predicate is
// total.
func (j *Judge) eval(p *predicate, mask, t, u columnar.Bits) {
	d := &j.folded[p.id]
	if !p.total && (d.total || d.never || d.always) {
		clear(u)
	}
	switch {
	case d.never:
		clear(t)
		return
	case d.always:
		copy(t, mask)
		return
	}
	p = d.as
	if !j.folded[p.id].memo || j.isCheap(p) && mask.Count() < 64*len(mask)/j.by.fewRows {
		j.compute(p, mask, t, u)
		return
	}
	allT, allU := j.full(p)
	if allU != nil { // before t, which may be mask
		for w, in := range mask {
			u[w] = in & allU[w]
		}
	}
	for w, in := range mask {
		t[w] = in & allT[w]
	}
}

// full returns what the predicate is of all rows of its frame. It is worked out once. The
// second is nil for one that is total.
func (j *Judge) full(p *predicate) (t, u columnar.Bits) {
	f := &j.frame[p.domain]
	d := &j.folded[p.id]
	if !p.total {
		u = f.none
	}
	switch {
	case d.never:
		return f.none, u
	case d.always:
		return f.all, u
	}
	if p = d.as; p.kind == predTextIs {
		if t := j.textIs(p); t != nil {
			return t, u
		}
		return f.none, u
	}
	m := &j.memos[p.id]
	if m.stamp != f.stamp {
		m.t = m.t.Resized(64 * f.words)
		if !p.total {
			m.u = m.u.Resized(64 * f.words)
		}
		j.compute(p, f.all, m.t, m.u)
		m.stamp = f.stamp
	}
	if !p.total {
		u = m.u
	}
	return m.t, u
}

// compute is eval without what is kept, and what is folded: p is what it comes to in the batch, and
// neither never nor always true. u may be nil if it is known of everything in this batch.
func (j *Judge) compute(p *predicate, mask, t, u columnar.Bits) {
	f := &j.frame[p.domain]
	defer j.scratch.GiveTo(j.scratch.Lent())
	switch p.kind {
	case predUnknown:
		copy(u, mask)
		clear(t)
	case predEnum:
		if j.isKind(p) {
			enums(j.b.Kinds, p, f, mask, t)
		} else {
			enums(j.b.Statuses, p, f, mask, t)
		}
	case predHas:
		j.has(j.columns[p.column].attribute, f, mask, t)
	case predIsText:
		c := j.columns[p.column].attribute
		for w, in := range mask {
			t[w] = c.Text.Present(int(f.first>>6)+w, in)
		}
	case predBool:
		c := j.columns[p.column].attribute
		for w, in := range mask {
			at := int(f.first>>6) + w
			out := c.IsBool[at] &^ c.Bools[at]
			if p.mask != 0 {
				out = c.IsBool[at] & c.Bools[at]
			}
			t[w] = in & out
		}
	case predNumber:
		j.numbers(p, f, mask, t)
	case predDuration:
		j.durations(p, f, mask, t)
	case predTextTest:
		j.textTests(p, f, mask, t)
	case predPart:
		j.parts(p, f, mask, t, u)
	case predBroadcast:
		j.broadcast(p, f, mask, t, u)
	case predGather:
		j.gather(p, f, mask, t, u)
	case predHasParent, predParent, predChild, predAncestor, predDescendant:
		j.relation(p, f, mask, t, u)
	case predOrder:
		j.order(p, f, mask, t)
	case predMember:
		j.member(p, f, mask, t, u)
	case predNot:
		ofT, ofU := j.scratch.Take(len(mask)), j.scratch.Take(len(mask))
		j.eval(p.args[0], mask, ofT, ofU)
		for w, in := range mask {
			t[w] = in &^ ofT[w]
			if !p.total {
				t[w] &^= ofU[w]
				u[w] = ofU[w]
			}
		}
	case predAnd:
		j.and(p, mask, t, u)
	case predOr:
		j.or(p, mask, t, u)
	case predRow:
		j.rows(p, f, mask, t, u)
	case predExists:
		j.exists(p, f, mask, t, u)
	case predExtreme:
		j.extreme(p, mask, t)
	case predCount:
		j.count(p, f, mask, t, u)
	case predRoot:
		j.root(p, f, mask, t, u)
	default:
		panic(fmt.Sprintf("plan: nothing computes predicates of kind %d", p.kind)) // a verdict would be wrong
	}
}

// and goes on with what is true, or not known, of the operands so far.
func (j *Judge) and(p *predicate, mask, t, u columnar.Bits) {
	d := &j.folded[p.id]
	if !p.total {
		clear(u)
	}
	for _, a := range d.args { // what is never true costs nothing
		if a.rank > int(predTextIs) {
			break
		}
		if j.isNever(a) {
			clear(t)
			return
		}
	}
	copy(t, mask)
	if d.total {
		for i, a := range d.args {
			if j.folded[a.id].memo && !(i > 0 && j.isCheap(a) && t.Count() < 64*len(t)/j.by.fewRows) {
				all, _ := j.full(a)
				for w := range t {
					t[w] &= all[w]
				}
			} else {
				j.compute(a, t, t, nil)
			}
			if t.IsEmpty() {
				return
			}
		}
		return
	}
	candidates, ofT, ofU := j.scratch.Take(len(mask)), j.scratch.Take(len(mask)), j.scratch.Take(len(mask))
	for _, a := range d.args {
		any := uint64(0)
		for w := range candidates {
			candidates[w] = t[w] | u[w]
			any |= candidates[w]
		}
		if any == 0 {
			return
		}
		j.eval(a, candidates, ofT, ofU)
		if a.total {
			clear(ofU)
		}
		for w := range t {
			isTrue := t[w] & ofT[w]
			u[w] = (t[w] | u[w]) & (ofT[w] | ofU[w]) &^ isTrue
			t[w] = isTrue
		}
	}
}

// isCheap reports whether a predicate that is kept, but is not known yet, is sooner asked about a
// few rows than about all.
func (j *Judge) isCheap(p *predicate) bool {
	switch p.kind {
	case predNumber, predDuration, predBool, predEnum, predParent, predAncestor:
		return j.memos[p.id].stamp != j.frame[p.domain].stamp
	}
	return false
}

func (j *Judge) or(p *predicate, mask, t, u columnar.Bits) {
	left, ofT, ofU := j.scratch.CopyOf(mask), j.scratch.Take(len(mask)), j.scratch.Take(len(mask))
	clear(t)
	if !p.total {
		clear(u)
	}
	for _, a := range j.folded[p.id].args {
		if j.isNever(a) {
			continue
		}
		j.eval(a, left, ofT, ofU)
		any := uint64(0)
		for w := range t {
			t[w] |= ofT[w]
			left[w] &^= ofT[w]
			any |= left[w]
		}
		if !j.folded[a.id].total {
			u.Add(ofU)
		}
		if any == 0 {
			break
		}
	}
	if !p.total {
		u.Remove(t)
	}
}

// parts asks the interpreter, of each text once, of other values each time.
func (j *Judge) parts(p *predicate, f *frame, mask, t, u columnar.Bits) {
	col := &j.columns[p.column]
	table := j.tableOf(p, col.text)
	for w, in := range mask {
		var isTrueOf, unknownOf uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			row := f.first + int32(64*w+k)
			found := uint8(0)
			if code := codeOf(col.text, row); code != 0 || col.isField {
				if table[code] == 0 {
					table[code] = 1 + uint8(j.part(p.node, trace.StringValue(col.text.Text(code))))
				}
				found = table[code] - 1
			} else if v := col.attribute.Value(row); !v.IsAbsent() {
				found = uint8(j.part(p.node, v))
			}
			switch truth(found) {
			case isTrue:
				isTrueOf |= 1 << k
			case isUnknown:
				unknownOf |= 1 << k
			}
		}
		t[w], u[w] = isTrueOf, unknownOf
	}
}

func (j *Judge) part(n *node, v trace.Value) truth {
	holds, err := n.part.Truth(v)
	if err != nil {
		return isUnknown
	}
	return truthOf(holds)
}

// broadcast is what is true of the span's trace.
func (j *Judge) broadcast(p *predicate, f *frame, mask, t, u columnar.Bits) {
	asked := j.scratch.Take(j.frame[traces].words)
	j.tracesOf(mask, asked)
	ofT, ofU := j.scratch.Take(len(asked)), j.scratch.Take(len(asked))
	j.eval(p.args[0], asked, ofT, ofU)
	if !p.total {
		j.spansOf(ofU, f, u, mask)
	}
	j.spansOf(ofT, f, t, mask)
}

// tracesOf sets of to the traces that have a span in the mask.
func (j *Judge) tracesOf(mask, of columnar.Bits) {
	clear(of)
	first := j.frame[spans].first
	ends := j.b.First[j.frame[traces].first+1:]
	for i := mask.Next(0); i >= 0; {
		t := j.owner[i]
		of.Set(t)
		i = mask.Next(ends[t] - first)
	}
}

// spansOf sets t to those spans of mask whose trace is in of. t may be mask.
func (j *Judge) spansOf(of columnar.Bits, f *frame, t, mask columnar.Bits) {
	wide := j.scratch.Take(len(mask))
	clear(wide)
	first := j.b.First[j.frame[traces].first:]
	for i := of.Next(0); i >= 0; i = of.Next(i + 1) {
		wide.SetRange(first[i]-f.first, first[i+1]-f.first)
	}
	for w, in := range mask {
		t[w] = in & wide[w]
	}
	j.scratch.Give(1)
}

// gather is what is true of the span's resource.
func (j *Judge) gather(p *predicate, f *frame, mask, t, u columnar.Bits) {
	ofT, ofU := j.full(p.args[0])
	gather := func(of, out columnar.Bits) {
		if of.IsEmpty() {
			clear(out)
			return
		}
		rows := j.b.Resources
		for w, in := range mask {
			var found uint64
			if in != 0 {
				first := int(f.first) + 64*w
				for k, r := range rows[first:min(first+64, len(rows))] {
					found |= of[r>>6] >> (r & 63) & 1 << (k & 63)
				}
			}
			out[w] = in & found
		}
	}
	if !p.total {
		gather(ofU, u)
	}
	gather(ofT, t)
}

// member is what is true of one of the span's events or links.
func (j *Judge) member(p *predicate, f *frame, mask, t, u columnar.Bits) {
	from, to := j.b.Events.From, j.b.Events.To
	if p.args[0].domain == links {
		from, to = j.b.Links.From, j.b.Links.To
	}
	ofT, ofU := j.full(p.args[0])
	for w, in := range mask {
		var isTrueOf, unknownOf uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			row := int(f.first) + 64*w + k
			switch {
			case ofT.AnyIn(from[row], to[row]):
				isTrueOf |= 1 << k
			case !p.total && ofU.AnyIn(from[row], to[row]):
				unknownOf |= 1 << k
			}
		}
		t[w] = isTrueOf
		if !p.total {
			u[w] = unknownOf
		}
	}
}

// elements evaluates a predicate on the spans of the traces of the mask.
func (j *Judge) elements(p *predicate, mask columnar.Bits) (t, u columnar.Bits) {
	f, ft := &j.frame[spans], &j.frame[traces]
	if d := &j.folded[p.id]; d.never || d.always || j.folded[d.as.id].memo {
		return j.full(p)
	}
	within := f.all
	if !equal(mask, ft.all) {
		within = j.scratch.Take(f.words)
		j.spansOf(mask, f, within, f.all)
	}
	t = j.scratch.Take(f.words)
	if !p.total {
		u = j.scratch.Take(f.words)
	}
	j.eval(p, within, t, u)
	return t, u
}

func equal(a, b columnar.Bits) bool {
	for w := range a {
		if a[w] != b[w] {
			return false
		}
	}
	return true
}

func (j *Judge) exists(p *predicate, _ *frame, mask, t, u columnar.Bits) {
	ofT, ofU := j.elements(p.args[0], mask)
	some := j.scratch.Take(len(mask))
	j.tracesOf(ofT, some)
	if !p.total {
		possible := j.scratch.Take(len(mask))
		j.tracesOf(ofU, possible)
		for w, in := range mask {
			u[w] = in & possible[w] &^ some[w]
		}
	}
	for w, in := range mask {
		t[w] = in & some[w]
	}
}

func (j *Judge) count(p *predicate, f *frame, mask, t, u columnar.Bits) {
	ofT, ofU := j.elements(p.args[0], mask)
	first := j.frame[spans].first
	of := j.scratch.CopyOf(mask)
	clear(t)
	if !p.total {
		clear(u)
	}
	for i := of.Next(0); i >= 0; i = of.Next(i + 1) {
		low, high := j.b.First[f.first+i]-first, j.b.First[f.first+i+1]-first
		if !p.total && ofU.AnyIn(low, high) {
			u.Set(i)
			continue
		}
		if p.number.Int(int64(ofT.CountIn(low, high))) {
			t.Set(i)
		}
	}
}

const (
	rootUnknown = -2
	noRoot      = -1
)

// rootOf returns the row of the root of a trace of the strip, noRoot if it has none.
func (j *Judge) rootOf(t int32) int32 {
	if j.roots[t] == rootUnknown {
		j.roots[t] = noRoot
		at := j.frame[traces].first + t
		for i := j.b.First[at]; i < j.b.First[at+1]; i++ {
			if j.b.Parents[i] < 0 && j.b.ParentIDs[i].IsZero() {
				j.roots[t] = i
				break
			}
		}
	}
	return j.roots[t]
}

func (j *Judge) root(p *predicate, _ *frame, mask, t, u columnar.Bits) {
	ofT, ofU := j.full(p.args[0])
	first := j.frame[spans].first
	of := j.scratch.CopyOf(mask)
	clear(t)
	if !p.total {
		clear(u)
	}
	for i := of.Next(0); i >= 0; i = of.Next(i + 1) {
		at := j.rootOf(i)
		switch {
		case at == noRoot:
		case ofT.Has(at - first):
			t.Set(i)
		case !p.total && ofU.Has(at-first):
			u.Set(i)
		}
	}
}
