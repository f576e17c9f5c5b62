// Package wire reads OTLP protobuf in place. It holds what the reader of files and the
// filler of batches have in common: the fields of a message, the limit of nesting, and
// the messages that both refuse.
package wire

import (
	"encoding/binary"
	"fmt"
)

// The wire types of protobuf, by number.
const (
	Varint = iota
	I64
	Len
	StartGroup
	EndGroup
	I32
)

// Fields goes through the fields of one protobuf message, in place.
//
// It takes what pdata's unmarshaler takes, whose oddities it shares: varints over 64
// bits lose what is over, field numbers over 32 bits too, and texts may be any bytes.
// Groups are another matter, see skipGroup.
type Fields struct {
	Bytes []byte // up to the end of the message; bytes around it may come before Pos
	Pos   int    // where the next field begins

	// The field that Next has read. Its content is Bytes[From:Pos] if it is
	// length-delimited, else it is Value.
	Num   int32
	Tag   uint64 // Num<<3 and the wire type
	From  int
	Value uint64

	Err error // once it is set, there is no next field
}

// Message returns the fields of a message of its own.
func Message(b []byte) Fields { return Fields{Bytes: b} }

// Sub returns the fields of the message that the field read last holds.
func (f *Fields) Sub() Fields { return Fields{Bytes: f.Bytes[:f.Pos], Pos: f.From} }

// Content returns the content of the field read last.
func (f *Fields) Content() []byte { return f.Bytes[f.From:f.Pos:f.Pos] }

// Next reads a field. It returns false at the end, and if Err is set.
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
		f.fail("there is no field %d", num)
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
			f.fail("it ends in field %d", num)
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
			f.fail("field %d has a length of %d bytes of the %d that are left", num, n, len(b)-i)
			return false
		}
		f.From = i
		i += int(n)
	case I32:
		if len(b)-i < 4 {
			f.fail("it ends in field %d", num)
			return false
		}
		i += 4
	case StartGroup:
		return f.skipGroup(i)
	case EndGroup:
		f.fail("a group ends in field %d that did not begin", num)
		return false
	default:
		f.fail("field %d has wire type %d, which there is not", num, tag&7)
		return false
	}
	f.Pos = i
	return true
}

// SkipAll goes over the length-delimited fields of a tag that come next, and returns
// true. Large ones it leaves. With this for attributes, which are most of a message, and
// a short hash of their keys, bench-read's protobuf_fill_spans_per_second grew by half.
func (f *Fields) SkipAll(tag byte) bool {
	for {
		_, to, ok := OnlyLen(f.Bytes, f.Pos, tag)
		if !ok {
			return true
		}
		f.Pos = to
	}
}

// OnlyLen returns where the content of a length-delimited field is, which begins at i,
// if the field is the one of the tag and has less than 16 KiB.
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

// skipGroup goes to the end of a group whose fields begin at i. OTLP has none; what is
// in one is unknown and is skipped, as protobuf wants it. (pdata's unmarshaler goes on
// after the first field in it as if it were over, and mostly fails then.)
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

// Varint reads a number at i, and returns where it ends, -1 if err is set.
func (f *Fields) Varint(i int) (v uint64, end int) {
	for shift := uint(0); shift < 64; shift += 7 {
		if i >= len(f.Bytes) {
			f.fail("it ends in a number")
			return 0, -1
		}
		c := f.Bytes[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, i
		}
	}
	f.fail("a number has over 10 bytes")
	return 0, -1
}

// fail sets the error, which is about the field that begins at i.
func (f *Fields) fail(format string, args ...any) {
	f.Stop(fmt.Errorf("at byte %d: "+format, append([]any{f.Pos}, args...)...))
}

// Stop sets the error. There is no next field then.
func (f *Fields) Stop(err error) {
	f.Err, f.Pos = err, len(f.Bytes)
}

// ID reads an ID, which is nothing or has the right length.
func (f *Fields) ID(to []byte) {
	switch c := f.Content(); len(c) {
	case 0:
		clear(to)
	case len(to):
		copy(to, c)
	default:
		f.Stop(fmt.Errorf("before byte %d: an ID has %d bytes, OTLP wants %d", f.Pos, len(c), len(to)))
	}
}
