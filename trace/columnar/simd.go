package columnar

import (
	"math/bits"
	"unsafe"
)

// SetEqual sets bit i of b if value i equals want, and clears it if not or if there is no value i. The values
// are codes of strings, kinds, statuses or rows of resources. It is the most frequent operation of judging,
// so it is implemented with AVX2 too.
func SetEqual[V ~int32 | ~uint32](b Bits, values []V, want V) {
	whole := min(len(b), len(values)/64)
	if whole > 0 {
		words := unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(values))), 64*whole) //nolint:gosec // equal size
		equalWords(b[:whole], words, uint32(want))
	}
	for w := whole; w < len(b); w++ {
		word := uint64(0)
		for k, v := range values[min(64*w, len(values)):min(64*w+64, len(values))] {
			word |= isEqual(uint32(v), uint32(want)) << (k & 63)
		}
		b[w] = word
	}
}

// EnumsAmong tests the first 64 values whose bit is set in among, and returns the bits of those that are in
// the set. No bit of among is beyond the last value. Negative values and those of 63 or more are represented
// by bit 63 of the set.
func EnumsAmong[E ~int32](values []E, set, among uint64) (word uint64) {
	inTurn := 1
	if hasAVX2 {
		inTurn = 3
	}
	if bits.OnesCount64(among) > fewAmong && set>>63 == 0 && bits.OnesCount64(set) <= inTurn {
		for rest := set; rest != 0; rest &= rest - 1 {
			var equal [1]uint64
			SetEqual(equal[:], values, E(bits.TrailingZeros64(rest)))
			word |= equal[0]
		}
		return among & word
	}
	for rest := among; rest != 0; rest &= rest - 1 {
		k := bits.TrailingZeros64(rest)
		word |= set >> min(uint32(values[k]), 63) & 1 << k
	}
	return word
}

// HasVectors reports whether SetEqual and NumberTest use vector instructions on this machine.
func HasVectors() bool { return hasAVX2 }

// equalWordsGo sets the words of b from 64 values each.
func equalWordsGo(b Bits, values []uint32, want uint32) {
	for w := range b {
		word := uint64(0)
		for k := 0; k < 64; k += 8 {
			v := (*[8]uint32)(values[64*w+k:])
			word = word>>8 | (isEqual(v[0], want)|isEqual(v[1], want)<<1|isEqual(v[2], want)<<2|isEqual(v[3], want)<<3|
				isEqual(v[4], want)<<4|isEqual(v[5], want)<<5|isEqual(v[6], want)<<6|isEqual(v[7], want)<<7)<<56
		}
		b[w] = word
	}
}

func isEqual(a, b uint32) uint64 {
	if a == b {
		return 1
	}
	return 0
}
