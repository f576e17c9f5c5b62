package engine

import (
	"fmt"
	"math/bits"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// enumCondition is true of spans whose kind or status is one of some.
type enumCondition struct {
	column *column
	// mask has a bit for each number.
	mask uint64
}

func (c *compiler) enumCompared(d domain, col *column, op columnar.Comparison, with value) *predicate {
	return c.enum(d, col, func(name value) bool { return compare(op, name, with) == isTrue })
}

// enum returns the predicate of a kind or status whose name is accepted. A number without a name has the first.
func (c *compiler) enum(d domain, col *column, accepts func(name value) bool) *predicate {
	names := trace.KindNames[:]
	if col.field == "status" {
		names = trace.StatusNames[:]
	}
	var mask uint64
	for i, name := range names {
		if accepts(textValue([]byte(name))) {
			mask |= 1 << i
		}
	}
	if bits.OnesCount64(mask) == len(names) {
		return c.constant(d, true)
	}
	if mask&1 != 0 {
		mask |= ^uint64(0) << len(names)
	}
	if mask == 0 {
		return c.constant(d, false)
	}
	return c.predicate(&enumCondition{col, mask}, d)
}

func (x *enumCondition) name() string { return fmt.Sprintf("enum %v %x", x.column, x.mask) }

func (*enumCondition) traits() traits { return traits{cost: costEnum, keep: true, anyRows: true} }

func (*enumCondition) simplify(*evaluation, *predicate, *simplified) {}

func (x *enumCondition) evaluate(e *evaluation, p *predicate, mask, t, _ columnar.Bits) {
	first := int(e.frames[p.domain].first)
	if x.column.field == "kind" {
		setEnums(e.batch.Kinds[first:], x.mask, mask, t)
	} else {
		setEnums(e.batch.Statuses[first:], x.mask, mask, t)
	}
}

func setEnums[E ~int32](numbers []E, accepted uint64, mask, t columnar.Bits) {
	for w, in := range mask {
		t[w] = 0
		if in != 0 {
			t[w] = columnar.EnumsAmong(numbers[64*w:], accepted, in)
		}
	}
}
