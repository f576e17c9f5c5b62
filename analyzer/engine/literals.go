package engine

import (
	"bytes"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// literal is a string, in any case if fold is set.
type literal struct {
	text string // lower case if fold
	fold bool
}

// mostLiterals is the maximum number of literals: with more, a search may be slower than the match itself.
const mostLiterals = 16

// requiredLiterals returns literals one of which is in every string that matches a pattern. It returns the longest
// ones that are easily found, nil if there are none.
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

// foldedLiteral returns the longest part of a string without letters that more than two characters match: the
// Kelvin sign matches k, and the long s matches s.
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

// shortest returns the length of the shortest literal: the longer it is, the fewer strings contain one.
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

// literalFinder searches strings for literals.
type literalFinder struct {
	exact []byte // the only literal, if its case matters
	of    []literal
	first [256]bool // bytes that a literal begins with
}

// newLiteralFinder returns a finder of literals, nil if there are none.
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

// isIn reports whether a string contains one of the literals.
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
