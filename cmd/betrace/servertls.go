package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/betracehq/betrace/tempoclient"
)

// serverTLS are the settings of TLS for the HTTP server of the service, and for the commands that send requests to it.
type serverTLS struct {
	CertFile, KeyFile, ClientCAFile string
	// These are of the commands.
	CAFile, ClientCertFile, ClientKeyFile, ServerName string
}

func (t *serverTLS) isOn() bool { return t.CertFile != "" }

func (t *serverTLS) check() error {
	switch {
	case (t.CertFile == "") != (t.KeyFile == ""):
		return errors.New("server.tls.cert_file and server.tls.key_file belong together: set both")
	case t.ClientCAFile != "" && !t.isOn():
		return errors.New("server.tls.client_ca_file requires server.tls.cert_file and server.tls.key_file")
	case (t.ClientCertFile == "") != (t.ClientKeyFile == ""):
		return errors.New("server.tls.client_cert_file and server.tls.client_key_file belong together: set both")
	}
	return nil
}

// server returns the configuration of the server. The certificate is read again for each connection, so that it can be
// renewed.
func (t *serverTLS) server() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("server.tls: %w", err)
		}
		return &pair, nil
	}}
	if _, err := config.GetCertificate(nil); err != nil { // a wrong file is an error at the start
		return nil, err
	}
	if t.ClientCAFile != "" {
		pem, err := os.ReadFile(t.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("server.tls.client_ca_file: %w", err)
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("server.tls.client_ca_file: %s contains no PEM certificate", t.ClientCAFile)
		}
	}
	return config, nil
}

// client returns the scheme of the service and a client for requests to it, which also trusts the certificate of the service
// itself if no authority is named.
func (t *serverTLS) client() (scheme string, client *http.Client, err error) {
	scheme = "https"
	if !t.isOn() && t.CAFile == "" {
		scheme = "http"
	}
	client, err = tempoclient.Access{
		CAFile: cmp.Or(t.CAFile, t.CertFile), CertFile: t.ClientCertFile, KeyFile: t.ClientKeyFile, ServerName: t.ServerName,
	}.HTTPClient()
	if err != nil {
		return "", nil, fmt.Errorf("server.tls: %w", err)
	}
	return scheme, client, nil
}
