package tempoclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/betracehq/betrace/tempoclient/tempopb"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
)

// Client reads traces from one Tempo. It is safe for concurrent use.
type Client struct {
	config Config
	http   *http.Client
	conn   *grpc.ClientConn
	stream tempopb.StreamingQuerierClient
	// overHTTP is set after Tempo has turned out not to stream.
	overHTTP atomic.Bool
	retrier  retrier
	bytes    atomic.Int64
	// spansPerSet is the requested number of spans in a span set.
	spansPerSet atomic.Int64
}

// New returns a client. It connects on its first request.
func New(config Config) (*Client, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, retrier: retrier{tries: config.Tries, timeout: config.RequestTimeout, pace: newPace(&config)}}
	c.spansPerSet.Store(spansPerSet)
	if c.http, err = config.Access.HTTPClient(); err != nil {
		return nil, fmt.Errorf("tempo: %w", err)
	}
	if c.conn, err = config.Access.dial(config.GRPCAddr, grpc.WithStatsHandler(countMessages{c})); err != nil {
		return nil, fmt.Errorf("tempo: %w", err)
	}
	c.stream = tempopb.NewStreamingQuerierClient(c.conn)
	return c, nil
}

// Close ends the client's connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return c.conn.Close()
}

// PartialError reports that Tempo returned only a part of a trace because of its size.
type PartialError struct {
	Trace   *trace.Trace // the part
	Message string       // Tempo's message
}

// Error returns the message.
func (e *PartialError) Error() string {
	return fmt.Sprintf("trace %s: tempo returned only a part of it (%d spans): %s: raise the tenant's max_bytes_per_trace", e.Trace.ID, len(e.Trace.Spans), e.Message)
}

// Trace returns the whole trace with this ID, in normal form. It returns [ErrNotFound] if there is no
// such trace, and a [*PartialError] if Tempo returns a part of it.
func (c *Client) Trace(ctx context.Context, id trace.ID) (*trace.Trace, error) {
	var t *trace.Trace
	err := c.retrier.do(ctx, fmt.Sprintf("tempo trace %s", id), func(ctx context.Context) error {
		var err error
		t, err = c.fetch(ctx, id)
		return err
	})
	return t, err
}

func (c *Client) fetch(ctx context.Context, id trace.ID) (*trace.Trace, error) {
	resp, err := c.get(ctx, "/api/v2/traces/"+id.String(), "application/protobuf")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		// For an unknown path, Tempo's router responds with a page, as other servers do. For an unknown
		// ID Tempo does not.
		head, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // a read error leaves enough to decide
		if page := strings.TrimSpace(string(head)); strings.HasPrefix(page, "<") || strings.Contains(page, "page not found") {
			return nil, &failure{fatal: true, err: fmt.Errorf("404 Not Found: "+pathRemedy, resp.Request.URL.Host)}
		}
		return nil, ErrNotFound
	}
	if resp.StatusCode != http.StatusOK {
		if err = ofHTTP(resp); isTooLarge(err) {
			err = fmt.Errorf("%w: %s", err, sizeRemedy)
		}
		return nil, err
	}
	if err := wantType(resp, "application/protobuf"); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.config.MaxTraceBytes+1))
	c.received(len(body))
	if err != nil {
		return nil, &failure{err: fmt.Errorf("the answer broke off after %d bytes: %w", len(body), err), retry: true}
	}
	if int64(len(body)) > c.config.MaxTraceBytes {
		return nil, fmt.Errorf("the trace has over %d bytes: raise MaxTraceBytes", c.config.MaxTraceBytes)
	}
	var envelope tempopb.TraceByIDResponse
	if err := proto.Unmarshal(body, &envelope); err != nil {
		return nil, &failure{err: fmt.Errorf("the answer is not a trace: %w", err), retry: true}
	}
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(envelope.GetTrace())
	if err != nil {
		return nil, &failure{err: fmt.Errorf("the answer is not OTLP: %w", err), retry: true}
	}
	restoreSharedIDs(td)
	traces, err := otlp.ToTraces(td)
	switch {
	case err != nil:
		return nil, err
	case len(traces) == 0:
		return nil, ErrNotFound
	case len(traces) > 1 || traces[0].ID != id:
		// The ingester of Tempo 2.8 does this occasionally for concurrent requests for traces of an
		// incomplete block, because its map of rows (IDMap) is not safe for concurrent use.
		return nil, &failure{err: fmt.Errorf("the answer contains %d traces, the first %s", len(traces), traces[0].ID), retry: true}
	case envelope.GetStatus() == tempopb.PartialStatus_PARTIAL:
		return nil, &PartialError{Trace: traces[0], Message: envelope.GetMessage()}
	}
	return traces[0], nil
}

func (c *Client) get(ctx context.Context, path, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.config.URL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, ofTransport(ctx, errors.Unwrap(err))
	}
	return resp, nil
}
