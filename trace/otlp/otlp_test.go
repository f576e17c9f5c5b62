package otlp_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

// otlpOf reads one message in OTLP's JSON encoding.
func otlpOf(t *testing.T, json string) ptrace.Traces {
	t.Helper()
	td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces([]byte(json))
	require.NoError(t, err)
	return td
}

const (
	trace1 = "00000000000000000000000000000001"
	trace2 = "f0000000000000000000000000000002"
	span1  = "0000000000000001"
	span2  = "0000000000000002"
)

func TestFromOTLPReadsEveryField(t *testing.T) {
	traces, err := otlp.ToTraces(otlpOf(t, `{"resourceSpans": [{
		"resource": {"attributes": [{"key": "zone", "value": {"stringValue": "b"}}, {"key": "service.name", "value": {"stringValue": "web"}}]},
		"schemaUrl": "https://opentelemetry.io/schemas/1.44.0",
		"scopeSpans": [{
			"scope": {"name": "net/http", "version": "1.2"},
			"spans": [{
				"traceId": "`+trace1+`", "spanId": "`+span2+`", "parentSpanId": "`+span1+`", "name": "GET /", "kind": 2,
				"startTimeUnixNano": "1772362800123456789", "endTimeUnixNano": "1772362800123456790",
				"status": {"code": 2, "message": "broken"},
				"attributes": [{"key": "b", "value": {"intValue": "2"}}, {"key": "a", "value": {"boolValue": true}}],
				"events": [{"timeUnixNano": "1772362800123456789", "name": "exception", "attributes": [{"key": "exception.type", "value": {"stringValue": "E"}}]}, {}],
				"links": [{"traceId": "`+trace2+`", "spanId": "`+span1+`", "attributes": [{"key": "k", "value": {"doubleValue": 0.5}}]}]
			}]
		}]
	}]}`))
	require.NoError(t, err)
	require.Len(t, traces, 1)
	want := []trace.Span{{
		ID: id(2), ParentID: id(1), Name: "GET /", Kind: trace.KindServer, Start: 1772362800123456789, End: 1772362800123456790,
		Status: trace.StatusError, StatusMessage: "broken", Scope: "net/http", ScopeVersion: "1.2",
		Attributes: tracetest.Attributes("a", true, "b", 2), Resource: tracetest.Attributes("service.name", "web", "zone", "b"),
		Events: []trace.Event{{Time: 1772362800123456789, Name: "exception", Attributes: tracetest.Attributes("exception.type", "E")}, {}},
		Links:  []trace.Link{{TraceID: trace.ID{0: 0xf0, 15: 2}, SpanID: id(1), Attributes: tracetest.Attributes("k", 0.5)}},
	}}
	assert.Empty(t, cmp.Diff(want, traces[0].Spans, cmpopts.EquateEmpty()))
	assert.Equal(t, trace.ID{15: 1}, traces[0].ID)
	assert.Zero(t, traces[0].Flags)
}

func TestValuesOfEveryTypeOfOTLP(t *testing.T) {
	for _, tc := range []struct {
		json     string
		want     trace.Value
		repeated bool
	}{
		{`{}`, trace.Value{}, false},
		{`{"stringValue": ""}`, tracetest.Value(""), false},
		{`{"stringValue": "Grüße 世界 \u0000"}`, tracetest.Value("Grüße 世界 \x00"), false},
		{`{"boolValue": false}`, tracetest.Value(false), false},
		{`{"intValue": "9007199254740993"}`, tracetest.Value(1<<53 + 1), false},
		{`{"intValue": "-9223372036854775808"}`, tracetest.Value(math.MinInt64), false},
		{`{"doubleValue": 0}`, tracetest.Value(0.0), false},
		{`{"doubleValue": 1e308}`, tracetest.Value(1e308), false},
		{`{"bytesValue": ""}`, tracetest.Value([]byte{}), false},
		{`{"bytesValue": "AP8="}`, tracetest.Value([]byte{0, 255}), false},
		{`{"arrayValue": {}}`, tracetest.Value([]any{}), false},
		{`{"arrayValue": {"values": [{"intValue": "1"}, {}, {"stringValue": "a"}, {"arrayValue": {"values": [{"boolValue": true}]}}]}}`,
			tracetest.Value([]any{1, nil, "a", []any{true}}), false},
		{`{"kvlistValue": {}}`, tracetest.Value(tracetest.Attributes()), false},
		{`{"kvlistValue": {"values": [{"key": "b", "value": {"intValue": "1"}}, {"key": "a", "value": {"kvlistValue": {"values": [{"key": "c"}]}}}]}}`,
			tracetest.Value(tracetest.Attributes("a", tracetest.Attributes(), "b", 1)), false},
		{`{"kvlistValue": {"values": [{"key": "b", "value": {"intValue": "1"}}, {"key": "b", "value": {"intValue": "3"}}, {"key": "b", "value": {"intValue": "2"}}]}}`,
			tracetest.Value(tracetest.Attributes("b", 3)), true},
		{`{"arrayValue": {"values": [{"kvlistValue": {"values": [{"key": "b", "value": {"boolValue": true}}, {"key": "b", "value": {"boolValue": false}}]}}]}}`,
			tracetest.Value([]any{tracetest.Attributes("b", true)}), true},
	} {
		t.Run(tc.json, func(t *testing.T) {
			list := `[{"key": "k", "value": ` + tc.json + `}]`
			traces, err := otlp.ToTraces(otlpOf(t, `{"resourceSpans": [{"resource": {"attributes": `+list+`}, "scopeSpans": [{"spans": [{
				"traceId": "`+trace1+`", "spanId": "`+span1+`", "attributes": `+list+`,
				"events": [{"attributes": `+list+`}], "links": [{"attributes": `+list+`}]}]}]}]}`))
			require.NoError(t, err)
			s := traces[0].Spans[0]
			for where, as := range map[string]trace.Attributes{"span": s.Attributes, "resource": s.Resource, "event": s.Events[0].Attributes, "link": s.Links[0].Attributes} {
				assert.True(t, tc.want.Equal(as.Get("k")), "%s: want %v, have %v", where, tc.want, as.Get("k"))
				assert.Equal(t, tc.want.Type(), as.Get("k").Type())
			}
			assert.Equal(t, tc.repeated, traces[0].Flags == trace.FlagRepeatedKey)
		})
	}
}

func TestDoublesKeepTheirBits(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Float64frombits(0x7ff8000000000123), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 5e-324, math.MaxFloat64} {
		td := ptrace.NewTraces()
		s := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		s.SetTraceID(pcommon.TraceID{1})
		s.SetSpanID(pcommon.SpanID{1})
		s.Attributes().PutDouble("f", f)
		traces, err := otlp.ToTraces(td)
		require.NoError(t, err)
		assert.Equal(t, math.Float64bits(f), math.Float64bits(traces[0].Spans[0].Attributes.Get("f").Double()))
	}
}

func TestRepeatedKeysAreFlaggedWhereverTheyAre(t *testing.T) {
	const twice, same = `[{"key": "k", "value": {"intValue": "1"}}, {"key": "k", "value": {"intValue": "2"}}]`, `[{"key": "k", "value": {"intValue": "1"}}, {"key": "k", "value": {"intValue": "1"}}]`
	for _, tc := range []struct {
		name, resource, span, event, link string
		want                              trace.Flags
	}{
		{"resource", twice, "[]", "[]", "[]", trace.FlagRepeatedKey},
		{"span", "[]", twice, "[]", "[]", trace.FlagRepeatedKey},
		{"event", "[]", "[]", twice, "[]", trace.FlagRepeatedKey},
		{"link", "[]", "[]", "[]", twice, trace.FlagRepeatedKey},
		{"equal values", same, same, same, same, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			traces, err := otlp.ToTraces(otlpOf(t, `{"resourceSpans": [{"resource": {"attributes": `+tc.resource+`}, "scopeSpans": [{"spans": [{
				"traceId": "`+trace1+`", "spanId": "`+span1+`", "attributes": `+tc.span+`,
				"events": [{"attributes": `+tc.event+`}], "links": [{"attributes": `+tc.link+`}]}]}]}]}`))
			require.NoError(t, err)
			assert.Equal(t, tc.want, traces[0].Flags)
		})
	}
}

func TestFromOTLPGroupsSpansByTrace(t *testing.T) {
	td := otlpOf(t, `{"resourceSpans": [
		{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]}, "scopeSpans": [
			{"spans": [{"traceId": "`+trace2+`", "spanId": "`+span1+`"}, {"traceId": "`+trace1+`", "spanId": "`+span1+`"}]},
			{"scope": {"name": "s"}, "spans": [{"traceId": "`+trace2+`", "spanId": "`+span2+`"}]}]},
		{"scopeSpans": [{"spans": [{"traceId": "`+trace2+`", "spanId": "`+span1+`", "name": "again"}]}]}]}`)
	traces, err := otlp.ToTraces(td)
	require.NoError(t, err)
	require.Len(t, traces, 2)
	assert.Equal(t, trace1, traces[0].ID.String(), "ordered by ID")
	assert.Equal(t, trace2, traces[1].ID.String())
	require.Len(t, traces[0].Spans, 1)
	require.Len(t, traces[1].Spans, 2)
	assert.Equal(t, "again", traces[1].Spans[0].Name)
	assert.Equal(t, "web", traces[1].Spans[0].Service())
	assert.Equal(t, "s", traces[1].Spans[1].Scope)
	assert.Zero(t, traces[0].Flags)
	assert.Equal(t, trace.FlagMerged, traces[1].Flags)

	// A later span without repeated keys does not clear the flag of an earlier one.
	twice := `[{"key": "k", "value": {"intValue": "1"}}, {"key": "k", "value": {"intValue": "2"}}]`
	traces, err = otlp.ToTraces(otlpOf(t, `{"resourceSpans": [{"scopeSpans": [{"spans": [
		{"traceId": "`+trace1+`", "spanId": "`+span1+`", "attributes": `+twice+`}, {"traceId": "`+trace1+`", "spanId": "`+span2+`"}]}]}]}`))
	require.NoError(t, err)
	assert.Equal(t, trace.FlagRepeatedKey, traces[0].Flags)

	none, err := otlp.ToTraces(ptrace.NewTraces())
	require.NoError(t, err)
	assert.Empty(t, none)
}

func TestSpansWithoutAnIDAreRefused(t *testing.T) {
	for _, tc := range []struct{ name, ids, want string }{
		{"no trace ID", `"spanId": "` + span1 + `"`, `span 1 ("bad", service "web", trace ID "", span ID "` + span1 + `") has no valid ID`},
		{"trace ID of zeros", `"traceId": "00000000000000000000000000000000", "spanId": "` + span1 + `"`, `has no valid ID: OTLP requires 16 bytes for a trace and 8 for a span, not all zero`},
		{"no span ID", `"traceId": "` + trace1 + `"`, `span ID ""`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c otlp.Collector
			err := c.Add(otlpOf(t, `{"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]},
				"scopeSpans": [{"spans": [{"traceId": "`+trace1+`", "spanId": "`+span1+`"}, {"name": "bad", `+tc.ids+`}]}]}]}`))
			assert.ErrorContains(t, err, tc.want)
			assert.Empty(t, c.Traces(), "nothing of the message is added")
		})
	}
	_, err := otlp.ToTraces(otlpOf(t, `{"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}]}`))
	assert.ErrorContains(t, err, `service ""`)
}

// TestTheCollectorGivesTheSameTraceHoweverItsSpansCame adds the spans in one message or many, in any order,
// grouped by resource or not.
func TestTheCollectorGivesTheSameTraceHoweverItsSpansCame(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		spans := make([]trace.Span, 1+r.IntN(12))
		for i := range spans {
			spans[i] = tracetest.RandomSpan(r, 6, 3)
		}
		want := trace.New(theID, append([]trace.Span(nil), spans...))

		var c otlp.Collector
		td := ptrace.NewTraces()
		for _, i := range r.Perm(len(spans)) {
			appendOTLP(td, &spans[i])
			if r.IntN(3) == 0 {
				require.NoError(t, c.Add(td))
				td = ptrace.NewTraces()
			}
		}
		require.NoError(t, c.Add(td))
		got := c.Traces()
		require.Len(t, got, 1)
		sameTrace(t, want, got[0], "seed", seed)
		assert.Empty(t, c.Traces(), "the collector is empty afterwards")
		if t.Failed() {
			return
		}
	}
}

// appendOTLP appends a span with a resource of its own.
func appendOTLP(td ptrace.Traces, s *trace.Span) {
	rs := td.ResourceSpans().AppendEmpty()
	putAll(rs.Resource().Attributes(), s.Resource)
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName(s.Scope)
	ss.Scope().SetVersion(s.ScopeVersion)
	o := ss.Spans().AppendEmpty()
	o.SetTraceID(pcommon.TraceID(theID))
	o.SetSpanID(pcommon.SpanID(s.ID))
	o.SetParentSpanID(pcommon.SpanID(s.ParentID))
	o.SetName(s.Name)
	o.SetKind(ptrace.SpanKind(s.Kind))
	o.SetStartTimestamp(pcommon.Timestamp(s.Start))
	o.SetEndTimestamp(pcommon.Timestamp(s.End))
	o.Status().SetCode(ptrace.StatusCode(s.Status))
	o.Status().SetMessage(s.StatusMessage)
	putAll(o.Attributes(), s.Attributes)
	for _, e := range s.Events {
		oe := o.Events().AppendEmpty()
		oe.SetTimestamp(pcommon.Timestamp(e.Time))
		oe.SetName(e.Name)
		putAll(oe.Attributes(), e.Attributes)
	}
	for _, l := range s.Links {
		ol := o.Links().AppendEmpty()
		ol.SetTraceID(pcommon.TraceID(l.TraceID))
		ol.SetSpanID(pcommon.SpanID(l.SpanID))
		putAll(ol.Attributes(), l.Attributes)
	}
}

func putAll(m pcommon.Map, as trace.Attributes) {
	for _, a := range as {
		setValue(m.PutEmpty(a.Key), a.Value)
	}
}

func setValue(dst pcommon.Value, v trace.Value) {
	switch v.Type() {
	case trace.TypeString:
		dst.SetStr(v.Str())
	case trace.TypeBool:
		dst.SetBool(v.Bool())
	case trace.TypeInt:
		dst.SetInt(v.Int())
	case trace.TypeDouble:
		dst.SetDouble(v.Double())
	case trace.TypeBytes:
		dst.SetEmptyBytes().FromRaw(v.Bytes())
	case trace.TypeArray:
		list := dst.SetEmptySlice()
		for _, e := range v.Array() {
			setValue(list.AppendEmpty(), e)
		}
	case trace.TypeMap:
		putAll(dst.SetEmptyMap(), v.Map())
	}
}

var theID = trace.ID{15: 7}

func id(n byte) trace.SpanID { return trace.SpanID{7: n} }

// sameTrace fails unless both traces are equal as their users see them.
func sameTrace(t *testing.T, want, got *trace.Trace, context ...any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(trace.Trace{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%v: -want +got:\n%s", context, diff)
	}
}
