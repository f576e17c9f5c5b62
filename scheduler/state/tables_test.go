package state_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
)

func block(id string) state.Block {
	return state.Block{ID: id, State: state.BlockWaiting, Level: 2, Start: epoch, End: epoch.Add(1), Earliest: epoch.Add(2), Latest: epoch.Add(3),
		Traces: 4, Bytes: 5 << 40, FirstListed: epoch.Add(6), Written: epoch.Add(7), Compacted: true, CompactedAt: epoch.Add(8), Failures: 9, Reason: "corrupt", Entry: 10}
}

func TestLedgerIsStoredWhole(t *testing.T) {
	db := open(t)
	l := state.Ledger{Tenant: "acme", Source: "blocks", Schedule: "*/5 * * * *", Begins: epoch, Watermark: epoch.Add(1), Frontier: epoch.Add(2),
		Listings: 3, ListedAt: epoch.Add(4), Created: epoch.Add(5)}
	b, c := block("b"), block("c")
	b2 := b
	b2.State, b2.Compacted, b2.CompactedAt, b2.Earliest = state.BlockJudged, false, time.Time{}, time.Time{}
	write(t, db, func(ctx context.Context, tx *state.Tx) (err error) {
		l.ID, err = tx.CreateLedger(ctx, l)
		require.NoError(t, err)
		require.NoError(t, tx.PutBlocks(ctx, l.ID, []state.Block{b, c, block("d")}))
		require.NoError(t, tx.PutBlocks(ctx, l.ID, []state.Block{b2}))
		require.NoError(t, tx.DeleteBlocks(ctx, l.ID, []string{"d", "unknown"}))
		l.Listings, l.Watermark = 4, epoch.Add(time.Hour)
		return tx.PutLedger(ctx, l)
	})
	have, err := db.Ledger(t.Context(), l.ID)
	require.NoError(t, err)
	equal(t, l, have)
	all, err := db.Ledgers(t.Context())
	require.NoError(t, err)
	equal(t, []state.Ledger{l}, all)
	blocks, err := db.LedgerBlocks(t.Context(), l.ID)
	require.NoError(t, err)
	equal(t, map[string]state.Block{"b": b2, "c": c}, blocks)

	_, err = db.Ledger(t.Context(), 99)
	require.EqualError(t, err, "state: ledger 99 does not exist")
	for _, f := range []func(context.Context, *state.Tx) error{
		func(ctx context.Context, tx *state.Tx) error { return tx.PutLedger(ctx, state.Ledger{ID: 99}) },
		func(ctx context.Context, tx *state.Tx) error { return tx.PutBlocks(ctx, 99, []state.Block{b}) },
	} {
		require.ErrorContains(t, db.Write(t.Context(), f), "ledger 99", "a ledger that does not exist")
	}
}

func TestCopiedLedgerHasBlocksRulesAndHoles(t *testing.T) {
	db := open(t)
	var from, to int64
	write(t, db, func(ctx context.Context, tx *state.Tx) (err error) {
		from, err = tx.CreateLedger(ctx, state.Ledger{Tenant: "acme", Watermark: epoch})
		require.NoError(t, err)
		require.NoError(t, tx.PutBlocks(ctx, from, []state.Block{block("b")}))
		require.NoError(t, tx.PutLoadedRules(ctx, []state.LoadedRule{{Ledger: from, Pack: "p", Rule: "r", Digest: "d", Begins: epoch}}))
		require.NoError(t, tx.PutHoles(ctx, []state.Hole{{Ledger: from, From: epoch, To: epoch.Add(1), Reason: "expired"}}))
		to, err = tx.CopyLedger(ctx, from)
		return err
	})
	require.NotEqual(t, from, to)
	l, err := db.Ledger(t.Context(), to)
	require.NoError(t, err)
	equal(t, state.Ledger{ID: to, Tenant: "acme", Watermark: epoch}, l)
	blocks, err := db.LedgerBlocks(t.Context(), to)
	require.NoError(t, err)
	equal(t, map[string]state.Block{"b": block("b")}, blocks)
	rules, err := db.LoadedRules(t.Context(), to)
	require.NoError(t, err)
	equal(t, []state.LoadedRule{{Ledger: to, Pack: "p", Rule: "r", Digest: "d", Begins: epoch}}, rules)
	holes, err := db.Holes(t.Context(), to)
	require.NoError(t, err)
	equal(t, []state.Hole{{ID: 2, Ledger: to, From: epoch, To: epoch.Add(1), Reason: "expired"}}, holes)
}

func TestCoverageIsStoredWhole(t *testing.T) {
	db := open(t)
	rule := state.LoadedRule{Pack: "p", Rule: "r", Digest: "d", Title: "t", Severity: "high", Begins: epoch, SinceEntry: 3}
	holes := []state.Hole{
		{Pack: "p", Rule: "r", Digest: "d", From: epoch, To: epoch.Add(time.Hour), Reason: "error", Subject: "trace 1", Entry: 4},
		{From: epoch.Add(-1), To: epoch, Reason: "expired", Subject: "block b", Entry: 5},
	}
	again := rule
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		id, err := tx.CreateLedger(ctx, state.Ledger{})
		require.NoError(t, err)
		rule.Ledger, again.Ledger, holes[0].Ledger, holes[1].Ledger = id, id, id, id
		require.NoError(t, tx.PutLoadedRules(ctx, []state.LoadedRule{rule}))
		rule.Ended = epoch.Add(time.Hour)
		again.Begins, again.SinceEntry = epoch.Add(2*time.Hour), 9
		require.NoError(t, tx.PutLoadedRules(ctx, []state.LoadedRule{rule, again}))
		require.NoError(t, tx.PutHoles(ctx, holes))
		holes[0].ClosedEntry = 8
		return tx.PutHoles(ctx, holes[:1])
	})
	rules, err := db.LoadedRules(t.Context(), rule.Ledger)
	require.NoError(t, err)
	equal(t, []state.LoadedRule{rule, again}, rules)
	have, err := db.Holes(t.Context(), rule.Ledger)
	require.NoError(t, err)
	equal(t, []state.Hole{holes[1], holes[0]}, have)
}

func TestSweepsAreStoredByNameAndTenant(t *testing.T) {
	db := open(t)
	a := state.SweepState{Sweep: "all", Tenant: "a", Ledger: 1, LastTick: epoch, LastRun: epoch.Add(1), LastError: "e", LastErrorAt: epoch.Add(2), Ticks: 3, Missed: 4, Paused: true, HasData: true}
	b := state.SweepState{Sweep: "all", Tenant: "b"}
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutSweep(ctx, state.SweepState{Sweep: "all", Tenant: "a"}))
		require.NoError(t, tx.PutSweep(ctx, b))
		return tx.PutSweep(ctx, a)
	})
	have, err := db.Sweeps(t.Context())
	require.NoError(t, err)
	equal(t, []state.SweepState{a, b}, have)
}

func TestDeliveriesAreDueInOrder(t *testing.T) {
	db := open(t)
	first := state.Delivery{Tenant: "acme", Entry: 1, Sink: "loki", Items: 5, State: state.DeliverySent, Tries: 2, NextAt: epoch, SentAt: epoch.Add(-1), RefileAt: epoch.Add(-2), Created: epoch.Add(-3), Error: "e"}
	second := state.Delivery{Tenant: "acme", Entry: 1, Sink: "tempo", Items: 4, State: state.DeliveryNew, NextAt: epoch.Add(1), Created: epoch}
	third := state.Delivery{Tenant: "acme", Entry: 2, Sink: "loki", Items: 1, State: state.DeliverySending, NextAt: epoch.Add(2), Created: epoch}
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutDeliveries(ctx, []state.Delivery{third, second, {Tenant: "acme", Entry: 1, Sink: "loki", State: state.DeliveryNew}}))
		require.NoError(t, tx.PutDeliveries(ctx, []state.Delivery{first}))
		_, err := appendEntry(ctx, tx, "acme")
		require.NoError(t, err)
		_, err = appendEntry(ctx, tx, "acme")
		return err
	})
	due := func(now time.Time, limit int) []state.Delivery {
		t.Helper()
		have, err := db.DueDeliveries(t.Context(), now, limit)
		require.NoError(t, err)
		return have
	}
	require.Empty(t, due(epoch.Add(-1), 10))
	equal(t, []state.Delivery{first, second}, due(epoch.Add(1), 10))
	equal(t, []state.Delivery{first, second}, due(epoch.Add(9), 2))
	equal(t, []state.Delivery{first, second, third}, due(epoch.Add(9), 10))
	depth, err := db.Outbox(t.Context())
	require.NoError(t, err)
	equal(t, map[string]state.OutboxDepth{"loki": {Deliveries: 2, Items: 6, Oldest: epoch.Add(-3)}, "tempo": {Deliveries: 1, Items: 4, Oldest: epoch}}, depth)
	write(t, db, func(ctx context.Context, tx *state.Tx) error { return tx.DeleteDelivery(ctx, "acme", 1, "loki") })
	equal(t, []state.Delivery{second, third}, due(epoch.Add(9), 10))
}

func TestRefusedItemsAreListed(t *testing.T) {
	db := open(t)
	a := state.Refused{Tenant: "acme", Sink: "loki", Kind: "violation", ID: "v", Entry: 1, Reason: "line too long", At: epoch.Add(1)}
	b := state.Refused{Tenant: "acme", Sink: "tempo", Kind: "violation", ID: "v", Entry: 1, Reason: "r", At: epoch}
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		require.NoError(t, tx.PutRefused(ctx, []state.Refused{a, b}))
		return tx.PutRefused(ctx, []state.Refused{a})
	})
	have, err := db.RefusedItems(t.Context())
	require.NoError(t, err)
	equal(t, []state.Refused{b, a}, have)
}

func TestPacksOfANameBeginWithTheLast(t *testing.T) {
	db := open(t)
	old := state.Pack{Digest: "2", Name: "a", Version: "1", Path: "/a", Content: []byte("x"), LoadedAt: epoch}
	now := state.Pack{Digest: "1", Name: "a", Version: "2", Path: "/a", Content: []byte("y"), LoadedAt: epoch.Add(1)}
	other := state.Pack{Digest: "3", Name: "b", Version: "1", Path: "/b", Content: []byte("z"), LoadedAt: epoch.Add(9)}
	have := func() []state.Pack {
		t.Helper()
		packs, err := db.Packs(t.Context())
		require.NoError(t, err)
		return packs
	}
	put := func(packs ...state.Pack) {
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			for _, p := range packs {
				require.NoError(t, tx.PutPack(ctx, p))
			}
			return nil
		})
	}
	put(other, old, now)
	equal(t, []state.Pack{now, old, other}, have())
	old.LoadedAt = epoch.Add(2) // loaded again
	put(old)
	equal(t, []state.Pack{old, now, other}, have())
}

func TestTimesOutOfRangeAreBounded(t *testing.T) {
	db := open(t)
	b := state.Block{ID: "b", Start: time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), End: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	var id int64
	write(t, db, func(ctx context.Context, tx *state.Tx) (err error) {
		id, err = tx.CreateLedger(ctx, state.Ledger{})
		require.NoError(t, err)
		return tx.PutBlocks(ctx, id, []state.Block{b})
	})
	blocks, err := db.LedgerBlocks(t.Context(), id)
	require.NoError(t, err)
	equal(t, time.Unix(0, math.MinInt64).UTC(), blocks["b"].Start)
	equal(t, time.Unix(0, math.MaxInt64).UTC(), blocks["b"].End)
}

func TestConfigurationIsReplaced(t *testing.T) {
	db := open(t)
	for i, digest := range []string{"first", "second"} {
		write(t, db, func(ctx context.Context, tx *state.Tx) error {
			before, err := tx.Config(ctx)
			require.NoError(t, err)
			require.Equal(t, []string{"", "first"}[i], before)
			return tx.PutConfig(ctx, digest)
		})
	}
}
