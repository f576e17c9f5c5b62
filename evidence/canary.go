package evidence

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
)

// Attributes of canaries and seeded violations, with their IDs.
const (
	AttrCanaryID = "betrace.canary.id"
	AttrSeededID = "betrace.seeded_violation.id"
)

// SeededSpanName is the name of the span of a seeded violation. Its rule is violated by spans of this name.
const SeededSpanName = "betrace.seeded_violation"

// CanarySpanIDs returns the IDs of a canary's span: the first 16 and the next 8 bytes of the SHA-256 of
// "betrace.canary:" and the canary's ID.
func CanarySpanIDs(canaryID string) (trace.ID, trace.SpanID) {
	return spanIDs("betrace.canary:" + canaryID)
}

// SeededSpanIDs returns the IDs of a seeded violation's span, which derive from "betrace.seeded_violation:" and its ID.
func SeededSpanIDs(seededID string) (trace.ID, trace.SpanID) {
	return spanIDs("betrace.seeded_violation:" + seededID)
}

// CanarySpan returns a trace that a sweep writes to find it again. It is harmless, and no rule judges it.
func CanarySpan(id, engine string, at time.Time) ptrace.Traces {
	traceID, spanID := CanarySpanIDs(id)
	return probeSpan("betrace.canary", AttrCanaryID, id, engine, at, traceID, spanID)
}

// SeededSpan returns a trace that a sweep writes to find its violation. One rule judges it, which is part of BeTrace.
func SeededSpan(id, engine string, at time.Time) ptrace.Traces {
	traceID, spanID := SeededSpanIDs(id)
	return probeSpan(SeededSpanName, AttrSeededID, id, engine, at, traceID, spanID)
}

func probeSpan(name, key, id, engine string, at time.Time, traceID trace.ID, spanID trace.SpanID) ptrace.Traces {
	td := ptrace.NewTraces()
	s := newSpan(td, engine)
	s.SetTraceID(pcommon.TraceID(traceID))
	s.SetSpanID(pcommon.SpanID(spanID))
	s.SetName(name)
	s.SetKind(ptrace.SpanKindInternal)
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(at))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(at))
	s.Attributes().PutStr(key, id)
	return td
}
