package tempoclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/common/config"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// TenantHeader names the tenant of a request, to Tempo and to Loki.
const TenantHeader = "X-Scope-OrgID"

// Access defines the credentials and TLS options for a server. The zero Access is anonymous, without a tenant,
// and trusts the certificates of the system. Files are read again when they change, except CAFile.
type Access struct {
	// Tenant is sent as X-Scope-OrgID, unless it is empty.
	Tenant string
	// A bearer token, or a user with a password, is sent as Authorization. A file takes precedence over a value.
	BearerToken, BearerTokenFile string
	User, Password, PasswordFile string
	// Headers are sent with each request. Tenant and credentials take precedence.
	Headers map[string]string
	// CAFile contains certificates (PEM) that are trusted besides those of the system.
	CAFile string
	// CertFile and KeyFile contain the certificate of the client.
	CertFile, KeyFile string
	// ServerName is the required name in the server's certificate, if it is not the host name.
	ServerName string
	// InsecureSkipVerify trusts any certificate.
	InsecureSkipVerify bool
	// PlainText makes gRPC connect without TLS. HTTP depends on the URL.
	PlainText bool
}

// clientConfig returns the access in the form of Prometheus' HTTP clients, without headers and CAFile.
func (a Access) clientConfig() config.HTTPClientConfig {
	c := config.HTTPClientConfig{
		FollowRedirects: true, EnableHTTP2: true, ProxyConfig: config.ProxyConfig{ProxyFromEnvironment: true},
		TLSConfig: config.TLSConfig{CertFile: a.CertFile, KeyFile: a.KeyFile, ServerName: a.ServerName, InsecureSkipVerify: a.InsecureSkipVerify},
	}
	switch {
	case a.BearerTokenFile != "":
		c.Authorization = &config.Authorization{Type: "Bearer", CredentialsFile: a.BearerTokenFile}
	case a.BearerToken != "":
		c.Authorization = &config.Authorization{Type: "Bearer", Credentials: config.Secret(a.BearerToken)}
	case a.User != "" && a.PasswordFile != "":
		c.BasicAuth = &config.BasicAuth{Username: a.User, PasswordFile: a.PasswordFile}
	case a.User != "":
		c.BasicAuth = &config.BasicAuth{Username: a.User, Password: config.Secret(a.Password)}
	}
	return c
}

// header returns the headers of each request, without credentials.
func (a Access) header() http.Header {
	h := http.Header{}
	for k, v := range a.Headers {
		h.Set(k, v)
	}
	if a.Tenant != "" {
		h.Set(TenantHeader, a.Tenant)
	}
	if a.BearerToken+a.BearerTokenFile+a.User != "" {
		h.Del("Authorization")
	}
	return h
}

// tls returns the TLS options. Unlike Prometheus' own, they trust CAFile besides the certificates of the system.
func (a Access) tls(ctx context.Context, c *config.TLSConfig, opts ...config.TLSConfigOption) (*tls.Config, error) {
	t, err := config.NewTLSConfigWithContext(ctx, c, opts...)
	if err != nil {
		return nil, fmt.Errorf("the client's certificate: %w", err)
	}
	if a.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(a.CAFile)
	if err != nil {
		return nil, fmt.Errorf("certificates to trust: %w", err)
	}
	if t.RootCAs, err = x509.SystemCertPool(); err != nil {
		return nil, fmt.Errorf("the system's certificates: %w", err)
	}
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificates to trust: %s contains no PEM certificate", a.CAFile)
	}
	return t, nil
}

// HTTPClient returns a client whose requests carry the credentials and headers.
func (a Access) HTTPClient() (*http.Client, error) {
	t := &transport{header: a.header()}
	open := func(c config.HTTPClientConfig) (http.RoundTripper, error) {
		rt, err := config.NewRoundTripperFromConfig(c, "betrace", config.WithNewTLSConfigFunc(a.tls))
		if closer, ok := rt.(closeIdler); ok {
			t.opened = append(t.opened, closer)
		}
		return gzhttp.Transport(rt, gzhttp.TransportEnableZstd(false)), err
	}
	var err error
	c := a.clientConfig()
	if t.trusted, err = open(c); err != nil {
		return nil, err
	}
	c.Authorization, c.BasicAuth = nil, nil
	if t.other, err = open(c); err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

// transport sends requests with credentials and headers, except after a redirect to another host or out of TLS.
// It accepts compressed responses, which Prometheus' transports do not.
type transport struct {
	trusted http.RoundTripper // adds the credentials
	other   http.RoundTripper
	header  http.Header
	opened  []closeIdler
}

type closeIdler interface{ CloseIdleConnections() }

// RoundTrip sends a request.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	first := req
	for first.Response != nil {
		first = first.Response.Request
	}
	if req.URL.Hostname() != first.URL.Hostname() || first.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return t.other.RoundTrip(req)
	}
	req = req.Clone(req.Context())
	for k, v := range t.header {
		req.Header[k] = v
	}
	return t.trusted.RoundTrip(req)
}

// CloseIdleConnections closes the connections that are not in use.
func (t *transport) CloseIdleConnections() {
	for _, c := range t.opened {
		c.CloseIdleConnections()
	}
}

// dial returns a connection to host:port. It connects when it is first used.
func (a Access) dial(addr string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if !a.PlainText {
		c := a.clientConfig()
		options, err := a.tls(context.Background(), &c.TLSConfig)
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(options)
	}
	conn, err := grpc.NewClient(addr, append(opts,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxSearchBytes)),
		grpc.WithPerRPCCredentials(callCredentials{a}))...)
	if err != nil {
		return nil, fmt.Errorf("gRPC to %s: %w", addr, err)
	}
	return conn, nil
}

// callCredentials adds credentials and headers to the calls of a gRPC connection.
type callCredentials struct{ access Access }

// GetRequestMetadata returns the metadata of a call.
func (c callCredentials) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	md := map[string]string{}
	for k := range c.access.header() {
		md[strings.ToLower(k)] = c.access.header().Get(k)
	}
	authorization, err := c.access.authorization(ctx)
	if authorization != "" {
		md["authorization"] = authorization
	}
	return md, err
}

// RequireTransportSecurity returns false: without TLS, gRPC sends what HTTP sends.
func (c callCredentials) RequireTransportSecurity() bool { return false }

// authorization returns the header Authorization, which is empty without credentials.
func (a Access) authorization(ctx context.Context) (string, error) {
	secret := func(text, file string) (string, error) {
		if file == "" {
			return text, nil
		}
		return config.NewFileSecret(file).Fetch(ctx)
	}
	if a.BearerToken+a.BearerTokenFile != "" {
		token, err := secret(a.BearerToken, a.BearerTokenFile)
		return "Bearer " + token, err
	}
	if a.User == "" {
		return "", nil
	}
	password, err := secret(a.Password, a.PasswordFile)
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.User+":"+password)), err
}

// maxSearchBytes bounds one answer to a search; Tempo's own bound is 16 MiB.
const maxSearchBytes = 64 << 20
