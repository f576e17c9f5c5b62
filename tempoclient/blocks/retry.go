package blocks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/grafana/dskit/backoff"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// Storage fails for moments. What is asked of it is asked a few times, after growing
// pauses, and a body that stands still is given up.
const (
	storageTries = 4
	storagePause = 100 * time.Millisecond // before the second try
	storageStall = time.Minute
)

// mayPass says whether the same request may succeed a moment later.
func mayPass(err error) bool {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound, gcerrors.PermissionDenied, gcerrors.InvalidArgument, gcerrors.FailedPrecondition, gcerrors.Unimplemented:
		return false
	}
	return true
}

// retried calls try until it succeeds, fails for good, was called often enough or the
// context ends.
func (s *Store) retried(ctx context.Context, try func() error) error {
	pause := cmp.Or(s.pause, storagePause)
	wait := backoff.New(ctx, backoff.Config{MinBackoff: pause, MaxBackoff: 16 * pause})
	for n := 1; ; n++ {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case !mayPass(err):
			return err
		case n == storageTries:
			return fmt.Errorf("%w (after %d tries)", err, n)
		}
		wait.Wait()
	}
}

// fill reads a range of the object with take, which is given its body, and returns how
// many bytes it took. Where a body breaks off the next try goes on behind that.
func (r *objectReader) fill(ctx context.Context, off, length int64, take func(in io.Reader, done int64) (int64, error)) (int64, error) {
	done := int64(0)
	err := r.store.retried(ctx, func() error {
		r.stats.requests.Add(1)
		n, err := r.request(ctx, off+done, length-done, func(in io.Reader) (int64, error) { return take(in, done) })
		r.stats.bytes.Add(n)
		done += n
		return err
	})
	if err != nil {
		return done, fmt.Errorf("read %s, %d bytes at %d: %w", r.key, length, off, err)
	}
	return done, nil
}

// request is one try.
func (r *objectReader) request(ctx context.Context, off, length int64, take func(io.Reader) (int64, error)) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := cmp.Or(r.store.stall, storageStall)
	body := &body{timer: time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %s", stall)) }), stall: stall}
	defer func() {
		body.timer.Stop()
		cancel(nil)
	}()
	in, err := r.store.bucket.NewRangeReader(ctx, r.key, off, length, nil)
	if err != nil {
		return 0, stalled(ctx, err)
	}
	defer in.Close()
	body.in = in
	n, err := take(body)
	if err == nil && n != length || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, stalled(ctx, fmt.Errorf("the object ended or broke off after %d: %w", n, err))
	}
	return n, nil
}

// stalled says why a request ended, where a context ended it.
func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%w: %v", cause, err)
	}
	return err
}

// body is a body that is given up when nothing comes.
type body struct {
	in    *blob.Reader
	timer *time.Timer
	stall time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	if n > 0 {
		b.timer.Reset(b.stall)
	}
	return n, err
}
