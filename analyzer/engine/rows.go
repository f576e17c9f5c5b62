package engine

import (
	"math/bits"

	"github.com/betracehq/betrace/trace/columnar"
)

// rows evaluates the node for each row.
func (j *Judge) rows(p *predicate, f *frame, mask, t, u columnar.Bits) {
	if len(p.uses) > 0 {
		defer j.lookAmongAll(p)
		j.lookAmong(p, j.elementsOf(p.domain, mask))
	}
	for w, in := range mask {
		var isTrueOf, unknownOf uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			switch j.truthOfRow(p, f, int32(64*w+k)) {
			case isTrue:
				isTrueOf |= 1 << k
			case isUnknown:
				unknownOf |= 1 << k
			}
		}
		t[w] = isTrueOf
		if !p.total {
			u[w] = unknownOf
		}
	}
}

// truthOfRow evaluates the node of a predicate for the row with a bit.
func (j *Judge) truthOfRow(p *predicate, f *frame, i int32) truth {
	switch p.domain {
	case traces:
		j.trace = f.first + i
	case spans:
		j.trace = j.frame[traces].first + j.owner[i]
	}
	if p.binder != nil {
		j.env[p.binder.id] = f.first + i
	}
	return j.value(p.node).truth()
}

// lookAmong finds, before any row is evaluated, which elements the quantifiers of a node look at:
// a row may not begin another evaluation. It lasts until lookAmongAll.
func (j *Judge) lookAmong(p *predicate, asked columnar.Bits) {
	// All before any is set: among may come here for a predicate within one of them, which
	// uses the same candidates and takes them away when it is done.
	var few [8]columnar.Bits
	found := few[:0]
	for _, used := range p.uses {
		found = append(found, j.among(used, asked))
	}
	for i, used := range p.uses {
		j.candidates[used.id] = found[i]
	}
}

func (j *Judge) lookAmongAll(p *predicate) {
	for _, used := range p.uses {
		j.candidates[used.id] = nil
	}
}

// elementsOf returns the spans of the traces of the rows of a mask, nil if they are many of all.
func (j *Judge) elementsOf(d domain, mask columnar.Bits) columnar.Bits {
	if d != spans && d != traces {
		return nil
	}
	of, fs := mask, &j.frame[spans]
	if d == spans {
		of = j.scratch.Take(j.frame[traces].words)
		j.tracesOf(mask, of)
	}
	n, ends := int32(0), j.b.First[j.frame[traces].first:]
	for t := of.Next(0); t >= 0; t = of.Next(t + 1) {
		n += ends[t+1] - ends[t]
	}
	if int(n) > int(fs.high-fs.low)/j.by.fewRows {
		return nil
	}
	all := j.scratch.Take(fs.words)
	j.spansOf(of, fs, all, fs.all)
	return all
}

// among returns the rows of a mask, nil for all, of which a predicate is true that is total.
func (j *Judge) among(p *predicate, mask columnar.Bits) columnar.Bits {
	d := &j.folded[p.id]
	if mask == nil || p.domain != spans || d.never || d.always || d.as.kind == predTextIs || j.memos[d.as.id].stamp == j.frame[spans].stamp {
		t, _ := j.full(p)
		return t
	}
	t := j.scratch.Take(len(mask))
	j.compute(d.as, mask, t, nil)
	return t
}
