package blocks

import (
	"fmt"
	"math"
	"sort"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// chunk is a column's part of a row group: what the file's footer and the index of its
// pages tell of it. An open file of the library takes much more, whatever it holds; this takes
// little, so that of a thousand blocks all is known at once.
type chunk struct {
	codec format.CompressionCodec
	// begin is where its bytes begin, with the dictionary if it has one; data where its data
	// pages do; end where they end.
	begin, data, end int64
	entries          int64
	// What its statistics tell: that no entry has a value, that no truth value is true.
	noValue, allFalse bool
	// onlyWords says that all data pages are words of its dictionary. A writer goes over to
	// plain pages when a dictionary gets too large.
	onlyWords bool
	// encodings are those of its pages, a bit each: a page's header has no sum.
	encodings uint32
	pages     []pageAt // empty if the file has no index of them
}

// pageAt is a page, with its first row.
type pageAt struct {
	offset    int64
	size, row int32
}

// hasDictionary says whether the chunk begins with one.
func (c *chunk) hasDictionary() bool { return c.begin < c.data }

// bytes returns how large it is.
func (c *chunk) bytes() int64 { return c.end - c.begin }

// pagesOf returns the first and the last page with rows [from, to). There must be pages.
func (c *chunk) pagesOf(from, to int64) (first, last int) {
	n := len(c.pages)
	first = max(sort.Search(n, func(i int) bool { return int64(c.pages[i].row) > from })-1, 0)
	last = max(sort.Search(n, func(i int) bool { return int64(c.pages[i].row) >= to })-1, first)
	return first, last
}

// chunksOf returns a file's chunks, by row group and column.
func chunksOf(file *parquet.File) ([][]chunk, error) {
	groups := make([][]chunk, len(file.RowGroups()))
	for g, group := range file.RowGroups() {
		if group.NumRows() > math.MaxInt32 {
			return nil, fmt.Errorf("row group %d has %d rows, up to %d are read", g, group.NumRows(), math.MaxInt32)
		}
		columns := group.ColumnChunks()
		groups[g] = make([]chunk, len(columns))
		for i, column := range columns {
			c, err := chunkOf(column, &file.Metadata().RowGroups[g].Columns[i].MetaData)
			if err == nil {
				err = c.check(file.Size(), group.NumRows())
			}
			if err != nil {
				return nil, fmt.Errorf("column %d of row group %d: %w", i, g, err)
			}
			groups[g][i] = c
		}
	}
	return groups, nil
}

func chunkOf(column parquet.ColumnChunk, meta *format.ColumnMetaData) (chunk, error) {
	in, ok := column.(*parquet.FileColumnChunk)
	if !ok {
		return chunk{}, fmt.Errorf("it is no part of a file: %T", column)
	}
	c := chunk{codec: meta.Codec, begin: meta.DataPageOffset, data: meta.DataPageOffset, entries: in.NumValues(), onlyWords: onlyWords(meta)}
	for _, e := range meta.Encoding {
		if e >= 0 && e < 32 {
			c.encodings |= 1 << e
		}
	}
	if meta.DictionaryPageOffset != 0 {
		c.begin = min(c.data, meta.DictionaryPageOffset)
	}
	c.end = c.begin + meta.TotalCompressedSize
	c.noValue = c.entries > 0 && in.NullCount() == c.entries
	if column.Type().Kind() == parquet.Boolean {
		_, highest, ok := in.Bounds()
		c.allFalse = ok && !highest.IsNull() && !highest.Boolean()
	}
	index, err := in.OffsetIndex()
	if err != nil {
		return chunk{}, fmt.Errorf("the index of its pages: %w", err)
	}
	if index == nil {
		return c, nil
	}
	c.pages = make([]pageAt, index.NumPages())
	for i := range c.pages {
		row, size := index.FirstRowIndex(i), index.CompressedPageSize(i)
		if row < 0 || row > math.MaxInt32 || size < 0 || size > math.MaxInt32 {
			return chunk{}, fmt.Errorf("by the index of its pages, page %d has %d bytes from row %d on", i, size, row)
		}
		c.pages[i] = pageAt{index.Offset(i), int32(size), int32(row)}
	}
	return c, nil
}

// check says whether what the footer tells can be, in a file of that size and for so many
// rows: of footers there are no sums, and memory is taken and rows are found by it.
func (c *chunk) check(size, rows int64) error {
	if c.begin < 0 || c.data < c.begin || c.end < c.data || c.end > size {
		return fmt.Errorf("it begins at byte %d, its data at %d, and it ends at %d, in a file of %d bytes", c.begin, c.data, c.end, size)
	}
	if c.entries < rows {
		return fmt.Errorf("it has %d entries in %d rows", c.entries, rows)
	}
	offset, row := c.data, int64(0)
	for i, p := range c.pages {
		if p.offset < offset || p.offset+int64(p.size) > c.end || i == 0 && p.row != 0 || i > 0 && int64(p.row) <= row || int64(p.row) >= rows {
			return fmt.Errorf("by the index of its pages, page %d has %d bytes at %d, from row %d of %d on", i, p.size, p.offset, p.row, rows)
		}
		offset, row = p.offset+int64(p.size), int64(p.row)
	}
	return nil
}

func onlyWords(meta *format.ColumnMetaData) bool {
	if meta.DictionaryPageOffset == 0 || len(meta.EncodingStats) == 0 {
		return false
	}
	for _, s := range meta.EncodingStats {
		isData := s.PageType == format.DataPage || s.PageType == format.DataPageV2
		if isData && s.Encoding != format.RLEDictionary {
			return false
		}
	}
	return true
}
