package tempoclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
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
	// SettledBefore is the time before which Tempo has moved all data from its
	// ingesters to the storage. The part of the range after it is searched twice, see
	// [SecondSearch]. If zero, it is [DefaultSettle] ago.
	SettledBefore time.Time
	// Skip, if not nil, tells IDs of traces that are not wanted. It is called by
	// several goroutines.
	Skip func(trace.ID) bool
	// SkipAdded, if not nil, reports traces that are not wanted if only the second
	// search finds them: those that the caller has written in between. It is called by
	// several goroutines.
	SkipAdded func(trace.ID) bool
	// Needs are what is read of the traces' spans. Of others it may be that they come
	// without what is not needed. Zero: everything.
	Needs columnar.Needs
	// ByIDWith are attributes of which traces that have them are read by ID, whatever
	// search could give of them. Where search does not find one, it counts as absent:
	// name those of which only a text, a number or a truth value matters.
	ByIDWith []columnar.AttributeKey
	// Progress, if not nil, is told what was done, from one goroutine at a time.
	Progress func(Progress)
}

// Progress is how far a reading is.
type Progress struct {
	// Searched is the share of the range that has been searched, 0 to 1. The
	// part that is searched twice counts twice.
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
	// BySearch and ByID count those read by the way they came; ByIDWhy counts, of those
	// by ID, why search was not relied upon for them, and has a reason why it was not, or
	// no longer, used at all.
	BySearch, ByID int
	ByIDWhy        map[string]int
	// SecondSearch is nil if there was none: the whole range has settled, or the first
	// search failed somewhere.
	SecondSearch *SecondSearch
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
// order, from one goroutine at a time. It reads traces by the faster of the ways
// that give what is needed of them: by search, many at once, or each by its ID. It ends early, with an error, if Tempo
// cannot be asked at all, deliver fails or the context ends; other failures are
// problems in the report, which is there in any case.
func (c *Client) Traces(ctx context.Context, req Request, deliver func(*trace.Trace) error) (Report, error) {
	if req.Filter == nil {
		req.Filter = traceql.All
	}
	if !req.From.Before(req.To) {
		return Report{}, fmt.Errorf("range %s/%s: it ends before it starts", req.From.Format(time.RFC3339), req.To.Format(time.RFC3339))
	}
	if req.SettledBefore.IsZero() {
		req.SettledBefore = time.Now().Add(-DefaultSettle)
	}
	search, why := newWholeSearch(&req, &c.config)
	r := &reading{
		client: c, req: req, search: search, ways: newWays(search, why), seen: map[trace.ID]struct{}{}, added: map[trace.ID]struct{}{},
		ids: make(chan listed), firstDone: make(chan struct{}), work: make(chan []trace.ID), traces: make(chan *trace.Trace),
	}
	requests, retries, bytes, slowed := c.retrier.requests.Load(), c.retrier.retries.Load(), c.bytes.Load(), c.retrier.pace.times()
	err := r.run(ctx, deliver)
	r.report.ByIDWhy = r.ways.why
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

// reading is one call of Traces: searches find IDs, readers read traces, and one
// goroutine delivers them.
type reading struct {
	client *Client
	req    Request
	search *wholeSearch // nil if search is not relied upon for what is needed
	ways   *ways
	ids    chan listed
	// firstDone separates the IDs of the first search from those of the second.
	firstDone chan struct{}
	work      chan []trace.ID // one is read by ID
	traces    chan *trace.Trace

	mu       sync.Mutex
	seen     map[trace.ID]struct{}
	added    map[trace.ID]struct{} // found by the second search only
	searched int64                 // seconds
	report   Report
}

// listed is a trace that search found.
type listed struct {
	id    trace.ID
	large bool
}

func (r *reading) run(ctx context.Context, deliver func(*trace.Trace) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(r.ids)
		return r.enumerate(ctx)
	})
	group.Go(func() error {
		defer close(r.work)
		return r.batches(ctx)
	})
	var readers sync.WaitGroup
	for range r.client.config.Concurrency {
		readers.Add(1)
		group.Go(func() error {
			defer readers.Done()
			for ids := range r.work {
				if err := r.read(ctx, ids); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		readers.Wait()
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

// found takes a trace that the first or the second search found. It is read once.
func (r *reading) found(ctx context.Context, l listed, second bool) error {
	skip := second && r.req.SkipAdded != nil && r.req.SkipAdded(l.id)
	r.mu.Lock()
	_, again := r.seen[l.id]
	skip = skip || again
	if !skip {
		r.seen[l.id] = struct{}{}
		r.report.Found++
		if second {
			r.added[l.id] = struct{}{}
		}
	}
	r.mu.Unlock()
	if skip || r.req.Skip != nil && r.req.Skip(l.id) {
		return nil
	}
	return send(ctx, r.ids, l)
}

func send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// batches gathers what is searched for together.
func (r *reading) batches(ctx context.Context) error {
	var batch []trace.ID
	rest := func() error { // sends the last IDs of a search
		ids := batch
		batch = nil
		if len(ids) >= minBatch {
			return send(ctx, r.work, ids)
		}
		for _, id := range ids {
			if err := send(ctx, r.work, []trace.ID{id}); err != nil {
				return err
			}
		}
		return nil
	}
	for {
		select {
		case <-r.firstDone:
			if err := rest(); err != nil {
				return err
			}
		case l, ok := <-r.ids:
			if !ok {
				return rest()
			}
			if l.large || r.client.overHTTP.Load() || r.ways.use() == nil {
				if err := send(ctx, r.work, []trace.ID{l.id}); err != nil {
					return err
				}
				continue
			}
			if batch = append(batch, l.id); len(batch) >= r.ways.batch() {
				if err := send(ctx, r.work, batch); err != nil {
					return err
				}
				batch = nil
			}
		}
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

// read reads traces: one by its ID, several by search, and by their IDs those that
// search is not relied upon for.
func (r *reading) read(ctx context.Context, ids []trace.ID) error {
	search := r.ways.use()
	if len(ids) == 1 || search == nil {
		return r.fetchEach(ctx, ids, nil, nil)
	}
	began := time.Now()
	parts, err := r.client.searchWhole(ctx, search, ids, r.req.From)
	if a, b, ok := halves(ids); isTooLarge(err) && ok {
		r.ways.smaller()
		if err := r.read(ctx, a); err != nil {
			return err
		}
		return r.read(ctx, b)
	}
	switch {
	case err != nil && (context.Cause(ctx) != nil || isFatal(err)):
		return err
	case err != nil:
		r.ways.stop("search failed: " + err.Error())
		return r.fetchEach(ctx, ids, nil, nil)
	}
	var rest []trace.ID
	why := map[trace.ID]string{}
	audited := map[trace.ID]*trace.Trace{}
	var given []*trace.Trace
	spans := 0
	for _, id := range ids {
		t, reason := search.build(id, parts[id])
		if reason == "" {
			spans += len(t.Spans)
			if !r.ways.audits() {
				given = append(given, t)
				continue
			}
			audited[id] = t
		}
		rest, why[id] = append(rest, id), reason
	}
	r.ways.searched(len(ids), spans, time.Since(began))
	// Those first by which it may turn out that search is not to be relied upon.
	if err := r.fetchEach(ctx, rest, why, audited); err != nil {
		return err
	}
	for _, t := range given {
		var err error
		if r.ways.gives() {
			err = r.give(ctx, t, true)
		} else {
			err = r.fetch(ctx, t.ID, "", nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fetchEach reads traces by their IDs, several at a time.
func (r *reading) fetchEach(ctx context.Context, ids []trace.ID, why map[trace.ID]string, audited map[trace.ID]*trace.Trace) error {
	if len(ids) == 1 {
		return r.fetch(ctx, ids[0], why[ids[0]], audited[ids[0]])
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.client.config.Concurrency)
	for _, id := range ids {
		group.Go(func() error { return r.fetch(ctx, id, why[id], audited[id]) })
	}
	return group.Wait()
}

// fetch reads a trace by its ID. What it is tells whether search can be relied upon;
// bySearch is what that gave of the trace, if it is to be compared.
func (r *reading) fetch(ctx context.Context, id trace.ID, why string, bySearch *trace.Trace) error {
	began := time.Now()
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
		return nil
	}
	r.ways.fetched(time.Since(began), why)
	if r.search != nil {
		if err := r.search.check(t, bySearch); err != nil && r.ways.distrusts(err.Error()) > 0 {
			r.problem("search", err)
		}
	}
	return r.give(ctx, t, false)
}

// give has a trace delivered, if it starts in the range.
func (r *reading) give(ctx context.Context, t *trace.Trace, bySearch bool) error {
	outside := t.Start() < trace.TimeOf(r.req.From) || t.Start() >= trace.TimeOf(r.req.To)
	r.mu.Lock()
	if bySearch {
		r.report.BySearch++
	} else {
		r.report.ByID++
	}
	if outside {
		r.report.OutsideRange++
	} else if _, ok := r.added[t.ID]; ok {
		r.report.SecondSearch.Added++
	}
	r.mu.Unlock()
	if outside {
		return nil
	}
	return send(ctx, r.traces, t)
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
	r.req.Progress(Progress{Searched: min(1, float64(r.searched)/float64(r.toSearch())), Found: r.report.Found, Read: r.report.Delivered + r.report.OutsideRange})
}
