package columnar

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"

	"github.com/betracehq/betrace/trace"
)

// TextColumn holds a string for each row, as a code: 0 means no string, any other code is one of the column's
// strings. Equal codes mean equal strings. Unequal codes may also mean equal strings, because strings that
// are rarely repeated are not deduplicated.
type TextColumn struct {
	// Codes holds each row's code. It is nil if no row has a string.
	Codes []uint32
	// The string of code c, from 1, is bytes[ends[c-1]:ends[c]].
	bytes []byte
	ends  []uint32
	// longest is the length of the longest string.
	longest int
	known   textIndex
	cache   textCache
}

// NumTexts returns the number of strings in the column, which have the codes from 1.
func (c *TextColumn) NumTexts() int { return max(len(c.ends)-1, 0) }

// LongestText returns the length of the longest string in bytes.
func (c *TextColumn) LongestText() int { return c.longest }

// Bytes returns the string of a code, or nil for 0. It is valid as long as the batch and must not be changed.
func (c *TextColumn) Bytes(code uint32) []byte {
	if code == 0 {
		return nil
	}
	return c.bytes[c.ends[code-1]:c.ends[code]:c.ends[code]]
}

// Text returns a copy of the string of a code, or "" for 0.
func (c *TextColumn) Text(code uint32) string { return string(c.Bytes(code)) }

// code returns the code of a row, or 0.
func (c *TextColumn) code(row int32) uint32 {
	if c.Codes == nil {
		return 0
	}
	return c.Codes[row]
}

// reset empties the column and keeps its memory.
func (c *TextColumn) reset() {
	c.Codes = c.Codes[:0]
	c.bytes = c.bytes[:0]
	c.ends = append(c.ends[:0], 0)
	c.longest = 0
	c.known.reset()
	c.cache.reset()
}

// Add appends a string, even if the column already has it, and returns its code.
func (c *TextColumn) Add(text []byte) uint32 {
	if len(c.ends) == 0 {
		c.ends = append(c.ends, 0)
	}
	if len(c.bytes)+len(text) > math.MaxUint32 {
		panic(fmt.Errorf("the strings of one attribute have more than %d bytes in a batch: reduce the memory of a batch", uint32(math.MaxUint32)))
	}
	c.bytes = append(c.bytes, text...)
	c.ends = append(c.ends, uint32(len(c.bytes)))
	c.longest = max(c.longest, len(text))
	return uint32(len(c.ends) - 1)
}

// Intern returns the code of a string, and adds the string if the column does not have it.
func (c *TextColumn) Intern(text []byte) uint32 {
	h := maphash.Bytes(textSeed, text)
	if code := c.known.find(c, h, text); code != 0 {
		return code
	}
	code := c.Add(text)
	c.known.add(c, h, code)
	return code
}

// InternLikely returns a code of a string. It finds strings that were added recently, which suffices if there
// are few different ones, and adds all others again.
func (c *TextColumn) InternLikely(text []byte) uint32 {
	slot, ok := c.cache.slot(text)
	if !ok {
		return c.Add(text)
	}
	if code := c.cache.codes[slot]; code != 0 && bytes.Equal(c.Bytes(code), text) {
		c.cache.hits++
		return code
	}
	code := c.Add(text)
	c.cache.codes[slot] = code
	return code
}

var textSeed = maphash.MakeSeed()

// textIndex is an open hash table that finds the code of a string.
type textIndex struct {
	slots []uint32
	n     int
}

func (x *textIndex) reset() {
	if x.n > 0 {
		clear(x.slots)
	}
	x.n = 0
}

func (x *textIndex) find(c *TextColumn, hash uint64, text []byte) uint32 {
	if x.n == 0 {
		return 0
	}
	mask := uint64(len(x.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		code := x.slots[i]
		if code == 0 || bytes.Equal(c.Bytes(code), text) {
			return code
		}
	}
}

func (x *textIndex) add(c *TextColumn, hash uint64, code uint32) {
	if 2*(x.n+1) > len(x.slots) {
		old := x.slots
		x.slots = make([]uint32, max(64, 2*len(old)))
		for _, o := range old {
			if o != 0 {
				x.put(maphash.Bytes(textSeed, c.Bytes(o)), o)
			}
		}
	}
	x.put(hash, code)
	x.n++
}

func (x *textIndex) put(hash uint64, code uint32) {
	mask := uint64(len(x.slots) - 1)
	i := hash & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = code
}

// textCache finds the codes of recent strings. It turns itself off if few strings are repeated.
type textCache struct {
	codes       [256]uint32
	asked, hits int
	off, used   bool
}

func (x *textCache) reset() {
	if x.used {
		*x = textCache{}
	}
}

func (x *textCache) slot(text []byte) (int, bool) {
	if x.off {
		return 0, false
	}
	x.used = true
	if x.asked++; x.asked == 4096 {
		if x.hits < x.asked/4 {
			x.off = true
		}
		x.asked, x.hits = 0, 0
	}
	h := uint64(len(text))
	if n := len(text); n >= 8 {
		h = h*31 + le64(text[n-8:]) + 7*le64(text)
	} else {
		for _, b := range text {
			h = h*257 + uint64(b)
		}
	}
	return int((h * 0x9e3779b97f4a7c15) >> 56), true
}

func le64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// Column holds the values of one attribute, one row for each span, resource, event or link. A row has a value
// in at most one of the column's parts. A part is nil if no row has a value of that type.
type Column struct {
	Key  string
	Text TextColumn
	// Ints, Doubles and Bools are defined where IsInt, IsDouble and IsBool are set.
	Ints     []int64
	IsInt    Bits
	Doubles  []float64
	IsDouble Bits
	Bools    Bits
	IsBool   Bits
	// Others holds arrays, maps and bytes by row.
	Others map[int32]trace.Value

	rows int
	kept kept
}

// kept is the memory of parts that the column does not use at the moment.
type kept struct {
	codes                          []uint32
	ints                           []int64
	doubles                        []float64
	isInt, isDouble, bools, isBool Bits
}

// reset empties the column and gives it the given number of rows.
func (c *Column) reset(rows int) {
	if c.Text.Codes != nil {
		c.kept.codes = c.Text.Codes
	}
	c.Text.reset()
	c.Text.Codes = nil
	if c.IsInt != nil {
		c.kept.ints, c.kept.isInt = c.Ints, c.IsInt
	}
	if c.IsDouble != nil {
		c.kept.doubles, c.kept.isDouble = c.Doubles, c.IsDouble
	}
	if c.IsBool != nil {
		c.kept.bools, c.kept.isBool = c.Bools, c.IsBool
	}
	c.Ints, c.IsInt, c.Doubles, c.IsDouble, c.Bools, c.IsBool, c.Others = nil, nil, nil, nil, nil, nil, nil
	c.rows = rows
}

// Rows returns the number of rows.
func (c *Column) Rows() int { return c.rows }

// Present returns the rows of a word that have a string, as bits, among the rows whose bit is set in among.
func (c *TextColumn) Present(word int, among uint64) uint64 {
	if c.Codes == nil || among == 0 {
		return 0
	}
	var none [1]uint64
	SetEqual(none[:], c.Codes[64*word:], 0)
	return among &^ none[0]
}

// Present returns the rows of a word that have a value, except those in Others, as bits, among the rows whose
// bit is set in among.
func (c *Column) Present(word int, among uint64) (present uint64) {
	if c.IsInt != nil {
		present = c.IsInt[word]
	}
	if c.IsDouble != nil {
		present |= c.IsDouble[word]
	}
	if c.IsBool != nil {
		present |= c.IsBool[word]
	}
	if among&^present != 0 {
		present |= c.Text.Present(word, among)
	}
	return among & present
}

// NeedTexts adds an empty part for strings, unless the column has one.
func (c *Column) NeedTexts() {
	if c.Text.Codes == nil {
		c.Text.Codes = zeroed(c.kept.codes, c.rows)
	}
}

// NeedInts adds an empty part for ints, unless the column has one.
func (c *Column) NeedInts() {
	if c.IsInt == nil {
		c.Ints, c.IsInt = sized(c.kept.ints, c.rows), zeroed(c.kept.isInt, NumWords(c.rows))
	}
}

// NeedDoubles adds an empty part for doubles, unless the column has one.
func (c *Column) NeedDoubles() {
	if c.IsDouble == nil {
		c.Doubles, c.IsDouble = sized(c.kept.doubles, c.rows), zeroed(c.kept.isDouble, NumWords(c.rows))
	}
}

// NeedBools adds an empty part for booleans, unless the column has one.
func (c *Column) NeedBools() {
	if c.IsBool == nil {
		c.Bools, c.IsBool = zeroed(c.kept.bools, NumWords(c.rows)), zeroed(c.kept.isBool, NumWords(c.rows))
	}
}

// sized returns a slice of n elements of undefined value. It reuses the memory of s if it is large enough.
func sized[S ~[]E, E any](s S, n int) S {
	if cap(s) >= n {
		return s[:n]
	}
	return make(S, n, n+n/8)
}

func zeroed[S ~[]E, E any](s S, n int) S {
	if cap(s) < n {
		return make(S, n, n+n/8)
	}
	s = s[:n]
	clear(s)
	return s
}

// Value returns the value of a row, which is absent if the row has none. Strings are copied. A row that has
// values of several types, before it is settled, has the greatest: the one whose type is last in OTLP's
// order.
func (c *Column) Value(row int32) trace.Value {
	if v, ok := c.Others[row]; ok {
		return v
	}
	switch {
	case c.IsDouble.Has(row):
		return trace.DoubleValue(c.Doubles[row])
	case c.IsInt.Has(row):
		return trace.IntValue(c.Ints[row])
	case c.IsBool.Has(row):
		return trace.BoolValue(c.Bools.Has(row))
	case c.Text.Codes != nil && c.Text.Codes[row] != 0:
		return trace.StringValue(c.Text.Text(c.Text.Codes[row]))
	}
	return trace.Value{}
}

// Put sets the value of a row. If the row already has one, the greater is kept, and repeated reports whether
// they were unequal.
func (c *Column) Put(row int32, v trace.Value) (repeated bool) {
	if v.IsAbsent() {
		return false
	}
	if old := c.Value(row); !old.IsAbsent() {
		switch d := v.Compare(old); {
		case d == 0:
			return false
		case d < 0:
			return true
		}
		c.Remove(row)
		repeated = true
	}
	switch v.Type() {
	case trace.TypeString:
		c.NeedTexts()
		c.Text.Codes[row] = c.Text.Intern([]byte(v.Str()))
	case trace.TypeInt:
		c.NeedInts()
		c.Ints[row] = v.Int()
		c.IsInt.Set(row)
	case trace.TypeDouble:
		c.NeedDoubles()
		c.Doubles[row] = v.Double()
		c.IsDouble.Set(row)
	case trace.TypeBool:
		c.NeedBools()
		c.IsBool.Set(row)
		if v.Bool() {
			c.Bools.Set(row)
		}
	default:
		if c.Others == nil {
			c.Others = map[int32]trace.Value{}
		}
		c.Others[row] = v
	}
	return repeated
}

// Remove removes the value of a row.
func (c *Column) Remove(row int32) {
	if c.Text.Codes != nil {
		c.Text.Codes[row] = 0
	}
	if c.IsInt != nil {
		c.IsInt.clear(row)
	}
	if c.IsDouble != nil {
		c.IsDouble.clear(row)
	}
	if c.IsBool != nil {
		c.IsBool.clear(row)
		c.Bools.clear(row)
	}
	delete(c.Others, row)
}

// grow adds a row without a value and returns it.
func (c *Column) grow() int32 {
	row := int32(c.rows)
	c.rows++
	if c.Text.Codes != nil {
		c.Text.Codes = append(c.Text.Codes, 0)
	}
	words := NumWords(c.rows)
	more := func(b Bits) Bits {
		if b != nil && len(b) < words {
			b = append(b, 0)
		}
		return b
	}
	if c.IsInt != nil {
		c.Ints, c.IsInt = append(c.Ints, 0), more(c.IsInt)
	}
	if c.IsDouble != nil {
		c.Doubles, c.IsDouble = append(c.Doubles, 0), more(c.IsDouble)
	}
	if c.IsBool != nil {
		c.Bools, c.IsBool = more(c.Bools), more(c.IsBool)
	}
	return row
}

// truncate removes the rows from n on.
func (c *Column) truncate(n int) {
	if c.rows == n {
		return
	}
	c.rows = n
	if c.Text.Codes != nil {
		c.Text.Codes = c.Text.Codes[:n]
	}
	cut := func(b Bits) Bits {
		if b == nil {
			return nil
		}
		b = b[:NumWords(n)]
		if n&63 != 0 {
			b[len(b)-1] &= 1<<(n&63) - 1
		}
		return b
	}
	if c.IsInt != nil {
		c.Ints, c.IsInt = c.Ints[:n], cut(c.IsInt)
	}
	if c.IsDouble != nil {
		c.Doubles, c.IsDouble = c.Doubles[:n], cut(c.IsDouble)
	}
	if c.IsBool != nil {
		c.Bools, c.IsBool = cut(c.Bools), cut(c.IsBool)
	}
	for row := range c.Others {
		if int(row) >= n {
			delete(c.Others, row)
		}
	}
}

// settle keeps only the greatest value in rows that have values of more than one type, and calls repeated
// with each such row.
func (c *Column) settle(repeated func(row int32)) {
	parts := 0
	for _, has := range []bool{c.Text.Codes != nil, c.IsInt != nil, c.IsDouble != nil, c.IsBool != nil, len(c.Others) > 0} {
		if has {
			parts++
		}
	}
	if parts < 2 {
		return
	}
	numbers := func(word int) (all, several uint64) {
		for _, b := range []Bits{c.IsBool, c.IsInt, c.IsDouble} {
			if b != nil {
				several |= all & b[word]
				all |= b[word]
			}
		}
		return all, several
	}
	for word := range NumWords(c.rows) {
		all, several := numbers(word)
		if c.Text.Codes != nil {
			for rest := all; rest != 0; rest &= rest - 1 {
				if bit := bits.TrailingZeros64(rest); c.Text.Codes[word*64+bit] != 0 {
					several |= 1 << bit
				}
			}
		}
		for ; several != 0; several &= several - 1 {
			c.keepGreatest(int32(word*64+bits.TrailingZeros64(several)), repeated)
		}
	}
	for row := range c.Others {
		if c.IsInt.Has(row) || c.IsDouble.Has(row) || c.IsBool.Has(row) || c.Text.code(row) != 0 {
			c.keepGreatest(row, repeated)
		}
	}
}

// keepGreatest keeps the value whose type is last in OTLP's order.
func (c *Column) keepGreatest(row int32, repeated func(row int32)) {
	v := c.Value(row)
	c.Remove(row)
	c.Put(row, v)
	repeated(row)
}
