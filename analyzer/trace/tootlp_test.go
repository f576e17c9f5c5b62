package trace_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/analyzer/trace/tracetest"
)

func TestATraceWrittenAsOTLPIsReadAsTheSame(t *testing.T) {
	for g := range tracetest.New(tracetest.Mixed(5, 400)).All() {
		want := g.Trace()
		// Through its bytes, as a file has it.
		b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(want.ToOTLP())
		require.NoError(t, err)
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
		require.NoError(t, err)
		have, err := trace.FromOTLP(td)
		require.NoError(t, err)
		require.Len(t, have, 1)
		require.Equal(t, want.ID, have[0].ID)
		require.Empty(t, cmp.Diff(want.Spans, have[0].Spans))
	}
}
