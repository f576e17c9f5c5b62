package blocks

import (
	"fmt"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// children are the events or the links of a segment's spans.
type children struct {
	from, to []int32 // by span, relative to the segment's first span
	slots    []int32 // by entry of their columns: the child's number; -1: an empty list
	parents  []int32 // by child: its span
	n, first int32   // their number, and the number of the first child in the batch
}

// childrenOf counts the needed events and links of the spans, and numbers them.
func (f *filling) childrenOf(s *segment, events, links *int) error {
	s.events.n, s.links.n = 0, 0
	if f.needs.ReadsEvents() {
		if err := s.nested(pathEvent+"Name", &s.events); err != nil {
			return err
		}
		s.events.first = int32(*events)
		*events += int(s.events.n)
	}
	if f.needs.ReadsLinks() {
		if err := s.nested(pathLink+"TraceID", &s.links); err != nil {
			return err
		}
		s.links.first = int32(*links)
		*links += int(s.links.n)
	}
	return nil
}

// nested assigns the elements of a column to spans, by the column's levels.
func (s *segment) nested(path string, c *children) error {
	spans := s.spans
	c.from, c.to = sized(c.from, int(spans)), sized(c.to, int(spans))
	clear(c.from)
	clear(c.to)
	c.slots, c.parents, c.n = c.slots[:0], c.parents[:0], 0
	slot, slots := int32(-1), spans
	if s.spanSlots != nil {
		slots = int32(len(s.spanSlots))
	}
	span := int32(-1)
	if err := s.column(path, func(l leaf, p *page) error {
		if l.depth != 4 {
			return fmt.Errorf("it is nested in %d lists, not 4", l.depth)
		}
		for i, rep := range p.rep {
			if rep <= 3 {
				if slot++; slot >= slots {
					return fmt.Errorf("it has more than %d elements, unlike the others", slots)
				}
				if span = slot; s.spanSlots != nil {
					span = s.spanSlots[slot]
				}
				if span >= 0 {
					c.from[span], c.to[span] = c.n, c.n
				}
			}
			if p.level(i) < l.present[4] || span < 0 {
				c.slots = append(c.slots, -1)
				continue
			}
			c.slots = append(c.slots, c.n)
			c.parents = append(c.parents, span)
			c.n++
			c.to[span] = c.n
		}
		return nil
	}); err != nil {
		return err
	}
	if slot+1 != slots {
		return fmt.Errorf("column %s has %d elements, others have %d", path, slot+1, slots)
	}
	return nil
}

// rows returns the rows of children in the batch, by number.
func (c *children) rows() []int32 {
	rows := make([]int32, c.n)
	for i := range rows {
		rows[i] = c.first + int32(i)
	}
	return rows
}

// place stores the range of children of each span in the batch.
func (c *children) place(place, from, to []int32) {
	for span, row := range place {
		if row >= 0 && c.n > 0 {
			from[row], to[row] = c.first+c.from[span], c.first+c.to[span]
		}
	}
}

func (f *filling) events(s *segment, place []int32, n int) error {
	c := &s.events
	if c.n == 0 {
		return nil
	}
	to := &f.batch.Events
	c.place(place, to.From, to.To)
	if err := f.texts(s, pathEvent+"Name", &to.Names, c.rows()); err != nil {
		return err
	}
	if err := s.required(pathEvent+"TimeSinceStartNano", int(c.n), func(p *page, at int) error {
		for i, since := range p.ints {
			to.Times[c.first+int32(at+i)] = f.filler.Keys.Starts[s.firstSpan+c.parents[at+i]] + trace.Time(since)
		}
		return nil
	}); err != nil {
		return err
	}
	return f.attributes(s, owners{columnar.ScopeEvent, pathEvent, 4, f.bySlot(c.rows(), c.slots), n})
}

func (f *filling) links(s *segment, place []int32, n int) error {
	c := &s.links
	if c.n == 0 {
		return nil
	}
	to := &f.batch.Links
	c.place(place, to.From, to.To)
	if err := s.required(pathLink+"TraceID", int(c.n), func(p *page, at int) error {
		return eachText(p, func(i int, text []byte) { pad(to.TraceIDs[c.first+int32(at+i)][:], text) })
	}); err != nil {
		return err
	}
	if err := s.required(pathLink+"SpanID", int(c.n), func(p *page, at int) error {
		return eachText(p, func(i int, text []byte) { to.SpanIDs[c.first+int32(at+i)] = spanID(text) })
	}); err != nil {
		return err
	}
	return f.attributes(s, owners{columnar.ScopeLink, pathLink, 4, f.bySlot(c.rows(), c.slots), n})
}
