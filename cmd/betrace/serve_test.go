package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestServeReloadsAndReports changes rules, configuration and storage under a running service, and watches it by HTTP.
func TestServeReloadsAndReports(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.CopyFS(path("blocks"), os.DirFS("../../docs/examples/tempo-blocks")))
	pack, err := os.ReadFile("../../docs/examples/checkout.yaml")
	require.NoError(t, err)
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path(name+".new"), []byte(text), 0o600))
		require.NoError(t, os.Rename(path(name+".new"), path(name)))
	}
	config := func(schedule string, more ...string) string {
		return fmt.Sprintf(`
state: %s
server: {address: "127.0.0.1:0", pprof: true}
tempo: {blocks: %s}
sweeps:
  - {name: all, schedule: "%s", packs: [%s], start: 20000h, settle: 1m, hold: 0s}
%s`, path("state.db"), path("blocks"), schedule, path("pack.yaml"), strings.Join(more, "\n"))
	}
	write("pack.yaml", string(pack))
	write("betrace.yaml", config("@every 1s"))

	cmd := exec.CommandContext(t.Context(), "betrace", "serve", "--config", path("betrace.yaml"))
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(log); s.Scan(); {
			lines <- s.Text()
		}
	}()
	address := ""
	// logged waits for a line of the log.
	logged := func(pattern string) {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			select {
			case line, ok := <-lines:
				require.True(t, ok, "the service ended before it logged %s", pattern)
				if m := regexp.MustCompile(`msg=started address=(\S+)`).FindStringSubmatch(line); m != nil {
					address = "http://" + m[1]
				}
				if regexp.MustCompile(pattern).MatchString(line) {
					return
				}
			case <-deadline:
				require.Fail(t, "not logged", pattern)
			}
		}
	}
	get := func(page string) (int, string) {
		t.Helper()
		resp, err := http.Get(address + page)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	metric := func(line string) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, text := get("/metrics")
			return strings.Contains(text, line+"\n")
		}, time.Minute, 200*time.Millisecond, line)
	}

	logged("msg=started")
	logged("msg=tick .*violations=7 ")
	code, text := get("/ready")
	require.Equal(t, http.StatusOK, code, text)
	_, text = get("/services")
	require.Equal(t, "sweeps: Running\noutbox: Running\nserver: Running\n", text)
	_, text = get("/config")
	require.Contains(t, text, "schedule: '@every 1s'")
	code, _ = get("/debug/pprof/")
	require.Equal(t, http.StatusOK, code)
	metric(`betrace_sweep_verdicts_total{outcome="violation",sweep="all",tenant="single-tenant"} 7`)
	metric(`betrace_rules_problems{sweep="all"} 0`)

	// A rule with a mistake keeps its last good version, and so does a pack that is no YAML.
	write("pack.yaml", strings.Replace(string(pack), `when: spans.exists(s, s.name == "execute_tool shell" && s.service == "agent")`, "when: spans.exists(s,", 1))
	logged(`rule refused.*agents-do-not-charge`)
	metric(`betrace_rules_problems{sweep="all"} 1`)
	metric(`betrace_rules_loaded{sweep="all"} 2`)
	write("pack.yaml", "{")
	metric(`betrace_rules_loaded{sweep="all"} 2`)
	metric(`betrace_rules_last_reload_successful{sweep="all"} 0`)
	write("pack.yaml", string(pack))
	metric(`betrace_rules_last_reload_successful{sweep="all"} 1`)

	// A storage that is away fails ticks, which go on when it is back.
	require.NoError(t, os.Rename(path("blocks"), path("away")))
	logged(`tick failed|tenants cannot be listed`)
	require.NoError(t, os.Rename(path("away"), path("blocks")))
	_, before := get("/metrics")
	ticks := regexp.MustCompile(`betrace_sweep_ticks_total\{.*\} \d+`).FindString(before)
	require.Eventually(t, func() bool {
		_, now := get("/metrics")
		return regexp.MustCompile(`betrace_sweep_ticks_total\{.*\} \d+`).FindString(now) != ticks
	}, time.Minute, 200*time.Millisecond, "ticks go on")

	// A configuration with a mistake is refused as a whole. A valid one is loaded on SIGHUP, and recorded.
	write("betrace.yaml", config("@every 1s", "nonsense: 1"))
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	logged(`configuration refused.*there is no setting nonsense`)
	metric("betrace_config_last_reload_successful 0")
	write("betrace.yaml", config("@every 2s"))
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	logged(`msg=stopping reason="the configuration changed"`)
	logged("msg=started")
	_, text = get("/config")
	require.Contains(t, text, "schedule: '@every 2s'")
	metric("betrace_config_last_reload_successful 1")

	// A second process is refused, and SIGTERM ends the first.
	code, _, stderr := betrace(t.Context(), "serve", "--config", path("betrace.yaml"))
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "is used by another process")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	for range lines { //nolint:revive // until the end of the log
	}
	require.NoError(t, cmd.Wait())
	code, stdout, stderr := betrace(t.Context(), "state", "verify", "--state", path("state.db"))
	require.Equal(t, exitOK, code, stdout+stderr)
}
