package byhand

import "github.com/betracehq/betrace/trace/columnar"

// codes returns, for each code of a column, whether its string is one of texts.
func codes(c *columnar.TextColumn, texts ...string) []bool {
	is := make([]bool, c.NumTexts()+1)
	for code := 1; code < len(is); code++ {
		for _, t := range texts {
			is[code] = is[code] || string(c.Bytes(uint32(code))) == t
		}
	}
	return is
}

// canonical maps the codes of equal strings to the first of them.
func canonical(c *columnar.TextColumn) []uint32 {
	first := make(map[string]uint32, c.NumTexts())
	of := make([]uint32, c.NumTexts()+1)
	for code := uint32(1); int(code) < len(of); code++ {
		text := c.Bytes(code)
		if _, ok := first[string(text)]; !ok {
			first[string(text)] = code
		}
		of[code] = first[string(text)]
	}
	return of
}
