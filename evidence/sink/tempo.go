package sink

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
)

// Tempo is the sink for violation spans.
type Tempo struct {
	// Export sends spans; nil is no proof that they are stored.
	Export func(context.Context, ptrace.Traces) error
	// Read returns a trace by its ID, or an error that is NotFound.
	Read     func(context.Context, trace.ID) (*trace.Trace, error)
	NotFound error
	// Concurrency bounds reads under way. Default 8.
	Concurrency int
	// Now tells the time. Default: time.Now.
	Now func() time.Time
}

// Name returns "tempo".
func (s *Tempo) Name() string { return "tempo" }

// Write sends a span for each violation. It sets the filing time of a violation that has
// none, so that one that is written again is the same span.
func (s *Tempo) Write(ctx context.Context, vs []evidence.Violation) error {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	at := now()
	for i := range vs {
		if vs[i].FiledAt.IsZero() {
			vs[i].FiledAt = at
		}
	}
	return s.Export(ctx, evidence.Spans(vs, at))
}

// Holds reads each violation's trace by its ID, and returns the IDs of those
// whose span is there, however old.
func (s *Tempo) Holds(ctx context.Context, vs []evidence.Violation, _ time.Time) (map[string]bool, error) {
	held := map[string]bool{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	limit := s.Concurrency
	if limit == 0 {
		limit = 8
	}
	group.SetLimit(limit)
	for i := range vs {
		group.Go(func() error {
			id, _ := evidence.SpanIDs(vs[i].ID)
			t, err := s.Read(ctx, id)
			if errors.Is(err, s.NotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			held[vs[i].ID] = evidence.HoldsViolation(t, vs[i].ID)
			return nil
		})
	}
	return held, group.Wait()
}
