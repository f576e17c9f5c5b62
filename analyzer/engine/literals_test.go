package engine

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRequiredLiterals(t *testing.T) {
	exact := func(texts ...string) (of []literal) {
		for _, text := range texts {
			of = append(of, literal{text: text})
		}
		return of
	}
	folded := func(texts ...string) []literal {
		of := exact(texts...)
		for i := range of {
			of[i].fold = true
		}
		return of
	}
	for pattern, want := range map[string][]literal{
		`^(INSERT|UPDATE) accounts\b`:       exact(` accounts`),
		`a+bc`:                              exact(`bc`),
		`x(abc)+`:                           exact(`abc`),
		`(?i)abc`:                           folded(`abc`),
		`(?i)ABC`:                           folded(`abc`),
		`(?i)track9`:                        folded(`trac`),
		`(?i)İ`:                             nil,
		`(?i)ks`:                            nil,
		`(?i)ä1`:                            folded(`1`),
		`abc|abd`:                           exact(`ab`),
		`abc|xyz`:                           exact(`abc`, `xyz`),
		`abc|x?`:                            nil,
		`abc|(?i:x)`:                        {{text: `abc`}, {text: `x`, fold: true}},
		`(abc|d)ef`:                         exact(`ef`),
		`(?i)\b(cvv2?|pin_?block|track1)\b`: folded(`cvv`, `bloc`, `trac`),
		`a1|b2|c3|d4|e5|f6|g7|h8|i9|j|l|m|n|o|p|q`: nil,
		`(abc)?x`:    exact(`x`),
		`(abc)*`:     nil,
		`(abc){2,3}`: exact(`abc`),
		"a\uFFFDb":   nil,
		`ä.ö`:        exact(`ä`),
		`.`:          nil,
		`(`:          nil,
	} {
		require.Equal(t, want, requiredLiterals(pattern), pattern)
	}
}

// Each string that matches a pattern contains one of its literals.
func TestWhatMatchesHasALiteral(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	parts := []string{"a", "b", "ab", "(a|b)", "(ab|ba)", "a?", "b*", "(ab)+", "[ab]", ".", `\b`, "^", "$", "(?i:aB)", "ä", "(?:a|)", "a{2}", "\uFFFD", "(?i:sK)", "(?i:aKb)", "(?i:aİ)", "(aa|(?i:bb)|k)"}
	texts := []string{"a", "b", "A", "B", "ab", "ä", "\xff", "\uFFFD", " ", "k", "\u212a", "İ", "i", "\u017f", "S"}
	matched, literals, some := 0, 0, 0
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
		if finder := newLiteralFinder(requiredLiterals(pattern.String())); finder != nil {
			literals++
			require.True(t, finder.isIn([]byte(text.String())), "%s %q", pattern.String(), text.String())
			if !finder.isIn([]byte("~")) {
				some++
			}
		}
	}
	require.Greater(t, matched, 2000)
	require.Greater(t, literals, 500)
	require.Equal(t, literals, some)
}

// A letter is found in both cases where the pattern is of either, and in no other letter.
func TestLettersAreFoundInBothCases(t *testing.T) {
	for c := byte('a'); c <= 'z'; c++ {
		lower, upper := string(c)+"1", strings.ToUpper(string(c))+"1"
		for _, pattern := range []string{"(?i:" + lower + ")", "(?i:" + upper + ")", "(?i:1" + lower + ")", "x2|(?i:" + lower + ")"} {
			finder := newLiteralFinder(requiredLiterals(pattern))
			for d := byte(' '); d < 0x7f; d++ {
				text := "_1" + string(d) + "1"
				if regexp.MustCompile(pattern).MatchString(text) {
					require.True(t, finder.isIn([]byte(text)), "%s %q", pattern, text)
				} else if c != 'k' && c != 's' { // whose part is left out
					require.False(t, finder.isIn([]byte(text)), "%s %q", pattern, text)
				}
			}
		}
	}
}
