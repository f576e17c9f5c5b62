package tempoclient_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/tempoclient"
)

func TestCredentialsDoNotFollowARedirectOutOfTLS(t *testing.T) {
	t.Parallel()
	var safe, plain http.Header
	open := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { plain = r.Header.Clone() }))
	t.Cleanup(open.Close)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		safe = r.Header.Clone()
		http.Redirect(w, r, open.URL, http.StatusFound) // the same host, 127.0.0.1
	}))
	t.Cleanup(server.Close)
	client, err := tempoclient.Access{Tenant: "a", BearerToken: "s3cret", InsecureSkipVerify: true}.HTTPClient()
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "Bearer s3cret", safe.Get("Authorization"))
	require.NotNil(t, plain)
	require.Empty(t, plain.Get("Authorization"))
	require.Empty(t, plain.Get("X-Scope-OrgID"))
}
