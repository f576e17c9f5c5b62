package traceql

import (
	"strings"
	"unicode/utf8"
)

// Tempo reads a query in pieces of scannerBuffer bytes. Where it looks ahead, at the
// beginning of an attribute and at a number, it does so on a copy of its scanner
// (pkg/traceql/lexer.go of 2.8): if that has to read the next piece, the original never
// sees it. What is left may be no query, or another one.
const (
	scannerBuffer = 1024
	lookedAhead   = 40 // bytes at most: a scope of 10, a number of 25
)

// Pad returns a query with spaces so put in that a Tempo reads all of it: no part at
// which it looks ahead is on both sides of where it reads on. A query of up to 1,024
// bytes is returned as it is. The query is one that this package writes, or a pipeline
// of such.
func Pad(query string) string {
	if len(query) <= scannerBuffer {
		return query
	}
	var b strings.Builder
	next := scannerBuffer // where Tempo reads on
	write := func(s string) {
		for _, r := range s {
			b.WriteRune(r)
			switch over := b.Len() - next; {
			case over >= utf8.RuneLen(r): // it begins there
				next += scannerBuffer
			case over > 0: // it is on both sides: what is on this side is read again
				next += scannerBuffer - (utf8.RuneLen(r) - over)
			}
		}
	}
	for query != "" {
		n := wordLength(query)
		if n == 0 {
			_, n = utf8.DecodeRuneInString(query)
			write(query[:n])
			query = query[n:]
			continue
		}
		if left := next - b.Len(); left <= min(n, lookedAhead)+2 {
			write(strings.Repeat(" ", left+1))
		}
		write(query[:n])
		query = query[n:]
	}
	return b.String()
}

// wordLength returns the length of the field, constant or keyword that a query begins
// with, 0 if it begins with something else.
func wordLength(query string) int {
	for i := 0; i < len(query); i++ {
		switch c := query[i]; c {
		case ' ', '\t', '\n', '\r', '{', '}', '(', ')', '=', '~', '!', '<', '>', '&', '|', '^', ',':
			return i
		case '`', '"':
			for i++; i < len(query) && query[i] != c; i++ {
				if c == '"' && query[i] == '\\' {
					i++
				}
			}
		}
	}
	return len(query)
}
