package columnar

import "fmt"

func ResetColumn(c *Column, rows int)                  { c.reset(rows) }
func SettleColumn(c *Column, repeated func(row int32)) { c.settle(repeated) }

// Check returns an error if the lengths of the batch's arrays are inconsistent.
func (b *Batch) Check() error {
	n := b.NumSpans()
	for what, have := range map[string]int{
		"ParentIDs": len(b.ParentIDs), "Parents": len(b.Parents), "Starts": len(b.Starts), "Ends": len(b.Ends), "Kinds": len(b.Kinds),
		"Statuses": len(b.Statuses), "Resources": len(b.Resources), "Names": len(b.Names.Codes), "First": int(b.First[len(b.IDs)]),
	} {
		if have != n {
			return fmt.Errorf("%s has %d entries for %d spans", what, have, n)
		}
	}
	for _, c := range b.Attributes {
		if c.rows != n || c.Text.Codes != nil && len(c.Text.Codes) != n {
			return fmt.Errorf("attribute %s has %d rows of %d", c.Key, c.rows, n)
		}
	}
	return nil
}
