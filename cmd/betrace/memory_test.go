package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grafana/loki/pkg/push"
	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/protobuf/proto"

	"github.com/betracehq/betrace/tempoclient/tempopb"
	"github.com/betracehq/betrace/trace"
)

// inMemory is a Tempo that accepts OTLP over HTTP, and a Loki, in one server, with the endpoints that a scan
// uses. Tenants are separate.
type inMemory struct {
	mu      sync.Mutex
	tenants map[string]*tenantInMemory
	// refuses, if set, is the status of writes.
	refuses int
	// hidden is how many searches find nothing, as while Tempo moves a block; searches
	// counts all.
	hidden, searches int
	url              string
}

type tenantInMemory struct {
	traces  map[trace.ID]ptrace.Traces
	records map[string]push.Entry // by violation ID
	pushed  int
}

func newInMemory(t *testing.T) *inMemory {
	m := &inMemory{tenants: map[string]*tenantInMemory{}}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

func (m *inMemory) tenant(name string) *tenantInMemory {
	if m.tenants[name] == nil {
		m.tenants[name] = &tenantInMemory{traces: map[trace.ID]ptrace.Traces{}, records: map[string]push.Entry{}}
	}
	return m.tenants[name]
}

func (m *inMemory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Method == "PRI" { // it does not stream
		w.WriteHeader(http.StatusHTTPVersionNotSupported)
		return
	}
	mine := m.tenant(r.Header.Get("X-Scope-OrgID"))
	body, _ := io.ReadAll(r.Body) // a truncated body is not a message
	switch path := r.URL.Path; {
	case r.Method == http.MethodPost && m.refuses != 0:
		http.Error(w, "refused", m.refuses)
	case path == "/v1/traces":
		request := ptraceotlp.NewExportRequest()
		if err := request.UnmarshalProto(body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mine.add(request.Traces())
		w.Header().Set("Content-Type", "application/x-protobuf")
	case path == "/api/search":
		m.searches++
		if m.hidden > 0 {
			m.hidden--
			mine = &tenantInMemory{}
		}
		mine.search(w, r)
	case strings.HasPrefix(path, "/api/v2/traces/"):
		mine.byID(w, strings.TrimPrefix(path, "/api/v2/traces/"))
	case path == "/loki/api/v1/push":
		mine.push(w, body)
	case path == "/loki/api/v1/query_range":
		mine.query(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (m *tenantInMemory) add(td ptrace.Traces) {
	for _, rs := range td.ResourceSpans().All() {
		id := trace.ID(rs.ScopeSpans().At(0).Spans().At(0).TraceID())
		if _, ok := m.traces[id]; !ok {
			m.traces[id] = ptrace.NewTraces()
		}
		rs.CopyTo(m.traces[id].ResourceSpans().AppendEmpty())
	}
}

func (m *tenantInMemory) search(w http.ResponseWriter, r *http.Request) {
	type found struct {
		TraceID string `json:"traceID"`
	}
	at := func(key string) int64 {
		n, _ := strconv.ParseInt(r.URL.Query().Get(key), 10, 64) // 0 finds nothing
		return n
	}
	list := []found{}
	for id, td := range m.traces {
		s := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
		if start := s.StartTimestamp().AsTime().Unix(); start >= at("start") && start <= at("end") {
			list = append(list, found{strings.TrimLeft(id.String(), "0")})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"traces": list, "metrics": map[string]int{"completedJobs": 1, "totalJobs": 1}}) // a client that is gone is its own matter
}

func (m *tenantInMemory) byID(w http.ResponseWriter, text string) {
	id, err := trace.ParseID(text)
	td, ok := m.traces[id]
	if err != nil || !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	otlp := must((&ptrace.ProtoMarshaler{}).MarshalTraces(td))
	w.Header().Set("Content-Type", "application/protobuf")
	w.Write(must(proto.Marshal(&tempopb.TraceByIDResponse{Trace: otlp})))
}

func (m *tenantInMemory) push(w http.ResponseWriter, packed []byte) {
	var request push.PushRequest
	if body, err := snappy.Decode(nil, packed); err != nil || request.Unmarshal(body) != nil {
		http.Error(w, "no push", http.StatusBadRequest)
		return
	}
	for _, s := range request.Streams {
		for _, e := range s.Entries {
			m.pushed++
			for _, l := range e.StructuredMetadata {
				if l.Name == "violation_id" {
					m.records[l.Value] = e
				}
			}
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (m *tenantInMemory) query(w http.ResponseWriter, r *http.Request) {
	list := []any{}
	for id, e := range m.records {
		if strings.Contains(r.URL.Query().Get("query"), id) {
			list = append(list, map[string]any{"stream": map[string]string{"violation_id": id}, "values": [][2]string{{"1", e.Line}}})
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"result": list}}) // as above
}

// charges adds a trace of one charge a tenant and a second, from a point in time.
func (m *inMemory) charges(from time.Time, n int, tenants ...string) {
	for _, name := range tenants {
		for i := range n {
			td := ptrace.NewTraces()
			rs := td.ResourceSpans().AppendEmpty()
			rs.Resource().Attributes().PutStr("service.name", "payment")
			s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
			s.SetTraceID(pcommon.TraceID{15: byte(i + 1)})
			s.SetSpanID(pcommon.SpanID{0: 0xa0, 7: 1})
			s.SetName("charge")
			s.SetStartTimestamp(pcommon.NewTimestampFromTime(from.Add(time.Duration(i) * time.Second)))
			s.SetEndTimestamp(s.StartTimestamp() + 1000)
			m.tenant(name).add(td)
		}
	}
}

// pack writes a pack of one rule that each charge violates.
func (m *inMemory) pack(t *testing.T) string {
	t.Helper()
	pack := filepath.Join(t.TempDir(), "pack.yaml")
	require.NoError(t, os.WriteFile(pack, []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{id: charge, title: t, severity: low, when: 'spans.exists(s, s.name == \"charge\")'}]\n"), 0o644))
	return pack
}

// scan runs betrace scan on these servers.
func (m *inMemory) scan(t *testing.T, wantCode int, tenant string, args ...string) (summary, []string) {
	t.Helper()
	all := append([]string{"scan", "-o", "jsonl", "--rules", m.pack(t), "--tempo", m.url, "--tempo-otlp", m.url, "--loki", m.url, "--tenant", tenant, "--tries", "1"}, args...)
	code, stdout, stderr := betrace(t.Context(), all...)
	require.Equal(t, wantCode, code, stderr)
	var s summary
	var ids []string
	for line := range strings.Lines(stdout) {
		var row struct {
			Violation *struct {
				ID     string `json:"violation_id"`
				Tenant string
			}
			Summary *summary
		}
		require.NoError(t, json.Unmarshal([]byte(line), &row), line)
		if row.Violation != nil {
			require.Equal(t, tenant, row.Violation.Tenant)
			ids = append(ids, row.Violation.ID)
		} else {
			s = *row.Summary
		}
	}
	return s, ids
}

func between(from, to time.Time) []string {
	return []string{"--from", from.UTC().Format(time.RFC3339), "--to", to.UTC().Format(time.RFC3339)}
}

func TestAScanOfARangeWritesEachViolationOnceForEachTenant(t *testing.T) {
	m := newInMemory(t)
	from := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	m.charges(from, 5, "a", "b")
	var ids [2][]string
	for i, tenant := range []string{"a", "b"} {
		var s summary
		s, ids[i] = m.scan(t, exitViolations, tenant, between(from, from.Add(time.Minute))...)
		require.Equal(t, trace.Complete, s.Result)
		require.Equal(t, []sinkSummary{{Sink: "tempo", Written: 5, Confirmed: 5}, {Sink: "loki", Written: 5, Confirmed: 5}}, s.Sinks)
		require.Len(t, ids[i], 5)
	}
	require.NotSubset(t, ids[0], ids[1][:1], "a tenant's violations are its own")
	for i, tenant := range []string{"a", "b"} {
		require.Len(t, m.tenants[tenant].records, 5)
		require.Len(t, m.tenants[tenant].traces, 5+5)
		for _, id := range ids[i] {
			require.Contains(t, m.tenants[tenant].records, id)
		}
		s, _ := m.scan(t, exitViolations, tenant, between(from, from.Add(time.Minute))...)
		require.Equal(t, []sinkSummary{{Sink: "tempo", AlreadyThere: 5}, {Sink: "loki", AlreadyThere: 5}}, s.Sinks)
		require.Equal(t, 5, m.tenants[tenant].pushed)
	}
	require.NotContains(t, m.tenants, "")
}

func TestARangeThatReachesIntoThePresentIsProvisional(t *testing.T) {
	m := newInMemory(t)
	now := time.Now().Truncate(time.Second)
	m.charges(now.Add(-90*time.Minute), 3, "a")
	s, _ := m.scan(t, exitViolations, "a", "--since", "2h", "--dry-run")
	require.Equal(t, trace.Provisional, s.Result)
	dryRun := func(minutes int, more ...string) summary {
		args := append(between(now.Add(-2*time.Hour), now.Add(-time.Duration(minutes)*time.Minute)), "--dry-run")
		s, _ := m.scan(t, exitViolations, "a", append(args, more...)...)
		return s
	}
	// By the API, too, both settles count: Tempo moves blocks at up to 30 minutes.
	require.Equal(t, trace.Complete, dryRun(50).Result)
	require.Equal(t, trace.Provisional, dryRun(40).Result)
	require.Equal(t, trace.Provisional, dryRun(40, "--settle", "10m").Result)
	require.Equal(t, trace.Provisional, dryRun(40, "--settle-blocks", "10m").Result)
	require.Equal(t, trace.Complete, dryRun(40, "--settle", "10m", "--settle-blocks", "10m").Result)
	// BeTrace's own spans, which are young, are seen and not judged. Those that the scan
	// itself writes before its second search are not read.
	s, _ = m.scan(t, exitViolations, "a", "--since", "2h")
	require.Equal(t, 3, s.Sinks[0].Written)
	require.Zero(t, s.Traces.Own+s.Traces.OutsideRange)
	require.Zero(t, s.SecondSearch.Added)
	s, _ = m.scan(t, exitViolations, "a", "--since", "2h")
	require.Equal(t, 3, s.Traces.Own)
	require.Equal(t, 3, s.Traces.Judged)

	id := fmt.Sprintf("%032d", 1)
	s, _ = m.scan(t, exitViolations, "a", "--trace", id, "--dry-run")
	require.Equal(t, trace.Complete, s.Result)
	s, _ = m.scan(t, exitViolations, "a", "--trace", id, "--dry-run", "--settle", "2h")
	require.Equal(t, trace.Provisional, s.Result)
}

// While Tempo moves a block, its search may find none of its traces. The second search
// of young data finds them, and every command reports how many.
func TestTracesThatOnlyTheSecondSearchFindsAreJudgedAndReported(t *testing.T) {
	for _, way := range []string{"auto", "by-id"} {
		m := newInMemory(t)
		now := time.Now().Truncate(time.Second)
		m.charges(now.Add(-20*time.Minute), 3, "a")
		since := []string{"--since", "2h", "--source", way}
		servers := []string{"--tempo", m.url, "--tenant", "a", "--query", `{ name = "charge" }`}
		young := now.Add(-45 * time.Minute)

		m.hidden = 1
		s, ids := m.scan(t, exitViolations, "a", append(since, "--dry-run")...)
		require.Len(t, ids, 3)
		require.Equal(t, 3, s.SecondSearch.Added)
		require.WithinDuration(t, young, s.SecondSearch.From, time.Minute)
		require.Equal(t, trace.Provisional, s.Result)

		m.hidden = 1
		code, stdout, _ := betrace(t.Context(), append(append([]string{"count", "-o", "json"}, since...), servers...)...)
		require.Equal(t, exitOK, code)
		var c counting
		require.NoError(t, json.Unmarshal([]byte(stdout), &c))
		require.Equal(t, 3, c.Traces)
		require.Equal(t, 3, c.SecondSearch.Added)
		require.Equal(t, trace.Provisional, c.Result)

		line := `(?m)^\s*3 traces added by a second search of 20\d\d-\S+Z and later$`
		m.hidden = 1
		_, stdout, _ = betrace(t.Context(), append(append([]string{"count"}, since...), servers...)...)
		require.Regexp(t, line, stdout)

		m.hidden = 1
		code, stdout, stderr := betrace(t.Context(), append(append([]string{"export"}, since...), servers...)...)
		require.Equal(t, exitOK, code)
		require.Equal(t, 3, strings.Count(stdout, "\n"))
		require.Regexp(t, line, stderr)

		m.hidden = 1
		_, stdout, _ = betrace(t.Context(), append(append([]string{"scan", "--dry-run", "--rules", m.pack(t)}, since...), servers...)...)
		require.Regexp(t, line, stdout)
	}
	// Data that has settled is searched once.
	m := newInMemory(t)
	m.charges(time.Now().Add(-3*time.Hour), 3, "a")
	s, _ := m.scan(t, exitViolations, "a", append(between(time.Now().Add(-4*time.Hour), time.Now().Add(-2*time.Hour)), "--dry-run")...)
	require.Nil(t, s.SecondSearch)
	require.Equal(t, 1, m.searches)
}

func TestARangeOlderThanWhatIsStoredIsIncomplete(t *testing.T) {
	m := newInMemory(t)
	from := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	m.charges(from, 3, "a")
	file := filepath.Join(t.TempDir(), "tempo.yaml")
	require.NoError(t, os.WriteFile(file, []byte("compactor: {compaction: {block_retention: 2h}}"), 0o644))
	fixed := between(from, from.Add(time.Minute))
	one := []string{"--trace", fmt.Sprintf("%032d", 1)}
	for _, test := range []struct {
		name   string
		args   []string
		what   string // "": it is complete
		before time.Duration
	}{
		{"not known", fixed, "", 0},
		{"kept longer", append(fixed, "--tempo-retention", "4h"), "", 0},
		{"kept shorter", append(fixed, "--tempo-retention", "2h"), "range ", 2 * time.Hour},
		{"as long as the range", []string{"--since", "4h", "--tempo-retention", "4h"}, "range ", 4 * time.Hour},
		{"Tempo's configuration, with its API", append(fixed, "--tempo-config", file, "--source", "api"), "range ", 2 * time.Hour},
		{"the setting beats it", append(fixed, "--tempo-config", file, "--source", "api", "--tempo-retention", "4h"), "", 0},
		{"a trace", append(one, "--tempo-retention", "4h"), "", 0},
		{"a trace that is older", append(one, "--tempo-retention", "2h"), "trace ", 2 * time.Hour},
	} {
		code := exitViolations
		if test.what != "" {
			code = exitFailed
		}
		s, ids := m.scan(t, code, "a", append(test.args, "--dry-run")...)
		require.NotEmpty(t, ids, "%s: the existing traces are judged", test.name)
		if test.what == "" {
			require.Equal(t, trace.Complete, s.Result, test.name)
			continue
		}
		require.Equal(t, trace.Incomplete, s.Result, test.name)
		require.Len(t, s.Problems, 1, test.name)
		require.True(t, strings.HasPrefix(s.Problems[0].What, test.what), s.Problems[0].What)
		_, rest, _ := strings.Cut(s.Problems[0].Err.Error(), fmt.Sprintf("it is older than the stored data: Tempo keeps blocks for %s, so spans from before ", test.before))
		before, err := time.Parse(time.RFC3339, strings.Split(rest, " ")[0])
		require.NoError(t, err, s.Problems[0].Err.Error())
		require.WithinDuration(t, time.Now().Add(-test.before), before, 10*time.Second, test.name)
	}
}

func TestWhatIsRefusedIsMissingAndTheExitCodeIsTwo(t *testing.T) {
	m := newInMemory(t)
	from := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	m.charges(from, 3, "a")
	m.refuses = http.StatusBadRequest
	s, ids := m.scan(t, exitFailed, "a", between(from, from.Add(time.Minute))...)
	require.Len(t, ids, 3)
	require.Equal(t, trace.Incomplete, s.Result)
	for _, sink := range s.Sinks {
		require.Equal(t, 3, sink.Missing)
		require.Zero(t, sink.Confirmed)
		require.Contains(t, sink.Error, "400 refused")
	}
	// A dry run does not even try.
	s, _ = m.scan(t, exitViolations, "a", append(between(from, from.Add(time.Minute)), "--dry-run")...)
	require.Empty(t, s.Sinks)
}

func TestTheExitCodeIsTheWorstThatHappened(t *testing.T) {
	violations := []ruleSummary{{Pass: 1}, {Violation: 1}}
	for name, tt := range map[string]struct {
		s    summary
		want int
	}{
		"nothing":               {summary{Result: trace.Complete, Rules: []ruleSummary{{Pass: 3}}}, exitOK},
		"provisional":           {summary{Result: trace.Provisional}, exitOK},
		"violations":            {summary{Result: trace.Provisional, Rules: violations}, exitViolations},
		"incomplete":            {summary{Result: trace.Incomplete}, exitFailed},
		"incomplete, as well":   {summary{Result: trace.Incomplete, Rules: violations}, exitFailed},
		"not written":           {summary{Result: trace.Complete, Rules: violations, Sinks: []sinkSummary{{}, {Missing: 1}}}, exitFailed},
		"an error of one sink":  {summary{Result: trace.Complete, Rules: violations, Sinks: []sinkSummary{{Error: "x"}, {}}}, exitFailed},
		"all of it was written": {summary{Result: trace.Complete, Rules: violations, Sinks: []sinkSummary{{Written: 1, Confirmed: 1}}}, exitViolations},
	} {
		require.Equal(t, tt.want, tt.s.exitCode(), name)
	}
}

func TestTextsOfATraceDoNotSteerATerminal(t *testing.T) {
	require.Equal(t, "a b [31mc d e größe 😀", oneLine("a\nb\x1b[31mc\x7fd\u009be größe 😀"))
	require.Equal(t, "paid  false", oneLine("paid \u202efalse"), "nor turn it round")
}
