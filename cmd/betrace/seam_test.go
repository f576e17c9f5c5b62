package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
)

// A recent trace of which a part is in a block already is judged by the whole that
// the API gives, and not by the part.
func TestARecentTraceIsNotJudgedFromBlocksAlone(t *testing.T) {
	w := newWorld(t, stack.Fast)
	store, err := blocks.OpenFolder(t.Context(), w.TempoBlocks)
	require.NoError(t, err)
	defer store.Close()
	id := trace.ID{0: 0xa0, 15: 1}
	start := time.Now().Add(-30 * time.Second)
	send := func(n byte, name string) {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", "payment")
		s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		s.SetTraceID(pcommon.TraceID(id))
		s.SetSpanID(pcommon.SpanID{0: 0xa0, 7: n})
		s.SetName(name)
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(start))
		s.SetEndTimestamp(s.StartTimestamp() + 1000)
		require.NoError(t, w.writer.Export(t.Context(), td))
		require.Eventually(t, func() bool {
			tr, err := w.client.Trace(t.Context(), id)
			return err == nil && len(tr.Spans) == int(n)
		}, patience, 100*time.Millisecond)
	}
	send(1, "charge")
	w.read(t, start.Add(-time.Minute), time.Now().Add(time.Minute), 1)
	w.flushed(t, store, 1)
	// The blocks contain only the data that is stored now.
	stored := filepath.Join(t.TempDir(), "blocks")
	require.NoError(t, os.CopyFS(stored, os.DirFS(w.TempoBlocks)))
	send(2, "check")
	pack := filepath.Join(t.TempDir(), "pack.yaml")
	require.NoError(t, os.WriteFile(pack, []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{id: r, title: t, severity: low, when: 'spans.exists(s, s.name == \"charge\")', always: ['spans.exists(s, s.name == \"check\")']}]\n"), 0o644))
	settle := (time.Since(start) + time.Minute).String() // however long it took to get here
	violations, s := w.scan(t, exitOK, "--rules", pack, "--since", "1h", "--dry-run", "--tempo-blocks", stored, "--settle", settle, "--settle-blocks", settle, "--max-trace-duration", "1m")
	require.Empty(t, violations)
	require.Equal(t, "blocks and search", s.Basis)
	require.Equal(t, 1, s.Traces.Judged)
	require.Equal(t, []ruleSummary{{Rule: "p/r", Pass: 1}}, s.Rules)
}
