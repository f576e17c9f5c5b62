package blocks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// page is a data page of a column, with the part of it in the read rows. Its levels and values are
// decoded on request. It is valid until the next page is read.
type page struct {
	l      leaf
	in     *pageReader
	codec  format.CompressionCodec
	header *format.DataPageHeaderV2
	dict   *dictionary // nil unless the values are dictionary words

	// Encoded data: the levels, and the values, which have size bytes when they are not compressed.
	repData, defData, data []byte
	size                   int
	compressed             bool

	all, nulls int // number of entries in the whole page, and number of those without a value
	// The entries in the read rows begin at first.
	first, entries int

	// rep and def are the levels of these entries after a call of levels. rep is nil if the column is in
	// no list, def if all entries have a value.
	rep, def []byte

	// Values are codes of strings in dict (codes), plain strings (bytes, ends: string i is
	// bytes[ends[i]:ends[i+1]]), numbers, or bits starting at bit. After decodeAll they are those of the
	// whole page, after decode those of the read entries.
	codes   []int32
	bytes   []byte
	ends    []uint32
	ints    []int64
	ints32  []int32
	doubles []float64
	bits    []byte
	bit     int
}

// full reports whether all entries of the page have a value.
func (p *page) full() bool { return p.nulls == 0 }

// values returns the number of values of the read entries. levels must have been called.
func (p *page) values() int {
	if p.def == nil {
		return p.entries
	}
	return bytes.Count(p.def, []byte{p.l.defined})
}

// has reports whether entry i has a value. levels must have been called.
func (p *page) has(i int) bool { return p.def == nil || p.def[i] == p.l.defined }

// level returns the definition level of entry i. levels must have been called.
func (p *page) level(i int) byte {
	if p.def == nil {
		return p.l.defined
	}
	return p.def[i]
}

// text returns plain string i.
func (p *page) text(i int) []byte { return p.bytes[p.ends[i]:p.ends[i+1]] }

// bool returns boolean i.
func (p *page) bool(i int) bool {
	i += p.bit
	return p.bits[i>>3]&(1<<(i&7)) != 0
}

// levels decodes the levels of the read entries.
func (p *page) levels() (err error) {
	p.rep, p.def = nil, nil
	if p.l.depth > 0 {
		if p.in.rep, err = decodeLevels(p.in.rep, p.repData, p.all, byte(p.l.depth)); err != nil {
			return fmt.Errorf("repetition levels: %w", err)
		}
		p.rep = p.in.rep[p.first : p.first+p.entries]
	}
	if !p.full() {
		if p.in.def, err = decodeLevels(p.in.def, p.defData, p.all, p.l.defined); err != nil {
			return fmt.Errorf("definition levels: %w", err)
		}
		p.def = p.in.def[p.first : p.first+p.entries]
	}
	return nil
}

// check compares the page's header, which has no checksum, with its levels, and finds the entries with a
// value.
func (p *page) check() error {
	// Compressed values with a wrong start would fail to decompress.
	if p.l.depth > 0 && !p.compressed && !haveLevels(p.repData, p.all, byte(p.l.depth)) {
		return fmt.Errorf("repetition levels: they are not those of %d entries: %w", p.all, parquet.ErrCorrupted)
	}
	level, m := p.l.defined, &p.in.defined
	if level == 0 || p.full() && areAll(p.defData, p.all, level) {
		return nil
	}
	if err := m.find(p.defData, p.all, level, exactly(level)); err != nil {
		return fmt.Errorf("definition levels: %w", err)
	}
	if n := m.count(p.all); n != p.all-p.nulls {
		return fmt.Errorf("a page has %d values by its levels, but %d by its header", n, p.all-p.nulls)
	}
	return nil
}

// defined returns the page's entries that have a value. The result is valid as long as the page.
func (p *page) defined() marks {
	if p.full() {
		p.in.defined.setAll(p.all)
	}
	return p.in.defined
}

// decode decodes the values of the read entries. levels must have been called.
func (p *page) decode() error {
	if err := p.decodeAll(); err != nil {
		return err
	}
	if p.first == 0 && p.entries == p.all {
		return nil
	}
	skip := p.first
	if p.def != nil {
		skip = bytes.Count(p.in.def[:p.first], []byte{p.l.defined})
	}
	n := p.values()
	switch {
	case p.codes != nil:
		p.codes = p.codes[skip : skip+n]
	case p.ends != nil:
		p.ends = p.ends[skip : skip+n+1]
	case p.ints != nil:
		p.ints = p.ints[skip : skip+n]
	case p.ints32 != nil:
		p.ints32 = p.ints32[skip : skip+n]
	case p.doubles != nil:
		p.doubles = p.doubles[skip : skip+n]
	default:
		p.bit = skip
	}
	return nil
}

// fixedTexts returns the concatenated strings of a page if all have n bytes, and nil otherwise or if this
// cannot be determined. levels must have been called.
func (p *page) fixedTexts(n int) ([]byte, error) {
	if p.header.Encoding != format.DeltaLengthByteArray || !p.full() {
		return nil, nil
	}
	data := p.data
	if p.compressed {
		var err error
		if data, err = p.in.decompress(p.codec, data, p.size); err != nil {
			return nil, err
		}
	}
	texts, ok := equalLengths(data, p.all, n)
	if !ok || len(texts) < p.all*n {
		return nil, nil
	}
	return texts[p.first*n : (p.first+p.entries)*n], nil
}

// equalLengths returns the data after the lengths of count strings, if all lengths are n. Such lengths
// are packed as deltas (Parquet's DELTA_BINARY_PACKED): the first length, then zeros.
func equalLengths(src []byte, count, n int) (rest []byte, ok bool) {
	var header [3]uint64 // the size of a block, the number of its parts, the number of values
	for i := range header {
		v, size := binary.Uvarint(src)
		if size <= 0 {
			return nil, false
		}
		header[i], src = v, src[size:]
	}
	first, size := binary.Varint(src)
	if size <= 0 || first != int64(n) || header[2] != uint64(count) || header[0] > 1<<16 || header[1] == 0 || header[1] > header[0] {
		return nil, false
	}
	src = src[size:]
	parts, inPart := int(header[1]), int(header[0]/header[1])
	for left := count - 1; left > 0; {
		least, size := binary.Varint(src)
		if size <= 0 || len(src) < size+parts {
			return nil, false
		}
		widths := src[size : size+parts]
		src = src[size+parts:]
		for _, width := range widths {
			if left <= 0 {
				break
			}
			// The last part may contain fewer values; its minimum is among them.
			size := inPart * int(width) / 8
			if width > 32 || len(src) < size || !allPacked(src[:size], min(left, inPart), uint(width), uint64(-least)) {
				return nil, false
			}
			src = src[size:]
			left -= inPart
		}
	}
	return src, true
}

// allPacked reports whether the first n numbers, of width bits each, are all v.
func allPacked(src []byte, n int, width uint, v uint64) bool {
	if width == 0 {
		return v == 0
	}
	for i := range uint(n) {
		var eight [8]byte
		copy(eight[:], src[i*width/8:])
		if binary.LittleEndian.Uint64(eight[:])>>(i*width%8)&(1<<width-1) != v {
			return false
		}
	}
	return true
}

// decodeAll decodes the values of the whole page.
func (p *page) decodeAll() (err error) {
	p.codes, p.bytes, p.ends, p.ints, p.ints32, p.doubles, p.bits, p.bit = nil, nil, nil, nil, nil, nil, nil, 0
	n := p.all - p.nulls
	if n == 0 {
		return nil
	}
	data := p.data
	if p.compressed {
		if data, err = p.in.decompress(p.codec, data, p.size); err != nil {
			return err
		}
	}
	encoding := parquet.LookupEncoding(p.header.Encoding)
	decoded := 0
	switch in := p.in; {
	case p.dict != nil:
		if in.codes, err = parquet.RLEDictionary.DecodeInt32(in.codes, data); err == nil {
			p.codes, decoded = in.codes, len(in.codes)
		}
	case p.l.kind == parquet.ByteArray:
		if in.texts, in.ends, err = encoding.DecodeByteArray(in.texts, data, in.ends); err == nil {
			p.bytes, p.ends, decoded = in.texts, in.ends, len(in.ends)-1
		}
	case p.l.kind == parquet.Int64:
		if in.ints, err = encoding.DecodeInt64(in.ints, data); err == nil {
			p.ints, decoded = in.ints, len(in.ints)
		}
	case p.l.kind == parquet.Int32:
		if in.ints32, err = encoding.DecodeInt32(in.ints32, data); err == nil {
			p.ints32, decoded = in.ints32, len(in.ints32)
		}
	case p.l.kind == parquet.Double:
		if in.doubles, err = encoding.DecodeDouble(in.doubles, data); err == nil {
			p.doubles, decoded = in.doubles, len(in.doubles)
		}
	case p.l.kind == parquet.Boolean:
		if in.bits, err = encoding.DecodeBoolean(in.bits, data); err == nil {
			p.bits, decoded = in.bits, 8*len(in.bits)
		}
	default:
		err = fmt.Errorf("values of the type %s are not supported", p.l.kind)
	}
	if err == nil && decoded < n {
		err = fmt.Errorf("a page has %d values, but must have %d", decoded, n)
	}
	if err != nil {
		return err
	}
	switch { // the last packed values are padding
	case p.codes != nil:
		p.codes = p.codes[:n]
	case p.ints != nil:
		p.ints = p.ints[:n]
	case p.ints32 != nil:
		p.ints32 = p.ints32[:n]
	case p.doubles != nil:
		p.doubles = p.doubles[:n]
	}
	return nil
}

// word returns the string of value i, which is a dictionary word.
func (p *page) word(i int) []byte { return p.dict.word(p.codes[i]) }

// pageReader reads the pages of one column after another into reused memory.
type pageReader struct {
	in         io.ReaderAt
	run, words []byte // stored pages, and a stored dictionary
	data       []byte // decompressed values
	rep, def   []byte
	codes      []int32
	texts      []byte
	ends       []uint32
	ints       []int64
	ints32     []int32
	doubles    []float64
	bits       []byte
	starts     marks // of rows, see cut
	defined    marks // of the page, see check
	page       page
}

// turn switches to another file.
func (r *pageReader) turn(in io.ReaderAt) { r.in = in }

// read reads bytes [from, to) of the file into memory, which grows if needed.
func (r *pageReader) read(memory *[]byte, from, to int64) ([]byte, error) {
	if to < from {
		return nil, fmt.Errorf("its pages begin at byte %d and end at %d", from, to)
	}
	*memory = sized(*memory, int(to-from))
	if to == from {
		return nil, nil
	}
	_, err := r.in.ReadAt(*memory, from)
	return *memory, err
}

// next returns the first page of raw bytes, and the bytes after it.
func (r *pageReader) next(raw []byte) (header *format.PageHeader, body, rest []byte, err error) {
	var protocol thrift.CompactProtocol
	bytesOf := protocol.NewReaderFromBytes(raw)
	header = new(format.PageHeader)
	if err := thrift.NewDecoder(bytesOf).Decode(header); err != nil {
		return nil, nil, nil, fmt.Errorf("a page's header: %w", err)
	}
	left, ok := bytesOf.Reader().(*bytes.Reader)
	if !ok {
		return nil, nil, nil, fmt.Errorf("the end of a page's header: %T is not a *bytes.Reader", bytesOf.Reader())
	}
	body = raw[len(raw)-left.Len():]
	size := int(header.CompressedPageSize)
	if size < 0 || size > len(body) || header.UncompressedPageSize < 0 {
		return nil, nil, nil, fmt.Errorf("a page has %d bytes of %d: %w", len(body), size, io.ErrUnexpectedEOF)
	}
	body, rest = body[:size], body[size:]
	if header.CRC != 0 {
		if sum := crc32.ChecksumIEEE(body); sum != uint32(header.CRC) {
			return nil, nil, nil, fmt.Errorf("a page's checksum is %08x, but must be %08x: %w", sum, uint32(header.CRC), parquet.ErrCorrupted)
		}
	}
	return header, body, rest, nil
}

// decompress returns size decompressed bytes.
func (r *pageReader) decompress(codec format.CompressionCodec, data []byte, size int) ([]byte, error) {
	if codec == format.Uncompressed {
		return data, nil
	}
	decoded, err := parquet.LookupCompressionCodec(codec).Decode(r.data[:cap(r.data)], data)
	if err != nil {
		return nil, err
	}
	if cap(decoded) >= cap(r.data) {
		r.data = decoded
	}
	if len(decoded) != size {
		return nil, fmt.Errorf("a decompressed page has %d bytes, but must have %d", len(decoded), size)
	}
	return decoded, nil
}

// smallChunk is the size up to which a column of a row group is read whole, without searching for the
// pages with the rows.
const smallChunk = 16 << 10

// rowRange is a range of rows to read in a row group.
type rowRange struct {
	from, to int64
	// entries, if not nil, contains the first entry of each row in the column, and the end, relative to
	// the first row. Then levels need not be decoded to find rows.
	entries []int32
}

// eachPage reads rows of a column of a row group, page by page.
func (l leaf) eachPage(b *block, group int, in *pageReader, rows rowRange, do func(*page) error) error {
	c := &b.chunks[group][l.index]
	var dict *dictionary
	var raw []byte
	var err error
	row, number := int64(0), 0 // of the next page
	switch {
	case c.bytes() <= smallChunk:
		raw, err = in.read(&in.run, c.begin, c.end)
	case len(c.pages) == 0:
		raw, err = in.read(&in.run, c.data, c.end)
	default:
		first, last := c.pagesOf(rows.from, rows.to)
		row, number = int64(c.pages[first].row), first
		raw, err = in.read(&in.run, c.pages[first].offset, c.pages[last].offset+int64(c.pages[last].size))
	}
	if err == nil && c.hasDictionary() && c.bytes() > smallChunk {
		dict, err = l.dictionary(b, group, in, c)
	}
	if err != nil {
		return err
	}
	for row < rows.to {
		if len(raw) == 0 {
			return fmt.Errorf("the column ends at row %d of %d: %w", row, rows.to, io.ErrUnexpectedEOF)
		}
		header, body, rest, err := in.next(raw)
		if err != nil {
			return err
		}
		raw = rest
		if header.Type == format.DictionaryPage {
			if dict, err = l.decodeDictionary(b, group, in, c, header, body); err != nil {
				return err
			}
			continue
		}
		p := &in.page
		if err := p.set(l, in, c.codec, dict, header, body); err != nil {
			return err
		}
		if e := p.header.Encoding; e < 0 || e >= 32 || c.encodings>>e&1 == 0 {
			return fmt.Errorf("a page has the encoding %s, but by the footer the column does not", e)
		}
		if int64(p.all) > c.entries {
			return fmt.Errorf("a page has %d entries, but the column only %d", p.all, c.entries)
		}
		next := row + int64(p.header.NumRows)
		if number++; number <= len(c.pages) { // a header has no checksum, and rows are found by the index
			want := b.rowsIn[group]
			if number < len(c.pages) {
				want = int64(c.pages[number].row)
			}
			if next != want {
				return fmt.Errorf("a page has the rows %d to %d by its header, but to %d by the page index", row, next, want)
			}
		}
		if next > rows.from {
			if err := p.cut(row, next, rows); err != nil {
				return err
			}
			if p.entries > 0 {
				if err := p.check(); err != nil {
					return err
				}
				if err := do(p); err != nil {
					return err
				}
			}
		}
		row = next
	}
	return nil
}

// set sets the page from its header.
func (p *page) set(l leaf, in *pageReader, codec format.CompressionCodec, dict *dictionary, header *format.PageHeader, body []byte) error {
	if header.Type != format.DataPageV2 || !header.DataPageHeaderV2.Valid {
		return fmt.Errorf("a page has the type %s, but Tempo writes only %s", header.Type, format.DataPageV2)
	}
	h := &header.DataPageHeaderV2.V
	*p = page{l: l, in: in, codec: codec, header: h, all: int(h.NumValues), nulls: int(h.NumNulls)}
	rep, def := int(h.RepetitionLevelsByteLength), int(h.DefinitionLevelsByteLength)
	switch {
	case h.NumRows <= 0 || p.all < int(h.NumRows) || l.depth == 0 && p.all != int(h.NumRows):
		return fmt.Errorf("a page has %d entries in %d rows", p.all, h.NumRows)
	case p.nulls < 0 || p.nulls > p.all || p.nulls > 0 && l.defined == 0:
		return fmt.Errorf("a page has %d entries, %d of them without a value", p.all, p.nulls)
	case rep < 0 || def < 0 || rep+def > len(body) || rep+def > int(header.UncompressedPageSize):
		return fmt.Errorf("a page has %d bytes, of which %d are levels: %w", len(body), rep+def, io.ErrUnexpectedEOF)
	}
	p.repData, p.defData, p.data = body[:rep:rep], body[rep:rep+def:rep+def], body[rep+def:]
	p.size = int(header.UncompressedPageSize) - rep - def
	p.compressed = codec != format.Uncompressed && (!h.IsCompressed.Valid || h.IsCompressed.V)
	switch h.Encoding {
	case format.RLEDictionary:
		if dict == nil {
			return errors.New("a page has dictionary words, but the column has no dictionary")
		}
		p.dict = dict
	case format.Plain, format.RLE, format.DeltaBinaryPacked, format.DeltaLengthByteArray, format.DeltaByteArray, format.ByteStreamSplit:
	default: // including encodings that were deprecated before Tempo existed
		return fmt.Errorf("a page has the unsupported encoding %s", h.Encoding)
	}
	return nil
}

// cut finds the page's entries in the read rows. Its own rows are [row, next).
func (p *page) cut(row, next int64, rows rowRange) error {
	p.first, p.entries = 0, p.all
	if row >= rows.from && next <= rows.to {
		return nil
	}
	begin, end := max(rows.from, row), min(rows.to, next)
	last := p.all
	switch entries := rows.entries; {
	case p.l.depth == 0:
		p.first, last = int(begin-row), int(end-row)
	case entries != nil && row >= rows.from:
		last = int(entries[end-rows.from] - entries[row-rows.from])
	case entries != nil && next <= rows.to:
		p.first = p.all - int(entries[next-rows.from])
	default:
		starts := &p.in.starts
		if err := starts.find(p.repData, p.all, byte(p.l.depth), exactly(0)); err != nil {
			return fmt.Errorf("repetition levels: %w", err)
		}
		if n := starts.count(p.all); int64(n) != next-row {
			return fmt.Errorf("a page has %d rows by its levels, but %d by its header", n, next-row)
		}
		p.first = starts.set(int(begin - row))
		if end < next {
			last = starts.set(int(end - row))
		}
	}
	if p.first < 0 || last < p.first || last > p.all {
		return fmt.Errorf("the rows need entries %[2]d to %[3]d of a page with %[1]d entries, unlike in the other columns", p.all, p.first, last)
	}
	p.entries = last - p.first
	return nil
}
