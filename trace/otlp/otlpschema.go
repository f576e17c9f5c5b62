package otlp

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// otlpKind is the type of a field, which determines its form in JSON and in protobuf.
type otlpKind uint8

const (
	kindMessage otlpKind = iota
	kindString
	kindBytes // base64
	kindID    // hexadecimal digits or base64
	kindBool
	kindEnum
	kindInt    // varint of an int64
	kindIndex  // varint of an int32
	kindCount  // varint of an uint32
	kindFlags  // fixed32
	kindTime   // fixed64 of an uint64
	kindDouble // fixed64
)

// otlpField is a field of a message of OTLP.
type otlpField struct {
	// name is the key in JSON. other lists further accepted names, such as the name in the .proto file, which
	// ProtoJSON also accepts.
	name  string
	other []string
	num   int
	kind  otlpKind
	list  bool
	size  int // bytes of an ID
	enum  map[string]int32
	of    *otlpMessage
}

// otlpMessage is a message of OTLP.
type otlpMessage struct {
	name   string
	fields []otlpField
	// content is the main field of the message. A message without it that has unknown keys is refused, because
	// the content may be under one of these keys. If empty, any field counts as content.
	content string
	// oneof is set if at most one of the fields may be present. That field is written even if it is zero.
	oneof bool
}

// spanKinds and statusCodes are the enums of OTLP: numbers by name.
var (
	spanKinds = map[string]int32{
		"SPAN_KIND_UNSPECIFIED": int32(ptrace.SpanKindUnspecified), "SPAN_KIND_INTERNAL": int32(ptrace.SpanKindInternal), "SPAN_KIND_SERVER": int32(ptrace.SpanKindServer),
		"SPAN_KIND_CLIENT": int32(ptrace.SpanKindClient), "SPAN_KIND_PRODUCER": int32(ptrace.SpanKindProducer), "SPAN_KIND_CONSUMER": int32(ptrace.SpanKindConsumer),
	}
	statusCodes = map[string]int32{
		"STATUS_CODE_UNSET": int32(ptrace.StatusCodeUnset), "STATUS_CODE_OK": int32(ptrace.StatusCodeOk), "STATUS_CODE_ERROR": int32(ptrace.StatusCodeError),
	}
)

// The messages of OTLP traces (opentelemetry-proto 1.9), with the names of their fields in older versions.
var (
	jsonResourceSpans = &otlpMessage{name: "ResourceSpans", content: "scopeSpans", fields: []otlpField{
		{name: "resource", num: 1, of: &otlpMessage{name: "Resource", content: "attributes", fields: []otlpField{
			{name: "attributes", num: 1, list: true, of: jsonKeyValue},
			{name: "droppedAttributesCount", num: 2, kind: kindCount},
			{name: "entityRefs", num: 3, list: true, of: &otlpMessage{name: "EntityRef", fields: []otlpField{
				{name: "schemaUrl", num: 1, kind: kindString},
				{name: "type", num: 2, kind: kindString},
				{name: "idKeys", num: 3, kind: kindString, list: true},
				{name: "descriptionKeys", num: 4, kind: kindString, list: true},
			}}},
		}}},
		// OTLP before 0.15 had instrumentation libraries instead of scopes, in field 1000, with the same
		// content. They are read as scopes, even if a sender wrote both.
		{name: "scopeSpans", other: []string{"instrumentationLibrarySpans", "instrumentation_library_spans", "deprecatedScopeSpans"}, num: 2, list: true, of: jsonScopeSpans},
		{name: "schemaUrl", num: 3, kind: kindString},
	}}
	jsonScopeSpans = &otlpMessage{name: "ScopeSpans", content: "spans", fields: []otlpField{
		{name: "scope", other: []string{"instrumentationLibrary", "instrumentation_library"}, num: 1, of: &otlpMessage{name: "InstrumentationScope", fields: []otlpField{
			{name: "name", num: 1, kind: kindString},
			{name: "version", num: 2, kind: kindString},
			{name: "attributes", num: 3, list: true, of: jsonKeyValue},
			{name: "droppedAttributesCount", num: 4, kind: kindCount},
		}}},
		{name: "spans", num: 2, list: true, of: jsonSpan},
		{name: "schemaUrl", num: 3, kind: kindString},
	}}
	jsonSpan = &otlpMessage{name: "Span", content: "spanId", fields: []otlpField{
		{name: "traceId", num: 1, kind: kindID, size: 16},
		{name: "spanId", num: 2, kind: kindID, size: 8},
		{name: "traceState", num: 3, kind: kindString},
		{name: "parentSpanId", num: 4, kind: kindID, size: 8},
		{name: "flags", num: 16, kind: kindFlags},
		{name: "name", num: 5, kind: kindString},
		{name: "kind", num: 6, kind: kindEnum, enum: spanKinds},
		{name: "startTimeUnixNano", num: 7, kind: kindTime},
		{name: "endTimeUnixNano", num: 8, kind: kindTime},
		{name: "attributes", num: 9, list: true, of: jsonKeyValue},
		{name: "droppedAttributesCount", num: 10, kind: kindCount},
		{name: "events", num: 11, list: true, of: &otlpMessage{name: "Event", fields: []otlpField{
			{name: "timeUnixNano", num: 1, kind: kindTime},
			{name: "name", num: 2, kind: kindString},
			{name: "attributes", num: 3, list: true, of: jsonKeyValue},
			{name: "droppedAttributesCount", num: 4, kind: kindCount},
		}}},
		{name: "droppedEventsCount", num: 12, kind: kindCount},
		{name: "links", num: 13, list: true, of: &otlpMessage{name: "Link", content: "spanId", fields: []otlpField{
			{name: "traceId", num: 1, kind: kindID, size: 16},
			{name: "spanId", num: 2, kind: kindID, size: 8},
			{name: "traceState", num: 3, kind: kindString},
			{name: "attributes", num: 4, list: true, of: jsonKeyValue},
			{name: "droppedAttributesCount", num: 5, kind: kindCount},
			{name: "flags", num: 6, kind: kindFlags},
		}}},
		{name: "droppedLinksCount", num: 14, kind: kindCount},
		{name: "status", num: 15, of: &otlpMessage{name: "Status", content: "code", fields: []otlpField{
			{name: "message", num: 2, kind: kindString},
			{name: "code", num: 3, kind: kindEnum, enum: statusCodes},
		}}},
	}}
	jsonKeyValue = &otlpMessage{name: "KeyValue", content: "value", fields: []otlpField{
		{name: "key", num: 1, kind: kindString},
		{name: "value", num: 2, of: jsonAnyValue},
		{name: "keyStrindex", num: 3, kind: kindIndex},
	}}
	jsonAnyValue = &otlpMessage{name: "AnyValue", oneof: true}
)

func init() {
	// Values hold values, so these fields cannot be part of the variable's initializer.
	jsonAnyValue.fields = []otlpField{
		{name: "stringValue", num: 1, kind: kindString},
		{name: "boolValue", num: 2, kind: kindBool},
		{name: "intValue", num: 3, kind: kindInt},
		{name: "doubleValue", num: 4, kind: kindDouble},
		{name: "arrayValue", num: 5, of: &otlpMessage{name: "ArrayValue", fields: []otlpField{{name: "values", num: 1, list: true, of: jsonAnyValue}}}},
		{name: "kvlistValue", num: 6, of: &otlpMessage{name: "KeyValueList", fields: []otlpField{{name: "values", num: 1, list: true, of: jsonKeyValue}}}},
		{name: "bytesValue", num: 7, kind: kindBytes},
		{name: "stringValueStrindex", num: 8, kind: kindIndex},
	}
	seen := map[*otlpMessage]bool{}
	var prepare func(m *otlpMessage)
	prepare = func(m *otlpMessage) {
		if m == nil || seen[m] {
			return
		}
		seen[m] = true
		for i := range m.fields {
			f := &m.fields[i]
			if snake := snakeCase(f.name); snake != f.name {
				f.other = append(f.other, snake)
			}
			prepare(f.of)
		}
	}
	prepare(jsonResourceSpans)
}

// snakeCase returns a field's name in the .proto file.
func snakeCase(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// find returns the index of the field with the given key, or -1. It starts the search at index from, because
// writers usually keep the order of fields.
func (m *otlpMessage) find(key []byte, from int) int {
	for i := from; i < len(m.fields); i++ {
		if m.fields[i].name == string(key) {
			return i
		}
	}
	for i := range m.fields[:min(from, len(m.fields))] {
		if m.fields[i].name == string(key) {
			return i
		}
	}
	for i := range m.fields {
		for _, name := range m.fields[i].other {
			if name == string(key) {
				return i
			}
		}
	}
	return -1
}

// names returns all names of all fields.
func (m *otlpMessage) names() (names []string) {
	for i := range m.fields {
		names = append(append(names, m.fields[i].name), m.fields[i].other...)
	}
	return names
}

// misspelt returns the name that differs from key only in capitals, underscores, hyphens and spaces, or is
// equal to it, or "" if there is none.
func misspelt(key string, names []string) string {
	for _, name := range names {
		if plainKey(name) == plainKey(key) {
			return name
		}
	}
	return ""
}

func plainKey(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(key))
}
