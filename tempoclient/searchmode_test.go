package tempoclient_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/tempopb"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// shop is a Tempo with traces of one span that has the attribute n. All traces match. It answers searches
// for whole traces correctly unless a test changes the answer.
type shop struct {
	start  time.Time
	traces map[trace.ID]bool
	// whole, if not nil, answers the nth search for whole traces. byID changes a trace that is read by
	// its ID.
	whole  func(n int, req *tempopb.SearchRequest) error
	spans  func(id trace.ID, sets []*tempopb.SpanSet) []*tempopb.SpanSet
	byID   func(ptrace.Span)
	blocks uint32

	searches atomic.Int64 // searches for whole traces
	largest  atomic.Int64 // maximum number of IDs in one search
}

func newShop(traces int) *shop {
	s := &shop{start: time.Now().Add(-10 * time.Minute).Truncate(time.Second), traces: map[trace.ID]bool{}}
	for i := range traces {
		s.traces[id(i)] = true
	}
	return s
}

func text(s string) *tempopb.AnyValue {
	return &tempopb.AnyValue{Value: &tempopb.AnyValue_StringValue{StringValue: []byte(s)}}
}

func pair(key string, v *tempopb.AnyValue) *tempopb.KeyValue {
	return &tempopb.KeyValue{Key: []byte(key), Value: v}
}

var listedIDs = regexp.MustCompile("trace:id =~ `([0-9a-f|]*)none`")

func (s *shop) stream(_ int, req *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
	m := wholeSearch()
	m.Metrics.TotalBlocks = s.blocks
	switch list := listedIDs.FindStringSubmatch(req.GetQuery()); {
	case list != nil:
		ids := strings.Split(strings.Trim(list[1], "|"), "|")
		if n := int64(len(ids)); n > s.largest.Load() {
			s.largest.Store(n)
		}
		if int(req.GetLimit()) <= len(ids) {
			return status.Error(codes.InvalidArgument, "Tempo would stop before all spans are found")
		}
		n := int(s.searches.Add(1))
		if s.whole != nil {
			if err := s.whole(n, req); err != nil {
				return err
			}
		}
		for _, text := range ids {
			m.Traces = append(m.Traces, s.found(text))
		}
	case !strings.Contains(req.GetQuery(), "trace:id"):
		for id := range s.traces {
			m.Traces = append(m.Traces, &tempopb.TraceSearchMetadata{TraceID: trimmed(id)})
		}
	}
	return stream.Send(m)
}

func (s *shop) found(digits string) *tempopb.TraceSearchMetadata {
	span := &tempopb.Span{
		SpanID: "0000000000000001", Name: []byte("op"), StartTimeUnixNano: uint64(s.start.UnixNano()), DurationNanos: 5000,
		Attributes: []*tempopb.KeyValue{
			pair("kind", text("server")), pair("status", text("unset")), pair("service.name", text("shop")),
			pair("n", &tempopb.AnyValue{Value: &tempopb.AnyValue_IntValue{IntValue: 0}}),
		},
	}
	sets := []*tempopb.SpanSet{{Matched: 1, Spans: []*tempopb.Span{span}}}
	if s.spans != nil {
		id, err := trace.ParseID(digits)
		if err != nil {
			panic(err)
		}
		sets = s.spans(id, sets)
	}
	return &tempopb.TraceSearchMetadata{TraceID: digits, StartTimeUnixNano: uint64(s.start.UnixNano()), SpanSets: sets}
}

func (s *shop) trace(_ int, w http.ResponseWriter, r *http.Request) {
	td := ptrace.NewTraces()
	addTrace(td, asked(r), s.start, 1, "op")
	if s.byID != nil {
		s.byID(td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0))
	}
	otlp, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	if err != nil {
		panic(err)
	}
	b, err := proto.Marshal(&tempopb.TraceByIDResponse{Trace: otlp})
	if err != nil {
		panic(err)
	}
	writeProto(w, b)
}

// read reads the shop's traces, each of which must be delivered once.
func (s *shop) read(t *testing.T, needs columnar.Needs, change func(*tempoclient.Config)) (tempoclient.Report, map[trace.ID]*trace.Trace) {
	t.Helper()
	f := (&fake{stream: s.stream, trace: s.trace}).start(t)
	client := f.client(t, func(c *tempoclient.Config) {
		c.PlainAttributes = []string{"n"}
		if change != nil {
			change(c)
		}
	})
	got := map[trace.ID]*trace.Trace{}
	report, err := client.Traces(t.Context(), tempoclient.Request{From: s.start.Add(-time.Second), To: s.start.Add(time.Second), Needs: needs},
		func(tr *trace.Trace) error {
			require.NotContains(t, got, tr.ID)
			got[tr.ID] = tr
			return nil
		})
	require.NoError(t, err)
	require.Len(t, got, len(s.traces))
	require.Equal(t, len(s.traces), report.Delivered)
	require.Equal(t, len(s.traces), report.BySearch+report.ByID)
	return report, got
}

var needsN = columnar.Needs{Attributes: []columnar.AttributeKey{attr(columnar.ScopeSpan, "n")}}

func TestManyTracesComeBySearch(t *testing.T) {
	t.Parallel()
	for blocks, searches := range map[uint32]int64{0: 1, 7: 2} {
		s := newShop(40)
		s.blocks = blocks
		report, got := s.read(t, needsN, nil)
		require.Empty(t, report.Problems)
		require.Equal(t, 38, report.BySearch, "two traces must be compared with the same traces by ID")
		require.Equal(t, searches, s.searches.Load(), "blocks must be searched if there are any")
		for _, tr := range got {
			require.Equal(t, trace.IntValue(0), tr.Spans[0].Attributes.Get("n"))
			require.Equal(t, trace.KindServer, tr.Spans[0].Kind)
		}
	}
}

func TestFewTracesComeByID(t *testing.T) {
	t.Parallel()
	s := newShop(9)
	report, _ := s.read(t, needsN, nil)
	require.Equal(t, 9, report.ByID)
	require.Zero(t, s.searches.Load())
}

// Data that search cannot return is not requested from it.
func TestNeedsThatSearchDoesNotGiveAreReadByID(t *testing.T) {
	t.Parallel()
	of := func(keys ...columnar.AttributeKey) columnar.Needs { return columnar.Needs{Attributes: keys} }
	for why, needs := range map[string]columnar.Needs{
		"all data of spans is needed":                                  {},
		"all attributes are needed":                                    {Whole: []columnar.Scope{columnar.ScopeSpan}},
		"events or links are needed":                                   {Events: true},
		"attribute secret may have values that search does not return": of(attr(columnar.ScopeSpan, "secret")),
		"attribute n is needed both from spans and from resources":     of(attr(columnar.ScopeSpan, "n"), attr(columnar.ScopeResource, "n")),
		"attribute kind has the name of a span field":                  of(attr(columnar.ScopeSpan, "kind")),
		"attribute service.name has the name of a span field":          of(attr(columnar.ScopeResource, "service.name")),
		"attribute span:parentID has the name of a span field":         of(attr(columnar.ScopeSpan, "span:parentID")),
	} {
		s := newShop(20)
		report, _ := s.read(t, needs, nil)
		require.Equal(t, map[string]int{why: 0}, report.ByIDWhy)
		require.Zero(t, s.searches.Load())
	}
}

func TestEveryFaultOfASearchForWholeTracesHasThemReadByID(t *testing.T) {
	t.Parallel()
	set := func(change func(*tempopb.SpanSet)) func(trace.ID, []*tempopb.SpanSet) []*tempopb.SpanSet {
		return func(_ trace.ID, sets []*tempopb.SpanSet) []*tempopb.SpanSet {
			change(sets[0])
			return sets
		}
	}
	list := &tempopb.AnyValue{Value: &tempopb.AnyValue_ArrayValue{ArrayValue: &tempopb.ArrayValue{Values: []*tempopb.AnyValue{text("a")}}}}
	for _, fault := range []struct {
		name string
		do   func(*shop)
		why  string // a reason for all traces, or for not using search
	}{
		{"refused", func(s *shop) {
			s.whole = func(int, *tempopb.SearchRequest) error { return status.Error(codes.InvalidArgument, "invalid query") }
		}, "search failed: tempo search in ingesters: InvalidArgument: invalid query"},
		{"an error", func(s *shop) {
			s.whole = func(int, *tempopb.SearchRequest) error { return status.Error(codes.Internal, "boom") }
		}, "search failed: tempo search in ingesters: Internal: boom (2 tries)"},
		{"cut", func(s *shop) { s.spans = set(func(s *tempopb.SpanSet) { s.Matched = 2 }) }, "cut"},
		{"no spans", func(s *shop) {
			s.spans = func(trace.ID, []*tempopb.SpanSet) []*tempopb.SpanSet { return nil }
		}, "search returned no spans"},
		{"a bad span ID", func(s *shop) { s.spans = set(func(s *tempopb.SpanSet) { s.Spans[0].SpanID = "x" }) }, "a span ID is invalid"},
		{"no kind", func(s *shop) {
			s.spans = set(func(s *tempopb.SpanSet) { s.Spans[0].Attributes = s.Spans[0].Attributes[1:] })
		}, "a kind is unknown"},
		{"another status", func(s *shop) {
			s.spans = set(func(s *tempopb.SpanSet) { s.Spans[0].Attributes[1] = pair("status", text("fine")) })
		}, "a status is unknown"},
		{"a list", func(s *shop) {
			s.spans = set(func(s *tempopb.SpanSet) { s.Spans[0].Attributes[3] = pair("n", list) })
		}, "attribute n is not plain"},
		{"a parent that is not there", func(s *shop) {
			s.spans = set(func(s *tempopb.SpanSet) {
				s.Spans[0].Attributes = append(s.Spans[0].Attributes, pair("span:parentID", text("00000000000000ff")))
			})
		}, "a parent is missing"},
		{"a bad parent", func(s *shop) {
			s.spans = set(func(s *tempopb.SpanSet) {
				s.Spans[0].Attributes = append(s.Spans[0].Attributes, pair("span:parentID", text("x")))
			})
		}, "a parent's ID is invalid"},
		{"an earlier start", func(s *shop) {
			s.spans = set(func(s *tempopb.SpanSet) { s.Spans[0].StartTimeUnixNano++ })
		}, "it starts before the spans that search returned"},
		{"young", func(s *shop) {
			s.spans = set(func(s *tempopb.SpanSet) { s.Spans[0].DurationNanos = uint64(10 * time.Minute) })
		}, "young"},
		{"twice the attribute", func(s *shop) {
			s.spans = set(func(s *tempopb.SpanSet) {
				s.Spans[0].Attributes = append(s.Spans[0].Attributes, s.Spans[0].Attributes[3])
			})
		}, "span and resource have the same attribute"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(30)
			fault.do(s)
			report, _ := s.read(t, needsN, nil)
			require.Empty(t, report.Problems)
			require.Equal(t, 30, report.ByID)
			require.Contains(t, report.ByIDWhy, fault.why)
		})
	}
}

func TestASearchLearnsHowManySpansASetMayHave(t *testing.T) {
	t.Parallel()
	s := newShop(30)
	s.whole = func(_ int, req *tempopb.SearchRequest) error {
		if req.GetSpansPerSpanSet() > 4 {
			return status.Error(codes.InvalidArgument, fmt.Sprintf("spans per span set exceeds 4. received %d", req.GetSpansPerSpanSet()))
		}
		return nil
	}
	report, _ := s.read(t, needsN, nil)
	require.Equal(t, 28, report.BySearch)
}

func TestAnAnswerOfWholeTracesThatIsTooLargeIsAskedForInParts(t *testing.T) {
	t.Parallel()
	s := newShop(100)
	s.whole = func(_ int, req *tempopb.SearchRequest) error {
		if req.GetLimit() > 20 {
			return status.Error(codes.ResourceExhausted, "grpc: received message larger than max (17000000 vs. 16777216)")
		}
		return nil
	}
	report, _ := s.read(t, needsN, nil)
	require.Empty(t, report.Problems)
	require.GreaterOrEqual(t, report.BySearch, 97)
}

// Without a report, verdicts on wrong traces from search would remain.
func TestWhatSearchGivesWrongIsSaidAndReadByID(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		byID func(ptrace.Span)
		want string
	}{
		"a list":        {func(s ptrace.Span) { s.Attributes().PutEmptySlice("n").AppendEmpty().SetInt(0) }, `attribute n is array [0], which search does not distinguish from other values`},
		"another value": {func(s ptrace.Span) { s.Attributes().PutInt("n", 7) }, "search returned another attribute n (0, not 7) than reading the trace by its ID"},
		"another name":  {func(s ptrace.Span) { s.SetName("other") }, "search returned another name than"},
		"another time":  {func(s ptrace.Span) { s.SetEndTimestamp(s.EndTimestamp() + 1) }, "search returned another time than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(60)
			s.byID = test.byID
			report, _ := s.read(t, needsN, func(c *tempoclient.Config) { c.Concurrency = 1 })
			require.Equal(t, 60, report.ByID)
			require.Empty(t, report.Problems, "no trace may have been delivered before")
			var why []string
			for w := range report.ByIDWhy {
				why = append(why, w)
			}
			require.Contains(t, strings.Join(why, "\n"), test.want)

			// The first batch is correct, later ones are not.
			s = newShop(300)
			var n atomic.Int64
			s.byID = func(span ptrace.Span) {
				if n.Add(1) > 2 {
					test.byID(span)
				}
			}
			s.spans = func(_ trace.ID, sets []*tempopb.SpanSet) []*tempopb.SpanSet { return sets }
			report, _ = s.read(t, needsN, func(c *tempoclient.Config) { c.Concurrency = 1 })
			require.Len(t, report.Problems, 1)
			require.Equal(t, "search", report.Problems[0].What)
			require.ErrorContains(t, report.Problems[0].Err, test.want)
		})
	}
}
