package blocks

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/stretchr/testify/require"
)

// randomLevels returns levels of up to most as decoded bytes and encoded: runs and packed groups of any
// length.
func randomLevels(r *rand.Rand, n int, most byte) (levels, encoded []byte) {
	width := bits.Len8(most)
	for len(levels) < n {
		level := byte(r.IntN(int(most) + 1))
		if r.IntN(2) == 0 {
			run := 1 + r.IntN(min(200, n-len(levels)))
			encoded = binary.AppendUvarint(encoded, uint64(run)<<1)
			encoded = append(encoded, level)
			for range run {
				levels = append(levels, level)
			}
			continue
		}
		groups := 1 + r.IntN(min(30, (n-len(levels)+7)/8))
		encoded = binary.AppendUvarint(encoded, uint64(groups)<<1|1)
		for range groups {
			packed := uint64(0)
			for i := range 8 {
				switch {
				case len(levels) >= n: // padding
					level = 0
				case r.IntN(3) == 0:
					level = byte(r.IntN(int(most) + 1))
				}
				packed |= uint64(level) << (i * width)
				levels = append(levels, level)
			}
			encoded = append(encoded, binary.LittleEndian.AppendUint64(nil, packed)[:width]...)
		}
	}
	return levels[:n], encoded
}

// The bits found in encoded levels are those of decoded levels.
func TestMarksAreTheLevels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var m marks
	for range 3000 {
		most := byte(1 + r.IntN(20))
		n := 1 + r.IntN(2000)
		levels, encoded := randomLevels(r, n, most)
		decoded, err := decodeLevels(nil, encoded, n, most)
		require.NoError(t, err)
		require.Equal(t, levels, decoded)

		level := byte(r.IntN(int(most) + 1))
		set, in := exactly(level), func(l byte) bool { return l == level }
		if r.IntN(2) == 0 {
			set, in = upTo(level), func(l byte) bool { return l <= level }
		}
		require.NoError(t, m.find(encoded, n, most, set))
		count, from := 0, r.IntN(n)
		next := n
		for i, l := range levels {
			rank, ok := m.rank(int32(i))
			require.Equal(t, in(l), ok, "entry %d of %d, level %d of %d", i, n, l, most)
			require.Equal(t, count, rank)
			require.Equal(t, count, m.count(i))
			if ok {
				if i >= from && next == n {
					next = i
				}
				require.Equal(t, i, m.set(count))
				count++
			}
		}
		require.Equal(t, count, m.count(n))
		require.Equal(t, -1, m.set(count))
		require.Equal(t, next, m.next(from, n))
		require.Equal(t, min(next, (from+n)/2), m.next(from, (from+n)/2))
	}
}

// The same holds for levels that the library encoded.
func TestMarksOfLevelsAsTheLibraryEncodesThem(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var m marks
	for range 500 {
		most := byte(1 + r.IntN(7))
		levels, _ := randomLevels(r, 1+r.IntN(3000), most)
		encoded, err := (&rle.Encoding{BitWidth: bits.Len8(most)}).EncodeLevels(nil, levels)
		require.NoError(t, err)
		require.NoError(t, m.find(encoded, len(levels), most, exactly(most)))
		for i, l := range levels {
			_, ok := m.rank(int32(i))
			require.Equal(t, l == most, ok)
		}
	}
}

// The joined marks of partially read pages are those of one page.
func TestMarksAreAddedBitByBit(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var whole marks
	for range 500 {
		whole = whole[:0]
		var want []bool
		for range 1 + r.IntN(6) {
			of, page := marks(nil), make([]bool, 1+r.IntN(300))
			of.setAll(len(page))
			for w := range of {
				of[w].bits &= r.Uint64() & r.Uint64()
			}
			for i := range page {
				page[i] = of[i>>6].bits>>(i&63)&1 != 0
			}
			first := r.IntN(len(page))
			n := r.IntN(len(page) - first + 1)
			whole.add(len(want), of, first, n)
			want = append(want, page[first:first+n]...)
		}
		all := whole.index()
		require.Len(t, whole, (len(want)+63)/64)
		var set []int32
		for i, is := range want {
			before, isSet := whole.rank(int32(i))
			require.Equal(t, is, isSet)
			require.Equal(t, len(set), before)
			if is {
				set = append(set, int32(i))
			}
		}
		require.Equal(t, len(set), all)

		var before, numbers []int32
		for n := range set {
			if r.IntN(3) == 0 {
				before, numbers = append(before, int32(n)), append(numbers, set[n])
			}
		}
		require.Equal(t, numbers, whole.eachSet(nil, before))
		require.Empty(t, whole.eachSet(nil, append(before, int32(all))), "a bit that does not exist")
		if len(before) > 0 {
			require.Empty(t, whole.eachSet(nil, append(before, before[len(before)-1])), "numbers that do not increase")
		}
	}
}

// Runs of one level are recognised by their lengths.
func TestOneLevelIsToldByRuns(t *testing.T) {
	run := func(n uint64, level byte) []byte { return append(binary.AppendUvarint(nil, n<<1), level) }
	for _, tt := range []struct {
		src  []byte
		n    int
		want bool
	}{
		{run(5, 3), 5, true}, {slices.Concat(run(800, 3), run(7, 3)), 807, true},
		{run(5, 3), 4, false}, {run(5, 3), 6, false}, {run(5, 2), 5, false}, {slices.Concat(run(800, 3), run(7, 2)), 807, false},
		{slices.Concat(run(800, 3), run(7, 3)), 806, false}, {run(5, 3)[:1], 5, false}, {nil, 5, false}, {[]byte{0x80}, 5, false},
		{[]byte{1<<1 | 1, 0xff}, 8, false}, // packed: the levels must be read
		{run(1<<63-1, 3), 5, false}, {slices.Concat(run(1<<62, 3), run(1<<62, 3)), 5, false},
	} {
		require.Equal(t, tt.want, areAll(tt.src, tt.n, 3), "%v, %d entries", tt.src, tt.n)
	}
}

func TestAllMarksAreSet(t *testing.T) {
	var m marks
	for _, n := range []int{0, 1, 63, 64, 65, 128, 1000} {
		m.setAll(n)
		require.Equal(t, n, m.count(n))
		require.Equal(t, -1, m.set(n))
		if n > 0 {
			rank, ok := m.rank(int32(n - 1))
			require.True(t, ok)
			require.Equal(t, n-1, rank)
		}
	}
}

// Fewer or more levels than entries are an error, and no bytes cause a panic.
func TestLevelsOfOtherEntriesAreAnError(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var m marks
	for range 20_000 {
		most := byte(1 + r.IntN(20))
		n := 1 + r.IntN(500)
		levels, encoded := randomLevels(r, n, most)
		require.True(t, haveLevels(encoded, n, most))
		require.False(t, haveLevels(append(slices.Clone(encoded), 0), n, most))
		require.False(t, haveLevels(encoded, n+8, most))
		for end := range encoded {
			require.False(t, haveLevels(encoded[:end], n, most))
		}
		require.Error(t, m.find(slices.Clip(encoded[:r.IntN(len(encoded))]), n, most, exactly(most)))
		require.Error(t, m.find(append(slices.Clone(encoded), 0), n, most, exactly(most)))
		groups := uint64(n+7)/8 + 1 // one too many
		packed := append(binary.AppendUvarint(nil, groups<<1|1), make([]byte, int(groups)*bits.Len8(most))...)
		require.Error(t, m.find(packed, n, most, exactly(most)))
		if last := levels[n-1]; last != 0 { // zeros may be the padding of a group
			require.Error(t, m.find(encoded, n-1, most, exactly(most)))
		}
		noise := make([]byte, r.IntN(12))
		for i := range noise {
			noise[i] = byte(r.Uint32()) >> r.IntN(8)
		}
		_ = m.find(noise, n, most, exactly(most))
		areAll(noise, n, most)
		haveLevels(noise, n, most)
	}
}
