package tempoclient_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
	"github.com/betracehq/betrace/traceql"
	"github.com/betracehq/betrace/traceql/traceqltest"
)

// promise is the relation between our answer to a filter and Tempo's. In any case Tempo's answer to the
// filter's Prefilter contains our answer.
type promise int

const (
	equal promise = iota
	// wider: our answer contains Tempo's, since numbers compare by value, and a boolean attribute may be
	// a list.
	wider
	// prefilterOnly: the filter itself is never sent.
	prefilterOnly
	promises
)

// promised is a filter with its promise.
type promised struct {
	filter *traceql.Filter
	promise
}

// The seeds determine the test: the sent traces and the compared filters.
const traceSeed, filterSeed = 61, 17

func TestOurAnswersToFiltersAreTemposAndPrefiltersMissNothing(t *testing.T) {
	c := newCorpus(t, nil)
	c.send(t, tracetest.Mixed(traceSeed, 400).ForTempo())
	list := append(writtenFilters(t), c.randomFilters(rand.New(rand.NewPCG(filterSeed, 0)), 300)...)
	t.Run("recently written traces", func(t *testing.T) { c.compare(t, list) })
	c.flush(t)
	t.Run("blocks", func(t *testing.T) { c.compare(t, some(list)) })
}

// If attributes have dedicated columns, prefilters find the strings in these columns, and the lists of
// all other attributes.
func TestPrefiltersMissNothingButListsOfDedicatedColumns(t *testing.T) {
	c := newCorpus(t, dedicated)
	c.send(t, tracetest.Mixed(traceSeed, 400).ForTempo())
	list := append(writtenFilters(t), c.randomFilters(rand.New(rand.NewPCG(filterSeed, 0)), 300)...)
	for i := range list {
		list[i].promise = prefilterOnly // raw answers are compared on the plain columns
	}
	list = some(list)
	t.Run("recently written traces", func(t *testing.T) { c.compare(t, list) })
	c.flush(t)
	t.Run("blocks", func(t *testing.T) { c.compare(t, list) })
}

// some returns a third of the filters, and those on trace IDs.
func some(list []promised) (some []promised) {
	for i, f := range list {
		if i%3 == 0 || strings.Contains(f.filter.String(), "trace:id") {
			some = append(some, f)
		}
	}
	return some
}

// compare compares our answers with Tempo's.
func (c *corpus) compare(t *testing.T, list []promised) {
	var mu sync.Mutex
	var count [promises]int
	var selective, narrow int
	var group errgroup.Group
	group.SetLimit(4)
	for _, f := range list {
		group.Go(func() error {
			ours := map[trace.ID]bool{}
			for _, tr := range c.traces {
				if f.filter.Matches(tr) {
					ours[tr.ID] = true
				}
			}
			prefilter := f.filter.Prefilter()
			if err := c.comparePrefilter(t, f.filter, prefilter, ours); err != nil {
				return err
			}
			if f.promise != prefilterOnly {
				if err := c.compareRaw(t, f, ours); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			count[f.promise]++
			if len(ours) > 0 && len(ours) < len(c.traces) {
				selective++
			}
			if !prefilter.IsAll() {
				narrow++
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	t.Logf("%d filters on %d traces: %d answered equally, %d by Tempo more narrowly, %d compared by prefilter only; %d match some traces and not all; %d prefilters narrower than everything; %d queries; %d times a trace was found that matches by lists only, %d times one was not that matches by hidden lists",
		len(list), len(c.traces), count[equal], count[wider], count[prefilterOnly], selective, narrow, len(c.answers), c.listed, c.excused)
	require.Positive(t, c.listed)
	require.GreaterOrEqual(t, selective, (len(list)+2)/3)
	if c.dedicated == nil {
		require.GreaterOrEqual(t, count[equal], len(list)/4)
	}
	require.GreaterOrEqual(t, narrow, len(list)/2)
}

// comparePrefilter requires that Tempo's answer to the prefilter contains our answer, except for traces
// that match by a list that Tempo does not read correctly.
func (c *corpus) comparePrefilter(t *testing.T, filter, prefilter *traceql.Filter, ours map[trace.ID]bool) error {
	query := prefilter.String()
	found, err := c.ask(query)
	if err != nil {
		return err
	}
	isList := func(a trace.Attribute) bool { return a.Value.Type() == trace.TypeArray }
	hidden := traceqltest.HiddenLists(prefilter, c.dedicated)
	for _, tr := range c.traces {
		if ours[tr.ID] && found[tr.ID] {
			if without, some := traceqltest.Without(tr, isList); some && !filter.Matches(without) {
				c.count(&c.listed)
			}
		}
		if !ours[tr.ID] || found[tr.ID] {
			continue
		}
		if without, some := traceqltest.Without(tr, hidden); some && !filter.Matches(without) {
			c.count(&c.excused)
			continue
		}
		t.Errorf("%s matches trace %s, but Tempo does not find it with %s (%d found)", filter, tr.ID, query, len(found))
	}
	return nil
}

// compareRaw compares the answers to the unchanged filter. Traces with lists that Tempo does not read
// correctly are excluded.
func (c *corpus) compareRaw(t *testing.T, f promised, ours map[trace.ID]bool) error {
	query := f.filter.String()
	found, err := c.ask(query)
	if err != nil {
		return err
	}
	unsafe := unsafeLists(f.filter)
	for _, tr := range c.traces {
		if ours[tr.ID] == found[tr.ID] || f.promise == wider && ours[tr.ID] {
			continue
		}
		if _, some := traceqltest.Without(tr, unsafe); !some {
			t.Errorf("%s: trace %s matches here: %t, in Tempo: %t", query, tr.ID, ours[tr.ID], found[tr.ID])
		}
	}
	return nil
}

// unsafeLists returns a function that reports whether Tempo may misread an attribute if it receives the
// unchanged filter.
func unsafeLists(filter *traceql.Filter) func(trace.Attribute) bool {
	fields := attributesIn(filter.Expr())
	return func(a trace.Attribute) bool {
		if a.Value.Type() != trace.TypeArray || !slices.ContainsFunc(fields, func(f traceql.Field) bool { return f.Key == a.Key }) {
			return false
		}
		return slices.Contains(traceqltest.Columns, a.Key) || len(fields) > 1 && len(a.Value.Array()) > 1
	}
}

// attributesIn returns the attributes in an expression, including repetitions.
func attributesIn(x traceql.Expr) (fields []traceql.Field) {
	switch x := x.(type) {
	case traceql.Field:
		if x.Scope != traceql.ScopeIntrinsic {
			fields = append(fields, x)
		}
	case traceql.Not:
		return attributesIn(x.X)
	case traceql.Binary:
		return append(attributesIn(x.Left), attributesIn(x.Right)...)
	}
	return fields
}

// writtenFilters returns at least one filter for every construct, with Tempo's promise.
func writtenFilters(t *testing.T) []promised {
	t.Helper()
	var list []promised
	for kind, queries := range [promises][]string{
		equal: {
			`{ }`, `{ false }`,
			`{ name = "payment.charge" }`, `{ name != "quirk" }`, `{ name =~ "execute_tool.*" }`, `{ name =~ "tool" }`, `{ name !~ "(GET|POST).*" }`, `{ "validate" = name }`, `{ name = "" }`,
			`{ name =~ "a.b" }`, `{ name = "work \"in quotes\"" }`, `{ name =~ "処.*" }`,
			`{ status = error }`, `{ status != unset }`, `{ kind = consumer }`, `{ kind != server && kind != client && kind != internal }`, `{ kind = unspecified }`,
			`{ statusMessage = "the shelf is locked" }`, `{ statusMessage =~ ".*shelf.*" && kind = internal }`,
			`{ span:id = "a0000000000000aa" }`, `{ span:parentID = "a0000000000000ab" }`,
			`{ event:name = "exception" }`, `{ event:name =~ "gc.*" }`, `{ event:name = "second" }`,
			`{ instrumentation:name = "shop/payment" }`, `{ instrumentation:version =~ "0\\.63.*" }`, `{ instrumentation:name = "" }`,
			`{ resource.service.name = "payment" }`, `{ .service.name = "fraud" }`, `{ resource.service.name =~ "pay.*|fraud" }`,
			`{ span.db.system.name = "redis" }`, `{ span.db.system.name != "postgresql" }`, `{ span.http.request.method !~ "GET|POST" }`, `{ .url.path = "/checkout" }`, `{ "kafka" != .messaging.system }`,
			`{ .app.note = "" }`, `{ span.zzz = "x" }`, `{ .zzz != "x" }`, `{ .zzz !~ "x" }`,
			`{ .app.cached = false }`, `{ .refund.approved = true }`, `{ .refund.approved != true }`, `{ false = .tls.established }`,
			`{ span.app.tags = "tag2" }`, `{ span.user.roles = "admin" }`, `{ span.user.roles != "customer" }`, `{ span.user.roles =~ "adm.*" }`, `{ span.app.flags = false }`, `{ span.gen_ai.tool.name = "send_payment" }`,
			`{ span."app.名前" = "世界" }`, `{ span."app.\"quoted\" {key}" = "plain" }`, `{ span.app.title =~ ".*[\"|&].*" }`, `{ span."a b" = "c d" }`,
			`{ span.name = "its own" }`, `{ span.status = "its own" }`, `{ resource.kind = "its own" }`, `{ span.duration = "its own" }`,
			`{ span.same = "span" }`, `{ resource.same = "resource" }`,
			`{ span.http.method = "GET" }`, `{ span.http.method != "GET" }`, `{ .http.url =~ "https://.*" }`, `{ resource.k8s.pod.name = "pod-1" }`, `{ .cluster = "east" }`,
			`{ span.amount = "7" }`, `{ span.amount }`, `{ span.amount = true }`,
			`{ name = "payment.charge" && status = unset && resource.service.name = "payment" }`,
			`{ span.db.system.name = "redis" || (span.messaging.system = "kafka" && kind = producer) }`,
			`{ (name = "validate" || name = "render") && span.app.cached = false }`,
			`{ status = error && event:name = "exception" && span.error.type =~ ".+" }`,
			`{ resource.service.name = "web" && span.url.path != "/checkout" && kind = server }`,
			`{ .db.collection.name = "cards" && .tls.established = true }`,
		},
		wider: {
			`{ .tls.established }`, // Tempo does not evaluate lists here
			`{ span.payment.amount > 1000 }`, `{ .http.response.status_code = 404 }`, `{ .http.response.status_code != 200 }`, `{ 400 <= .http.response.status_code }`,
			`{ span.app.size = 7 }`, `{ span.app.size != 7 }`, `{ span.app.size < 8 }`, `{ span.app.sizes = 9007199254740993 }`, `{ span.app.sizes < 0 }`, `{ span.app.ratios = 1 }`,
			`{ span.app.number > 9007199254740992 }`, `{ span.app.number = 9223372036854775807 }`, `{ span.app.double = 9007199254740992 }`, `{ span.app.double > 5 }`,
			`{ span."app.größe in m²" >= 7 }`, `{ span.amount = 7 }`, `{ span.amount >= 8 }`, `{ span.http.status_code = 503 }`, `{ .http.status_code >= 500 }`, `{ span.neighbour = 5 }`,
			`{ name = "payment.charge" && span.payment.amount >= 5000 && span.payment.currency = "EUR" }`, `{ span.refund.amount > 100 || span.payment.amount < 10 }`,
		},
		prefilterOnly: {
			`{ !(span.db.system.name = "redis") }`, `{ name = "payment.charge" && !(span.payment.amount > 1000) }`, `{ !.app.cached }`, `{ kind = server && !(.zzz = "x") }`,
			`{ span.app.note = nil }`, `{ span.app.note != nil && name = "render" }`, `{ .app.labels != nil }`, `{ span:parentID = nil && kind = client }`,
			`{ childCount > 2 }`, `{ childCount = 0 && name = "fraud.check" }`, `{ rootName = "POST /checkout" }`, `{ rootServiceName = "web" && status = error }`, `{ traceDuration > 100ms }`,
			`{ name > "v" }`, `{ span.db.system.name < "q" && kind = client }`, `{ span.zzz >= "" }`,
			`{ duration > 20ms }`, `{ duration = 0ns }`, `{ duration < 1us }`, `{ duration <= 2ms && kind = server }`, `{ duration != 0s }`, `{ duration >= 146h }`, `{ duration > 1000000 }`, `{ duration = 1s && name = "quirk" }`,
			`{ span.app.score > 0.5 }`, `{ span.app.size = 7.5 }`, `{ span.app.size <= 7.0 }`, `{ span.app.size != 7.5 }`, `{ span.app.double > 1.0 }`, `{ span.app.double != 0.0 }`, `{ span.app.double = 0 }`, `{ span.app.double < -0.5 }`,
			`{ span.neighbour > 4.5 }`, `{ span.neighbour < 3.0 }`, `{ span.neighbour = 5.0 }`, `{ span.neighbour >= 2.5 && span.neighbour <= 5.5 }`, `{ span.app.number > 9007199254740992.0 }`, `{ span.app.number < 0.5 }`,
			`{ span.payment.amount > 1000.5 }`, `{ span.app.ratios = 0.5 }`, `{ span.fraud.score >= 0.1 && kind = internal }`,
			`{ event.k = "of the second" }`, `{ event.exception.type =~ ".+" && status = error }`, `{ link.why = "of the second" }`, `{ link:traceID =~ ".*" && name = "quirk" }`, `{ link:spanID = "0000000000000009" }`,
			`{ event:name = "first" && event:name = "second" }`, `{ event:name = "exception" || event:name = "tick" }`, `{ event:name = "first" && event:name != "first" }`, `{ event:name != "exception" }`, `{ event:name = "" }`, `{ event:timeSinceStart > 1ms }`,
			`{ resource.service.name = "" }`, `{ resource.service.name != "web" }`, `{ .service.name !~ "web|catalog|inventory" && kind = server }`, `{ span:parentID != "a0000000000000ab" }`, `{ span:parentID =~ "" }`,
			`{ .name = "its own" }`, `{ .status = "its own" }`, `{ .kind = "its own" && name = "quirk" }`, `{ .duration = "its own" }`, `{ .id = "its own" }`, `{ .parent = "its own" }`,
			`{ .same = "span" }`, `{ .same = "resource" }`, `{ .same != "span" }`,
			`{ trace:id = "` + quirkID(0).String() + `" }`, `{ trace:id = "` + strings.TrimLeft(quirkID(0).String(), "0") + `" }`, `{ trace:id =~ "a.*" }`, `{ trace:id != "ab" && name = "quirk" }`, `{ span:id =~ "0000.*" }`,
			`{ span:id = "00000000000000aa" }`, `{ span:parentID = "00000000000000ab" }`, // Tempo may skip pages by bounds of IDs without their leading zeros
			`{ .http.request.method = .http.request.method }`, `{ span.refund.amount + 1 > 100 }`, `{ span.gen_ai.usage.input_tokens > span.gen_ai.usage.output_tokens }`, `{ -.server.port < -5000 && kind = client }`,
			`{ resource.service.name = "listed" }`, `{ span.http.method = "LIST" }`, `{ span.list1 = "b" && span.list2 = "d" }`, `{ span.list1 = "b" || span.list2 = "c" || span.amount = 7 }`, `{ span.list1 = "c" && span.amount = 7 }`,
		},
	} {
		for _, query := range queries {
			f, err := traceql.Parse(query)
			require.NoError(t, err, query)
			list = append(list, promised{f, promise(kind)})
		}
	}
	return list
}

// quirkID returns the trace ID of a quirk. The first ID begins with zeros.
func quirkID(n int) trace.ID { return id(3000 + n) }

// quirks returns traces of one span, each with a property that is easily misread from a column or a list
// of values.
func quirks(start time.Time) []ptrace.Traces {
	events := func(s ptrace.Span, names ...string) {
		for i, name := range names {
			e := s.Events().AppendEmpty()
			e.SetName(name)
			e.SetTimestamp(s.StartTimestamp())
			e.Attributes().PutStr([]string{"other", "k"}[i%2], "of the "+name)
		}
	}
	texts := func(m pcommon.Map, key string, list ...string) {
		to := m.PutEmptySlice(key)
		for _, text := range list {
			to.AppendEmpty().SetStr(text)
		}
	}
	changes := []func(s ptrace.Span, resource pcommon.Map){
		func(s ptrace.Span, _ pcommon.Map) {
			s.SetSpanID([8]byte{0xa0, 7: 0xaa})
			s.SetParentSpanID([8]byte{0xa0, 7: 0xab})
		},
		func(s ptrace.Span, _ pcommon.Map) { s.SetSpanID([8]byte{7: 0xaa}); s.SetParentSpanID([8]byte{7: 0xab}) },
		func(s ptrace.Span, _ pcommon.Map) { s.SetEndTimestamp(s.StartTimestamp() - 1e9) },
		func(s ptrace.Span, _ pcommon.Map) { s.SetEndTimestamp(s.StartTimestamp() + 1e9) },
		func(s ptrace.Span, _ pcommon.Map) { s.SetEndTimestamp(s.StartTimestamp()); s.SetName("") },
		func(s ptrace.Span, r pcommon.Map) {
			s.Attributes().PutStr("same", "span")
			r.PutStr("same", "resource")
		},
		func(_ ptrace.Span, r pcommon.Map) { r.PutStr("same", "resource") },
		func(s ptrace.Span, _ pcommon.Map) { s.Attributes().PutStr("same", "span") },
		func(_ ptrace.Span, r pcommon.Map) { r.Remove("service.name") },
		func(_ ptrace.Span, r pcommon.Map) { r.PutStr("service.name", "") },
		func(_ ptrace.Span, r pcommon.Map) { r.PutInt("service.name", 5) },
		func(_ ptrace.Span, r pcommon.Map) { texts(r, "service.name", "listed", "web") },
		func(_ ptrace.Span, r pcommon.Map) { r.PutStr("k8s.pod.name", "pod-1"); r.PutStr("cluster", "east") },
		func(s ptrace.Span, _ pcommon.Map) {
			s.Attributes().PutStr("http.method", "GET")
			s.Attributes().PutStr("http.url", "https://shop")
			s.Attributes().PutInt("http.status_code", 503)
		},
		func(s ptrace.Span, _ pcommon.Map) {
			s.Attributes().PutInt("http.method", 5)
			s.Attributes().PutStr("http.status_code", "503")
		},
		func(s ptrace.Span, _ pcommon.Map) { s.Attributes().PutDouble("http.status_code", 503) },
		func(s ptrace.Span, _ pcommon.Map) { texts(s.Attributes(), "http.method", "LIST", "GET") },
		func(s ptrace.Span, _ pcommon.Map) {
			texts(s.Attributes(), "list1", "a", "b")
			texts(s.Attributes(), "list2", "c", "d", "e")
			s.Attributes().PutInt("amount", 7)
		},
		func(s ptrace.Span, _ pcommon.Map) {
			texts(s.Attributes(), "list1", "c")
			s.Attributes().PutInt("amount", 7)
		},
		func(s ptrace.Span, _ pcommon.Map) { s.Attributes().PutStr("a b", "c d") },
		func(s ptrace.Span, _ pcommon.Map) { events(s, "first", "second") },
		func(s ptrace.Span, _ pcommon.Map) { events(s, "second", "first") },
		func(s ptrace.Span, _ pcommon.Map) { events(s, "") },
		func(s ptrace.Span, _ pcommon.Map) {
			s.Links().AppendEmpty().SetSpanID([8]byte{7: 9})
			s.Links().AppendEmpty().Attributes().PutStr("why", "of the second")
		},
	}
	for _, key := range []string{"name", "status", "kind", "duration", "id", "parent"} {
		changes = append(changes,
			func(s ptrace.Span, _ pcommon.Map) { s.Attributes().PutStr(key, "its own") },
			func(_ ptrace.Span, r pcommon.Map) { r.PutStr(key, "its own") })
	}
	// A NaN makes the bounds of a page wrong.
	for _, v := range []float64{1, 5, math.NaN(), 3, math.Inf(1), math.NaN(), -1} {
		changes = append(changes, func(s ptrace.Span, _ pcommon.Map) { s.Attributes().PutDouble("neighbour", v) })
	}
	for _, v := range []any{7, 7.0, 7.5, "7", true, 8, false} {
		changes = append(changes, func(s ptrace.Span, _ pcommon.Map) { _ = s.Attributes().PutEmpty("amount").FromRaw(v) })
	}
	var list []ptrace.Traces
	for i, change := range changes {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", "quirks")
		s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		s.SetTraceID(pcommon.TraceID(quirkID(i)))
		s.SetSpanID([8]byte{6: 1, 7: byte(i)})
		s.SetName("quirk")
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(start.Add(time.Duration(i) * time.Millisecond)))
		s.SetEndTimestamp(s.StartTimestamp() + 2e6)
		change(s, rs.Resource().Attributes())
		list = append(list, td)
	}
	return list
}

// corpus is the sent traces, and Tempo's answers about them.
type corpus struct {
	fixture
	stack  *stack.Stack
	http   *http.Client
	traces []*trace.Trace
	spans  int64
	from   time.Time
	// shadowed are the keys that a span has in both scopes. Tempo uses the resource's value if the span's
	// does not match.
	shadowed map[string]bool
	// dedicated are the keys with a dedicated column.
	dedicated []string

	mu      sync.Mutex
	answers map[string]map[trace.ID]bool
	// listed counts found traces that match by their lists only, excused the traces that were not found
	// and match by hidden lists only.
	listed, excused int
}

func (c *corpus) count(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

// dedicated are attributes of spans that get dedicated columns.
var dedicated = []string{"tags", "app.tags", "app.note", "user.roles", "db.system.name", "messaging.system", "payment.currency", "error.type", "url.path", "list1"}

// newCorpus returns an empty corpus, in a Tempo with dedicated columns for attributes of spans.
func newCorpus(t *testing.T, dedicated []string) *corpus {
	t.Helper()
	o := still
	for i, key := range dedicated {
		if i > 0 {
			o.Dedicated += ","
		}
		o.Dedicated += "span." + key
	}
	c := &corpus{fixture: connectTo(t, o, false, nil), dedicated: dedicated, shadowed: map[string]bool{}, answers: map[string]map[trace.ID]bool{}}
	c.stack = stacktest.Get(t, o)
	var err error
	c.http, err = c.config.Access.HTTPClient()
	require.NoError(t, err)
	return c
}

// send sends generated traces, and returns after search finds all of them.
func (c *corpus) send(t *testing.T, o tracetest.Options) {
	t.Helper()
	o.Start, o.Window = time.Now().Add(-50*time.Second), 10*time.Second
	var batches [][]ptrace.Traces
	for g := range tracetest.New(o).All() {
		for i, td := range g.Batches {
			if i == len(batches) {
				batches = append(batches, nil)
			}
			batches[i] = append(batches[i], td)
		}
	}
	tracetest.AddLists(traceSeed, 0.125, slices.Concat(batches...)...)
	batches[0] = append(quirks(o.Start), batches[0]...)
	c.sendBatches(t, o.Start, batches)
}

// sendBatches sends batches of traces, one batch after another.
func (c *corpus) sendBatches(t *testing.T, start time.Time, batches [][]ptrace.Traces) {
	t.Helper()
	c.from = start.Add(-time.Hour)
	var err error
	c.traces, err = otlp.ToTraces(tracetest.Merge(slices.Concat(batches...)...))
	require.NoError(t, err)
	for _, tr := range c.traces {
		c.spans += int64(len(tr.Spans))
		for i := range tr.Spans {
			for _, a := range tr.Spans[i].Attributes {
				if !tr.Spans[i].Resource.Get(a.Key).IsAbsent() {
					c.shadowed[a.Key] = true
				}
			}
		}
	}
	for _, list := range batches {
		for chunk := range slices.Chunk(list, 100) {
			require.NoError(t, c.writer.Export(c.ctx, tracetest.Merge(chunk...)))
		}
	}
	// Tempo cuts traces in passes, one after another, in the order of writing. A trace is written after
	// the start of the pass that cut the first one. When it is found, that pass has ended, and it has cut
	// all traces that were written before.
	for n := range 2 {
		last := ptrace.NewTraces()
		addTrace(last, id(1+n), time.Now(), 1, "last")
		require.NoError(t, c.writer.Export(c.ctx, last))
		c.until(t, "search finds the trace that was sent last", func() bool {
			ids, err := c.search(`{ name = "last" }`, nil)
			require.NoError(t, err)
			return len(ids) == n+1
		})
	}
	ids, err := c.search(`{ }`, nil)
	require.NoError(t, err)
	require.Len(t, ids, len(c.traces)+2)
}

// flush returns after all traces are in blocks that search reads.
func (c *corpus) flush(t *testing.T) {
	t.Helper()
	require.NoError(t, c.stack.Flush(c.ctx))
	store, err := blocks.OpenFolder(c.ctx, c.stack.TempoBlocks)
	require.NoError(t, err)
	defer store.Close()
	c.until(t, "all traces are in blocks that search reads", func() bool {
		listing, err := store.List(c.ctx, c.config.Access.Tenant)
		require.NoError(t, err)
		stored := int64(0)
		for _, m := range listing.Live {
			info, err := store.Inspect(c.ctx, m)
			require.NoError(t, err)
			stored += info.Spans
		}
		var metrics searchMetrics
		_, err = c.search(`{ }`, &metrics)
		require.NoError(t, err)
		return stored > c.spans && metrics.TotalBlocks >= len(listing.Live)
	})
	clear(c.answers)
}

type searchMetrics struct{ CompletedJobs, TotalJobs, TotalBlocks int }

// ask returns the result of search, but sends equal queries only once.
func (c *corpus) ask(query string) (map[trace.ID]bool, error) {
	c.mu.Lock()
	ids := c.answers[query]
	c.mu.Unlock()
	if ids != nil {
		return ids, nil
	}
	ids, err := c.search(query, nil)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[query] = ids
	return ids, nil
}

// search returns the IDs of all traces that Tempo finds.
func (c *corpus) search(query string, metrics *searchMetrics) (map[trace.ID]bool, error) {
	values := url.Values{
		"q": {query}, "limit": {"100000"}, "spss": {"1"},
		"start": {fmt.Sprint(c.from.Unix())}, "end": {fmt.Sprint(c.from.Add(2 * time.Hour).Unix())},
	}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, c.config.URL+"/api/search?"+values.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %s", query, resp.Status, body)
	}
	var answer struct {
		Traces  []struct{ TraceID string }
		Metrics searchMetrics
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	if m := answer.Metrics; m.CompletedJobs != m.TotalJobs {
		return nil, fmt.Errorf("%s: %d of %d jobs completed", query, m.CompletedJobs, m.TotalJobs)
	}
	if metrics != nil {
		*metrics = answer.Metrics
	}
	ids := map[trace.ID]bool{}
	for _, tr := range answer.Traces {
		id, err := trace.ParseID(tr.TraceID)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		ids[id] = true
	}
	return ids, nil
}

// randomFilters returns n different filters on the data of the traces.
func (c *corpus) randomFilters(rng *rand.Rand, n int) []promised {
	g := filterGenerator{c, rng}
	seen := map[string]bool{}
	var list []promised
	for len(list) < n {
		x, p := g.expr(g.span(), 2)
		f, err := traceql.New(x)
		if err != nil || seen[f.String()] {
			continue
		}
		seen[f.String()] = true
		if strings.Count(f.String(), "event:name") > 1 {
			p = prefilterOnly
		}
		list = append(list, promised{f, p})
	}
	return list
}

type filterGenerator struct {
	*corpus
	rng *rand.Rand
}

func (g filterGenerator) span() *trace.Span {
	tr := g.traces[g.rng.IntN(len(g.traces))]
	return &tr.Spans[g.rng.IntN(len(tr.Spans))]
}

func pick[T any](g filterGenerator, list ...T) T { return list[g.rng.IntN(len(list))] }

// expr returns an expression that may be true of the span.
func (g filterGenerator) expr(s *trace.Span, depth int) (traceql.Expr, promise) {
	if depth > 0 {
		switch g.rng.IntN(10) {
		case 0, 1, 2, 3:
			x, p := g.expr(s, depth-1)
			y, q := g.expr(s, depth-1)
			return traceql.And(x, y), max(p, q)
		case 4, 5:
			x, p := g.expr(s, depth-1)
			y, q := g.expr(g.span(), depth-1)
			return traceql.AnyOf(x, y), max(p, q)
		case 6:
			if g.rng.IntN(2) == 0 {
				x, _ := g.expr(g.span(), depth-1)
				return traceql.Not{X: x}, prefilterOnly
			}
		}
	}
	if g.rng.IntN(8) == 0 {
		s = g.span()
	}
	return g.comparison(s)
}

func (g filterGenerator) comparison(s *trace.Span) (traceql.Expr, promise) {
	equality := pick(g, traceql.OpEqual, traceql.OpEqual, traceql.OpEqual, traceql.OpNotEqual)
	switch g.rng.IntN(20) {
	case 0, 1, 2:
		return g.text(traceql.Intrinsic("span:name"), s.Name)
	case 3:
		return traceql.Compare(traceql.Intrinsic("span:kind"), equality, traceql.Kind(s.Kind)), equal
	case 4:
		return traceql.Compare(traceql.Intrinsic("span:status"), equality, traceql.Status(s.Status)), equal
	case 5:
		return traceql.Compare(traceql.Intrinsic("span:duration"), g.order(), traceql.Duration(s.Duration())), prefilterOnly
	case 6:
		if len(s.Events) > 0 {
			e := s.Events[g.rng.IntN(len(s.Events))]
			if len(e.Attributes) > 0 && g.rng.IntN(3) == 0 {
				x, _ := g.attribute(traceql.ScopeEvent, e.Attributes)
				return x, prefilterOnly
			}
			return g.text(traceql.Intrinsic("event:name"), e.Name)
		}
	case 7:
		return g.text(traceql.Intrinsic("instrumentation:name"), s.Scope)
	case 8:
		p := equal
		if s.ID[0] == 0 {
			p = prefilterOnly
		}
		return traceql.Compare(traceql.Intrinsic("span:id"), equality, traceql.String(s.ID.String())), p
	case 9:
		if len(s.Links) > 0 {
			return traceql.Compare(traceql.Intrinsic("link:spanID"), traceql.OpEqual, traceql.String(s.Links[0].SpanID.String())), prefilterOnly
		}
		return g.text(traceql.Intrinsic("span:statusMessage"), s.StatusMessage)
	case 10:
		return traceql.Compare(traceql.Intrinsic("span:childCount"), g.order(), traceql.Int(int64(g.rng.IntN(4)))), prefilterOnly
	}
	scope, attrs := traceql.ScopeSpan, s.Attributes
	if g.rng.IntN(4) == 0 || len(attrs) == 0 {
		scope, attrs = traceql.ScopeResource, s.Resource
	}
	if len(attrs) == 0 {
		return g.text(traceql.Intrinsic("span:name"), s.Name)
	}
	if g.rng.IntN(3) == 0 {
		scope = traceql.ScopeAny
	}
	return g.attribute(scope, attrs)
}

// attribute returns a comparison of one of the attributes.
func (g filterGenerator) attribute(scope traceql.Scope, attrs trace.Attributes) (traceql.Expr, promise) {
	a := attrs[g.rng.IntN(len(attrs))]
	f := traceql.Attribute(scope, a.Key)
	if g.rng.IntN(20) == 0 {
		return traceql.Compare(f, pick(g, traceql.OpEqual, traceql.OpNotEqual), traceql.Nil), prefilterOnly
	}
	v := a.Value
	if v.Type() == trace.TypeArray {
		if len(v.Array()) == 0 {
			return traceql.Compare(f, traceql.OpNotEqual, traceql.String("x")), equal
		}
		v = pick(g, v.Array()...)
	}
	x, p := g.value(f, v)
	if scope == traceql.ScopeAny && (g.shadowed[a.Key] || slices.Contains(namedLikeIntrinsics, a.Key)) {
		p = prefilterOnly
	}
	return x, p
}

var namedLikeIntrinsics = []string{"name", "status", "kind", "duration", "id", "parent"}

func (g filterGenerator) value(f traceql.Field, v trace.Value) (traceql.Expr, promise) {
	switch v.Type() {
	case trace.TypeString:
		return g.text(f, v.Str())
	case trace.TypeInt:
		i := max(v.Int(), -1<<62)
		if g.rng.IntN(4) == 0 {
			return traceql.Compare(f, g.order(), traceql.Float(float64(i)+pick(g, 0, 0.5))), prefilterOnly
		}
		c := traceql.Int(i - int64(g.rng.IntN(2)))
		if g.rng.IntN(5) == 0 {
			return traceql.Compare(c, g.order(), f), wider
		}
		return traceql.Compare(f, g.order(), c), wider
	case trace.TypeDouble:
		d := v.Double()
		if math.IsNaN(d) || math.IsInf(d, 0) {
			d = 0.25
		}
		if g.rng.IntN(3) == 0 && math.Abs(d) < 1<<60 {
			return traceql.Compare(f, g.order(), traceql.Int(int64(d))), wider
		}
		return traceql.Compare(f, g.order(), traceql.Float(d)), prefilterOnly
	case trace.TypeBool:
		if g.rng.IntN(4) == 0 {
			return f, wider
		}
		return traceql.Compare(f, pick(g, traceql.OpEqual, traceql.OpNotEqual), traceql.Bool(v.Bool())), equal
	}
	return traceql.Compare(f, traceql.OpEqual, traceql.Int(1)), wider
}

func (g filterGenerator) order() traceql.Op {
	return pick(g, traceql.OpEqual, traceql.OpNotEqual, traceql.OpLess, traceql.OpLessEqual, traceql.OpGreater, traceql.OpGreaterEqual)
}

func (g filterGenerator) text(f traceql.Field, text string) (traceql.Expr, promise) {
	runes := []rune(text)
	from := g.rng.IntN(len(runes) + 1)
	to := from + g.rng.IntN(len(runes)-from+1)
	quoted := func(runes []rune) string { return regexp.QuoteMeta(string(runes)) }
	// Tempo stores "" for an absent value.
	emptyIfAbsent := f.Key == trace.ServiceName || f.Scope == traceql.ScopeIntrinsic && f.Key == "event:name"
	op, c := traceql.OpEqual, text
	switch g.rng.IntN(12) {
	case 0, 1:
		op = traceql.OpNotEqual
	case 2:
		op, c = traceql.OpRegex, quoted(runes[:to])+".*"
	case 3:
		op, c = traceql.OpRegex, ".*"+quoted(runes[from:to])+".*"
	case 4:
		op, c = traceql.OpRegex, quoted(runes)+"|x+"
	case 5:
		op, c = traceql.OpNotRegex, quoted(runes[:to])+".*"
	case 6:
		op, c = traceql.OpRegex, "(?i)"+strings.ToUpper(quoted(runes))
	case 7:
		return traceql.Compare(f, pick(g, traceql.OpLess, traceql.OpGreaterEqual), traceql.String(string(runes[from:to]))), prefilterOnly
	case 8:
		if text == "" && emptyIfAbsent {
			return traceql.Compare(traceql.String(text), op, f), prefilterOnly
		}
		return traceql.Compare(traceql.String(text), op, f), equal
	}
	x := traceql.Compare(f, op, traceql.String(c))
	matchesEmpty := c == ""
	if op == traceql.OpRegex {
		matchesEmpty = regexp.MustCompile("^(?:" + c + ")$").MatchString("")
	}
	if emptyIfAbsent && (matchesEmpty || op == traceql.OpNotEqual || op == traceql.OpNotRegex) {
		return x, prefilterOnly
	}
	return x, equal
}
