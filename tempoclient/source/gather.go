package source

import (
	"context"
	"errors"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// A batch of gathered traces has at most so many traces, and ends with the trace that reaches so many spans.
// The numbers are small because a batch may have a column for each of many attributes.
const (
	gatherTraces = 256
	gatherSpans  = 10_000
)

// tracesFunc reads traces and delivers one after another, from one goroutine at a time.
type tracesFunc func(ctx context.Context, deliver func(*trace.Trace) error) (trace.Reading, error)

// inBatches delivers the traces of read in batches, in their order. While one batch is used the next is read,
// so at most two are held. Traces that were read before read failed are still delivered.
func inBatches(ctx context.Context, needs columnar.Needs, read tracesFunc, deliver DeliverFunc) (trace.Reading, error) {
	readCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	gathered := make(chan []*trace.Trace)
	var reading trace.Reading
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

// gather sends the traces of read, several at a time.
func gather(ctx context.Context, read tracesFunc, to chan<- []*trace.Trace) (trace.Reading, error) {
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
