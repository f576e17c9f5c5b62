package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
)

// TestCanariesProveThatASweepFindsWhatTempoReceives lets a real Tempo keep spans back until they are missed, and stores
// them then.
func TestCanariesProveThatASweepFindsWhatTempoReceives(t *testing.T) {
	w := newWorldOf(t, stack.Options{Tempo: true, Loki: true, Profile: stack.Fast, Multitenant: true})
	dir := t.TempDir()
	config, stateFile := filepath.Join(dir, "betrace.yaml"), filepath.Join(dir, "state.db")
	write := func(otlp string) {
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
state: %s
server: {address: "127.0.0.1:0"}
tempo: {url: %s, blocks: %s, %s}
sweeps:
  - {name: all, schedule: "@every 1s", tenants: [%s], packs: [%s], start: 1h, settle: 8s, hold: 0s, canary: 2s, seeded_violation: 2s}
`, stateFile, w.TempoURL, w.TempoBlocks, otlp, w.tenant, packFile(t)), 0o600))
	}
	write("")
	code, _, stderr := betrace(t.Context(), "config", "check", "--config", config)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "sweep all: canary and seeded_violation are written to Tempo: set tempo.otlp")
	write("otlp: " + w.OTLPGRPC)

	service := exec.CommandContext(t.Context(), "betrace", "serve", "--config", config)
	service.Stderr = io.Discard
	require.NoError(t, service.Start())
	// canaries returns the canaries, and the number of holes of missed ones that are open.
	canaries := func() (all []state.Canary, holes int) {
		db, err := state.OpenReadOnly(t.Context(), stateFile)
		if err != nil { // it is being created
			return nil, 0
		}
		defer db.Close()
		assert.NoError(t, db.View(t.Context(), func(ctx context.Context, r *state.Reader) error {
			ledgers, err := r.Ledgers(ctx)
			if err != nil || len(ledgers) == 0 {
				return err
			}
			listed, err := r.Holes(ctx, ledgers[0].ID)
			if err != nil {
				return err
			}
			for _, h := range listed {
				if h.ClosedEntry == 0 && h.Reason == "canary missed" {
					holes++
				}
			}
			all, err = r.Canaries(ctx, ledgers[0].ID, time.Time{})
			return err
		}))
		return all, holes
	}
	// await waits until there is a canary and a seeded violation for which is holds.
	await := func(what string, is func(state.Canary) bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			kinds := map[string]bool{}
			all, _ := canaries()
			for _, c := range all {
				kinds[c.Kind] = kinds[c.Kind] || is(c)
			}
			return kinds[state.KindCanary] && kinds[state.KindSeeded]
		}, 2*time.Minute, 500*time.Millisecond, what)
	}

	await("missed", func(c state.Canary) bool { return !c.Missed.IsZero() && c.Found.IsZero() })
	code, stdout, _ := betrace(t.Context(), "coverage", "--config", config, "--since", "10m")
	require.Equal(t, exitFailed, code, stdout)
	require.Contains(t, stdout, "canary missed")
	_, open := canaries()
	require.GreaterOrEqual(t, open, 2)

	flushing, stop := context.WithCancel(t.Context())
	flushed := make(chan error, 1)
	go func() {
		for flushing.Err() == nil {
			if err := w.Flush(flushing); err != nil && flushing.Err() == nil {
				flushed <- err
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
		flushed <- nil
	}()
	await("found late", func(c state.Canary) bool { return !c.Missed.IsZero() && !c.Found.IsZero() })
	await("found in time", func(c state.Canary) bool { return c.Missed.IsZero() && !c.Found.IsZero() })
	require.Eventually(t, func() bool { _, open := canaries(); return open == 0 }, time.Minute, 500*time.Millisecond, "the holes are closed")
	stop()
	require.NoError(t, <-flushed)
	require.NoError(t, service.Process.Signal(syscall.SIGTERM))
	require.NoError(t, service.Wait())

	code, stdout, stderr = betrace(t.Context(), "state", "verify", "--state", stateFile)
	require.Equal(t, exitOK, code, stdout+stderr)
	code, stdout, _ = betrace(t.Context(), "violations", "--state", stateFile)
	require.Equal(t, exitOK, code)
	require.Equal(t, "no violation\n", stdout, "seeded violations are not counted")
	counts := statedCanaries(t, stateFile)
	require.Positive(t, counts.Found)
	require.Positive(t, counts.Late)
	require.GreaterOrEqual(t, counts.Missed, counts.Late)
}

// statedCanaries adds up the canaries in the statements of the entries.
func statedCanaries(t *testing.T, stateFile string) (sum evidence.CanaryRef) {
	t.Helper()
	db, err := state.OpenReadOnly(t.Context(), stateFile)
	require.NoError(t, err)
	defer db.Close()
	tenants, err := db.Tenants(t.Context())
	require.NoError(t, err)
	for _, tenant := range tenants {
		for entry, err := range db.Entries(t.Context(), tenant, 1, 0) {
			require.NoError(t, err)
			var envelope struct{ Payload []byte }
			require.NoError(t, json.Unmarshal(entry.Envelope, &envelope))
			var statement evidence.Statement
			require.NoError(t, json.Unmarshal(envelope.Payload, &statement))
			if c := statement.Canaries; c != nil {
				sum.Found, sum.Late, sum.Missed = sum.Found+c.Found, sum.Late+c.Late, sum.Missed+c.Missed
			}
		}
	}
	return sum
}
