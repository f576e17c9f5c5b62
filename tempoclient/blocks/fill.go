package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"

	"github.com/betracehq/betrace/analyzer/trace"
)

// filling reads ranges of trace IDs from blocks into batches, one after another.
//
// It reads a batch's columns one by one, each through all blocks: first those that
// say which spans there are and where they stand in their traces, then the others,
// whose values go straight to their places. So it holds one page at a time, however
// many blocks and columns there are.
type filling struct {
	ctx      context.Context
	needs    trace.Needs
	from, to trace.Time           // when traces start
	filter   *condition           // what traces must meet; nil: nothing
	judged   func(id string) bool // blocks that hold nothing new; nil: all do
	filler   *trace.Filler
	batch    *trace.Batch

	segments []*segment
	spare    []*segment
	in       runReader
	taken    *block // whose file is open
	done     func() // closes it
	store    *Store
	spoolDir string
	spool    *spool // what was read ahead; nil: nothing
	heap     rowHeap
	shared   []nextRow
	keys     []trace.SpanKey
	needed   [trace.ScopeLink + 1]keySet // which attributes are needed, by scope
	codes    translator
	generics generics
	// dropped is set if a span has no place, or an entry is none.
	dropped bool
}

// segment is what is known of adjacent rows of a row group: which traces, and which
// spans with what keys.
type segment struct {
	b        *block
	judged   bool              // the block holds nothing new
	wanted   map[trace.ID]bool // nil: all its traces are
	in       *runReader
	group    int
	from, to int64

	ids    []trace.ID
	shared []int32 // by row: alone, or where in filling.shared its trace's rows are
	// first is by row the first span, and the end.
	first []int32
	// By span.
	spanIDs, parentIDs []trace.SpanID
	starts             []int64
	durations          []int64
	kinds              []int32
	resource           []int32 // number of its resource in the segment
	scope              []int32 // of its scope
	// slots say which span, or resource, or scope, an entry of their columns is, -1 for
	// one that stands for an empty list; nil where entry i is i.
	spanSlots, resourceSlots, scopeSlots []int32
	resources, scopes                    int32
	// Numbers of the segment's first span, and resource, in the batch.
	firstSpan, firstResource int32
	events, links            children
}

func (s *segment) spans() int { return len(s.spanIDs) }

func (s *segment) leaf(path string) (leaf, error) {
	l, ok := s.b.cols[path]
	if !ok {
		return leaf{}, fmt.Errorf("the file has no column %s: it is no %s that is read here", path, s.b.Version)
	}
	return l, nil
}

// column reads a column of the segment.
func (s *segment) column(path string, do func(leaf, *page) error) error {
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	if err := l.eachPage(s.b.file, s.group, s.in, s.from, s.to, func(p *page) error { return do(l, p) }); err != nil {
		return fmt.Errorf("column %s: %w", path, err)
	}
	return nil
}

// required reads a column that has a value for each of n elements; at is the number
// of a page's first.
func (s *segment) required(path string, n int, do func(p *page, at int) error) error {
	at := 0
	err := s.column(path, func(l leaf, p *page) error {
		m := p.values(l.defined)
		if at+m > n {
			return fmt.Errorf("it has over %d values, unlike the others", n)
		}
		err := do(p, at)
		at += m
		return err
	})
	if err == nil && at != n {
		err = fmt.Errorf("column %s has %d values, others have %d", path, at, n)
	}
	return err
}

// idsOf reads the trace IDs of a segment, and leaves out its rows outside the range.
func (s *segment) idsOf(ids idRange) error {
	s.ids = s.ids[:0]
	if err := s.required("TraceID", int(s.to-s.from), func(p *page, _ int) error {
		return eachText(p, func(_ int, text []byte) {
			var id trace.ID
			pad(id[:], text)
			s.ids = append(s.ids, id)
		})
	}); err != nil {
		return err
	}
	first, end := ids.cut(s.ids)
	s.ids = s.ids[first:end]
	s.to = s.from + int64(end)
	s.from += int64(first)
	return nil
}

// keysOf reads what is known of the spans before they have a place.
func (f *filling) keysOf(s *segment) error {
	if err := f.structure(s); err != nil {
		return err
	}
	n := s.spans()
	s.parentIDs, s.starts, s.durations, s.kinds = sized(s.parentIDs, n), sized(s.starts, n), sized(s.durations, n), sized(s.kinds, n)
	if err := s.required(pathSpan+"ParentSpanID", n, func(p *page, at int) error {
		return eachText(p, func(i int, text []byte) { s.parentIDs[at+i] = spanID(text) })
	}); err != nil {
		return err
	}
	for _, c := range []struct {
		path string
		to   []int64
	}{{"StartTimeUnixNano", s.starts}, {"DurationNano", s.durations}} {
		if err := s.required(pathSpan+c.path, n, func(p *page, at int) error {
			copy(c.to[at:], p.ints)
			return nil
		}); err != nil {
			return err
		}
	}
	return s.required(pathSpan+"Kind", n, func(p *page, at int) error {
		for i, v := range p.ints {
			s.kinds[at+i] = int32(v)
		}
		for i, v := range p.ints32 {
			s.kinds[at+i] = v
		}
		return nil
	})
}

// structure reads the spans' IDs, and from their levels how they are nested: rows,
// resources, scopes, spans.
func (f *filling) structure(s *segment) error {
	s.first, s.spanIDs, s.resource, s.scope = s.first[:0], s.spanIDs[:0], s.resource[:0], s.scope[:0]
	s.spanSlots, s.resourceSlots, s.scopeSlots = nil, nil, nil
	s.resources, s.scopes = 0, 0
	var spanSlots, resourceSlots, scopeSlots []int32
	gaps := false
	err := s.column(pathSpan+"SpanID", func(l leaf, p *page) error {
		if l.depth != 3 {
			return fmt.Errorf("it is nested in %d lists, not 3: it is no %s that is read here", l.depth, s.b.Version)
		}
		if err := eachText(p, func(_ int, text []byte) { s.spanIDs = append(s.spanIDs, spanID(text)) }); err != nil {
			return err
		}
		next := int32(len(s.resource))
		resources, scopes := s.resources, s.scopes
		full := !gaps && len(p.def) == p.values(l.defined)
		if !full && !gaps { // until here nothing was empty
			gaps = true
			spanSlots, resourceSlots, scopeSlots = iota32(next), iota32(resources), iota32(scopes)
		}
		if full {
			for i := 0; i < len(p.rep); {
				if p.rep[i] == 0 {
					s.first = append(s.first, next)
				}
				if p.rep[i] <= 1 {
					resources++
				}
				scopes++
				begin := i
				for i++; i < len(p.rep) && p.rep[i] == 3; i++ {
				}
				n := i - begin
				next += int32(n)
				s.resource, s.scope = repeat(s.resource, resources-1, n), repeat(s.scope, scopes-1, n)
			}
			s.resources, s.scopes = resources, scopes
			return nil
		}
		for i, rep := range p.rep {
			if rep <= 2 {
				if rep == 0 {
					s.first = append(s.first, next)
				}
				def := p.def[i]
				if rep <= 1 {
					resourceSlots = slot(resourceSlots, &resources, def >= l.present[1])
				}
				scopeSlots = slot(scopeSlots, &scopes, def >= l.present[2])
			}
			isSpan := p.def[i] >= l.present[3]
			spanSlots = slot(spanSlots, &next, isSpan)
			if !isSpan {
				continue
			}
			s.resource = append(s.resource, resources-1)
			s.scope = append(s.scope, scopes-1)
		}
		s.resources, s.scopes = resources, scopes
		return nil
	})
	if err != nil {
		return err
	}
	s.first = append(s.first, int32(len(s.resource)))
	if gaps {
		s.spanSlots, s.resourceSlots, s.scopeSlots = spanSlots, resourceSlots, scopeSlots
	}
	if len(s.resource) != len(s.spanIDs) || len(s.first) != len(s.ids)+1 {
		return fmt.Errorf("column %sSpanID has %d IDs for %d spans, and %d rows of %d", pathSpan, len(s.spanIDs), len(s.resource), len(s.first)-1, len(s.ids))
	}
	return nil
}

// repeat appends v n times.
func repeat(to []int32, v int32, n int) []int32 {
	begin := len(to)
	to = slices.Grow(to, n)[:begin+n]
	for i := range to[begin:] {
		to[begin+i] = v
	}
	return to
}

func slot(slots []int32, n *int32, isThere bool) []int32 {
	if !isThere {
		return append(slots, -1)
	}
	*n++
	return append(slots, *n-1)
}

func iota32(n int32) []int32 {
	s := make([]int32, n)
	for i := range s {
		s[i] = int32(i)
	}
	return s
}

// eachText gives a page's texts, by their number among its values.
func eachText(p *page, do func(i int, text []byte)) error {
	if p.dict == nil {
		for i := range max(len(p.ends)-1, 0) {
			do(i, p.bytes[p.ends[i]:p.ends[i+1]])
		}
		return nil
	}
	words := p.dict.Page()
	data := words.Data()
	b, ends := data.ByteArray()
	for i, code := range p.codes {
		do(i, b[ends[code]:ends[code+1]])
	}
	return nil
}

func spanID(text []byte) (id trace.SpanID) {
	if len(text) == len(id) {
		return trace.SpanID(text)
	}
	pad(id[:], text)
	return id
}

// pad copies an ID that may lack leading zeros.
func pad(to []byte, id []byte) {
	if n := len(to) - len(id); n >= 0 {
		copy(to[n:], id)
	} else {
		copy(to, id[-n:])
	}
}

// read makes a batch of the traces with IDs in the range that start in the time asked
// for. Of what cannot be read it says which block it is in.
func (f *filling) read(blocks []*block, ids idRange) (b *trace.Batch, outside int, failed *block, err error) {
	defer recovered(&err)
	defer f.letGo()
	f.spare, f.segments = append(f.spare, f.segments...), f.segments[:0]
	for _, blk := range blocks {
		failed = blk
		if err := f.take(blk); err != nil {
			return nil, 0, blk, err
		}
		for g := range blk.rowsIn {
			from, to := blk.rows(g, ids)
			if from == to {
				continue
			}
			if err := f.ctx.Err(); err != nil {
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
		if failed, err = f.leaveOut(); err != nil {
			return nil, 0, failed, err
		}
		var end func() error
		if end, err = f.aheadOf(f.segments); err != nil {
			return nil, 0, nil, err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	for _, s := range f.segments {
		failed = s.b
		if err := f.take(s.b); err != nil {
			return nil, 0, failed, err
		}
		if err := f.ctx.Err(); err != nil {
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
		resources += int(s.resources)
		if err := f.take(s.b); err != nil {
			return nil, 0, failed, err
		}
		if err := f.childrenOf(s, &events, &links); err != nil {
			return nil, 0, s.b, err
		}
	}
	f.batch = f.filler.Layout(resources, events, links)
	for _, s := range f.segments {
		failed = s.b
		if err := f.ctx.Err(); err != nil {
			return nil, 0, s.b, err
		}
		if err := f.take(s.b); err != nil {
			return nil, 0, failed, err
		}
		if err := f.values(s, resources, events, links); err != nil {
			return nil, 0, s.b, fmt.Errorf("rows %d to %d: %w", s.from, s.to, err)
		}
	}
	f.filler.Finish()
	f.markKnown()
	return f.batch, outside, nil, nil
}

// take turns to a block, whose file is open until it turns to another.
func (f *filling) take(b *block) (err error) {
	if f.taken == b {
		return nil
	}
	f.letGo()
	if f.done, err = b.use(); err == nil {
		f.taken, f.in.in = b, f.readerOf(b)
	}
	return err
}

func (f *filling) letGo() {
	if f.taken != nil {
		f.done()
	}
	f.taken = nil
}

// readerOf returns what a block is read from: what was read ahead, if anything was.
func (f *filling) readerOf(b *block) io.ReaderAt {
	if f.spool == nil {
		return b.in
	}
	return spoolReader{f.ctx, f.spool, b}
}

func (f *filling) segment() *segment {
	if n := len(f.spare); n > 0 {
		s := f.spare[n-1]
		f.spare = f.spare[:n-1]
		return s
	}
	return &segment{}
}

// arrange gives all spans their places, trace by trace, and leaves out the traces that
// start at another time than asked for.
func (f *filling) arrange() (outside int) {
	spans := int32(0)
	for _, s := range f.segments {
		s.firstSpan = spans
		spans += int32(s.spans())
	}
	f.filler.Reset(int(spans))
	f.dropped = false
	f.findShared()
	// A segment's traces stand together, so that its columns are written from front to
	// back; those that are in several segments stand with the first.
	for i, s := range f.segments {
		for row, id := range s.ids {
			if s.wanted != nil && !s.wanted[id] {
				f.dropped = true
				continue
			}
			f.keys = f.keys[:0]
			switch group := s.shared[row]; {
			case group == alone:
				f.keys = s.appendKeys(f.keys, int32(row))
			case f.shared[group].segment != int32(i) || f.shared[group].row != int32(row):
				continue
			default:
				for _, r := range f.shared[group:] {
					if r.id != id {
						break
					}
					f.keys = f.segments[r.segment].appendKeys(f.keys, r.row)
				}
			}
			if len(f.keys) == 0 {
				continue
			}
			f.filler.AddTrace(id, f.keys)
			if start := f.filler.LastStart(); start < f.from || start >= f.to {
				f.filler.Drop(f.keys)
				f.dropped = true
				outside++
			}
		}
	}
	return outside
}

// alone is the group of a row whose trace has no other.
const alone = -1

// findShared finds the traces that have several rows: in f.shared they stand next to
// each other, and the rows' shared says where.
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

// appendKeys appends the keys of a row's spans.
func (s *segment) appendKeys(keys []trace.SpanKey, row int32) []trace.SpanKey {
	from, to := s.first[row], s.first[row+1]
	begin := len(keys)
	keys = slices.Grow(keys, int(to-from))[:begin+int(to-from)]
	added, starts, durations := keys[begin:], s.starts[from:to], s.durations[from:to]
	ids, parents, kinds := s.spanIDs[from:to], s.parentIDs[from:to], s.kinds[from:to]
	for j := range added {
		start := trace.Time(starts[j])
		added[j] = trace.SpanKey{ID: ids[j], ParentID: parents[j], Start: start, End: start + trace.Time(durations[j]), Kind: trace.Kind(kinds[j]), At: s.firstSpan + from + int32(j)}
	}
	return keys
}

// values reads all other columns of a segment into the batch.
func (f *filling) values(s *segment, resources, events, links int) error {
	b := f.batch
	n := s.spans()
	place := f.filler.Place[s.firstSpan : s.firstSpan+int32(n)]
	for i, p := range place {
		if p >= 0 {
			b.Resources[p] = s.firstResource + s.resource[i]
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
	resourceRows := make([]int32, s.resources)
	for i := range resourceRows {
		resourceRows[i] = s.firstResource + int32(i)
	}
	service := b.Service()
	service.NeedTexts()
	if err := f.texts(s, pathResource+"ServiceName", &service.Text, resourceRows); err != nil { // "" stands for absent
		return err
	}
	if err := f.attributes(s, owners{trace.ScopeResource, pathResource, 1, f.bySlot(resourceRows, s.resourceSlots), resources}); err != nil {
		return err
	}
	if err := f.attributes(s, owners{trace.ScopeSpan, pathSpan, 3, f.bySlot(place, s.spanSlots), len(b.SpanIDs)}); err != nil {
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

// texts reads a required column of texts into the rows of its elements. The empty
// text is none.
func (f *filling) texts(s *segment, path string, to *trace.TextColumn, rows []int32) error {
	f.codes.reset()
	return s.required(path, len(rows), func(p *page, at int) error {
		if p.dict == nil {
			for i := range len(p.ends) - 1 {
				if row, text := rows[at+i], p.text(i); row >= 0 && len(text) > 0 {
					to.Codes[row] = to.InternLikely(text)
				}
			}
			return nil
		}
		known := f.codes.of(p.dict)
		rows := rows[at : at+len(p.codes)]
		for i, word := range p.codes {
			row := rows[i]
			if row < 0 {
				continue
			}
			code := known[word]
			if code == 0 {
				code = f.codes.add(word, to, false)
			}
			to.Codes[row] = code - 1
		}
		return nil
	})
}

// translator turns the words of one dictionary into codes of one column.
type translator struct {
	dict  parquet.Dictionary
	codes []uint32 // by word: 1 + its code, 0 if it was not met yet
	words []byte
	ends  []uint32
}

func (t *translator) reset() { t.dict = nil }

// manyWords is from how many words on those of a dictionary are not looked for among
// the words of other dictionaries: most are rare then, and would not be found.
const manyWords = 4096

func (t *translator) of(dict parquet.Dictionary) []uint32 {
	if t.dict != dict {
		t.dict = dict
		words := dict.Page()
		data := words.Data()
		t.words, t.ends = data.ByteArray()
		t.codes = sized(t.codes, max(len(t.ends)-1, 0))
		clear(t.codes)
	}
	return t.codes
}

// add adds a word to the column; the empty one gets code 0 if it stands for none.
func (t *translator) add(word int32, to *trace.TextColumn, emptyToo bool) uint32 {
	text := t.words[t.ends[word]:t.ends[word+1]]
	code := uint32(0)
	switch {
	case len(text) == 0 && !emptyToo:
	case len(t.codes) > manyWords:
		code = to.Add(text)
	default:
		code = to.Intern(text)
	}
	t.codes[word] = code + 1
	return code + 1
}

// scopes reads the names and versions of instrumentation scopes.
func (f *filling) scopes(s *segment, place []int32) error {
	for _, c := range []struct {
		path string
		to   *trace.TextColumn
	}{{pathScope + "Name", &f.batch.Scopes}, {pathScope + "Version", &f.batch.ScopeVersions}} {
		codes := make([]uint32, s.scopes)
		one := trace.TextColumn{Codes: codes}
		rows := make([]int32, s.scopes)
		for i := range rows {
			rows[i] = int32(i)
		}
		if err := f.texts(s, c.path, &one, rows); err != nil {
			return err
		}
		known := make([]uint32, one.NumTexts()+1)
		for i, row := range place {
			code := codes[s.scope[i]]
			if row < 0 || code == 0 {
				continue
			}
			if known[code] == 0 {
				known[code] = c.to.Intern(one.Bytes(code))
			}
			c.to.Codes[row] = known[code]
		}
	}
	return nil
}

// sized returns a slice of n elements of any value, in the memory of s if it has room.
func sized[S ~[]E, E any](s S, n int) S {
	if cap(s) >= n {
		return s[:n]
	}
	return make(S, n, n+n/8)
}

// cut returns which of sorted IDs lie in the range.
func (r idRange) cut(ids []trace.ID) (first, end int) {
	first, _ = slices.BinarySearchFunc(ids, r.from, trace.ID.Compare)
	end = len(ids)
	if !r.last {
		end, _ = slices.BinarySearchFunc(ids, r.to, trace.ID.Compare)
	}
	return first, max(first, end)
}
