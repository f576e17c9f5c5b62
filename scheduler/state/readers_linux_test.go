package state_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
)

// TestReadersOfAnotherUser reads as a user who can write neither the database nor its folder.
func TestReadersOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process of another user")
	}
	dir, err := os.MkdirTemp("", "state")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	program, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "program"), program, 0o755)) //nolint:gosec // another user runs it
	cover := filepath.Join(dir, "cover")                                            // with -cover each process writes its counts at its end
	require.NoError(t, os.Mkdir(cover, 0o777))
	require.NoError(t, os.Chmod(cover, 0o777)) //nolint:gosec // another user writes to it
	path := filepath.Join(dir, "state.db")
	read := func(path string) (string, error) {
		cmd := child(t, "read", path)
		cmd.Path, cmd.Dir = filepath.Join(dir, "program"), dir
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+cover)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}

	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	require.NoError(t, statetest.Fill(t.Context(), db, key, "acme", 0, 10))
	out, err := read(path)
	require.Error(t, err, "the file is for its owner only")
	require.Contains(t, out, "permission denied")
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		require.NoError(t, os.Chmod(file, 0o644))
	}
	out, err = read(path)
	require.NoError(t, err, out)
	require.Equal(t, "10", out, "while the service runs")
	require.NoError(t, statetest.Fill(t.Context(), db, key, "acme", 10, 10))
	out, err = read(path)
	require.NoError(t, err, out)
	require.Equal(t, "20", out, "after the service has written more")

	backup := filepath.Join(dir, "backup.db")
	require.NoError(t, db.Backup(t.Context(), backup))
	require.NoError(t, os.Chmod(backup, 0o644))
	require.NoError(t, db.Close())
	out, err = read(path)
	require.Error(t, err, "SQLite needs files beside a database that no process has open")
	require.Contains(t, out, "the user must be permitted to write to its folder")
	out, err = read(backup)
	require.NoError(t, err, out)
	require.Equal(t, "20", out, "a backup")
}
