package otlp_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

// BenchmarkRead reads files of OTLP in its usual spelling, from memory, into messages and into traces.
func BenchmarkRead(b *testing.B) {
	o := tracetest.Clean(1, 200)
	o.MinSpans, o.MaxSpans = 20, 32
	spans := 0
	var lines, framed []byte
	for g := range tracetest.New(o).All() { // one message per trace
		td := tracetest.Merge(g.Batches...)
		spans += td.SpanCount()
		lines = append(append(lines, asJSON(b, td)...), '\n')
		framed = append(framed, withLength(asProto(b, td))...)
	}
	for name, file := range map[string][]byte{"json": lines, "protobuf": framed} {
		for _, to := range []string{"messages", "traces"} {
			b.Run(name+"/"+to, func(b *testing.B) {
				b.SetBytes(int64(len(file)))
				b.ReportAllocs()
				for b.Loop() {
					var c otlp.Collector
					add := c.Add
					if to == "messages" {
						add = func(ptrace.Traces) error { return nil }
					}
					require.NoError(b, otlp.Read(bytes.NewReader(file), add))
					c.Traces()
				}
				b.ReportMetric(float64(spans)*float64(b.N)/b.Elapsed().Seconds(), "spans/s")
			})
		}
	}
}
