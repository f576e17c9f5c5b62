package trace_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/tracetest"
)

func TestValuesHaveOneOrder(t *testing.T) {
	for i, v := range tracetest.Ordered {
		for j, w := range tracetest.Ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			assert.Equal(t, want, v.Compare(w), "%v (%v) and %v (%v)", v, v.Type(), w, w.Type())
			assert.Equal(t, want == 0, v.Equal(w))
		}
	}
}

func TestAccessorsOfAnotherTypeGiveTheZeroValue(t *testing.T) {
	for _, tc := range []struct {
		value trace.Value
		typ   trace.Type
		name  string
		text  string
	}{
		{trace.Value{}, trace.TypeAbsent, "absent", "absent"},
		{tracetest.Value("a\"b"), trace.TypeString, "string", `a"b`},
		{tracetest.Value(true), trace.TypeBool, "bool", "true"},
		{tracetest.Value(false), trace.TypeBool, "bool", "false"},
		{tracetest.Value(-7), trace.TypeInt, "int", "-7"},
		{tracetest.Value(2.5), trace.TypeDouble, "double", "2.5"},
		{tracetest.Value([]any{"a", 1, nil, []any{}}), trace.TypeArray, "array", `["a", 1, absent, []]`},
		{tracetest.Value(tracetest.Attributes("b", 1, "a", "x")), trace.TypeMap, "map", `{"a": "x", "b": 1}`},
		{tracetest.Value([]byte{0, 0xaf}), trace.TypeBytes, "bytes", "00af"},
	} {
		t.Run(tc.text, func(t *testing.T) {
			v := tc.value
			assert.Equal(t, tc.typ, v.Type())
			assert.Equal(t, tc.name, v.Type().String())
			assert.Equal(t, tc.text, v.String())
			assert.Equal(t, tc.typ == trace.TypeAbsent, v.IsAbsent())
			if tc.typ != trace.TypeString {
				assert.Empty(t, v.Str())
			}
			if tc.typ != trace.TypeBool {
				assert.False(t, v.Bool())
			}
			if tc.typ != trace.TypeInt {
				assert.Zero(t, v.Int())
			}
			if tc.typ != trace.TypeDouble {
				assert.Zero(t, v.Double())
			}
			if tc.typ != trace.TypeBytes {
				assert.Nil(t, v.Bytes())
			}
			if tc.typ != trace.TypeArray {
				assert.Nil(t, v.Array())
			}
			if tc.typ != trace.TypeMap {
				assert.Nil(t, v.Map())
			}
		})
	}
	assert.Equal(t, "a", tracetest.Value("a").Str())
	assert.True(t, tracetest.Value(true).Bool())
	assert.Equal(t, int64(math.MinInt64), tracetest.Value(math.MinInt64).Int())
	assert.Equal(t, -0.25, tracetest.Value(-0.25).Double())
	assert.Equal(t, []byte{1, 2}, tracetest.Value([]byte{1, 2}).Bytes())
	assert.Equal(t, []trace.Value{tracetest.Value(1), tracetest.Value("a")}, tracetest.Value([]any{1, "a"}).Array())
	assert.Equal(t, tracetest.Attributes("a", 1), tracetest.Value(tracetest.Attributes("a", 1)).Map())
	assert.Equal(t, "type(9)", trace.Type(9).String())
}

func TestBytesAreCopied(t *testing.T) {
	in := []byte{1, 2}
	v := trace.BytesValue(in)
	in[0] = 9
	out := v.Bytes()
	out[1] = 9
	assert.Equal(t, []byte{1, 2}, v.Bytes())
}

func TestNewAttributes(t *testing.T) {
	for _, tc := range []struct {
		name     string
		in, want []trace.Attribute
		repeated bool
	}{
		{"none", nil, nil, false},
		{"only absent ones", []trace.Attribute{{Key: "a"}}, nil, false},
		{"sorted by key, absent values dropped", []trace.Attribute{{Key: "b", Value: tracetest.Value(1)}, {Key: "c"}, {Key: "a", Value: tracetest.Value(2)}, {Key: "", Value: tracetest.Value(3)}},
			[]trace.Attribute{{Key: "", Value: tracetest.Value(3)}, {Key: "a", Value: tracetest.Value(2)}, {Key: "b", Value: tracetest.Value(1)}}, false},
		{"equal values of a key", []trace.Attribute{{Key: "a", Value: tracetest.Value(1)}, {Key: "a", Value: tracetest.Value(1)}}, []trace.Attribute{{Key: "a", Value: tracetest.Value(1)}}, false},
		{"unequal values of a key: the greatest is kept", []trace.Attribute{{Key: "a", Value: tracetest.Value(9)}, {Key: "b", Value: tracetest.Value(1)}, {Key: "a", Value: tracetest.Value(2.5)}, {Key: "a", Value: tracetest.Value("z")}},
			[]trace.Attribute{{Key: "a", Value: tracetest.Value(2.5)}, {Key: "b", Value: tracetest.Value(1)}}, true},
		{"a key with unequal values, then a key with equal values", []trace.Attribute{{Key: "a", Value: tracetest.Value(1)}, {Key: "a", Value: tracetest.Value(2)}, {Key: "b", Value: tracetest.Value(1)}, {Key: "b", Value: tracetest.Value(1)}},
			[]trace.Attribute{{Key: "a", Value: tracetest.Value(2)}, {Key: "b", Value: tracetest.Value(1)}}, true},
		{"a key that is absent once", []trace.Attribute{{Key: "a", Value: tracetest.Value(1)}, {Key: "a"}}, []trace.Attribute{{Key: "a", Value: tracetest.Value(1)}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, repeated := trace.NewAttributes(tc.in)
			assert.Equal(t, trace.Attributes(tc.want), got)
			assert.Equal(t, tc.repeated, repeated)
		})
	}
}

func TestGetFindsAnAttributeByItsWholeKey(t *testing.T) {
	as := tracetest.Attributes("http.method", "GET", "http", 1, "z", nil)
	assert.Equal(t, tracetest.Value("GET"), as.Get("http.method"))
	assert.Equal(t, tracetest.Value(1), as.Get("http"))
	assert.True(t, as.Get("http.").IsAbsent())
	assert.True(t, as.Get("z").IsAbsent())
	assert.True(t, trace.Attributes(nil).Get("a").IsAbsent())
}

func TestNumbersCompareByValueExactly(t *testing.T) {
	const big = 1 << 53
	for _, tc := range []struct {
		a, b any
		want int
		ok   bool
	}{
		{1, 1.0, 0, true},
		{1000, 1000.5, -1, true},
		{1001, 1000.5, 1, true},
		{-5, -5.5, 1, true},
		{-6, -5.5, -1, true},
		{0, math.Copysign(0, -1), 0, true},
		{0.0, math.Copysign(0, -1), 0, true},
		{big + 1, float64(big), 1, true}, // a conversion to double would make them equal
		{big + 1, float64(big + 2), -1, true},
		{math.MaxInt64, float64(1 << 63), -1, true},
		{math.MinInt64, float64(math.MinInt64), 0, true},
		{math.MinInt64, -1e300, 1, true},
		{math.MaxInt64, math.Inf(1), -1, true},
		{math.MinInt64, math.Inf(-1), 1, true},
		{2, 3, -1, true},
		{2.5, 2.25, 1, true},
		{5e-324, 0, 1, true},
		{1, math.NaN(), 0, false},
		{math.NaN(), math.NaN(), 0, false},
		{1, "1", 0, false},
		{"1", "1", 0, false},
		{true, 1, 0, false},
		{nil, 0, 0, false},
	} {
		got, ok := trace.CompareNumbers(tracetest.Value(tc.a), tracetest.Value(tc.b))
		assert.Equal(t, tc.ok, ok, "%v and %v", tc.a, tc.b)
		back, ok := trace.CompareNumbers(tracetest.Value(tc.b), tracetest.Value(tc.a))
		assert.Equal(t, tc.ok, ok, "%v and %v", tc.b, tc.a)
		if tc.ok {
			assert.Equal(t, tc.want, got, "%v and %v", tc.a, tc.b)
			assert.Equal(t, -tc.want, back, "%v and %v", tc.b, tc.a)
		}
	}
}
