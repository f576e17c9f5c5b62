package tempoclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/traceql"
)

// firstWindow is the longest window of a search. By default Tempo refuses windows of over a week
// (query_frontend.search.max_duration).
const firstWindow = 6 * time.Hour

// maxIDDigits bounds the number of parts of the ID space in one second: 15 × 16 × 16.
const maxIDDigits = 3

// enumeration finds all traces of a range that match a filter.
type enumeration struct {
	client *Client
	filter *traceql.Filter
	name   string // name of the search in problems
	// found receives each ID, possibly more than once and from several goroutines, and whether the trace
	// is large.
	found func(id trace.ID, large bool) error
	// problem receives the windows that could not be searched.
	problem func(what string, why error)
	// searched receives each completed window.
	searched func(window)
	group    *errgroup.Group
	slots    chan struct{} // one for each concurrent request
}

// run searches [from, to] and returns the first fatal error.
func (e *enumeration) run(ctx context.Context, from, to time.Time) error {
	e.slots = make(chan struct{}, e.client.config.Concurrency)
	e.group, ctx = errgroup.WithContext(ctx)
	last := to.Unix() + 1
	step := int64(firstWindow.Seconds())
	for start := from.Unix(); start < last; start += step {
		w := window{start, min(start+step, last)}
		e.group.Go(func() error { return e.window(ctx, w, "") })
	}
	return e.group.Wait()
}

// window searches a window, or the part of it whose IDs begin with digits. If the answer may be
// truncated, it searches the parts.
func (e *enumeration) window(ctx context.Context, w window, digits string) error {
	query := e.filter
	if digits != "" {
		ids := traceql.Compare(traceql.Intrinsic("trace:id"), traceql.OpRegex, traceql.String(idPattern(digits)))
		query = traceql.MustNew(traceql.And(e.filter.Expr(), ids))
	}
	limit := e.client.config.SearchLimit
	a, err := e.limited(ctx, query.String(), w, limit)
	switch {
	case isTooLarge(err), err == nil && len(a.ids) >= limit:
		return e.split(ctx, w, digits, err)
	case err != nil && (isFatal(err) || context.Cause(ctx) != nil):
		return err
	case err != nil:
		e.problem(e.name+" "+w.String(), err)
	case a.completed < a.total:
		e.problem(e.name+" "+w.String(), fmt.Errorf("tempo finished %d of %d jobs: see its log for the reason, and scan the range again", a.completed, a.total))
	}
	if digits == "" {
		e.searched(w)
	}
	for _, id := range a.ids {
		if err := e.found(id, a.large[id]); err != nil {
			return err
		}
	}
	return nil
}

// limited searches when a slot is free. If some jobs of the search were not completed, it searches once
// more.
func (e *enumeration) limited(ctx context.Context, query string, w window, limit int) (a answer, err error) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
	defer func() { <-e.slots }()
	for range 2 {
		a, err = e.client.search(ctx, query, w, limit)
		if err != nil || a.completed >= a.total {
			break
		}
	}
	return a, err
}

// split searches the parts of a window whose answer was too large: halves of the window, down to a
// second, then parts of the ID space. Regular expressions match IDs without leading zeros, so the first
// digit is never 0.
func (e *enumeration) split(ctx context.Context, w window, digits string, why error) error {
	if w.end-w.start > 1 {
		middle := w.start + (w.end-w.start)/2
		for _, half := range []window{{w.start, middle}, {middle, w.end}} {
			e.group.Go(func() error { return e.window(ctx, half, digits) })
		}
		return nil
	}
	if len(digits) == maxIDDigits {
		if why == nil {
			why = errors.New("one second contains more traces than a search can list: raise the search limit (--search-limit, and the tenant's)")
		} else {
			why = fmt.Errorf("%w: %s", why, sizeRemedy)
		}
		e.problem(fmt.Sprintf("%s %s, IDs %s…", e.name, w, digits), why)
		return nil
	}
	if digits == "" {
		e.searched(w)
	}
	for _, digit := range "0123456789abcdef" {
		if digits == "" && digit == '0' {
			continue
		}
		e.group.Go(func() error { return e.window(ctx, w, digits+string(digit)) })
	}
	return nil
}

// idPattern matches the IDs that begin with digits. An ID that ends where the space is divided ("5" into
// "50" to "5f") belongs to no part; the first part includes it.
func idPattern(digits string) string {
	pattern := digits + ".*"
	for len(digits) > 1 && strings.HasSuffix(digits, "0") {
		digits = digits[:len(digits)-1]
		pattern += "|" + digits
	}
	return pattern
}
