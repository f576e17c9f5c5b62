package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace/tracetest"
)

// TestSweepsByTheAPI sweeps a Tempo by its API only: traces that arrive while the service runs and while it does not, and
// late spans, which are found when their window is judged again.
func TestSweepsByTheAPI(t *testing.T) {
	s := &served{world: newWorldOf(t, stack.Options{Tempo: true, Loki: true, Profile: stack.Fast, Multitenant: true, NoBlocks: true}), dir: t.TempDir()}
	s.rng = rand.New(rand.NewPCG(1, 1))
	require.NoError(t, os.Mkdir(filepath.Dir(s.state()), 0o700))
	s.config = filepath.Join(s.dir, "betrace.yaml")
	require.NoError(t, os.WriteFile(s.config, fmt.Appendf(nil, `
state: %s
server: {address: "127.0.0.1:0"}
tempo: {url: %s, grpc: %s, otlp: %s}
loki: {url: %s}
outbox: {resend_after: 5s}
sweeps:
  - {name: all, schedule: "@every 1s", tenants: [%s], packs: [%s], start: 1h, settle: 15s, recheck: 40s}
`, s.state(), s.TempoURL, s.TempoGRPC, s.OTLPGRPC, s.LokiURL, s.tenant, packFile(t)), 0o600))

	var planted []found
	var late []tracetest.Generated
	// load sends traces that started in the last seconds. The second half of some is kept for later.
	load := func(traces int) {
		t.Helper()
		o := tracetest.Mixed(uint64(len(planted)+1), traces).ForTempo()
		o.Start, o.Window = time.Now().Add(-10*time.Second), 8*time.Second
		all, found := generate(o)
		planted = append(planted, found...)
		for i := range all {
			if s.rng.IntN(3) == 0 {
				first, second := s.halves(tracetest.Merge(all[i].Batches...))
				rest := all[i]
				all[i].Batches, rest.Batches = []ptrace.Traces{first}, []ptrace.Traces{second}
				late = append(late, rest)
			}
		}
		s.send(t, all)
	}
	start := func() *exec.Cmd {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "betrace", "serve", "--config", s.config)
		log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		cmd.Stderr = log
		require.NoError(t, cmd.Start())
		require.NoError(t, log.Close())
		return cmd
	}
	t.Cleanup(func() {
		if text, err := os.ReadFile(filepath.Join(s.dir, "log")); err == nil && t.Failed() {
			t.Logf("the log:\n%s", text)
		}
	})
	// open returns the open violations, and the time up to which everything was judged.
	open := func() (list []found, watermark time.Time) {
		db, err := state.OpenReadOnly(t.Context(), s.state())
		if err != nil { // it is being created
			return nil, time.Time{}
		}
		defer db.Close()
		assert.NoError(t, db.View(t.Context(), func(ctx context.Context, r *state.Reader) error {
			violations, err := r.Violations(ctx, state.ViolationFilter{Status: state.StatusOpen})
			if err != nil {
				return err
			}
			for _, v := range violations {
				list = append(list, found{v.TraceID.String(), v.RuleID})
			}
			ledgers, err := r.Ledgers(ctx)
			if err == nil && len(ledgers) > 0 {
				watermark = ledgers[0].Watermark
			}
			return err
		}))
		return sorted(list), watermark
	}
	passes := func(at time.Time) {
		t.Helper()
		require.Eventually(t, func() bool { _, w := open(); return w.After(at) }, 2*time.Minute, 200*time.Millisecond, "the watermark passes the traces")
	}

	service := start()
	load(60)
	passes(time.Now())
	first, _ := open()
	require.NotEmpty(t, first)
	require.NoError(t, service.Process.Kill())
	require.Error(t, service.Wait())
	load(60) // nobody is there
	s.send(t, late)
	late = nil
	time.Sleep(2 * time.Second)
	service = start()
	passes(time.Now())
	s.send(t, late) // of traces that were judged
	passes(time.Now().Add(30 * time.Second))
	have, _ := open()
	require.Equal(t, sorted(planted), have)
	require.NoError(t, service.Process.Signal(syscall.SIGTERM))
	require.NoError(t, service.Wait())

	code, stdout, stderr := betrace(t.Context(), "state", "verify", "--state", s.state())
	require.Equal(t, exitOK, code, stdout+stderr)
	db, err := state.OpenReadOnly(t.Context(), s.state())
	require.NoError(t, err)
	defer db.Close()
	corrected := 0
	for _, status := range []string{state.StatusOpen, state.StatusWithdrawn} {
		violations, err := db.Violations(t.Context(), state.ViolationFilter{Status: status})
		require.NoError(t, err)
		for _, v := range violations {
			corrected += v.Sequence
		}
	}
	require.Positive(t, corrected, "late spans corrected verdicts")
	t.Logf("%d violations, %d corrections", len(have), corrected)
}

// TestRecentTracesByTheAPI judges traces before Tempo has stored them in a block. The blocks confirm or correct the verdicts,
// and no violation exists twice.
func TestRecentTracesByTheAPI(t *testing.T) {
	s := newServedOn(t, 23, stack.Options{Tempo: true, Loki: true, Profile: stack.Fast, Multitenant: true, NoBlocks: true})
	config, err := os.ReadFile(s.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.config, bytes.Replace(config, []byte("hold: 0s"), []byte("hold: 0s, recent: 4s"), 1), 0o600))
	service := s.start(t, "")

	o := tracetest.Mixed(1, 60).ForTempo()
	o.Start, o.Window = time.Now().Add(-2*time.Second), time.Second
	s.traces, s.planted = generate(o)
	s.send(t, s.traces)
	s.await(t, false)
	listing, err := s.store.List(t.Context(), s.tenant)
	require.NoError(t, err)
	require.Zero(t, len(listing.Live)+len(listing.Compacted), "no block is stored yet")

	for range 3 { // blocks that complete traces of which the API delivered parts
		s.send(t, s.generate(60))
		time.Sleep(6 * time.Second) // a flush while Tempo moves traces to its block mixes the order of rows
		require.NoError(t, s.Flush(t.Context()))
	}
	s.send(t, s.generate(0))
	time.Sleep(6 * time.Second)
	require.NoError(t, s.Flush(t.Context()))
	s.await(t, true)
	require.NoError(t, service.Process.Signal(syscall.SIGTERM))
	require.NoError(t, service.Wait())
	s.check(t)
	code, stdout, stderr := betrace(t.Context(), "state", "verify", "--state", s.state())
	require.Equal(t, exitOK, code, stdout+stderr)
}
