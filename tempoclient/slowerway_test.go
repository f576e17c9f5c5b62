package tempoclient

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The faster method is measured while reading. Here the measurements are given, because real ones on a
// loaded machine are not predictable.
func TestTheSlowerWayIsLeft(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name           string
		bySearch, byID time.Duration // for one trace
		batches, byIDs int           // numbers of measurements
		left           bool
	}{
		{"search is slower", 40 * time.Millisecond, time.Millisecond, 3, 5, true},
		{"search is faster", time.Millisecond, 40 * time.Millisecond, 30, 50, false},
		{"both are equal", time.Millisecond, time.Millisecond, 30, 50, false},
		{"too few batches to tell", 40 * time.Millisecond, time.Millisecond, 2, 50, false},
		{"too few traces by ID to tell", 40 * time.Millisecond, time.Millisecond, 30, 4, false},
	} {
		search := &wholeSearch{}
		w := newWays(search, "")
		for range test.batches {
			w.searched(50, 50, 50*test.bySearch)
		}
		for range test.byIDs {
			w.fetched(test.byID, "")
		}
		if test.left {
			require.Nil(t, w.use(), test.name)
			require.Equal(t, map[string]int{"search takes longer": 0}, w.why, test.name)
			continue
		}
		require.Same(t, search, w.use(), test.name)
		require.Empty(t, w.why, test.name)
	}
	// An old slow measurement counts less than a new fast one.
	w := newWays(&wholeSearch{}, "")
	for n := range 100 {
		w.searched(50, 50, 50*map[bool]time.Duration{true: 40 * time.Millisecond, false: time.Millisecond}[n < 2])
	}
	for range 5 {
		w.fetched(2*time.Millisecond, "")
	}
	require.NotNil(t, w.use())
}
