package engine

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

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
	kindOther // a list, a map or bytes: only its presence is represented
)

// value is the value of an expression for one row. An unknown value may be any value, or an error.
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

// constantOf converts a constant of CEL. It returns false for types that the engine does not hold.
func constantOf(v ref.Val) (value, bool) {
	switch v := v.(type) {
	case types.Bool:
		return boolValue(bool(v)), true
	case types.Int:
		return value{kind: kindInt, i: int64(v)}, true
	case types.Double:
		return value{kind: kindDouble, f: float64(v)}, true
	case types.String:
		return value{kind: kindText, s: []byte(v)}, true
	case types.Duration:
		return value{kind: kindDuration, i: int64(v.Duration)}, true
	case types.Timestamp:
		if t := v.Unix(); t >= 0 && t < math.MaxInt64/int64(time.Second) {
			return value{kind: kindTime, i: v.UnixNano()}, true
		}
	}
	return value{}, false
}

// String returns a text that no other constant has.
func (v value) String() string {
	switch v.kind {
	case kindBool:
		return strconv.FormatBool(v.i != 0)
	case kindInt:
		return strconv.FormatInt(v.i, 10)
	case kindDouble:
		text := strconv.FormatFloat(v.f, 'g', -1, 64)
		if !strings.ContainsAny(text, ".eIN") {
			text += ".0"
		}
		return text
	case kindText:
		return strconv.Quote(string(v.s))
	case kindTime:
		return "time " + strconv.FormatInt(v.i, 10)
	case kindDuration:
		return time.Duration(v.i).String()
	}
	return "absent"
}

// truth is the result of a condition in Kleene's three-valued logic.
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

// truth converts a value: an absent value, and one that is not a boolean, is false.
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

// not returns the opposite.
func (t truth) not() truth {
	switch t {
	case isTrue:
		return isFalse
	case isFalse:
		return isTrue
	}
	return isUnknown
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
