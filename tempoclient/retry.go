package tempoclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/betracehq/betrace/retry"
)

// ErrNotFound reports that Tempo has no trace with the ID.
var ErrNotFound = errors.New("no such trace")

// failure is a failed request, with the possible reactions.
type failure struct {
	err        error
	retry      bool          // the same request may succeed later
	after      time.Duration // minimum time before the retry
	tooLarge   bool          // a smaller request may succeed
	overloaded bool          // 429 and similar: the server wants fewer requests
	fatal      bool          // every further request will fail in the same way
	noStream   bool          // the server does not stream
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func isTooLarge(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.tooLarge
}

func isOverloaded(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.overloaded
}

func isFatal(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.fatal
}

func isNoStream(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.noStream
}

// retrier retries requests after retryable failures.
type retrier struct {
	tries   int
	timeout time.Duration
	pace    *pace
	// requests and retries are counted for reports.
	requests, retries atomic.Int64
}

// do calls try until it succeeds, fails permanently, or the attempts are used up. It waits between
// attempts, longer each time, and at least as long as the server requests.
func (r *retrier) do(ctx context.Context, what string, try func(ctx context.Context) error) error {
	again := false
	failed := retry.Requests(r.tries).Do(ctx, func() (retry.Outcome, error) {
		if again {
			r.retries.Add(1)
		}
		again = true
		done, err := r.pace.turn(ctx)
		if err != nil {
			return retry.Outcome{}, err
		}
		r.requests.Add(1)
		tryCtx, cancel := retry.WithTimeout(ctx, r.timeout)
		defer cancel()
		err = try(tryCtx)
		done(isOverloaded(err) || err != nil && tryCtx.Err() != nil && ctx.Err() == nil)
		f := (*failure)(nil)
		if !errors.As(err, &f) {
			return retry.Outcome{}, err
		}
		return retry.Outcome{Retry: f.retry, After: f.after}, err
	})
	return failed.Request(what)
}

// ofTransport classifies the failure of a request that received no answer.
func ofTransport(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return &failure{err: cause, retry: true}
	}
	f := &failure{err: err, retry: true}
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		f.err, f.retry, f.fatal = fmt.Errorf("%w: check the host name", err), false, true
	case errors.As(err, &op) && op.Op == "dial":
		f.err, f.fatal = fmt.Errorf("%w: check that the server is running, and its address", err), true
	case strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "x509: "):
		f.err, f.retry, f.fatal = fmt.Errorf("%w: check the tls settings", err), false, true
	}
	return f
}

// ofHTTP classifies an answer whose status is not a success.
func ofHTTP(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 500))
	text := strings.TrimSpace(string(body))
	if err != nil || strings.HasPrefix(text, "<") {
		text = http.StatusText(resp.StatusCode)
	}
	f := &failure{err: fmt.Errorf("%d %s", resp.StatusCode, text)}
	remedy := func(format string, args ...any) { f.err = fmt.Errorf("%w: "+format, append([]any{f.err}, args...)...) }
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		f.fatal = true
		remedy("check the credentials and the tenant")
	case code == http.StatusNotFound:
		f.fatal = true
		remedy(pathRemedy, resp.Request.URL.Host)
	case code == http.StatusTooManyRequests:
		f.retry, f.overloaded, f.after = true, true, retry.After(resp.Header)
		remedy("lower --concurrency or raise the tenant's limit")
	case isLimitText(text):
		f.fatal = true
		remedy(limitRemedy)
	case code == http.StatusRequestEntityTooLarge || isSizeText(text):
		f.tooLarge = true
	case code >= 500:
		f.retry, f.after = true, retry.After(resp.Header)
		f.overloaded = code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout
		remedy("see the server's log")
	}
	return f
}

// isSizeText recognises Tempo's messages about a request that is too large.
func isSizeText(text string) bool {
	return strings.Contains(text, "larger than the max") || strings.Contains(text, "larger than max") || strings.Contains(text, "range specified by start and end exceeds")
}

// sizeRemedy is for one trace, or the least part of a search, that is too large.
const sizeRemedy = "raise Tempo's server.grpc_server_max_recv_msg_size, server.grpc_server_max_send_msg_size and querier.frontend_worker.grpc_client_config.max_send_msg_size"

// isLimitText recognises Tempo's words for a search limit above its own, which no
// smaller part of the range changes.
func isLimitText(text string) bool { return strings.Contains(text, "exceeds max limit") }

const pathRemedy = "check that %s is the API's address, with the path before /api if there is one"

const limitRemedy = "lower the search limit (--search-limit) or raise Tempo's (query_frontend.search.max_result_limit)"

// wantType refuses an answer of another type, such as a login page.
func wantType(resp *http.Response, want string) error {
	have, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil && have == want {
		return nil
	}
	return &failure{fatal: true, err: fmt.Errorf("the answer is %q, not %s: check that %s is a Tempo, and that no proxy before it requires a login", resp.Header.Get("Content-Type"), want, resp.Request.URL.Host)}
}

// ofGRPC classifies a gRPC error.
func ofGRPC(ctx context.Context, conn *grpc.ClientConn, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return &failure{err: cause, retry: true}
	}
	s := status.Convert(err)
	if deadline, ok := ctx.Deadline(); ok && s.Code() == codes.DeadlineExceeded && time.Until(deadline) < time.Second {
		<-ctx.Done() // the server also knows the deadline, and noticed it first
		return &failure{err: context.Cause(ctx), retry: true}
	}
	f := &failure{err: fmt.Errorf("%s: %s", s.Code(), s.Message())}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			f.retry, f.after = true, info.GetRetryDelay().AsDuration()
		}
	}
	has := func(part string) bool { return strings.Contains(s.Message(), part) }
	switch {
	case isLimitText(s.Message()):
		f.fatal = true
		f.err = fmt.Errorf("%w: "+limitRemedy, f.err)
	case isSizeText(s.Message()):
		f.tooLarge = true
	case s.Code() == codes.Unimplemented, has("HTTP status code"), has("http2: "), has("error reading server preface"):
		f.noStream = true
	case s.Code() == codes.Unavailable && (has("no application protocol") || has("missing selected ALPN")):
		f.noStream = true // TLS without HTTP/2
	case s.Code() == codes.Unavailable && has("authentication handshake failed"):
		f.fatal = true
		f.err = fmt.Errorf("%s: %w: check the tls settings", conn.Target(), f.err)
	case s.Code() == codes.Unavailable && (has("no such host") || has("name resolver error")):
		f.fatal = true
		f.err = fmt.Errorf("%s: %w: check the host name", conn.Target(), f.err)
	case s.Code() == codes.Unavailable:
		f.retry = true
		if has("connect: ") {
			f.fatal = true
			f.err = fmt.Errorf("%w: check that the server is running, and its address", f.err)
		}
	case s.Code() == codes.Unauthenticated, s.Code() == codes.PermissionDenied:
		f.fatal = true
		f.err = fmt.Errorf("%w: check the credentials and the tenant", f.err)
	case s.Code() == codes.ResourceExhausted:
		f.retry, f.overloaded = true, true
		f.err = fmt.Errorf("%w: lower --concurrency or raise the tenant's limit", f.err)
	case s.Code() == codes.Internal, s.Code() == codes.Unknown, s.Code() == codes.DeadlineExceeded, s.Code() == codes.Aborted, s.Code() == codes.Canceled:
		f.retry = true
	}
	return f
}
