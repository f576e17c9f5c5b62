package traceql

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/betracehq/betrace/trace"
)

// token is one token of a filter.
type token struct {
	kind tokenKind
	text string // as written, or the name of an attribute or intrinsic
	expr Expr   // for a field or a constant
	at   int    // byte offset
}

type tokenKind uint8

const (
	tokenEnd     tokenKind = iota
	tokenOp                // operators and punctuation, in text
	tokenOperand           // a field or a constant, in expr
	tokenWord              // any other word, which is refused by name
)

// symbols are all operators and punctuation of TraceQL, longest first.
var symbols = []string{
	"!>>", "!<<", "&>>", "&<<",
	"&&", "||", "!=", "=~", "!~", ">=", "<=", ">>", "<<", "!>", "!<", "&>", "&<", "&~",
	"{", "}", "(", ")", "=", ">", "<", "+", "-", "*", "/", "%", "^", "!", "|", "~", ",",
}

var constants = map[string]Const{
	"true": True, "false": False, "nil": Nil,
	"unset": Status(trace.StatusUnset), "ok": Status(trace.StatusOK), "error": Status(trace.StatusError),
	"unspecified": Kind(trace.KindUnspecified), "internal": Kind(trace.KindInternal), "server": Kind(trace.KindServer),
	"client": Kind(trace.KindClient), "producer": Kind(trace.KindProducer), "consumer": Kind(trace.KindConsumer),
}

// Error is an error in a filter, with its position.
type Error struct {
	Query string
	// Offset is the position in Query, in bytes.
	Offset int
	Err    error
}

// Error returns line and column, both from 1 and in characters, and the error.
func (e *Error) Error() string {
	before := e.Query[:e.Offset]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("TraceQL, line %d, column %d: %v", line, column, e.Err)
}

// Unwrap returns the error without its position.
func (e *Error) Unwrap() error { return e.Err }

// lex splits the query into tokens. The last one has kind tokenEnd.
func lex(query string) ([]token, error) {
	var tokens []token
	for at := 0; ; {
		rest := query[at:]
		trimmed := strings.TrimLeftFunc(rest, unicode.IsSpace)
		at += len(rest) - len(trimmed)
		if trimmed == "" {
			return append(tokens, token{kind: tokenEnd, text: "the end", at: at}), nil
		}
		tok, size, err := lexOne(trimmed)
		if err != nil {
			return nil, &Error{query, at, err}
		}
		tok.at = at
		tokens = append(tokens, tok)
		at += size
	}
}

func lexOne(s string) (token, int, error) {
	switch c := s[0]; {
	case c == '"' || c == '`':
		return lexString(s)
	case c >= '0' && c <= '9', c == '.' && len(s) > 1 && s[1] >= '0' && s[1] <= '9':
		return lexNumber(s)
	case c == '.':
		return lexAttribute(s, ".")
	case c == '/' && strings.HasPrefix(s, "//"), c == '/' && strings.HasPrefix(s, "/*"):
		return token{}, 0, fmt.Errorf("comments are not supported: remove them")
	}
	for _, symbol := range symbols {
		if strings.HasPrefix(s, symbol) {
			return token{kind: tokenOp, text: symbol}, len(symbol), nil
		}
	}
	return lexWord(s)
}

func lexString(s string) (token, int, error) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return token{}, 0, fmt.Errorf("a string is not closed, or has an escape that Go strings do not allow")
	}
	value, err := strconv.Unquote(quoted)
	if err != nil {
		return token{}, 0, fmt.Errorf("bad string %s: %w", quoted, err)
	}
	return token{kind: tokenOperand, text: quoted, expr: String(value)}, len(quoted), nil
}

// lexNumber reads an int, a float or a duration (1h30m, 250ms, 1.5s).
func lexNumber(s string) (token, int, error) {
	n := strings.IndexFunc(s, func(r rune) bool {
		return r != '.' && r != '_' && r != 'µ' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	})
	if n < 0 {
		n = len(s)
	}
	if n+1 < len(s) && (s[n] == '-' || s[n] == '+') && (s[n-1] == 'e' || s[n-1] == 'E') && !strings.HasPrefix(s, "0x") {
		// 1e-9
		m := strings.IndexFunc(s[n+1:], func(r rune) bool { return !unicode.IsDigit(r) })
		if m < 0 {
			m = len(s) - n - 1
		}
		n += 1 + m
	}
	word := s[:n]
	tok := token{kind: tokenOperand, text: word}
	if i, err := strconv.ParseInt(word, 10, 64); err == nil {
		tok.expr = Int(i)
	} else if f, err := strconv.ParseFloat(word, 64); err == nil && !strings.ContainsAny(word, "xX_") {
		tok.expr = Float(f)
	} else if d, err := parseDuration(word); err == nil {
		tok.expr = Duration(d)
	} else {
		return token{}, 0, fmt.Errorf("bad number or duration %q: want 12, 1.5, 250ms or 1h30m", word)
	}
	return tok, n, nil
}

// parseDuration parses Go's durations, and days, weeks and years as in Prometheus.
func parseDuration(s string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.ParseInt(digits, 10, 64)
			if err != nil || n > int64(1<<63-1)/int64(unit) {
				return 0, fmt.Errorf("bad duration %q", s)
			}
			return time.Duration(n) * unit, nil
		}
	}
	return time.ParseDuration(s)
}

// lexAttribute reads prefix, a scope with which s starts, and the key after it.
func lexAttribute(s, prefix string) (token, int, error) {
	scope, known := scopes[prefix]
	n := len(prefix)
	var key strings.Builder
	for n < len(s) {
		if s[n] == '"' {
			part, size, err := lexQuotedKey(s[n:])
			if err != nil {
				return token{}, 0, err
			}
			key.WriteString(part)
			n += size
			continue
		}
		r, size := utf8.DecodeRuneInString(s[n:])
		if unicode.IsSpace(r) || strings.ContainsRune("{}()=~!<>&|^,", r) {
			break
		}
		key.WriteRune(r)
		n += size
	}
	if key.Len() == 0 {
		return token{}, 0, fmt.Errorf("%q must be followed by an attribute key, as in %shttp.route", prefix, prefix)
	}
	if !known {
		return token{}, 0, fmt.Errorf("%s: attributes of scope %q are not supported: use span, resource, event or link", s[:n], strings.TrimSuffix(prefix, "."))
	}
	return token{kind: tokenOperand, text: s[:n], expr: Field{Scope: scope, Key: key.String()}}, n, nil
}

// lexQuotedKey reads a quoted part of a key, in which \" and \\ are escapes.
func lexQuotedKey(s string) (string, int, error) {
	var key strings.Builder
	for n := 1; n < len(s); n++ {
		switch {
		case s[n] == '"':
			return key.String(), n + 1, nil
		case s[n] == '\\' && n+1 < len(s) && (s[n+1] == '"' || s[n+1] == '\\'):
			n++
			key.WriteByte(s[n])
		case s[n] == '\\':
			return "", 0, fmt.Errorf(`the quoted key has an escape other than \" and \\`)
		default:
			key.WriteByte(s[n])
		}
	}
	return "", 0, fmt.Errorf("the quoted key is not closed")
}

// lexWord reads an intrinsic, a scoped attribute, a named constant, or a word of TraceQL that does not belong
// to filters.
func lexWord(s string) (token, int, error) {
	n := strings.IndexFunc(s, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if n < 0 {
		n = len(s)
	}
	if n == 0 {
		r, _ := utf8.DecodeRuneInString(s)
		return token{}, 0, fmt.Errorf("unexpected %q", r)
	}
	word := s[:n]
	if n < len(s) && s[n] == '.' {
		switch word {
		case "span", "resource", "event", "link", "instrumentation", "parent":
			return lexAttribute(s, word+".")
		}
	}
	if n < len(s) && s[n] == ':' {
		m := strings.IndexFunc(s[n+1:], func(r rune) bool { return !unicode.IsLetter(r) })
		if m < 0 {
			m = len(s) - n - 1
		}
		word = s[:n+1+m]
		if _, ok := intrinsics[word]; !ok {
			return token{}, 0, fmt.Errorf("unknown intrinsic %s", word)
		}
		return token{kind: tokenOperand, text: word, expr: Field{Key: word}}, len(word), nil
	}
	if name, ok := unscoped[word]; ok {
		return token{kind: tokenOperand, text: word, expr: Field{Key: name}}, n, nil
	}
	if c, ok := constants[word]; ok {
		return token{kind: tokenOperand, text: word, expr: c}, n, nil
	}
	return token{kind: tokenWord, text: word}, n, nil
}
