package plan

import (
	"math/bits"

	"github.com/betracehq/betrace/analyzer/trace"
)

// extremeData are the least and greatest numbers by trace of the strip.
type extremeData struct {
	stamp                uint64
	isInt, isDouble      trace.Bits // where there are any
	leastInt, mostInt    []int64
	leastDouble, mostDbl []float64
}

// extreme sets t to those traces of mask whose greatest number passes the test, or, for <
// and <=, their least: then one passes.
func (j *Judge) extreme(p *predicate, mask, t trace.Bits) {
	d := &j.extremes[p.extremes]
	if stamp := j.frame[traces].stamp; d.stamp != stamp {
		j.findExtremes(p, d)
		d.stamp = stamp
	}
	ints, doubles := d.mostInt, d.mostDbl
	if p.op == trace.Less || p.op == trace.LessEqual {
		ints, doubles = d.leastInt, d.leastDouble
	}
	for w, in := range mask {
		var out uint64
		if present := in & d.isInt[w]; present != 0 {
			out |= p.number.Ints(ints[64*w:min(64*w+64, len(ints))]) & present
		}
		if present := in & d.isDouble[w]; present != 0 {
			out |= p.number.Doubles(doubles[64*w:min(64*w+64, len(doubles))]) & present
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
	if j.columns[p.column].isField { // durations
		durations := j.allDurations(f)
		for w, in := range among {
			for ; in != 0; in &= in - 1 {
				i := 64*w + bits.TrailingZeros64(in)
				d.addInt(j.owner[i], durations[i])
			}
		}
		return
	}
	c := j.columns[p.column].attribute
	if j.folded[p.args[0].id].always {
		// All have a number of one type, as a rule: no bit has to be looked at.
		switch {
		case c.IsInt != nil && f.allIn(c.IsInt):
			extremesOf(j, c.Ints, d.leastInt, d.mostInt)
			d.isInt.Fill(n)
			return
		case c.IsDouble != nil && f.allIn(c.IsDouble) && extremesOf(j, c.Doubles, d.leastDouble, d.mostDbl):
			d.isDouble.Fill(n)
			return
		}
	}
	for w, in := range among {
		if in == 0 {
			continue
		}
		at := int(f.first>>6) + w
		if c.IsInt != nil {
			for rest := in & c.IsInt[at]; rest != 0; rest &= rest - 1 {
				k := bits.TrailingZeros64(rest)
				d.addInt(j.owner[64*w+k], c.Ints[64*at+k])
			}
		}
		if c.IsDouble != nil {
			for rest := in & c.IsDouble[at]; rest != 0; rest &= rest - 1 {
				k := bits.TrailingZeros64(rest)
				d.addDouble(j.owner[64*w+k], c.Doubles[64*at+k])
			}
		}
	}
}

// allIn reports whether all rows of the frame are in a column's bits.
func (f *frame) allIn(column trace.Bits) bool {
	at := int(f.first >> 6)
	for w, in := range f.all {
		if in&^column[at+w] != 0 {
			return false
		}
	}
	return true
}

// extremesOf finds the extremes of each trace of the strip; it returns false if a value is
// not equal to itself.
func extremesOf[N int64 | float64](j *Judge, values []N, least, most []N) bool {
	first := j.b.First[j.frame[traces].first:]
	ordered := true
	for t := range least {
		of := values[first[t]:first[t+1]]
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

func (d *extremeData) addInt(t int32, v int64) {
	if !d.isInt.Has(t) {
		d.isInt.Set(t)
		d.leastInt[t], d.mostInt[t] = v, v
		return
	}
	d.leastInt[t], d.mostInt[t] = min(d.leastInt[t], v), max(d.mostInt[t], v)
}

// addDouble leaves NaN out, which passes no one-sided test.
func (d *extremeData) addDouble(t int32, v float64) {
	if v != v {
		return
	}
	if !d.isDouble.Has(t) {
		d.isDouble.Set(t)
		d.leastDouble[t], d.mostDbl[t] = v, v
		return
	}
	d.leastDouble[t], d.mostDbl[t] = min(d.leastDouble[t], v), max(d.mostDbl[t], v)
}

func sized[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n, n+n/4)
	}
	return s[:n]
}
