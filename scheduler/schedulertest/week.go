// Package schedulertest makes the blocks of a week as Tempo does, step by step, for tests and measurements of sweeps.
package schedulertest

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/tracetest"
)

// Tenant is the folder of the blocks.
const Tenant = "single-tenant"

// Options configure a week.
type Options struct {
	// Dir is the folder of the storage. The blocks are in its subfolder [Tenant].
	Dir string
	// Ticks is the number of ticks, Interval the time between two. The traces start in the time that the ticks cover.
	Ticks    int
	Interval time.Duration
	// Traces are the options of the traces. Their Start is the time of the beginning, their Window is not used. They
	// must not have difficulties without a form in a block: see [Difficulties].
	Traces tracetest.Options
	// Replicated reports whether the spans that arrive before a tick are written by three ingesters instead of one. If
	// nil, there is one ingester. One time in ten the last of the three has not rested at the tick.
	Replicated func(tick int) bool
	// LateBy bounds the time for which further batches of a trace are late. Most are late by a few minutes.
	LateBy time.Duration
	// Hasty makes one compaction in ten read blocks that no tick has seen.
	Hasty bool
}

// Difficulties returns shares of the difficulties that a week can contain, with a share of traces that have late spans.
func Difficulties(share, late float64) tracetest.Rates {
	var rates tracetest.Rates
	for _, n := range []tracetest.Nasty{
		tracetest.MissingAttributes, tracetest.NoServiceName, tracetest.MixedTypes, tracetest.Lists, tracetest.EmptyLists, tracetest.EmptyStrings,
		tracetest.Unicode, tracetest.Orphans, tracetest.ExtraRoots, tracetest.Cycles, tracetest.SharedIDs, tracetest.EqualCopies, tracetest.LeadingZeros,
	} {
		rates[n] = share
	}
	rates[tracetest.Late] = late
	return rates
}

// CompactedRetention is the time for which compacted blocks are kept.
const CompactedRetention = time.Hour

// Times before a tick.
const (
	// flushedBefore is the time at which an ingester writes its block: long enough to rest for a hold of 2 minutes.
	flushedBefore = 150 * time.Second
	// notRested is that of a block that rests for too short a time.
	notRested = 30 * time.Second
	// compactedBefore is the time at which a compaction writes its block.
	compactedBefore = 20 * time.Second
)

// Compactions unite sourcesOfLevel blocks of a level, up to topLevel.
const (
	sourcesOfLevel = 4
	topLevel       = 3
)

// part identifies the spans that are stored together: a batch of a generated trace.
type part struct{ trace, batch int }

// arrival is a part that an ingester receives.
type arrival struct {
	at time.Time
	part
}

// block is a block in the storage.
type block struct {
	blocks.Meta
	parts     []part
	writtenAt time.Time
	isSource  bool // of a compaction
}

// event is a change of the storage.
type event struct {
	at time.Time
	do func() error
}

// Week is a storage that changes with time.
type Week struct {
	options   Options
	generator *tracetest.Generator
	rand      *rand.Rand
	tick      int
	arrivals  []arrival // by time
	// received is the index of the first arrival that an ingester has not written yet.
	received [3]int
	live     []*block
	events   []event
	written  []Written
	expected map[trace.ID][]string
	late     int
}

// Written is a block that was written.
type Written struct {
	ID    string
	Level int
	At    time.Time
}

// New returns a week before its beginning. It generates all traces once, to learn their times.
func New(o Options) *Week {
	o.Traces.Window = time.Duration(o.Ticks)*o.Interval - flushedBefore
	w := &Week{
		options: o, generator: tracetest.New(o.Traces), rand: rand.New(rand.NewPCG(o.Traces.Seed, 1)), expected: map[trace.ID][]string{},
	}
	last := o.Traces.Start.Add(o.Traces.Window)
	index := 0
	for g := range w.generator.All() {
		w.expected[g.ID] = g.Violations
		at := time.Time{}
		for batch, td := range g.Batches {
			row := rowTrace{}
			for _, rs := range td.ResourceSpans().All() {
				for _, ss := range rs.ScopeSpans().All() {
					for _, s := range ss.Spans().All() {
						row.EndTimeUnixNano = max(row.EndTimeUnixNano, uint64(s.EndTimestamp()))
					}
				}
			}
			if end := time.Unix(0, int64(row.EndTimeUnixNano)).UTC(); end.After(at) {
				at = end
			}
			if batch > 0 {
				at = at.Add(w.lateness())
				w.late++
			}
			if at.After(last) { // everything is stored at the end
				at = last
			}
			w.arrivals = append(w.arrivals, arrival{at, part{index, batch}})
		}
		index++
	}
	slices.SortStableFunc(w.arrivals, func(a, b arrival) int { return a.at.Compare(b.at) })
	return w
}

// lateness returns the time by which a batch is late: mostly minutes, sometimes hours, rarely all that is permitted.
func (w *Week) lateness() time.Duration {
	most := w.options.LateBy
	switch w.rand.IntN(50) {
	case 0:
	case 1, 2, 3, 4:
		most /= 8
	default:
		most /= 96
	}
	return time.Duration(w.rand.Int64N(int64(most) + 1))
}

// Expected returns the rules of [tracetest.Pack] that each trace violates.
func (w *Week) Expected() map[trace.ID][]string { return maps.Clone(w.expected) }

// Written returns all blocks that were written.
func (w *Week) Written() []Written { return slices.Clone(w.written) }

// Live returns the IDs of the live blocks.
func (w *Week) Live() []string {
	var ids []string
	for _, b := range w.live {
		ids = append(ids, b.ID)
	}
	return ids
}

// LateBatches returns the number of batches that arrive after the first one of their trace.
func (w *Week) LateBatches() int { return w.late }

// Next changes the storage until the next tick, and returns the time of the tick. It returns false after the last one.
func (w *Week) Next() (now time.Time, ok bool, err error) {
	if w.tick == w.options.Ticks {
		return time.Time{}, false, nil
	}
	w.tick++
	now = w.options.Traces.Start.Add(time.Duration(w.tick) * w.options.Interval)
	w.planFlushes(now)
	w.plan(now.Add(-compactedBefore), func() error { return w.compact(now) })
	for len(w.events) > 0 && !w.events[0].at.After(now) {
		next := w.events[0]
		w.events = w.events[1:]
		if err := next.do(); err != nil {
			return time.Time{}, false, fmt.Errorf("week: at %s: %w", next.at.Format(time.RFC3339), err)
		}
	}
	return now, true, nil
}

// plan adds an event.
func (w *Week) plan(at time.Time, do func() error) {
	w.events = append(w.events, event{at, do})
	slices.SortStableFunc(w.events, func(a, b event) int { return a.at.Compare(b.at) })
}

// planFlushes plans the blocks that ingesters write before a tick.
func (w *Week) planFlushes(tick time.Time) {
	isReplicated := w.options.Replicated != nil && w.options.Replicated(w.tick)
	for i := range w.received {
		before := flushedBefore + time.Duration(i)*10*time.Second
		if i == 2 && w.rand.IntN(10) == 0 {
			before = notRested
		}
		at := tick.Add(-before)
		if i > 0 && !isReplicated {
			w.plan(at, func() error { w.receive(i, at); return nil }) // the first one has these spans
			continue
		}
		w.plan(at, func() error {
			factor := 1
			if isReplicated {
				factor = 3
			}
			return w.write(blocks.Meta{ReplicationFactor: factor}, w.receive(i, at), at)
		})
	}
}

// receive returns the parts that an ingester has received since it wrote its last block.
func (w *Week) receive(ingester int, until time.Time) (parts []part) {
	next := &w.received[ingester]
	for ; *next < len(w.arrivals) && !w.arrivals[*next].at.After(until); *next++ {
		parts = append(parts, w.arrivals[*next].part)
	}
	return parts
}

// compact plans a compaction of the oldest blocks of a level that has enough of them. Its sources are marked one after
// another, and one time in three not before the tick.
func (w *Week) compact(tick time.Time) error {
	at := tick.Add(-compactedBefore)
	rested := tick.Add(-w.options.Interval - flushedBefore)
	if w.options.Hasty && w.rand.IntN(10) == 0 {
		rested = at
	}
	for level := range topLevel {
		var sources []*block
		for _, b := range w.live {
			if b.CompactionLevel == level && !b.isSource && !b.writtenAt.After(rested) {
				sources = append(sources, b)
			}
		}
		if len(sources) < sourcesOfLevel {
			continue
		}
		slices.SortStableFunc(sources, func(a, b *block) int { return a.writtenAt.Compare(b.writtenAt) })
		if err := w.unite(sources[:sourcesOfLevel], at); err != nil {
			return err
		}
	}
	return nil
}

// unite writes a block with the spans of others, and plans the ends of these.
func (w *Week) unite(sources []*block, at time.Time) error {
	m := blocks.Meta{Start: sources[0].Start, End: sources[0].End, CompactionLevel: sources[0].CompactionLevel + 1, ReplicationFactor: sources[0].ReplicationFactor}
	var parts []part
	marked := at.Add(time.Second)
	if w.rand.IntN(3) == 0 {
		marked = at.Add(compactedBefore - 5*time.Second)
	}
	for _, b := range sources {
		if b.Start.Before(m.Start) {
			m.Start = b.Start
		}
		if b.End.After(m.End) {
			m.End = b.End
		}
		parts = append(parts, b.parts...)
		b.isSource = true
		end := marked
		w.plan(end, func() error {
			w.live = slices.DeleteFunc(w.live, func(other *block) bool { return other == b })
			return markCompacted(w.dir(b.ID), end)
		})
		w.plan(end.Add(CompactedRetention), func() error { return os.RemoveAll(w.dir(b.ID)) })
		marked = marked.Add(3 * time.Second)
	}
	return w.write(m, parts, at)
}

// dir returns the folder of a block.
func (w *Week) dir(id string) string { return filepath.Join(w.options.Dir, Tenant, id) }

// write writes a block with parts of traces. Parts that are named twice are stored once.
func (w *Week) write(m blocks.Meta, parts []part, at time.Time) error {
	if len(parts) == 0 {
		return nil
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(cmp.Compare(a.trace, b.trace), cmp.Compare(a.batch, b.batch)) })
	parts = slices.Compact(parts)
	var rows []rowTrace
	var g tracetest.Generated
	for i, p := range parts {
		if i == 0 || p.trace != parts[i-1].trace {
			g = w.generator.At(p.trace)
			id := g.ID
			rows = append(rows, rowTrace{TraceID: id[:]})
		}
		if err := rows[len(rows)-1].addBatch(g.Batches[p.batch]); err != nil {
			return fmt.Errorf("trace %s: %w", g.ID, err)
		}
	}
	m.ID = fmt.Sprintf("%08x-0000-4000-8000-%012x", w.rand.Uint32(), len(w.written))
	m.Tenant = Tenant
	contents, m, err := encode(rows, m)
	if err != nil {
		return err
	}
	w.live = append(w.live, &block{Meta: m, parts: parts, writtenAt: at})
	w.written = append(w.written, Written{ID: m.ID, Level: m.CompactionLevel, At: at})
	return contents.write(w.dir(m.ID), at)
}
