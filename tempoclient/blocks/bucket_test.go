package blocks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// bucket is object storage in memory, with faults, stalls and changes that tests define.
type bucket struct {
	driver.Bucket // nil: methods that are not implemented are not called

	mu       sync.Mutex
	objects  map[string][]byte
	modified map[string]time.Time // by key; other objects are old
	pageSize int
	// hook, if not nil, is called before each request, and returns its fault. It may change the bucket.
	hook  func(request) fault
	bytes map[string]int64 // read, by key
}

// request is a request to the bucket.
type request struct {
	op          string // "list", "attributes", "read"
	key         string
	from, bytes int64
	after       string // the last key of the page before
}

// fault is the failure of a request. The zero fault is none.
type fault struct {
	err  error // returned at once
	half bool  // the body breaks off in the middle, with an error
	end  bool  // or without one
	hang bool  // no data until the context ends
	size int64 // added to the reported size
	flip bool  // one bit of the body is flipped
}

var (
	errStorage  = errors.New("storage says 503")
	errReset    = errors.New("connection reset")
	errNoObject = errors.New("no such object")

	errForbidden = errors.New("access denied")
)

// bucketOf copies a folder into a bucket.
func bucketOf(t testing.TB, dir string) *bucket {
	t.Helper()
	b := &bucket{objects: map[string][]byte{}}
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b.objects[path], err = os.ReadFile(filepath.Join(dir, path))
		return err
	}))
	return b
}

func (b *bucket) open() *blob.Bucket { return blob.NewBucket(b) }

func (b *bucket) put(key string, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = body
}

func (b *bucket) remove(keys ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		delete(b.objects, key)
	}
}

func (b *bucket) object(key string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body, ok := b.objects[key]
	if !ok {
		return nil, errNoObject
	}
	return body, nil
}

func (b *bucket) request(ctx context.Context, r request) (fault, error) {
	var f fault
	if b.hook != nil {
		f = b.hook(r)
	}
	if f.hang {
		<-ctx.Done()
		return f, ctx.Err()
	}
	return f, f.err
}

func (b *bucket) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	if _, err := b.request(ctx, request{op: "list", key: o.Prefix, after: string(o.PageToken)}); err != nil {
		return nil, err
	}
	if o.BeforeList != nil {
		if err := o.BeforeList(func(any) bool { return false }); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	size := b.pageSize
	if size == 0 {
		size = 1000
	}
	page := &driver.ListPage{}
	last := string(o.PageToken)
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		object := &driver.ListObject{Key: key, Size: int64(len(b.objects[key])), ModTime: b.modified[key]}
		if rest, ok := strings.CutPrefix(key, o.Prefix); !ok {
			continue
		} else if name, _, nested := strings.Cut(rest, o.Delimiter); nested && o.Delimiter != "" {
			object = &driver.ListObject{Key: o.Prefix + name + o.Delimiter, IsDir: true}
		}
		if object.Key <= last {
			continue
		}
		if len(page.Objects) == size {
			page.NextPageToken = []byte(last)
			break
		}
		page.Objects = append(page.Objects, object)
		last = object.Key
	}
	return page, nil
}

func (b *bucket) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	f, err := b.request(ctx, request{op: "attributes", key: key})
	if err != nil {
		return nil, err
	}
	body, err := b.object(key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{Size: int64(len(body)) + f.size}, nil
}

func (b *bucket) NewRangeReader(ctx context.Context, key string, from, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	body, err := b.object(key)
	if err != nil {
		return nil, err
	}
	size := int64(len(body))
	if length < 0 {
		length = size - from
	}
	f, err := b.request(ctx, request{op: "read", key: key, from: from, bytes: length})
	if err != nil {
		return nil, err
	}
	if body, err = b.object(key); err != nil { // the hook may have removed it
		return nil, err
	}
	from = min(from, size)
	part := body[from:min(from+length, size)]
	var in io.Reader = bytes.NewReader(part)
	switch {
	case f.half:
		in = io.MultiReader(bytes.NewReader(part[:len(part)/2]), failing{errReset})
	case f.end:
		in = bytes.NewReader(part[:len(part)/2])
	case f.flip && len(part) > 0:
		part = slices.Clone(part)
		part[len(part)*3/5] ^= 4
		in = bytes.NewReader(part)
	}
	b.mu.Lock()
	if b.bytes != nil {
		b.bytes[key] += int64(len(part))
	}
	b.mu.Unlock()
	return bodyReader{in, driver.ReaderAttributes{Size: size + f.size, ModTime: time.Unix(0, 0)}}, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type bodyReader struct {
	io.Reader
	attributes driver.ReaderAttributes
}

func (r bodyReader) Close() error                         { return nil }
func (r bodyReader) Attributes() *driver.ReaderAttributes { return &r.attributes }
func (r bodyReader) As(any) bool                          { return false }

func (b *bucket) ErrorCode(err error) gcerrors.ErrorCode {
	switch {
	case errors.Is(err, errNoObject):
		return gcerrors.NotFound
	case errors.Is(err, errForbidden):
		return gcerrors.PermissionDenied
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return gcerrors.Canceled
	}
	return gcerrors.Unknown
}

func (b *bucket) As(any) bool             { return false }
func (b *bucket) ErrorAs(error, any) bool { return false }
func (b *bucket) Close() error            { return nil }

// write writes the meta.json of a block of tenant t. The block's ID ends with its level.
func (b *bucket) write(id string) {
	b.put("t/"+id+"/meta.json", fmt.Appendf(nil, `{"format":"vParquet4","blockID":%q,"tenantID":"t","compactionLevel":%s}`, id, id[len(id)-1:]))
}

// mark marks blocks of tenant t as compacted, if they are live.
func (b *bucket) mark(ids ...string) {
	for _, id := range ids {
		if body, err := b.object("t/" + id + "/meta.json"); err == nil {
			b.put("t/"+id+"/meta.compacted.json", body)
			b.remove("t/" + id + "/meta.json")
		}
	}
}
