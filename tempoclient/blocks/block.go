package blocks

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"sync/atomic"

	"github.com/parquet-go/parquet-go"

	"github.com/betracehq/betrace/trace"
)

// formats are the supported versions of Tempo's blocks.
var formats = []string{"vParquet4", "vParquet5"}

// readStats counts the requests to the storage.
type readStats struct {
	requests, bytes atomic.Int64
	// words counts the bytes of the kept dictionaries, up to mostWords.
	words     atomic.Int64
	mostWords int64
}

// block is a block that one reading has opened.
type block struct {
	Meta
	contents
	object *objectReader

	// without are the paths of the groups whose shared attribute columns contain none of the needed
	// attributes, as far as this was determined.
	without map[string]bool

	dictionaries dictionaries
}

// contents are the facts of a block by which its rows are found. They are immutable, so that readings share
// them.
type contents struct {
	*footer
	ids *idSample // nil: not read
	// keys are the dictionaries of the columns of keys that were read.
	keys map[dictionaryKey]*dictionary
}

// footer is the content of the footer and the page index of a data.parquet.
type footer struct {
	size   int64 // of the file, in bytes
	rows   int64
	rowsIn []int64   // by row group
	chunks [][]chunk // by row group and column
	cols   columns
	// earliest is a lower bound of its rows' starts, latest an upper bound of their ends; latest is 0 if
	// unknown.
	earliest, latest trace.Time
	spans            int64
}

// open opens a block by its footer, which is read unless it is kept.
func (s *Store) open(ctx context.Context, m Meta, stats *readStats) (b *block, err error) {
	defer recovered(&err)
	if !slices.Contains(formats, m.Version) {
		return nil, fmt.Errorf("its format is %s: let Tempo rewrite it in one of the supported formats %v", m.Version, formats)
	}
	b = &block{Meta: m, contents: s.cache.contentsOf(m), object: &objectReader{store: s, key: path.Join(m.Tenant, m.ID, dataName), stats: stats}}
	if b.footer == nil {
		if b.footer, err = b.object.readFooter(ctx, m); err != nil {
			return nil, err
		}
		s.cache.keep(m, b.contents)
	}
	b.dictionaries.kept = maps.Clone(b.keys)
	switch {
	case b.size != m.Size: // Tempo opens a block with the size in meta.json
		return nil, fmt.Errorf("%s has %d bytes, but by meta.json it must have %d", b.object.key, b.size, m.Size)
	case b.footer.rows != int64(m.Traces):
		return nil, fmt.Errorf("%s has %d rows, but by meta.json it must have %d", b.object.key, b.footer.rows, m.Traces)
	}
	return b, nil
}

// readFooter reads a block's footer.
func (r *objectReader) readFooter(ctx context.Context, m Meta) (*footer, error) {
	size := m.data.size
	if size == 0 {
		err := r.store.retried(ctx, func() error {
			ctx, w := r.store.watch(ctx)
			defer w.end()
			attrs, err := r.store.bucket.Attributes(ctx, r.key)
			if err == nil {
				size = attrs.Size
			}
			return w.why(ctx, err)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.key, err)
		}
	}
	if size != m.Size {
		return nil, fmt.Errorf("%s has %d bytes, but by meta.json it must have %d", r.key, size, m.Size)
	}
	tail, err := readTail(ctx, r, size, m.FooterSize)
	if err != nil {
		return nil, err
	}
	file, err := openParquet(tail, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.key, err)
	}
	f := &footer{size: size, rows: file.NumRows(), cols: r.store.sameColumns(columnsOf(file.Schema()))}
	if f.chunks, err = chunksOf(file); err != nil {
		return nil, fmt.Errorf("%s: %w", r.key, err)
	}
	f.earliest, f.latest = f.times(file)
	span, ok := f.cols[pathSpan+"SpanID"]
	for g, group := range file.RowGroups() {
		f.rowsIn = append(f.rowsIn, group.NumRows())
		if ok {
			f.spans += f.chunks[g][span.index].entries
		}
	}
	return f, nil
}

// memory returns the approximate memory of the contents.
func (c *contents) memory() int64 {
	const perChunk, perPage = 96, 16
	sum := int64(0)
	for _, group := range c.chunks {
		for i := range group {
			sum += perChunk + perPage*int64(cap(group[i].pages))
		}
	}
	if c.ids != nil {
		sum += c.ids.memory()
	}
	for _, d := range c.keys {
		sum += d.memory()
	}
	return sum
}

// openParquet reads a footer. The library panics on some damaged footers.
func openParquet(r io.ReaderAt, size int64) (f *parquet.File, err error) {
	defer recovered(&err)
	// The page index allows finding a row without reading the pages before it.
	return parquet.OpenFile(r, size, parquet.SkipBloomFilters(true), parquet.ReadBufferSize(16<<10))
}

// tailReader caches the end of a file, which contains its footer and page indexes.
type tailReader struct {
	io.ReaderAt
	tail byteRange
	kept []byte
}

// indexBytes is the approximate size of a file's page indexes before its footer. Small files have smaller indexes: at most
// an eighth of the file is read for them, but leastIndexBytes.
const (
	indexBytes      = 192 << 10
	leastIndexBytes = 16 << 10
)

func readTail(ctx context.Context, r *objectReader, size, footer int64) (*tailReader, error) {
	indexes := min(max(size/8, leastIndexBytes), indexBytes)
	t := &tailReader{ReaderAt: r.readerAt(ctx), tail: byteRange{max(size-min(max(footer, 0), size)-indexes-8, 0), size}}
	t.kept = make([]byte, t.tail.to-t.tail.from)
	if _, err := t.ReaderAt.ReadAt(t.kept, t.tail.from); err != nil {
		return nil, err
	}
	return t, nil
}

// ReadAt reads from the cached end, or from the file.
func (t *tailReader) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off >= t.tail.from && off+int64(len(p)) <= t.tail.to:
		return copy(p, t.kept[off-t.tail.from:]), nil
	case off == 0 && len(p) == 4: // the magic number at the start equals that at the end
		return copy(p, "PAR1"), nil
	}
	return t.ReaderAt.ReadAt(p, off)
}

// recovered converts a panic about a damaged file to an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the file is damaged: %v", r)
	}
}

// times returns bounds of the times of all rows from the statistics of the start and end columns.
// meta.json is no source, because late data has its time of arrival there.
func (f *footer) times(file *parquet.File) (earliest, latest trace.Time) {
	start, ok1 := f.cols["StartTimeUnixNano"]
	end, ok2 := f.cols["EndTimeUnixNano"]
	if !ok1 || !ok2 {
		return 0, 0
	}
	earliest = ^trace.Time(0)
	for _, g := range file.RowGroups() {
		chunks := g.ColumnChunks()
		from, _, ok1 := bounds(chunks[start.index])
		_, to, ok2 := bounds(chunks[end.index])
		if !ok1 || !ok2 {
			return 0, 0
		}
		earliest, latest = min(earliest, from), max(latest, to)
	}
	return earliest, latest
}

func bounds(c parquet.ColumnChunk) (low, high trace.Time, ok bool) {
	f, isFile := c.(*parquet.FileColumnChunk)
	if !isFile {
		return 0, 0, false
	}
	lowest, highest, ok := f.Bounds()
	if !ok || lowest.IsNull() || highest.IsNull() {
		return 0, 0, false
	}
	return trace.Time(lowest.Uint64()), trace.Time(highest.Uint64()), true
}
