package scheduler

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/schedulertest"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/tracetest"
)

// foundLine identifies a violation, on one line.
func foundLine(v *evidence.Violation) string {
	return fmt.Sprintf("trace %s violates %s: %s", v.TraceID, v.RuleID, v.ID)
}

// scanAll returns the violations that one scan of all live blocks finds.
func scanAll(t *testing.T, dir string, rs []*rules.Rule) (all []string, traces int) {
	t.Helper()
	store, err := blocks.Open(t.Context(), "file://"+filepath.ToSlash(dir))
	require.NoError(t, err)
	defer store.Close()
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{
		Rules: rs,
		Source: func(ctx context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error) {
			report, err := store.Batches(ctx, blocks.Request{Tenant: schedulertest.Tenant, Needs: analyzer.Needs(rs, nil)}, deliver)
			return report.Reading, err
		},
		Write: func(_ context.Context, vs []evidence.Violation) error {
			for i := range vs {
				all = append(all, foundLine(&vs[i]))
			}
			return nil
		},
	})
	require.NoError(t, err)
	require.Empty(t, result.Problems)
	slices.Sort(all)
	return all, result.Traces.Judged
}

// sweptWeek is the state after sweeps of the blocks of a week.
type sweptWeek struct {
	*schedulertest.Week
	dir          string
	db           *state.DB
	rules        []*rules.Rule
	begins, ends time.Time
	ticked       int64
	last         map[string]state.Block // as the last tick that listed them left them
}

// sweepWeek sweeps the blocks of a week, or of a part of it, while they appear, until their data is settled.
func sweepWeek(t *testing.T, ticks, traces int, limits Limits) *sweptWeek {
	t.Helper()
	const interval = 5 * time.Minute
	dir := t.TempDir()
	begins := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	week := schedulertest.New(schedulertest.Options{
		Dir: filepath.Join(dir, "blocks"), Ticks: ticks, Interval: interval,
		Traces: tracetest.Options{
			Seed: 17, Traces: traces, Start: begins, MaxSpans: 30, ViolationRate: 0.4, Nasty: schedulertest.Difficulties(0.05, 0.3),
		},
		Replicated: func(tick int) bool { return tick > ticks*2/7 && tick <= ticks*4/7 },
		LateBy:     30 * time.Hour, Hasty: true,
	})
	packFile := filepath.Join(dir, "pack.yaml")
	require.NoError(t, os.WriteFile(packFile, []byte(tracetest.Pack), 0o600))
	pack, err := rules.Parse(packFile, []byte(tracetest.Pack), rules.Options{})
	require.NoError(t, err)

	now := begins
	clock := func() time.Time { return now }
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "blocks"), 0o750))
	store, err := blocks.Open(t.Context(), "file://"+filepath.ToSlash(filepath.Join(dir, "blocks")))
	require.NoError(t, err)
	defer store.Close()
	store.Clock(clock)
	store.Cache(64 << 20)
	db, err := state.Open(t.Context(), state.Options{Path: filepath.Join(dir, "state.db"), Now: clock})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	key, err := SigningKey(t.Context(), db, "", now)
	require.NoError(t, err)
	schedule, err := ParseSchedule("*/5 * * * *", "")
	require.NoError(t, err)
	service, err := New(ServiceOptions{
		State: db, Key: key, Store: store, Source: store.URL(), Now: clock, Engine: "test",
		Sweeps: []Sweep{{
			Name: "all", Schedule: schedule, Tenants: []string{AllTenants}, Packs: []string{packFile},
			Start: DefaultStart, Settle: DefaultSettle, Hold: DefaultHold, Limits: limits,
		}},
	})
	require.NoError(t, err)

	s := &sweptWeek{Week: week, dir: filepath.Join(dir, "blocks"), db: db, rules: pack.Rules, begins: begins, last: map[string]state.Block{}}
	tick := func() {
		t.Helper()
		next, err := service.runDue(t.Context())
		require.NoError(t, err)
		require.True(t, next.After(now))
		for _, m := range service.memories {
			require.Zero(t, m.failures)
		}
		if len(week.Written()) > 0 { // before that there is no tenant
			s.ticked++
		}
		known, err := db.LedgerBlocks(t.Context(), 1)
		require.NoError(t, err)
		for id, b := range known {
			s.last[id] = b
		}
	}
	for {
		at, ok, err := week.Next()
		require.NoError(t, err)
		if !ok {
			break
		}
		now = at
		tick()
	}
	s.ends = now
	for range DefaultSettle/interval + 2 { // until the last data is settled
		now = now.Add(interval)
		tick()
	}
	verification, err := db.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, verification.OK(), "%+v", verification.Faults)
	return s
}

// TestAWeekOfTicksEndsWithTheVerdictsOfOneScan sweeps the blocks of a week while they appear: two days of it from three
// ingesters, with late spans and compactions. The open violations at the end are those of one scan of all blocks, and of
// the traces as they were generated.
func TestAWeekOfTicksEndsWithTheVerdictsOfOneScan(t *testing.T) {
	ticks := 7 * 24 * 12
	if testing.Short() {
		ticks /= 7
	}
	week := sweepWeek(t, ticks, 2*ticks, Limits{})
	db := week.db
	sweeps, err := db.Sweeps(t.Context())
	require.NoError(t, err)
	require.Len(t, sweeps, 1)
	require.Equal(t, week.ticked, sweeps[0].Ticks)
	require.Greater(t, week.ticked, int64(ticks))
	require.Zero(t, sweeps[0].Missed)
	require.Empty(t, sweeps[0].LastError)

	// The open violations.
	all, err := db.Violations(t.Context(), state.ViolationFilter{})
	require.NoError(t, err)
	var open []string
	corrections, withdrawn := 0, 0
	for i := range all {
		corrections += all[i].Sequence
		if all[i].Status == state.StatusOpen {
			open = append(open, foundLine(&all[i].Violation))
		} else {
			withdrawn++
		}
	}
	slices.Sort(open)
	scanned, traces := scanAll(t, week.dir, week.rules)
	require.Empty(t, cmp.Diff(scanned, open))
	var generated []string
	for id, violated := range week.Expected() {
		for _, rule := range violated {
			generated = append(generated, fmt.Sprintf("trace %s violates %s", id, rule))
		}
	}
	slices.Sort(generated)
	for i := range open {
		open[i], _, _ = strings.Cut(open[i], ":")
	}
	require.Empty(t, cmp.Diff(generated, open))
	require.Len(t, week.Expected(), traces)

	// The blocks.
	outcomes := map[state.BlockState]int{}
	for _, b := range week.Written() {
		got, ok := week.last[b.ID]
		require.True(t, ok, "block %s of %s was never listed", b.ID, b.At)
		outcomes[got.State]++
		require.Contains(t, []state.BlockState{state.BlockJudged, state.BlockReplaced}, got.State, "block %s of %s", b.ID, b.At)
		if got.State == state.BlockReplaced {
			require.True(t, got.Compacted, "block %s of %s", b.ID, b.At)
		}
	}
	for _, id := range week.Live() {
		require.Equal(t, state.BlockJudged, week.last[id].State, "block %s", id)
	}

	// The coverage.
	coverage, err := ReadCoverage(t.Context(), &db.Reader, CoverageQuery{}, week.ends)
	require.NoError(t, err)
	require.Len(t, coverage, 1)
	require.Len(t, coverage[0].Rules, len(week.rules))
	for _, c := range coverage[0].Rules {
		require.Empty(t, c.Holes, c.Rule.Rule)
		require.False(t, c.From.After(week.begins), "%s is covered from %s", c.Rule.Rule, c.From)
		require.False(t, c.To.Before(week.ends), "%s is covered to %s", c.Rule.Rule, c.To)
	}

	require.Greater(t, withdrawn, ticks/100, "late spans must change verdicts")
	t.Logf("%d traces with %d late batches in %d blocks (%v); %d violations, %d of them withdrawn by %d corrections",
		traces, week.LateBatches(), len(week.last), outcomes, len(all), withdrawn, corrections)
}

// TestCappedViolationsEndWithTheVerdictsOfOneScan keeps at most one new violation of a rule in full. All violations together
// are those of one scan, so the others are corrected by late spans, too.
func TestCappedViolationsEndWithTheVerdictsOfOneScan(t *testing.T) {
	week := sweepWeek(t, 60, 2400, Limits{Violations: 1})
	var open []string
	full, err := week.db.Violations(t.Context(), state.ViolationFilter{})
	require.NoError(t, err)
	for i := range full {
		if full[i].Status == state.StatusOpen {
			open = append(open, foundLine(&full[i].Violation))
		}
	}
	capped, withdrawn := 0, 0
	err = week.db.EachCapped(t.Context(), state.ViolationFilter{}, func(v *state.ListedCapped) error {
		capped++
		if v.Status == state.StatusWithdrawn {
			withdrawn++
			return nil
		}
		open = append(open, foundLine(&evidence.Violation{
			ID: evidence.ViolationID(v.Tenant, v.Pack, v.Rule, v.Digest, v.TraceID), TraceID: v.TraceID, RuleID: v.Rule,
		}))
		return nil
	})
	require.NoError(t, err)
	slices.Sort(open)
	scanned, _ := scanAll(t, week.dir, week.rules)
	require.Empty(t, cmp.Diff(scanned, open))
	require.Positive(t, withdrawn, "late spans must change verdicts")
	t.Logf("%d violations in full, %d capped, of which %d are withdrawn", len(full), capped, withdrawn)
}
