package plan

import (
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// requiredLiteral returns a text that every text has that matches a pattern, the longest that is
// easily found; "" if there is none. Looking for it is much faster than matching.
func requiredLiteral(pattern string) []byte {
	x, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil
	}
	return []byte(literalOf(x.Simplify()))
}

func literalOf(x *syntax.Regexp) string {
	switch x.Op {
	case syntax.OpLiteral:
		// An invalid byte matches the replacement character.
		if text := string(x.Rune); x.Flags&syntax.FoldCase == 0 && !strings.ContainsRune(text, utf8.RuneError) {
			return text
		}
	case syntax.OpCapture, syntax.OpPlus:
		return literalOf(x.Sub[0])
	case syntax.OpConcat:
		longest := ""
		for _, sub := range x.Sub {
			if text := literalOf(sub); len(text) > len(longest) {
				longest = text
			}
		}
		return longest
	}
	return ""
}
