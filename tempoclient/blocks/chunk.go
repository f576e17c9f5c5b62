package blocks

import (
	"fmt"
	"math"
	"sort"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// chunk is a column's part of a row group, from the file's footer and the page index. An open file of the
// library needs much more memory. A chunk is small, so that the chunks of a thousand blocks can be kept.
type chunk struct {
	codec format.CompressionCodec
	// begin is the offset of its first byte, including a dictionary; data the offset of its data pages;
	// end the offset after its last byte.
	begin, data, end int64
	entries          int64
	// The statistics: no entry has a value; no boolean is true.
	noValue, allFalse bool
	// onlyWords reports that all data pages consist of words of the dictionary. A writer changes to plain
	// pages when a dictionary becomes too large.
	onlyWords bool
	// encodings has a bit for each encoding of its pages, because a page's header has no checksum.
	encodings uint32
	pages     []pageAt // empty if the file has no page index
}

// pageAt is a page with its first row.
type pageAt struct {
	offset    int64
	size, row int32
}

// hasDictionary reports whether the chunk begins with a dictionary.
func (c *chunk) hasDictionary() bool { return c.begin < c.data }

// bytes returns the size of the chunk.
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
		return chunk{}, fmt.Errorf("it is not part of a file: %T", column)
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

// check returns an error if the footer contradicts a file of this size with this number of rows. Footers
// have no checksum, and they determine allocations and the position of rows.
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
