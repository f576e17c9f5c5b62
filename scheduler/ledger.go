package scheduler

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// Ledger records which of a tenant's blocks were judged. It ensures that each span is judged, or that a hole names
// the range that may lack it, and that blocks written by compactions of judged blocks are not read again.
//
// A tick lists the blocks, calls [Ledger.Next] with the listing and [Ledger.SetTimes] with the times in the footers
// of blocks without times, reads the blocks of [Ledger.Take], and calls [Ledger.Commit].
//
// Ledgers are values: the result of a method shares no memory with its receiver.
//
//	             listed first                  Commit
//	others      ───────────────▶ waiting ─────────────────▶ judged
//	                             │ ▲ ▲ │                      ▲
//	             before Begins   │ │ │ │ compacted            │
//	before      ◀────────────────┘ │ │ └───────────▶ replaced │
//	                    3 failures │ │ a source is not        │
//	aside       ◀──────────────────┘ │ judged, or Hold passed │
//	            ────────────────▶    │                        │
//	               readable again    │      all sources were judged
//	written by a compaction ─────▶ pending ───────────────────┘
//
// A replaced block is judged as soon as the block with its spans is. A compacted block that is live again is waiting.
//
// The files of the storage do not name the sources of a block that a compaction wrote. They are inferred, see
// explanation.go. The inference allows for clocks that are wrong by up to half of [Options].CompactedRetention, and for
// any error of the clock that is corrected.
type Ledger struct {
	state.Ledger
	// Blocks are the blocks of the last stable listing and those found since, by ID.
	Blocks map[string]state.Block

	// listed are the blocks that a reading of the present listing reads. It is not stored.
	listed map[string]bool
}

// Options are the times on which the conclusions from a listing depend.
type Options struct {
	// Hold is the time for which a block rests before it is judged.
	Hold time.Duration
	// CompactedRetention is the time for which Tempo keeps compacted blocks. Default [blocks.CompactedRetention].
	CompactedRetention time.Duration
	// Retention is the time for which Tempo keeps a block after its end. If 0, it is forever.
	Retention time.Duration
	// MaxTraceDuration is the maximum duration of a trace. Default 1 h.
	MaxTraceDuration time.Duration
}

// failuresAside is the number of ticks that must fail to read a block before it is set aside.
const failuresAside = 3

// compactedRetention returns the time for which Tempo keeps compacted blocks.
func (o *Options) compactedRetention() time.Duration {
	return cmp.Or(o.CompactedRetention, blocks.CompactedRetention)
}

// Next returns the ledger after a listing, and the holes that the listing shows: blocks that were deleted before they
// were judged, and a time without listings that was longer than the retention.
func (l Ledger) Next(listing blocks.Listing, o Options) (Ledger, []state.Hole) {
	began := stamp(listing.Began)
	next := l.clone()
	next.setBack(began)
	next.listed = map[string]bool{}
	for _, m := range slices.Concat(listing.Live, listing.CompactedDuring) {
		next.listed[m.ID] = true
	}
	if listing.Unstable || isUnusable(&listing) {
		next.addUnstable(&listing, began)
		return next, nil
	}
	s := &step{Ledger: &next, before: &l, listing: &listing, options: o, began: began}
	s.run()
	return next, s.holes
}

// isUnusable reports whether a listing without blocks has a problem, as a tenant whose folder is missing.
func isUnusable(listing *blocks.Listing) bool {
	return len(listing.Live)+len(listing.Compacted)+len(listing.Unread) == 0 && len(listing.Problems) > 0
}

// stamp returns a time in the form in which it is stored.
func stamp(t time.Time) time.Time { return t.Round(0).UTC() }

func (l Ledger) clone() Ledger {
	l.Blocks = maps.Clone(l.Blocks)
	if l.Blocks == nil {
		l.Blocks = map[string]state.Block{}
	}
	l.listed = maps.Clone(l.listed)
	return l
}

// setBack corrects times from a clock that was ahead: else blocks would not be taken until those times.
func (l *Ledger) setBack(now time.Time) {
	for id, b := range l.Blocks {
		if b.FirstListed.After(now) || b.CompactedAt.After(now) {
			if b.FirstListed.After(now) {
				b.FirstListed = now
			}
			if b.CompactedAt.After(now) {
				b.CompactedAt = now.Add(-1) // so that it explains no block that is listed now
			}
			l.Blocks[id] = b
		}
	}
	if l.ListedAt.After(now) {
		// The watermark and the frontier were derived from the wrong time.
		ahead := l.ListedAt.Sub(now)
		if !l.Watermark.IsZero() {
			l.Watermark = l.Watermark.Add(-ahead)
		}
		l.Frontier = earlier(l.Frontier, now)
		l.Created = earlier(l.Created, now.Add(-1))
	}
}

// addUnstable adds the blocks of an unstable listing. The listing may lack blocks, so no conclusions are drawn from it.
func (l *Ledger) addUnstable(listing *blocks.Listing, began time.Time) {
	for _, m := range listing.Live {
		b, known := l.Blocks[m.ID]
		if !known {
			b = state.Block{ID: m.ID, State: state.BlockWaiting, FirstListed: began}
		}
		setMeta(&b, &m)
		restore(&b)
		l.Blocks[m.ID] = b
	}
	for _, id := range listing.Unread {
		if _, known := l.Blocks[id]; !known {
			l.Blocks[id] = state.Block{ID: id, State: state.BlockWaiting, FirstListed: began}
		}
	}
}

// setMeta copies the contents of a meta.json.
func setMeta(b *state.Block, m *blocks.Meta) {
	b.Level, b.Start, b.End, b.Written = m.CompactionLevel, stamp(m.Start), stamp(m.End), stamp(m.Written)
	b.Traces, b.Bytes = m.Traces, m.Size
}

// isJudged reports whether nothing in a block has to be judged.
func isJudged(b *state.Block) bool {
	return b.State == state.BlockJudged || b.State == state.BlockBefore
}

// BlockTimes bound the times of a block's spans.
type BlockTimes struct{ Earliest, Latest time.Time }

// SetTimes sets the times of blocks from their footers. A block of the first listing whose data is all from before the
// beginning of the ledger need not be judged. A block that was set aside without times is waiting again.
func (l Ledger) SetTimes(times map[string]BlockTimes) Ledger {
	next := l.clone()
	for id, t := range times {
		b, known := next.Blocks[id]
		if !known {
			continue
		}
		if b.State == state.BlockAside && b.Latest.IsZero() && !t.Latest.IsZero() {
			b.State = state.BlockWaiting
		}
		b.Earliest, b.Latest = stamp(t.Earliest), stamp(t.Latest)
		next.findBefore(&b)
		next.Blocks[id] = b
	}
	return next
}

// findBefore changes the state of a block of the first listing that has only data from before the beginning.
func (l *Ledger) findBefore(b *state.Block) {
	isFirst := !l.Created.IsZero() && !b.FirstListed.After(l.Created)
	if isFirst && b.State == state.BlockWaiting && !b.Latest.IsZero() && b.Latest.Before(l.Begins) {
		b.State = state.BlockBefore
	}
}

// Readable returns the ledger after the footer of a block that was set aside could be read. It is waiting again, but if
// only its data is damaged, it is tried again at an age of 1, 2, 4, 8 … hours, because a failed attempt delays the others.
func (l Ledger) Readable(id string) Ledger {
	next := l.clone()
	b, known := next.Blocks[id]
	if !known || b.State != state.BlockAside {
		return next
	}
	pause := time.Hour << min(max(b.Failures-failuresAside, 0), 12)
	if l.ListedAt.Sub(b.FirstListed) >= pause {
		b.State = state.BlockWaiting
		next.findBefore(&b)
		next.Blocks[id] = b
	}
	return next
}

// isTakeable reports whether a block can be read and has to be judged.
func (l *Ledger) isTakeable(b *state.Block) bool {
	return (b.State == state.BlockWaiting || b.State == state.BlockPending) && !b.Compacted && l.listed[b.ID]
}

// Waiting returns the number of live blocks that have to be judged and can be read.
func (l Ledger) Waiting() int {
	n := 0
	for _, b := range l.Blocks {
		if l.isTakeable(&b) {
			n++
		}
	}
	return n
}

// Take returns the blocks to judge in a tick: those of the present listing that have rested for hold, those with the
// oldest data first, as many as the limits allow, but at least one if there is one.
func (l Ledger) Take(now time.Time, hold time.Duration, limits Limits) []string {
	return l.take(now, hold, limits, rates{})
}

// take is [Ledger.Take] with the rates of earlier ticks, from which limits follow that cannot be known from the blocks.
func (l Ledger) take(now time.Time, hold time.Duration, limits Limits, r rates) []string {
	var rested []state.Block
	for _, b := range l.Blocks {
		since := b.FirstListed
		if b.State == state.BlockWaiting && !b.Written.IsZero() {
			since = earlier(since, b.Written)
		}
		if l.isTakeable(&b) && now.Sub(since) >= hold {
			rested = append(rested, b)
		}
	}
	slices.SortFunc(rested, func(a, b state.Block) int {
		return cmp.Or(a.Earliest.Compare(b.Earliest), strings.Compare(a.ID, b.ID))
	})
	var taken []string
	var sum usage
	for i := range rested {
		b := &rested[i]
		sum.add(r.of(b))
		if len(taken) > 0 && limits.exceeded(&sum) != nil {
			break
		}
		taken = append(taken, b.ID)
	}
	return taken
}

// LeaveOut reports whether a block is not read. It is meant for the request of a reading.
func (l Ledger) LeaveOut(id string) bool {
	b := l.Blocks[id]
	return b.State == state.BlockAside || b.Compacted
}

// Commit returns the ledger after a reading of the taken blocks, united with the other live blocks that are not left
// out. failed are the blocks that could not be read. Any trace may have spans in them, so nothing was judged if there is
// one. entry is the number of the entry about the tick.
func (l Ledger) Commit(taken []string, failed map[string]error, entry int64, now time.Time) Ledger {
	next := l.clone()
	now = stamp(now)
	for id, err := range failed {
		if b, known := next.Blocks[id]; known && l.listed[id] { // Next has counted the failures of the others
			fail(&b, err.Error())
			next.Blocks[id] = b
		}
	}
	if len(failed) > 0 {
		return next
	}
	for _, id := range taken {
		b, known := next.Blocks[id]
		if !known || !l.listed[id] && !b.Compacted {
			continue // it was not read
		}
		b.State, b.Entry, b.Failures, b.Reason = state.BlockJudged, entry, 0, ""
		next.Blocks[id] = b
		next.raiseFrontier(&b, now)
	}
	return next
}

// fail records that a tick could not read a block.
func fail(b *state.Block, reason string) {
	b.Failures++
	b.Reason = reason
	if b.Failures >= failuresAside && b.State != state.BlockReplaced {
		b.State = state.BlockAside
	}
}

// raiseFrontier raises the frontier beyond the latest time in a judged block. If that is unknown or later, it is now.
func (l *Ledger) raiseFrontier(b *state.Block, now time.Time) {
	frontier := now
	if !b.Latest.IsZero() {
		frontier = earlier(b.Latest.Add(1), now)
	}
	l.Frontier = later(l.Frontier, frontier)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
