package otlp

import (
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/wire"
)

// Collector gathers spans, which arrive in any order and in any number of OTLP messages, and assembles them
// into traces. The zero Collector is ready to use. It keeps all spans in memory.
type Collector struct {
	spans map[trace.ID][]trace.Span
	flags map[trace.ID]trace.Flags
}

// Add adds the spans of one OTLP message. If a span has no trace ID or no span ID, which OTLP declares
// invalid, Add returns an error that names the span and adds nothing of the message.
func (c *Collector) Add(td ptrace.Traces) error {
	if err := wire.CheckIDs(td); err != nil {
		return err
	}
	if c.spans == nil {
		c.spans, c.flags = map[trace.ID][]trace.Span{}, map[trace.ID]trace.Flags{}
	}
	for _, rs := range td.ResourceSpans().All() {
		resource, resourceRepeats := attributesOf(rs.Resource().Attributes())
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				span, flags := spanOf(s)
				span.Resource = resource
				span.Scope = ss.Scope().Name()
				span.ScopeVersion = ss.Scope().Version()
				if resourceRepeats {
					flags |= trace.FlagRepeatedKey
				}
				id := trace.ID(s.TraceID())
				c.spans[id] = append(c.spans[id], span)
				c.flags[id] |= flags
			}
		}
	}
	return nil
}

// Traces returns the traces of all added spans, ordered by ID, and empties the Collector.
func (c *Collector) Traces() []*trace.Trace {
	traces := make([]*trace.Trace, 0, len(c.spans))
	for id, spans := range c.spans {
		t := trace.New(id, spans)
		t.Flags |= c.flags[id]
		traces = append(traces, t)
	}
	c.spans, c.flags = nil, nil
	slices.SortFunc(traces, func(a, b *trace.Trace) int { return a.ID.Compare(b.ID) })
	return traces
}

// ToTraces returns the traces of one OTLP message, ordered by ID. It returns the errors of [Collector.Add].
func ToTraces(td ptrace.Traces) ([]*trace.Trace, error) {
	var c Collector
	if err := c.Add(td); err != nil {
		return nil, err
	}
	return c.Traces(), nil
}

func spanOf(s ptrace.Span) (trace.Span, trace.Flags) {
	var repeats bool
	attributes := func(m pcommon.Map) trace.Attributes {
		normal, again := attributesOf(m)
		repeats = repeats || again
		return normal
	}
	span := trace.Span{
		ID:            trace.SpanID(s.SpanID()),
		Kind:          trace.Kind(s.Kind()),
		ParentID:      trace.SpanID(s.ParentSpanID()),
		Name:          s.Name(),
		Start:         trace.Time(s.StartTimestamp()),
		End:           trace.Time(s.EndTimestamp()),
		Status:        trace.Status(s.Status().Code()),
		StatusMessage: s.Status().Message(),
		Attributes:    attributes(s.Attributes()),
	}
	for _, e := range s.Events().All() {
		span.Events = append(span.Events, trace.Event{Time: trace.Time(e.Timestamp()), Name: e.Name(), Attributes: attributes(e.Attributes())})
	}
	for _, l := range s.Links().All() {
		span.Links = append(span.Links, trace.Link{TraceID: trace.ID(l.TraceID()), SpanID: trace.SpanID(l.SpanID()), Attributes: attributes(l.Attributes())})
	}
	if repeats {
		return span, trace.FlagRepeatedKey
	}
	return span, 0
}

func attributesOf(m pcommon.Map) (normal trace.Attributes, repeated bool) {
	attrs := make([]trace.Attribute, 0, m.Len())
	for k, v := range m.All() {
		value, again := valueOf(v)
		repeated = repeated || again
		attrs = append(attrs, trace.Attribute{Key: k, Value: value})
	}
	normal, again := trace.NewAttributes(attrs)
	return normal, repeated || again
}

func valueOf(v pcommon.Value) (value trace.Value, repeated bool) {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return trace.StringValue(v.Str()), false
	case pcommon.ValueTypeBool:
		return trace.BoolValue(v.Bool()), false
	case pcommon.ValueTypeInt:
		return trace.IntValue(v.Int()), false
	case pcommon.ValueTypeDouble:
		return trace.DoubleValue(v.Double()), false
	case pcommon.ValueTypeBytes:
		return trace.BytesValue(v.Bytes().AsRaw()), false
	case pcommon.ValueTypeSlice:
		list := make([]trace.Value, v.Slice().Len())
		for i, e := range v.Slice().All() {
			var again bool
			list[i], again = valueOf(e)
			repeated = repeated || again
		}
		return trace.ArrayValue(list...), repeated
	case pcommon.ValueTypeMap:
		attrs, again := attributesOf(v.Map())
		return trace.MapValue(attrs), again
	}
	return trace.Value{}, false
}
