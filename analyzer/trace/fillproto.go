package trace

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// FillOTLP makes a batch of the traces in OTLP protobuf messages: TracesData,
// ExportTraceServiceRequest or tempopb.Trace, which are the same on the wire. Traces
// come in the order of their IDs, with all their spans, whatever messages they are in.
//
// It is what [Collector] and [NewBatch] make of the same messages, read straight into
// the columns: once for the keys of all spans, and once more for the rest. What is not
// needed is skipped and not looked into: it may be malformed, and flags do not tell of
// it. A message that has no spans where OTLP has them, but fields that OTLP does not
// have, is an error. A span without valid IDs is an error that names the span, as in [Collector.Add];
// then, and where a message is malformed, there is no batch.
//
// Nothing of the messages is kept. Together they have less than 2 GiB.
func (f *Filler) FillOTLP(messages ...[]byte) (*Batch, error) {
	p := &f.proto
	p.f = f
	p.reset(messages)
	defer p.release()
	size := 0
	for i, m := range messages {
		if size += len(m); size > math.MaxInt32 {
			return nil, fmt.Errorf("the messages have over %d bytes: make more than one batch of them", math.MaxInt32)
		}
		if err := p.readKeys(int32(i)); err != nil {
			return nil, fmt.Errorf("OTLP protobuf: message %d: %w", i+1, err)
		}
	}
	p.arrange()
	p.layout()
	for i := range p.resources {
		r := &p.resources[i]
		if err := p.fillResource(r, int32(i)); err != nil {
			return nil, fmt.Errorf("OTLP protobuf: message %d: %w", r.message+1, err)
		}
	}
	return f.Finish(), nil
}

// protoFill is what FillOTLP knows of the messages. Its memory is used again.
type protoFill struct {
	f        *Filler
	b        *Batch
	messages [][]byte

	// ResourceSpans, ScopeSpans and spans, in the order of the wire.
	resources []protoResource
	scopes    []protoPart
	spans     []protoPart
	runs      []protoRun
	oneTrace  []SpanRun

	events, links   int
	event, link     int32 // rows that are free
	spanKeys        protoColumns
	resourceKeys    protoColumns
	eventKeys       protoColumns
	linkKeys        protoColumns
	repeated        bool // in the resource or span that is read, an attribute has several values
	readsEvents     bool
	readsLinks      bool
	readsStatusText bool
	readsScopes     bool
}

// protoPart is a part of a message. Its children, of a scope the spans, are those from
// first to the first of the next.
type protoPart struct{ from, to, first int32 }

type protoResource struct {
	protoPart
	message int32
}

// protoRun are adjacent spans of one trace.
type protoRun struct {
	id ID
	SpanRun
}

func (p *protoFill) reset(messages [][]byte) {
	needs := &p.f.needs
	p.messages = messages
	p.readsEvents, p.readsLinks = needs.ReadsEvents(), needs.ReadsLinks()
	p.readsStatusText, p.readsScopes = needs.All || needs.StatusMessage, needs.All || needs.Instrumentation
	p.resources, p.scopes, p.spans, p.runs = p.resources[:0], p.scopes[:0], p.spans[:0], p.runs[:0]
	p.f.Keys.Resize(0)
	p.events, p.links, p.event, p.link = 0, 0, 0, 0
}

// release lets go of the messages.
func (p *protoFill) release() {
	p.messages, p.b = nil, nil
}

// The fields of OTLP that are read, by number.
var (
	tracesFields        = []wireField{1: {"TracesData.resource_spans", wireLen}}
	resourceSpansFields = []wireField{1: {"ResourceSpans.resource", wireLen}, 2: {"ResourceSpans.scope_spans", wireLen}}
	scopeSpansFields    = []wireField{1: {"ScopeSpans.scope", wireLen}, 2: {"ScopeSpans.spans", wireLen}}
	resourceFields      = []wireField{1: {"Resource.attributes", wireLen}, 2: {"Resource.dropped_attributes_count", wireVarint}}
	scopeFields         = []wireField{1: {"InstrumentationScope.name", wireLen}, 2: {"InstrumentationScope.version", wireLen}}
	spanFields          = []wireField{
		1: {"Span.trace_id", wireLen}, 2: {"Span.span_id", wireLen}, 4: {"Span.parent_span_id", wireLen}, 5: {"Span.name", wireLen}, 6: {"Span.kind", wireVarint},
		7: {"Span.start_time_unix_nano", wireI64}, 8: {"Span.end_time_unix_nano", wireI64}, 9: {"Span.attributes", wireLen},
		11: {"Span.events", wireLen}, 13: {"Span.links", wireLen}, 15: {"Span.status", wireLen},
	}
	statusFields = []wireField{2: {"Status.message", wireLen}, 3: {"Status.code", wireVarint}}
	eventFields  = []wireField{1: {"Event.time_unix_nano", wireI64}, 2: {"Event.name", wireLen}, 3: {"Event.attributes", wireLen}}
	linkFields   = []wireField{1: {"Link.trace_id", wireLen}, 2: {"Link.span_id", wireLen}, 4: {"Link.attributes", wireLen}}
)

// tagAttributes is the field of a span that comes most often.
const tagAttributes = 9<<3 + wireLen

var errInvalidIDs = errors.New("a span has no valid ID")

// readKeys notes what parts a message has, and the keys of its spans.
func (p *protoFill) readKeys(m int32) error {
	f := message(p.messages[m])
	var c container
	for f.next() {
		if f.tag != 1<<3+wireLen {
			c.see(f.num, 1)
			f.skip(tracesFields)
			continue
		}
		c.content = true
		p.resources = append(p.resources, protoResource{protoPart{int32(f.from), int32(f.i), int32(len(p.scopes))}, m})
		if err := p.readResourceSpans(f.sub()); err != nil {
			if errors.Is(err, errInvalidIDs) {
				err = namesInvalidIDs(p.messages[m], err)
			}
			return err
		}
	}
	return cmp.Or(f.err, c.check("TracesData", "resource_spans"))
}

func (p *protoFill) readResourceSpans(f fields) error {
	var c container
	for f.next() {
		if f.tag != 2<<3+wireLen && f.tag != tagOldScopes {
			c.see(f.num, 3)
			if f.skip(resourceSpansFields); f.num == tagOldScopes>>3 {
				f.stop(fmt.Errorf("before byte %d: ResourceSpans.instrumentation_library_spans has wire type %d, OTLP wants %d", f.i, f.tag&7, wireLen))
			}
			continue
		}
		c.content = true
		p.scopes = append(p.scopes, protoPart{int32(f.from), int32(f.i), int32(len(p.spans))})
		var s container
		scope := f.sub()
		for scope.next() {
			if scope.tag != 2<<3+wireLen {
				s.see(scope.num, 3)
				scope.skip(scopeSpansFields)
				continue
			}
			s.content = true
			p.spans = append(p.spans, protoPart{from: int32(scope.from), to: int32(scope.i)})
			if err := p.readKey(scope.sub()); err != nil {
				return err
			}
		}
		if err := cmp.Or(scope.err, s.check("ScopeSpans", "spans")); err != nil {
			return err
		}
	}
	return cmp.Or(f.err, c.check("ResourceSpans", "scope_spans"))
}

func (p *protoFill) readKey(f fields) error {
	var id ID
	var spanID, parentID SpanID
	var start, end Time
	var kind Kind
	for f.skipAll(tagAttributes) && f.next() {
		switch f.tag {
		case 1<<3 + wireLen:
			f.id(id[:])
		case 2<<3 + wireLen:
			f.id(spanID[:])
		case 4<<3 + wireLen:
			f.id(parentID[:])
		case 6<<3 + wireVarint:
			kind = Kind(f.value)
		case 7<<3 + wireI64:
			start = Time(f.value)
		case 8<<3 + wireI64:
			end = Time(f.value)
		case 11<<3 + wireLen:
			p.events++
		case 13<<3 + wireLen:
			p.links++
		case 5<<3 + wireLen, tagAttributes, 15<<3 + wireLen:
		default:
			f.skip(spanFields)
		}
	}
	if f.err != nil {
		return f.err
	}
	if id.IsZero() || spanID.IsZero() {
		return errInvalidIDs
	}
	k := &p.f.Keys
	at := int32(k.Len())
	k.Resize(k.Len() + 1)
	k.IDs[at], k.ParentIDs[at], k.Starts[at], k.Ends[at], k.Kinds[at] = spanID, parentID, start, end, kind
	if n := len(p.runs); n > 0 && p.runs[n-1].id == id {
		p.runs[n-1].To++
	} else {
		p.runs = append(p.runs, protoRun{id, SpanRun{at, at + 1}})
	}
	return nil
}

// id reads an ID, which is nothing or has the right length.
func (f *fields) id(to []byte) {
	switch c := f.content(); len(c) {
	case 0:
		clear(to)
	case len(to):
		copy(to, c)
	default:
		f.stop(fmt.Errorf("before byte %d: an ID has %d bytes, OTLP wants %d", f.i, len(c), len(to)))
	}
}

// namesInvalidIDs returns the error of [Collector.Add] for a message that has a span
// without valid IDs.
func namesInvalidIDs(m []byte, otherwise error) error {
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(m)
	if err == nil {
		err = checkIDs(td)
	}
	if err == nil {
		err = otherwise
	}
	return err
}

// arrange gives all spans their places, trace by trace.
func (p *protoFill) arrange() {
	byID := func(a, b protoRun) int { return a.id.Compare(b.id) }
	if !slices.IsSortedFunc(p.runs, byID) {
		slices.SortStableFunc(p.runs, byID)
	}
	p.f.Reset()
	for i := 0; i < len(p.runs); {
		id := p.runs[i].id
		p.oneTrace = p.oneTrace[:0]
		for ; i < len(p.runs) && p.runs[i].id == id; i++ {
			p.oneTrace = append(p.oneTrace, p.runs[i].SpanRun)
		}
		p.f.AddTrace(id, p.oneTrace...)
	}
}

func (p *protoFill) layout() {
	if !p.readsEvents {
		p.events = 0
	}
	if !p.readsLinks {
		p.links = 0
	}
	p.b = p.f.Layout(len(p.resources), p.events, p.links)
	p.spanKeys.reset(p.f, ScopeSpan, len(p.b.SpanIDs))
	p.resourceKeys.reset(p.f, ScopeResource, len(p.resources))
	p.eventKeys.reset(p.f, ScopeEvent, p.events)
	p.linkKeys.reset(p.f, ScopeLink, p.links)
}

// fillResource fills the row of a resource, and those of its spans.
func (p *protoFill) fillResource(r *protoResource, row int32) error {
	m := p.messages[r.message]
	p.repeated = false
	f := fields{b: m[:r.to], i: int(r.from)}
	for f.next() {
		if f.tag != 1<<3+wireLen {
			continue
		}
		resource := f.sub()
		for resource.next() {
			if resource.tag != 1<<3+wireLen {
				resource.skip(resourceFields)
				continue
			}
			if err := p.attribute(resource.b[:resource.i], resource.from, &p.resourceKeys, row); err != nil {
				return err
			}
		}
		if resource.err != nil {
			return resource.err
		}
	}
	if f.err != nil {
		return f.err
	}
	repeated := p.repeated

	scopes := p.scopes[r.first:]
	if int(row)+1 < len(p.resources) {
		scopes = p.scopes[r.first:p.resources[row+1].first]
	}
	for i, s := range scopes {
		var name, version uint32
		if p.readsScopes {
			var err error
			if name, version, err = p.scope(fields{b: m[:s.to], i: int(s.from)}); err != nil {
				return err
			}
		}
		last := len(p.spans)
		if next := int(r.first) + i + 1; next < len(p.scopes) {
			last = int(p.scopes[next].first)
		}
		for j := int(s.first); j < last; j++ {
			at := p.f.Place[j]
			p.b.Resources[at] = row
			if p.readsScopes {
				p.b.Scopes.Codes[at], p.b.ScopeVersions.Codes[at] = name, version
			}
			p.repeated = repeated
			if err := p.fillSpan(fields{b: m[:p.spans[j].to], i: int(p.spans[j].from)}, at); err != nil {
				return err
			}
			if p.repeated {
				p.f.FlagSpan(at, FlagRepeatedKey)
			}
		}
	}
	return nil
}

// scope returns the codes of a scope's name and version.
func (p *protoFill) scope(f fields) (name, version uint32, err error) {
	for f.next() {
		if f.tag != 1<<3+wireLen {
			continue
		}
		scope := f.sub()
		for scope.next() {
			switch scope.tag {
			case 1<<3 + wireLen:
				name = p.b.Scopes.codeOf(scope.content())
			case 2<<3 + wireLen:
				version = p.b.ScopeVersions.codeOf(scope.content())
			default:
				scope.skip(scopeFields)
			}
		}
		if scope.err != nil {
			return 0, 0, scope.err
		}
	}
	return name, version, f.err
}

// codeOf returns the code of a text, 0 of the empty one.
func (c *TextColumn) codeOf(text []byte) uint32 {
	if len(text) == 0 {
		return 0
	}
	return c.InternLikely(text)
}

// fillSpan fills the row of a span with all that is not in its key.
func (p *protoFill) fillSpan(f fields, row int32) error {
	b := p.b
	if p.events > 0 {
		b.Events.From[row] = p.event
	}
	if p.links > 0 {
		b.Links.From[row] = p.link
	}
	for {
		for from, to, ok := onlyLen(f.b, f.i, tagAttributes); ok; from, to, ok = onlyLen(f.b, f.i, tagAttributes) {
			if err := p.attribute(f.b[:to], from, &p.spanKeys, row); err != nil {
				return err
			}
			f.i = to
		}
		if !f.next() {
			break
		}
		var err error
		switch f.tag {
		case 5<<3 + wireLen:
			b.Names.Codes[row] = b.Names.codeOf(f.content())
		case tagAttributes: // a large one
			err = p.attribute(f.b[:f.i], f.from, &p.spanKeys, row)
		case 11<<3 + wireLen:
			if p.events > 0 {
				err = p.fillEvent(f.sub())
			}
		case 13<<3 + wireLen:
			if p.links > 0 {
				err = p.fillLink(f.sub())
			}
		case 15<<3 + wireLen:
			err = p.fillStatus(f.sub(), row)
		}
		if err != nil {
			return err
		}
	}
	if p.events > 0 {
		b.Events.To[row] = p.event
	}
	if p.links > 0 {
		b.Links.To[row] = p.link
	}
	return f.err
}

func (p *protoFill) fillStatus(f fields, row int32) error {
	for f.next() {
		switch f.tag {
		case 2<<3 + wireLen:
			if p.readsStatusText {
				p.b.StatusMessages.Codes[row] = p.b.StatusMessages.codeOf(f.content())
			}
		case 3<<3 + wireVarint:
			p.b.Statuses[row] = Status(f.value)
		default:
			f.skip(statusFields)
		}
	}
	return f.err
}

func (p *protoFill) fillEvent(f fields) error {
	e, row := &p.b.Events, p.event
	p.event++
	for f.next() {
		switch f.tag {
		case 1<<3 + wireI64:
			e.Times[row] = Time(f.value)
		case 2<<3 + wireLen:
			e.Names.Codes[row] = e.Names.codeOf(f.content())
		case 3<<3 + wireLen:
			if err := p.attribute(f.b[:f.i], f.from, &p.eventKeys, row); err != nil {
				return err
			}
		default:
			f.skip(eventFields)
		}
	}
	return f.err
}

func (p *protoFill) fillLink(f fields) error {
	l, row := &p.b.Links, p.link
	p.link++
	for f.next() {
		switch f.tag {
		case 1<<3 + wireLen:
			f.id(l.TraceIDs[row][:])
		case 2<<3 + wireLen:
			f.id(l.SpanIDs[row][:])
		case 4<<3 + wireLen:
			if err := p.attribute(f.b[:f.i], f.from, &p.linkKeys, row); err != nil {
				return err
			}
		default:
			f.skip(linkFields)
		}
	}
	return f.err
}
