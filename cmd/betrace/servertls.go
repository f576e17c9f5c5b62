package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/exporter-toolkit/web"
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
	c := web.TLSConfig{TLSCertPath: t.CertFile, TLSKeyPath: t.KeyFile, MinVersion: tls.VersionTLS12}
	if t.ClientCAFile != "" {
		c.ClientAuth, c.ClientCAs = "RequireAndVerifyClientCert", t.ClientCAFile
	}
	config, err := web.ConfigToTLSConfig(&c)
	if err != nil {
		return nil, fmt.Errorf("server.tls: %w", err)
	}
	return config, nil
}

// client returns the scheme of the service and a client for requests to it, which trusts the certificate of the service itself
// if no authority is named.
func (t *serverTLS) client() (scheme string, client *http.Client, err error) {
	if !t.isOn() && t.CAFile == "" {
		return "http", http.DefaultClient, nil
	}
	c := promconfig.TLSConfig{CAFile: t.CAFile, CertFile: t.ClientCertFile, KeyFile: t.ClientKeyFile, ServerName: t.ServerName}
	if c.CAFile == "" {
		c.CAFile = t.CertFile
	}
	config, err := promconfig.NewTLSConfig(&c)
	if err != nil {
		return "", nil, fmt.Errorf("server.tls: %w", err)
	}
	return "https", &http.Client{Transport: &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment}}, nil
}
