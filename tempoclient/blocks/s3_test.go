package blocks_test

import (
	"cmp"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

// withoutCredentials removes credentials that the machine of the test may have.
func withoutCredentials(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
		"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY",
	} {
		t.Setenv(name, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func tempoConfig(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "tempo.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestBlocksOnS3GiveWhatWasSent(t *testing.T) {
	w := newTenantOf(t, stack.Options{Tempo: true, Multitenant: true, FlushOnly: true, S3: true}, "on-s3")
	o := tracetest.Mixed(5, 150).ForTempo()
	o.Start, o.Window = time.Now().Add(-2*time.Hour), time.Hour
	var c otlp.Collector
	spans := int64(0)
	for g := range tracetest.New(o).All() {
		for _, td := range g.Batches {
			require.NoError(t, c.Add(td))
		}
		w.send(t, g.Batches...)
		spans += int64(g.Spans)
	}
	w.flush(t, spans)
	sent := c.Traces()
	config, err := os.ReadFile(w.TempoConfig)
	require.NoError(t, err)
	inEnvironment := strings.NewReplacer(w.S3.AccessKey, "${KEY_OF_TEMPO}", w.S3.SecretKey, "${SECRET_OF_TEMPO}").Replace(string(config))
	absent := strings.NewReplacer(w.S3.AccessKey, "", w.S3.SecretKey, "").Replace(string(config))
	keys := []string{"KEY_OF_TEMPO=" + w.S3.AccessKey, "SECRET_OF_TEMPO=" + w.S3.SecretKey}

	for name, tt := range map[string]struct {
		config, url string
		environment []string
	}{
		"keys in the file":                   {config: string(config)},
		"variables in the file":              {config: inEnvironment, environment: keys},
		"keys in the environment":            {config: absent, environment: w.S3.Env()},
		"a URL, and keys in the environment": {url: w.TempoBlocks, environment: w.S3.Env()},
		"the file's, not the environment's":  {config: string(config), environment: []string{"AWS_ACCESS_KEY_ID=other", "AWS_SECRET_ACCESS_KEY=other"}},
	} {
		t.Run(name, func(t *testing.T) {
			withoutCredentials(t)
			for _, v := range tt.environment {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			store, err := open(t, tt.config, tt.url)
			require.NoError(t, err)
			defer store.Close()
			got, report := readAll(t, store, blocks.Request{Tenant: w.name, Needs: columnar.Needs{All: true}})
			require.Empty(t, report.Problems)
			wantEqual(t, sent, got)
		})
	}

	t.Run("a wrong secret", func(t *testing.T) {
		withoutCredentials(t)
		wrong := strings.Replace(string(config), w.S3.SecretKey, "not-the-secret", 1)
		store, err := blocks.OpenTempo(t.Context(), tempoConfig(t, wrong))
		require.NoError(t, err)
		defer store.Close()
		_, err = store.List(t.Context(), w.name)
		require.ErrorContains(t, err, "blocks at s3://traces?")
		require.NotContains(t, err.Error(), "not-the-secret")
	})
}

func open(t *testing.T, config, address string) (*blocks.Store, error) {
	t.Helper()
	if address != "" {
		return blocks.Open(t.Context(), address)
	}
	return blocks.OpenTempo(t.Context(), tempoConfig(t, config))
}

// seen is the part of a request that depends on the options of the bucket.
type seen struct{ key, token, region, host, path string }

// s3Server answers every listing of a bucket with an empty one.
func s3Server(requests *[]seen) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// AWS4-HMAC-SHA256 Credential=KEY/20260301/us-east-1/s3/aws4_request, …
		_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		parts := append(strings.Split(scope, "/"), "", "", "")
		*requests = append(*requests, seen{parts[0], r.Header.Get("X-Amz-Security-Token"), parts[2], r.Host, r.URL.Path})
		fmt.Fprint(w, `<ListBucketResult><Name>traces</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>`)
	})
}

func TestABucketIsOpenedAsTempoOpensIt(t *testing.T) {
	for name, tt := range map[string]struct {
		config      string // content of storage.trace.s3
		environment map[string]string
		want        seen
		err         string
	}{
		"keys of the file": {
			config: "access_key: K, secret_key: hidden, session_token: T, region: eu-west-1",
			want:   seen{key: "K", token: "T", region: "eu-west-1"},
		},
		"the file before the environment": {
			config:      "access_key: K, secret_key: hidden",
			environment: map[string]string{"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_SESSION_TOKEN": "T2", "AWS_REGION": "eu-north-1"},
			want:        seen{key: "K", region: "eu-north-1"},
		},
		"AWS before MinIO": {
			environment: map[string]string{"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_SESSION_TOKEN": "T2", "MINIO_ACCESS_KEY": "M", "MINIO_SECRET_KEY": "hidden"},
			want:        seen{key: "E", token: "T2"},
		},
		"MinIO": {
			environment: map[string]string{"MINIO_ACCESS_KEY": "M", "MINIO_SECRET_KEY": "hidden"},
			want:        seen{key: "M"},
		},
		"MinIO's root": {
			environment: map[string]string{"MINIO_ROOT_USER": "R", "MINIO_ROOT_PASSWORD": "hidden"},
			want:        seen{key: "R"},
		},
		"a variable of the file": {
			config:      "access_key: '${KEY}', secret_key: '${SECRET}'",
			environment: map[string]string{"KEY": "V", "SECRET": "hidden"},
			want:        seen{key: "V"},
		},
		"half of a pair":  {config: "access_key: K", err: "storage.trace.s3.access_key is set and secret_key is empty: set both or none"},
		"the other half":  {config: "secret_key: hidden", err: "storage.trace.s3.secret_key is set and access_key is empty: set both or none"},
		"none":            {err: "no credentials: "},
		"signature 2":     {config: "access_key: K, secret_key: hidden, signature_v2: true", err: "storage.trace.s3.signature_v2 is true: requests are signed by version 4 only"},
		"no certificates": {config: "access_key: K, secret_key: hidden, tls_ca_path: /none.pem", err: "/none.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			withoutCredentials(t)
			for name, value := range tt.environment {
				t.Setenv(name, value)
			}
			var requests []seen
			server := httptest.NewServer(s3Server(&requests))
			defer server.Close()
			address := strings.TrimPrefix(server.URL, "http://")
			text := strings.TrimSuffix(fmt.Sprintf("endpoint: '%s', bucket: traces, insecure: true, prefix: a/b, %s", address, tt.config), ", ")
			store, err := blocks.OpenTempo(t.Context(), tempoConfig(t, "storage: {trace: {backend: s3, s3: {"+text+"}}}"))
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				require.NotContains(t, err.Error(), "hidden")
				return
			}
			require.NoError(t, err)
			defer store.Close()
			tenants, err := store.Tenants(t.Context())
			require.NoError(t, err)
			require.Empty(t, tenants)
			tt.want.host, tt.want.path = address, "/traces"
			tt.want.region = cmp.Or(tt.want.region, "us-east-1")
			require.Equal(t, []seen{tt.want}, requests)
		})
	}
}

func TestTheCertificateOfAServerIsCheckedAsTempoChecksIt(t *testing.T) {
	withoutCredentials(t)
	var requests []seen
	server := httptest.NewTLSServer(s3Server(&requests))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	for name, tt := range map[string]struct {
		config  string
		trusted bool
	}{
		"trusted":     {"tls_ca_path: " + ca, true},
		"not checked": {"tls_insecure_skip_verify: true", true},
		"by name":     {"tls_server_name: example.com, tls_ca_path: " + ca, true},
		"wrong name":  {"tls_server_name: example.org, tls_ca_path: " + ca, false},
		"not trusted": {"tls_min_version: VersionTLS12", false},
	} {
		address := strings.TrimPrefix(server.URL, "https://")
		store, err := blocks.OpenTempo(t.Context(), tempoConfig(t, fmt.Sprintf(
			"storage: {trace: {backend: s3, s3: {endpoint: '%s', bucket: traces, access_key: K, secret_key: hidden, %s}}}", address, tt.config)))
		require.NoError(t, err, name)
		_, err = store.Impatient(time.Millisecond, time.Minute).Tenants(t.Context())
		if tt.trusted {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, "certificate", name)
			require.NotContains(t, err.Error(), "hidden", name)
		}
		require.NoError(t, store.Close())
	}
}

func TestTheRegionOfAnEndpointOfAWSIsKnown(t *testing.T) {
	for endpoint, want := range map[string]string{
		"s3.eu-central-1.amazonaws.com":                 "eu-central-1",
		"s3.dualstack.us-east-2.amazonaws.com":          "us-east-2",
		"s3-us-west-2.amazonaws.com":                    "us-west-2",
		"s3-fips.us-gov-west-1.amazonaws.com":           "us-gov-west-1",
		"s3.fips.example.org":                           "us-east-1",
		"s3.cn-north-1.amazonaws.com.cn":                "cn-north-1",
		"bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com": "eu-west-1",
		"s3.amazonaws.com":                              "us-east-1",
		"minio:9000":                                    "us-east-1",
	} {
		require.Equal(t, want, blocks.RegionOf(endpoint), endpoint)
	}
}

func TestAURLWithCredentialsIsRefusedWithoutRepeatingThem(t *testing.T) {
	for _, url := range []string{
		"s3://KEY:hidden@traces?region=eu-west-1", "s3://traces?secret_key=hidden", "s3://traces?access_key=hidden&region=x", "azblob://traces?sas_token=hidden",
		"s3://KEY:hid%den@traces",
	} {
		_, err := blocks.Open(t.Context(), url)
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "hid", url)
	}
	withoutCredentials(t)
	_, err := blocks.Open(t.Context(), "s3://traces?region=eu-west-1")
	require.ErrorContains(t, err, "blocks at s3://traces?region=eu-west-1: no credentials: ")
	require.ErrorContains(t, err, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	store, err := blocks.Open(t.Context(), "s3://traces?region=eu-west-1&anonymous=true")
	require.NoError(t, err)
	require.NoError(t, store.Close())
}

func TestABucketIsOpenedByItsURL(t *testing.T) {
	withoutCredentials(t)
	var requests []seen
	server := httptest.NewServer(s3Server(&requests))
	defer server.Close()
	endpoint := "endpoint=" + url.QueryEscape(server.URL)
	address := strings.TrimPrefix(server.URL, "http://")
	t.Setenv("AWS_ACCESS_KEY_ID", "E")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hidden")
	for query, want := range map[string]seen{
		"&use_path_style=true":                                 {key: "E", region: "us-east-1", host: address, path: "/traces"},
		"&s3ForcePathStyle=true&region=eu-west-1&prefix=a%2Fb": {key: "E", region: "eu-west-1", host: address, path: "/traces"},
		"&use_path_style=true&anonymous=true":                  {host: address, path: "/traces"},
	} {
		requests = nil
		store, err := blocks.Open(t.Context(), "s3://traces?"+endpoint+query)
		require.NoError(t, err, query)
		_, err = store.Tenants(t.Context())
		require.NoError(t, err, query)
		require.Equal(t, []seen{want}, requests, query)
		require.NoError(t, store.Close())
	}
	for query, want := range map[string]string{
		"&use_path_style=perhaps": `use_path_style is "perhaps": set it to true or false`,
		"&what=1":                 `unknown query parameter "what"`,
	} {
		_, err := blocks.Open(t.Context(), "s3://traces?"+endpoint+query)
		require.ErrorContains(t, err, want)
	}
}

// No test reads from either storage. Only the requests are checked.
func TestGoogleAndAzureAreAskedAsTempoAsksThem(t *testing.T) {
	var paths, authorizations []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		authorizations = append(authorizations, r.Header.Get("Authorization"))
		if r.URL.Query().Get("comp") == "list" {
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, `<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs></Blobs><NextMarker /></EnumerationResults>`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind": "storage#objects", "items": []}`)
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	for _, tt := range []struct{ config, path, authorization string }{
		{"backend: gcs, gcs: {bucket_name: traces, insecure: true, endpoint: '" + server.URL + "/storage/v1/'}", "/storage/v1/b/traces/o", ""},
		{"backend: azure, azure: {container_name: traces, storage_account_name: acc, storage_account_key: aGlkZGVu, endpoint_suffix: '" + address + "'}", "/acc/traces", "SharedKey acc:"},
	} {
		paths, authorizations = nil, nil
		store, err := blocks.OpenTempo(t.Context(), tempoConfig(t, "storage: {trace: {"+tt.config+"}}"))
		require.NoError(t, err)
		tenants, err := store.Tenants(t.Context())
		require.NoError(t, err)
		require.Empty(t, tenants)
		require.Equal(t, []string{tt.path}, paths)
		require.True(t, strings.HasPrefix(authorizations[0], tt.authorization), authorizations[0])
		require.NoError(t, store.Close())
	}
	_, err := blocks.OpenTempo(t.Context(), tempoConfig(t, "storage: {trace: {backend: azure, azure: {container_name: traces, storage_account_name: acc, storage_account_key: 'hidden!'}}}"))
	require.ErrorContains(t, err, "storage.trace.azure.storage_account_key is not base64")
	require.NotContains(t, err.Error(), "hidden")
}
