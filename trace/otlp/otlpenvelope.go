package otlp

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// jsonObject reads a whole JSON object of a file: TracesData, or an object in which tools wrap it or write it
// instead. It returns the number of objects of other signals in the object.
//
// {"resourceSpans": […]}           TracesData, ExportTraceServiceRequest
// {"batches": […]}                 Tempo's API v1, Grafana's download of a trace
// {"trace": {"resourceSpans": …}}  Tempo's API v2
// {"result": {"resourceSpans": …}} Jaeger's API v3, also streamed
// {"resource": …, "scopeSpans": …} ResourceSpans, as OpenTelemetry Java's logging-otlp exporter writes them
func (t *otlpJSON) jsonObject() (otherSignals int) {
	e := envelope{t: t}
	e.read()
	return e.other
}

// envelope is an object that holds spans, directly or in an inner object.
type envelope struct {
	t       *otlpJSON
	depth   int
	holds   bool // the object holds spans, directly or in an inner object
	other   int  // number of objects of other signals
	answer  bool // the object is a response of an API
	status  string
	message string
	unknown []string // the other keys
}

// jsonBatches is the only field of TracesData.
var jsonBatches = otlpField{name: "resourceSpans", num: 1, list: true, of: jsonResourceSpans}

var (
	// scopeKeys identify an object as ResourceSpans; otherScopeKeys identify its counterpart of another
	// signal.
	scopeKeys      = []string{"scopeSpans", "scope_spans", "instrumentationLibrarySpans", "instrumentation_library_spans"}
	otherScopeKeys = []string{"scopeLogs", "scope_logs", "instrumentationLibraryLogs", "scopeMetrics", "scope_metrics", "instrumentationLibraryMetrics", "scopeProfiles", "scope_profiles"}
	// topKeys are the keys in an object of a file that hold spans.
	topKeys = append([]string{"resourceSpans", "resource_spans", "batches"}, scopeKeys...)
	// extraKeys are allowed next to topKeys and are not reported.
	extraKeys = []string{"metrics", "status", "message", "dictionary"}
)

// maxEnvelopes is the maximum nesting of envelopes.
const maxEnvelopes = 3

// maxUnknownKeys is the maximum number of unknown keys of an object that are kept.
const maxUnknownKeys = 50

func (e *envelope) read() {
	t := e.t
	start := t.i
	if c := t.next(); c != '{' {
		t.refuse(t.i, "want an object, found %s", t.describe(c))
		return
	}
	t.open('{', "an object")
	for first := true; t.more(&first, '}'); {
		key := t.key()
		if t.err != nil {
			return
		}
		t.path = append(t.path, jsonStep{string(key), -1})
		e.member(string(key))
		if t.err != nil {
			return
		}
		t.path = t.path[:len(t.path)-1]
	}
	if t.err == nil {
		e.finish(start)
	}
}

// member reads the value of a key.
func (e *envelope) member(key string) {
	t := e.t
	c := t.next()
	switch key {
	case "resourceSpans", "resource_spans", "batches":
		e.holds = true
		t.list(&jsonBatches)
		return
	case "resourceLogs", "resource_logs", "resourceMetrics", "resource_metrics", "resourceProfiles", "resource_profiles":
		e.other++
		t.skip()
		return
	case "trace", "result":
		if c == '{' && e.depth < maxEnvelopes {
			inner := envelope{t: t, depth: e.depth + 1}
			inner.read()
			e.holds, e.answer, e.other = true, true, e.other+inner.other
			return
		}
	case "error":
		if c == '{' {
			from := t.i
			t.skip()
			if t.err == nil {
				t.refuse(from, "this is an error message instead of a trace or a part of it: %s", messageOf(t.b[from:t.i]))
			}
			return
		}
	case "status", "message":
		if c == '"' || c >= '0' && c <= '9' {
			s, _ := t.digits(c)
			if key == "status" {
				e.status = string(s)
			} else {
				e.message = string(s)
			}
			e.note(key)
			return
		}
	}
	e.note(key)
	t.skip()
}

func (e *envelope) note(key string) {
	if len(e.unknown) < maxUnknownKeys {
		e.unknown = append(e.unknown, key)
	}
}

// messageOf returns the message of an error response.
func messageOf(object []byte) string {
	var e struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(object, &e) != nil || e.Message == "" {
		return clip(object)
	}
	return clip([]byte(e.Message))
}

// finish determines the kind of the object from its keys.
func (e *envelope) finish(start int) {
	t := e.t
	has := func(keys []string) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(e.unknown, key) })
	}
	switch {
	case e.answer && (e.status == "PARTIAL" || e.status == "1"):
		t.refuse(start, "only a part of the trace was returned by Tempo (status PARTIAL: %q): raise its max_bytes_per_trace, and get the trace again", clip([]byte(e.message)))
	case e.holds:
		for _, key := range e.unknown {
			if name := misspelt(key, topKeys); name == key {
				t.refuse(start, "%q next to another key with spans: OTLP allows only one in an object", key)
			} else if name != "" {
				t.refuse(start, "unknown key %q: OTLP's key is %q", key, name)
			} else if !slices.Contains(extraKeys, key) {
				t.ignore("TracesData", key)
			}
		}
	case has(scopeKeys):
		end := t.i
		t.i = start
		if t.field(&jsonBatches); t.err == nil {
			t.i = end
		}
	case has(otherScopeKeys):
		e.other++
	case e.other == 0 && len(e.unknown) > 0:
		t.refuse(start, "%w", refuseObject(t.b[start:t.i], e.unknown))
	}
}

// notOTLPError is the error for an object that is not OTLP.
type notOTLPError string

func (e notOTLPError) Error() string { return string(e) }

// refuseObject returns the error for an object that is not OTLP, or whose keys are misspelt.
func refuseObject(object []byte, keys []string) error {
	for _, key := range keys {
		if name := misspelt(key, topKeys); name != "" {
			return fmt.Errorf("unknown key %q: OTLP's key is %q", key, name)
		}
	}
	if f := foreign(object); f != nil {
		return notOTLPError(fmt.Sprintf("this is %s: %s", f.name, f.remedy))
	}
	const most = 5
	list := keys[:min(most, len(keys))]
	quoted := make([]string, len(list))
	for i, key := range list {
		quoted[i] = fmt.Sprintf("%q", clip([]byte(key)))
	}
	more := ""
	if len(keys) > most {
		more = fmt.Sprintf(" and %d more", len(keys)-most)
	}
	return notOTLPError(fmt.Sprintf(`no OTLP traces: an object with %s%s, without "resourceSpans"`, strings.Join(quoted, ", "), more))
}

// foreignFormat is a format other than OTLP that holds traces or is mistaken for one that does.
type foreignFormat struct {
	name string
	// has lists paths of keys; an object of the format has all of them. In a list, a path follows the first
	// element.
	has    [][]string
	remedy string
}

const (
	byTempo  = "`betrace export --trace ID` writes a trace as OTLP if Tempo has it"
	byGetter = "; " + byTempo
)

// foreignFormats lists the formats, the most specific first.
var foreignFormats = []foreignFormat{
	{"Jaeger's JSON, of its UI or its API v2", [][]string{{"data", "spans", "operationName"}}, "get the trace as OTLP from /api/v3/traces/ID of Jaeger's query service" + byGetter},
	{"Jaeger's JSON", [][]string{{"spans", "operationName"}}, "get the trace as OTLP from /api/v3/traces/ID of Jaeger's query service" + byGetter},
	{"Jaeger's JSON", [][]string{{"operationName"}, {"spanID"}}, "get the trace as OTLP from /api/v3/traces/ID of Jaeger's query service" + byGetter},
	{"a document of Elasticsearch or OpenSearch", [][]string{{"_source"}}, "get the traces as OTLP from the program that writes them there" + byGetter},
	{"a response of an Elasticsearch or OpenSearch search", [][]string{{"hits", "hits"}}, "get the traces as OTLP from the program that writes them there" + byGetter},
	{"a response of Tempo's search, which has no whole traces", [][]string{{"traces", "traceID"}}, "`betrace export --query` with the same query writes whole traces"},
	{"an AWS X-Ray trace", [][]string{{"Traces", "Segments"}}, "send the segments to the Collector's awsxray receiver, and write OTLP with its file exporter"},
	{"an AWS X-Ray trace", [][]string{{"Segments", "Document"}}, "send the segments to the Collector's awsxray receiver, and write OTLP with its file exporter"},
	{"an AWS X-Ray segment", [][]string{{"trace_id"}, {"id"}, {"start_time"}}, "send it to the Collector's awsxray receiver, and write OTLP with its file exporter"},
	{"Datadog's JSON", [][]string{{"trace_id"}, {"span_id"}, {"service"}, {"resource"}}, "send it to the Collector's datadog receiver, and write OTLP with its file exporter"},
	{"a response of Datadog's API", [][]string{{"data", "attributes"}, {"data", "type"}}, "record the traces with the Collector's datadog receiver, and write OTLP with its file exporter"},
	{"the console exporter of OpenTelemetry for Python", [][]string{{"context", "trace_id"}, {"context", "span_id"}}, "use an OTLP exporter, and the Collector's file exporter"},
	{"the stdouttrace exporter of OpenTelemetry for Go", [][]string{{"SpanContext", "TraceID"}}, "use an OTLP exporter, and the Collector's file exporter"},
	{"Zipkin's JSON", [][]string{{"traceId"}, {"id"}, {"localEndpoint"}}, "post it to the Collector's zipkin receiver (/api/v2/spans), and write OTLP with its file exporter" + byGetter},
	{"Zipkin's JSON", [][]string{{"traceId"}, {"id"}, {"timestamp"}}, "post it to the Collector's zipkin receiver (/api/v2/spans), and write OTLP with its file exporter" + byGetter},
	{"Zipkin's JSON", [][]string{{"traceId"}, {"id"}, {"name"}}, "post it to the Collector's zipkin receiver (/api/v2/spans), and write OTLP with its file exporter" + byGetter},
	{"the trace events of a browser", [][]string{{"traceEvents"}}, "use an OTLP exporter, and the Collector's file exporter"},
	{"a span without its trace's envelope", [][]string{{"traceId"}, {"spanId"}}, `put it into {"resourceSpans": [{"resource": …, "scopeSpans": [{"spans": […]}]}]}`},
	{"ScopeSpans without their resource", [][]string{{"spans", "traceId"}, {"spans", "spanId"}}, `put it into {"resourceSpans": [{"resource": …, "scopeSpans": […]}]}`},
}

// foreign returns the format of an object, or nil if it is unknown.
func foreign(object []byte) *foreignFormat {
	const most = 16 << 20
	var doc any
	if len(object) > most || json.Unmarshal(object, &doc) != nil {
		return nil
	}
	for i := range foreignFormats {
		f := &foreignFormats[i]
		if !slices.ContainsFunc(f.has, func(path []string) bool { return !hasPath(doc, path) }) {
			return f
		}
	}
	return nil
}

func hasPath(doc any, path []string) bool {
	for _, key := range path {
		if list, ok := doc.([]any); ok {
			if len(list) == 0 {
				return false
			}
			doc = list[0]
		}
		object, ok := doc.(map[string]any)
		if !ok {
			return false
		}
		if doc, ok = object[key]; !ok {
			return false
		}
	}
	return true
}
