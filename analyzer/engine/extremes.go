package engine

import (
	"math/bits"

	"github.com/betracehq/betrace/trace/columnar"
)

// extremeData are the least and greatest numbers by trace of the strip.
type extremeData struct {
	stamp                uint64
	isInt, isDouble      columnar.Bits // where there are any
	leastInt, mostInt    []int64
	leastDouble, mostDbl []float64
}

// extreme sets t to those traces of mask whose greatest number passes the test, or, for <
// and <=, their least: then one passes.
func (j *Judge) extreme(p *predicate, mask, t columnar.Bits) {
	d := &j.extremes[p.extremes]
	if stamp := j.frame[traces].stamp; d.stamp != stamp {
		j.findExtremes(p, d)
		d.stamp = stamp
	}
	ints, doubles := d.mostInt, d.mostDbl
	if p.op == columnar.Less || p.op == columnar.LessEqual {
		ints, doubles = d.leastInt, d.leastDouble
	}
	for w, in := range mask {
		var out uint64
		if present := in & d.isInt[w]; present != 0 {
			out |= p.number.Ints(ints[64*w:], present)
		}
		if present := in & d.isDouble[w]; present != 0 {
			out |= p.number.Doubles(doubles[64*w:], present)
		}
		t[w] = out
	}
}

// findExtremes looks at the numbers of the spans of which the predicate's operand is true.
func (j *Judge) findExtremes(p *predicate, d *extremeData) {
	f, n := &j.frame[spans], len(j.roots)
	d.isInt, d.isDouble = d.isInt.Resized(n), d.isDouble.Resized(n)
	clear(d.isInt)
	clear(d.isDouble)
	d.leastInt, d.mostInt = sized(d.leastInt, n), sized(d.mostInt, n)
	d.leastDouble, d.mostDbl = sized(d.leastDouble, n), sized(d.mostDbl, n)
	among, _ := j.full(p.args[0])
	always := j.folded[p.args[0].id].always
	if j.columns[p.column].isField { // durations
		durations := j.allDurations(f)
		if always {
			extremesOf(j, durations, f.first, d.leastInt, d.mostInt)
			d.isInt.Fill(n)
			return
		}
		extremesAmong(j, durations, 0, func(w int) uint64 { return among[w] }, d.isInt, d.leastInt, d.mostInt)
		return
	}
	c := j.columns[p.column].attribute
	if always {
		// All have a number of one type, as a rule: no bit has to be looked at.
		switch {
		case c.IsInt != nil && f.allIn(c.IsInt):
			extremesOf(j, c.Ints, 0, d.leastInt, d.mostInt)
			d.isInt.Fill(n)
			return
		case c.IsDouble != nil && f.allIn(c.IsDouble) && extremesOf(j, c.Doubles, 0, d.leastDouble, d.mostDbl):
			d.isDouble.Fill(n)
			return
		}
	}
	at := int(f.first >> 6)
	if c.IsInt != nil {
		extremesAmong(j, c.Ints, int(f.first), func(w int) uint64 { return among[w] & c.IsInt[at+w] }, d.isInt, d.leastInt, d.mostInt)
	}
	if c.IsDouble != nil {
		extremesAmong(j, c.Doubles, int(f.first), func(w int) uint64 { return among[w] & c.IsDouble[at+w] }, d.isDouble, d.leastDouble, d.mostDbl)
	}
}

// allIn reports whether all rows of the frame are in a column's bits.
func (f *frame) allIn(column columnar.Bits) bool {
	at := int(f.first >> 6)
	for w, in := range f.all {
		if in&^column[at+w] != 0 {
			return false
		}
	}
	return true
}

// extremesOf finds the extremes of each trace of the strip, all of whose spans have a value, the
// one of row first the first; it returns false if a value is not equal to itself.
func extremesOf[N int64 | float64](j *Judge, values []N, first int32, least, most []N) bool {
	firsts := j.b.First[j.frame[traces].first:]
	ordered := true
	for t := range least {
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
		least[t], most[t] = low, high
	}
	return ordered
}

// extremesAmong finds the extremes of those spans of the strip that are in words, whose values
// begin with number base, and notes which traces have some. NaN counts for nothing: it passes no
// one-sided test.
func extremesAmong[N int64 | float64](j *Judge, values []N, base int, words func(w int) uint64, has columnar.Bits, least, most []N) {
	f := &j.frame[spans]
	firsts := j.b.First[j.frame[traces].first:]
	of, end := int32(-1), int32(0) // the trace that is looked at, and where it ends
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
					least[of], most[of] = low, high
				}
				of = j.owner[i]
				end = firsts[of+1] - f.first
				has.Set(of)
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
		least[of], most[of] = low, high
	}
}

func sized[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n, n+n/4)
	}
	return s[:n]
}
