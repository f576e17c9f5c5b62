package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writeCertificate writes a certificate for a name, and its key, and returns the files.
func writeCertificate(t *testing.T, dir, file, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	secret, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, file+".pem"), filepath.Join(dir, file+".key")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

// TestServerWithTLS requires certificates on both sides, and renews that of the server while it runs.
func TestServerWithTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCertificate(t, dir, "server", "betrace.test")
	clientCert, clientKey := writeCertificate(t, dir, "client", "ann")
	address := closedPort(t)
	config := filepath.Join(dir, "betrace.yaml")
	write := func(more string) {
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
state: %s
server:
  address: %q
  tls: {cert_file: %s, key_file: %s, client_ca_file: %s, server_name: betrace.test%s}
tempo: {blocks: ../../docs/examples/tempo-blocks}
sweeps:
  - {name: all, schedule: "@every 1h", packs: [../../docs/examples/checkout.yaml], start: 20000h}
`, filepath.Join(dir, "state.db"), address, cert, key, clientCert, more), 0o600))
	}
	write(fmt.Sprintf(", client_cert_file: %s, client_key_file: %s", clientCert, clientKey))
	service := exec.CommandContext(t.Context(), "betrace", "serve", "--config", config)
	service.Stderr = os.Stderr
	require.NoError(t, service.Start())

	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	require.NoError(t, err)
	get := func(trusted string, certificates ...tls.Certificate) error {
		roots := x509.NewCertPool()
		text, err := os.ReadFile(trusted)
		require.NoError(t, err)
		require.True(t, roots.AppendCertsFromPEM(text))
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "betrace.test", Certificates: certificates}}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Get("https://" + address + "/ready")
		if err == nil {
			err = response.Body.Close()
		}
		return err
	}
	require.Eventually(t, func() bool { return get(cert, pair) == nil }, time.Minute, 50*time.Millisecond)
	require.ErrorContains(t, get(cert), "certificate required")
	require.ErrorContains(t, get(clientCert, pair), "unknown authority")
	response, err := http.Get("http://" + address + "/ready")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusBadRequest, response.StatusCode)

	code, stdout, stderr := betrace(t.Context(), "sweeps", "pause", "all", "--config", config)
	require.Equal(t, exitOK, code, stdout+stderr)
	code, _, stderr = betrace(t.Context(), "sweeps", "resume", "all", "--config", config, "--address", strings.Replace(address, "127.0.0.1", "localhost", 1))
	require.Equal(t, exitOK, code, stderr)

	// A renewed certificate is used at once.
	old, err := os.ReadFile(cert)
	require.NoError(t, err)
	before := filepath.Join(dir, "before.pem")
	require.NoError(t, os.WriteFile(before, old, 0o600))
	writeCertificate(t, dir, "server", "betrace.test")
	require.NoError(t, get(cert, pair))
	require.ErrorContains(t, get(before, pair), "certificate signed by unknown authority")
	require.NoError(t, service.Process.Signal(syscall.SIGTERM))
	require.NoError(t, service.Wait())

	for more, want := range map[string]string{
		"cert_file: x":       "server.tls.cert_file and server.tls.key_file belong together: set both",
		"client_ca_file: x":  "server.tls.client_ca_file requires server.tls.cert_file and server.tls.key_file",
		"client_key_file: x": "server.tls.client_cert_file and server.tls.client_key_file belong together: set both",
	} {
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "server: {tls: {%s}}\n", more), 0o600))
		code, _, stderr := betrace(t.Context(), "config", "check", "--config", config)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, want)
	}
}
