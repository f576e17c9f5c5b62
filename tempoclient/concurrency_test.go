package tempoclient

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The number of concurrent requests to an overloaded server is halved once for all requests that were
// sent concurrently, and grows again with its answers.
func TestAnOverloadedTempoIsAskedLessAtATime(t *testing.T) {
	p := newPace(&Config{Concurrency: 8})
	var done []func(bool)
	for range 8 {
		d, err := p.turn(t.Context())
		require.NoError(t, err)
		done = append(done, d)
	}
	for _, d := range done {
		d(true)
	}
	require.EqualValues(t, 1, p.times())
	synctest.Test(t, func(t *testing.T) {
		p := newPace(&Config{Concurrency: 8})
		p.allowed = 4
		var mu sync.Mutex
		under, most := 0, 0
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				done, err := p.turn(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				under++
				most = max(most, under)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				under--
				mu.Unlock()
				done(false)
			})
		}
		wg.Wait()
		require.Equal(t, 8, most)
		require.InDelta(t, 8, p.allowed, 0.01)
	})
	for range 10 {
		d, err := p.turn(t.Context())
		require.NoError(t, err)
		d(true)
	}
	require.InDelta(t, 1, p.allowed, 0, "at least one request must be allowed")
}

func TestRequestsAndBytesASecondAreBounded(t *testing.T) {
	for _, test := range []struct {
		name  string
		bound Config
		bytes int64
		want  time.Duration
	}{
		{"no bound", Config{Concurrency: 1}, 1000, 0},
		{"requests", Config{Concurrency: 1, MaxRequestsPerSecond: 5}, 0, 1800 * time.Millisecond},
		{"bytes", Config{Concurrency: 1, MaxBytesPerSecond: 100}, 1000, 90 * time.Second},
		{"both", Config{Concurrency: 4, MaxRequestsPerSecond: 1, MaxBytesPerSecond: 1e9}, 1000, 9 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPace(&test.bound)
				start := time.Now()
				for range 10 {
					done, err := p.turn(t.Context())
					require.NoError(t, err)
					p.bytes.book(test.bytes)
					done(false)
				}
				require.Equal(t, test.want, time.Since(start).Round(time.Millisecond))
			})
		})
	}
}

func TestAWaitForATurnEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(&Config{Concurrency: 1, MaxRequestsPerSecond: 0.001})
		stop := errors.New("stop")
		first, err := p.turn(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(stop) })
		_, err = p.turn(ctx)
		require.ErrorIs(t, err, stop)
		first(false)
		ctx, cancel = context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(stop) })
		_, err = p.turn(ctx) // a free slot, but not yet the time
		require.ErrorIs(t, err, stop)
		require.Zero(t, p.underway)
	})
}
