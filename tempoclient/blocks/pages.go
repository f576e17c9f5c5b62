package blocks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/format"
)

// page is the part of a decoded page that lies in the rows that are read: entries with
// their levels, and the values of those entries that are defined. It is valid until
// the next is read.
type page struct {
	rep, def []byte // nil where the column is in no list, or not optional
	entries  int

	// Values are texts by code of dict (codes), plain texts (bytes, ends: text i is
	// bytes[ends[i]:ends[i+1]]), or numbers, or bits from bit on.
	dict    parquet.Dictionary
	codes   []int32
	bytes   []byte
	ends    []uint32
	ints    []int64
	ints32  []int32
	doubles []float64
	bits    []byte
	bit     int
}

// values returns how many values the page has.
func (p *page) values(defined byte) int {
	if p.def == nil {
		return p.entries
	}
	return bytes.Count(p.def, []byte{defined})
}

// text returns plain text i.
func (p *page) text(i int) []byte { return p.bytes[p.ends[i]:p.ends[i+1]] }

// bool returns truth value i.
func (p *page) bool(i int) bool {
	i += p.bit
	return p.bits[i>>3]&(1<<(i&7)) != 0
}

// runReader gives the bytes of some pages of a column, which it reads in one request,
// and those of its dictionary. Its memory is used again.
type runReader struct {
	in   io.ReaderAt
	runs [2]run
}

type run struct {
	at    int64
	bytes []byte
}

// read reads bytes [from, to) as run n.
func (r *runReader) read(n int, from, to int64) error {
	r.runs[n].at, r.runs[n].bytes = from, sized(r.runs[n].bytes, int(max(to-from, 0)))
	if to <= from {
		return nil
	}
	_, err := r.in.ReadAt(r.runs[n].bytes, from)
	return err
}

// turn turns to another file, of which nothing was read yet.
func (r *runReader) turn(in io.ReaderAt) {
	r.in = in
	for i := range r.runs {
		r.runs[i].bytes = r.runs[i].bytes[:0]
	}
}

// ReadAt reads what lies in the runs, up to their ends; anything else it asks for.
func (r *runReader) ReadAt(p []byte, off int64) (int, error) {
	for i := range r.runs {
		if at := off - r.runs[i].at; at >= 0 && at < int64(len(r.runs[i].bytes)) {
			return copy(p, r.runs[i].bytes[at:]), nil
		}
	}
	return r.in.ReadAt(p, off)
}

// smallChunk is up to how many bytes a column of a row group is read whole, without
// looking for the pages that hold the rows.
const smallChunk = 16 << 10

// chunk returns the column's part of a row group.
func (l leaf) chunk(file *parquet.File, group int) (*parquet.FileColumnChunk, error) {
	chunk, ok := file.RowGroups()[group].ColumnChunks()[l.index].(*parquet.FileColumnChunk)
	if !ok {
		return nil, fmt.Errorf("the column is no part of a file: %T", file.RowGroups()[group].ColumnChunks()[l.index])
	}
	return chunk, nil
}

// onlyWords says whether all data pages of a column are words of its dictionary, as its
// metadata tell. A writer goes over to plain pages when a dictionary gets too large.
func (l leaf) onlyWords(meta *format.ColumnMetaData) bool {
	if len(meta.EncodingStats) == 0 {
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

// pagesOf returns the first and the last page with rows [from, to).
func pagesOf(index parquet.OffsetIndex, from, to int64) (first, last int) {
	n := index.NumPages()
	first = max(sort.Search(n, func(i int) bool { return index.FirstRowIndex(i) > from })-1, 0)
	last = max(sort.Search(n, func(i int) bool { return index.FirstRowIndex(i) >= to })-1, first)
	return first, last
}

// eachPage reads rows [from, to) of a column of a row group, a page at a time.
func (l leaf) eachPage(file *parquet.File, group int, in *runReader, from, to int64, do func(*page) error) (err error) {
	chunk, err := l.chunk(file, group)
	if err != nil {
		return err
	}
	// Begin at the start of a page: what is sliced is copied.
	row := int64(0)
	meta := &file.Metadata().RowGroups[group].Columns[l.index].MetaData
	if meta.TotalCompressedSize <= smallChunk {
		begin := meta.DataPageOffset
		if meta.DictionaryPageOffset != 0 {
			begin = meta.DictionaryPageOffset
		}
		if err := in.read(0, begin, begin+meta.TotalCompressedSize); err != nil {
			return err
		}
	} else if index, err := chunk.OffsetIndex(); err == nil && index != nil && index.NumPages() > 0 {
		first, last := pagesOf(index, from, to)
		row = index.FirstRowIndex(first)
		if meta.DictionaryPageOffset != 0 {
			if err := in.read(1, meta.DictionaryPageOffset, meta.DataPageOffset); err != nil {
				return err
			}
		}
		if err := in.read(0, index.Offset(first), index.Offset(last)+index.CompressedPageSize(last)); err != nil {
			return err
		}
	}
	pages := chunk.PagesFrom(in)
	defer func() { err = errors.Join(err, pages.Close()) }()
	if err := pages.SeekToRow(row); err != nil {
		return err
	}
	for row < to {
		decoded, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the column ends at row %d of %d: %w", row, to, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		next := row + decoded.NumRows()
		var p page
		if next > from {
			if err = l.cut(decoded, from-row, to-row, &p); err == nil && p.entries > 0 {
				err = do(&p)
			}
		}
		parquet.Release(decoded)
		if err != nil {
			return err
		}
		row = next
	}
	return nil
}

// cut takes rows [from, to) of a page.
func (l leaf) cut(decoded parquet.Page, from, to int64, p *page) error {
	p.rep, p.def, p.entries = decoded.RepetitionLevels(), decoded.DefinitionLevels(), int(decoded.NumValues())
	rows := decoded.NumRows()
	first, last := 0, p.entries
	if from > 0 {
		first = entryOfRow(p.rep, from)
	}
	if to < rows {
		last = entryOfRow(p.rep, to)
	}
	skip := first
	if p.def != nil {
		skip = bytes.Count(p.def[:first], []byte{l.defined})
		p.def = p.def[first:last]
	}
	if p.rep != nil {
		p.rep = p.rep[first:last]
	}
	p.entries = last - first
	n := p.values(l.defined)
	data := decoded.Data()
	p.dict = decoded.Dictionary()
	switch {
	case data.Kind() == encoding.Undefined: // no value at all
		if n > 0 {
			return fmt.Errorf("a page has levels for %d values, and none", n)
		}
	case l.kind == parquet.ByteArray && p.dict != nil:
		p.codes = data.Int32()[skip : skip+n]
	case l.kind == parquet.ByteArray:
		b, offsets := data.ByteArray()
		if n > 0 {
			p.bytes, p.ends = b, offsets[skip:skip+n+1]
		}
	case p.dict != nil:
		return fmt.Errorf("values of the type %s in a dictionary are not read", l.kind)
	case l.kind == parquet.Int64:
		p.ints = data.Int64()[skip : skip+n]
	case l.kind == parquet.Int32:
		p.ints32 = data.Int32()[skip : skip+n]
	case l.kind == parquet.Double:
		p.doubles = data.Double()[skip : skip+n]
	case l.kind == parquet.Boolean:
		p.bits, p.bit = data.Boolean(), skip
	default:
		return fmt.Errorf("values of the type %s are not read", l.kind)
	}
	return nil
}

// entryOfRow returns the entry with which a row of a page begins.
func entryOfRow(rep []byte, row int64) int {
	if rep == nil {
		return int(row)
	}
	at := 0
	for ; ; row-- {
		i := bytes.IndexByte(rep[at:], 0)
		if i < 0 {
			return len(rep)
		}
		at += i
		if row == 0 {
			return at
		}
		at++
	}
}
