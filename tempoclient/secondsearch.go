package tempoclient

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/betracehq/betrace/trace"
)

// DefaultSettle is the default age at which data counts as settled. Tempo moves spans from its ingesters
// to the storage at an age of up to 30 minutes (ingester.max_block_duration); the rest is a margin.
const DefaultSettle = 45 * time.Minute

// enumerate sends the ID of each found trace to the readers. The part of the range that has not settled
// is searched a second time, unless a part of the first search failed: then the result is incomplete, and
// a Tempo in trouble receives no further requests.
func (r *reading) enumerate(ctx context.Context) error {
	var failed atomic.Bool
	problem := func(what string, why error) {
		failed.Store(true)
		r.problem(what, why)
	}
	first := &enumeration{
		client: r.client, filter: r.req.Filter.Prefilter(), name: "search", problem: problem, searched: r.windowDone,
		found: func(id trace.ID, large bool) error { return r.found(ctx, listed{id, large}, false) },
	}
	if err := first.run(ctx, r.req.From, r.end()); err != nil || failed.Load() || !r.unsettled() {
		return err
	}
	// The traces of the first search are read during the pause.
	if err := send(ctx, r.firstDone, struct{}{}); err != nil {
		return err
	}
	pause := time.NewTimer(r.client.config.SearchAgainAfter)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return fmt.Errorf("before the second search: %w", context.Cause(ctx))
	}
	r.mu.Lock()
	r.report.SecondSearch = &trace.SecondSearch{From: r.secondFrom()}
	r.mu.Unlock()
	second := &enumeration{
		client: r.client, filter: first.filter, name: "second search", problem: r.problem, searched: r.windowDone,
		found: func(id trace.ID, large bool) error { return r.found(ctx, listed{id, large}, true) },
	}
	return second.run(ctx, r.secondFrom(), r.end())
}

// unsettled reports whether Tempo may still be moving data of the range.
func (r *reading) unsettled() bool { return r.req.To.After(r.req.SettledBefore) }

// secondFrom returns the start of the second search.
func (r *reading) secondFrom() time.Time {
	if r.req.From.After(r.req.SettledBefore) {
		return r.req.From
	}
	return r.req.SettledBefore
}

// toSearch returns the total length of all searched windows, in seconds.
func (r *reading) toSearch() int64 {
	last := r.end().Unix() + 1
	length := last - r.req.From.Unix()
	if r.unsettled() {
		length += last - r.secondFrom().Unix()
	}
	return length
}
