package engine

import "slices"

// folded is what a predicate comes to in one batch, which has no value in many columns.
type folded struct {
	// as is the predicate that it is: itself, or its only operand that says something.
	as *predicate
	// args are, of && and ||, the operands that say something.
	args []*predicate
	// never: it is true, or not known, of nothing. always: it is true of everything.
	never, always bool
	total         bool // it is known of everything
	memo          bool // as predicate.memo
}

// fold finds what predicates come to in the batch, and the rules that are left.
func (j *Judge) fold() {
	for _, p := range j.plan.predicates { // operands come first
		j.foldOne(p)
	}
	longest := int32(0)
	for t := range j.b.NumTraces() {
		longest = max(longest, j.b.First[t+1]-j.b.First[t])
	}
	j.active, j.needs = j.active[:0], j.needs[:0]
	for i := range j.plan.rules {
		if when := j.plan.rules[i].when; when == nil || !j.folded[when.id].never || j.limits[i].spans < int(longest) {
			a := activeRule{rule: i, limit: j.limits[i].spans, from: len(j.needs)}
			if when != nil {
				a.asked = j.findNeeds(when)
			}
			a.to = len(j.needs)
			j.active = append(j.active, a)
		}
	}
}

func (j *Judge) foldOne(p *predicate) {
	d := &j.folded[p.id]
	*d = folded{as: p, args: d.args[:0], total: p.total, memo: p.memo}
	switch p.kind {
	case predTrue:
		d.always = true
	case predNot:
		of := &j.folded[p.args[0].id]
		d.always, d.never = of.never, of.always
	case predExists, predBroadcast:
		of := &j.folded[p.args[0].id]
		d.always, d.never = of.always, of.never
	case predHas:
		col := &j.columns[p.column]
		d.always, d.never = col.isField, !col.isField && col.attribute == nil
	case predAnd, predOr:
		j.foldOperands(p, d)
	default:
		d.never = j.isNeverInBatch(p)
	}
}

func (j *Judge) foldOperands(p *predicate, d *folded) {
	d.total = true
	for _, a := range p.args {
		of := &j.folded[a.id]
		absorbs, isNeutral := of.never, of.always
		if p.kind == predOr {
			absorbs, isNeutral = isNeutral, absorbs
		}
		switch {
		case absorbs: // also where another is not known
			d.never, d.always = of.never, of.always
			return
		case !isNeutral:
			d.args = append(d.args, of.as)
			d.total = d.total && of.total
		}
	}
	// What is left of an operand may be cheaper than it was.
	slices.SortStableFunc(d.args, func(a, b *predicate) int { return a.order() - b.order() })
	switch len(d.args) {
	case 0:
		d.never, d.always = p.kind == predOr, p.kind == predAnd
	case 1:
		d.as = d.args[0]
		if as := &j.folded[d.as.id]; d.memo && !d.as.isCostly() {
			as.memo = true
		}
	}
}

// isNeverInBatch reports whether a predicate is surely true, or not known, of nothing.
func (j *Judge) isNeverInBatch(p *predicate) bool {
	switch p.kind {
	case predFalse:
		return true
	case predTextIs:
		d := &j.groups[p.group.id]
		if d.batch != j.frame[events].stamp {
			j.classify(p.group, d)
		}
		for _, c := range p.classes {
			if d.live[c] {
				return false
			}
		}
		return true
	case predIsText:
		c := j.columns[p.column].attribute
		return c == nil || c.Text.Codes == nil
	case predBool:
		c := j.columns[p.column].attribute
		return c == nil || c.IsBool == nil
	case predPart:
		return j.columns[p.column].text == nil
	case predTextTest:
		return j.columns[p.column].text == nil || j.passesNone(p)
	case predNumber, predExtreme:
		if col := &j.columns[p.column]; !col.isField && (col.attribute == nil || col.attribute.IsInt == nil && col.attribute.IsDouble == nil) {
			return true
		}
		return p.kind == predExtreme && j.folded[p.args[0].id].never
	case predGather:
		t, u := j.full(p.args[0])
		return t.IsEmpty() && u.IsEmpty()
	case predMember:
		return j.folded[p.args[0].id].never || j.frame[p.args[0].domain].words == 0
	case predParent, predChild, predAncestor, predDescendant, predOrder, predRoot:
		return j.folded[p.args[0].id].never
	}
	return false
}

// findNeeds adds to needs the tests of texts without which a predicate is true, or not known, of
// nothing. It reports whether isNever may know more.
func (j *Judge) findNeeds(p *predicate) (more bool) {
	switch p = j.folded[p.id].as; p.kind {
	case predTextIs:
		j.needs = append(j.needs, p)
	case predExists, predExtreme:
		return j.findNeeds(p.args[0])
	case predAnd:
		for _, a := range j.folded[p.id].args {
			more = j.findNeeds(a) || more
		}
	case predOr:
		return true
	}
	return more
}

// isOut reports whether it is known, at little cost, that a rule applies to no trace of the strip.
func (j *Judge) isOut(a *activeRule) bool {
	for _, p := range j.needs[a.from:a.to] {
		if !j.hasText(p) {
			return true
		}
	}
	return a.asked && j.isNever(j.plan.rules[a.rule].when)
}

// isNever reports whether a predicate is known, at no cost, to be true, or not known, of
// nothing in the strip.
func (j *Judge) isNever(p *predicate) bool {
	d := &j.folded[p.id]
	if d.never || d.always {
		return d.never
	}
	switch p = d.as; p.kind {
	case predTextIs:
		return !j.hasText(p)
	case predExists, predExtreme:
		return j.isNever(p.args[0])
	case predAnd:
		for _, a := range j.folded[p.id].args {
			if a.rank > int(predTextIs) {
				return false
			}
			if j.isNever(a) {
				return true
			}
		}
	case predOr:
		for _, a := range j.folded[p.id].args {
			if !j.isNever(a) {
				return false
			}
		}
		return true
	}
	return false
}
