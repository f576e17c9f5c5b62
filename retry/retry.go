// Package retry repeats attempts that fail with temporary errors.
package retry

import (
	"context"
	"fmt"
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
