package blocks_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// put stores a block of the default tenant with traces at a time, see [blocks.WriteBlock].
func (b *bucket) putBlock(t testing.TB, id string, at time.Time, span uint64, traces ...trace.ID) {
	t.Helper()
	data, meta := blocks.WriteBlock(t, id, at, span, traces...)
	b.put("single-tenant/"+id+"/data.parquet", data)
	b.put("single-tenant/"+id+"/meta.json", meta)
}

// traceIDs returns n distinct trace IDs.
func traceIDs(first, n int) (ids []trace.ID) {
	for i := range n {
		var id trace.ID
		binary.BigEndian.PutUint64(id[:], uint64(first+i)*0x9e3779b97f4a7c15)
		ids = append(ids, id)
	}
	return ids
}

// A reading of one new block reads nothing of the other blocks if none has a trace of it, however many there
// are.
func TestOnlyTheNewBlockIsRead(t *testing.T) {
	filter, err := traceql.Parse(`{ name = "work" }`)
	require.NoError(t, err)
	for _, near := range []bool{true, false} {
		for _, f := range []*traceql.Filter{nil, filter} {
			b := &bucket{objects: map[string][]byte{}}
			for i := range 200 {
				b.putBlock(t, fmt.Sprintf("old-%03d", i), noon, 1, traceIDs(100*i, 20)...)
			}
			store := blocks.NewStore(b.open(), "memory")
			if near {
				store.Near()
			}
			store.Cache(cacheBytes)
			req := blocks.Request{Needs: columnar.Needs{Attributes: []columnar.AttributeKey{{Scope: columnar.ScopeSpan, Key: "http"}}}, Filter: f}
			got, report := readAll(t, store, req)
			require.Empty(t, report.Problems)
			require.Len(t, got, 200*20)
			n, _ := store.CacheSize()
			require.Equal(t, 200, n)

			b.putBlock(t, "new", noon, 1, traceIDs(100*200, 20)...)
			listing, err := store.List(t.Context(), "")
			require.NoError(t, err)
			requests := b.record()
			req.Listing, req.Judged = &listing, allBut("new")
			got, report = readAll(t, store, req)
			require.Empty(t, report.Problems)
			require.Len(t, got, 20)
			require.Len(t, report.Blocks, 201)
			all := requests.of("")
			require.Equal(t, requests.of("single-tenant/new/data.parquet"), all)
			require.LessOrEqual(t, all, 12)
			require.EqualValues(t, report.Requests, all)
		}
	}
}

// Spans of judged blocks belong to a new trace if they are within the maximum duration of a trace. The other
// judged blocks are not opened.
func TestNewTracesAreUnitedWithNearBlocks(t *testing.T) {
	for _, cached := range []bool{true, false} {
		b := &bucket{objects: map[string][]byte{}}
		one := traceIDs(1, 1)
		hours := map[string]float64{"new": 0, "near-before": -0.5, "near-after": 0.9, "far-before": -1.5, "far-after": 3, "new-later": 10, "near-later": 10.5}
		for i, id := range []string{"new", "near-before", "near-after", "far-before", "far-after", "new-later", "near-later"} {
			b.putBlock(t, id, noon.Add(time.Duration(hours[id]*float64(time.Hour))), uint64(i+1), one...)
		}
		store := blocks.NewStore(b.open(), "memory")
		if cached {
			store.Cache(cacheBytes)
		}
		listing, err := store.List(t.Context(), "")
		require.NoError(t, err)
		opening, err := store.Times(t.Context(), listing.Live)
		require.NoError(t, err)
		require.Equal(t, noon, opening.Times["new"].Earliest.UTC())
		require.Equal(t, noon.Add(time.Second), opening.Times["new"].Latest.UTC())
		requests := b.record()
		got, report := readAll(t, store, blocks.Request{Listing: &listing, MaxTraceDuration: time.Hour, Judged: allBut("new", "new-later")})
		require.Empty(t, report.Problems)
		require.Equal(t, []string{"near-after", "near-before", "near-later", "new", "new-later"}, ids(report.Blocks))
		require.Equal(t, 2, report.Left)
		require.Len(t, got[one[0]].Spans, 5)
		// The times of a far block are in its footer.
		footers := map[bool]int{true: 0, false: 1}[cached]
		require.Equal(t, footers, requests.of("far-before"))
		require.Equal(t, footers, requests.of("far-after"))

		requests.take()
		got, report = readAll(t, store, blocks.Request{Listing: &listing, MaxTraceDuration: 4 * time.Hour, Judged: allBut("new")})
		require.Empty(t, report.Problems)
		require.Equal(t, []string{"far-after", "far-before", "near-after", "near-before", "new"}, ids(report.Blocks))
		require.Len(t, got[one[0]].Spans, 5)
	}
}

// The contents of meta.json and the times of all blocks are kept in addition to the bytes of the cache. For
// 10,000 blocks they need a few megabytes.
func TestTheMemoryOfACacheIsBounded(t *testing.T) {
	const n, bound = 10_000, 8 << 20
	b := &bucket{objects: map[string][]byte{}}
	data, meta := blocks.WriteBlock(t, "block-", noon, 1, traceIDs(0, 1000)...)
	for i := range n {
		id := fmt.Sprintf("%08d-0000-0000-0000-000000000000", i)
		b.put("single-tenant/"+id+"/data.parquet", data)
		b.put("single-tenant/"+id+"/meta.json", []byte(strings.Replace(string(meta), "block-", id, 1)))
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	store := blocks.NewStore(b.open(), "memory")
	store.Cache(bound)
	before := heap()
	listing, err := store.List(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, listing.Live, n)
	for part := range slices.Chunk(listing.Live, n/10) {
		_, err = store.Times(t.Context(), part)
		require.NoError(t, err)
		_, bytes := store.CacheSize()
		require.LessOrEqual(t, bytes, int64(bound))
	}
	// A reading of some of them keeps trace IDs, too.
	_, report := readAll(t, store, blocks.Request{Listing: &listing, Judged: allBut(listing.Live[7].ID), LeaveOut: func(id string) bool { return id > listing.Live[300].ID }})
	require.Empty(t, report.Problems)
	kept, bytes := store.CacheSize()
	require.LessOrEqual(t, bytes, int64(bound))
	require.Greater(t, bytes, int64(bound/2))
	used := heap() - before
	listing, report = blocks.Listing{}, blocks.Report{}
	used = min(used, heap()-before)
	outside := (used - bytes) / n
	t.Logf("%d blocks: the footers of %d are kept in %d bytes; %d bytes for each block are outside the bound", n, kept, bytes, outside)
	require.Less(t, outside, int64(1000))
	// All times are still known.
	requests := b.record()
	listing, err = store.List(t.Context(), "")
	require.NoError(t, err)
	lists := len(requests.take())
	require.Equal(t, 2*(2*n/1000), lists, "objects in pages of 1,000")
	_, err = store.Times(t.Context(), listing.Live)
	require.NoError(t, err)
	require.Empty(t, requests.take())
}

// The size that a cache reports is about the memory that it needs.
func TestTheSizeOfACacheIsTrue(t *testing.T) {
	b := bucketOf(t, fixtureDir)
	st := &stored{fixture: b.objects}
	many := &bucket{objects: map[string][]byte{}}
	for i := range 100 {
		st.put(t, many, fmt.Sprintf("%03d", i), written[i%len(written)], 0)
	}
	store := blocks.NewStore(many.open(), "memory").Near()
	store.Cache(1 << 30)
	listing, err := store.List(t.Context(), "")
	require.NoError(t, err)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	_, report := readAll(t, store, blocks.Request{Listing: &listing})
	require.Empty(t, report.Problems)
	report = blocks.Report{}
	used := heap() - before
	n, bytes := store.CacheSize()
	require.Equal(t, 100, n)
	t.Logf("the cache reports %d bytes, the heap grew by %d", bytes, used)
	require.Less(t, float64(used), 1.5*float64(bytes))
	require.Greater(t, float64(used), 0.5*float64(bytes))
	runtime.KeepAlive(store)
}
