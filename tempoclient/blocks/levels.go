package blocks

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sync"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/rle"
)

// decodeLevels decodes n levels of up to most, one byte each, into the memory of dst.
func decodeLevels(dst, src []byte, n int, most byte) ([]byte, error) {
	if most == 0 {
		return nil, nil
	}
	dst, err := (&rle.Encoding{BitWidth: bits.Len8(most)}).DecodeLevels(sized(dst, n+8), src)
	if err == nil && len(dst) < n {
		err = fmt.Errorf("there are levels of %d entries, not of %d: %w", len(dst), n, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return dst, err
	}
	return dst[:n], nil
}

// marks have a bit for each of a page's entries, and the number of bits that are set before each word.
type marks []struct {
	bits   uint64
	before int
}

// rank returns the number of bits that are set before bit i, and whether bit i is set.
func (m marks) rank(i int32) (int, bool) {
	word, bit := &m[i>>6], uint64(1)<<(i&63)
	return word.before + bits.OnesCount64(word.bits&(bit-1)), word.bits&bit != 0
}

// count returns the number of bits that are set before bit i, which may be the end.
func (m marks) count(i int) int {
	if i>>6 == len(m) {
		if len(m) == 0 {
			return 0
		}
		last := &m[len(m)-1]
		return last.before + bits.OnesCount64(last.bits)
	}
	n, _ := m.rank(int32(i))
	return n
}

// set returns the number of the bit that is set and has n set bits before it, or -1 if there is none.
func (m marks) set(n int) int {
	low, high := 0, len(m) // the last word with at most n before it
	for low < high {
		if mid := (low + high) / 2; m[mid].before <= n {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 {
		return -1
	}
	word := &m[low-1]
	rest := word.bits
	for range n - word.before {
		rest &= rest - 1
	}
	if rest == 0 {
		return -1
	}
	return (low-1)*64 + bits.TrailingZeros64(rest)
}

// next returns the first bit from i on that is set, or end if there is none before it.
func (m marks) next(i, end int) int {
	for w := i >> 6; w < len(m) && w*64 < end; w++ {
		rest := m[w].bits
		if w == i>>6 {
			rest &= ^uint64(0) << (i & 63)
		}
		if rest != 0 {
			return min(w*64+bits.TrailingZeros64(rest), end)
		}
	}
	return end
}

// index computes the number of bits that are set before each word, and returns their total number.
func (m marks) index() (all int) {
	for w := range m {
		m[w].before = all
		all += bits.OnesCount64(m[w].bits)
	}
	return all
}

// add appends n bits of another from bit first on. index must be called again afterwards.
func (m *marks) add(have int, of marks, first, n int) {
	old := len(*m)
	*m = slices.Grow(*m, (have+n+63)/64-old)[:(have+n+63)/64]
	clear((*m)[old:])
	to := *m
	for n > 0 {
		some := min(n, 64-first&63) // within one word
		word := of[first>>6].bits >> (first & 63) & (^uint64(0) >> (64 - some))
		to[have>>6].bits |= word << (have & 63)
		if rest := 64 - have&63; rest < some {
			to[have>>6+1].bits = word >> rest
		}
		have, first, n = have+some, first+some, n-some
	}
}

// eachSet returns the numbers of the bits with the given, increasing numbers of set bits before them. It
// returns nil if one of them does not exist or the numbers do not increase.
func (m marks) eachSet(into, before []int32) []int32 {
	w, last := 0, int32(-1)
	for _, n := range before {
		for w+1 < len(m) && m[w+1].before <= int(n) {
			w++
		}
		if w == len(m) || n <= last {
			return into[:0]
		}
		rest := m[w].bits
		for range int(n) - m[w].before {
			rest &= rest - 1
		}
		if rest == 0 {
			return into[:0]
		}
		into = append(into, int32(64*w+bits.TrailingZeros64(rest)))
		last = n
	}
	return into
}

// setAll sets the bits of n entries.
func (m *marks) setAll(n int) {
	*m = sized(*m, (n+63)/64)
	for w := range *m {
		(*m)[w].bits, (*m)[w].before = ^uint64(0), w*64
	}
	if n&63 != 0 {
		(*m)[n>>6].bits = 1<<(n&63) - 1
	}
}

// areAll reports whether the levels are runs of one level with n entries in total, as writers encode
// equal entries.
func areAll(src []byte, n int, level byte) bool {
	left := uint64(n)
	for len(src) > 0 {
		header, size := binary.Uvarint(src)
		if size <= 0 || header&1 != 0 || size >= len(src) || src[size] != level || header>>1 > left {
			return false
		}
		left -= header >> 1
		src = src[size+1:]
	}
	return left == 0
}

// haveLevels reports whether src consists of exactly n levels, of any value. It reads only the headers of
// runs.
func haveLevels(src []byte, n int, most byte) bool {
	width := bits.Len8(most)
	for n > 0 {
		var header uint64
		if len(src) > 0 && src[0] < 0x80 {
			header, src = uint64(src[0]), src[1:]
		} else {
			var size int
			if header, size = binary.Uvarint(src); size <= 0 {
				return false
			}
			src = src[size:]
		}
		count, bytes := int(min(header>>1, uint64(n)+7)), 1 // number of entries in the run
		if header&1 != 0 {
			count, bytes = 8*count, count*width
			if count >= n+8 {
				return false
			}
			count = min(count, n) // the last group is padded
		}
		if bytes > len(src) || count > n {
			return false
		}
		n -= count
		src = src[bytes:]
	}
	return len(src) == 0
}

// levelSet is a set of levels with a bit for each.
type levelSet uint32

func exactly(level byte) levelSet { return 1 << level }
func upTo(level byte) levelSet    { return 1<<(level+1) - 1 }

// find sets the bits of those of n entries whose level, of up to most, is in the set. It reads the
// encoding itself (Parquet's RLE/bit-packing hybrid), since most levels are needed for one test only:
// eight levels are looked up in a table at once or twice, and runs are set as a whole, whereas decoded
// levels would need a byte each. Another number of levels than n is an error, because no checksum
// protects n.
func (m *marks) find(src []byte, n int, most byte, set levelSet) error {
	width := uint(bits.Len8(most))
	table := tableOf(width, set)
	mask := table.mask & (1<<12 - 1)
	*m = sized(*m, (n+63)/64)
	words := *m
	acc, fill, at := uint64(0), uint(0), 0 // bits that are not yet in words, their number, and the next word
	end := 0
	for i, left := 0, n; left > 0; {
		var header uint64
		if i < len(src) && src[i] < 0x80 {
			header = uint64(src[i])
			i++
		} else {
			size := 0
			if i < len(src) {
				header, size = binary.Uvarint(src[i:])
			}
			if size <= 0 {
				return fmt.Errorf("the levels end %d entries early, of %d: %w", left, n, io.ErrUnexpectedEOF)
			}
			i += size
		}
		if count := header >> 1; header&1 == 0 && count > uint64(left) || header&1 != 0 && count > uint64(left+7)/8 {
			return fmt.Errorf("there are levels of more than %d entries: %w", n, parquet.ErrCorrupted)
		}
		if header&1 == 0 { // a run of one level
			run := int(header >> 1)
			if run > 0 && i >= len(src) {
				return fmt.Errorf("the levels end %d entries early, of %d: %w", left, n, io.ErrUnexpectedEOF)
			}
			ones := uint64(0)
			if run > 0 && set>>(src[i]&31)&1 != 0 {
				ones = ^uint64(0)
			}
			i++
			end = i
			left -= run
			for run > 0 {
				part := uint(min(run, 64))
				ones >>= 64 - part
				acc |= ones << fill
				if fill += part; fill >= 64 {
					words[at].bits = acc
					at++
					fill -= 64
					acc = ones >> (part - fill)
				}
				run -= int(part)
			}
			continue
		}
		groups := int(header >> 1) // of 8 levels
		if rest := len(src) - i; groups*int(width) > rest {
			return fmt.Errorf("the levels end %d entries early, of %d: %w", left-rest/int(width)*8, n, io.ErrUnexpectedEOF)
		}
		more := groups
		for ; width == 3 && more >= 4 && i+16 <= len(src) && at < len(words); more -= 4 {
			// Most levels have three bits: half a word of result bits at once.
			half := table.lookUp32(binary.LittleEndian.Uint64(src[i:]), binary.LittleEndian.Uint64(src[i+8:]))
			acc |= half << fill
			if fill += 32; fill >= 64 {
				words[at].bits = acc
				at++
				fill -= 64
				acc = half >> (32 - fill)
			}
			i += 12
		}
		for ; more > 0; more-- {
			var packed uint64
			if i+8 <= len(src) {
				packed = binary.LittleEndian.Uint64(src[i:])
			} else {
				var tail [8]byte
				copy(tail[:], src[i:])
				packed = binary.LittleEndian.Uint64(tail[:])
			}
			i += int(width)
			var eight uint64
			if table.each == 4 {
				eight = uint64(table.bits[packed&mask]) | uint64(table.bits[packed>>table.shift&mask])<<4
			} else {
				eight = table.lookUp(packed)
			}
			acc |= eight << fill
			if fill += 8; fill >= 64 {
				if at < len(words) {
					words[at].bits = acc
				}
				at++
				fill -= 64
				acc = eight >> (8 - fill)
			}
		}
		if left -= groups * 8; left < 0 { // the last group is padded with zeros
			for bit := (8 + left) * int(width); bit < 8*int(width); bit++ {
				if src[i-int(width)+bit/8]>>(bit&7)&1 != 0 {
					return fmt.Errorf("there are levels of more than %d entries: %w", n, parquet.ErrCorrupted)
				}
			}
		}
		end = i
	}
	if end != len(src) {
		return fmt.Errorf("%d bytes follow the levels of %d entries: %w", len(src)-end, n, parquet.ErrCorrupted)
	}
	if at < len(words) {
		words[at].bits = acc
	}
	if n&63 != 0 {
		words[n>>6].bits &= 1<<(n&63) - 1
	}
	words.index()
	return nil
}

// levelTable maps several packed levels to bits for those in a set.
type levelTable struct {
	bits  [1 << 12]uint8 // by the packed levels that fit into 12 bits
	each  uint           // the number of these levels: 8, 4, 2 or 1
	shift uint           // the number of their bits
	mask  uint64
}

// lookUp returns which of eight packed levels are in the set.
func (t *levelTable) lookUp(packed uint64) (eight uint64) {
	for i := uint(0); i < 8; i += t.each {
		eight |= uint64(t.bits[packed&t.mask&(1<<12-1)]) << i
		packed >>= t.shift
	}
	return eight
}

// lookUp32 returns which of 32 levels of three bits each are in the set: the levels in a and in the first
// half of b.
func (t *levelTable) lookUp32(a, b uint64) uint64 {
	look := func(packed uint64) uint64 { return uint64(t.bits[packed&(1<<12-1)]) }
	return look(a) | look(a>>12)<<4 | look(a>>24)<<8 | look(a>>36)<<12 | look(a>>48)<<16 | look(a>>60|b<<4)<<20 |
		look(b>>8)<<24 | look(b>>20)<<28
}

var levelTables sync.Map // of *levelTable, by tableKey

type tableKey struct {
	width uint
	set   levelSet
}

func tableOf(width uint, set levelSet) *levelTable {
	key := tableKey{width, set}
	if t, ok := levelTables.Load(key); ok {
		return t.(*levelTable)
	}
	t := &levelTable{each: 1}
	for t.each < 8 && 2*t.each*width <= 12 {
		t.each *= 2
	}
	t.shift = t.each * width
	t.mask = 1<<t.shift - 1
	for packed := range uint64(1) << t.shift {
		for i := range t.each {
			if level := packed >> (i * width) & (1<<width - 1); set>>(level&31)&1 != 0 {
				t.bits[packed] |= 1 << i
			}
		}
	}
	kept, _ := levelTables.LoadOrStore(key, t)
	return kept.(*levelTable)
}
