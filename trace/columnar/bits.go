package columnar

import "math/bits"

// Bits is a bitmap with one bit per row: bit i is in word i/64.
type Bits []uint64

// Has reports whether bit i is set. It returns false if b is nil.
func (b Bits) Has(i int32) bool { return b != nil && b[i>>6]&(1<<(i&63)) != 0 }

// Set sets bit i.
func (b Bits) Set(i int32) { b[i>>6] |= 1 << (i & 63) }

func (b Bits) clear(i int32) { b[i>>6] &^= 1 << (i & 63) }

// Count returns the number of set bits.
func (b Bits) Count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// NumWords returns the number of words for n bits.
func NumWords(n int) int { return (n + 63) / 64 }

// Resized returns a bitmap for n bits, of undefined value. It reuses the memory of b if it is large enough.
func (b Bits) Resized(n int) Bits { return sized(b, NumWords(n)) }

// IsEmpty reports whether no bit is set.
func (b Bits) IsEmpty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

// Remove clears the bits that are set in c, which has the same length.
func (b Bits) Remove(c Bits) {
	c = c[:len(b)]
	for i := range b {
		b[i] &^= c[i]
	}
}

// Add sets the bits that are set in c, which has the same length.
func (b Bits) Add(c Bits) {
	c = c[:len(b)]
	for i := range b {
		b[i] |= c[i]
	}
}

// Keep clears the bits that are not set in c, which has the same length.
func (b Bits) Keep(c Bits) {
	c = c[:len(b)]
	for i := range b {
		b[i] &= c[i]
	}
}

// Next returns the first set bit that is not before i, or -1.
func (b Bits) Next(i int32) int32 {
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

// eachWord calls do with each word that has bits in [from, to), and with a mask of these bits.
func eachWord(from, to int32, do func(word int32, mask uint64)) {
	for from < to {
		end := min((from|63)+1, to)
		do(from>>6, ^uint64(0)>>(64-(end-from))<<(from&63))
		from = end
	}
}

// SetRange sets the bits in [from, to).
func (b Bits) SetRange(from, to int32) {
	eachWord(from, to, func(word int32, mask uint64) { b[word] |= mask })
}

// ClearRange clears the bits in [from, to).
func (b Bits) ClearRange(from, to int32) {
	eachWord(from, to, func(word int32, mask uint64) { b[word] &^= mask })
}

// CountIn returns the number of set bits in [from, to).
func (b Bits) CountIn(from, to int32) (n int) {
	for from < to {
		end := min((from|63)+1, to)
		n += bits.OnesCount64(b[from>>6] >> (from & 63) << (64 - (end - from)))
		from = end
	}
	return n
}

// AnyIn reports whether a bit in [from, to) is set.
func (b Bits) AnyIn(from, to int32) bool {
	for from < to {
		end := min((from|63)+1, to)
		if b[from>>6]>>(from&63)<<(64-(end-from)) != 0 {
			return true
		}
		from = end
	}
	return false
}

// Fill sets the first n bits and clears all others.
func (b Bits) Fill(n int) {
	clear(b)
	b.SetRange(0, int32(n))
}

// Scratch lends bitmaps and reuses their memory. Bitmaps are returned in reverse order. A Scratch serves one
// goroutine.
type Scratch struct {
	spare []Bits
	used  int
}

// Take lends a bitmap of the given number of words, with undefined content.
func (s *Scratch) Take(words int) Bits {
	if s.used == len(s.spare) {
		s.spare = append(s.spare, nil)
	}
	s.spare[s.used] = s.spare[s.used].Resized(64 * words)
	s.used++
	return s.spare[s.used-1]
}

// CopyOf lends a bitmap with the content of b.
func (s *Scratch) CopyOf(b Bits) Bits {
	c := s.Take(len(b))
	copy(c, b)
	return c
}

// Give returns the n bitmaps that were lent last.
func (s *Scratch) Give(n int) { s.used -= n }

// Lent returns the number of bitmaps that are lent.
func (s *Scratch) Lent() int { return s.used }

// GiveTo returns the bitmaps that were lent last, so that n remain lent.
func (s *Scratch) GiveTo(n int) { s.used = n }
