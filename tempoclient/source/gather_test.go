package source

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// ofSpans returns a trace with n spans that starts at a second.
func ofSpans(n int, second int64) *trace.Trace {
	spans := make([]trace.Span, n)
	for i := range spans {
		binary.BigEndian.PutUint64(spans[i].ID[:], uint64(i+1))
		spans[i].Start = trace.TimeOf(time.Unix(second, 0))
		spans[i].End = spans[i].Start
	}
	return trace.New(trace.ID{15: byte(second), 14: 1}, spans)
}

// from returns a function that reads the traces.
func from(traces []*trace.Trace, reading trace.Reading, err error) tracesFunc {
	return func(_ context.Context, deliver func(*trace.Trace) error) (trace.Reading, error) {
		for _, t := range traces {
			if err := deliver(t); err != nil {
				return reading, err
			}
		}
		return reading, err
	}
}

func TestTracesAreGatheredIntoBoundedBatchesInTheirOrder(t *testing.T) {
	var traces []*trace.Trace
	for i := range 100 {
		traces = append(traces, ofSpans(1, int64(i)))
	}
	traces = append(traces, ofSpans(10_000, 100), ofSpans(1, 101))
	for i := range 300 {
		one := ofSpans(2, 102)
		binary.BigEndian.PutUint32(one.ID[:], uint32(i+1))
		traces = append(traces, one)
	}
	broken := errors.New("broken")
	var sizes []int
	at := 0
	reading, err := inBatches(t.Context(), columnar.Needs{All: true}, from(traces, trace.Reading{Skipped: 7}, broken), func(b *columnar.Batch) error {
		sizes = append(sizes, b.NumTraces())
		for i := range b.NumTraces() {
			require.Equal(t, traces[at].ID, b.IDs[i])
			require.Equal(t, traces[at].Spans, b.Trace(i).Spans)
			at++
		}
		return nil
	})
	require.ErrorIs(t, err, broken)
	require.Equal(t, 7, reading.Skipped)
	require.Equal(t, []int{101, 256, 45}, sizes, "traces that were read before the source failed are delivered")

	_, err = inBatches(t.Context(), columnar.Needs{All: true}, from(traces, trace.Reading{}, nil), func(*columnar.Batch) error { return broken })
	require.ErrorIs(t, err, broken)
}

func TestReadingEndsWhenABatchIsRefused(t *testing.T) {
	full, ended := errors.New("disk full"), false
	_, err := inBatches(t.Context(), columnar.Needs{}, func(_ context.Context, deliver func(*trace.Trace) error) (trace.Reading, error) {
		for i := range 50_000 {
			one := ofSpans(1, 1)
			binary.BigEndian.PutUint32(one.ID[:], uint32(i))
			if err := deliver(one); err != nil {
				ended = true
				return trace.Reading{}, err
			}
		}
		return trace.Reading{}, nil
	}, func(*columnar.Batch) error { return full })
	require.ErrorIs(t, err, full)
	require.True(t, ended)
}
