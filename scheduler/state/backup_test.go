package state_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
)

// writeOn appends entries of one violation until stop is called, which returns the number of commits.
func writeOn(t *testing.T, db *state.DB, key *evidence.Key) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	n := 0
	go func() {
		for ; ctx.Err() == nil; n++ {
			if err := statetest.Fill(context.WithoutCancel(ctx), db, key, "acme", n, 1, "loki"); err != nil {
				result <- err
				return
			}
		}
		result <- nil
	}()
	return func() int {
		cancel()
		require.NoError(t, <-result)
		return n
	}
}

func TestBackupWhileWriting(t *testing.T) {
	db := open(t)
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	stop := writeOn(t, db, key)
	reader, err := state.OpenReadOnly(t.Context(), db.Path())
	require.NoError(t, err)
	defer reader.Close()
	dir := t.TempDir()
	var before int64
	for i, from := range []*state.DB{db, reader, db} {
		last, _, err := db.LastEntry(t.Context(), "acme")
		require.NoError(t, err)
		path := filepath.Join(dir, "backup"+string(rune('0'+i)))
		require.NoError(t, from.Backup(t.Context(), path))
		v := verify(t, path)
		require.Empty(t, faults(v))
		require.GreaterOrEqual(t, v.Entries, last.Number, "it has all that was committed before")
		require.GreaterOrEqual(t, v.Entries, before)
		require.Equal(t, v.Entries, v.Violations)
		before = v.Entries
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	}
	n := stop()
	require.GreaterOrEqual(t, int64(n), before)
	require.Empty(t, faults(verify(t, db.Path())))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 3, "nothing else is left")

	// The service can go on with the copy.
	restored := openAt(t, filepath.Join(dir, "backup0"))
	require.Equal(t, db.Instance(), restored.Instance())
	require.False(t, restored.New())
	require.NoError(t, statetest.Fill(t.Context(), restored, key, "acme", 1_000_000, 5))
	require.Empty(t, faults(verify(t, restored.Path())))
}

func TestBackupRefuses(t *testing.T) {
	db := open(t)
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	require.NoError(t, os.WriteFile(taken, []byte("kept"), 0o600))
	err := db.Backup(t.Context(), taken)
	require.ErrorIs(t, err, fs.ErrExist)
	require.EqualError(t, err, "back up state "+db.Path()+": "+taken+": file already exists: give a new file, or move it away")
	content, err := os.ReadFile(taken)
	require.NoError(t, err)
	require.Equal(t, "kept", string(content))
	require.ErrorIs(t, db.Backup(t.Context(), db.Path()), fs.ErrExist)
	require.ErrorIs(t, db.Backup(t.Context(), filepath.Join(dir, "x", "y")), fs.ErrNotExist)

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, db.Backup(canceled, filepath.Join(dir, "new")), context.Canceled)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "a backup that failed leaves nothing")
}

func TestSizeHasTheFileAndItsLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	before, err := db.Size()
	require.NoError(t, err)
	require.NoError(t, statetest.Fill(t.Context(), db, key, "acme", 0, 100))
	after, err := db.Size()
	require.NoError(t, err)
	require.Greater(t, after, before+50_000)
	require.NoError(t, db.Close())
	closed, err := db.Size()
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, info.Size(), closed)
}
