package sink

import (
	"cmp"
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
	// Export sends spans. A nil error does not prove that they are stored.
	Export func(context.Context, ptrace.Traces) error
	// Read returns a trace by its ID. If there is none, its error is NotFound.
	Read     func(context.Context, trace.ID) (*trace.Trace, error)
	NotFound error
	// Search returns the attributes that a TraceQL query selects, for each of up to limit traces between two times.
	// It is needed for entries. If Tempo does not permit the limit or the range, its error is LimitRefused.
	Search       func(ctx context.Context, traceQL string, start, end time.Time, limit int) ([]map[string]string, error)
	LimitRefused error
	// SearchLimit is the maximum limit of a search. The default is 5,000.
	SearchLimit int
	// Concurrency is the maximum number of concurrent reads. The default is 8.
	Concurrency int
	// Now returns the time. The default is time.Now.
	Now func() time.Time
}

// Name returns "tempo".
func (s *Tempo) Name() string { return "tempo" }

// Write sends a span for each violation. It sets the filing time of a violation that has
// none, so that one that is written again is the same span.
func (s *Tempo) Write(ctx context.Context, vs []evidence.Violation) error {
	at := s.now()
	for i := range vs {
		if vs[i].FiledAt.IsZero() {
			vs[i].FiledAt = at
		}
	}
	return s.Export(ctx, evidence.Spans(vs, at))
}

func (s *Tempo) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Holds reads the trace of each violation span by its ID, and returns the IDs of the violations whose span
// exists, regardless of its age.
func (s *Tempo) Holds(ctx context.Context, vs []evidence.Violation, _ time.Time) (map[string]bool, error) {
	lookups := make([]lookup, len(vs))
	for i := range vs {
		lookups[i] = lookup{vs[i].ID, evidence.SpanIDs, evidence.HoldsViolation}
	}
	return s.read(ctx, lookups)
}

// read reads traces by their IDs, and returns the IDs of the lookups that succeed.
func (s *Tempo) read(ctx context.Context, lookups []lookup) (map[string]bool, error) {
	held := map[string]bool{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(s.Concurrency, 8))
	for _, l := range lookups {
		group.Go(func() error {
			id, _ := l.idsOf(l.id)
			t, err := s.Read(ctx, id)
			if errors.Is(err, s.NotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if l.holds(t, l.id) {
				mu.Lock()
				defer mu.Unlock()
				held[l.id] = true
			}
			return nil
		})
	}
	return held, group.Wait()
}
