package otlp

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/betracehq/betrace/trace/wire"
)

// otlpJSON converts OTLP in JSON to protobuf, so that both are processed in the same way afterwards.
//
// It accepts all spellings of ProtoJSON: names in camelCase or as in the .proto file, null for the default of
// any field, numbers as numbers or strings, also as 5.0 and 1e3, enums by name or number, bytes in either
// alphabet of base64, with or without padding. IDs are hexadecimal, as OTLP requires, or base64, as in
// ProtoJSON.
type otlpJSON struct {
	jsonLexer
	out     []byte         // protobuf
	path    []jsonStep     // to the value being read
	ignored map[string]int // counts of unknown keys, as "Message.key"
	values  int            // current nesting of messages within an attribute
}

// jsonStep is a step of a path into an object or a list.
type jsonStep struct {
	name  string
	index int // -1 outside a list
}

// errorPath returns the path to the value being read.
func (t *otlpJSON) errorPath() string {
	var b strings.Builder
	for i, s := range t.path {
		if i > 0 && s.name != "" {
			b.WriteByte('.')
		}
		b.WriteString(s.name)
		if s.index >= 0 {
			fmt.Fprintf(&b, "[%d]", s.index)
		}
	}
	return b.String()
}

// refuse sets the error for a value.
func (t *otlpJSON) refuse(at int, format string, args ...any) {
	if t.err != nil {
		return
	}
	err := fmt.Errorf(format, args...)
	if path := t.errorPath(); path != "" {
		err = fmt.Errorf("%s: %w", path, err)
	}
	t.stop(at, err)
}

// list reads the list of a field, or null.
func (t *otlpJSON) list(f *otlpField) {
	if t.null() {
		return
	}
	if c := t.next(); c != '[' {
		t.refuse(t.i, "want a list, found %s", t.describe(c))
		return
	}
	t.open('[', "a list")
	step := len(t.path) - 1
	n := 0
	for first := true; t.more(&first, ']'); n++ {
		t.path[step].index = n
		if f.kind == kindMessage {
			t.field(f)
		} else {
			t.scalar(f, true)
		}
	}
	if t.err == nil {
		t.path[step].index = -1
	}
}

// field reads an object as the field of a message. In a list, null becomes an empty message, because the
// elements must keep their positions.
func (t *otlpJSON) field(f *otlpField) {
	if !t.deeper(f.of) {
		return
	}
	t.out = appendTag(t.out, f.num, wire.Len)
	from := len(t.out)
	t.out = append(t.out, 0) // the length, if it is short
	if !t.null() {
		t.message(f.of)
	}
	t.shallower(f.of)
	t.out = setLength(t.out, from)
}

// deeper enters a message. It refuses values that are too deep for the protobuf reader.
func (t *otlpJSON) deeper(m *otlpMessage) bool {
	if m == jsonKeyValue || t.values > 0 {
		if t.values++; t.values > wire.MaxDepth {
			t.refuse(t.i, "%w", wire.ErrTooDeep)
			return false
		}
	}
	return true
}

func (t *otlpJSON) shallower(m *otlpMessage) {
	if m == jsonKeyValue || t.values > 0 {
		t.values--
	}
}

// message reads an object.
func (t *otlpJSON) message(m *otlpMessage) {
	start := t.i
	if c := t.next(); c != '{' {
		t.refuse(t.i, "want an object, found %s", t.describe(c))
		return
	}
	t.open('{', "an object")
	var seen uint32
	var unknown string
	one := -1 // the field of a oneof that is set, or -1
	at := 0
	for first := true; t.more(&first, '}'); {
		key := t.key()
		if t.err != nil {
			return
		}
		i := m.find(key, at)
		if i < 0 {
			unknown = t.unknownKey(m, string(key))
			continue
		}
		f := &m.fields[i]
		seen |= 1 << i
		at = i + 1
		if m.oneof {
			if t.null() {
				continue
			}
			if one >= 0 && one != i {
				t.refuse(t.i, "a value has both %s and %s", m.fields[one].name, f.name)
				return
			}
			one = i
		}
		t.path = append(t.path, jsonStep{f.name, -1})
		switch {
		case f.list:
			t.list(f)
		case f.kind != kindMessage:
			t.scalar(f, m.oneof)
		case !t.null():
			t.field(f)
		}
		if t.err != nil {
			return
		}
		t.path = t.path[:len(t.path)-1]
	}
	if unknown == "" || t.err != nil {
		return
	}
	missing := "any key of OTLP"
	if c := slices.IndexFunc(m.fields, func(f otlpField) bool { return f.name == m.content }); c >= 0 {
		if seen&(1<<c) != 0 {
			return
		}
		missing = strconv.Quote(m.content)
	} else if seen != 0 {
		return
	}
	t.refuse(start, "%s without %s, but with %q, which OTLP does not define: correct the key", m.name, missing, unknown)
}

// unknownKey skips the value of a key that the message does not have. OTLP allows such keys, because later
// versions may add fields; but a key that differs from a known one only in its spelling is an error.
func (t *otlpJSON) unknownKey(m *otlpMessage, key string) string {
	if name := misspelt(key, m.names()); name != "" {
		t.refuse(t.i, "unknown key %q: OTLP's key is %q", key, name)
	}
	t.ignore(m.name, key)
	t.skip()
	return key
}

// ignore counts a key whose value is skipped.
func (t *otlpJSON) ignore(message, key string) {
	if t.ignored == nil {
		t.ignored = map[string]int{}
	}
	if name := message + "." + clip([]byte(key)); len(t.ignored) < maxIgnored || t.ignored[name] > 0 {
		t.ignored[name]++
	}
}

// scalar reads a value that is not a message and writes its field. Default values, null among them, are
// written only if wanted.
func (t *otlpJSON) scalar(f *otlpField, wanted bool) {
	at, c := t.i, t.next()
	if c == 'n' && t.null() {
		if wanted { // an element of a list
			t.out = append(appendTag(t.out, f.num, wire.Len), 0)
		}
		return
	}
	switch f.kind {
	case kindString:
		if s, ok := t.text(c, "a string"); ok && (wanted || len(s) > 0) {
			t.out = appendBytes(t.out, f.num, s)
		}
	case kindBytes:
		if s, ok := t.text(c, "a string in base64"); ok {
			b, err := decodeBase64(s)
			if err != nil {
				t.refuse(at, "%q is not base64", clip(s))
				return
			}
			t.out = appendBytes(t.out, f.num, b)
		}
	case kindID:
		t.id(f, c)
	case kindBool:
		v := c == 't' && t.literal("true")
		if !v && !(c == 'f' && t.literal("false")) {
			t.refuse(t.i, "want true or false, found %s", t.describe(c))
			return
		}
		t.out = append(appendTag(t.out, f.num, wire.Varint), 0)
		if v {
			t.out[len(t.out)-1] = 1
		}
	case kindEnum:
		t.enum(f, c)
	case kindDouble:
		t.double(f, c)
	case kindInt, kindIndex:
		bits := 64
		if f.kind == kindIndex {
			bits = 32
		}
		if s, ok := t.digits(c); ok {
			v, err := parseWhole(s, bits, true)
			if err != nil {
				t.refuse(at, "%q is %w", clip(s), err)
				return
			}
			t.varint(f, v, wanted)
		}
	case kindCount:
		// Counts are never judged, so an invalid one such as -1 is dropped.
		if s, ok := t.digits(c); ok {
			v, err := parseWhole(s, 32, false)
			if err == nil {
				t.varint(f, v, wanted)
			}
		}
	case kindFlags:
		if s, ok := t.digits(c); ok {
			v, err := parseWhole(s, 32, false)
			if err != nil {
				t.refuse(at, "%q is %w", clip(s), err)
				return
			}
			if v != 0 {
				t.out = binary.LittleEndian.AppendUint32(appendTag(t.out, f.num, wire.I32), uint32(v))
			}
		}
	case kindTime:
		if s, ok := t.digits(c); ok {
			v, err := parseWhole(s, 64, false)
			if err != nil {
				t.refuse(at, "%q is %w: a time is the nanoseconds since 1970", clip(s), err)
				return
			}
			if v != 0 {
				t.out = binary.LittleEndian.AppendUint64(appendTag(t.out, f.num, wire.I64), v)
			}
		}
	}
}

// text reads a string.
func (t *otlpJSON) text(c byte, want string) (s []byte, ok bool) {
	if c != '"' {
		t.refuse(t.i, "want %s, found %s", want, t.describe(c))
		return nil, false
	}
	s = t.str()
	return s, t.err == nil
}

// digits reads a number, or a string, which may hold one.
func (t *otlpJSON) digits(c byte) (s []byte, ok bool) {
	switch {
	case c == '"':
		s = t.str()
	case c == '-' || c >= '0' && c <= '9':
		s = t.number()
	default:
		t.refuse(t.i, "want a number, found %s", t.describe(c))
	}
	return s, t.err == nil
}

func (t *otlpJSON) varint(f *otlpField, v uint64, wanted bool) {
	if wanted || v != 0 {
		t.out = binary.AppendUvarint(appendTag(t.out, f.num, wire.Varint), v)
	}
}

// id reads an ID in hexadecimal or base64; for 8 and for 16 bytes their lengths differ. The empty string is
// no ID.
func (t *otlpJSON) id(f *otlpField, c byte) {
	at := t.i
	s, ok := t.text(c, "a string")
	if !ok || len(s) == 0 {
		return
	}
	var id [16]byte
	switch n := len(s); {
	case n == 2*f.size:
		_, err := hex.Decode(id[:], s)
		ok = err == nil
	case n == base64.StdEncoding.EncodedLen(f.size) || n == base64.RawStdEncoding.EncodedLen(f.size):
		b, err := decodeBase64(s)
		ok = err == nil && copy(id[:], b) == f.size
	default:
		ok = false
	}
	if !ok {
		t.refuse(at, "%q is not an ID of %d bytes: want %d hexadecimal digits, or %d characters of base64",
			clip(s), f.size, 2*f.size, base64.StdEncoding.EncodedLen(f.size))
		return
	}
	t.out = appendBytes(t.out, f.num, id[:f.size])
}

func (t *otlpJSON) enum(f *otlpField, c byte) {
	at := t.i
	s, ok := t.digits(c)
	if !ok {
		return
	}
	if v, ok := f.enum[string(s)]; ok {
		t.varint(f, uint64(v), false)
		return
	}
	v, err := parseWhole(s, 32, true)
	if err != nil {
		t.refuse(at, "%q is not a %s of OTLP", clip(s), f.name)
		return
	}
	t.varint(f, v, false)
}

func (t *otlpJSON) double(f *otlpField, c byte) {
	at := t.i
	s, ok := t.digits(c)
	if !ok {
		return
	}
	v, err := parseDouble(string(s))
	if err != nil {
		t.refuse(at, "%q is not a number that a double can hold", clip(s))
		return
	}
	t.out = binary.LittleEndian.AppendUint64(appendTag(t.out, f.num, wire.I64), math.Float64bits(v))
}

// parseDouble reads a number as defined by ProtoJSON. Unlike strconv, it refuses hexadecimal numbers,
// underscores and "inf".
func parseDouble(s string) (float64, error) {
	switch s {
	case "NaN":
		return math.NaN(), nil
	case "Infinity":
		return math.Inf(1), nil
	case "-Infinity":
		return math.Inf(-1), nil
	}
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

// describe returns the kind of the value that begins with c, for error messages.
func (t *otlpJSON) describe(c byte) string {
	switch {
	case t.err != nil:
		return "the end"
	case c == '{':
		return "an object"
	case c == '[':
		return "a list"
	case c == '"':
		return "a string"
	case c == 't', c == 'f':
		return "a boolean"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	case c == 'n':
		return "null"
	}
	return describeByte(t.b[t.i:])
}

// clip returns at most the first 60 bytes of a string.
func clip(s []byte) string {
	const most = 60
	if len(s) > most {
		return string(s[:most]) + "…"
	}
	return string(s)
}

var (
	errNotWhole = errors.New("not a whole number")
	errRange    = errors.New("a number out of range")
)

// parseWhole reads a whole number of the given number of bits, exactly. It accepts 5.0 and 1e3 as well.
func parseWhole(s []byte, bits int, signed bool) (uint64, error) {
	text := string(s)
	if v, err := strconv.ParseUint(text, 10, 63); err == nil && (bits == 64 || v < 1<<(bits-1)) {
		return v, nil
	}
	negative := strings.HasPrefix(text, "-")
	mantissa, exponent := strings.TrimPrefix(text, "-"), 0
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(mantissa[i+1:]); errors.Is(err, strconv.ErrSyntax) {
			return 0, errNotWhole
		} else if err != nil {
			exponent = math.MaxInt32
			if mantissa[i+1] == '-' {
				exponent = -exponent
			}
		}
		mantissa = mantissa[:i]
	}
	whole, fraction, point := strings.Cut(mantissa, ".")
	digits := whole + fraction
	if whole == "" || point && fraction == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, errNotWhole
	}
	exponent = max(min(exponent, 1<<30), -1<<30) - len(fraction)
	digits = strings.TrimLeft(digits, "0")
	for strings.HasSuffix(digits, "0") {
		digits = digits[:len(digits)-1]
		exponent++
	}
	switch {
	case digits == "":
		return 0, nil
	case exponent < 0:
		return 0, errNotWhole
	case len(digits)+exponent > 20:
		return 0, errRange
	}
	v, err := strconv.ParseUint(digits+strings.Repeat("0", exponent), 10, 64)
	limit := uint64(math.MaxUint64) >> (64 - bits)
	if signed {
		limit >>= 1
		if negative {
			limit++
		}
	} else if negative {
		limit = 0
	}
	if err != nil || v > limit {
		return 0, errRange
	}
	if negative {
		v = -v
	}
	return v, nil
}

// decodeBase64 reads base64 in either alphabet, with or without padding.
func decodeBase64(s []byte) ([]byte, error) {
	text := strings.TrimRight(string(s), "=")
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	if pad := len(s) - len(text); pad > 2 || pad > 0 && len(s)%4 != 0 || strings.ContainsAny(text, "\r\n") {
		return nil, base64.CorruptInputError(len(text))
	}
	return base64.RawStdEncoding.DecodeString(text)
}

func appendTag(b []byte, num int, typ byte) []byte {
	return binary.AppendUvarint(b, uint64(num)<<3|uint64(typ))
}

func appendBytes(b []byte, num int, content []byte) []byte {
	b = binary.AppendUvarint(appendTag(b, num, wire.Len), uint64(len(content)))
	return append(b, content...)
}

// setLength writes the length of the bytes after from in front of them. One byte has been reserved for it, at
// from.
func setLength(b []byte, from int) []byte {
	n := len(b) - from - 1
	if n < 0x80 {
		b[from] = byte(n)
		return b
	}
	var length [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(length[:], uint64(n))
	b = append(b, length[1:size]...) // room
	copy(b[from+size:], b[from+1:len(b)-size+1])
	copy(b[from:], length[:size])
	return b
}
