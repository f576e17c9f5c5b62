package tempoclient_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/traceql"
)

func attr(scope columnar.Scope, key string) columnar.AttributeKey {
	return columnar.AttributeKey{Scope: scope, Key: key}
}

// someNeeds are needs of all kinds that search can return.
var someNeeds = columnar.Needs{
	Attributes: []columnar.AttributeKey{
		attr(columnar.ScopeAny, "anywhere"), attr(columnar.ScopeAny, "text with \"quotes\" and spaces"), attr(columnar.ScopeAny, "größe"),
		attr(columnar.ScopeSpan, "mixed"), attr(columnar.ScopeResource, "region"), attr(columnar.ScopeSpan, "http.url"),
		attr(columnar.ScopeSpan, "mark"),
	},
	StatusMessage: true, Instrumentation: true,
}

var plain = []string{"anywhere", "text with \"quotes\" and spaces", "größe", "mixed", "region", "http.url"}

// needed returns the data of a trace that a reading must return.
func needed(t *trace.Trace, n columnar.Needs) []trace.Span {
	spans := make([]trace.Span, len(t.Spans))
	for i, s := range t.Spans {
		s.Events, s.Links = nil, nil
		attributes, resource := s.Attributes, s.Resource
		s.Attributes, s.Resource = nil, nil
		add := func(to *trace.Attributes, key string, v trace.Value) {
			if !v.IsAbsent() {
				*to = append(*to, trace.Attribute{Key: key, Value: v})
			}
		}
		for _, a := range n.Attributes {
			switch a.Scope {
			case columnar.ScopeAny:
				v := attributes.Get(a.Key)
				if v.IsAbsent() {
					v = resource.Get(a.Key)
				}
				add(&s.Attributes, a.Key, v)
			case columnar.ScopeSpan:
				add(&s.Attributes, a.Key, attributes.Get(a.Key))
			case columnar.ScopeResource:
				add(&s.Resource, a.Key, resource.Get(a.Key))
			}
		}
		if service := resource.Get(trace.ServiceName); service.Str() != "" {
			add(&s.Resource, trace.ServiceName, service)
		}
		for _, as := range []trace.Attributes{s.Attributes, s.Resource} {
			slices.SortFunc(as, func(a, b trace.Attribute) int { return strings.Compare(a.Key, b.Key) })
		}
		spans[i] = s
	}
	return spans
}

func wantNeeded(t *testing.T, n columnar.Needs, sent ptrace.Traces, got map[trace.ID]*trace.Trace) {
	t.Helper()
	want, err := otlp.ToTraces(sent)
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for _, w := range want {
		require.NotNil(t, got[w.ID], "trace %s", w.ID)
		if diff := cmp.Diff(needed(w, n), needed(got[w.ID], n)); diff != "" {
			t.Fatalf("trace %s differs from the sent trace (-sent +read):\n%s", w.ID, diff)
		}
	}
}

// sendable makes spans one by one, so that the spans of a trace can be sent separately.
type sendable struct {
	td    ptrace.Traces
	start time.Time
}

// span adds a span of a trace with its number, which is its ID, its parent's number (0: none), and its
// start in milliseconds after the start.
func (s *sendable) span(id trace.ID, n, parent uint16, after int, change func(ptrace.ResourceSpans, ptrace.Span)) {
	rs := s.td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", fmt.Sprint("service-", n%3))
	rs.Resource().Attributes().PutStr("region", "eu-west-1")
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName("lib")
	ss.Scope().SetVersion("1.2")
	sp := ss.Spans().AppendEmpty()
	sp.SetTraceID(pcommon.TraceID(id))
	sp.SetSpanID(spanID(n))
	if parent != 0 {
		sp.SetParentSpanID(spanID(parent))
	}
	sp.SetName(fmt.Sprint("op ", n))
	sp.SetKind(ptrace.SpanKind(n % 6))
	sp.SetStartTimestamp(pcommon.NewTimestampFromTime(s.start.Add(time.Duration(after) * time.Millisecond)))
	sp.SetEndTimestamp(sp.StartTimestamp() + 1_234_567)
	sp.Status().SetCode(ptrace.StatusCode(n % 3))
	if n%3 == 2 {
		sp.Status().SetMessage("it broke: ünd wie")
	}
	a := sp.Attributes()
	a.PutStr("not needed", "x")
	switch n % 5 {
	case 0:
		a.PutStr("anywhere", "text")
		a.PutStr("mixed", "7")
	case 1:
		rs.Resource().Attributes().PutInt("anywhere", 1<<53+1)
		a.PutInt("mixed", 7)
	case 2:
		a.PutDouble("mixed", 7.5)
		a.PutStr("größe", "日本語 \x00 \"'`\\|")
		a.PutStr("http.url", "http://x/ü")
	case 3:
		a.PutBool("mixed", false)
		a.PutStr("text with \"quotes\" and spaces", "y")
	}
	if change != nil {
		change(rs, sp)
	}
}

func spanID(n uint16) pcommon.SpanID { return pcommon.SpanID{0: 0xf0, 6: byte(n >> 8), 7: byte(n)} }

func newSendable(start time.Time) *sendable { return &sendable{ptrace.NewTraces(), start} }

// Search returns whole traces as they were sent, wherever their spans are stored.
func TestWholeTracesBySearchAreAsTheyWereSent(t *testing.T) {
	for _, profile := range []stack.Profile{stack.Default, stack.Fast} {
		t.Run(string(profile), func(t *testing.T) {
			f := connect(t, profile, true, func(c *tempoclient.Config) { c.PlainAttributes = plain })
			start := time.Now().Add(-90 * time.Second).Truncate(time.Second)
			early, late := newSendable(start), newSendable(start)
			sort := map[string][]trace.ID{}
			next := 0
			add := func(name string, n int, send func(id trace.ID, i int)) {
				for i := range n {
					sort[name] = append(sort[name], id(next))
					send(id(next), i)
					next++
				}
			}
			add("plain", 120, func(id trace.ID, i int) {
				for n := range uint16(12) {
					early.span(id, n+1, (n+1)/2, i*100+int(n), nil)
				}
			})
			add("in two parts", 20, func(id trace.ID, i int) {
				for n := range uint16(12) {
					part := early
					if n >= 5 {
						part = late
					}
					part.span(id, n+1, (n+1)/2, i*100+int(n), nil)
				}
			})
			add("whose later part is one span as long as the first", 5, func(id trace.ID, i int) {
				early.span(id, 6, 0, i, nil)
				late.span(id, 12, 0, i, nil)
			})
			add("that comes three times", 5, func(id trace.ID, i int) {
				for n := range uint16(4) {
					for _, part := range []*sendable{early, early, late} {
						part.span(id, n+1, (n+1)/2, i*100+int(n), nil)
					}
				}
			})
			add("with shared IDs", 5, func(id trace.ID, i int) {
				early.span(id, 1, 0, i, nil)
				for _, kind := range []ptrace.SpanKind{ptrace.SpanKindClient, ptrace.SpanKindServer} {
					part := early
					if kind == ptrace.SpanKindServer && i%2 == 1 {
						part = late
					}
					part.span(id, 2, 1, i+1, func(_ ptrace.ResourceSpans, sp ptrace.Span) { sp.SetKind(kind); sp.SetName(kind.String()) })
				}
				early.span(id, 3, 2, i+2, nil)
			})
			add("of 150 spans", 3, func(id trace.ID, i int) {
				for n := range uint16(150) {
					early.span(id, n+1, (n+1)/2, i*100+int(n), nil)
				}
			})
			add("of 400 spans", 2, func(id trace.ID, i int) {
				for n := range uint16(400) {
					early.span(id, n+1, (n+1)/2, i*100+int(n), nil)
				}
			})
			add("without a root", 5, func(id trace.ID, i int) { early.span(id, 2, 1, i, nil) })
			add("with an attribute in both places", 5, func(id trace.ID, i int) {
				early.span(id, 1, 0, i, func(rs ptrace.ResourceSpans, sp ptrace.Span) {
					rs.Resource().Attributes().PutStr("anywhere", "resource's")
					sp.Attributes().PutStr("anywhere", "span's")
				})
			})
			add("with an empty text", 5, func(id trace.ID, i int) {
				early.span(id, 4, 0, i, func(_ ptrace.ResourceSpans, sp ptrace.Span) { sp.Attributes().PutStr("mixed", "") })
			})
			add("with the mark", 5, func(id trace.ID, i int) {
				early.span(id, 4, 0, i, func(_ ptrace.ResourceSpans, sp ptrace.Span) { sp.Attributes().PutStr("mark", "x") })
			})
			add("that ends before it starts", 5, func(id trace.ID, i int) {
				early.span(id, 1, 0, i, func(_ ptrace.ResourceSpans, sp ptrace.Span) { sp.SetEndTimestamp(sp.StartTimestamp() - 5000) })
			})
			add("without a service", 5, func(id trace.ID, i int) {
				early.span(id, 1, 0, i, func(rs ptrace.ResourceSpans, _ ptrace.Span) { rs.Resource().Attributes().Remove("service.name") })
			})
			require.NoError(t, f.writer.Export(f.ctx, early.td))
			req := tempoclient.Request{
				From: start.Add(-time.Minute), To: start.Add(20 * time.Second),
				Needs: someNeeds, ByIDWith: []columnar.AttributeKey{attr(columnar.ScopeSpan, "mark")},
			}
			f.read(t, req, next)
			// The following spans are in another row and, after the flush, in another block.
			f.flush(t, optionsOf(profile), early.td.SpanCount())
			require.NoError(t, f.writer.Export(f.ctx, late.td))
			sent := ptrace.NewTraces()
			early.td.CopyTo(sent)
			late.td.ResourceSpans().MoveAndAppendTo(sent.ResourceSpans())
			// Tempo cuts traces in passes, one after another, in the order of writing. After the second
			// of these traces is found, all earlier spans are where search reads them.
			last, err := traceql.Parse(`{ name = "last" }`)
			require.NoError(t, err)
			found := req
			found.Filter, found.Skip = last, func(trace.ID) bool { return true }
			add("sent last", 2, func(id trace.ID, i int) {
				one := newSendable(start)
				one.span(id, 1, 0, i, func(_ ptrace.ResourceSpans, sp ptrace.Span) { sp.SetName("last") })
				require.NoError(t, f.writer.Export(f.ctx, one.td))
				one.td.ResourceSpans().MoveAndAppendTo(sent.ResourceSpans())
				f.until(t, "search finds the trace that was sent last", func() bool {
					report, err := f.client.Traces(f.ctx, found, nil)
					require.NoError(t, err)
					return report.Found == i+1
				})
			})
			got, report := f.read(t, req, next)
			require.Empty(t, report.Problems)
			wantNeeded(t, someNeeds, sent, got)
			require.Equal(t, next, report.BySearch+report.ByID)
			require.GreaterOrEqual(t, report.BySearch, 140, "%+v", report)
			require.Equal(t, len(sort["without a root"]), report.ByIDWhy["a parent is missing"], "%+v", report)
			require.Equal(t, len(sort["with the mark"]), report.ByIDWhy["it has attribute mark"], "%+v", report)
			require.Equal(t, len(sort["with an empty text"]), report.ByIDWhy["attribute mixed is not plain"], "%+v", report)
			require.Equal(t, len(sort["with an attribute in both places"]), report.ByIDWhy["span and resource have the same attribute"], "%+v", report)
			require.Less(t, report.Requests, int64(next/2))

			// Reading each trace by its ID returns the same.
			req.Needs = columnar.Needs{}
			byID, report := f.read(t, req, next)
			require.Zero(t, report.BySearch)
			for id, tr := range byID {
				if !slices.Contains(sort["with shared IDs"], id) { // Tempo overwrites the IDs of these
					require.Empty(t, cmp.Diff(needed(tr, someNeeds), needed(got[id], someNeeds)), id)
				}
			}
		})
	}
}
