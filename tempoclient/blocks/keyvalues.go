package blocks

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/parquet-go/parquet-go"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// generics is the state of reading the key and value columns of one segment.
//
// An entry of the key column is one attribute of one owner. Each value column has one entry for it, too
// (more only for lists), which is defined in the column of its type. Values are processed key by key:
// those of one key nearly all have one type, so that branches are predictable, unlike when processed
// entry by entry.
type generics struct {
	keys    []neededKey
	byKey   map[string]int32
	byWord  []int32                       // by word of the keys' dictionary: the number of its key; 0: not needed
	entries int                           // of the key column
	numbers []int32                       // by entry, after 64 entries of padding: the number of its key, from 1; 0: not needed
	counts  []int32                       // by number: the number of its entries
	begins  marks                         // entries that begin an owner
	rowOf   []int32                       // by slot of owners
	firsts  []int32                       // by row of the segment, and for the end: its first entry; empty if unknown
	types   map[columnar.AttributeKey]int // the value column in which a key's values were last found
	// For the current page: the entries that begin an owner, and those with a value.
	ownerStarts, defined marks
	equal                columnar.Bits
	hits                 [1024]hit // small enough to stay in the cache
	// If there are many keys, sorted are the page's entries by number: those of n are between starts[n-1]
	// and starts[n]. Otherwise both are empty.
	sorted, starts []int32
	// lists are, by entry, the elements of values that are lists. owners are the owners of entries, for
	// lists and other rare values.
	lists  map[int32][]trace.Value
	owners map[int32]owner
}

// neededKey is a key whose values are read.
type neededKey struct {
	column *columnar.Column
	number int32
	left   int   // number of its entries without a value
	before int   // the same before the current column
	last   int32 // the row that last received a value, to detect a repeated key; -1: none
	likely int   // the value column that probably contains its values
	words  translator
}

// hit is an entry of a key that has a value in the page: the number of the value, and the row of the
// owner.
type hit struct{ at, row int32 }

// owner is the owner of an entry.
type owner struct {
	row    int32
	column *columnar.Column
}

// valueColumns are the columns of values by type, except those of rare types.
var valueColumns = [...]struct {
	name string
	kind parquet.Kind
}{{"Value", parquet.ByteArray}, {"ValueInt", parquet.Int64}, {"ValueDouble", parquet.Double}, {"ValueBool", parquet.Boolean}}

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
	// Each key's values are first searched for in the column of its earlier values.
	for _, likely := range []bool{true, false} {
		for c := range valueColumns {
			if err := f.valueColumn(s, o, c, likely); err != nil {
				return err
			}
		}
		if len(g.lists) > 0 {
			break // all keys were searched for in all columns
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
		g.types = map[columnar.AttributeKey]int{}
	}
	clear(g.byKey)
	g.keys, g.entries, g.firsts, g.rowOf = g.keys[:0], 0, g.firsts[:0], o.rows
	g.numbers, g.counts, g.begins = append(g.numbers[:0], noEntries[:]...), append(g.counts[:0], 0), g.begins[:0]
	path := o.path + "Attrs.Key"
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	if l.depth != o.depth+1 {
		return fmt.Errorf("column %s is nested in %d lists, not %d", path, l.depth, o.depth+1)
	}
	if s.b.without[o.path] || s.chunk(l).noValue {
		return nil
	}
	words, err := l.words(s)
	if err != nil {
		return fmt.Errorf("column %s: %w", path, err)
	}
	if words != nil && !need.hasOne(words) {
		return nil
	}
	number := func(key []byte) int32 {
		if !need.has(string(key)) {
			return 0
		}
		n, ok := g.byKey[string(key)]
		if !ok {
			g.keys = slices.Grow(g.keys, 1)[:len(g.keys)+1]
			k := &g.keys[len(g.keys)-1] // its memory is reused
			n = int32(len(g.keys))
			k.column, k.number = f.filler.Column(o.scope, string(key), o.n), n
			k.likely = g.types[columnar.AttributeKey{Scope: o.scope, Key: k.column.Key}]
			k.words.reset()
			g.byKey[k.column.Key] = n
			g.counts = append(g.counts, 0)
		}
		return n
	}
	var dict *dictionary
	owners := 0
	err = s.pages(path, l, nil, func(p *page) error {
		if g.entries+p.entries > math.MaxInt32 {
			return fmt.Errorf("it has over %d attributes", math.MaxInt32)
		}
		if err := g.ownerStarts.find(p.repData, p.all, byte(l.depth), upTo(byte(o.depth))); err != nil {
			return fmt.Errorf("repetition levels: %w", err)
		}
		if _, begins := g.ownerStarts.rank(int32(p.first)); !begins {
			return fmt.Errorf("a page begins within an element: %w", parquet.ErrCorrupted)
		}
		if owners += g.ownerStarts.count(p.first+p.entries) - g.ownerStarts.count(p.first); owners > len(o.rows) {
			return fmt.Errorf("it has more than %d elements, unlike the others", len(o.rows))
		}
		if err := p.decodeAll(); err != nil {
			return err
		}
		if p.dict != nil && p.dict != dict {
			dict = p.dict
			g.byWord = sized(g.byWord, dict.len())
			for word := range g.byWord {
				g.byWord[word] = number(dict.word(int32(word)))
			}
		}
		g.begins.add(g.entries, g.ownerStarts, p.first, p.entries)
		have := len(g.numbers)
		g.numbers = slices.Grow(g.numbers, p.entries)[:have+p.entries]
		of := g.numbers[have:]
		if p.dict != nil && p.full() {
			byWord, counts := g.byWord, g.counts
			for i, word := range p.codes[p.first : p.first+p.entries] {
				n := byWord[word]
				of[i] = n
				counts[n]++
			}
		} else {
			clear(of)
			defined := p.defined()
			for i := range of {
				if at, ok := defined.rank(int32(p.first + i)); ok {
					if p.dict != nil {
						of[i] = g.byWord[p.codes[at]]
					} else { // also if its owner is not wanted
						of[i] = number(p.text(at))
					}
					g.counts[of[i]]++
				}
			}
		}
		g.entries += p.entries
		return nil
	})
	if err != nil {
		return err
	}
	if owners != len(o.rows) {
		return fmt.Errorf("column %s has %d elements, others have %d", path, owners, len(o.rows))
	}
	g.begins.index()
	if slices.Contains(o.rows, -1) {
		g.dropUnwanted()
	}
	// If each owner is a span, owners begin rows where spans do. Then the entries of rows are known.
	if o.scope == columnar.ScopeSpan && !s.gaps {
		g.firsts = g.begins.eachSet(g.firsts, s.first[:len(s.first)-1])
		if len(g.firsts) > 0 {
			g.firsts = append(g.firsts, int32(g.entries))
		}
	}
	g.keys = slices.DeleteFunc(g.keys, func(k neededKey) bool { return g.counts[k.number] == 0 })
	for i := range g.keys {
		g.keys[i].left = int(g.counts[g.keys[i].number])
	}
	return nil
}

var noEntries [64]int32

// numbersFrom returns the numbers of entries from entry on, which may be up to 64 before the first.
func (g *generics) numbersFrom(entry int) []int32 { return g.numbers[len(noEntries)+entry:] }

// row returns the row of an entry's owner.
func (g *generics) row(entry int) int32 {
	word := &g.begins[entry>>6]
	return g.rowOf[word.before+bits.OnesCount64(word.bits<<(63-entry&63))-1]
}

// dropUnwanted removes the entries whose owner has no row.
func (g *generics) dropUnwanted() {
	at := g.begins.next(0, g.entries)
	for _, row := range g.rowOf {
		end := g.begins.next(at+1, g.entries)
		if row < 0 {
			of := g.numbersFrom(at)[:end-at]
			for _, n := range of {
				g.counts[n]--
			}
			clear(of)
		}
		at = end
	}
}

// findOwners determines the owner of each entry. Few segments need it.
func (g *generics) findOwners() {
	if len(g.owners) > 0 {
		return
	}
	columns := make([]*columnar.Column, len(g.counts))
	for _, k := range g.keys {
		columns[k.number] = k.column
	}
	for entry, n := range g.numbersFrom(0) {
		if n > 0 {
			g.owners[int32(entry)] = owner{g.row(entry), columns[n]}
		}
	}
}

// listFlags records which values are lists. Lists are rare.
func (f *filling) listFlags(s *segment, path string) error {
	g := &f.generics
	if l, ok := s.b.cols[path]; ok && s.chunk(l).allFalse {
		return nil
	}
	at := 0
	err := s.column(path, func(_ leaf, p *page) error {
		value := 0
		for i := range p.entries {
			if !p.has(i) {
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

// wantEntries returns an error if a column has another number of entries than the key column.
func (g *generics) wantEntries(err error, path string, entries int) error {
	if err == nil && entries != g.entries {
		err = fmt.Errorf("column %s has %d elements, others have %d", path, entries, g.entries)
	}
	return err
}

// valueColumn reads the values of one type, for the keys whose values likely have this type, or for keys
// with values that were not found in their likely column. An entry has no value, one value or, if it is a
// list, several values.
func (f *filling) valueColumn(s *segment, o owners, column int, likely bool) error {
	g := &f.generics
	path := o.path + "Attrs." + valueColumns[column].name
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	if l.kind != valueColumns[column].kind {
		return fmt.Errorf("column %s holds %s, not %s", path, l.kind, valueColumns[column].kind)
	}
	asked := false
	for i := range g.keys {
		k := &g.keys[i]
		k.last, k.before = -1, k.left
		asked = asked || k.left > 0 && (len(g.lists) > 0 || (k.likely == column) == likely)
	}
	if !asked || s.chunk(l).noValue {
		return nil
	}
	// If no value is a list, the entries of values correspond to those of the keys.
	same := len(g.lists) == 0 && s.chunk(l).entries == s.chunk(s.b.cols[o.path+"Attrs.Key"]).entries
	var rows []int32
	if same && len(g.firsts) > 0 {
		rows = g.firsts
	}
	begun := 0 // number of begun entries
	depth := byte(o.depth + 1)
	err = s.pages(path, l, rows, func(p *page) error {
		if !same {
			if err := p.levels(); err != nil {
				return err
			}
			if len(g.lists) > 0 || l.depth != int(depth) && bytes.IndexByte(p.rep, depth+1) >= 0 {
				g.findOwners()
				if err := p.decode(); err != nil {
					return err
				}
				return f.listValues(p, o, depth, &begun)
			}
		}
		if begun+p.entries > g.entries {
			return fmt.Errorf("it has more than %d elements, unlike the others", g.entries)
		}
		begun += p.entries
		if p.nulls == p.all {
			return nil
		}
		if err := p.decodeAll(); err != nil {
			return err
		}
		g.defined = p.defined()
		g.sortPage(begun-p.entries, p.entries)
		for i := range g.keys {
			if k := &g.keys[i]; k.left > 0 && (k.likely == column) == likely {
				f.valuesOf(k, p, o, begun-p.entries)
			}
		}
		return nil
	})
	for i := range g.keys {
		if k := &g.keys[i]; k.likely != column && 2*(k.before-k.left) > int(g.counts[k.number]) {
			g.types[columnar.AttributeKey{Scope: o.scope, Key: k.column.Key}] = column
		}
	}
	return g.wantEntries(err, path, begun)
}

// manyKeys is the number of keys from which the entries of a page are sorted by key, instead of scanning
// all entries for each key.
var manyKeys = 4

func init() {
	if columnar.HasVectors() {
		manyKeys = 64
	}
}

// sortPage sorts the entries of a page by key if there are many keys.
func (g *generics) sortPage(first, entries int) {
	g.starts = g.starts[:0]
	if len(g.keys) <= manyKeys {
		return
	}
	numbers := g.numbersFrom(first)[:entries]
	g.starts, g.sorted = sized(g.starts, len(g.counts)+1), sized(g.sorted, entries)
	clear(g.starts)
	for _, n := range numbers {
		g.starts[n+1]++
	}
	for n := range g.counts {
		g.starts[n+1] += g.starts[n]
	}
	for i, n := range numbers {
		g.sorted[g.starts[n]] = int32(i)
		g.starts[n]++ // finally the start of the next number's entries
	}
}

// valuesOf reads the values of one key in a page without lists, whose first entry has the number first.
func (f *filling) valuesOf(k *neededKey, p *page, o owners, first int) {
	g := &f.generics
	n := 0
	if len(g.starts) > 0 {
		for _, i := range g.sorted[g.starts[k.number-1]:g.starts[k.number]] {
			if at, ok := g.defined.rank(int32(p.first) + i); ok {
				if n == len(g.hits) {
					f.take(k, p, o, g.hits[:n])
					n = 0
				}
				g.hits[n] = hit{int32(at), g.row(first + int(i))}
				n++
			}
		}
		f.take(k, p, o, g.hits[:n])
		return
	}
	// One bit for each entry of the page, starting at a whole word.
	from, end := p.first&^63, p.first+p.entries
	g.equal = g.equal.Resized(end - from)
	columnar.SetEqual(g.equal, g.numbersFrom(first + from - p.first)[:end-from], k.number)
	if before := p.first & 63; before > 0 {
		g.equal[0] &= ^uint64(0) << before
	}
	for w := range g.equal {
		if n > len(g.hits)-64 {
			f.take(k, p, o, g.hits[:n])
			n = 0
		}
		defined, entry := &g.defined[from>>6+w], first-p.first+from+64*w
		for rest := g.equal[w] & defined.bits; rest != 0; rest &= rest - 1 {
			at := defined.before + bits.OnesCount64(defined.bits&(rest&-rest-1))
			g.hits[n] = hit{int32(at), g.row(entry + bits.TrailingZeros64(rest))}
			n++
		}
	}
	f.take(k, p, o, g.hits[:n])
}

// take stores the values of hits in their rows.
func (f *filling) take(k *neededKey, p *page, o owners, hits []hit) {
	if len(hits) == 0 {
		return
	}
	k.left -= len(hits)
	c, last := k.column, k.last
	switch {
	case p.codes != nil:
		known := k.words.of(p.dict)
		c.NeedTexts()
		for _, h := range hits {
			word := p.codes[h.at]
			code := known[word]
			if code == 0 {
				code = k.words.add(word, &c.Text, true)
			}
			if h.row == last {
				f.put(o, c, h.row, trace.StringValue(c.Text.Text(code-1)))
				continue
			}
			last = h.row
			c.Text.Codes[h.row] = code - 1
		}
	case p.ends != nil:
		c.NeedTexts()
		for _, h := range hits {
			if h.row == last {
				f.put(o, c, h.row, p.value(int(h.at)))
				continue
			}
			last = h.row
			c.Text.Codes[h.row] = c.Text.InternLikely(p.text(int(h.at)))
		}
	case p.ints != nil:
		c.NeedInts()
		for _, h := range hits {
			if h.row == last {
				f.put(o, c, h.row, p.value(int(h.at)))
				continue
			}
			last = h.row
			c.Ints[h.row] = p.ints[h.at]
			c.IsInt.Set(h.row)
		}
	case p.doubles != nil:
		c.NeedDoubles()
		for _, h := range hits {
			if h.row == last {
				f.put(o, c, h.row, p.value(int(h.at)))
				continue
			}
			last = h.row
			c.Doubles[h.row] = p.doubles[h.at]
			c.IsDouble.Set(h.row)
		}
	case p.bits != nil:
		c.NeedBools()
		for _, h := range hits {
			if h.row == last {
				f.put(o, c, h.row, p.value(int(h.at)))
				continue
			}
			last = h.row
			c.IsBool.Set(h.row)
			at := int(h.at) + p.bit // branch-free, because the bit is unpredictable
			c.Bools[h.row>>6] |= uint64(p.bits[at>>3]>>(at&7)&1) << (h.row & 63)
		}
	}
	k.last = last
}

// listValues reads a page in which entries may have several values.
func (f *filling) listValues(p *page, o owners, depth byte, begun *int) error {
	g := &f.generics
	at := 0
	for i := range p.entries {
		if p.rep[i] <= depth {
			*begun++
		}
		if *begun > g.entries || *begun == 0 {
			return fmt.Errorf("it has more than %d elements, unlike the others", g.entries)
		}
		if !p.has(i) {
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

// unsupported reads the values that Tempo stores as JSON: bytes, maps, and lists of several types.
func (f *filling) unsupported(s *segment, o owners, path string) error {
	g := &f.generics
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	if s.chunk(l).noValue {
		return nil
	}
	begun := 0
	err = s.column(path, func(_ leaf, p *page) error {
		first := begun
		begun += p.entries
		if p.values() == 0 {
			return nil
		}
		g.findOwners()
		at := 0
		for i := range p.entries {
			if !p.has(i) {
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
