package tempoclient_test

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/tempopb"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/traceql"
)

// at is the start of these tests' traces, and of the range that is read.
var at = time.Unix(1_700_000_000, 0)

func theRange() tempoclient.Request {
	return tempoclient.Request{From: at, To: at.Add(10 * time.Second)}
}

// answering answers the nth request of its kind, counted from 1.
type (
	answering func(n int, w http.ResponseWriter, r *http.Request)
	streaming func(n int, req *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error
)

// fake is a Tempo that answers as defined by a test, and counts requests.
type fake struct {
	tempopb.UnimplementedStreamingQuerierServer
	search, trace answering
	stream        streaming // nil: it does not stream

	mu                sync.Mutex
	searches, fetches int
	headers           http.Header // of the last request over HTTP
	metadata          metadata.MD // of the last request over gRPC
	url, grpcAddr     string
	conns             connections
}

// connections are the connections of a listener, which tests can break.
type connections struct {
	net.Listener
	mu   sync.Mutex
	open []net.Conn
}

func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.open = append(c.open, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *connections) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		conn.Close()
	}
	c.open = nil
}

func (f *fake) count(n *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	*n++
	return *n
}

func (f *fake) counts() (searches, fetches int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.searches, f.fetches
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	if r.Method != "PRI" {
		f.headers = r.Header.Clone()
	}
	f.mu.Unlock()
	switch {
	case r.Method == "PRI": // the attempt to stream
		w.WriteHeader(http.StatusHTTPVersionNotSupported)
	case strings.HasSuffix(r.URL.Path, "/api/search"):
		f.search(f.count(&f.searches), w, r)
	case strings.Contains(r.URL.Path, "/api/v2/traces/"):
		f.trace(f.count(&f.fetches), w, r)
	default:
		http.NotFound(w, r)
	}
}

// Search answers a streamed search.
func (f *fake) Search(req *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	f.mu.Lock()
	f.metadata = md
	f.mu.Unlock()
	return f.stream(f.count(&f.searches), req, stream)
}

// start starts the fake. By default it finds one trace, id(1), and returns it.
func (f *fake) start(t *testing.T) *fake {
	t.Helper()
	if f.search == nil {
		f.search = finds(id(1))
	}
	if f.trace == nil {
		f.trace = gives
	}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url, f.grpcAddr = server.URL, server.Listener.Addr().String()
	if f.stream != nil {
		f.grpcAddr = f.serveGRPC(t)
	}
	return f
}

func (f *fake) serveGRPC(t *testing.T, opts ...grpc.ServerOption) (addr string) {
	t.Helper()
	f.conns.Listener = listen(t)
	server := grpc.NewServer(opts...)
	tempopb.RegisterStreamingQuerierServer(server, f)
	go server.Serve(&f.conns) // ends with Stop
	t.Cleanup(server.Stop)
	return f.conns.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

// closedAddr is an address at which no server listens. A port that was free a moment ago could be used by
// another test by now.
const closedAddr = "127.0.0.1:1"

func (f *fake) client(t *testing.T, change func(*tempoclient.Config)) *tempoclient.Client {
	t.Helper()
	config := tempoclient.Config{URL: f.url, GRPCAddr: f.grpcAddr, Concurrency: 2, Tries: 2, MaxTraceDuration: time.Second, SearchAgainAfter: time.Millisecond}
	if change != nil {
		change(&config)
	}
	client, err := tempoclient.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// trimmed returns an ID in the form of Tempo's search.
func trimmed(id trace.ID) string { return strings.TrimLeft(id.String(), "0") }

// wholeSearch returns an answer in which all jobs are completed.
func wholeSearch(ids ...trace.ID) *tempopb.SearchResponse {
	m := &tempopb.SearchResponse{Metrics: &tempopb.SearchMetrics{CompletedJobs: 1, TotalJobs: 1}}
	for _, id := range ids {
		m.Traces = append(m.Traces, &tempopb.TraceSearchMetadata{TraceID: trimmed(id)})
	}
	return m
}

func writeSearch(w http.ResponseWriter, m *tempopb.SearchResponse) {
	type found struct {
		TraceID string `json:"traceID"`
	}
	answer := struct {
		Traces  []found        `json:"traces"`
		Metrics map[string]any `json:"metrics"`
	}{Metrics: map[string]any{"completedJobs": m.GetMetrics().GetCompletedJobs(), "totalJobs": m.GetMetrics().GetTotalJobs()}}
	for _, t := range m.GetTraces() {
		answer.Traces = append(answer.Traces, found{t.GetTraceID()})
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer) // the client may have closed the connection
}

func finds(ids ...trace.ID) answering {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { writeSearch(w, wholeSearch(ids...)) }
}

func streams(ids ...trace.ID) streaming {
	return func(_ int, _ *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
		return stream.Send(wholeSearch(ids...))
	}
}

// asked returns the ID in a request by ID.
func asked(r *http.Request) trace.ID {
	id, err := trace.ParseID(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
	if err != nil {
		panic(err)
	}
	return id
}

// envelope returns Tempo's answer with a trace of one span.
func envelope(id trace.ID, change func(*tempopb.TraceByIDResponse)) []byte {
	td := ptrace.NewTraces()
	addTrace(td, id, at.Add(time.Second), 1, "op")
	otlp, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	if err != nil {
		panic(err)
	}
	m := &tempopb.TraceByIDResponse{Trace: otlp}
	if change != nil {
		change(m)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func writeProto(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/protobuf")
	w.Write(body) // the client may have closed the connection
}

func gives(_ int, w http.ResponseWriter, r *http.Request) { writeProto(w, envelope(asked(r), nil)) }

// says answers with a status and a text, and headers in pairs.
func says(code int, text string, headers ...string) answering {
	return func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, text)
	}
}

// once answers the first request with first, and further requests with then.
func once(first, then answering) answering {
	return func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			first(n, w, r)
			return
		}
		then(n, w, r)
	}
}

// silent answers only when the client closes the connection.
func silent(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestEveryFaultIsRetriedSaidOrEndsTheReading(t *testing.T) {
	const login = "<html>Sign in</html>"
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	for _, fault := range []struct {
		name   string
		fake   *fake // nil: the default fake
		config func(*tempoclient.Config)
		// ends are parts of the error that ends the reading, problem the parts of the one problem in the
		// report. If both are empty, the trace is delivered.
		ends, problem []string
		// searches and fetches are the numbers of requests to Tempo. tries, if not 0, is the number of
		// attempts, where Tempo cannot count them.
		searches, fetches, tries int
		// delivered counts traces that are delivered although there is a problem.
		delivered int
	}{
		{name: "nothing", searches: 1, fetches: 1},
		{name: "nothing, streamed", fake: &fake{stream: streams(id(1))}, searches: 1, fetches: 1},

		{name: "401", fake: &fake{search: says(401, "no org id")}, searches: 1,
			ends: []string{"tempo search 2023-11-14T22:13:20Z/2023-11-14T22:13:32Z: 401 no org id: check the credentials and the tenant"}},
		{name: "403", fake: &fake{search: says(403, "forbidden")}, searches: 1, ends: []string{"403 forbidden: check the credentials and the tenant"}},
		{name: "401 by ID", fake: &fake{trace: says(401, "no org id")}, searches: 1, fetches: 1,
			ends: []string{"tempo trace " + id(1).String() + ": 401 no org id: check the credentials and the tenant"}},
		{name: "Unauthenticated", fake: &fake{stream: fails(codes.Unauthenticated, "no org id")}, searches: 1,
			ends: []string{"Unauthenticated: no org id: check the credentials and the tenant"}},
		{name: "PermissionDenied", fake: &fake{stream: fails(codes.PermissionDenied, "not yours")}, searches: 1,
			ends: []string{"PermissionDenied: not yours: check the credentials and the tenant"}},

		{name: "404 of a wrong path", fake: &fake{search: says(404, login)}, searches: 1,
			ends: []string{"404 Not Found: check that 127.0.0.1:", "is the API's address, with the path before /api if there is one"}},
		{name: "404 of a wrong path, by ID", fake: &fake{stream: streams(id(1)), trace: says(404, "404 page not found\n")}, searches: 1, fetches: 1,
			ends: []string{"tempo trace " + id(1).String() + ": 404 Not Found: check that 127.0.0.1:", "with the path before /api if there is one"}},
		{name: "404 of a login page, by ID", fake: &fake{stream: streams(id(1)), trace: says(404, login)}, searches: 1, fetches: 1,
			ends: []string{"the API's address, with the path before /api"}},
		{name: "a trace that is gone", fake: &fake{trace: says(404, "trace not found")}, searches: 1, fetches: 4,
			problem: []string{"trace " + id(1).String() + ": search found it, but", "no such trace by its ID: it may have expired meanwhile"}},
		{name: "an empty trace", fake: &fake{trace: answersProto([]byte{})}, searches: 1, fetches: 4,
			problem: []string{"search found it, but", "no such trace"}},

		{name: "429 forever", fake: &fake{search: says(429, "too many requests")}, searches: 2,
			problem: []string{"search 2023-11-14T22:13:20Z/2023-11-14T22:13:32Z: ", "429 too many requests: lower --concurrency or raise the tenant's limit (2 tries)"}},
		{name: "429 forever with Retry-After", fake: &fake{trace: says(429, "slow down", "Retry-After", "1")}, searches: 1, fetches: 2,
			problem: []string{"429 slow down: lower --concurrency or raise the tenant's limit (2 tries, retry-after 1s)"}},
		{name: "429, then success", fake: &fake{trace: once(says(429, "slow down"), gives)}, searches: 1, fetches: 2},
		{name: "ResourceExhausted forever", fake: &fake{stream: fails(codes.ResourceExhausted, "too many queries")}, searches: 2,
			problem: []string{"ResourceExhausted: too many queries: lower --concurrency or raise the tenant's limit (2 tries)"}},

		{name: "500, then success", fake: &fake{search: once(says(500, "boom"), finds(id(1)))}, searches: 2, fetches: 1},
		{name: "500 forever", fake: &fake{search: says(500, "boom")}, searches: 2, problem: []string{"500 boom: see the server's log (2 tries)"}},
		{name: "502 of a proxy", fake: &fake{search: says(502, login)}, searches: 2, problem: []string{"502 Bad Gateway: see the server's log (2 tries)"}},
		{name: "500 by ID forever", fake: &fake{trace: says(500, "boom")}, searches: 1, fetches: 2,
			problem: []string{"trace " + id(1).String() + ": tempo trace " + id(1).String() + ": 500 boom: see the server's log (2 tries)"}},
		{name: "Unavailable, then success", fake: &fake{stream: onceFails(codes.Unavailable, streams(id(1)))}, searches: 2, fetches: 1},
		{name: "Internal, then success", fake: &fake{stream: onceFails(codes.Internal, streams(id(1)))}, searches: 2, fetches: 1},
		{name: "400", fake: &fake{search: says(400, "invalid TraceQL query")}, searches: 1, problem: []string{"400 invalid TraceQL query"}},
		{name: "InvalidArgument", fake: &fake{stream: fails(codes.InvalidArgument, "invalid TraceQL query")}, searches: 1,
			problem: []string{"InvalidArgument: invalid TraceQL query"}},
		{name: "Unimplemented, then HTTP", fake: &fake{stream: fails(codes.Unimplemented, "unknown service")}, searches: 2, fetches: 1},

		{name: "a limit above Tempo's", fake: &fake{search: says(400, "limit 5000 exceeds max limit 1000")}, searches: 1,
			ends: []string{"limit 5000 exceeds max limit 1000: lower the search limit (--search-limit) or raise Tempo's (query_frontend.search.max_result_limit)"}},
		{name: "a limit above Tempo's, streamed", fake: &fake{stream: fails(codes.InvalidArgument, "limit 5000 exceeds max limit 1000")}, searches: 1,
			ends: []string{"limit 5000 exceeds max limit 1000: lower the search limit (--search-limit)"}},

		{name: "a login page for search", fake: &fake{search: says(200, login, "Content-Type", "text/html; charset=utf-8")}, searches: 1,
			ends: []string{`the answer is "text/html; charset=utf-8", not application/json: check that 127.0.0.1:`, "is a Tempo, and that no proxy before it requires a login"}},
		{name: "a login page by ID", fake: &fake{trace: says(200, login, "Content-Type", "text/html")}, searches: 1, fetches: 1,
			ends: []string{`the answer is "text/html", not application/protobuf: check that 127.0.0.1:`}},
		{name: "JSON of something else", fake: &fake{search: says(200, `{"status": "success"}`, "Content-Type", "application/json")}, searches: 1,
			ends: []string{"the answer has no metrics: check that the server is a Tempo"}},
		{name: "a stream without metrics", searches: 1, ends: []string{"the answer has no metrics: check that the server is a Tempo"},
			fake: &fake{stream: func(_ int, _ *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
				return stream.Send(&tempopb.SearchResponse{Traces: wholeSearch(id(1)).Traces})
			}}},
		{name: "half a JSON", fake: &fake{search: says(200, `{"traces": [`, "Content-Type", "application/json")}, searches: 2,
			problem: []string{"the answer is not a search result: unexpected end of JSON input (2 tries)"}},
		{name: "a search that breaks off", searches: 2, problem: []string{"the answer broke off after 5 bytes: unexpected EOF (2 tries)"},
			fake: &fake{search: says(200, `{"tra`, "Content-Type", "application/json", "Content-Length", "100")}},
		{name: "an invalid ID", searches: 1, problem: []string{"the answer: ", "zz"},
			fake: &fake{search: says(200, `{"traces": [{"traceID": "zz"}], "metrics": {}}`, "Content-Type", "application/json")}},
		{name: "an invalid ID, streamed", searches: 1, problem: []string{"the answer: ", "zz"},
			fake: &fake{stream: func(_ int, _ *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
				return stream.Send(&tempopb.SearchResponse{Traces: []*tempopb.TraceSearchMetadata{{TraceID: "zz"}}})
			}}},

		{name: "half a stream", fake: &fake{stream: halfFirst}, searches: 2, fetches: 1},
		{name: "half a stream, always", searches: 2, problem: []string{"Unavailable: closing (2 tries)"},
			fake: &fake{stream: func(_ int, _ *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
				if err := stream.Send(wholeSearch(id(1))); err != nil {
					return err
				}
				return status.Error(codes.Unavailable, "closing")
			}}},
		{name: "incomplete jobs", delivered: 1, searches: 2, fetches: 1,
			problem: []string{"search 2023-11-14T22:13:20Z/2023-11-14T22:13:32Z: tempo finished 3 of 5 jobs: see its log for the reason, and scan the range again"},
			fake: &fake{stream: func(_ int, _ *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
				m := wholeSearch(id(1))
				m.Metrics.CompletedJobs, m.Metrics.TotalJobs = 3, 5
				return stream.Send(m)
			}}},
		{name: "incomplete jobs at first", searches: 2, fetches: 1,
			fake: &fake{search: once(func(_ int, w http.ResponseWriter, _ *http.Request) {
				writeSearch(w, &tempopb.SearchResponse{Metrics: &tempopb.SearchMetrics{TotalJobs: 2}})
			}, finds(id(1)))}},

		{name: "a trace that breaks off", searches: 1, fetches: 2, problem: []string{"the answer broke off after 3 bytes: unexpected EOF (2 tries)"},
			fake: &fake{trace: says(200, "abc", "Content-Type", "application/protobuf", "Content-Length", "1000")}},
		{name: "a trace that breaks off at first", searches: 1, fetches: 2,
			fake: &fake{trace: once(says(200, "abc", "Content-Type", "application/protobuf", "Content-Length", "1000"), gives)}},
		{name: "no protobuf", fake: &fake{trace: answersProto([]byte("garbage"))}, searches: 1, fetches: 2,
			problem: []string{"trace " + id(1).String(), "the answer is not a trace: ", "(2 tries)"}},
		{name: "no OTLP", searches: 1, fetches: 2, problem: []string{"the answer is not OTLP: ", "(2 tries)"},
			fake: &fake{trace: answersProto(envelope(id(1), func(m *tempopb.TraceByIDResponse) { m.Trace = []byte("garbage") }))}},
		{name: "another trace", fake: &fake{trace: answersProto(envelope(id(2), nil))}, searches: 1, fetches: 2,
			problem: []string{"trace " + id(1).String() + ": ", "the answer contains 1 traces, the first " + id(2).String() + " (2 tries)"}},
		{name: "another trace at first", fake: &fake{trace: once(answersProto(envelope(id(2), nil)), gives)}, searches: 1, fetches: 2},
		{name: "a part of a trace", searches: 1, fetches: 1,
			problem: []string{"trace " + id(1).String() + ": tempo returned only a part of it (1 spans): Trace exceeds maximum size of 5 bytes: raise the tenant's max_bytes_per_trace"},
			fake: &fake{trace: answersProto(envelope(id(1), func(m *tempopb.TraceByIDResponse) {
				m.Status, m.Message = tempopb.PartialStatus_PARTIAL, "Trace exceeds maximum size of 5 bytes"
			}))}},
		{name: "a trace above our limit", config: func(c *tempoclient.Config) { c.MaxTraceBytes = 10 }, searches: 1, fetches: 1,
			problem: []string{"the trace has over 10 bytes: raise MaxTraceBytes"}},
		{name: "a trace above Tempo's limit", fake: &fake{trace: says(500, "response larger than the max (17328568 vs 16777216)")}, searches: 1, fetches: 1,
			problem: []string{"500 response larger than the max (17328568 vs 16777216): raise Tempo's server.grpc_server_max_recv_msg_size"}},

		{name: "no answer", fake: &fake{search: silent}, config: func(c *tempoclient.Config) { c.RequestTimeout = 50 * time.Millisecond }, tries: 2,
			problem: []string{"tempo search 2023-11-14T22:13:20Z/2023-11-14T22:13:32Z: no answer within 50ms (2 tries)"}},
		{name: "no answer, streamed", config: func(c *tempoclient.Config) { c.RequestTimeout = 50 * time.Millisecond }, tries: 2,
			fake: &fake{stream: func(int, *tempopb.SearchRequest, grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
				<-over // its context ends with the client's, maybe slightly earlier
				return nil
			}},
			problem: []string{"no answer within 50ms (2 tries)"}},
		{name: "no server", config: func(c *tempoclient.Config) { c.URL, c.GRPCAddr = "http://"+closedAddr, "" }, tries: 2,
			ends: []string{"tempo search ", "connect: connection refused", ": check that the server is running, and its address (2 tries)"}},
		{name: "no server by ID", fake: &fake{stream: streams(id(1))}, config: func(c *tempoclient.Config) { c.URL = "http://" + closedAddr }, tries: 3,
			ends: []string{"tempo trace " + id(1).String(), "connect: connection refused: check that the server is running, and its address (2 tries)"}},
		// The resolver refuses a name with an empty label without a server.
		{name: "no such host", config: func(c *tempoclient.Config) { c.URL, c.GRPCAddr = "http://tempo..example:3200", "" }, tries: 1,
			ends: []string{"tempo search ", "tempo..example", ": check the host name"}},
		{name: "no such host by ID", fake: &fake{stream: streams(id(1))}, config: func(c *tempoclient.Config) { c.URL = "http://tempo..example:3200" }, tries: 2,
			ends: []string{"tempo trace " + id(1).String(), "no such host: check the host name"}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			if fault.fake == nil {
				fault.fake = &fake{}
			}
			f := fault.fake.start(t)
			delivered := 0
			report, err := f.client(t, fault.config).Traces(t.Context(), theRange(), func(tr *trace.Trace) error {
				require.Equal(t, id(1), tr.ID)
				delivered++
				return nil
			})
			if fault.tries == 0 {
				searches, fetches := f.counts()
				require.Equal(t, fault.searches, searches, "searches")
				require.Equal(t, fault.fetches, fetches, "traces read by ID")
			} else {
				require.EqualValues(t, fault.tries, report.Requests)
			}
			switch {
			case fault.ends != nil:
				require.Error(t, err)
				for _, part := range fault.ends {
					require.ErrorContains(t, err, part)
				}
				require.Empty(t, report.Problems)
			case fault.problem != nil:
				require.NoError(t, err)
				require.Len(t, report.Problems, 1)
				got := report.Problems[0].What + ": " + report.Problems[0].Err.Error()
				for _, part := range fault.problem {
					require.Contains(t, got, part)
				}
				require.Equal(t, strings.HasPrefix(got, "trace "), report.Skipped == 1, "a trace that was found but not read must be counted")
			default:
				require.NoError(t, err)
				require.Empty(t, report.Problems)
				fault.delivered = 1
			}
			require.Equal(t, fault.delivered, delivered)
			require.Equal(t, fault.delivered, report.Delivered)
		})
	}
}

func fails(code codes.Code, text string) streaming {
	return func(int, *tempopb.SearchRequest, grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
		return status.Error(code, text)
	}
}

func onceFails(code codes.Code, then streaming) streaming {
	return func(n int, req *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
		if n == 1 {
			return status.Error(code, "just now")
		}
		return then(n, req, stream)
	}
}

// halfFirst breaks the first answer after it has sent a trace that later answers do not contain. If that
// part counted, two traces would be delivered.
func halfFirst(n int, _ *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
	if n > 1 {
		return stream.Send(wholeSearch(id(1)))
	}
	if err := stream.Send(wholeSearch(id(2))); err != nil {
		return err
	}
	return status.Error(codes.Unavailable, "closing")
}

func answersProto(body []byte) answering {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { writeProto(w, body) }
}

func collect(into map[trace.ID]int) func(*trace.Trace) error {
	return func(tr *trace.Trace) error {
		into[tr.ID]++
		return nil
	}
}

func TestAStreamWhoseConnectionIsResetIsAskedForAgain(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.stream = func(n int, _ *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
		if n > 1 {
			return stream.Send(wholeSearch(id(1), id(2)))
		}
		if err := stream.Send(wholeSearch(id(1))); err != nil {
			return err
		}
		f.conns.reset()
		<-stream.Context().Done()
		return nil
	}
	got := map[trace.ID]int{}
	report, err := f.start(t).client(t, nil).Traces(t.Context(), theRange(), collect(got))
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.Equal(t, map[trace.ID]int{id(1): 1, id(2): 1}, got)
	require.EqualValues(t, 1, report.Retries)
}

func TestNoTryIsMadeBeforeTheServerAllowsIt(t *testing.T) {
	// The clock of the test's server shows whether a retry was too early.
	var mu sync.Mutex
	tooEarly := func(t *testing.T, notBefore *time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Before(*notBefore) {
			t.Errorf("the retry was %s too early", notBefore.Sub(now))
		}
	}
	set := func(notBefore *time.Time, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		*notBefore = at
	}
	for _, test := range []struct {
		name string
		fake func(t *testing.T, notBefore *time.Time) *fake
	}{
		{"429 with seconds", func(t *testing.T, notBefore *time.Time) *fake {
			return &fake{search: func(n int, w http.ResponseWriter, r *http.Request) {
				tooEarly(t, notBefore)
				if n > 1 {
					finds(id(1))(n, w, r)
					return
				}
				set(notBefore, time.Now().Add(time.Second))
				says(429, "slow down", "Retry-After", "1")(n, w, r)
			}}
		}},
		{"503 with a date", func(t *testing.T, notBefore *time.Time) *fake {
			return &fake{trace: func(n int, w http.ResponseWriter, r *http.Request) {
				tooEarly(t, notBefore)
				if n > 1 {
					gives(n, w, r)
					return
				}
				date := time.Now().Add(2 * time.Second).Truncate(time.Second)
				set(notBefore, date)
				says(503, "starting", "Retry-After", date.UTC().Format(http.TimeFormat))(n, w, r)
			}}
		}},
		{"ResourceExhausted with RetryInfo", func(t *testing.T, notBefore *time.Time) *fake {
			return &fake{stream: func(n int, req *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
				tooEarly(t, notBefore)
				if n > 1 {
					return stream.Send(wholeSearch(id(1)))
				}
				const delay = 700 * time.Millisecond
				set(notBefore, time.Now().Add(delay))
				s, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
				if err != nil {
					return err
				}
				return s.Err()
			}}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var notBefore time.Time
			got := map[trace.ID]int{}
			report, err := test.fake(t, &notBefore).start(t).client(t, nil).Traces(t.Context(), theRange(), collect(got))
			require.NoError(t, err)
			require.Empty(t, report.Problems)
			require.Equal(t, map[trace.ID]int{id(1): 1}, got)
			require.EqualValues(t, 1, report.Retries)
		})
	}
}

func TestACancelledReadingDoesNotWaitForRetryAfter(t *testing.T) {
	t.Parallel()
	stop := errors.New("the operator stopped it")
	ctx, cancel := context.WithCancelCause(t.Context())
	f := (&fake{search: says(429, "slow down", "Retry-After", "3600")}).start(t)
	client := f.client(t, nil)
	go func() {
		for n := 0; n == 0; n, _ = f.counts() {
			time.Sleep(time.Millisecond)
		}
		cancel(stop)
	}()
	_, err := client.Traces(ctx, theRange(), collect(map[trace.ID]int{})) // would wait for an hour
	require.ErrorIs(t, err, stop)
	require.ErrorContains(t, err, "tempo search ")
}

func TestTheConsumersErrorEndsTheReading(t *testing.T) {
	t.Parallel()
	broken := errors.New("consumer broke")
	ids := make([]trace.ID, 50)
	for i := range ids {
		ids[i] = id(i)
	}
	calls := 0
	report, err := (&fake{search: finds(ids...)}).start(t).client(t, nil).Traces(t.Context(), theRange(), func(*trace.Trace) error {
		calls++
		return broken
	})
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, calls)
	require.Zero(t, report.Delivered)
}

// store searches traces as Tempo does: traces that overlap [start, end], IDs without leading zeros, up to
// the limit.
type store map[trace.ID]int64 // start in seconds

var idFilter = regexp.MustCompile("trace:id =~ [\"`]([^\"`]*)[\"`]")

func (s store) find(t *testing.T, query string, start, end int64, limit int) *tempopb.SearchResponse {
	matches := regexp.MustCompile(".*")
	if strings.Contains(query, "trace:id") {
		part := idFilter.FindStringSubmatch(query)
		if part == nil {
			t.Errorf("the fake does not support the query %s", query)
			return nil
		}
		matches = regexp.MustCompile("^(?:" + part[1] + ")$")
	}
	var ids []trace.ID
	for id, second := range s {
		if second >= start && second <= end && matches.MatchString(trimmed(id)) && len(ids) < limit {
			ids = append(ids, id)
		}
	}
	return wholeSearch(ids...)
}

func (s store) answer(t *testing.T) answering {
	return func(_ int, w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		writeSearch(w, s.find(t, q.Get("q"), number(t, q, "start"), number(t, q, "end"), int(number(t, q, "limit"))))
	}
}

func number(t *testing.T, q url.Values, key string) int64 {
	n, err := strconv.ParseInt(q.Get(key), 10, 64)
	if err != nil {
		t.Errorf("%s: %v", key, err)
	}
	return n
}

func shortID(digits string) trace.ID {
	id, err := trace.ParseID(digits)
	if err != nil {
		panic(err)
	}
	return id
}

// shortIDs have fewer digits than the parts into which a second is divided, and neighbours that require
// this depth.
func shortIDs() (ids []trace.ID) {
	digits := []string{"5", "50", "500", "51", "c", "c0"}
	for i := 1; i <= 5; i++ {
		digits = append(digits, fmt.Sprintf("5%d000000", i), fmt.Sprintf("50%d0000", i), fmt.Sprintf("c0%d0000", i))
	}
	for _, d := range digits {
		ids = append(ids, shortID(d))
	}
	return ids
}

func TestAnAnswerAtTheLimitIsAskedForInParts(t *testing.T) {
	t.Parallel()
	traces := store{}
	for i := range 30 {
		traces[id(i)] = at.Unix() + int64(i/3) // spread over time
	}
	for i := range 60 {
		traces[id(100+i)] = at.Unix() + 7 // in one second
	}
	for _, id := range shortIDs() {
		traces[id] = at.Unix() + 7
	}
	want := map[trace.ID]int{}
	for id := range traces {
		want[id] = 1 // found by several searches, delivered once
	}
	got := map[trace.ID]int{}
	var progress []tempoclient.Progress
	req := theRange()
	req.Progress = func(p tempoclient.Progress) { progress = append(progress, p) }
	f := (&fake{search: traces.answer(t)}).start(t)
	report, err := f.client(t, func(c *tempoclient.Config) { c.SearchLimit = 4 }).Traces(t.Context(), req, collect(got))
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.Equal(t, want, got)
	require.Equal(t, len(want), report.Found)
	require.Equal(t, "http", report.SearchedBy)
	for i := 1; i < len(progress); i++ {
		require.GreaterOrEqual(t, progress[i].Searched, progress[i-1].Searched)
	}
	last := progress[len(progress)-1]
	require.Equal(t, tempoclient.Progress{Searched: 1, Found: len(want), Read: len(want)}, last)
}

// A real Tempo interprets the regular expressions for short IDs as the fake does.
func TestShortIDsOfACrowdedSecondAreFoundInARealTempo(t *testing.T) {
	f := connect(t, stack.Fast, true, func(c *tempoclient.Config) { c.SearchLimit = 4 })
	sent := ptrace.NewTraces()
	now := time.Now().Truncate(time.Second)
	for _, id := range shortIDs() {
		addTrace(sent, id, now, 1, "op")
	}
	require.NoError(t, f.writer.Export(f.ctx, sent))
	got, report := f.read(t, tempoclient.Request{From: now, To: now.Add(time.Second)}, len(shortIDs()))
	wantTraces(t, sent, got)
	require.Empty(t, report.Problems)
}

// Tempo may misread a query of over a kilobyte, unless it is padded.
func TestALongQueryIsReadWholeByARealTempo(t *testing.T) {
	f := connect(t, stack.Fast, true, nil)
	now := time.Now().Truncate(time.Second)
	sent := ptrace.NewTraces()
	addTrace(sent, id(1), now, 1, "op")
	require.NoError(t, f.writer.Export(f.ctx, sent))
	for first := range 40 {
		query := "{ name = \"" + strings.Repeat("x", 960+first) + "\""
		for i := range 60 {
			query += fmt.Sprintf(" || span.attribute-%d = %d.25", i, i)
		}
		filter, err := traceql.Parse(query + " || span.rate = 0.5 }")
		require.NoError(t, err)
		got, report := f.read(t, tempoclient.Request{From: now, To: now.Add(time.Second), Filter: filter}, 1)
		require.Len(t, got, 1)
		require.Empty(t, report.Problems)
	}
}

func TestASecondThatCannotBeListedIsAProblem(t *testing.T) {
	crowd := store{}
	for i := range 5 {
		crowd[shortID(fmt.Sprintf("abc%029d", i))] = at.Unix() + 3
	}
	crowded := func(q string, start, end int64) bool {
		return start <= at.Unix()+3 && end >= at.Unix()+3 && (!strings.Contains(q, "trace:id") || regexp.MustCompile("[\"`](a|ab|abc)\\.").MatchString(q))
	}
	for name, test := range map[string]struct {
		fake   *fake
		remedy string
	}{
		"more traces than the limit": {&fake{search: crowd.answer(t)},
			"one second contains more traces than a search can list: raise the search limit (--search-limit, and the tenant's)"},
		"larger than the max": {&fake{search: func(n int, w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if crowded(q.Get("q"), number(t, q, "start"), number(t, q, "end")) {
				says(500, "response larger than the max (17328568 vs 16777216)")(n, w, r)
				return
			}
			finds()(n, w, r)
		}}, "500 response larger than the max (17328568 vs 16777216): raise Tempo's server.grpc_server_max_recv_msg_size"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := test.fake.start(t).client(t, func(c *tempoclient.Config) { c.SearchLimit, c.Concurrency = 4, 4 })
			report, err := client.Traces(t.Context(), theRange(), collect(map[trace.ID]int{}))
			require.NoError(t, err)
			// Both ends of Tempo's windows are inclusive, so the second is in two windows.
			require.Len(t, report.Problems, 2)
			for _, p := range report.Problems {
				require.Regexp(t, `^search 2023-11-14T22:13:2[23]Z/2023-11-14T22:13:2[34]Z, IDs abc…$`, p.What)
				require.ErrorContains(t, p.Err, test.remedy)
			}
		})
	}
}

func TestAnAnswerThatIsTooLargeIsAskedForInParts(t *testing.T) {
	traces := store{}
	want := map[trace.ID]int{}
	for i := range 11 {
		traces[id(i)] = at.Unix() + int64(i%10)
		want[id(i)] = 1
	}
	for name, f := range map[string]*fake{
		"over HTTP": {search: func(n int, w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if number(t, q, "end")-number(t, q, "start") > 3 {
				says(500, "response larger than the max (17328568 vs 16777216)")(n, w, r)
				return
			}
			traces.answer(t)(n, w, r)
		}},
		"413": {search: func(n int, w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); number(t, q, "end")-number(t, q, "start") > 3 {
				says(413, "too much")(n, w, r)
				return
			}
			traces.answer(t)(n, w, r)
		}},
		"a range over the longest": {search: func(n int, w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); number(t, q, "end")-number(t, q, "start") > 3 {
				says(400, "range specified by start and end exceeds 3s. received start=1 end=12")(n, w, r)
				return
			}
			traces.answer(t)(n, w, r)
		}},
		"streamed": {stream: func(_ int, req *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
			if req.GetEnd()-req.GetStart() > 3 {
				return status.Error(codes.ResourceExhausted, "grpc: received message larger than max (17328568 vs. 16777216)")
			}
			return stream.Send(traces.find(t, req.GetQuery(), int64(req.GetStart()), int64(req.GetEnd()), int(req.GetLimit())))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[trace.ID]int{}
			report, err := f.start(t).client(t, nil).Traces(t.Context(), theRange(), collect(got))
			require.NoError(t, err)
			require.Empty(t, report.Problems)
			require.Equal(t, want, got)
			require.Zero(t, report.Retries, "a request that will fail again must not be retried")
		})
	}
}

func TestATraceThatComesTwiceIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	f := &fake{stream: func(_ int, _ *tempopb.SearchRequest, stream grpc.ServerStreamingServer[tempopb.SearchResponse]) error {
		// A trace is sent again when more of it is known, and in the last message.
		return errors.Join(stream.Send(wholeSearch(id(1))), stream.Send(wholeSearch(id(1), id(3))), stream.Send(wholeSearch(id(1), id(3))))
	}}
	got := map[trace.ID]int{}
	// The range needs more than one window of six hours, and each finds all traces.
	req := tempoclient.Request{From: at.Add(-20 * time.Hour), To: at.Add(time.Hour)}
	report, err := f.start(t).client(t, nil).Traces(t.Context(), req, collect(got))
	require.NoError(t, err)
	require.Equal(t, map[trace.ID]int{id(1): 1, id(3): 1}, got, "id(3) begins with zeros")
	require.Equal(t, 2, report.Found)
	require.Equal(t, "grpc", report.SearchedBy)
	searches, fetches := f.counts()
	require.Equal(t, 4, searches)
	require.Equal(t, 2, fetches)
}

func TestProblemsAreNamedUpToABoundAndThenCounted(t *testing.T) {
	t.Parallel()
	ids := make([]trace.ID, 130)
	for i := range ids {
		ids[i] = id(i)
	}
	f := (&fake{search: finds(ids...), trace: says(404, "")}).start(t)
	// Each trace is requested for two seconds, so all are requested concurrently.
	report, err := f.client(t, func(c *tempoclient.Config) { c.Concurrency = len(ids) }).Traces(t.Context(), theRange(), collect(map[trace.ID]int{}))
	require.NoError(t, err)
	require.Len(t, report.Problems, 100)
	require.Equal(t, 30, report.MoreProblems)
	require.Equal(t, 130, report.Skipped)
	require.Equal(t, 130, report.Found)
}

func TestTracesOutsideTheRangeAreCountedNotDelivered(t *testing.T) {
	t.Parallel()
	f := (&fake{}).start(t)
	got := map[trace.ID]int{}
	req := tempoclient.Request{From: at.Add(-10 * time.Second), To: at}
	report, err := f.client(t, nil).Traces(t.Context(), req, collect(got))
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, 1, report.OutsideRange)
	require.Empty(t, report.Problems)
	_, err = f.client(t, nil).Traces(t.Context(), tempoclient.Request{From: at, To: at}, nil)
	require.EqualError(t, err, fmt.Sprintf("range %s/%[1]s: the range ends before it starts", at.Format(time.RFC3339)))
}

func TestAConfigThatCannotWorkIsRefused(t *testing.T) {
	dir := t.TempDir()
	noPEM := filepath.Join(dir, "no.pem")
	require.NoError(t, os.WriteFile(noPEM, []byte("no certificate"), 0o600))
	for _, test := range []struct {
		config tempoclient.Config
		want   []string
	}{
		{tempoclient.Config{}, []string{`tempo URL "": use http://host:port or https://host:port`}},
		{tempoclient.Config{URL: "tempo:3200"}, []string{`tempo URL "tempo:3200": use http://host:port`}},
		{tempoclient.Config{URL: "http://"}, []string{`tempo URL "http://"`}},
		{tempoclient.Config{URL: "ftp://tempo"}, []string{`tempo URL "ftp://tempo"`}},
		{tempoclient.Config{URL: "http://tempo", Tries: -1}, []string{"concurrency, search limit, tries and durations must be above 0"}},
		{tempoclient.Config{URL: "https://tempo", Access: tempoclient.Access{CAFile: filepath.Join(dir, "none.pem")}}, []string{"tempo: certificates to trust: ", "none.pem: no such file"}},
		{tempoclient.Config{URL: "https://tempo", Access: tempoclient.Access{CAFile: noPEM}}, []string{"tempo: certificates to trust: ", "no.pem contains no PEM certificate"}},
		{tempoclient.Config{URL: "https://tempo", Access: tempoclient.Access{CertFile: noPEM, KeyFile: noPEM}}, []string{"tempo: the client's certificate: ", "failed to find any PEM data"}},
		{tempoclient.Config{URL: "http://tempo", GRPCAddr: "dns:///%zz"}, []string{"tempo: gRPC to dns:///%zz: "}},
	} {
		_, err := tempoclient.New(test.config)
		for _, want := range test.want {
			require.ErrorContains(t, err, want)
		}
	}
	for _, addr := range []string{"", "tempo", ":4317", "tempo:", "ftp://tempo:4318", "http://", "http://%zz"} {
		_, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: addr})
		require.EqualError(t, err, fmt.Sprintf("OTLP address %q: use host:port, or http://host:port for OTLP/HTTP", addr))
	}
	for _, addr := range []string{"tempo:4317", "https://tempo:4318"} {
		_, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: addr, Access: tempoclient.Access{CAFile: noPEM}})
		require.ErrorContains(t, err, "OTLP: certificates to trust: "+noPEM)
	}
	// An address without a port has the scheme's port.
	for _, url := range []string{"http://127.0.0.1", "https://127.0.0.1/tempo/"} {
		client, err := tempoclient.New(tempoclient.Config{URL: url})
		require.NoError(t, err)
		require.NoError(t, client.Close())
	}
}

// receiver is an OTLP receiver that answers as defined by a test.
type receiver struct {
	ptraceotlp.UnimplementedGRPCServer
	answer func(n int) (rejected int64, err error) // nil: accepts everything

	mu       sync.Mutex
	n        int
	sizes    []int
	spans    map[string]int // number of arrivals by span ID
	headers  http.Header
	metadata metadata.MD
}

func (r *receiver) take(td ptrace.Traces) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	r.sizes = append(r.sizes, (&ptrace.ProtoMarshaler{}).TracesSize(td))
	if r.spans == nil {
		r.spans = map[string]int{}
	}
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				r.spans[s.TraceID().String()+s.SpanID().String()]++
			}
		}
	}
	return r.n
}

// Export accepts OTLP over gRPC.
func (r *receiver) Export(ctx context.Context, req ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	n := r.take(req.Traces())
	r.mu.Lock()
	r.metadata = md
	r.mu.Unlock()
	response := ptraceotlp.NewExportResponse()
	if r.answer == nil {
		return response, nil
	}
	rejected, err := r.answer(n)
	response.PartialSuccess().SetRejectedSpans(rejected)
	response.PartialSuccess().SetErrorMessage("no room")
	return response, err
}

func (r *receiver) serve(t *testing.T) (addr string) {
	t.Helper()
	l := listen(t)
	server := grpc.NewServer()
	ptraceotlp.RegisterGRPCServer(server, r)
	go server.Serve(l) // ends with Stop
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

// serveHTTP accepts OTLP over HTTP at /v1/traces. before, if not nil, may answer first.
func (r *receiver) serveHTTP(t *testing.T, before answering) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		otlp := ptraceotlp.NewExportRequest()
		if req.URL.Path != "/v1/traces" || req.Method != http.MethodPost || otlp.UnmarshalProto(body) != nil {
			http.NotFound(w, req)
			return
		}
		n := r.take(otlp.Traces())
		r.mu.Lock()
		r.headers = req.Header.Clone()
		r.mu.Unlock()
		response := ptraceotlp.NewExportResponse()
		if r.answer != nil {
			rejected, err := r.answer(n)
			if err != nil {
				before(n, w, req)
				return
			}
			response.PartialSuccess().SetRejectedSpans(rejected)
			response.PartialSuccess().SetErrorMessage("no room")
		}
		b, err := response.MarshalProto()
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(b)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func writer(t *testing.T, config tempoclient.WriterConfig) *tempoclient.Writer {
	t.Helper()
	if config.Tries == 0 {
		config.Tries = 2
	}
	config.Access.PlainText = true
	w, err := tempoclient.NewWriter(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	return w
}

func oneTrace() ptrace.Traces {
	td := ptrace.NewTraces()
	addTrace(td, id(1), at, 3, "op")
	return td
}

func TestEveryFaultOfAWriteIsRetriedOrSaid(t *testing.T) {
	failed := errors.New("as the test says")
	always := func(int) (int64, error) { return 0, failed }
	first := func(n int) (int64, error) {
		if n == 1 {
			return 0, failed
		}
		return 0, nil
	}
	grpcFails := func(code codes.Code, text string) func(int) (int64, error) {
		return func(int) (int64, error) { return 0, status.Error(code, text) }
	}
	rejects := func(int) (int64, error) { return 2, nil }
	for _, test := range []struct {
		name   string
		r      *receiver
		http   bool
		before answering
		config tempoclient.WriterConfig
		want   []string // nil: the spans are accepted
		n      int      // requests
	}{
		{name: "gRPC", r: &receiver{}, n: 1},
		{name: "HTTP", r: &receiver{}, http: true, n: 1},
		{name: "gRPC, spans rejected", r: &receiver{answer: rejects}, n: 1, want: []string{"OTLP to 127.0.0.1:", ": 2 of 3 spans were rejected: no room"}},
		{name: "HTTP, spans rejected", r: &receiver{answer: rejects}, http: true, n: 1, want: []string{"OTLP to http://127.0.0.1:", "/v1/traces: 2 of 3 spans were rejected: no room"}},
		{name: "HTTP 400", r: &receiver{answer: always}, http: true, before: says(400, "bad span"), n: 1, want: []string{"400 bad span"}},
		{name: "HTTP 401", r: &receiver{answer: always}, http: true, before: says(401, "no org id"), n: 1, want: []string{"401 no org id: check the credentials and the tenant"}},
		{name: "HTTP 429, then success", r: &receiver{answer: first}, http: true, before: says(429, "slow down", "Retry-After", "1"), n: 2},
		{name: "HTTP 429 forever", r: &receiver{answer: always}, http: true, before: says(429, "slow down", "Retry-After", "1"), n: 2,
			want: []string{"429 slow down: lower --concurrency or raise the tenant's limit (2 tries, retry-after 1s)"}},
		{name: "HTTP 503, then success", r: &receiver{answer: first}, http: true, before: says(503, "starting"), n: 2},
		{name: "HTTP, a login page", r: &receiver{answer: always}, http: true, before: says(200, "<html>Sign in</html>"), n: 1,
			want: []string{"the answer is not OTLP: check that http://127.0.0.1:", "/v1/traces is an OTLP/HTTP endpoint"}},
		{name: "HTTP, an answer that breaks off", r: &receiver{answer: always}, http: true, before: says(200, "a", "Content-Length", "100"), n: 2,
			want: []string{"the answer broke off: unexpected EOF (2 tries)"}},
		{name: "HTTP, no answer", r: &receiver{answer: always}, http: true, before: silent, n: 2,
			config: tempoclient.WriterConfig{RequestTimeout: 500 * time.Millisecond}, want: []string{"no answer within 500ms (2 tries)"}},
		{name: "gRPC Unavailable, then success", n: 2, r: &receiver{answer: func(n int) (int64, error) {
			if n == 1 {
				return 0, status.Error(codes.Unavailable, "starting")
			}
			return 0, nil
		}}},
		{name: "gRPC ResourceExhausted", r: &receiver{answer: grpcFails(codes.ResourceExhausted, "rate limit")}, n: 2,
			want: []string{"ResourceExhausted: rate limit: lower --concurrency or raise the tenant's limit (2 tries)"}},
		{name: "gRPC InvalidArgument", r: &receiver{answer: grpcFails(codes.InvalidArgument, "bad span")}, n: 1, want: []string{"InvalidArgument: bad span"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.http {
				test.config.Addr = test.r.serveHTTP(t, test.before)
			} else {
				test.config.Addr = test.r.serve(t)
			}
			err := writer(t, test.config).Export(t.Context(), oneTrace())
			if test.want == nil {
				require.NoError(t, err)
			}
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
			test.r.mu.Lock()
			defer test.r.mu.Unlock()
			require.Equal(t, test.n, test.r.n)
			require.Len(t, test.r.spans, 3)
		})
	}
	t.Run("HTTP, another path", func(t *testing.T) {
		t.Parallel()
		r := &receiver{}
		err := writer(t, tempoclient.WriterConfig{Addr: r.serveHTTP(t, nil) + "/tempo"}).Export(t.Context(), oneTrace())
		require.ErrorContains(t, err, "/tempo is an OTLP/HTTP endpoint")
	})
	for _, scheme := range []string{"", "http://"} {
		t.Run("no server "+scheme, func(t *testing.T) {
			t.Parallel()
			err := writer(t, tempoclient.WriterConfig{Addr: scheme + closedAddr}).Export(t.Context(), oneTrace())
			require.ErrorContains(t, err, "OTLP to "+scheme+"127.0.0.1:")
			require.ErrorContains(t, err, "connect: connection refused")
			require.ErrorContains(t, err, "check that the server is running, and its address (2 tries)")
		})
	}
}

func TestWritesThatAreTooLargeForOneMessageArriveInSeveralOnce(t *testing.T) {
	const most = 3 << 20
	td := ptrace.NewTraces()
	for i := range 40 {
		addTrace(td, id(i), at, 1000, "op")
	}
	require.Greater(t, (&ptrace.ProtoMarshaler{}).TracesSize(td), most)
	for _, overHTTP := range []bool{false, true} {
		t.Run(fmt.Sprint("over HTTP ", overHTTP), func(t *testing.T) {
			t.Parallel()
			r := &receiver{}
			addr := r.serve
			if overHTTP {
				addr = func(t *testing.T) string { return r.serveHTTP(t, nil) }
			}
			require.NoError(t, writer(t, tempoclient.WriterConfig{Addr: addr(t)}).Export(t.Context(), td))
			require.Greater(t, r.n, 1)
			for _, size := range r.sizes {
				require.LessOrEqual(t, size, most)
			}
			require.Len(t, r.spans, 40_000)
			for span, n := range r.spans {
				require.Equal(t, 1, n, span)
			}
		})
	}
	t.Run("the first of them fails", func(t *testing.T) {
		t.Parallel()
		r := &receiver{answer: func(int) (int64, error) { return 0, status.Error(codes.InvalidArgument, "bad span") }}
		err := writer(t, tempoclient.WriterConfig{Addr: r.serve(t)}).Export(t.Context(), td)
		require.ErrorContains(t, err, "bad span")
		require.Equal(t, 1, r.n)
	})
}

func TestWhoAsksIsSaidWithEveryRequest(t *testing.T) {
	for name, test := range map[string]struct {
		access tempoclient.Access
		want   map[string]string
	}{
		"tenant":           {tempoclient.Access{Tenant: "a"}, map[string]string{"X-Scope-OrgID": "a", "Authorization": ""}},
		"bearer":           {tempoclient.Access{BearerToken: "s3cret", Tenant: "a"}, map[string]string{"X-Scope-OrgID": "a", "Authorization": "Bearer s3cret"}},
		"basic":            {tempoclient.Access{User: "user", Password: "pa:ss"}, map[string]string{"X-Scope-OrgID": "", "Authorization": "Basic dXNlcjpwYTpzcw=="}},
		"bearer from file": {tempoclient.Access{BearerTokenFile: secretFile(t, "s3cret\n")}, map[string]string{"Authorization": "Bearer s3cret"}},
		"basic from file":  {tempoclient.Access{User: "user", PasswordFile: secretFile(t, "pa:ss\n")}, map[string]string{"Authorization": "Basic dXNlcjpwYTpzcw=="}},
		"bearer is bearer": {tempoclient.Access{BearerToken: "s3cret", Headers: map[string]string{"authorization": "Bearer x"}}, map[string]string{"Authorization": "Bearer s3cret"}},
		"authorization":    {tempoclient.Access{Headers: map[string]string{"authorization": "Custom x"}}, map[string]string{"Authorization": "Custom x"}},
		"headers":          {tempoclient.Access{Headers: map[string]string{"X-Api-Key": "k", "X-Two": "2"}}, map[string]string{"X-Api-Key": "k", "X-Two": "2"}},
		"tenant is tenant": {tempoclient.Access{Tenant: "a", Headers: map[string]string{"x-scope-orgid": "b"}}, map[string]string{"X-Scope-OrgID": "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantMetadata := func(md metadata.MD) {
				t.Helper()
				for k, want := range test.want {
					require.Equal(t, want, strings.Join(md.Get(k), "+"), k)
				}
			}
			wantHeaders := func(h http.Header) {
				t.Helper()
				for k, want := range test.want {
					require.Equal(t, want, strings.Join(h.Values(k), "+"), k)
				}
			}
			set := func(c *tempoclient.Config) { c.Access = test.access }
			overHTTP := (&fake{search: finds()}).start(t)
			_, err := overHTTP.client(t, set).Traces(t.Context(), theRange(), nil)
			require.NoError(t, err)
			wantHeaders(overHTTP.headers)
			streamed := (&fake{stream: streams(id(1))}).start(t)
			_, err = streamed.client(t, set).Traces(t.Context(), theRange(), collect(map[trace.ID]int{}))
			require.NoError(t, err)
			wantMetadata(streamed.metadata)
			wantHeaders(streamed.headers) // by ID

			r := &receiver{}
			require.NoError(t, writer(t, tempoclient.WriterConfig{Addr: r.serve(t), Access: test.access}).Export(t.Context(), oneTrace()))
			wantMetadata(r.metadata)
			require.NoError(t, writer(t, tempoclient.WriterConfig{Addr: r.serveHTTP(t, nil), Access: test.access}).Export(t.Context(), oneTrace()))
			wantHeaders(r.headers)
		})
	}
}

// secretFile returns a file with a secret.
func secretFile(t *testing.T, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(secret), 0o600))
	return file
}

func TestATokenThatChangesIsReadAgain(t *testing.T) {
	t.Parallel()
	file := secretFile(t, "first")
	f := (&fake{stream: streams(id(1)), trace: gives}).start(t)
	client := f.client(t, func(c *tempoclient.Config) { c.Access.BearerTokenFile = file })
	for _, token := range []string{"first", "second"} {
		require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
		_, err := client.Traces(t.Context(), theRange(), collect(map[trace.ID]int{}))
		require.NoError(t, err)
		require.Equal(t, []string{"Bearer " + token}, f.metadata.Get("authorization"), "the search")
		require.Equal(t, []string{"Bearer " + token}, f.headers.Values("Authorization"), "the trace")
	}
	require.NoError(t, os.Remove(file))
	_, err := client.Traces(t.Context(), theRange(), collect(map[trace.ID]int{}))
	require.ErrorContains(t, err, "no such file or directory")
}

func TestAClientCertificateThatChangesIsReadAgain(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t, "ours"), newAuthority(t, "other")
	server, certFile, keyFile := ca.pair(t)
	_, otherCert, otherKey := other.pair(t)
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	https := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	https.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	https.Config.ErrorLog = log.New(io.Discard, "", 0)
	https.StartTLS()
	t.Cleanup(https.Close)
	client, err := tempoclient.Access{CAFile: ca.file, CertFile: otherCert, KeyFile: otherKey}.HTTPClient()
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	get := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, https.URL, nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	require.Error(t, get())
	for from, to := range map[string]string{certFile: otherCert, keyFile: otherKey} {
		pem, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, pem, 0o600))
	}
	require.NoError(t, get())
}

func TestCompressedResponsesAreRead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "gzip", r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte("hello"))
		_ = z.Close()
	}))
	t.Cleanup(server.Close)
	client, err := tempoclient.Access{}.HTTPClient()
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "hello", string(body))
}

func TestCredentialsStayWithTheHostTheyAreFor(t *testing.T) {
	t.Parallel()
	var elsewhere http.Header
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		elsewhere = r.Header.Clone()
		says(200, "<html>Sign in</html>", "Content-Type", "text/html")(1, w, r)
	}))
	t.Cleanup(login.Close)
	_, port, err := net.SplitHostPort(login.Listener.Addr().String())
	require.NoError(t, err)
	access := tempoclient.Access{Tenant: "a", BearerToken: "s3cret", Headers: map[string]string{"X-Api-Key": "k"}}
	f := (&fake{search: func(_ int, w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/moved") { // the first redirect stays on the same host
			http.Redirect(w, r, "/moved"+r.URL.Path, http.StatusFound)
			return
		}
		http.Redirect(w, r, "http://localhost:"+port+"/login", http.StatusFound)
	}}).start(t)
	_, err = f.client(t, func(c *tempoclient.Config) { c.Access = access }).Traces(t.Context(), theRange(), nil)
	require.ErrorContains(t, err, "the answer is \"text/html\", not application/json: check that localhost:"+port+" is a Tempo")
	require.Equal(t, "Bearer s3cret", f.headers.Get("Authorization"), "the same host")
	for _, k := range []string{"Authorization", "X-Scope-OrgID", "X-Api-Key"} {
		require.Empty(t, elsewhere.Get(k), k)
	}
}

// authority is a certificate authority for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	cert, key := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	a := authority{cert: cert, key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	writePEM(t, a.file, "CERTIFICATE", cert.Raw)
	return a
}

func issue(t *testing.T, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

// pair issues a certificate for 127.0.0.1 and tempo.test, and writes it.
func (a authority) pair(t *testing.T) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	cert, key := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "tempo"}, DNSNames: []string{"tempo.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, &a)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", cert.Raw)
	writePEM(t, keyFile, "PRIVATE KEY", der)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, certFile, keyFile
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func TestTLSIsVerifiedAndItsFaultsAreSaid(t *testing.T) {
	ca, other := newAuthority(t, "ours"), newAuthority(t, "other")
	server, certFile, keyFile := ca.pair(t)
	_, otherCert, otherKey := other.pair(t)
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	plain := &tls.Config{Certificates: []tls.Certificate{server}}
	mutual := &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	mutual12 := mutual.Clone()
	mutual12.MaxVersion = tls.VersionTLS12
	const remedy = ": check the tls settings"
	for _, test := range []struct {
		name   string
		server *tls.Config
		access tempoclient.Access
		want   []string // parts of the error; nil: no error
	}{
		{"its authority is trusted", plain, tempoclient.Access{CAFile: ca.file}, nil},
		{"its authority is not known", plain, tempoclient.Access{}, []string{"certificate signed by unknown authority", remedy}},
		{"another authority is trusted", plain, tempoclient.Access{CAFile: other.file}, []string{"certificate signed by unknown authority", remedy}},
		{"nothing is verified", plain, tempoclient.Access{InsecureSkipVerify: true}, nil},
		{"another name", plain, tempoclient.Access{CAFile: ca.file, ServerName: "tempo.test"}, nil},
		{"a wrong name", plain, tempoclient.Access{CAFile: ca.file, ServerName: "loki.test"}, []string{"certificate is valid for tempo.test, not loki.test", remedy}},
		{"the client's certificate", mutual, tempoclient.Access{CAFile: ca.file, CertFile: certFile, KeyFile: keyFile}, nil},
		{"no client's certificate", mutual, tempoclient.Access{CAFile: ca.file}, []string{"certificate required", remedy}},
		{"no client's certificate, TLS 1.2", mutual12, tempoclient.Access{CAFile: ca.file}, []string{"remote error: tls: ", remedy}},
		{"the client's certificate of another, TLS 1.2", mutual12, tempoclient.Access{CAFile: ca.file, CertFile: otherCert, KeyFile: otherKey}, []string{"remote error: tls: ", remedy}},
		{"the client's certificate of another", mutual, tempoclient.Access{CAFile: ca.file, CertFile: otherCert, KeyFile: otherKey}, []string{"tls: ", remedy}},
	} {
		for _, way := range []string{"HTTP/1.1 only", "streamed"} {
			t.Run(test.name+", "+way, func(t *testing.T) {
				t.Parallel()
				f := &fake{search: finds(id(1)), stream: streams(id(1)), trace: gives}
				https := httptest.NewUnstartedServer(f)
				https.TLS = test.server.Clone()
				https.Config.ErrorLog = log.New(io.Discard, "", 0)
				https.StartTLS()
				t.Cleanup(https.Close)
				config := tempoclient.Config{URL: https.URL, Access: test.access, Tries: 2, MaxTraceDuration: time.Second}
				if way == "streamed" {
					config.GRPCAddr = f.serveGRPC(t, grpc.Creds(credentials.NewTLS(test.server.Clone())))
				}
				client, err := tempoclient.New(config)
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, client.Close()) })
				got := map[trace.ID]int{}
				report, err := client.Traces(t.Context(), theRange(), collect(got))
				if test.want == nil {
					require.NoError(t, err)
					require.Empty(t, report.Problems)
					require.Equal(t, map[trace.ID]int{id(1): 1}, got)
					require.Equal(t, map[string]string{"streamed": "grpc"}[way] == "grpc", report.SearchedBy == "grpc")
					return
				}
				require.Empty(t, got)
				if test.server == mutual && err == nil {
					// A TLS 1.3 server refuses the client after the handshake. The connection may be
					// closed before the reason arrives.
					require.Len(t, report.Problems, 1)
					return
				}
				for _, part := range test.want {
					require.ErrorContains(t, err, part)
				}
				if test.server != mutual {
					require.EqualValues(t, 1, report.Requests, "the request must not be retried")
				}
			})
		}
	}
	t.Run("https to a server that speaks http", func(t *testing.T) {
		t.Parallel()
		f := (&fake{}).start(t)
		client := f.client(t, func(c *tempoclient.Config) { c.URL = "https" + strings.TrimPrefix(f.url, "http") })
		_, err := client.Traces(t.Context(), theRange(), nil)
		require.ErrorContains(t, err, remedy)
	})
}

// Tempo receives the whole ID with its leading zeros.
func TestATraceIsAskedForByItsWholeID(t *testing.T) {
	t.Parallel()
	var path string
	f := (&fake{trace: func(n int, w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		gives(n, w, r)
	}}).start(t)
	want := shortID("1f")
	got, err := f.client(t, func(c *tempoclient.Config) { c.URL += "/prefix/" }).Trace(t.Context(), want)
	require.NoError(t, err)
	require.Equal(t, want, got.ID)
	require.Equal(t, "/prefix/api/v2/traces/"+strings.Repeat("0", 30)+hex.EncodeToString([]byte{0x1f}), path)
}
