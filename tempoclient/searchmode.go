package tempoclient

import (
	"sync"
	"time"
)

// How batches of traces that are searched for are cut.
const (
	firstBatch   = 50
	minBatch     = 10 // fewer are read by ID
	maxBatch     = 400
	spansInBatch = 4000 // about 4 MiB of 15 attributes; Tempo's bound is 16 MiB
)

// ways says by which way whole traces are read, and learns: how large batches may be,
// which way is faster, and whether search can be relied upon.
type ways struct {
	mu       sync.Mutex
	search   *wholeSearch // nil: by ID
	distrust bool         // search gave what it should not have
	why      map[string]int
	size     int
	given    int // traces that came by search
	compared int // traces that search gave and that may have been read by ID, too
	// bySearch and byID are how long one trace takes.
	bySearch, byID average
}

func newWays(search *wholeSearch, why string) *ways {
	w := &ways{search: search, why: map[string]int{}, size: firstBatch}
	if search == nil {
		w.why[why] = 0
	}
	return w
}

// use returns the search, nil for by ID.
func (w *ways) use() *wholeSearch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.search
}

// stop has all further traces read by ID.
func (w *ways) stop(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.search != nil {
		w.search = nil
		w.why[why] = 0
	}
}

// distrusts has none given by search any more. It returns how many were, when it is
// first told.
func (w *ways) distrusts(why string) (given int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.distrust {
		return 0
	}
	w.search, w.distrust = nil, true
	w.why[why] = 0
	return w.given
}

// gives asks whether a trace that came by search may be given, and counts it.
func (w *ways) gives() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.distrust {
		w.given++
	}
	return !w.distrust
}

// batch returns how many traces are searched for at a time.
func (w *ways) batch() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// smaller has less searched for at a time.
func (w *ways) smaller() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size = max(minBatch, w.size/2)
}

// searched learns from a batch.
func (w *ways) searched(traces, spans int, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size = min(maxBatch, max(minBatch, spansInBatch*traces/max(spans, 1)), 2*w.size)
	w.bySearch.add(took.Seconds() / float64(traces))
	w.compare()
}

// fetched learns from a trace that was read by ID, and why it was.
func (w *ways) fetched(took time.Duration, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byID.add(took.Seconds())
	if why != "" {
		w.why[why]++
	}
	w.compare()
}

func (w *ways) compare() {
	if w.search != nil && w.bySearch.n >= 3 && w.byID.n >= 5 && w.bySearch.value > w.byID.value {
		w.search = nil
		w.why["search takes longer"] = 0
	}
}

// audits reports whether the next trace that search gives is also read by its ID, to
// compare: the first two, and one in a hundred.
func (w *ways) audits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.compared++
	return w.compared <= 2 || w.compared%100 == 0
}

// average is one in which what was long ago counts less.
type average struct {
	value float64
	n     int
}

func (a *average) add(v float64) {
	a.n++
	a.value += (v - a.value) * max(0.1, 1/float64(a.n))
}
