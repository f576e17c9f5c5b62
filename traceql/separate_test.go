package traceql

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPrefilterHoldsOneConditionOnAnAttribute(t *testing.T) {
	for _, row := range [][2]string{
		{`{ .tags = "tag1" && .tags = "tag2" }`, `{ .tags = "tag1" }`},
		{`{ .tags =~ "t.*" && span.tags = "tag2" && name = "a" }`, `{ span.tags = "tag2" && name = "a" }`},
		{`{ .tags = "tag1" && .tags != "tag2" }`, `{ .tags = "tag1" }`},
		{`{ span.roles != "admin" && span.roles != "user" }`, `{ span.roles != "admin" }`},
		{`{ span.roles !~ "adm.*" && span.roles !~ "roo.*" }`, `{ span.roles !~ "adm.*" }`},
		{`{ span.roles != "admin" || span.roles != "user" }`, `{ true }`},
		{`{ .a = "x" || .a = "y" }`, `{ .a =~ "x|y" }`},
		{`{ .a = "x." || .a =~ "(?i)y" || span.a = "z" }`, `{ .a =~ "x\\.|(?:(?i)y)|z" || span.a =~ "x\\.|(?:(?i)y)|z" }`},
		{`{ (.a = "x" && name = "n") || (resource.a = "y" && name = "m") }`, `{ (.a =~ "x|y" && name = "n") || (resource.a =~ "x|y" && name = "m") }`},
		{`{ (.a = "x" && .b = "z") || .a = "y" }`, `{ (.a =~ "x|y" && .b = "z") || .a =~ "x|y" }`},
		{`{ (.a = "x" || name = "n") && (.a = "y" || name = "m") && .c = "z" }`, `{ (.a = "x" || name = "n") && .c = "z" }`},
		{`{ .a = "x" && span.b = "x" && .a != nil }`, `{ .a = "x" && span.b = "x" }`},
		// A negation is dropped if another condition keeps elements that it excludes.
		{`{ .a != "x" && .b = "y" }`, `{ .a != "x" && .b = "y" }`},
		{`{ .a != "x" && .b = "x" }`, `{ .b = "x" }`},
		{`{ .a != "x" && .b =~ ".*" }`, `{ .b =~ ".*" }`},
		{`{ .a != "x" && .b !~ "y" && .c = "z" }`, `{ .b !~ "y" && .c = "z" }`},
		{`{ .a !~ "x" && .b = "y" }`, `{ .a !~ "x" && .b = "y" }`},
		{`{ .a !~ "x.*" && .b =~ "y" }`, `{ .b =~ "y" }`},
		{`{ .flag != true && .b = "y" && .other = true }`, `{ .b = "y" && .other = true }`},
		{`{ .flag = true || .flag = false }`, `{ true }`},
	} {
		f, err := Parse(row[0])
		require.NoError(t, err)
		want, err := Parse(row[1])
		require.NoError(t, err)
		require.Equal(t, want.String(), f.Prefilter().String(), row[0])
	}
}

// TestConditionsOnNumbersAreJoinedByTheirBounds also covers that a condition on a number is sent as one on
// ints and one on floats.
func TestConditionsOnNumbersAreJoinedByTheirBounds(t *testing.T) {
	for _, row := range [][2]string{
		{`{ .n >= 500 && .n < 600 }`, `{ .n >= 500 }`},
		{`{ .n = 404 || .n >= 500 }`, `{ .n >= 404 }`},
		{`{ .n > 404 || .n = 404 }`, `{ .n >= 404 }`},
		{`{ .n < 5 || .n = 7.5 || .n <= 6 }`, `{ .n <= 7.5 }`},
		{`{ .n < 5 || .n > 7 }`, `{ true }`},
		{`{ .n != 5 || .n = 7 }`, `{ true }`},
		{`{ .n != 5 && .m >= 5 }`, `{ .m >= 5 }`},
		{`{ (.n = 5 && .a = "x") || (.n = 3 && .a = "x") }`, `{ (.n >= 3 && .a = "x") }`},
		{`{ .n = 5 && .n = "5" }`, `{ .n = "5" }`},
		{`{ .n = 5 || .n = "5" }`, `{ .n = 5 || .n = "5" }`},
	} {
		f, err := Parse(row[0])
		require.NoError(t, err)
		want, err := Parse(row[1])
		require.NoError(t, err)
		require.Equal(t, want.Prefilter().String(), f.Prefilter().String(), row[0])
	}
}

func TestAPrefilterMatchesWhateverItsFilterMatches(t *testing.T) {
	matched, narrow := 0, 0
	for seed := range uint64(40) {
		ft := newFilterTest(seed)
		for range 60 {
			f := ft.filter()
			sent := f.Prefilter()
			for _, tr := range ft.traces {
				if f.Matches(tr) {
					require.True(t, sent.Matches(tr), "%s matches, %s does not: %v", f, sent, tr)
					matched++
				}
			}
			if !sent.IsAll() {
				narrow++
			}
			groups := map[string]condition{}
			w := widener{}
			eachCondition(w.separate(f.expr), func(c condition) {
				c.field.Scope = ScopeAny
				if other, ok := groups[c.group()]; ok {
					require.Equal(t, other, c, "two conditions are sent for %s", f)
				}
				groups[c.group()] = c
			})
		}
	}
	require.Greater(t, matched, 1000)
	require.Greater(t, narrow, 100)
}
