package tempoclient

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNoServerCanAskForAWaitOfMoreThanAnHour(t *testing.T) {
	require.Equal(t, 7*time.Second, retryAfter("7"))
	require.Equal(t, time.Hour, retryAfter("86400"))
	require.Equal(t, time.Hour, retryAfter(time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat)))
	for _, nothing := range []string{"", "soon", "-5", "0", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)} {
		require.Zero(t, retryAfter(nothing), nothing)
	}
}
