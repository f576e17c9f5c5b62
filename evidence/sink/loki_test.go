package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace"
)

func TestARecordWithoutAnOriginIsNotFiled(t *testing.T) {
	server := &lokiInMemory{}
	loki := server.sink(t, nil)
	v := violation(1, "")
	for _, origin := range []evidence.Origin{"", "cron"} {
		v.Origin = origin
		require.ErrorContains(t, loki.Write(t.Context(), []evidence.Violation{v}), fmt.Sprintf("its origin is %q: want one of", string(origin)))
	}
	require.Empty(t, server.entries)
}

func TestAViolationThatIsSentAgainIsTheSameEntryAndTheSameSpan(t *testing.T) {
	server := &lokiInMemory{blind: 2}
	now := time.Unix(1_800_000_000, 0)
	clock := func() time.Time { now = now.Add(time.Second); return now }
	loki := server.sink(t, func(c *sink.LokiConfig) { c.Now = clock })
	vs := []evidence.Violation{violation(1, ""), violation(2, "")}
	opts := sink.Options{Wait: 20 * time.Millisecond, Poll: 15 * time.Millisecond}
	d := sink.Deliver(t.Context(), []sink.Sink{loki}, vs, opts)[0]
	require.Equal(t, sink.Delivery{Sink: "loki", Written: 2, Confirmed: 2}, d)
	require.Len(t, server.entries, 4, "they were sent again")
	for i, e := range server.entries {
		require.Equal(t, server.entries[i%2], e)
	}
	require.Zero(t, vs[0].FiledAt, "the caller's are left as they are")

	var sent []time.Time
	tempo := &sink.Tempo{Now: clock, NotFound: errNone, Export: func(_ context.Context, td ptrace.Traces) error {
		for _, rs := range td.ResourceSpans().All() {
			sent = append(sent, rs.ScopeSpans().At(0).Spans().At(0).StartTimestamp().AsTime())
		}
		return nil
	}, Read: func(context.Context, trace.ID) (*trace.Trace, error) { return nil, errNone }}
	d = sink.Deliver(t.Context(), []sink.Sink{tempo}, vs, sink.Options{Wait: time.Millisecond, Poll: time.Millisecond})[0]
	require.Len(t, d.Missing, 2)
	require.Len(t, sent, 6)
	require.Len(t, slices.Compact(sent), 1)
}

var errNone = errors.New("none")

// entry is an entry of Loki's.
type entry struct {
	line   string
	labels map[string]string // structured metadata, too
	at     string
}

// ask sends a query to Loki and returns its answer's result: entries, or the values of series.
func ask(t *testing.T, s *stack.Stack, access tempoclient.Access, query string) (entries []entry, series []float64) {
	t.Helper()
	client, err := access.HTTPClient()
	require.NoError(t, err)
	path := "/loki/api/v1/query_range?limit=5000&since=1h&query="
	if isMetric(query) {
		path = "/loki/api/v1/query?query="
	}
	resp, err := client.Get(s.LokiURL + path + url.QueryEscape(query))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode, query)
	var answer struct {
		Data struct {
			Result []struct {
				Stream map[string]string
				Values [][]any
				Value  []any
			}
		}
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	for _, r := range answer.Data.Result {
		for _, v := range r.Values {
			entries = append(entries, entry{v[1].(string), r.Stream, v[0].(string)})
		}
		if len(r.Value) > 0 {
			n, err := strconv.ParseFloat(r.Value[1].(string), 64)
			require.NoError(t, err)
			series = append(series, n)
		}
	}
	return entries, series
}

func isMetric(query string) bool { return !strings.HasPrefix(query, "{") }

// logQL returns the queries of records that a document ships.
func logQL(t *testing.T, path string) (queries []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, line := range strings.Split(string(text), "\n") {
		if regexp.MustCompile(`^[a-z({].*betrace_kind="violation"`).MatchString(line) {
			queries = append(queries, line)
		}
	}
	return queries
}

// found returns the violations that two runs find: the same ones, under circumstances of
// their own.
func found(tenant string, n int, origin evidence.Origin, window int64) []evidence.Violation {
	var vs []evidence.Violation
	for i := range n {
		v := violation(i, tenant)
		v.Pack, v.RuleID = "payments", "charge-needs-check"
		v.ID = evidence.ViolationID(tenant, v.Pack, v.RuleID, v.RuleDigest, v.TraceID)
		v.Circumstances = evidence.Circumstances{
			Origin: origin, WindowStart: time.Unix(window, 0), WindowEnd: time.Unix(window+3600, 0),
			Provisional: origin == evidence.OriginScan, Engine: "v" + strconv.FormatInt(window, 10),
		}
		if origin == evidence.OriginSweep {
			v.Sweep = "hourly"
		}
		vs = append(vs, v)
	}
	return vs
}

// late is a sink that finds nothing when it is first asked, as one to which another run
// delivers at the same time.
type late struct {
	sink.Sink
	asked atomic.Int32
}

func (l *late) Holds(ctx context.Context, vs []evidence.Violation, since time.Time) (map[string]bool, error) {
	if l.asked.Add(1) == 1 {
		return map[string]bool{}, nil
	}
	return l.Sink.Holds(ctx, vs, since)
}

// Two runs that find the same at the same time file different entries, whose lines are the
// same, and the queries of the documents count each violation once.
func TestTwoRunsAtOnceFileTheSameLineAndAreCountedOnce(t *testing.T) {
	tempo, loki, access, s := sinks(t)
	const n = 20
	var wg sync.WaitGroup
	for _, vs := range [][]evidence.Violation{
		found(access.Tenant, n, evidence.OriginScan, 1_767_323_000), found(access.Tenant, n, evidence.OriginScan, 1_767_326_600),
		found(access.Tenant, n, evidence.OriginSweep, 1_767_320_000),
	} {
		wg.Go(func() {
			for _, d := range sink.Deliver(t.Context(), []sink.Sink{&late{Sink: tempo}, &late{Sink: loki}}, vs, sink.Options{}) {
				if d.Err != nil || d.Confirmed != n {
					t.Errorf("%+v", d)
				}
			}
		})
	}
	wg.Wait()

	all, _ := ask(t, s, access, `{service_name="betrace", betrace_kind="violation"}`)
	require.Len(t, all, 3*n, "each run filed its own")
	lines := map[string]map[string]bool{}
	for _, e := range all {
		id := e.labels["violation_id"]
		if lines[id] == nil {
			lines[id] = map[string]bool{}
		}
		lines[id][e.line] = true
		v, err := evidence.ParseRecord([]byte(e.line))
		require.NoError(t, err)
		require.Equal(t, id, v.ID)
		for name, want := range map[string]string{
			"trace_id": v.TraceID.String(), "pack": v.Pack, "rule_id": v.RuleID, "controls": strings.Join(v.Controls, ","), "severity": v.Severity,
		} {
			require.Equal(t, want, e.labels[name], name)
		}
		switch e.labels["origin"] {
		case "scan":
			require.Equal(t, "true", e.labels["provisional"])
			require.Empty(t, e.labels["sweep"])
		case "sweep":
			require.Equal(t, "false", e.labels["provisional"])
			require.Equal(t, "hourly", e.labels["sweep"])
			require.Equal(t, "2026-01-02T02:13:20Z/2026-01-02T03:13:20Z", e.labels["window"])
			require.Equal(t, "v1767320000", e.labels["engine"])
		default:
			t.Errorf("origin %q", e.labels["origin"])
		}
	}
	require.Len(t, lines, n)
	for id, of := range lines {
		require.Len(t, of, 1, "the lines of %s are the same", id)
	}
	for origin, want := range map[string]int{"scan": 2 * n, "sweep": n, "backfill": 0} {
		some, _ := ask(t, s, access, `{service_name="betrace", betrace_kind="violation", origin="`+origin+`"}`)
		require.Len(t, some, want, origin)
	}

	queries := logQL(t, "../../docs/user-guide.md")
	require.Greater(t, len(queries), 5)
	metrics := 0
	for _, query := range queries {
		want := n
		if strings.Contains(query, "trace_id=") {
			query = strings.Replace(query, "4bf92f3577b34da6a3ce929d0e0e4736", violation(7, "").TraceID.String(), 1)
			want = 1
		}
		entries, series := ask(t, s, access, query)
		if isMetric(query) {
			metrics++
			require.Equal(t, []float64{float64(want)}, series, query)
			continue
		}
		ids := map[string]bool{}
		for _, e := range entries {
			ids[e.labels["violation_id"]] = true
		}
		require.Len(t, ids, want, query)
	}
	require.GreaterOrEqual(t, metrics, 2)
}

// Loki has the entry, and does not show it until it was sent again.
func TestAnEntryThatIsSentAgainIsStoredOnce(t *testing.T) {
	_, _, access, s := sinks(t)
	target, err := url.Parse(s.LokiURL)
	require.NoError(t, err)
	var pushes atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/push") {
			pushes.Add(1)
		} else if pushes.Load() < 2 {
			fmt.Fprint(w, `{"data":{"result":[]}}`)
			return
		}
		httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, r)
	}))
	defer proxy.Close()
	client, err := access.HTTPClient()
	require.NoError(t, err)
	loki, err := sink.NewLoki(sink.LokiConfig{URL: proxy.URL, Client: client})
	require.NoError(t, err)
	d := sink.Deliver(t.Context(), []sink.Sink{loki}, found(access.Tenant, 3, evidence.OriginScan, 1_767_323_000), sink.Options{Wait: 500 * time.Millisecond})[0]
	require.Equal(t, sink.Delivery{Sink: "loki", Written: 3, Confirmed: 3}, d)
	require.Equal(t, int32(2), pushes.Load())
	all, _ := ask(t, s, access, `{service_name="betrace"}`)
	require.Len(t, all, 3)
}

// A count looks at one series for each violation, and Loki limits series to 500 by default:
// it must not count fewer.
func TestACountOfManyViolationsIsRightOrAnError(t *testing.T) {
	_, loki, access, s := sinks(t)
	vs := found(access.Tenant, 600, evidence.OriginScan, 1_767_323_000)
	require.Equal(t, sink.Delivery{Sink: "loki", Written: 600, Confirmed: 600}, sink.Deliver(t.Context(), []sink.Sink{loki}, vs, sink.Options{})[0])
	client, err := access.HTTPClient()
	require.NoError(t, err)
	for _, query := range logQL(t, "../../docs/user-guide.md") {
		if !isMetric(query) {
			continue
		}
		resp, err := client.Get(s.LokiURL + "/loki/api/v1/query?query=" + url.QueryEscape(query))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		t.Logf("%s: %d %.300s", query, resp.StatusCode, body)
		if resp.StatusCode != http.StatusOK {
			require.Contains(t, string(body), "maximum number of series (500) reached", query)
			continue
		}
		_, series := ask(t, s, access, query)
		require.Equal(t, []float64{600}, series, query)
	}
}
