package traceql_test

import (
	"strings"
	"testing"
	"text/scanner"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/traceql"
)

// seen returns the part of a query that is seen by a scanner which, like Tempo's, looks ahead on a copy of
// itself. It looks ahead by the given number of characters at each field and number.
func seen(query string, ahead int) string {
	var s scanner.Scanner
	s.Init(strings.NewReader(query))
	s.Error = func(*scanner.Scanner, string) {} // ignores half characters, which occur if text is lost
	var b strings.Builder
	before, quote := ' ', rune(0)
	for r := s.Peek(); r != scanner.EOF; r = s.Peek() {
		if quote == 0 && strings.ContainsRune(" (", before) && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '.' || r == '-') {
			c := s
			for range ahead {
				if strings.ContainsRune(" ()|", c.Peek()) {
					break
				}
				c.Next()
			}
		}
		switch {
		case quote == r && before != '\\':
			quote = 0
		case quote == 0 && (r == '"' || r == '`'):
			quote = r
		}
		before = s.Next()
		b.WriteRune(before)
	}
	return b.String()
}

func TestAPaddedQueryIsReadWhole(t *testing.T) {
	words := strings.Fields(`{ .a = 1 && ( span."with spaces ( and \" quotes" > -3.14159 || resource.größe.ünd.日本語 != 12345678901234567890.5 ) && name = "日本語 .x ( 5" || .attribute.of.some.length =~ ` + "`a.b ( 7`" + ` )`)
	text := strings.Join(words, " ")
	lost := 0
	for first := range 200 {
		query := "{ name = `" + strings.Repeat("ä", first) + "` && " + strings.Repeat(text+" && ", 30) + "true }"
		padded := traceql.Pad(query)
		if seen(query, 11) != query {
			lost++
		}
		require.True(t, padded == seen(padded, 11), "first %d", first)
		require.Equal(t, strings.ReplaceAll(query, " ", ""), strings.ReplaceAll(padded, " ", ""))
		require.Less(t, len(padded), len(query)+len(query)/10)
		// Spaces within strings and keys are unchanged.
		require.Equal(t, strings.Count(query, `"with spaces ( and \" quotes"`), strings.Count(padded, `"with spaces ( and \" quotes"`))
		require.Equal(t, strings.Count(query, `"日本語 .x ( 5"`), strings.Count(padded, `"日本語 .x ( 5"`))
	}
	require.NotZero(t, lost, "without padding, something is lost")
}

func TestAShortQueryIsNotPadded(t *testing.T) {
	query := "{ " + strings.Repeat("a", 1020) + " }"
	require.Equal(t, query, traceql.Pad(query))
}
