package trace

import (
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Collector gathers spans that arrive in any order, in any number of OTLP
// messages, until they are made into traces. The zero Collector is ready. It
// holds every span in memory.
type Collector struct {
	spans map[ID][]Span
	flags map[ID]Flags
}

// Add takes the spans of one OTLP message. A span without a trace ID or a span
// ID, which OTLP calls invalid, is an error that names the span; nothing of the
// message is taken then.
func (c *Collector) Add(td ptrace.Traces) error {
	if err := checkIDs(td); err != nil {
		return err
	}
	if c.spans == nil {
		c.spans, c.flags = map[ID][]Span{}, map[ID]Flags{}
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
					flags |= FlagRepeatedKey
				}
				id := ID(s.TraceID())
				c.spans[id] = append(c.spans[id], span)
				c.flags[id] |= flags
			}
		}
	}
	return nil
}

// checkIDs returns an error that names the first span without valid IDs.
func checkIDs(td ptrace.Traces) error {
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for i, s := range ss.Spans().All() {
				if s.TraceID().IsEmpty() || s.SpanID().IsEmpty() {
					service := ""
					if v, ok := rs.Resource().Attributes().Get(ServiceName); ok {
						service = v.AsString()
					}
					return fmt.Errorf("span %d (%q, service %q, trace ID %q, span ID %q) has no valid ID: OTLP wants 16 bytes for a trace and 8 for a span, not all zero",
						i, s.Name(), service, s.TraceID().String(), s.SpanID().String())
				}
			}
		}
	}
	return nil
}

// Traces returns the traces of all spans that were added, ordered by ID, and
// leaves the Collector empty.
func (c *Collector) Traces() []*Trace {
	traces := make([]*Trace, 0, len(c.spans))
	for id, spans := range c.spans {
		t := New(id, spans)
		t.Flags |= c.flags[id]
		traces = append(traces, t)
	}
	c.spans, c.flags = nil, nil
	slices.SortFunc(traces, func(a, b *Trace) int { return a.ID.Compare(b.ID) })
	return traces
}

// FromOTLP returns the traces of one OTLP message, ordered by ID. See
// [Collector.Add] for its errors.
func FromOTLP(td ptrace.Traces) ([]*Trace, error) {
	var c Collector
	if err := c.Add(td); err != nil {
		return nil, err
	}
	return c.Traces(), nil
}

func spanOf(s ptrace.Span) (Span, Flags) {
	var repeats bool
	attributes := func(m pcommon.Map) Attributes {
		normal, again := attributesOf(m)
		repeats = repeats || again
		return normal
	}
	span := Span{
		ID:            SpanID(s.SpanID()),
		Kind:          Kind(s.Kind()),
		ParentID:      SpanID(s.ParentSpanID()),
		Name:          s.Name(),
		Start:         Time(s.StartTimestamp()),
		End:           Time(s.EndTimestamp()),
		Status:        Status(s.Status().Code()),
		StatusMessage: s.Status().Message(),
		Attributes:    attributes(s.Attributes()),
	}
	for _, e := range s.Events().All() {
		span.Events = append(span.Events, Event{Time: Time(e.Timestamp()), Name: e.Name(), Attributes: attributes(e.Attributes())})
	}
	for _, l := range s.Links().All() {
		span.Links = append(span.Links, Link{TraceID: ID(l.TraceID()), SpanID: SpanID(l.SpanID()), Attributes: attributes(l.Attributes())})
	}
	if repeats {
		return span, FlagRepeatedKey
	}
	return span, 0
}

func attributesOf(m pcommon.Map) (normal Attributes, repeated bool) {
	attrs := make([]Attribute, 0, m.Len())
	for k, v := range m.All() {
		value, again := valueOf(v)
		repeated = repeated || again
		attrs = append(attrs, Attribute{Key: k, Value: value})
	}
	normal, again := NewAttributes(attrs)
	return normal, repeated || again
}

func valueOf(v pcommon.Value) (value Value, repeated bool) {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return StringValue(v.Str()), false
	case pcommon.ValueTypeBool:
		return BoolValue(v.Bool()), false
	case pcommon.ValueTypeInt:
		return IntValue(v.Int()), false
	case pcommon.ValueTypeDouble:
		return DoubleValue(v.Double()), false
	case pcommon.ValueTypeBytes:
		return BytesValue(v.Bytes().AsRaw()), false
	case pcommon.ValueTypeSlice:
		list := make([]Value, v.Slice().Len())
		for i, e := range v.Slice().All() {
			var again bool
			list[i], again = valueOf(e)
			repeated = repeated || again
		}
		return ArrayValue(list...), repeated
	case pcommon.ValueTypeMap:
		attrs, again := attributesOf(v.Map())
		return MapValue(attrs), again
	}
	return Value{}, false
}
