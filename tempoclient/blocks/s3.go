package blocks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/grafana/dskit/crypto/tls"
	gcaws "gocloud.dev/aws"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
)

// s3Config is storage.trace.s3 of Tempo's configuration (tempodb/backend/s3/config.go), without the
// settings for writing.
type s3Config struct {
	TLS tls.ClientConfig `yaml:",inline"`

	Bucket, Endpoint, Region, Prefix string

	AccessKey      string `yaml:"access_key"`
	SecretKey      string `yaml:"secret_key"`
	SessionToken   string `yaml:"session_token"`
	Insecure       bool
	ForcePathStyle bool `yaml:"forcepathstyle"`
	// BucketLookup is the method of addressing the bucket: 0 depends on the endpoint, 1 is in the host
	// name, 2 in the path.
	BucketLookup int  `yaml:"bucket_lookup_type"`
	SignatureV2  bool `yaml:"signature_v2"`
}

// endpoint returns the URL of the server, or "" for AWS.
func (c *s3Config) endpoint() string {
	switch {
	case c.Endpoint == "" || strings.Contains(c.Endpoint, "://"):
		return c.Endpoint
	case c.Insecure:
		return "http://" + c.Endpoint
	}
	return "https://" + c.Endpoint
}

// pathStyle reports whether the bucket's name is in the path. Few servers except those of AWS have a host
// name for each bucket.
func (c *s3Config) pathStyle() bool {
	return c.ForcePathStyle || c.BucketLookup == 2 || c.BucketLookup == 0 && c.Endpoint != "" && !strings.Contains(c.Endpoint, "amazonaws.com")
}

// awsRegion finds the region in the host name of an endpoint of AWS.
var awsRegion = regexp.MustCompile(`\bs3(?:-fips)?[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-[0-9])\.(?:vpce\.)?amazonaws\.com`)

// region returns the region for signing requests if the environment sets none.
func (c *s3Config) region() string {
	if m := awsRegion.FindStringSubmatch(c.Endpoint); m != nil {
		return m[1]
	}
	return "us-east-1" // most other servers accept any region
}

// open opens the bucket as Tempo does.
func (c *s3Config) open(ctx context.Context) (*blob.Bucket, error) {
	if c.SignatureV2 {
		return nil, errors.New("storage.trace.s3.signature_v2 is true: requests are signed by version 4 only")
	}
	tlsConfig, err := c.TLS.GetTLSConfig()
	if err != nil {
		return nil, fmt.Errorf("storage.trace.s3: %w", err)
	}
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.TLSClientConfig = tlsConfig
			t.MaxIdleConnsPerHost = spoolStreams
		})),
		// The rate of retries is not limited, because the store repeats requests anyway.
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.RateLimiter = ratelimit.None })
		}),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	keys, err := c.credentials()
	if err != nil {
		return nil, err
	}
	if keys != nil {
		options = append(options, config.WithCredentialsProvider(keys))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("the configuration of the AWS SDK: %w", err)
	}
	loaded.Region = cmp.Or(loaded.Region, c.region())
	return openS3(ctx, c.Bucket, loaded, func(o *s3.Options) {
		if e := c.endpoint(); e != "" {
			o.BaseEndpoint = aws.String(e)
		}
		o.UsePathStyle = c.pathStyle()
	})
}

// openS3URL opens a bucket by a URL in the form of gocloud.dev/blob (s3blob.URLOpener).
func openS3URL(ctx context.Context, u *url.URL) (*blob.Bucket, error) {
	query := u.Query()
	take := func(name string) string {
		defer query.Del(name)
		return query.Get(name)
	}
	flag := func(name string) (bool, error) {
		text := take(name)
		if text == "" {
			return false, nil
		}
		on, err := strconv.ParseBool(text)
		if err != nil {
			return false, fmt.Errorf("%s is %q: set it to true or false", name, text)
		}
		return on, nil
	}
	prefix := take("prefix")
	pathStyle, err1 := flag("use_path_style")
	pathStyleToo, err2 := flag("s3ForcePathStyle")
	accelerate, err3 := flag("accelerate")
	plainHTTP, err4 := flag("disable_https")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	loaded, err := gcaws.V2ConfigFromURLParams(ctx, query)
	if err != nil {
		return nil, err
	}
	loaded.Region = cmp.Or(loaded.Region, (&s3Config{Endpoint: query.Get("endpoint")}).region())
	bucket, err := openS3(ctx, u.Host, loaded, func(o *s3.Options) {
		o.UsePathStyle = pathStyle || pathStyleToo
		o.UseAccelerate = accelerate
		o.EndpointOptions.DisableHTTPS = plainHTTP
	})
	if err == nil && prefix != "" {
		bucket = blob.PrefixedBucket(bucket, prefix)
	}
	return bucket, err
}

// openS3 opens a bucket. The SDK must not log that objects have no checksum, which is usual for many
// servers.
func openS3(ctx context.Context, name string, loaded aws.Config, options func(*s3.Options)) (*blob.Bucket, error) {
	client := s3.NewFromConfig(loaded, options, func(o *s3.Options) { o.DisableLogOutputChecksumValidationSkipped = true })
	if err := requireCredentials(ctx, loaded.Credentials); err != nil {
		return nil, err
	}
	return s3blob.OpenBucket(ctx, client, name, nil)
}

// credentials returns the first credentials that Tempo tries before those that the SDK finds, too
// (fetchCreds in tempodb/backend/s3/s3.go), or nil.
func (c *s3Config) credentials() (aws.CredentialsProvider, error) {
	for _, pair := range [][2]string{{"access_key", "secret_key"}, {"secret_key", "access_key"}} {
		values := map[string]string{"access_key": c.AccessKey, "secret_key": c.SecretKey}
		if values[pair[0]] != "" && values[pair[1]] == "" {
			return nil, fmt.Errorf("storage.trace.s3.%s is set and %s is empty: set both or none", pair[0], pair[1])
		}
	}
	if c.AccessKey != "" {
		return credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, c.SessionToken), nil
	}
	if cmp.Or(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_ACCESS_KEY")) != "" {
		return nil, nil
	}
	for _, names := range [][2]string{{"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"}, {"MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"}} {
		if key, secret := os.Getenv(names[0]), os.Getenv(names[1]); key != "" && secret != "" {
			return credentials.NewStaticCredentialsProvider(key, secret, ""), nil
		}
	}
	return nil, nil
}

// requireCredentials returns an error if no credentials are found. Otherwise the first request would fail
// only after its retries.
func requireCredentials(ctx context.Context, provider aws.CredentialsProvider) error {
	if provider == nil || aws.IsCredentialsProvider(provider, aws.AnonymousCredentials{}) {
		return nil
	}
	if _, err := provider.Retrieve(ctx); err != nil {
		return fmt.Errorf("no credentials: %w; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or storage.trace.s3.access_key and secret_key in the file of --tempo-config; ?anonymous=true needs none", err)
	}
	return nil
}
