package state_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy is between a client and a server of PostgreSQL.
type proxy struct {
	url string
	// drop makes the proxy drop the answer to a commit, and end its connection.
	drop    atomic.Bool
	dropped atomic.Int64
}

func newProxy(t *testing.T, path string) *proxy {
	t.Helper()
	u, err := url.Parse(path)
	require.NoError(t, err)
	server := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	u.Host = listener.Addr().String()
	u.RawQuery = "sslmode=disable" // so that the proxy can read the answers
	p := &proxy{url: u.String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.connect(client, server)
		}
	}()
	return p
}

func (p *proxy) dropAnswers() { p.drop.Store(true) }

func (p *proxy) connect(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	}()
	answer := make([]byte, 1<<16)
	for {
		n, err := server.Read(answer)
		if err != nil {
			return
		}
		if bytes.Contains(answer[:n], []byte("COMMIT\x00")) && p.drop.CompareAndSwap(true, false) {
			p.dropped.Add(1)
			return
		}
		if _, err := client.Write(answer[:n]); err != nil {
			return
		}
	}
}
