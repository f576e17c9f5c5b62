package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace/tracetest"
)

// The shipped packs find the same in the demo's traces, whether their attributes have
// today's names or older ones.
func TestAScanFindsTheSameUnderOlderNames(t *testing.T) {
	aliases := parsePack(t, "aliases.yaml", []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nsemconv: {include: otel}\nrules: [{id: r, title: t, severity: low, when: 'true'}]"))[0].Pack.Aliases
	generated, _ := generate(tracetest.Mixed(19, 300))
	var batches []ptrace.Traces
	for _, g := range generated {
		batches = append(batches, g.Batches...)
	}
	td := tracetest.Merge(batches...)
	today := scanShipped(t, td)
	renamed := renameAttributes(td, aliases)
	require.Greater(t, renamed, 1000)
	require.Greater(t, len(today), 50)
	require.Equal(t, today, scanShipped(t, td))
}

// renameAttributes gives attributes the newest of their older names, and returns how many.
func renameAttributes(td ptrace.Traces, aliases lang.Aliases) (renamed int) {
	rename := func(m pcommon.Map) {
		for key, older := range aliases {
			if v, ok := m.Get(key); ok {
				v.CopyTo(m.PutEmpty(older[0]))
				m.Remove(key)
				renamed++
			}
		}
	}
	for _, rs := range td.ResourceSpans().All() {
		rename(rs.Resource().Attributes())
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				rename(s.Attributes())
				for _, e := range s.Events().All() {
					rename(e.Attributes())
				}
				for _, l := range s.Links().All() {
					rename(l.Attributes())
				}
			}
		}
	}
	return renamed
}

// scanShipped returns the violations of the shipped packs, without the fields that name the scan.
func scanShipped(t *testing.T, td ptrace.Traces) []string {
	t.Helper()
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "traces.pb")
	require.NoError(t, os.WriteFile(file, b, 0o600))
	code, stdout, stderr := betrace(t.Context(), "scan", "--rules", "../../rules/packs", "--traces", file, "-o", "jsonl")
	require.Equal(t, exitViolations, code, "%s", stderr)
	var found []string
	for line := range strings.Lines(stdout) {
		var out struct {
			Violation *struct {
				ID      string `json:"violation_id"`
				Message string
				About   json.RawMessage
			}
		}
		require.NoError(t, json.Unmarshal([]byte(line), &out), line)
		if v := out.Violation; v != nil {
			found = append(found, v.ID+" "+v.Message+" "+string(v.About))
		}
	}
	slices.Sort(found)
	return found
}
