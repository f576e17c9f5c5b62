package blocks_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// A block of which most is needed is read by few requests, for any number of columns. From other blocks
// only the needed columns are read.
func TestMostOfABlockIsReadByFewRequests(t *testing.T) {
	const dir = "testdata/vparquet5"
	near, _ := fixture(t)
	b := bucketOf(t, dir)
	var mu sync.Mutex
	reads := map[string][]int64{} // requested sizes, by block
	b.hook = func(r request) fault {
		if name, ok := strings.CutSuffix(r.key, "/data.parquet"); ok && r.op == "read" {
			mu.Lock()
			defer mu.Unlock()
			reads[name] = append(reads[name], r.bytes)
		}
		return fault{}
	}
	store := blocks.NewStore(b.open(), "counted storage")
	defer func() { require.NoError(t, store.Close()) }()
	kind, err := traceql.Parse(`{ kind = server }`) // no single column decides it
	require.NoError(t, err)

	for name, tt := range map[string]struct {
		req   blocks.Request
		parts int64 // bytes of the file in one request; 0: default
		whole bool
	}{
		"all":                       {blocks.Request{Needs: columnar.Needs{All: true}}, 0, true},
		"small batches":             {blocks.Request{Needs: columnar.Needs{All: true}, MemoryBytes: 1}, 0, true},
		"a filter that leaves none": {blocks.Request{Needs: columnar.Needs{All: true}, Filter: kind}, 0, true},
		"in parts":                  {blocks.Request{Needs: columnar.Needs{All: true}}, 20_000, true},
		"more than the spool holds": {blocks.Request{Needs: columnar.Needs{All: true}, MemoryBytes: 1, SpoolBytes: 1}, 0, false},
		"what every span has":       {blocks.Request{}, 0, false},
		"traces of new blocks only": {blocks.Request{Needs: columnar.Needs{All: true}, Judged: func(string) bool { return false }}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			clear(reads)
			want, _ := readAll(t, near, tt.req)
			got, report := readAll(t, store.InParts(tt.parts), tt.req)
			require.Empty(t, report.Problems)
			require.Empty(t, cmp.Diff(len(want), len(got)))
			for id := range want {
				require.Equal(t, len(want[id].Spans), len(got[id].Spans), id)
			}
			require.NotEmpty(t, reads)
			all := 0
			for name, sizes := range reads {
				all += len(sizes)
				stat, err := os.Stat(filepath.Join(dir, name, "data.parquet"))
				require.NoError(t, err)
				most := 2 // the footer, and the columns
				if tt.parts > 0 {
					most = 2 + int(stat.Size()/tt.parts)
					for _, size := range sizes[1:] {
						require.LessOrEqual(t, size, tt.parts)
					}
				}
				if tt.whole {
					require.LessOrEqual(t, len(sizes), most, "%s: %v", name, sizes)
				} else {
					require.Greater(t, len(sizes), most, "%s: %v", name, sizes)
				}
			}
			require.EqualValues(t, all, report.Requests)
		})
	}
}

// Including its meta.json, its footer and a share of the listing, a block needs at most 12 requests.
func TestABlockIsReadInNinePartsAtMost(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	most := 0
	for range 20_000 {
		columns := make([]int64, 1+r.IntN(200))
		largest := int64(1) << r.IntN(30)
		needed, size := int64(0), int64(0)
		for i := range columns {
			columns[i] = 1 + r.Int64N(largest)
			if i%2 == 0 {
				needed += columns[i]
			}
			size += columns[i]
		}
		if 2*needed < size {
			continue
		}
		parts := blocks.WholeParts(columns)
		read := int64(0)
		for _, n := range parts {
			require.LessOrEqual(t, n, max(16<<20, size/4))
			read += n
		}
		require.GreaterOrEqual(t, read, needed)
		require.LessOrEqual(t, len(parts), 9, "%v", columns)
		most = max(most, len(parts))
	}
	require.Greater(t, most, 4)
}
