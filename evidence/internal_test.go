package evidence_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/tracetest"
)

func TestSpansAboutBeTracesWorkAreItsOwn(t *testing.T) {
	id := evidence.NewInternalTraceID()
	span := func(ofTrace trace.ID) trace.Span {
		s := trace.Span{ID: evidence.NewInternalSpanID(ofTrace)}
		s.Attributes = tracetest.Attributes(evidence.AttrInternalID, evidence.InternalID(ofTrace, s.ID))
		return s
	}
	first, second := span(id), span(id)
	require.NotEqual(t, first.ID, second.ID)
	require.True(t, isOwn(trace.New(id, []trace.Span{first, second})))
	other := first
	other.ID = trace.SpanID{1}
	for name, tr := range map[string]*trace.Trace{
		"another trace ID":     trace.New(evidence.NewInternalTraceID(), []trace.Span{first}),
		"a span of a program":  trace.New(id, []trace.Span{first, {ID: trace.SpanID{1}}}),
		"an attribute on loan": trace.New(id, []trace.Span{other}),
	} {
		require.False(t, isOwn(tr), name)
	}
	for _, value := range []string{"", "x", "00.00", "0000000000000000.0000000g"} {
		gotTrace, gotSpan := evidence.InternalSpanIDs(value)
		require.Zero(t, gotTrace, value)
		require.Zero(t, gotSpan, value)
	}
}
