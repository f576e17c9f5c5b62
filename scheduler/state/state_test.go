package state_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// open opens a new database, and closes it at the end of the test.
func open(t testing.TB) *state.DB {
	t.Helper()
	return openAt(t, location(t))
}

func openAt(t testing.TB, path string) *state.DB {
	t.Helper()
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func write(t testing.TB, db *state.DB, f func(context.Context, *state.Tx) error) {
	t.Helper()
	require.NoError(t, db.Write(t.Context(), f))
}

// entry returns the next entry of a tenant, with content that is no envelope.
func entry(last state.Entry, tenant string) state.Entry {
	e := state.Entry{Tenant: tenant, Number: last.Number + 1, Kind: "tick", Time: epoch, Previous: last.Digest}
	e.Envelope = fmt.Appendf(nil, "entry %d of %s after %s", e.Number, tenant, e.Previous)
	sum := sha256.Sum256(e.Envelope)
	e.Digest = hex.EncodeToString(sum[:])
	return e
}

// appendEntry appends the next entry of a tenant.
func appendEntry(ctx context.Context, tx *state.Tx, tenant string) (state.Entry, error) {
	last, _, err := tx.LastEntry(ctx, tenant)
	if err != nil {
		return state.Entry{}, err
	}
	e := entry(last, tenant)
	return e, tx.AppendEntry(ctx, e)
}

// violation returns number i of an entry.
func violation(t testing.TB, i int, entry int64) state.Violation {
	id := trace.ID{0: byte(i >> 16), 1: byte(i >> 8), 2: byte(i), 15: 1}
	v := evidence.Violation{
		ID: evidence.ViolationID("acme", "pci", "no-plain-pan", "d1", id), Tenant: "acme",
		Pack: "pci", PackVersion: "1.2.0", RuleID: "no-plain-pan", RuleDigest: "d1", Title: "No card numbers", Severity: "high",
		Controls: []string{"pci:3.4"}, Clause: "never[0]", Message: "card number in <http.url>",
		TraceID: id, TraceStart: trace.TimeOf(epoch.Add(time.Duration(i) * time.Second)), RootService: "shop", Services: []string{"pay%_!", "shop"},
		Root:  evidence.SpanRef{ID: trace.SpanID{1, 2}, Name: "GET /", Service: "shop"},
		About: []evidence.SpanRef{{ID: trace.SpanID{3}, Name: "charge", Service: "pay%_!"}},
		Circumstances: evidence.Circumstances{Origin: evidence.OriginSweep, Sweep: "all", WindowStart: epoch, WindowEnd: epoch.Add(time.Minute),
			Provisional: true, Engine: "1.0", FiledAt: epoch.Add(time.Hour)},
	}
	line, err := v.Record()
	require.NoError(t, err)
	return state.Violation{Violation: v, Ledger: 7, Spans: 3, Status: state.StatusOpen, EntryNumber: entry, Ordinal: i, Line: line}
}

func equal(t testing.TB, want, have any) {
	t.Helper()
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("(-want +have)\n%s", diff)
	}
}

func TestStateIsNewUntilItHasAKey(t *testing.T) {
	path := location(t)
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	require.True(t, db.New())
	require.Regexp(t, `^[0-9a-f]{8}$`, db.Instance())
	require.Equal(t, db.Instance()+"-12", db.EntryName(12))
	instance := db.Instance()
	require.NoError(t, db.Close())

	db, err = state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	require.True(t, db.New(), "a start that ended before it stored a key")
	key := state.Key{ID: "k1", PEM: "pem", Added: epoch}
	write(t, db, func(ctx context.Context, tx *state.Tx) error { return tx.PutKey(ctx, key) })
	require.NoError(t, db.Close())

	db = openAt(t, path)
	require.False(t, db.New())
	require.Equal(t, instance, db.Instance())
	keys, err := db.Keys(t.Context())
	require.NoError(t, err)
	equal(t, []state.Key{key}, keys)
}

func TestStateIsReadableByItsUserOnly(t *testing.T) {
	db := open(t)
	info, err := os.Stat(db.Path())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	execSQL(t, foreign, `CREATE TABLE users (id INTEGER)`)
	text := filepath.Join(dir, "text.db")
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("no database ", 100)), 0o600))
	newer := filepath.Join(dir, "newer.db")
	require.NoError(t, openClose(t, newer))
	execSQL(t, newer, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
	empty := filepath.Join(dir, "empty.db")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))

	both := func(path string) []func() (*state.DB, error) {
		return []func() (*state.DB, error){
			func() (*state.DB, error) { return state.Open(t.Context(), state.Options{Path: path}) },
			func() (*state.DB, error) { return state.OpenReadOnly(t.Context(), path) },
		}
	}
	for _, c := range []struct {
		name  string
		opens []func() (*state.DB, error)
		want  string
	}{
		{"no path", both(""), "no file is given: set state to a path"},
		{"a folder that does not exist", both(filepath.Join(dir, "x", "state.db")), "the folder " + filepath.Join(dir, "x") + " does not exist: create it"},
		{"a file that does not exist", both(filepath.Join(dir, "y.db"))[1:], "does not exist: give the file of a service that has run"},
		{"an empty file, to read", both(empty)[1:], "the database is empty"},
		{"a text", both(text), "file is not a database"},
		{"another program's database", both(foreign), "the file is a database of another program"},
		{"a newer version", both(newer), "its schema version is 99, and this version of betrace supports versions up to 5: use a newer betrace"},
	} {
		for _, open := range c.opens {
			db, err := open()
			if err == nil {
				db.Close()
			}
			require.ErrorContains(t, err, c.want, c.name)
		}
	}
	require.NoError(t, openClose(t, empty), "an empty file becomes a database")
}

func openClose(t testing.TB, path string) error {
	t.Helper()
	db, err := state.Open(t.Context(), state.Options{Path: path})
	if err != nil {
		return err
	}
	return db.Close()
}

func TestSecondWriterIsRefused(t *testing.T) {
	db := open(t)
	want := fmt.Sprintf("state %s is used by another process (pid %d): stop it, or give another file", db.Path(), os.Getpid())
	_, err := state.Open(t.Context(), state.Options{Path: db.Path()})
	require.EqualError(t, err, want)

	link := filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(db.Path(), link))
	_, err = state.Open(t.Context(), state.Options{Path: link})
	require.EqualError(t, err, want, "by another name of the file")
}

func TestFailedTransactionChangesNothing(t *testing.T) {
	db := open(t)
	broken := errors.New("broken")
	require.ErrorIs(t, db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutSweep(ctx, state.SweepState{Sweep: "all", Tenant: "acme"}))
		return broken
	}), broken)
	require.Panics(t, func() {
		_ = db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error {
			require.NoError(t, tx.PutSweep(ctx, state.SweepState{Sweep: "all", Tenant: "acme"}))
			panic("broken")
		})
	})
	canceled, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, db.Write(canceled, func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutSweep(ctx, state.SweepState{Sweep: "all", Tenant: "acme"}))
		cancel()
		return nil
	}), context.Canceled)
	sweeps, err := db.Sweeps(t.Context())
	require.NoError(t, err)
	require.Empty(t, sweeps)
}

func TestReadersSeeCommittedData(t *testing.T) {
	db := open(t)
	other, err := state.OpenReadOnly(t.Context(), db.Path())
	require.NoError(t, err)
	defer other.Close()
	count := func(r *state.Reader) int {
		t.Helper()
		sweeps, err := r.Sweeps(t.Context())
		require.NoError(t, err)
		return len(sweeps)
	}
	require.NoError(t, other.View(t.Context(), func(_ context.Context, view *state.Reader) error {
		require.Equal(t, 0, count(view))
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			require.NoError(t, tx.PutSweep(ctx, state.SweepState{Sweep: "all", Tenant: "acme"}))
			require.Equal(t, 1, count(&tx.Reader), "in the transaction")
			require.Equal(t, 0, count(&db.Reader), "before the commit")
			return nil
		})
		require.Equal(t, 0, count(view), "a view sees one moment")
		return nil
	}))
	require.Equal(t, 1, count(&db.Reader), "after the commit")
	require.Equal(t, 1, count(&other.Reader), "in a database that is open for reading only")
	require.ErrorContains(t, other.Write(t.Context(), func(context.Context, *state.Tx) error { return nil }), "is open for reading only")
}

func TestExistingStateIsNotCreated(t *testing.T) {
	path := location(t)
	_, err := state.Open(t.Context(), state.Options{Path: path, Existing: true})
	want := "does not exist: give the file of a service that has run"
	if onPostgres {
		want = "the database is empty: give that of a service that has run"
	}
	require.ErrorContains(t, err, want)
	require.NoFileExists(t, path)
	require.NoFileExists(t, path+".lock")
	_, err = state.OpenReadOnly(t.Context(), path)
	require.ErrorContains(t, err, want, "nothing was created")
	require.NoError(t, openClose(t, path))
	db, err := state.Open(t.Context(), state.Options{Path: path, Existing: true})
	require.NoError(t, err)
	require.NoError(t, db.Close())
}
