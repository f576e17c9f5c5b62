package blocks

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/stretchr/testify/require"
)

// randomLevels returns levels of up to most as a file has them, and as they are encoded:
// runs and packed groups of any length.
func randomLevels(r *rand.Rand, n int, most byte) (levels, encoded []byte) {
	width := bits.Len8(most)
	for len(levels) < n {
		level := byte(r.IntN(int(most) + 1))
		if r.IntN(2) == 0 {
			run := 1 + r.IntN(200)
			encoded = binary.AppendUvarint(encoded, uint64(run)<<1)
			encoded = append(encoded, level)
			for range run {
				levels = append(levels, level)
			}
			continue
		}
		groups := 1 + r.IntN(30)
		encoded = binary.AppendUvarint(encoded, uint64(groups)<<1|1)
		for range groups {
			packed := uint64(0)
			for i := range 8 {
				if r.IntN(3) == 0 {
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

// Bits are found in encoded levels as they are in decoded ones.
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
			require.Equal(t, in(l), m.has(int32(i)))
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

// Levels are encoded by the library as they are read here.
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
			require.Equal(t, l == most, m.has(int32(i)))
		}
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

// Levels that end too early are an error, and whatever bytes come no panic.
func TestLevelsThatEndEarlyAreAnError(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var m marks
	short := 0
	for range 2000 {
		most := byte(1 + r.IntN(20))
		n := 1 + r.IntN(500)
		levels, encoded := randomLevels(r, n, most)
		if err := m.find(encoded[:r.IntN(len(encoded))], n, most, exactly(most)); err == nil { // the last run was longer than it had to be
			short++
			for i, l := range levels {
				require.Equal(t, l == most, m.has(int32(i)))
			}
		}

		noise := make([]byte, r.IntN(40))
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		_ = m.find(noise, n, most, exactly(most))
	}
	require.Less(t, short, 600)
}
