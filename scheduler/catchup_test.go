package scheduler

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

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

// TestCatchUp stops a service for a while. The sweep then judges the data of its policy, and a hole has the rest: a violation
// that is not found starts in the hole.
func TestCatchUp(t *testing.T) {
	const interval, settle, ticks = 5 * time.Minute, 10 * time.Minute, 48
	for _, c := range []struct {
		policy   CatchUp
		byWindow bool
		holes    int
		to       time.Duration // the end of the hole, before the restart
	}{
		{"", false, 0, 0},
		{CatchUpAll, false, 0, 0},
		{CatchUpLatest, false, 1, interval + settle},
		{CatchUpNone, false, 1, settle},
		{CatchUpAll, true, 0, 0},
		{CatchUpLatest, true, 1, interval + settle},
		{CatchUpNone, true, 1, settle},
	} {
		name := string(c.policy) + " of blocks"
		if c.byWindow {
			name = string(c.policy) + " of windows"
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			begins := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
			week := schedulertest.New(schedulertest.Options{
				Dir: filepath.Join(dir, "blocks"), Ticks: ticks, Interval: interval,
				Traces: tracetest.Options{Seed: 5, Traces: 20 * ticks, Start: begins, MaxSpans: 10, ViolationRate: 0.5, Nasty: schedulertest.Difficulties(0, 0)},
			})
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "blocks"), 0o750))
			packFile := filepath.Join(dir, "pack.yaml")
			require.NoError(t, os.WriteFile(packFile, []byte(tracetest.Pack), 0o600))
			pack, err := rules.Parse(packFile, []byte(tracetest.Pack), rules.Options{})
			require.NoError(t, err)
			store, err := blocks.OpenFolder(t.Context(), filepath.Join(dir, "blocks"))
			require.NoError(t, err)
			defer store.Close()
			now := begins
			clock := func() time.Time { return now }
			store.Clock(clock)
			db, err := state.Open(t.Context(), state.Options{Path: filepath.Join(dir, "state.db"), Now: clock})
			require.NoError(t, err)
			defer db.Close()
			key, err := SigningKey(t.Context(), db, "", now)
			require.NoError(t, err)
			schedule, err := ParseSchedule("*/5 * * * *", "")
			require.NoError(t, err)
			opts := ServiceOptions{
				State: db, Key: key, Store: store, Source: store.URL(), Now: clock, Engine: "test", MaxTraceDuration: 10 * time.Minute,
				Sweeps: []Sweep{{
					Name: "all", Schedule: schedule, Tenants: []string{SingleTenant}, Packs: []string{packFile}, Start: DefaultStart, Settle: settle, Hold: time.Minute, CatchUp: c.policy,
				}},
			}
			if c.byWindow {
				opts.Store = nil
				opts.ReadWindow = func(ctx context.Context, _ string, w APIWindow, deliver func(*columnar.Batch) error) (trace.Reading, error) {
					report, err := store.Batches(ctx, blocks.Request{From: w.From, To: w.To, Needs: w.Needs, Filter: w.Filter}, deliver)
					return report.Reading, err
				}
			}
			service, err := New(opts)
			require.NoError(t, err)

			var restart time.Time
			for i := 0; ; i++ {
				at, ok, err := week.Next()
				require.NoError(t, err)
				if !ok {
					break
				}
				now = at
				if i >= ticks/3 && i < 2*ticks/3 {
					continue // the service does not run
				}
				if i == 2*ticks/3 {
					restart = now
				}
				_, err = service.runDue(t.Context())
				require.NoError(t, err)
				for _, m := range service.memories {
					require.Zero(t, m.failures)
				}
			}
			for range settle/interval + 2 {
				now = now.Add(interval)
				_, err = service.runDue(t.Context())
				require.NoError(t, err)
			}

			sweeps, err := db.Sweeps(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, ticks/3, sweeps[0].Missed)
			holes, err := db.Holes(t.Context(), 1)
			require.NoError(t, err)
			require.Len(t, holes, c.holes)
			coverage, err := ReadCoverage(t.Context(), &db.Reader, CoverageQuery{}, now)
			require.NoError(t, err)
			require.Len(t, coverage[0].Rules, len(pack.Rules))
			for _, r := range coverage[0].Rules {
				require.Len(t, r.Holes, c.holes)
				require.False(t, r.To.Before(begins.Add(ticks*interval)), "the watermark passes the hole")
			}
			for _, h := range holes {
				require.Equal(t, HoleSkipped, h.Reason)
				require.Contains(t, h.Subject, "16 ticks were missed")
				require.False(t, h.To.After(restart.Add(-c.to)), "%s", h.To)
				if c.byWindow { // else the range is that of the skipped blocks
					require.True(t, h.To.Equal(restart.Add(-c.to)), "%s", h.To)
				}
			}
			violations, err := db.Violations(t.Context(), state.ViolationFilter{})
			require.NoError(t, err)
			found := map[trace.ID]bool{}
			for i := range violations {
				found[violations[i].TraceID] = true
			}
			missing := 0
			_, err = analyzer.Scan(t.Context(), analyzer.ScanOptions{
				Rules: pack.Rules,
				Source: func(ctx context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error) {
					report, err := store.Batches(ctx, blocks.Request{Needs: analyzer.Needs(pack.Rules, nil)}, deliver)
					return report.Reading, err
				},
				Found: func(_ context.Context, v evidence.Violation, _ *trace.Trace) error {
					start := v.TraceStart.Time()
					inHole := slices.ContainsFunc(holes, func(h state.Hole) bool { return !start.Before(h.From) && start.Before(h.To) })
					if c.byWindow {
						require.Equal(t, !inHole, found[v.TraceID], "trace of %s", start)
					}
					if !found[v.TraceID] {
						require.True(t, inHole, "trace of %s", start)
						missing++
					}
					return nil
				},
			})
			require.NoError(t, err)
			require.Equal(t, c.holes > 0, missing > 0)
			verification, err := db.Verify(t.Context())
			require.NoError(t, err)
			require.True(t, verification.OK(), "%+v", verification.Faults)
			t.Logf("%d violations found, %d skipped, holes %+v", len(violations), missing, holes)
		})
	}
}
