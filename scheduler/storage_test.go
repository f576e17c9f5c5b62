package scheduler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
)

// modelFault is a kind of event that a history may contain.
type modelFault string

const (
	lateSpans     modelFault = "late"      // spans that arrive long after the others of their trace
	clientClocks  modelFault = "clients"   // traces with times that are ahead or behind
	copies        modelFault = "copies"    // blocks of several ingesters with the same spans
	interruptions modelFault = "interrupt" // compactions that do not mark all sources
	backups       modelFault = "restore"   // blocks that appear without sources, or are live again
	outages       modelFault = "outage"    // times without ticks
	serviceClock  modelFault = "clock"     // a clock of the service that is ahead or behind
	unstable      modelFault = "unstable"  // listings during which blocks are compacted
	badMeta       modelFault = "meta"      // meta.json that cannot be read
	badData       modelFault = "data"      // footers or rows that cannot be read
	leftovers     modelFault = "leftover"  // data without meta.json, which Tempo does not know
	expiry        modelFault = "expiry"    // blocks that Tempo deletes at their age
	erasure       modelFault = "erase"     // blocks that an operator deletes, or writes anew without a trace
	ruleChanges   modelFault = "rules"     // rules that are added, changed or removed
	bounds        modelFault = "limits"    // limits on the blocks of a tick
	crashes       modelFault = "crash"     // ticks that end before their commit
	skips         modelFault = "skip"      // ticks that skip old data, because others were missed
	slowReadings  modelFault = "slow"      // readings during which blocks are compacted or deleted
)

var modelFaults = []modelFault{
	lateSpans, clientClocks, copies, interruptions, backups, outages, serviceClock, unstable, badMeta, badData, leftovers, expiry, erasure,
	ruleChanges, bounds, crashes, slowReadings, skips,
}

// modelSpan is a span, whose index is its ID. Start and end are equal.
type modelSpan struct {
	trace int
	at    time.Time
	// stored is the true time at which the first block with it was written, or zero.
	stored time.Time
	// deleted is the time at which an operator deleted a block with it. erased reports that the deletion looks like a
	// compaction, so it need not be noticed.
	deleted time.Time
	erased  bool
}

// modelBlock is a block in the storage. Its times are true ones.
type modelBlock struct {
	id                            string
	level                         int
	start, end                    time.Time // in meta.json
	spans                         []int     // sorted
	written, compacted            time.Time
	noMeta, noFooter, noRows      time.Time // until when they cannot be read
	isLeftover, wasBad, isRemoved bool
	isListed                      bool // by a committed tick
}

func (b *modelBlock) isLive() bool { return b.compacted.IsZero() }

// modelArrival is a span that a client will send.
type modelArrival struct {
	at   time.Time
	span int
}

// modelStorage is the storage of a tenant, with the programs that change it: clients, ingesters, compactors and operators.
type modelStorage struct {
	*rand.Rand
	faults           map[modelFault]bool
	now              time.Time
	maxTraceDuration time.Duration
	retention        time.Duration // 0: forever
	spans            []modelSpan
	traces           int
	arrivals         []modelArrival
	ingesters        [3][]modelArrival
	blocks           []*modelBlock   // live and compacted ones
	removed          []*modelBlock   // deleted ones
	marking          [][]*modelBlock // sources of compactions that are not yet marked
	quiet            bool            // nothing more arrives or breaks
	writtenBlocks    int
}

const modelCompactedRetention = time.Hour

// one reports an event of a probability of 1 in n, if the history has such faults.
func (s *modelStorage) one(n int, f modelFault) bool {
	happens := s.IntN(n) == 0
	return happens && s.faults[f] && !s.quiet
}

// upTo returns a random duration.
func (s *modelStorage) upTo(d time.Duration) time.Duration {
	return time.Duration(s.Int64N(int64(d) + 1))
}

// advance lets time pass, with changes of the storage.
func (s *modelStorage) advance(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = earlier(end, s.now.Add(time.Second+s.upTo(min(d/4, 5*time.Minute))))
		s.step()
	}
}

// step makes one or a few changes.
func (s *modelStorage) step() {
	s.arrive()
	s.deleteOld()
	switch k := s.IntN(20); {
	case s.quiet && k < 9:
	case k < 5:
		s.newTrace()
	case k < 9:
		s.flush(s.IntN(3))
	case k < 12:
		s.compact()
	case k < 17:
		s.mark()
	case s.one(8, backups):
		s.restore()
	case s.one(12, erasure):
		s.erase()
	case s.one(6, badMeta), s.one(8, badData):
		s.damage()
	case s.one(40, leftovers):
		b := s.write(0, nil, s.now, s.now)
		b.isLeftover, b.wasBad, b.noMeta = true, true, s.now.AddDate(1, 0, 0)
	}
}

func (s *modelStorage) newTrace() {
	start := s.now.Add(-s.upTo(2 * time.Minute))
	if s.one(12, clientClocks) {
		start = start.Add(s.upTo(2*time.Hour+s.maxTraceDuration/2) - 2*time.Hour)
	}
	s.traces++
	for i := range 1 + s.IntN(4) {
		span := modelSpan{trace: s.traces, at: start}
		if i > 0 {
			span.at = start.Add(s.upTo(s.maxTraceDuration / 2))
		}
		arrival := s.now
		if i > 0 || s.IntN(4) == 0 {
			arrival = later(s.now, span.at).Add(s.upTo(time.Minute))
		}
		if s.one(6, lateSpans) {
			arrival = arrival.Add(s.upTo(3 * time.Hour))
		}
		s.spans = append(s.spans, span)
		s.arrivals = append(s.arrivals, modelArrival{arrival, len(s.spans) - 1})
	}
}

// arrive gives spans to the ingesters.
func (s *modelStorage) arrive() {
	s.arrivals = slices.DeleteFunc(s.arrivals, func(a modelArrival) bool {
		if a.at.After(s.now) {
			return false
		}
		first := s.IntN(3)
		n := 1
		if s.one(2, copies) {
			n = 2 + s.IntN(2)
		}
		for i := range n {
			s.ingesters[(first+i)%3] = append(s.ingesters[(first+i)%3], modelArrival{s.now, a.span})
		}
		return true
	})
}

// flush writes the block of an ingester. Tempo replaces times that are far from the time of arrival.
func (s *modelStorage) flush(ingester int) {
	arrived := s.ingesters[ingester]
	if len(arrived) == 0 {
		return
	}
	s.ingesters[ingester] = nil
	const slack = 2 * time.Minute
	var ids []int
	var start, end time.Time
	for _, a := range arrived {
		ids = append(ids, a.span)
		at := s.spans[a.span].at
		if at.Before(a.at.Add(-slack)) || at.After(a.at.Add(slack)) {
			at = a.at
		}
		if start.IsZero() || at.Before(start) {
			start = at
		}
		end = later(end, at)
	}
	s.write(0, ids, start, end)
}

func (s *modelStorage) write(level int, spans []int, start, end time.Time) *modelBlock {
	s.writtenBlocks++
	spans = slices.Compact(slices.Sorted(slices.Values(spans)))
	id := fmt.Sprintf("%04x-%d-%d", s.IntN(1<<16), s.writtenBlocks, level)
	b := &modelBlock{id: id, level: level, spans: spans, start: start, end: end, written: s.now}
	for _, id := range spans {
		if s.spans[id].stored.IsZero() {
			s.spans[id].stored = s.now
		}
	}
	s.blocks = append(s.blocks, b)
	return b
}

// live returns the live blocks that a compactor may read.
func (s *modelStorage) live() []*modelBlock {
	var live []*modelBlock
	for _, b := range s.blocks {
		if b.isLive() && !b.isLeftover && !s.now.Before(b.noFooter) && !s.now.Before(b.noRows) {
			live = append(live, b)
		}
	}
	return live
}

// compact writes a block with the spans of others.
func (s *modelStorage) compact() {
	from := slices.DeleteFunc(s.live(), func(b *modelBlock) bool {
		isSource := slices.ContainsFunc(s.marking, func(sources []*modelBlock) bool { return slices.Contains(sources, b) })
		return isSource || s.now.Before(b.noMeta) && s.IntN(2) == 0
	})
	s.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	if s.IntN(2) == 0 {
		slices.SortStableFunc(from, func(a, b *modelBlock) int { return a.level - b.level })
	}
	if len(from) < 2 {
		return
	}
	from = from[:min(len(from), 2+s.IntN(3))]
	level, start, end := 0, from[0].start, from[0].end
	var spans []int
	for _, b := range from {
		level, start, end = max(level, b.level), earlier(start, b.start), later(end, b.end)
		spans = append(spans, b.spans...)
	}
	s.write(level+1, spans, start, end)
	if s.one(5, interruptions) {
		from = from[:s.IntN(len(from))]
	}
	if len(from) > 0 {
		s.marking = append(s.marking, slices.Clone(from))
	}
}

// mark marks a source of a compaction as compacted, mostly several.
func (s *modelStorage) mark() {
	for len(s.marking) > 0 {
		i := s.IntN(len(s.marking))
		if b := s.marking[i][0]; b.isLive() && !b.isRemoved {
			b.compacted = s.now
		}
		if s.marking[i] = s.marking[i][1:]; len(s.marking[i]) == 0 {
			s.marking = slices.Delete(s.marking, i, i+1)
		}
		if s.IntN(3) == 0 {
			return
		}
	}
}

// deleteOld deletes compacted blocks and marks old ones.
func (s *modelStorage) deleteOld() {
	for _, b := range s.blocks {
		isOld := s.retention > 0 && b.end.Before(s.now.Add(-s.retention))
		if isOld && b.isLive() && !b.isLeftover && s.faults[expiry] && !s.quiet && s.IntN(2) == 0 {
			b.compacted = s.now
		}
	}
	s.blocks = slices.DeleteFunc(s.blocks, func(b *modelBlock) bool {
		if b.isLive() || s.now.Sub(b.compacted) < modelCompactedRetention || s.IntN(3) == 0 {
			return false
		}
		s.remove(b)
		return true
	})
}

func (s *modelStorage) remove(b *modelBlock) {
	b.isRemoved = true
	s.removed = append(s.removed, b)
}

// restore adds a block of a backup, or makes a compacted block live.
func (s *modelStorage) restore() {
	switch s.IntN(3) {
	case 0: // blocks of a backup with spans that were never here
		start := s.now.Add(-s.upTo(6 * time.Hour))
		var ids []int
		for range 1 + s.IntN(3) {
			s.traces++
			at := start.Add(s.upTo(time.Hour))
			for range 1 + s.IntN(2) {
				if !s.faults[clientClocks] { // else clients may be ahead
					at = earlier(at, s.now)
				}
				s.spans = append(s.spans, modelSpan{trace: s.traces, at: at})
				ids = append(ids, len(s.spans)-1)
				at = at.Add(s.upTo(s.maxTraceDuration / 2))
			}
		}
		first, last := s.bounds(ids)
		s.write(1+s.IntN(3), ids, first, last)
	case 1: // a deleted block
		if len(s.removed) == 0 {
			return
		}
		old := s.removed[s.IntN(len(s.removed))]
		if slices.ContainsFunc(s.blocks, func(b *modelBlock) bool { return b.id == old.id }) || old.isLeftover {
			return
		}
		again := *old
		again.written, again.compacted, again.isRemoved = s.now, time.Time{}, false
		s.blocks = append(s.blocks, &again)
	case 2: // a compacted block
		for _, b := range s.blocks {
			if !b.isLive() && s.IntN(2) == 0 {
				b.compacted = time.Time{}
				return
			}
		}
	}
}

// erase deletes a block, or writes it anew without a trace.
func (s *modelStorage) erase() {
	live := s.live()
	if len(live) == 0 {
		return
	}
	b := live[s.IntN(len(live))]
	dropped, isRewritten := b.spans, s.IntN(3) > 0
	if isRewritten {
		gone := s.spans[b.spans[0]].trace
		dropped = nil
		var kept []int
		for _, id := range b.spans {
			if s.spans[id].trace == gone {
				dropped = append(dropped, id)
			} else {
				kept = append(kept, id)
			}
		}
		if len(kept) > 0 {
			s.write(b.level, kept, b.start, b.end)
		}
		b.compacted = s.now
	} else {
		s.blocks = slices.DeleteFunc(s.blocks, func(other *modelBlock) bool { return other == b })
		s.remove(b)
	}
	for _, id := range dropped {
		s.spans[id].deleted = s.now
		s.spans[id].erased = s.spans[id].erased || isRewritten || !b.isListed
	}
}

// damage makes a part of a block unreadable, for a while or for ever.
func (s *modelStorage) damage() {
	live := s.live()
	if len(live) == 0 {
		return
	}
	b := live[s.IntN(len(live))]
	until := s.now.Add(s.upTo(time.Hour))
	switch s.IntN(6) {
	case 0:
		until = s.now.AddDate(1, 0, 0)
	case 1:
		until = s.now.Add(s.upTo(8 * time.Hour))
	}
	switch k := s.IntN(3); {
	case k == 0 && s.faults[badData]:
		b.noFooter, b.wasBad = until, true
	case k == 1 && s.faults[badData]:
		b.noRows, b.wasBad = until, true
	case s.faults[badMeta]:
		b.noMeta, b.wasBad = until, true
	}
}

// bounds returns the times of the first and the last of some spans.
func (s *modelStorage) bounds(ids []int) (first, last time.Time) {
	for _, id := range ids {
		if at := s.spans[id].at; first.IsZero() || at.Before(first) {
			first = at
		}
		last = later(last, s.spans[id].at)
	}
	return first, last
}

func (s *modelStorage) metaOf(b *modelBlock) blocks.Meta {
	traces := map[int]bool{}
	for _, id := range b.spans {
		traces[s.spans[id].trace] = true
	}
	return blocks.Meta{
		ID: b.id, CompactionLevel: b.level, Start: b.start, End: b.end, Traces: len(traces), Size: int64(100 * len(b.spans)), Written: b.written,
	}
}

// list returns a listing by a clock that differs from the true time, and the blocks that it contains.
func (s *modelStorage) list(clock time.Duration) (blocks.Listing, []*modelBlock) {
	listing := blocks.Listing{Began: s.now.Add(clock)}
	before := map[*modelBlock]bool{}
	for _, b := range s.blocks {
		if b.isLive() {
			before[b] = true
		}
	}
	if s.one(8, unstable) {
		listing.Unstable = true
		for range 1 + s.IntN(6) {
			s.now = s.now.Add(s.upTo(time.Second))
			s.step()
		}
	}
	var live []*modelBlock
	for _, b := range s.blocks {
		switch {
		case !b.isLive():
			if before[b] { // compacted during the listing
				if s.now.Before(b.noMeta) {
					listing.Problems = append(listing.Problems, trace.Problem{What: "block " + b.id, Err: errors.New("compacted meanwhile")})
				} else {
					listing.CompactedDuring = append(listing.CompactedDuring, s.metaOf(b))
				}
			}
			listing.Compacted = append(listing.Compacted, b.id)
			continue
		case listing.Unstable && !before[b] && s.IntN(2) == 0: // written during the listing
			continue
		case s.now.Before(b.noMeta):
			listing.Unread = append(listing.Unread, b.id)
			listing.Problems = append(listing.Problems, trace.Problem{What: "block " + b.id, Err: errors.New("its meta.json cannot be read")})
		default:
			listing.Live = append(listing.Live, s.metaOf(b))
		}
		live = append(live, b)
	}
	listing.Ended = s.now.Add(clock).Add(s.upTo(2 * time.Second))
	return listing, live
}

// heal ends all faults that are not for ever, and finishes compactions.
func (s *modelStorage) heal() {
	for len(s.marking) > 0 {
		s.mark()
	}
	for _, b := range s.blocks {
		for _, until := range []*time.Time{&b.noMeta, &b.noFooter, &b.noRows} {
			if until.Sub(s.now) < 24*time.Hour {
				*until = time.Time{}
			}
		}
	}
	for i := range s.arrivals {
		s.arrivals[i].at = s.now
	}
	s.arrive()
	for i := range s.ingesters {
		s.flush(i)
	}
	s.quiet = true
}
