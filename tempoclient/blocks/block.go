package blocks

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/parquet-go/parquet-go"

	"github.com/betracehq/betrace/trace"
)

// sampleEvery is the distance, in rows, between the trace IDs of a block that are kept. They suffice to
// find any row, and need little memory for many blocks.
const sampleEvery = 32

// formats are the supported versions of Tempo's blocks.
var formats = []string{"vParquet4", "vParquet5"}

// readStats counts the requests to the storage.
type readStats struct {
	requests, bytes atomic.Int64
	// words counts the bytes of the kept dictionaries, up to mostWords.
	words     atomic.Int64
	mostWords int64
}

// block is an open block: the contents of its footer, and a sample of its trace IDs.
type block struct {
	Meta
	object *objectReader
	size   int64     // of the file, in bytes
	rowsIn []int64   // by row group
	chunks [][]chunk // by row group and column
	cols   columns
	// groups hold every sampleEvery-th trace ID of each row group.
	groups [][]trace.ID
	// earliest is a lower bound of its rows' starts, latest an upper bound of their ends; latest is 0 if
	// unknown.
	earliest, latest trace.Time
	spans            int64

	// without are the paths of the groups whose shared attribute columns contain none of the needed
	// attributes, as far as this was determined.
	without map[string]bool

	dictionaries dictionaries
}

// open reads a block's footer and its trace IDs.
func (s *Store) open(ctx context.Context, m Meta, stats *readStats) (b *block, err error) {
	defer recovered(&err)
	if !slices.Contains(formats, m.Version) {
		return nil, fmt.Errorf("its format is %s: let Tempo rewrite it in one of the supported formats %v", m.Version, formats)
	}
	r := &objectReader{store: s, key: path.Join(m.Tenant, m.ID, "data.parquet"), stats: stats}
	size := m.stored
	if size == 0 {
		err := s.retried(ctx, func() error {
			ctx, w := s.watch(ctx)
			defer w.end()
			attrs, err := s.bucket.Attributes(ctx, r.key)
			if err == nil {
				size = attrs.Size
			}
			return w.why(ctx, err)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.key, err)
		}
	}
	// Tempo opens a block with the size in meta.json.
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
	if rows := file.NumRows(); rows != int64(m.Traces) {
		return nil, fmt.Errorf("%s has %d rows, but by meta.json it must have %d", r.key, rows, m.Traces)
	}
	b = &block{Meta: m, object: r, size: size, cols: s.sameColumns(columnsOf(file.Schema()))}
	if b.chunks, err = chunksOf(file); err != nil {
		return nil, fmt.Errorf("%s: %w", r.key, err)
	}
	b.earliest, b.latest = b.times(file)
	span, ok := b.cols[pathSpan+"SpanID"]
	for g, group := range file.RowGroups() {
		b.rowsIn = append(b.rowsIn, group.NumRows())
		if ok {
			b.spans += b.chunks[g][span.index].entries
		}
	}
	return b, nil
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

// indexBytes is the approximate size of a file's page indexes before its footer.
const indexBytes = 192 << 10

func readTail(ctx context.Context, r *objectReader, size, footer int64) (*tailReader, error) {
	t := &tailReader{ReaderAt: r.readerAt(ctx), tail: byteRange{max(size-min(max(footer, 0), size)-indexBytes-8, 0), size}}
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
func (b *block) times(file *parquet.File) (earliest, latest trace.Time) {
	start, ok1 := b.cols["StartTimeUnixNano"]
	end, ok2 := b.cols["EndTimeUnixNano"]
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

// overlaps reports whether a row of the block may have a time in [from, to].
func (b *block) overlaps(from, to trace.Time) bool {
	return b.latest == 0 || b.earliest <= to && b.latest >= from
}

// sample reads the trace IDs and keeps some of them. They must be sorted, because rows are found by them.
func (b *block) sample(in io.ReaderAt) (err error) {
	defer recovered(&err)
	id, ok := b.cols["TraceID"]
	if !ok {
		return fmt.Errorf("the file has no column TraceID")
	}
	b.groups = make([][]trace.ID, len(b.rowsIn))
	var last trace.ID
	for g, rows := range b.rowsIn {
		row := int64(0)
		if err := id.eachPage(b, g, &pageReader{in: in}, rowRange{to: rows}, func(p *page) error {
			if err := p.decode(); err != nil {
				return err
			}
			var unsorted error
			err := eachText(p, func(_ int, text []byte) {
				var at trace.ID
				pad(at[:], text)
				if at.Compare(last) < 0 {
					unsorted = fmt.Errorf("trace %s follows %s: the rows are not sorted by trace ID", at, last)
				}
				last = at
				if row%sampleEvery == 0 {
					b.groups[g] = append(b.groups[g], at)
				}
				row++
			})
			return cmp.Or(unsorted, err)
		}); err != nil {
			return fmt.Errorf("column TraceID: %w", err)
		}
	}
	return nil
}

// rows returns rows of a row group that include all rows with IDs in the range, and up to sampleEvery-1
// more at either end.
func (b *block) rows(group int, ids idRange) (from, to int64) {
	sample := b.groups[group]
	// The last sample below the range: all rows before it are below the range, too.
	first := sort.Search(len(sample), func(i int) bool { return sample[i].Compare(ids.from) >= 0 })
	if first > 0 {
		from = int64(first-1) * sampleEvery
	}
	to = b.rowsIn[group]
	if !ids.last {
		end := sort.Search(len(sample), func(i int) bool { return sample[i].Compare(ids.to) >= 0 })
		to = min(to, int64(end)*sampleEvery)
	}
	return from, max(from, to)
}

// idRange is a range of trace IDs: from is inclusive, to is exclusive. The last range has no end.
type idRange struct {
	from, to trace.ID
	last     bool
}
