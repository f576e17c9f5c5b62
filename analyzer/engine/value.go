package engine

import (
	"bytes"
	"cmp"
	"math"
	"math/bits"

	"github.com/google/cel-go/common/operators"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// kind is the type of a value.
type kind uint8

const (
	kindAbsent kind = iota
	kindUnknown
	kindBool
	kindInt
	kindDouble
	kindText
	kindTime     // nanoseconds, unsigned
	kindDuration // nanoseconds
	kindSpan     // a row
	kindEvent
	kindLink
	kindOther // a list, a map or bytes, of which only its presence is known here
)

// value is a value of an expression for one row. What is unknown may be anything, an
// error too.
type value struct {
	kind kind
	i    int64
	f    float64
	s    []byte
}

var unknownValue = value{kind: kindUnknown}

func boolValue(b bool) value {
	if b {
		return value{kind: kindBool, i: 1}
	}
	return value{kind: kindBool}
}

func textValue(b []byte) value { return value{kind: kindText, s: b} }

// truth is whether a part is true: a value that is absent or no truth value is false.
type truth uint8

const (
	isFalse truth = iota
	isTrue
	isUnknown
)

func truthOf(b bool) truth {
	if b {
		return isTrue
	}
	return isFalse
}

func (v value) truth() truth {
	switch v.kind {
	case kindUnknown:
		return isUnknown
	case kindBool:
		return truth(v.i)
	}
	return isFalse
}

func (t truth) value() value {
	if t == isUnknown {
		return unknownValue
	}
	return value{kind: kindBool, i: int64(t)}
}

// columnValue returns the value of a row of a column of attributes.
func columnValue(c *columnar.Column, row int32) value {
	if c == nil {
		return value{}
	}
	if len(c.Others) > 0 {
		if _, ok := c.Others[row]; ok {
			return value{kind: kindOther}
		}
	}
	switch {
	case c.IsDouble.Has(row):
		return value{kind: kindDouble, f: c.Doubles[row]}
	case c.IsInt.Has(row):
		return value{kind: kindInt, i: c.Ints[row]}
	case c.IsBool.Has(row):
		return boolValue(c.Bools.Has(row))
	case c.Text.Codes != nil && c.Text.Codes[row] != 0:
		return textValue(c.Text.Bytes(c.Text.Codes[row]))
	}
	return value{}
}

// compare returns whether two values compare so.
func compare(op columnar.Comparison, a, b value) truth {
	switch {
	case a.kind == kindUnknown || b.kind == kindUnknown:
		return isUnknown
	case a.kind == kindAbsent:
		return isFalse
	case a.kind == kindOther && b.kind == kindOther:
		return isUnknown
	}
	var c int
	ordered := true
	switch {
	case a.kind == kindInt && b.kind == kindInt:
		c = cmp.Compare(a.i, b.i)
	case a.kind == kindDouble && b.kind == kindDouble:
		c, ordered = trace.CompareDoubles(a.f, b.f)
	case a.kind == kindInt && b.kind == kindDouble:
		c, ordered = trace.CompareIntDouble(a.i, b.f)
	case a.kind == kindDouble && b.kind == kindInt:
		c, ordered = trace.CompareIntDouble(b.i, a.f)
		c = -c
	case a.kind != b.kind:
		return isFalse
	case a.kind == kindText && op == columnar.Equal:
		return truthOf(bytes.Equal(a.s, b.s))
	case a.kind == kindText:
		c = bytes.Compare(a.s, b.s)
	case a.kind == kindTime:
		c = cmp.Compare(uint64(a.i), uint64(b.i))
	case a.kind == kindBool || a.kind == kindDuration:
		c = cmp.Compare(a.i, b.i)
	case op == columnar.Equal || op == columnar.NotEqual: // spans, events, links
		c = cmp.Compare(a.i, b.i)
	default:
		return isFalse
	}
	if !ordered {
		return truthOf(op == columnar.NotEqual)
	}
	return truthOf(op.Holds(c))
}

// calculate returns a op b where it is a number, a point in time or a duration; what has no
// such operation is absent. What is an error, or made of texts or lists, is unknown.
func calculate(op string, a, b value) value {
	switch {
	case a.kind == kindUnknown || b.kind == kindUnknown:
		return unknownValue
	case a.kind == kindAbsent || b.kind == kindAbsent:
		return value{}
	case a.kind == kindInt && b.kind == kindInt:
		return calculateInts(op, a.i, b.i)
	case a.isNumber() && b.isNumber():
		return calculateDoubles(op, a.double(), b.double())
	case a.kind == kindTime && b.kind == kindTime && op == operators.Subtract:
		d := uint64(a.i) - uint64(b.i)
		if (uint64(a.i) >= uint64(b.i)) != (int64(d) >= 0) || magnitude(int64(d)) > almostTooLong {
			return unknownValue
		}
		return value{kind: kindDuration, i: int64(d)}
	case a.kind == kindDuration && b.kind == kindDuration && (op == operators.Add || op == operators.Subtract):
		v := calculateInts(op, a.i, b.i)
		if v.kind == kindInt {
			v.kind = kindDuration
		}
		return v
	case a.kind == kindTime && b.kind == kindDuration && a.i >= 0 && (op == operators.Add || op == operators.Subtract):
		return timeOf(calculateInts(op, a.i, b.i))
	case a.kind == kindDuration && b.kind == kindTime && b.i >= 0 && op == operators.Add:
		return timeOf(calculateInts(op, a.i, b.i))
	case a.isTimed() && b.isTimed(), op == operators.Add && a.kind == kindText && b.kind == kindText, a.kind > kindDuration, b.kind > kindDuration:
		return unknownValue
	}
	return value{}
}

// almostTooLong is a duration above which it is left to cel-go whether two points in time are
// too far apart: it calculates seconds and nanoseconds apart.
const almostTooLong = 1 << 62

func timeOf(v value) value {
	if v.kind != kindInt || v.i < 0 {
		return unknownValue
	}
	v.kind = kindTime
	return v
}

func (v value) isNumber() bool { return v.kind == kindInt || v.kind == kindDouble }

func (v value) isTimed() bool { return v.kind == kindTime || v.kind == kindDuration }

func (v value) double() float64 {
	if v.kind == kindInt {
		return float64(v.i)
	}
	return v.f
}

func calculateInts(op string, a, b int64) value {
	var v int64
	fits := true
	switch op {
	case operators.Add:
		v = a + b
		fits = (v > a) == (b > 0)
	case operators.Subtract:
		v = a - b
		fits = (v < a) == (b > 0)
	case operators.Multiply:
		v = a * b
		high, low := bits.Mul64(magnitude(a), magnitude(b))
		fits = high == 0 && low <= math.MaxInt64 // the least int is left to the oracle
	case operators.Divide, operators.Modulo:
		if b == 0 || a == math.MinInt64 && b == -1 {
			return unknownValue
		}
		if v = a / b; op == operators.Modulo {
			v = a % b
		}
	}
	if !fits {
		return unknownValue
	}
	return value{kind: kindInt, i: v}
}

func magnitude(i int64) uint64 {
	if i < 0 {
		return -uint64(i)
	}
	return uint64(i)
}

func calculateDoubles(op string, a, b float64) value {
	switch op {
	case operators.Add:
		return value{kind: kindDouble, f: a + b}
	case operators.Subtract:
		return value{kind: kindDouble, f: a - b}
	case operators.Multiply:
		return value{kind: kindDouble, f: a * b}
	case operators.Divide:
		if b == 0 {
			return unknownValue
		}
		return value{kind: kindDouble, f: a / b}
	}
	return value{} // doubles have no remainder
}

// holds returns whether the test is true of a value.
func (t *textTest) holds(v value) truth {
	switch v.kind {
	case kindUnknown:
		return isUnknown
	case kindText:
		return truthOf(t.holdsText(v.s))
	}
	return isFalse
}

func (t *textTest) holdsText(text []byte) bool {
	switch t.function {
	case "startsWith":
		return bytes.HasPrefix(text, t.with)
	case "endsWith":
		return bytes.HasSuffix(text, t.with)
	case "contains":
		return bytes.Contains(text, t.with)
	case lang.FunctionHasCardNumber:
		return lang.HasCardNumber(text)
	case "<":
		return bytes.Compare(text, t.with) < 0
	case "<=":
		return bytes.Compare(text, t.with) <= 0
	case ">":
		return bytes.Compare(text, t.with) > 0
	case ">=":
		return bytes.Compare(text, t.with) >= 0
	}
	return (t.literals == nil || t.literals.isIn(text)) && t.pattern.Match(text)
}

// orderTest tests the order of a text and a constant.
func orderTest(op columnar.Comparison, with []byte) *textTest {
	return &textTest{function: orderNames[op], with: with, key: orderNames[op] + " " + string(with)}
}

var orderNames = map[columnar.Comparison]string{columnar.Less: "<", columnar.LessEqual: "<=", columnar.Greater: ">", columnar.GreaterEqual: ">="}
