package retry_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/retry"
)

var (
	errBusy = errors.New("busy")
	errStop = errors.New("interrupted")
)

// policy has pauses of 1 to 2 s, 2 to 4 s and then 4 s.
var policy = retry.Policy{Tries: 4, MinPause: time.Second, MaxPause: 4 * time.Second}

func TestAttemptsEndWithSuccessPermanentErrorOrMaximum(t *testing.T) {
	temporary := retry.Outcome{Retry: true}
	for _, tt := range []struct {
		name     string
		outcomes []retry.Outcome // of the failed attempts; a success follows them
		want     *retry.Failure
		attempts int
	}{
		{"success at once", nil, nil, 1},
		{"success after temporary errors", []retry.Outcome{temporary, temporary, temporary}, nil, 4},
		{"permanent error", []retry.Outcome{temporary, {}}, &retry.Failure{Err: errBusy, Tries: 2}, 2},
		{"exhausted", []retry.Outcome{temporary, temporary, temporary, {Retry: true, After: time.Minute}, temporary}, &retry.Failure{Err: errBusy, Exhausted: true, Tries: 4, After: time.Minute}, 4},
		{"progress restarts the count", []retry.Outcome{temporary, temporary, temporary, {Retry: true, Progress: true}, temporary, temporary, temporary}, &retry.Failure{Err: errBusy, Exhausted: true, Tries: 4}, 7},
		{"a permanent error ends in spite of progress", []retry.Outcome{{Progress: true}}, &retry.Failure{Err: errBusy, Tries: 1}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				failure := policy.Do(t.Context(), func() (retry.Outcome, error) {
					attempts++
					if attempts > len(tt.outcomes) {
						return retry.Outcome{}, nil
					}
					return tt.outcomes[attempts-1], errBusy
				})
				require.Equal(t, tt.want, failure)
				require.Equal(t, tt.attempts, attempts)
			})
		})
	}
}

func TestPausesGrowAndRespectTheServer(t *testing.T) {
	outcomes := []retry.Outcome{
		{Retry: true}, {Retry: true}, {Retry: true, After: time.Hour},
		{Retry: true, Progress: true, After: time.Millisecond}, {Retry: true},
	}
	atLeast := []time.Duration{time.Second, 2 * time.Second, time.Hour, time.Second, 2 * time.Second}
	atMost := []time.Duration{2 * time.Second, 4 * time.Second, time.Hour, 2 * time.Second, 4 * time.Second}
	synctest.Test(t, func(t *testing.T) {
		var times []time.Time
		require.Nil(t, policy.Do(t.Context(), func() (retry.Outcome, error) {
			times = append(times, time.Now())
			if len(times) > len(outcomes) {
				return retry.Outcome{}, nil
			}
			return outcomes[len(times)-1], errBusy
		}))
		for i := range outcomes {
			pause := times[i+1].Sub(times[i])
			require.GreaterOrEqual(t, pause, atLeast[i], "pause %d", i)
			require.LessOrEqual(t, pause, atMost[i], "pause %d", i)
		}
	})
}

func TestTheEndOfTheContextEndsTheAttempts(t *testing.T) {
	t.Run("during an attempt", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		failure := policy.Do(ctx, func() (retry.Outcome, error) {
			cancel(errStop)
			return retry.Outcome{Retry: true}, errBusy
		})
		require.Equal(t, &retry.Failure{Err: errBusy, Canceled: errStop, Tries: 1}, failure)
	})
	t.Run("during a pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			began := time.Now()
			time.AfterFunc(time.Minute, func() { cancel(errStop) })
			failure := policy.Do(ctx, func() (retry.Outcome, error) { return retry.Outcome{Retry: true, After: time.Hour}, errBusy })
			require.Equal(t, &retry.Failure{Err: errBusy, Canceled: errStop, Tries: 1, After: time.Hour}, failure)
			require.Equal(t, time.Minute, time.Since(began))
		})
	})
}

func TestATimeoutIsReportedAsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := retry.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		<-ctx.Done()
		require.EqualError(t, context.Cause(ctx), "no answer within 30s")
	})
}

func TestNoServerCanRequireAPauseOfMoreThanAnHour(t *testing.T) {
	after := func(value string) time.Duration { return retry.After(http.Header{"Retry-After": {value}}) }
	require.Equal(t, 7*time.Second, after("7"))
	require.Equal(t, time.Hour, after("86400"))
	require.Equal(t, time.Hour, after(time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat)))
	for _, none := range []string{"", "soon", "-5", "0", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)} {
		require.Zero(t, after(none), none)
	}
	require.Zero(t, retry.After(nil))
}

func TestTheErrorOfARequestNamesTheCauseAndTheAttempts(t *testing.T) {
	require.NoError(t, (*retry.Failure)(nil).Request("GET /a"))
	for _, tt := range []struct {
		failure retry.Failure
		cause   error
		want    string
	}{
		{retry.Failure{Err: errBusy, Canceled: errStop, Tries: 2}, errStop, "GET /a: interrupted"},
		{retry.Failure{Err: errBusy, Tries: 2}, errBusy, "GET /a: busy"},
		{retry.Failure{Err: errBusy, Exhausted: true, Tries: 4}, errBusy, "GET /a: busy (4 tries)"},
		{retry.Failure{Err: errBusy, Exhausted: true, Tries: 4, After: time.Minute}, errBusy, "GET /a: busy (4 tries, retry-after 1m0s)"},
	} {
		err := tt.failure.Request("GET /a")
		require.EqualError(t, err, tt.want)
		require.ErrorIs(t, err, tt.cause)
	}
}
