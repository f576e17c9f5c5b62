package plan

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRequiredLiterals(t *testing.T) {
	for pattern, want := range map[string]string{
		`^(INSERT|UPDATE) accounts\b`: ` accounts`,
		`a+bc`:                        `bc`,
		`x(abc)+`:                     `abc`,
		`(?i)abc`:                     ``,
		`abc|abd`:                     `ab`,
		`abc|xyz`:                     ``,
		`(abc)?x`:                     `x`,
		`(abc)*`:                      ``,
		`(abc){2,3}`:                  `abc`,
		"a\uFFFDb":                    ``,
		`ä.ö`:                         `ä`,
		`.`:                           ``,
		`(`:                           ``,
	} {
		require.Equal(t, want, string(requiredLiteral(pattern)), pattern)
	}
}

// Whatever matches a pattern has its literal.
func TestWhatMatchesHasTheLiteral(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	parts := []string{"a", "b", "ab", "(a|b)", "(ab|ba)", "a?", "b*", "(ab)+", "[ab]", ".", `\b`, "^", "$", "(?i:aB)", "ä", "(?:a|)", "a{2}", "\uFFFD"}
	texts := []string{"a", "b", "A", "B", "ab", "ä", "\xff", "\uFFFD", " "}
	matched, literals := 0, 0
	for range 20_000 {
		var pattern, text strings.Builder
		for range 1 + r.IntN(5) {
			pattern.WriteString(parts[r.IntN(len(parts))])
		}
		for range r.IntN(8) {
			text.WriteString(texts[r.IntN(len(texts))])
		}
		if !regexp.MustCompile(pattern.String()).MatchString(text.String()) {
			continue
		}
		matched++
		if literal := string(requiredLiteral(pattern.String())); literal != "" {
			literals++
			require.Contains(t, text.String(), literal, pattern.String())
		}
	}
	require.Greater(t, matched, 2000)
	require.Greater(t, literals, 500)
}
