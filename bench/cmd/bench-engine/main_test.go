package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/bench/batches"
)

// Before a measurement the results of both sides are compared.
func TestAllFiguresAreMeasuredOnAFewSpans(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a thousand rules")
	}
	b := &bench{repeat: 1, options: batches.Options{Seed: 9, Spans: 3000, PerBatch: 2000, MistakeEvery: 2}}
	require.NoError(t, b.prepare())
	for _, f := range figures {
		require.NoError(t, f.run(t.Context(), b, f.names), f.names[0])
	}
}
