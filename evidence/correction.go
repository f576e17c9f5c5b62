package evidence

import (
	"fmt"
	"slices"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
)

// CorrectionSchema is the version of the correction records that are written, as their field schema holds it. The
// JSON Schema is docs/schemas/correction.v1.json.
const CorrectionSchema = "betrace.dev/correction/v1"

// CorrectionKind is the kind of a correction.
type CorrectionKind string

// The kinds of corrections.
const (
	// Withdrawn means that the same rule no longer finds the violation on a trace with at least as many spans.
	Withdrawn CorrectionKind = "withdrawn"
	// Reinstated means that a withdrawn violation was found again on a trace with at least as many spans.
	Reinstated CorrectionKind = "reinstated"
)

// Correction is a change of the state of a violation. The violation itself is never rewritten.
type Correction struct {
	// ID is [CorrectionID]'s: 32 hexadecimal digits.
	ID                  string
	Tenant, ViolationID string
	// Sequence counts the corrections of the violation, from 1.
	Sequence int
	Kind     CorrectionKind
	// Reason is a sentence for people. Outcome is the outcome of the new judgement.
	Reason, Outcome string
	// SpansBefore and SpansAfter are the numbers of spans of the two judgements.
	SpansBefore, SpansAfter            int
	Pack, RuleID, RuleDigest, Severity string
	TraceID                            trace.ID
	Circumstances
}

// CorrectionID returns the first 16 bytes, as 32 hexadecimal digits, of the SHA-256 over tenant, violation ID and
// sequence number in decimal, each hashed after its length as in [ViolationID].
func CorrectionID(tenant, violationID string, sequence int) string {
	return identity(tenant, violationID, strconv.Itoa(sequence))
}

// correctionRecord is a correction as Loki holds it: a line of canonical JSON (RFC 8785).
type correctionRecord struct {
	Schema      string         `json:"schema"`
	ID          string         `json:"correction_id"`
	ViolationID string         `json:"violation_id"`
	Tenant      string         `json:"tenant"`
	Sequence    int            `json:"sequence"`
	Kind        CorrectionKind `json:"kind"`
	Reason      string         `json:"reason"`
	Outcome     string         `json:"outcome"`
	Spans       struct {
		Before int `json:"before"`
		After  int `json:"after"`
	} `json:"spans"`
	Rule struct {
		ID     string `json:"id"`
		Digest string `json:"digest"`
		Pack   string `json:"pack"`
	} `json:"rule"`
	Severity string `json:"severity"`
	Trace    struct {
		ID string `json:"id"`
	} `json:"trace"`
}

// Record returns the correction's record: canonical JSON of the change. As in the record of a violation, the
// circumstances are not part of it.
func (c *Correction) Record() ([]byte, error) {
	r := correctionRecord{
		Schema: CorrectionSchema, ID: c.ID, ViolationID: c.ViolationID, Tenant: c.Tenant, Sequence: c.Sequence,
		Kind: c.Kind, Reason: cut(c.Reason), Outcome: c.Outcome, Severity: c.Severity,
	}
	r.Spans.Before, r.Spans.After = c.SpansBefore, c.SpansAfter
	r.Rule.ID, r.Rule.Digest, r.Rule.Pack = c.RuleID, c.RuleDigest, c.Pack
	r.Trace.ID = c.TraceID.String()
	line, err := canonical(&r)
	if err != nil {
		return nil, fmt.Errorf("record of correction %s: %w", c.ID, err)
	}
	return line, nil
}

// ParseCorrection parses a record that [Correction.Record] returned. It does not set the circumstances.
func ParseCorrection(line []byte) (Correction, error) {
	var r correctionRecord
	if err := strictJSON(line, &r); err != nil {
		return Correction{}, fmt.Errorf("correction record: %w", err)
	}
	if r.Schema != CorrectionSchema {
		return Correction{}, fmt.Errorf("correction record: its schema is %q; only %s can be read", r.Schema, CorrectionSchema)
	}
	id, err := trace.ParseID(r.Trace.ID)
	if err != nil {
		return Correction{}, fmt.Errorf("correction record %s: %w", r.ID, err)
	}
	return Correction{
		ID: r.ID, Tenant: r.Tenant, ViolationID: r.ViolationID, Sequence: r.Sequence, Kind: r.Kind, Reason: r.Reason,
		Outcome: r.Outcome, SpansBefore: r.Spans.Before, SpansAfter: r.Spans.After, Pack: r.Rule.Pack, RuleID: r.Rule.ID,
		RuleDigest: r.Rule.Digest, Severity: r.Severity, TraceID: id,
	}, nil
}

// Labels returns the labels of the stream that the record is filed in. Each has few values.
func (c *Correction) Labels() (string, error) {
	if !slices.Contains(origins, c.Origin) {
		return "", fmt.Errorf("correction %s: its origin is %q: want one of %q", c.ID, c.Origin, origins)
	}
	return labels("correction", &c.Circumstances, c.Severity), nil
}

// Metadata returns the structured metadata that Loki keeps beside the record.
func (c *Correction) Metadata() [][2]string {
	all := [][2]string{
		{"correction_id", c.ID}, {"violation_id", c.ViolationID}, {"kind", string(c.Kind)}, {"trace_id", c.TraceID.String()},
		{"pack", c.Pack}, {"rule_id", c.RuleID}, {"engine", c.Engine}, {"sweep", c.Sweep}, {"job", c.Job}, {"entry", c.Entry},
	}
	return slices.DeleteFunc(all, func(m [2]string) bool { return m[1] == "" })
}

// CorrectionSpanIDs returns the IDs of a correction's span: the first 16 and the next 8 bytes of the SHA-256 of
// "betrace.correction:" and the correction's ID.
func CorrectionSpanIDs(correctionID string) (trace.ID, trace.SpanID) {
	return spanIDs("betrace.correction:" + correctionID)
}

// CorrectionSpans returns the spans of corrections, each a trace of its own, that start at the time of their filing.
// The link points at the violation's span.
func CorrectionSpans(cs []Correction) ptrace.Traces {
	td := ptrace.NewTraces()
	for i := range cs {
		cs[i].span(newSpan(td, cs[i].Engine))
	}
	return td
}

func (c *Correction) span(s ptrace.Span) {
	traceID, spanID := CorrectionSpanIDs(c.ID)
	s.SetTraceID(pcommon.TraceID(traceID))
	s.SetSpanID(pcommon.SpanID(spanID))
	s.SetName("betrace.correction")
	s.SetKind(ptrace.SpanKindInternal)
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(c.FiledAt))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(c.FiledAt))
	attrs := s.Attributes()
	attrs.PutBool("betrace.correction", true)
	if c.Muted {
		attrs.PutBool("betrace.muted", true)
	}
	putTexts(attrs, []attribute{
		{AttrCorrectionID, c.ID},
		{AttrViolationID, c.ViolationID},
		{"betrace.correction.kind", string(c.Kind)},
		{"betrace.correction.reason", c.Reason},
		{"betrace.correction.outcome", c.Outcome},
		{"betrace.rule.id", c.RuleID},
		{"betrace.rule.pack", c.Pack},
		{"betrace.rule.digest", c.RuleDigest},
		{"betrace.severity", c.Severity},
		{"betrace.trace.id", c.TraceID.String()},
		{"betrace.origin", string(c.Origin)},
		{"betrace.sweep", c.Sweep},
		{"betrace.job", c.Job},
		{"betrace.engine", c.Engine},
		{AttrEntry, c.Entry},
	})
	attrs.PutInt("betrace.correction.sequence", int64(c.Sequence))
	attrs.PutInt("betrace.correction.spans_before", int64(c.SpansBefore))
	attrs.PutInt("betrace.correction.spans_after", int64(c.SpansAfter))
	violationTrace, violationSpan := SpanIDs(c.ViolationID)
	l := s.Links().AppendEmpty()
	l.SetTraceID(pcommon.TraceID(violationTrace))
	l.SetSpanID(pcommon.SpanID(violationSpan))
}
