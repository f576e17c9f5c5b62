package tracetest

import (
	"fmt"
	"io"
	"math/rand/v2"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Merge returns one message with copies of the spans of all batches.
func Merge(batches ...ptrace.Traces) ptrace.Traces {
	all := ptrace.NewTraces()
	for _, td := range batches {
		for _, rs := range td.ResourceSpans().All() {
			rs.CopyTo(all.ResourceSpans().AppendEmpty())
		}
	}
	return all
}

// Split distributes the spans of a message over messages of at most maxSpans spans, in the same order, for
// receivers that limit the size of a message. It copies the spans.
func Split(td ptrace.Traces, maxSpans int) []ptrace.Traces {
	if maxSpans < 1 {
		panic(fmt.Sprintf("tracetest.Split: maxSpans is %d: want 1 or more", maxSpans))
	}
	var parts []ptrace.Traces
	room := 0
	for _, rs := range td.ResourceSpans().All() {
		var to ptrace.ResourceSpans
		inResource := false
		for _, ss := range rs.ScopeSpans().All() {
			var spans ptrace.SpanSlice
			inScope := false
			for _, s := range ss.Spans().All() {
				if room == 0 {
					parts = append(parts, ptrace.NewTraces())
					room, inResource, inScope = maxSpans, false, false
				}
				if !inResource {
					to = parts[len(parts)-1].ResourceSpans().AppendEmpty()
					rs.Resource().CopyTo(to.Resource())
					to.SetSchemaUrl(rs.SchemaUrl())
					inResource, inScope = true, false
				}
				if !inScope {
					scope := to.ScopeSpans().AppendEmpty()
					ss.Scope().CopyTo(scope.Scope())
					scope.SetSchemaUrl(ss.SchemaUrl())
					spans, inScope = scope.Spans(), true
				}
				s.CopyTo(spans.AppendEmpty())
				room--
			}
		}
	}
	return parts
}

// WriteJSONLines writes each message as one line in OTLP's JSON encoding.
func WriteJSONLines(w io.Writer, batches ...ptrace.Traces) error {
	var m ptrace.JSONMarshaler
	for i, td := range batches {
		line, err := m.MarshalTraces(td)
		if err != nil {
			return fmt.Errorf("message %d as OTLP JSON: %w", i, err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("write message %d as OTLP JSON: %w", i, err)
		}
	}
	return nil
}

// Alter changes a random part of the spans of a ResourceSpans, to create unequal copies.
func Alter(td ptrace.Traces, r *rand.Rand) {
	rs := td.ResourceSpans().At(0)
	if r.IntN(2) == 0 {
		rs.Resource().Attributes().PutInt("copied", r.Int64N(3))
	}
	for _, ss := range rs.ScopeSpans().All() {
		if r.IntN(3) == 0 {
			ss.Scope().SetName("copied")
		}
		for _, s := range ss.Spans().All() {
			switch r.IntN(8) {
			case 0:
				s.SetStartTimestamp(s.StartTimestamp() + pcommon.Timestamp(r.IntN(3)*1e6))
			case 1:
				s.SetParentSpanID(ss.Spans().At(r.IntN(ss.Spans().Len())).SpanID())
			case 2:
				s.SetName(s.Name() + "x")
			case 3:
				s.Attributes().PutDouble("copied", r.Float64())
				s.Attributes().PutStr("http.request.method", "COPY")
			case 4:
				s.Events().AppendEmpty().SetName("copied")
				s.Links().AppendEmpty().Attributes().PutBool("copied", true)
			case 5:
				s.SetEndTimestamp(s.StartTimestamp() - 1)
				s.Status().SetCode(ptrace.StatusCodeError)
				s.Status().SetMessage("late")
			}
		}
	}
}
