package state_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
	"github.com/betracehq/betrace/trace"
)

// cappedState writes a state of tenant acme and closes it: entry 1 has 25 capped violations, of which entry 2 withdraws the
// first three and entry 3 reinstates the first.
func cappedState(t *testing.T, path string) state.CappedList {
	t.Helper()
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	list := state.CappedList{Ledger: 1, Pack: "payments", Rule: "rule-01", Digest: "d", Severity: "high"}
	var all []state.CappedViolation
	for i := range 25 {
		all = append(all, state.CappedViolation{TraceID: trace.ID{byte(i)}, TraceStart: trace.TimeOf(epoch.Add(time.Duration(i))), Spans: 3, Status: state.StatusOpen})
	}
	put := func(kind evidence.CappedKind, violations []state.CappedViolation) {
		w := &statetest.Work{Tenant: "acme", Time: epoch, Capped: []statetest.Capped{{Kind: kind, List: list, Violations: violations}}}
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			_, err := statetest.Append(ctx, tx, key, w)
			return err
		})
		list = w.Capped[0].List
	}
	put(evidence.CappedFound, all)
	corrected := all[:3]
	for i := range corrected {
		corrected[i].List, corrected[i].Spans, corrected[i].Status = list.ID, 4, state.StatusWithdrawn
	}
	put(evidence.CappedWithdrawn, corrected)
	corrected[0].Spans, corrected[0].Status = 5, state.StatusOpen
	put(evidence.CappedReinstated, corrected[:1])
	require.NoError(t, db.Close())
	return list
}

func TestCappedViolationsAreFound(t *testing.T) {
	path := location(t)
	list := cappedState(t, path)
	db, err := state.OpenReadOnly(t.Context(), path)
	require.NoError(t, err)
	defer db.Close()
	v, err := db.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, faults(v))
	require.Equal(t, int64(25), v.Capped)

	lists, err := db.CappedLists(t.Context())
	require.NoError(t, err)
	equal(t, []state.CappedList{list}, lists)
	have, err := db.CappedOfTraces(t.Context(), "acme", []trace.ID{{1}, {0}, {99}, {24}})
	require.NoError(t, err)
	require.Len(t, have, 3)
	none, err := db.CappedOfTraces(t.Context(), "other", []trace.ID{{1}})
	require.NoError(t, err)
	require.Empty(t, none)
	for _, c := range []struct {
		name   string
		filter state.ViolationFilter
		want   int
	}{
		{"all", state.ViolationFilter{}, 25},
		{"rule", state.ViolationFilter{Tenant: "acme", Pack: "payments", Rule: "rule-01", Severity: "high"}, 25},
		{"other severity", state.ViolationFilter{Severity: "low"}, 0},
		{"withdrawn", state.ViolationFilter{Status: state.StatusWithdrawn}, 2},
		{"trace", state.ViolationFilter{TraceID: trace.ID{7}}, 1},
		{"range", state.ViolationFilter{From: epoch.Add(2), To: epoch.Add(5)}, 3},
	} {
		n := 0
		require.NoError(t, db.EachCapped(t.Context(), c.filter, func(v *state.ListedCapped) error {
			require.Equal(t, list, v.CappedList)
			n++
			return nil
		}))
		require.Equal(t, c.want, n, c.name)
		counts, err := db.CountCapped(t.Context(), c.filter)
		require.NoError(t, err)
		require.Equal(t, c.want, counts[list.ID], c.name)
	}
}

func TestEditedCappedViolationsDoNotVerify(t *testing.T) {
	original := location(t)
	cappedState(t, original)
	first := `trace_id = '` + trace.ID{}.String() + `'`
	for _, c := range []struct {
		name, sql string
		entry     int64
		want      string
	}{
		{"a violation deleted", `DELETE FROM capped_violations WHERE trace_id = '` + trace.ID{7}.String() + `'`, 1, "it has trace 08000000000000000000000000000000, and 07000000000000000000000000000000 was signed"},
		{"the last violation deleted", `DELETE FROM capped_violations WHERE trace_id = '` + trace.ID{24}.String() + `'`, 1, "trace 18000000000000000000000000000000 is missing"},
		{"a violation added", `INSERT INTO capped_violations SELECT list, 'f0', trace_start, about, spans, status, changed FROM capped_violations WHERE changed = 3`, 1, "trace f0 was added"},
		{"a violation withdrawn", `UPDATE capped_violations SET status = 'withdrawn' WHERE changed = 0`, 1, "is withdrawn, and no entry corrected it"},
		{"a correction undone", `UPDATE capped_violations SET status = 'open', changed = 0 WHERE changed = 2`, 2, "does not have its correction"},
		{"a correction reversed", `UPDATE capped_violations SET status = 'withdrawn' WHERE ` + first, 3, `is withdrawn, and its last correction is "reinstated"`},
		{"a correction of another entry", `UPDATE capped_violations SET status = 'withdrawn', changed = 3 WHERE changed = 2`, 3, "3 capped violations name it as their last change, and its lists have 1 of them"},
		{"a correction of a missing entry", `UPDATE capped_violations SET changed = 9 WHERE changed = 3`, 9, "it does not exist, and 1 capped violations name it"},
		{"a severity changed", `UPDATE capped_lists SET severity = 'low'`, 1, "its severity is low, and high was signed"},
		{"a list moved", `UPDATE capped_lists SET entry = 2`, 1, "trace 00000000000000000000000000000000 is missing"},
		{"a list added", `INSERT INTO capped_lists SELECT 9, tenant, 2, ledger, pack, rule, rule_digest, severity FROM capped_lists`, 2, "it has 1 lists of capped violations, and 0 were signed"},
		{"a blob deleted", `DELETE FROM blobs WHERE size = 25 * 33`, 1, "a list of capped violations is missing"},
		{"a blob changed", `UPDATE blobs SET content = (SELECT content FROM blobs WHERE size = 33) WHERE size = 25 * 33`, 1, "a list of capped violations of the rule payments/rule-01 was changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := copyOf(t, original)
			editSQL(t, path, c.sql)
			v := verify(t, path)
			at, found := v.FirstEntry()
			require.True(t, found)
			require.Equal(t, c.entry, at.Entry, faults(v))
			require.Contains(t, at.Reason, c.want, faults(v))
		})
	}
}
