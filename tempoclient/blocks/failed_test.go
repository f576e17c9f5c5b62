package blocks_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// damage makes a block of a bucket unreadable.
type damage struct {
	name, want string // want is part of the error
	unlisted   bool   // the listing cannot read the block
	do         func(b *bucket, block string)
}

var damages = []damage{
	{"a damaged footer", "data.parquet", false, func(b *bucket, block string) {
		b.alter(block+"/data.parquet", func(data []byte) {
			for i := len(data) - 4000; i < len(data)-3000; i++ {
				data[i] ^= 0xff
			}
		})
	}},
	{"damaged pages", "column ", false, func(b *bucket, block string) {
		b.alter(block+"/data.parquet", func(data []byte) {
			for i := 1000; i < len(data)/2; i += 50 {
				data[i] ^= 0xff
			}
		})
	}},
	{"data of another size", "but by meta.json it must have", false, func(b *bucket, block string) {
		data, _ := b.object("single-tenant/" + block + "/data.parquet")
		b.put("single-tenant/"+block+"/data.parquet", data[:len(data)/2])
	}},
	{"no data", errNoObject.Error(), false, func(b *bucket, block string) { b.remove("single-tenant/" + block + "/data.parquet") }},
	{"data that may not be read", errForbidden.Error(), false, func(b *bucket, block string) { b.forbid(block + "/data.parquet") }},
	{"an invalid meta.json", "is not a meta.json", true, func(b *bucket, block string) {
		b.put("single-tenant/"+block+"/meta.json", []byte("{"))
	}},
	{"a meta.json that may not be read", errForbidden.Error(), true, func(b *bucket, block string) { b.forbid(block + "/meta.json") }},
	{"no meta.json", "no meta.json", true, func(b *bucket, block string) { b.remove("single-tenant/" + block + "/meta.json") }},
}

// alter changes an object of the default tenant in place of its copy.
func (b *bucket) alter(key string, change func([]byte)) {
	data, _ := b.object("single-tenant/" + key)
	data = slices.Clone(data)
	change(data)
	b.put("single-tenant/"+key, data)
}

// forbid makes an object of the default tenant unreadable.
func (b *bucket) forbid(key string) {
	before := b.hook
	b.hook = func(r request) fault {
		if r.op != "list" && strings.HasSuffix(r.key, key) {
			return fault{err: errForbidden}
		}
		if before != nil {
			return before(r)
		}
		return fault{}
	}
}

// openImpatient opens a bucket, as local storage or not.
func openImpatient(b *bucket, near bool) *blocks.Store {
	s := blocks.NewStore(b.open(), "memory").Impatient(time.Microsecond, time.Minute)
	if near {
		s.Near()
	}
	return s
}

// A block that is left out is neither read nor a problem.
func TestABlockIsLeftOut(t *testing.T) {
	rest := bucketOf(t, fixtureDir)
	for key := range rest.objects {
		if strings.Contains(key, firstBlock) {
			rest.remove(key)
		}
	}
	want, _ := readAll(t, blocks.NewStore(rest.open(), "memory"), blocks.Request{})
	leaveOut := func(id string) bool { return id == firstBlock }
	good := damage{name: "a good block", do: func(*bucket, string) {}}
	for _, d := range append([]damage{good}, damages...) {
		for _, near := range []bool{true, false} {
			t.Run(d.name, func(t *testing.T) {
				b := bucketOf(t, fixtureDir)
				d.do(b, firstBlock)
				store := openImpatient(b, near)
				listing, err := store.List(t.Context(), "")
				require.NoError(t, err)
				require.Equal(t, d.unlisted, slices.Contains(listing.Unread, firstBlock))
				requests := b.record()
				got, report := readAll(t, store, blocks.Request{Listing: &listing, LeaveOut: leaveOut})
				require.Empty(t, report.Problems)
				require.Empty(t, report.Failed)
				require.Zero(t, report.Skipped)
				require.Len(t, report.Blocks, 2)
				require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
				require.Zero(t, requests.of(firstBlock))
				require.NotEmpty(t, requests.take())
				got, report = readAll(t, store, blocks.Request{LeaveOut: leaveOut}) // it lists by itself
				require.Empty(t, report.Problems)
				require.Len(t, got, len(want))
			})
		}
	}
}

// A report names each block that cannot be read. Without these blocks, the rest is read completely.
func TestAReportNamesEachUnreadableBlock(t *testing.T) {
	st := &stored{fixture: bucketOf(t, fixtureDir).objects, read: map[string]map[trace.ID]*trace.Trace{}}
	good := []string{written[1], written[2]}
	want := st.scan(t, map[string]bool{good[0]: true, good[1]: true})
	for _, near := range []bool{true, false} {
		for _, cached := range []int64{0, cacheBytes} {
			b := &bucket{objects: map[string][]byte{}}
			errs := map[string]string{}
			for i, d := range damages {
				id := strings.ReplaceAll(d.name, " ", "-")
				st.put(t, b, id, written[i%len(written)], 0)
				d.do(b, id)
				errs[id] = d.want
			}
			for _, id := range good {
				st.put(t, b, id, id, 0)
			}
			store := openImpatient(b, near)
			store.Cache(cached)
			all := columnar.Needs{All: true}
			for range 2 { // the second time with a cache
				_, report := readAll(t, store, blocks.Request{Needs: all, MemoryBytes: 1})
				failed := map[string]bool{}
				for _, f := range report.Failed {
					require.False(t, failed[f.ID], "%s is there twice", f.ID)
					require.False(t, f.Gone, f.ID)
					require.ErrorContains(t, f.Err, errs[f.ID], f.ID)
					failed[f.ID] = true
				}
				require.ElementsMatch(t, slices.Collect(maps.Keys(errs)), slices.Collect(maps.Keys(failed)))
				require.ElementsMatch(t, good, ids(report.Blocks))
				require.Positive(t, report.Skipped)
				for _, p := range report.Problems {
					require.True(t, failed[strings.TrimPrefix(p.What, "block ")], p.What)
				}
				got, rest := readAll(t, store, blocks.Request{Needs: all, LeaveOut: func(id string) bool { return failed[id] }})
				require.Empty(t, rest.Problems)
				wantSame(t, want, got, "without the unreadable blocks")
			}
		}
	}
}

func ids(metas []blocks.Meta) (ids []string) {
	for _, m := range metas {
		ids = append(ids, m.ID)
	}
	return ids
}

// A block that is deleted during a reading makes the reading incomplete, and is marked as gone.
func TestABlockIsDeletedDuringAReading(t *testing.T) {
	deleted := written[0]
	st := &stored{fixture: bucketOf(t, fixtureDir).objects, read: map[string]map[trace.ID]*trace.Trace{}}
	want := st.scan(t, map[string]bool{written[1]: true, written[2]: true})
	interrupted := 0
	for _, near := range []bool{true, false} {
		for _, cached := range []bool{true, false} {
			// The footer is the first request, the trace IDs follow. All are cached at the second reading.
			for _, after := range []int64{0, 1, 2, 3} {
				b := &bucket{objects: map[string][]byte{}}
				for _, id := range written[:3] {
					st.put(t, b, id, id, 0)
				}
				store := openImpatient(b, near)
				if cached {
					store.Cache(cacheBytes)
					_, report := readAll(t, store, blocks.Request{})
					require.Empty(t, report.Problems)
				}
				listing, err := store.List(t.Context(), "")
				require.NoError(t, err)
				var n atomic.Int64
				b.hook = func(r request) fault {
					if strings.Contains(r.key, deleted) && n.Add(1) > after {
						b.remove("single-tenant/"+deleted+"/data.parquet", "single-tenant/"+deleted+"/meta.json")
					}
					return fault{}
				}
				got, report := readAll(t, store, blocks.Request{Listing: &listing, Needs: columnar.Needs{All: true}, Workers: 1})
				if n.Load() <= after { // the block was read by fewer requests
					require.Empty(t, report.Problems)
					continue
				}
				interrupted++
				require.Len(t, report.Failed, 1, "near %t, cached %t, after %d", near, cached, after)
				require.Equal(t, deleted, report.Failed[0].ID)
				require.True(t, report.Failed[0].Gone)
				require.NotEmpty(t, report.Problems)
				require.ElementsMatch(t, written[1:3], ids(report.Blocks))
				require.Less(t, len(got), 300)

				got, report = readAll(t, store, blocks.Request{Needs: columnar.Needs{All: true}}) // again, with a new listing
				require.Empty(t, report.Problems)
				require.Empty(t, report.Failed)
				wantSame(t, want, got, "after the deletion")
			}
		}
	}
	require.Greater(t, interrupted, 10)
}

// The same for a folder, whose files stay open during a reading.
func TestAFileIsDeletedBeforeAReading(t *testing.T) {
	var data string
	store := broken(t, func(dir string) { data = filepath.Join(dir, firstBlock, "data.parquet") })
	listing, err := store.List(t.Context(), "")
	require.NoError(t, err)
	_, report := readAll(t, store, blocks.Request{Listing: &listing})
	require.Empty(t, report.Problems)
	require.NoError(t, os.Remove(data))
	_, report = readAll(t, store, blocks.Request{Listing: &listing})
	require.Len(t, report.Failed, 1)
	require.Equal(t, firstBlock, report.Failed[0].ID)
	require.True(t, report.Failed[0].Gone)
	_, report = readAll(t, store, blocks.Request{})
	require.Len(t, report.Failed, 1)
	require.False(t, report.Failed[0].Gone, "a new listing shows that the block has no data")
}
