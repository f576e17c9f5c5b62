package trace_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/analyzer/trace"
)

// BenchmarkReadOTLP reads files of ordinary OTLP, from memory, into traces.
func BenchmarkReadOTLP(b *testing.B) {
	messages, spans, _ := benchMessages(b)
	var lines, framed []byte
	for _, m := range messages {
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(m)
		require.NoError(b, err)
		lines = append(append(lines, asJSON(b, td)...), '\n')
		framed = append(framed, withLength(m)...)
	}
	for name, file := range map[string][]byte{"json": lines, "protobuf": framed} {
		for _, to := range []string{"messages", "traces"} {
			b.Run(name+"/"+to, func(b *testing.B) {
				b.SetBytes(int64(len(file)))
				b.ReportAllocs()
				for b.Loop() {
					var c trace.Collector
					add := c.Add
					if to == "messages" {
						add = func(ptrace.Traces) error { return nil }
					}
					require.NoError(b, trace.ReadOTLP(bytes.NewReader(file), add))
					c.Traces()
				}
				b.ReportMetric(float64(spans)*float64(b.N)/b.Elapsed().Seconds(), "spans/s")
			})
		}
	}
}
