package otlp

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
)

// FromTrace returns the trace as one OTLP message, from which [ToTraces] returns the same trace. The message
// lacks everything that the normal form does not have: trace state, attributes of scopes, schema URLs, counts
// of dropped data.
func FromTrace(t *trace.Trace) ptrace.Traces {
	td := ptrace.NewTraces()
	var to ptrace.ScopeSpans
	var last *trace.Span
	for i := range t.Spans {
		s := &t.Spans[i]
		// Consecutive spans of the same resource and scope share one message.
		sameResource := last != nil && last.Resource.Compare(s.Resource) == 0
		if !sameResource || last.Scope != s.Scope || last.ScopeVersion != s.ScopeVersion {
			rs := td.ResourceSpans()
			if !sameResource {
				putAttributes(rs.AppendEmpty().Resource().Attributes(), s.Resource)
			}
			to = rs.At(rs.Len() - 1).ScopeSpans().AppendEmpty()
			to.Scope().SetName(s.Scope)
			to.Scope().SetVersion(s.ScopeVersion)
		}
		copySpan(to.Spans().AppendEmpty(), s, t.ID)
		last = s
	}
	return td
}

func copySpan(to ptrace.Span, s *trace.Span, id trace.ID) {
	to.SetTraceID(pcommon.TraceID(id))
	to.SetSpanID(pcommon.SpanID(s.ID))
	to.SetParentSpanID(pcommon.SpanID(s.ParentID))
	to.SetName(s.Name)
	to.SetKind(ptrace.SpanKind(s.Kind))
	to.SetStartTimestamp(pcommon.Timestamp(s.Start))
	to.SetEndTimestamp(pcommon.Timestamp(s.End))
	to.Status().SetCode(ptrace.StatusCode(s.Status))
	to.Status().SetMessage(s.StatusMessage)
	putAttributes(to.Attributes(), s.Attributes)
	for _, e := range s.Events {
		event := to.Events().AppendEmpty()
		event.SetName(e.Name)
		event.SetTimestamp(pcommon.Timestamp(e.Time))
		putAttributes(event.Attributes(), e.Attributes)
	}
	for _, l := range s.Links {
		link := to.Links().AppendEmpty()
		link.SetTraceID(pcommon.TraceID(l.TraceID))
		link.SetSpanID(pcommon.SpanID(l.SpanID))
		putAttributes(link.Attributes(), l.Attributes)
	}
}

func putAttributes(to pcommon.Map, attrs trace.Attributes) {
	to.EnsureCapacity(len(attrs))
	for _, a := range attrs {
		putValue(to.PutEmpty(a.Key), a.Value)
	}
}

func putValue(to pcommon.Value, v trace.Value) {
	switch v.Type() {
	case trace.TypeString:
		to.SetStr(v.Str())
	case trace.TypeBool:
		to.SetBool(v.Bool())
	case trace.TypeInt:
		to.SetInt(v.Int())
	case trace.TypeDouble:
		to.SetDouble(v.Double())
	case trace.TypeBytes:
		to.SetEmptyBytes().FromRaw(v.Bytes())
	case trace.TypeArray:
		list := to.SetEmptySlice()
		for _, e := range v.Array() {
			putValue(list.AppendEmpty(), e)
		}
	case trace.TypeMap:
		putAttributes(to.SetEmptyMap(), v.Map())
	}
}
