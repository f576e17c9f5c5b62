package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// step derives the ledger after a stable listing.
//
// Tempo's compactor reads some blocks, writes a block with their spans and marks the sources as compacted, one after
// another. It keeps marked blocks for the compacted retention. Its result has the earliest start and the latest end of
// the sources' meta.json, and a level one above their highest (tempodb/encoding/vparquet4/compactor.go in Tempo 2.8). A
// stable listing shows the result of each source that it shows as compacted.
//
// So a block is explained if judged blocks that were marked since it was first listed have its start, its end and the
// level below its own, unless a block that was not judged may be a source, too. A level alone proves nothing: a restored
// backup has one. If the listing before is older than half of the retention, or later, sources may have been deleted
// that no listing showed, so nothing is explained, nor is a block that was written before. Whatever is not explained is
// judged again.
type step struct {
	*Ledger // being changed
	before  *Ledger
	listing *blocks.Listing
	options Options
	began   time.Time

	// isSequel reports that no block can have been written and deleted since the listing before.
	isSequel bool
	// lost are the unjudged blocks that are no longer listed.
	lost []state.Block
	// marked are the blocks that this listing is the first to show as compacted.
	marked map[string]bool
	// unknown reports that a marked block was never listed while it was live.
	unknown bool
	holes   []state.Hole
}

func (s *step) run() {
	ended := later(s.began, stamp(s.listing.Ended))
	isFirst := s.ListedAt.IsZero()
	s.isSequel = !isFirst && !s.began.Before(s.ListedAt) && ended.Sub(s.ListedAt) <= s.tolerance() && !s.isBehind(ended)
	s.forget()
	s.addLive()
	s.addUnread()
	s.addCompacted()
	s.decidePending()
	s.replace()
	s.findOutage(isFirst)
	s.Listings++
	s.ListedAt = s.began
	if isFirst {
		s.Created = s.began
	}
	for id, b := range s.Blocks {
		s.findBefore(&b)
		if b.State == state.BlockJudged && !b.Latest.IsZero() {
			s.raiseFrontier(&b, s.began) // its latest time may have been in the future when it was judged
		}
		s.Blocks[id] = b
	}
}

// tolerance is the error of clocks for which conclusions allow.
func (s *step) tolerance() time.Duration { return s.options.compactedRetention() / 2 }

// isBehind reports whether a block is from the future of this clock. Then the time since the listing before is unknown.
func (s *step) isBehind(ended time.Time) bool {
	return slices.ContainsFunc(s.listing.Live, func(m blocks.Meta) bool { return m.Written.Sub(ended) > s.tolerance() })
}

// findOutage finds a time without listings in which blocks may have been written and deleted.
func (s *step) findOutage(isFirst bool) {
	from, to := later(s.Watermark, s.Begins), s.began.Add(s.tolerance()-s.options.Retention)
	if isFirst || s.options.Retention == 0 || !s.ListedAt.Before(to) || !from.Before(to) {
		return
	}
	s.holes = append(s.holes, state.Hole{Ledger: s.ID, From: from, To: to, Reason: HoleOutage,
		Subject: fmt.Sprintf("no listing from %s to %s", s.ListedAt.Format(time.RFC3339), s.began.Format(time.RFC3339))})
}

// forget removes the blocks that are not listed.
func (s *step) forget() {
	listed := map[string]bool{}
	for _, m := range s.listing.Live {
		listed[m.ID] = true
	}
	for _, ids := range [][]string{s.listing.Unread, s.listing.Compacted} {
		for _, id := range ids {
			listed[id] = true
		}
	}
	for id, b := range s.Blocks {
		if !listed[id] {
			delete(s.Blocks, id)
			if !isJudged(&b) && b.State != state.BlockReplaced {
				s.lost = append(s.lost, b)
			}
		}
	}
	slices.SortFunc(s.lost, func(a, b state.Block) int { return cmp.Compare(a.ID, b.ID) })
}

func (s *step) addLive() {
	for _, m := range s.listing.Live {
		b, known := s.Blocks[m.ID]
		if !known {
			b = state.Block{ID: m.ID, State: state.BlockWaiting, FirstListed: s.began}
			// The time of the listing before may be that of a wrong clock, so the age of the block counts, too.
			isYoung := m.Written.IsZero() || s.began.Sub(m.Written) <= s.tolerance()
			if m.CompactionLevel > 0 && s.isSequel && isYoung {
				b.State = state.BlockPending
			}
		}
		setMeta(&b, &m)
		s.setListed(&b)
		s.Blocks[m.ID] = b
	}
}

// setListed records that a block is listed and not compacted.
func (s *step) setListed(b *state.Block) {
	restore(b)
	if b.FirstListed.After(s.before.ListedAt) {
		// An unstable listing may contain the result of a compaction without its sources, so it shows no order.
		b.FirstListed = s.began
	}
}

// addUnread adds the blocks whose meta.json could not be read, and counts these failures.
func (s *step) addUnread() {
	reasons := map[string]string{}
	for _, p := range s.listing.Problems {
		reasons[p.What] = p.Err.Error()
	}
	for _, id := range s.listing.Unread {
		b, known := s.Blocks[id]
		if !known {
			b = state.Block{ID: id, State: state.BlockWaiting, FirstListed: s.began}
		}
		s.setListed(&b)
		fail(&b, cmp.Or(reasons["block "+id], "its meta.json cannot be read"))
		s.Blocks[id] = b
	}
}

// restore makes a live block of one that was compacted, as an operator can. It is judged again, because traces may have
// been judged without its spans since.
func restore(b *state.Block) {
	if b.Compacted && b.State != state.BlockAside {
		b.State = state.BlockWaiting
	}
	b.Compacted, b.CompactedAt = false, time.Time{}
}

func (s *step) addCompacted() {
	s.marked = map[string]bool{}
	for _, id := range s.listing.Compacted {
		b, known := s.Blocks[id]
		if known && b.Compacted {
			continue
		}
		if !known {
			b = state.Block{ID: id, State: state.BlockWaiting, FirstListed: s.began}
			s.unknown = true
		}
		b.Compacted, b.CompactedAt = true, s.began
		s.marked[id] = true
		s.Blocks[id] = b
	}
}

// decidePending decides about the blocks that compactions may have written, sources first.
func (s *step) decidePending() {
	var pending []state.Block
	for _, b := range s.Blocks {
		if b.State == state.BlockPending {
			pending = append(pending, b)
		}
	}
	slices.SortFunc(pending, func(a, b state.Block) int { return cmp.Or(a.Level-b.Level, cmp.Compare(a.ID, b.ID)) })
	for _, b := range pending {
		b.State = s.decide(&b)
		s.Blocks[b.ID] = b
	}
}

// decide returns the state of a pending block.
func (s *step) decide(b *state.Block) state.BlockState {
	isNew := b.FirstListed.Equal(s.began)
	if !s.isSequel || isNew && s.unknown {
		return state.BlockWaiting // a source may be unknown
	}
	for i := range s.lost {
		if maySource(&s.lost[i], b) {
			return state.BlockWaiting
		}
	}
	isOpen := false // a source may not be judged or marked yet
	for id, u := range s.Blocks {
		if isJudged(&u) || id == b.ID || !maySource(&u, b) {
			continue
		}
		switch {
		case s.marked[id]:
			return state.BlockWaiting
		case u.Compacted: // before the block was written
		case u.State == state.BlockAside && u.Start.IsZero(): // else one leftover without meta.json explains nothing for ever
		default:
			isOpen = true
		}
	}
	if !isOpen {
		if as, ok := s.explain(b); ok {
			return as
		}
	}
	if b.Compacted || s.began.Sub(b.FirstListed) >= s.options.Hold {
		return state.BlockWaiting
	}
	return state.BlockPending
}

// explain returns the state of a block if judged blocks that were compacted since it was first listed are its sources.
func (s *step) explain(b *state.Block) (state.BlockState, bool) {
	var hasStart, hasEnd, hasLevel bool
	traces, as := 0, state.BlockBefore
	for _, c := range s.Blocks {
		if !isJudged(&c) || !c.Compacted || c.CompactedAt.Before(b.FirstListed) || c.Start.IsZero() || !maySource(&c, b) {
			continue
		}
		hasStart = hasStart || c.Start.Equal(b.Start)
		hasEnd = hasEnd || c.End.Equal(b.End)
		hasLevel = hasLevel || c.Level == b.Level-1
		traces += c.Traces
		if c.State == state.BlockJudged {
			as = state.BlockJudged
		}
	}
	return as, hasStart && hasEnd && hasLevel && b.Traces <= traces
}

// maySource reports whether a block may be a source of another that a compaction wrote.
func maySource(u, of *state.Block) bool {
	return !u.FirstListed.After(of.FirstListed) && fits(u, of)
}

// fits reports whether a block may be a source of another by its meta.json.
func fits(u, of *state.Block) bool {
	return u.Start.IsZero() || u.Level < of.Level && isWithin(u, of)
}

func isWithin(u, of *state.Block) bool { return !u.Start.Before(of.Start) && !u.End.After(of.End) }

// replace decides about the blocks that were compacted or deleted before they were judged. It records a hole for each
// deleted block whose spans are in no other block.
func (s *step) replace() {
	for i := range s.lost {
		s.doubt(&s.lost[i])
	}
	for id := range s.marked {
		if u := s.Blocks[id]; !isJudged(&u) {
			s.doubt(&u)
		}
	}
	for _, u := range s.lost {
		// While listings are close together, a compacted block is listed as such before it is deleted.
		if _, ok := s.successor(&u); !ok || s.isSequel && !u.Compacted {
			s.holes = append(s.holes, s.holeOf(&u, HoleExpired, s.options.MaxTraceDuration))
		}
	}
	for id, u := range s.Blocks {
		if !u.Compacted || isJudged(&u) {
			continue
		}
		if u.State == state.BlockPending {
			u.State = state.BlockWaiting
		}
		if s.before.ListedAt.IsZero() {
			u.State = state.BlockReplaced
		} else if as, ok := s.successor(&u); ok {
			u.State = as
		}
		s.Blocks[id] = u
	}
}

// doubt lets the blocks be judged again that may contain spans of a compacted block whose meta.json was never read:
// such a block does not prevent conclusions while it is set aside.
func (s *step) doubt(u *state.Block) {
	if !u.Start.IsZero() {
		return
	}
	for id, w := range s.Blocks {
		if w.State == state.BlockJudged && w.Level > 0 && !w.Compacted && maySource(u, &w) {
			w.State = state.BlockWaiting
			s.Blocks[id] = w
		}
	}
}

// successor returns the state of a block that was not judged and is now compacted: replaced if the block with its spans
// will be judged, judged if that was judged. Nothing explains a block with spans of a block that was not judged, so if
// all blocks that may have its spans were judged, they were read for it. Only a block that expired has no successor.
func (s *step) successor(u *state.Block) (as state.BlockState, ok bool) {
	end := u.End
	if u.Start.IsZero() {
		end = u.FirstListed.Add(-s.options.Retention / 2) // or earlier, but rarely
	}
	if s.options.Retention > 0 && end.Before(s.began.Add(s.options.compactedRetention()-s.options.Retention)) {
		return "", false
	}
	for id, w := range s.Blocks {
		switch {
		case id == u.ID || u.FirstListed.After(w.FirstListed) || u.Compacted && w.FirstListed.After(u.CompactedAt):
		case !w.Start.IsZero() && (w.Level == 0 || !fits(u, &w)):
		case !isJudged(&w): // also if it was compacted before it was judged
			return state.BlockReplaced, true
		case !u.Start.IsZero():
			as, ok = state.BlockJudged, true
		}
	}
	return as, ok
}
