package blocks

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// spansLeaf is a column of spans, in lists of resources, scopes and spans.
var spansLeaf = leaf{depth: 3, present: []byte{0, 1, 2, 3}, defined: 3}

func nestingOf(pages ...[2][]byte) nesting {
	var n nesting
	n.reset()
	for _, p := range pages {
		n.add(spansLeaf, p[0], p[1])
	}
	n.end()
	return n
}

func TestNestingIsReadFromLevels(t *testing.T) {
	// Two rows: a resource with 2 spans in one scope and 1 in another, and one with 1 span; then a
	// resource with 3 spans.
	rep, def := []byte{0, 3, 2, 1, 0, 3, 3}, bytes.Repeat([]byte{3}, 7)
	want := nesting{first: []int32{0, 4, 7}, resource: []int32{0, 3, 4}, scope: []int32{0, 2, 3, 4}, spans: 7}
	require.Equal(t, want, nestingOf([2][]byte{rep, def}))
	require.Equal(t, want, nestingOf([2][]byte{rep[:4], def[:4]}, [2][]byte{rep[4:], def[4:]}), "in two pages")
}

// A row without resources, a resource without scopes and a scope without spans have one entry each, but
// no span.
func TestEmptyListsAreNoSpans(t *testing.T) {
	full := [2][]byte{{0, 3}, {3, 3}}
	gaps := [2][]byte{
		{0, 0, 1, 2, 3, 0, 2},
		{0, 1, 2, 3, 3, 3, 2}, // no resource; one without scopes, one with an empty scope and one of 2 spans; a span, then an empty scope
	}
	want := nesting{
		first:    []int32{0, 2, 2, 4, 5},
		resource: []int32{0, 2, 2, 4}, scope: []int32{0, 2, 2, 4, 5}, spans: 5, gaps: true,
		resourceSlots: []int32{0, -1, 1, 2, 3},
		scopeSlots:    []int32{0, -1, -1, 1, 2, 3, 4},
		spanSlots:     []int32{0, 1, -1, -1, -1, 2, 3, 4, -1},
	}
	require.Equal(t, want, nestingOf(full, gaps))
}

func TestRangesThatLieCloseAreReadAsOne(t *testing.T) {
	for _, tt := range []struct {
		ranges, want []byteRange
		gap          int64
	}{
		{[]byteRange{{20, 30}, {0, 10}}, []byteRange{{0, 10}, {20, 30}}, 9},
		{[]byteRange{{20, 30}, {0, 10}}, []byteRange{{0, 30}}, 10},
		{[]byteRange{{0, 100}, {10, 20}, {90, 110}}, []byteRange{{0, 110}}, 0},
		{[]byteRange{{0, 100}, {10, 20}}, []byteRange{{0, 100}}, 0},
		{nil, nil, 5},
	} {
		require.Equal(t, tt.want, coalesced(tt.ranges, tt.gap))
	}
}
