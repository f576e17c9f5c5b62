package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grafana/loki/pkg/push"
	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
)

// lokiInMemory stores pushed entries, and answers queries by violation_id and time as Loki
// does.
type lokiInMemory struct {
	mu      sync.Mutex
	pushes  int
	largest int
	entries []push.Entry
	labels  []string // of each entry
	blind   int      // queries find nothing before so many pushes
}

var asksFor = regexp.MustCompile(`violation_id=~"([^"]*)"`)

func (l *lokiInMemory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/push") {
		packed, _ := io.ReadAll(r.Body) // a truncated body cannot be decoded
		body, err := snappy.Decode(nil, packed)
		var request push.PushRequest
		if err != nil || request.Unmarshal(body) != nil {
			http.Error(w, "no push", http.StatusBadRequest)
			return
		}
		l.pushes++
		l.largest = max(l.largest, len(body))
		for _, s := range request.Streams {
			l.entries = append(l.entries, s.Entries...)
			l.labels = append(l.labels, slices.Repeat([]string{s.Labels}, len(s.Entries))...)
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if l.pushes < l.blind {
		fmt.Fprint(w, `{"data":{"result":[]}}`)
		return
	}
	q := r.URL.Query()
	ids := regexp.MustCompile("^(?:" + asksFor.FindStringSubmatch(q.Get("query"))[1] + ")$")
	start, _ := strconv.ParseInt(q.Get("start"), 10, 64) // 0 finds too much
	type stream struct {
		Stream map[string]string `json:"stream"`
		Values [][2]string       `json:"values"`
	}
	var found []stream
	for _, e := range l.entries {
		if id := metadata(e)["violation_id"]; ids.MatchString(id) && e.Timestamp.UnixNano() >= start {
			found = append(found, stream{metadata(e), [][2]string{{fmt.Sprint(e.Timestamp.UnixNano()), e.Line}}})
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"result": found}}) // a client that is gone is its own matter
}

func metadata(e push.Entry) map[string]string {
	m := map[string]string{}
	for _, l := range e.StructuredMetadata {
		m[l.Name] = l.Value
	}
	return m
}

func (l *lokiInMemory) sink(t *testing.T, change func(*sink.LokiConfig)) *sink.Loki {
	t.Helper()
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	config := sink.LokiConfig{URL: server.URL}
	if change != nil {
		change(&config)
	}
	loki, err := sink.NewLoki(config)
	require.NoError(t, err)
	return loki
}

func TestEveryRecordIsPushedOnceWithATimeOfItsOwn(t *testing.T) {
	server := &lokiInMemory{}
	// The clock does not advance, and the violations exceed one push and one query.
	now := time.Unix(1_800_000_000, 0)
	loki := server.sink(t, func(c *sink.LokiConfig) { c.Now = func() time.Time { return now } })
	var vs []evidence.Violation
	for i := range 1500 {
		v := violation(i, "acme")
		v.Message = strings.Repeat("x", 1500)
		if i%2 == 1 {
			v.Severity = "low"
		}
		vs = append(vs, v)
	}
	want := sink.Delivery{Sink: "loki", Written: 1500, Confirmed: 1500}
	require.Equal(t, want, sink.Deliver(t.Context(), []sink.Sink{loki}, vs, sink.Options{})[0])
	require.Len(t, server.entries, 1500)
	require.Greater(t, server.pushes, 1)
	require.Less(t, server.largest, 4<<20, "what Loki takes")
	times := map[int64]bool{}
	byID := map[string]string{}
	for i, e := range server.entries {
		times[e.Timestamp.UnixNano()] = true
		byID[metadata(e)["violation_id"]] = e.Line
		severity := "critical"
		if strings.Contains(e.Line, `"severity":"low"`) {
			severity = "low"
		}
		require.Equal(t, `{betrace_kind="violation", origin="scan", service_name="betrace", severity="`+severity+`"}`, server.labels[i])
	}
	require.Len(t, times, 1500)
	for _, v := range vs {
		line, err := v.Record()
		require.NoError(t, err)
		require.Equal(t, string(line), byID[v.ID])
	}
	again := sink.Deliver(t.Context(), []sink.Sink{loki}, vs, sink.Options{})[0]
	require.Equal(t, sink.Delivery{Sink: "loki", AlreadyThere: 1500}, again)
}

func TestRecordsAreLookedForAsFarBackAsIsSet(t *testing.T) {
	server := &lokiInMemory{}
	now := time.Now()
	loki := server.sink(t, func(c *sink.LokiConfig) {
		c.Now, c.Lookback = func() time.Time { return now }, 10*24*time.Hour
	})
	vs := []evidence.Violation{violation(1, "")}
	require.NoError(t, loki.Write(t.Context(), vs))
	now = now.Add(9 * 24 * time.Hour)
	held, err := loki.Holds(t.Context(), append(vs, violation(2, "")), time.Time{})
	require.NoError(t, err)
	require.Equal(t, map[string]bool{vs[0].ID: true}, held)
	now = now.Add(2 * 24 * time.Hour)
	held, err = loki.Holds(t.Context(), vs, time.Time{})
	require.NoError(t, err)
	require.Empty(t, held)
}

func TestTempoHoldsOnlyTheViolationItself(t *testing.T) {
	v, notFound, down := violation(1, ""), errors.New("not found"), errors.New("down")
	own, err := otlp.ToTraces(evidence.Spans([]evidence.Violation{v}, time.Now()))
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		read *trace.Trace
		fail error
		want map[string]bool
		err  error
	}{
		"its span":           {read: own[0], want: map[string]bool{v.ID: true}},
		"nothing":            {fail: notFound, want: map[string]bool{}},
		"another trace":      {read: trace.New(own[0].ID, []trace.Span{{ID: trace.SpanID{1}}}), want: map[string]bool{}},
		"no answer":          {fail: down, err: down},
		"what is wrapped so": {fail: fmt.Errorf("tempo: %w", notFound), want: map[string]bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			tempo := &sink.Tempo{NotFound: notFound, Read: func(_ context.Context, id trace.ID) (*trace.Trace, error) {
				require.Equal(t, own[0].ID, id)
				return tt.read, tt.fail
			}}
			held, err := tempo.Holds(t.Context(), []evidence.Violation{v}, time.Time{})
			require.ErrorIs(t, err, tt.err)
			if tt.err == nil {
				require.Equal(t, tt.want, held)
			}
		})
	}
}

func TestTheSpansOfOneWriteAreStampedWithItsTime(t *testing.T) {
	now := time.Unix(1_800_000_000, 7)
	var sent ptrace.Traces
	tempo := &sink.Tempo{
		Now:    func() time.Time { return now },
		Export: func(_ context.Context, td ptrace.Traces) error { sent = td; return nil },
	}
	require.NoError(t, tempo.Write(t.Context(), []evidence.Violation{violation(1, ""), violation(2, "")}))
	require.Equal(t, 2, sent.SpanCount())
	for _, rs := range sent.ResourceSpans().All() {
		require.Equal(t, now.UTC(), rs.ScopeSpans().At(0).Spans().At(0).StartTimestamp().AsTime())
	}
}

func TestAViolationThatComesTwiceIsWrittenOnce(t *testing.T) {
	m := &memory{held: map[string]bool{}}
	v := violation(1, "")
	d := sink.Deliver(t.Context(), []sink.Sink{m}, []evidence.Violation{v, violation(2, ""), v}, sink.Options{})[0]
	require.Equal(t, sink.Delivery{Sink: "memory", Written: 2, Confirmed: 2}, d)
	d = sink.Deliver(t.Context(), []sink.Sink{m}, []evidence.Violation{v, v, violation(3, "")}, sink.Options{})[0]
	require.Equal(t, sink.Delivery{Sink: "memory", AlreadyThere: 1, Written: 1, Confirmed: 1}, d)
}

func TestAnErrorStaysSaidWhenLaterDeliveriesSucceed(t *testing.T) {
	failed := errors.New("disk full")
	var sum sink.Delivery
	sum.Add(sink.Delivery{Sink: "x", Written: 1, Missing: []string{"a"}, Err: failed})
	sum.Add(sink.Delivery{Sink: "x", Written: 1, Confirmed: 1})
	require.ErrorIs(t, sum.Err, failed)
	require.Equal(t, []string{"a"}, sum.Missing)
}
