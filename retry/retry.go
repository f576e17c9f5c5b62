// Package retry repeats attempts that fail with temporary errors.
package retry

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/grafana/dskit/backoff"
)

// Policy limits the attempts and the pauses between them.
type Policy struct {
	// Tries is the maximum number of consecutive attempts without progress.
	Tries int
	// MinPause is the shortest first pause. Pauses double up to MaxPause, with a random part.
	MinPause, MaxPause time.Duration
}

// Requests returns the policy for requests to a server.
func Requests(tries int) Policy {
	return Policy{Tries: tries, MinPause: 200 * time.Millisecond, MaxPause: 10 * time.Second}
}

// Outcome describes an attempt besides its error.
type Outcome struct {
	// Retry is set if the error is temporary.
	Retry bool
	// After is the shortest pause that the server permits.
	After time.Duration
	// Progress is set if the attempt achieved a part: the attempts are counted anew, and the
	// pauses begin with the shortest.
	Progress bool
}

// Failure describes why the attempts ended without success.
type Failure struct {
	// Err is the error of the last attempt.
	Err error
	// Canceled is the cause of the context's end; nil if it had not ended.
	Canceled error
	// Exhausted is set if the error was temporary, and the last of the permitted attempts.
	Exhausted bool
	// Tries is the number of attempts since the last progress.
	Tries int
	// After is the last pause that the server required.
	After time.Duration
}

// Request returns the error of a request: its description, the cause, and the attempts if they are exhausted. It
// returns nil if there is no failure.
func (f *Failure) Request(what string) error {
	switch {
	case f == nil:
		return nil
	case f.Canceled != nil:
		return fmt.Errorf("%s: %w", what, f.Canceled)
	case !f.Exhausted:
		return fmt.Errorf("%s: %w", what, f.Err)
	}
	required := ""
	if f.After > 0 {
		required = fmt.Sprintf(", retry-after %s", f.After)
	}
	return fmt.Errorf("%s: %w (%d tries%s)", what, f.Err, f.Tries, required)
}

// Do calls attempt until it succeeds or returns a permanent error, the attempts are exhausted,
// or the context ends. It returns nil after a success.
func (p Policy) Do(ctx context.Context, attempt func() (Outcome, error)) *Failure {
	pauses := backoff.New(ctx, backoff.Config{MinBackoff: p.MinPause, MaxBackoff: p.MaxPause})
	for n := 1; ; n++ {
		outcome, err := attempt()
		if err == nil {
			return nil
		}
		if outcome.Progress {
			n = 1
			pauses.Reset()
		}
		failure := &Failure{Err: err, Canceled: context.Cause(ctx), Tries: n, After: outcome.After}
		if failure.Canceled != nil || !outcome.Retry {
			return failure
		}
		if n >= p.Tries {
			failure.Exhausted = true
			return failure
		}
		pause := time.NewTimer(max(pauses.NextDelay(), outcome.After))
		select {
		case <-ctx.Done():
			pause.Stop()
			failure.Canceled = context.Cause(ctx)
			return failure
		case <-pause.C:
		}
	}
}

// WithTimeout returns a context for one attempt. Its cause reports the timeout.
func WithTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
}

// After returns the pause that a Retry-After header requires, which is at most an hour. It returns 0 if the header is
// absent or malformed.
func After(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, time.Hour)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, min(time.Until(at), time.Hour))
	}
	return 0
}
