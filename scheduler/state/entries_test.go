package state_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
)

func TestEntriesFormAChain(t *testing.T) {
	db := open(t)
	_, found, err := db.LastEntry(t.Context(), "acme")
	require.NoError(t, err)
	require.False(t, found)
	var want []state.Entry
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		for range 300 { // more than a page
			e, err := appendEntry(ctx, tx, "acme")
			require.NoError(t, err)
			want = append(want, e)
		}
		_, err := appendEntry(ctx, tx, "")
		require.NoError(t, err)
		_, err = appendEntry(ctx, tx, "zoo")
		return err
	})
	last, found, err := db.LastEntry(t.Context(), "acme")
	require.NoError(t, err)
	require.True(t, found)
	equal(t, want[299], last)
	for _, r := range []struct{ from, to int64 }{{1, 0}, {1, 300}, {5, 5}, {100, 290}, {300, 400}, {301, 0}} {
		var have []state.Entry
		for e, err := range db.Entries(t.Context(), "acme", r.from, r.to) {
			require.NoError(t, err)
			have = append(have, e)
		}
		to := r.to
		if to == 0 || to > 300 {
			to = 300
		}
		expected := append([]state.Entry(nil), want[r.from-1:to]...)
		equal(t, expected, have)
	}
	for e := range db.Entries(t.Context(), "acme", 1, 0) {
		require.Equal(t, int64(1), e.Number)
		break
	}
	tenants, err := db.Tenants(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"", "acme", "zoo"}, tenants)
}

func TestEntriesOutOfOrderAreRefused(t *testing.T) {
	db := open(t)
	first := entry(state.Entry{}, "acme")
	second := entry(first, "acme")
	write(t, db, func(ctx context.Context, tx *state.Tx) error { return tx.AppendEntry(ctx, first) })
	for _, c := range []struct {
		name string
		make func(*state.Entry)
		want string
	}{
		{"again", func(e *state.Entry) { *e = first }, `entry 1 of tenant "acme": the last entry has number 1`},
		{"a gap", func(e *state.Entry) { e.Number = 3 }, `entry 3 of tenant "acme": the last entry has number 1`},
		{"another predecessor", func(e *state.Entry) { e.Previous = "x" }, `its previous digest is "x", and the last entry has "` + first.Digest},
		{"another envelope", func(e *state.Entry) { e.Envelope = nil }, `and its envelope has`},
	} {
		e := second
		c.make(&e)
		err := db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error { return tx.AppendEntry(ctx, e) })
		require.ErrorContains(t, err, c.want, c.name)
	}
}

func TestBlobsAreStoredOnceByDigest(t *testing.T) {
	db := open(t)
	content := bytes.Repeat([]byte("results "), 10000)
	var digest string
	write(t, db, func(ctx context.Context, tx *state.Tx) (err error) {
		digest, err = tx.PutBlob(ctx, content)
		require.NoError(t, err)
		again, err := tx.PutBlob(ctx, content)
		require.Equal(t, digest, again)
		return err
	})
	have, err := db.Blob(t.Context(), digest)
	require.NoError(t, err)
	require.Equal(t, content, have)
	_, err = db.Blob(t.Context(), "00")
	require.ErrorContains(t, err, "blob 00 does not exist")
}

func TestKeysKeepTheirOrder(t *testing.T) {
	db := open(t)
	first, second := state.Key{ID: "b", PEM: "1", Added: epoch}, state.Key{ID: "a", PEM: "2", Added: epoch.Add(1)}
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutKey(ctx, second))
		require.NoError(t, tx.PutKey(ctx, first))
		first.Retired = epoch.Add(2)
		return tx.PutKey(ctx, first)
	})
	keys, err := db.Keys(t.Context())
	require.NoError(t, err)
	equal(t, []state.Key{first, second}, keys)
}

func TestEvidenceIsAppendOnly(t *testing.T) {
	path := location(t)
	busy(t, path)
	for _, c := range []struct{ sql, want string }{
		{`UPDATE entries SET time = time + 1`, "entries are append-only"},
		{`DELETE FROM entries`, "entries are append-only"},
		{`UPDATE blobs SET size = size + 1`, "blobs are never changed"},
		{`UPDATE violations SET severity = 'info'`, "only spans, status and sequence of a violation may change"},
		{`DELETE FROM violations`, "violations are never deleted"},
		{`UPDATE corrections SET kind = 'reinstated'`, "corrections are append-only"},
		{`DELETE FROM corrections`, "corrections are append-only"},
	} {
		db := connectSQL(t, path)
		_, err := db.ExecContext(t.Context(), c.sql)
		require.ErrorContains(t, err, c.want, c.sql)
		require.NoError(t, db.Close())
	}
	execSQL(t, path, `UPDATE violations SET spans = spans + 1, status = status, sequence = sequence`, `DELETE FROM deliveries`)
	require.Empty(t, faults(verify(t, path)))
}

func TestValuesAreStoredByteByByte(t *testing.T) {
	db := open(t)
	for _, text := range []string{"", "\x00", "a\x00b\x00", "\xff\xfe", "caf\u00e9", "\U0010FFFD", "\U0010FFFD00", "a\U0010FFFD\xc3", "\xed\xa0\x80", "\ufffd", `\x00`, `'"; --`} {
		sweep := state.SweepState{Sweep: "all" + text, Tenant: text, LastError: text + "x" + text}
		pack := state.Pack{Digest: "d", Name: text, Content: []byte(text + "x"), LoadedAt: epoch}
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			require.NoError(t, tx.PutPack(ctx, pack))
			return tx.PutSweep(ctx, sweep)
		})
		sweeps, err := db.Sweeps(t.Context())
		require.NoError(t, err)
		require.Contains(t, sweeps, sweep)
		packs, err := db.Packs(t.Context())
		require.NoError(t, err)
		require.Equal(t, []state.Pack{pack}, packs)
	}
	// Texts have the order of their bytes.
	var names []string
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		for _, tenant := range []string{"b", "A", "_", "a", "B", "\u00e9", "a b", "ab", "a-c"} {
			if _, err := appendEntry(ctx, tx, tenant); err != nil {
				return err
			}
		}
		return nil
	})
	names, err := db.Tenants(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"A", "B", "_", "a", "a b", "a-c", "ab", "b", "\u00e9"}, names)
}
