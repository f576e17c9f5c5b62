package state_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
)

// TestCopyBetweenTheDatabases copies a state with all kinds of content from SQLite to PostgreSQL, and back.
func TestCopyBetweenTheDatabases(t *testing.T) {
	original := filepath.Join(t.TempDir(), "state.db")
	db := openAt(t, original)
	want, works := fixtureContent()
	want.Sweeps[0].LastError = "a zero byte \x00, and \xff"
	key := writeContent(t, db, &want, works)
	want = readContent(t, db)
	for _, to := range []string{createPostgres(t, "template0"), filepath.Join(t.TempDir(), "copy.db"), createPostgres(t, "template0")} {
		target := openAt(t, to)
		v, err := state.Copy(t.Context(), db, target)
		require.NoError(t, err)
		require.Equal(t, []int64{2, 5, 4, 2, 2}, []int64{v.Tenants, v.Entries, v.Violations, v.Corrections, v.Deliveries})
		require.Equal(t, db.Instance(), target.Instance())
		require.False(t, target.New())
		equal(t, want, readContent(t, target))

		_, err = state.Copy(t.Context(), db, target)
		require.ErrorContains(t, err, "the target is not empty: its table signing_keys has rows: give a new file, or an empty database")
		db = target
	}

	// The service goes on: new rows have new numbers, and entries follow.
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		id, err := tx.CreateLedger(ctx, state.Ledger{Tenant: "acme"})
		require.NoError(t, err)
		require.Equal(t, int64(2), id)
		hole := []state.Hole{{Ledger: id, Reason: "expired"}}
		require.NoError(t, tx.PutHoles(ctx, hole))
		require.Equal(t, int64(3), hole[0].ID)
		return nil
	})
	require.NoError(t, statetest.Fill(t.Context(), db, key, "acme", 100, 3))
	v, err := db.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, faults(v))
}

func TestCopyOfManyRows(t *testing.T) {
	db := openAt(t, filepath.Join(t.TempDir(), "state.db"))
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	require.NoError(t, statetest.Fill(t.Context(), db, key, "acme", 0, 2350, "loki"))
	target := openAt(t, createPostgres(t, "template0"))
	v, err := state.Copy(t.Context(), db, target)
	require.NoError(t, err)
	require.Equal(t, int64(2350), v.Violations)
}

func TestFailedCopyLeavesTheTargetEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	busy(t, path)
	target := createPostgres(t, "template0")
	require.NoError(t, openClose(t, target))
	// The target changes a value as it is written, as a broken driver could.
	execSQL(t, target, `CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.spans = NEW.spans + 1; RETURN NEW; END $$`,
		`CREATE TRIGGER change BEFORE INSERT ON violations FOR EACH ROW EXECUTE FUNCTION change()`)
	from, to := openAt(t, path), openAt(t, target)
	instance := to.Instance()
	_, err := state.Copy(t.Context(), from, to)
	require.ErrorContains(t, err, "copy state "+path+" to "+target+": table violations: 19 rows were read back, and they are not the 19 rows that were written")
	entries, err := to.Tenants(t.Context())
	require.NoError(t, err)
	require.Empty(t, entries)
	require.Equal(t, instance, to.Instance())

	// Without the trigger it can be repeated.
	execSQL(t, target, `DROP TRIGGER change ON violations`, `DROP FUNCTION change`)
	_, err = state.Copy(t.Context(), from, to)
	require.NoError(t, err)
}

func TestStateWithFaultsIsNotCopied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	busy(t, path)
	editSQL(t, path, `UPDATE entries SET kind = 'event' WHERE number = 3`)
	to := openAt(t, createPostgres(t, "template0"))
	_, err := state.Copy(t.Context(), openAt(t, path), to)
	require.ErrorContains(t, err, `has faults, as betrace state verify shows, and is not copied: entry 3 of tenant "acme": its column kind has event, and tick was signed`)
	require.True(t, to.New())
}

// TestEveryTableIsCopied finds a table of a later migration that is not copied.
func TestEveryTableIsCopied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, openClose(t, path))
	db := connectSQL(t, path)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'goose_db_version'`)
	require.NoError(t, err)
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		if name != "replicas" && name != "claims" { // they are about processes
			tables = append(tables, name)
		}
	}
	require.NoError(t, rows.Err())
	require.ElementsMatch(t, tables, state.CopiedTables)
}
