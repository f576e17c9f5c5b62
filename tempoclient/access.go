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
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// TenantHeader names the tenant of a request, to Tempo and to Loki.
const TenantHeader = "X-Scope-OrgID"

// Access defines the credentials and TLS options for a server. The zero Access is anonymous, without a tenant,
// and trusts the certificates of the system. All files but CAFile may change: they are read again for each request or
// connection.
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

// header returns the headers of each request. It reads the file of the token or the password.
func (a Access) header() (http.Header, error) {
	h := http.Header{}
	for k, v := range a.Headers {
		h.Set(k, v)
	}
	if a.Tenant != "" {
		h.Set(TenantHeader, a.Tenant)
	}
	switch {
	case a.BearerToken+a.BearerTokenFile != "":
		token, err := secret(a.BearerToken, a.BearerTokenFile)
		if err != nil {
			return nil, fmt.Errorf("bearer token: %w", err)
		}
		h.Set("Authorization", "Bearer "+token)
	case a.User != "":
		password, err := secret(a.Password, a.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("password of user %q: %w", a.User, err)
		}
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(a.User+":"+password)))
	}
	return h, nil
}

// secret returns the content of the file, without surrounding white space, or the value if there is no file.
func secret(value, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	content, err := os.ReadFile(file)
	return strings.TrimSpace(string(content)), err
}

// tls returns the TLS options. The client's certificate is read again for each connection.
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
	if a.CertFile == "" && a.KeyFile == "" {
		return c, nil
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("the client's certificate: %w", err)
		}
		return &cert, nil
	}
	_, err := c.GetClientCertificate(nil) // a wrong file is an error at the start
	return c, err
}

// HTTPClient returns a client whose requests carry the credentials and headers.
func (a Access) HTTPClient() (*http.Client, error) {
	c, err := a.tls()
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = c
	t.MaxIdleConnsPerHost = 64
	return &http.Client{Transport: &transport{t, a}}, nil
}

// transport adds credentials and headers to requests, except after a redirect to another host or out of TLS.
type transport struct {
	*http.Transport
	access Access
}

// RoundTrip sends a request.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	first := req
	for first.Response != nil {
		first = first.Response.Request
	}
	if req.URL.Hostname() != first.URL.Hostname() || first.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return t.Transport.RoundTrip(req)
	}
	header, err := t.access.header()
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close()) // as RoundTripper requires
		}
		return nil, err
	}
	req = req.Clone(req.Context())
	maps.Copy(req.Header, header)
	return t.Transport.RoundTrip(req)
}

// dial returns a connection to host:port. It connects when it is first used.
func (a Access) dial(addr string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if !a.PlainText {
		c, err := a.tls()
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(c)
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
func (c callCredentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	header, err := c.access.header()
	if err != nil {
		return nil, err
	}
	md := map[string]string{}
	for k := range header {
		md[strings.ToLower(k)] = header.Get(k)
	}
	return md, nil
}

// RequireTransportSecurity returns false, because [Access.PlainText] may send credentials without TLS, as HTTP does.
func (c callCredentials) RequireTransportSecurity() bool { return false }

// maxSearchBytes bounds one answer to a search; Tempo's own bound is 16 MiB.
const maxSearchBytes = 64 << 20
