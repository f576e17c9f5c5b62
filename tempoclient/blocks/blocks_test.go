package blocks_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

// fixture returns the storage of a Tempo 3.0.3 in the middle of a compaction, in vParquet5, and the OTLP
// that was sent to it.
func fixture(t testing.TB) (store *blocks.Store, sent []*trace.Trace) {
	t.Helper()
	const dir = "testdata/vparquet5"
	store, err := blocks.OpenFolder(t.Context(), dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	f, err := os.Open(filepath.Join(dir, "traces.jsonl.gz"))
	require.NoError(t, err)
	defer f.Close()
	var c otlp.Collector
	require.NoError(t, otlp.Read(f, c.Add))
	return store, c.Traces()
}

func readAll(t testing.TB, store *blocks.Store, req blocks.Request) (map[trace.ID]*trace.Trace, blocks.Report) {
	t.Helper()
	got := map[trace.ID]*trace.Trace{}
	report, err := store.Traces(t.Context(), req, func(tr *trace.Trace) error {
		require.Nil(t, got[tr.ID], "trace %s was delivered twice", tr.ID)
		got[tr.ID] = tr
		return nil
	})
	require.NoError(t, err)
	return got, report
}

func wantEqual(t testing.TB, sent []*trace.Trace, got map[trace.ID]*trace.Trace) {
	t.Helper()
	require.Len(t, got, len(sent))
	for _, want := range sent {
		require.NotNil(t, got[want.ID], "trace %s", want.ID)
		if diff := cmp.Diff(want.Spans, got[want.ID].Spans); diff != "" {
			t.Fatalf("trace %s differs from the sent trace (-sent +read):\n%s", want.ID, diff)
		}
	}
}

func TestBlocksOfTempo3GiveWhatWasSent(t *testing.T) {
	store, sent := fixture(t)
	got, report := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}})
	require.Empty(t, report.Problems)
	require.Len(t, report.Blocks, 3)
	// A dedicated column for lists does not distinguish "a" from ["a"].
	for _, tr := range sent {
		for i := range tr.Spans {
			for j, a := range tr.Spans[i].Attributes {
				if list := a.Value.Array(); a.Key == "tags" && len(list) == 1 && list[0].Type() == trace.TypeString {
					tr.Spans[i].Attributes[j].Value = list[0]
				}
			}
		}
	}
	wantEqual(t, sent, got)
	spans := 0
	for _, tr := range got {
		spans += len(tr.Spans)
	}
	require.Equal(t, 300, len(got))
	require.Equal(t, 3235, spans)
}

func TestMain(m *testing.M) { stacktest.Main(m) }

// patience bounds the time to wait for a server, so that every test ends. Even a loaded machine needs far
// less.
const patience = 10 * time.Minute

// tenant is a tenant of a real Tempo 2.8, with its storage.
type tenant struct {
	*stack.Stack
	name   string
	writer *tempoclient.Writer
	client *tempoclient.Client
	store  *blocks.Store
}

func newTenant(t *testing.T) *tenant {
	t.Helper()
	return newTenantNamed(t, strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")))
}

func newTenantNamed(t *testing.T, name string) *tenant {
	t.Helper()
	return newTenantOf(t, stack.Options{Tempo: true, Multitenant: true}, name)
}

func newTenantOf(t *testing.T, opts stack.Options, name string) *tenant {
	t.Helper()
	w := &tenant{Stack: stacktest.Get(t, opts), name: name}
	access := tempoclient.Access{Tenant: w.name, PlainText: true}
	var err error
	w.writer, err = tempoclient.NewWriter(tempoclient.WriterConfig{Addr: w.OTLPGRPC, Access: access})
	require.NoError(t, err)
	w.client, err = tempoclient.New(tempoclient.Config{URL: w.TempoURL, GRPCAddr: w.TempoGRPC, Access: access})
	require.NoError(t, err)
	if w.S3 != nil {
		w.store, err = blocks.OpenTempo(t.Context(), w.TempoConfig)
	} else {
		w.store, err = blocks.OpenFolder(t.Context(), w.TempoBlocks)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(w.writer.Close(), w.client.Close(), w.store.Close())) })
	return w
}

func (w *tenant) send(t *testing.T, batches ...ptrace.Traces) {
	t.Helper()
	for chunk := range slices.Chunk(batches, 100) {
		require.NoError(t, w.writer.Export(t.Context(), tracetest.Merge(chunk...)))
	}
}

// flush makes Tempo write blocks until they contain n spans, including copies.
func (w *tenant) flush(t *testing.T, n int64) {
	t.Helper()
	require.NoError(t, w.Flush(t.Context()))
	deadline := time.Now().Add(patience)
	for {
		stored := int64(0)
		listing, err := w.store.List(t.Context(), w.name)
		require.NoError(t, err)
		for _, m := range listing.Live {
			info, err := w.store.Inspect(t.Context(), m)
			require.NoError(t, err)
			stored += info.Spans
		}
		if stored >= n {
			return
		}
		require.True(t, time.Now().Before(deadline), "%d of %d spans are in blocks: %+v", stored, n, listing)
		time.Sleep(200 * time.Millisecond)
	}
}

func TestBlocksOfTempo2GiveWhatWasSent(t *testing.T) {
	w := newTenant(t)
	o := tracetest.Mixed(44, 600)
	// Values are truncated at 2 KiB on arrival, and Tempo keeps one of several unequal copies.
	o.Nasty[tracetest.LongValues], o.Nasty[tracetest.UnequalCopies] = 0, 0
	o.Start, o.Window, o.MaxSpans = time.Now().Add(-3*time.Hour), time.Hour, 400
	var c otlp.Collector
	var first, late []ptrace.Traces
	for g := range tracetest.New(o).All() {
		for i, td := range g.Batches {
			require.NoError(t, c.Add(td))
			if i == 0 {
				first = append(first, td)
			} else {
				late = append(late, td)
			}
		}
	}
	sent := c.Traces()
	w.send(t, first...)
	w.flush(t, 1) // so that late spans are in another block
	w.send(t, late...)
	total := int64(0)
	for _, tr := range sent {
		total += int64(len(tr.Spans))
	}
	w.flush(t, total)
	got, report := readAll(t, w.store, blocks.Request{Tenant: w.name, Needs: columnar.Needs{All: true}})
	require.Empty(t, report.Problems)
	t.Logf("%d traces, %d spans from %d blocks", len(got), total, len(report.Blocks))
	require.Greater(t, len(report.Blocks), 1)
	wantEqual(t, sent, got)

	// Read the same with little memory, in many ranges.
	got, report = readAll(t, w.store, blocks.Request{Tenant: w.name, Needs: columnar.Needs{All: true}, MemoryBytes: 1, Workers: 3})
	require.Empty(t, report.Problems)
	wantEqual(t, sent, got)
}

// The needed bytes that a block states are close to the bytes that are read, and the attributes that
// would benefit from a dedicated column exist in the block.
func TestABlockSaysWhatReadingItTakes(t *testing.T) {
	store, _ := fixture(t)
	keys := func(keys ...string) (needs columnar.Needs) {
		for _, key := range keys {
			needs.Attributes = append(needs.Attributes, columnar.AttributeKey{Scope: columnar.ScopeSpan, Key: key})
		}
		return needs
	}
	listing, err := store.List(t.Context(), "single-tenant")
	require.NoError(t, err)
	needed := map[string]int64{}
	for _, m := range listing.Live {
		info, err := store.Inspect(t.Context(), m)
		require.NoError(t, err)
		require.Equal(t, []string{"span.amount"}, info.Generic(keys("amount", "nowhere", "http.request.method")))
		require.Empty(t, info.Generic(columnar.Needs{All: true}))
		for name, needs := range map[string]columnar.Needs{"none": {}, "nowhere": keys("nowhere"), "amount": keys("amount"), "all": {All: true}} {
			needed[name] += info.Needed(needs)
			if name == "amount" {
				needed["shared"] += info.Shared(needs)
			} else {
				require.Zero(t, info.Shared(needs), name)
			}
		}
	}
	require.Less(t, needed["none"], needed["nowhere"], "the keys must be read")
	require.Less(t, needed["amount"]-needed["shared"], needed["amount"])
	require.Equal(t, needed["nowhere"], needed["amount"]-needed["shared"])
	overhead := int64(0) // footers, indexes, IDs read ahead
	for _, name := range []string{"none", "nowhere", "amount", "all"} {
		needs := map[string]columnar.Needs{"none": {}, "nowhere": keys("nowhere"), "amount": keys("amount"), "all": {All: true}}[name]
		_, report := readAll(t, store, blocks.Request{Needs: needs, Workers: 1})
		if name == "none" {
			overhead = report.Bytes - needed[name]
			continue
		}
		require.InEpsilon(t, needed[name]+overhead, report.Bytes, 0.1, name)
	}
}
