package blocks

import (
	"fmt"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// segment is a range of adjacent rows of a row group, with their traces and the keys of their spans.
type segment struct {
	b        *block
	judged   bool              // the block contains no new spans
	wanted   map[trace.ID]bool // nil: all its traces
	in       *pageReader
	group    int
	from, to int64

	ids    []trace.ID
	shared []int32 // by row: alone, or the position of its trace's rows in filling.shared
	nesting
	// Numbers of the segment's first span and first resource in the batch.
	firstSpan, firstResource int32
	events, links            children
}

func (s *segment) leaf(path string) (leaf, error) {
	l, ok := s.b.cols[path]
	if !ok {
		return leaf{}, fmt.Errorf("the file has no column %s: its %s schema is not supported", path, s.b.Version)
	}
	return l, nil
}

// chunk returns a column's part of the segment's row group.
func (s *segment) chunk(l leaf) *chunk { return &s.b.chunks[s.group][l.index] }

// column reads a column of the segment.
func (s *segment) column(path string, do func(leaf, *page) error) error {
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	return s.pages(path, l, nil, func(p *page) error {
		if err := p.levels(); err != nil {
			return err
		}
		if err := p.decode(); err != nil {
			return err
		}
		return do(l, p)
	})
}

// pages reads the pages of a column of the segment without decoding them. entries, if known, saves work.
func (s *segment) pages(path string, l leaf, entries []int32, do func(*page) error) error {
	if err := l.eachPage(s.b, s.group, s.in, rowRange{s.from, s.to, entries}, do); err != nil {
		return fmt.Errorf("column %s: %w", path, err)
	}
	return nil
}

// entriesOf returns the first entry of each row in a column, if known.
func (s *segment) entriesOf(l leaf) []int32 {
	if l.depth == 3 && !s.gaps {
		return s.first // as for the spans
	}
	return nil
}

// required reads a column with a value for each of n elements. at is the number of the first value of a
// page.
func (s *segment) required(path string, n int, do func(p *page, at int) error) error {
	at := 0
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	err = s.pages(path, l, s.entriesOf(l), func(p *page) error {
		if !p.full() {
			if err := p.levels(); err != nil {
				return err
			}
		}
		if err := p.decode(); err != nil {
			return err
		}
		m := p.values()
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

// idsOf reads the trace IDs of a segment, unless they are kept, and removes its rows outside the range.
func (s *segment) idsOf(ids idRange) error {
	s.ids = s.ids[:0]
	if s.b.ids.all() {
		s.ids = append(s.ids, s.b.ids.groups[s.group][s.from:s.to]...)
	} else if err := s.required("TraceID", int(s.to-s.from), func(p *page, _ int) error {
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

// keysOf reads the fields of spans that determine their positions.
func (f *filling) keysOf(s *segment) error {
	k := &f.filler.Keys
	s.firstSpan = int32(k.Len())
	if err := s.structure(k); err != nil {
		return err
	}
	n := int(s.spans)
	parents, starts, ends, kinds := k.ParentIDs[s.firstSpan:], k.Starts[s.firstSpan:], k.Ends[s.firstSpan:], k.Kinds[s.firstSpan:]
	if err := s.required(pathSpan+"ParentSpanID", n, func(p *page, at int) error {
		return p.spanIDs(parents[at:])
	}); err != nil {
		return err
	}
	if err := s.required(pathSpan+"StartTimeUnixNano", n, func(p *page, at int) error {
		for i, v := range p.ints {
			starts[at+i] = trace.Time(v)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := s.required(pathSpan+"DurationNano", n, func(p *page, at int) error {
		starts, ends := starts[at:][:len(p.ints)], ends[at:][:len(p.ints)]
		for i, v := range p.ints {
			ends[i] = starts[i] + trace.Time(v)
		}
		return nil
	}); err != nil {
		return err
	}
	return s.required(pathSpan+"Kind", n, func(p *page, at int) error {
		for i, v := range p.ints {
			kinds[at+i] = trace.Kind(v)
		}
		for i, v := range p.ints32 {
			kinds[at+i] = trace.Kind(v)
		}
		return nil
	})
}

// structure reads the spans' IDs, and derives their nesting from the levels.
func (s *segment) structure(k *columnar.SpanKeys) error {
	s.nesting.reset()
	path := pathSpan + "SpanID"
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	if l.depth != 3 {
		return fmt.Errorf("column %s is nested in %d lists, not 3: its %s schema is not supported", path, l.depth, s.b.Version)
	}
	if err := s.pages(path, l, nil, func(p *page) error {
		if err := p.levels(); err != nil {
			return err
		}
		s.add(l, p.rep, p.def)
		at := k.Len()
		k.Resize(at + p.values())
		if ids, err := p.fixedTexts(len(trace.SpanID{})); err != nil || ids != nil {
			for i := range k.IDs[at:] {
				k.IDs[at+i] = trace.SpanID(ids[8*i:])
			}
			return err
		}
		if err := p.decode(); err != nil {
			return err
		}
		return p.spanIDs(k.IDs[at:])
	}); err != nil {
		return err
	}
	s.nesting.end()
	if n := k.Len() - int(s.firstSpan); int(s.spans) != n || len(s.first) != len(s.ids)+1 {
		return fmt.Errorf("column %sSpanID has %d IDs for %d spans, and %d rows of %d", pathSpan, n, s.spans, len(s.first)-1, len(s.ids))
	}
	return nil
}

// spanIDs converts a page's strings to span IDs.
func (p *page) spanIDs(to []trace.SpanID) error {
	if p.dict != nil || p.ends == nil {
		return eachText(p, func(i int, text []byte) { to[i] = spanID(text) })
	}
	to = to[:len(p.ends)-1]
	from := p.ends[0]
	for i, end := range p.ends[1:] {
		if end-from == 8 {
			to[i] = trace.SpanID(p.bytes[from:end])
		} else {
			to[i] = spanID(p.bytes[from:end])
		}
		from = end
	}
	return nil
}

// eachText calls do for each string of a page, with its number among the values.
func eachText(p *page, do func(i int, text []byte)) error {
	if p.dict == nil {
		for i := range max(len(p.ends)-1, 0) {
			do(i, p.bytes[p.ends[i]:p.ends[i+1]])
		}
		return nil
	}
	for i, code := range p.codes {
		do(i, p.dict.word(code))
	}
	return nil
}

func spanID(text []byte) (id trace.SpanID) {
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

// spansOf returns the spans of a row.
func (s *segment) spansOf(row int32) columnar.SpanRun {
	return columnar.SpanRun{From: s.firstSpan + s.first[row], To: s.firstSpan + s.first[row+1]}
}
