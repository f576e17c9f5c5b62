package engine

import (
	"fmt"

	"github.com/betracehq/betrace/trace/columnar"
)

// boolCondition is true of rows that have a certain boolean in a column of attributes.
type boolCondition struct {
	column *column
	want   bool
}

func (c *compiler) isBool(d domain, col *column, want bool) *predicate {
	return c.predicate(&boolCondition{col, want}, d)
}

func (c *compiler) boolCompared(d domain, col *column, op columnar.Comparison, with value) *predicate {
	var ps []*predicate
	for _, b := range []bool{false, true} {
		if compare(op, boolValue(b), with) == isTrue {
			ps = append(ps, c.isBool(d, col, b))
		}
	}
	return c.join(true, d, ps...)
}

func (x *boolCondition) name() string { return fmt.Sprintf("bool %v %v", x.column, x.want) }

func (*boolCondition) traits() traits { return traits{cost: costBool, keep: true, anyRows: true} }

func (x *boolCondition) simplify(e *evaluation, _ *predicate, s *simplified) {
	a := e.columns[x.column.id].attribute
	s.never = a == nil || a.IsBool == nil
}

func (x *boolCondition) evaluate(e *evaluation, p *predicate, mask, t, _ columnar.Bits) {
	c, first := e.columns[x.column.id].attribute, int(e.frames[p.domain].first>>6)
	for w, in := range mask {
		found := c.IsBool[first+w] &^ c.Bools[first+w]
		if x.want {
			found = c.IsBool[first+w] & c.Bools[first+w]
		}
		t[w] = in & found
	}
}
