package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/tempoclient"
)

// entrySinks are sinks for entries on real servers, for a tenant of one test.
type entrySinks struct {
	tempo  *sink.Tempo
	loki   *sink.Loki
	tenant string

	client   *http.Client // sends a tenant
	lokiURL  string
	searches atomic.Int64 // of Tempo
	queries  atomic.Int64 // of Loki
	losing   bool         // the answers of Loki's pushes are lost
}

func newEntrySinks(t testing.TB, opts stack.Options) *entrySinks {
	t.Helper()
	s := stacktest.Get(t, opts)
	e := &entrySinks{tenant: strings.ReplaceAll(t.Name(), "/", "-"), lokiURL: s.LokiURL}
	access := tempoclient.Access{Tenant: e.tenant, PlainText: true}
	client, err := tempoclient.New(tempoclient.Config{URL: s.TempoURL, Access: access})
	require.NoError(t, err)
	writer, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: s.OTLPGRPC, Access: access})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(client.Close(), writer.Close())) })
	e.tempo = &sink.Tempo{
		Export: writer.Export, Read: client.Trace, NotFound: tempoclient.ErrNotFound, LimitRefused: tempoclient.ErrSearchLimit,
		Search: func(ctx context.Context, query string, from, to time.Time, limit int) ([]map[string]string, error) {
			e.searches.Add(1)
			return client.Select(ctx, query, from, to, limit)
		},
	}
	e.client, err = access.HTTPClient()
	require.NoError(t, err)
	counting := *e.client
	counting.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := e.client.Transport.RoundTrip(r)
		switch {
		case err != nil:
		case strings.HasSuffix(r.URL.Path, "/query_range"):
			e.queries.Add(1)
		case e.losing:
			resp.Body.Close()
			return nil, errors.New("connection reset")
		}
		return resp, err
	})
	if opts.Loki {
		e.loki, err = sink.NewLoki(sink.LokiConfig{URL: s.LokiURL, Client: &counting})
		require.NoError(t, err)
	}
	return e
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// lokiCounts returns the number of records that Loki has, by kind.
func (e *entrySinks) lokiCounts(t testing.TB) map[string]int {
	t.Helper()
	resp, err := e.client.Get(e.lokiURL + "/loki/api/v1/query?query=" + url.QueryEscape(`sum by (betrace_kind) (count_over_time({service_name="betrace"}[24h]))`))
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  []any
			}
		}
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	counts := map[string]int{}
	for _, r := range answer.Data.Result {
		n, err := strconv.Atoi(r.Value[1].(string))
		require.NoError(t, err)
		counts[r.Metric["betrace_kind"]] = n
	}
	return counts
}

// awaitHeld searches until a sink has items, and returns the last answer.
func awaitHeld(t testing.TB, s sink.EntrySink, entry string, items []sink.Item, want int) map[string]bool {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		held, err := s.Held(t.Context(), entry, items)
		require.NoError(t, err)
		if len(held) >= want || time.Now().After(deadline) {
			return held
		}
		time.Sleep(100 * time.Millisecond) // a real server has no event to wait for
	}
}

var inMemory = stack.Options{Tempo: true, Loki: true, Multitenant: true, NoBlocks: true}

func TestAnEntryOfThousandsOfItemsIsFiledOnce(t *testing.T) {
	e := newEntrySinks(t, inMemory)
	all := items("0123abcd-7", e.tenant, 2000, time.Now())
	want := idsOf(all)
	// Loki accepts lines of 256 KiB, and 64 KiB of structured metadata.
	long, many := all[6].ID, all[1500].ID
	all[6].Line = []byte(strings.Repeat("x", 257<<10))
	require.Equal(t, sink.KindViolation, all[1500].Kind)
	all[1500].Violation.Controls = []string{strings.Repeat("y", 65<<10)}
	delete(want, long)
	delete(want, many)
	err := e.loki.Send(t.Context(), all)
	var refused *sink.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, slices.Sorted(slices.Values([]string{long, many})), slices.Sorted(maps.Keys(refused.Reasons)))
	require.Contains(t, refused.Reasons[long], "max entry size '262144' bytes exceeded")
	require.Contains(t, refused.Reasons[many], "structured metadata too large")
	var tooOld *sink.TooOldError
	require.False(t, errors.As(err, &tooOld))
	e.queries.Store(0)
	held, err := e.loki.Held(t.Context(), "0123abcd-7", all)
	require.NoError(t, err)
	require.Equal(t, want, held)
	require.Equal(t, int64(1), e.queries.Load(), "one search")
	require.Equal(t, map[string]int{"violation": 1998, "correction": 1000, "statement": 1}, e.lokiCounts(t))
	other, err := e.loki.Held(t.Context(), "0123abcd-8", all)
	require.NoError(t, err)
	require.Empty(t, other)

	spans := all[:len(all)-1]
	for range 2 {
		require.NoError(t, e.tempo.Send(t.Context(), all))
	}
	require.Equal(t, idsOf(spans), awaitHeld(t, e.tempo, "0123abcd-7", all, len(spans)))
	e.searches.Store(0)
	held, err = e.tempo.Held(t.Context(), "0123abcd-7", all)
	require.NoError(t, err)
	require.Equal(t, idsOf(spans), held)
	require.Equal(t, int64(1), e.searches.Load(), "one search")
	other, err = e.tempo.Held(t.Context(), "0123abcd-8", all)
	require.NoError(t, err)
	require.Empty(t, other)
	held, err = e.tempo.HeldByID(t.Context(), append(slices.Clone(all[:50]), items("0123abcd-7", "other", 1, time.Now())...))
	require.NoError(t, err)
	require.Equal(t, idsOf(all[:50]), held)
}

// queries are the LogQL queries of the user guide, a line each.
func queries(t *testing.T) []string {
	t.Helper()
	guide, err := os.ReadFile("../../docs/user-guide.md")
	require.NoError(t, err)
	var found []string
	for line := range strings.Lines(string(guide)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "expr: ")
		if strings.HasPrefix(line, `{service_name="betrace"`) || strings.HasPrefix(line, "count") && strings.Contains(line, "count_over_time(") {
			found = append(found, line)
		}
	}
	return found
}

func TestTheQueriesOfTheGuideFindTheItemsOfAnEntry(t *testing.T) {
	e := newEntrySinks(t, inMemory)
	all := items("0123abcd-7", e.tenant, 20, time.Now())
	all[1].Violation.Origin = evidence.OriginScan
	coverage := []byte(`{"payload":"coverage"}`)
	require.NoError(t, e.loki.Send(t.Context(), append(all, sink.Item{
		Kind: sink.KindStatement, ID: evidence.EntryDigest(coverage), FiledAt: time.Now(),
		Statement: &sink.Statement{Entry: "0123abcd-8", Kind: "coverage", Envelope: coverage},
	})))
	replace := strings.NewReplacer(
		"4bf92f3577b34da6a3ce929d0e0e4736", all[1].Violation.TraceID.String(), "0b8f1c2d3e4f5a6b7c8d9e0f1a2b3c4d", all[2].Correction.ViolationID,
		"charge-needs-check", "charge-needs-fraud-check")
	found := queries(t)
	require.Greater(t, len(found), 11)
	for _, query := range found {
		path := "/loki/api/v1/query_range?query="
		if strings.HasPrefix(query, "count") {
			path = "/loki/api/v1/query?query="
		}
		resp, err := e.client.Get(e.lokiURL + path + url.QueryEscape(replace.Replace(query)))
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode, query)
		var answer struct{ Data struct{ Result []any } }
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
		require.NotEmpty(t, answer.Data.Result, query)
	}
}

func TestAnEntryIsFiledOnceAlthoughEachAnswerIsLost(t *testing.T) {
	e := newEntrySinks(t, inMemory)
	e.losing = true
	all := items("0123abcd-7", e.tenant, 2000, time.Now())
	require.NoError(t, e.loki.Send(t.Context(), all))
	held, err := e.loki.Held(t.Context(), "0123abcd-7", all)
	require.NoError(t, err)
	require.Equal(t, idsOf(all), held)
	require.Equal(t, map[string]int{"violation": 2000, "correction": 1000, "statement": 1}, e.lokiCounts(t))
}

func TestRecordsOfOldFilingTimesAreAcceptedWhenTheirTimesAreMoved(t *testing.T) {
	for name, age := range map[string]time.Duration{"older than Loki accepts": 15 * 24 * time.Hour, "far behind the stream": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			e := newEntrySinks(t, inMemory)
			now := time.Now()
			require.NoError(t, e.loki.Send(t.Context(), items("0123abcd-7", e.tenant, 2, now)))
			all := items("0123abcd-8", e.tenant, 20, now.Add(-age))
			err := e.loki.Send(t.Context(), all)
			var tooOld *sink.TooOldError
			require.ErrorAs(t, err, &tooOld)
			require.ErrorContains(t, err, "check this machine's clock")
			var refused *sink.RefusedError
			require.False(t, errors.As(err, &refused))
			held, err := e.loki.Held(t.Context(), "0123abcd-8", all)
			require.NoError(t, err)
			require.Empty(t, held)

			for i := range all {
				all[i].FiledAt = now.Add(time.Duration(i) * time.Nanosecond)
			}
			require.NoError(t, e.loki.Send(t.Context(), all))
			held, err = e.loki.Held(t.Context(), "0123abcd-8", all)
			require.NoError(t, err)
			require.Equal(t, idsOf(all), held)
		})
	}
}

// A search may miss spans while Tempo moves them from its memory to a block, which it does here after 20 seconds.
func TestSpansAreFoundByIDWhileTempoStoresThem(t *testing.T) {
	e := newEntrySinks(t, stack.Options{Tempo: true, Multitenant: true})
	all := items("0123abcd-7", e.tenant, 200, time.Now())
	spans := idsOf(all[:len(all)-1])
	require.NoError(t, e.tempo.Send(t.Context(), all))
	require.Equal(t, spans, awaitHeld(t, e.tempo, "0123abcd-7", all, len(spans)))
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(200 * time.Millisecond) {
		held, err := e.tempo.Held(t.Context(), "0123abcd-7", all)
		require.NoError(t, err)
		byID, err := e.tempo.HeldByID(t.Context(), slices.DeleteFunc(slices.Clone(all), func(item sink.Item) bool { return held[item.ID] }))
		require.NoError(t, err)
		maps.Copy(held, byID)
		require.Equal(t, spans, held)
	}
	require.Equal(t, spans, awaitHeld(t, e.tempo, "0123abcd-7", all, len(spans)))
}

// BenchmarkEntries files entries of 1,000 violations in both sinks and reads them back. Sending one entry overlaps with
// reading back those before it.
func BenchmarkEntries(b *testing.B) {
	const perEntry, entries = 1000, 20
	e := newEntrySinks(b, inMemory)
	for b.Loop() {
		run := time.Now().UnixNano()
		for _, s := range []sink.EntrySink{e.tempo, e.loki} {
			b.Run(s.Name(), func(b *testing.B) {
				var sending time.Duration
				var reading atomic.Int64
				began := time.Now()
				group := errgroup.Group{}
				group.SetLimit(4)
				for n := range entries {
					name := fmt.Sprintf("%x-%d", run, n)
					var all []sink.Item
					for i := range perEntry {
						v := violation(n*perEntry+i, fmt.Sprint(e.tenant, run))
						v.Circumstances = evidence.Circumstances{Origin: evidence.OriginSweep, Sweep: "all", Engine: "v1.2.3", Entry: name}
						all = append(all, sink.Item{Kind: sink.KindViolation, ID: v.ID, Violation: &v, FiledAt: time.Now()})
					}
					at := time.Now()
					require.NoError(b, s.Send(b.Context(), all))
					sending += time.Since(at)
					group.Go(func() error {
						for {
							at := time.Now()
							held, err := s.Held(b.Context(), name, all)
							if len(held) == perEntry || err != nil {
								reading.Add(int64(time.Since(at)))
								return err
							}
							time.Sleep(500 * time.Millisecond)
						}
					})
				}
				require.NoError(b, group.Wait())
				took := time.Since(began)
				b.ReportMetric(perEntry*entries/took.Seconds(), "violations/s")
				b.ReportMetric(sending.Seconds()*1e3/entries, "ms/send")
				b.ReportMetric(time.Duration(reading.Load()).Seconds()*1e3/entries, "ms/read")
			})
		}
	}
}
