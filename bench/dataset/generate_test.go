package dataset

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// decoded returns a generated trace as an OTLP decoder reads it.
func decoded(t *testing.T, s Set, index int) map[pcommon.SpanID]ptrace.Span {
	t.Helper()
	g := newGenerator(s)
	g.make(index)
	now, later := g.halves(index)
	request := ptraceotlp.NewExportRequest()
	require.NoError(t, request.UnmarshalProto(g.appendRequest(g.appendRequest(nil, now), later)))
	spans := map[pcommon.SpanID]ptrace.Span{}
	for _, rs := range request.Traces().ResourceSpans().All() {
		resource := rs.Resource().Attributes().Len() - 1 // service.name is not counted as an attribute here
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				require.Equal(t, len(Generic)+len(Dedicated), span.Attributes().Len()+resource)
				require.Equal(t, pcommon.TraceID(g.id), span.TraceID())
				require.LessOrEqual(t, span.StartTimestamp(), span.EndTimestamp())
				spans[span.SpanID()] = span
			}
		}
	}
	require.Len(t, spans, lengthOf(index), "each span must have an ID of its own")
	return spans
}

func TestTracesAreAsTheirIndexSays(t *testing.T) {
	s := A(1_000_000)
	require.Len(t, Generic, 12)
	require.Len(t, Dedicated, 8)
	sum := 0
	for i := range s.traces() {
		sum += lengthOf(i)
	}
	require.InDelta(t, s.Spans, sum, float64(s.Spans)/100)
	require.GreaterOrEqual(t, sum, s.Spans)

	for index := range 400 {
		spans := decoded(t, s, index)
		matches := false
		for _, span := range spans {
			if span.Name() != NameBelow {
				continue
			}
			for up, ok := spans[span.ParentSpanID()]; ok; up, ok = spans[up.ParentSpanID()] {
				matches = matches || up.Name() == NameAbove
			}
		}
		require.Equal(t, relationOf(index) == above, matches, "trace %d", index)
	}
}

func TestWhatIsRareIsThere(t *testing.T) {
	s := A(1_000_000)
	names, values := 0, 0
	for _, index := range []int{1, 1234, 5678, 11234} {
		for _, span := range decoded(t, s, index) {
			if span.Name() == RareName {
				names++
			}
			if v, ok := span.Attributes().Get(RareKey); ok && v.Str() == RareValue {
				values++
			}
		}
	}
	require.Equal(t, 2, names)
	require.Equal(t, 1, values)
}

func TestATraceIsTheSameWhoeverMakesIt(t *testing.T) {
	s := B(100_000)
	one, other := newGenerator(s), newGenerator(s)
	one.make(3)
	one.appendRequest(nil, one.spans)
	one.make(7)
	other.make(7)
	require.Equal(t, one.appendRequest(nil, one.spans), other.appendRequest(nil, other.spans))
}
