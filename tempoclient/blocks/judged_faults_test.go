package blocks_test

import (
	"encoding/json"
	"errors"
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

	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// The fixture's blocks. A compaction wrote the contents of the last three into merged.
const merged = "4ae5650f-26b0-4e87-bfe8-08d7b3d8b627"

var (
	mergedFrom = []string{"55c38aae-4b64-40e0-bb47-104381fa12a5", "6250f4ba-5da3-45ce-bbd1-1c5c6de1025c", "6fa68675-4aa8-422a-a2b1-f13f39c18574"}
	written    = append([]string{firstBlock, "51e197ef-064a-4bc4-b821-538fe7c531c2"}, mergedFrom...)
)

// stored returns the contents of the fixture's blocks.
type stored struct {
	fixture map[string][]byte
	read    map[string]map[trace.ID]*trace.Trace // by the blocks that were read
}

// put stores one of the fixture's blocks in a bucket, as a block with another ID.
func (s *stored) put(t *testing.T, b *bucket, id, content string, level int) {
	body := s.fixture["single-tenant/"+content+"/meta.json"]
	if body == nil {
		body = s.fixture["single-tenant/"+content+"/meta.compacted.json"]
	}
	var meta map[string]any
	require.NoError(t, json.Unmarshal(body, &meta))
	meta["blockID"], meta["compactionLevel"] = id, level
	body, err := json.Marshal(meta)
	require.NoError(t, err)
	b.put("single-tenant/"+id+"/data.parquet", s.fixture["single-tenant/"+content+"/data.parquet"])
	b.put("single-tenant/"+id+"/meta.json", body)
}

// scan returns the traces of some of the fixture's blocks, as one reading delivers them.
func (s *stored) scan(t *testing.T, contents map[string]bool) map[trace.ID]*trace.Trace {
	t.Helper()
	key := strings.Join(slices.Sorted(maps.Keys(contents)), " ")
	if s.read[key] == nil {
		b := &bucket{objects: map[string][]byte{"single-tenant/index.json.gz": nil}}
		for c := range contents {
			s.put(t, b, c, c, 0)
		}
		got, report := readAll(t, blocks.NewStore(b.open(), "memory").Near(), blocks.Request{Needs: columnar.Needs{All: true}})
		require.Empty(t, report.Problems)
		s.read[key] = got
	}
	return s.read[key]
}

// modelRetention is the time for which a growing tenant keeps compacted blocks.
const modelRetention = 10 * time.Minute

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// growing is a tenant whose blocks are written, compacted and deleted, also while they are read.
type growing struct {
	t       *testing.T
	r       *rand.Rand
	stored  *stored
	bucket  *bucket
	now     time.Time
	n       int
	unsent  []string
	content map[string]string // by block, including removed ones
	level   map[string]int
	live    []string
	marking []string             // sources of compactions that are not yet marked
	deleted map[string]time.Time // by compacted block: the time of its deletion
}

func (g *growing) write(content string, level int) {
	g.n++
	id := fmt.Sprintf("%04d-%d", g.r.IntN(10000), g.n) // at any position of a listing
	g.content[id], g.level[id] = content, level
	g.live = append(g.live, id)
	g.stored.put(g.t, g.bucket, id, content, level)
}

// step makes one change to the blocks.
func (g *growing) step() {
	for id, at := range g.deleted {
		if !g.now.Before(at) {
			g.bucket.remove("single-tenant/"+id+"/data.parquet", "single-tenant/"+id+"/meta.compacted.json")
			delete(g.deleted, id)
		}
	}
	switch k := g.r.IntN(10); {
	case k < 3 && len(g.unsent) > 0: // an ingester writes
		g.write(g.unsent[0], 0)
		g.unsent = g.unsent[1:]
	case k == 3: // a replica writes the same
		if len(g.live) < 8 && g.r.IntN(3) == 0 {
			g.write(written[g.r.IntN(len(written))], 0)
		}
	case k < 6: // a compactor writes
		from := slices.DeleteFunc(slices.Clone(g.live), func(id string) bool { return slices.Contains(g.marking, id) || g.r.IntN(2) == 0 })
		to, level := map[string]bool{}, 0
		for _, id := range from {
			to[g.content[id]] = true
			level = max(level, g.level[id]+1)
		}
		if !slices.ContainsFunc(mergedFrom, func(c string) bool { return !to[c] }) {
			to[merged] = true
			for _, c := range mergedFrom {
				delete(to, c)
			}
		}
		for _, c := range slices.Sorted(maps.Keys(to)) {
			g.write(c, level)
		}
		g.marking = append(g.marking, from...)
	case len(g.marking) > 0: // a compactor marks
		id := g.marking[0]
		g.marking = g.marking[1:]
		body, err := g.bucket.object("single-tenant/" + id + "/meta.json")
		require.NoError(g.t, err)
		g.bucket.put("single-tenant/"+id+"/meta.compacted.json", body)
		g.bucket.remove("single-tenant/" + id + "/meta.json")
		g.live = slices.DeleteFunc(g.live, func(l string) bool { return l == id })
		g.deleted[id] = g.now.Add(modelRetention)
	}
}

// Whatever fails while new blocks are judged, and while blocks are written and removed: no block counts
// as judged unless it was delivered, and finally everything was delivered as one scan delivers it.
func TestFaultsHideNothingFromWhoJudgesWhatIsNew(t *testing.T) {
	seeds := uint64(15)
	if testing.Short() {
		seeds = 3
	}
	st := &stored{fixture: bucketOf(t, fixtureDir).objects, read: map[string]map[trace.ID]*trace.Trace{}}
	all := map[string]bool{}
	for _, c := range written {
		all[c] = true
	}
	want := st.scan(t, all)
	require.Len(t, want, 300)
	wantSame(t, want, st.scan(t, map[string]bool{merged: true, written[0]: true, written[1]: true}), "compaction loses nothing")

	var complete, incomplete, failed, unlisted, judged, implied, aside, again int
	faults := map[string]int{}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 8))
		g := &growing{t: t, r: r, stored: st, bucket: &bucket{objects: map[string][]byte{"single-tenant/index.json.gz": nil}, pageSize: 1 + r.IntN(60)}, now: noon,
			content: map[string]string{}, level: map[string]int{}, deleted: map[string]time.Time{}}
		for _, i := range r.Perm(len(written)) {
			g.unsent = append(g.unsent, written[i])
		}
		var mu sync.Mutex
		// Faults of this tick: the rate of temporary faults, the permanent fault and the request at which
		// it begins, the number of changes.
		rate, victim, after, busy := 0.0, "", 0, 0
		kinds := r.Perm(faultKinds)[:1+r.IntN(3)]
		g.bucket.hook = func(q request) fault {
			mu.Lock()
			defer mu.Unlock()
			if busy > 0 && r.IntN(15) == 0 {
				busy--
				g.now = g.now.Add(time.Duration(r.IntN(3)) * modelRetention / 4)
				g.step()
			}
			lasting := false
			if victim != "" && strings.Contains(q.key, victim) {
				after--
				lasting = after < 0
			}
			if r.Float64() >= rate && !lasting {
				return fault{}
			}
			return anyFault(r, q, kinds, faults)
		}
		store := blocks.NewStore(g.bucket.open(), "memory").Impatient(20*time.Microsecond, 100*time.Millisecond)
		if r.IntN(2) == 0 {
			store.Near()
		}
		if r.IntN(2) == 0 {
			store.Cache([]int64{200_000, cacheBytes}[r.IntN(2)])
		}

		var ledger scheduler.Ledger
		read := map[string]bool{} // blocks that were taken and read completely
		hold := time.Duration(r.IntN(2)) * 2 * time.Minute
		latest := map[trace.ID]*trace.Trace{}
		came := map[trace.ID]map[trace.SpanID]bool{}
		for tick, done := 1, false; !done; tick++ {
			require.Less(t, tick, 60, "seed %d: the blocks are never all judged", seed)
			calm := tick > 7
			for range r.IntN(6) {
				g.now = g.now.Add(time.Duration(r.IntN(60)) * time.Second)
				g.step()
			}
			rate, busy = []float64{0, 0.01, 0.1, 0.3}[r.IntN(4)], r.IntN(8)
			if r.IntN(8) == 0 {
				victim = "" // otherwise it may fail until it is set aside
			}
			if len(g.live) > 0 && victim == "" && r.IntN(2) == 0 {
				victim = g.live[r.IntN(len(g.live))] + []string{"", "/data.parquet"}[r.IntN(2)]
				after = r.IntN(2) * r.IntN(20)
			}
			if calm {
				for len(g.unsent) > 0 {
					g.write(g.unsent[0], 0)
					g.unsent = g.unsent[1:]
				}
				rate, victim, busy = 0, "", 0
				g.now = g.now.Add(hold)
				if slices.ContainsFunc(slices.Collect(maps.Values(ledger.Blocks)), isAside) {
					g.now = g.now.Add(2 * time.Hour) // after growing pauses it is read again
				}
			}

			began := g.now
			listing, err := store.List(t.Context(), "")
			if err != nil {
				require.False(t, calm)
				unlisted++
				continue
			}
			listing.Began, listing.Ended = began, g.now
			ledger, _ = ledger.Next(listing, scheduler.Options{Hold: hold, CompactedRetention: modelRetention})
			opening, err := store.Times(t.Context(), slices.Concat(listing.Live, listing.CompactedDuring))
			require.NoError(t, err)
			times := map[string]scheduler.BlockTimes{}
			for id, b := range opening.Times {
				times[id] = scheduler.BlockTimes{Earliest: b.Earliest, Latest: b.Latest}
				ledger = ledger.Readable(id)
			}
			ledger = ledger.SetTimes(times)
			taken := ledger.Take(g.now, hold, scheduler.Limits{Blocks: r.IntN(4)})
			before := ledger
			left := -1
			if !calm && r.IntN(8) == 0 {
				left = r.IntN(100)
			}
			contents := map[string]bool{}
			for _, id := range append(ids(listing.Live), ids(listing.CompactedDuring)...) {
				if !ledger.LeaveOut(id) {
					contents[g.content[id]] = true
				}
			}
			now := st.scan(t, contents)
			got := map[trace.ID]*trace.Trace{}
			req := blocks.Request{Needs: columnar.Needs{All: true}, Listing: &listing, Workers: 1 + r.IntN(3),
				Judged: func(id string) bool { return !slices.Contains(taken, id) }, LeaveOut: ledger.LeaveOut}
			if r.IntN(2) == 0 {
				req.MemoryBytes = 1
			}
			report, err := store.Traces(t.Context(), req, func(tr *trace.Trace) error {
				if left--; left == -1 {
					return errStopped
				}
				if got[tr.ID] != nil || now[tr.ID] == nil || !reflect.DeepEqual(now[tr.ID].Spans, tr.Spans) {
					return fmt.Errorf("trace %s was delivered twice, or differs", tr.ID)
				}
				got[tr.ID] = tr
				return nil
			})
			for id, tr := range got {
				if came[id] == nil {
					came[id] = map[trace.SpanID]bool{}
				} else {
					again++
				}
				latest[id] = tr
				for _, s := range tr.Spans {
					came[id][s.ID] = true
				}
			}
			if err != nil {
				failed++
				require.ErrorIs(t, err, errStopped, "seed %d, tick %d", seed, tick)
				continue
			}
			errs := map[string]error{}
			for _, f := range report.Failed {
				errs[f.ID] = f.Err
			}
			require.Equal(t, len(report.Problems) > 0, len(errs) > 0, "seed %d, tick %d: each problem is about a block", seed, tick)
			ledger = ledger.Commit(taken, errs, int64(tick), g.now)
			if len(errs) > 0 {
				incomplete++
				require.False(t, calm, "seed %d: %v", seed, report.Problems)
				for id, b := range ledger.Blocks {
					require.True(t, b.State != state.BlockJudged || before.Blocks[id].State == b.State, "seed %d, tick %d: block %s was judged by an incomplete reading", seed, tick, id)
				}
			} else {
				complete++
				judged += len(taken)
				for _, id := range taken {
					read[id] = true
					require.Equal(t, state.BlockJudged, ledger.Blocks[id].State, "seed %d, tick %d: block %s was completely delivered", seed, tick, id)
				}
				done = calm
				for _, m := range listing.Live {
					done = done && ledger.Blocks[m.ID].State == state.BlockJudged
				}
			}
			stored, err := json.Marshal(ledger)
			require.NoError(t, err)
			ledger = scheduler.Ledger{}
			require.NoError(t, json.Unmarshal(stored, &ledger))
			for id, b := range ledger.Blocks {
				if isAside(b) {
					aside++
				}
				if b.State != state.BlockJudged {
					continue
				}
				if !read[id] {
					implied++
				}
				for _, tr := range st.scan(t, map[string]bool{g.content[id]: true}) {
					for _, s := range tr.Spans {
						require.True(t, came[tr.ID][s.ID], "seed %d, tick %d: block %s counts as judged, but a span of trace %s was never delivered", seed, tick, id, tr.ID)
					}
				}
			}
		}
		wantSame(t, want, latest, fmt.Sprintf("seed %d: the last delivered traces", seed))
	}
	t.Logf("%d tenants; readings: %d complete, %d incomplete with reasons, %d stopped; %d listings failed; %d blocks judged, %d times a block was set aside, %d times one was judged by its sources, %d traces were delivered again; faults: %v",
		seeds, complete, incomplete, failed, unlisted, judged, aside, implied, again, faults)
	require.Greater(t, complete, int(seeds))
	require.Greater(t, incomplete, int(seeds))
	if !testing.Short() {
		require.Positive(t, aside)
		require.Positive(t, implied)
	}
}

func isAside(b state.Block) bool { return b.State == state.BlockAside }

var errStopped = errors.New("the judging was stopped")

// wantSame requires the same traces with the same spans.
func wantSame(t *testing.T, want, got map[trace.ID]*trace.Trace, what string) {
	t.Helper()
	for id, tr := range want {
		require.NotNil(t, got[id], "%s: trace %s is missing", what, id)
		require.True(t, reflect.DeepEqual(tr.Spans, got[id].Spans), "%s: trace %s has other spans", what, id)
	}
	require.Len(t, got, len(want), what)
}
