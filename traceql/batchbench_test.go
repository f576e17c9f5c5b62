package traceql

import (
	"testing"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/tracetest"
)

// BenchmarkSelectTraces compares filters on a batch with filters evaluated span by span.
func BenchmarkSelectTraces(b *testing.B) {
	var traces []*trace.Trace
	spans := 0
	for g := range tracetest.New(tracetest.Mixed(1, 4000)).All() {
		traces = append(traces, g.Trace())
		spans += g.Spans
	}
	for _, bench := range []struct{ name, query string }{
		{"name", `{ name = "payment.charge" }`},
		{"name-regex", `{ name =~ "payment.*" }`},
		{"number", `{ span.server.port > 5000 }`},
		{"number-unscoped", `{ .server.port > 5000 }`},
		{"and-of-three", `{ name =~ ".*charge.*|.*query.*|GET.*" && span.server.port > 5000 && status != error }`},
		{"resource", `{ resource.service.name = "payment" }`},
		{"or-of-names", `{ name = "a" || name = "b" || name = "c" || name = "d" || name = "e" || name = "payment.charge" }`},
		{"duration", `{ duration > 100ms }`},
		{"root", `{ rootServiceName = "web" }`},
		{"event", `{ event:name = "exception" }`},
		{"and-selective", `{ name = "payment.charge" && span.payment.amount > 1000 && status != error }`},
		{"calculated", `{ span.server.port * 2 > 10000 }`},
	} {
		f, err := Parse(bench.query)
		if err != nil {
			b.Fatal(err)
		}
		batch := columnar.NewBatch(f.Needs(), traces...)
		if n := f.OnBatches().SelectTraces(batch, nil).Count(); n == 0 || n == len(traces) {
			b.Fatalf("%s matches %d traces of %d", f, n, len(traces))
		}
		perSecond := func(b *testing.B) {
			b.ReportMetric(float64(b.N)*float64(batch.NumSpans())/b.Elapsed().Seconds()/1e6, "Mspans/s")
		}
		b.Run(bench.name+"/batch", func(b *testing.B) {
			b.ReportAllocs()
			onBatch := f.OnBatches()
			selected := onBatch.SelectTraces(batch, nil)
			for b.Loop() {
				selected = onBatch.SelectTraces(batch, selected)
			}
			perSecond(b)
		})
		b.Run(bench.name+"/spans", func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				for _, t := range traces {
					if f.Matches(t) {
						n++
					}
				}
			}
			perSecond(b)
		})
	}
}
