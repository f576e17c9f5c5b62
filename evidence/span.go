package evidence

import (
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
)

// Attributes of violation and correction spans that are searched for.
const (
	AttrViolationID  = "betrace.violation.id"
	AttrCorrectionID = "betrace.correction.id"
	AttrEntry        = "betrace.entry"
)

// Bounds on the content of one span: Tempo truncates attributes at 2 KiB, and accepts 5 MB per trace.
const (
	maxTextBytes = 2000
	maxLinks     = 128
)

// Spans returns the violation spans, each a trace of its own, that start at the time of
// their filing, or at the given time: Tempo finds a span by the time at which it was written
// only. The
// first link points at the violating trace's root (without one, its first span),
// the others at the spans that the violation is about; of over 128 the rest is
// counted as dropped.
func Spans(vs []Violation, at time.Time) ptrace.Traces {
	td := ptrace.NewTraces()
	for i := range vs {
		v := &vs[i]
		filed := v.FiledAt
		if filed.IsZero() {
			filed = at
		}
		v.span(newSpan(td, v.Engine), filed)
	}
	return td
}

// newSpan adds a span of BeTrace with a resource of its own, because the version of BeTrace is that of the scope.
func newSpan(td ptrace.Traces, engine string) ptrace.Span {
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "betrace")
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName("betrace")
	ss.Scope().SetVersion(engine)
	return ss.Spans().AppendEmpty()
}

type attribute struct{ key, value string }

// putTexts adds the attributes that are not empty.
func putTexts(attrs pcommon.Map, texts []attribute) {
	for _, a := range texts {
		if a.value != "" {
			attrs.PutStr(a.key, cut(a.value))
		}
	}
}

func (v *Violation) span(s ptrace.Span, at time.Time) {
	traceID, spanID := SpanIDs(v.ID)
	s.SetTraceID(pcommon.TraceID(traceID))
	s.SetSpanID(pcommon.SpanID(spanID))
	s.SetName("betrace.violation")
	s.SetKind(ptrace.SpanKindInternal)
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(at))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(at))
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Status().SetMessage(cut(v.Message))
	attrs := s.Attributes()
	attrs.PutBool("betrace.violation", true)
	putTexts(attrs, []attribute{
		{AttrViolationID, v.ID},
		{"betrace.rule.id", v.RuleID},
		{"betrace.rule.pack", v.Pack},
		{"betrace.rule.digest", v.RuleDigest},
		{"betrace.severity", v.Severity},
		{"betrace.clause", v.Clause},
		{"betrace.trace.id", v.TraceID.String()},
		{"betrace.trace.start", timeText(v.TraceStart.Time())},
		{"betrace.trace.root_service", v.RootService},
		{"betrace.origin", string(v.Origin)},
		{"betrace.sweep", v.Sweep},
		{"betrace.job", v.Job},
		{"betrace.window.start", timeText(v.WindowStart)},
		{"betrace.window.end", timeText(v.WindowEnd)},
		{"betrace.engine", v.Engine},
		{AttrEntry, v.Entry},
	})
	attrs.PutBool("betrace.provisional", v.Provisional)
	if v.Muted {
		attrs.PutBool("betrace.muted", true)
	}
	controls := attrs.PutEmptySlice("betrace.controls")
	for _, c := range v.Controls {
		controls.AppendEmpty().SetStr(c)
	}
	refs := append([]SpanRef{v.Root}, v.About...)
	for i, ref := range refs {
		if i > 0 && ref.ID == v.Root.ID {
			continue
		}
		if s.Links().Len() == maxLinks {
			s.SetDroppedLinksCount(uint32(len(refs) - i))
			break
		}
		l := s.Links().AppendEmpty()
		l.SetTraceID(pcommon.TraceID(v.TraceID))
		l.SetSpanID(pcommon.SpanID(ref.ID))
	}
}

// cut truncates a string, between two characters, so that Tempo does not truncate it.
func cut(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxTextBytes {
		return text
	}
	n := maxTextBytes
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// timeText formats a time for records and spans: RFC 3339 in UTC with nanoseconds. The zero time is "".
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// HoldsViolation reports whether the trace has the violation's span.
func HoldsViolation(t *trace.Trace, violationID string) bool {
	return holds(t, AttrViolationID, violationID)
}

// HoldsCorrection reports whether the trace has the correction's span.
func HoldsCorrection(t *trace.Trace, correctionID string) bool {
	return holds(t, AttrCorrectionID, correctionID)
}

func holds(t *trace.Trace, key, id string) bool {
	for i := range t.Spans {
		if t.Spans[i].Attributes.Get(key).Str() == id {
			return true
		}
	}
	return false
}
