//go:build !amd64

package columnar

const hasAVX2 = false

func equalWords(b Bits, values []uint32, want uint32) { equalWordsGo(b, values, want) }

func intsWithin(values []int64, low, high int64) uint64 { return intsWithinGo(values, low, high) }

func doublesWithin(values []float64, least, greatest float64) uint64 {
	return doublesWithinGo(values, least, greatest)
}
