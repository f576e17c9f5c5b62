package blocks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"gocloud.dev/gcerrors"

	"github.com/betracehq/betrace/retry"
)

// Storage has temporary failures. A request is tried a few times, after growing pauses, and ended if it
// stalls.
const (
	storageTries = 4
	storagePause = 100 * time.Millisecond // before the second try
	storageStall = time.Minute
)

// mayPass reports whether the same request may succeed a moment later.
func mayPass(err error) bool {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound, gcerrors.PermissionDenied, gcerrors.InvalidArgument, gcerrors.FailedPrecondition, gcerrors.Unimplemented:
		return false
	}
	return true
}

// retried calls try until it succeeds, fails permanently, the attempts are used up or the context ends.
func (s *Store) retried(ctx context.Context, try func() error) error {
	return s.retriedOn(ctx, func() (bool, error) { return false, try() })
}

// retriedOn is retried for requests that are resumed: an attempt that made progress does not count.
func (s *Store) retriedOn(ctx context.Context, try func() (gotOn bool, err error)) error {
	pause := cmp.Or(s.pause, storagePause)
	policy := retry.Policy{Tries: storageTries, MinPause: pause, MaxPause: 16 * pause}
	failure := policy.Do(ctx, func() (retry.Outcome, error) {
		gotOn, err := try()
		return retry.Outcome{Retry: err != nil && mayPass(err), Progress: gotOn}, err
	})
	switch {
	case failure == nil:
		return nil
	case failure.Canceled != nil:
		return fmt.Errorf("%w (%w)", failure.Err, failure.Canceled)
	case failure.Exhausted:
		return fmt.Errorf("%w (after %d tries)", failure.Err, failure.Tries)
	}
	return failure.Err
}

// fill reads a range of the object with take, which receives the body and returns the number of bytes
// that it read. If a body breaks off, the next attempt resumes after these bytes.
func (r *objectReader) fill(ctx context.Context, off, length int64, take func(in io.Reader, done int64) (int64, error)) (int64, error) {
	done := int64(0)
	err := r.store.retriedOn(ctx, func() (bool, error) {
		r.stats.requests.Add(1)
		n, err := r.request(ctx, off+done, length-done, func(in io.Reader) (int64, error) { return take(in, done) })
		r.stats.bytes.Add(n)
		done += n
		return n > 0, err
	})
	if err != nil {
		return done, fmt.Errorf("read %s, %d bytes at %d: %w", r.key, length, off, err)
	}
	return done, nil
}

// request makes one attempt.
func (r *objectReader) request(ctx context.Context, off, length int64, take func(io.Reader) (int64, error)) (int64, error) {
	ctx, w := r.store.watch(ctx)
	defer w.end()
	in, err := r.store.bucket.NewRangeReader(ctx, r.key, off, length, nil)
	if err != nil {
		return 0, w.why(ctx, err)
	}
	defer in.Close()
	n, err := take(watched{in, w})
	if err == nil && n != length || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, w.why(ctx, fmt.Errorf("the object ended or broke off after %d: %w", n, err))
	}
	return n, nil
}

// watch ends a request that stalls.
type watch struct {
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (s *Store) watch(ctx context.Context) (context.Context, *watch) {
	w := &watch{stall: cmp.Or(s.stall, storageStall)}
	ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(w.stall, func() { w.cancel(fmt.Errorf("no data for %s", w.stall)) })
	return ctx, w
}

// moved records that data was received.
func (w *watch) moved() { w.timer.Reset(w.stall) }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// why returns the cause if the request's context, which watch returned, has ended, and err otherwise.
func (w *watch) why(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w: %v", cause, err) //nolint:errorlint // callers decide by the cause
	}
	return err
}

// watched is a body that is monitored for stalls.
type watched struct {
	in io.Reader
	w  *watch
}

func (b watched) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	if n > 0 {
		b.w.moved()
	}
	return n, err
}
