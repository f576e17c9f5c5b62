package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
)

// Store is the object storage in which a Tempo stores its blocks. It is safe for concurrent use.
type Store struct {
	bucket *blob.Bucket
	url    string
	// folder is the folder of local storage, or empty for other storage.
	folder string
	// near reports that requests have almost no cost, so that nothing is read ahead.
	near bool
	// local reports that objects are files, which can be read directly.
	local bool
	// pause is the time before a request is retried, stall the time for which a body may stall. If 0,
	// they have their defaults.
	pause, stall time.Duration
	// partBytes is the approximate size of one request for reading ahead. If 0, it has its default.
	partBytes int64
	// streams has an element for each current stream of reading ahead.
	streams chan struct{}

	cache *cache // see Cache
	now   func() time.Time

	mu      sync.Mutex
	schemas []columns // distinct schemas of the opened blocks
}

// sameColumns returns a stored schema that is equal to cols, because all blocks of a store have one or
// two schemas.
func (s *Store) sameColumns(cols columns) columns {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.schemas {
		if maps.EqualFunc(known, cols, leaf.equal) {
			return known
		}
	}
	s.schemas = append(s.schemas, cols)
	return cols
}

// CheckURL returns an error if the URL of a storage contains credentials, because URLs are part of errors
// and of the output. The error does not repeat them.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	var wrong *url.Error
	switch {
	case errors.As(err, &wrong):
		return fmt.Errorf("the URL of the storage: %w", wrong.Err)
	case u.User != nil:
		return fmt.Errorf("the URL of the storage %s://…@%s contains credentials: remove them, and set them in the environment or in Tempo's configuration", u.Scheme, u.Host)
	}
	for name := range u.Query() {
		for _, secret := range []string{"secret", "token", "password", "access_key", "accesskey", "account_key"} {
			if strings.Contains(strings.ToLower(name), secret) {
				return fmt.Errorf("the URL of the storage %s://%s contains credentials in %s: remove them, and set them in the environment or in Tempo's configuration", u.Scheme, u.Host, name)
			}
		}
	}
	return nil
}

// Open opens the storage at a URL of gocloud.dev/blob: file:///var/tempo/blocks, s3://bucket?region=…,
// gs://bucket, azblob://container. ?prefix=a/ is the path before the tenants' folders.
func Open(ctx context.Context, address string) (*Store, error) {
	if err := CheckURL(address); err != nil {
		return nil, err
	}
	var bucket *blob.Bucket
	u, err := url.Parse(address)
	switch {
	case err != nil:
	case u.Scheme == s3blob.Scheme:
		bucket, err = openS3URL(ctx, u)
	default:
		bucket, err = blob.OpenBucket(ctx, address)
	}
	if err != nil {
		return nil, fmt.Errorf("blocks at %s: %w", address, err)
	}
	isFile := strings.HasPrefix(address, "file:")
	s := NewStore(bucket, address)
	s.near, s.local = isFile, isFile
	if isFile {
		s.folder = localFolder(address)
	}
	return s, nil
}

// NewStore returns the storage in an open bucket. Messages name it by the name. Close closes the bucket.
func NewStore(bucket *blob.Bucket, name string) *Store {
	return &Store{bucket: bucket, url: name, streams: make(chan struct{}, spoolStreams), now: time.Now}
}

// Clock sets the function that returns the times of listings. By default it is [time.Now]. Clock must be called before the
// store is used.
func (s *Store) Clock(now func() time.Time) { s.now = now }

// URL returns the address of the storage, by which messages name it. It contains no credentials.
func (s *Store) URL() string { return s.url }

// Close closes the storage.
func (s *Store) Close() error { return s.bucket.Close() }

// Tenants returns the names of the tenants that have blocks, sorted.
func (s *Store) Tenants(ctx context.Context) (tenants []string, err error) {
	err = s.retried(ctx, func() error {
		tenants, err = s.tenantsNow(ctx)
		return err
	})
	if err == nil {
		s.cache.retainTenants(tenants)
	}
	return tenants, err
}

func (s *Store) tenantsNow(ctx context.Context) ([]string, error) {
	var tenants []string
	ctx, w := s.watch(ctx)
	defer w.end()
	for it := s.bucket.List(&blob.ListOptions{Delimiter: "/"}); ; w.moved() {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			if _, err := s.unreadable(""); err != nil {
				return nil, fmt.Errorf("blocks at %s: list tenants: %w", s.url, err)
			}
			return tenants, nil
		}
		if err != nil {
			return nil, fmt.Errorf("blocks at %s: list tenants: %w", s.url, w.why(ctx, err))
		}
		if o.IsDir {
			tenants = append(tenants, path.Base(o.Key))
		}
	}
}
