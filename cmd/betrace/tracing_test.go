package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace/tracetest"
)

// TestTracesAboutTheServiceAreNotJudged sends the service's own traces to the tenant that it sweeps, by a rule that every trace
// violates.
func TestTracesAboutTheServiceAreNotJudged(t *testing.T) {
	s := newServed(t, 37)
	pack := filepath.Join(s.dir, "pack.yaml")
	require.NoError(t, os.WriteFile(pack, []byte(`
apiVersion: betrace.dev/v1
kind: RulePack
metadata: {name: all, version: 1.0.0}
rules:
  - {id: no-trace, title: There is no trace, severity: low, never: ['spans.size() > 0']}
`), 0o600))
	config, err := os.ReadFile(s.config)
	require.NoError(t, err)
	config = regexp.MustCompile(`packs: \[[^\]]*\]`).ReplaceAll(config, []byte("packs: ["+pack+"]"))
	config = append(config, fmt.Sprintf("tracing: {otlp: %q, tenant: %s}\n", s.OTLPGRPC, s.tenant)...)
	require.NoError(t, os.WriteFile(s.config, config, 0o600))
	service := s.start(t, "")
	var db *state.DB
	judged := func(flushes int) int {
		for range flushes {
			time.Sleep(6 * time.Second) // spans are exported every five seconds
			require.NoError(t, s.Flush(t.Context()))
		}
		if db == nil {
			db, err = state.OpenReadOnly(t.Context(), s.state())
			require.NoError(t, err)
		}
		all, err := db.Violations(t.Context(), state.ViolationFilter{Limit: 1000})
		require.NoError(t, err)
		return len(all)
	}
	o := tracetest.Mixed(1, 12).ForTempo()
	o.Start, o.Window = time.Now().Add(-5*time.Second), 4*time.Second
	all, _ := generate(o)
	s.send(t, all)
	judged(1)
	defer func() { require.NoError(t, db.Close()) }()
	for end := time.Now().Add(*crashPatience); judged(0) != len(all); time.Sleep(200 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "%d violations of %d traces", judged(0), len(all))
	}
	require.Equal(t, len(all), judged(2))

	found, err := s.client.Select(t.Context(), `{ resource.service.name = "betrace" && name = "tick" } | select(resource.service.name)`, o.Start, time.Now(), 100)
	require.NoError(t, err)
	require.NotEmpty(t, found)
	require.NoError(t, service.Process.Signal(syscall.SIGTERM))
	require.NoError(t, service.Wait())
}
