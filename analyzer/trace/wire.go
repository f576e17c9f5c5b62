package trace

import (
	"encoding/binary"
	"fmt"
)

// The wire types of protobuf, by number.
const (
	wireVarint = iota
	wireI64
	wireLen
	wireStartGroup
	wireEndGroup
	wireI32
)

// fields goes through the fields of one protobuf message, in place.
//
// It takes what pdata's unmarshaler takes, whose oddities it shares: varints over 64
// bits lose what is over, field numbers over 32 bits too, and texts may be any bytes.
// Groups are another matter, see skipGroup.
type fields struct {
	b []byte // up to the end of the message; what is around it comes before i
	i int    // where the next field begins

	// The field that next has read. Its content is b[from:i] if it is length-delimited,
	// else it is value.
	num   int32
	tag   uint64 // num<<3 and the wire type
	from  int
	value uint64

	err error
}

// message returns the fields of a message of its own.
func message(b []byte) fields { return fields{b: b} }

// sub returns the fields of the message that the field read last holds.
func (f *fields) sub() fields { return fields{b: f.b[:f.i], i: f.from} }

// content returns the content of the field read last.
func (f *fields) content() []byte { return f.b[f.from:f.i:f.i] }

// next reads a field. It returns false at the end, and where err is set.
func (f *fields) next() bool {
	b, i := f.b, f.i
	if i >= len(b) {
		return false
	}
	// Most tags and lengths have one byte.
	tag := uint64(b[i])
	if i++; tag >= 0x80 {
		if tag, i = f.varint(i - 1); i < 0 {
			return false
		}
	}
	num := int32(tag >> 3)
	if num <= 0 {
		f.fail("there is no field %d", num)
		return false
	}
	f.num, f.tag = num, uint64(num)<<3|tag&7
	switch tag & 7 {
	case wireVarint:
		if f.value, i = f.varint(i); i < 0 {
			return false
		}
	case wireI64:
		if len(b)-i < 8 {
			f.fail("it ends in field %d", num)
			return false
		}
		f.value = binary.LittleEndian.Uint64(b[i:])
		i += 8
	case wireLen:
		var n uint64
		if i < len(b) && b[i] < 0x80 {
			n = uint64(b[i])
			i++
		} else if n, i = f.varint(i); i < 0 {
			return false
		}
		if n > uint64(len(b)-i) {
			f.fail("field %d has a length of %d bytes of the %d that are left", num, n, len(b)-i)
			return false
		}
		f.from = i
		i += int(n)
	case wireI32:
		if len(b)-i < 4 {
			f.fail("it ends in field %d", num)
			return false
		}
		i += 4
	case wireStartGroup:
		return f.skipGroup(i)
	case wireEndGroup:
		f.fail("a group ends in field %d that did not begin", num)
		return false
	default:
		f.fail("field %d has wire type %d, which there is not", num, tag&7)
		return false
	}
	f.i = i
	return true
}

// skipAll goes over the length-delimited fields of a tag that come next, and returns
// true. Large ones it leaves. With this for attributes, which are most of a message, and
// a short hash of their keys, bench-read's protobuf_fill_spans_per_second grew by half.
func (f *fields) skipAll(tag byte) bool {
	for {
		_, to, ok := onlyLen(f.b, f.i, tag)
		if !ok {
			return true
		}
		f.i = to
	}
}

// onlyLen returns where the content of a length-delimited field is, which begins at i,
// if the field is the one of the tag and has less than 16 KiB.
func onlyLen(b []byte, i int, tag byte) (from, to int, ok bool) {
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
func (f *fields) skipGroup(i int) bool {
	group := f.tag
	for depth := 1; depth > 0; {
		inner := fields{b: f.b, i: i}
		tag, after := inner.varint(i)
		switch numbered := int32(tag>>3) > 0; {
		case after < 0:
		case numbered && tag&7 == wireStartGroup:
			depth, i = depth+1, after
		case numbered && tag&7 == wireEndGroup:
			depth, i = depth-1, after
		default:
			inner.next()
			i = inner.i
		}
		if inner.err != nil {
			f.err = inner.err
			return false
		}
	}
	f.i, f.tag, f.num = i, group, int32(group>>3)
	return true
}

// varint reads a number at i, and returns where it ends, -1 if err is set.
func (f *fields) varint(i int) (v uint64, end int) {
	for shift := uint(0); shift < 64; shift += 7 {
		if i >= len(f.b) {
			f.fail("it ends in a number")
			return 0, -1
		}
		c := f.b[i]
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
func (f *fields) fail(format string, args ...any) {
	f.stop(fmt.Errorf("at byte %d: "+format, append([]any{f.i}, args...)...))
}

// stop sets the error. There is no next field then.
func (f *fields) stop(err error) {
	f.err, f.i = err, len(f.b)
}

// wireField is a field that is read.
type wireField struct {
	name string
	typ  uint64
}

// skip skips the field read last. It sets the error if the field is one of those that
// are read, and so has another wire type than it ought to have.
func (f *fields) skip(of []wireField) {
	if int(f.num) >= len(of) || of[f.num].name == "" || of[f.num].typ == f.tag&7 {
		return
	}
	f.stop(fmt.Errorf("before byte %d: %s has wire type %d, OTLP wants %d", f.i, of[f.num].name, f.tag&7, of[f.num].typ))
}
