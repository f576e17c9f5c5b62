package state_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
	"github.com/betracehq/betrace/trace"
)

var (
	growthViolations = flag.Int("state.violations", 10_000, "number of violations in the state of TestGrowth")
	growthFile       = flag.String("state.file", "", "file of the state of TestGrowth, which is kept; by default a temporary one")
)

// TestGrowth measures a state with many violations, and bounds its size.
func TestGrowth(t *testing.T) {
	path := *growthFile
	if path == "" {
		path = filepath.Join(t.TempDir(), "state.db")
	}
	took := func(name string, f func() error) time.Duration {
		t.Helper()
		began := time.Now()
		require.NoError(t, f(), name)
		d := time.Since(began)
		t.Logf("%-40s %s", name, d.Round(10*time.Microsecond))
		return d
	}
	if _, err := os.Stat(path); err != nil {
		db, err := state.Open(t.Context(), state.Options{Path: path})
		require.NoError(t, err)
		key, err := statetest.Key(t.Context(), db)
		require.NoError(t, err)
		empty, err := db.Size()
		require.NoError(t, err)
		took("fill", func() error { return statetest.Fill(t.Context(), db, key, "acme", 0, *growthViolations) })
		require.NoError(t, db.Close())
		full, err := db.Size()
		require.NoError(t, err)
		perThousand := (full - empty) * 1000 / int64(*growthViolations)
		t.Logf("%-40s %d", "bytes per thousand violations", perThousand)
		require.Less(t, perThousand, int64(3_000_000))
	}
	var db *state.DB
	opened := took("open", func() (err error) { db, err = state.Open(t.Context(), state.Options{Path: path}); return })
	defer db.Close()
	require.Less(t, opened, 5*time.Second)
	var ids []trace.ID
	for i := range 100_000 {
		ids = append(ids, statetest.TraceID(i*7))
	}
	took("look up 100,000 traces", func() error { _, err := db.ViolationsOfTraces(t.Context(), "acme", ids); return err })
	for i := range ids {
		ids[i][9]++
	}
	took("look up 100,000 traces without violations", func() error { _, err := db.ViolationsOfTraces(t.Context(), "acme", ids); return err })
	for _, c := range []struct {
		name string
		f    state.ViolationFilter
	}{
		{"page", state.ViolationFilter{Limit: 100}},
		{"page of a tenant and rule", state.ViolationFilter{Tenant: "acme", Rule: "rule-07", Limit: 100}},
		{"page of a rule", state.ViolationFilter{Rule: "rule-07", Limit: 100}},
		{"page of a service", state.ViolationFilter{Service: "mail", Limit: 100}},
		{"page of withdrawn", state.ViolationFilter{Status: state.StatusWithdrawn, Limit: 100}},
		{"page of a rule that has none", state.ViolationFilter{Rule: "x", Limit: 100}},
		{"page of a service that has none", state.ViolationFilter{Service: "x", Limit: 100}},
		{"page of a severity that has none", state.ViolationFilter{Severity: "x", Limit: 100}},
		{"page of a pack that has none", state.ViolationFilter{Pack: "x", Limit: 100}},
		{"a trace", state.ViolationFilter{TraceID: statetest.TraceID(77)}},
	} {
		took(c.name, func() error { _, err := db.Violations(t.Context(), c.f); return err })
	}
	took("outbox", func() error { _, err := db.Outbox(t.Context()); return err })
	took("verify", func() error {
		v, err := db.Verify(t.Context())
		if err == nil {
			require.Empty(t, faults(v))
			t.Logf("%d entries, %d violations, %d corrections", v.Entries, v.Violations, v.Corrections)
		}
		return err
	})
	took("back up", func() error { return db.Backup(t.Context(), filepath.Join(t.TempDir(), "backup.db")) })
}
