package evidence

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/betracehq/betrace/trace"
)

// CappedKind is the kind of a list of traces with capped violations: those that are not kept in full, because a tick found
// more violations of a rule than its limit.
type CappedKind string

// The kinds of lists.
const (
	// CappedFound are traces on which the tick found a capped violation first.
	CappedFound CappedKind = "violation"
	// CappedWithdrawn and CappedReinstated are traces on which a capped violation of an earlier entry was corrected.
	CappedWithdrawn  = CappedKind(Withdrawn)
	CappedReinstated = CappedKind(Reinstated)
)

// CappedList is a list of traces with capped violations of one rule. A trace and a rule have at most one violation, so the
// list identifies each of them.
type CappedList struct {
	Kind     CappedKind `json:"kind"`
	Pack     string     `json:"pack"`
	Rule     string     `json:"rule"`
	Digest   string     `json:"digest"`
	Severity string     `json:"severity"`
	Count    int        `json:"count"`
	// Traces refers to the trace IDs, in the form of [EncodeTraceIDs].
	Traces BlobRef `json:"traces"`
}

// CappedRef counts the capped violations of an entry: those that it found first, and those that it corrected.
type CappedRef struct {
	Violations int `json:"violations"`
	Withdrawn  int `json:"withdrawn"`
	Reinstated int `json:"reinstated"`
}

// NewCappedRef counts the violations in lists. It returns nil if there are none.
func NewCappedRef(lists []CappedList) *CappedRef {
	if len(lists) == 0 {
		return nil
	}
	var ref CappedRef
	for _, l := range lists {
		switch l.Kind {
		case CappedFound:
			ref.Violations += l.Count
		case CappedWithdrawn:
			ref.Withdrawn += l.Count
		case CappedReinstated:
			ref.Reinstated += l.Count
		}
	}
	return &ref
}

// EncodeTraceIDs returns trace IDs in hexadecimal, each followed by a newline.
func EncodeTraceIDs(ids []trace.ID) []byte {
	text := make([]byte, 0, len(ids)*(2*len(trace.ID{})+1))
	for i := range ids {
		text = append(hex.AppendEncode(text, ids[i][:]), '\n')
	}
	return text
}

// ParseTraceIDs parses a list that [EncodeTraceIDs] returned. The IDs must be in ascending order.
func ParseTraceIDs(text []byte) ([]trace.ID, error) {
	ids := make([]trace.ID, 0, bytes.Count(text, []byte("\n")))
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		if !ended {
			return nil, errors.New("trace IDs: the last line does not end")
		}
		var id trace.ID
		if n, err := hex.Decode(id[:], line[:min(len(line), 2*len(id))]); err != nil || n != len(id) || len(line) != 2*n {
			return nil, fmt.Errorf("trace IDs: %q is no trace ID", line)
		}
		if n := len(ids); n > 0 && bytes.Compare(ids[n-1][:], id[:]) >= 0 {
			return nil, fmt.Errorf("trace IDs: %s does not follow %s in order", id, ids[n-1])
		}
		ids = append(ids, id)
		text = rest
	}
	return ids, nil
}
