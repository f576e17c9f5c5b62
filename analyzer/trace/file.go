package trace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// maxMessageBytes bounds one OTLP message in a file.
const maxMessageBytes = 1 << 30

// ReadOTLP reads OTLP traces from r and gives each message to add, in order. It
// knows the formats by their first bytes:
//
//   - JSON and JSON lines: TracesData objects of the OTLP/JSON encoding, one or
//     many, separated by white space or nothing.
//   - protobuf: one TracesData message, or messages that each follow their length
//     in four bytes, big-endian, as the OpenTelemetry Collector's file exporter
//     writes them.
//   - either of them compressed with gzip, once.
//
// An error says where in the (uncompressed) input it is. Messages before it were
// given to add. Input without any message is an error.
func ReadOTLP(r io.Reader, add func(ptrace.Traces) error) error {
	br := bufio.NewReaderSize(r, 1<<16)
	if head, _ := br.Peek(2); !isGzip(head) {
		return readPlain(br, add) // which peeks again, and reports the error
	}
	zr, err := gzip.NewReader(br)
	if err != nil {
		return fmt.Errorf("read gzip: %w", unexpected(err))
	}
	defer zr.Close() // only releases the reader: the checksum is verified at its end
	plain := bufio.NewReaderSize(zr, 1<<16)
	if head, _ := plain.Peek(2); isGzip(head) {
		return errors.New("no OTLP traces: the input is compressed with gzip more than once; unpack it once and try again")
	}
	return readPlain(plain, add)
}

func isGzip(head []byte) bool { return len(head) == 2 && head[0] == 0x1f && head[1] == 0x8b }

func readPlain(br *bufio.Reader, add func(ptrace.Traces) error) error {
	head, err := br.Peek(2)
	if len(head) == 0 {
		if errors.Is(err, io.EOF) {
			return errors.New("no OTLP traces: the input is empty")
		}
		return fmt.Errorf("read OTLP traces: %w", unexpected(err))
	}
	switch head[0] {
	case '{', ' ', '\t', '\r':
		return readJSON(br, add)
	case 0x0a: // a newline before JSON, or the tag of protobuf's field 1 (resource_spans)
		if start, _ := br.Peek(64); startsJSON(start) {
			return readJSON(br, add)
		}
		return readProto(br, add)
	case 0, 1, 2, 3, 4, 5, 6, 7: // a length under 128 MiB; no byte that protobuf can start with
		return readLengthPrefixed(br, add)
	}
	return fmt.Errorf("no OTLP traces: the input starts with % x; want OTLP JSON, JSON lines or protobuf, plain or gzip", head)
}

func startsJSON(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) > 0 && b[0] == '{'
}

func readJSON(r io.Reader, add func(ptrace.Traces) error) error {
	var unmarshaler ptrace.JSONUnmarshaler
	dec := json.NewDecoder(r)
	for n := 1; ; n++ {
		at := dec.InputOffset()
		var doc json.RawMessage
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) && n > 1 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("OTLP JSON: object %d, after byte %d: %w", n, at, unexpected(err))
		}
		if err := hasResourceSpans(doc); err != nil {
			return fmt.Errorf("OTLP JSON: object %d, after byte %d: %w", n, at, err)
		}
		td, err := unmarshaler.UnmarshalTraces(doc)
		if err != nil {
			return fmt.Errorf("OTLP JSON: object %d, after byte %d: %w", n, at, err)
		}
		if err := add(td); err != nil {
			return fmt.Errorf("OTLP JSON: object %d, after byte %d: %w", n, at, err)
		}
	}
}

// hasResourceSpans refuses JSON that is not OTLP, which the unmarshaler would
// take for a message without spans.
func hasResourceSpans(doc json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(doc, &fields); err != nil {
		return fmt.Errorf("not an object: %w", err)
	}
	for _, key := range []string{"resourceSpans", "resource_spans"} {
		if _, ok := fields[key]; ok {
			return nil
		}
	}
	if len(fields) == 0 {
		return nil // a message without spans
	}
	return errors.New(`no key "resourceSpans": want the OTLP JSON encoding of TracesData`)
}

func readProto(r io.Reader, add func(ptrace.Traces) error) error {
	b, err := io.ReadAll(io.LimitReader(r, maxMessageBytes+1))
	if err != nil {
		return fmt.Errorf("OTLP protobuf: after byte %d: %w", len(b), unexpected(err))
	}
	if len(b) > maxMessageBytes {
		return fmt.Errorf("OTLP protobuf: the message is over %d bytes: split it, or write messages with their lengths before them", maxMessageBytes)
	}
	return addProto(b, 0, 1, add)
}

func readLengthPrefixed(r io.Reader, add func(ptrace.Traces) error) error {
	at := int64(0)
	for n := 1; ; n++ {
		var length [4]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("OTLP protobuf: the length of message %d, at byte %d: %w", n, at, err)
		}
		size := binary.BigEndian.Uint32(length[:])
		if size > maxMessageBytes {
			return fmt.Errorf("OTLP protobuf: message %d, at byte %d: a length of %d bytes is over the limit of %d", n, at, size, maxMessageBytes)
		}
		b, err := io.ReadAll(io.LimitReader(r, int64(size)))
		if err == nil && len(b) < int(size) {
			err = fmt.Errorf("the input ends after %d of its %d bytes", len(b), size)
		}
		if err != nil {
			return fmt.Errorf("OTLP protobuf: message %d, at byte %d: %w", n, at, err)
		}
		if err := addProto(b, at, n, add); err != nil {
			return err
		}
		at += 4 + int64(size)
	}
}

func addProto(b []byte, at int64, n int, add func(ptrace.Traces) error) error {
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
	if err == nil {
		err = add(td)
	}
	if err != nil {
		return fmt.Errorf("OTLP protobuf: message %d, at byte %d: %w", n, at, err)
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the input ends in the middle of a message")
	}
	return err
}
