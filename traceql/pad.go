package traceql

import (
	"strings"
	"unicode/utf8"
)

// Tempo reads a query in pieces of scannerBuffer bytes. At the beginning of an attribute and at a number it
// looks ahead with a copy of its scanner (pkg/traceql/lexer.go of 2.8). If the copy reads the next piece, the
// original scanner never sees that piece, and the rest may be an invalid query, or a different one.
const (
	scannerBuffer = 1024
	lookedAhead   = 40 // maximum in bytes: a scope has up to 10, a number up to 25
)

// Pad returns the query with additional spaces, so that Tempo reads all of it: no token at which Tempo looks
// ahead crosses a boundary between pieces. A query of up to 1,024 bytes is returned unchanged. The query must
// be one that this package writes, or a pipeline of such queries.
func Pad(query string) string {
	if len(query) <= scannerBuffer {
		return query
	}
	var b strings.Builder
	next := scannerBuffer // where Tempo's next piece begins
	write := func(s string) {
		for _, r := range s {
			b.WriteRune(r)
			switch over := b.Len() - next; {
			case over >= utf8.RuneLen(r): // the character begins in the next piece
				next += scannerBuffer
			case over > 0: // the character crosses the boundary: its first bytes are read again
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

// wordLength returns the length of the field, constant or keyword at the beginning of a query, or 0 if there
// is none.
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
