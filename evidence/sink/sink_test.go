package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

func violation(n int, tenant string) evidence.Violation {
	id := trace.ID{0: 1, 14: byte(n >> 8), 15: byte(n)}
	digest := strings.Repeat("ab", 32)
	return evidence.Violation{
		ID: evidence.ViolationID(tenant, "payments", "charge-needs-fraud-check", digest, id), Tenant: tenant,
		Pack: "payments", PackVersion: "1.4.0", RuleID: "charge-needs-fraud-check", RuleDigest: digest,
		Title: "Charges pass a fraud check", Severity: "critical", Controls: []string{"soc2:CC6.1", "pci-dss:10.2"},
		Clause: "always[0]", Message: "charge of 2500 without a fraud check",
		TraceID: id, TraceStart: 1_767_323_045_000_000_001, RootService: "shop", Services: []string{"payment", "shop"},
		Root:  evidence.SpanRef{ID: trace.SpanID{7: 1}, Name: "checkout", Service: "shop"},
		About: []evidence.SpanRef{{ID: trace.SpanID{7: 2}, Name: "charge", Service: "payment"}, {ID: trace.SpanID{7: 1}, Name: "checkout", Service: "shop"}},
		Circumstances: evidence.Circumstances{
			Origin: evidence.OriginScan, WindowStart: time.Unix(1_767_323_000, 0), WindowEnd: time.Unix(1_767_324_000, 0), Engine: "v1.2.3",
		},
	}
}

// sinks connects to a real Tempo and a real Loki, as a tenant of one test.
func sinks(t *testing.T) (tempo *sink.Tempo, loki *sink.Loki, access tempoclient.Access, s *stack.Stack) {
	t.Helper()
	// While Tempo moves a block, it may find none of its traces.
	s = stacktest.Get(t, stack.Options{Tempo: true, Loki: true, Multitenant: true, NoBlocks: true})
	access = tempoclient.Access{Tenant: strings.ReplaceAll(t.Name(), "/", "-"), PlainText: true}
	client, err := tempoclient.New(tempoclient.Config{URL: s.TempoURL, Access: access})
	require.NoError(t, err)
	writer, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: s.OTLPGRPC, Access: access})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(client.Close(), writer.Close())) })
	httpClient, err := access.HTTPClient()
	require.NoError(t, err)
	loki, err = sink.NewLoki(sink.LokiConfig{URL: s.LokiURL, Client: httpClient})
	require.NoError(t, err)
	return &sink.Tempo{Export: writer.Export, Read: client.Trace, NotFound: tempoclient.ErrNotFound}, loki, access, s
}

// lokiLines returns every line that Loki holds of a tenant.
func lokiLines(t *testing.T, s *stack.Stack, access tempoclient.Access) []string {
	t.Helper()
	client, err := access.HTTPClient()
	require.NoError(t, err)
	resp, err := client.Get(s.LokiURL + "/loki/api/v1/query_range?limit=5000&since=1h&query=" + url.QueryEscape(`{service_name="betrace"}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Stream map[string]string
				Values [][]any
			}
		}
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	var lines []string
	for _, stream := range answer.Data.Result {
		require.Equal(t, "critical", stream.Stream["severity"])
		require.Equal(t, "charge-needs-fraud-check", stream.Stream["rule_id"])
		require.Equal(t, "soc2:CC6.1,pci-dss:10.2", stream.Stream["controls"])
		for _, v := range stream.Values {
			lines = append(lines, v[1].(string))
		}
	}
	return lines
}

func TestAViolationIsWrittenOnceHoweverOftenItIsDelivered(t *testing.T) {
	tempo, loki, access, s := sinks(t)
	var vs []evidence.Violation
	for i := range 230 { // more than one query of Loki takes
		vs = append(vs, violation(i, access.Tenant))
	}
	both := []sink.Sink{tempo, loki}
	first := sink.Deliver(t.Context(), both, append(vs[:100:100], vs[50:]...), sink.Options{})
	require.Equal(t, []sink.Delivery{{Sink: "tempo", Written: 230, Confirmed: 230}, {Sink: "loki", Written: 230, Confirmed: 230}}, first)
	again := sink.Deliver(t.Context(), both, vs, sink.Options{})
	require.Equal(t, []sink.Delivery{{Sink: "tempo", AlreadyThere: 230}, {Sink: "loki", AlreadyThere: 230}}, again)
	lines := lokiLines(t, s, access)
	require.Len(t, lines, 230)
	for _, v := range vs {
		id, spanID := evidence.SpanIDs(v.ID)
		tr, err := tempo.Read(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, tr.Spans, 1)
		require.Equal(t, spanID, tr.Spans[0].ID)
		require.True(t, isOwn(tr))
		line, err := v.Record()
		require.NoError(t, err)
		require.Contains(t, lines, string(line))
	}
}

func TestAnAnswerThatIsLostDoesNotWriteTwice(t *testing.T) {
	_, _, access, s := sinks(t)
	target, err := url.Parse(s.LokiURL)
	require.NoError(t, err)
	var pushes atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isPush := strings.HasSuffix(r.URL.Path, "/push")
		r.URL.Scheme, r.URL.Host, r.RequestURI = target.Scheme, target.Host, ""
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil || isPush && pushes.Add(1) == 1 {
			if err == nil {
				resp.Body.Close()
			}
			panic(http.ErrAbortHandler) // Loki has it, the answer is cut off
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body) // the client sees a broken answer
	}))
	defer proxy.Close()
	client, err := access.HTTPClient()
	require.NoError(t, err)
	loki, err := sink.NewLoki(sink.LokiConfig{URL: proxy.URL, Client: client})
	require.NoError(t, err)
	d := sink.Deliver(t.Context(), []sink.Sink{loki}, []evidence.Violation{violation(1, access.Tenant)}, sink.Options{})
	require.Equal(t, []sink.Delivery{{Sink: "loki", Written: 1, Confirmed: 1}}, d)
	require.Equal(t, int32(1), pushes.Load())
	require.Len(t, lokiLines(t, s, access), 1)
}

func TestAClockThatIsWrongIsSaid(t *testing.T) {
	_, _, access, s := sinks(t)
	client, err := access.HTTPClient()
	require.NoError(t, err)
	loki, err := sink.NewLoki(sink.LokiConfig{URL: s.LokiURL, Client: client, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	require.NoError(t, err)
	d := sink.Deliver(t.Context(), []sink.Sink{loki}, []evidence.Violation{violation(1, access.Tenant)}, sink.Options{})
	require.ErrorContains(t, d[0].Err, "check this machine's clock")
	require.Len(t, d[0].Missing, 1)
}

func TestWhatLokiAnswersIsSaidWithARemedy(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		handler    http.HandlerFunc
		tries      int32
	}{
		{"not authorized", "401 no: check the credentials", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 401) }, 1},
		{"another server", "check that http://127.0.0.1", func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) }, 1},
		{"a limit", "429 slow: raise the tenant's ingestion rate (3 tries)", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "slow", 429) }, 3},
		{"a fault", "500 oh: see Loki's log (3 tries)", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oh", 500) }, 3},
		{"a page", "400 Bad Request", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", 400) }, 1},
		{"half an answer", "the answer broke off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{")) // half of it, on purpose
		}, 3},
		{"no JSON", "the response is not a query result", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.Add(1); tt.handler(w, r) }))
			defer server.Close()
			loki, err := sink.NewLoki(sink.LokiConfig{URL: server.URL, Tries: 3})
			require.NoError(t, err)
			d := sink.Deliver(t.Context(), []sink.Sink{loki}, []evidence.Violation{violation(1, "")}, sink.Options{})
			require.ErrorContains(t, d[0].Err, "loki: search for existing violations: loki query: ")
			require.ErrorContains(t, d[0].Err, tt.want)
			require.Len(t, d[0].Missing, 1)
			require.Equal(t, tt.tries, n.Load())
		})
	}
	loki, err := sink.NewLoki(sink.LokiConfig{URL: "http://127.0.0.1:1", Tries: 2})
	require.NoError(t, err)
	_, err = loki.Holds(t.Context(), []evidence.Violation{violation(1, "")}, time.Time{})
	require.ErrorContains(t, err, "connection refused: check that Loki is running at http://127.0.0.1:1")
	_, err = sink.NewLoki(sink.LokiConfig{URL: "loki:3100"})
	require.ErrorContains(t, err, `loki URL "loki:3100": want http://`)
}

// memory is a sink that loses, refuses or keeps.
type memory struct {
	mu     sync.Mutex
	held   map[string]bool
	writes int
	lose   int // so many writes are lost
	refuse error
	blind  error
}

func (m *memory) Name() string { return "memory" }

func (m *memory) Holds(_ context.Context, vs []evidence.Violation, _ time.Time) (map[string]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := map[string]bool{}
	for _, v := range vs {
		held[v.ID] = m.held[v.ID]
	}
	if m.writes > 0 && m.blind != nil {
		return nil, m.blind
	}
	return held, nil
}

func (m *memory) Write(_ context.Context, vs []evidence.Violation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if m.writes <= m.lose {
		return nil
	}
	for i, v := range vs {
		if m.refuse != nil && i > 0 {
			return m.refuse
		}
		m.held[v.ID] = true
	}
	return nil
}

// forgetful does not find one violation when it is first asked, as a Tempo in which
// a trace is on its way from memory to a block.
type forgetful struct {
	*memory
	asked  int
	forget string
}

func (f *forgetful) Holds(ctx context.Context, vs []evidence.Violation, since time.Time) (map[string]bool, error) {
	held, err := f.memory.Holds(ctx, vs, since)
	if f.asked++; f.asked == 1 {
		delete(held, f.forget)
	}
	return held, err
}

func TestWhatIsMissedForAMomentIsNotWrittenAgain(t *testing.T) {
	vs := []evidence.Violation{violation(1, ""), violation(2, ""), violation(3, "")}
	m := &memory{held: map[string]bool{vs[0].ID: true, vs[1].ID: true}}
	f := &forgetful{memory: m, forget: vs[1].ID}
	d := sink.Deliver(t.Context(), []sink.Sink{f}, vs, sink.Options{Poll: time.Millisecond})[0]
	require.Equal(t, sink.Delivery{Sink: "memory", AlreadyThere: 2, Written: 1, Confirmed: 1}, d)
}

func TestWhatDoesNotArriveIsSentAgainThenReported(t *testing.T) {
	vs := []evidence.Violation{violation(1, ""), violation(2, "")}
	opts := sink.Options{Wait: 20 * time.Millisecond, Poll: time.Millisecond}
	deliver := func(m *memory) sink.Delivery {
		m.held = map[string]bool{}
		return sink.Deliver(t.Context(), []sink.Sink{m}, vs, opts)[0]
	}
	lost := &memory{lose: 2}
	require.Equal(t, sink.Delivery{Sink: "memory", Written: 2, Confirmed: 2}, deliver(lost))
	require.Equal(t, 3, lost.writes)

	lost = &memory{lose: 99}
	d := deliver(lost)
	require.Equal(t, 3, lost.writes)
	require.Equal(t, []string{vs[0].ID, vs[1].ID}, d.Missing)
	require.Zero(t, d.Confirmed)
	require.ErrorContains(t, d.Err, "2 violations were sent 3 times and not found")

	d = deliver(&memory{refuse: errors.New("disk full")})
	require.Equal(t, []string{vs[1].ID}, d.Missing, "violations that arrived before the refusal exist")
	require.Equal(t, 1, d.Confirmed)
	require.ErrorContains(t, d.Err, "memory: write: disk full")

	d = deliver(&memory{blind: errors.New("blind")})
	require.Len(t, d.Missing, 2)
	require.ErrorContains(t, d.Err, "memory: read back: blind")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d = sink.Deliver(ctx, []sink.Sink{&memory{held: map[string]bool{}, lose: 99}}, vs, sink.Options{})[0]
	require.ErrorIs(t, d.Err, context.Canceled)
	require.Len(t, d.Missing, 2)

	sum := sink.Delivery{}
	sum.Add(sink.Delivery{Sink: "x", Written: 1, Confirmed: 1})
	sum.Add(sink.Delivery{Sink: "x", AlreadyThere: 2, Written: 1, Missing: []string{"a"}, Err: errors.New("e")})
	require.Equal(t, "x", sum.Sink)
	require.Equal(t, [3]int{2, 2, 1}, [3]int{sum.AlreadyThere, sum.Written, sum.Confirmed})
	require.Equal(t, []string{"a"}, sum.Missing)
}

func isOwn(t *trace.Trace) bool {
	needs := columnar.Needs{Attributes: evidence.OwnAttributes}
	return evidence.IsOwn(columnar.NewBatch(needs, t), 0)
}
