package tempoclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// TenantHeader names the tenant of a request, to Tempo and to Loki.
const TenantHeader = "X-Scope-OrgID"

// Access configures the connection to a server: credentials, tenant and TLS. The zero Access is
// anonymous, without a tenant, and trusts the system's certificates.
type Access struct {
	// Tenant, if not empty, is sent as X-Scope-OrgID.
	Tenant string
	// BearerToken, or User and Password, are sent in the Authorization header.
	BearerToken    string
	User, Password string
	// Headers are sent with each request.
	Headers map[string]string
	// CAFile contains further certificates (PEM) to trust, in addition to the system's. CertFile and
	// KeyFile are the client's own.
	CAFile, CertFile, KeyFile string
	// ServerName replaces the host name when its certificate is verified. InsecureSkipVerify trusts any
	// certificate.
	ServerName         string
	InsecureSkipVerify bool
	// PlainText makes gRPC connect without TLS. For HTTP the URL decides.
	PlainText bool
}

// headers returns the headers that are sent with each request.
func (a Access) headers() map[string]string {
	h := maps.Clone(a.Headers)
	if h == nil {
		h = map[string]string{}
	}
	if a.Tenant != "" {
		h[TenantHeader] = a.Tenant
	}
	switch {
	case a.BearerToken != "":
		h["Authorization"] = "Bearer " + a.BearerToken
	case a.User != "":
		h["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(a.User+":"+a.Password))
	}
	return h
}

func (a Access) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: a.ServerName, InsecureSkipVerify: a.InsecureSkipVerify} //nolint:gosec // the user enables it explicitly
	if a.CAFile != "" {
		pem, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificates to trust: %w", err)
		}
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("the system's certificates: %w", err)
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificates to trust: %s contains no PEM certificate", a.CAFile)
		}
	}
	if a.CertFile != "" || a.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("the client's certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// HTTPClient returns a client whose requests have the configured headers and TLS settings.
func (a Access) HTTPClient() (*http.Client, error) {
	c, err := a.tls()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = c
	transport.MaxIdleConnsPerHost = 64
	return &http.Client{Transport: &headerTransport{transport, a.headers()}}, nil
}

type headerTransport struct {
	*http.Transport
	headers map[string]string
}

// RoundTrip adds the headers, except after a redirect to another host, which must not receive the
// credentials.
func (t *headerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	first := req
	for first.Response != nil {
		first = first.Response.Request
	}
	if req.URL.Hostname() != first.URL.Hostname() || first.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return t.Transport.RoundTrip(req)
	}
	req = req.Clone(req.Context())
	for k, v := range t.headers {
		req.Header.Set(k, v)
	}
	return t.Transport.RoundTrip(req)
}

// dial returns a connection to host:port. It connects on its first request.
func (a Access) dial(addr string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if !a.PlainText {
		c, err := a.tls()
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(c)
	}
	md := metadata.MD{}
	for k, v := range a.headers() {
		md.Set(strings.ToLower(k), v)
	}
	with := func(ctx context.Context) context.Context {
		for k, v := range md {
			ctx = metadata.AppendToOutgoingContext(ctx, k, v[0])
		}
		return ctx
	}
	conn, err := grpc.NewClient(addr, append(opts,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxSearchBytes)),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(with(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(with(ctx), desc, cc, method, opts...)
		}))...)
	if err != nil {
		return nil, fmt.Errorf("gRPC to %s: %w", addr, err)
	}
	return conn, nil
}

// maxSearchBytes bounds one answer to a search. Tempo's own bound is 16 MiB.
const maxSearchBytes = 64 << 20

// Config configures the Tempo that is read, and the load on it. Zero fields have defaults.
type Config struct {
	// URL is Tempo's HTTP API, such as http://tempo:3200, with the path before /api if there is one.
	URL string
	// GRPCAddr is the host:port of its gRPC API, for streaming search. The default is that of URL, which
	// serves gRPC if Tempo's stream_over_http_enabled is set. If gRPC is not available, searches use
	// HTTP.
	GRPCAddr string
	Access   Access
	// Concurrency bounds the number of concurrent requests. Default 8. There are fewer while Tempo is
	// overloaded.
	Concurrency int
	// MaxRequestsPerSecond and MaxBytesPerSecond bound the average rates of requests to Tempo and of its
	// answers. If 0, there is no bound.
	MaxRequestsPerSecond, MaxBytesPerSecond float64
	// PlainAttributes are keys of attributes whose value is always one string, number or boolean, and, if
	// Tempo has a dedicated column for them, of the column's type. They are never a list, a map or bytes,
	// and no span has such a key twice. "*" means all keys. Search returns the values of these attributes
	// as they were sent, which it may not for others.
	PlainAttributes []string
	// SearchLimit is the maximum number of traces in the answer to one search. Default 5,000.
	SearchLimit int
	// MaxTraceDuration is the maximum duration of a trace. Search extends this far beyond the end of a
	// range, because a match may be late in a trace. Default 1 h.
	MaxTraceDuration time.Duration
	// SearchAgainAfter is the pause before the second search of a range that has not settled. Default 5
	// s.
	SearchAgainAfter time.Duration
	// RequestTimeout bounds one attempt of a request. Default 1 min.
	RequestTimeout time.Duration
	// Tries is the maximum number of attempts for a retryable request. Default 5.
	Tries int
	// MaxTraceBytes bounds one trace. Default 1 GiB.
	MaxTraceBytes int64
}

func (c Config) withDefaults() (Config, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return c, fmt.Errorf("tempo URL %q: use http://host:port or https://host:port", c.URL)
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	if c.GRPCAddr == "" {
		c.GRPCAddr = u.Host
		if u.Port() == "" {
			c.GRPCAddr += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
		}
	}
	c.Access.PlainText = c.Access.PlainText || u.Scheme == "http"
	setDefault(&c.Concurrency, 8)
	setDefault(&c.SearchLimit, 5000)
	setDefault(&c.MaxTraceDuration, time.Hour)
	setDefault(&c.SearchAgainAfter, 5*time.Second)
	setDefault(&c.RequestTimeout, time.Minute)
	setDefault(&c.Tries, 5)
	setDefault(&c.MaxTraceBytes, 1<<30)
	if c.MaxRequestsPerSecond < 0 || c.MaxBytesPerSecond < 0 {
		return c, errors.New("tempo: requests and bytes per second must be 0 or more")
	}
	if c.Concurrency < 0 || c.SearchLimit < 0 || c.Tries < 0 || c.MaxTraceDuration < 0 || c.SearchAgainAfter < 0 || c.RequestTimeout < 0 {
		return c, errors.New("tempo: concurrency, search limit, tries and durations must be above 0")
	}
	return c, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
