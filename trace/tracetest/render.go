package tracetest

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
)

const schemaURL = "https://opentelemetry.io/schemas/1.44.0"

// entry is a span or a copy of it in the batch that is being rendered.
type entry struct {
	span  int32
	alter func(*span)
}

// render returns the batches. Each groups spans by resource and scope, as senders do.
func (b *builder) render() []ptrace.Traces {
	last := uint8(0)
	for i := range b.spans {
		last = max(last, b.spans[i].batch)
	}
	for i := range b.copies {
		last = max(last, b.copies[i].batch)
	}
	var batches []ptrace.Traces
	for batch := range last + 1 {
		if td := b.renderBatch(batch); td.ResourceSpans().Len() > 0 {
			batches = append(batches, td)
		}
	}
	return batches
}

func (b *builder) renderBatch(batch uint8) ptrace.Traces {
	td := ptrace.NewTraces()
	var used [serviceCount]int // number of scopes of each service
	put := func(i int32, alter func(*span)) {
		s := &b.spans[i]
		at := int(s.service)*int(scopeCount) + int(s.scope)
		if len(b.buckets[at]) == 0 {
			used[s.service]++
		}
		b.buckets[at] = append(b.buckets[at], entry{i, alter})
	}
	for i := range b.spans {
		if b.spans[i].batch == batch {
			put(int32(i), nil)
		}
	}
	for _, c := range b.copies {
		if c.batch == batch {
			put(c.of, c.alter)
		}
	}
	for svc := range serviceCount {
		if used[svc] == 0 {
			continue
		}
		rs := td.ResourceSpans().AppendEmpty()
		rs.SetSchemaUrl(schemaURL)
		b.renderResource(svc, rs.Resource().Attributes())
		rs.ScopeSpans().EnsureCapacity(used[svc])
		for sc := range scopeCount {
			bucket := &b.buckets[int(svc)*int(scopeCount)+int(sc)]
			if len(*bucket) == 0 {
				continue
			}
			ss := rs.ScopeSpans().AppendEmpty()
			name, version := sc.names()
			ss.Scope().SetName(name)
			ss.Scope().SetVersion(version)
			spans := ss.Spans()
			spans.EnsureCapacity(len(*bucket))
			for _, e := range *bucket {
				b.renderSpan(&e, spans.AppendEmpty())
			}
			*bucket = (*bucket)[:0]
		}
	}
	return td
}

func (b *builder) renderResource(svc service, m pcommon.Map) {
	res := &b.res[svc]
	m.EnsureCapacity(len(resourceAttributes[svc]) + len(res.extra) + 1)
	for _, a := range resourceAttributes[svc] {
		if a.Key != trace.ServiceName || !res.nameless {
			putValue(m, a)
		}
	}
	if res.environment != "" {
		m.PutStr(environmentKey, res.environment)
	}
	putAll(m, res.extra)
}

func (b *builder) renderSpan(e *entry, o ptrace.Span) {
	s := &b.spans[e.span]
	if e.alter != nil {
		changed := *s
		e.alter(&changed)
		s = &changed
	}
	o.SetTraceID(pcommon.TraceID(b.id))
	o.SetSpanID(pcommon.SpanID(s.id))
	switch {
	case s.parent >= 0:
		o.SetParentSpanID(pcommon.SpanID(b.spans[s.parent].id))
	case s.parent == lostParent:
		o.SetParentSpanID(pcommon.SpanID(b.spanID(b.size + int(e.span))))
	}
	o.SetName(s.name)
	o.SetKind(ptrace.SpanKind(s.kind))
	o.SetStartTimestamp(pcommon.Timestamp(s.start))
	o.SetEndTimestamp(pcommon.Timestamp(s.end))
	if s.status != trace.StatusUnset {
		o.Status().SetCode(ptrace.StatusCode(s.status))
		o.Status().SetMessage(s.message)
	}
	if p := s.part; p != nil {
		o.Attributes().EnsureCapacity(len(p.attrs) + 1 + len(s.attrs))
		putAll(o.Attributes(), p.attrs)
		o.Attributes().PutInt(p.measure, s.measured)
	} else if len(s.attrs) > 0 {
		o.Attributes().EnsureCapacity(len(s.attrs))
	}
	putAll(o.Attributes(), s.attrs)
	for _, ev := range s.events {
		oe := o.Events().AppendEmpty()
		oe.SetTimestamp(pcommon.Timestamp(ev.time))
		oe.SetName(ev.name)
		putAll(oe.Attributes(), ev.attrs)
	}
	for _, l := range s.links {
		ol := o.Links().AppendEmpty()
		ol.SetTraceID(pcommon.TraceID(l.TraceID))
		ol.SetSpanID(pcommon.SpanID(l.SpanID))
		putAll(ol.Attributes(), l.Attributes)
	}
}

func putAll(m pcommon.Map, attrs []trace.Attribute) {
	for _, a := range attrs {
		putValue(m, a)
	}
}

func putValue(m pcommon.Map, a trace.Attribute) {
	switch a.Value.Type() {
	case trace.TypeString:
		m.PutStr(a.Key, a.Value.Str())
	case trace.TypeInt:
		m.PutInt(a.Key, a.Value.Int())
	default:
		setValue(m.PutEmpty(a.Key), a.Value)
	}
}

func setValue(o pcommon.Value, v trace.Value) {
	switch v.Type() {
	case trace.TypeString:
		o.SetStr(v.Str())
	case trace.TypeBool:
		o.SetBool(v.Bool())
	case trace.TypeInt:
		o.SetInt(v.Int())
	case trace.TypeDouble:
		o.SetDouble(v.Double())
	case trace.TypeBytes:
		o.SetEmptyBytes().FromRaw(v.Bytes())
	case trace.TypeArray:
		values := o.SetEmptySlice()
		values.EnsureCapacity(len(v.Array()))
		for _, e := range v.Array() {
			setValue(values.AppendEmpty(), e)
		}
	case trace.TypeMap:
		m := o.SetEmptyMap()
		m.EnsureCapacity(len(v.Map()))
		putAll(m, v.Map())
	}
}
