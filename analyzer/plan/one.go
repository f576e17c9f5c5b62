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
	if p = d.as; j.memos[p.id].stamp != f.stamp {
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
			return j.textsAmong(p, rows, true)
		case predEnum:
			return j.enumsAmong(p, rows)
		case predNot:
			switch of := j.folded[p.args[0].id].as; of.kind {
			case predRow:
				defer j.giveListsTo(len(j.lent))
				some, _ := j.truthOfRows(of, append(j.lend(len(rows)), rows...), nil)
				return without(rows, some)
			case predTextIs:
				return j.textsAmong(of, rows, false)
			}
		}
		if !p.byOne {
			return j.filterByBits(p, rows)
		}
	}
	if len(p.relations) > 0 {
		defer j.scratch.GiveTo(j.scratch.Lent())
		defer j.leaveScope(j.scope)
		j.relateNear(p.relations, rows)
	}
	kept := rows[:0]
	for _, i := range rows {
		if j.holds(p, i) {
			kept = append(kept, i)
		}
	}
	return kept
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
	kept := rows[:0]
	for _, i := range rows {
		if all.Has(i) {
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

// textsAmong keeps the rows that have one of a predicate's texts, or those that have none.
func (j *Judge) textsAmong(p *predicate, rows []int32, want bool) []int32 {
	kept, first := rows[:0], j.frame[spans].first
	for _, i := range rows {
		if j.hasOneOf(p, first+i) == want {
			kept = append(kept, i)
		}
	}
	return kept
}

// enumsAmong keeps the rows whose kind or status is one of the predicate's.
func (j *Judge) enumsAmong(p *predicate, rows []int32) []int32 {
	kept, first := rows[:0], j.frame[spans].first
	if j.isKind(p) {
		for _, i := range rows {
			if p.has(int32(j.b.Kinds[first+i])) {
				kept = append(kept, i)
			}
		}
		return kept
	}
	for _, i := range rows {
		if p.has(int32(j.b.Statuses[first+i])) {
			kept = append(kept, i)
		}
	}
	return kept
}

func (j *Judge) isKind(p *predicate) bool { return j.plan.columns[p.column].field == "kind" }

// has reports whether a number is in the mask; one of which there is no name is as the last bit.
func (p *predicate) has(number int32) bool { return p.mask>>min(uint32(number), 63)&1 != 0 }

// numbersAmong keeps the rows whose number passes a test.
func numbersAmong(c *trace.Column, test *trace.NumberTest, f *frame, rows []int32) []int32 {
	kept := rows[:0]
	for _, i := range rows {
		if numberPasses(c, test, f.first+i) {
			kept = append(kept, i)
		}
	}
	return kept
}

func numberPasses(c *trace.Column, test *trace.NumberTest, row int32) bool {
	return c.IsInt.Has(row) && test.Int(c.Ints[row]) || c.IsDouble.Has(row) && test.Double(c.Doubles[row])
}

// durationsAmong keeps the spans whose duration passes a test.
func (j *Judge) durationsAmong(test *trace.NumberTest, f *frame, rows []int32) []int32 {
	b, kept := j.b, rows[:0]
	for _, i := range rows {
		row := f.first + i
		if test.Int(int64(b.Ends[row].Sub(b.Starts[row]))) {
			kept = append(kept, i)
		}
	}
	return kept
}
