package tempoclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/tempoclient/traceql"
)

// maxProblems bounds the problems that a report names; the others it counts.
const maxProblems = 100

// Request asks for the traces that start in a range.
type Request struct {
	// From and To bound when traces start: From counts, To does not.
	From, To time.Time
	// Filter is what a span of a trace has to match; Tempo is sent its Prefilter, so
	// that more may come. Nil: all.
	Filter *traceql.Filter
	// Skip, if not nil, tells IDs of traces that are not wanted. It is called by
	// several goroutines.
	Skip func(trace.ID) bool
	// Progress, if not nil, is told what was done, from one goroutine at a time.
	Progress func(Progress)
}

// Progress is how far a reading is.
type Progress struct {
	// Searched is the share of the range that has been searched, 0 to 1.
	Searched float64
	// Found counts traces found, Read those read whole.
	Found, Read int
}

// Problem is something that was not read, and why.
type Problem struct {
	What string
	Err  error
}

// Report says what a reading read, and what it did not.
type Report struct {
	// Found counts the traces that search found, Delivered those read and delivered,
	// OutsideRange those read that start outside the range.
	Found, Delivered, OutsideRange int
	// Skipped counts traces that were found and not read; Problems say why.
	Skipped int
	// Problems are all parts that were not read, at most 100; MoreProblems counts
	// the others. Without any, all that Tempo's search finds was delivered.
	Problems     []Problem
	MoreProblems int
	// SearchedBy is "grpc" or "http".
	SearchedBy string
	// Requests and Retries count what was asked, ReadBytes what was answered. Slowed
	// counts how often fewer requests at a time were sent because Tempo was overloaded.
	Requests, Retries, ReadBytes, Slowed int64
}

// Traces reads every trace that starts in the range, matches the filter and can
// be found by Tempo's search, and gives each, whole, to deliver, once, in no
// order, from one goroutine at a time. It ends early, with an error, if Tempo
// cannot be asked at all, deliver fails or the context ends; other failures are
// problems in the report, which is there in any case.
func (c *Client) Traces(ctx context.Context, req Request, deliver func(*trace.Trace) error) (Report, error) {
	if req.Filter == nil {
		req.Filter = traceql.All
	}
	if !req.From.Before(req.To) {
		return Report{}, fmt.Errorf("range %s/%s: it ends before it starts", req.From.Format(time.RFC3339), req.To.Format(time.RFC3339))
	}
	r := &reading{client: c, req: req, seen: map[trace.ID]struct{}{}, ids: make(chan trace.ID), traces: make(chan *trace.Trace)}
	requests, retries, bytes, slowed := c.retrier.requests.Load(), c.retrier.retries.Load(), c.bytes.Load(), c.retrier.pace.times()
	err := r.run(ctx, deliver)
	r.report.SearchedBy = "grpc"
	if c.overHTTP.Load() {
		r.report.SearchedBy = "http"
	}
	r.report.Requests = c.retrier.requests.Load() - requests
	r.report.Retries = c.retrier.retries.Load() - retries
	r.report.ReadBytes = c.bytes.Load() - bytes
	r.report.Slowed = c.retrier.pace.times() - slowed
	return r.report, err
}

// reading is one call of Traces: searches find IDs, fetchers read traces, and
// one goroutine delivers them.
type reading struct {
	client *Client
	req    Request
	ids    chan trace.ID
	traces chan *trace.Trace

	mu       sync.Mutex
	seen     map[trace.ID]struct{}
	searched int64 // seconds
	report   Report
}

func (r *reading) run(ctx context.Context, deliver func(*trace.Trace) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(r.ids)
		e := &enumeration{
			client: r.client, filter: r.req.Filter.Prefilter(), problem: r.problem, searched: r.windowDone,
			found: func(id trace.ID) error { return r.found(ctx, id) },
		}
		return e.run(ctx, r.req.From, r.end())
	})
	var fetchers sync.WaitGroup
	for range r.client.config.Concurrency {
		fetchers.Add(1)
		group.Go(func() error {
			defer fetchers.Done()
			return r.fetchAll(ctx)
		})
	}
	group.Go(func() error {
		fetchers.Wait()
		close(r.traces)
		return nil
	})
	group.Go(func() error {
		for t := range r.traces {
			if err := deliver(t); err != nil {
				return err
			}
			r.mu.Lock()
			r.report.Delivered++
			r.mu.Unlock()
			r.progress()
		}
		return nil
	})
	return group.Wait()
}

// end is how far search runs: a match may come late in a trace.
func (r *reading) end() time.Time { return r.req.To.Add(r.client.config.MaxTraceDuration) }

func (r *reading) found(ctx context.Context, id trace.ID) error {
	r.mu.Lock()
	_, again := r.seen[id]
	if !again {
		r.seen[id] = struct{}{}
		r.report.Found++
	}
	r.mu.Unlock()
	if again || r.req.Skip != nil && r.req.Skip(id) {
		return nil
	}
	select {
	case r.ids <- id:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// foundTrace reads a trace that search has found. Tempo does not find it by its ID for
// the moment in which it moves it from memory to a block, so it is asked again.
func (c *Client) foundTrace(ctx context.Context, id trace.ID) (*trace.Trace, error) {
	for again := 0; ; again++ {
		t, err := c.Trace(ctx, id)
		if again == 3 || !errors.Is(err, ErrNotFound) {
			return t, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(300 * time.Millisecond << again):
		}
	}
}

// fetchAll reads traces by their IDs until there are no more.
func (r *reading) fetchAll(ctx context.Context) error {
	from, to := trace.TimeOf(r.req.From), trace.TimeOf(r.req.To)
	for id := range r.ids {
		t, err := r.client.foundTrace(ctx, id)
		switch {
		case err != nil && (context.Cause(ctx) != nil || isFatal(err)):
			return err
		case errors.Is(err, ErrNotFound):
			err = fmt.Errorf("search found it, but %w by its ID: it may have expired meanwhile", err)
		}
		if err != nil {
			r.mu.Lock()
			r.report.Skipped++
			r.mu.Unlock()
			r.problem("trace "+id.String(), err)
			continue
		}
		if t.Start() < from || t.Start() >= to {
			r.mu.Lock()
			r.report.OutsideRange++
			r.mu.Unlock()
			continue
		}
		select {
		case r.traces <- t:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (r *reading) problem(what string, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.report.Problems) == maxProblems {
		r.report.MoreProblems++
		return
	}
	r.report.Problems = append(r.report.Problems, Problem{what, why})
}

func (r *reading) windowDone(w window) {
	r.mu.Lock()
	r.searched += w.end - w.start
	r.mu.Unlock()
	r.progress()
}

func (r *reading) progress() {
	if r.req.Progress == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	whole := r.end().Unix() + 1 - r.req.From.Unix()
	r.req.Progress(Progress{Searched: min(1, float64(r.searched)/float64(whole)), Found: r.report.Found, Read: r.report.Delivered + r.report.OutsideRange})
}
