package columnar_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/tracetest"
)

// benchNeeds are 15 attributes of spans and their resources.
var benchNeeds = func() (needs columnar.Needs) {
	for _, key := range []string{
		"http.request.method", "http.route", "http.response.status_code", "url.path", "server.address", "db.system.name", "db.operation.name", "db.collection.name",
		"messaging.system", "messaging.destination.name", "rpc.method", "payment.amount", "user.id", "deployment.environment.name", "k8s.pod.name",
	} {
		needs.Attributes = append(needs.Attributes, columnar.AttributeKey{Scope: columnar.ScopeAny, Key: key})
	}
	return needs
}()

// benchMessages returns 200 traces of about 25 spans, one per message.
func benchMessages(b *testing.B) (messages [][]byte, spans, bytes int) {
	o := tracetest.Clean(1, 200)
	o.MinSpans, o.MaxSpans = 20, 32
	for g := range tracetest.New(o).All() {
		td := tracetest.Merge(g.Batches...)
		m := marshal(b, td)
		messages, spans, bytes = append(messages, m), spans+td.SpanCount(), bytes+len(m)
	}
	return messages, spans, bytes
}

// BenchmarkFillOTLP compares FillOTLP with the path that it replaces: pdata's structs, the Collector's
// traces, and a batch of these.
func BenchmarkFillOTLP(b *testing.B) {
	messages, spans, bytes := benchMessages(b)
	run := func(name string, once func()) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
			b.ReportMetric(float64(spans)*float64(b.N)/b.Elapsed().Seconds(), "spans/s")
		})
	}
	for _, c := range []struct {
		name  string
		needs columnar.Needs
	}{{"intrinsic", columnar.Needs{}}, {"15-attributes", benchNeeds}, {"all", columnar.Needs{All: true}}} {
		filler := columnar.NewFiller(c.needs)
		run(c.name, func() {
			_, err := filler.FillOTLP(messages...)
			require.NoError(b, err)
		})
	}
	run("pdata", func() {
		for _, m := range messages {
			_, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(m)
			require.NoError(b, err)
		}
	})
	run("collector", func() {
		traces, err := collect(messages...)
		require.NoError(b, err)
		columnar.NewBatch(benchNeeds, traces...)
	})
}
