package columnar

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/betracehq/betrace/trace"
)

// SetFirst sets each row to its value in the first of the columns that has one there. All columns must have
// the same number of rows.
func (c *Column) SetFirst(columns []*Column) {
	rows := columns[0].rows
	c.reset(rows)
	taken := make(Bits, NumWords(rows))
	for _, from := range columns {
		base, needsTexts := uint32(c.Text.NumTexts()), false
		var others []int32
		for row, v := range from.Others {
			if !taken.Has(row) {
				if c.Others == nil {
					c.Others = map[int32]trace.Value{}
				}
				c.Others[row] = v
				others = append(others, row)
			}
		}
		for w := range taken {
			among := ^taken[w]
			if last := rows - 64*w; last < 64 {
				among &= 1<<last - 1
			}
			present := from.Present(w, among)
			if present == 0 {
				continue
			}
			taken[w] |= present
			rest := present
			if from.IsInt != nil {
				if m := present & from.IsInt[w]; m != 0 {
					rest &^= m
					c.NeedInts()
					c.IsInt[w] |= m
					for ; m != 0; m &= m - 1 {
						row := 64*w + bits.TrailingZeros64(m)
						c.Ints[row] = from.Ints[row]
					}
				}
			}
			if from.IsDouble != nil {
				if m := present & from.IsDouble[w]; m != 0 {
					rest &^= m
					c.NeedDoubles()
					c.IsDouble[w] |= m
					for ; m != 0; m &= m - 1 {
						row := 64*w + bits.TrailingZeros64(m)
						c.Doubles[row] = from.Doubles[row]
					}
				}
			}
			if from.IsBool != nil {
				if m := present & from.IsBool[w]; m != 0 {
					rest &^= m
					c.NeedBools()
					c.IsBool[w] |= m
					c.Bools[w] |= m & from.Bools[w]
				}
			}
			if rest != 0 {
				c.NeedTexts()
				needsTexts = true
				for ; rest != 0; rest &= rest - 1 {
					row := 64*w + bits.TrailingZeros64(rest)
					c.Text.Codes[row] = base + from.Text.Codes[row]
				}
			}
		}
		for _, row := range others {
			taken.Set(row)
		}
		if needsTexts {
			c.Text.append(&from.Text)
		}
	}
}

// append appends all strings of another column. Equal strings keep separate codes.
func (c *TextColumn) append(from *TextColumn) {
	base := uint32(len(c.bytes))
	if len(c.bytes)+len(from.bytes) > math.MaxUint32 {
		panic(fmt.Errorf("the strings of one attribute have more than %d bytes in a batch: reduce the memory of a batch", uint32(math.MaxUint32)))
	}
	if len(c.ends) == 0 {
		c.ends = append(c.ends, 0)
	}
	c.bytes = append(c.bytes, from.bytes...)
	for _, end := range from.ends[1:] {
		c.ends = append(c.ends, base+end)
	}
	c.longest = max(c.longest, from.longest)
}
