package traceql

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

func TestHowDeepAFilterIsNestedIsBounded(t *testing.T) {
	nested := func(n int) error {
		_, err := Parse("{ " + strings.Repeat("(", n) + "true" + strings.Repeat(")", n) + " }")
		return err
	}
	require.NoError(t, nested(maxDepth-1))
	require.ErrorContains(t, nested(maxDepth+1), "the filter is nested deeper than 500 levels")
}

func TestColumnsCountCharacters(t *testing.T) {
	_, err := Parse(`{ name = "größe 😀" && }`)
	require.ErrorContains(t, err, "line 1, column 23: ")
}

func TestDurationsOfDaysWeeksAndYears(t *testing.T) {
	for written, hours := range map[string]string{"1d": "24h", "2w": "336h", "1y": "8760h"} {
		have, err := Parse("{ duration > " + written + " }")
		require.NoError(t, err)
		want, err := Parse("{ duration > " + hours + " }")
		require.NoError(t, err)
		require.Equal(t, want.String(), have.String())
	}
}

func TestANumberIsNoStatusAndNoKind(t *testing.T) {
	attrs, _ := trace.NewAttributes([]trace.Attribute{{Key: "two", Value: trace.IntValue(2)}})
	tr := trace.New(trace.ID{1}, []trace.Span{{ID: trace.SpanID{1}, Attributes: attrs, Status: trace.StatusError, Kind: trace.KindServer}})
	for query, want := range map[string]bool{`.two = error`: false, `.two != ok`: false, `.two = server`: false, `.two = 2`: true, `status = error`: true, `kind = server`: true} {
		f, err := Parse("{ " + query + " }")
		require.NoError(t, err)
		require.Equal(t, want, f.Matches(tr), query)
	}
}

func TestNaNIsUnequalToAllAndInNoOrder(t *testing.T) {
	attrs, _ := trace.NewAttributes([]trace.Attribute{{Key: "nan", Value: trace.DoubleValue(math.NaN())}})
	tr := trace.New(trace.ID{1}, []trace.Span{{ID: trace.SpanID{1}, Attributes: attrs}})
	for query, want := range map[string]bool{`.nan != 1`: true, `.nan != .nan`: true, `.nan = 1`: false, `.nan = .nan`: false, `.nan < 1`: false, `.nan >= 1`: false} {
		f, err := Parse("{ " + query + " }")
		require.NoError(t, err)
		require.Equal(t, want, f.Matches(tr), query)
	}
}

// TestBoundsAreRoundedSoThatNothingIsLost checks that bounds on ints are rounded outwards and that every
// float is selected.
func TestBoundsAreRoundedSoThatNothingIsLost(t *testing.T) {
	for query, want := range map[string][]string{
		`.n > 9007199254740995`:  {`.n > 9007199254740995 `, `.n != -3.14`},
		`.n <= 9007199254740993`: {`.n <= 9007199254740993 `, `.n != -3.14`},
		`.n <= 7.5`:              {`.n <= 7 `},
		`.n > 7.5`:               {`.n >= 8 `},
		`.n >= -7.5`:             {`.n >= -7 `},
		`.n < -7.5`:              {`.n <= -8 `},
	} {
		f, err := Parse("{ " + query + " }")
		require.NoError(t, err)
		for _, part := range want {
			require.Contains(t, f.Prefilter().String(), part, query)
		}
	}
}
