package state_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace"
)

// withViolations opens a database with an entry of n violations.
func withViolations(t testing.TB, n int) (*state.DB, []state.Violation) {
	t.Helper()
	db := open(t)
	var all []state.Violation
	for i := range n {
		all = append(all, violation(t, i, 1))
	}
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutViolations(ctx, all)) // before the entry: the order does not matter
		_, err := appendEntry(ctx, tx, "acme")
		return err
	})
	return db, all
}

func TestViolationsAreRestoredWhole(t *testing.T) {
	db, all := withViolations(t, 3)
	have, err := db.EntryViolations(t.Context(), "acme", 1)
	require.NoError(t, err)
	equal(t, all, have)
	have, err = db.ViolationsOfTraces(t.Context(), "acme", []trace.ID{{15: 9}, all[1].TraceID})
	require.NoError(t, err)
	equal(t, all[1:2], have)
	have, err = db.ViolationsOfTraces(t.Context(), "other", []trace.ID{all[1].TraceID})
	require.NoError(t, err)
	require.Empty(t, have)
}

func TestViolationsOfManyTraces(t *testing.T) {
	db, all := withViolations(t, 1201)
	var ids []trace.ID
	for _, v := range all {
		ids = append(ids, v.TraceID)
	}
	for _, n := range []int{0, 1, 99, 100, 101, 1201} {
		have, err := db.ViolationsOfTraces(t.Context(), "acme", ids[:n])
		require.NoError(t, err)
		require.Len(t, have, n)
		found := map[trace.ID]bool{}
		for _, v := range have {
			found[v.TraceID] = true
		}
		for _, id := range ids[:n] {
			require.True(t, found[id])
		}
	}
	have, err := db.ViolationsOfTraces(t.Context(), "acme", []trace.ID{ids[1], ids[0], ids[1]})
	require.NoError(t, err)
	require.Len(t, have, 2, "each is returned once")
	require.Equal(t, 1201, len(ids))
	for i, v := range all {
		require.Equal(t, v.TraceID, ids[i], "the argument is left as it is")
	}
}

func TestViolationIsStoredOnce(t *testing.T) {
	db, all := withViolations(t, 1)
	err := db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
		_, err := appendEntry(ctx, tx, "acme")
		require.NoError(t, err)
		again := all[0]
		again.EntryNumber = 2
		return tx.PutViolations(ctx, []state.Violation{again})
	})
	require.ErrorContains(t, err, "put violation "+all[0].ID)
}

func TestViolationWithoutItsEntryIsNotCommitted(t *testing.T) {
	db := open(t)
	err := db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
		return tx.PutViolations(ctx, []state.Violation{violation(t, 0, 1)})
	})
	require.ErrorContains(t, err, "commit: ")
	have, err := db.Violations(t.Context(), state.ViolationFilter{})
	require.NoError(t, err)
	require.Empty(t, have)
	// The connection can be used again.
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		_, err := appendEntry(ctx, tx, "acme")
		require.NoError(t, err)
		return tx.PutViolations(ctx, []state.Violation{violation(t, 0, 1)})
	})
}

func TestCorrectionsChangeTheStatusOnly(t *testing.T) {
	db, all := withViolations(t, 2)
	v := all[0]
	v.Spans, v.Status, v.Sequence = 5, state.StatusWithdrawn, 1
	c := state.Correction{
		Correction: evidence.Correction{
			ID: "c1", Tenant: "acme", ViolationID: v.ID, Sequence: 1, Kind: evidence.Withdrawn, Reason: "2 more spans arrived", Outcome: "pass",
			SpansBefore: 3, SpansAfter: 5, Pack: v.Pack, RuleID: v.RuleID, RuleDigest: v.RuleDigest, Severity: v.Severity, TraceID: v.TraceID,
			Circumstances: evidence.Circumstances{Origin: evidence.OriginSweep, Sweep: "all", Engine: "1.0", FiledAt: epoch},
		},
		EntryNumber: 2, Ordinal: 0, Line: []byte("{}"),
	}
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		_, err := appendEntry(ctx, tx, "acme")
		require.NoError(t, err)
		require.NoError(t, tx.UpdateViolations(ctx, []state.Violation{v}))
		return tx.PutCorrections(ctx, []state.Correction{c})
	})
	have, err := db.EntryViolations(t.Context(), "acme", 1)
	require.NoError(t, err)
	equal(t, []state.Violation{v, all[1]}, have)
	corrections, err := db.EntryCorrections(t.Context(), "acme", 2)
	require.NoError(t, err)
	equal(t, []state.Correction{c}, corrections)
	corrections, err = db.ViolationCorrections(t.Context(), v.ID)
	require.NoError(t, err)
	equal(t, []state.Correction{c}, corrections)

	err = db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
		unknown := v
		unknown.ID = "x"
		return tx.UpdateViolations(ctx, []state.Violation{unknown})
	})
	require.ErrorContains(t, err, "update violation x: it does not exist")
}

func TestViolationsAreFiltered(t *testing.T) {
	db := open(t)
	var all []state.Violation
	for i := range 4 {
		all = append(all, violation(t, i, 1))
	}
	edit := func(i int, f func(*state.Violation)) {
		f(&all[i])
		line, err := all[i].Record()
		require.NoError(t, err)
		all[i].Line = line
	}
	edit(1, func(v *state.Violation) {
		v.Pack, v.RuleID, v.Severity, v.Services = "gdpr", "minimise", "low", []string{"shop<1>", "PAY%_!"}
	})
	edit(2, func(v *state.Violation) {
		v.Origin, v.Status, v.Services = evidence.OriginBackfill, state.StatusWithdrawn, []string{"pay__!"}
	})
	edit(3, func(v *state.Violation) { v.Services = nil })
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		_, err := appendEntry(ctx, tx, "acme")
		require.NoError(t, err)
		return tx.PutViolations(ctx, all)
	})
	at := func(i int) time.Time { return all[i].TraceStart.Time() }
	for _, c := range []struct {
		name   string
		filter state.ViolationFilter
		want   []int
	}{
		{"all, the latest first", state.ViolationFilter{}, []int{3, 2, 1, 0}},
		{"tenant", state.ViolationFilter{Tenant: "acme", Limit: 2}, []int{3, 2}},
		{"another tenant", state.ViolationFilter{Tenant: "zoo"}, nil},
		{"pack", state.ViolationFilter{Pack: "gdpr"}, []int{1}},
		{"rule", state.ViolationFilter{Rule: "no-plain-pan"}, []int{3, 2, 0}},
		{"severity", state.ViolationFilter{Severity: "low"}, []int{1}},
		{"origin", state.ViolationFilter{Origin: "backfill"}, []int{2}},
		{"status", state.ViolationFilter{Status: "open"}, []int{3, 1, 0}},
		{"service with wildcards, in its case", state.ViolationFilter{Service: "pay%_!"}, []int{0}},
		{"page after rows with another service", state.ViolationFilter{Service: "pay%_!", Limit: 1}, []int{0}},
		{"service of another case is no part of a page", state.ViolationFilter{Service: "PAY%_!", Limit: 1}, []int{1}},
		{"service that JSON escapes", state.ViolationFilter{Service: "shop<1>"}, []int{1}},
		{"part of a service", state.ViolationFilter{Service: "sho"}, nil},
		{"trace", state.ViolationFilter{TraceID: all[2].TraceID}, []int{2}},
		{"from is inclusive, to exclusive", state.ViolationFilter{From: at(1), To: at(3)}, []int{2, 1}},
		{"next page", state.ViolationFilter{After: all[2].ID, Limit: 1}, []int{1}},
		{"next page of a tenant", state.ViolationFilter{Tenant: "acme", After: all[1].ID}, []int{0}},
	} {
		have, err := db.Violations(t.Context(), c.filter)
		require.NoError(t, err, c.name)
		var ids, want []string
		for _, v := range have {
			ids = append(ids, v.ID)
		}
		for _, i := range c.want {
			want = append(want, all[i].ID)
		}
		require.Equal(t, want, ids, c.name)
	}
	_, err := db.Violations(t.Context(), state.ViolationFilter{After: "x"})
	require.ErrorContains(t, err, "violation x")
}

func TestPagesOfEqualTraceStartsMissNothing(t *testing.T) {
	db := open(t)
	var all []state.Violation
	for i := range 7 {
		v := violation(t, i, 1)
		v.TraceStart = trace.TimeOf(epoch)
		v.Line, _ = v.Record()
		all = append(all, v)
	}
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		_, err := appendEntry(ctx, tx, "acme")
		require.NoError(t, err)
		return tx.PutViolations(ctx, all)
	})
	seen := map[string]int{}
	for f := (state.ViolationFilter{Limit: 2}); ; {
		page, err := db.Violations(t.Context(), f)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, v := range page {
			seen[v.ID]++
			f.After = v.ID
		}
	}
	for _, v := range all {
		require.Equal(t, 1, seen[v.ID])
	}
}
