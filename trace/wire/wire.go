// Package wire reads OTLP protobuf in place. It holds the code that the reader of files and the filler of
// batches share: the fields of a message, the limit of nesting, and the checks for messages that both refuse.
package wire

import (
	"encoding/binary"
	"fmt"
)

// The wire types of protobuf.
const (
	Varint = iota
	I64
	Len
	StartGroup
	EndGroup
	I32
)

// Fields iterates over the fields of one protobuf message, in place.
//
// It accepts the same messages as pdata's unmarshaler and shares its leniency: varints are cut to 64 bits,
// field numbers to 32 bits, and strings may hold any bytes. Groups are handled differently, see skipGroup.
type Fields struct {
	Bytes []byte // up to the end of the message; bytes before Pos may belong to an outer message
	Pos   int    // offset of the next field

	// The field that Next has read. Its content is Bytes[From:Pos] if it is length-delimited, otherwise Value.
	Num   int32
	Tag   uint64 // Num<<3 and the wire type
	From  int
	Value uint64

	Err error // if set, Next returns false
}

// Message returns the fields of a top-level message.
func Message(b []byte) Fields { return Fields{Bytes: b} }

// Sub returns the fields of the message in the last field read.
func (f *Fields) Sub() Fields { return Fields{Bytes: f.Bytes[:f.Pos], Pos: f.From} }

// Content returns the content of the last field read.
func (f *Fields) Content() []byte { return f.Bytes[f.From:f.Pos:f.Pos] }

// Next reads a field. It returns false at the end of the message, or if Err is set.
func (f *Fields) Next() bool {
	b, i := f.Bytes, f.Pos
	if i >= len(b) {
		return false
	}
	// Most tags and lengths have one byte.
	tag := uint64(b[i])
	if i++; tag >= 0x80 {
		if tag, i = f.Varint(i - 1); i < 0 {
			return false
		}
	}
	num := int32(tag >> 3)
	if num <= 0 {
		f.fail("invalid field number %d", num)
		return false
	}
	f.Num, f.Tag = num, uint64(num)<<3|tag&7
	switch tag & 7 {
	case Varint:
		if f.Value, i = f.Varint(i); i < 0 {
			return false
		}
	case I64:
		if len(b)-i < 8 {
			f.fail("the message ends within field %d", num)
			return false
		}
		f.Value = binary.LittleEndian.Uint64(b[i:])
		i += 8
	case Len:
		var n uint64
		if i < len(b) && b[i] < 0x80 {
			n = uint64(b[i])
			i++
		} else if n, i = f.Varint(i); i < 0 {
			return false
		}
		if n > uint64(len(b)-i) {
			f.fail("field %d has a length of %d bytes, but %d bytes are left", num, n, len(b)-i)
			return false
		}
		f.From = i
		i += int(n)
	case I32:
		if len(b)-i < 4 {
			f.fail("the message ends within field %d", num)
			return false
		}
		i += 4
	case StartGroup:
		return f.skipGroup(i)
	case EndGroup:
		f.fail("field %d ends a group that did not begin", num)
		return false
	default:
		f.fail("field %d has the unknown wire type %d", num, tag&7)
		return false
	}
	f.Pos = i
	return true
}

// SkipAll skips the following length-delimited fields of a tag, except those of 16 KiB or more, and returns
// true. Skipping attributes with it, which are most of a message, together with a short hash of their keys
// raised bench-read's protobuf_fill_spans_per_second by half.
func (f *Fields) SkipAll(tag byte) bool {
	for {
		_, to, ok := OnlyLen(f.Bytes, f.Pos, tag)
		if !ok {
			return true
		}
		f.Pos = to
	}
}

// OnlyLen returns the bounds of the content of the length-delimited field that begins at i. ok is false if
// the field has another tag or 16 KiB or more.
func OnlyLen(b []byte, i int, tag byte) (from, to int, ok bool) {
	if len(b)-i < 2 || b[i] != tag {
		return 0, 0, false
	}
	n := int(b[i+1])
	i += 2
	if n >= 0x80 {
		if i == len(b) || b[i] >= 0x80 {
			return 0, 0, false
		}
		n = n&0x7f | int(b[i])<<7
		i++
	}
	return i, i + n, n <= len(b)-i
}

// skipGroup skips a group whose fields begin at i. OTLP defines no groups, so all fields in it are unknown
// and are skipped, as protobuf requires. pdata's unmarshaler differs: it treats a group as finished after its
// first field, and then usually fails.
func (f *Fields) skipGroup(i int) bool {
	group := f.Tag
	for depth := 1; depth > 0; {
		inner := Fields{Bytes: f.Bytes, Pos: i}
		tag, after := inner.Varint(i)
		switch numbered := int32(tag>>3) > 0; {
		case after < 0:
		case numbered && tag&7 == StartGroup:
			depth, i = depth+1, after
		case numbered && tag&7 == EndGroup:
			depth, i = depth-1, after
		default:
			inner.Next()
			i = inner.Pos
		}
		if inner.Err != nil {
			f.Err = inner.Err
			return false
		}
	}
	f.Pos, f.Tag, f.Num = i, group, int32(group>>3)
	return true
}

// Varint reads a number at i. end is the offset after it, or -1 if Err is set.
func (f *Fields) Varint(i int) (v uint64, end int) {
	for shift := uint(0); shift < 64; shift += 7 {
		if i >= len(f.Bytes) {
			f.fail("the message ends within a number")
			return 0, -1
		}
		c := f.Bytes[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, i
		}
	}
	f.fail("a number has more than 10 bytes")
	return 0, -1
}

// fail sets the error, prefixed with the offset of the current field.
func (f *Fields) fail(format string, args ...any) {
	f.Stop(fmt.Errorf("at byte %d: "+format, append([]any{f.Pos}, args...)...))
}

// Stop sets the error, after which Next returns false.
func (f *Fields) Stop(err error) {
	f.Err, f.Pos = err, len(f.Bytes)
}

// ID reads an ID into to. An empty ID is zero; any other length than to's is an error.
func (f *Fields) ID(to []byte) {
	switch c := f.Content(); len(c) {
	case 0:
		clear(to)
	case len(to):
		copy(to, c)
	default:
		f.Stop(fmt.Errorf("before byte %d: an ID has %d bytes, but OTLP requires %d", f.Pos, len(c), len(to)))
	}
}
