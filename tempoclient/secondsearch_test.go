package tempoclient_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/tempopb"
	"github.com/betracehq/betrace/trace"
)

// windowsOf records the windows of all searches. It answers the nth search with the nth list of IDs, and
// later searches with the last list.
func windowsOf(windows *[][2]int64, answers ...[]trace.ID) streaming {
	var mu sync.Mutex
	return func(n int, req *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
		mu.Lock()
		*windows = append(*windows, [2]int64{int64(req.GetStart()) - at.Unix(), int64(req.GetEnd()) - at.Unix()})
		mu.Unlock()
		return stream.Send(wholeSearch(answers[min(n, len(answers))-1]...))
	}
}

func TestOnlyTheUnsettledPartOfARangeIsSearchedTwice(t *testing.T) {
	t.Parallel()
	all := [2]int64{0, 12} // the range of 10 s, and the maximum duration of a trace
	for _, test := range []struct {
		name    string
		settled time.Time
		windows [][2]int64
		from    time.Time // start of the second search; zero: no second search
	}{
		{"settled long ago", time.Time{}, [][2]int64{all}, time.Time{}},
		{"settled at its end", at.Add(10 * time.Second), [][2]int64{all}, time.Time{}},
		{"settled but for the last nanosecond", at.Add(10*time.Second - 1), [][2]int64{all, {9, 12}}, at.Add(10*time.Second - 1)},
		{"half of it settled", at.Add(5 * time.Second), [][2]int64{all, {5, 12}}, at.Add(5 * time.Second)},
		{"nothing of it settled", at.Add(-time.Hour), [][2]int64{all, all}, at},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var windows [][2]int64
			f := (&fake{stream: windowsOf(&windows, []trace.ID{id(1)}, []trace.ID{id(1), id(2)})}).start(t)
			got := map[trace.ID]int{}
			req := theRange()
			req.SettledBefore = test.settled
			var searched float64
			req.Progress = func(p tempoclient.Progress) { searched = p.Searched }
			report, err := f.client(t, nil).Traces(t.Context(), req, collect(got))
			require.NoError(t, err)
			require.Empty(t, report.Problems)
			require.Equal(t, test.windows, windows)
			require.InDelta(t, 1, searched, 1e-9)
			_, fetches := f.counts()
			if test.from.IsZero() {
				require.Nil(t, report.SecondSearch)
				require.Equal(t, map[trace.ID]int{id(1): 1}, got)
				require.Equal(t, 1, fetches)
				return
			}
			require.Equal(t, &trace.SecondSearch{From: test.from, Added: 1}, report.SecondSearch)
			require.Equal(t, map[trace.ID]int{id(1): 1, id(2): 1}, got)
			require.Equal(t, 2, fetches, "a trace that both searches find must be read once")
		})
	}
}

// By default the last 45 minutes are searched twice.
func TestRecentDataIsSearchedTwiceByDefault(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]int{time.Minute: 2, 44 * time.Minute: 2, 46 * time.Minute: 1} {
		f := (&fake{search: finds()}).start(t)
		to := time.Now().Add(-age)
		report, err := f.client(t, nil).Traces(t.Context(), tempoclient.Request{From: to.Add(-time.Minute), To: to}, nil)
		require.NoError(t, err)
		searches, _ := f.counts()
		require.Equal(t, want, searches, age)
		require.Equal(t, want == 2, report.SecondSearch != nil, age)
	}
}

// unsettled returns the range of these tests. No part of it has settled.
func unsettled() tempoclient.Request {
	req := theRange()
	req.SettledBefore = at
	return req
}

func TestASecondSearchThatFailsMakesTheReadingIncomplete(t *testing.T) {
	t.Parallel()
	second := func(then answering) answering {
		return func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				finds(id(1))(n, w, r)
				return
			}
			then(n, w, r)
		}
	}
	partly := func(_ int, w http.ResponseWriter, _ *http.Request) {
		m := wholeSearch(id(2))
		m.Metrics.CompletedJobs = 0
		writeSearch(w, m)
	}
	const window = "second search 2023-11-14T22:13:20Z/2023-11-14T22:13:32Z"
	for _, test := range []struct {
		name    string
		search  answering
		problem string
		added   int
	}{
		{"an error", second(says(500, "boom")), "500 boom: see the server's log (2 tries)", 0},
		{"a part of the jobs", second(partly), "tempo finished 0 of 1 jobs", 1},
	} {
		f := (&fake{search: test.search}).start(t)
		got := map[trace.ID]int{}
		report, err := f.client(t, nil).Traces(t.Context(), unsettled(), collect(got))
		require.NoError(t, err, test.name)
		require.Len(t, report.Problems, 1, test.name)
		require.Equal(t, window, report.Problems[0].What, test.name)
		require.ErrorContains(t, report.Problems[0].Err, test.problem, test.name)
		require.Len(t, got, 1+test.added, test.name)
		require.Equal(t, test.added, report.SecondSearch.Added, test.name)
	}
	// After a failed first search there is no second search.
	f := (&fake{search: once(partly, partly)}).start(t)
	got := map[trace.ID]int{}
	report, err := f.client(t, nil).Traces(t.Context(), unsettled(), collect(got))
	require.NoError(t, err)
	require.Len(t, report.Problems, 1)
	require.Nil(t, report.SecondSearch)
	require.Equal(t, map[trace.ID]int{id(2): 1}, got)
	f = (&fake{search: second(says(401, "no org id"))}).start(t)
	_, err = f.client(t, nil).Traces(t.Context(), unsettled(), collect(map[trace.ID]int{}))
	require.ErrorContains(t, err, "401 no org id: check the credentials and the tenant")
}

// The limits on requests apply to the second search, and it is divided at the search limit like the first
// one.
func TestASecondSearchKeepsToTheLimits(t *testing.T) {
	t.Parallel()
	var under, most atomic.Int64
	crowded := func(n int, req *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
		if now := under.Add(1); now > most.Load() {
			most.Store(now)
		}
		defer under.Add(-1)
		if n == 1 {
			return stream.Send(wholeSearch())
		}
		var ids []trace.ID
		for i := range 40 {
			if second := int64(i / 4); second+at.Unix() >= int64(req.GetStart()) && second+at.Unix() <= int64(req.GetEnd()) && len(ids) < int(req.GetLimit()) {
				ids = append(ids, id(i))
			}
		}
		return stream.Send(wholeSearch(ids...))
	}
	f := (&fake{stream: crowded}).start(t)
	got := map[trace.ID]int{}
	report, err := f.client(t, func(c *tempoclient.Config) { c.SearchLimit = 13 }).Traces(t.Context(), unsettled(), collect(got))
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.Len(t, got, 40)
	require.Equal(t, 40, report.SecondSearch.Added)
	require.Equal(t, 40, report.Found)
	require.LessOrEqual(t, most.Load(), int64(2), "the client's concurrency")
}

// Traces of the first search are read during the pause, and the pause ends with the context.
func TestThePauseBeforeTheSecondSearchIsNotIdleAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := (&fake{search: finds(id(1), id(2))}).start(t)
	client := f.client(t, func(c *tempoclient.Config) { c.SearchAgainAfter = time.Hour })
	stop := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	n := 0
	report, err := client.Traces(ctx, unsettled(), func(*trace.Trace) error {
		if n++; n == 2 {
			cancel(stop)
		}
		return nil
	})
	require.ErrorIs(t, err, stop)
	require.Equal(t, 2, report.Delivered)
	require.Nil(t, report.SecondSearch)
	searches, _ := f.counts()
	require.Equal(t, 1, searches)
}

func TestWhatTheCallerWroteOrDoesNotWantIsNotAddedByTheSecondSearch(t *testing.T) {
	t.Parallel()
	var windows [][2]int64
	outside := id(4)
	f := (&fake{
		stream: windowsOf(&windows, []trace.ID{id(1)}, []trace.ID{id(1), id(2), id(3), outside, id(5)}),
		trace: func(n int, w http.ResponseWriter, r *http.Request) {
			if asked(r) != outside {
				gives(n, w, r)
				return
			}
			writeProto(w, envelope(outside, func(m *tempopb.TraceByIDResponse) {
				td := ptrace.NewTraces()
				addTrace(td, outside, at.Add(11*time.Second), 1, "op")
				var err error
				if m.Trace, err = (&ptrace.ProtoMarshaler{}).MarshalTraces(td); err != nil {
					t.Error(err)
				}
			}))
		},
	}).start(t)
	req := unsettled()
	req.SkipAdded = func(is trace.ID) bool { return is == id(1) || is == id(2) }
	req.Skip = func(is trace.ID) bool { return is == id(3) }
	got := map[trace.ID]int{}
	report, err := f.client(t, nil).Traces(t.Context(), req, collect(got))
	require.NoError(t, err)
	require.Equal(t, map[trace.ID]int{id(1): 1, id(5): 1}, got, "the first search finds trace 1")
	require.Equal(t, 1, report.SecondSearch.Added)
	require.Equal(t, 1, report.OutsideRange)
}

// hideTraces removes the traces from an answer to a search. Tempo returns such an answer while it moves a
// block: all jobs completed, no error.
func hideTraces(a *answered, grpc bool) error {
	if !grpc {
		var answer map[string]json.RawMessage
		if err := json.Unmarshal(a.body, &answer); err != nil {
			return err
		}
		answer["traces"] = json.RawMessage("[]")
		var err error
		a.body, err = json.Marshal(answer)
		return err
	}
	var out []byte
	for rest := a.body; len(rest) > 0; {
		length := binary.BigEndian.Uint32(rest[1:5])
		var m tempopb.SearchResponse
		if err := proto.Unmarshal(rest[5:5+length], &m); err != nil {
			return err
		}
		rest = rest[5+length:]
		m.Traces = nil
		b, err := proto.Marshal(&m)
		if err != nil {
			return err
		}
		out = append(out, 0)
		out = binary.BigEndian.AppendUint32(out, uint32(len(b)))
		out = append(out, b...)
	}
	a.body = out
	return nil
}

func TestTracesThatTempoHidesFromTheFirstSearchAreFoundByTheSecond(t *testing.T) {
	f := connect(t, stack.Fast, true, nil)
	s := stacktest.Get(t, still)
	start := time.Now().Add(-3 * time.Minute).Truncate(time.Second)
	sent := ptrace.NewTraces()
	for i := range 24 {
		addTrace(sent, id(i), start.Add(time.Duration(i)*time.Second), 2, "op")
	}
	f.store(t, sent)
	for _, way := range []string{"streamed", "over HTTP"} {
		for hidden, added := range []int{0, 24, 0} { // the number of the search to hide, from 1; 0: none
			var searches atomic.Int64
			p, stop := startProxy(t, func(path string, grpc bool) happening {
				isSearch := grpc || strings.HasSuffix(path, "/api/search")
				if !isSearch || searches.Add(1) != int64(hidden) {
					return happening{}
				}
				return happening{answer: func(w http.ResponseWriter, r *http.Request, a *answered) {
					if err := hideTraces(a, grpc); err != nil {
						t.Errorf("hide traces: %v", err)
					}
					whole(w, r, a)
				}}
			}, s.TempoURL, s.TempoGRPC)
			config := f.config
			config.URL, config.GRPCAddr, config.MaxTraceDuration = p.url, "", time.Minute
			if way == "over HTTP" {
				config.GRPCAddr = s.OTLPHTTP[len("http://"):]
			}
			client, err := tempoclient.New(config)
			require.NoError(t, err)
			got := map[trace.ID]*trace.Trace{}
			report, err := client.Traces(f.ctx, tempoclient.Request{From: start, To: start.Add(time.Minute)}, func(tr *trace.Trace) error {
				got[tr.ID] = tr
				return nil
			})
			require.NoError(t, err, way)
			require.Empty(t, report.Problems, way)
			require.EqualValues(t, 2, searches.Load(), way)
			wantTraces(t, sent, got)
			require.Equal(t, added, report.SecondSearch.Added, "%s, search %d hidden", way, hidden)
			require.NoError(t, client.Close())
			stop()
		}
	}
}
