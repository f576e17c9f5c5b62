package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
)

// TestMutedRulesAreLeftOutOfAlerts mutes a rule and judges the same traces for another tenant, whose violations are found as
// before, and filed with the label of muted ones.
func TestMutedRulesAreLeftOutOfAlerts(t *testing.T) {
	w := newWorld(t, stack.Fast)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	traces := os.DirFS("../../docs/examples/tempo-blocks/single-tenant")
	// judge judges the traces of one more tenant, and returns the number of its violations by rule and label.
	judge := func(tenant string) map[string]int {
		t.Helper()
		folder := filepath.Join(path("blocks"), tenant)
		require.NoError(t, os.CopyFS(folder, traces))
		metas, err := filepath.Glob(filepath.Join(folder, "*", "meta.json"))
		require.NoError(t, err)
		for _, meta := range metas { // which name the tenant
			content, err := os.ReadFile(meta)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(meta, bytes.ReplaceAll(content, []byte("single-tenant"), []byte(tenant)), 0o600))
		}
		code, _, stderr := betrace(t.Context(), "serve", "--once", "--config", path("betrace.yaml"))
		require.Equal(t, exitViolations, code, stderr)
		return listMuted(t, path("state.db"), tenant)
	}
	serverAddress := closedPort(t)
	require.NoError(t, os.WriteFile(path("betrace.yaml"), fmt.Appendf(nil, `
state: %s
server: {address: %q}
tempo: {blocks: %s}
loki: {url: %s}
sweeps:
  - {name: all, schedule: "@every 1h", packs: [../../docs/examples/checkout.yaml], start: 20000h, settle: 1m, hold: 0s}
`, path("state.db"), serverAddress, path("blocks"), w.LokiURL), 0o600))
	run := func(args ...string) (int, string, string) {
		return betrace(t.Context(), slices.Concat([]string{"rules"}, args, []string{"--config", path("betrace.yaml")})...)
	}

	before := judge(w.tenant + "-a")
	require.Len(t, before, 2)
	for key := range before {
		require.NotContains(t, key, "muted")
	}

	// Mistakes change nothing.
	for _, c := range []struct{ args, want string }{
		{"nope --reason r --until 1h", `want pack/ID`},
		{"checkout/nope --reason r --until 1h", `rule checkout/nope is not loaded; loaded rules: checkout/agents-do-not-charge, checkout/large-charges-pass-a-fraud-check`},
		{"checkout/agents-do-not-charge --reason r --until soon", `--until "soon": want RFC 3339`},
		{"checkout/agents-do-not-charge --reason r --until 2020-01-01", `until 2020-01-01T00:00:00Z: want a time in the future`},
		{"checkout/agents-do-not-charge --until 1h", `"reason" not set`},
	} {
		code, _, stderr := run(append([]string{"mute"}, strings.Fields(c.args)...)...)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, c.want)
	}
	code, stdout, _ := run("mutes", "--all")
	require.Equal(t, exitOK, code)
	require.Equal(t, "no rule is muted\n", stdout)

	code, stdout, stderr := run("mute", "checkout/agents-do-not-charge", "--reason", "a known fault", "--until", "1h", "--actor", "ann")
	require.Equal(t, exitOK, code, stderr)
	require.Regexp(t, `^mute [0-9a-f]{8}: checkout/agents-do-not-charge is muted until `, stdout)
	mute := strings.TrimSuffix(strings.Fields(stdout)[1], ":")
	code, _, stderr = run("mute", "checkout/large-charges-pass-a-fraud-check", "--reason", "not this one", "--until", "1h", "--service", "no-such-service")
	require.Equal(t, exitOK, code, stderr)
	code, stdout, _ = run("mutes")
	require.Equal(t, exitOK, code)
	require.Regexp(t, `(?m)^`+mute+` +checkout/agents-do-not-charge +all +all +\S+ +ann +a known fault$`, stdout)

	during := judge(w.tenant + "-b")
	require.Equal(t, map[string]int{
		"agents-do-not-charge muted":       before["agents-do-not-charge"],
		"large-charges-pass-a-fraud-check": before["large-charges-pass-a-fraud-check"],
	}, during)
	require.Equal(t, before, listMuted(t, path("state.db"), w.tenant+"-a"), "what was filed stays as it is")
	require.Equal(t, map[string]int{"true": before["agents-do-not-charge"], "": before["large-charges-pass-a-fraud-check"]}, mutedInLoki(t, w, w.tenant+"-b"))

	// A running service ends the mute.
	code, _, stderr = run("unmute", "00000000")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "there is no such mute: 00000000")
	service := exec.CommandContext(t.Context(), "betrace", "serve", "--config", path("betrace.yaml"))
	service.Stderr = os.Stderr
	require.NoError(t, service.Start())
	require.Eventually(t, func() bool { // otherwise the command would open the state itself
		answer, err := http.Get("http://" + serverAddress + "/ready")
		return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
	code, _, stderr = run("unmute", mute, "--actor", "bob")
	require.Equal(t, exitOK, code, stderr)
	code, _, stderr = run("unmute", mute)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "is not in force any more")
	require.NoError(t, service.Process.Signal(syscall.SIGTERM))
	require.NoError(t, service.Wait())
	code, stdout, _ = run("mutes", "--all", "-o", "json")
	require.Equal(t, exitOK, code)
	require.Regexp(t, regexp.MustCompile(`"ended_by": ?"bob"`), stdout)

	require.Equal(t, before, judge(w.tenant+"-c"))
	code, stdout, stderr = betrace(t.Context(), "state", "verify", "--state", path("state.db"))
	require.Equal(t, exitOK, code, stdout+stderr)
}

// listMuted counts the violations of a tenant by their rules, with " muted" after those of muted rules.
func listMuted(t *testing.T, stateFile, tenant string) map[string]int {
	t.Helper()
	code, stdout, stderr := betrace(t.Context(), "violations", "--state", stateFile, "--tenant", tenant, "-o", "json", "--limit", "0")
	require.Equal(t, exitOK, code, stderr)
	var list violationListJSON
	require.NoError(t, json.Unmarshal([]byte(stdout), &list))
	counts := map[string]int{}
	for _, v := range list.Violations {
		var record struct{ Rule struct{ ID string } }
		require.NoError(t, json.Unmarshal(v.Violation, &record))
		key := record.Rule.ID
		if v.Muted {
			key += " muted"
		}
		counts[key]++
	}
	return counts
}

// mutedInLoki counts the violations of a tenant in Loki by the label muted.
func mutedInLoki(t *testing.T, w *world, tenant string) map[string]int {
	t.Helper()
	access := w.access
	defer func() { w.access = access }()
	w.access.Tenant = tenant
	var answer struct {
		Data struct {
			Result []struct {
				Stream map[string]string
				Values [][]any
			}
		}
	}
	w.get(t, w.LokiURL+"/loki/api/v1/query_range", url.Values{"query": {`{service_name="betrace", betrace_kind="violation"}`}, "limit": {"5000"}, "since": {"1h"}}, &answer)
	counts := map[string]int{}
	for _, stream := range answer.Data.Result {
		counts[stream.Stream["muted"]] += len(stream.Values)
	}
	require.NotEmpty(t, slices.Collect(maps.Keys(counts)))
	return counts
}

// TestASweepSelectsRulesAndNamesTheTenantOfResults runs a sweep with part of a pack, whose results go to another tenant.
func TestASweepSelectsRulesAndNamesTheTenantOfResults(t *testing.T) {
	w := newWorld(t, stack.Fast)
	dir := t.TempDir()
	config := filepath.Join(dir, "betrace.yaml")
	write := func(selector string) {
		t.Helper()
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
state: %s
server: {address: "127.0.0.1:0"}
tempo: {blocks: ../../docs/examples/tempo-blocks}
loki: {url: %s}
sweeps:
  - {name: all, schedule: "@every 1h", packs: [../../docs/examples/checkout.yaml], select: '%s', results_tenant: %s, jitter: 10s, start: 20000h, settle: 1m, hold: 0s}
`, filepath.Join(dir, "state.db"), w.LokiURL, selector, w.tenant+"-ops"), 0o600))
	}
	write(`rule == "nope"`)
	code, _, stderr := betrace(t.Context(), "serve", "--once", "--config", config)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, `sweep all: select "rule == \"nope\"" matches no rule in ../../docs/examples/checkout.yaml`)
	write(`rules == 1`)
	code, _, stderr = betrace(t.Context(), "config", "check", "--config", config)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, `sweep all: select "rules == 1"`)

	write(`severity != "info" && rule.startsWith("agents")`)
	code, _, stderr = betrace(t.Context(), "serve", "--once", "--config", config)
	require.Equal(t, exitViolations, code, stderr)
	found := listMuted(t, filepath.Join(dir, "state.db"), "")
	require.Equal(t, []string{"agents-do-not-charge"}, slices.Collect(maps.Keys(found)))
	require.Equal(t, map[string]int{"": found["agents-do-not-charge"]}, mutedInLoki(t, w, w.tenant+"-ops"))
}
