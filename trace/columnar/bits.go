package columnar

import "math/bits"

// Bits are one bit for each of a number of rows: bit i is in word i/64.
type Bits []uint64

// Has reports whether bit i is set; of nil, none is.
func (b Bits) Has(i int32) bool { return b != nil && b[i>>6]&(1<<(i&63)) != 0 }

// Set sets bit i.
func (b Bits) Set(i int32) { b[i>>6] |= 1 << (i & 63) }

func (b Bits) clear(i int32) { b[i>>6] &^= 1 << (i & 63) }

// Count returns how many bits are set.
func (b Bits) Count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// NumWords returns how many words n bits take.
func NumWords(n int) int { return (n + 63) / 64 }

// Resized returns b, or a new one if it has no room, for n bits of any value.
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

// Remove takes the bits of c, which is as long, out of b.
func (b Bits) Remove(c Bits) {
	c = c[:len(b)]
	for i := range b {
		b[i] &^= c[i]
	}
}

// Add adds the bits of c, which is as long, to b.
func (b Bits) Add(c Bits) {
	c = c[:len(b)]
	for i := range b {
		b[i] |= c[i]
	}
}

// Keep leaves of b the bits of c, which is as long.
func (b Bits) Keep(c Bits) {
	c = c[:len(b)]
	for i := range b {
		b[i] &= c[i]
	}
}

// Next returns the first bit from i on that is set, -1 if none is.
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

// eachWord calls do with each word that has bits between from and to, and a mask of those.
func eachWord(from, to int32, do func(word int32, mask uint64)) {
	for from < to {
		end := min((from|63)+1, to)
		do(from>>6, ^uint64(0)>>(64-(end-from))<<(from&63))
		from = end
	}
}

// SetRange sets the bits from from to to, without to.
func (b Bits) SetRange(from, to int32) {
	eachWord(from, to, func(word int32, mask uint64) { b[word] |= mask })
}

// ClearRange clears the bits from from to to, without to.
func (b Bits) ClearRange(from, to int32) {
	eachWord(from, to, func(word int32, mask uint64) { b[word] &^= mask })
}

// CountIn returns how many of the bits from from to to, without to, are set.
func (b Bits) CountIn(from, to int32) (n int) {
	for from < to {
		end := min((from|63)+1, to)
		n += bits.OnesCount64(b[from>>6] >> (from & 63) << (64 - (end - from)))
		from = end
	}
	return n
}

// AnyIn reports whether one of the bits from from to to, without to, is set.
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

// Fill sets the first n bits, which are all.
func (b Bits) Fill(n int) {
	clear(b)
	b.SetRange(0, int32(n))
}

// Scratch lends bitmaps, which are given back in the reverse order, so that their memory is
// used again. It serves one goroutine.
type Scratch struct {
	spare []Bits
	used  int
}

// Take returns a bitmap of so many words, which hold anything, until it is given back.
func (s *Scratch) Take(words int) Bits {
	if s.used == len(s.spare) {
		s.spare = append(s.spare, nil)
	}
	s.spare[s.used] = s.spare[s.used].Resized(64 * words)
	s.used++
	return s.spare[s.used-1]
}

// CopyOf returns a copy of b, until it is given back.
func (s *Scratch) CopyOf(b Bits) Bits {
	c := s.Take(len(b))
	copy(c, b)
	return c
}

// Give takes the n bitmaps back that were lent last.
func (s *Scratch) Give(n int) { s.used -= n }

// Lent returns how many bitmaps are lent.
func (s *Scratch) Lent() int { return s.used }

// GiveTo takes those back that were lent since Lent was n.
func (s *Scratch) GiveTo(n int) { s.used = n }
