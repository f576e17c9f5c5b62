package blocks_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
)

// step is one listing in a sequence, with the expected state of the ledger.
type step struct {
	live      string // IDs, separated by spaces; the final digit is the level
	compacted string
	unread    string
	after     time.Duration // since the step before; default one minute
	unstable  bool
	want      string // new blocks
	judge     string // blocks that are then judged; "all": the new ones
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestLedger(t *testing.T) {
	for name, steps := range map[string][]step{
		"a judged block is not new again": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "a0 b0", want: "b0", judge: "all"},
			{live: "a0 b0"},
		},
		"a block that is not judged stays new": {
			{live: "a0 b1", want: "a0 b1", judge: "a0"},
			{live: "a0 b1", want: "b1"},
		},
		"compaction of judged blocks brings nothing new": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "ab1 c0", compacted: "a0 b0", want: "c0", judge: "all"},
			{live: "abc2", compacted: "a0 b0 ab1 c0"},
			{live: "abc2"},
		},
		"a source that was never judged": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", judge: "all"},
			{live: "ab1", compacted: "a0 b0"},
		},
		"a source that was never seen live": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", judge: "all"},
			{live: "abc2", compacted: "a0 b0 ab1 c0", want: "abc2"},
		},
		"two chains of compactions, one of which has something new": {
			{live: "a0 b0 c0", want: "a0 b0 c0", judge: "all"},
			{live: "ab1 cd1", compacted: "a0 b0 c0 d0", want: "ab1 cd1", judge: "all"},
			{live: "abcd2", compacted: "a0 b0 c0 d0 ab1 cd1"},
		},
		"a compaction under way": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "a0 b0 ab1"},
			{live: "b0 ab1", compacted: "a0"},
			{live: "ab1", compacted: "a0 b0"},
		},
		"a compaction under way whose source waits": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "a0 b0 ab1", want: "b0"},
			{live: "a0 b0 ab1", want: "b0", judge: "b0"},
			{live: "ab1", compacted: "a0 b0"},
		},
		"a compaction under way whose source was not judged in time": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "a0 b0 ab1 x0", want: "b0 x0", judge: "x0"},
			{live: "ab1 x0", compacted: "a0 b0", want: "ab1", judge: "all"},
			{live: "abx2", compacted: "ab1 x0 a0 b0"},
		},
		"blocks judged before a compaction are not new again": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "ab1", compacted: "a0 b0"},
			{live: "ab1 c0", compacted: "a0 b0", want: "c0"},
			{live: "ab1 cd1", compacted: "a0 b0 c0 d0", want: "cd1"}, // ab is older than c
		},
		"a chain of compactions whose source waits": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "a0 b0 ab1", want: "b0"},
			{live: "b0 c0 ab1", compacted: "a0", want: "b0 c0", judge: "c0"},
			{live: "b0 abc2", compacted: "a0 c0 ab1", want: "b0"},
			{live: "abc2", compacted: "a0 b0 c0 ab1", want: "abc2"},
		},
		"a gap longer than compacted blocks are kept": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "abc1 d0", after: time.Hour, want: "abc1 d0", judge: "all"}, // c came and went
			{live: "abcd2", compacted: "abc1 d0"},
		},
		"a gap a little shorter": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "ab1", after: time.Hour - time.Second},
		},
		"sources that expire": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "b0", compacted: "a0", want: "b0"},
			{live: "c0", compacted: "a0 b0", want: "c0", judge: "all"},
			{live: "c0"},
		},
		"a live block that is gone and was not judged": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "ab1", compacted: "a0", want: "ab1"},
		},
		"a block whose meta.json could not be read": {
			{live: "a0", want: "a0", judge: "all"},
			{compacted: "a0 b0", unread: "ab1", want: "ab1"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", judge: "all"},
			{unread: "ab1", compacted: "a0 b0"},
		},
		"an unstable listing": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "ab1", unstable: true, want: "ab1"},
			{live: "ab1", compacted: "a0 b0", want: "ab1"},
		},
		"an unstable listing is not compared with": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{compacted: "a0 b0", unstable: true, want: "b0"},
			{live: "ab1", compacted: "a0 b0", want: "ab1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var ledger blocks.Ledger
			at := noon
			for i, s := range steps {
				if s.after == 0 {
					s.after = time.Minute
				}
				at = at.Add(s.after)
				listing := blocks.Listing{Began: at, Ended: at, Unstable: s.unstable, Compacted: strings.Fields(s.compacted), Unread: strings.Fields(s.unread)}
				for _, id := range strings.Fields(s.live) {
					listing.Live = append(listing.Live, blocks.Meta{ID: id, CompactionLevel: int(id[len(id)-1] - '0')})
				}
				before, err := json.Marshal(ledger)
				require.NoError(t, err)
				next := ledger.Next(listing, 0)
				after, err := json.Marshal(ledger)
				require.NoError(t, err)
				require.Equal(t, string(before), string(after), "Next must not change its receiver")
				require.Equal(t, strings.Fields(s.want), append([]string{}, next.New()...), "listing %d: %+v", i+1, next.Blocks)
				for _, m := range listing.Live {
					require.Equal(t, !slices.Contains(next.New(), m.ID), next.Judged(m.ID))
				}
				require.False(t, next.Judged("another"))
				judged := strings.Fields(s.judge)
				if s.judge == "all" {
					judged = next.New()
				}
				ledger = next.Judge(reportOf(judged...), judged...)
				b, err := json.Marshal(ledger)
				require.NoError(t, err)
				ledger = blocks.Ledger{}
				require.NoError(t, json.Unmarshal(b, &ledger))
				if !s.unstable {
					require.Len(t, ledger.Blocks, len(listing.Live)+len(listing.Compacted)+len(listing.Unread), "the ledger must contain only the listed blocks")
				}
			}
		})
	}
}

// reportOf returns the report of a reading of the blocks without a problem.
func reportOf(ids ...string) blocks.Report {
	var report blocks.Report
	for _, id := range ids {
		report.Blocks = append(report.Blocks, blocks.Meta{ID: id})
	}
	return report
}

func TestOnlyWhatWasReadIsJudged(t *testing.T) {
	listing := blocks.Listing{Live: []blocks.Meta{{ID: "a0"}, {ID: "b0"}}}
	ledger := blocks.Ledger{}.Next(listing, 0)
	for name, tt := range map[string]struct {
		report blocks.Report
		want   []string // still new
	}{
		"all":                         {reportOf("a0", "b0"), nil},
		"a block that was not near":   {reportOf("a0"), []string{"b0"}},
		"a problem":                   {blocks.Report{Blocks: listing.Live, Reading: trace.Reading{Problems: []trace.Problem{{What: "block b0"}}}}, []string{"a0", "b0"}},
		"a trace of another time":     {blocks.Report{Blocks: listing.Live, Reading: trace.Reading{OutsideRange: 1}}, []string{"a0", "b0"}},
		"a reading that did not come": {blocks.Report{}, []string{"a0", "b0"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, ledger.Judge(tt.report, "a0", "b0").New())
			require.Equal(t, []string{"a0", "b0"}, ledger.New(), "Judge must not change its receiver")
		})
	}
}

// model is a tenant whose blocks are changed by ingesters, compactors and retention, in a bucket whose
// listings are read page by page meanwhile.
type model struct {
	r       *rand.Rand
	bucket  *bucket
	now     time.Time
	n       int
	level   map[string]int
	spans   map[string]map[int]bool // by block
	deleted map[string]time.Time    // by compacted block: the time of its deletion
	marking []string                // sources of compactions that are not yet marked
	span    int
}

const modelRetention = 10 * time.Minute

func (m *model) write(level int, spans map[int]bool) {
	m.n++
	id := fmt.Sprintf("%04d-%d-%d", m.r.IntN(10000), m.n, level) // at any position of a listing
	m.level[id], m.spans[id] = level, spans
	m.bucket.write(id)
}

// step makes one change to the blocks.
func (m *model) step() {
	for id, at := range m.deleted {
		if !m.now.Before(at) {
			m.bucket.remove("t/" + id + "/meta.compacted.json")
			delete(m.deleted, id)
			delete(m.spans, id)
			delete(m.level, id)
		}
	}
	switch k := m.r.IntN(10); {
	case k < 4 || len(m.spans) < 3: // an ingester writes
		spans := map[int]bool{}
		for range 1 + m.r.IntN(3) {
			m.span++
			spans[m.span] = true
		}
		m.write(0, spans)
	case k < 6: // a compactor writes
		var from []string
		for _, id := range m.live() {
			if !slices.Contains(m.marking, id) && m.r.IntN(3) == 0 {
				from = append(from, id)
			}
		}
		if len(from) < 2 {
			return
		}
		level := 0
		outputs := []map[int]bool{{}, {}}[:1+m.r.IntN(2)]
		for _, id := range from {
			level = min(max(level, m.level[id]), 8)
			for s := range m.spans[id] {
				outputs[s%len(outputs)][s] = true
			}
		}
		for _, spans := range outputs {
			m.write(level+1, spans)
		}
		m.marking = append(m.marking, from...)
	default: // a compactor marks
		if len(m.marking) == 0 {
			return
		}
		id := m.marking[0]
		m.marking = m.marking[1:]
		m.bucket.mark(id)
		m.deleted[id] = m.now.Add(modelRetention)
	}
}

func (m *model) live() []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(m.spans)) {
		if _, compacted := m.deleted[id]; !compacted {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestEverySpanIsJudged covers all changes of blocks between and during listings, and any part of the new
// blocks being judged each time.
func TestEverySpanIsJudged(t *testing.T) {
	seeds := uint64(1500)
	if testing.Short() {
		seeds = 150
	}
	spans, again, ticks, gaps, unstable := 0, 0, 0, 0, 0
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 4))
		m := &model{r: r, bucket: &bucket{objects: map[string][]byte{"t/index.json.gz": nil}, pageSize: 1 + r.IntN(8)}, now: noon,
			level: map[string]int{}, spans: map[string]map[int]bool{}, deleted: map[string]time.Time{}}
		busy := r.IntN(12) // number of changes during a listing
		steps := 0         // remaining changes in this listing
		m.bucket.hook = func(q request) fault {
			if steps > 0 && q.op == "list" && r.IntN(12) < busy {
				m.now = m.now.Add(time.Duration(r.IntN(100)) * time.Millisecond)
				m.step()
				steps--
			}
			return fault{}
		}
		store := blocks.NewStore(m.bucket.open(), "model")
		var ledger blocks.Ledger
		judged := map[int]int{}
		timesNew := map[string]int{}
		for tick := range 12 {
			last := tick == 11
			for range r.IntN(12) {
				m.now = m.now.Add(time.Duration(r.IntN(20)) * time.Second)
				m.step()
			}
			if r.IntN(6) == 0 {
				gaps++
				for range 5 {
					m.now = m.now.Add(modelRetention / 3)
					m.step()
				}
			}
			if steps = busy; last {
				steps = 0 // so that all existing blocks are listed
			}
			began := m.now
			listing, err := store.List(t.Context(), "t")
			require.NoError(t, err)
			require.Empty(t, listing.Problems)
			listing.Began, listing.Ended = began, m.now
			ticks++
			if listing.Unstable {
				unstable++
			}
			ledger = ledger.Next(listing, modelRetention)
			// All new blocks are judged; or some, because others wait; or none, because the reading
			// failed.
			part := 1 + r.IntN(3)
			if r.IntN(5) == 0 {
				part = 0
			}
			var done []string
			for _, id := range ledger.New() {
				if !last && r.IntN(3) >= part {
					continue
				}
				if m.spans[id] == nil {
					continue // deleted meanwhile: the reading fails
				}
				done = append(done, id)
				timesNew[id]++
				for s := range m.spans[id] {
					judged[s]++
				}
			}
			ledger = ledger.Judge(reportOf(done...), done...)
			require.LessOrEqual(t, len(ledger.Blocks), len(listing.Live)+len(listing.Compacted)+m.n)
			b, err := json.Marshal(ledger)
			require.NoError(t, err)
			ledger = blocks.Ledger{}
			require.NoError(t, json.Unmarshal(b, &ledger))
		}
		for s := 1; s <= m.span; s++ {
			require.Positive(t, judged[s], "seed %d: span %d was never judged", seed, s)
			spans++
			again += judged[s] - 1
		}
		for id, n := range timesNew {
			require.LessOrEqual(t, n, 1, "seed %d: block %s was judged twice", seed, id)
		}
	}
	t.Logf("%d buckets, %d listings (%d unstable, %d gaps): %d spans, all judged; %d judged again", seeds, ticks, unstable, gaps, spans, again)
}

// Without gaps, and if all new blocks are judged at once, no block is judged twice.
func TestNothingIsJudgedTwiceWithoutGaps(t *testing.T) {
	again := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 5))
		m := &model{r: r, bucket: &bucket{objects: map[string][]byte{"t/index.json.gz": nil}}, now: noon,
			level: map[string]int{}, spans: map[string]map[int]bool{}, deleted: map[string]time.Time{}}
		store := blocks.NewStore(m.bucket.open(), "model")
		var ledger blocks.Ledger
		judged := map[int]int{}
		for range 60 {
			m.step()
			m.now = m.now.Add(time.Second)
			listing, err := store.List(t.Context(), "t")
			require.NoError(t, err)
			listing.Began, listing.Ended = m.now, m.now
			ledger = ledger.Next(listing, modelRetention)
			for _, id := range ledger.New() {
				for s := range m.spans[id] {
					judged[s]++
				}
			}
			ledger = ledger.Judge(reportOf(ledger.New()...), ledger.New()...)
		}
		for s := 1; s <= m.span; s++ {
			require.Positive(t, judged[s])
			again += judged[s] - 1
		}
	}
	require.Zero(t, again)
}
