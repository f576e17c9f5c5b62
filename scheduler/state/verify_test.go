package state_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
)

// busy writes a database with two tenants, whose keys were replaced, and closes it. Tenant acme has the entries: 1 an
// event, 2 with 10 violations, 3 with 1 correction, 4 with 5 violations and 1 correction, 5 and 6 about another key,
// 7 with nothing, 8 with 1 violation.
func busy(t testing.TB, path string) {
	t.Helper()
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	at := statetest.Epoch
	work := func(w *statetest.Work) *statetest.Work {
		t.Helper()
		at = at.Add(time.Minute)
		w.Time = at
		if w.Tenant == "" {
			w.Tenant = "acme"
		}
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			_, err := statetest.Append(ctx, tx, key, w)
			return err
		})
		return w
	}
	violations := func(first, n int) (all []state.Violation) {
		for i := range n {
			all = append(all, statetest.Violation(first+i))
		}
		return all
	}
	var ledger int64
	write(t, db, func(ctx context.Context, tx *state.Tx) (err error) {
		ledger, err = tx.CreateLedger(ctx, state.Ledger{Tenant: "acme"})
		return err
	})
	work(&statetest.Work{Event: &evidence.Event{Name: evidence.EventPackLoaded}})
	found := work(&statetest.Work{Violations: violations(0, 10), Sinks: []string{"tempo", "loki"}}).Violations
	withdrawn := work(&statetest.Work{Corrections: []state.Correction{statetest.Correction(&found[3], evidence.Withdrawn)}})
	found[3].Sequence, found[3].Spans = 1, withdrawn.Corrections[0].SpansAfter
	work(&statetest.Work{Violations: violations(10, 5), Corrections: []state.Correction{statetest.Correction(&found[3], evidence.Reinstated)}})
	work(&statetest.Work{Tenant: "other", Violations: violations(20, 3)})

	old := key
	key, err = evidence.NewKey()
	require.NoError(t, err)
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutKey(ctx, state.Key{ID: old.ID(), PEM: old.Public().PEM(), Added: statetest.Epoch, Retired: at}))
		return tx.PutKey(ctx, state.Key{ID: key.ID(), PEM: key.Public().PEM(), Added: at})
	})
	work(&statetest.Work{Event: &evidence.Event{Name: evidence.EventKeyLost, Details: map[string]string{"key": old.ID(), "replaced_by": key.ID()}}})
	work(&statetest.Work{Event: &evidence.Event{Name: evidence.EventKeyAdded, Details: map[string]string{"key": key.ID()}}})
	work(&statetest.Work{Kind: evidence.EntryCoverage})
	work(&statetest.Work{Violations: violations(30, 1), Sinks: []string{"loki"}})
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		if err := tx.PutHoles(ctx, []state.Hole{{Ledger: ledger, Reason: "error", Entry: 2, ClosedEntry: 4}}); err != nil {
			return err
		}
		return tx.PutBlocks(ctx, ledger, []state.Block{{ID: "b1", State: state.BlockJudged, Entry: 2}, {ID: "b2", State: state.BlockJudged}})
	})
	require.NoError(t, db.Close())
}

func verify(t testing.TB, path string) *state.Verification {
	t.Helper()
	db, err := state.OpenReadOnly(t.Context(), path)
	require.NoError(t, err)
	defer db.Close()
	v, err := db.Verify(t.Context())
	require.NoError(t, err)
	return v
}

func faults(v *state.Verification) (all []string) {
	for _, f := range v.Faults {
		all = append(all, f.String())
	}
	return all
}

func TestStateThatTheServiceWroteVerifies(t *testing.T) {
	path := location(t)
	busy(t, path)
	v := verify(t, path)
	require.Empty(t, faults(v))
	require.True(t, v.OK())
	require.Equal(t, []int64{2, 9, 19, 2, 6, 3}, []int64{v.Tenants, v.Entries, v.Violations, v.Corrections, v.Blobs, v.Deliveries})
	require.Len(t, v.Keys, 2)
	require.Equal(t, int64(5), v.Keys[0].Entries)
	require.Equal(t, int64(4), v.Keys[1].Entries)
	_, found := v.FirstEntry()
	require.False(t, found)

	require.Empty(t, faults(verify(t, emptyState(t))))
}

func emptyState(t testing.TB) string {
	path := location(t)
	require.NoError(t, openClose(t, path))
	return path
}

// TestEditedStateDoesNotVerify edits the database as a user with sqlite3 or psql could. Each edit must be found,
// and the first entry with a fault must be named.
func TestEditedStateDoesNotVerify(t *testing.T) {
	original := location(t)
	busy(t, original)
	blobOf2 := `'` + resultsOf(t, original, 2) + `'`
	id := statetest.Violation(3)
	violation := evidence.ViolationID("acme", id.Pack, id.RuleID, id.RuleDigest, id.TraceID)
	for _, c := range []struct {
		name, sql string
		tenant    string
		entry     int64
		want      string
	}{
		{"a byte of a signature changed", `UPDATE entries SET envelope = CAST(replace(CAST(envelope AS TEXT), '"sig":"', '"sig":"AAAA') AS BLOB) WHERE number = 2 AND tenant = 'acme'`, "acme", 2, "its envelope was changed"},
		{"an envelope replaced by that of another entry", `UPDATE entries SET envelope = (SELECT envelope FROM entries WHERE number = 4 AND tenant = 'acme') WHERE number = 2 AND tenant = 'acme'`, "acme", 2, "its envelope was changed"},
		{"an envelope with its digest", `UPDATE entries SET (envelope, digest) = (SELECT envelope, digest FROM entries WHERE number = 4 AND tenant = 'acme') WHERE number = 2 AND tenant = 'acme'`, "acme", 2, "its column number has 2, and 4 was signed"},
		{"a digest changed", `UPDATE entries SET digest = 'x' WHERE number = 3`, "acme", 3, "its envelope was changed"},
		{"a kind changed", `UPDATE entries SET kind = 'event' WHERE number = 3`, "acme", 3, "its column kind has event, and tick was signed"},
		{"a time changed", `UPDATE entries SET time = time + 1 WHERE number = 3`, "acme", 3, "its column time has"},
		{"a predecessor changed", `UPDATE entries SET previous = 'x' WHERE number = 3`, "acme", 3, "it follows an entry with the digest x"},
		{"a tenant changed", `UPDATE entries SET tenant = 'b' WHERE tenant = 'other'`, "b", 1, "its column tenant has b, and other was signed"},
		{"an entry deleted", `DELETE FROM entries WHERE tenant = 'acme' AND number = 3`, "acme", 3, "it is missing"},
		{"several entries deleted", `DELETE FROM entries WHERE tenant = 'acme' AND number IN (3, 4, 5)`, "acme", 3, "it is missing, and so are all up to entry 5"},
		{"the first entry deleted", `DELETE FROM entries WHERE tenant = 'acme' AND number = 1`, "acme", 1, "it is missing"},
		{"the last entry deleted", `DELETE FROM entries WHERE tenant = 'acme' AND number = 8`, "acme", 8, "it does not exist, and 1 violations name it"},
		{"the last entry and its violation deleted", `DELETE FROM entries WHERE tenant = 'acme' AND number = 8; DELETE FROM violations WHERE entry = 8`, "acme", 8, "it does not exist, and 1 deliveries name it"},
		{"the last entry deleted with all but its results", `DELETE FROM entries WHERE tenant = 'acme' AND number = 8; DELETE FROM violations WHERE entry = 8; DELETE FROM deliveries`, "", 0, "is named by no entry"},
		{"all entries of a tenant deleted", `DELETE FROM entries WHERE tenant = 'other'`, "other", 1, "it does not exist, and 3 violations name it"},
		{"entries renumbered", `DELETE FROM entries WHERE tenant = 'acme' AND number = 7; UPDATE entries SET number = 7 WHERE tenant = 'acme' AND number = 8; UPDATE violations SET entry = 7 WHERE entry = 8; UPDATE deliveries SET entry = 7 WHERE entry = 8`, "acme", 7, "it follows an entry with the digest"},
		{"a block of a missing entry", `UPDATE blocks SET entry = 99 WHERE id = 'b1'`, "acme", 99, "it does not exist, and 1 blocks name it"},
		{"a hole of a missing entry", `UPDATE holes SET closed_entry = 99`, "acme", 99, "it does not exist, and 1 closed holes name it"},
		{"a key removed", `DELETE FROM signing_keys WHERE retired > 0`, "acme", 1, "which is not among the 1 known keys"},
		{"a key of another ID", `UPDATE signing_keys SET pem = (SELECT pem FROM signing_keys WHERE retired = 0) WHERE retired > 0`, "acme", 1, "which is not among the 1 known keys"},
		{"results changed", `UPDATE blobs SET content = (SELECT content FROM blobs WHERE digest <> ` + blobOf2 + ` ORDER BY digest LIMIT 1) WHERE digest = ` + blobOf2, "acme", 2, "its results were changed"},
		{"results damaged", `UPDATE blobs SET content = x'00' WHERE digest = ` + blobOf2, "acme", 2, "its results were changed"},
		{"results deleted", `DELETE FROM blobs WHERE digest = ` + blobOf2, "acme", 2, "its results are missing"},
		{"a size changed", `UPDATE blobs SET size = size + 1 WHERE digest = ` + blobOf2, "acme", 2, "its column size has"},
		{"a blob added", `INSERT INTO blobs VALUES ('` + fmt.Sprintf("%064x", 7) + `', 1, x'00')`, "", 0, "the blob 0000000000000000… is named by no entry"},
		{"a line changed", `UPDATE violations SET line = CAST(replace(CAST(line AS TEXT), 'card', 'bard') AS BLOB) WHERE id = '` + violation + `'`, "acme", 2, "the line of violation " + violation + " was changed"},
		{"a severity changed", `UPDATE violations SET severity = 'info' WHERE id = '` + violation + `'`, "acme", 2, "violation " + violation + ": its columns differ from its line"},
		{"the services changed", `UPDATE violations SET services = '["shop"]' WHERE id = '` + violation + `'`, "acme", 2, "its columns differ from its line"},
		{"an ID changed", `UPDATE violations SET id = 'x' WHERE id = '` + violation + `'`, "acme", 2, "violation 3 is x, and " + violation + " was signed"},
		{"a violation deleted", `DELETE FROM violations WHERE id = '` + violation + `'`, "acme", 2, "violation " + violation + " is missing"},
		{"the last violation of an entry deleted", `DELETE FROM violations WHERE entry = 8`, "acme", 8, "is missing"},
		{"a violation moved to another entry", `UPDATE violations SET entry = 7 WHERE entry = 8`, "acme", 7, "was added: 0 were signed"},
		{"a violation copied", `INSERT INTO violations SELECT 'x', tenant, entry, 10, ledger, pack, rule, rule_digest, severity, trace_id, trace_start, services, origin, sweep, job, window_start, window_end,
			provisional, engine, filed_at, root_id, root_name, root_service, line, spans, status, sequence, muted FROM violations WHERE id = '` + violation + `'`, "acme", 2, "violation x was added: 10 were signed"},
		{"a violation of an event", `UPDATE violations SET entry = 1 WHERE entry = 8`, "acme", 1, "it has 1 violations, and 0 were signed"},
		{"a violation withdrawn without a correction", `UPDATE violations SET status = 'withdrawn' WHERE entry = 8`, "acme", 8, "is withdrawn, and it has no correction"},
		{"a reinstated violation withdrawn", `UPDATE violations SET status = 'withdrawn' WHERE id = '` + violation + `'`, "acme", 2, "is withdrawn, and its last correction is \"reinstated\""},
		{"a violation set back", `UPDATE violations SET status = 'withdrawn', sequence = 1 WHERE id = '` + violation + `'`, "acme", 4, "has only 1 corrections"},
		{"a violation without its corrections", `UPDATE violations SET sequence = 0 WHERE id = '` + violation + `'`, "acme", 3, "has only 0 corrections"},
		{"a correction to come", `UPDATE violations SET sequence = 3 WHERE id = '` + violation + `'`, "acme", 2, "is open since its correction 3, which does not exist"},
		{"fewer spans than its correction", `UPDATE violations SET spans = 1 WHERE id = '` + violation + `'`, "acme", 2, "was judged on 1 spans, and its last correction on 14"},
		{"a correction deleted", `DELETE FROM corrections WHERE entry = 3`, "acme", 3, "is missing"},
		{"a correction deleted, the violation set back", `DELETE FROM corrections; UPDATE violations SET sequence = 0, status = 'open'`, "acme", 3, "is missing"},
		{"a correction's kind changed", `UPDATE corrections SET kind = 'reinstated' WHERE entry = 3`, "acme", 3, "its columns differ from its line"},
		{"a correction's line changed", `UPDATE corrections SET line = CAST(replace(CAST(line AS TEXT), 'pass', 'fail') AS BLOB) WHERE entry = 3`, "acme", 3, "the line of correction"},
		{"a correction's reason changed", `UPDATE corrections SET reason = 'a mistake' WHERE entry = 3`, "acme", 3, "its columns differ from its line"},
		{"corrections in another order", `UPDATE corrections SET sequence = 9 WHERE entry = 3; UPDATE corrections SET sequence = 1 WHERE entry = 4`, "acme", 2, "since its correction 2, which does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := copyOf(t, original)
			editSQL(t, path, c.sql)
			v := verify(t, path)
			require.NotEmpty(t, v.Faults)
			first, _ := v.FirstEntry()
			require.Equal(t, [2]any{c.tenant, c.entry}, [2]any{first.Tenant, first.Entry}, faults(v))
			if c.entry == 0 {
				first = v.Faults[0]
			}
			require.Contains(t, first.Reason, c.want, faults(v))
		})
	}
}

// resultsOf returns the digest of the results of an entry of tenant acme.
func resultsOf(t testing.TB, path string, number int64) string {
	t.Helper()
	db, err := state.OpenReadOnly(t.Context(), path)
	require.NoError(t, err)
	defer db.Close()
	keys, err := db.Keys(t.Context())
	require.NoError(t, err)
	var public []evidence.PublicKey
	for _, k := range keys {
		key, err := evidence.ParsePublicKey(k.PEM)
		require.NoError(t, err)
		public = append(public, key)
	}
	for e, err := range db.Entries(t.Context(), "acme", number, number) {
		require.NoError(t, err)
		s, _, err := evidence.OpenEnvelope(e.Envelope, public...)
		require.NoError(t, err)
		return s.Results.SHA256
	}
	t.Fatal("there is no such entry")
	return ""
}

func TestStateWithAnotherSchemaDoesNotVerify(t *testing.T) {
	on := ""
	added := `CREATE TRIGGER x BEFORE INSERT ON violations BEGIN SELECT RAISE(IGNORE); END`
	changed := `CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT 1; END`
	if onPostgres {
		on = ` ON entries`
		added = `CREATE TRIGGER x BEFORE INSERT ON violations FOR EACH ROW EXECUTE FUNCTION refuse_change('x')`
		changed = `CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`
	}
	for _, c := range []struct{ name, sql, want string }{
		{"a trigger dropped", `DROP TRIGGER entries_no_delete` + on, "the trigger entries_no_delete is missing"},
		{"a trigger added", added, "the trigger x was added"},
		{"a trigger changed", `DROP TRIGGER entries_no_delete` + on + `; ` + changed, "the trigger entries_no_delete was changed"},
		{"an index dropped", `DROP INDEX violations_by_trace`, "the index violations_by_trace is missing"},
	} {
		path := emptyState(t)
		execSQL(t, path, c.sql)
		require.Equal(t, []string{c.want}, faults(verify(t, path)), c.name)
	}
}

func TestLedgerOfATempoWithoutTenantsBelongsToTheEmptyTenant(t *testing.T) {
	path := location(t)
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	var ledger int64
	put := func(id string, entry int64) {
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			return tx.PutBlocks(ctx, ledger, []state.Block{{ID: id, State: state.BlockJudged, Entry: entry}})
		})
	}
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		if _, err := statetest.Append(ctx, tx, key, &statetest.Work{Time: statetest.Epoch, Violations: []state.Violation{statetest.Violation(0)}}); err != nil {
			return err
		}
		ledger, err = tx.CreateLedger(ctx, state.Ledger{Tenant: "single-tenant"})
		return err
	})
	put("a", 1)
	require.Empty(t, faults(verify(t, path)))
	put("b", 2)
	require.Equal(t, []string{`entry 2 of tenant "": it does not exist, and 1 blocks name it`}, faults(verify(t, path)))
	require.NoError(t, db.Close())
}

func TestFaultsAreBoundedAndNameTheFirstEntry(t *testing.T) {
	path := location(t)
	busy(t, path)
	body, on := `BEGIN SELECT 1; END`, ``
	if onPostgres {
		body, on = `FOR EACH ROW EXECUTE FUNCTION refuse_change('x')`, ` ON violations`
	}
	statements := []string{`DROP TRIGGER violations_no_update` + on, `UPDATE violations SET severity = 'info' WHERE entry = 4`}
	for i := range 150 {
		statements = append(statements, fmt.Sprintf(`CREATE TRIGGER x%d BEFORE INSERT ON violations %s`, i, body))
	}
	execSQL(t, path, statements...)
	v := verify(t, path)
	require.Len(t, v.Faults, 101)
	require.Equal(t, 151+5-101, v.More)
	first, found := v.FirstEntry()
	require.True(t, found)
	require.Equal(t, int64(4), first.Entry)
}

func TestLogSignedAnewByAnotherKeyDoesNotVerify(t *testing.T) {
	path := location(t)
	db, err := state.Open(t.Context(), state.Options{Path: path})
	require.NoError(t, err)
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	intruder, err := evidence.NewKey()
	require.NoError(t, err)
	for i, k := range []*evidence.Key{key, intruder, key} {
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			if err := tx.PutKey(ctx, state.Key{ID: k.ID(), PEM: k.Public().PEM(), Added: epoch}); err != nil {
				return err
			}
			_, err := statetest.Append(ctx, tx, k, &statetest.Work{Tenant: "acme", Time: epoch, Results: evidence.Results{Missed: i}})
			return err
		})
	}
	require.NoError(t, db.Close())
	require.Equal(t, []string{
		fmt.Sprintf(`entry 2 of tenant "acme": it is signed by the key %s, and no event up to here says that the key was added`, intruder.ID()),
		fmt.Sprintf(`entry 3 of tenant "acme": it is signed by the key %s, which the key %s had replaced`, key.ID(), intruder.ID()),
	}, faults(verify(t, path)))
}

func TestBlobsAreCheckedInSeveralPasses(t *testing.T) {
	path := location(t)
	busy(t, path)
	defer state.SetBlobPass(2)()
	require.Empty(t, faults(verify(t, path)))
	execSQL(t, path, `INSERT INTO blobs VALUES ('`+fmt.Sprintf("%064x", 7)+`', 1, x'00'), ('`+strings.Repeat("f", 64)+`', 1, x'00'), ('x', 1, x'00')`)
	require.Equal(t, []string{"the blob 0000000000000000… is named by no entry", "the blob ffffffffffffffff… is named by no entry", `the blob "x" is named by no entry`}, faults(verify(t, path)))
}
