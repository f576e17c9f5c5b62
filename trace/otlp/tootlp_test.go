package otlp_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

func TestATraceWrittenAsOTLPIsReadAsTheSame(t *testing.T) {
	for g := range tracetest.New(tracetest.Mixed(5, 400)).All() {
		want := g.Trace()
		// Convert to bytes and back, as a file does.
		b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(otlp.FromTrace(want))
		require.NoError(t, err)
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
		require.NoError(t, err)
		have, err := otlp.ToTraces(td)
		require.NoError(t, err)
		require.Len(t, have, 1)
		require.Equal(t, want.ID, have[0].ID)
		require.Empty(t, cmp.Diff(want.Spans, have[0].Spans))
	}
}
