// Package wiretest writes and reads protobuf fields in a simple manner, as a reference for tests of package
// wire and its users.
package wiretest

// Schema lists the fields of a message that are read, by number, each with the schema of its message, or nil
// if it is not a message.
type Schema map[int32]Schema

// Prune returns the message without the fields that are not in the schema. ok is false if the bytes are not a
// sequence of fields. It is the simple counterpart of the reader in package wire.
func Prune(b []byte, s Schema) (pruned []byte, ok bool) {
	for len(b) > 0 {
		tag, n := Uvarint(b)
		num, typ := int32(tag>>3), tag&7
		if n == 0 || num <= 0 || typ == 4 {
			return nil, false
		}
		size := FieldSize(b)
		if size == 0 {
			return nil, false
		}
		field := b[:size]
		b = b[size:]
		inner, read := s[num]
		if num == 1000 && typ == 2 { // the older field of spans, which pdata drops if the newer one is present
			num, inner = 2, s[2]
		}
		switch {
		case !read:
		case typ == 3: // pdata does not skip it
			return nil, false
		case typ == 2 && inner != nil:
			_, m := Uvarint(field[n:])
			content, ok := Prune(field[n+m:], inner)
			if !ok {
				return nil, false
			}
			pruned = AppendLen(pruned, num, content)
		default:
			pruned = append(pruned, field...)
		}
	}
	return pruned, true
}

// FieldSize returns the size of the field at the beginning of b, or 0 if there is none.
func FieldSize(b []byte) int {
	tag, n := Uvarint(b)
	if n == 0 || int32(tag>>3) <= 0 {
		return 0
	}
	size := 0
	switch rest := b[n:]; tag & 7 {
	case 0:
		_, m := Uvarint(rest)
		if m == 0 {
			return 0
		}
		size = n + m
	case 1:
		size = n + 8
	case 2:
		length, m := Uvarint(rest)
		if m == 0 || length > uint64(len(rest)-m) {
			return 0
		}
		size = n + m + int(length)
	case 3:
		for depth := 1; depth > 0; {
			inner, m := Uvarint(b[n:])
			switch {
			case m > 0 && int32(inner>>3) > 0 && inner&7 == 3:
				depth++
			case m > 0 && int32(inner>>3) > 0 && inner&7 == 4:
				depth--
			default:
				m = FieldSize(b[n:])
			}
			if m == 0 {
				return 0
			}
			n += m
		}
		size = n
	case 5:
		size = n + 4
	}
	if size > len(b) {
		return 0
	}
	return size
}

// Uvarint reads a number of up to 10 bytes, like pdata. size is 0 if b does not begin with one.
func Uvarint(b []byte) (v uint64, size int) {
	for i, c := range b[:min(10, len(b))] {
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

func appendUvarint(b []byte, v uint64) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// AppendLen appends a length-delimited field.
func AppendLen(b []byte, num int32, content []byte) []byte {
	b = appendUvarint(appendUvarint(b, uint64(num)<<3|2), uint64(len(content)))
	return append(b, content...)
}

// LenField returns a length-delimited field.
func LenField(num int, content string) string {
	return string(AppendLen(nil, int32(num), []byte(content)))
}
