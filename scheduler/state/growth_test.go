package state_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
	"github.com/betracehq/betrace/trace"
)

var (
	growthViolations = flag.Int("state.violations", 10_000, "number of violations in the state of TestGrowth")
	growthFile       = flag.String("state.file", "", "file of the state of TestGrowth, which is kept; by default a temporary one")
)

// quietTick is the work of a tick that judged 6 blocks by 40 rules and found nothing.
func quietTick(i int) *statetest.Work {
	at := statetest.Epoch.Add(time.Duration(i) * 5 * time.Minute)
	w := &statetest.Work{Tenant: "quiet", Time: at}
	r := &w.Results
	r.Sweeps, r.Scheduled, r.Traces = []string{"all"}, at, evidence.TraceCounts{Seen: 300_000 + i, Judged: 300_000 + i, Spans: 9_000_000 + i}
	r.Listing = evidence.ListingResult{Began: at.Add(time.Second), Ended: at.Add(2 * time.Second), Stable: true}
	for b := range 6 {
		r.Blocks = append(r.Blocks, evidence.BlockResult{ID: statetest.TraceID(i*6 + b).String(), Outcome: evidence.OutcomeJudged, Earliest: at, Latest: at.Add(time.Minute), Traces: 50_000 + i*b, Bytes: int64(90_000_000 + i*b)})
	}
	for k := range 40 {
		rule := fmt.Sprintf("rule-%02d", k)
		digest := strings.Repeat(fmt.Sprintf("%04x", k*1543), 16)
		r.Rules = append(r.Rules, evidence.RuleResult{Pack: "payments", PackVersion: "1.2.0", Rule: rule, Digest: digest, NotApplicable: 250_000 + i*k, Pass: 50_000 - i*k})
		r.Coverage = append(r.Coverage, evidence.RuleCoverage{Pack: "payments", Rule: rule, Digest: digest, From: statetest.Epoch, To: at})
	}
	return w
}

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
		require.NoError(t, db.Close()) // the write-ahead log is of no interest
		full, err := db.Size()
		require.NoError(t, err)
		perThousand := (full - empty) * 1000 / int64(*growthViolations)
		t.Logf("%-40s %d", "bytes per thousand violations", perThousand)
		require.Less(t, perThousand, int64(2_000_000))

		db, err = state.Open(t.Context(), state.Options{Path: path})
		require.NoError(t, err)
		const ticks = 500
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			for i := range ticks {
				if _, err := statetest.Append(ctx, tx, key, quietTick(i)); err != nil {
					return err
				}
			}
			return nil
		})
		require.NoError(t, db.Close())
		quiet, err := db.Size()
		require.NoError(t, err)
		perTick := (quiet - full) / ticks
		t.Logf("%-40s %d", "bytes per tick of 40 rules, 6 blocks", perTick)
		require.Less(t, perTick, int64(10_000))
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
