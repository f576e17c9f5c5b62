package dsl

import (
	"fmt"
	"strings"
	"unicode"
)

// mistake is an error in a DSL source, with its position.
type mistake struct {
	position
	text string
}

func (m *mistake) Error() string { return m.text }

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenText
	tokenNumber
	tokenDuration
	tokenSign // operators and punctuation
)

type token struct {
	position
	kind tokenKind
	text string // of a string: without its quotes
}

// String returns the token as error messages show it.
func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "end of the rule"
	case tokenText:
		return fmt.Sprintf("string %q", t.text)
	}
	return fmt.Sprintf("%q", t.text)
}

// signs are sorted by length, longest first.
var signs = []string{"==", "!=", "<=", ">=", "<", ">", "{", "}", "(", ")", "[", "]", ",", ".", ":"}

// instead are the replacements for operators of other languages.
var instead = []struct{ sign, text string }{
	{"&&", "write and"}, {"||", "write or"}, {"!", "write not, or !="}, {"=", "write =="},
	{"'", "use double quotes for strings"}, {"--", "comments begin with //"}, {"#", "comments begin with //"},
}

// lex splits a DSL source into tokens, the last of which is tokenEnd. In the older form \" in a string is
// a quote, and a string ends within its line. In the newer form a string contains all characters between
// its quotes. The earlier versions read the two forms in this way.
func lex(source string, older bool) ([]token, error) {
	var tokens []token
	in := []rune(source)
	at := position{1, 1}
	i := 0
	advance := func(n int) {
		for range n {
			if in[i] == '\n' {
				at = position{at.line + 1, 1}
			} else {
				at.column++
			}
			i++
		}
	}
	has := func(prefix string) bool { return strings.HasPrefix(string(in[i:min(len(in), i+len(prefix))]), prefix) }
	for i < len(in) {
		start, from := at, i
		add := func(kind tokenKind, text string) { tokens = append(tokens, token{start, kind, text}) }
		switch c := in[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			advance(1)
		case has("//"):
			for i < len(in) && in[i] != '\n' {
				advance(1)
			}
		case isLetter(c):
			for i < len(in) && (isLetter(in[i]) || isDigit(in[i])) {
				advance(1)
			}
			add(tokenWord, string(in[from:i]))
		case isDigit(c) || c == '-' && i+1 < len(in) && isDigit(in[i+1]):
			advance(1)
			for i < len(in) && (isDigit(in[i]) || in[i] == '.' && i+1 < len(in) && isDigit(in[i+1])) {
				advance(1)
			}
			kind := tokenNumber
			if i < len(in) && (isLetter(in[i]) || in[i] == 'µ') {
				kind = tokenDuration
				for i < len(in) && (isLetter(in[i]) || isDigit(in[i]) || in[i] == '.' || in[i] == 'µ') {
					advance(1)
				}
			}
			add(kind, string(in[from:i]))
		case c == '"':
			advance(1)
			var text strings.Builder
			for i < len(in) && in[i] != '"' && (!older || in[i] != '\n') {
				if older && has(`\"`) {
					advance(1)
				}
				text.WriteRune(in[i])
				advance(1)
			}
			if i == len(in) || in[i] != '"' {
				return nil, &mistake{start, "the string that begins here has no end: add a closing \""}
			}
			advance(1)
			add(tokenText, text.String())
		default:
			sign := ""
			for _, s := range signs {
				if sign == "" && has(s) {
					sign = s
				}
			}
			if sign == "" {
				return nil, &mistake{start, unexpected(c, has)}
			}
			advance(len(sign))
			add(tokenSign, sign)
		}
	}
	return append(tokens, token{at, tokenEnd, ""}), nil
}

func unexpected(c rune, has func(string) bool) string {
	for _, other := range instead {
		if has(other.sign) {
			return fmt.Sprintf("%q is not BeTraceDSL: %s", other.sign, other.text)
		}
	}
	if unicode.IsLetter(c) {
		return fmt.Sprintf("%q is not allowed in a name: use a-z, A-Z, 0-9 and _, joined by dots", c)
	}
	return fmt.Sprintf("%q is not BeTraceDSL", c)
}

func isLetter(c rune) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c rune) bool  { return c >= '0' && c <= '9' }
