package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"gocloud.dev/blob"
)

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
