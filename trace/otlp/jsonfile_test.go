package otlp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/wire/wiretest"
)

// withSpan is an object with one span of trace n.
func withSpan(n int) string {
	return fmt.Sprintf(`{"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [{"traceId": "%032x", "spanId": "%s"}]}]}]}`, n, span1)
}

func pretty(t *testing.T, object string) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Indent(&b, []byte(object), "", "  "))
	return b.String() + "\n"
}

// idsOf returns the numbers of the traces.
func idsOf(traces []*trace.Trace) (ids []int) {
	for _, tr := range traces {
		ids = append(ids, int(tr.ID[15]))
	}
	return ids
}

// TestReadingGoesOnAfterAMalformedLine lists the traces that are read from each file, and the places that
// cannot be read.
func TestReadingGoesOnAfterAMalformedLine(t *testing.T) {
	torn := withSpan(9)[:60]
	inString, inObject, inList := withSpan(9)[:len(withSpan(9))-20], strings.Split(withSpan(9), `"resource": `)[0], `{"resourceSpans": [`
	indented := pretty(t, withSpan(9))
	flat := strings.ReplaceAll(strings.ReplaceAll(indented, "\n  ", "\n"), "\n ", "\n")
	for _, tc := range []struct {
		name     string
		file     string
		want     []int
		problems []string
	}{
		{"torn in a string", withSpan(1) + "\n" + inString + "\n" + withSpan(2) + "\n" + withSpan(3), []int{1, 2, 3}, []string{"line 2: malformed JSON: the line ends within a string"}},
		{"torn in an object", withSpan(1) + "\n" + inObject + "\n" + withSpan(2) + "\n" + withSpan(3), []int{1, 2, 3}, []string{`line 3: malformed JSON: want a key, found '{'`}},
		{"torn in a list", inList + "\n" + withSpan(2) + "\n" + withSpan(3), []int{2, 3}, []string{`line 3: malformed JSON: want ',' or ']', found '{'`}},
		{"torn in a list, on the line before the last", withSpan(1) + "\n" + inList + "\n" + withSpan(2), []int{1, 2}, []string{"line 2: the input ends in the middle of an object"}},
		{"two torn lines", inList + "\n" + withSpan(1) + "\n" + inString + "\n" + withSpan(2), []int{1, 2}, []string{"line 3: malformed JSON", "line 3: malformed JSON: the line ends within a string"}},
		{"the first line is the rest of a cut line", torn[30:] + "\n" + withSpan(1), []int{1}, []string{"line 1: want an object of OTLP JSON, found"}},
		{"log lines between objects", "Jan 01 INFO start\n" + withSpan(1) + "\nJan 01 INFO\nstop\n" + withSpan(2), []int{1, 2}, []string{`line 1: want an object of OTLP JSON, found 'J'`, `line 3: want an object of OTLP JSON, found 'J'`}},
		{"something after an object on its line", withSpan(1) + " x\n" + withSpan(2), []int{1, 2}, []string{`line 1: want an object of OTLP JSON, found 'x'`}},
		{"cut at the end", withSpan(1) + "\n" + torn, []int{1}, []string{"line 2: the input ends in the middle of an object"}},
		{"pretty-printed", pretty(t, withSpan(1)) + strings.Replace(indented, ":", "", 5) + pretty(t, withSpan(2)), []int{1, 2}, []string{"line 19: malformed JSON: want ':', found '['"}},
		{"pretty-printed, cut in the middle", pretty(t, withSpan(1)) + indented[:len(indented)-20] + pretty(t, withSpan(2)), []int{1, 2}, []string{"malformed JSON"}},
		{"not indented: parts of the malformed object are not read", strings.Replace(flat, ":", "", 7) + withSpan(2), []int{2}, []string{"malformed JSON"}},
		{"in a list", "[\n" + withSpan(1) + ",\n" + torn + ",\n" + withSpan(2) + "\n]\n", []int{1, 2}, []string{"line 3: malformed JSON"}},
		{"in an indented list", "[\n  " + withSpan(1) + ",\n  " + torn + ",\n  " + withSpan(2) + "\n]\n", []int{1, 2}, []string{"line 3: malformed JSON"}},
		{"lists in lines", "[" + withSpan(1) + "]\n[" + inList + "\n[" + withSpan(2) + "]\n", []int{1, 2}, []string{"line 2: the input ends in the middle of an object"}},
		{"an object that is not OTLP", withSpan(1) + "\n{\"a\": 1}\n" + withSpan(2), []int{1, 2}, []string{`line 2: no OTLP traces: an object with "a", without "resourceSpans"`}},
		{"a span that has no ID", withSpan(1) + "\n" + withSpan(0) + "\n" + withSpan(2), []int{1, 2}, []string{`line 2: span 0 ("", service "", trace ID "", span ID "0000000000000001") has no valid ID`}},
		{"a line that is too deep", withSpan(1) + "\n{\"a\": " + strings.Repeat("[", 400) + strings.Repeat("]", 400) + "}\n" + withSpan(2), []int{1, 2}, []string{"line 2: malformed JSON: objects and lists are nested more than 300 deep"}},
		{"UTF-8 marks between files", "\ufeff" + withSpan(1) + "\n\ufeff" + withSpan(2), []int{1, 2}, nil},
		{"a UTF-8 mark after a torn line", torn + "\n\ufeff" + withSpan(2), []int{2}, []string{`line 2: malformed JSON: want a value, found '\ufeff'`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{"at once": strings.NewReader(tc.file), "byte by byte": iotest.OneByteReader(strings.NewReader(tc.file))} {
				var c otlp.Collector
				report := otlp.ReadFile(r, c.Add)
				assert.Equal(t, tc.want, idsOf(c.Traces()), how)
				assert.Equal(t, len(tc.problems), report.Unread, "%s: %v", how, report.Problems)
				assert.Equal(t, len(tc.want), report.Objects)
				assert.NoError(t, report.Ended)
				for i, want := range tc.problems[:min(len(tc.problems), len(report.Problems))] {
					assert.ErrorContains(t, report.Problems[i], want, how)
				}
			}
		})
	}
}

func TestManyProblemsAreCounted(t *testing.T) {
	_, report := asTraces([]byte(withSpan(1) + strings.Repeat("\n{\"resourceSpans\": 1}", 100)))
	assert.Equal(t, 100, report.Unread)
	assert.Len(t, report.Problems, 20)
	assert.ErrorContains(t, report.Err(), "80 more could not be read")
}

// TestWhatCannotBeReadIsNamed reads one span whose fields are spelt wrongly.
func TestWhatCannotBeReadIsNamed(t *testing.T) {
	const ids = `"traceId": "` + trace1 + `", "spanId": "` + span1 + `"`
	span := func(fields string) string {
		return `{"resourceSpans": [{"scopeSpans": [{"spans": [{` + ids + `, ` + fields + `}]}]}]}`
	}
	value := func(v string) string { return span(`"attributes": [{"key": "k", "value": ` + v + `}]`) }
	const at, attribute = `resourceSpans[0].scopeSpans[0].spans[0]`, `resourceSpans[0].scopeSpans[0].spans[0].attributes[0].value`
	for _, tc := range []struct{ object, want string }{
		{span(`"parentSpanId": "12"`), at + `.parentSpanId: "12" is not an ID of 8 bytes: want 16 hexadecimal digits, or 12 characters of base64`},
		{span(`"parentSpanId": 12`), at + `.parentSpanId: want a string, found a number`},
		{span(`"name": 5`), at + `.name: want a string, found a number`},
		{span(`"name": {}`), at + `.name: want a string, found an object`},
		{span(`"kind": true`), at + `.kind: want a number, found a boolean`},
		{span(`"kind": "SPAN_KIND_BOTH"`), at + `.kind: "SPAN_KIND_BOTH" is not a kind of OTLP`},
		{span(`"kind": 1.5`), at + `.kind: "1.5" is not a kind of OTLP`},
		{span(`"startTimeUnixNano": "2026-01-01T00:00:00Z"`), at + `.startTimeUnixNano: "2026-01-01T00:00:00Z" is not a whole number: a time is the nanoseconds since 1970`},
		{span(`"startTimeUnixNano": 1.5`), at + `.startTimeUnixNano: "1.5" is not a whole number`},
		{span(`"startTimeUnixNano": -1`), at + `.startTimeUnixNano: "-1" is a number out of range`},
		{span(`"startTimeUnixNano": 18446744073709551616`), `is a number out of range`},
		{span(`"startTimeUnixNano": ""`), at + `.startTimeUnixNano: "" is not a whole number`},
		{span(`"flags": -1`), at + `.flags: "-1" is a number out of range`},
		{span(`"attributes": {}`), at + `.attributes: want a list, found an object`},
		{span(`"attributes": ["a"]`), at + `.attributes[0]: want an object, found a string`},
		{span(`"attributes": [{"Key": "k", "Value": {}}]`), at + `.attributes[0]: unknown key "Key": OTLP's key is "key"`},
		{span(`"attributes": [{"key": "k", "val": {}}]`), at + `.attributes[0]: KeyValue without "value", but with "val", which OTLP does not define: correct the key`},
		{span(`"Attributes": []`), at + `: unknown key "Attributes": OTLP's key is "attributes"`},
		{span(`"status": {"deprecatedCode": 2}`), at + `.status: Status without "code", but with "deprecatedCode"`},
		{span(`"events": [{"timestamp": 1}]`), at + `.events[0]: Event without any key of OTLP, but with "timestamp"`},
		{value(`5`), attribute + `: want an object, found a number`},
		{value(`{"StringValue": "a"}`), attribute + `: unknown key "StringValue": OTLP's key is "stringValue"`},
		{value(`{"jsonValue": "a"}`), attribute + `: AnyValue without any key of OTLP, but with "jsonValue"`},
		{value(`{"stringValue": "a", "intValue": 1}`), attribute + `: a value has both stringValue and intValue`},
		{value(`{"boolValue": "true"}`), attribute + `.boolValue: want true or false, found a string`},
		{value(`{"intValue": 9223372036854775808}`), `"9223372036854775808" is a number out of range`},
		{value(`{"intValue": -9223372036854775809}`), `"-9223372036854775809" is a number out of range`},
		{value(`{"intValue": 1e19}`), `"1e19" is a number out of range`},
		{value(`{"intValue": 1e99999999999999999999}`), `is a number out of range`},
		{value(`{"intValue": 1e-99999999999999999999}`), `is not a whole number`},
		{value(`{"intValue": "0x10"}`), `"0x10" is not a whole number`},
		{value(`{"intValue": "1_000"}`), `"1_000" is not a whole number`},
		{value(`{"intValue": " 1"}`), `" 1" is not a whole number`},
		{value(`{"intValue": "1."}`), `"1." is not a whole number`},
		{value(`{"intValue": "1e"}`), `"1e" is not a whole number`},
		{value(`{"doubleValue": 1e999}`), `"1e999" is not a number that a double can hold`},
		{value(`{"doubleValue": "inf"}`), `"inf" is not a number that a double can hold`},
		{value(`{"doubleValue": "0x1p-2"}`), `"0x1p-2" is not a number that a double can hold`},
		{value(`{"bytesValue": "a b"}`), attribute + `.bytesValue: "a b" is not base64`},
		{value(`{"bytesValue": "AA==="}`), `"AA===" is not base64`},
		{value(`{"bytesValue": "AA\nAA"}`), `is not base64`},
		{value(`{"arrayValue": []}`), attribute + `.arrayValue: want an object, found a list`},
		{value(`{"arrayValue": {"values": [{"intValue": 1}, {"int": 1}]}}`), attribute + `.arrayValue.values[1]: AnyValue without any key of OTLP, but with "int"`},
		{value(`{"stringValueStrindex": 3000000000}`), `"3000000000" is a number out of range`},
		{value(deepJSON(51)), `a value is nested more than 100 messages deep`},
		{`{"trace": {"spans": []}}`, `line 1: trace: no OTLP traces: an object with "spans", without "resourceSpans"`},
		{`{"error": {"code": 5, "message": "trace not found"}}`, `this is an error message instead of a trace or a part of it: trace not found`},
		{`{"resourceSpans": [], "ResourceSpans": []}`, `unknown key "ResourceSpans": OTLP's key is "resourceSpans"`},
		{`{"resourceSpans": [], "scopeSpans": []}`, `"scopeSpans" next to another key with spans: OTLP allows only one in an object`},
		{`{"scopeSpans": [1]}`, `line 1: scopeSpans[0]: want an object, found a number`},
		{`{"resourceSpans": [{"resource": {"attribs": []}}]}`, `resourceSpans[0].resource: Resource without "attributes", but with "attribs"`},
		{`{"resourceSpans": [{"scopeSpans": [{"scope": {"id": 1}}]}]}`, `.scope: InstrumentationScope without any key of OTLP, but with "id"`},
		{`{"resourceSpans": [{"scopeSpans": [{"Spans": []}]}]}`, `resourceSpans[0].scopeSpans[0]: unknown key "Spans": OTLP's key is "spans"`},
		{"{\"a\": \"\x01\"}", `malformed JSON: a string contains '\x01', which must be escaped`},
		{`{"a": "\x"}`, `malformed JSON: unknown escape \'x'`},
		{`{"a": "\u12g4"}`, `malformed JSON: want four hexadecimal digits after \u`},
		{`{"a": 01}`, `malformed JSON: "01" is not a number: it begins with a zero`},
		{`{"a": 1.x}`, `malformed JSON: "1.x" is not a number`},
		{`{"a": nil}`, `malformed JSON: want a value, found 'n'`},
		{"{\"a\": \xff}", `malformed JSON: want a value, found the byte 0xff`},
		{`{"a" 1}`, `malformed JSON: want ':', found '1'`},
		{`{1: 1}`, `malformed JSON: want a key, found '1'`},
	} {
		traces, report := asTraces([]byte(withSpan(7) + "\n" + tc.object))
		assert.Equal(t, []int{7}, idsOf(traces), tc.object)
		want := strings.Replace(tc.want, "line 1: ", "line 2: ", 1)
		assert.ErrorContains(t, report.Err(), want, tc.object)
		assert.Equal(t, 1, report.Unread, tc.object)
		assert.NotContains(t, fmt.Sprint(report.Err()), "#", "the message is a library's")
	}
}

// deepJSON returns a value of nested lists.
func deepJSON(depth int) string {
	return strings.Repeat(`{"arrayValue": {"values": [`, depth) + `{"intValue": 1}` + strings.Repeat(`]}}`, depth)
}

// TestValuesAreAsDeepInJSONAsInProtobuf checks that JSON and protobuf accept the same depth of values.
func TestValuesAreAsDeepInJSONAsInProtobuf(t *testing.T) {
	deepest := 0
	for depth := range 60 {
		file := []byte(`{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "` + trace1 + `", "spanId": "` + span1 + `", "attributes": [{"key": "k", "value": ` + deepJSON(depth) + `}]}]}]}]}`)
		_, report := asTraces(file)
		m := asProto(t, otlpOf(t, string(file)))
		_, err := columnar.NewFiller(columnar.Needs{All: true}).FillOTLP(m)
		require.Equal(t, err == nil, report.Err() == nil, "%d: %v, %v", depth, err, report.Err())
		_, proto := asTraces(m)
		require.Equal(t, err == nil, proto.Err() == nil, "%d: %v, %v", depth, err, proto.Err())
		if err == nil {
			deepest = depth
		}
	}
	assert.Equal(t, 49, deepest)
}

// TestOtherFormatsAreNamed checks that the error names the format and a method to get OTLP.
func TestOtherFormatsAreNamed(t *testing.T) {
	for _, tc := range []struct{ object, name, remedy string }{
		{`{"data": [{"traceID": "1", "spans": [{"operationName": "a"}], "processes": {}}], "total": 0}`, "Jaeger's JSON, of its UI", "/api/v3/traces/ID"},
		{`{"traceID": "1", "spans": [{"operationName": "a", "spanID": "1"}], "processes": {}}`, "Jaeger's JSON", "/api/v3/traces/ID"},
		{`{"traceID": "1", "spanID": "1", "operationName": "a"}`, "Jaeger's JSON", "/api/v3/traces/ID"},
		{`[{"traceId": "1", "id": "1", "localEndpoint": {}}]`, "Zipkin's JSON", "zipkin receiver"},
		{`[[{"traceId": "1", "id": "1", "name": "a"}]]`, "Zipkin's JSON", "zipkin receiver"},
		{`{"traces": [{"traceID": "1", "rootServiceName": "a"}]}`, "a response of Tempo's search", "betrace export --query"},
		{`[[{"trace_id": 1, "span_id": 1, "service": "a", "resource": "b", "name": "c"}]]`, "Datadog's JSON", "datadog receiver"},
		{`{"data": [{"type": "spans", "attributes": {}}]}`, "a response of Datadog's API", "datadog receiver"},
		{`{"Traces": [{"Id": "1-a-b", "Segments": [{"Document": "{}"}]}]}`, "an AWS X-Ray trace", "awsxray receiver"},
		{`{"trace_id": "1-a-b", "id": "1", "start_time": 1.5, "name": "a"}`, "an AWS X-Ray segment", "awsxray receiver"},
		{`{"name": "a", "context": {"trace_id": "0x1", "span_id": "0x2"}, "start_time": "2026"}`, "the console exporter of OpenTelemetry for Python", "OTLP exporter"},
		{`{"Name": "a", "SpanContext": {"TraceID": "1", "SpanID": "2"}}`, "the stdouttrace exporter of OpenTelemetry for Go", "OTLP exporter"},
		{`{"hits": {"hits": [{"_source": {}}]}}`, "a response of an Elasticsearch or OpenSearch search", "betrace export"},
		{`{"traceId": "1", "spanId": "2", "name": "a"}`, "a span without its trace's envelope", "resourceSpans"},
		{`{"scope": {}, "spans": [{"traceId": "1", "spanId": "2"}]}`, "ScopeSpans without their resource", "resourceSpans"},
	} {
		traces, report := asTraces([]byte(tc.object))
		assert.Empty(t, traces)
		assert.ErrorContains(t, report.Err(), "line 1: this is "+tc.name, tc.object)
		assert.ErrorContains(t, report.Err(), tc.remedy, tc.object)
	}
}

// TestEnvelopesOfProtobuf covers responses of Tempo's API and the older field of spans.
func TestEnvelopesOfProtobuf(t *testing.T) {
	list := messages(2)
	want, err := otlp.ToTraces(list[0])
	require.NoError(t, err)
	message := asProto(t, list[0])
	answer := func(more string) string { return wiretest.LenField(1, string(message)) + more }
	older := func() string { // scope_spans in field 1000
		var c []byte
		td := list[0]
		for i := range td.ResourceSpans().Len() {
			rs := td.ResourceSpans().At(i)
			one := ptrace.NewTraces()
			rs.CopyTo(one.ResourceSpans().AppendEmpty())
			one.ResourceSpans().At(0).ScopeSpans().RemoveIf(func(ptrace.ScopeSpans) bool { return true })
			resource := string(asProto(t, one))
			_, n := wiretest.Uvarint([]byte(resource[1:]))
			batch := resource[1+n:]
			for j := range rs.ScopeSpans().Len() {
				one := ptrace.NewTraces()
				rs.ScopeSpans().At(j).CopyTo(one.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty())
				scope := asProto(t, one)
				outer, _ := wiretest.Prune(scope, wiretest.Schema{1: {2: nil}})
				_, n := wiretest.Uvarint(outer[1:])
				inner := outer[1+n:]
				_, m := wiretest.Uvarint(inner[1:])
				batch += wiretest.LenField(1000, string(inner[1+m:]))
			}
			c = append(c, wiretest.LenField(1, batch)...)
		}
		return string(c)
	}
	for _, tc := range []struct{ name, file, err string }{
		{"Tempo's API v1", string(message), ""},
		{"Tempo's API v2", answer(""), ""},
		{"Tempo's API v2, complete", answer(wiretest.LenField(2, "\x08\x01") + "\x18\x00" + wiretest.LenField(4, "")), ""},
		{"Tempo's API v2, a part", answer("\x18\x01" + wiretest.LenField(4, "too large")), `only a part of the trace was returned by Tempo (status PARTIAL: "too large")`},
		{"Tempo's API v2, with an unknown field", answer(wiretest.LenField(9, "")), "OTLP protobuf: message 1, at byte 0: "},
		{"OTLP before 0.15", older(), ""},
		{"an unknown field instead of scope_spans", wiretest.LenField(1, wiretest.LenField(1, "")+wiretest.LenField(7, "")), "ResourceSpans without scope_spans, but with field 7, which OTLP does not define"},
		{"an unknown field instead of spans", wiretest.LenField(1, wiretest.LenField(2, wiretest.LenField(7, ""))), "ScopeSpans without spans, but with field 7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c otlp.Collector
			err := otlp.Read(strings.NewReader(tc.file), c.Add)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			sameTraces(t, want, c.Traces(), 0)
		})
	}
	// If a sender wrote both fields, both are read.
	both := []byte(older())
	_, n := wiretest.Uvarint(both[1:])
	extra, err := otlp.ToTraces(otlpOf(t, withSpan(5)))
	require.NoError(t, err)
	scope := wiretest.LenField(2, wiretest.LenField(2, string(append(append([]byte{0x0a, 16}, extra[0].ID[:]...), append([]byte{0x12, 8}, extra[0].Spans[0].ID[:]...)...))))
	both = []byte(wiretest.LenField(1, string(both[1+n:])+scope))
	traces, report := asTraces(both)
	require.NoError(t, report.Err())
	assert.Contains(t, idsOf(traces), 5)
	filled, err := columnar.NewFiller(columnar.Needs{All: true}).FillOTLP(both)
	require.NoError(t, err)
	require.Equal(t, len(traces), filled.NumTraces())
	for i := range traces {
		requireSame(t, traces[i], filled.Trace(i))
	}
}

// TestOtherSignalsInProtobufAreSkipped also checks that messages that only resemble other signals are not
// skipped.
func TestOtherSignalsInProtobufAreSkipped(t *testing.T) {
	record := func(fields string) string {
		return wiretest.LenField(1, wiretest.LenField(1, "")+wiretest.LenField(2, wiretest.LenField(1, "")+wiretest.LenField(2, fields)))
	}
	const time = "\x01\x02\x03\x04\x05\x06\x07\x08"
	gauge := wiretest.LenField(5, wiretest.LenField(1, "\x19"+time+"\x31"+time))
	for _, tc := range []struct {
		name, message string
		skipped       bool
	}{
		{"a log record", record("\x09" + time + "\x10\x09" + wiretest.LenField(5, wiretest.LenField(1, "hello"))), true},
		{"a log record that was only observed", record("\x59" + time), true},
		{"a gauge", record(wiretest.LenField(1, "my.metric") + wiretest.LenField(3, "ms") + gauge), true},
		{"a gauge with a name as long as a trace ID", record(wiretest.LenField(1, "0123456789abcdef") + wiretest.LenField(2, "01234567") + gauge), true},
		{"profiles", record("\x0a\x00") + wiretest.LenField(2, "\x0a\x00"), true},
		{"a span whose trace ID is too short", record(wiretest.LenField(1, "0123456789abcde") + wiretest.LenField(2, "01234567") + wiretest.LenField(5, "name")), false},
		{"a span with a time, without an ID", record("\x39" + time + wiretest.LenField(5, "name")), false},
		{"a metric without points", record(wiretest.LenField(1, "my.metric")), false},
		{"nothing known", record(wiretest.LenField(99, "x")), false},
	} {
		_, report := asTraces(withLength([]byte(tc.message)))
		assert.Equal(t, tc.skipped, report.OtherSignals == 1, "%s: %+v", tc.name, report)
		assert.Equal(t, tc.skipped, report.Err() == nil, "%s: %v", tc.name, report.Err())
	}
}

func TestUTF16IsReadInBothOrders(t *testing.T) {
	for _, text := range []string{withSpan(1), "[" + withSpan(1) + "]", "\ufeff" + withSpan(1), "\ufeff \n" + withSpan(1) + "\n" + withSpan(2)} {
		var little, big []byte
		for _, u := range utf16.Encode([]rune(text)) {
			little, big = append(little, byte(u), byte(u>>8)), append(big, byte(u>>8), byte(u))
		}
		for _, file := range [][]byte{little, big} {
			traces, report := asTraces(file)
			require.NoError(t, report.Err(), "% x", file[:8])
			assert.Equal(t, strings.Count(text, "traceId"), len(traces))
		}
	}
}

// TestAFirstMessageOfAnyLengthIsProtobuf checks lengths up to 200 bytes and more. The tag of a first message
// looks like a newline, and a length of 123 bytes looks like '{', one of 91 bytes like '['.
func TestAFirstMessageOfAnyLengthIsProtobuf(t *testing.T) {
	for n := range 200 {
		td := otlpOf(t, withSpan(1))
		td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).SetName(strings.Repeat("n", n))
		traces, report := asTraces(asProto(t, td))
		require.NoError(t, report.Err(), n)
		require.Len(t, traces, 1)
		require.Len(t, traces[0].Spans[0].Name, n)
	}
	traces, report := asTraces([]byte("\n{\n" + withSpan(1)[1:]))
	require.NoError(t, report.Err())
	require.Len(t, traces, 1)
}

func TestCompressedFilesThatCannotBeRead(t *testing.T) {
	file := []byte(strings.Repeat(withSpan(1)+"\n", 100))
	packed := zstdOf(t, file)
	var wide bytes.Buffer
	w, err := zstd.NewWriter(&wide, zstd.WithWindowSize(256<<20))
	require.NoError(t, err)
	for range 300 { // enough data to keep the writer from shrinking the window
		_, err = w.Write(bytes.Repeat([]byte{' '}, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	broken := slices.Clone(packed)
	broken[len(broken)-1] ^= 1 // the checksum
	for _, tc := range []struct {
		name string
		file []byte
		want string
	}{
		{"cut", packed[:len(packed)-5], "the input ends in the middle of a message"},
		{"damaged", broken, "the zstd data is damaged"},
		{"a window that is too wide", wide.Bytes(), "the zstd stream requires a window of more than 128 MiB: decompress it with zstd -d --long=31"},
		{"three times", zstdOf(t, zstdOf(t, packed)), "compressed more than 2 times"},
		{"a damaged message", withLength(broken), "message 1, at byte 0: the zstd data is damaged"},
		{"a cut message", withLength(packed[:len(packed)-5]), "message 1, at byte 0: the input ends in the middle of a message"},
		{"empty", zstdOf(t, nil), "the input is empty"},
	} {
		_, report := asTraces(tc.file)
		assert.ErrorContains(t, report.Err(), tc.want, tc.name)
	}
	traces, report := asTraces(append(zstdOf(t, file), zstdOf(t, []byte(withSpan(2)))...)) // appended frames
	require.NoError(t, report.Err())
	assert.Equal(t, []int{1, 2}, idsOf(traces))
}

// TestAMessageThatCannotBeReadCostsItself checks that in files of length-prefixed messages only the
// unreadable message is lost.
func TestAMessageThatCannotBeReadCostsItself(t *testing.T) {
	var file []byte
	for _, m := range []string{string(asProto(t, otlpOf(t, withSpan(1)))), "\x0a\x7f", withSpan(0), withSpan(2), `{"a": 1}` + "\n" + withSpan(3)} {
		file = append(file, withLength([]byte(m))...)
	}
	traces, report := asTraces(file)
	assert.Equal(t, []int{1, 2, 3}, idsOf(traces))
	assert.Equal(t, 3, report.Unread)
	assert.ErrorContains(t, report.Problems[0], "OTLP protobuf: message 2, at byte ")
	assert.ErrorContains(t, report.Problems[0], "field 1 has a length of 127 bytes, but 0 bytes are left")
	assert.ErrorContains(t, report.Problems[1], "message 3, at byte ")
	assert.ErrorContains(t, report.Problems[2], `line 1: no OTLP traces: an object with "a"`)
}

func TestKeysThatOTLPDoesNotHaveAreCounted(t *testing.T) {
	_, report := asTraces([]byte(`{"resourceSpans": [{"later": {}, "scopeSpans": 1}]}`))
	assert.Empty(t, report.Ignored, "keys of an unread object are not counted")
	_, report = asTraces([]byte(`{"later": 1, "resourceSpans": [{"later": {}, "scopeSpans": [{"spans": [{"traceId": "` + trace1 + `", "spanId": "` + span1 + `", "tags": [1], "tags": [2]}]}]}]}`))
	require.NoError(t, report.Err())
	assert.Equal(t, map[string]int{"TracesData.later": 1, "ResourceSpans.later": 1, "Span.tags": 2}, report.Ignored)
}

func TestAnErrorWhileReadingJSONIsReturned(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, head := range []string{withSpan(1) + "\n", withSpan(1) + "\n" + withSpan(2)[:50], "{", withSpan(1) + "\nx", `{"a" 1}`, withSpan(1) + "\n{\"a\" 1}", "{\"a\" 1}\n" + withSpan(1)} {
		var c otlp.Collector
		report := otlp.ReadFile(io.MultiReader(strings.NewReader(head), iotest.ErrReader(broken)), c.Add)
		assert.ErrorIs(t, report.Ended, broken, head)
		assert.Len(t, c.Traces(), strings.Count(head, "}]}]}]}"))
	}
}

func TestAnObjectThatIsTooLargeCostsItself(t *testing.T) {
	defer otlp.SetMaxObjectBytes(otlp.SetMaxObjectBytes(100_000))
	for name, large := range map[string]string{
		"in one line":    `{"a": "` + strings.Repeat("x", 1_000_000) + `"}`,
		"in many lines":  "{" + strings.Repeat("\"a\":\n 1,", 200_000) + `"b": 1}`,
		"without an end": `{"a": "` + strings.Repeat("x", 1_000_000),
	} {
		traces, report := asTraces([]byte(withSpan(1) + "\n" + large + "\n" + withSpan(2) + "\n"))
		assert.Equal(t, []int{1, 2}, idsOf(traces), name)
		assert.Equal(t, 1, report.Unread, name)
		assert.ErrorContains(t, report.Err(), "line 2: an object has more than 100000 bytes: write smaller objects", name)
	}
}

// TestStringsAreThoseOfJSON compares with encoding/json, also where it refuses them.
func TestStringsAreThoseOfJSON(t *testing.T) {
	for _, s := range []string{
		`""`, `"a"`, `"\"\\\/\b\f\n\r\t"`, `"\u0041\u00e9\u4e16"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83d\u0041"`, `"\ude00\ud83d"`, `"\ud83d\n"`, `"x\u0000y"`, `"世界"`,
		`"\a"`, `"\u12"`, `"\uD83D\uDE0"`, "\"\\n\x01\"", "\"\\n\n\"", `"\`, `"\u`, `"\n`, `"`,
	} {
		var want string
		err := json.Unmarshal([]byte(s), &want)
		traces, report := asTraces([]byte(`{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "` + trace1 + `", "spanId": "` + span1 + `", "name": ` + s + `}]}]}]}`))
		require.Equal(t, err == nil, report.Err() == nil, "%s: %v", s, report.Err())
		if err == nil {
			assert.Equal(t, want, traces[0].Spans[0].Name, s)
		}
	}
}
