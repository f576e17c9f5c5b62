package state

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

// recorder records the queries of a reader.
type recorder struct {
	querier
	queries []string
}

func (r *recorder) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	r.queries = append(r.queries, query)
	return r.querier.QueryContext(ctx, query, args...)
}

func (r *recorder) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	r.queries = append(r.queries, query)
	return r.querier.PrepareContext(ctx, query)
}

func (r *recorder) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	r.queries = append(r.queries, query)
	return r.querier.QueryRowContext(ctx, query, args...)
}

// TestHotQueriesUseIndexes compares the plans of queries whose tables grow: with the violations, the deliveries or the
// entries. A plan that scans a table, or sorts it, takes seconds in a state of a million violations.
func TestHotQueriesUseIndexes(t *testing.T) {
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "state.db")})
	require.NoError(t, err)
	defer db.Close()
	filter := func(f ViolationFilter) string {
		query, _, err := f.query(0)
		require.NoError(t, err)
		return query
	}
	// The violations of one trace are few, and are sorted.
	const ofTrace = "MATERIALIZE of_trace; SEARCH violations USING INDEX violations_by_trace (trace_id=?); SCAN of_trace; USE TEMP B-TREE FOR ORDER BY"
	day := time.Unix(0, 1)
	for _, c := range []struct{ name, query, plan string }{
		{"violations of the traces of a tick", violationsOfTraces, "SEARCH violations USING INDEX violations_by_trace (trace_id=? AND tenant=?)"},
		{"page", filter(ViolationFilter{}), "SCAN violations USING INDEX violations_by_start"},
		{"next page", filter(ViolationFilter{After: "x"}), "SEARCH violations USING INDEX violations_by_start ((trace_start,id)<(?,?))"},
		{"page of a day", filter(ViolationFilter{From: day, To: day}), "SEARCH violations USING INDEX violations_by_start (trace_start>? AND trace_start<?)"},
		{"page of a tenant", filter(ViolationFilter{Tenant: "x"}), "SEARCH violations USING INDEX violations_by_tenant (tenant=?)"},
		{"next page of a tenant", filter(ViolationFilter{Tenant: "x", After: "x"}), "SEARCH violations USING INDEX violations_by_tenant (tenant=? AND (trace_start,id)<(?,?))"},
		{"page of a rule", filter(ViolationFilter{Rule: "x"}), "SEARCH violations USING INDEX violations_by_rule (rule=?)"},
		{"page of a rule of a tenant on a day", filter(ViolationFilter{Tenant: "x", Pack: "x", Rule: "x", From: day, To: day}), "SEARCH violations USING INDEX violations_by_rule (rule=? AND trace_start>? AND trace_start<?)"},
		{"next page of a rule", filter(ViolationFilter{Rule: "x", After: "x"}), "SEARCH violations USING INDEX violations_by_rule (rule=? AND (trace_start,id)<(?,?))"},
		{"page of a service", filter(ViolationFilter{Service: "x", Severity: "x", Status: "open", Origin: "sweep"}), "SCAN violations USING INDEX violations_by_start"},
		{"trace", filter(ViolationFilter{TraceID: trace.ID{1}}), ofTrace},
		{"trace, with more", filter(ViolationFilter{Tenant: "x", Rule: "x", From: day, To: day, TraceID: trace.ID{1}}), ofTrace},
	} {
		require.Equal(t, c.plan, planOf(t, db, c.query), c.name)
	}

	// The queries of these methods are recorded.
	record := &recorder{querier: db.read}
	r := &Reader{q: record}
	call := func(_ any, err error) { require.NoError(t, err) }
	ctx := t.Context()
	call(r.DueDeliveries(ctx, day, 10))
	call(r.EntryViolations(ctx, "x", 1))
	call(r.EntryCorrections(ctx, "x", 1))
	call(r.ViolationCorrections(ctx, "x"))
	call(r.LedgerBlocks(ctx, 1))
	call(r.LoadedRules(ctx, 1))
	call(r.Holes(ctx, 1))
	call(r.pageOfEntries(ctx, "x", 1, 2))
	call(r.Tenants(ctx))
	call(r.countByEntry(ctx, "violations", "x", 1, 2))
	_, _, err = r.LastEntry(ctx, "x")
	require.NoError(t, err)
	var plans []string
	for _, query := range record.queries {
		plans = append(plans, planOf(t, db, query))
	}
	require.Equal(t, []string{
		"SEARCH deliveries USING INDEX deliveries_by_time (next_at<?)",
		"SEARCH violations USING INDEX violations_by_entry (tenant=? AND entry=?)",
		"SEARCH corrections USING INDEX corrections_by_entry (tenant=? AND entry=?)",
		"SEARCH corrections USING INDEX corrections_by_violation (violation=?)",
		"SEARCH blocks USING PRIMARY KEY (ledger=?)",
		"SEARCH loaded_rules USING PRIMARY KEY (ledger=?); USE TEMP B-TREE FOR LAST 2 TERMS OF ORDER BY",
		"SEARCH holes USING INDEX holes_by_ledger (ledger=?)",
		"SEARCH entries USING INDEX sqlite_autoindex_entries_1 (tenant=? AND number>? AND number<?)",
		"SEARCH entries USING COVERING INDEX sqlite_autoindex_entries_1",
		"SEARCH violations USING COVERING INDEX violations_by_entry (tenant=? AND entry>? AND entry<?)",
		"SEARCH entries USING INDEX sqlite_autoindex_entries_1 (tenant=?)",
	}, plans)
}

// planOf returns the plan of a query: the steps of SQLite.
func planOf(t *testing.T, db *DB, query string) string {
	t.Helper()
	args := make([]any, strings.Count(query, "$"))
	steps, err := queryAll(t.Context(), db.read, func(row scanner, step *string) error {
		var id, parent, unused int64
		return row.Scan(&id, &parent, &unused, step)
	}, `EXPLAIN QUERY PLAN `+query, args...)
	require.NoError(t, err, query)
	return strings.Join(steps, "; ")
}

// QueriesOf returns the queries that a function makes.
func QueriesOf(t *testing.T, db *DB, f func(context.Context, *Reader) error) []string {
	t.Helper()
	record := &recorder{querier: db.read}
	require.NoError(t, f(t.Context(), &Reader{q: record}))
	return record.queries
}
