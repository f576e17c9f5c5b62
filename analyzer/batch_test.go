package analyzer_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// oneRule compiles a rule that is all when.
func oneRule(t *testing.T, when string) []*rules.Rule {
	t.Helper()
	pack, err := rules.Parse("p.yaml", []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{id: r, title: t, severity: low, when: \""+when+"\"}]\n"), rules.Options{})
	require.NoError(t, err)
	return pack.Rules
}

// ofSpans returns a trace of so many spans that starts at a second.
func ofSpans(n int, second int64) *trace.Trace {
	spans := make([]trace.Span, n)
	for i := range spans {
		binary.BigEndian.PutUint64(spans[i].ID[:], uint64(i+1))
		spans[i].Start = trace.TimeOf(time.Unix(second, 0))
		spans[i].End = spans[i].Start
	}
	return trace.New(trace.ID{15: byte(second), 14: 1}, spans)
}

func TestTheTracesOfWhatIsFoundAreBoundedByTheirSpansToo(t *testing.T) {
	large := columnar.NewBatch(columnar.Needs{}, ofSpans(30_000, 1), ofSpans(30_000, 2), ofSpans(30_000, 3))
	var written []int
	_, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{
		Source: func(_ context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error) {
			return trace.Reading{}, deliver(large)
		},
		Rules: oneRule(t, "spans.exists(s, s.name == '')"),
		Write: func(_ context.Context, vs []evidence.Violation) error { written = append(written, len(vs)); return nil },
	})
	require.NoError(t, err)
	require.Equal(t, []int{2, 1}, written)
}

func TestVerdictsThatTheEndOfTheContextSpoiltAreNotCounted(t *testing.T) {
	stop := errors.New("the operator stopped it")
	ctx, cancel := context.WithCancelCause(t.Context())
	result, err := analyzer.Scan(ctx, analyzer.ScanOptions{
		Source: from([]*trace.Trace{ofSpans(1, 1)}, trace.Reading{}, nil),
		Rules:  oneRule(t, "lists.range(3000).exists(a, lists.range(3000).exists(b, a + b < 0))"),
		Filter: func(*columnar.Batch) columnar.Bits { cancel(stop); return columnar.Bits{1} }, // called before the batch is judged
	})
	require.ErrorIs(t, err, stop)
	require.Zero(t, result.Rules[0].Error)
	require.Zero(t, result.Traces.Judged)
	require.Len(t, result.Problems, 1)
	require.Equal(t, "the scan ended early", result.Problems[0].What)
}

// If the context ends within a batch, violations that were not evaluated yet are neither counted nor written.
func TestVerdictsAfterTheEndOfTheContextAreNone(t *testing.T) {
	stop := errors.New("the operator stopped it")
	ctx, cancel := context.WithCancelCause(t.Context())
	var traces []*trace.Trace
	for i := range 1000 {
		one := ofSpans(1, 1)
		binary.BigEndian.PutUint32(one.ID[:], uint32(i))
		traces = append(traces, one)
	}
	written := 0
	result, err := analyzer.Scan(ctx, analyzer.ScanOptions{
		Source: func(_ context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error) {
			return trace.Reading{}, deliver(columnar.NewBatch(columnar.Needs{}, traces...))
		},
		Rules: oneRule(t, "spans.size() > 0"),
		Write: func(_ context.Context, some []evidence.Violation) error {
			written += len(some)
			cancel(stop)
			return nil
		},
	})
	require.ErrorIs(t, err, stop)
	require.Positive(t, written)
	require.Less(t, written, 1000)
	require.Equal(t, written, result.Rules[0].Violation)
	require.Zero(t, result.Rules[0].Error)
}

func TestOneVerdictErrorMakesAScanIncomplete(t *testing.T) {
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{
		Source: from([]*trace.Trace{ofSpans(1, 1)}, trace.Reading{}, nil), Rules: oneRule(t, "spans[7].name == 'x'"),
	})
	require.NoError(t, err)
	require.Equal(t, trace.Incomplete, result.Completeness())
	require.Equal(t, 1, result.Rules[0].Applied(), "it had something to say")
	require.Contains(t, result.Problems[0].Err.Error(), "1 of its verdicts are errors")
}

func TestAResultSaysWhenItsTracesStart(t *testing.T) {
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{
		Source: from([]*trace.Trace{ofSpans(1, 20), ofSpans(2, 10), ofSpans(1, 30), ofSpans(1, 15)}, trace.Reading{}, nil), Workers: 1,
		Filter: where(func(b *columnar.Batch, t int) bool { return b.Starts[b.First[t]].Time().Unix() != 30 }),
	})
	require.NoError(t, err)
	require.Equal(t, time.Unix(10, 0).UTC(), result.Earliest)
	require.Equal(t, time.Unix(20, 0).UTC(), result.Latest, "of those judged")
	require.Equal(t, analyzer.TraceCounts{Seen: 4, OutsideQuery: 1, Judged: 3, Spans: 5}, result.Traces)
}
