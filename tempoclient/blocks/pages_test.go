package blocks

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/format"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

// randomColumn is a file with one column, written by the library.
type randomColumn struct {
	name string
	file []byte
	l    leaf
	b    *block
	// The entries, by row group and row.
	rows [][]parquet.Row
}

// randomLeaf returns a column of random type, encoding and compression, nested in depth lists.
func randomLeaf(r *rand.Rand, depth int) (root parquet.Node, kind parquet.Kind, name string) {
	types := []struct {
		node      parquet.Node
		encodings []encoding.Encoding
	}{
		{parquet.Leaf(parquet.ByteArrayType), []encoding.Encoding{&parquet.Plain, &parquet.RLEDictionary, &parquet.RLEDictionary, &parquet.DeltaLengthByteArray, &parquet.DeltaByteArray}},
		{parquet.Leaf(parquet.Int64Type), []encoding.Encoding{&parquet.Plain, &parquet.DeltaBinaryPacked}},
		{parquet.Leaf(parquet.Int32Type), []encoding.Encoding{&parquet.Plain, &parquet.DeltaBinaryPacked}},
		{parquet.Leaf(parquet.DoubleType), []encoding.Encoding{&parquet.Plain}},
		{parquet.Leaf(parquet.BooleanType), []encoding.Encoding{&parquet.Plain, &parquet.RLE}},
	}
	typ := types[max(r.IntN(len(types)+4)-4, 0)]
	enc := typ.encodings[r.IntN(len(typ.encodings))]
	codecs := []compress.Codec{&parquet.Uncompressed, &parquet.Snappy, &parquet.Snappy, &parquet.Zstd, &parquet.Gzip, &parquet.Lz4Raw}
	codec := codecs[r.IntN(len(codecs))]
	node := parquet.Compressed(parquet.Encoded(typ.node, enc), codec)
	if r.IntN(2) == 0 {
		node = parquet.Optional(node)
	}
	name = fmt.Sprintf("%s in %d lists, optional %t, %s, %s", typ.node.Type().Kind(), depth, node.Optional(), enc, codec)
	if depth > 0 && r.IntN(2) == 0 && !node.Optional() { // the value itself is repeated
		node = parquet.Repeated(node)
		depth--
	}
	for d := range depth {
		node = parquet.Repeated(parquet.Group{fmt.Sprintf("l%d", d): node})
	}
	return parquet.Group{"c": node}, typ.node.Type().Kind(), name
}

func newRandomColumn(t *testing.T, r *rand.Rand) *randomColumn {
	t.Helper()
	depth := r.IntN(5)
	root, kind, name := randomLeaf(r, depth)
	schema := parquet.NewSchema("random", root)
	var l leaf
	for _, only := range columnsOf(schema) {
		l = only
	}
	require.Equal(t, depth, l.depth)
	require.Equal(t, kind, l.kind)

	words := 1 + r.IntN(300)
	length := r.IntN(3) * 4 // of strings; 0: any
	value := func() parquet.Value {
		switch kind {
		case parquet.ByteArray:
			text := binary.BigEndian.AppendUint64(nil, uint64(r.IntN(words))*0x9e3779b97f4a7c15)
			if length > 0 {
				return parquet.ByteArrayValue(text[:length])
			}
			return parquet.ByteArrayValue(text[:r.IntN(8)])
		case parquet.Int64:
			return parquet.Int64Value(int64(r.Uint64()) >> r.IntN(64))
		case parquet.Int32:
			return parquet.Int32Value(int32(r.Uint32()) >> r.IntN(32))
		case parquet.Double:
			return parquet.DoubleValue(r.NormFloat64())
		}
		return parquet.BooleanValue(r.IntN(3) == 0)
	}
	// The share of defined values, and the probability that a level repeats.
	full, same := []float64{1, 1, 1, 0.9, 0.5, 0.02, 0}[r.IntN(7)], r.Float64()
	perRow := 1 + r.IntN(20)
	n := 1 + r.IntN([]int{10, 500, 6000}[r.IntN(3)])
	var rows []parquet.Row
	level := int(l.defined)
	for len(rows) < n {
		var row parquet.Row
		for rep := 0; ; {
			if r.Float64() > same {
				if level = int(l.defined); r.Float64() >= full {
					level = r.IntN(int(l.defined) + 1)
				}
			}
			level = max(level, int(l.present[rep])) // a repeated element exists
			v := parquet.NullValue()
			if level == int(l.defined) {
				v = value()
			}
			row = append(row, v.Level(rep, level, 0))
			lists := 0 // lists in which another element may follow
			for lists < depth && level >= int(l.present[lists+1]) {
				lists++
			}
			if lists == 0 || r.IntN(perRow) == 0 {
				break
			}
			rep = 1 + r.IntN(lists)
		}
		rows = append(rows, row)
	}

	c := &randomColumn{l: l}
	var file bytes.Buffer
	page := 1 << r.IntN(14)
	options := []parquet.WriterOption{schema, parquet.PageBufferSize(page), parquet.DataPageVersion(2), parquet.WriteBufferSize(0)}
	limited := r.IntN(3) == 0
	if limited { // the column changes to plain pages
		options = append(options, parquet.DictionaryMaxBytes(int64(1+r.IntN(2000))))
	}
	w := parquet.NewWriter(&file, options...)
	for i := 0; i < len(rows); {
		some := min(1+r.IntN(len(rows)), len(rows)-i)
		_, err := w.WriteRows(rows[i : i+some])
		require.NoError(t, err)
		i += some
		if r.IntN(4) == 0 {
			require.NoError(t, w.Flush())
		}
	}
	require.NoError(t, w.Close())
	c.file = file.Bytes()
	c.name = fmt.Sprintf("%s, %d rows, pages of %d bytes, limited %t", name, n, page, limited)

	f, err := openParquet(bytes.NewReader(c.file), int64(len(c.file)))
	require.NoError(t, err)
	c.b = &block{contents: contents{footer: &footer{}}, object: &objectReader{stats: &readStats{mostWords: int64(r.IntN(2)) << 30}}}
	c.b.chunks, err = chunksOf(f)
	require.NoError(t, err)
	for _, g := range f.RowGroups() {
		c.b.rowsIn = append(c.b.rowsIn, g.NumRows())
		c.rows = append(c.rows, rows[:g.NumRows()])
		rows = rows[g.NumRows():]
	}
	require.Empty(t, rows)
	return c
}

// wantValue requires that value i of the page is v.
func wantValue(t *testing.T, p *page, i int, v parquet.Value) {
	t.Helper()
	if want, have := valueOf(v), p.value(i); !have.Equal(want) {
		require.Equal(t, want.String(), have.String())
	}
}

func valueOf(v parquet.Value) trace.Value {
	switch v.Kind() {
	case parquet.ByteArray:
		return trace.StringValue(string(v.ByteArray()))
	case parquet.Int64:
		return trace.IntValue(v.Int64())
	case parquet.Int32:
		return trace.IntValue(int64(v.Int32()))
	case parquet.Double:
		return trace.DoubleValue(v.Double())
	case parquet.Boolean:
		return trace.BoolValue(v.Boolean())
	}
	return trace.Value{}
}

// For any column written by the library, any rows and each method of reading, pages contain the written
// values.
func TestPagesHoldWhatWasWritten(t *testing.T) {
	columns := 400
	if testing.Short() {
		columns = 150
	}
	for seed := range columns {
		r := rand.New(rand.NewPCG(uint64(seed), 8))
		c := newRandomColumn(t, r)
		in := &pageReader{in: bytes.NewReader(c.file)}
		for range 12 {
			g := r.IntN(len(c.rows))
			n := len(c.rows[g])
			from := r.IntN(n)
			to := from + 1 + r.IntN(n-from)
			if r.IntN(4) == 0 {
				from, to = 0, n
			}
			var want []parquet.Value
			rows := rowRange{from: int64(from), to: int64(to)}
			var entries []int32
			for _, row := range c.rows[g][from:to] {
				entries = append(entries, int32(len(want)))
				want = append(want, row...)
			}
			entries = append(entries, int32(len(want)))
			if r.IntN(2) == 0 {
				rows.entries = entries
			}
			what := fmt.Sprintf("seed %d: %s, rows %d to %d of %d, entries known %t", seed, c.name, from, to, n, rows.entries != nil)
			at := 0
			err := c.l.eachPage(c.b, g, in, rows, func(p *page) error {
				require.LessOrEqual(t, at+p.entries, len(want), what)
				these := want[at : at+p.entries]
				at += p.entries
				values := 0
				for _, v := range these {
					if !v.IsNull() {
						values++
					}
				}
				for _, wrong := range []int{0, p.nulls - 1, p.nulls + 1, p.all} {
					if c.l.defined > 0 && wrong >= 0 && wrong <= p.all && wrong != p.nulls {
						q := *p
						q.nulls = wrong
						require.Error(t, q.check(), "%s: %d entries without a value, not %d", what, p.nulls, wrong)
					}
				}
				require.NoError(t, p.check(), what)
				if r.IntN(2) == 0 { // the whole page, by its marks
					require.NoError(t, p.decodeAll(), what)
					m := p.defined()
					for i, v := range these {
						value, ok := m.rank(int32(p.first + i))
						require.Equal(t, !v.IsNull(), ok, "%s, entry %d", what, i)
						if ok {
							wantValue(t, p, value, v)
						}
					}
					return nil
				}
				require.NoError(t, p.levels(), what)
				require.Equal(t, values, p.values(), what)
				if texts, err := p.fixedTexts(4); texts != nil {
					require.NoError(t, err)
					require.Len(t, texts, 4*len(these), what)
					for i, v := range these {
						require.Equal(t, v.ByteArray(), texts[4*i:4*i+4], what)
					}
				}
				require.NoError(t, p.decode(), what)
				value := 0
				for i, v := range these {
					if c.l.depth > 0 {
						require.Equal(t, v.RepetitionLevel(), int(p.rep[i]), what)
					}
					require.Equal(t, v.DefinitionLevel(), int(p.level(i)), what)
					require.Equal(t, !v.IsNull(), p.has(i), what)
					if p.has(i) {
						wantValue(t, p, value, v)
						value++
					}
				}
				return nil
			})
			require.NoError(t, err, what)
			require.Len(t, want, at, what)
		}
		for g, rows := range c.rows {
			chunk := &c.b.chunks[g][0]
			values, entries, anyTrue := 0, 0, false
			for _, row := range rows {
				for _, v := range row {
					entries++
					if !v.IsNull() {
						values++
						anyTrue = anyTrue || v.Kind() == parquet.Boolean && v.Boolean()
					}
				}
			}
			require.Equal(t, int64(entries), chunk.entries, c.name)
			require.Equal(t, values == 0, chunk.noValue, c.name)
			require.False(t, chunk.allFalse && anyTrue, c.name)
		}
	}
}

// Checksums cover the data after a page's header. A flipped bit of a header is an error, or results in a
// different number of entries than the column has, or changes nothing.
func TestADamagedBitOfAPagesHeaderIsFoundOrChangesNothing(t *testing.T) {
	columns := 60
	if testing.Short() {
		columns = 20
	}
	flips, changed := 0, map[string]int{}
	for seed := range columns {
		r := rand.New(rand.NewPCG(uint64(seed), 9))
		c := newRandomColumn(t, r)
		if c.b.chunks[0][0].codec == format.Lz4Raw {
			continue // the library accepts any memory for a damaged one; Tempo writes none
		}
		for range 20 {
			g := r.IntN(len(c.rows))
			pages := c.b.chunks[g][0].pages
			page := pages[r.IntN(len(pages))]
			raw := c.file[page.offset : page.offset+int64(page.size)]
			header, body, rest, err := (&pageReader{}).next(raw)
			require.NoError(t, err)
			require.Empty(t, rest)
			n := len(c.rows[g])
			first := int(page.row)
			in := int(header.DataPageHeaderV2.V.NumRows)
			from := max(first-5+r.IntN(in+5), 0)
			to := min(max(from, first)+1+r.IntN(in+10), n)
			if from >= to {
				continue
			}
			rows := rowRange{from: int64(from), to: int64(to)}
			entries := []int32{0}
			var want []parquet.Value
			for _, row := range c.rows[g][from:to] {
				want = append(want, row...)
				entries = append(entries, int32(len(want)))
			}
			if r.IntN(2) == 0 {
				rows.entries = entries
			}
			headerBytes := len(raw) - len(body)
			for bit := range 8 * headerBytes {
				raw[bit/8] ^= 1 << (bit & 7)
				flips++
				same, err := c.readAs(&pageReader{in: bytes.NewReader(c.file)}, g, rows, want, r.IntN(2) == 0)
				if err == nil && !same {
					damaged, _, _, err := (&pageReader{}).next(raw)
					require.NoError(t, err)
					var what []string
					was, is := reflect.ValueOf(header.DataPageHeaderV2.V), reflect.ValueOf(damaged.DataPageHeaderV2.V)
					for i := range was.NumField() {
						if !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
							what = append(what, was.Type().Field(i).Name)
						}
					}
					changed[fmt.Sprintf("%v", what)]++
				}
				raw[bit/8] ^= 1 << (bit & 7)
			}
		}
	}
	require.Empty(t, changed, "of %d", flips)
	t.Logf("%d damaged bits", flips)
}

// readAs reads rows of the column, and reports whether they are as wanted. Another number of entries is
// an error.
func (c *randomColumn) readAs(in *pageReader, group int, rows rowRange, want []parquet.Value, marked bool) (same bool, err error) {
	defer recovered(&err)
	at, same := 0, true
	err = c.l.eachPage(c.b, group, in, rows, func(p *page) error {
		if at+p.entries > len(want) {
			return io.ErrShortBuffer
		}
		these := want[at : at+p.entries]
		at += p.entries
		if marked {
			if p.nulls == p.all {
				for _, v := range these {
					same = same && v.IsNull()
				}
				return nil
			}
			if err := p.decodeAll(); err != nil {
				return err
			}
			m := p.defined()
			for i, v := range these {
				value, ok := m.rank(int32(p.first + i))
				same = same && ok == !v.IsNull() && (!ok || p.value(value).Equal(valueOf(v)))
			}
			return nil
		}
		if err := cmp.Or(p.levels(), p.decode()); err != nil {
			return err
		}
		value := 0
		for i, v := range these {
			same = same && (p.rep == nil || v.RepetitionLevel() == int(p.rep[i])) && int(p.level(i)) == v.DefinitionLevel()
			if p.has(i) {
				same = same && p.value(value).Equal(valueOf(v))
				value++
			}
		}
		return nil
	})
	if err == nil && at != len(want) {
		err = io.ErrUnexpectedEOF
	}
	return same, err
}

// Footers and page indexes have no checksums. A damaged one is an error, or its pages are within the
// file.
func TestADamagedFooterIsNoPanic(t *testing.T) {
	for seed := range 3 {
		r := rand.New(rand.NewPCG(uint64(seed), 10))
		c := newRandomColumn(t, r)
		end := int64(0)
		for _, g := range c.b.chunks {
			end = max(end, g[0].end)
		}
		for bit := 8 * end; bit < 8*int64(len(c.file)); bit++ {
			c.file[bit/8] ^= 1 << (bit & 7)
			func() {
				f, err := openParquet(bytes.NewReader(c.file), int64(len(c.file)))
				if err != nil {
					return
				}
				chunks, err := chunksOf(f)
				if err != nil {
					return
				}
				for _, g := range chunks {
					for _, c := range g {
						if c.begin < 0 || c.begin > c.data || c.data > c.end || c.end > f.Size() {
							t.Fatalf("bit %d: %+v", bit, c)
						}
					}
				}
			}()
			c.file[bit/8] ^= 1 << (bit & 7)
		}
	}
}

// Strings of one length are recognised by their lengths, which are deltas. Others are not.
func TestTextsOfOneLengthAreTold(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 12))
	told := 0
	for range 3000 {
		n := 1 + r.IntN(400)
		if r.IntN(2) == 0 {
			n = 1 + 128*r.IntN(3) // whole blocks: the library pads others with values other than zero
		}
		lengths := make([]int, n)
		for i := range lengths {
			lengths[i] = 8
		}
		if r.IntN(2) == 0 {
			lengths[r.IntN(n)] += r.IntN(4) - 2
		}
		if r.IntN(4) == 0 { // a step at one position
			step := r.IntN(3) - 1
			for i := r.IntN(n); i < n; i++ {
				lengths[i] += step
			}
		}
		var texts []byte
		ends := []uint32{0}
		same := true
		for _, length := range lengths {
			for range length {
				texts = append(texts, byte(r.Uint32()))
			}
			ends = append(ends, uint32(len(texts)))
			same = same && length == 8
		}
		src, err := parquet.DeltaLengthByteArray.EncodeByteArray(nil, texts, ends)
		require.NoError(t, err)
		rest, ok := equalLengths(src, n, 8)
		require.Equal(t, same, ok, "%v", lengths)
		if ok {
			told++
			require.True(t, same)
			require.Equal(t, texts, rest)
			first := r.IntN(n)
			p := &page{in: &pageReader{}, header: &format.DataPageHeaderV2{Encoding: format.DeltaLengthByteArray}, data: src, all: n, first: first, entries: 1 + r.IntN(n-first)}
			some, err := p.fixedTexts(8)
			require.NoError(t, err)
			require.Equal(t, texts[8*first:8*(first+p.entries)], some)
			p.data = src[:len(src)-1]
			some, err = p.fixedTexts(8)
			require.NoError(t, err)
			require.Nil(t, some)
		}
		for _, other := range []int{n - 1, n + 1} {
			_, ok = equalLengths(src, other, 8)
			require.False(t, ok)
		}
		for cut := range min(len(src)-len(texts), 20) {
			_, ok = equalLengths(src[:cut], n, 8)
			require.False(t, ok)
		}
	}
	require.Greater(t, told, 500)
}

// A page with too few values is an error, whatever data follows them in memory.
func TestAPageOfTooFewValuesIsAnError(t *testing.T) {
	ints := []int64{1, 2, 3, 4, 5, 6, 7, 8}
	for _, tt := range []struct {
		kind   parquet.Kind
		dict   *dictionary
		encode func(n int) ([]byte, error)
		enc    encoding.Encoding
	}{
		{parquet.Int64, nil, func(n int) ([]byte, error) { return parquet.Plain.EncodeInt64(nil, ints[:n]) }, &parquet.Plain},
		{parquet.Int64, nil, func(n int) ([]byte, error) { return parquet.DeltaBinaryPacked.EncodeInt64(nil, ints[:n]) }, &parquet.DeltaBinaryPacked},
		{parquet.Int32, nil, func(n int) ([]byte, error) {
			return parquet.Plain.EncodeInt32(nil, []int32{1, 2, 3, 4, 5, 6, 7, 8}[:n])
		}, &parquet.Plain},
		{parquet.Double, nil, func(n int) ([]byte, error) {
			return parquet.Plain.EncodeDouble(nil, []float64{1, 2, 3, 4, 5, 6, 7, 8}[:n])
		}, &parquet.Plain},
		{parquet.ByteArray, nil, func(n int) ([]byte, error) {
			return parquet.Plain.EncodeByteArray(nil, []byte("abcdefgh"), []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8}[:n+1])
		}, &parquet.Plain},
		{parquet.ByteArray, &dictionary{}, func(n int) ([]byte, error) {
			return parquet.RLEDictionary.EncodeInt32(nil, []int32{1, 2, 3, 4, 5, 6, 7, 8}[:n])
		}, &parquet.RLEDictionary},
		{parquet.Boolean, nil, func(n int) ([]byte, error) { return make([]byte, (8*n+7)/8), nil }, &parquet.Plain},
	} {
		in := &pageReader{}
		for have := 8; have >= 6; have-- { // the memory of the first page is reused
			data, err := tt.encode(have)
			require.NoError(t, err)
			all := 8
			if tt.kind == parquet.Boolean {
				all = 64
			}
			p := &page{l: leaf{kind: tt.kind}, in: in, header: &format.DataPageHeaderV2{Encoding: tt.enc.Encoding()}, dict: tt.dict, data: data, all: all}
			err = p.decodeAll()
			require.Equal(t, have < 8, err != nil, "%s, %s: %d of 8 values", tt.kind, tt.enc, have)
		}
	}
}
