package trace

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// ID is a trace ID: 16 bytes, printed as 32 lower-case hexadecimal digits.
type ID [16]byte

// SpanID is a span ID: 8 bytes, printed as 16 lower-case hexadecimal digits.
// The zero SpanID means "no span", as in OTLP.
type SpanID [8]byte

// ParseID reads a trace ID of 1 to 32 hexadecimal digits of either case. Missing digits on the left are
// zeros, because Tempo's search returns IDs without their leading zeros.
func ParseID(s string) (ID, error) {
	var id ID
	if s == "" || len(s) > 2*len(id) {
		return ID{}, fmt.Errorf("trace ID %q: want 1 to 32 hexadecimal digits, have %d characters", s, len(s))
	}
	padded := strings.Repeat("0", 2*len(id)-len(s)) + s
	if _, err := hex.Decode(id[:], []byte(padded)); err != nil {
		return ID{}, fmt.Errorf("trace ID %q: want hexadecimal digits: %w", s, err)
	}
	return id, nil
}

// ParseSpanID reads a span ID of exactly 16 hexadecimal digits of either case.
func ParseSpanID(s string) (SpanID, error) {
	var id SpanID
	if len(s) != 2*len(id) {
		return SpanID{}, fmt.Errorf("span ID %q: want 16 hexadecimal digits, have %d characters", s, len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return SpanID{}, fmt.Errorf("span ID %q: want hexadecimal digits: %w", s, err)
	}
	return id, nil
}

// String returns the ID as 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether every byte is zero, which OTLP declares invalid.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders IDs by their bytes and returns -1, 0 or 1.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// String returns the ID as 16 lower-case hexadecimal digits.
func (id SpanID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the ID is zero, which means "no span".
func (id SpanID) IsZero() bool { return id == SpanID{} }

// Compare orders IDs by their bytes and returns -1, 0 or 1.
func (id SpanID) Compare(other SpanID) int { return bytes.Compare(id[:], other[:]) }
