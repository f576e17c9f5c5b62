package blocks_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/tracetest"
)

// BenchmarkRead reads blocks of about 400,000 spans that a real Tempo wrote: only the pages of the needed
// columns, and the traces in normal form, for three needs.
func BenchmarkRead(b *testing.B) {
	s := stacktest.Get(b, stack.Options{Tempo: true, Multitenant: true})
	name := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	writer, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: s.OTLPGRPC, Access: tempoclient.Access{Tenant: name, PlainText: true}})
	require.NoError(b, err)
	defer writer.Close()
	o := tracetest.Clean(3, 16_000)
	o.MinSpans, o.MaxSpans, o.Start, o.Window = 20, 30, time.Now().Add(-time.Hour), time.Hour
	var batch []ptrace.Traces
	spans := int64(0)
	flush := func() {
		require.NoError(b, writer.Export(b.Context(), tracetest.Merge(batch...)))
		batch = batch[:0]
	}
	for g := range tracetest.New(o).All() {
		spans += int64(g.Spans)
		if batch = append(batch, g.Batches...); len(batch) == 200 {
			flush()
		}
	}
	flush()
	store, err := blocks.OpenFolder(b.Context(), s.TempoBlocks)
	require.NoError(b, err)
	defer store.Close()
	require.NoError(b, s.Flush(b.Context()))
	require.Eventually(b, func() bool {
		stored := int64(0)
		listing, err := store.List(b.Context(), name)
		require.NoError(b, err)
		for _, m := range listing.Live {
			info, err := store.Inspect(b.Context(), m)
			require.NoError(b, err)
			stored += info.Spans
		}
		return stored >= spans
	}, patience, time.Second)
	pack, err := rules.Parse("tracetest.yaml", []byte(tracetest.Pack), rules.Options{})
	require.NoError(b, err)
	for _, c := range []struct {
		name  string
		needs columnar.Needs
	}{{"intrinsics", columnar.Needs{}}, {"pack", needsOf(pack)}, {"all", columnar.Needs{All: true}}} {
		b.Run(c.name+"/pages", func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, store.ReadPages(b.Context(), name, c.needs))
			}
			b.ReportMetric(float64(spans)*float64(b.N)/b.Elapsed().Seconds(), "spans/s")
		})
		b.Run(c.name+"/traces", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				read := int64(0)
				_, err := store.Traces(b.Context(), blocks.Request{Tenant: name, Needs: c.needs}, func(t *trace.Trace) error {
					read += int64(len(t.Spans))
					return nil
				})
				require.NoError(b, err)
				require.Equal(b, spans, read)
			}
			b.ReportMetric(float64(spans)*float64(b.N)/b.Elapsed().Seconds(), "spans/s")
		})
	}
}
