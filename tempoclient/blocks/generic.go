package blocks

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/parquet-go/parquet-go"

	"github.com/betracehq/betrace/analyzer/trace"
)

// generics is what is being read of the key and value columns of one segment.
//
// An entry of the keys' column is one attribute of one owner. Each value column has one
// entry for it too (more only for lists), defined in the column of its type. Entries
// are gone through key by key: those of one key nearly all have one type, so that a
// processor foresees what comes, where from entry to entry it would guess wrong.
type generics struct {
	keys    []keyEntries
	byKey   map[string]int32
	byWord  []int32 // by word of the keys' dictionary: its number in keys, -1: not needed
	entries int     // of the keys' column
	defined definedEntries
	// lists are, by entry, the elements of values that are lists; owners says whose an
	// entry is, for those and other rare values.
	lists  map[int32][]trace.Value
	owners map[int32]owner
}

// keyEntries are the entries of one needed key.
type keyEntries struct {
	column  *trace.Column
	entries []keyEntry
	next    int // the first that lies behind the pages that were read
	left    int // how many have no value yet
	words   translator
}

// keyEntry is an entry of a key, and the row of its owner.
type keyEntry struct{ entry, row int32 }

// owner is whose an entry is.
type owner struct {
	row    int32
	column *trace.Column
}

// generic reads key and value columns.
func (f *filling) generic(s *segment, o owners, need keySet) error {
	g := &f.generics
	if err := f.keyColumn(s, o, need); err != nil || len(g.keys) == 0 {
		return err
	}
	path := o.path + "Attrs."
	clear(g.lists)
	clear(g.owners)
	if err := f.listFlags(s, path+"IsArray"); err != nil {
		return err
	}
	for _, name := range []string{"Value", "ValueInt", "ValueDouble", "ValueBool"} {
		if err := f.valueColumn(s, o, path+name); err != nil {
			return err
		}
	}
	for entry, list := range g.lists {
		f.put(o, g.owners[entry].column, g.owners[entry].row, trace.ArrayValue(list...))
	}
	return f.unsupported(s, o, path+"ValueUnsupported")
}

// keyColumn reads the keys.
func (f *filling) keyColumn(s *segment, o owners, need keySet) error {
	g := &f.generics
	if g.byKey == nil {
		g.byKey, g.lists, g.owners = map[string]int32{}, map[int32][]trace.Value{}, map[int32]owner{}
	}
	clear(g.byKey)
	g.keys, g.entries = g.keys[:0], 0
	var dict parquet.Dictionary
	number := func(key []byte) int32 {
		if !need.has(string(key)) {
			return -1
		}
		n, ok := g.byKey[string(key)]
		if !ok {
			n = int32(len(g.keys))
			g.keys = slices.Grow(g.keys, 1)[:n+1]
			k := &g.keys[n] // its memory is used again
			k.column, k.entries, k.next = f.filler.Column(o.scope, string(key), o.n), k.entries[:0], 0
			k.words.reset()
			g.byKey[k.column.Key] = n
		}
		return n
	}
	slot := -1
	err := s.column(o.path+"Attrs.Key", func(l leaf, p *page) error {
		if l.depth != o.depth+1 {
			return fmt.Errorf("it is nested in %d lists, not %d", l.depth, o.depth+1)
		}
		if g.entries+p.entries > math.MaxInt32 {
			return fmt.Errorf("it has over %d attributes", math.MaxInt32)
		}
		var numbers []int32
		if p.dict != nil {
			if dict != p.dict {
				dict = p.dict
				data := p.dict.Page().Data()
				words, ends := data.ByteArray()
				g.byWord = sized(g.byWord, max(len(ends)-1, 0))
				for word := range g.byWord {
					g.byWord[word] = number(words[ends[word]:ends[word+1]])
				}
			}
			numbers = g.byWord
		}
		depth, level, rows := byte(o.depth), l.defined, o.rows
		at, row := 0, int32(-1)
		if slot >= 0 {
			row = rows[slot]
		}
		first, keys, codes := int32(g.entries), g.keys, p.codes
		defs := p.def[:len(p.rep)]
		for i, rep := range p.rep {
			if rep <= depth {
				if slot++; uint(slot) >= uint(len(rows)) {
					return fmt.Errorf("it has more than %d elements, unlike the others", len(rows))
				}
				row = rows[slot]
			}
			if defs[i] != level {
				continue
			}
			var n int32
			if numbers != nil {
				n = numbers[codes[at]]
			} else {
				n = number(p.text(at))
				keys = g.keys
			}
			at++
			if n >= 0 && row >= 0 {
				k := &keys[n]
				k.entries = append(k.entries, keyEntry{first + int32(i), row})
			}
		}
		g.entries += p.entries
		return nil
	})
	if err == nil && slot+1 != len(o.rows) {
		err = fmt.Errorf("column %sAttrs.Key has %d elements, others have %d", o.path, slot+1, len(o.rows))
	}
	g.keys = slices.DeleteFunc(g.keys, func(k keyEntries) bool { return len(k.entries) == 0 })
	for i := range g.keys {
		g.keys[i].left = len(g.keys[i].entries)
	}
	return err
}

// findOwners works out whose each entry is. Few segments need it.
func (g *generics) findOwners() {
	if len(g.owners) > 0 {
		return
	}
	for i := range g.keys {
		k := &g.keys[i]
		for _, e := range k.entries {
			g.owners[e.entry] = owner{e.row, k.column}
		}
	}
}

// listFlags notes which values are lists. Nearly none is.
func (f *filling) listFlags(s *segment, path string) error {
	g := &f.generics
	if l, ok := s.b.cols[path]; ok && !l.mayBeTrue(s) {
		return nil
	}
	at := 0
	err := s.column(path, func(l leaf, p *page) error {
		value := 0
		for i := range p.entries {
			if p.def != nil && p.def[i] != l.defined {
				continue
			}
			if p.bool(value) {
				g.findOwners()
				if _, needed := g.owners[int32(at+i)]; needed {
					g.lists[int32(at+i)] = []trace.Value{}
				}
			}
			value++
		}
		at += p.entries
		return nil
	})
	return g.wantEntries(err, path, at)
}

// wantEntries makes an error of a column that has other entries than the keys'.
func (g *generics) wantEntries(err error, path string, entries int) error {
	if err == nil && entries != g.entries {
		err = fmt.Errorf("column %s has %d elements, others have %d", path, entries, g.entries)
	}
	return err
}

// mayBeTrue says whether a column of truth values has a true one in the row group, as
// far as its statistics tell.
func (l leaf) mayBeTrue(s *segment) bool {
	chunk, err := l.chunk(s.b.file, s.group)
	if err != nil {
		return true
	}
	_, highest, ok := chunk.Bounds()
	return !ok || highest.IsNull() || highest.Boolean()
}

// isEmpty says whether a column has no value in the row group, as its statistics tell.
func (l leaf) isEmpty(s *segment) bool {
	chunk, err := l.chunk(s.b.file, s.group)
	return err == nil && chunk.NumValues() > 0 && chunk.NullCount() == chunk.NumValues()
}

// valueColumn reads the values of one type. An entry has none, one or, if it is a list,
// several.
func (f *filling) valueColumn(s *segment, o owners, path string) error {
	g := &f.generics
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	left := 0
	for i := range g.keys {
		g.keys[i].next = 0
		left += g.keys[i].left
	}
	if left == 0 || l.isEmpty(s) {
		return nil
	}
	begun := 0 // entries that have begun
	err = s.column(path, func(l leaf, p *page) error {
		depth := byte(o.depth + 1)
		if len(g.lists) > 0 || l.depth != int(depth) && bytes.IndexByte(p.rep, depth+1) >= 0 {
			g.findOwners()
			return f.listValues(l, p, o, depth, &begun)
		}
		if begun+p.entries > g.entries {
			return fmt.Errorf("it has more than %d elements, unlike the others", g.entries)
		}
		g.defined.find(p.def, l.defined)
		for i := range g.keys {
			if k := &g.keys[i]; k.left > 0 {
				f.valuesOf(k, p, o, int32(begun))
			}
		}
		begun += p.entries
		return nil
	})
	return g.wantEntries(err, path, begun)
}

// valuesOf reads the values of one key in a page whose first entry has the number
// first: entry by entry, since the page has no lists.
func (f *filling) valuesOf(k *keyEntries, p *page, o owners, first int32) {
	d := f.generics.defined
	n, end := k.next, first+int32(p.entries)
	for n < len(k.entries) && k.entries[n].entry < first { // of pages with lists
		n++
	}
	entries := k.entries
	c, left := k.column, k.left
	again := int32(-1) // the row before, for a key that comes twice
	if n > 0 {
		again = entries[n-1].row
	}
	switch {
	case p.codes != nil:
		known := k.words.of(p.dict)
		for ; n < len(entries) && entries[n].entry < end; n++ {
			at, ok := d.value(entries[n].entry - first)
			if !ok {
				continue
			}
			left--
			word, row := p.codes[at], entries[n].row
			code := known[word]
			if c.Text.Codes == nil {
				c.NeedTexts()
			}
			if code == 0 {
				code = k.words.add(word, &c.Text, true)
			}
			if row == again {
				f.put(o, c, row, trace.StringValue(c.Text.Text(code-1)))
				continue
			}
			again = row
			c.Text.Codes[row] = code - 1
		}
	case p.ends != nil:
		for ; n < len(entries) && entries[n].entry < end; n++ {
			at, ok := d.value(entries[n].entry - first)
			if !ok {
				continue
			}
			left--
			row := entries[n].row
			c.NeedTexts()
			if row == again {
				f.put(o, c, row, p.value(at))
				continue
			}
			again = row
			c.Text.Codes[row] = c.Text.InternLikely(p.text(at))
		}
	case p.ints != nil:
		for ; n < len(entries) && entries[n].entry < end; n++ {
			at, ok := d.value(entries[n].entry - first)
			if !ok {
				continue
			}
			left--
			row := entries[n].row
			c.NeedInts()
			if row == again {
				f.put(o, c, row, p.value(at))
				continue
			}
			again = row
			c.Ints[row] = p.ints[at]
			c.IsInt.Set(row)
		}
	case p.doubles != nil:
		for ; n < len(entries) && entries[n].entry < end; n++ {
			at, ok := d.value(entries[n].entry - first)
			if !ok {
				continue
			}
			left--
			row := entries[n].row
			c.NeedDoubles()
			if row == again {
				f.put(o, c, row, p.value(at))
				continue
			}
			again = row
			c.Doubles[row] = p.doubles[at]
			c.IsDouble.Set(row)
		}
	case p.bits != nil:
		for ; n < len(entries) && entries[n].entry < end; n++ {
			at, ok := d.value(entries[n].entry - first)
			if !ok {
				continue
			}
			left--
			row := entries[n].row
			c.NeedBools()
			if row == again {
				f.put(o, c, row, p.value(at))
				continue
			}
			again = row
			c.IsBool.Set(row)
			if p.bool(at) {
				c.Bools.Set(row)
			}
		}
	default: // no value in the page
		i, _ := slices.BinarySearchFunc(entries[n:], end, func(e keyEntry, end int32) int { return cmp.Compare(e.entry, end) })
		n += i
	}
	k.next, k.left = n, left
}

// definedEntries says of each entry of a page whether it is defined, and the number of
// its value: a bit an entry, and how many are set before each 64.
type definedEntries []struct {
	bits   uint64
	before int
}

// find reads the levels of a page.
func (d *definedEntries) find(def []byte, level byte) {
	const low, high = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
	n := (len(def) + 63) / 64
	*d = sized(*d, n)
	pattern := uint64(level) * 0x0101010101010101
	count := 0
	for w := range *d {
		word := uint64(0)
		if part := def[w*64:]; len(part) >= 64 {
			for i := 0; i < 64; i += 8 {
				x := binary.LittleEndian.Uint64(part[i:]) ^ pattern // a zero byte where it is defined
				zero := ^((x&low + low) | x | low) & high
				word |= (zero >> 7 * 0x0102040810204080 >> 56) << i // the bytes' bits, side by side
			}
		} else {
			for i, v := range part {
				if v == level {
					word |= 1 << i
				}
			}
		}
		(*d)[w].bits, (*d)[w].before = word, count
		count += bits.OnesCount64(word)
	}
}

// value returns the number of an entry's value, and whether it has one.
func (d definedEntries) value(entry int32) (int, bool) {
	word, bit := &d[entry>>6], uint64(1)<<(entry&63)
	return word.before + bits.OnesCount64(word.bits&(bit-1)), word.bits&bit != 0
}

// listValues reads a page some of whose entries may have several values.
func (f *filling) listValues(l leaf, p *page, o owners, depth byte, begun *int) error {
	g := &f.generics
	at := 0
	for i := range p.entries {
		if p.rep[i] <= depth {
			*begun++
		}
		if *begun > g.entries || *begun == 0 {
			return fmt.Errorf("it has more than %d elements, unlike the others", g.entries)
		}
		if p.def[i] != l.defined {
			continue
		}
		entry := int32(*begun - 1)
		if owner, needed := g.owners[entry]; needed {
			if list, isList := g.lists[entry]; isList {
				g.lists[entry] = append(list, p.value(at))
			} else {
				f.put(o, owner.column, owner.row, p.value(at))
			}
		}
		at++
	}
	return nil
}

// unsupported reads the values that Tempo keeps as JSON: bytes, maps, lists of
// several types.
func (f *filling) unsupported(s *segment, o owners, path string) error {
	g := &f.generics
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	if l.isEmpty(s) {
		return nil
	}
	begun := 0
	err = s.column(path, func(l leaf, p *page) error {
		first := begun
		begun += p.entries
		if p.values(l.defined) == 0 {
			return nil
		}
		g.findOwners()
		at := 0
		for i, d := range p.def {
			if d != l.defined {
				continue
			}
			if owner, needed := g.owners[int32(first+i)]; needed {
				v, err := jsonValue(p.value(at).Str())
				if err != nil {
					return err
				}
				f.put(o, owner.column, owner.row, v)
			}
			at++
		}
		return nil
	})
	return g.wantEntries(err, path, begun)
}
