package tempoclient_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"hash/fnv"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// proxy is a proxy for the HTTP and gRPC APIs of a real Tempo on one port. It changes each request and
// its answer as returned by next.
type proxy struct {
	t          *testing.T
	next       func(path string, grpc bool) happening
	http, grpc string // Tempo's URLs
	transport  *http.Transport
	h2c        *http.Transport
	url        string
}

// connection is the context key for a request's TCP connection.
type connection struct{}

func startProxy(t *testing.T, next func(path string, grpc bool) happening, tempoURL, tempoGRPC string) (p *proxy, stop func()) {
	p = &proxy{t: t, next: next, http: tempoURL, grpc: "http://" + tempoGRPC, transport: &http.Transport{}, h2c: &http.Transport{Protocols: &http.Protocols{}}}
	p.h2c.Protocols.SetUnencryptedHTTP2(true)
	server := httptest.NewUnstartedServer(p)
	server.Config.Protocols = &http.Protocols{}
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) }
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	p.url = server.URL
	return p, func() {
		server.Close()
		p.transport.CloseIdleConnections()
		p.h2c.CloseIdleConnections()
	}
}

// ServeHTTP forwards a request, unless the fault prevents it.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client closed the connection
	}
	grpc := strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
	f := p.next(r.URL.Path, grpc)
	if f.before != nil {
		f.before(w, r)
		return
	}
	resp, err := p.forward(r, body, grpc)
	if err != nil {
		if r.Context().Err() == nil {
			p.t.Errorf("the proxy's own request to Tempo: %v", err)
		}
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), resp.header)
	if f.answer == nil {
		f.answer = whole
	}
	f.answer(w, r, resp)
}

// answered is an answer of Tempo.
type answered struct {
	code            int
	header, trailer http.Header
	body            []byte
}

func (p *proxy) forward(r *http.Request, body []byte, grpc bool) (*answered, error) {
	to, transport := p.http, p.transport
	if grpc {
		to, transport = p.grpc, p.h2c
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, to+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = r.Header.Clone()
	req.Header.Del("Accept-Encoding") // so that the body is cut as text
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &answered{code: resp.StatusCode, header: resp.Header.Clone()}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	a.header.Del("Content-Length")
	a.trailer = resp.Trailer.Clone()
	return a, nil
}

func whole(w http.ResponseWriter, _ *http.Request, a *answered) {
	a.write(w, len(a.body))
	a.end(w)
}

// write writes the first n bytes of the body.
func (a *answered) write(w http.ResponseWriter, n int) {
	w.WriteHeader(a.code)
	w.Write(a.body[:n]) // the client may have closed the connection
}

// writePart writes the first n bytes, and flushes them.
func (a *answered) writePart(w http.ResponseWriter, n int) {
	a.write(w, n)
	http.NewResponseController(w).Flush() // as in write
}

// end ends the answer. Over gRPC it states whether the answer is complete.
func (a *answered) end(w http.ResponseWriter) {
	for k, v := range a.trailer {
		w.Header()[http.TrailerPrefix+k] = v
	}
}

// cut returns the offset at which the body is cut, which is always before its end.
func (a *answered) cut(r *rand.Rand) int { return r.IntN(max(1, len(a.body))) }

// happening is a fault of one request, before it reaches Tempo or in Tempo's answer.
type happening struct {
	before func(http.ResponseWriter, *http.Request)
	answer func(http.ResponseWriter, *http.Request, *answered)
}

// resetConnection ends the TCP connection of a request, as when a machine fails.
func resetConnection(r *http.Request) {
	c := r.Context().Value(connection{}).(net.Conn)
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0) // the connection may be closed already
	}
	c.Close()
	panic(http.ErrAbortHandler)
}

// hang sends no answer until the client gives up.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// grpcError answers like a gRPC server that fails.
func grpcError(s *status.Status) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		details, err := proto.Marshal(s.Proto())
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(int(s.Code())))
		w.Header().Set("Grpc-Message", s.Message())
		w.Header().Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(details))
		w.WriteHeader(http.StatusOK)
	}
}

func httpError(code int, headers ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		says(code, "the proxy's "+strconv.Itoa(code), headers...)(1, w, r)
	}
}

// faults are the possible faults, by name.
var faults = map[string]func(r *rand.Rand, grpc bool) happening{
	"error": func(r *rand.Rand, grpc bool) happening {
		if !grpc {
			return happening{before: httpError([]int{500, 502, 503, 504}[r.IntN(4)])}
		}
		code := []codes.Code{codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled}[r.IntN(4)]
		return happening{before: grpcError(status.New(code, "the proxy's"))}
	},
	"overloaded": func(_ *rand.Rand, grpc bool) happening {
		if !grpc {
			return happening{before: httpError(http.StatusTooManyRequests, "Retry-After", "1")}
		}
		s, err := status.New(codes.ResourceExhausted, "the proxy's").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(300 * time.Millisecond)})
		if err != nil {
			panic(err)
		}
		return happening{before: grpcError(s)}
	},
	"not found": func(_ *rand.Rand, grpc bool) happening {
		if grpc {
			return happening{before: httpError(http.StatusServiceUnavailable)} // from a proxy without gRPC
		}
		return happening{before: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }}
	},
	"reset": func(r *rand.Rand, _ bool) happening {
		if r.IntN(2) == 0 {
			return happening{before: func(_ http.ResponseWriter, r *http.Request) { resetConnection(r) }}
		}
		return happening{answer: func(w http.ResponseWriter, req *http.Request, a *answered) {
			a.writePart(w, a.cut(r))
			resetConnection(req)
		}}
	},
	"broken off": func(r *rand.Rand, _ bool) happening {
		return happening{answer: func(w http.ResponseWriter, _ *http.Request, a *answered) {
			a.writePart(w, a.cut(r))
			panic(http.ErrAbortHandler)
		}}
	},
	// The transport reports no error.
	"truncated": func(r *rand.Rand, _ bool) happening {
		return happening{answer: func(w http.ResponseWriter, _ *http.Request, a *answered) {
			a.write(w, a.cut(r))
		}}
	},
	"wrong length": func(r *rand.Rand, grpc bool) happening {
		return happening{answer: func(w http.ResponseWriter, _ *http.Request, a *answered) {
			if grpc { // gRPC states no length; the missing status has the same effect
				a.writePart(w, len(a.body))
				panic(http.ErrAbortHandler)
			}
			said := max(0, len(a.body)+1+r.IntN(200)-r.IntN(2)*r.IntN(400))
			w.Header().Set("Content-Length", strconv.Itoa(said))
			a.write(w, min(said, len(a.body)))
		}}
	},
	"delayed": func(r *rand.Rand, _ bool) happening {
		return happening{answer: func(w http.ResponseWriter, _ *http.Request, a *answered) {
			n := a.cut(r)
			a.writePart(w, n)
			time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			w.Write(a.body[n:]) // the client may have closed the connection
			a.end(w)
		}}
	},
	"silent": func(r *rand.Rand, _ bool) happening {
		if r.IntN(2) == 0 {
			return happening{before: hang}
		}
		return happening{answer: func(w http.ResponseWriter, req *http.Request, a *answered) {
			a.writePart(w, a.cut(r))
			hang(w, req)
		}}
	},
}

// schedule derives the fault of each request from its seed. The nth request of each path has its own
// random choice, independent of concurrent requests. After a number of requests all requests in the
// outage fail permanently.
type schedule struct {
	seed   uint64
	rate   float64
	kinds  []string
	outage func(path string, grpc bool) bool // nil: no outage
	after  int

	mu       sync.Mutex
	requests int
	asked    map[string]uint64
	happened map[string]int
}

func (s *schedule) next(path string, grpc bool) happening {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.asked[path]++
	h := fnv.New64()
	io.WriteString(h, path)
	r := rand.New(rand.NewPCG(s.seed, h.Sum64()+s.asked[path]))
	down := s.outage != nil && s.requests > s.after && s.outage(path, grpc)
	if !down && r.Float64() >= s.rate {
		return happening{}
	}
	kind := s.kinds[r.IntN(len(s.kinds))]
	if kind == "silent" && s.happened[kind] == 3 {
		kind = "error" // because silence takes long
	}
	s.happened[kind]++
	return faults[kind](r, grpc)
}

func (s *schedule) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.happened)
}
