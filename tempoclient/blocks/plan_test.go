package blocks

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

// blockOfIDs returns a block with the numbers as trace IDs, of which every every-th is kept.
func blockOfIDs(id string, spans int64, every int, numbers ...int) *block {
	var ids []trace.ID
	for i := 0; i < len(numbers); i += every {
		var id trace.ID
		binary.BigEndian.PutUint64(id[:], uint64(numbers[i]))
		ids = append(ids, id)
	}
	b := &block{Meta: Meta{ID: id, Traces: len(numbers)}}
	b.footer = &footer{spans: spans, rows: int64(len(numbers))}
	b.ids = &idSample{groups: [][]trace.ID{ids}, every: int64(every)}
	return b
}

// numbers returns n numbers that are 1000 apart.
func numbers(first, n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = first + 1000*i
	}
	return all
}

func TestJudgedBlocksDivideAReadingOnlyIfTheyMayBeRead(t *testing.T) {
	const many = 1_000_000 // spans, more than one range has
	fresh := blockOfIDs("new", 1000, 1, numbers(0, 100)...)
	for name, tt := range map[string]struct {
		judged *block
		isOne  bool
	}{
		"no trace in common":   {blockOfIDs("old", many, 1, numbers(1, 100)...), true},
		"a trace in common":    {blockOfIDs("old", many, 1, append(numbers(1, 100), 99_000)...), false},
		"only some of its IDs": {blockOfIDs("old", many, sampleEvery, numbers(1, 100)...), false},
		"it is not judged":     {blockOfIDs("another", many, 1, numbers(1, 100)...), false},
		"no other block":       {nil, true},
	} {
		r := &reading{
			store: &Store{}, stats: &readStats{}, blocks: []*block{fresh},
			req: Request{MemoryBytes: 20 << 20, Workers: 2, Judged: func(id string) bool { return id == "old" }},
		}
		if tt.judged != nil {
			r.blocks = append(r.blocks, tt.judged)
		}
		require.Equal(t, tt.isOne, len(r.plan()) == 1, name)
	}
	// If some IDs of the new block are unknown, its traces in other blocks are, too.
	r := &reading{
		store: &Store{}, stats: &readStats{}, req: Request{MemoryBytes: 20 << 20, Workers: 2, Judged: func(id string) bool { return id == "old" }},
		blocks: []*block{blockOfIDs("new", 1000, sampleEvery, numbers(0, 100)...), blockOfIDs("old", many, 1, numbers(1, 100)...)},
	}
	require.Greater(t, len(r.plan()), 1)
}
