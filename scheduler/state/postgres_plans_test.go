package state_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
	"github.com/betracehq/betrace/trace"
)

// TestHotQueriesUseIndexesOfPostgres compares the indexes of queries whose tables grow. Small tables are read as a whole,
// so the test forbids this where there is another way.
func TestHotQueriesUseIndexesOfPostgres(t *testing.T) {
	path := createPostgres(t, "template0")
	db := openAt(t, path)
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	require.NoError(t, statetest.Fill(t.Context(), db, key, "acme", 0, 2000, "loki"))
	raw := connectSQL(t, path)
	defer raw.Close()
	raw.SetMaxOpenConns(1)
	for _, statement := range []string{`ANALYZE`, `SET enable_seqscan = off`, `SET enable_bitmapscan = off`} {
		_, err := raw.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	day := time.Unix(0, 1)
	for _, c := range []struct {
		name, index string
		call        func(ctx context.Context, r *state.Reader) error
	}{
		{"violations of the traces of a tick", "violations_by_trace", func(ctx context.Context, r *state.Reader) error {
			_, err := r.ViolationsOfTraces(ctx, "acme", []trace.ID{{1}})
			return err
		}},
		{"page", "violations_by_start", func(ctx context.Context, r *state.Reader) error {
			_, err := r.Violations(ctx, state.ViolationFilter{Limit: 100})
			return err
		}},
		{"page of a day of a rule", "violations_by_rule", func(ctx context.Context, r *state.Reader) error {
			_, err := r.Violations(ctx, state.ViolationFilter{Rule: "rule-01", From: day, To: day})
			return err
		}},
		{"trace", "violations_by_trace", func(ctx context.Context, r *state.Reader) error {
			_, err := r.Violations(ctx, state.ViolationFilter{TraceID: trace.ID{1}})
			return err
		}},
		{"violations of an entry", "violations_by_entry", func(ctx context.Context, r *state.Reader) error {
			_, err := r.EntryViolations(ctx, "acme", 1)
			return err
		}},
		{"corrections of a violation", "corrections_by_violation", func(ctx context.Context, r *state.Reader) error {
			_, err := r.ViolationCorrections(ctx, "x")
			return err
		}},
		{"last entry", "entries_pkey", func(ctx context.Context, r *state.Reader) error {
			_, _, err := r.LastEntry(ctx, "acme")
			return err
		}},
		{"due deliveries", "deliveries_by_time", func(ctx context.Context, r *state.Reader) error {
			_, err := r.DueDeliveries(ctx, day, 10)
			return err
		}},
	} {
		for _, query := range state.QueriesOf(t, db, c.call) {
			require.Contains(t, planOf(t, raw, query), c.index, c.name)
		}
	}
}

// planOf returns the plan of a query for any values.
func planOf(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	ctx := t.Context()
	arguments := ""
	if n := strings.Count(query, "$"); n > 0 {
		arguments = "(" + strings.TrimSuffix(strings.Repeat("NULL, ", n), ", ") + ")"
	}
	for _, statement := range []string{`SET plan_cache_mode = force_generic_plan`, `PREPARE hot AS ` + query} {
		_, err := db.ExecContext(ctx, statement)
		require.NoError(t, err, query)
	}
	rows, err := db.QueryContext(ctx, `EXPLAIN EXECUTE hot`+arguments)
	require.NoError(t, err, query)
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var step string
		require.NoError(t, rows.Scan(&step))
		steps = append(steps, step)
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	_, err = db.ExecContext(ctx, `DEALLOCATE hot`)
	require.NoError(t, err)
	return strings.Join(steps, "\n")
}
