package tempoclient

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
)

// maxExportBytes bounds one OTLP message. OTLP receivers accept 4 MiB by default.
const maxExportBytes = 3 << 20

// WriterConfig configures the endpoint for spans. Zero fields have defaults.
type WriterConfig struct {
	// Addr is host:port for OTLP over gRPC, or the URL of an OTLP/HTTP endpoint. If the URL has no path,
	// /v1/traces is added.
	Addr   string
	Access Access
	// RequestTimeout bounds one attempt of a request. Default 30 s.
	RequestTimeout time.Duration
	// Tries is the maximum number of attempts for a retryable request. Default 5.
	Tries int
}

// Writer writes spans to Tempo or another OTLP receiver.
type Writer struct {
	addr    string
	retrier retrier
	client  *http.Client
	conn    *grpc.ClientConn
}

// NewWriter returns a writer. It connects on its first request.
func NewWriter(config WriterConfig) (*Writer, error) {
	config.RequestTimeout = cmp.Or(config.RequestTimeout, 30*time.Second)
	config.Tries = cmp.Or(config.Tries, 5)
	w := &Writer{addr: config.Addr, retrier: retrier{tries: config.Tries, timeout: config.RequestTimeout, pace: new(pace)}}
	var err error
	if strings.Contains(config.Addr, "://") {
		u, err := url.Parse(config.Addr)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("OTLP address %q: use host:port, or http://host:port for OTLP/HTTP", config.Addr)
		}
		if strings.Trim(u.Path, "/") == "" {
			u.Path = "/v1/traces"
		}
		w.addr = u.String()
		w.client, err = config.Access.HTTPClient()
		if err != nil {
			return nil, fmt.Errorf("OTLP: %w", err)
		}
		return w, nil
	}
	if host, port, ok := strings.Cut(config.Addr, ":"); !ok || host == "" || port == "" {
		return nil, fmt.Errorf("OTLP address %q: use host:port, or http://host:port for OTLP/HTTP", config.Addr)
	}
	if w.conn, err = config.Access.dial(config.Addr); err != nil {
		return nil, fmt.Errorf("OTLP: %w", err)
	}
	return w, nil
}

// Close ends the writer's connections.
func (w *Writer) Close() error {
	if w.conn != nil {
		return w.conn.Close()
	}
	w.client.CloseIdleConnections()
	return nil
}

// Export sends the spans, in as many messages as their size requires. An error means that some spans may
// not have been accepted. A nil error does not mean that they are stored: read them back.
func (w *Writer) Export(ctx context.Context, td ptrace.Traces) error {
	if n := td.ResourceSpans().Len(); n > 1 && (&ptrace.ProtoMarshaler{}).TracesSize(td) > maxExportBytes {
		first, second := ptrace.NewTraces(), ptrace.NewTraces()
		for i, rs := range td.ResourceSpans().All() {
			half := first
			if i >= n/2 {
				half = second
			}
			rs.CopyTo(half.ResourceSpans().AppendEmpty())
		}
		if err := w.Export(ctx, first); err != nil {
			return err
		}
		return w.Export(ctx, second)
	}
	request := ptraceotlp.NewExportRequestFromTraces(td)
	return w.retrier.do(ctx, "OTLP to "+w.addr, func(ctx context.Context) error {
		var response ptraceotlp.ExportResponse
		var err error
		if w.conn != nil {
			if response, err = ptraceotlp.NewGRPCClient(w.conn).Export(ctx, request); err != nil {
				err = ofGRPC(ctx, w.conn, err)
			}
		} else {
			response, err = w.post(ctx, request)
		}
		if err != nil {
			return err
		}
		if n := response.PartialSuccess().RejectedSpans(); n > 0 {
			return fmt.Errorf("%d of %d spans were rejected: %s", n, td.SpanCount(), response.PartialSuccess().ErrorMessage())
		}
		return nil
	})
}

func (w *Writer) post(ctx context.Context, request ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	response := ptraceotlp.NewExportResponse()
	body, err := request.MarshalProto()
	if err != nil {
		return response, fmt.Errorf("encode OTLP: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.addr, bytes.NewReader(body))
	if err != nil {
		return response, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := w.client.Do(req)
	if err != nil {
		return response, ofTransport(ctx, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return response, fmt.Errorf("404 Not Found: check that %s is an OTLP/HTTP endpoint", w.addr)
	}
	if resp.StatusCode >= 300 {
		return response, ofHTTP(resp)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return response, &failure{err: fmt.Errorf("the answer broke off: %w", err), retry: true}
	}
	if err := response.UnmarshalProto(answer); err != nil {
		return response, fmt.Errorf("the answer is not OTLP: check that %s is an OTLP/HTTP endpoint: %w", w.addr, err)
	}
	return response, nil
}
