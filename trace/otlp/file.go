package otlp

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/text/encoding/unicode"

	"github.com/betracehq/betrace/trace/wire"
)

const (
	// maxMessageBytes limits one OTLP message or JSON object in a file.
	maxMessageBytes = 1 << 30
	// maxWindowBytes limits the memory that a zstd stream may require of its reader. It is the default limit
	// of the zstd program.
	maxWindowBytes = 128 << 20
	// maxCompressions is the maximum number of nested compressions of a file.
	maxCompressions = 2
	// maxProblems is the maximum number of problems that are kept; the others are only counted.
	maxProblems = 20
)

// FileReport is the result of reading a file of traces.
type FileReport struct {
	// Objects is the number of JSON objects or protobuf messages with traces that were read.
	Objects int
	// OtherSignals is the number of objects with logs, metrics or profiles, which were skipped.
	OtherSignals int
	// Unread is the number of objects that could not be read, and of lines that are not objects. Problems are
	// the errors of the first 20 of them, each with its place.
	Unread   int
	Problems []error
	// Ended is the error that stopped reading early, or nil.
	Ended error
	// Ignored counts keys that OTLP does not define, such as "Span.tags". OTLP allows them.
	Ignored map[string]int
}

// Err returns an error unless everything was read.
func (r *FileReport) Err() error {
	list := slices.Clone(r.Problems)
	if more := r.Unread - len(r.Problems); more > 0 {
		list = append(list, fmt.Errorf("%d more could not be read", more))
	}
	if r.Ended != nil {
		list = append(list, r.Ended)
	}
	return errors.Join(list...)
}

// unread counts an object that could not be read.
func (r *FileReport) unread(err error) {
	if r.Unread++; len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, err)
	}
}

// maxIgnored is the maximum number of unknown keys that are counted individually.
const maxIgnored = 100

// ignore counts the unknown keys of an object that was read.
func (r *FileReport) ignore(keys map[string]int) {
	for key, n := range keys {
		if len(r.Ignored) < maxIgnored || r.Ignored[key] > 0 {
			if r.Ignored == nil {
				r.Ignored = map[string]int{}
			}
			r.Ignored[key] += n
		}
	}
}

// Read reads OTLP traces from r and passes each message to add, in order. It is [ReadFile] for callers that
// treat any problem as an error.
func Read(r io.Reader, add func(ptrace.Traces) error) error {
	report := ReadFile(r, add)
	return report.Err()
}

// ReadFile reads the OTLP traces of a file and passes each message to add, in order. It stops at the first
// error of add. The first bytes determine the format:
//
//   - JSON: one or more objects that hold OTLP, separated by white space, by commas in a list, or by nothing.
//     JSON lines are one form of it. [otlpJSON] describes which objects and spellings are read. A byte order
//     mark may be first, and the encoding may be UTF-16.
//   - protobuf: one TracesData message, or a response of Tempo's API.
//   - length-prefixed messages, each after its length in four bytes, big-endian, as the file exporter of the
//     OpenTelemetry Collector writes them. Each is protobuf or JSON, optionally compressed with zstd.
//   - any of these, compressed with gzip or zstd, up to twice.
//
// Objects with logs, metrics and profiles are skipped and counted. An object that cannot be read is reported
// with its place in the uncompressed input, and reading continues. After malformed JSON, reading continues at
// the next line that begins with an object or a list and is not indented deeper than the line on which the
// malformed object begins. An input without any object is an error.
func ReadFile(r io.Reader, add func(ptrace.Traces) error) FileReport {
	f := fileReader{add: add}
	f.report.Ended = f.read(r, 0)
	if f.report.Ended == nil && f.report.Objects+f.report.OtherSignals+f.report.Unread == 0 {
		f.report.Ended = errors.New("no OTLP traces: the input has no objects")
	}
	if f.zstd != nil {
		f.zstd.Close()
	}
	return f.report
}

// fileReader reads one file.
type fileReader struct {
	add    func(ptrace.Traces) error
	report FileReport
	json   otlpJSON
	zstd   *zstd.Decoder // for compressed messages
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	utf8Mark  = []byte{0xef, 0xbb, 0xbf}
)

// read reads the input, which has already been decompressed the given number of times.
func (f *fileReader) read(r io.Reader, unpacked int) error {
	br := bufio.NewReaderSize(r, 1<<16)
	peeked, err := br.Peek(512)
	head := slices.Clone(peeked)
	if len(head) == 0 {
		if errors.Is(err, io.EOF) {
			return errors.New("no OTLP traces: the input is empty")
		}
		return fmt.Errorf("read OTLP traces: %w", unexpected(err))
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic), bytes.HasPrefix(head, zstdMagic):
		if unpacked == maxCompressions {
			return fmt.Errorf("no OTLP traces: the input is compressed more than %d times: decompress it once and try again", maxCompressions)
		}
		return f.unpack(br, head, unpacked+1)
	case isUTF16(head):
		// A byte order mark determines the byte order; without one, the zero byte of the first character does.
		order := unicode.LittleEndian
		if head[0] == 0 {
			order = unicode.BigEndian
		}
		return f.readJSON(unicode.UTF16(order, unicode.UseBOM).NewDecoder().Reader(br))
	case head[0] < 8: // a length under 128 MiB; protobuf and JSON cannot start with this byte
		return f.readLengthPrefixed(br)
	case head[0] == 1<<3+wire.Len && !startsJSON(head): // tag of field 1 (resource_spans), which equals a newline
		return f.readProto(br)
	case startsJSON(head):
		return f.readJSON(br)
	case isText(head): // the first line may be the rest of a cut line
		if err := f.readJSON(br); err != nil || f.report.Unread == 0 || f.report.Objects+f.report.OtherSignals > 0 {
			return err
		}
		f.report = FileReport{}
	}
	return fmt.Errorf("no OTLP traces: the input starts with % x; want OTLP JSON, JSON lines or protobuf, plain or compressed with gzip or zstd", head[:min(2, len(head))])
}

func (f *fileReader) unpack(r io.Reader, head []byte, unpacked int) error {
	if bytes.HasPrefix(head, gzipMagic) {
		zr, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("read gzip: %w", unexpected(err))
		}
		defer zr.Close() // only releases the reader: the checksum is verified at its end
		return f.read(zr, unpacked)
	}
	zr, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindowBytes))
	if err != nil {
		return fmt.Errorf("read zstd: %w", err)
	}
	defer zr.Close()
	return f.read(zstdErrors{zr}, unpacked)
}

// zstdErrors is a zstd stream whose errors state a remedy.
type zstdErrors struct{ *zstd.Decoder }

func (z zstdErrors) Read(p []byte) (int, error) {
	n, err := z.Decoder.Read(p)
	return n, zstdError(err)
}

func zstdError(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return fmt.Errorf("the zstd stream requires a window of more than %d MiB: decompress it with zstd -d --long=31, and read the result", maxWindowBytes>>20)
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("the zstd message has more than %d bytes when decompressed", maxMessageBytes)
	}
	return fmt.Errorf("the zstd data is damaged: %w", err)
}

// isUTF16 reports whether b begins with JSON in UTF-16.
func isUTF16(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	switch {
	case b[0] == 0xff && b[1] == 0xfe, b[0] == 0xfe && b[1] == 0xff:
		return true
	case b[0] == '{' || b[0] == '[':
		return b[1] == 0
	}
	// Big-endian without a byte order mark. A length prefix may begin with the same bytes, but the message
	// after it does not begin with a zero.
	return len(b) > 4 && b[0] == 0 && (b[1] == '{' || b[1] == '[') && b[2] == 0 && b[4] == 0
}

// startsJSON reports whether b begins with a JSON object or list. Protobuf may look like one: if its first
// message has 123 bytes, the tag is a newline and the length is '{'. But the tags of its fields are control
// characters.
func startsJSON(b []byte) bool {
	plain := bytes.TrimLeft(bytes.TrimPrefix(b, utf8Mark), " \t\r\n")
	if len(plain) == 0 || plain[0] != '{' && plain[0] != '[' {
		return false
	}
	return b[0] != '\n' || isText(plain[:min(len(plain), 128)])
}

// isText reports whether b has no control characters except white space.
func isText(b []byte) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' })
}

// readProto reads the whole input as one message.
func (f *fileReader) readProto(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, maxMessageBytes+1))
	if err != nil {
		return fmt.Errorf("OTLP protobuf: after byte %d: %w", len(b), unexpected(err))
	}
	if len(b) > maxMessageBytes {
		return fmt.Errorf("OTLP protobuf: the message has more than %d bytes: split it, or write length-prefixed messages", maxMessageBytes)
	}
	return f.addProto(b, "message 1, at byte 0")
}

func (f *fileReader) readLengthPrefixed(r io.Reader) error {
	at := int64(0)
	for n := 1; ; n++ {
		var length [4]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("the length of message %d, at byte %d: %w", n, at, unexpected(err))
		}
		size := binary.BigEndian.Uint32(length[:])
		place := fmt.Sprintf("message %d, at byte %d", n, at)
		if size > maxMessageBytes {
			return fmt.Errorf("%s: a length of %d bytes exceeds the limit of %d", place, size, maxMessageBytes)
		}
		b, err := io.ReadAll(io.LimitReader(r, int64(size)))
		if err == nil && len(b) < int(size) {
			err = fmt.Errorf("the input ends after %d of its %d bytes", len(b), size)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		if err := f.addMessage(b, place); err != nil {
			return err
		}
		at += 4 + int64(size)
	}
}

// addMessage reads a message in any format. It returns an error only if reading must stop.
func (f *fileReader) addMessage(b []byte, place string) error {
	if bytes.HasPrefix(b, zstdMagic) {
		if f.zstd == nil {
			var err error
			if f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMessageBytes), zstd.WithDecoderMaxWindow(maxWindowBytes)); err != nil {
				return fmt.Errorf("read zstd: %w", err)
			}
		}
		var err error
		if b, err = f.zstd.DecodeAll(b, nil); err != nil {
			f.report.unread(fmt.Errorf("%s: %w", place, unexpected(zstdError(err))))
			return nil
		}
	}
	if len(b) > 0 && startsJSON(b) {
		j := jsonFile{f: f, window: window{buf: b, to: len(b), eof: true}, place: place}
		return j.read()
	}
	return f.addProto(b, place)
}

// addProto reads a protobuf message. It returns an error only if reading must stop.
func (f *fileReader) addProto(b []byte, place string) error {
	td, kind, err := readProtoMessage(b)
	switch {
	case err != nil:
		f.report.unread(fmt.Errorf("OTLP protobuf: %s: %w", place, err))
		return nil
	case kind == otherSignal:
		f.report.OtherSignals++
		return nil
	}
	if err := f.add(td); err != nil {
		return fmt.Errorf("OTLP protobuf: %s: %w", place, err)
	}
	f.report.Objects++
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the input ends in the middle of a message")
	}
	return err
}
