package scheduler

import (
	"context"
	"fmt"
	"time"

	"github.com/betracehq/betrace/scheduler/state"
)

// catchUpFrom returns the time before which the sweep skips the traces of missed ticks, by their start. It is zero if no tick
// was missed, or if the sweep catches up with all.
func (t *tick) catchUpFrom() time.Time {
	sweep := t.pass.sweeps[0]
	if t.missed == 0 {
		return time.Time{}
	}
	switch sweep.catchUp() {
	case CatchUpLatest:
		return t.pass.schedule().Previous(t.scheduled).Add(-sweep.Settle)
	case CatchUpNone:
		return stamp(t.began).Add(-sweep.Settle)
	}
	return time.Time{}
}

// skipMissed skips the blocks with only data from before a time, and records a hole. The zero time skips nothing.
func (t *tick) skipMissed(ctx context.Context, before time.Time) {
	ledger, hole, n := t.ledger.Skip(before, t.maxTraceDuration)
	if n == 0 {
		return
	}
	t.ledger = ledger
	hole.Subject = fmt.Sprintf("%d blocks: %d ticks were missed", n, t.missed)
	t.addSkipped(ctx, hole)
}

// addSkipped records a hole of skipped data.
func (t *tick) addSkipped(ctx context.Context, h state.Hole) {
	t.holes = append(t.holes, h)
	t.log.WarnContext(ctx, "data is skipped by catch_up", "sweep", t.labels()[0], "tenant", t.pass.tenant, "from", h.From, "to", h.To, "missed_ticks", t.missed)
}

// Skip returns the ledger in which the blocks that were not judged, and that have only data from before a time, need not be
// judged. The hole has the range of their traces; its subject is not set. n is the number of these blocks.
func (l Ledger) Skip(before time.Time, maxTraceDuration time.Duration) (next Ledger, hole state.Hole, n int) {
	next = l.clone()
	for id, b := range next.Blocks {
		isOpen := b.State == state.BlockWaiting || b.State == state.BlockPending
		if !isOpen || b.Latest.IsZero() || !b.Latest.Before(before) {
			continue
		}
		h := l.holeOf(&b, HoleSkipped, maxTraceDuration)
		if n++; n > 1 {
			h.From, h.To = earlier(h.From, hole.From), later(h.To, hole.To)
		}
		hole = h
		b.State, b.Reason = state.BlockBefore, HoleSkipped
		next.Blocks[id] = b
	}
	hole.Subject = ""
	return next, hole, n
}
