package columnar

import (
	"slices"

	"github.com/betracehq/betrace/trace"
)

// Batch holds whole traces in columns: one array for each field of a span. The traces are stored one after
// another, each in normal form. A batch holds only those attributes that its [Needs] name.
//
// Strings are codes of their columns. A span's resource, events and links are rows of separate tables. The
// memory of a batch is reused: its creator defines how long the batch, and everything in it that was not
// copied, is valid. A batch must not be changed.
type Batch struct {
	// IDs and Flags have one element per trace. Trace t has the spans from First[t] to before First[t+1].
	IDs   []trace.ID
	Flags []trace.Flags
	First []int32
	// Known marks the traces of which a part may have been delivered before, by a source that was asked for
	// new data only. Otherwise it is nil.
	Known Bits

	// The following have one element per span.
	SpanIDs   []trace.SpanID
	ParentIDs []trace.SpanID // zero if the span names no parent
	Parents   []int32        // index of the parent span in the batch, -1 for none
	Starts    []trace.Time
	Ends      []trace.Time
	Kinds     []trace.Kind
	Statuses  []trace.Status
	Names     TextColumn
	// StatusMessages, Scopes and ScopeVersions have no codes unless they are needed.
	StatusMessages        TextColumn
	Scopes, ScopeVersions TextColumn
	Attributes            []*Column // sorted by key

	// Resources holds for each span its row in ResourceAttributes. The first of those columns is service.name,
	// the others are sorted by key.
	Resources          []int32
	ResourceAttributes []*Column

	Events Events
	Links  Links
}

// Events are the events of a batch. Span i has the events from From[i] to before To[i]. If the batch has no
// events, both are nil.
type Events struct {
	From, To   []int32
	Times      []trace.Time
	Names      TextColumn
	Attributes []*Column
}

// Links are the links of a batch. Span i has the links from From[i] to before To[i]. If the batch has no
// links, both are nil.
type Links struct {
	From, To   []int32
	TraceIDs   []trace.ID
	SpanIDs    []trace.SpanID
	Attributes []*Column
}

// NumTraces returns the number of traces in the batch.
func (b *Batch) NumTraces() int { return len(b.IDs) }

// NumSpans returns the number of spans in the batch.
func (b *Batch) NumSpans() int { return len(b.SpanIDs) }

// Attribute returns the column of a span attribute, or nil if there is none.
func (b *Batch) Attribute(key string) *Column { return columnOf(b.Attributes, key) }

// ResourceAttribute returns the column of a resource attribute, or nil if there is none.
func (b *Batch) ResourceAttribute(key string) *Column { return columnOf(b.ResourceAttributes, key) }

// Attribute returns the column of an event attribute, or nil if there is none.
func (e *Events) Attribute(key string) *Column { return columnOf(e.Attributes, key) }

// Attribute returns the column of a link attribute, or nil if there is none.
func (l *Links) Attribute(key string) *Column { return columnOf(l.Attributes, key) }

// Service returns the column of the resources' service.name.
func (b *Batch) Service() *Column { return b.ResourceAttributes[0] }

func columnOf(cols []*Column, key string) *Column {
	for _, c := range cols {
		if c.Key == key {
			return c
		}
	}
	return nil
}

// Trace returns trace t of the batch as a [trace.Trace], with the attributes that the batch holds. It shares
// no memory with the batch.
func (b *Batch) Trace(t int) *trace.Trace {
	first, last := b.First[t], b.First[t+1]
	spans := make([]trace.Span, last-first)
	parents := make([]int32, last-first)
	resources := map[int32]trace.Attributes{}
	for i := range spans {
		row := first + int32(i)
		s := &spans[i]
		*s = trace.Span{
			ID: b.SpanIDs[row], Kind: b.Kinds[row], ParentID: b.ParentIDs[row], Start: b.Starts[row], End: b.Ends[row], Status: b.Statuses[row],
			Name:          b.Names.Text(b.Names.code(row)),
			StatusMessage: b.StatusMessages.Text(b.StatusMessages.code(row)),
			Scope:         b.Scopes.Text(b.Scopes.code(row)), ScopeVersion: b.ScopeVersions.Text(b.ScopeVersions.code(row)),
			Attributes: attributesAt(b.Attributes, row),
		}
		r, ok := resources[b.Resources[row]]
		if !ok {
			r = attributesAt(b.ResourceAttributes, b.Resources[row])
			slices.SortFunc(r, func(x, y trace.Attribute) int { return compareText(x.Key, y.Key) }) // because service.name is first in the batch
			resources[b.Resources[row]] = r
		}
		s.Resource = r
		s.Events, s.Links = b.Events.of(row), b.Links.of(row)
		parents[i] = -1
		if p := b.Parents[row]; p >= 0 {
			parents[i] = p - first
		}
	}
	return trace.OfNormal(b.IDs[t], b.Flags[t], spans, parents)
}

func attributesAt(cols []*Column, row int32) trace.Attributes {
	var as trace.Attributes
	for _, c := range cols {
		if v := c.Value(row); !v.IsAbsent() {
			as = append(as, trace.Attribute{Key: c.Key, Value: v})
		}
	}
	return as
}

func (e *Events) of(row int32) []trace.Event {
	if e.From == nil || e.From[row] == e.To[row] {
		return nil
	}
	list := make([]trace.Event, 0, e.To[row]-e.From[row])
	for i := e.From[row]; i < e.To[row]; i++ {
		list = append(list, trace.Event{Time: e.Times[i], Name: e.Names.Text(e.Names.code(i)), Attributes: attributesAt(e.Attributes, i)})
	}
	return list
}

func (l *Links) of(row int32) []trace.Link {
	if l.From == nil || l.From[row] == l.To[row] {
		return nil
	}
	list := make([]trace.Link, 0, l.To[row]-l.From[row])
	for i := l.From[row]; i < l.To[row]; i++ {
		list = append(list, trace.Link{TraceID: l.TraceIDs[i], SpanID: l.SpanIDs[i], Attributes: attributesAt(l.Attributes, i)})
	}
	return list
}
