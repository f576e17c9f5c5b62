package traceql

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMixedAndAndOrGiveAWarningThatShowsTheOrder(t *testing.T) {
	for query, want := range map[string]string{
		`{ .a = 1 || .b = 2 && .c = 3 }`:           "TraceQL, line 1, column 20: && and || have equal precedence in TraceQL, from left to right: this means { (.a = 1 || .b = 2) && .c = 3 }; add the parentheses",
		`{ .a = 1 && .b = 2 || .c = 3 }`:           "means { (.a = 1 && .b = 2) || .c = 3 }",
		`{ !(.a = 1 && .b = 2 || .c = 3) }`:        "column 22",
		`{ .a = 1 && .b = 2 && .c = 3 }`:           "",
		`{ (.a = 1 || .b = 2) && .c = 3 }`:         "",
		`{ .a = 1 || (.b = 2 && .c = 3) }`:         "",
		`{ (.a = 1 || .b = 2) && (.c = 3 || .d) }`: "",
	} {
		f, err := Parse(query)
		require.NoError(t, err, query)
		if want == "" {
			require.NoError(t, f.Warning(), query)
			continue
		}
		require.ErrorContains(t, f.Warning(), want, query)
		again, err := Parse(f.String())
		require.NoError(t, err)
		require.NoError(t, again.Warning(), f.String())
		require.Equal(t, f.String(), again.String())
	}
}

func TestAnIDThatNoneCanBeIsRefused(t *testing.T) {
	for query, want := range map[string]string{
		`{ span:id = "000000000000000A" }`:                              `column 13: span:id is written in lower case: "000000000000000a"`,
		`{ "000000000000000A" != span:parentID }`:                       `column 3: span:parentID is written in lower case`,
		`{ .a = 1 || link:spanID = "1" }`:                               `column 27: link:spanID has 16 hexadecimal digits, "1" has 1`,
		`{ link:traceID = "x" }`:                                        `an ID consists of hexadecimal digits, 0-9 and a-f; "x" does not`,
		`{ trace:id = "1000000000000000000000000000000AB" }`:            `trace:id has 32 hexadecimal digits`,
		`{ trace:id = "trace" }`:                                        `an ID consists of hexadecimal digits`,
		`{ trace:id = "AB" }`:                                           "",
		`{ trace:id = "0000000000000000000000000000000000000000AB" }`:   "",
		`{ span:id = "000000000000000a" && span:parentID != nil }`:      "",
		`{ span:parentID = "" }`:                                        "",
		`{ span:id =~ "0+A" }`:                                          "",
		`{ name = "000000000000000A" && .span:id = "000000000000000A"}`: "",
	} {
		_, err := Parse(query)
		if want == "" {
			require.NoError(t, err, query)
			continue
		}
		require.ErrorContains(t, err, want, query)
	}
}
