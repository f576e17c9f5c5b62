package otlp_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"

	"github.com/betracehq/betrace/trace"
)

// plainTraces reads OTLP JSON with encoding/json into maps and converts these. It shares no code with
// ReadFile, is slow, and accepts anything that it does not check: if ReadFile returns no error, both must
// give the same traces.
func plainTraces(file []byte) (traces []*trace.Trace, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("plain: %v", r)
		}
	}()
	p := plainReader{}
	dec := json.NewDecoder(bytes.NewReader(file))
	dec.UseNumber()
	for {
		var doc any
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		p.document(doc)
	}
	for id, spans := range p.spans {
		t := trace.New(id, spans)
		t.Flags |= p.flags[id]
		traces = append(traces, t)
	}
	return traces, nil
}

type plainReader struct {
	spans map[trace.ID][]trace.Span
	flags map[trace.ID]trace.Flags
}

// members returns the values of a key in any of its spellings.
func members(object any, names ...string) (values []any) {
	for _, name := range names {
		if v, ok := object.(map[string]any)[name]; ok && v != nil {
			values = append(values, v)
		}
	}
	return values
}

func elements(object any, names ...string) (list []any) {
	for _, v := range members(object, names...) {
		list = append(list, v.([]any)...)
	}
	return list
}

func member(object any, names ...string) any {
	for _, v := range members(object, names...) {
		return v
	}
	return nil
}

func text(object any, names ...string) string {
	s, _ := member(object, names...).(string)
	return s
}

func (p *plainReader) document(doc any) {
	if list, ok := doc.([]any); ok {
		for _, e := range list {
			p.document(e)
		}
		return
	}
	for _, inner := range members(doc, "trace", "result") {
		if _, ok := inner.(map[string]any); ok {
			p.document(inner)
		}
	}
	for _, rs := range elements(doc, "resourceSpans", "resource_spans", "batches") {
		p.resourceSpans(rs)
	}
	p.resourceSpans(doc)
}

var oldScopes = []string{"scopeSpans", "scope_spans", "instrumentationLibrarySpans", "instrumentation_library_spans", "deprecatedScopeSpans"}

func (p *plainReader) resourceSpans(rs any) {
	if rs == nil {
		return
	}
	scopes := elements(rs, oldScopes...)
	if len(scopes) == 0 {
		return
	}
	var resourceFlags trace.Flags
	resource := trace.Attributes{}
	if r := member(rs, "resource"); r != nil {
		resource = plainAttributes(elements(r, "attributes"), &resourceFlags)
	}
	for _, ss := range scopes {
		if ss == nil {
			continue
		}
		scope := member(ss, "scope", "instrumentationLibrary", "instrumentation_library")
		for _, s := range elements(ss, "spans") {
			flags := resourceFlags
			span := trace.Span{
				ID: trace.SpanID(plainID(text(s, "spanId", "span_id"), 8)), ParentID: trace.SpanID(plainID(text(s, "parentSpanId", "parent_span_id"), 8)),
				Name: text(s, "name"), Kind: trace.Kind(plainEnum(member(s, "kind"), "SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER", "SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER")),
				Start: plainTime(s, "startTimeUnixNano", "start_time_unix_nano"), End: plainTime(s, "endTimeUnixNano", "end_time_unix_nano"),
				Attributes: plainAttributes(elements(s, "attributes"), &flags), Resource: resource,
			}
			if scope != nil {
				span.Scope, span.ScopeVersion = text(scope, "name"), text(scope, "version")
			}
			if status := member(s, "status"); status != nil {
				span.StatusMessage = text(status, "message")
				span.Status = trace.Status(plainEnum(member(status, "code"), "STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"))
			}
			for _, e := range elements(s, "events") {
				event := trace.Event{}
				if e != nil {
					event = trace.Event{Name: text(e, "name"), Time: plainTime(e, "timeUnixNano", "time_unix_nano"), Attributes: plainAttributes(elements(e, "attributes"), &flags)}
				}
				span.Events = append(span.Events, event)
			}
			for _, l := range elements(s, "links") {
				link := trace.Link{}
				if l != nil {
					link = trace.Link{TraceID: trace.ID(plainID(text(l, "traceId", "trace_id"), 16)), SpanID: trace.SpanID(plainID(text(l, "spanId", "span_id"), 8)), Attributes: plainAttributes(elements(l, "attributes"), &flags)}
				}
				span.Links = append(span.Links, link)
			}
			id := trace.ID(plainID(text(s, "traceId", "trace_id"), 16))
			if p.spans == nil {
				p.spans, p.flags = map[trace.ID][]trace.Span{}, map[trace.ID]trace.Flags{}
			}
			p.spans[id] = append(p.spans[id], span)
			p.flags[id] |= flags
		}
	}
}

func plainID(s string, size int) []byte {
	b := make([]byte, size)
	switch {
	case s == "":
	case len(s) == 2*size:
		decoded, err := hex.DecodeString(s)
		if err != nil {
			panic(err)
		}
		b = decoded
	default:
		b = plainBytes(s)
	}
	return b
}

func plainBytes(s string) []byte {
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if b, err := e.DecodeString(s); err == nil {
			return b
		}
	}
	panic("no base64: " + s)
}

// plainWhole returns a whole number, exactly.
func plainWhole(v any) *big.Int {
	r, ok := new(big.Rat).SetString(fmt.Sprint(v))
	if !ok || !r.IsInt() {
		panic(fmt.Sprintf("no whole number: %v", v))
	}
	return r.Num()
}

func plainTime(object any, names ...string) trace.Time {
	if v := member(object, names...); v != nil {
		return trace.Time(plainWhole(v).Uint64())
	}
	return 0
}

func plainEnum(v any, names ...string) int32 {
	for i, name := range names {
		if v == name {
			return int32(i)
		}
	}
	if v == nil {
		return 0
	}
	return int32(plainWhole(v).Int64())
}

func plainAttributes(list []any, flags *trace.Flags) trace.Attributes {
	var attrs []trace.Attribute
	for _, kv := range list {
		if kv == nil {
			continue
		}
		attrs = append(attrs, trace.Attribute{Key: text(kv, "key"), Value: plainValue(member(kv, "value"), flags)})
	}
	normal, repeated := trace.NewAttributes(attrs)
	if repeated {
		*flags |= trace.FlagRepeatedKey
	}
	return normal
}

func plainValue(v any, flags *trace.Flags) trace.Value {
	if v == nil {
		return trace.Value{}
	}
	for key, of := range v.(map[string]any) {
		if of == nil {
			continue
		}
		switch strings.ReplaceAll(strings.ToLower(key), "_", "") {
		case "stringvalue":
			return trace.StringValue(of.(string))
		case "boolvalue":
			return trace.BoolValue(of.(bool))
		case "intvalue":
			return trace.IntValue(plainWhole(of).Int64())
		case "doublevalue":
			f, err := strconv.ParseFloat(fmt.Sprint(of), 64)
			if err != nil {
				panic(err)
			}
			return trace.DoubleValue(f)
		case "bytesvalue":
			return trace.BytesValue(plainBytes(of.(string)))
		case "arrayvalue":
			values := []trace.Value{}
			for _, e := range elements(of, "values") {
				values = append(values, plainValue(e, flags))
			}
			return trace.ArrayValue(values...)
		case "kvlistvalue":
			return trace.MapValue(plainAttributes(elements(of, "values"), flags))
		}
	}
	return trace.Value{}
}
