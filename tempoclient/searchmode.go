package tempoclient

import (
	"sync"
	"time"
)

// Sizes of the batches of traces that are read by one search.
const (
	firstBatch   = 50
	minBatch     = 10 // fewer are read by ID
	maxBatch     = 400
	spansInBatch = 4000 // about 4 MiB with 15 attributes; Tempo's bound is 16 MiB
)

// ways chooses the method of reading whole traces, and adapts it: the size of batches, the faster method,
// and whether search is reliable.
type ways struct {
	mu       sync.Mutex
	search   *wholeSearch // nil: read by ID
	distrust bool         // search returned wrong data
	why      map[string]int
	size     int
	given    int // traces delivered from search
	compared int // traces from search that were considered for comparison
	// bySearch and byID are the average times for one trace.
	bySearch, byID average
}

func newWays(search *wholeSearch, why string) *ways {
	w := &ways{search: search, why: map[string]int{}, size: firstBatch}
	if search == nil {
		w.why[why] = 0
	}
	return w
}

// use returns the search, or nil if traces are read by ID.
func (w *ways) use() *wholeSearch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.search
}

// stop makes all further traces be read by ID.
func (w *ways) stop(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.search != nil {
		w.search = nil
		w.why[why] = 0
	}
}

// distrusts stops the delivery of traces from search. The first call returns the number of those
// delivered before.
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

// gives reports whether a trace from search may be delivered, and counts it.
func (w *ways) gives() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.distrust {
		w.given++
	}
	return !w.distrust
}

// batch returns the number of traces for one search.
func (w *ways) batch() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// smaller reduces the size of batches.
func (w *ways) smaller() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size = max(minBatch, w.size/2)
}

// searched records the time and size of a batch.
func (w *ways) searched(traces, spans int, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size = min(maxBatch, max(minBatch, spansInBatch*traces/max(spans, 1)), 2*w.size)
	w.bySearch.add(took.Seconds() / float64(traces))
	w.compare()
}

// fetched records that a trace was read by ID, with the time and the reason.
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

// audits reports whether the next trace from search must also be read by its ID for comparison. This
// applies to the first two traces, and to one in a hundred.
func (w *ways) audits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.compared++
	return w.compared <= 2 || w.compared%100 == 0
}

// average is a moving average, in which older values count less.
type average struct {
	value float64
	n     int
}

func (a *average) add(v float64) {
	a.n++
	a.value += (v - a.value) * max(0.1, 1/float64(a.n))
}
