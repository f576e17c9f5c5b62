package trace

import (
	"cmp"
	"math"
)

// CompareNumbers compares two numbers, ints or doubles, by their exact values, also above 2^53, where a
// conversion to double would round. It returns -1, 0 or 1, and false if one of them is NaN, which has no
// order, or is not a number.
func CompareNumbers(v, w Value) (int, bool) {
	switch {
	case v.typ == TypeInt && w.typ == TypeInt:
		return cmp.Compare(v.Int(), w.Int()), true
	case v.typ == TypeDouble && w.typ == TypeDouble:
		return CompareDoubles(v.Double(), w.Double())
	case v.typ == TypeInt && w.typ == TypeDouble:
		return CompareIntDouble(v.Int(), w.Double())
	case v.typ == TypeDouble && w.typ == TypeInt:
		c, ok := CompareIntDouble(w.Int(), v.Double())
		return -c, ok
	}
	return 0, false
}

// CompareDoubles is [CompareNumbers] for two doubles. -0 equals 0.
func CompareDoubles(a, b float64) (int, bool) {
	switch {
	case a < b:
		return -1, true
	case a > b:
		return 1, true
	}
	return 0, a == b
}

// CompareIntDouble is [CompareNumbers] for an int and a double.
func CompareIntDouble(i int64, f float64) (int, bool) {
	switch {
	case math.IsNaN(f):
		return 0, false
	case f >= 1<<63:
		return -1, true
	case f < -1<<63:
		return 1, true
	}
	whole := math.Trunc(f)
	if c := cmp.Compare(i, int64(whole)); c != 0 {
		return c, true
	}
	return cmp.Compare(0, f-whole), true
}
