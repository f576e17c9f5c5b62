package blocks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/trace"
)

// listTries bounds the number of listings if blocks are compacted during a listing.
const listTries = 5

// metaConcurrency bounds the number of meta.json files that are read concurrently.
const metaConcurrency = 16

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

// NewStore returns the storage in an open bucket. Close closes it.
func NewStore(bucket *blob.Bucket, name string) *Store {
	return &Store{bucket: bucket, url: name, streams: make(chan struct{}, spoolStreams)}
}

// Close closes the storage.
func (s *Store) Close() error { return s.bucket.Close() }

// Meta is the content of a block's meta.json (tempodb/backend/block_meta.go). Its times may reflect
// arrival times, so they must not be used to skip a block.
type Meta struct {
	Version           string            `json:"format"`
	ID                string            `json:"blockID"`
	Tenant            string            `json:"tenantID"`
	Start             time.Time         `json:"startTime"`
	End               time.Time         `json:"endTime"`
	Traces            int               `json:"totalObjects"`
	Size              int64             `json:"size"`
	CompactionLevel   int               `json:"compactionLevel"`
	DedicatedColumns  []DedicatedColumn `json:"dedicatedColumns"`
	ReplicationFactor int               `json:"replicationFactor"`
	FooterSize        int64             `json:"footerSize"`

	stored int64 // the size of its file in the listing, or 0
}

// DedicatedColumn assigns an attribute to the next free dedicated column of its scope and type.
type DedicatedColumn struct {
	Scope   string   `json:"s"` // "span" (also ""), "resource", "event"
	Name    string   `json:"n"`
	Type    string   `json:"t"` // "string" (also ""), "int"
	Options []string `json:"o"` // "array", "blob"
}

// Listing is the set of a tenant's blocks at one time.
type Listing struct {
	// Live are the blocks that are not compacted, by ID.
	Live []Meta
	// Compacted are the IDs of compacted blocks, which are kept for a limited time only.
	Compacted []string
	// Unread are the IDs of blocks whose meta.json could not be read, or is missing although their data
	// exists. Each of them is a problem, too.
	Unread []string
	// Began and Ended are the start and the end of the listing.
	Began, Ended time.Time
	// Problems are the blocks that could not be listed, with the reasons.
	Problems []trace.Problem
	// Unstable is set if blocks were compacted during each attempt to list them. Their spans may be
	// missing, or duplicated.
	Unstable bool
}

// Tenants returns the names of the tenants that have blocks, sorted.
func (s *Store) Tenants(ctx context.Context) (tenants []string, err error) {
	err = s.retried(ctx, func() error {
		tenants, err = s.tenantsNow(ctx)
		return err
	})
	return tenants, err
}

func (s *Store) tenantsNow(ctx context.Context) ([]string, error) {
	var tenants []string
	ctx, w := s.watch(ctx)
	defer w.end()
	for it := s.bucket.List(&blob.ListOptions{Delimiter: "/"}); ; w.moved() {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
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

// List returns a tenant's live blocks. It lists the objects of the bucket, because the index that Tempo
// writes is older. Objects are listed one after another while Tempo writes and compacts. A listing counts
// only if the next one shows that no block was compacted meanwhile; otherwise a trace might be in neither
// the old nor the new block. In a listing that counts, the sources of a block written by a compaction are
// live, compacted, unread, or deleted.
func (s *Store) List(ctx context.Context, tenant string) (Listing, error) {
	tenant = cmp.Or(tenant, "single-tenant")
	began := time.Now()
	before, indexed, err := s.objects(ctx, tenant)
	if err != nil {
		return Listing{}, err
	}
	if len(before) == 0 && !indexed {
		now := time.Now()
		return Listing{Began: began, Ended: now, Problems: []trace.Problem{{What: "tenant " + tenant, Err: s.noTenant(ctx, tenant)}}}, nil
	}
	for try := 1; ; try++ {
		listing, missing, after, err := s.metasAndObjects(ctx, tenant, before)
		if err != nil {
			return Listing{}, err
		}
		written, unsure, err := s.writtenSince(ctx, tenant, before, after)
		if err != nil {
			return Listing{}, err
		}
		stable := !unsure && !compactedSince(before, after)
		if stable || try == listTries {
			headless, changed, err := s.headless(ctx, tenant, before, after)
			if err != nil {
				return Listing{}, err
			}
			if changed && try < listTries {
				began = time.Now()
				if before, _, err = s.objects(ctx, tenant); err != nil {
					return Listing{}, err
				}
				continue
			}
			for _, id := range headless {
				listing.Unread = append(listing.Unread, id)
				listing.Problems = append(listing.Problems, trace.Problem{What: "block " + id, Err: errNoMeta})
			}
			for _, id := range missing {
				if after[id].live && !after[id].compacted {
					listing.Unread = append(listing.Unread, id)
					listing.Problems = append(listing.Problems, trace.Problem{What: "block " + id, Err: fmt.Errorf("its meta.json is listed but cannot be found")})
				}
			}
			listing.Live = append(listing.Live, written...)
			slices.SortFunc(listing.Live, func(a, b Meta) int { return strings.Compare(a.ID, b.ID) })
			listing.Unstable = !stable
			listing.Began, listing.Ended = began, time.Now()
			return listing, nil
		}
		began, before = time.Now(), after
	}
}

// metasAndObjects reads the meta.json of blocks and lists them again, both concurrently. Only if a
// meta.json is missing must the listing be later.
func (s *Store) metasAndObjects(ctx context.Context, tenant string, before map[string]objectSet) (listing Listing, missing []string, after map[string]objectSet, err error) {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		after, _, err = s.objects(groupCtx, tenant)
		return err
	})
	group.Go(func() (err error) {
		listing, missing, err = s.readMetas(groupCtx, tenant, before)
		return err
	})
	if err := group.Wait(); err != nil {
		return Listing{}, nil, nil, err
	}
	if len(missing) > 0 {
		after, _, err = s.objects(ctx, tenant)
	}
	return listing, missing, after, err
}

// writtenSince returns the blocks that were written between two listings. It is unsure if a compaction
// may have written one of them. Then a source may be missing, if it was written to a part that the second
// listing had already passed.
func (s *Store) writtenSince(ctx context.Context, tenant string, before, after map[string]objectSet) (written []Meta, unsure bool, err error) {
	found := map[string]objectSet{}
	for id, set := range after {
		if set.live && !set.compacted && !before[id].live && !before[id].compacted {
			found[id] = set
		}
	}
	listing, missing, err := s.readMetas(ctx, tenant, found)
	if err != nil {
		return nil, false, err
	}
	for _, m := range listing.Live {
		unsure = unsure || m.CompactionLevel > 0
	}
	return listing.Live, unsure || len(missing)+len(listing.Unread) > 0, nil
}

// objectSet describes the objects in a block's folder.
type objectSet struct {
	// live and compacted report which of the two kinds of meta.json exist, one or both.
	live, compacted bool
	// data reports whether data.parquet exists, size is its size.
	data bool
	size int64
	// newest is the latest modification time of its objects.
	newest time.Time
}

// objects lists the blocks of a tenant. indexed reports whether the tenant has Tempo's index, which may
// exist without blocks.
func (s *Store) objects(ctx context.Context, tenant string) (blocks map[string]objectSet, indexed bool, err error) {
	err = s.retried(ctx, func() error {
		blocks, indexed, err = s.objectsNow(ctx, tenant, "")
		return err
	})
	return blocks, indexed, err
}

// objectsNow lists the blocks of a tenant whose ID has the prefix.
func (s *Store) objectsNow(ctx context.Context, tenant, idPrefix string) (blocks map[string]objectSet, indexed bool, err error) {
	blocks = map[string]objectSet{}
	ctx, w := s.watch(ctx)
	defer w.end()
	for it := s.bucket.List(&blob.ListOptions{Prefix: tenant + "/" + idPrefix}); ; w.moved() {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			maps.DeleteFunc(blocks, func(_ string, set objectSet) bool { return !set.live && !set.compacted && !set.data })
			return blocks, indexed, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("blocks at %s: list %s/: %w", s.url, tenant, w.why(ctx, err))
		}
		id, name, ok := strings.Cut(strings.TrimPrefix(o.Key, tenant+"/"), "/")
		if !ok {
			indexed = indexed || slices.Contains(indexNames, id)
			continue
		}
		set := blocks[id]
		if o.ModTime.After(set.newest) {
			set.newest = o.ModTime
		}
		switch name {
		case "meta.json":
			set.live = true
		case "meta.compacted.json":
			set.compacted = true
		case "data.parquet":
			set.data, set.size = true, o.Size
		}
		blocks[id] = set
	}
}

// compactedSince reports whether a block was compacted or a live block was removed between two listings.
func compactedSince(before, after map[string]objectSet) bool {
	for id, set := range before {
		if set.live && !set.compacted && !after[id].live {
			return true
		}
	}
	for id, set := range after {
		if set.compacted && !before[id].compacted {
			return true
		}
	}
	return false
}

// readMetas reads the meta.json of the live blocks. missing are the blocks without one.
func (s *Store) readMetas(ctx context.Context, tenant string, blocks map[string]objectSet) (listing Listing, missing []string, err error) {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(blocks)) {
		// Tempo marks a block as compacted by a copy and a delete. A block with both files is compacted.
		if set := blocks[id]; set.compacted {
			listing.Compacted = append(listing.Compacted, id)
		} else if set.live {
			ids = append(ids, id)
		}
	}
	metas := make([]Meta, len(ids))
	errs := make([]error, len(ids))
	var group errgroup.Group
	group.SetLimit(metaConcurrency)
	for i, id := range ids {
		group.Go(func() error {
			metas[i], errs[i] = s.readMeta(ctx, tenant, id)
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return Listing{}, nil, fmt.Errorf("blocks at %s: list %s/: %w", s.url, tenant, err)
	}
	for i, err := range errs {
		switch {
		case gcerrors.Code(err) == gcerrors.NotFound:
			missing = append(missing, ids[i]) // compacted or deleted meanwhile: the next listing shows it
		case err != nil:
			listing.Unread = append(listing.Unread, ids[i])
			listing.Problems = append(listing.Problems, trace.Problem{What: "block " + ids[i], Err: err})
		default:
			metas[i].stored = blocks[ids[i]].size
			listing.Live = append(listing.Live, metas[i])
		}
	}
	return listing, missing, nil
}

func (s *Store) readMeta(ctx context.Context, tenant, id string) (Meta, error) {
	key := path.Join(tenant, id, "meta.json")
	var m Meta
	err := s.retried(ctx, func() error {
		ctx, w := s.watch(ctx)
		defer w.end()
		b, err := s.bucket.ReadAll(ctx, key)
		if err != nil {
			return fmt.Errorf("read %s: %w", key, w.why(ctx, err))
		}
		m = Meta{}
		if err := json.Unmarshal(b, &m); err != nil { // also if the body was cut off
			return fmt.Errorf("%s is not a meta.json: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return Meta{}, err
	}
	if m.ID != id {
		return Meta{}, fmt.Errorf("%s is of block %q: it was copied from there", key, m.ID)
	}
	m.Tenant = cmp.Or(m.Tenant, tenant)
	return m, nil
}

// copyRange copies a part of the block's file, in one request if none fails, and repeatedly calls came
// with the number of bytes received since.
func (b *block) copyRange(ctx context.Context, r byteRange, to io.WriterAt, at int64, came func(n int64)) error {
	_, err := b.object.fill(ctx, r.from, r.to-r.from, func(in io.Reader, done int64) (int64, error) {
		buffer := spoolBuffers.Get().(*[]byte)
		defer spoolBuffers.Put(buffer)
		return io.CopyBuffer(tellingWriter{io.NewOffsetWriter(to, at+done), came}, in, *buffer)
	})
	return err
}

var spoolBuffers = sync.Pool{New: func() any {
	b := make([]byte, spoolBuffer)
	return &b
}}

// tellingWriter reports the number of written bytes.
type tellingWriter struct {
	to   io.Writer
	came func(n int64)
}

func (w tellingWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	w.came(int64(n))
	return n, err
}

// objectReader reads ranges of one object.
type objectReader struct {
	store *Store
	key   string
	stats *readStats
	file  *os.File // see hold; nil: it is read by requests
}

// hold opens an object that is a file, until release is called. Reading from it needs one system call,
// whereas a request needs eight. It does nothing if the object cannot be opened as a file.
func (r *objectReader) hold(ctx context.Context) (release func() error, err error) {
	if !r.store.local {
		return func() error { return nil }, nil
	}
	in, err := r.store.bucket.NewRangeReader(ctx, r.key, 0, -1, &blob.ReaderOptions{BeforeRead: func(as func(any) bool) (err error) {
		var file *os.File
		if as(&file) {
			r.file, err = os.Open(file.Name())
		}
		return err
	}})
	if err == nil {
		err = in.Close()
	}
	if err != nil {
		err = fmt.Errorf("open %s: %w", r.key, err)
		if r.file != nil {
			err = errors.Join(err, r.file.Close())
			r.file = nil
		}
		return nil, err
	}
	if r.file == nil {
		return func() error { return nil }, nil
	}
	return r.file.Close, nil
}

// readerAt returns a reader of the object, whose requests end with the context.
func (r *objectReader) readerAt(ctx context.Context) io.ReaderAt {
	return readerAtFunc(func(p []byte, off int64) (int, error) { return r.readAt(ctx, p, off) })
}

// readerAtFunc is a function as an [io.ReaderAt].
type readerAtFunc func(p []byte, off int64) (int, error)

func (f readerAtFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// readAt reads a range, in one request if none fails.
func (r *objectReader) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	if r.file != nil {
		if n, err := r.file.ReadAt(p, off); err == nil {
			r.stats.requests.Add(1)
			r.stats.bytes.Add(int64(n))
			return n, nil
		}
	}
	n, err := r.fill(ctx, off, int64(len(p)), func(in io.Reader, done int64) (int64, error) {
		n, err := io.ReadFull(in, p[done:])
		return int64(n), err
	})
	return int(n), err
}
