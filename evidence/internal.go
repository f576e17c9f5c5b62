package evidence

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/betracehq/betrace/trace"
)

// AttrInternalID is the attribute of the spans about BeTrace's own work, which are never judged: a random number of the trace,
// and one of the span, in hexadecimal with a dot between them. See [InternalSpanIDs].
const AttrInternalID = "betrace.internal.id"

// NewInternalTraceID returns the ID of a new trace about BeTrace's own work.
func NewInternalTraceID() trace.ID {
	var random [8]byte
	_, _ = rand.Read(random[:]) // it never fails
	id, _ := InternalSpanIDs(hex.EncodeToString(random[:]) + ".00000000")
	return id
}

// NewInternalSpanID returns the ID of a new span of a trace about BeTrace's own work.
func NewInternalSpanID(id trace.ID) trace.SpanID {
	var random [4]byte
	_, _ = rand.Read(random[:])
	_, span := InternalSpanIDs(hex.EncodeToString(id[:8]) + "." + hex.EncodeToString(random[:]))
	return span
}

// InternalID returns the value of [AttrInternalID] for a span.
func InternalID(id trace.ID, span trace.SpanID) string {
	return hex.EncodeToString(id[:8]) + "." + hex.EncodeToString(span[:4])
}

// InternalSpanIDs returns the IDs of the span with a value of [AttrInternalID]. Each ID begins with its random number, of 8
// bytes for the trace and of 4 bytes for the span, and ends with the beginning of the SHA-256 of "betrace.internal:" and the
// value, for the trace up to the dot. They are zero if the value has another form.
func InternalSpanIDs(value string) (id trace.ID, span trace.SpanID) {
	ofTrace, ofSpan, _ := strings.Cut(value, ".")
	first, err := hex.DecodeString(ofTrace)
	second, err2 := hex.DecodeString(ofSpan)
	if err != nil || err2 != nil || len(first) != 8 || len(second) != 4 {
		return trace.ID{}, trace.SpanID{}
	}
	sum := sha256.Sum256([]byte("betrace.internal:" + ofTrace))
	copy(id[:], append(first, sum[:8]...))
	sum = sha256.Sum256([]byte("betrace.internal:" + value))
	copy(span[:], append(second, sum[:4]...))
	return id, span
}
