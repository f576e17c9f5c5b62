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
