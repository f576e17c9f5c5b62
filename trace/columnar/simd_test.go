package columnar

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

func TestBitsAreSetWhereValuesAreEqual(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 3000 {
		n, words, distinct := r.IntN(400), r.IntN(7), 1+r.IntN(4)
		values := make([]trace.Kind, n)
		for i := range values {
			values[i] = trace.Kind(r.IntN(distinct) - 1)
			if r.IntN(10) == 0 {
				values[i] = trace.Kind(1 << r.IntN(32)) // equal in some bits
			}
		}
		values = values[r.IntN(min(8, n+1)):] // at any alignment
		n = len(values)
		want := trace.Kind(r.IntN(distinct) - 1)
		b := make(Bits, words+1)
		for w := range b {
			b[w] = r.Uint64()
		}
		beyond := b[words]
		SetEqual(b[:words], values, want)
		for i := range int32(64 * words) {
			require.Equal(t, int(i) < n && values[i] == want, b.Has(i), "%d of %d", i, n)
		}
		require.Equal(t, beyond, b[words])

		other := make(Bits, min(words, n/64))
		codes := make([]uint32, n)
		for i, v := range values {
			codes[i] = uint32(v)
		}
		equalWordsGo(other, codes, uint32(want))
		require.Equal(t, b[:len(other)], other)
	}
}

func TestNumbersWithinBoundsAreTheSameByVectors(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	ints := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, 2, math.MaxInt64 - 1, math.MaxInt64}
	doubles := []float64{math.Inf(-1), -math.MaxFloat64, -1, math.Copysign(0, -1), 0, 1, math.MaxFloat64, math.Inf(1), math.NaN()}
	for range 3000 {
		i, d := make([]int64, 64), make([]float64, 64)
		for k := range i {
			i[k], d[k] = ints[r.IntN(len(ints))], doubles[r.IntN(len(doubles))]
		}
		low, high := ints[r.IntN(len(ints))], ints[r.IntN(len(ints))]
		low, high = min(low, high), max(low, high)
		want := uint64(0)
		for k, v := range i {
			if low <= v && v <= high {
				want |= 1 << k
			}
		}
		require.Equal(t, want, intsWithin(i, low, high))
		require.Equal(t, want, intsWithinGo(i, low, high))
		require.Equal(t, want&1, intsWithinGo(i[:1], low, high))
		least, greatest := doubles[r.IntN(len(doubles))], doubles[r.IntN(len(doubles))]
		want = 0
		for k, v := range d {
			if least <= v && v <= greatest {
				want |= 1 << k
			}
		}
		require.Equal(t, want, doublesWithin(d, least, greatest))
		require.Equal(t, want, doublesWithinGo(d, least, greatest))
	}
}

// TestWhatIsAskedAmongOthersIsTheSameAlone checks that tests of many values return the same result for each
// value as tests of single values.
func TestWhatIsAskedAmongOthersIsTheSameAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for range 3000 {
		n := 1 + r.IntN(100)
		ints, doubles, kinds := make([]int64, n), make([]float64, n), make([]trace.Kind, n)
		for i := range n {
			ints[i], doubles[i], kinds[i] = int64(r.IntN(9)-4), float64(r.IntN(9)-4), trace.Kind(r.IntN(70)-3)
			if r.IntN(9) == 0 {
				doubles[i] = math.NaN()
			}
		}
		among := r.Uint64() & r.Uint64()
		if r.IntN(3) == 0 {
			among = 1 << r.IntN(64)
			among |= 1 << r.IntN(64)
		}
		if n < 64 {
			among &= 1<<n - 1
		}
		want := trace.IntValue(int64(r.IntN(9) - 4))
		if r.IntN(2) == 0 {
			want = trace.DoubleValue(float64(r.IntN(18))/2 - 4)
		}
		test := NewNumberTest(Comparison(r.IntN(6)), want)
		set := r.Uint64() & r.Uint64()
		if r.IntN(2) == 0 {
			set = 1 << r.IntN(64)
			set |= 1 << r.IntN(8)
		}
		ofInts, ofDoubles, ofKinds := test.Ints(ints, among), test.Doubles(doubles, among), EnumsAmong(kinds, set, among)
		for i := range min(n, 64) {
			asked := among>>i&1 != 0
			require.Equal(t, asked && test.Int(ints[i]), ofInts>>i&1 != 0)
			require.Equal(t, asked && test.Double(doubles[i]), ofDoubles>>i&1 != 0)
			at := 63
			if kinds[i] >= 0 && kinds[i] < 63 {
				at = int(kinds[i])
			}
			require.Equal(t, asked && set>>at&1 != 0, ofKinds>>i&1 != 0)
		}
		require.Zero(t, (ofInts|ofDoubles|ofKinds)&^among)
	}
}

func BenchmarkNumberTest(b *testing.B) {
	ints, doubles := make([]int64, 64), make([]float64, 64)
	test := NewNumberTest(Greater, trace.IntValue(5))
	b.Run("ints", func(b *testing.B) {
		for b.Loop() {
			test.Ints(ints, math.MaxUint64)
		}
	})
	b.Run("ints/Go", func(b *testing.B) {
		for b.Loop() {
			intsWithinGo(ints, 6, math.MaxInt64)
		}
	})
	b.Run("doubles/Go", func(b *testing.B) {
		for b.Loop() {
			doublesWithinGo(doubles, 6, math.Inf(1))
		}
	})
	b.Run("doubles", func(b *testing.B) {
		for b.Loop() {
			test.Doubles(doubles, math.MaxUint64)
		}
	})
}

func BenchmarkSetEqual(b *testing.B) {
	for _, n := range []int{4096, 1 << 20} {
		codes, bits := make([]uint32, n), make(Bits, NumWords(n))
		for i := range codes {
			codes[i] = uint32(i * 7 % 41)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				SetEqual(bits, codes, 3)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/value")
		})
		b.Run(fmt.Sprint(n, "/Go"), func(b *testing.B) {
			for b.Loop() {
				equalWordsGo(bits, codes, 3)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/value")
		})
	}
}
