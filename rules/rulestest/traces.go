package rulestest

import (
	"encoding/binary"
	"math"
	"slices"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
)

// Traces returns n traces with at most maxSpans spans each. Small traces are more frequent.
func (g *Generator) Traces(n, maxSpans int) []*trace.Trace {
	traces := make([]*trace.Trace, n)
	for i := range traces {
		traces[i] = g.Trace(maxSpans)
	}
	return traces
}

// Trace returns a trace with at most maxSpans spans. It has unusual properties: spans that share an ID,
// cycles, orphans, several roots, clock skew, values of every type.
func (g *Generator) Trace(maxSpans int) *trace.Trace {
	n := int(math.Exp(g.Float64() * math.Log(float64(maxSpans)+1)))
	t := traceMaker{Generator: g, rich: 1 + g.IntN(3), nasty: g.one(2), wild: g.one(20), shape: g.IntN(3)}
	for range 1 + g.IntN(4) {
		t.resources = append(t.resources, t.resource())
	}
	for range n {
		t.spans = append(t.spans, t.span())
	}
	g.traces++
	var id trace.ID
	binary.BigEndian.PutUint64(id[:], g.Uint64()>>pick(g, 0, 0, 40))
	binary.BigEndian.PutUint64(id[8:], g.traces) // no two are equal
	return trace.New(id, t.spans)
}

type traceMaker struct {
	*Generator
	rich        int  // number of attributes
	nasty, wild bool // unusual tree and clocks; times and numbers that OTLP does not define
	shape       int
	resources   []trace.Attributes
	spans       []trace.Span
}

func (t *traceMaker) text() string {
	switch {
	case t.one(40):
		return broken
	case t.one(5):
		return pick(t.Generator, texts...)
	}
	return pick(t.Generator, common...)
}

// value returns a value of any type. Lists and maps are nested at most depth deep.
func (t *traceMaker) value(depth int) trace.Value {
	switch n := t.IntN(24); {
	case n < 9:
		return trace.StringValue(t.text())
	case n < 11:
		return trace.BoolValue(t.one(2))
	case n < 16:
		return numbers[t.IntN(6)]
	case n < 20 || depth == 0:
		return pick(t.Generator, numbers...)
	case n == 20:
		return trace.BytesValue([]byte(t.text()))
	case n == 21:
		return trace.MapValue(t.attributes(depth - 1))
	case n == 22:
		list := make([]trace.Value, t.IntN(4))
		for i := range list {
			list[i] = t.value(depth - 1)
			if i > 0 && t.one(2) {
				list[i] = list[0]
			}
		}
		if len(list) > 0 && t.one(8) {
			list[0] = trace.Value{}
		}
		return trace.ArrayValue(list...)
	}
	return trace.Value{}
}

func (t *traceMaker) attributes(depth int) trace.Attributes {
	var list trace.Attributes
	for range t.IntN(2*t.rich + 1) {
		key := pick(t.Generator, keys[:idents]...)
		if t.one(8) {
			key = pick(t.Generator, keys...)
		}
		list = append(list, trace.Attribute{Key: key, Value: t.value(depth)})
	}
	normal, _ := trace.NewAttributes(list)
	return normal
}

func (t *traceMaker) resource() trace.Attributes {
	list := slices.Clone(t.attributes(1))
	if !t.one(5) {
		list = append(list, trace.Attribute{Key: trace.ServiceName, Value: trace.StringValue(t.text())})
	}
	normal, _ := trace.NewAttributes(list)
	return normal
}

// id returns the ID of span number n, from 1.
func id(n int) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func (t *traceMaker) span() trace.Span {
	g, n := t.Generator, len(t.spans)
	s := trace.Span{
		ID: id(n + 1), Kind: trace.Kind(t.IntN(len(kinds))), Status: trace.Status(t.IntN(len(statuses))),
		Name: t.text(), Attributes: t.attributes(2), Resource: pick(g, t.resources...),
	}
	var parent *trace.Span
	if n > 0 && !t.one(20) {
		parent = &t.spans[0]
		switch t.shape {
		case 0:
			parent = &t.spans[t.IntN(n)]
		case 1:
			parent = &t.spans[n-1]
		}
		s.ParentID = parent.ID
		if t.one(3) {
			s.Resource = parent.Resource
		}
	}
	ms := func(n int) trace.Time { return trace.Time(n) * 1_000_000 }
	s.Start = epoch + ms(t.IntN(5))
	if parent != nil {
		s.Start = parent.Start + ms(t.IntN(3))
	}
	s.End = s.Start + ms(pick(g, 0, 1, 2, 5, 1000)) + trace.Time(t.IntN(2))
	if t.one(3) {
		s.StatusMessage = t.text()
	}
	if t.one(2) {
		s.Scope, s.ScopeVersion = t.text(), t.text()
	}
	if t.nasty {
		t.hurt(&s, parent)
	}
	if t.wild {
		t.derange(&s)
	}
	for range pick(g, 0, 0, 0, 1, 1, 2, 4) {
		s.Events = append(s.Events, trace.Event{Time: s.Start - ms(1) + ms(t.IntN(4)), Name: t.text(), Attributes: t.attributes(1)})
	}
	for range pick(g, 0, 0, 0, 0, 1, 2) {
		s.Links = append(s.Links, trace.Link{TraceID: trace.ID{15: byte(t.IntN(3))}, SpanID: id(1 + t.IntN(n+1)), Attributes: t.attributes(1)})
	}
	return s
}

// hurt breaks the tree or the clock at a span.
func (t *traceMaker) hurt(s, parent *trace.Span) {
	g, n := t.Generator, len(t.spans)
	switch t.IntN(20) {
	case 0: // a later parent, maybe a descendant: cycles and orphans
		s.ParentID = id(1 + t.IntN(n+4))
	case 1: // its own parent, or none
		s.ParentID = pick(g, s.ID, trace.SpanID{})
	case 2: // not in the trace
		s.ParentID = trace.SpanID{0xff, 1}
	case 3: // two halves of a call
		if parent != nil {
			s.ID, s.ParentID = parent.ID, parent.ParentID
			s.Kind, parent.Kind = trace.KindServer, trace.KindClient
		}
	case 4, 5: // the ID of another span, maybe an unequal copy
		if parent != nil {
			s.ID = parent.ID
		}
	case 6:
		s.End = s.Start - 1_000_000
	case 7, 8: // before its parent
		s.Start -= 5_000_000
		s.End -= 5_000_000
	case 9:
		s.Resource = t.resource()
	}
}

// derange gives a span numbers that OTLP does not define, and extreme times.
func (t *traceMaker) derange(s *trace.Span) {
	g := t.Generator
	switch t.IntN(8) {
	case 0:
		s.Kind = trace.Kind(pick(g, -1, 6, 200, math.MaxInt32))
	case 1:
		s.Status = trace.Status(pick(g, -1, 3, math.MinInt32))
	case 2:
		s.Start = trace.Time(pick(g, uint64(0), 1, 1<<63, math.MaxUint64))
	case 3:
		s.End = trace.Time(pick(g, uint64(0), 1<<63-1, 1<<63+5, math.MaxUint64))
	}
}

// JSON returns a trace in OTLP's JSON encoding, for failure reports.
func JSON(t *trace.Trace) (string, error) {
	var m ptrace.JSONMarshaler
	text, err := m.MarshalTraces(otlp.FromTrace(t))
	return string(text), err
}
