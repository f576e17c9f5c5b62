package columnar

import "github.com/betracehq/betrace/trace"

// NewBatch returns a batch of the given traces with the fields and attributes that are needed. It is the
// simple method to build a batch, one value after another, and the reference for the faster ones. IDs must
// not repeat.
func NewBatch(needs Needs, traces ...*trace.Trace) *Batch {
	ids, spans := make([]trace.ID, len(traces)), make([][]trace.Span, len(traces))
	flags := make([]trace.Flags, len(traces))
	for i, t := range traces {
		ids[i], spans[i], flags[i] = t.ID, t.Spans, t.Flags
	}
	b := NewFiller(needs).FillRows(ids, spans)
	for i := range flags {
		b.Flags[i] |= flags[i]
	}
	return b
}

// FillRows builds a batch from the spans of traces, which may be in any order and repeated. Their attributes
// must be in normal form.
func (f *Filler) FillRows(ids []trace.ID, traces [][]trace.Span) *Batch {
	n, events, links := 0, 0, 0
	for _, spans := range traces {
		n += len(spans)
		for i := range spans {
			if f.needs.ReadsEvents() {
				events += len(spans[i].Events)
			}
			if f.needs.ReadsLinks() {
				links += len(spans[i].Links)
			}
		}
	}
	k := &f.Keys
	k.Resize(n)
	resources := sharedResources{rows: map[resourceKey]int32{}}
	resourceOf := make([]int32, n)
	at := int32(0)
	for _, spans := range traces {
		for j := range spans {
			s := &spans[j]
			k.IDs[at], k.ParentIDs[at], k.Starts[at], k.Ends[at], k.Kinds[at] = s.ID, s.ParentID, s.Start, s.End, s.Kind
			resourceOf[at] = resources.row(s.Resource)
			at++
		}
	}
	f.Reset()
	at = 0
	for i, spans := range traces {
		f.AddTrace(ids[i], SpanRun{at, at + int32(len(spans))})
		at += int32(len(spans))
	}
	b := f.Layout(len(resources.of), events, links)
	w := rowWriter{f: f, b: b, events: events, links: links}
	for row, of := range resources.of {
		w.attributes(ScopeResource, of, int32(row), len(resources.of))
	}
	at = 0
	for _, spans := range traces {
		for j := range spans {
			w.span(&spans[j], f.Place[at], resourceOf[at])
			at++
		}
	}
	return f.Finish()
}

// sharedResources assigns a row to each resource. Spans whose attributes are the same memory share a row, as
// they shared a resource in the original message.
type sharedResources struct {
	of   []trace.Attributes // by row
	rows map[resourceKey]int32
}

type resourceKey struct {
	first *trace.Attribute
	n     int
}

func (r *sharedResources) row(of trace.Attributes) int32 {
	key := resourceKey{n: len(of)}
	if len(of) > 0 {
		key.first = &of[0]
	}
	row, ok := r.rows[key]
	if !ok {
		row = int32(len(r.of))
		r.of, r.rows[key] = append(r.of, of), row
	}
	return row
}

// rowWriter writes the fields of spans into their rows.
type rowWriter struct {
	f              *Filler
	b              *Batch
	events, links  int
	event, theLink int32
}

func (w *rowWriter) span(s *trace.Span, row, resource int32) {
	b, needs := w.b, &w.f.needs
	b.Statuses[row] = s.Status
	putText(&b.Names, row, s.Name)
	putText(&b.StatusMessages, row, s.StatusMessage)
	putText(&b.Scopes, row, s.Scope)
	putText(&b.ScopeVersions, row, s.ScopeVersion)
	w.attributes(ScopeSpan, s.Attributes, row, len(b.SpanIDs))
	b.Resources[row] = resource
	if needs.ReadsEvents() && w.events > 0 {
		b.Events.From[row] = w.event
		for i := range s.Events {
			e := &s.Events[i]
			b.Events.Times[w.event] = e.Time
			putText(&b.Events.Names, w.event, e.Name)
			w.attributes(ScopeEvent, e.Attributes, w.event, w.events)
			w.event++
		}
		b.Events.To[row] = w.event
	}
	if needs.ReadsLinks() && w.links > 0 {
		b.Links.From[row] = w.theLink
		for i := range s.Links {
			l := &s.Links[i]
			b.Links.TraceIDs[w.theLink], b.Links.SpanIDs[w.theLink] = l.TraceID, l.SpanID
			w.attributes(ScopeLink, l.Attributes, w.theLink, w.links)
			w.theLink++
		}
		b.Links.To[row] = w.theLink
	}
}

func putText(c *TextColumn, row int32, text string) {
	if c.Codes != nil && text != "" {
		c.Codes[row] = c.Intern([]byte(text))
	}
}

// attributes writes the needed attributes into their columns.
func (w *rowWriter) attributes(scope Scope, attrs trace.Attributes, row int32, rows int) {
	_, all := w.f.needs.Reads(scope)
	for _, a := range attrs {
		if all {
			w.f.Column(scope, a.Key, rows).Put(row, a.Value)
		} else if c := w.f.byKey[AttributeKey{scope, a.Key}]; c != nil {
			c.Put(row, a.Value)
		}
	}
}
