package traceql

import (
	"math/bits"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// fewBits is the maximum number of rows in a word of 64 that are tested one by one.
const fewBits = 8

// narrowColumn removes the rows from s for whose values no test of the atom holds.
func (f *BatchFilter) narrowColumn(c *columnar.Column, a *atom, s columnar.Bits) {
	if c == nil {
		clear(s)
		return
	}
	others := f.others(c, s, func(v trace.Value) bool { return a.holdsAny(TypeAny, v) })
	texts := textMatcher{}
	if c.Text.Codes != nil {
		texts = f.matchTexts(&c.Text, a, s.Count(), false)
	}
	ints, doubles := c.IsInt != nil && len(a.numbers) > 0, c.IsDouble != nil && len(a.numbers) > 0
	bools := c.IsBool != nil && (a.isTrue || a.isFalse)
	for w, in := range s {
		if in == 0 {
			continue
		}
		var out uint64
		if texts.some {
			out = texts.word(w, in)
		}
		if ints {
			if present := in & c.IsInt[w]; present != 0 {
				for i := range a.numbers {
					out |= a.numbers[i].Ints(c.Ints[64*w:], present)
				}
			}
		}
		if doubles {
			if present := in & c.IsDouble[w]; present != 0 {
				for i := range a.numbers {
					out |= a.numbers[i].Doubles(c.Doubles[64*w:], present)
				}
			}
		}
		if bools {
			if a.isTrue {
				out |= c.IsBool[w] & c.Bools[w]
			}
			if a.isFalse {
				out |= c.IsBool[w] &^ c.Bools[w]
			}
		}
		s[w] = in & out
	}
	f.addOthers(s, others)
}

// narrowPresentColumn removes the rows from s that have no value.
func (f *BatchFilter) narrowPresentColumn(c *columnar.Column, s columnar.Bits) {
	if c == nil {
		clear(s)
		return
	}
	others := f.others(c, s, func(trace.Value) bool { return true })
	for w, in := range s {
		s[w] = c.Present(w, in)
	}
	f.addOthers(s, others)
}

// others returns the rows of s whose value is an array, a map or bytes for which matches is true. It returns
// nil if the column has no such values.
func (f *BatchFilter) others(c *columnar.Column, s columnar.Bits, matches func(trace.Value) bool) columnar.Bits {
	if len(c.Others) == 0 {
		return nil
	}
	found := f.scratch.Take(len(s))
	clear(found)
	for row, v := range c.Others {
		if s.Has(row) && matches(v) {
			found.Set(row)
		}
	}
	return found
}

func (f *BatchFilter) addOthers(s, others columnar.Bits) {
	if others != nil {
		s.Add(others)
		f.scratch.Give(1)
	}
}

// narrowTexts removes the rows from s for whose string no test of the atom holds. A row without a string
// counts as "".
func (f *BatchFilter) narrowTexts(c *columnar.TextColumn, a *atom, s columnar.Bits) {
	if c.Codes == nil {
		if !a.holdsText(nil) {
			clear(s)
		}
		return
	}
	texts := f.matchTexts(c, a, s.Count(), true)
	if !texts.some {
		clear(s)
		return
	}
	for w, in := range s {
		if in != 0 {
			s[w] = in & texts.word(w, in)
		}
	}
}

// textMatcher reports whether an atom is true for the strings of a column. It uses the table of its
// BatchFilter, so only one may be in use.
type textMatcher struct {
	c *columnar.TextColumn
	a *atom
	// table holds the results by code. If nil, each string is tested on demand.
	table []uint8
	empty bool // the result for code 0
	some  bool // false if nothing matches
}

// matchTexts returns a matcher for the strings of a column. rows is the number of rows that will be tested:
// if the column has fewer strings, each is tested once in advance. withEmpty means that code 0 represents "".
func (f *BatchFilter) matchTexts(c *columnar.TextColumn, a *atom, rows int, withEmpty bool) textMatcher {
	if !a.asksTexts() {
		return textMatcher{}
	}
	m := textMatcher{c: c, a: a, empty: withEmpty && a.holdsText(nil)}
	n := c.NumTexts()
	if n > rows {
		m.some = true
		return m
	}
	if cap(f.table) <= n {
		f.table = make([]uint8, n+n/8+1)
	}
	m.table = f.table[:n+1]
	m.some = m.empty
	m.table[0] = bit(m.empty)
	for code := 1; code <= n; code++ {
		matches := a.holdsText(c.Bytes(uint32(code)))
		m.table[code] = bit(matches)
		m.some = m.some || matches
	}
	return m
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// at reports whether the string of a code matches.
func (m *textMatcher) at(code uint32) bool {
	switch {
	case !m.some:
		return false
	case m.table != nil:
		return m.table[code] != 0
	case code == 0:
		return m.empty
	}
	return m.a.holdsText(m.c.Bytes(code))
}

// word returns the rows of word w that match. Only the bits in in are valid.
func (m *textMatcher) word(w int, in uint64) (out uint64) {
	codes := m.c.Codes[64*w : min(64*w+64, len(m.c.Codes))]
	if m.table == nil || bits.OnesCount64(in) <= fewBits {
		for ; in != 0; in &= in - 1 {
			if j := bits.TrailingZeros64(in); m.at(codes[j]) {
				out |= 1 << j
			}
		}
		return out
	}
	table := m.table
	if len(codes) == 64 {
		// Eight at a time with constant indices is 1.5 times as fast as one by one.
		for j := 0; j < 64; j += 8 {
			c := (*[8]uint32)(codes[j:])
			out = out>>8 | uint64(table[c[0]]|table[c[1]]<<1|table[c[2]]<<2|table[c[3]]<<3|
				table[c[4]]<<4|table[c[5]]<<5|table[c[6]]<<6|table[c[7]]<<7)<<56
		}
		return out
	}
	for j, code := range codes {
		out |= uint64(table[code]) << (j & 63)
	}
	return out
}
