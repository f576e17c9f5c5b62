package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace/tracetest"
)

// TestATenantWhoseStorageHangsDelaysNoOther sweeps two tenants on a real S3 server, behind a proxy that never answers requests
// about one of them.
func TestATenantWhoseStorageHangsDelaysNoOther(t *testing.T) {
	w := newWorldOf(t, stack.Options{Tempo: true, S3: true, FlushOnly: true, Multitenant: true})
	store, err := blocks.OpenTempo(t.Context(), w.TempoConfig)
	require.NoError(t, err)
	defer store.Close()
	o := tracetest.Mixed(79, 100).ForTempo()
	o.Start, o.Window = time.Now().Add(-30*time.Minute), 10*time.Minute
	all, planted := generate(o)
	hangs, works := "a-"+w.tenant, w.tenant // the first one in their order
	for _, tenant := range []string{hangs, works} {
		w.useTenant(t, tenant)
		w.send(t, all)
		w.flushed(t, store, spansOf(all))
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: w.S3.Address})
		r.Out.Host = r.In.Host // which is signed
	}}
	released := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, hangs) || strings.HasPrefix(r.URL.Query().Get("prefix"), hangs) {
			select {
			case <-r.Context().Done():
			case <-released:
			}
			return
		}
		proxy.ServeHTTP(out, r)
	}))
	defer server.Close()
	defer close(released)
	for _, v := range w.S3.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}

	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	target := strings.Replace(w.S3.URL(), url.QueryEscape("http://"+w.S3.Address), url.QueryEscape(server.URL), 1)
	require.NotEqual(t, w.S3.URL(), target)
	require.NoError(t, os.WriteFile(path("betrace.yaml"), fmt.Appendf(nil, `
state: %s
server: {address: "127.0.0.1:0"}
tempo: {blocks: %q}
sweeps:
  - {name: all, schedule: "@every 1s", tenants: [%s, %s], packs: [%s], start: 2h, settle: 10s, hold: 0s}
`, path("state.db"), target, hangs, w.tenant, packFile(t)), 0o600))
	service := exec.CommandContext(t.Context(), "betrace", "serve", "--config", path("betrace.yaml"))
	service.Stderr = os.Stderr
	require.NoError(t, service.Start())
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "the tenant is not judged")
		db, err := state.OpenReadOnly(t.Context(), path("state.db"))
		if err != nil {
			continue // it is made
		}
		var open []found
		violations, err := db.Violations(t.Context(), state.ViolationFilter{Status: state.StatusOpen, Limit: 10_000})
		require.NoError(t, err)
		for _, v := range violations {
			require.Equal(t, w.tenant, v.Tenant)
			open = append(open, found{v.TraceID.String(), v.RuleID})
		}
		sweep, err := db.Sweep(t.Context(), "all", w.tenant)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		if len(open) == len(planted) && sweep.Ticks > 3 { // it goes on
			require.Equal(t, sorted(planted), sorted(open))
			break
		}
	}
	require.NoError(t, service.Process.Signal(syscall.SIGTERM))
	require.NoError(t, service.Wait())
}
