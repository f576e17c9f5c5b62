package engine

import (
	"bytes"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// literal is a text, in any case if fold.
type literal struct {
	text string // lower case if fold
	fold bool
}

// mostLiterals is up to how many literals looking for them is surely faster than matching.
const mostLiterals = 16

// requiredLiterals returns texts of which every text has one that matches a pattern, the longest that
// are easily found; nil if there are none.
func requiredLiterals(pattern string) []literal {
	x, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil
	}
	return literalsOf(x.Simplify())
}

func literalsOf(x *syntax.Regexp) []literal {
	switch x.Op {
	case syntax.OpLiteral:
		if x.Flags&syntax.FoldCase != 0 {
			return foldedLiteral(x.Rune)
		}
		// An invalid byte matches the replacement character.
		if text := string(x.Rune); !strings.ContainsRune(text, utf8.RuneError) {
			return []literal{{text: text}}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return literalsOf(x.Sub[0])
	case syntax.OpConcat:
		var best []literal
		for _, sub := range x.Sub {
			if of := literalsOf(sub); shortest(of) > shortest(best) {
				best = of
			}
		}
		return best
	case syntax.OpAlternate:
		var all []literal
		for _, sub := range x.Sub {
			of := literalsOf(sub)
			if of == nil || len(all)+len(of) > mostLiterals {
				return nil
			}
			all = append(all, of...)
		}
		return all
	}
	return nil
}

// foldedLiteral returns the longest part of a text that has the same letters in any case: not k
// and s, which the Kelvin sign and the long s match, too.
func foldedLiteral(runes []rune) []literal {
	longest := ""
	for _, part := range strings.FieldsFunc(string(runes), func(r rune) bool { return r >= utf8.RuneSelf || strings.ContainsRune("kKsS", r) }) {
		if len(part) > len(longest) {
			longest = strings.ToLower(part)
		}
	}
	if longest == "" {
		return nil
	}
	return []literal{{text: longest, fold: true}}
}

// shortest returns the length of the shortest text: the longer it is, the fewer texts have one.
func shortest(of []literal) int {
	if len(of) == 0 {
		return 0
	}
	n := len(of[0].text)
	for _, l := range of {
		n = min(n, len(l.text))
	}
	return n
}

// literalFinder looks for literals.
type literalFinder struct {
	exact []byte // the only one, if it is in one case
	of    []literal
	first [256]bool // bytes with which one begins
}

// newLiteralFinder returns a finder of one of some literals; nil if there are none.
func newLiteralFinder(of []literal) *literalFinder {
	switch {
	case len(of) == 0:
		return nil
	case len(of) == 1 && !of[0].fold:
		return &literalFinder{exact: []byte(of[0].text)}
	}
	f := &literalFinder{of: of}
	for _, l := range of {
		c := l.text[0]
		f.first[c] = true
		if l.fold && 'a' <= c && c <= 'z' {
			f.first[c-'a'+'A'] = true
		}
	}
	return f
}

// isIn reports whether a text has one of the literals.
func (f *literalFinder) isIn(text []byte) bool {
	if f.exact != nil {
		return bytes.Contains(text, f.exact)
	}
	for i, c := range text {
		if !f.first[c] {
			continue
		}
		for _, l := range f.of {
			if l.begins(text[i:]) {
				return true
			}
		}
	}
	return false
}

func (l literal) begins(text []byte) bool {
	if len(text) < len(l.text) {
		return false
	}
	for i := range len(l.text) {
		c := text[i]
		if l.fold && 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != l.text[i] {
			return false
		}
	}
	return true
}
