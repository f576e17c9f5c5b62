package analyzer

import (
	"math/bits"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
)

// costs compute the cost of rules on traces with numbers of spans. They depend on nothing else of the traces, so that they
// are the same from every source.
type costs struct {
	rules []*rules.Rule
	sizes lang.Sizes
	// bySpans are the costs of a trace whose number of spans, rounded up, is a power of two.
	bySpans map[int]float64
}

// of returns the cost of all rules on a trace.
func (c *costs) of(spans int) float64 {
	power := bits.Len(uint(max(spans-1, 0)))
	cost, known := c.bySpans[power]
	if !known {
		s := c.sizes
		s.Spans = 1 << power
		s.Descendants, s.Children, s.Ancestors = s.Spans, min(s.Children, s.Spans), min(s.Ancestors, s.Spans)
		s.Depths, s.AllEvents, s.AllLinks = 0, 0, 0
		for _, r := range c.rules {
			cost += r.Cost(s)
		}
		c.bySpans[power] = cost
	}
	return cost
}
