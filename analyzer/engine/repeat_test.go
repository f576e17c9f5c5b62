package engine_test

import (
	"math/rand/v2"

	"github.com/betracehq/betrace/trace/columnar"
)

// repeatTexts gives the texts of a batch several codes, as sources may: of each column, some of the rows that
// have a text get another code of the same.
func repeatTexts(b *columnar.Batch, r *rand.Rand) {
	repeat := func(c *columnar.TextColumn) {
		if c.Codes == nil {
			return
		}
		n := c.NumTexts()
		others := make([]uint32, n+1)
		for code := 1; code <= n; code++ {
			others[code] = c.Add([]byte(c.Text(uint32(code))))
		}
		for row, code := range c.Codes {
			if code != 0 && r.IntN(2) == 0 {
				c.Codes[row] = others[code]
			}
		}
	}
	for _, c := range []*columnar.TextColumn{&b.Names, &b.StatusMessages, &b.Scopes, &b.ScopeVersions, &b.Events.Names} {
		repeat(c)
	}
	for _, columns := range [][]*columnar.Column{b.Attributes, b.ResourceAttributes, b.Events.Attributes, b.Links.Attributes} {
		for _, c := range columns {
			repeat(&c.Text)
		}
	}
}
