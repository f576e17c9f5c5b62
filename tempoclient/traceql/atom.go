package traceql

import (
	"bytes"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/betracehq/betrace/analyzer/trace"
)

// atom is a field compared with constants; it is true where any of the comparisons is.
// It says so of values as columns hold them.
type atom struct {
	field Field
	tests []test

	// What the tests say of each type of value.
	texts           []test
	equal           map[string]struct{} // texts of many = in the place of tests
	numbers         []numberTest
	isTrue, isFalse bool
}

// test is one comparison, with the field on its left.
type test struct {
	op    Op
	want  Const
	regex *regexp.Regexp
	text  []byte // of want
}

func newAtom(field Field, tests ...test) *atom {
	a := &atom{field: field, tests: tests}
	for _, t := range tests {
		switch {
		case t.regex != nil:
			a.texts = append(a.texts, t)
		case t.want.Type == TypeStatus || t.want.Type == TypeKind:
		case t.want.Value.Type() == trace.TypeString:
			a.texts = append(a.texts, t)
		case isNumber(t.want.Value):
			a.numbers = append(a.numbers, newNumberTest(t.op, t.want.Value))
		default:
			a.isTrue = a.isTrue || t.holds(TypeAny, trace.BoolValue(true))
			a.isFalse = a.isFalse || t.holds(TypeAny, trace.BoolValue(false))
		}
	}
	const few = 4
	if len(a.texts) > few {
		a.equal = map[string]struct{}{}
		a.texts = slices.DeleteFunc(a.texts, func(t test) bool {
			if t.op == OpEqual {
				a.equal[string(t.text)] = struct{}{}
			}
			return t.op == OpEqual
		})
	}
	return a
}

// asksTexts reports whether the atom may be true of a text.
func (a *atom) asksTexts() bool { return len(a.texts) > 0 || len(a.equal) > 0 }

func newTest(field Field, op Op, want Const, regex *regexp.Regexp) test {
	if field == traceIDField && regex == nil {
		want.Value = trace.StringValue(strings.TrimLeft(strings.ToLower(want.Value.Str()), "0")) // see compareTraceID
	}
	return test{op, want, regex, []byte(want.Value.Str())}
}

var traceIDField = Intrinsic("trace:id")

// holds reports whether the test holds for a value of a field of that type.
func (t *test) holds(typ Type, v trace.Value) bool {
	if t.regex != nil {
		return v.Type() == trace.TypeString && t.regex.MatchString(v.Str()) == (t.op == OpRegex)
	}
	return holds(t.op, typ, v, t.want.Type, t.want.Value)
}

// holdsAny reports whether any test holds for the value, or for an element of it.
func (a *atom) holdsAny(typ Type, v trace.Value) bool {
	for e := range (operand{one: v}).values {
		for i := range a.tests {
			if a.tests[i].holds(typ, e) {
				return true
			}
		}
	}
	return false
}

// holdsText reports whether any test holds for a text.
func (a *atom) holdsText(text []byte) bool {
	if _, ok := a.equal[string(text)]; ok {
		return true
	}
	for i := range a.texts {
		if t := &a.texts[i]; t.holdsText(text) {
			return true
		}
	}
	return false
}

func (t *test) holdsText(text []byte) bool {
	switch t.op {
	case OpEqual:
		return bytes.Equal(text, t.text)
	case OpNotEqual:
		return !bytes.Equal(text, t.text)
	case OpLess:
		return bytes.Compare(text, t.text) < 0
	case OpLessEqual:
		return bytes.Compare(text, t.text) <= 0
	case OpGreater:
		return bytes.Compare(text, t.text) > 0
	case OpGreaterEqual:
		return bytes.Compare(text, t.text) >= 0
	}
	return t.regex.Match(text) == (t.op == OpRegex)
}

// numberTest is a comparison with a number as bounds, one pair for ints and one for
// doubles, so that a column is compared without conversions and exactly.
type numberTest struct {
	// It holds for an int i if uint64(i-low) <= width, where hasInts.
	low     int64
	width   uint64
	hasInts bool
	// It holds for a double d if least <= d && d <= greatest; never for NaN.
	least, greatest float64
	// not is all ones if the reverse of all this is meant, as in !=.
	not uint64
}

func newNumberTest(op Op, want trace.Value) numberTest {
	t := numberTest{least: math.Inf(1), greatest: math.Inf(-1)} // nothing
	if op == OpNotEqual {
		op, t.not = OpEqual, math.MaxUint64
	}
	if low, high, ok := intBounds(op, want); ok {
		t.low, t.width, t.hasInts = low, uint64(high)-uint64(low), true
	}
	t.least, t.greatest = doubleBounds(op, want)
	return t
}

// intBounds returns the least and the greatest int that compare so with a number;
// false if none does.
func intBounds(op Op, want trace.Value) (low, high int64, ok bool) {
	below, above := want.Int(), want.Int() // the ints next to want, or want
	if want.Type() == trace.TypeDouble {
		d := want.Double()
		switch {
		case math.IsNaN(d):
			return 0, 0, false
		case d >= 1<<63:
			return math.MinInt64, math.MaxInt64, op == OpLess || op == OpLessEqual
		case d < -1<<63:
			return math.MinInt64, math.MaxInt64, op == OpGreater || op == OpGreaterEqual
		}
		below, above = int64(math.Floor(d)), int64(math.Ceil(d))
	}
	low, high = math.MinInt64, math.MaxInt64
	switch op {
	case OpEqual:
		return above, below, above == below
	case OpLess:
		if below == above {
			return low, below - 1, below != math.MinInt64
		}
		return low, below, true
	case OpLessEqual:
		return low, below, true
	case OpGreater:
		if below == above {
			return above + 1, high, above != math.MaxInt64
		}
		return above, high, true
	case OpGreaterEqual:
		return above, high, true
	}
	return 0, 0, false
}

// doubleBounds returns the least and the greatest double that compare so with a
// number; the least is the greater one if none does.
func doubleBounds(op Op, want trace.Value) (least, greatest float64) {
	below, above := want.Double(), want.Double() // the doubles next to want, or want
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
	case OpEqual:
		return above, below
	case OpLess:
		if below == above {
			if below == math.Inf(-1) {
				return greatest, least
			}
			below = math.Nextafter(below, math.Inf(-1))
		}
		return least, below
	case OpLessEqual:
		return least, below
	case OpGreater:
		if below == above {
			if above == math.Inf(1) {
				return greatest, least
			}
			above = math.Nextafter(above, math.Inf(1))
		}
		return above, greatest
	case OpGreaterEqual:
		return above, greatest
	}
	return greatest, least
}

// holdsInt reports whether any test holds for an int.
func (a *atom) holdsInt(i int64) bool {
	for k := range a.numbers {
		if a.numbers[k].ints([]int64{i})&1 != 0 {
			return true
		}
	}
	return false
}

// ints returns a bit for each of at most 64 ints, set if the test holds. Those beyond
// are any.
func (t *numberTest) ints(values []int64) (word uint64) {
	if t.hasInts {
		low, width := t.low, t.width
		for j, v := range values {
			bit := uint64(0)
			if uint64(v)-uint64(low) <= width {
				bit = 1
			}
			word |= bit << (j & 63)
		}
	}
	return word ^ t.not
}

// doubles is ints for doubles.
func (t *numberTest) doubles(values []float64) (word uint64) {
	least, greatest := t.least, t.greatest
	for j, v := range values {
		bit := uint64(0)
		if v >= least && v <= greatest {
			bit = 1
		}
		word |= bit << (j & 63)
	}
	return word ^ t.not
}
