package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
)

// at returns a time on 2026-03-01.
func at(hour, minute int) time.Time { return time.Date(2026, 3, 1, hour, minute, 0, 0, time.UTC) }

// storedState writes a state with two tenants, holes, corrections, refused items and errors, and returns its file.
func storedState(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	require.NoError(t, db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
		const schedule = "@every 876000h UTC" // no tick is overdue
		shop, err := tx.CreateLedger(ctx, state.Ledger{Tenant: "shop", Schedule: schedule, Begins: at(0, 0), Watermark: at(20, 0), ListedAt: at(20, 45)})
		require.NoError(t, err)
		bank, err := tx.CreateLedger(ctx, state.Ledger{Tenant: "bank", Schedule: schedule, Begins: at(0, 0), Watermark: at(21, 0), ListedAt: at(21, 45)})
		require.NoError(t, err)
		for _, s := range []state.SweepState{
			{Sweep: "all", Tenant: "shop", Ledger: shop, LastTick: at(20, 45), HasData: true, Ticks: 9, Missed: 2, LastError: "listing:\nforbidden", LastErrorAt: at(20, 50)},
			{Sweep: "all", Tenant: "bank", Ledger: bank, LastTick: at(21, 45), HasData: true},
			{Sweep: "all", Tenant: "empty", LastTick: at(21, 45)},
		} {
			require.NoError(t, tx.PutSweep(ctx, s))
		}
		require.NoError(t, tx.PutBlocks(ctx, shop, []state.Block{
			{ID: "aside", State: state.BlockAside, Earliest: at(4, 0), Latest: at(4, 30), Reason: "meta.json: unexpected end of JSON input"},
			{ID: "late", State: state.BlockWaiting, Earliest: at(9, 0), Latest: at(9, 10)},
		}))
		require.NoError(t, tx.PutLoadedRules(ctx, []state.LoadedRule{
			{Ledger: shop, Pack: "payments", Rule: "rule-00", Digest: "3b0c5f7a91d24e68", Begins: at(0, 0)},
			{Ledger: shop, Pack: "payments", Rule: "rule-01", Digest: "3b0c5f7a91d24e68", Begins: at(2, 30)},
			{Ledger: shop, Pack: "payments", Rule: "rule-02", Digest: "old", Begins: at(0, 0), Ended: at(13, 0)},
			{Ledger: bank, Pack: "payments", Rule: "rule-00", Digest: "3b0c5f7a91d24e68", Begins: at(0, 0)},
		}))
		require.NoError(t, tx.PutHoles(ctx, []state.Hole{
			{Ledger: shop, From: at(6, 0), To: at(6, 5), Reason: scheduler.HoleExpired, Subject: "block gone"},
			{Ledger: shop, Pack: "payments", Rule: "rule-01", Digest: "3b0c5f7a91d24e68", From: at(7, 0), To: at(7, 5), Reason: scheduler.HoleError, Subject: "trace 01: no such key"},
			{Ledger: shop, From: at(11, 0), To: at(11, 5), Reason: scheduler.HoleOutage, Subject: "closed", ClosedEntry: 1},
		}))
		work := &statetest.Work{Tenant: "shop", Time: at(12, 30), Violations: []state.Violation{statetest.Violation(0), statetest.Violation(1)}, Sinks: []string{"loki"}}
		_, err = statetest.Append(ctx, tx, key, work)
		require.NoError(t, err)
		withdrawn := statetest.Correction(&work.Violations[1], evidence.Withdrawn)
		_, err = statetest.Append(ctx, tx, key, &statetest.Work{Tenant: "shop", Time: at(12, 40), Corrections: []state.Correction{withdrawn}})
		require.NoError(t, err)
		_, err = statetest.Append(ctx, tx, key, &statetest.Work{Tenant: "bank", Time: at(13, 0), Violations: []state.Violation{statetest.Violation(20)}})
		require.NoError(t, err)
		return tx.PutRefused(ctx, []state.Refused{{Tenant: "shop", Sink: "tempo", Kind: "violation", ID: work.Violations[0].ID, Entry: 1, Reason: "too large", At: at(13, 0)}})
	}))
	return path
}

func TestCoverageShowsHolesWithTheirReasons(t *testing.T) {
	path := storedState(t)
	code, stdout, stderr := betrace(t.Context(), "coverage", "--state", path, "--tenant", "shop", "--from", "2026-03-01", "--to", "2026-03-02", "--step", "1h")
	require.Equal(t, exitFailed, code)
	require.Empty(t, stderr)
	_, stdout, _ = strings.Cut(stdout, "\n") // the watermark and its age
	require.Equal(t, `
            00:00  06:00  12:00  18:00
2026-03-01  ..!!!# !!!!## ###### ##~~~~

# complete   ~ provisional   ! incomplete   . missing   (one symbol: 1h, UTC)

Rules of all (tenant shop)
  2026-03-01T00:00:00Z to 2026-03-01T20:00:00Z
    payments/rule-00
  2026-03-01T02:30:00Z to 2026-03-01T20:00:00Z
    payments/rule-01
  2026-03-01T00:00:00Z to 2026-03-01T13:00:00Z  (replaced or removed)
    payments/rule-02

error: 1 hole
  The rule gave an error instead of a verdict on at least one trace. Correct the
  rule, and add the trace to its tests. The corrected rule begins with the next
  tick.
  2026-03-01T07:00:00Z to 2026-03-01T07:05:00Z
    trace 01: no such key
    for payments/rule-01

expired: 1 hole
  Blocks were deleted before they were judged. Their spans are lost. Let Tempo
  keep blocks longer, and remove the cause of late ticks, which betrace sweeps
  shows.
  2026-03-01T06:00:00Z to 2026-03-01T06:05:00Z
    block gone

set aside: 1 hole
  These blocks could not be read in several ticks, so the rest was judged
  without them. Read the error of the block and repair the storage or its
  permissions. The block is judged once it can be read.
  2026-03-01T03:00:00Z to 2026-03-01T04:30:00Z
    block aside: meta.json: unexpected end of JSON input

unjudged: 1 hole
  Blocks with late data wait to be judged. Wait for the next ticks. If the
  blocks stay, look for errors in betrace sweeps, and raise the limits of the
  sweep.
  2026-03-01T08:00:00Z to 2026-03-01T09:10:00Z
    block late
`, stdout)
}

func TestCoverageOfARangeWithoutHolesIsComplete(t *testing.T) {
	path := storedState(t)
	for _, args := range [][]string{
		{"--tenant", "bank"},
		{"--tenant", "shop", "--rule", "payments/rule-00", "--from", "2026-03-01T12:00:00Z"},
		{"--from", "2026-03-01T14:10:00Z"},
	} {
		code, stdout, stderr := betrace(t.Context(), append([]string{"coverage", "--state", path, "--to", "2026-03-01T16:00:00Z"}, args...)...)
		require.Equal(t, exitOK, code, "%s%s", stdout, stderr)
		require.NotContains(t, stdout, "hole")
	}
}

func TestCoverageOfSeveralTenantsIsThatOfTheWorst(t *testing.T) {
	code, stdout, _ := betrace(t.Context(), "coverage", "--state", storedState(t), "--from", "2026-03-01T19:30:00Z", "--to", "2026-03-01T22:00:00Z")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "all (tenant bank)  complete up to 2026-03-01T21:00:00Z")
	require.Contains(t, stdout, "all (tenant shop)  complete up to 2026-03-01T20:00:00Z")
	require.Contains(t, stdout, "\n2026-03-01 19:00          ### ###\n2026-03-01 20:00  ~~~ ~~~ ~~~ ~~~\n2026-03-01 21:00  ~~~ ~~~ ~~~ ~~~\n")
}

func TestASweepThatDoesNotRunIsAProblem(t *testing.T) {
	path := storedState(t)
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	require.NoError(t, db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
		for tenant, last := range map[string]time.Time{"late": at(20, 0), "failed": {}} {
			id, err := tx.CreateLedger(ctx, state.Ledger{Tenant: tenant, Schedule: "@every 1h UTC", Begins: at(0, 0), Watermark: at(19, 0)})
			require.NoError(t, err)
			require.NoError(t, tx.PutLoadedRules(ctx, []state.LoadedRule{{Ledger: id, Pack: "p", Rule: "r", Digest: "d", Begins: at(0, 0)}}))
			require.NoError(t, tx.PutSweep(ctx, state.SweepState{Sweep: "hourly", Tenant: tenant, Ledger: id, LastTick: last}))
		}
		return nil
	}))
	require.NoError(t, db.Close())
	coverage := func(args ...string) (int, string) {
		code, _, stderr := betrace(t.Context(), append([]string{"coverage", "--state", path, "--from", "2026-03-01T12:00:00Z", "--to", "2026-03-01T18:00:00Z"}, args...)...)
		return code, stderr
	}
	code, stderr := coverage("--tenant", "late")
	require.Equal(t, exitOK, code, "the range is before the watermark")
	require.Empty(t, stderr)
	code, stderr = coverage("--tenant", "late", "--to", "2026-03-01T19:01:00Z")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "betrace: sweep hourly, tenant late: nothing is judged since 2026-03-01T20:00:00Z, and ticks are overdue: start betrace serve, or see betrace sweeps for errors\n", stderr)
	code, stderr = coverage("--tenant", "failed", "--to", "2026-03-01T19:01:00Z")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "tenant failed: nothing is judged yet, and ticks are overdue")
}

func TestViolationsShowTheirCorrections(t *testing.T) {
	path := storedState(t)
	code, stdout, _ := betrace(t.Context(), "violations", "--state", path, "--limit", "1")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "2026-03-01T12:00:20Z  high      payments/rule-00\n")
	require.NotContains(t, stdout, "tenant")
	_, stdout, _ = betrace(t.Context(), "violations", "--state", path)
	require.Equal(t, 1, strings.Count(stdout, "\n                                tenant bank\n"))
	require.Equal(t, 2, strings.Count(stdout, "\n                                tenant shop\n"))
	code, stdout, _ = betrace(t.Context(), "violations", "--state", path, "--tenant", "shop")
	require.Equal(t, exitOK, code)
	require.Equal(t, `TRACE STARTED         SEVERITY  RULE, SERVICE: MESSAGE, TRACE ID, STANDING
2026-03-01T12:00:01Z  medium    payments/rule-01
                                checkout: the attribute card.number of span
                                "POST /charge" of order 1 is not masked
                                9e3779b97f4a7c150000000000000002  withdrawn
                                2026-03-01T12:10:01Z withdrawn: 1 more span
                                arrived
2026-03-01T12:00:00Z  low       payments/rule-00
                                checkout: the attribute card.number of span
                                "POST /charge" of order 0 is not masked
                                00000000000000000000000000000001  confirmed

2 violations
`, stdout)
}

func TestSweepsShowErrorsAndDeliveries(t *testing.T) {
	path := storedState(t)
	code, stdout, _ := betrace(t.Context(), "sweeps", "--state", path)
	require.Equal(t, exitOK, code)
	require.Regexp(t, `(?m)^all  @every 876000h UTC  next tick `, stdout)
	require.Regexp(t, `(?m)^  empty   no data +.* ago +0        0      0$`, stdout)
	require.Regexp(t, `(?m)^  shop    2026-03-01T20:00:00Z  .* ago +1        1      2$`, stdout)
	require.Contains(t, stdout, "\n  shop failed at 2026-03-01T20:50:00Z: listing: forbidden\n")
	require.Contains(t, stdout, "\nloki: 2 items to deliver, the oldest for ")
	require.Contains(t, stdout, "\n1 item refused for good\n  violation ")
	require.Contains(t, stdout, " by tempo at 2026-03-01T13:00:00Z\n    too large\n")

	_, stdout, _ = betrace(t.Context(), "sweeps", "--state", path, "--output", "json")
	var list sweepListJSON
	require.NoError(t, json.Unmarshal([]byte(stdout), &list))
	require.Len(t, list.Sweeps[0].Tenants, 3)
	require.Equal(t, []outboxJSON{{Sink: "loki", Deliveries: 1, Items: 2, Oldest: "2026-03-01T12:30:00Z"}}, list.Outbox)
	require.Equal(t, "too large", list.Refused[0].Reason)
}

func TestVerifyNamesTheEntryThatWasEdited(t *testing.T) {
	path := storedState(t)
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	require.NoError(t, db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
		v := statetest.Violation(0)
		v.ID = evidence.ViolationID("shop", v.Pack, v.RuleID, v.RuleDigest, v.TraceID)
		v.Status = state.StatusWithdrawn
		return tx.UpdateViolations(ctx, []state.Violation{v})
	}))
	require.NoError(t, db.Close())
	code, stdout, stderr := betrace(t.Context(), "state", "verify", "--state", path)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, `betrace: entry 1 of tenant "shop": `)
	require.Contains(t, stdout, "\n1 fault\n")
}

func TestAnActionIsSentToTheServiceOnly(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("welcome")) }))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	code, _, stderr := betrace(t.Context(), "sweeps", "pause", "all", "--state", storedState(t), "--address", address)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "betrace: the server at "+address+" is not betrace serve: set server.address\n", stderr)
}

func TestEachReasonOfHolesIsExplained(t *testing.T) {
	for _, reason := range []string{
		scheduler.HoleAside, scheduler.HoleBefore, scheduler.HoleError, scheduler.HoleExpired, scheduler.HoleOutage, scheduler.HoleUnjudged,
	} {
		explained := scheduler.ExplainHole(reason)
		require.NotEmpty(t, explained.Meaning, reason)
		require.NotEmpty(t, explained.Remedy, reason)
	}
}

func TestCalendarsFitATerminal(t *testing.T) {
	from := time.Date(2026, 2, 27, 13, 7, 0, 0, time.UTC)
	for _, length := range []time.Duration{time.Minute, time.Hour, day, 7 * day, 40 * day, 1000 * day} {
		grids := []grid{gridOf(length)}
		for _, step := range []time.Duration{time.Second, 7 * time.Second, time.Minute, 10 * time.Minute, 90 * time.Minute, 6 * time.Hour, day, 7 * day} {
			grids = append(grids, gridFor(step))
		}
		for _, g := range grids {
			if length/g.step > 5000 {
				continue
			}
			windows := g.windows(nil, from, from.Add(length))
			require.Equal(t, from, windows[0].From)
			require.Equal(t, from.Add(length), windows[len(windows)-1].To)
			var out strings.Builder
			require.NoError(t, g.print(&out, windows, false))
			drawing, _, _ := strings.Cut(out.String(), "\n\n")
			for line := range strings.Lines(drawing) {
				require.LessOrEqual(t, len(strings.TrimRight(line, "\n")), 92, "%s in %s:\n%s", g.step, length, drawing)
			}
			_, rows, _ := strings.Cut(drawing, "\n")
			require.Equal(t, len(windows), strings.Count(rows, "."), "%s in %s:\n%s", g.step, length, drawing)
		}
	}
}
