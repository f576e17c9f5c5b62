package analyzer

import (
	"context"
	"errors"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// So many traces, or of so many spans, make a batch: few, since a batch may have a
// column for each of many attributes.
const (
	gatherTraces = 256
	gatherSpans  = 10_000
)

// TracesFunc is a source that gives one trace after another, else as [SourceFunc].
type TracesFunc func(ctx context.Context, deliver func(*trace.Trace) error) (Reading, error)

// InBatches returns a source that gathers the traces of another into batches of what is
// needed of them, in their order. While one batch is taken the next is read: at most two
// are held. What was read before the source failed is still delivered.
func InBatches(needs columnar.Needs, read TracesFunc) SourceFunc {
	return func(ctx context.Context, deliver func(*columnar.Batch) error) (Reading, error) {
		readCtx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		gathered := make(chan []*trace.Trace)
		var reading Reading
		var readErr, deliverErr error
		go func() {
			defer close(gathered)
			reading, readErr = gather(readCtx, read, gathered)
		}()
		for traces := range gathered {
			if deliverErr != nil {
				continue
			}
			if deliverErr = deliver(columnar.NewBatch(needs, traces...)); deliverErr != nil {
				stop(deliverErr)
			}
		}
		if deliverErr != nil {
			return reading, deliverErr
		}
		return reading, readErr
	}
}

// gather sends the traces of a source, some at a time.
func gather(ctx context.Context, read TracesFunc, to chan<- []*trace.Trace) (Reading, error) {
	var traces []*trace.Trace
	spans := 0
	flush := func() error {
		if len(traces) == 0 {
			return nil
		}
		select {
		case to <- traces:
			traces, spans = nil, 0
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	reading, err := read(ctx, func(t *trace.Trace) error {
		traces = append(traces, t)
		spans += len(t.Spans)
		if len(traces) < gatherTraces && spans < gatherSpans {
			return nil
		}
		return flush()
	})
	return reading, errors.Join(err, flush())
}
