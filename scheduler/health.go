package scheduler

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxStateBackoff bounds the time between two attempts after an error of the state. It is short, so that the service goes
// on soon after somebody has freed space on a full disk.
const maxStateBackoff = time.Minute

// stateHealth has the parts of the service that could not use the state at their last attempt. They try again, and until
// they succeed the service is not ready.
type stateHealth struct {
	count  prometheus.Counter
	mu     sync.Mutex
	failed map[string]error // by the name of the part: sweeps, outbox, or the key of a pass
}

// Parts of the service that are no passes.
const (
	partSweeps = "sweeps"
	partOutbox = "outbox"
)

// report records the result of an attempt of a part. An error is one of the state.
func (h *stateHealth) report(part string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.failed, part)
		return
	}
	h.failed[part] = err
	h.count.Inc()
}

// keepPasses forgets the passes that no longer run.
func (h *stateHealth) keepPasses(passes []*pass) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.failed, func(part string, _ error) bool {
		return part != partSweeps && part != partOutbox && !slices.ContainsFunc(passes, func(p *pass) bool { return p.key() == part })
	})
}

// problems returns the errors of the state, one line each. It is empty if all parts can use the state.
func (h *stateHealth) problems() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []string
	for _, part := range slices.Sorted(maps.Keys(h.failed)) {
		lines = append(lines, h.failed[part].Error())
	}
	return strings.Join(lines, "\n")
}
