package tempoclient_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/traceql"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// still is a Tempo whose search finds traces within seconds, and which moves no trace to a block until it
// is flushed. While it moves a block, search may miss the block's traces.
var still = stack.Options{Tempo: true, Profile: stack.Fast, Multitenant: true, NoBlocks: true}

// optionsOf returns the Tempo for a profile. With its defaults Tempo keeps blocks in the ingester for 30
// minutes, longer than these tests take.
func optionsOf(profile stack.Profile) stack.Options {
	if profile == stack.Fast {
		return still
	}
	return stack.Options{Tempo: true, Profile: profile, Multitenant: true}
}

// patience bounds the time to wait for a server, so that every test ends. Even a loaded machine needs far
// less.
const patience = 10 * time.Minute

// servers are the two configurations, each with the two methods of search, for which every promise is
// tested.
var servers = []struct {
	name    string
	profile stack.Profile
	grpc    bool
}{
	{"fast, streamed", stack.Fast, true},
	{"fast, over HTTP", stack.Fast, false},
	{"default, streamed", stack.Default, true},
	{"default, over HTTP", stack.Default, false},
}

// tenants gives each test data of its own.
var tenants struct {
	sync.Mutex
	n int
}

type fixture struct {
	client *tempoclient.Client
	writer *tempoclient.Writer
	config tempoclient.Config
	ctx    context.Context
}

func connect(t *testing.T, profile stack.Profile, grpc bool, change func(*tempoclient.Config)) fixture {
	t.Helper()
	return connectTo(t, optionsOf(profile), grpc, change)
}

func connectTo(t *testing.T, o stack.Options, grpc bool, change func(*tempoclient.Config)) fixture {
	t.Helper()
	s := stacktest.Get(t, o)
	tenants.Lock()
	tenants.n++
	access := tempoclient.Access{Tenant: fmt.Sprintf("tenant-%d", tenants.n), PlainText: true}
	tenants.Unlock()
	config := tempoclient.Config{URL: s.TempoURL, GRPCAddr: s.TempoGRPC, Access: access, Concurrency: 4, SearchAgainAfter: 50 * time.Millisecond}
	if !grpc {
		config.GRPCAddr = s.OTLPHTTP[len("http://"):] // a port that does not stream
	}
	if change != nil {
		change(&config)
	}
	client, err := tempoclient.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	writer, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: s.OTLPGRPC, Access: access})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, writer.Close()) })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return fixture{client, writer, config, ctx}
}

// id returns a trace ID. Every third ID begins with zeros.
func id(n int) trace.ID {
	var id trace.ID
	binary.BigEndian.PutUint64(id[8:], uint64(n+1)*0x9E3779B97F4A7C15)
	if n%3 != 0 {
		binary.BigEndian.PutUint64(id[:8], uint64(n+1)*0xD1B54A32D192ED03)
	}
	return id
}

// addTrace adds a trace with the given number of spans, which have a name and attributes of several
// types.
func addTrace(td ptrace.Traces, id trace.ID, start time.Time, spans int, name string) {
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "shop")
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName("lib")
	for i := range spans {
		s := ss.Spans().AppendEmpty()
		s.SetTraceID(pcommon.TraceID(id))
		var spanID, parent [8]byte
		binary.BigEndian.PutUint64(spanID[:], uint64(i+1))
		if i > 0 {
			binary.BigEndian.PutUint64(parent[:], uint64(i+1)/2)
		}
		s.SetSpanID(spanID)
		s.SetParentSpanID(parent)
		s.SetName(name)
		s.SetKind(ptrace.SpanKindServer)
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(start.Add(time.Duration(i) * time.Microsecond)))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(start.Add(time.Duration(i+5) * time.Microsecond)))
		s.Attributes().PutInt("n", int64(i))
		s.Attributes().PutDouble("rate", 0.5)
		s.Attributes().PutStr("text", "x")
		s.Attributes().PutBool("flag", true)
		s.Attributes().PutEmptySlice("tags").AppendEmpty().SetStr("a")
		e := s.Events().AppendEmpty()
		e.SetName("event")
		e.SetTimestamp(s.StartTimestamp())
		s.Links().AppendEmpty().SetSpanID(spanID)
	}
}

// store sends spans to the still Tempo, and returns after all are in blocks that search reads.
func (f fixture) store(t *testing.T, td ptrace.Traces) {
	t.Helper()
	require.NoError(t, f.writer.Export(f.ctx, td))
	f.flush(t, still, td.SpanCount())
}

// flush returns after this number of spans is in blocks. It waits until search reads these blocks, except
// with Tempo's defaults, where Tempo polls for blocks only every five minutes.
func (f fixture) flush(t *testing.T, opts stack.Options, want int) {
	t.Helper()
	s := stacktest.Get(t, opts)
	require.NoError(t, s.Flush(f.ctx))
	store, err := blocks.OpenFolder(f.ctx, s.TempoBlocks)
	require.NoError(t, err)
	defer store.Close()
	client, err := f.config.Access.HTTPClient()
	require.NoError(t, err)
	f.until(t, "the spans are in blocks that search reads", func() bool {
		listing, err := store.List(f.ctx, f.config.Access.Tenant)
		require.NoError(t, err)
		spans := 0
		for _, m := range listing.Live {
			info, err := store.Inspect(f.ctx, m)
			require.NoError(t, err)
			spans += int(info.Spans)
		}
		if spans < want || opts.Profile == stack.Default {
			return spans >= want
		}
		req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, fmt.Sprintf("%s/api/search?q={}&start=%d&end=%d", s.TempoURL, time.Now().Add(-24*time.Hour).Unix(), time.Now().Unix()), nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		var answer struct{ Metrics searchMetrics }
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
		return answer.Metrics.TotalBlocks >= len(listing.Live)
	})
}

// until waits until a condition is met.
func (f fixture) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for !is() {
		select {
		case <-f.ctx.Done():
			t.Fatalf("condition not met within %s: %s", patience, what)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// read enumerates until n traces are found, because search finds written spans only after a moment.
func (f fixture) read(t *testing.T, req tempoclient.Request, n int) (map[trace.ID]*trace.Trace, tempoclient.Report) {
	t.Helper()
	found := req // reads none of them
	found.Skip = func(trace.ID) bool { return true }
	f.until(t, fmt.Sprintf("search finds %d traces", n), func() bool {
		report, err := f.client.Traces(f.ctx, found, nil)
		require.NoError(t, err)
		return report.Found >= n
	})
	for {
		got := map[trace.ID]*trace.Trace{}
		report, err := f.client.Traces(f.ctx, req, func(tr *trace.Trace) error {
			if got[tr.ID] != nil {
				return fmt.Errorf("trace %s was delivered twice", tr.ID)
			}
			got[tr.ID] = tr
			return nil
		})
		require.NoError(t, err)
		if len(got) >= n {
			return got, report
		}
		select {
		case <-f.ctx.Done():
			t.Fatalf("%d of %d traces were found: %+v", len(got), n, report)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func wantTraces(t *testing.T, sent ptrace.Traces, got map[trace.ID]*trace.Trace) {
	t.Helper()
	want, err := otlp.ToTraces(sent)
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for _, w := range want {
		require.NotNil(t, got[w.ID], "trace %s", w.ID)
		if diff := cmp.Diff(w.Spans, got[w.ID].Spans); diff != "" {
			t.Fatalf("trace %s differs from the sent trace (-sent +read):\n%s", w.ID, diff)
		}
	}
}

func TestEveryTraceOfARangeIsReadOnceAndAsItWasSent(t *testing.T) {
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			// There are more traces than the limit of an answer, over time and in one second.
			f := connect(t, server.profile, server.grpc, func(c *tempoclient.Config) { c.SearchLimit = 40 })
			now := time.Now().Truncate(time.Second)
			sent := ptrace.NewTraces()
			for i := range 600 {
				start := now.Add(-time.Duration(i%60) * time.Second)
				if i >= 300 {
					start = now.Add(-30*time.Second + time.Duration(i)*time.Microsecond)
				}
				spans := 1 + i%3
				if i%100 == 0 {
					spans = 250 // over 100 spans, the default maximum of a span set
				}
				addTrace(sent, id(i), start, spans, "op")
			}
			require.NoError(t, f.writer.Export(f.ctx, sent))
			got, report := f.read(t, tempoclient.Request{From: now.Add(-5 * time.Minute), To: now.Add(time.Minute)}, 600)
			wantTraces(t, sent, got)
			require.Empty(t, report.Problems)
			require.Equal(t, 600, report.Found)
			require.Equal(t, 600, report.Delivered)
			require.Equal(t, map[bool]string{true: "grpc", false: "http"}[server.grpc], report.SearchedBy)
			require.Greater(t, report.Requests, int64(600))
		})
	}
}

func TestARangeHoldsTheTracesThatStartInIt(t *testing.T) {
	f := connect(t, stack.Fast, true, nil)
	now := time.Now().Truncate(time.Second)
	sent := ptrace.NewTraces()
	addTrace(sent, id(1), now.Add(-20*time.Second-1), 1, "before")
	addTrace(sent, id(2), now.Add(-20*time.Second), 1, "first")
	addTrace(sent, id(3), now.Add(-10*time.Second-1), 1, "last")
	addTrace(sent, id(4), now.Add(-10*time.Second), 1, "after")
	// It starts in the range, and its match is after the range.
	addTrace(sent, id(5), now.Add(-15*time.Second), 1, "long")
	late := ptrace.NewTraces()
	addTrace(late, id(5), now.Add(-5*time.Second), 2, "match")
	late.ResourceSpans().At(0).ScopeSpans().At(0).Spans().RemoveIf(func(s ptrace.Span) bool { return s.ParentSpanID().IsEmpty() })
	late.ResourceSpans().MoveAndAppendTo(sent.ResourceSpans())
	require.NoError(t, f.writer.Export(f.ctx, sent))
	all, _ := f.read(t, tempoclient.Request{From: now.Add(-time.Hour), To: now}, 5)
	wantTraces(t, sent, all)
	got, report := f.read(t, tempoclient.Request{From: now.Add(-20 * time.Second), To: now.Add(-10 * time.Second)}, 3)
	require.Len(t, got, 3)
	require.Contains(t, got, id(2))
	require.Contains(t, got, id(3))
	require.Contains(t, got, id(5))
	require.Equal(t, 2, report.OutsideRange)

	match, err := traceql.Parse(`{ name = "match" }`)
	require.NoError(t, err)
	got, _ = f.read(t, tempoclient.Request{From: now.Add(-20 * time.Second), To: now.Add(-10 * time.Second), Filter: match}, 1)
	require.Len(t, got, 1)
	require.Len(t, got[id(5)].Spans, 2, "the whole trace must be delivered, not only the matching span")
}

func TestATenantSeesItsOwnTracesOnly(t *testing.T) {
	a, b := connect(t, stack.Fast, true, nil), connect(t, stack.Fast, true, nil)
	sent := ptrace.NewTraces()
	addTrace(sent, id(1), time.Now(), 1, "op")
	require.NoError(t, a.writer.Export(a.ctx, sent))
	req := tempoclient.Request{From: time.Now().Add(-time.Minute), To: time.Now().Add(time.Minute)}
	a.read(t, req, 1)
	got, _ := b.read(t, req, 0)
	require.Empty(t, got)
	_, err := b.client.Trace(b.ctx, id(1))
	require.ErrorIs(t, err, tempoclient.ErrNotFound)
	read, err := a.client.Trace(a.ctx, id(1))
	require.NoError(t, err)
	require.Equal(t, id(1), read.ID)
}

func TestSpansAreWrittenOverHTTPToo(t *testing.T) {
	f := connect(t, stack.Fast, true, nil)
	s := stacktest.Get(t, still)
	w, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: s.OTLPHTTP, Access: f.config.Access})
	require.NoError(t, err)
	defer w.Close()
	sent := ptrace.NewTraces()
	for i := range 40 { // over the size of one message
		addTrace(sent, id(i), time.Now(), 1000, "op")
	}
	require.Greater(t, (&ptrace.ProtoMarshaler{}).TracesSize(sent), 3<<20)
	require.NoError(t, w.Export(f.ctx, sent))
	for i := range 40 {
		f.until(t, "the trace is found by its ID", func() bool {
			tr, err := f.client.Trace(f.ctx, id(i))
			return err == nil && len(tr.Spans) == 1000
		})
	}
}

func TestAReadingEndsWithItsContextAndItsConsumer(t *testing.T) {
	f := connect(t, stack.Fast, true, nil)
	sent := ptrace.NewTraces()
	for i := range 50 {
		addTrace(sent, id(i), time.Now(), 1, "op")
	}
	require.NoError(t, f.writer.Export(f.ctx, sent))
	req := tempoclient.Request{From: time.Now().Add(-time.Minute), To: time.Now().Add(time.Minute)}
	f.read(t, req, 50)
	broken := errors.New("consumer broke")
	_, err := f.client.Traces(f.ctx, req, func(*trace.Trace) error { return broken })
	require.ErrorIs(t, err, broken)
	ctx, cancel := context.WithCancelCause(f.ctx)
	n := 0
	_, err = f.client.Traces(ctx, req, func(*trace.Trace) error {
		if n++; n == 3 {
			cancel(broken)
		}
		return nil
	})
	require.ErrorIs(t, err, broken)
	_, err = f.client.Traces(f.ctx, tempoclient.Request{From: req.To, To: req.From}, nil)
	require.ErrorContains(t, err, "the range ends before it starts")
}
