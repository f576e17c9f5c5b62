package traceql

import (
	"math/bits"

	"github.com/betracehq/betrace/analyzer/trace"
)

func numWords(n int) int { return (n + 63) / 64 }

// resize returns b, or a new one if it has no room, for n bits of any value.
func resize(b trace.Bits, n int) trace.Bits {
	if words := numWords(n); cap(b) >= words {
		return b[:words]
	}
	return make(trace.Bits, numWords(n))
}

// take returns a bitmap of so many words, which hold anything, until give.
func (f *BatchFilter) take(words int) trace.Bits {
	if f.used == len(f.spare) {
		f.spare = append(f.spare, nil)
	}
	f.spare[f.used] = resize(f.spare[f.used], 64*words)
	f.used++
	return f.spare[f.used-1]
}

// give ends the use of the n bitmaps that were taken last.
func (f *BatchFilter) give(n int) { f.used -= n }

func (f *BatchFilter) copyOf(b trace.Bits) trace.Bits {
	c := f.take(len(b))
	copy(c, b)
	return c
}

func isEmpty(b trace.Bits) bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

// without takes the bits of c out of b.
func without(b, c trace.Bits) {
	c = c[:len(b)]
	for i := range b {
		b[i] &^= c[i]
	}
}

// union adds the bits of c to b.
func union(b, c trace.Bits) {
	c = c[:len(b)]
	for i := range b {
		b[i] |= c[i]
	}
}

// nextBit returns the first bit from i on that is set, -1 if none is.
func nextBit(b trace.Bits, i int32) int32 {
	at := int(i >> 6)
	if at >= len(b) {
		return -1
	}
	for w := b[at] >> (i & 63) << (i & 63); ; w = b[at] {
		if w != 0 {
			return int32(64*at + bits.TrailingZeros64(w))
		}
		if at++; at == len(b) {
			return -1
		}
	}
}

// anyIn reports whether one of the bits from to to is set. They are few.
func anyIn(b trace.Bits, from, to int32) bool {
	for i := from; i < to; i++ {
		if b.Has(i) {
			return true
		}
	}
	return false
}

// eachWord calls do with each word that has bits between from and to, and a mask of those.
func eachWord(from, to int32, do func(word int32, mask uint64)) {
	for from < to {
		end := min((from|63)+1, to)
		do(from>>6, ^uint64(0)>>(64-(end-from))<<(from&63))
		from = end
	}
}

func setRange(b trace.Bits, from, to int32) {
	eachWord(from, to, func(word int32, mask uint64) { b[word] |= mask })
}

func clearRange(b trace.Bits, from, to int32) {
	eachWord(from, to, func(word int32, mask uint64) { b[word] &^= mask })
}

// fill sets the first n bits, which are all.
func fill(b trace.Bits, n int) {
	clear(b)
	setRange(b, 0, int32(n))
}
