package plan

import (
	"slices"

	"github.com/betracehq/betrace/analyzer/trace"
)

// Predicates of spans that are known of all, for one span after another.

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
		return keep(rows, m.t, 0)
	}
	switch p.kind {
	case predAnd:
		for _, a := range j.folded[p.id].args {
			if rows = j.filter(a, rows); len(rows) == 0 {
				break
			}
		}
		return rows
	case predNumber:
		return numbersAmong(j.columns[p.column].attribute, &p.number, f, rows)
	case predDuration:
		return j.durationsAmong(&p.number, f, rows)
	case predRow:
		rows, _ = j.truthOfRows(p, rows, nil)
		return rows
	case predTextIs:
		return j.textsAmong(p, rows, 0)
	case predTextTest:
		return j.testsAmong(p, rows, 0)
	case predEnum:
		if j.isKind(p) {
			return enumsAmong(j.b.Kinds, p, f.first, rows)
		}
		return enumsAmong(j.b.Statuses, p, f.first, rows)
	case predNot:
		of := j.folded[p.args[0].id].as
		if m := &j.memos[of.id]; m.stamp == f.stamp {
			return keep(rows, m.t, 1)
		}
		switch of.kind {
		case predRow:
			defer j.giveListsTo(len(j.lent))
			some, _ := j.truthOfRows(of, append(j.lend(len(rows)), rows...), nil)
			return without(rows, some)
		case predTextIs:
			return j.textsAmong(of, rows, 1)
		case predTextTest:
			return j.testsAmong(of, rows, 1)
		}
	}
	if !p.byOne {
		return j.filterByBits(p, rows)
	}
	if len(p.relations) > 0 {
		defer j.scratch.GiveTo(j.scratch.Lent())
		defer j.leaveScope(j.scope)
		j.relateNear(p.relations, rows)
	}
	n := 0
	for _, i := range rows {
		rows[n] = i
		n += int(bit(j.holds(p, i)))
	}
	return rows[:n]
}

// filterByBits is filter for what is not evaluated for one row after another.
func (j *Judge) filterByBits(p *predicate, rows []int32) []int32 {
	f := &j.frame[spans]
	all := trace.Bits(nil)
	if j.folded[p.id].memo {
		all, _ = j.full(p)
	} else {
		defer j.scratch.GiveTo(j.scratch.Lent())
		mask := j.scratch.Take(f.words)
		clear(mask)
		for _, i := range rows {
			mask.Set(i)
		}
		all = j.scratch.Take(f.words)
		j.compute(p, mask, all, nil)
	}
	return keep(rows, all, 0)
}

// keep keeps the rows whose bit is not flip, in the place of all. As in most loops over rows,
// nothing is branched on that nobody could foretell: which are kept.
func keep(rows []int32, of trace.Bits, flip uint64) []int32 {
	n := 0
	for _, i := range rows {
		rows[n] = i
		n += int((of[i>>6]>>(i&63) ^ flip) & 1)
	}
	return rows[:n]
}

// bit is 1 for true.
func bit(is bool) (b uint64) {
	if is {
		b = 1
	}
	return b
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

// holds reports whether a predicate of spans that is known of all is true of the one with a bit.
func (j *Judge) holds(p *predicate, i int32) bool {
	d := &j.folded[p.id]
	switch {
	case d.never:
		return false
	case d.always:
		return true
	}
	f := &j.frame[spans]
	p = d.as
	if m := &j.memos[p.id]; m.stamp == f.stamp {
		return m.t.Has(i)
	}
	b, row := j.b, f.first+i
	switch p.kind {
	case predTextIs:
		return j.hasOneOf(p, row)
	case predAnd:
		for _, a := range j.folded[p.id].args {
			if !j.holds(a, i) {
				return false
			}
		}
		return true
	case predOr:
		for _, a := range j.folded[p.id].args {
			if j.holds(a, i) {
				return true
			}
		}
		return false
	case predNot:
		return !j.holds(p.args[0], i)
	case predHasParent:
		return b.Parents[row] >= 0
	case predEnum:
		if j.isKind(p) {
			return p.has(int32(b.Kinds[row]))
		}
		return p.has(int32(b.Statuses[row]))
	case predNumber:
		return numberPasses(j.columns[p.column].attribute, &p.number, row)
	case predDuration:
		return p.number.Int(int64(b.Ends[row].Sub(b.Starts[row])))
	case predBool:
		c := j.columns[p.column].attribute
		return c.IsBool.Has(row) && c.Bools.Has(row) == (p.mask != 0)
	case predIsText:
		return codeOf(&j.columns[p.column].attribute.Text, row) != 0
	case predHas:
		c := j.columns[p.column].attribute
		if c.IsInt.Has(row) || c.IsDouble.Has(row) || c.IsBool.Has(row) || codeOf(&c.Text, row) != 0 {
			return true
		}
		_, isOther := c.Others[row]
		return isOther
	case predTextTest:
		return j.textPasses(p, row)
	case predGather:
		of, _ := j.full(p.args[0])
		return of.Has(b.Resources[row])
	case predParent:
		at := b.Parents[row]
		return at >= 0 && j.holds(p.args[0], at-f.first)
	case predAncestor:
		return j.hasAncestor(p, i)
	case predChild, predDescendant:
		if near := &j.near[p.id]; j.scope != 0 && near.scope == j.scope {
			return near.of.Has(i)
		}
	case predOrder:
		d, of := j.orderOf(p, f), j.owner[i]
		return d.has.Has(of) && p.times.passes(d.times[of], j.timesOf(p.times.own)[row]) != 0
	}
	all, _ := j.full(p)
	return all.Has(i)
}

// walk is how many more steps upwards of a predicate are taken in a strip before it is sooner worked
// out for all: there may be chains of many spans, and cycles.
type walk struct {
	stamp uint64
	left  int32
}

// hasAncestor reports whether a predicate's operand is true of one of a span's ancestors.
func (j *Judge) hasAncestor(p *predicate, i int32) bool {
	f, w := &j.frame[spans], &j.walks[p.id]
	if w.stamp != f.stamp {
		*w = walk{f.stamp, f.high - f.low}
	}
	for at := j.b.Parents[f.first+i]; at >= 0; at = j.b.Parents[at] {
		if w.left--; w.left < 0 {
			all, _ := j.full(p)
			return all.Has(i)
		}
		if j.holds(p.args[0], at-f.first) {
			return true
		}
	}
	return false
}

// hasOneOf reports whether a row of the predicate's column has one of its texts.
func (j *Judge) hasOneOf(p *predicate, row int32) bool {
	d := &j.groups[p.group.id]
	class := uint32(0)
	if p.domain == spans && j.plan.columns[p.column].domain == resources {
		class = d.byResource[j.b.Resources[row]]
	} else {
		class = d.class[codeOf(j.columns[p.column].text, row)]
	}
	return class != 0 && slices.Contains(p.classes, class)
}

// textsAmong keeps the rows that have one of a predicate's texts, or, if flip is 1, those that have
// none.
func (j *Judge) textsAmong(p *predicate, rows []int32, flip uint64) []int32 {
	d, first := &j.groups[p.group.id], j.frame[spans].first
	if p.domain == spans && j.plan.columns[p.column].domain == resources {
		return classesAmong(p.classes, d.byResource, j.b.Resources, first, rows, flip)
	}
	if codes := j.columns[p.column].text.Codes; codes != nil {
		return classesAmong(p.classes, d.class, codes, first, rows, flip)
	}
	if bit(slices.Contains(p.classes, d.class[0])) == flip { // all are empty
		return rows[:0]
	}
	return rows
}

// classesAmong keeps the rows whose class, which is that of their code, is one of some, or, if flip is
// 1, is none of them.
func classesAmong[C int32 | uint32](some, class []uint32, codes []C, first int32, rows []int32, flip uint64) []int32 {
	n := 0
	if len(some) == 1 {
		for _, i := range rows {
			rows[n] = i
			n += int(bit(class[codes[first+i]] == some[0]) ^ flip)
		}
		return rows[:n]
	}
	for _, i := range rows {
		rows[n] = i
		n += int(bit(slices.Contains(some, class[codes[first+i]])) ^ flip)
	}
	return rows[:n]
}

// testsAmong keeps the rows whose text passes a test, or, if flip is 1, those whose text does not.
func (j *Judge) testsAmong(p *predicate, rows []int32, flip uint64) []int32 {
	n, first := 0, j.frame[spans].first
	for _, i := range rows {
		rows[n] = i
		n += int(bit(j.textPasses(p, first+i)) ^ flip)
	}
	return rows[:n]
}

// enumsAmong keeps the rows whose kind or status is one of the predicate's.
func enumsAmong[E ~int32](numbers []E, p *predicate, first int32, rows []int32) []int32 {
	n := 0
	for _, i := range rows {
		rows[n] = i
		n += int(bit(p.has(int32(numbers[first+i]))))
	}
	return rows[:n]
}

func (j *Judge) isKind(p *predicate) bool { return j.plan.columns[p.column].field == "kind" }

// has reports whether a number is in the mask; one of which there is no name is as the last bit.
func (p *predicate) has(number int32) bool { return p.mask>>min(uint32(number), 63)&1 != 0 }

// numbersAmong keeps the rows whose number passes a test.
func numbersAmong(c *trace.Column, test *trace.NumberTest, f *frame, rows []int32) []int32 {
	n := 0
	if c.IsDouble == nil {
		rows = keep(rows, c.IsInt[f.first>>6:], 0) // most have none, as a rule, and are not in the cache
		for _, i := range rows {
			rows[n] = i
			n += int(bit(test.Int(c.Ints[f.first+i])))
		}
		return rows[:n]
	}
	for _, i := range rows {
		rows[n] = i
		n += int(bit(numberPasses(c, test, f.first+i)))
	}
	return rows[:n]
}

func numberPasses(c *trace.Column, test *trace.NumberTest, row int32) bool {
	return c.IsInt.Has(row) && test.Int(c.Ints[row]) || c.IsDouble.Has(row) && test.Double(c.Doubles[row])
}

// durationsAmong keeps the spans whose duration passes a test.
func (j *Judge) durationsAmong(test *trace.NumberTest, f *frame, rows []int32) []int32 {
	b, n := j.b, 0
	for _, i := range rows {
		row := f.first + i
		rows[n] = i
		n += int(bit(test.Int(int64(b.Ends[row].Sub(b.Starts[row])))))
	}
	return rows[:n]
}
