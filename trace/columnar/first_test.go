package columnar

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

func TestSetFirstGivesEachRowTheFirstValueThatIsPresent(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	value := func() trace.Value {
		switch rng.IntN(8) {
		case 0, 1:
			return trace.StringValue([]string{"", "a", "bb", "größe"}[rng.IntN(4)])
		case 2:
			return trace.IntValue(rng.Int64N(9) - 4)
		case 3:
			return trace.DoubleValue(float64(rng.IntN(9)) / 2)
		case 4:
			return trace.BoolValue(rng.IntN(2) == 0)
		case 5:
			return trace.ArrayValue(trace.StringValue("x"), trace.IntValue(1))
		}
		return trace.Value{}
	}
	first := &Column{Key: "first"}
	for _, rows := range []int{1, 63, 64, 65, 200, 1, 128, 0, 70} {
		for _, n := range []int{1, 2, 4} {
			columns := make([]*Column, n)
			for i := range columns {
				columns[i] = &Column{}
				columns[i].reset(rows)
				for row := range int32(rows) {
					columns[i].Put(row, value())
				}
			}
			first.SetFirst(columns)
			require.Equal(t, rows, first.Rows())
			longest := 0
			for row := range int32(rows) {
				var want trace.Value
				for _, c := range columns {
					if want = c.Value(row); !want.IsAbsent() {
						break
					}
				}
				require.Equal(t, want, first.Value(row), "row %d of %d, %d columns", row, rows, n)
				longest = max(longest, len(want.Str()))
			}
			require.GreaterOrEqual(t, first.Text.LongestText(), longest)
		}
	}
}
