package state_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
)

func TestWorkBelongsToOneReplica(t *testing.T) {
	db := open(t)
	const ttl = time.Hour
	keep := func(c state.Claim) error {
		return db.Write(t.Context(), func(ctx context.Context, tx *state.Tx) error { return tx.KeepClaim(ctx, c) })
	}
	require.NoError(t, db.Beat(t.Context(), "a", "the first"))
	require.NoError(t, db.Beat(t.Context(), "b", "the second"))
	none, err := db.Claim(t.Context(), "work", ttl)
	require.NoError(t, err)
	require.Equal(t, state.Claim{Work: "work"}, none)

	first, err := db.TakeClaim(t.Context(), "work", "a", ttl, false)
	require.NoError(t, err)
	require.Equal(t, state.Claim{Work: "work", Replica: "a", Token: 1, Live: true}, first)
	again, err := db.TakeClaim(t.Context(), "work", "a", ttl, false)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.NoError(t, keep(first))
	_, err = db.TakeClaim(t.Context(), "work", "b", ttl, false)
	require.ErrorIs(t, err, state.ErrClaimLost)

	// Busy work stays with a replica that lives.
	first.Busy = true
	require.NoError(t, keep(first))
	_, err = db.TakeClaim(t.Context(), "work", "b", ttl, true)
	require.ErrorIs(t, err, state.ErrClaimLost)
	first.Busy = false
	require.NoError(t, keep(first))
	second, err := db.TakeClaim(t.Context(), "work", "b", ttl, true)
	require.NoError(t, err)
	require.Equal(t, int64(2), second.Token)
	require.ErrorIs(t, keep(first), state.ErrClaimLost)

	// A replica that is not seen loses even busy work. If it comes back, its old token is void.
	second.Busy = true
	require.NoError(t, keep(second))
	time.Sleep(time.Millisecond)
	third, err := db.TakeClaim(t.Context(), "work", "a", time.Nanosecond, false)
	require.NoError(t, err)
	require.Equal(t, int64(3), third.Token)
	require.ErrorIs(t, keep(second), state.ErrClaimLost)
	have, err := db.Claim(t.Context(), "work", ttl)
	require.NoError(t, err)
	require.Equal(t, third, have)

	// So does one that leaves.
	require.NoError(t, db.Leave(t.Context(), "a"))
	fourth, err := db.TakeClaim(t.Context(), "work", "b", ttl, false)
	require.NoError(t, err)
	require.Equal(t, int64(4), fourth.Token)
}
