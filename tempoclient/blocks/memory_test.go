package blocks_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

// The limit leaves room for other data than spans, also for the default or little memory.
func TestTheMemoryLimitIsBeyondTheSpans(t *testing.T) {
	require.Equal(t, blocks.MemoryLimit(blocks.DefaultMemoryBytes), blocks.MemoryLimit(0))
	for _, bytes := range []int64{1 << 20, 64 << 20, 256 << 20, 4 << 30} {
		require.GreaterOrEqual(t, blocks.MemoryLimit(bytes), bytes+96<<20, "%d", bytes)
		require.GreaterOrEqual(t, blocks.MemoryLimit(bytes), bytes+bytes/3, "%d", bytes)
		require.LessOrEqual(t, blocks.MemoryLimit(bytes), max(2*bytes, bytes+96<<20), "%d", bytes)
	}
}
