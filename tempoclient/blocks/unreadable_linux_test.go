package blocks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

// TestFoldersThatCannotBeRead lists, as a user without permission, folders that a bucket leaves out without an error.
func TestFoldersThatCannotBeRead(t *testing.T) {
	if dir := os.Getenv("BETRACE_TEST_FOLDER"); dir != "" {
		listUnreadable(t, dir)
		return
	}
	dir, err := os.MkdirTemp("", "unreadable") // t.TempDir is for its owner only
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	program, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "program"), program, 0o755)) //nolint:gosec // another user runs it
	require.NoError(t, os.CopyFS(filepath.Join(dir, "storage"), os.DirFS("../../docs/examples/tempo-blocks")))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "closed"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "storage", "private"), 0o700))
	cover := filepath.Join(dir, "cover") // with -cover each process writes its counts at its end
	require.NoError(t, os.Mkdir(cover, 0o777))
	require.NoError(t, os.Chmod(cover, 0o777)) //nolint:gosec // another user writes to it
	require.NoError(t, os.Chmod(dir, 0o755))   //nolint:gosec // another user reads it
	first := filepath.Join(dir, "storage", "single-tenant", unreadableBlock(t, filepath.Join(dir, "storage")))
	require.NoError(t, os.Chmod(first, 0o000))

	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "program"), "-test.run=^TestFoldersThatCannotBeRead$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "BETRACE_TEST_FOLDER="+dir, "GOCOVERDIR="+cover)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, os.Chmod(first, 0o700)) //nolint:gosec // so that it can be removed
}

// unreadableBlock returns the block of the examples that the test closes.
func unreadableBlock(t *testing.T, storage string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(storage, "single-tenant"))
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() {
			return e.Name()
		}
	}
	require.Fail(t, "the examples have no block")
	return ""
}

func listUnreadable(t *testing.T, dir string) {
	t.Helper()
	open := func(folder string) *blocks.Store {
		store, err := blocks.OpenFolder(t.Context(), filepath.Join(dir, folder))
		require.NoError(t, err)
		return store
	}
	listing, err := open("storage").List(t.Context(), "")
	require.NoError(t, err)
	closed := unreadableBlock(t, filepath.Join(dir, "storage"))
	require.Equal(t, []string{closed}, listing.Unread)
	require.ErrorContains(t, listing.Problems[0].Err, "permission denied")
	require.NotEmpty(t, listing.Live, "the other blocks are listed")

	_, err = open("storage").List(t.Context(), "private")
	require.ErrorContains(t, err, "permission denied")
	_, err = open("closed").Tenants(t.Context())
	require.ErrorContains(t, err, "permission denied")
}
