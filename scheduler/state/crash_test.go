package state_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
)

// childEnv makes the test binary run a function of children instead of the tests.
const childEnv = "BETRACE_STATE_TEST_CHILD"

var children = map[string]func(ctx context.Context, args []string) error{
	"write": writeForever,
	"open": func(ctx context.Context, args []string) error {
		_, err := state.Open(ctx, state.Options{Path: args[0]})
		return err
	},
	"read": readAll,
}

func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(stacktest.M{Tests: m}.Run())
	}
	if err := children[name](context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child returns the command that runs a function of children in another process.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	return cmd
}

// crashesInTest is the number of processes that the crash test kills.
const crashesInTest = 10

// writeForever appends entries with the key in a file, and prints the number of each after its commit. Entry n has
// violations, and withdraws one of the entry before.
func writeForever(ctx context.Context, args []string) error {
	db, err := state.Open(ctx, state.Options{Path: args[0]})
	if err != nil {
		return err
	}
	key, err := evidence.LoadKey(args[1])
	if err != nil {
		return err
	}
	fmt.Println("open")
	last, _, err := db.LastEntry(ctx, "acme")
	if err != nil {
		return err
	}
	for n := last.Number + 1; ; n++ {
		w := &statetest.Work{Tenant: "acme", Time: statetest.Epoch, Sinks: []string{"loki", "tempo"}}
		for i := range 1 + int(n*7)%40 {
			w.Violations = append(w.Violations, statetest.Violation(int(n)*100+i))
		}
		before, err := db.EntryViolations(ctx, "acme", n-1)
		if err != nil {
			return err
		}
		if len(before) > 0 {
			w.Corrections = []state.Correction{statetest.Correction(&before[0], evidence.Withdrawn)}
		}
		err = db.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
			if _, err := statetest.Append(ctx, tx, key, w); err != nil {
				return err
			}
			return tx.DeleteDelivery(ctx, "acme", n-1, "loki")
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestKilledWriterLosesNothing kills a process that writes, at random moments. All that it had committed must be there.
func TestKilledWriterLosesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	dir := t.TempDir()
	path, keyFile := location(t), filepath.Join(dir, "key.pem")
	key, err := evidence.NewKey()
	require.NoError(t, err)
	require.NoError(t, key.Save(keyFile))
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutKey(ctx, state.Key{ID: key.ID(), PEM: key.Public().PEM(), Added: epoch})
	})
	require.NoError(t, db.Close())

	committed := int64(0)
	for range crashesInTest {
		cmd := child(t, "write", path, keyFile)
		var problems bytes.Buffer
		cmd.Stderr = &problems
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			_ = cmd.Wait()
			t.Fatal(problems.String())
		}
		require.Equal(t, "open", lines.Text())
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(200*time.Millisecond))), func() {
			_ = cmd.Process.Kill() // it ends with the test at the latest
		})
		for lines.Scan() {
			n, err := strconv.ParseInt(lines.Text(), 10, 64)
			require.NoError(t, err)
			committed = n
		}
		timer.Stop()
		ended := cmd.Wait()
		require.ErrorContains(t, ended, "killed", problems.String())
		require.Empty(t, problems.String())

		waitForServer(t, path)
		// A reader needs no repair by a writer.
		v := verify(t, path)
		require.Empty(t, faults(v))
		require.GreaterOrEqual(t, v.Entries, committed)
		require.LessOrEqual(t, v.Entries, committed+1, "a commit that was not printed")
		committed = v.Entries
		require.Equal(t, max(0, v.Entries-1), v.Corrections)
		require.Equal(t, v.Entries+min(1, v.Entries), v.Deliveries)
	}
	require.Positive(t, committed)
}

func TestSecondProcessIsRefused(t *testing.T) {
	db := open(t)
	out, err := child(t, "open", db.Path()).CombinedOutput()
	require.Error(t, err)
	require.Equal(t, fmt.Sprintf("state %s is used by another process (pid %d): stop it, or give another file\n", db.Path(), os.Getpid()), string(out))

	// The lock ends with the process that has it.
	free := filepath.Join(t.TempDir(), "state.db")
	out, err = child(t, "open", free).CombinedOutput()
	require.NoError(t, err, string(out))
	openAt(t, free)
}

// readAll prints the number of violations, or the error.
func readAll(ctx context.Context, args []string) error {
	db, err := state.OpenReadOnly(ctx, args[0])
	if err != nil {
		return err
	}
	defer db.Close()
	violations, err := db.Violations(ctx, state.ViolationFilter{})
	fmt.Println(len(violations))
	return err
}

// TestKilledCreationIsRepeated kills processes that create a database, at random moments.
func TestKilledCreationIsRepeated(t *testing.T) {
	// The time of a start that is not killed.
	began := time.Now()
	require.NoError(t, child(t, "open", location(t)).Run())
	whole := time.Since(began)
	for range crashesInTest {
		path := location(t)
		cmd := child(t, "open", path)
		require.NoError(t, cmd.Start())
		after := time.Duration(rand.Int64N(int64(whole)))
		time.Sleep(after)
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		db, err := state.Open(t.Context(), state.Options{Path: path})
		require.NoError(t, err, "killed after %s of %s", after, whole)
		require.True(t, db.New())
		v, err := db.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, faults(v))
		require.NoError(t, db.Close())
	}
}
