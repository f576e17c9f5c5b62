package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// filling reads ranges of trace IDs from blocks into batches, one after another.
//
// It reads the columns of a batch one by one, each from all blocks. First it reads the columns that
// determine the spans and their positions in the traces, then the others, whose values are written
// directly to these positions. Thus it holds only one page at a time, for any number of blocks and
// columns.
type filling struct {
	needs    columnar.Needs
	from, to trace.Time           // bounds of the traces' starts
	filter   *condition           // condition on traces; nil: none
	judged   func(id string) bool // blocks without new data; nil: none
	filler   *columnar.Filler
	batch    *columnar.Batch

	segments []*segment
	spare    []*segment
	in       pageReader
	store    *Store
	spoolDir string
	spool    *spool // data that was read ahead; nil: none
	selected *spool // data of selected rows that was read ahead; nil: none
	whole    *spool // blocks that are read as a whole; nil: none
	heap     rowHeap
	shared   []nextRow
	runs     []columnar.SpanRun             // of one trace
	needed   [columnar.ScopeLink + 1]keySet // needed attributes, by scope
	codes    translator
	generics generics
	// dropped is set if a span has no position, or an entry stands for an empty list.
	dropped bool
}

// read fills a batch with the traces whose IDs are in the range and whose start is in the requested time.
// If a block cannot be read, it returns the block with the error.
func (f *filling) read(ctx context.Context, blocks []*block, ids idRange) (b *columnar.Batch, outside int, failed *block, err error) {
	defer recovered(&err)
	f.spare, f.segments = append(f.spare, f.segments...), f.segments[:0]
	for _, blk := range blocks {
		failed = blk
		f.turn(ctx, blk)
		for g := range blk.rowsIn {
			from, to := blk.rows(g, ids)
			if from == to {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, 0, blk, err
			}
			s := f.segment()
			s.b, s.judged, s.wanted, s.in, s.group, s.from, s.to = blk, false, nil, &f.in, g, from, to
			if err := s.idsOf(ids); err != nil {
				return nil, 0, blk, fmt.Errorf("rows %d to %d: %w", from, to, err)
			}
			if len(s.ids) > 0 {
				f.segments = append(f.segments, s)
			} else {
				f.spare = append(f.spare, s)
			}
		}
	}
	if f.filter != nil || f.judged != nil {
		if failed, err = f.leaveOut(ctx); err != nil {
			return nil, 0, failed, err
		}
		var end func() error
		if end, err = f.aheadOf(ctx, f.segments, func(b *block) map[string]bool { return b.needed(f.needs) }); err != nil {
			return nil, 0, nil, err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	f.filler.Keys.Resize(0)
	f.filler.Keys.Reserve(f.spansAbout())
	for _, s := range f.segments {
		failed = s.b
		f.turn(ctx, s.b)
		if err := ctx.Err(); err != nil {
			return nil, 0, failed, err
		}
		if err := f.keysOf(s); err != nil {
			return nil, 0, failed, fmt.Errorf("rows %d to %d: %w", s.from, s.to, err)
		}
	}
	failed = nil
	outside = f.arrange()
	if f.filler.NumSpans() == 0 {
		return nil, outside, nil, nil
	}
	resources, events, links := 0, 0, 0
	for _, s := range f.segments {
		failed = s.b
		s.firstResource = int32(resources)
		resources += len(s.resource)
		f.turn(ctx, s.b)
		if err := f.childrenOf(s, &events, &links); err != nil {
			return nil, 0, s.b, err
		}
	}
	f.batch = f.filler.Layout(resources, events, links)
	for _, s := range f.segments {
		failed = s.b
		if err := ctx.Err(); err != nil {
			return nil, 0, s.b, err
		}
		f.turn(ctx, s.b)
		if err := f.values(s, resources, events, links); err != nil {
			return nil, 0, s.b, fmt.Errorf("rows %d to %d: %w", s.from, s.to, err)
		}
	}
	f.filler.Finish()
	f.markKnown()
	return f.batch, outside, nil, nil
}

// spansAbout returns the approximate number of spans in the segments, rounded up.
func (f *filling) spansAbout() int {
	n := 0.0
	for _, s := range f.segments {
		n += float64(len(s.ids)) * float64(s.b.spans) / float64(max(s.b.Traces, 1))
	}
	return int(n * 1.1)
}

// turn switches to another block.
func (f *filling) turn(ctx context.Context, b *block) {
	f.in.turn(readerOf(ctx, b, f.whole, f.selected, f.spool))
}

// readerOf returns a reader of the block: the first spool that contains it, or its storage.
func readerOf(ctx context.Context, b *block, spools ...*spool) io.ReaderAt {
	for _, s := range spools {
		if s.has(b) {
			return s.readerAt(ctx, b)
		}
	}
	return b.object.readerAt(ctx)
}

func (f *filling) segment() *segment {
	if n := len(f.spare); n > 0 {
		s := f.spare[n-1]
		f.spare = f.spare[:n-1]
		return s
	}
	return &segment{}
}

// arrange assigns positions to all spans, trace by trace, and omits the traces whose start is not in the
// requested time.
func (f *filling) arrange() (outside int) {
	f.filler.Reset()
	f.dropped = false
	f.findShared()
	// The traces of a segment are adjacent, so that its columns are written from front to back. Traces in
	// several segments are placed with the first one.
	for i, s := range f.segments {
		for row, id := range s.ids {
			if s.wanted != nil && !s.wanted[id] {
				f.dropped = true
				continue
			}
			f.runs = f.runs[:0]
			spans := 0
			add := func(run columnar.SpanRun) {
				f.runs = append(f.runs, run)
				spans += int(run.To - run.From)
			}
			switch group := s.shared[row]; {
			case group == alone:
				add(s.spansOf(int32(row)))
			case f.shared[group].segment != int32(i) || f.shared[group].row != int32(row):
				continue
			default:
				for _, r := range f.shared[group:] {
					if r.id != id {
						break
					}
					add(f.segments[r.segment].spansOf(r.row))
				}
			}
			if spans == 0 {
				continue
			}
			f.filler.AddTrace(id, f.runs...)
			if start := f.filler.LastStart(); start < f.from || start >= f.to {
				f.filler.Drop()
				f.dropped = true
				outside++
			}
		}
	}
	return outside
}

// alone marks a row whose trace has no other row.
const alone = -1

// findShared finds the traces with several rows. In f.shared the rows of each trace are adjacent, and the
// rows' shared is their position.
func (f *filling) findShared() {
	f.shared = f.shared[:0]
	for _, s := range f.segments {
		s.shared = sized(s.shared, len(s.ids))
		for i := range s.shared {
			s.shared[i] = alone
		}
	}
	f.heap.begin(f.segments)
	for len(f.heap) > 0 {
		first := f.heap[0]
		f.heap.next(f.segments)
		if len(f.heap) == 0 || f.heap[0].id != first.id {
			continue
		}
		group := int32(len(f.shared))
		f.shared = append(f.shared, first)
		for len(f.heap) > 0 && f.heap[0].id == first.id {
			f.shared = append(f.shared, f.heap[0])
			f.heap.next(f.segments)
		}
		for _, r := range f.shared[group:] {
			f.segments[r.segment].shared[r.row] = group
		}
	}
}

// values reads all other columns of a segment into the batch.
func (f *filling) values(s *segment, resources, events, links int) error {
	b := f.batch
	n := int(s.spans)
	place := f.filler.Place[s.firstSpan : s.firstSpan+int32(n)]
	for r := range s.resource {
		from, to := s.of(s.resource, r)
		for _, p := range place[from:to] {
			if p >= 0 {
				b.Resources[p] = s.firstResource + int32(r)
			}
		}
	}
	if err := s.required(pathSpan+"StatusCode", n, func(p *page, at int) error {
		for i, v := range p.ints {
			if row := place[at+i]; row >= 0 {
				b.Statuses[row] = trace.Status(v)
			}
		}
		for i, v := range p.ints32 {
			if row := place[at+i]; row >= 0 {
				b.Statuses[row] = trace.Status(v)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := f.texts(s, pathSpan+"Name", &b.Names, place); err != nil {
		return err
	}
	if b.StatusMessages.Codes != nil {
		if err := f.texts(s, pathSpan+"StatusMessage", &b.StatusMessages, place); err != nil {
			return err
		}
	}
	if b.Scopes.Codes != nil {
		if err := f.scopes(s, place); err != nil {
			return err
		}
	}
	resourceRows := make([]int32, len(s.resource))
	for i := range resourceRows {
		resourceRows[i] = s.firstResource + int32(i)
	}
	service := b.Service()
	service.NeedTexts()
	if err := f.texts(s, pathResource+"ServiceName", &service.Text, resourceRows); err != nil { // "" means absent
		return err
	}
	if err := f.attributes(s, owners{columnar.ScopeResource, pathResource, 1, f.bySlot(resourceRows, s.resourceSlots), resources}); err != nil {
		return err
	}
	if err := f.attributes(s, owners{columnar.ScopeSpan, pathSpan, 3, f.bySlot(place, s.spanSlots), len(b.SpanIDs)}); err != nil {
		return err
	}
	if err := f.events(s, place, events); err != nil {
		return err
	}
	return f.links(s, place, links)
}

// bySlot returns the rows of elements by slot.
func (f *filling) bySlot(rows []int32, slots []int32) []int32 {
	if slots == nil {
		return rows
	}
	f.dropped = true
	out := make([]int32, len(slots))
	for i, element := range slots {
		out[i] = -1
		if element >= 0 {
			out[i] = rows[element]
		}
	}
	return out
}

// sized returns a slice of n elements of any value, in the memory of s if it has room.
func sized[S ~[]E, E any](s S, n int) S {
	if cap(s) >= n {
		return s[:n]
	}
	return make(S, n, n+n/8)
}

// cut returns the part of the sorted IDs that is in the range.
func (r idRange) cut(ids []trace.ID) (first, end int) {
	first, _ = slices.BinarySearchFunc(ids, r.from, trace.ID.Compare)
	end = len(ids)
	if !r.last {
		end, _ = slices.BinarySearchFunc(ids, r.to, trace.ID.Compare)
	}
	return first, max(first, end)
}
