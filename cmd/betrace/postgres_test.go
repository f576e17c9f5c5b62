package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
)

// postgresState returns the URL of a new database. The password is in the environment.
func postgresState(t *testing.T) string {
	t.Helper()
	server := stacktest.Get(t, stack.Options{Postgres: true}).Postgres
	if server.Password != "" {
		t.Setenv("PGPASSWORD", server.Password)
	}
	name := "betrace_test_" + strings.ToLower(rand.Text())
	execute := func(statement string) {
		conn, err := pgx.Connect(context.Background(), server.URL)
		require.NoError(t, err)
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), statement)
		require.NoError(t, err)
	}
	execute(`CREATE DATABASE ` + name + ` ENCODING 'UTF8' TEMPLATE template0`)
	t.Cleanup(func() { execute(`DROP DATABASE ` + name + ` WITH (FORCE)`) })
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

// TestServeOnPostgres sweeps stored blocks with the state in a PostgreSQL database, reads it by the commands, copies it to
// a file, and goes on there.
func TestServeOnPostgres(t *testing.T) {
	database := postgresState(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	pack, err := os.ReadFile("../../docs/examples/checkout.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path("pack.yaml"), pack, 0o600))
	config := func(state string) string {
		text := fmt.Sprintf(`
state: %s
signing: {key_file: %s}
server: {address: "127.0.0.1:0"}
tempo: {blocks: ../../docs/examples/tempo-blocks}
sweeps:
  - {name: all, schedule: "0 0 1 1 *", packs: [%s], start: 200000h, settle: 1m, hold: 0s}
`, state, path("key.pem"), path("pack.yaml"))
		file := path("betrace.yaml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	file := config(database)
	run := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := betrace(t.Context(), append(args, "--config", file)...)
		require.Equal(t, want, code, stdout+stderr)
		return stdout + stderr
	}
	require.Contains(t, run(exitFailed, "violations"), "the database is empty: give that of a service that has run")
	require.Contains(t, run(exitViolations, "serve", "--once"), "1 tick, 7 new violations")
	require.Contains(t, run(exitOK, "serve", "--once"), "1 tick, 0 new violations")
	require.Contains(t, run(exitOK, "violations"), "7 violations")
	require.Contains(t, run(exitOK, "coverage"), "complete up to")
	require.Contains(t, run(exitOK, "state", "verify"), "no fault")
	require.Contains(t, run(exitFailed, "state", "backup", path("copy.db")), "use pg_dump")
	require.Contains(t, run(exitOK, "config", "check"), database)

	// Commands that need the state for themselves are refused while a service runs. Another service is a replica.
	cmd := exec.CommandContext(t.Context(), "betrace", "serve", "--config", file)
	started := make(chan bool, 1)
	cmd.Stderr = writerFunc(func(b []byte) {
		if strings.Contains(string(b), "msg=started") {
			select {
			case started <- true:
			default:
			}
		}
	})
	require.NoError(t, cmd.Start())
	<-started
	inUse := fmt.Sprintf("it is used by another process (betrace, pid %d on ", cmd.Process.Pid)
	require.Contains(t, run(exitOK, "serve", "--once"), "1 tick, 0 new violations")
	require.Contains(t, run(exitFailed, "keys", "replace"), inUse)
	require.Contains(t, run(exitFailed, "state", "copy", database, path("copy.db")), inUse)
	require.Contains(t, run(exitOK, "violations"), "7 violations")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())

	require.Contains(t, run(exitOK, "sweeps", "pause", "all"), "sweep all: paused")
	require.Contains(t, run(exitOK, "sweeps", "resume", "all"), "sweep all: resumed")
	require.Contains(t, run(exitOK, "keys", "replace"), "the new key is in "+path("key.pem"))

	// Copied to a file, which a service uses, and back.
	copied := run(exitOK, "state", "copy", database, path("copy.db"))
	require.Regexp(t, regexp.MustCompile(`(?m)^1 tenant: \d+ entries, 7 violations, 0 corrections, \d+ blobs, 0 open deliveries$`), copied)
	require.Contains(t, copied, "copied and verified; set state to "+path("copy.db")+", and signing.key_file to the key of "+database)
	file = config(path("copy.db"))
	require.Contains(t, run(exitOK, "serve", "--once"), "1 tick, 0 new violations")
	require.Contains(t, run(exitOK, "violations"), "7 violations")
	require.Contains(t, run(exitOK, "state", "verify"), "no fault")
	require.Contains(t, run(exitFailed, "state", "copy", path("copy.db"), database), "the target is not empty")
	require.Contains(t, run(exitOK, "state", "copy", path("copy.db"), postgresState(t)), "copied and verified")
	require.Contains(t, run(exitFailed, "state", "copy", path("nowhere.db"), path("new.db")), "nowhere.db does not exist")
	require.NoFileExists(t, path("new.db"))
	require.Contains(t, run(exitFailed, "state", "copy", database), "betrace state copy requires FROM and TO, and 1 argument is given")
}

// writerFunc is a writer that calls a function.
type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// TestPasswordOfTheStateIsNotShown gives passwords in URLs, and looks for them in all output.
func TestPasswordOfTheStateIsNotShown(t *testing.T) {
	for _, address := range []string{"postgres://me:s3cr3t@127.0.0.1:1/x", "postgres://127.0.0.1:1/x?password=s3cr3t", "postgres://me:s3cr3t%zz@127.0.0.1:1/x", "postgresql://me:s3cr3t@127.0.0.1:1/x"} {
		for _, args := range [][]string{{"config", "check", "--state", address}, {"violations", "--state", address}, {"serve", "--state", address}, {"state", "copy", address, "x"}, {"state", "copy", "x", address}} {
			code, stdout, stderr := betrace(t.Context(), args...)
			require.Equal(t, exitFailed, code, args)
			require.NotContains(t, stdout+stderr, "s3cr3t")
			if args[0] != "state" {
				require.Regexp(t, "^betrace: configuration: state: the URL of the state ", stderr)
			}
		}
	}
	require.NoFileExists(t, "x")
	t.Setenv("PGPASSWORD", "s3cr3t")
	code, stdout, stderr := betrace(t.Context(), "violations", "--state", "postgres://me@127.0.0.1:1/x")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "betrace: state postgres://me@127.0.0.1:1/x: ")
	require.NotContains(t, stdout+stderr, "s3cr3t")
}
