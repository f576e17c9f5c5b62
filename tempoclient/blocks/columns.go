package blocks

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// leaf is one column of a file: where it is, and how its levels are read.
//
// Dremel's levels, in short: each entry of a column has a repetition level, which
// says at which of the nested lists it starts a new element (0: a new row), and a
// definition level, which says how much of its path is there.
type leaf struct {
	index int
	kind  parquet.Kind
	// depth is how many lists the column is nested in; present[d] is the definition
	// level from which on an element of the list at depth d is there; defined that of
	// a value.
	depth   int
	present []byte
	defined byte
}

// columns are the leaves of a file by their paths, without the groups "list" and
// "element" that vParquet4 has around what is repeated.
type columns map[string]leaf

func columnsOf(schema *parquet.Schema) columns {
	cols := columns{}
	var walk func(n parquet.Node, path []string, present []byte, defined byte)
	next := 0
	walk = func(n parquet.Node, path []string, present []byte, defined byte) {
		if n.Optional() {
			defined++
		}
		if n.Repeated() {
			defined++
			present = append(slices.Clone(present), defined)
		}
		if n.Leaf() {
			cols[strings.Join(path, ".")] = leaf{index: next, kind: n.Type().Kind(), depth: len(present) - 1, present: present, defined: defined}
			next++
			return
		}
		for _, f := range n.Fields() {
			name := path
			if f.Name() != "list" && f.Name() != "element" {
				name = append(slices.Clone(path), f.Name())
			}
			walk(f, name, present, defined)
		}
	}
	walk(schema, nil, []byte{0}, 0)
	return cols
}

// entries are a column's values in some rows, with their levels. Values stand only
// where an entry is defined.
type entries struct {
	leaf
	rep, def []byte // nil where the column is in no list and not optional
	n        int    // how many entries
	texts    []string
	ints     []int64
	doubles  []float64
	bools    []bool
}

// textTable keeps the words of one dictionary: an index into it is a text.
type textTable struct {
	of    parquet.Dictionary
	texts []string
}

// read reads rows [from, to) of a column of a row group.
func (l leaf) read(group parquet.RowGroup, from, to int64) (*entries, error) {
	chunk := group.ColumnChunks()[l.index]
	pages := chunk.Pages()
	e := &entries{leaf: l}
	if rows := group.NumRows(); rows > 0 { // about as many as the share of the rows
		e.reserve(int(float64(chunk.NumValues())*float64(to-from)/float64(rows)*1.05) + 16)
	}
	err := l.readPages(pages, from, to, e)
	if closeErr := pages.Close(); err == nil {
		err = closeErr
	}
	return e, err
}

// reserve makes room for n entries.
func (e *entries) reserve(n int) {
	if e.depth > 0 {
		e.rep = make([]byte, 0, n)
	}
	if e.defined > 0 {
		e.def = make([]byte, 0, n)
	}
	// Lists of attributes' values are mostly empty: those grow as they are found.
	if e.defined > 4 {
		return
	}
	switch e.kind {
	case parquet.ByteArray:
		e.texts = make([]string, 0, n)
	case parquet.Int32, parquet.Int64:
		e.ints = make([]int64, 0, n)
	}
}

func (l leaf) readPages(pages parquet.Pages, from, to int64, e *entries) error {
	if err := pages.SeekToRow(from); err != nil {
		return err
	}
	var table textTable
	for row := from; row < to; {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the column ends at row %d of %d: %w", row, to, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		rows := page.NumRows()
		part := page
		if row+rows > to {
			part = page.Slice(0, to-row)
		}
		err = e.add(part, &table)
		parquet.Release(page)
		if err != nil {
			return err
		}
		row += rows
	}
	return nil
}

// add appends a page's values and levels, which it copies.
func (e *entries) add(page parquet.Page, table *textTable) error {
	e.n += int(page.NumValues())
	e.rep = append(e.rep, page.RepetitionLevels()...)
	e.def = append(e.def, page.DefinitionLevels()...)
	data := page.Data()
	dict := page.Dictionary()
	switch e.kind {
	case parquet.ByteArray:
		if dict != nil {
			if table.of != dict {
				words := dict.Page().Data()
				b, offsets := words.ByteArray()
				table.of, table.texts = dict, textsOf(nil, b, offsets)
			}
			for _, i := range data.Int32() {
				if int(i) >= len(table.texts) || i < 0 {
					return fmt.Errorf("a page names word %d of a dictionary of %d", i, len(table.texts))
				}
				e.texts = append(e.texts, table.texts[i])
			}
			return nil
		}
		b, offsets := data.ByteArray()
		e.texts = textsOf(e.texts, b, offsets)
	case parquet.Int64:
		if dict != nil {
			return errors.New("numbers in a dictionary are not read")
		}
		e.ints = append(e.ints, data.Int64()...)
	case parquet.Int32:
		for _, v := range data.Int32() {
			e.ints = append(e.ints, int64(v))
		}
	case parquet.Double:
		e.doubles = append(e.doubles, data.Double()...)
	case parquet.Boolean:
		return e.addBools(page)
	default:
		return fmt.Errorf("values of the type %s are not read", e.kind)
	}
	return nil
}

// addBools reads values one by one: their pages are packed into bits at any offset.
func (e *entries) addBools(page parquet.Page) error {
	values := page.Values()
	var buf [256]parquet.Value
	for {
		n, err := values.ReadValues(buf[:])
		for _, v := range buf[:n] {
			if !v.IsNull() {
				e.bools = append(e.bools, v.Boolean())
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// textsOf cuts a page's bytes into texts, which share one copy of them.
func textsOf(to []string, b []byte, offsets []uint32) []string {
	if len(offsets) < 2 {
		return to
	}
	base := offsets[0]
	all := string(b[base:offsets[len(offsets)-1]])
	for i := range len(offsets) - 1 {
		to = append(to, all[offsets[i]-base:offsets[i+1]-base])
	}
	return to
}

// slots numbers the elements of the list at a column's depth: element[i] is the
// number of the i-th slot's element, -1 for a slot that stands for an empty list.
// Columns below it have one slot for each of these, and so are aligned.
type slots struct {
	element []int32
	parent  []int32 // by element: the element of the list above that it is in
	n       int32
}

// walk follows the elements of the list at depth d of a column, whose list above has
// the given slots (nil: the rows). It calls each for every entry that begins or
// continues an element: element is -1 for an empty list, value the number of the
// entry's value, -1 if it has none.
func (e *entries) walk(d int, above *slots, each func(parent, element int32, begins bool, value int)) (*slots, error) {
	s := &slots{element: make([]int32, 0, e.n), parent: make([]int32, 0, e.n)}
	slot, value := -1, 0
	current := int32(-1)
	for i := range e.n {
		rep, def := byte(0), e.defined
		if e.rep != nil {
			rep = e.rep[i]
		}
		if e.def != nil {
			def = e.def[i]
		}
		if int(rep) < d || d == 0 {
			slot++
		}
		if above != nil && slot >= len(above.element) {
			return nil, fmt.Errorf("the column has more than %d elements at depth %d, unlike the others", len(above.element), d-1)
		}
		parent := int32(slot)
		if above != nil {
			parent = above.element[slot]
		}
		at := -1
		if def >= e.defined {
			at = value
			value++
		}
		if int(rep) <= d {
			current = -1
			if def >= e.present[d] {
				current = s.n
				s.n++
				s.parent = append(s.parent, parent)
			}
			s.element = append(s.element, current)
			if each != nil {
				each(parent, current, true, at)
			}
			continue
		}
		if each != nil {
			each(parent, current, false, at)
		}
	}
	if above != nil && slot+1 != len(above.element) {
		return nil, fmt.Errorf("the column has %d elements at depth %d, others have %d", slot+1, d-1, len(above.element))
	}
	return s, nil
}
