package scheduler

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// listed is one listing in a sequence, with the expected states of the ledger.
//
// The letters of a block's ID are its content: a is the first minute after noon, b the next, and so on; the final digit
// is its level. The meta.json of the blocks has these times.
type listed struct {
	live, compacted, unread string
	during                  string        // blocks that were compacted during the listing
	after                   time.Duration // since the listing before; default one minute
	unstable                bool
	// want are the blocks that have to be judged, waiting or pending; pending are those of them that are pending.
	want, pending   string
	aside, replaced string
	holes           string
	judge           string // blocks that are then judged; "all": all of want
	unreadable      string // blocks that the reading cannot read
}

var testOptions = Options{Hold: 2 * time.Minute, CompactedRetention: time.Hour, Retention: 48 * time.Hour}

// metaOf returns the meta.json of a block of [listed].
func metaOf(id string) blocks.Meta {
	letters := id[:len(id)-1]
	return blocks.Meta{
		ID: id, CompactionLevel: int(id[len(id)-1] - '0'), Traces: 10 * len(letters), Size: 1000,
		Start: noon.Add(time.Duration(letters[0]-'a') * time.Minute), End: noon.Add(time.Duration(letters[len(letters)-1]-'a'+1) * time.Minute),
	}
}

func TestLedger(t *testing.T) {
	for name, steps := range map[string][]listed{
		"a judged block does not wait again": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "a0 b0", want: "b0", judge: "all"},
			{live: "a0 b0"},
		},
		"a block that is not judged waits on": {
			{live: "a0 b1", want: "a0 b1", judge: "a0"},
			{live: "a0 b1", want: "b1"},
		},
		"compaction of judged blocks brings nothing to judge": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "ab1 c0", compacted: "a0 b0", want: "c0", judge: "all"},
			{live: "abc2", compacted: "a0 b0 ab1 c0"},
			{live: "abc2"},
		},
		"a compaction whose sources are marked later": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "a0 b0 ab1", want: "ab1", pending: "ab1"},
			{live: "b0 ab1", compacted: "a0", want: "ab1", pending: "ab1"},
			{live: "ab1", compacted: "a0 b0"},
		},
		"a compaction whose sources are marked too late": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "a0 b0 ab1", want: "ab1", pending: "ab1"},
			{live: "a0 b0 ab1", want: "ab1", pending: "ab1"},
			{live: "b0 ab1", compacted: "a0", want: "ab1"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", judge: "all"},
		},
		"a source that is marked later and was not judged": {
			{live: "a0 b0 c0", want: "a0 b0 c0", judge: "a0 c0"},
			{live: "b0 abc1", compacted: "a0 c0", want: "b0 abc1", pending: "abc1"},
			{live: "abc1", compacted: "a0 b0 c0", want: "abc1", replaced: "b0"},
		},
		"a source that is judged before it is marked": {
			{live: "a0 b0 c0", want: "a0 b0 c0", judge: "a0 c0"},
			{live: "b0 abc1", compacted: "a0 c0", want: "b0 abc1", pending: "abc1", judge: "b0"},
			{live: "abc1", compacted: "a0 b0 c0"},
		},
		"a source that was never judged": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", replaced: "b0", judge: "all"},
			{live: "ab1", compacted: "a0 b0"},
			{live: "ab1"},
		},
		"a source that was never listed live": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", replaced: "b0", judge: "all"},
			{live: "abc2", compacted: "a0 b0 ab1 c0", want: "abc2", replaced: "b0 c0"},
		},
		"two compactions, one of blocks that were not all judged": {
			{live: "a0 b0 c0 d0", want: "a0 b0 c0 d0", judge: "a0 b0 c0"},
			{live: "ab1 cd1", compacted: "a0 b0 c0 d0", want: "cd1", replaced: "d0", judge: "all"},
			{live: "abcd2", compacted: "a0 b0 c0 d0 ab1 cd1"},
		},
		"a chain of compactions between two listings whose middle was not listed": {
			{live: "a0 b0 c0", want: "a0 b0 c0", judge: "all"},
			{live: "abc2", compacted: "a0 b0 c0 ab1", want: "abc2", replaced: "ab1"},
		},
		"a restored backup without sources": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "a0 bc1", want: "bc1", pending: "bc1"},
			{live: "a0 bc1", want: "bc1", pending: "bc1"},
			{live: "a0 bc1", want: "bc1", judge: "all"},
		},
		"a restored backup beside a compaction of other blocks": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "ab1 abc2", compacted: "a0 b0", want: "abc2", pending: "abc2"},
		},
		"a restored block of level 0 that was forgotten": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "b0", compacted: "a0", want: "b0", judge: "all"},
			{live: "b0"},
			{live: "a0 b0", want: "a0", judge: "all"},
		},
		"a compacted block that becomes live again": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", replaced: "b0"},
			{live: "ab1 a0 b0", want: "a0 ab1 b0"},
		},
		"a gap of more than half of the compacted retention": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "ab1", compacted: "a0 b0", after: 31 * time.Minute, want: "ab1"},
		},
		"a gap of half of the compacted retention": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "ab1", compacted: "a0 b0", after: 30 * time.Minute},
		},
		"a clock that was ahead": {
			{live: "a0 b0", want: "a0 b0", judge: "all"},
			{live: "ab1", compacted: "a0 b0", after: -10 * time.Minute, want: "ab1", judge: "all"},
			{live: "abc2 c0", compacted: "a0 b0 ab1", want: "abc2 c0", pending: "abc2"},
		},
		"a waiting block that is compacted in a gap": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "ab1", after: 3 * time.Hour, want: "ab1", judge: "all"},
		},
		"a waiting block that expires": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "c0", compacted: "b0", want: "c0", judge: "all"},
			{live: "c0", after: 20 * time.Minute, holes: "expired b0"},
			{live: "c0"},
		},
		"an expiring block that is read": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "c0", compacted: "b0", want: "c0", judge: "c0 b0"},
			{live: "c0"},
		},
		"a waiting block that is deleted": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "ab1", compacted: "a0", want: "ab1", holes: "expired b0"},
		},
		"an outage that is longer than the retention": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "b0", after: 50 * time.Hour, want: "b0", holes: "outage"},
		},
		"an outage that is shorter than the retention": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "ab1", after: 47 * time.Hour, want: "ab1"},
		},
		"an outage that may be longer than the retention, because a clock was wrong": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "ab1", after: 47*time.Hour + 31*time.Minute, want: "ab1", holes: "outage"},
		},
		"an erased part": {
			{live: "abc1", want: "abc1", judge: "all"},
			{live: "ac1", compacted: "abc1", want: "ac1", pending: "ac1"},
			{live: "ac1", compacted: "abc1", want: "ac1", pending: "ac1"},
			{live: "ac1", compacted: "abc1", want: "ac1", judge: "all"},
		},
		"an erased part of a block that waits": {
			{live: "abc1", want: "abc1"},
			{live: "ac1", compacted: "abc1", want: "ac1", pending: "ac1"},
		},
		"a block whose meta.json cannot be read": {
			{live: "a0", want: "a0", judge: "all"},
			{compacted: "a0 b0", unread: "ab1", replaced: "b0"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", replaced: "b0", judge: "all"},
			{unread: "ab1", compacted: "a0 b0", replaced: "b0"},
		},
		"a block whose meta.json cannot be read three times": {
			{live: "a0", unread: "b0", want: "a0", judge: "all"},
			{live: "a0", unread: "b0"},
			{live: "a0", unread: "b0", aside: "b0"},
			{live: "a0 c0", unread: "b0", want: "c0", aside: "b0", judge: "all"},
			{live: "ac1", compacted: "a0 c0", unread: "b0", aside: "b0"},
		},
		"a block that cannot be read three times": {
			{live: "a0 b0", want: "a0 b0", judge: "all", unreadable: "b0"},
			{live: "a0 b0", want: "a0 b0", judge: "all", unreadable: "b0"},
			{live: "a0 b0", want: "a0 b0", judge: "all", unreadable: "b0"},
			{live: "a0 b0", want: "a0", aside: "b0", judge: "all"},
			{live: "a0 b0", aside: "b0"},
		},
		"a block that was set aside and is compacted": {
			{live: "a0 b0", want: "a0 b0", judge: "all", unreadable: "b0"},
			{live: "a0 b0", want: "a0 b0", judge: "all", unreadable: "b0"},
			{live: "a0 b0", want: "a0 b0", judge: "all", unreadable: "b0"},
			{live: "a0 b0", want: "a0", aside: "b0", judge: "all"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", replaced: "b0", judge: "all"},
		},
		"an unstable listing": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "ab1", unstable: true, want: "ab1"},
			{live: "ab1", compacted: "a0 b0", want: "ab1", replaced: "b0"},
		},
		"an unstable listing with blocks that were compacted during it": {
			{live: "a0 b0", want: "a0 b0", judge: "b0"},
			{live: "c0", during: "a0 b0", compacted: "a0 b0", unstable: true, want: "a0 c0", judge: "all"},
			{live: "ab1 c0", compacted: "a0 b0"},
		},
		"an unstable listing with the result of a compaction and without a source": {
			{live: "a0", want: "a0", judge: "all"},
			{live: "a0 ab1", unstable: true, want: "ab1", judge: "all"},
			{live: "a0 b0 ab1", want: "b0"},
			{live: "ab1", compacted: "a0 b0"},
			{live: "ab1"},
		},
		"a source that is judged with the block that replaces it": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{live: "a0 b0 ab1", want: "b0 ab1", pending: "ab1", judge: "ab1"},
			{live: "ab1", compacted: "a0 b0"},
			{live: "ab1", after: 20 * time.Minute},
		},
		"a source whose meta.json was never read": {
			{live: "ab0", unread: "b0", want: "ab0"},
			{live: "ab0", unread: "b0", want: "ab0"},
			{live: "ab0", unread: "b0", want: "ab0", aside: "b0", judge: "all"},
			{live: "ab1", compacted: "ab0", unread: "b0", aside: "b0"},
			{live: "ab1", compacted: "ab0 b0", want: "ab1", replaced: "b0", judge: "all"},
			{live: "ab1", after: 20 * time.Minute},
		},
		"an unstable listing is not compared with": {
			{live: "a0 b0", want: "a0 b0", judge: "a0"},
			{compacted: "a0 b0", unstable: true},
			{live: "ab1", compacted: "a0 b0", want: "ab1", replaced: "b0"},
		},
		"a first listing with compacted blocks": {
			{live: "ab1 c0", compacted: "a0 b0", want: "ab1 c0", replaced: "a0 b0"},
		},
		"a tenant without a folder": {
			{live: "a0", want: "a0"},
			{unread: "!"},
			{live: "a0", want: "a0", judge: "all"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := Ledger{Ledger: state.Ledger{Begins: noon.Add(-time.Hour)}}
			at := noon.Add(time.Hour)
			for i, s := range steps {
				if s.after == 0 {
					s.after = time.Minute
				}
				at = at.Add(s.after)
				listing := blocks.Listing{Began: at, Ended: at, Unstable: s.unstable, Compacted: strings.Fields(s.compacted), Unread: strings.Fields(s.unread)}
				if s.unread == "!" {
					listing.Unread, listing.Problems = nil, []trace.Problem{{What: "tenant t", Err: errors.New("its folder is missing")}}
				}
				for _, id := range strings.Fields(s.live) {
					listing.Live = append(listing.Live, metaOf(id))
				}
				for _, id := range strings.Fields(s.during) {
					listing.CompactedDuring = append(listing.CompactedDuring, metaOf(id))
				}
				before := ledger.clone()
				next, holes := ledger.Next(listing, testOptions)
				require.Equal(t, before, ledger.clone(), "Next must not change its receiver")
				require.ElementsMatch(t, strings.Fields(s.want), next.Take(at.Add(time.Hour), 0, Limits{}), "listing %d: %+v", i+1, next.Blocks)
				require.Equal(t, len(strings.Fields(s.want)), next.Waiting())
				require.Equal(t, strings.Fields(s.pending), inState(next, state.BlockPending), "listing %d", i+1)
				require.Equal(t, strings.Fields(s.replaced), inState(next, state.BlockReplaced), "listing %d", i+1)
				var found []string
				for _, h := range holes {
					found = append(found, strings.TrimSpace(h.Reason+" "+strings.TrimPrefix(strings.Split(h.Subject, ":")[0], "block ")))
				}
				if len(found) == 1 && strings.HasPrefix(found[0], HoleOutage) {
					found = []string{HoleOutage}
				}
				require.Equal(t, s.holes, strings.Join(found, ", "), "listing %d", i+1)
				judged := strings.Fields(s.judge)
				if s.judge == "all" {
					judged = strings.Fields(s.want)
				}
				failed := map[string]error{}
				for _, id := range strings.Fields(s.unreadable) {
					failed[id] = errors.New("it is damaged")
				}
				require.Equal(t, strings.Fields(s.aside), inState(next, state.BlockAside), "listing %d", i+1)
				before = next.clone()
				ledger = next.Commit(judged, failed, int64(i+1), at)
				require.Equal(t, before, next.clone(), "Commit must not change its receiver")
				if !s.unstable && s.unread != "!" {
					require.Len(t, ledger.Blocks, len(listing.Live)+len(listing.Compacted)+len(listing.Unread), "the ledger must contain only the listed blocks")
				}
			}
		})
	}
}

// inState returns the sorted IDs of the blocks in a state.
func inState(l Ledger, s state.BlockState) []string {
	ids := []string{}
	for id, b := range l.Blocks {
		if b.State == s {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func listingOf(at time.Time, live ...string) blocks.Listing {
	listing := blocks.Listing{Began: at, Ended: at}
	for _, id := range live {
		listing.Live = append(listing.Live, metaOf(id))
	}
	return listing
}

func timesOf(ids ...string) map[string]BlockTimes {
	times := map[string]BlockTimes{}
	for _, id := range ids {
		m := metaOf(id)
		times[id] = BlockTimes{Earliest: m.Start, Latest: m.End}
	}
	return times
}

// Blocks of the first listing with older data only are not judged, but late blocks are, however old their data is.
func TestBlocksBeforeTheBeginning(t *testing.T) {
	ledger := Ledger{Ledger: state.Ledger{Begins: noon.Add(2 * time.Minute)}}
	at := noon.Add(time.Hour)
	ledger, _ = ledger.Next(listingOf(at, "a0", "b0", "c0"), testOptions)
	require.Equal(t, 3, ledger.Waiting(), "a block without times waits")
	ledger = ledger.SetTimes(timesOf("a0", "c0"))
	require.Equal(t, []string{"a0"}, inState(ledger, state.BlockBefore))
	ledger, _ = ledger.Next(listingOf(at.Add(time.Minute), "a0", "b0", "c0", "aa0"), testOptions)
	ledger = ledger.SetTimes(timesOf("b0", "aa0"))
	require.Equal(t, []string{"a0"}, inState(ledger, state.BlockBefore), "b0 ends when the ledger begins")
	require.Equal(t, []string{"aa0", "b0", "c0"}, ledger.Take(at.Add(time.Hour), 0, Limits{}), "aa0 is late")

	// Compactions of such blocks are not judged either.
	ledger = ledger.Commit([]string{"aa0", "b0", "c0"}, nil, 1, at)
	listing := listingOf(at.Add(2*time.Minute), "ab1", "c0")
	listing.Compacted = []string{"a0", "b0", "aa0"}
	ledger, _ = ledger.Next(listing, testOptions)
	require.Zero(t, ledger.Waiting())
}

func TestTakesTheOldestRestedBlocks(t *testing.T) {
	at := noon.Add(time.Hour)
	ledger, _ := Ledger{}.Next(listingOf(at, "c0", "a0", "bc0"), testOptions)
	ledger = ledger.SetTimes(timesOf("a0", "bc0", "c0"))
	ledger, _ = ledger.Next(listingOf(at.Add(time.Minute), "a0", "bc0", "c0", "d0"), testOptions)
	ledger = ledger.SetTimes(timesOf("d0"))
	for name, tt := range map[string]struct {
		after  time.Duration
		limits Limits
		want   []string
	}{
		"nothing has rested":         {2*time.Minute - 1, Limits{}, nil},
		"the first blocks":           {2 * time.Minute, Limits{}, []string{"a0", "bc0", "c0"}},
		"all":                        {3 * time.Minute, Limits{}, []string{"a0", "bc0", "c0", "d0"}},
		"a limit on blocks":          {3 * time.Minute, Limits{Blocks: 2}, []string{"a0", "bc0"}},
		"a limit on bytes":           {3 * time.Minute, Limits{Bytes: 2999}, []string{"a0", "bc0"}},
		"a limit on traces":          {3 * time.Minute, Limits{Traces: 40}, []string{"a0", "bc0", "c0"}},
		"a limit below one block":    {3 * time.Minute, Limits{Bytes: 1, Traces: 1}, []string{"a0"}},
		"limits that are not needed": {3 * time.Minute, Limits{Blocks: 4, Bytes: 4000, Traces: 50}, []string{"a0", "bc0", "c0", "d0"}},
	} {
		require.Equal(t, tt.want, ledger.Take(at.Add(tt.after), testOptions.Hold, tt.limits), name)
	}
	last := newRates(&usage{blocks: 2, bytes: 4000, spans: 800, cost: 80, requests: 30}) // a block of the ledger has 1000 bytes
	for name, limits := range map[string]Limits{
		"an estimate of spans": {Spans: 599}, "an estimate of cost": {Cost: 59}, "an estimate of requests": {Requests: 44},
	} {
		require.Equal(t, []string{"a0", "bc0"}, ledger.take(at.Add(3*time.Minute), testOptions.Hold, limits, last), name)
	}
}

// A failed reading judges nothing. A block that was set aside is read again once its footer can be read, and later
// again and again, but rarely.
func TestBlocksSetAside(t *testing.T) {
	at := noon.Add(time.Hour)
	ledger, _ := Ledger{}.Next(listingOf(at, "a0", "b0"), testOptions)
	failed := map[string]error{"b0": errors.New("no footer"), "unknown": errors.New("no block")}
	for range failuresAside - 1 {
		ledger = ledger.Commit([]string{"a0", "b0"}, failed, 1, at)
		require.Equal(t, 2, ledger.Waiting())
	}
	ledger = ledger.Commit([]string{"a0", "b0"}, failed, 1, at)
	require.Equal(t, []string{"a0"}, ledger.Take(at, 0, Limits{}))
	require.True(t, ledger.LeaveOut("b0"))
	require.False(t, ledger.LeaveOut("a0"))
	require.Equal(t, "no footer", ledger.Blocks["b0"].Reason)

	ledger = ledger.SetTimes(timesOf("b0"))
	require.Equal(t, []string{"a0", "b0"}, ledger.Take(at, 0, Limits{}), "times show that its footer can be read")
	ledger = ledger.SetTimes(timesOf("a0")).Commit([]string{"a0", "b0"}, failed, 1, at)
	require.Equal(t, []string{"b0"}, inState(ledger, state.BlockAside), "one more failure suffices")
	tries := 0
	for minute := range 24 * 60 {
		ledger, _ = ledger.Next(listingOf(at.Add(time.Duration(minute+1)*time.Minute), "a0", "b0"), testOptions)
		ledger = ledger.Readable("b0").Readable("a0").Readable("unknown")
		if taken := ledger.Take(at.Add(24*time.Hour), 0, Limits{}); slices.Contains(taken, "b0") {
			tries++
			ledger = ledger.Commit(taken, failed, 1, at)
		}
	}
	require.Equal(t, 4, tries, "at an age of 2, 4, 8 and 16 hours")
	ledger, _ = ledger.Next(listingOf(at.Add(48*time.Hour), "a0", "b0"), testOptions)
	ledger = ledger.Readable("b0").Commit([]string{"a0", "b0"}, nil, 7, at)
	require.Zero(t, ledger.Waiting())
	require.Equal(t, state.Block{ID: "b0", State: state.BlockJudged, Start: metaOf("b0").Start, End: metaOf("b0").End,
		Earliest: metaOf("b0").Start, Latest: metaOf("b0").End, Traces: 10, Bytes: 1000, FirstListed: at, Entry: 7}, ledger.Blocks["b0"])
}

// A tick marks only blocks as judged that its listing lets it read.
func TestOnlyListedBlocksAreJudged(t *testing.T) {
	at := noon.Add(time.Hour)
	ledger, _ := Ledger{}.Next(listingOf(at, "a0", "b0", "c0"), testOptions)
	unstable := listingOf(at.Add(time.Minute), "a0")
	unstable.Unstable = true
	unstable.CompactedDuring = []blocks.Meta{metaOf("b0")}
	ledger, _ = ledger.Next(unstable, testOptions)
	require.Equal(t, []string{"a0", "b0"}, ledger.Take(at.Add(time.Hour), 0, Limits{}))
	require.False(t, ledger.LeaveOut("b0"))
	ledger = ledger.Commit([]string{"a0", "b0", "c0", "unknown"}, nil, 1, at)
	require.Equal(t, []string{"a0", "b0"}, inState(ledger, state.BlockJudged))
}

// After a listing by a clock that was ahead, the time since that listing shows nothing: the blocks of a compaction may
// have been written and deleted since. The time at which the storage received the result does show it.
func TestCompactionsThatNoListingShowed(t *testing.T) {
	began := noon.Add(6 * time.Hour)
	for name, tt := range map[string]struct {
		before  time.Duration // the time of the listing before, relative to this one
		written time.Duration // the time at which ab1 was written
		other   time.Duration // the time at which another block was written
		want    bool          // whether ab1 must be judged
	}{
		"a minute":                                     {before: -time.Minute, written: -time.Minute},
		"ten minutes by a clock that was ahead":        {before: -10 * time.Minute, written: -2 * time.Hour, want: true},
		"a clock of the storage that differs a little": {before: -10 * time.Minute, written: 29 * time.Minute},
		"a clock that is behind":                       {before: -10 * time.Minute, written: 31 * time.Minute, want: true},
		"another block shows that the clock is behind": {before: -10 * time.Minute, other: 31 * time.Minute, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			ledger, _ := Ledger{}.Next(listingOf(began.Add(tt.before), "a0", "b0"), testOptions)
			ledger = ledger.Commit([]string{"a0", "b0"}, nil, 1, began.Add(tt.before))
			listing := listingOf(began, "ab1", "c0")
			listing.Compacted = []string{"a0", "b0"}
			listing.Live[0].Written, listing.Live[1].Written = began.Add(tt.written), began.Add(tt.other)
			ledger, _ = ledger.Next(listing, testOptions)
			require.Equal(t, tt.want, slices.Contains(ledger.Take(began.Add(time.Hour), 0, Limits{}), "ab1"))
		})
	}
}

// A clock that was far ahead must not stop the ledger until that time.
func TestAClockThatWasAhead(t *testing.T) {
	ahead := noon.AddDate(1, 0, 0)
	ledger := Ledger{Ledger: state.Ledger{Begins: noon}}
	ledger, _ = ledger.Next(listingOf(noon.Add(time.Hour), "a0"), testOptions)
	ledger = ledger.Commit([]string{"a0"}, nil, 1, noon.Add(time.Hour)).Advance(0, 0)
	ledger, _ = ledger.Next(listingOf(ahead, "a0", "b0"), Options{Hold: time.Minute})
	ledger = ledger.SetTimes(timesOf("a0")).Commit([]string{"a0"}, nil, 2, ahead).SetTimes(timesOf("b0")).Advance(0, 0)
	now := noon.Add(2 * time.Hour)
	ledger, holes := ledger.Next(listingOf(now, "a0", "b0"), testOptions)
	require.Empty(t, holes)
	require.Equal(t, []string{"b0"}, ledger.Take(now.Add(testOptions.Hold), testOptions.Hold, Limits{}))
	require.False(t, ledger.Watermark.After(now), ledger.Watermark)
	require.False(t, ledger.Frontier.After(now), ledger.Frontier)
}
