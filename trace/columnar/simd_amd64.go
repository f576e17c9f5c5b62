package columnar

import "golang.org/x/sys/cpu"

var hasAVX2 = cpu.X86.HasAVX2

func equalWords(b Bits, values []uint32, want uint32) {
	if !hasAVX2 {
		equalWordsGo(b, values, want)
		return
	}
	equalWordsAVX2(&b[0], &values[0], len(b), want)
}

// intsWithin is intsWithinGo for 64 values.
func intsWithin(values []int64, low, high int64) uint64 {
	if !hasAVX2 {
		return intsWithinGo(values, low, high)
	}
	return intsWithinAVX2(&values[0], low, high)
}

// doublesWithin is doublesWithinGo for 64 values.
func doublesWithin(values []float64, least, greatest float64) uint64 {
	if !hasAVX2 {
		return doublesWithinGo(values, least, greatest)
	}
	return doublesWithinAVX2(&values[0], least, greatest)
}

// equalWordsAVX2 is equalWordsGo for the given number of words, at least one.
//
//go:noescape
func equalWordsAVX2(b *uint64, values *uint32, words int, want uint32)

//go:noescape
func intsWithinAVX2(values *int64, low, high int64) uint64

//go:noescape
func doublesWithinAVX2(values *float64, least, greatest float64) uint64
