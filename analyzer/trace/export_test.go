package trace

import (
	"fmt"
	"slices"
)

// TreeOf makes trees comparable.
func TreeOf(t tree) map[string]any {
	return map[string]any{"root": t.root, "parent": t.parent, "child": t.child, "start": t.childStart, "cycle": t.inCycle}
}

// Same reports whether traces are equal: quicker than go-cmp, which says what is not.
func Same(a, b *Trace) bool {
	return a.ID == b.ID && a.Flags == b.Flags && a.end == b.end && slices.Equal(a.services, b.services) &&
		slices.EqualFunc(a.Spans, b.Spans, func(x, y Span) bool { return x.equal(&y) }) &&
		slices.Equal(a.tree.parent, b.tree.parent) && slices.Equal(a.tree.child, b.tree.child) && slices.Equal(a.tree.childStart, b.tree.childStart) && a.tree.root == b.tree.root
}

// SetMaxObjectBytes sets the bound of one JSON object, and returns the one before.
func SetMaxObjectBytes(n int) (before int) {
	before, maxObjectBytes = maxObjectBytes, n
	return before
}

func ResetColumn(c *Column, rows int)                  { c.reset(rows) }
func SettleColumn(c *Column, repeated func(row int32)) { c.settle(repeated) }

// Check reports a batch whose parts do not fit together.
func (b *Batch) Check() error {
	n := b.NumSpans()
	for what, have := range map[string]int{
		"ParentIDs": len(b.ParentIDs), "Parents": len(b.Parents), "Starts": len(b.Starts), "Ends": len(b.Ends), "Kinds": len(b.Kinds),
		"Statuses": len(b.Statuses), "Resources": len(b.Resources), "Names": len(b.Names.Codes), "First": int(b.First[len(b.IDs)]),
	} {
		if have != n {
			return fmt.Errorf("%s has %d entries, there are %d spans", what, have, n)
		}
	}
	for _, c := range b.Attributes {
		if c.rows != n || c.Text.Codes != nil && len(c.Text.Codes) != n {
			return fmt.Errorf("attribute %s has %d rows of %d", c.Key, c.rows, n)
		}
	}
	return nil
}
