package columnar

import (
	"math"
	"math/bits"

	"github.com/betracehq/betrace/trace"
)

// Comparison is the operator of a comparison of two values.
type Comparison uint8

// The comparisons.
const (
	Equal Comparison = iota
	NotEqual
	Less
	LessEqual
	Greater
	GreaterEqual
)

// Holds reports whether the comparison is true for operands whose three-way comparison, left with right, is
// c: negative, 0 or positive.
func (op Comparison) Holds(c int) bool {
	switch op {
	case Equal:
		return c == 0
	case NotEqual:
		return c != 0
	case Less:
		return c < 0
	case LessEqual:
		return c <= 0
	case Greater:
		return c > 0
	}
	return c >= 0
}

// NumberTest is a comparison with a number, expressed as bounds for ints and for doubles. It compares columns
// without conversions, and exactly.
type NumberTest struct {
	// The test holds for an int i if hasInts and uint64(i-low) <= width.
	low     int64
	width   uint64
	hasInts bool
	// The test holds for a double d if least <= d && d <= greatest, so never for NaN.
	least, greatest float64
	// not is all ones if the result is negated, as for !=.
	not uint64
}

// NewNumberTest returns the test that compares a number with want, which is an int or a double.
func NewNumberTest(op Comparison, want trace.Value) NumberTest {
	t := NumberTest{least: math.Inf(1), greatest: math.Inf(-1)} // holds for no number
	if op == NotEqual {
		op, t.not = Equal, math.MaxUint64
	}
	if low, high, ok := intBounds(op, want); ok {
		t.low, t.width, t.hasInts = low, uint64(high)-uint64(low), true
	}
	t.least, t.greatest = doubleBounds(op, want)
	return t
}

// intBounds returns the least and the greatest int for which the comparison with want is true. ok is false if
// there is none.
func intBounds(op Comparison, want trace.Value) (low, high int64, ok bool) {
	below, above := want.Int(), want.Int() // want, or the ints next to it
	if want.Type() == trace.TypeDouble {
		d := want.Double()
		switch {
		case math.IsNaN(d):
			return 0, 0, false
		case d >= 1<<63:
			return math.MinInt64, math.MaxInt64, op == Less || op == LessEqual
		case d < -1<<63:
			return math.MinInt64, math.MaxInt64, op == Greater || op == GreaterEqual
		}
		below, above = int64(math.Floor(d)), int64(math.Ceil(d))
	}
	low, high = math.MinInt64, math.MaxInt64
	switch op {
	case Equal:
		return above, below, above == below
	case Less:
		if below == above {
			return low, below - 1, below != math.MinInt64
		}
		return low, below, true
	case LessEqual:
		return low, below, true
	case Greater:
		if below == above {
			return above + 1, high, above != math.MaxInt64
		}
		return above, high, true
	case GreaterEqual:
		return above, high, true
	}
	return 0, 0, false
}

// doubleBounds returns the least and the greatest double for which the comparison with want is true. If there
// is none, least is greater than greatest.
func doubleBounds(op Comparison, want trace.Value) (least, greatest float64) {
	below, above := want.Double(), want.Double() // want, or the doubles next to it
	if want.Type() == trace.TypeInt {
		below, above = float64(want.Int()), float64(want.Int())
		switch c, _ := trace.CompareIntDouble(want.Int(), below); {
		case c < 0:
			below = math.Nextafter(below, math.Inf(-1))
		case c > 0:
			above = math.Nextafter(above, math.Inf(1))
		}
	}
	least, greatest = math.Inf(-1), math.Inf(1)
	switch op {
	case Equal:
		return above, below
	case Less:
		if below == above {
			if below == math.Inf(-1) {
				return greatest, least
			}
			below = math.Nextafter(below, math.Inf(-1))
		}
		return least, below
	case LessEqual:
		return least, below
	case Greater:
		if below == above {
			if above == math.Inf(1) {
				return greatest, least
			}
			above = math.Nextafter(above, math.Inf(1))
		}
		return above, greatest
	case GreaterEqual:
		return above, greatest
	}
	return greatest, least
}

// Int reports whether the test holds for an int.
func (t *NumberTest) Int(v int64) bool {
	return (t.hasInts && uint64(v-t.low) <= t.width) != (t.not != 0)
}

// Double reports whether the test holds for a double.
func (t *NumberTest) Double(v float64) bool {
	return (t.least <= v && v <= t.greatest) != (t.not != 0)
}

// fewAmong is the maximum number of values among 64 that are tested one by one.
const fewAmong = 4

// Ints tests the first 64 ints whose bit is set in among, and returns the bits of those for which the test
// holds. No bit of among is beyond the last value.
func (t *NumberTest) Ints(values []int64, among uint64) (word uint64) {
	switch {
	case !t.hasInts:
		return among & t.not
	case bits.OnesCount64(among) <= fewAmong:
		for rest := among; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			word |= uint64(upTo(uint64(values[k]-t.low), t.width)) << k
		}
	case len(values) >= 64:
		word = intsWithin(values[:64], t.low, t.low+int64(t.width))
	default:
		word = intsWithinGo(values, t.low, t.low+int64(t.width))
	}
	return among & (word ^ t.not)
}

// Doubles tests doubles as Ints tests ints.
func (t *NumberTest) Doubles(values []float64, among uint64) (word uint64) {
	switch {
	case bits.OnesCount64(among) <= fewAmong:
		for rest := among; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			word |= uint64(upTo(t.least, values[k])&upTo(values[k], t.greatest)) << k
		}
	case len(values) >= 64:
		word = doublesWithin(values[:64], t.least, t.greatest)
	default:
		word = doublesWithinGo(values, t.least, t.greatest)
	}
	return among & (word ^ t.not)
}

// intsWithinGo returns a bit for each of at most 64 ints that is in [low, high]. high must not be less than
// low.
func intsWithinGo(values []int64, low, high int64) (word uint64) {
	width := uint64(high) - uint64(low)
	if len(values) == 64 { // with constant shifts only
		for j := 0; j < 64; j += 8 {
			v := (*[8]int64)(values[j:])
			word = word>>8 | uint64(upTo(uint64(v[0]-low), width)|upTo(uint64(v[1]-low), width)<<1|upTo(uint64(v[2]-low), width)<<2|upTo(uint64(v[3]-low), width)<<3|
				upTo(uint64(v[4]-low), width)<<4|upTo(uint64(v[5]-low), width)<<5|upTo(uint64(v[6]-low), width)<<6|upTo(uint64(v[7]-low), width)<<7)<<56
		}
		return word
	}
	for j, v := range values {
		word |= uint64(upTo(uint64(v-low), width)) << (j & 63)
	}
	return word
}

// doublesWithinGo returns a bit for each of at most 64 doubles that is in [least, greatest]. NaN is not.
func doublesWithinGo(values []float64, least, greatest float64) (word uint64) {
	for j, v := range values {
		word |= uint64(upTo(least, v)&upTo(v, greatest)) << (j & 63)
	}
	return word
}

// upTo returns 1 if a <= b, otherwise 0.
func upTo[N uint64 | float64](a, b N) uint8 {
	if a <= b {
		return 1
	}
	return 0
}
