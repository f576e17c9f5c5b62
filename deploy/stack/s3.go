package stack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Bucket is a bucket of an S3 server, with its credentials.
type Bucket struct {
	// Address is the host:port of the server, which uses plain HTTP.
	Address string
	// Name is the bucket's name.
	Name string
	// Region is required by clients; the server ignores it.
	Region string
	// AccessKey and SecretKey are generated at each start.
	AccessKey, SecretKey string
}

// URL returns the bucket's URL for gocloud.dev/blob. It contains no credentials.
func (b *Bucket) URL() string {
	query := url.Values{"endpoint": {"http://" + b.Address}, "region": {b.Region}, "use_path_style": {"true"}}
	return (&url.URL{Scheme: "s3", Host: b.Name, RawQuery: query.Encode()}).String()
}

// Env returns the environment variables from which AWS tools read the credentials.
func (b *Bucket) Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + b.AccessKey, "AWS_SECRET_ACCESS_KEY=" + b.SecretKey}
}

// Client returns a client of the server.
func (b *Bucket) Client() *s3.Client {
	return s3.New(s3.Options{
		Region:       b.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(b.AccessKey, b.SecretKey, ""),
		BaseEndpoint: aws.String("http://" + b.Address),
		UsePathStyle: true,
	})
}

// startS3 starts SeaweedFS with an empty bucket.
func (s *Stack) startS3(ctx context.Context, opts Options, add func(*process)) error {
	program, err := Build(ctx, SeaweedFS, opts.Log)
	if err != nil {
		return err
	}
	bucket := &Bucket{Name: "traces", Region: "us-east-1", AccessKey: rand.Text(), SecretKey: rand.Text()}
	s.S3 = bucket
	dir := filepath.Join(s.Dir, "seaweedfs")
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	p, err := s.launch(ctx, opts, dir, "seaweedfs.json.tmpl", func(c settings, config string) (*process, string, error) {
		bucket.Address = fmt.Sprintf("127.0.0.1:%d", c.HTTP)
		s.sockets = socketsOf(c.Ports)
		// SeaweedFS also reads configuration from the home folder, so it gets an empty one.
		env := []string{"HOME=" + dir}
		p, err := start("seaweedfs", filepath.Join(dir, "seaweedfs.log"), env, program, weedArguments(c, dir, config)...)
		return p, "http://" + bucket.Address + "/healthz", err
	})
	if p != nil {
		add(p)
	}
	if err != nil {
		return err
	}
	if err := bucket.create(ctx); err != nil {
		return fmt.Errorf("%w; the log of seaweedfs ends with\n%s", err, p.logTail())
	}
	return nil
}

// weedArguments returns the arguments for a server in one process. Its master, volume server, filer and
// S3 API listen on 127.0.0.1 only, and it sends no usage reports.
func weedArguments(c settings, dir, config string) []string {
	port := func(name string, n int) string { return "-" + name + "=" + strconv.Itoa(c.Ports[n]) }
	return []string{
		"-logtostderr", "-config_dir=" + dir, "server",
		"-dir=" + filepath.Join(dir, "data"), "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
		port("master.port", 1), port("master.port.grpc", 2), "-master.telemetry=false", "-master.volumeSizeLimitMB=1024",
		port("volume.port", 3), port("volume.port.grpc", 4), "-volume.max=100", "-volume.preStopSeconds=0",
		port("filer.port", 5), port("filer.port.grpc", 6), "-filer.localSocket=" + socketPath("filer", c.Ports[5]),
		"-s3", port("s3.port", 0), port("s3.port.grpc", 7), "-s3.localSocket=" + socketPath("s3", c.Ports[0]),
		"-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=" + config,
	}
}

// socketPath returns the path of a Unix socket of SeaweedFS. A stack's folder may be too long for a
// socket's path.
func socketPath(service string, port int) string {
	return fmt.Sprintf("/tmp/seaweedfs-%s-%d.sock", service, port)
}

// socketsOf returns the Unix sockets of a server, which SeaweedFS does not remove.
func socketsOf(ports []int) []string {
	return []string{
		socketPath("filer", ports[5]), socketPath("s3", ports[0]),
		socketPath("master-grpc", ports[2]), socketPath("volume-grpc", ports[4]), socketPath("filer-grpc", ports[6]), socketPath("s3-grpc", ports[7]),
	}
}

// bucketTimeout bounds the time in which the parts of SeaweedFS must connect to each other.
const bucketTimeout = 60 * time.Second

// create creates the bucket, and waits until it accepts objects.
func (b *Bucket) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bucketTimeout, fmt.Errorf("not ready within %s", bucketTimeout))
	defer cancel()
	client := b.Client()
	for {
		err := b.tryCreate(ctx, client)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("create bucket %s: %w (%w)", b.Name, err, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (b *Bucket) tryCreate(ctx context.Context, client *s3.Client) error {
	// Tempo takes folders for tenants, so the probe is not in a folder.
	const probe = "stack-started"
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b.Name}); err != nil && !strings.Contains(err.Error(), "BucketAlreadyOwnedByYou") && !strings.Contains(err.Error(), "BucketAlreadyExists") {
		return err
	}
	if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.Name, Key: aws.String(probe), Body: strings.NewReader("ok")}); err != nil {
		return err
	}
	_, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.Name, Key: aws.String(probe)})
	return err
}

// removeSockets removes the Unix sockets that SeaweedFS left.
func (s *Stack) removeSockets() error {
	var errs []error
	for _, path := range s.sockets {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("stack: %w", err))
		}
	}
	return errors.Join(errs...)
}
