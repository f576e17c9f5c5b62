package columnar

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/wire"
)

// FillOTLP builds a batch from the traces in OTLP protobuf messages: TracesData, ExportTraceServiceRequest or
// tempopb.Trace, which are equal on the wire. The traces are ordered by ID, each with its spans from all
// messages.
//
// The result equals that of otlp.Collector and [NewBatch] for the same messages. FillOTLP reads them directly
// into the columns, in two passes: one for the keys of all spans, one for the rest. It skips fields that are
// not needed without checking them, so they may be malformed, and flags do not cover them. A message that has
// no spans in the fields that OTLP defines, but has unknown fields, is an error. A span without valid IDs is
// an error that names the span, as in otlp.Collector. After any error there is no batch.
//
// The batch does not refer to the messages. Together they must have less than 2 GiB.
func (f *Filler) FillOTLP(messages ...[]byte) (*Batch, error) {
	p := &f.proto
	p.f = f
	p.reset(messages)
	defer p.release()
	size := 0
	for i, m := range messages {
		if size += len(m); size > math.MaxInt32 {
			return nil, fmt.Errorf("the messages have more than %d bytes: split them into several batches", math.MaxInt32)
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

// protoFill is the state of FillOTLP. Its memory is reused.
type protoFill struct {
	f        *Filler
	b        *Batch
	messages [][]byte

	// ResourceSpans, ScopeSpans and spans in wire order.
	resources []protoResource
	scopes    []protoPart
	spans     []protoPart
	runs      []protoRun
	oneTrace  []SpanRun

	events, links   int
	event, link     int32 // next free rows
	spanKeys        protoColumns
	resourceKeys    protoColumns
	eventKeys       protoColumns
	linkKeys        protoColumns
	repeated        bool // an attribute of the current resource or span has several values
	readsEvents     bool
	readsLinks      bool
	readsStatusText bool
	readsScopes     bool
}

// protoPart is a part of a message. Its children (of a scope its spans) are those from first up to the first
// of the next part.
type protoPart struct{ from, to, first int32 }

type protoResource struct {
	protoPart
	message int32
}

// protoRun is a range of adjacent spans of one trace.
type protoRun struct {
	id trace.ID
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

// release drops the references to the messages.
func (p *protoFill) release() {
	p.messages, p.b = nil, nil
}

// The OTLP fields that are read, by number.
var (
	tracesFields        = []field{1: {"TracesData.resource_spans", wire.Len}}
	resourceSpansFields = []field{1: {"ResourceSpans.resource", wire.Len}, 2: {"ResourceSpans.scope_spans", wire.Len}}
	scopeSpansFields    = []field{1: {"ScopeSpans.scope", wire.Len}, 2: {"ScopeSpans.spans", wire.Len}}
	resourceFields      = []field{1: {"Resource.attributes", wire.Len}, 2: {"Resource.dropped_attributes_count", wire.Varint}}
	scopeFields         = []field{1: {"InstrumentationScope.name", wire.Len}, 2: {"InstrumentationScope.version", wire.Len}}
	spanFields          = []field{
		1: {"Span.trace_id", wire.Len}, 2: {"Span.span_id", wire.Len}, 4: {"Span.parent_span_id", wire.Len}, 5: {"Span.name", wire.Len}, 6: {"Span.kind", wire.Varint},
		7: {"Span.start_time_unix_nano", wire.I64}, 8: {"Span.end_time_unix_nano", wire.I64}, 9: {"Span.attributes", wire.Len},
		11: {"Span.events", wire.Len}, 13: {"Span.links", wire.Len}, 15: {"Span.status", wire.Len},
	}
	statusFields = []field{2: {"Status.message", wire.Len}, 3: {"Status.code", wire.Varint}}
	eventFields  = []field{1: {"Event.time_unix_nano", wire.I64}, 2: {"Event.name", wire.Len}, 3: {"Event.attributes", wire.Len}}
	linkFields   = []field{1: {"Link.trace_id", wire.Len}, 2: {"Link.span_id", wire.Len}, 4: {"Link.attributes", wire.Len}}
)

// tagAttributes is the tag of a span's most frequent field.
const tagAttributes = 9<<3 + wire.Len

var errInvalidIDs = errors.New("a span has no valid ID")

// field is a field that is read: its name and wire type.
type field struct {
	name string
	typ  uint64
}

// skip skips the last field read. It sets the error if the field is one that should be read, and therefore
// has the wrong wire type.
func skip(f *wire.Fields, of []field) {
	if int(f.Num) >= len(of) || of[f.Num].name == "" || of[f.Num].typ == f.Tag&7 {
		return
	}
	f.Stop(fmt.Errorf("before byte %d: %s has wire type %d, but OTLP requires %d", f.Pos, of[f.Num].name, f.Tag&7, of[f.Num].typ))
}

// readKeys records the parts of a message and the keys of its spans.
func (p *protoFill) readKeys(m int32) error {
	f := wire.Message(p.messages[m])
	var c wire.Container
	for f.Next() {
		if f.Tag != 1<<3+wire.Len {
			c.See(f.Num, 1)
			skip(&f, tracesFields)
			continue
		}
		c.Content = true
		p.resources = append(p.resources, protoResource{protoPart{int32(f.From), int32(f.Pos), int32(len(p.scopes))}, m})
		if err := p.readResourceSpans(f.Sub()); err != nil {
			if errors.Is(err, errInvalidIDs) {
				err = namesInvalidIDs(p.messages[m], err)
			}
			return err
		}
	}
	return cmp.Or(f.Err, c.Check("TracesData", "resource_spans"))
}

func (p *protoFill) readResourceSpans(f wire.Fields) error {
	var c wire.Container
	for f.Next() {
		if f.Tag != 2<<3+wire.Len && f.Tag != wire.TagOldScopes {
			c.See(f.Num, 3)
			if skip(&f, resourceSpansFields); f.Num == wire.TagOldScopes>>3 {
				f.Stop(fmt.Errorf("before byte %d: ResourceSpans.instrumentation_library_spans has wire type %d, but OTLP requires %d", f.Pos, f.Tag&7, wire.Len))
			}
			continue
		}
		c.Content = true
		p.scopes = append(p.scopes, protoPart{int32(f.From), int32(f.Pos), int32(len(p.spans))})
		var s wire.Container
		scope := f.Sub()
		for scope.Next() {
			if scope.Tag != 2<<3+wire.Len {
				s.See(scope.Num, 3)
				skip(&scope, scopeSpansFields)
				continue
			}
			s.Content = true
			p.spans = append(p.spans, protoPart{from: int32(scope.From), to: int32(scope.Pos)})
			if err := p.readKey(scope.Sub()); err != nil {
				return err
			}
		}
		if err := cmp.Or(scope.Err, s.Check("ScopeSpans", "spans")); err != nil {
			return err
		}
	}
	return cmp.Or(f.Err, c.Check("ResourceSpans", "scope_spans"))
}

func (p *protoFill) readKey(f wire.Fields) error {
	var id trace.ID
	var spanID, parentID trace.SpanID
	var start, end trace.Time
	var kind trace.Kind
	for f.SkipAll(tagAttributes) && f.Next() {
		switch f.Tag {
		case 1<<3 + wire.Len:
			f.ID(id[:])
		case 2<<3 + wire.Len:
			f.ID(spanID[:])
		case 4<<3 + wire.Len:
			f.ID(parentID[:])
		case 6<<3 + wire.Varint:
			kind = trace.Kind(f.Value)
		case 7<<3 + wire.I64:
			start = trace.Time(f.Value)
		case 8<<3 + wire.I64:
			end = trace.Time(f.Value)
		case 11<<3 + wire.Len:
			p.events++
		case 13<<3 + wire.Len:
			p.links++
		case 5<<3 + wire.Len, tagAttributes, 15<<3 + wire.Len:
		default:
			skip(&f, spanFields)
		}
	}
	if f.Err != nil {
		return f.Err
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

// namesInvalidIDs returns the error of otlp.Collector for a message with a span that has no valid IDs.
func namesInvalidIDs(m []byte, otherwise error) error {
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(m)
	if err == nil {
		err = wire.CheckIDs(td)
	}
	if err == nil {
		err = otherwise
	}
	return err
}

// arrange adds all spans to the Filler, trace by trace.
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

// fillResource fills the row of a resource and the rows of its spans.
func (p *protoFill) fillResource(r *protoResource, row int32) error {
	m := p.messages[r.message]
	p.repeated = false
	f := wire.Fields{Bytes: m[:r.to], Pos: int(r.from)}
	for f.Next() {
		if f.Tag != 1<<3+wire.Len {
			continue
		}
		resource := f.Sub()
		for resource.Next() {
			if resource.Tag != 1<<3+wire.Len {
				skip(&resource, resourceFields)
				continue
			}
			if err := p.attribute(resource.Bytes[:resource.Pos], resource.From, &p.resourceKeys, row); err != nil {
				return err
			}
		}
		if resource.Err != nil {
			return resource.Err
		}
	}
	if f.Err != nil {
		return f.Err
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
			if name, version, err = p.scope(wire.Fields{Bytes: m[:s.to], Pos: int(s.from)}); err != nil {
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
			if err := p.fillSpan(wire.Fields{Bytes: m[:p.spans[j].to], Pos: int(p.spans[j].from)}, at); err != nil {
				return err
			}
			if p.repeated {
				p.f.FlagSpan(at, trace.FlagRepeatedKey)
			}
		}
	}
	return nil
}

// scope returns the codes of a scope's name and version.
func (p *protoFill) scope(f wire.Fields) (name, version uint32, err error) {
	for f.Next() {
		if f.Tag != 1<<3+wire.Len {
			continue
		}
		scope := f.Sub()
		for scope.Next() {
			switch scope.Tag {
			case 1<<3 + wire.Len:
				name = p.b.Scopes.codeOf(scope.Content())
			case 2<<3 + wire.Len:
				version = p.b.ScopeVersions.codeOf(scope.Content())
			default:
				skip(&scope, scopeFields)
			}
		}
		if scope.Err != nil {
			return 0, 0, scope.Err
		}
	}
	return name, version, f.Err
}

// codeOf returns the code of a string, or 0 for the empty string.
func (c *TextColumn) codeOf(text []byte) uint32 {
	if len(text) == 0 {
		return 0
	}
	return c.InternLikely(text)
}

// fillSpan fills the row of a span, except its key.
func (p *protoFill) fillSpan(f wire.Fields, row int32) error {
	b := p.b
	if p.events > 0 {
		b.Events.From[row] = p.event
	}
	if p.links > 0 {
		b.Links.From[row] = p.link
	}
	for {
		for from, to, ok := wire.OnlyLen(f.Bytes, f.Pos, tagAttributes); ok; from, to, ok = wire.OnlyLen(f.Bytes, f.Pos, tagAttributes) {
			if err := p.attribute(f.Bytes[:to], from, &p.spanKeys, row); err != nil {
				return err
			}
			f.Pos = to
		}
		if !f.Next() {
			break
		}
		var err error
		switch f.Tag {
		case 5<<3 + wire.Len:
			b.Names.Codes[row] = b.Names.codeOf(f.Content())
		case tagAttributes: // a large attribute
			err = p.attribute(f.Bytes[:f.Pos], f.From, &p.spanKeys, row)
		case 11<<3 + wire.Len:
			if p.events > 0 {
				err = p.fillEvent(f.Sub())
			}
		case 13<<3 + wire.Len:
			if p.links > 0 {
				err = p.fillLink(f.Sub())
			}
		case 15<<3 + wire.Len:
			err = p.fillStatus(f.Sub(), row)
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
	return f.Err
}

func (p *protoFill) fillStatus(f wire.Fields, row int32) error {
	for f.Next() {
		switch f.Tag {
		case 2<<3 + wire.Len:
			if p.readsStatusText {
				p.b.StatusMessages.Codes[row] = p.b.StatusMessages.codeOf(f.Content())
			}
		case 3<<3 + wire.Varint:
			p.b.Statuses[row] = trace.Status(f.Value)
		default:
			skip(&f, statusFields)
		}
	}
	return f.Err
}

func (p *protoFill) fillEvent(f wire.Fields) error {
	e, row := &p.b.Events, p.event
	p.event++
	for f.Next() {
		switch f.Tag {
		case 1<<3 + wire.I64:
			e.Times[row] = trace.Time(f.Value)
		case 2<<3 + wire.Len:
			e.Names.Codes[row] = e.Names.codeOf(f.Content())
		case 3<<3 + wire.Len:
			if err := p.attribute(f.Bytes[:f.Pos], f.From, &p.eventKeys, row); err != nil {
				return err
			}
		default:
			skip(&f, eventFields)
		}
	}
	return f.Err
}

func (p *protoFill) fillLink(f wire.Fields) error {
	l, row := &p.b.Links, p.link
	p.link++
	for f.Next() {
		switch f.Tag {
		case 1<<3 + wire.Len:
			f.ID(l.TraceIDs[row][:])
		case 2<<3 + wire.Len:
			f.ID(l.SpanIDs[row][:])
		case 4<<3 + wire.Len:
			if err := p.attribute(f.Bytes[:f.Pos], f.From, &p.linkKeys, row); err != nil {
				return err
			}
		default:
			skip(&f, linkFields)
		}
	}
	return f.Err
}
