package columnar_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
	"github.com/betracehq/betrace/trace/wire/wiretest"
)

func marshal(t testing.TB, td ptrace.Traces) []byte {
	t.Helper()
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)
	return b
}

// collect is the oracle: it returns the traces of OTLP messages as read by pdata and the Collector.
func collect(messages ...[]byte) ([]*trace.Trace, error) {
	var c otlp.Collector
	for _, m := range messages {
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(m)
		if err != nil {
			return nil, err
		}
		if err := c.Add(td); err != nil {
			return nil, err
		}
	}
	return c.Traces(), nil
}

// protoMessages returns generated traces as messages that mix parts of several traces, in any order, with
// further copies of some spans.
func protoMessages(t *testing.T, o tracetest.Options, r *rand.Rand) (messages [][]byte) {
	t.Helper()
	var parts [][]byte // each has one ResourceSpans
	for g := range tracetest.New(o).All() {
		for _, td := range g.Batches {
			for _, rs := range td.ResourceSpans().All() {
				one := ptrace.NewTraces()
				rs.CopyTo(one.ResourceSpans().AppendEmpty())
				parts = append(parts, marshal(t, one))
				if r.IntN(6) == 0 {
					tracetest.Alter(one, r)
					parts = append(parts, marshal(t, one))
				}
				if r.IntN(20) == 0 {
					parts = append(parts, []byte(repeatKeys(one, r)))
				}
			}
		}
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	for len(parts) > 0 { // concatenated messages are one message
		n := 1 + r.IntN(min(8, len(parts)))
		messages = append(messages, slices.Concat(parts[:n]...))
		parts = parts[n:]
	}
	return messages
}

// repeatKeys returns a message with a copy of a span that has repeated keys.
func repeatKeys(td ptrace.Traces, r *rand.Rand) string {
	s := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	traceID, spanID := s.TraceID(), s.SpanID()
	values := []string{wiretest.LenField(1, "a"), wiretest.LenField(1, ""), "\x10\x01", "\x18\x05", "\x1a", "\x18\x05\x0a\x01b", wiretest.LenField(7, "x"), wiretest.LenField(6, wiretest.LenField(1, wiretest.LenField(1, "k"))), "", "\x40\x01"}
	values[4] = wiretest.LenField(6, wiretest.LenField(1, wiretest.LenField(1, "k")+wiretest.LenField(2, "\x18\x01"))+wiretest.LenField(1, wiretest.LenField(2, "\x18\x02")+wiretest.LenField(1, "k")))
	attributes := func(field int) (all string) {
		for range r.IntN(5) {
			kv := wiretest.LenField(1, []string{"k", "service.name", "http.request.method"}[r.IntN(3)])
			for range r.IntN(3) {
				kv += wiretest.LenField(2, values[r.IntN(len(values))])
			}
			all += wiretest.LenField(field, kv)
		}
		return all
	}
	span := wiretest.LenField(1, string(traceID[:])) + wiretest.LenField(2, string(spanID[:])) + "\x30\x02\x30\x03" + attributes(9) +
		wiretest.LenField(11, attributes(3)) + wiretest.LenField(11, "") + wiretest.LenField(13, attributes(4)) + wiretest.LenField(15, "\x18\x01") + wiretest.LenField(15, wiretest.LenField(2, "m"))
	return wiretest.LenField(1, wiretest.LenField(1, attributes(1))+wiretest.LenField(2, wiretest.LenField(2, span))+wiretest.LenField(1, attributes(1)))
}

func requireSame(t *testing.T, want, got *trace.Trace) {
	t.Helper()
	if !tracetest.Same(want, got) {
		t.Fatalf("-want +got:\n%.3000s", cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(trace.Trace{})))
	}
}

func TestFillingFromOTLPIsTheCollectorsWork(t *testing.T) {
	filler := columnar.NewFiller(columnar.Needs{All: true}) // one Filler for all batches, because its memory is reused
	var flags trace.Flags
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		o := tracetest.Mixed(seed, 60)
		for _, n := range tracetest.AllNasty() {
			o.Nasty[n] = 0.2
		}
		messages := protoMessages(t, o, r)
		want, err := collect(messages...)
		require.NoError(t, err)
		b, err := filler.FillOTLP(messages...)
		require.NoError(t, err)
		require.NoError(t, b.Check())
		require.Equal(t, len(want), b.NumTraces())
		for i := range want {
			flags |= want[i].Flags
			requireSame(t, want[i], b.Trace(i))
		}
	}
	require.Len(t, flags.Names(), len(trace.FlagNames), "some flag never occurred")
}

func TestFillingFromOTLPReadsWhatIsNeeded(t *testing.T) {
	for _, needs := range []columnar.Needs{
		{},
		{StatusMessage: true},
		{Instrumentation: true, Links: true},
		{Events: true, Attributes: []columnar.AttributeKey{{Scope: columnar.ScopeAny, Key: "http.request.method"}, {Scope: columnar.ScopeEvent, Key: "exception.type"}}},
		{Attributes: []columnar.AttributeKey{{Scope: columnar.ScopeSpan, Key: "copied"}, {Scope: columnar.ScopeResource, Key: "copied"}, {Scope: columnar.ScopeLink, Key: "copied"}}, Links: true},
		{Whole: []columnar.Scope{columnar.ScopeSpan}},
		{Whole: []columnar.Scope{columnar.ScopeResource, columnar.ScopeEvent}, Events: true},
	} {
		filler := columnar.NewFiller(needs)
		for seed := range uint64(4) {
			messages := protoMessages(t, tracetest.Mixed(seed, 60), rand.New(rand.NewPCG(seed, 3)))
			traces, err := collect(messages...)
			require.NoError(t, err)
			b, err := filler.FillOTLP(messages...)
			require.NoError(t, err)
			require.NoError(t, b.Check())
			require.Equal(t, len(traces), b.NumTraces())
			whole := columnar.NewBatch(needs, traces...)
			for i := range traces {
				want, got := whole.Trace(i), b.Trace(i)
				require.Zero(t, got.Flags&^want.Flags, "a flag without a cause in the trace")
				if want.Flags&trace.FlagMerged != 0 {
					// The greater of two lists of events or links depends on the fields that are read.
					for j := range want.Spans {
						want.Spans[j].Events, want.Spans[j].Links, got.Spans[j].Events, got.Spans[j].Links = nil, nil, nil, nil
					}
				}
				got.Flags = want.Flags // these also cover fields that were not read
				requireSame(t, want, got)
			}
		}
	}
}

func TestNothingOfTheMessagesIsKept(t *testing.T) {
	messages := protoMessages(t, tracetest.Mixed(1, 20), rand.New(rand.NewPCG(1, 4)))
	want, err := collect(messages...)
	require.NoError(t, err)
	b, err := columnar.NewFiller(columnar.Needs{All: true}).FillOTLP(messages...)
	require.NoError(t, err)
	for _, m := range messages {
		clear(m)
	}
	for i := range want {
		requireSame(t, want[i], b.Trace(i))
	}
}

func TestNoMessagesAreAnEmptyBatch(t *testing.T) {
	filler := columnar.NewFiller(columnar.Needs{All: true})
	for _, messages := range [][][]byte{nil, {nil}, {{}, {0x0a, 0}}} {
		b, err := filler.FillOTLP(messages...)
		require.NoError(t, err)
		require.Zero(t, b.NumTraces())
		require.Zero(t, b.NumSpans())
	}
}

func TestSpansWithoutIDsAreNamedInProtobufToo(t *testing.T) {
	for name, spoil := range map[string]func(ptrace.Span){
		"trace": func(s ptrace.Span) { s.SetTraceID(pcommon.TraceID{}) },
		"span":  func(s ptrace.Span) { s.SetSpanID(pcommon.SpanID{}) },
	} {
		t.Run(name, func(t *testing.T) {
			td := tracetest.Merge(tracetest.New(tracetest.Clean(3, 1)).At(0).Batches...)
			good := marshal(t, td)
			ss := td.ResourceSpans().At(td.ResourceSpans().Len() - 1).ScopeSpans().At(0)
			spoil(ss.Spans().At(ss.Spans().Len() - 1))
			_, want := otlp.ToTraces(td)
			require.ErrorContains(t, want, "has no valid ID")
			_, err := columnar.NewFiller(columnar.Needs{}).FillOTLP(good, marshal(t, td))
			require.EqualError(t, err, "OTLP protobuf: message 2: "+want.Error())
		})
	}
}

func TestMalformedOTLPIsAnError(t *testing.T) {
	id, spanID := strings.Repeat("\x01", 16), strings.Repeat("\x02", 8)
	nested := "\x0a\x01v"
	for range 60 {
		nested = wiretest.LenField(5, wiretest.LenField(1, nested))
	}
	span := func(more string) string { // a message of one span
		return wiretest.LenField(1, wiretest.LenField(2, wiretest.LenField(2, wiretest.LenField(1, id)+wiretest.LenField(2, spanID)+more)))
	}
	attribute := func(value string) string {
		return span(wiretest.LenField(9, wiretest.LenField(1, "k")+wiretest.LenField(2, value)))
	}
	for _, c := range []struct{ name, message, want string }{
		{"a length beyond the end", "\x0a\x05\x12", "at byte 0: field 1 has a length of 5 bytes, but 1 bytes are left"},
		{"a huge length", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "at byte 0: field 1 has a length of 18446744073709551615 bytes, but 0 bytes are left"},
		{"no length", "\x0a", "at byte 0: the message ends within a number"},
		{"a cut tag", "\x8a", "at byte 0: the message ends within a number"},
		{"a number that does not end", strings.Repeat("\xff", 11), "at byte 0: a number has more than 10 bytes"},
		{"field 0", "\x02\x00", "at byte 0: invalid field number 0"},
		{"wire type 7", "\x0f", "at byte 0: field 1 has the unknown wire type 7"},
		{"a group that only ends", "\x14", "at byte 0: field 2 ends a group that did not begin"},
		{"a group that does not end", "\x13\x08\x01", "at byte 3: the message ends within a number"},
		{"another type", "\x08\x01", "before byte 2: TracesData.resource_spans has wire type 0, but OTLP requires 2"},
		{"a span's field of another type", span("\x28\x01"), "Span.name has wire type 0, but OTLP requires 2"},
		{"a cut time", span("\x39\x01"), "the message ends within field 7"},
		{"a short trace ID", span(wiretest.LenField(1, "short")), "an ID has 5 bytes, but OTLP requires 16"},
		{"an attribute's value of another type", attribute("\x0d1234"), "AnyValue.string_value has wire type 5, but OTLP requires 2"},
		{"a cut attribute", attribute("\x0a\x02v"), "field 1 has a length of 2 bytes, but 1 bytes are left"},
		{"a value that is nested deeply", attribute(nested), "a value is nested more than 100 messages deep"},
		{"a status of another type", span(wiretest.LenField(15, "\x1a\x00")), "Status.code has wire type 2, but OTLP requires 0"},
		{"a cut event", span(wiretest.LenField(11, "\x09\x00")), "the message ends within field 1"},
		{"a link with a short ID", span(wiretest.LenField(13, wiretest.LenField(2, "short"))), "an ID has 5 bytes, but OTLP requires 8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := columnar.NewFiller(columnar.Needs{All: true}).FillOTLP([]byte(c.message))
			require.ErrorContains(t, err, "OTLP protobuf: message 1: ")
			require.ErrorContains(t, err, c.want)
			require.Nil(t, b)
			if c.name != "a group that does not end" {
				_, err = collect([]byte(c.message))
				require.Error(t, err, "pdata accepts it")
			}
		})
	}
}

func TestWhatIsNotNeededIsNotLookedInto(t *testing.T) {
	ids := wiretest.LenField(1, strings.Repeat("\x01", 16)) + wiretest.LenField(2, strings.Repeat("\x02", 8))
	long := strings.Repeat("long", 10_000)
	attributes := wiretest.LenField(9, wiretest.LenField(1, "wanted")+wiretest.LenField(2, wiretest.LenField(1, long))) + wiretest.LenField(9, wiretest.LenField(1, "unwanted")+wiretest.LenField(2, "\xff")) +
		wiretest.LenField(9, wiretest.LenField(1, long)+wiretest.LenField(2, "\xff")) + wiretest.LenField(9, wiretest.LenField(2, wiretest.LenField(1, "v"))+wiretest.LenField(1, "also wanted"))
	m := []byte(wiretest.LenField(1, wiretest.LenField(2, wiretest.LenField(2, ids+attributes+wiretest.LenField(11, "\xff")+wiretest.LenField(13, "\xff")+wiretest.LenField(3, "a trace state")))))
	b, err := columnar.NewFiller(columnar.Needs{Attributes: []columnar.AttributeKey{{Scope: columnar.ScopeSpan, Key: "wanted"}, {Scope: columnar.ScopeAny, Key: "also wanted"}}}).FillOTLP(m)
	require.NoError(t, err)
	want := trace.Attributes{{Key: "also wanted", Value: trace.StringValue("v")}, {Key: "wanted", Value: trace.StringValue(long)}}
	require.Equal(t, want, b.Trace(0).Spans[0].Attributes)
	_, err = columnar.NewFiller(columnar.Needs{All: true}).FillOTLP(m)
	require.Error(t, err)
}

func TestGroupsAreSkipped(t *testing.T) {
	td := tracetest.Merge(tracetest.New(tracetest.Clean(3, 1)).At(0).Batches...)
	want, err := otlp.ToTraces(td)
	require.NoError(t, err)
	group := "\x1b" + "\x08\x01" + "\x23\x12\x01x\x24" + "\x0d1234" + "\x1c" // field 3: a number, group 4 with a string, a fixed32
	b, err := columnar.NewFiller(columnar.Needs{All: true}).FillOTLP([]byte(group + string(marshal(t, td)) + group))
	require.NoError(t, err)
	requireSame(t, want[0], b.Trace(0))
}
