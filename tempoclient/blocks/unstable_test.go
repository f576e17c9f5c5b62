package blocks_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// compacting is a tenant t whose blocks are written and compacted. A compaction first writes the new block,
// and then marks its sources one after another.
type compacting struct {
	r       *rand.Rand
	bucket  *bucket
	n       int
	spans   map[string]map[int]bool // by block
	live    []string
	marking []string
}

func (c *compacting) write(level int, spans map[int]bool) {
	c.n++
	id := fmt.Sprintf("%04d-%d-%d", c.r.IntN(10000), c.n, level) // at any position of a listing
	c.spans[id] = spans
	c.live = append(c.live, id)
	c.bucket.write(id)
}

// step makes one change to the blocks.
func (c *compacting) step() {
	switch {
	case len(c.marking) > 0 && c.r.IntN(4) > 0:
		c.bucket.mark(c.marking[0])
		c.marking = c.marking[1:]
	case c.r.IntN(3) == 0:
		c.write(0, map[int]bool{c.n: true})
	default:
		united := map[int]bool{}
		for _, id := range slices.Clone(c.live) {
			if c.r.IntN(3) == 0 {
				maps.Copy(united, c.spans[id])
				c.marking = append(c.marking, id)
			}
		}
		c.live = slices.DeleteFunc(c.live, func(id string) bool { return slices.Contains(c.marking, id) })
		if len(united) > 0 {
			c.write(1, united)
		}
	}
}

// However blocks are compacted while they are listed: each span that was stored before the listing is in one
// of the listed blocks.
func TestAListingWithCompactionsMissesNoSpan(t *testing.T) {
	seeds := uint64(2000)
	if testing.Short() {
		seeds = 300
	}
	stable, unstable, during := 0, 0, 0
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 4))
		c := &compacting{r: r, bucket: &bucket{objects: map[string][]byte{}, pageSize: 1 + r.IntN(3)}, spans: map[string]map[int]bool{}}
		for range 1 + r.IntN(8) {
			c.write(r.IntN(2), map[int]bool{c.n: true})
		}
		stored := c.n
		often := []float64{0.05, 0.3, 1}[r.IntN(3)]
		pages := 0
		c.bucket.hook = func(q request) fault {
			if q.op == "list" { // lists are made one after another, but concurrently with reads of meta.json
				if pages++; pages < 500 && r.Float64() < often {
					c.step()
				}
			}
			return fault{}
		}
		listing, err := blocks.NewStore(c.bucket.open(), "memory").List(t.Context(), "t")
		require.NoError(t, err)
		require.Empty(t, listing.Problems, "seed %d", seed)
		if listing.Unstable {
			unstable++
			during += len(listing.CompactedDuring)
		} else {
			stable++
			require.Empty(t, listing.CompactedDuring)
		}
		found := map[int]bool{}
		for _, id := range append(ids(listing.Live), ids(listing.CompactedDuring)...) {
			maps.Copy(found, c.spans[id])
		}
		for span := range stored {
			require.True(t, found[span], "seed %d: span %d is missing", seed, span)
		}
	}
	t.Logf("%d stable and %d unstable listings with %d blocks that were compacted during them", stable, unstable, during)
	require.Greater(t, stable, int(seeds)/20)
	require.Greater(t, unstable, int(seeds)/20)
	require.Greater(t, during, unstable)
}

// A block that is compacted during each list, to a part that the list has passed, is never listed live.
func TestAListingAheadOfWhichBlocksAreCompacted(t *testing.T) {
	b := &bucket{objects: map[string][]byte{}, pageSize: 1}
	n, current := 0, ""
	write := func() {
		n++
		current = fmt.Sprintf("%03d-1", 999-n)
		b.put("t/"+current+"/data.parquet", nil)
		b.write(current)
	}
	write()
	b.hook = func(r request) fault {
		if r.after == "t/"+current+"/data.parquet" { // its meta.json would be next
			old := current
			write()
			b.mark(old)
		}
		return fault{}
	}
	listing, err := blocks.NewStore(b.open(), "memory").List(t.Context(), "t")
	require.NoError(t, err)
	require.True(t, listing.Unstable)
	require.Empty(t, listing.Live)
	require.Greater(t, n, 5)
	require.Contains(t, ids(listing.CompactedDuring), "997-1", "it was written during the first list")
}

// The blocks that were compacted during an unstable listing are read, too.
func TestAnUnstableListingIsReadCompletely(t *testing.T) {
	st := &stored{fixture: bucketOf(t, fixtureDir).objects, read: map[string]map[trace.ID]*trace.Trace{}}
	want := st.scan(t, map[string]bool{written[0]: true, written[1]: true})
	b := &bucket{objects: map[string][]byte{}, pageSize: 4}
	st.put(t, b, "m", written[0], 0)
	st.put(t, b, "n", written[1], 0)
	current, page := "m", 0
	b.hook = func(r request) fault {
		if r.op == "list" && page < 500 {
			if page++; page%2 == 0 { // m is compacted again and again, to a part that was listed before
				next := fmt.Sprintf("a%03d", page)
				st.put(t, b, next, written[0], 1)
				meta, err := b.object("single-tenant/" + current + "/meta.json")
				require.NoError(t, err)
				b.put("single-tenant/"+current+"/meta.compacted.json", meta)
				b.remove("single-tenant/" + current + "/meta.json")
				current = next
			}
		}
		return fault{}
	}
	store := blocks.NewStore(b.open(), "memory")
	listing, err := store.List(t.Context(), "")
	require.NoError(t, err)
	require.True(t, listing.Unstable)
	require.Contains(t, ids(listing.CompactedDuring), "m")
	got, report := readAll(t, store, blocks.Request{Listing: &listing, Needs: columnar.Needs{All: true}})
	require.Empty(t, report.Problems)
	wantSame(t, want, got, "an unstable listing")
	// A tick judges only the new ones.
	got, report = readAll(t, store, blocks.Request{Listing: &listing, Needs: columnar.Needs{All: true}, Judged: allBut("m")})
	require.Empty(t, report.Problems)
	require.Len(t, got, len(st.scan(t, map[string]bool{written[0]: true})))
}
