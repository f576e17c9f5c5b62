package blocks_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// requests records the requests to a bucket.
type requests struct {
	mu  sync.Mutex
	all []request
}

// record makes the bucket record its requests.
func (b *bucket) record() *requests {
	r := &requests{}
	before := b.hook
	b.hook = func(q request) fault {
		r.mu.Lock()
		r.all = append(r.all, q)
		r.mu.Unlock()
		if before != nil {
			return before(q)
		}
		return fault{}
	}
	return r
}

// take returns the requests since the last call, each as its operation and the end of its key.
func (r *requests) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var texts []string
	for _, q := range r.all {
		texts = append(texts, q.op+" "+strings.TrimPrefix(q.key, "single-tenant/"))
	}
	r.all = nil
	return texts
}

// of returns the number of requests for a block's objects since the last call of take.
func (r *requests) of(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, q := range r.all {
		if strings.Contains(q.key, id) {
			n++
		}
	}
	return n
}

// allBut returns a function that reports all blocks except some as judged.
func allBut(ids ...string) func(string) bool {
	return func(id string) bool { return !slices.Contains(ids, id) }
}

const cacheBytes = 64 << 20

func TestAnIdleTickOnlyLists(t *testing.T) {
	b := bucketOf(t, fixtureDir)
	store := blocks.NewStore(b.open(), "memory")
	store.Cache(cacheBytes)
	requests := b.record()
	first, err := store.List(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, first.Live, 3)
	require.EqualValues(t, 5, first.Requests, "two lists, three meta.json")
	require.Positive(t, first.Bytes)
	require.Len(t, requests.take(), 5)
	_, err = store.Times(t.Context(), first.Live)
	require.NoError(t, err)
	requests.take()

	listing, err := store.List(t.Context(), "")
	require.NoError(t, err)
	opening, err := store.Times(t.Context(), listing.Live)
	require.NoError(t, err)
	_, report := readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}, Listing: &listing, Judged: allBut()})
	require.Empty(t, report.Problems)
	require.Equal(t, 3, report.Left)
	require.Equal(t, []string{"list ", "list "}, requests.take())
	require.EqualValues(t, 2, listing.Requests)
	require.Zero(t, listing.Bytes)
	require.Zero(t, opening.Requests+opening.Bytes+report.Requests+report.Bytes)
	require.Equal(t, first.Live, listing.Live)
}

func TestANewBlockIsOpenedOnce(t *testing.T) {
	b := bucketOf(t, fixtureDir)
	store := blocks.NewStore(b.open(), "memory")
	store.Cache(cacheBytes)
	st := &stored{fixture: b.objects}
	needs := columnar.Needs{All: true}
	_, report := readAll(t, store, blocks.Request{Needs: needs})
	require.Empty(t, report.Problems)

	requests := b.record()
	st.put(t, b, "new", firstBlock, 0)
	listing, err := store.List(t.Context(), "")
	require.NoError(t, err)
	require.EqualValues(t, 3, listing.Requests, "two lists and the meta.json of the new block")
	require.Equal(t, 1, requests.of("new/meta.json"))
	requests.take()
	opening, err := store.Times(t.Context(), listing.Live)
	require.NoError(t, err)
	require.EqualValues(t, 1, opening.Requests)
	require.Equal(t, []string{"read new/data.parquet"}, requests.take())

	// No trace of this block is in a judged one, except in its copy.
	_, report = readAll(t, store, blocks.Request{Needs: needs, Listing: &listing, Judged: allBut("new"), LeaveOut: func(id string) bool { return id == firstBlock }})
	require.Empty(t, report.Problems)
	cached := report.Requests
	fresh := blocks.NewStore(b.open(), "memory")
	_, report = readAll(t, fresh, blocks.Request{Needs: needs, Listing: &listing, Judged: allBut("new"), LeaveOut: func(id string) bool { return id == firstBlock }})
	require.GreaterOrEqual(t, report.Requests-cached, int64(5), "the footers of three blocks, and the trace IDs of two")
}

// Whatever is kept, from whichever readings: a reading delivers the same traces as without a cache.
func TestACacheChangesNoReading(t *testing.T) {
	names := truth(t, columnar.Needs{All: true})
	var name string
	for _, tr := range names {
		name = max(name, tr.Spans[0].Name)
	}
	filter, err := traceql.Parse(`{ name = ` + quote(name) + ` }`)
	require.NoError(t, err)
	for _, bytes := range []int64{0, 100_000, 1_000_000, cacheBytes} {
		for _, near := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d bytes, near %t", bytes, near), func(t *testing.T) {
				b := bucketOf(t, fixtureDir)
				open := func() *blocks.Store {
					s := blocks.NewStore(b.open(), "memory")
					if near {
						s.Near()
					}
					return s
				}
				cached, plain := open(), open()
				cached.Cache(bytes)
				listing, err := cached.List(t.Context(), "")
				require.NoError(t, err)
				r := rand.New(rand.NewPCG(uint64(bytes), 3))
				var group sync.WaitGroup
				defer group.Wait()
				for i := range 12 {
					req := blocks.Request{Listing: &listing, Workers: 1 + r.IntN(2), Needs: columnar.Needs{All: r.IntN(2) == 0}}
					if !req.Needs.All {
						for _, c := range listing.Live[0].DedicatedColumns[:r.IntN(3)] {
							req.Needs.Attributes = append(req.Needs.Attributes, columnar.AttributeKey{Scope: columnar.ScopeAny, Key: c.Name})
						}
					}
					if r.IntN(2) == 0 {
						req.MemoryBytes = 1
					}
					if r.IntN(3) == 0 {
						req.Filter = filter
					}
					if r.IntN(2) == 0 {
						req.Judged = allBut(liveBlocks[:r.IntN(3)]...)
					}
					want, wanted := readAll(t, plain, req)
					require.Empty(t, wanted.Problems)
					check := func() {
						got, report := readAll(t, cached, req)
						require.Equal(t, wanted.Blocks, report.Blocks)
						require.Empty(t, report.Problems)
						require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
						for id := range want {
							require.True(t, reflect.DeepEqual(want[id].Spans, got[id].Spans), "trace %s", id)
						}
						_, size := cached.CacheSize()
						require.LessOrEqual(t, size, bytes)
					}
					if i%2 == 0 {
						check()
					} else {
						group.Go(check)
					}
				}
			})
		}
	}
}

func TestAChangedBlockIsReadAnew(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, b *bucket){
		"another size": func(t *testing.T, b *bucket) {
			st := &stored{fixture: bucketOf(t, fixtureDir).objects}
			st.put(t, b, "a", written[1], 0)
			b.modified = map[string]time.Time{"single-tenant/a/meta.json": time.Now()}
		},
		"the same size": func(t *testing.T, b *bucket) {
			body, err := b.object("single-tenant/a/data.parquet")
			require.NoError(t, err)
			body = slices.Clone(body)
			for i := range body {
				body[i] = 0
			}
			b.put("single-tenant/a/data.parquet", body)
			b.modified = map[string]time.Time{"single-tenant/a/data.parquet": time.Now()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := &stored{fixture: bucketOf(t, fixtureDir).objects}
			b := &bucket{objects: map[string][]byte{}}
			st.put(t, b, "a", written[0], 0)
			store := blocks.NewStore(b.open(), "memory")
			store.Cache(cacheBytes)
			before, report := readAll(t, store, blocks.Request{})
			require.Empty(t, report.Problems)
			change(t, b)
			got, report := readAll(t, store, blocks.Request{})
			want, wanted := readAll(t, blocks.NewStore(b.open(), "memory"), blocks.Request{})
			require.Len(t, report.Problems, len(wanted.Problems))
			require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
			require.NotEqual(t, len(before), len(got))
		})
	}
}

func TestARemovedBlockIsNotKept(t *testing.T) {
	b := bucketOf(t, fixtureDir)
	store := blocks.NewStore(b.open(), "memory")
	store.Cache(cacheBytes)
	_, report := readAll(t, store, blocks.Request{})
	require.Empty(t, report.Problems)
	n, bytes := store.CacheSize()
	require.Equal(t, 3, n)
	require.Positive(t, bytes)
	for key := range bucketOf(t, fixtureDir).objects {
		if strings.Contains(key, firstBlock) {
			b.remove(key)
		}
	}
	_, err := store.List(t.Context(), "")
	require.NoError(t, err)
	n, fewer := store.CacheSize()
	require.Equal(t, 2, n)
	require.Less(t, fewer, bytes)
	for key := range bucketOf(t, fixtureDir).objects {
		b.remove(key)
	}
	_, err = store.Tenants(t.Context())
	require.NoError(t, err)
	n, bytes = store.CacheSize()
	require.Zero(t, n)
	require.Zero(t, bytes)
}

func TestACacheHoldsAtMostItsBytes(t *testing.T) {
	st := &stored{fixture: bucketOf(t, fixtureDir).objects, read: map[string]map[trace.ID]*trace.Trace{}}
	b := &bucket{objects: map[string][]byte{}}
	for i := range 40 {
		st.put(t, b, fmt.Sprintf("%02d", i), written[i%len(written)], 0)
	}
	store := blocks.NewStore(b.open(), "memory").Near()
	store.Cache(cacheBytes)
	_, report := readAll(t, store, blocks.Request{})
	require.Empty(t, report.Problems)
	_, all := store.CacheSize()

	small := blocks.NewStore(b.open(), "memory").Near()
	small.Cache(all / 4)
	for range 3 {
		got, report := readAll(t, small, blocks.Request{})
		require.Empty(t, report.Problems)
		require.Len(t, got, 300)
		n, bytes := small.CacheSize()
		require.LessOrEqual(t, bytes, all/4)
		require.GreaterOrEqual(t, n, 7)
		require.Less(t, n, 12)
	}
}
