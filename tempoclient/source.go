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

// maxProblems bounds the listed problems of a report. Further ones are counted.
const maxProblems = 100

// Request selects the traces that start in a range.
type Request struct {
	// From and To bound the start of traces: From is inclusive, To is exclusive.
	From, To time.Time
	// Filter must match a span of each trace. Tempo receives only its Prefilter, so other traces may be
	// delivered too. If nil, all traces match.
	Filter *traceql.Filter
	// SettledBefore is the time before which Tempo has moved all data from its ingesters to the storage.
	// The part of the range after it is searched twice, see [trace.SecondSearch]. If zero, it is
	// [DefaultSettle] ago.
	SettledBefore time.Time
	// Skip, if not nil, reports whether a trace is not wanted. It is called by several goroutines.
	Skip func(trace.ID) bool
	// SkipAdded, if not nil, reports whether a trace is not wanted if only the second search finds it.
	// Such traces may have been written by the caller in between. It is called by several goroutines.
	SkipAdded func(trace.ID) bool
	// Needs are the data that must be read. Delivered traces may lack all other data. If zero, everything
	// is read.
	Needs columnar.Needs
	// ByIDWith are attributes. Traces that have any of them are read by ID, even if search could return
	// them. An attribute that search does not find counts as absent, so list only attributes of which
	// strings, numbers and booleans matter.
	ByIDWith []columnar.AttributeKey
	// Progress, if not nil, receives the progress, from one goroutine at a time.
	Progress func(Progress)
}

// Progress is the progress of a reading.
type Progress struct {
	// Searched is the share of the range that has been searched, 0 to 1. The part that is searched twice
	// counts twice.
	Searched float64
	// Found counts the found traces, Read those that were read whole.
	Found, Read int
}

// Report is the result of a reading. Its problems are the parts that were not read, at most 100. If there are
// none, all traces that Tempo's search finds were delivered.
type Report struct {
	trace.Reading
	// Found counts the traces that search found, Delivered the delivered traces.
	Found, Delivered int
	// BySearch and ByID count the traces by the method of reading. ByIDWhy counts traces that were read
	// by ID although search was used, by reason. If search was not used, or was given up, it contains the
	// reason with the count 0.
	BySearch, ByID int
	ByIDWhy        map[string]int
	// SearchedBy is "grpc" or "http".
	SearchedBy string
	// Requests and Retries count requests, ReadBytes the bytes of answers. Slowed counts how often the
	// number of concurrent requests was reduced because Tempo was overloaded.
	Requests, Retries, ReadBytes, Slowed int64
}

// Traces reads every trace that starts in the range, matches the filter and can be found by Tempo's
// search. It calls deliver with each whole trace once, in any order, from one goroutine at a time. It
// uses the faster method that returns all needed data: search, with many traces in one request, or each
// trace by its ID.
//
// Traces ends early with an error if Tempo cannot be queried, deliver fails or the context ends. Other
// failures are problems in the report, which is valid in any case.
func (c *Client) Traces(ctx context.Context, req Request, deliver func(*trace.Trace) error) (Report, error) {
	if req.Filter == nil {
		req.Filter = traceql.All
	}
	if !req.From.Before(req.To) {
		return Report{}, fmt.Errorf("range %s/%s: the range ends before it starts", req.From.Format(time.RFC3339), req.To.Format(time.RFC3339))
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

// reading is one call of Traces: searches find IDs, readers read traces, and one goroutine delivers them.
type reading struct {
	client *Client
	req    Request
	search *wholeSearch // nil if search cannot return all needed data
	ways   *ways
	ids    chan listed
	// firstDone separates the IDs of the first search from those of the second.
	firstDone chan struct{}
	work      chan []trace.ID // a single trace is read by ID
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

// end returns the end of the search. A match may be late in a trace.
func (r *reading) end() time.Time { return r.req.To.Add(r.client.config.MaxTraceDuration) }

// found accepts a trace that the first or the second search found, and sends it to the readers once.
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

// batches collects the traces that are read by one search.
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

// foundTrace reads a trace that search has found. While Tempo moves a trace from memory to a block, it
// briefly does not find the trace by its ID, so the request is repeated.
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

// read reads traces: a single one by its ID, several by search. Traces for which the search result is not
// sufficient are then read by their IDs.
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
	// First read the traces that may show that search is unreliable.
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

// fetch reads a trace by its ID, which also shows whether search is reliable. bySearch, if not nil, is
// the trace as search returned it, for comparison.
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

// give sends a trace to be delivered, if it starts in the range.
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
	r.report.AddProblem(what, why)
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
