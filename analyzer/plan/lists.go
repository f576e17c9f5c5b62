package plan

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/betracehq/betrace/analyzer/trace"
)

// Where few spans of a strip have the text that a conjunction asks for, they are looked at one
// after another: what a rule costs is then what it matches. They are listed by their bits in the
// frame of spans, in order.

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

// list is the spans of which a predicate is true.
type list struct {
	stamp uint64
	few   bool
	rows  []int32
}

// listed returns the spans that have one of a predicate's texts, if they are few.
func (j *Judge) listed(p *predicate, f *frame) (rows []int32, few bool) {
	l := &j.lists[p.id]
	if l.stamp != f.stamp {
		l.stamp, l.few, l.rows = f.stamp, true, l.rows[:0]
		all := j.textIs(p)
		most := int(j.by.listed * float64(f.words))
		for w, in := range all {
			for ; in != 0; in &= in - 1 {
				l.rows = append(l.rows, int32(64*w+bits.TrailingZeros64(in)))
			}
			if len(l.rows) > most {
				l.few = false
				break
			}
		}
	}
	return l.rows, l.few
}

// andListed is a conjunction of spans that is known of all, by lists. It returns false if they are
// too long.
func (j *Judge) andListed(p *predicate, mask, t trace.Bits) bool {
	if p.domain != spans {
		return false
	}
	d := &j.folded[p.id]
	rows, seed := j.seed(d)
	if seed == nil {
		return false
	}
	defer j.giveListsTo(len(j.lent))
	left := j.within(rows, mask)
	for _, a := range d.args {
		if a != seed && len(left) > 0 {
			left = j.filter(a, left)
		}
	}
	clear(t)
	for _, i := range left {
		t.Set(i)
	}
	return true
}

// within returns those rows that are in the mask, in memory that is lent.
func (j *Judge) within(rows []int32, mask trace.Bits) []int32 {
	left := j.lend(len(rows))
	for _, i := range rows {
		if mask.Has(i) {
			left = append(left, i)
		}
	}
	return left
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

// filter returns those rows of which a predicate is true that is known of everything. They take
// the place of the rows, which are in order.
func (j *Judge) filter(p *predicate, rows []int32) []int32 {
	d := &j.folded[p.id]
	switch {
	case d.never:
		return rows[:0]
	case d.always:
		return rows
	}
	f := &j.frame[spans]
	p = d.as
	if m := &j.memos[p.id]; m.stamp == f.stamp {
		return only(rows, m.t.Has)
	}
	b, col := j.b, columnData{}
	if len(j.columns) > p.column {
		col = j.columns[p.column]
	}
	switch p.kind {
	case predTextIs:
		if all := j.textIs(p); all != nil {
			return only(rows, all.Has)
		}
		return rows[:0]
	case predAnd:
		for _, a := range j.folded[p.id].args {
			if rows = j.filter(a, rows); len(rows) == 0 {
				break
			}
		}
		return rows
	case predOr:
		defer j.giveListsTo(len(j.lent))
		left, found := append(j.lend(len(rows)), rows...), rows[:0]
		for _, a := range j.folded[p.id].args {
			some := j.filter(a, append(j.lend(len(left)), left...))
			left = without(left, some)
			found = append(found, some...)
		}
		slices.Sort(found)
		return found
	case predNot:
		defer j.giveListsTo(len(j.lent))
		return without(rows, j.filter(p.args[0], append(j.lend(len(rows)), rows...)))
	case predHasParent:
		return only(rows, func(i int32) bool { return b.Parents[f.first+i] >= 0 })
	case predEnum:
		if j.plan.columns[p.column].field == "kind" {
			return only(rows, func(i int32) bool { return p.mask>>min(uint32(b.Kinds[f.first+i]), 63)&1 != 0 })
		}
		return only(rows, func(i int32) bool { return p.mask>>min(uint32(b.Statuses[f.first+i]), 63)&1 != 0 })
	case predNumber:
		c := col.attribute
		return only(rows, func(i int32) bool {
			row := f.first + i
			return c.IsInt.Has(row) && p.number.Int(c.Ints[row]) || c.IsDouble.Has(row) && p.number.Double(c.Doubles[row])
		})
	case predDuration:
		durations := j.allDurations(f)
		return only(rows, func(i int32) bool { return p.number.Int(durations[i]) })
	case predBool:
		c := col.attribute
		return only(rows, func(i int32) bool {
			row := f.first + i
			return c.IsBool.Has(row) && c.Bools.Has(row) == (p.mask != 0)
		})
	case predIsText:
		codes := col.attribute.Text.Codes
		return only(rows, func(i int32) bool { return codeAt(codes, f.first+i) != 0 })
	case predHas:
		c := col.attribute
		return only(rows, func(i int32) bool {
			row := f.first + i
			if c.IsInt.Has(row) || c.IsDouble.Has(row) || c.IsBool.Has(row) || codeAt(c.Text.Codes, row) != 0 {
				return true
			}
			_, isOther := c.Others[row]
			return isOther
		})
	case predGather:
		of, _ := j.full(p.args[0])
		return only(rows, func(i int32) bool { return of.Has(b.Resources[f.first+i]) })
	case predParent, predAncestor:
		of, _ := j.full(p.args[0])
		return only(rows, func(i int32) bool { return j.isBelow(p.kind, of, i, f) })
	case predOrder:
		d := j.orderOf(p, f)
		own := j.timesOf(p.times.own)
		return only(rows, func(i int32) bool {
			of := j.owner[i]
			return d.has.Has(of) && p.times.op.Holds(cmp.Compare(d.times[of], own[f.first+i]))
		})
	}
	if j.folded[p.id].memo {
		all, _ := j.full(p)
		return only(rows, all.Has)
	}
	defer j.scratch.GiveTo(j.scratch.Lent())
	mask, t := j.scratch.Take(f.words), j.scratch.Take(f.words)
	clear(mask)
	for _, i := range rows {
		mask.Set(i)
	}
	j.compute(p, mask, t, nil)
	return only(rows, t.Has)
}

func codeAt(codes []uint32, row int32) uint32 {
	if codes == nil {
		return 0
	}
	return codes[row]
}

// only keeps the rows of which something is true.
func only(rows []int32, isTrue func(i int32) bool) []int32 {
	kept := rows[:0]
	for _, i := range rows {
		if isTrue(i) {
			kept = append(kept, i)
		}
	}
	return kept
}

// without takes from rows those of others, which are among them; both are in order.
func without(rows, others []int32) []int32 {
	kept := rows[:0]
	for _, i := range rows {
		if len(others) > 0 && others[0] == i {
			others = others[1:]
			continue
		}
		kept = append(kept, i)
	}
	return kept
}
