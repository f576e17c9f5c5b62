// Package slowbucket serves a folder with the delays of object storage: each request has a latency, and
// each stream a limited speed. It counts requests and bytes.
package slowbucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// Options configure the speed of the storage. The zero Options only count.
type Options struct {
	// Latency is the time from a request to its first byte.
	Latency time.Duration
	// BytesPerSecond is the speed of one stream. If 0, it is as fast as the disk.
	BytesPerSecond float64
}

// Counts are the requests since the bucket was opened.
type Counts struct {
	// Requests counts all requests: ranges, attributes and pages of listings.
	Requests int64
	// Listings counts those requests that are pages of listings.
	Listings int64
	// Bytes counts the bytes of the ranges that were read.
	Bytes int64
}

// Bucket is a folder that behaves like object storage.
type Bucket struct {
	*blob.Bucket
	driver *folder
}

// Open opens a folder. Close the Bucket after use.
func Open(dir string, o Options) *Bucket {
	d := &folder{dir: dir, options: o}
	return &Bucket{blob.NewBucket(d), d}
}

// Counts returns the requests so far.
func (b *Bucket) Counts() Counts {
	return Counts{Requests: b.driver.requests.Load(), Listings: b.driver.listings.Load(), Bytes: b.driver.bytes.Load()}
}

// errReadOnly is returned by all methods that write.
var errReadOnly = errors.New("the bucket is read-only")

// folder is the bucket's driver.
type folder struct {
	dir             string
	options         Options
	requests, bytes atomic.Int64
	listings        atomic.Int64
}

// request counts a request and waits for its latency.
func (f *folder) request(ctx context.Context) error {
	f.requests.Add(1)
	return sleep(ctx, f.options.Latency)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *folder) path(key string) string { return filepath.Join(f.dir, filepath.FromSlash(key)) }

// Attributes implements driver.Bucket.
func (f *folder) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if err := f.request(ctx); err != nil {
		return nil, err
	}
	stat, err := os.Stat(f.path(key))
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{Size: stat.Size(), ModTime: stat.ModTime()}, nil
}

// ListPaged implements driver.Bucket. As in S3, a page has 1,000 keys.
func (f *folder) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	f.listings.Add(1)
	if err := f.request(ctx); err != nil {
		return nil, err
	}
	found := map[string]*driver.ListObject{}
	// Only the folder of the prefix needs to be walked.
	root := f.path(o.Prefix[:strings.LastIndexByte(o.Prefix, '/')+1])
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(f.dir, path)
		if err != nil {
			return err
		}
		key := filepath.ToSlash(rel)
		if !strings.HasPrefix(key, o.Prefix) {
			return nil
		}
		if o.Delimiter != "" {
			if i := strings.Index(key[len(o.Prefix):], o.Delimiter); i >= 0 {
				key = key[:len(o.Prefix)+i+len(o.Delimiter)]
				found[key] = &driver.ListObject{Key: key, IsDir: true}
				return nil
			}
		}
		stat, err := e.Info()
		if err != nil {
			return err
		}
		found[key] = &driver.ListObject{Key: key, Size: stat.Size(), ModTime: stat.ModTime()}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	page := &driver.ListPage{}
	for _, object := range found {
		if object.Key > string(o.PageToken) {
			page.Objects = append(page.Objects, object)
		}
	}
	slices.SortFunc(page.Objects, func(a, b *driver.ListObject) int { return cmp.Compare(a.Key, b.Key) })
	if size := cmp.Or(o.PageSize, 1000); len(page.Objects) > size {
		page.Objects = page.Objects[:size]
		page.NextPageToken = []byte(page.Objects[size-1].Key)
	}
	return page, nil
}

// NewRangeReader implements driver.Bucket.
func (f *folder) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	if err := f.request(ctx); err != nil {
		return nil, err
	}
	file, err := os.Open(f.path(key))
	if err != nil {
		return nil, err
	}
	stat, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if length < 0 || length > stat.Size()-offset {
		length = max(stat.Size()-offset, 0)
	}
	return &stream{
		ctx: ctx, folder: f, file: file, in: io.NewSectionReader(file, offset, length), began: time.Now(),
		attributes: driver.ReaderAttributes{Size: stat.Size(), ModTime: stat.ModTime()},
	}, nil
}

// stream is a range that is being read.
type stream struct {
	ctx        context.Context // of the request
	folder     *folder
	file       *os.File
	in         *io.SectionReader
	began      time.Time
	read       int64
	attributes driver.ReaderAttributes
}

// Read delays bytes until the time at which they would arrive from object storage. Time that the caller
// spends between reads counts towards this delay.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.read += int64(n)
	s.folder.bytes.Add(int64(n))
	if speed := s.folder.options.BytesPerSecond; speed > 0 {
		due := s.began.Add(time.Duration(float64(s.read) / speed * float64(time.Second)))
		// Timers are not exact; the next read compensates for a sleep that was too long.
		if wait := time.Until(due); wait > time.Millisecond {
			if err := sleep(s.ctx, wait); err != nil {
				return n, err
			}
		}
	}
	return n, err
}

func (s *stream) Close() error                         { return s.file.Close() }
func (s *stream) Attributes() *driver.ReaderAttributes { return &s.attributes }
func (s *stream) As(any) bool                          { return false }

// ErrorCode implements driver.Bucket.
func (f *folder) ErrorCode(err error) gcerrors.ErrorCode {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return gcerrors.NotFound
	case errors.Is(err, context.Canceled):
		return gcerrors.Canceled
	case errors.Is(err, errReadOnly):
		return gcerrors.Unimplemented
	default:
		return gcerrors.Unknown
	}
}

// As implements driver.Bucket.
func (f *folder) As(any) bool { return false }

// ErrorAs implements driver.Bucket.
func (f *folder) ErrorAs(error, any) bool { return false }

// NewTypedWriter implements driver.Bucket.
func (f *folder) NewTypedWriter(_ context.Context, key, _ string, _ *driver.WriterOptions) (driver.Writer, error) {
	return nil, fmt.Errorf("write %s: %w", key, errReadOnly)
}

// Copy implements driver.Bucket.
func (f *folder) Copy(_ context.Context, to, _ string, _ *driver.CopyOptions) error {
	return fmt.Errorf("copy to %s: %w", to, errReadOnly)
}

// Delete implements driver.Bucket.
func (f *folder) Delete(_ context.Context, key string, _ *driver.DeleteOptions) error {
	return fmt.Errorf("delete %s: %w", key, errReadOnly)
}

// SignedURL implements driver.Bucket.
func (f *folder) SignedURL(_ context.Context, key string, _ *driver.SignedURLOptions) (string, error) {
	return "", fmt.Errorf("sign a URL of %s: %w", key, errReadOnly)
}

// Close implements driver.Bucket.
func (f *folder) Close() error { return nil }
