package scheduler

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Bounds of the ticks of different tenants that take place at the same time.
const (
	// maxTicks bounds their number. Most of them wait for the storage, or to be one of those that judge.
	maxTicks = 32
	// tenantsPoll is the time after which the tenants of the storage are listed again.
	tenantsPoll = 5 * time.Second
	// listTimeout bounds the time in which the storage lists the tenants, or the blocks of one.
	listTimeout = 5 * time.Minute
	// stallTimeout bounds the time in which a reading delivers nothing.
	stallTimeout = 10 * time.Minute
)

// turns runs the passes when they are due. A tenant has one tick at a time, so that its ticks find what the ones before have
// committed; among the tenants that are due, those come first whose last turn is longest ago. A tick that leaves blocks to
// the next one ends its turn. So a tenant whose storage hangs, or that has very much data, delays no other.
type turns struct {
	*Service
	passes   []*pass
	listed   bool                 // whether the tenants have been listed
	listAt   time.Time            // when to list them
	next     map[string]time.Time // when a pass is due, by key; at once, if it is missing
	last     map[string]time.Time // the end of the last turn, by tenant
	running  map[string]bool      // the tenants that have their turn
	listing  bool
	holds    time.Time // the state fails: nothing is started until then
	failures int       // of the state, in sequence
	ended    chan turn
	all      sync.WaitGroup
}

// turn is a turn that has ended, or a listing of tenants, whose pass is nil.
type turn struct {
	pass   *pass
	passes []*pass
	next   time.Time
	err    error
}

func newTurns(s *Service) *turns {
	return &turns{Service: s, next: map[string]time.Time{}, last: map[string]time.Time{}, running: map[string]bool{}, ended: make(chan turn)}
}

// runSweeps runs the passes when they are due, until the context ends. After an error of the state it tries again.
func (s *Service) runSweeps(ctx context.Context) error {
	t := newTurns(s)
	defer t.stop()
	for {
		timer := time.NewTimer(max(t.start(ctx).Sub(s.now()), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.wake:
			clear(t.next)
		case ended := <-t.ended:
			t.end(ctx, ended)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// runDue runs each pass that is due, and returns the time at which to look again.
func (s *Service) runDue(ctx context.Context) (next time.Time, err error) {
	t := newTurns(s)
	defer t.stop()
	for {
		next = t.start(ctx)
		if len(t.running) == 0 && !t.listing {
			return next, nil
		}
		ended := <-t.ended
		t.end(ctx, ended)
		if ended.err != nil {
			return time.Time{}, ended.err
		}
	}
}

// stop waits until the turns have ended. Their context must have ended.
func (t *turns) stop() {
	go func() {
		t.all.Wait()
		close(t.ended)
	}()
	for range t.ended { //nolint:revive // nobody needs the rest
	}
}

// start starts the turns that are due, as far as there is room, and returns the time at which another one is due.
func (t *turns) start(ctx context.Context) time.Time {
	now := t.now()
	if now.Before(t.holds) {
		return t.holds
	}
	next := now.Add(rulesPoll)
	if !t.listing && !now.Before(t.listAt) {
		t.listing = true
		t.all.Go(func() {
			passes, err := t.Service.passes(ctx)
			t.ended <- turn{passes: passes, err: err}
		})
	}
	if !t.listing {
		next = earlier(next, t.listAt)
	}
	var due []*pass
	for _, p := range t.passes {
		switch at := t.next[p.key()]; {
		case t.running[p.tenant]:
		case at.After(now):
			next = earlier(next, at)
		default:
			due = append(due, p)
		}
	}
	slices.SortStableFunc(due, func(a, b *pass) int {
		return cmp.Or(t.last[a.tenant].Compare(t.last[b.tenant]), t.next[a.key()].Compare(t.next[b.key()]))
	})
	for _, p := range due {
		if len(t.running) == maxTicks {
			break // the end of a turn makes room
		}
		if t.running[p.tenant] {
			continue
		}
		t.running[p.tenant] = true
		t.all.Go(func() {
			at, err := t.runPass(ctx, p)
			t.ended <- turn{pass: p, next: at, err: err}
		})
	}
	return next
}

// end takes note of a turn that has ended.
func (t *turns) end(ctx context.Context, ended turn) {
	now := t.now()
	if ended.pass == nil {
		t.listing, t.listAt = false, now.Add(tenantsPoll)
		if ended.err != nil {
			if ctx.Err() == nil {
				t.log.ErrorContext(ctx, "tenants cannot be listed", "error", ended.err)
			}
			return
		}
		t.passes = ended.passes
		tenants := map[string]bool{}
		for _, p := range t.passes {
			tenants[p.tenant] = true
		}
		t.tenants.Store(int64(len(tenants)))
		t.health.keepPasses(t.passes)
		ended.err = t.outbox.report(ctx, t.sinkNames)
	} else {
		delete(t.running, ended.pass.tenant)
		t.last[ended.pass.tenant] = now
		if t.next[ended.pass.key()] = ended.next; ended.next.IsZero() {
			t.next[ended.pass.key()] = now.Add(rulesPoll)
		}
	}
	if ctx.Err() != nil {
		return
	}
	t.health.report(partSweeps, ended.err)
	if ended.err == nil {
		t.failures = 0
		return
	}
	t.failures++
	t.holds = now.Add(backoff(t.failures, time.Second, maxStateBackoff))
	t.log.ErrorContext(ctx, "the state fails; sweeps wait", "next_attempt", t.holds, "error", ended.err)
}
