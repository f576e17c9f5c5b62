package engine

import (
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// numberCondition compares the numbers of an attribute, or the durations of spans, with a constant.
type numberCondition struct {
	column *column
	op     columnar.Comparison
	test   columnar.NumberTest
	with   value
}

func (c *compiler) numberCompared(d domain, col *column, op columnar.Comparison, with value) *predicate {
	v := trace.IntValue(with.i)
	if with.kind == kindDouble {
		v = trace.DoubleValue(with.f)
	}
	return c.predicate(&numberCondition{col, op, columnar.NewNumberTest(op, v), with}, d)
}

func (c *compiler) durationCompared(d domain, col *column, op columnar.Comparison, with value) *predicate {
	if with.kind != kindDuration {
		return c.constant(d, false)
	}
	return c.predicate(&numberCondition{col, op, columnar.NewNumberTest(op, trace.IntValue(with.i)), with}, d)
}

func (x *numberCondition) isDuration() bool { return x.column.field != "" }

func (x *numberCondition) name() string {
	word := "number"
	if x.isDuration() {
		word = "duration"
	}
	return word + " " + x.limit()
}

func (x *numberCondition) limit() string {
	return x.column.String() + " " + comparisonNames[x.op] + " " + x.with.String()
}

func (x *numberCondition) traits() traits {
	if x.isDuration() {
		return traits{cost: costDuration, anyRows: true}
	}
	return traits{cost: costNumber, anyRows: true}
}

func (x *numberCondition) simplify(e *evaluation, _ *predicate, s *simplified) {
	s.never = !x.isDuration() && !e.hasNumbers(x.column)
}

// hasNumbers reports whether a row of the batch has a number in a column of attributes.
func (e *evaluation) hasNumbers(col *column) bool {
	a := e.columns[col.id].attribute
	return a != nil && (a.IsInt != nil || a.IsDouble != nil)
}

func (x *numberCondition) evaluate(e *evaluation, p *predicate, mask, t, _ columnar.Bits) {
	if x.isDuration() {
		durations := e.durations()
		for w, in := range mask {
			t[w] = 0
			if in != 0 {
				t[w] = x.test.Ints(durations[64*w:], in)
			}
		}
		return
	}
	c, f := e.columns[x.column.id].attribute, &e.frames[p.domain]
	for w, in := range mask {
		var out uint64
		if in != 0 {
			at := int(f.first>>6) + w
			if c.IsInt != nil {
				if present := in & c.IsInt[at]; present != 0 {
					out = x.test.Ints(c.Ints[64*at:], present)
				}
			}
			if c.IsDouble != nil {
				if present := in & c.IsDouble[at]; present != 0 {
					out |= x.test.Doubles(c.Doubles[64*at:], present)
				}
			}
		}
		t[w] = out
	}
}

// isLimit reports whether a predicate is a limit: it is true of a number of a span and of all numbers beyond.
func (p *predicate) isLimit() bool {
	x, ok := p.is.(*numberCondition)
	return ok && p.domain == spans && x.op != columnar.Equal && x.op != columnar.NotEqual
}
