package tracetest_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

func TestAddListsMakesListsOfAShareOfScalars(t *testing.T) {
	build := func(seed uint64, share float64) (before, after []*trace.Trace) {
		var batches []ptrace.Traces
		for g := range tracetest.New(tracetest.Mixed(3, 50)).All() {
			batches = append(batches, g.Batches...)
		}
		before, err := otlp.ToTraces(tracetest.Merge(batches...))
		require.NoError(t, err)
		tracetest.AddLists(seed, share, batches...)
		after, err = otlp.ToTraces(tracetest.Merge(batches...))
		require.NoError(t, err)
		return before, after
	}
	count := func(before, after []*trace.Trace) (scalars, lists, longer int) {
		for i, tr := range before {
			require.Len(t, after[i].Spans, len(tr.Spans), "copies of a span have become different spans")
			for j := range tr.Spans {
				for _, pair := range [][2]trace.Attributes{{tr.Spans[j].Attributes, after[i].Spans[j].Attributes}, {tr.Spans[j].Resource, after[i].Spans[j].Resource}} {
					for _, a := range pair[0] {
						now := pair[1].Get(a.Key)
						switch a.Value.Type() {
						case trace.TypeString, trace.TypeInt, trace.TypeDouble, trace.TypeBool:
						default:
							require.Equal(t, a.Value.Type(), now.Type())
							continue
						}
						scalars++
						if now.Type() != trace.TypeArray {
							continue
						}
						require.NotEqual(t, trace.ServiceName, a.Key)
						require.Equal(t, a.Value.String(), now.Array()[0].String(), "the first element is the value")
						lists++
						if len(now.Array()) > 1 {
							longer++
						}
					}
				}
			}
		}
		return scalars, lists, longer
	}
	scalars, lists, longer := count(build(7, 0.25))
	require.InDelta(t, 0.22, float64(lists)/float64(scalars), 0.04) // service.name is a scalar
	require.Greater(t, longer, lists/2)
	_, lists, _ = count(build(7, 0))
	require.Zero(t, lists)

	_, first := build(7, 0.25)
	_, again := build(7, 0.25)
	require.Equal(t, first, again)
}
