package plan

import (
	"slices"

	"github.com/betracehq/betrace/analyzer/trace"
)

// Where few spans of a strip have the text that a conjunction asks for, they are looked at one
// after another, up to the verdict on their traces: what a rule costs is then what it matches. They are
// listed by their bits in the frame of spans, in order.

// seed returns the spans of which the conjunction's rarest text is true, in memory that lasts as
// long as the strip, and the operand that asks for it; nil if they are not few, or none does.
func (j *Judge) seed(d *folded) (rows []int32, of *predicate) {
	f := &j.frame[spans]
	for _, a := range d.args {
		if a.rank > int(predTextIs) {
			break
		}
		if a.kind != predTextIs || a.domain != spans {
			continue
		}
		listed, few := j.listed(a, f)
		if few && (of == nil || len(listed) < len(rows)) {
			rows, of = listed, a
		}
	}
	return rows, of
}

// list is the spans of which a predicate is true, and of which it is not known.
type list struct {
	stamp         uint64
	few           bool
	rows, unknown []int32
}

// listed returns the spans that have one of a predicate's texts, if they are few.
func (j *Judge) listed(p *predicate, f *frame) (rows []int32, few bool) {
	d, most := j.textsOf(p), int(j.by.listed*float64(f.words))
	if len(p.classes) == 1 {
		return d.of[p.classes[0]].list(f, most)
	}
	l := &j.lists[p.id]
	if l.stamp != f.stamp {
		l.stamp, l.few, l.rows = f.stamp, true, l.rows[:0]
		for _, c := range p.classes {
			rows, few := d.of[c].list(f, most)
			if !few || len(l.rows)+len(rows) > most {
				l.few = false
				break
			}
			l.rows = append(l.rows, rows...)
		}
		slices.Sort(l.rows)
	}
	return l.rows, l.few
}

// rowsOf returns the spans of which a predicate is true, and those of which it is not known, if they
// can be listed: for the traces of mask at least, those of others may be among them. The memory is
// lent, or lasts as long as the strip: it is not to be written to.
func (j *Judge) rowsOf(p *predicate, mask trace.Bits) (rows, unknown []int32, few bool) {
	d := &j.folded[p.id]
	switch {
	case p.domain != spans || d.always:
		return nil, nil, false
	case d.never:
		return nil, nil, true
	}
	f := &j.frame[spans]
	switch p = d.as; p.kind {
	case predTextIs:
		rows, few = j.listed(p, f)
		return rows, nil, few
	case predAnd:
		d = &j.folded[p.id]
	default:
		return nil, nil, false
	}
	l := &j.lists[p.id]
	switch {
	case l.stamp == f.stamp:
		return l.rows, l.unknown, l.few
	case j.memos[p.id].stamp == f.stamp || !j.isListable(d):
		return nil, nil, false
	}
	seeded, seed := j.seed(d)
	if seed == nil {
		return nil, nil, false
	}
	if d.memo && p.refs > 1 { // it will be asked about other traces
		l.stamp, l.few = f.stamp, true
		l.rows, unknown = j.filterAll(d, seed, append(l.rows[:0], seeded...))
		l.unknown = append(l.unknown[:0], unknown...)
		return l.rows, l.unknown, true
	}
	rows, unknown = j.filterAll(d, seed, j.ofTraces(seeded, mask))
	return rows, unknown, true
}

// ofTraces returns those rows whose traces are in the mask, in memory that is lent.
func (j *Judge) ofTraces(rows []int32, mask trace.Bits) []int32 {
	left, n := append(j.lend(len(rows)), rows...), 0
	if equal(mask, j.frame[traces].all) {
		return left
	}
	for _, i := range rows {
		of := j.owner[i]
		left[n] = i
		n += int(mask[of>>6] >> (of & 63) & 1)
	}
	return left[:n]
}

// isListable reports whether what is not known of everything is evaluated row by row.
func (j *Judge) isListable(d *folded) bool {
	return d.total || !slices.ContainsFunc(d.args, func(a *predicate) bool { return !j.folded[a.id].total && a.kind != predRow })
}

// filterAll returns those rows of which all operands but the one that they come from are true, and
// those of which that is not known, in memory that is lent. They take the place of the rows.
func (j *Judge) filterAll(d *folded, seed *predicate, rows []int32) (isTrue, unknown []int32) {
	for _, a := range d.args {
		if len(rows) == 0 {
			return rows, nil
		}
		if a != seed && j.folded[a.id].total {
			rows = j.filter(a, rows)
		}
	}
	if d.total {
		return rows, nil
	}
	unknown = j.lend(len(rows))
	for _, a := range d.args { // those that are evaluated row by row
		if !j.folded[a.id].total {
			rows, unknown = j.truthOfRows(a, rows, unknown)
		}
	}
	return rows, unknown
}

// andListed is a conjunction of spans that is known of all, by lists. It returns false if they are
// too long.
func (j *Judge) andListed(p *predicate, mask, t trace.Bits) bool {
	if p.domain != spans {
		return false
	}
	defer j.giveListsTo(len(j.lent))
	var rows []int32
	if l := &j.lists[p.id]; l.stamp == j.frame[spans].stamp {
		rows = j.within(l.rows, mask)
	} else {
		d := &j.folded[p.id]
		seeded, seed := j.seed(d)
		if seed == nil {
			return false
		}
		rows, _ = j.filterAll(d, seed, j.within(seeded, mask))
	}
	clear(t)
	for _, i := range rows {
		t.Set(i)
	}
	return true
}

// tracesOfRows sets of to the traces of rows.
func (j *Judge) tracesOfRows(rows []int32, of trace.Bits) {
	clear(of)
	for _, i := range rows {
		of.Set(j.owner[i])
	}
}

// countRows sets t to those traces of mask the number of whose rows passes the predicate's test.
func (j *Judge) countRows(p *predicate, rows []int32, mask, t trace.Bits) {
	passed := j.scratch.Take(len(mask)) // t may be the mask
	clear(passed)
	ofNone := p.number.Int(0)
	if ofNone {
		copy(passed, mask)
	}
	for len(rows) > 0 {
		of, n := j.owner[rows[0]], 1
		for n < len(rows) && j.owner[rows[n]] == of {
			n++
		}
		rows = rows[n:]
		switch isSo := p.number.Int(int64(n)); {
		case isSo == ofNone:
		case isSo:
			passed.Set(of)
		default:
			passed[of>>6] &^= 1 << (of & 63)
		}
	}
	for w, in := range mask {
		t[w] = in & passed[w]
	}
}

// within returns those rows that are in the mask, in memory that is lent.
func (j *Judge) within(rows []int32, mask trace.Bits) []int32 {
	return keep(append(j.lend(len(rows)), rows...), mask, 0)
}

// lend returns an empty list with room for n rows, until it is given back.
func (j *Judge) lend(n int) []int32 {
	k := len(j.lent)
	if k == cap(j.lent) {
		j.lent = append(j.lent, nil)
	} else {
		j.lent = j.lent[:k+1]
	}
	if cap(j.lent[k]) < n {
		j.lent[k] = make([]int32, 0, 2*n)
	}
	return j.lent[k][:0]
}

func (j *Judge) giveListsTo(n int) { j.lent = j.lent[:n] }
