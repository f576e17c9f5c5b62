package engine

import (
	"math/bits"
	"slices"

	"github.com/betracehq/betrace/trace/columnar"
)

// extremeCondition is true of traces where the number of a span passes a limit, among the spans of which the operand is
// true: the greatest number decides or, for < and <=, the least. Rules that differ in their limit alone share all else.
type extremeCondition struct {
	numberCondition
	id int // in evaluation.extremes
}

// extremeKey identifies the extremes of a column among the spans of which a predicate is true.
type extremeKey struct {
	of     *predicate
	column *column
}

// exists returns the predicate of traces that have a span of which another predicate is true. If a limit is one of its
// conditions, extremes decide.
func (c *compiler) exists(of *predicate) *predicate {
	if of.isFalse() {
		return c.constant(traces, false)
	}
	parts := []*predicate{of}
	if x, ok := of.is.(*logicCondition); ok && !x.or {
		parts = of.args
	}
	limit, arms := -1, []*predicate(nil)
	for i, part := range parts {
		candidates := []*predicate{part}
		if x, ok := part.is.(*logicCondition); ok && x.or {
			candidates = part.args
		}
		for _, p := range candidates {
			if p.isLimit() && (limit < 0 || c.uses[p.key] <= c.uses[arms[slices.IndexFunc(arms, (*predicate).isLimit)].key]) {
				limit, arms = i, candidates
			}
		}
	}
	if limit < 0 || !of.total {
		return c.predicate(&existsCondition{}, traces, of)
	}
	rest := slices.Delete(slices.Clone(parts), limit, limit+1)
	var some []*predicate
	for _, arm := range arms {
		if !arm.isLimit() {
			some = append(some, c.exists(c.join(false, spans, append(slices.Clone(rest), arm)...)))
			continue
		}
		among := c.join(false, spans, rest...)
		among.keep = true
		number := arm.is.(*numberCondition)
		key := extremeKey{among, number.column}
		id, ok := c.extremes[key]
		if !ok {
			id = len(c.extremes)
			c.extremes[key] = id
			c.plan.extremes = len(c.extremes)
		}
		some = append(some, c.predicate(&extremeCondition{*number, id}, traces, among))
	}
	return c.join(true, traces, some...)
}

func (x *extremeCondition) name() string { return "extreme " + x.limit() }

func (*extremeCondition) traits() traits { return traits{cost: costExtreme} }

func (x *extremeCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	x.numberCondition.simplify(e, p, s)
	s.never = s.never || e.simple[p.args[0].id].never
}

func (*extremeCondition) isNeverInStrip(e *evaluation, p *predicate) bool {
	return e.isNever(p.args[0])
}

func (x *extremeCondition) evaluate(e *evaluation, p *predicate, mask, t, _ columnar.Bits) {
	s := &e.extremes[x.id]
	if stamp := e.frames[traces].stamp; s.stamp != stamp {
		s.find(e, x, p.args[0])
		s.stamp = stamp
	}
	ints, doubles := s.ints.most, s.doubles.most
	if x.op == columnar.Less || x.op == columnar.LessEqual {
		ints, doubles = s.ints.least, s.doubles.least
	}
	for w, in := range mask {
		var out uint64
		if present := in & s.ints.has[w]; present != 0 {
			out |= x.test.Ints(ints[64*w:], present)
		}
		if present := in & s.doubles.has[w]; present != 0 {
			out |= x.test.Doubles(doubles[64*w:], present)
		}
		t[w] = out
	}
}

// extremeState are the least and greatest numbers of the traces of the strip.
type extremeState struct {
	stamp   uint64
	ints    extremesOf[int64]
	doubles extremesOf[float64]
}

// extremesOf are the least and greatest numbers of one type, by trace.
type extremesOf[N int64 | float64] struct {
	has         columnar.Bits // the traces that have one
	least, most []N
}

func (x *extremesOf[N]) reset(n int) {
	x.has = x.has.Resized(n)
	clear(x.has)
	x.least, x.most = sized(x.least, n), sized(x.most, n)
}

func (s *extremeState) find(e *evaluation, x *extremeCondition, among *predicate) {
	f, n := &e.frames[spans], len(e.strip.roots)
	s.ints.reset(n)
	s.doubles.reset(n)
	rows, _ := e.all(among)
	isAll := e.simple[among.id].always
	if x.isDuration() {
		if durations := e.durations(); isAll {
			s.ints.findAll(e, durations, f.first)
		} else {
			s.ints.findAmong(e, durations, 0, func(w int) uint64 { return rows[w] })
		}
		return
	}
	c, at := e.columns[x.column.id].attribute, int(f.first>>6)
	if isAll {
		// In most columns all rows have a number of one type, so no bit has to be tested.
		if c.IsInt != nil && f.isIn(c.IsInt) {
			s.ints.findAll(e, c.Ints, 0)
			return
		}
		if c.IsDouble != nil && f.isIn(c.IsDouble) && s.doubles.findAll(e, c.Doubles, 0) {
			return
		}
	}
	if c.IsInt != nil {
		s.ints.findAmong(e, c.Ints, int(f.first), func(w int) uint64 { return rows[w] & c.IsInt[at+w] })
	}
	if c.IsDouble != nil {
		s.doubles.findAmong(e, c.Doubles, int(f.first), func(w int) uint64 { return rows[w] & c.IsDouble[at+w] })
	}
}

// findAll finds the extremes of all spans of the strip, each of which has a value; values begin with row first. It
// returns false if one is NaN.
func (x *extremesOf[N]) findAll(e *evaluation, values []N, first int32) bool {
	firsts := e.batch.First[e.frames[traces].first:]
	ordered := true
	for t := range x.least {
		of := values[firsts[t]-first : firsts[t+1]-first]
		low, high := of[0], of[0]
		for _, v := range of {
			if v < low {
				low = v
			}
			if v > high {
				high = v
			}
			if v != v {
				ordered = false
			}
		}
		x.least[t], x.most[t] = low, high
	}
	if ordered {
		x.has.Fill(len(x.least))
	}
	return ordered
}

// findAmong finds the extremes of the spans of the strip that are in words; values[base] is that of the first bit. NaN
// is ignored, since it passes no limit.
func (x *extremesOf[N]) findAmong(e *evaluation, values []N, base int, words func(w int) uint64) {
	f := &e.frames[spans]
	firsts := e.batch.First[e.frames[traces].first:]
	of, end := int32(-1), int32(0) // the current trace, and its end
	var low, high N
	for w := range f.words {
		for in := words(w); in != 0; in &= in - 1 {
			i := 64*w + bits.TrailingZeros64(in)
			v := values[base+i]
			if v != v {
				continue
			}
			if int32(i) >= end {
				if of >= 0 {
					x.least[of], x.most[of] = low, high
				}
				of = e.strip.owner[i]
				end = firsts[of+1] - f.first
				x.has.Set(of)
				low, high = v, v
				continue
			}
			if v < low {
				low = v
			}
			if v > high {
				high = v
			}
		}
	}
	if of >= 0 {
		x.least[of], x.most[of] = low, high
	}
}
