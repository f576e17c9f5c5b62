package traceql

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// atom is a field compared with constants. It is true if any of the comparisons is. It can be evaluated on
// values as columns hold them.
type atom struct {
	field Field
	tests []test

	// The tests, by type of value.
	texts           []test
	equal           map[string]struct{} // strings of = tests, if there are many
	numbers         []columnar.NumberTest
	isTrue, isFalse bool
}

// test is one comparison, with the field on the left.
type test struct {
	op    Op
	want  Const
	regex *regexp.Regexp
	text  []byte // string of want
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
			a.numbers = append(a.numbers, columnar.NewNumberTest(comparisons[t.op], t.want.Value))
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

// asksTexts reports whether the atom may be true for a string.
func (a *atom) asksTexts() bool { return len(a.texts) > 0 || len(a.equal) > 0 }

func newTest(field Field, op Op, want Const, regex *regexp.Regexp) test {
	if field == traceIDField && regex == nil {
		want.Value = trace.StringValue(strings.TrimLeft(strings.ToLower(want.Value.Str()), "0")) // see compareTraceID
	}
	return test{op, want, regex, []byte(want.Value.Str())}
}

var traceIDField = Intrinsic("trace:id")

// holds reports whether the test holds for a value of a field of the given type.
func (t *test) holds(typ Type, v trace.Value) bool {
	if t.regex != nil {
		return v.Type() == trace.TypeString && t.regex.MatchString(v.Str()) == (t.op == OpRegex)
	}
	return holds(t.op, typ, v, t.want.Type, t.want.Value)
}

// holdsAny reports whether any test holds for the value or for an element of it.
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

// holdsText reports whether any test holds for a string.
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

// holdsInt reports whether any test holds for an int.
func (a *atom) holdsInt(i int64) bool {
	for k := range a.numbers {
		if a.numbers[k].Int(i) {
			return true
		}
	}
	return false
}

var comparisons = map[Op]columnar.Comparison{
	OpEqual: columnar.Equal, OpNotEqual: columnar.NotEqual, OpLess: columnar.Less, OpLessEqual: columnar.LessEqual,
	OpGreater: columnar.Greater, OpGreaterEqual: columnar.GreaterEqual,
}
