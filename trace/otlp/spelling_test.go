package otlp_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
	"github.com/betracehq/betrace/trace/wire/wiretest"
)

// speller writes OTLP JSON in random spellings: each field in one of the forms that ProtoJSON, OTLP or a tool
// uses.
type speller struct {
	r *rand.Rand
	b bytes.Buffer
	// ordinary is the probability of OTLP's own spelling.
	ordinary float64
}

func (s *speller) pick(ordinary string, other ...string) string {
	if s.r.Float64() < s.ordinary || len(other) == 0 {
		return ordinary
	}
	return other[s.r.IntN(len(other))]
}

func (s *speller) space() {
	if s.r.Float64() >= s.ordinary {
		s.b.WriteString([]string{" ", "\t", "\n", "\r\n", "  "}[s.r.IntN(5)])
	}
}

// spelt is a field and the function that writes its value.
type spelt struct {
	names []string // OTLP's own name first
	write func()
	zero  bool // the value is the default
	must  bool // it is written even if it is the default
}

func (s *speller) object(fields ...spelt) {
	if s.r.Float64() >= s.ordinary {
		s.r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	}
	s.b.WriteByte('{')
	first := true
	key := func(name string) {
		if !first {
			s.b.WriteByte(',')
		}
		first = false
		s.space()
		s.string(name)
		s.space()
		s.b.WriteByte(':')
		s.space()
	}
	known := false
	for _, f := range fields {
		switch {
		case f.zero && !f.must && s.r.IntN(3) == 0:
			key(s.pick(f.names[0], f.names[1:]...))
			s.b.WriteString("null")
		case f.zero && !f.must && s.r.IntN(2) == 0:
		default:
			key(s.pick(f.names[0], f.names[1:]...))
			f.write()
			known = true
		}
	}
	if known && len(fields) > 2 && s.r.Float64() >= s.ordinary && s.r.IntN(4) == 0 { // an unknown key, as of a later version
		key("zLater")
		s.b.WriteString([]string{`null`, `[1, {"a": [true, -1.5e3]}]`, `"spans"`, `{"spans": []}`, `{}`}[s.r.IntN(5)])
	}
	s.space()
	s.b.WriteByte('}')
}

func (s *speller) list(n int, write func(i int)) {
	s.b.WriteByte('[')
	for i := range n {
		if i > 0 {
			s.b.WriteByte(',')
		}
		s.space()
		write(i)
		s.space()
	}
	s.b.WriteByte(']')
}

func (s *speller) string(v string) {
	if s.r.Float64() < s.ordinary {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		s.b.Write(b)
		return
	}
	s.b.WriteByte('"')
	for _, r := range v {
		switch {
		case r < ' ' || r == '"' || r == '\\' || s.r.IntN(3) == 0:
			for _, u := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&s.b, []string{`\u%04x`, `\u%04X`}[s.r.IntN(2)], u)
			}
		case r == '/':
			s.b.WriteString(`\/`)
		default:
			s.b.WriteRune(r)
		}
	}
	s.b.WriteByte('"')
}

func (s *speller) base64(b []byte) {
	e := []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding}[s.r.IntN(4)]
	s.string(e.EncodeToString(b))
}

func (s *speller) id(b []byte) {
	switch {
	case slices.Max(b) == 0:
		s.b.WriteString(s.pick(`""`, `null`))
	case s.r.Float64() < s.ordinary:
		s.string(hex.EncodeToString(b))
	case s.r.IntN(2) == 0:
		s.string(strings.ToUpper(hex.EncodeToString(b)))
	default:
		s.base64(b)
	}
}

func (s *speller) whole(digits string) {
	forms := []string{digits, digits + ".0", digits + "e0", digits + "0E-1", digits + "00.0e-2"}
	if digits == "0" {
		forms = []string{"0.000", "0e7", "-0"}
	}
	if sign := strings.TrimSuffix(digits, strings.TrimLeft(digits, "-")); len(digits) > len(sign)+1 {
		plain := digits[len(sign):]
		forms = append(forms, sign+plain[:1]+"."+plain[1:]+"e+"+strconv.Itoa(len(plain)-1))
	}
	v := s.pick(digits, forms...)
	if s.r.IntN(2) == 0 {
		v = `"` + v + `"`
	}
	s.b.WriteString(v)
}

func (s *speller) double(f float64) {
	switch {
	case math.IsNaN(f):
		s.b.WriteString(`"NaN"`)
	case math.IsInf(f, 0):
		s.b.WriteString(map[bool]string{true: `"Infinity"`, false: `"-Infinity"`}[f > 0])
	default:
		v := strconv.FormatFloat(f, "eg"[s.r.IntN(2)], -1, 64)
		if s.r.Float64() >= s.ordinary {
			v = `"` + v + `"`
		}
		s.b.WriteString(v)
	}
}

func (s *speller) enum(v int32, names ...string) {
	if int(v) < len(names) && v >= 0 && s.r.IntN(2) == 0 {
		s.string(names[v])
		return
	}
	s.b.WriteString(s.pick(strconv.Itoa(int(v)), strconv.Itoa(int(v))+".0"))
}

func (s *speller) attributes(m pcommon.Map) spelt {
	return spelt{[]string{"attributes"}, func() { s.keyValues(m) }, m.Len() == 0, false}
}

func (s *speller) keyValues(m pcommon.Map) {
	var keys []string
	var values []pcommon.Value
	for k, v := range m.All() {
		keys, values = append(keys, k), append(values, v)
	}
	s.list(len(keys), func(i int) {
		s.object(
			spelt{[]string{"key"}, func() { s.string(keys[i]) }, keys[i] == "", false},
			spelt{[]string{"value"}, func() { s.value(values[i]) }, values[i].Type() == pcommon.ValueTypeEmpty, false})
	})
}

func (s *speller) value(v pcommon.Value) {
	var f spelt
	switch v.Type() {
	case pcommon.ValueTypeEmpty:
		s.b.WriteString(s.pick(`{}`, `{"stringValue": null}`, `{"int_value": null, "boolValue": null}`))
		return
	case pcommon.ValueTypeStr:
		f = spelt{[]string{"stringValue", "string_value"}, func() { s.string(v.Str()) }, false, true}
	case pcommon.ValueTypeBool:
		f = spelt{[]string{"boolValue", "bool_value"}, func() { s.b.WriteString(strconv.FormatBool(v.Bool())) }, false, true}
	case pcommon.ValueTypeInt:
		f = spelt{[]string{"intValue", "int_value"}, func() { s.whole(strconv.FormatInt(v.Int(), 10)) }, false, true}
	case pcommon.ValueTypeDouble:
		f = spelt{[]string{"doubleValue", "double_value"}, func() { s.double(v.Double()) }, false, true}
	case pcommon.ValueTypeBytes:
		f = spelt{[]string{"bytesValue", "bytes_value"}, func() { s.base64(v.Bytes().AsRaw()) }, false, true}
	case pcommon.ValueTypeSlice:
		f = spelt{[]string{"arrayValue", "array_value"}, func() {
			s.object(spelt{[]string{"values"}, func() { s.list(v.Slice().Len(), func(i int) { s.value(v.Slice().At(i)) }) }, v.Slice().Len() == 0, false})
		}, false, true}
	case pcommon.ValueTypeMap:
		f = spelt{[]string{"kvlistValue", "kvlist_value"}, func() {
			s.object(spelt{[]string{"values"}, func() { s.keyValues(v.Map()) }, v.Map().Len() == 0, false})
		}, false, true}
	}
	s.object(f)
}

func (s *speller) text(v string, names ...string) spelt {
	return spelt{names, func() { s.string(v) }, v == "", false}
}

func (s *speller) time(v pcommon.Timestamp, names ...string) spelt {
	return spelt{names, func() { s.whole(strconv.FormatUint(uint64(v), 10)) }, v == 0, false}
}

func (s *speller) count(v uint32, names ...string) spelt {
	return spelt{names, func() {
		if v == 0 && s.r.IntN(2) == 0 {
			s.b.WriteString(`-1`)
			return
		}
		s.whole(strconv.Itoa(int(v)))
	}, v == 0, false}
}

func (s *speller) span(o ptrace.Span) {
	traceID, spanID, parentID := o.TraceID(), o.SpanID(), o.ParentSpanID()
	s.object(
		spelt{[]string{"traceId", "trace_id"}, func() { s.id(traceID[:]) }, false, true},
		spelt{[]string{"spanId", "span_id"}, func() { s.id(spanID[:]) }, false, true},
		spelt{[]string{"parentSpanId", "parent_span_id"}, func() { s.id(parentID[:]) }, o.ParentSpanID().IsEmpty(), false},
		s.text(o.TraceState().AsRaw(), "traceState", "trace_state"),
		spelt{[]string{"flags"}, func() { s.whole(strconv.FormatUint(uint64(o.Flags()), 10)) }, o.Flags() == 0, false},
		s.text(o.Name(), "name"),
		spelt{[]string{"kind"}, func() {
			s.enum(int32(o.Kind()), "SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER", "SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER")
		}, o.Kind() == 0, false},
		s.time(o.StartTimestamp(), "startTimeUnixNano", "start_time_unix_nano"),
		s.time(o.EndTimestamp(), "endTimeUnixNano", "end_time_unix_nano"),
		s.attributes(o.Attributes()),
		s.count(o.DroppedAttributesCount(), "droppedAttributesCount", "dropped_attributes_count"),
		spelt{[]string{"events"}, func() {
			s.list(o.Events().Len(), func(i int) {
				e := o.Events().At(i)
				if e.Timestamp() == 0 && e.Name() == "" && e.Attributes().Len() == 0 && s.r.IntN(2) == 0 {
					s.b.WriteString(`null`)
					return
				}
				s.object(s.time(e.Timestamp(), "timeUnixNano", "time_unix_nano"), s.text(e.Name(), "name"), s.attributes(e.Attributes()), s.count(e.DroppedAttributesCount(), "droppedAttributesCount"))
			})
		}, o.Events().Len() == 0, false},
		spelt{[]string{"links"}, func() {
			s.list(o.Links().Len(), func(i int) {
				l := o.Links().At(i)
				traceID, spanID := l.TraceID(), l.SpanID()
				s.object(
					spelt{[]string{"traceId", "trace_id"}, func() { s.id(traceID[:]) }, l.TraceID().IsEmpty(), true},
					spelt{[]string{"spanId", "span_id"}, func() { s.id(spanID[:]) }, l.SpanID().IsEmpty(), true},
					s.attributes(l.Attributes()))
			})
		}, o.Links().Len() == 0, false},
		spelt{[]string{"status"}, func() {
			s.object(s.text(o.Status().Message(), "message"), spelt{[]string{"code"}, func() {
				s.enum(int32(o.Status().Code()), "STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")
			}, o.Status().Code() == 0, false})
		}, o.Status().Code() == 0 && o.Status().Message() == "", false})
}

func (s *speller) resourceSpans(rs ptrace.ResourceSpans) {
	s.object(
		spelt{[]string{"resource"}, func() {
			s.object(s.attributes(rs.Resource().Attributes()), s.count(rs.Resource().DroppedAttributesCount(), "droppedAttributesCount", "dropped_attributes_count"))
		}, rs.Resource().Attributes().Len() == 0, false},
		spelt{[]string{"scopeSpans", "scope_spans", "instrumentationLibrarySpans", "instrumentation_library_spans"}, func() {
			s.list(rs.ScopeSpans().Len(), func(i int) {
				ss := rs.ScopeSpans().At(i)
				s.object(
					spelt{[]string{"scope", "instrumentationLibrary", "instrumentation_library"}, func() {
						s.object(s.text(ss.Scope().Name(), "name"), s.text(ss.Scope().Version(), "version"), s.attributes(ss.Scope().Attributes()))
					}, ss.Scope().Name() == "" && ss.Scope().Version() == "" && ss.Scope().Attributes().Len() == 0, false},
					spelt{[]string{"spans"}, func() { s.list(ss.Spans().Len(), func(j int) { s.span(ss.Spans().At(j)) }) }, false, true},
					s.text(ss.SchemaUrl(), "schemaUrl", "schema_url"))
			})
		}, false, true},
		s.text(rs.SchemaUrl(), "schemaUrl", "schema_url"))
}

// message writes a whole message as one object or as several.
func (s *speller) message(td ptrace.Traces) {
	all := func(names ...string) {
		s.object(spelt{names, func() {
			s.list(td.ResourceSpans().Len(), func(i int) { s.resourceSpans(td.ResourceSpans().At(i)) })
		}, false, true})
	}
	switch s.pick("", "tempo v2", "tempo v1", "jaeger", "java", "list") {
	case "tempo v1":
		all("batches")
	case "tempo v2":
		s.object(spelt{[]string{"trace"}, func() { all("resourceSpans", "resource_spans", "batches") }, false, true},
			spelt{[]string{"metrics"}, func() { s.b.WriteString(`{"inspectedBytes": "1"}`) }, true, false},
			spelt{[]string{"status"}, func() { s.b.WriteString(`"COMPLETE"`) }, true, false})
	case "jaeger":
		s.object(spelt{[]string{"result"}, func() { all("resourceSpans", "resource_spans") }, false, true})
	case "java":
		for i := range td.ResourceSpans().Len() {
			s.resourceSpans(td.ResourceSpans().At(i))
			s.b.WriteString("\n")
		}
	case "list":
		s.list(td.ResourceSpans().Len(), func(i int) {
			if s.r.IntN(2) == 0 {
				s.resourceSpans(td.ResourceSpans().At(i))
			} else {
				s.object(spelt{[]string{"resourceSpans", "batches"}, func() { s.list(1, func(int) { s.resourceSpans(td.ResourceSpans().At(i)) }) }, false, true})
			}
		})
	default:
		all("resourceSpans", "resource_spans")
	}
}

// otherSignals are objects that are skipped.
var otherSignals = []string{`{"resourceLogs": [{"scopeLogs": [{"spans": 1}]}]}`, `{"resource_metrics": []}`, `{"resourceProfiles": null}`, `{"resource": {}, "scopeMetrics": [{}]}`}

// file writes messages as one file, in UTF-8 without compression.
func (s *speller) file(list []ptrace.Traces) (file []byte, skipped int) {
	s.b.Reset()
	for _, td := range list {
		if s.r.Float64() >= s.ordinary && s.r.IntN(3) == 0 {
			s.b.WriteString(otherSignals[s.r.IntN(len(otherSignals))])
			skipped++
		}
		s.message(td)
		s.b.WriteString(s.pick("\n", "", " ", "\r\n\r\n", "\ufeff"))
	}
	return bytes.Clone(s.b.Bytes()), skipped
}

// packed returns a file in a random encoding and compression.
func (s *speller) packed(t testing.TB, file []byte) []byte {
	if s.r.Float64() >= s.ordinary {
		switch s.r.IntN(5) {
		case 0:
			file = append([]byte("\ufeff"), file...)
		case 1, 2, 3, 4:
			units := utf16.Encode([]rune(string(file)))
			big, mark := s.r.IntN(2) == 0, s.r.IntN(2) == 0 || !bytes.HasPrefix(file, []byte("{")) && !bytes.HasPrefix(file, []byte("["))
			if mark {
				units = append([]uint16{0xfeff}, units...)
			}
			file = nil
			for _, u := range units {
				if big {
					file = append(file, byte(u>>8), byte(u))
				} else {
					file = append(file, byte(u), byte(u>>8))
				}
			}
		}
	}
	for range s.r.IntN(3) {
		switch {
		case s.r.Float64() < s.ordinary:
		case s.r.IntN(2) == 0:
			file = zipped(t, file)
		default:
			file = zstdOf(t, file)
		}
	}
	return file
}

func zstdOf(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// asTraces reads the traces of a file.
func asTraces(file []byte) ([]*trace.Trace, otlp.FileReport) {
	var c otlp.Collector
	report := otlp.ReadFile(bytes.NewReader(file), c.Add)
	return c.Traces(), report
}

// TestEverySpellingIsTheSameTrace writes the same messages in random spellings, envelopes, encodings and
// compressions. Reading them must give the traces of the messages, and the same as a plain reader of the
// JSON.
func TestEverySpellingIsTheSameTrace(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 60
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 15))
		o := tracetest.Mixed(seed, 2)
		o.MaxSpans = 6
		for _, n := range tracetest.AllNasty() {
			o.Nasty[n] = 0.3
		}
		o.Nasty[tracetest.LongValues] = 0
		var list []ptrace.Traces
		var want otlp.Collector
		for g := range tracetest.New(o).All() {
			for _, td := range g.Batches {
				tracetest.Alter(td, r)
				list = append(list, td)
			}
		}
		for range 3 {
			td := ptrace.NewTraces()
			s := tracetest.RandomSpan(r, 4, 3)
			appendOTLP(td, &s)
			list = append(list, td)
		}
		for i := range list {
			list[i] = otlpOf(t, string(asJSON(t, list[i]))) // round trip through pdata, because JSON has only one NaN
			require.NoError(t, want.Add(list[i]))
		}
		truth := want.Traces()
		s := speller{r: r, ordinary: r.Float64()}
		file, skipped := s.file(list)
		got, report := asTraces(s.packed(t, file))
		require.NoError(t, report.Err(), "seed %d\n%s", seed, file)
		require.Equal(t, skipped, report.OtherSignals, "seed %d", seed)
		sameTraces(t, truth, got, seed)
		if !bytes.Contains(file, []byte("\ufeff")) {
			plain, err := plainTraces(file)
			require.NoError(t, err, "seed %d", seed)
			slices.SortFunc(plain, func(a, b *trace.Trace) int { return a.ID.Compare(b.ID) })
			sameTraces(t, truth, plain, seed)
		}
	}
}

func sameTraces(t *testing.T, want, got []*trace.Trace, seed uint64) {
	t.Helper()
	require.Len(t, got, len(want), "seed %d", seed)
	for i := range want {
		if !tracetest.Same(want[i], got[i]) {
			requireSame(t, want[i], got[i])
			t.Fatalf("seed %d: traces differ", seed)
		}
	}
}

// TestMessagesWithLengthsAreReadInEveryForm writes length-prefixed messages as protobuf or JSON, with or
// without zstd, some as responses of Tempo and some of other signals.
func TestMessagesWithLengthsAreReadInEveryForm(t *testing.T) {
	list := messages(40)
	var want otlp.Collector
	var file []byte
	logs := 0
	for i, td := range list {
		td = otlpOf(t, string(asJSON(t, td))) // JSON has only one NaN
		require.NoError(t, want.Add(td))
		b := asProto(t, td)
		switch i % 4 {
		case 1:
			b = asJSON(t, td)
		case 2:
			b = zstdOf(t, b)
		case 3:
			b = zstdOf(t, append(asJSON(t, td), '\n'))
		}
		file = append(file, withLength(b)...)
		if i%5 == 0 {
			b = []byte(wiretest.LenField(1, wiretest.LenField(2, wiretest.LenField(2, "\x09\x01\x00\x00\x00\x00\x00\x00\x00\x10\x09")))) // a log record
			if i%2 == 0 {
				b = zstdOf(t, b)
			}
			file = append(file, withLength(b)...)
			logs++
		}
	}
	truth := want.Traces()
	for name, file := range map[string][]byte{"plain": file, "zstd": zstdOf(t, file), "gzip": zipped(t, file), "gzip of zstd": zipped(t, zstdOf(t, file))} {
		got, report := asTraces(file)
		require.NoError(t, report.Err(), name)
		require.Equal(t, logs, report.OtherSignals, name)
		require.Equal(t, len(list), report.Objects, name)
		sameTraces(t, truth, got, 0)
	}
}

func requireSame(t *testing.T, want, got *trace.Trace) {
	t.Helper()
	if !tracetest.Same(want, got) {
		t.Fatalf("-want +got:\n%.3000s", cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(trace.Trace{})))
	}
}
