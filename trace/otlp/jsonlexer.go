package otlp

import (
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth limits the nesting of objects and lists. Every attribute value that protobuf can hold (see
// wire.MaxDepth) is nested less deeply.
const maxJSONDepth = 300

// errJSONCut is the error of a lexer whose input ends within a value.
var errJSONCut = errors.New("it ends in the middle of an object")

// jsonLexer reads JSON (RFC 8259) from memory, in place. After an error, which is kept, it returns zero
// values. It does not check that strings are UTF-8: strings of OTLP in protobuf may hold other bytes as well,
// and these are kept.
type jsonLexer struct {
	b       []byte
	i       int
	err     error
	at      int // offset of the error
	depth   int
	scratch []byte // the last string read, if it had escapes
}

func (l *jsonLexer) fail(at int, format string, args ...any) {
	l.stop(at, fmt.Errorf(format, args...))
}

func (l *jsonLexer) stop(at int, err error) {
	if l.err == nil {
		l.err, l.at = err, at
	}
	l.i = len(l.b)
}

// cut sets the error for a value that does not end.
func (l *jsonLexer) cut() { l.stop(len(l.b), errJSONCut) }

// next skips white space and returns the next byte without consuming it, or 0 after an error.
func (l *jsonLexer) next() byte {
	for l.i < len(l.b) {
		switch c := l.b[l.i]; c {
		case ' ', '\n', '\t', '\r':
			l.i++
		default:
			return c
		}
	}
	l.cut()
	return 0
}

// unexpected sets the error for the current byte, where want was expected.
func (l *jsonLexer) unexpected(want string) {
	if l.err == nil {
		l.fail(l.i, "want %s, found %s", want, describeByte(l.b[l.i:]))
	}
}

// describeByte describes the first character of b for error messages.
func describeByte(b []byte) string {
	r, size := utf8.DecodeRune(b)
	if r == utf8.RuneError && size <= 1 {
		return fmt.Sprintf("the byte %#02x", b[0])
	}
	return fmt.Sprintf("%q", r)
}

// open reads the byte that opens an object or a list, and reports whether it was present.
func (l *jsonLexer) open(c byte, want string) bool {
	if l.next() != c {
		l.unexpected(want)
		return false
	}
	l.i++
	if l.depth++; l.depth > maxJSONDepth {
		l.fail(l.i, "objects and lists are nested more than %d deep", maxJSONDepth)
		return false
	}
	return true
}

// more moves to the next member of an open object or list, and returns false at its end. There is no comma
// before the first member.
func (l *jsonLexer) more(first *bool, end byte) bool {
	c := l.next()
	switch {
	case l.err != nil:
		return false
	case c == end:
		l.i++
		l.depth--
		return false
	case *first:
		*first = false
		return true
	case c != ',':
		l.unexpected(fmt.Sprintf("',' or %q", rune(end)))
		return false
	}
	l.i++
	return true
}

// key reads a key and the colon after it. The key is valid until the next string is read.
func (l *jsonLexer) key() []byte {
	if l.next() != '"' {
		l.unexpected("a key")
		return nil
	}
	key := l.str()
	if l.next() != ':' {
		l.unexpected("':'")
		return nil
	}
	l.i++
	return key
}

// str reads the string that begins at the next byte. It is valid until the next string is read.
func (l *jsonLexer) str() []byte {
	b, from := l.b, l.i+1
	for i := from; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			l.i = i + 1
			return b[from:i]
		case c == '\\':
			return l.escaped(from, i)
		case c < ' ':
			l.control(i)
			return nil
		}
	}
	l.cut()
	return nil
}

// control sets the error for a control character in a string.
func (l *jsonLexer) control(i int) {
	if c := l.b[i]; c == '\n' || c == '\r' {
		l.fail(i, "the line ends within a string")
		return
	}
	l.fail(i, "a string contains %s, which must be escaped", describeByte(l.b[i:]))
}

// escaped reads the rest of a string, starting at its first escape.
func (l *jsonLexer) escaped(from, i int) []byte {
	b := l.b
	out := append(l.scratch[:0], b[from:i]...)
	for i < len(b) {
		c := b[i]
		switch {
		case c == '"':
			l.i, l.scratch = i+1, out
			return out
		case c < ' ':
			l.control(i)
			return nil
		case c != '\\':
			out = append(out, c)
			i++
			continue
		}
		if i+1 >= len(b) {
			break
		}
		at := i
		i += 2
		switch e := b[at+1]; e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := hex4(b, i)
			if !ok {
				if len(b)-i < 4 {
					l.cut()
				} else {
					l.fail(at, `want four hexadecimal digits after \u`)
				}
				return nil
			}
			i += 4
			if utf16.IsSurrogate(r) { // half of a pair; alone it is not a character
				low := rune(utf8.RuneError)
				if i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
					low, _ = hex4(b, i+2)
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			l.fail(at, `unknown escape \%s`, describeByte(b[at+1:]))
			return nil
		}
	}
	l.cut()
	return nil
}

func hex4(b []byte, i int) (r rune, ok bool) {
	if len(b)-i < 4 {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// number reads the number that begins at the next byte.
func (l *jsonLexer) number() []byte {
	b, from := l.b, l.i
	i := from
	digits := func() bool {
		start := i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		switch {
		case i > start:
			return true
		case i == len(b):
			l.cut()
		default:
			l.fail(from, "%q is not a number", b[from:i+1])
		}
		return false
	}
	if b[i] == '-' {
		i++
	}
	whole := i
	if !digits() {
		return nil
	}
	if b[whole] == '0' && i > whole+1 {
		l.fail(from, "%q is not a number: it begins with a zero", b[from:i])
		return nil
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return nil
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return nil
		}
	}
	l.i = i
	return b[from:i]
}

// literal reads word (null, true or false) if it is next, and reports whether it was.
func (l *jsonLexer) literal(word string) bool {
	end := l.i + len(word)
	if end <= len(l.b) && string(l.b[l.i:end]) == word {
		l.i = end
		return true
	}
	if rest := l.b[l.i:]; len(rest) < len(word) && string(rest) == word[:len(rest)] {
		l.cut()
	}
	return false
}

// null reads null if it is next, and reports whether it was.
func (l *jsonLexer) null() bool { return l.next() == 'n' && l.literal("null") }

// skip skips any value.
func (l *jsonLexer) skip() {
	switch c := l.next(); {
	case l.err != nil:
	case c == '"':
		l.str()
	case c == '{':
		if l.open('{', "an object") {
			for first := true; l.more(&first, '}'); {
				l.key()
				l.skip()
			}
		}
	case c == '[':
		if l.open('[', "a list") {
			for first := true; l.more(&first, ']'); {
				l.skip()
			}
		}
	case c == '-' || c >= '0' && c <= '9':
		l.number()
	case c == 't' && l.literal("true"), c == 'f' && l.literal("false"), c == 'n' && l.literal("null"):
	default:
		l.unexpected("a value")
	}
}
