package scheduler

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/schedulertest"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/tracetest"
)

// TestTicksKeepTheLimits sweeps stored blocks with each limit. The ticks are within it, unless they have a single block, and
// together they find the same violations.
func TestTicksKeepTheLimits(t *testing.T) {
	dir := t.TempDir()
	begins := time.Now().Add(-10 * time.Hour).Truncate(time.Minute)
	week := schedulertest.New(schedulertest.Options{
		Dir: dir, Ticks: 24, Interval: 5 * time.Minute,
		Traces: tracetest.Options{Seed: 3, Traces: 600, Start: begins, MaxSpans: 30, ViolationRate: 0.3, Nasty: schedulertest.Difficulties(0, 0)},
	})
	for ok := true; ok; {
		var err error
		_, ok, err = week.Next()
		require.NoError(t, err)
	}
	pack := filepath.Join(t.TempDir(), "pack.yaml")
	require.NoError(t, os.WriteFile(pack, []byte(tracetest.Pack), 0o600))
	schedule, err := ParseSchedule("@every 1h", "")
	require.NoError(t, err)
	store, err := blocks.OpenFolder(t.Context(), dir)
	require.NoError(t, err)
	defer store.Close()

	readWindow := func(ctx context.Context, _ string, w APIWindow, deliver func(*columnar.Batch) error) (trace.Reading, error) {
		report, err := store.Batches(ctx, blocks.Request{From: w.From, To: w.To, Needs: w.Needs, Filter: w.Filter}, deliver)
		return report.Reading, err
	}

	// sweep returns the results of each tick with a judgement. With byWindow, it reads windows as by the API.
	sweep := func(limits Limits, byWindow bool) (ticks []*evidence.Results, violations int) {
		t.Helper()
		db, err := state.Open(t.Context(), state.Options{Path: filepath.Join(t.TempDir(), "state.db")})
		require.NoError(t, err)
		defer db.Close()
		key, err := SigningKey(t.Context(), db, "", time.Now())
		require.NoError(t, err)
		opts := ServiceOptions{
			State: db, Key: key, Store: store, Source: store.URL(), Engine: "test", MemoryBytes: 100_000,
			Sweeps: []Sweep{{Name: "all", Schedule: schedule, Tenants: []string{AllTenants}, Packs: []string{pack}, Start: 24 * time.Hour, Settle: time.Minute, Limits: limits}},
		}
		if byWindow {
			opts.Store, opts.ReadWindow = nil, readWindow
		}
		service, err := New(opts)
		require.NoError(t, err)
		once, err := service.Once(t.Context(), time.Second)
		require.NoError(t, err)
		require.Empty(t, once.Problems)
		for entry, err := range db.Entries(t.Context(), "", 1, 0) {
			require.NoError(t, err)
			s, _, err := evidence.OpenEnvelope(entry.Envelope, key.Public())
			require.NoError(t, err)
			if s.Kind != evidence.EntryTick {
				continue
			}
			content, err := db.Blob(t.Context(), s.Results.SHA256)
			require.NoError(t, err)
			results, err := evidence.ParseResults(content)
			require.NoError(t, err)
			ticks = append(ticks, results)
		}
		return ticks, once.Violations
	}
	all, violations := sweep(Limits{}, false)
	require.Len(t, all, 1, "without limits one tick judges all")
	require.Positive(t, violations)
	spans := all[0].Traces.Spans
	for name, limits := range map[string]Limits{
		"blocks": {Blocks: 2}, "spans": {Spans: spans / 4}, "requests": {Requests: 300}, "cost": {Cost: 2e7}, "each block alone": {Spans: 1},
	} {
		t.Run(name, func(t *testing.T) {
			ticks, have := sweep(limits, false)
			require.Greater(t, len(ticks), 1)
			require.Equal(t, violations, have)
			sum, judged := 0, 0
			for _, r := range ticks {
				n := 0
				for _, b := range r.Blocks {
					if b.Outcome == evidence.OutcomeJudged {
						n++
					}
				}
				judged += n
				sum += r.Traces.Spans
				if n > 1 && limits.Spans > 0 {
					require.LessOrEqual(t, r.Traces.Spans, limits.Spans)
				}
			}
			require.Equal(t, len(week.Live()), judged)
			require.GreaterOrEqual(t, sum, spans)
			t.Logf("%d blocks in %d ticks", judged, len(ticks))
		})
	}

	windows, have := sweep(Limits{}, true)
	require.Equal(t, violations, have)
	for name, limits := range map[string]Limits{"spans": {Spans: spans / 10}, "traces": {Traces: 40}, "cost": {Cost: 1e8}} {
		t.Run(name+" of windows", func(t *testing.T) {
			ticks, have := sweep(limits, true)
			require.Greater(t, len(ticks), len(windows))
			require.Equal(t, violations, have)
			for _, r := range ticks {
				require.True(t, limits.Spans == 0 || r.Traces.Spans <= limits.Spans, "%d spans", r.Traces.Spans)
				require.True(t, limits.Traces == 0 || r.Traces.Seen <= limits.Traces, "%d traces", r.Traces.Seen)
			}
			t.Logf("%d ticks instead of %d", len(ticks), len(windows))
		})
	}
}
