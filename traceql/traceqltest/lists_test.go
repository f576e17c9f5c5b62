package traceqltest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/traceql"
	"github.com/betracehq/betrace/traceql/traceqltest"
)

func list(values ...trace.Value) trace.Value { return trace.ArrayValue(values...) }

func TestHiddenListsAreThoseThatTempoMayNotEvaluate(t *testing.T) {
	a, b, c := trace.StringValue("a"), trace.StringValue("b"), trace.StringValue("c")
	for _, test := range []struct {
		query  string
		key    string
		value  trace.Value
		hidden bool
	}{
		{`{ .x = "a" }`, "x", a, false},
		{`{ .x = "a" }`, "x", list(a, b), false},
		{`{ .x = "a" }`, "x", list(a, a), false},                   // one condition: any element suffices
		{`{ .service.name = "a" }`, "service.name", list(a), true}, // in a column
		{`{ .tier = "a" }`, "tier", list(a), true},
		{`{ .tier = "a" }`, "tier", a, false},
		{`{ .x = "a" && .y = "b" }`, "x", list(a, b), true},
		{`{ .x = "a" && .y = "b" }`, "x", list(a, c), false}, // only one element is kept
		{`{ .x = "a" && .x = "b" }`, "x", list(a, b), false},
		{`{ .x = "a" && .y = "a" }`, "x", list(a, a), false},
		{`{ .x = "a" && .y = 5 }`, "x", list(a, a), false}, // each type has its own buffer
		{`{ .x = "a" && name = "b" }`, "x", list(a, b), false},
		{`{ .x = "a" || (.y = "b" && status = error) }`, "z", list(a, b), true},
	} {
		f, err := traceql.Parse(test.query)
		require.NoError(t, err)
		hidden := traceqltest.HiddenLists(f, []string{"tier"})
		require.Equal(t, test.hidden, hidden(trace.Attribute{Key: test.key, Value: test.value}), "%s with %s = %v", test.query, test.key, test.value)
	}
}

func TestWithoutLeavesOutAttributesOfSpansAndResources(t *testing.T) {
	x, y := trace.Attribute{Key: "x", Value: list(trace.IntValue(1))}, trace.Attribute{Key: "y", Value: trace.IntValue(1)}
	tr := trace.New(trace.ID{1}, []trace.Span{{Attributes: trace.Attributes{x, y}, Resource: trace.Attributes{x}}, {Attributes: trace.Attributes{y}}})
	isX := func(a trace.Attribute) bool { return a.Key == "x" }

	without, some := traceqltest.Without(tr, isX)
	require.True(t, some)
	require.Equal(t, trace.Attributes{y}, without.Spans[0].Attributes)
	require.Empty(t, without.Spans[0].Resource)
	require.Len(t, tr.Spans[0].Attributes, 2, "the original trace is not changed")
	_, some = traceqltest.Without(without, isX)
	require.False(t, some)
}
