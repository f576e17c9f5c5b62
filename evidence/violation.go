package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Violation is a rule that a trace violates: the finding, which is the same in every run, and the circumstances
// of the run.
type Violation struct {
	// ID is [ViolationID]'s: 32 hexadecimal digits.
	ID     string
	Tenant string
	// Pack, PackVersion, RuleID and RuleDigest identify the rule. Title and Severity are from its definition.
	Pack, PackVersion, RuleID, RuleDigest string
	Title, Severity                       string
	// Controls are the controls that the rule is evidence for, as "soc2:CC6.1".
	Controls []string
	// Clause is the violated clause, for example "always[0]". Message describes the violation for people.
	Clause, Message string
	// TraceID and TraceStart identify the trace. RootService is the service of its root.
	TraceID     trace.ID
	TraceStart  trace.Time
	RootService string
	Services    []string
	// Root is the root of the trace, or its first span. About are the spans to which the violation refers.
	Root  SpanRef
	About []SpanRef
	Circumstances
}

// Circumstances describe the run that found a violation. They are not part of the line of a record, so that two
// runs that find the same violation file the same line. Loki has them as labels and structured metadata, and the
// span as attributes.
type Circumstances struct {
	Origin Origin
	// Sweep and Job name the sweep, or the backfill or scan of the service, if there is one.
	Sweep, Job string
	// WindowStart and WindowEnd are the range that was judged.
	WindowStart, WindowEnd time.Time
	// Provisional is set if more of the trace may still arrive.
	Provisional bool
	// Muted is set if the rule was muted when the violation was found. Alerts leave it out.
	Muted bool
	// Engine is the version of BeTrace.
	Engine string
	// Entry is the [EntryName] of the entry about the violation or correction, if there is one.
	Entry string
	// FiledAt is the time under which the violation is filed. If it is zero, the first
	// [Sink.Write] sets it, so that a later one sends the same again.
	FiledAt time.Time
}

// Origin is the kind of run that found a violation. It is a label in Loki, so it has few values.
type Origin string

// The origins.
const (
	OriginSweep    Origin = "sweep"
	OriginScan     Origin = "scan"
	OriginBackfill Origin = "backfill"
)

var origins = []Origin{OriginSweep, OriginScan, OriginBackfill}

// SpanRef identifies a span of the violating trace.
type SpanRef struct {
	ID      trace.SpanID
	Name    string
	Service string
}

// RefOf returns the reference to a span.
func RefOf(s *trace.Span) SpanRef { return SpanRef{ID: s.ID, Name: s.Name, Service: s.Service()} }

// ViolationID returns the first 16 bytes, as 32 hexadecimal digits, of the SHA-256
// over tenant, pack, rule ID, rule digest and trace ID. Each is hashed after its
// length in bytes, as 8 bytes, big-endian; texts as they are, the trace ID as its
// 16 bytes.
func ViolationID(tenant, pack, ruleID, ruleDigest string, id trace.ID) string {
	return identity(tenant, pack, ruleID, ruleDigest, string(id[:]))
}

func identity(parts ...string) string { return hex.EncodeToString(hashed(parts...)[:16]) }

func hashed(parts ...string) []byte {
	h := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:]) // a hash never fails
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// TextDigest returns the SHA-256, in hexadecimal, over a random salt and texts, each hashed after its length as in
// [ViolationID]. It names texts that may have to be erased, such as names of people.
func TextDigest(salt string, texts ...string) string {
	sum := hashed(append([]string{salt}, texts...)...)
	return hex.EncodeToString(sum)
}

// SpanIDs returns the IDs of a violation's span: the first 16 and the next 8 bytes
// of the SHA-256 of "betrace.violation:" and the violation's ID.
func SpanIDs(violationID string) (trace.ID, trace.SpanID) {
	return spanIDs("betrace.violation:" + violationID)
}

func spanIDs(text string) (trace.ID, trace.SpanID) {
	sum := sha256.Sum256([]byte(text))
	return trace.ID(sum[:16]), trace.SpanID(sum[16:24])
}

// OwnAttributes are the attributes that [IsOwn] reads.
var OwnAttributes = []columnar.AttributeKey{
	{Scope: columnar.ScopeSpan, Key: AttrViolationID}, {Scope: columnar.ScopeSpan, Key: AttrCorrectionID},
	{Scope: columnar.ScopeSpan, Key: AttrCanaryID}, {Scope: columnar.ScopeSpan, Key: AttrSeededID},
	{Scope: columnar.ScopeSpan, Key: AttrInternalID},
}

// IsOwn reports whether BeTrace itself wrote trace t of a batch. Such a trace is not judged. The IDs of all its
// spans derive from the ID of the violation, correction, canary or seeded violation that they carry, or from their [AttrInternalID]; the name of the service is not considered.
// The batch must contain [OwnAttributes].
func IsOwn(b *columnar.Batch, t int) bool {
	return derives(b, t, AttrViolationID, SpanIDs) || derives(b, t, AttrCorrectionID, CorrectionSpanIDs) ||
		derives(b, t, AttrCanaryID, CanarySpanIDs) || derives(b, t, AttrSeededID, SeededSpanIDs) ||
		derives(b, t, AttrInternalID, InternalSpanIDs)
}

// derives reports whether the IDs of all spans of trace t derive from the values of an attribute.
func derives(b *columnar.Batch, t int, key string, idsOf func(string) (trace.ID, trace.SpanID)) bool {
	values := b.Attribute(key)
	if values == nil {
		return false
	}
	for i := b.First[t]; i < b.First[t+1]; i++ {
		id := values.Value(i).Str()
		if id == "" {
			return false
		}
		traceID, spanID := idsOf(id)
		if traceID != b.IDs[t] || spanID != b.SpanIDs[i] {
			return false
		}
	}
	return true
}
