package tempoclient_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/tempopb"
)

const selectQuery = `{ span.betrace.entry = "e-1" } | select(span.a, span.b)`

func TestSelectReturnsTheStringsOfEachTrace(t *testing.T) {
	want := []map[string]string{{"a": "1", "b": "x"}, {"a": "2"}}
	whole := pair("n", &tempopb.AnyValue{Value: &tempopb.AnyValue_IntValue{IntValue: 7}})
	for name, f := range map[string]*fake{
		"over HTTP": {search: func(_ int, w http.ResponseWriter, r *http.Request) {
			require.Equal(t, "7", r.URL.Query().Get("limit"))
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"traces":[
				{"traceID":"%s","spanSets":[{"spans":[{"spanID":"01","attributes":[
					{"key":"a","value":{"stringValue":"1"}},{"key":"b","value":{"stringValue":"x"}},{"key":"n","value":{"intValue":"7"}}]}]}]},
				{"traceID":"%s","spanSets":[{"spans":[{"spanID":"02","attributes":[{"key":"a","value":{"stringValue":"2"}}]}]}]}],
				"metrics":{"completedJobs":2,"totalJobs":2}}`, id(1), id(2)) // the client reports a broken answer
		}},
		"streamed": {stream: func(_ int, req *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
			found := func(id string, attributes ...*tempopb.KeyValue) *tempopb.TraceSearchMetadata {
				return &tempopb.TraceSearchMetadata{TraceID: id, SpanSets: []*tempopb.SpanSet{{Spans: []*tempopb.Span{{Attributes: attributes}}}}}
			}
			if req.GetLimit() != 7 {
				return fmt.Errorf("limit %d", req.GetLimit())
			}
			return stream.Send(&tempopb.SearchResponse{
				Traces:  []*tempopb.TraceSearchMetadata{found(id(1).String(), pair("a", text("1")), pair("b", text("x")), whole), found(id(2).String(), pair("a", text("2")))},
				Metrics: &tempopb.SearchMetrics{CompletedJobs: 2, TotalJobs: 2},
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			have, err := f.start(t).client(t, nil).Select(t.Context(), selectQuery, time.Now().Add(-time.Minute), time.Now(), 7)
			require.NoError(t, err)
			require.ElementsMatch(t, want, have)
		})
	}
}

func TestSelectSearchesOldSpansInIngestersToo(t *testing.T) {
	for name, tt := range map[string]struct {
		age     time.Duration
		windows []string
	}{
		"new spans": {time.Minute, []string{"a range"}},
		"old spans": {time.Hour, []string{"a range", "ingesters"}},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var windows []string
			f := &fake{search: func(_ int, w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				window, found := "a range", id(1)
				if r.URL.Query().Get("start") == "0" {
					window, found = "ingesters", id(2)
				}
				windows = append(windows, window)
				w.Header().Set("Content-Type", "application/json")
				_, _ = fmt.Fprintf(w, `{"traces":[{"traceID":"%s"}],"metrics":{}}`, found) // the client reports a broken answer
			}}
			have, err := f.start(t).client(t, nil).Select(t.Context(), selectQuery, time.Now().Add(-tt.age), time.Now(), 7)
			require.NoError(t, err)
			require.Len(t, have, len(tt.windows))
			slices.Sort(windows)
			require.Equal(t, tt.windows, windows)
		})
	}
}

func TestASearchThatSelectCannotMakeIsAnError(t *testing.T) {
	const ownLimit, other = true, false
	for name, tt := range map[string]struct {
		fake  *fake
		limit bool
		want  string
	}{
		"a limit above Tempo's":           {&fake{search: says(400, "limit 5000 exceeds max limit 1000")}, ownLimit, "limit 5000 exceeds max limit 1000"},
		"a limit above Tempo's, streamed": {&fake{stream: fails(codes.InvalidArgument, "limit 5000 exceeds max limit 1000")}, ownLimit, "limit 5000 exceeds max limit 1000"},
		"a range above Tempo's":           {&fake{search: says(400, "range specified by start and end exceeds 168h0m0s. received start=1 end=12")}, ownLimit, "exceeds 168h0m0s"},
		"an answer above Tempo's":         {&fake{search: says(500, "response larger than the max (17328568 vs 16777216)")}, ownLimit, "larger than the max"},
		"another fault":                   {&fake{search: says(401, "no")}, other, "401"},
		"unfinished jobs": {&fake{search: func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"metrics":{"completedJobs":1,"totalJobs":2}}`) // the client reports a broken answer
		}}, other, "tempo finished 1 of 2 jobs: see its log"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tt.fake.start(t).client(t, nil).Select(t.Context(), selectQuery, time.Now().Add(-time.Minute), time.Now(), 7)
			require.ErrorContains(t, err, tt.want)
			if tt.limit {
				require.ErrorIs(t, err, tempoclient.ErrSearchLimit)
			} else {
				require.NotErrorIs(t, err, tempoclient.ErrSearchLimit)
			}
		})
	}
}
