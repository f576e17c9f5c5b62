package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The number of violations that the ticks find is compared with that of one scan.
func TestFiguresWithoutServersAreMeasuredOnAFewTicks(t *testing.T) {
	b := &bench{dir: t.TempDir(), ticks: 24, perTick: 5, overhead: 24}
	for name, measure := range map[string]func() error{
		"week":       func() error { return weekBytes(t.Context(), b) },
		"replicated": func() error { return replicatedBytes(t.Context(), b) },
		"late":       func() error { return lateBytes(t.Context(), b) },
		"overhead":   func() error { return tickOverhead(t.Context(), b) },
	} {
		require.NoError(t, measure(), name)
	}
}
