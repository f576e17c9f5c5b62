package blocks

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"

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
	byWord  []int32 // by word of the keys' dictionary: 1 + its number in keys, 0: not needed
	entries int     // of the keys' column
	rows    []int32 // by row of the segment, and for the end: the entry with which it begins; none if that is not known
	sorter  keySorter
	types   map[trace.AttributeKey]int // the value column in which a key's values were found last
	// Of the page that is being read: which entries begin an owner, and which have a value.
	ownerStarts, defined marks
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
	before  int // and before the column that is being read
	likely  int // the value column in which its values probably are
	words   translator
}

// keyEntry is an entry of a key, and the row of its owner: one number, since most of
// them are only moved.
type keyEntry uint64

func newKeyEntry(entry, row int32) keyEntry { return keyEntry(uint32(entry)) | keyEntry(row)<<32 }

func (e keyEntry) entry() int32 { return int32(e) }
func (e keyEntry) row() int32   { return int32(e >> 32) }

// owner is whose an entry is.
type owner struct {
	row    int32
	column *trace.Column
}

// valueColumns are the columns of values by type, but for those of rare types.
var valueColumns = [...]string{"Value", "ValueInt", "ValueDouble", "ValueBool"}

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
	// Each key's values are looked for first where those before were.
	for _, likely := range []bool{true, false} {
		for c := range valueColumns {
			if err := f.valueColumn(s, o, c, likely); err != nil {
				return err
			}
		}
		if len(g.lists) > 0 {
			break // all keys were looked for in all columns
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
		g.types = map[trace.AttributeKey]int{}
	}
	clear(g.byKey)
	g.keys, g.entries, g.rows = g.keys[:0], 0, g.rows[:0]
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
	g.sorter.reset()
	number := func(key []byte) int32 {
		if !need.has(string(key)) {
			return 0
		}
		n, ok := g.byKey[string(key)]
		if !ok {
			n = int32(len(g.keys))
			g.keys = slices.Grow(g.keys, 1)[:n+1]
			k := &g.keys[n] // its memory is used again
			k.column, k.entries, k.next = f.filler.Column(o.scope, string(key), o.n), k.entries[:0], 0
			k.likely = g.types[trace.AttributeKey{Scope: o.scope, Key: k.column.Key}]
			k.words.reset()
			g.byKey[k.column.Key] = n
			g.sorter.grow(len(g.keys))
		}
		return n + 1
	}
	// Owners begin rows where spans do, if each is a span: then entries of rows are known.
	var firsts []int32
	rowStart := -1
	if o.scope == trace.ScopeSpan && !s.gaps {
		firsts = s.first
		rowStart = int(firsts[0])
	}
	var dict *dictionary
	slot := -1
	err = s.pages(path, l, nil, func(p *page) error {
		if g.entries+p.entries > math.MaxInt32 {
			return fmt.Errorf("it has over %d attributes", math.MaxInt32)
		}
		if err := g.ownerStarts.find(p.repData, p.all, byte(l.depth), upTo(byte(o.depth))); err != nil {
			return fmt.Errorf("repetition levels: %w", err)
		}
		if err := p.decodeAll(); err != nil {
			return err
		}
		g.defined = p.defined()
		end, toEntry := p.first+p.entries, g.entries-p.first
		if p.dict != nil && p.dict != dict {
			dict = p.dict
			g.byWord = sized(g.byWord, dict.len())
			for word := range g.byWord {
				g.byWord[word] = number(dict.word(int32(word)))
			}
		}
		for i := p.first; i < end; {
			next := g.ownerStarts.next(i+1, end)
			if slot++; slot >= len(o.rows) {
				return fmt.Errorf("it has more than %d elements, unlike the others", len(o.rows))
			}
			if slot == rowStart {
				g.rows = append(g.rows, int32(toEntry+i))
				if rowStart = -1; len(g.rows) < len(firsts) {
					rowStart = int(firsts[len(g.rows)])
				}
			}
			if row := o.rows[slot]; row >= 0 {
				switch {
				case p.dict == nil:
					for ; i < next; i++ {
						if at, ok := g.defined.rank(int32(i)); ok {
							g.sorter.add(g, number(p.text(at)), newKeyEntry(int32(toEntry+i), row))
						}
					}
				case p.full():
					g.sorter.addAll(g, p.codes[i:next], newKeyEntry(int32(toEntry+i), row))
				default:
					for ; i < next; i++ {
						if at, ok := g.defined.rank(int32(i)); ok {
							g.sorter.add(g, g.byWord[p.codes[at]], newKeyEntry(int32(toEntry+i), row))
						}
					}
				}
			}
			i = next
		}
		g.entries += p.entries
		return nil
	})
	g.sorter.flush(g)
	if len(firsts) > 0 && len(g.rows)+1 != len(firsts) {
		g.rows = g.rows[:0] // a row without spans: say nothing
	}
	if len(g.rows) > 0 {
		g.rows = append(g.rows, int32(g.entries))
	}
	if err == nil && slot+1 != len(o.rows) {
		err = fmt.Errorf("column %s has %d elements, others have %d", path, slot+1, len(o.rows))
	}
	g.keys = slices.DeleteFunc(g.keys, func(k keyEntries) bool { return len(k.entries) == 0 })
	for i := range g.keys {
		g.keys[i].left = len(g.keys[i].entries)
	}
	return err
}

// keySorter gives entries to their keys: a few hundred at a time without asking which
// are needed, which no processor could foresee.
type keySorter struct {
	// Entries of key n, which counts from 1 (0: those not needed), that are not yet with it are
	// held[n*sorterRoom:ends[n]].
	held []keyEntry
	ends []uint32
	room int // how many entries fit in any case
}

const sorterRoom = 256

func (k *keySorter) reset() {
	k.ends, k.room = k.ends[:0], sorterRoom
	k.grow(0)
}

// grow makes room for n keys.
func (k *keySorter) grow(n int) {
	for len(k.ends) <= n {
		k.ends = append(k.ends, uint32(len(k.ends)*sorterRoom))
	}
	if more := len(k.ends)*sorterRoom - len(k.held); more > 0 {
		k.held = append(k.held, make([]keyEntry, more)...)
	}
}

// add gives one entry to a key.
func (k *keySorter) add(g *generics, number int32, e keyEntry) {
	if k.room == 0 {
		k.flush(g)
	}
	k.room--
	k.held[k.ends[number]] = e
	k.ends[number]++
}

// addAll gives entries with consecutive numbers, first the one given, to the keys of
// the words.
func (k *keySorter) addAll(g *generics, words []int32, e keyEntry) {
	for len(words) > 0 {
		if k.room == 0 {
			k.flush(g)
		}
		some := words[:min(len(words), k.room)]
		k.room -= len(some)
		words = words[len(some):]
		held, ends, byWord := k.held, k.ends, g.byWord
		for _, word := range some {
			end := &ends[byWord[word]]
			at := *end
			*end = at + 1
			held[at] = e
			e++
		}
	}
}

// flush gives the keys what is theirs.
func (k *keySorter) flush(g *generics) {
	for n := range k.ends {
		begin := uint32(n * sorterRoom)
		if end := k.ends[n]; n > 0 && end > begin {
			g.keys[n-1].entries = append(g.keys[n-1].entries, k.held[begin:end]...)
		}
		k.ends[n] = begin
	}
	k.room = sorterRoom
}

// findOwners works out whose each entry is. Few segments need it.
func (g *generics) findOwners() {
	if len(g.owners) > 0 {
		return
	}
	for i := range g.keys {
		k := &g.keys[i]
		for _, e := range k.entries {
			g.owners[e.entry()] = owner{e.row(), k.column}
		}
	}
}

// listFlags notes which values are lists. Nearly none is.
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

// wantEntries makes an error of a column that has other entries than the keys'.
func (g *generics) wantEntries(err error, path string, entries int) error {
	if err == nil && entries != g.entries {
		err = fmt.Errorf("column %s has %d elements, others have %d", path, entries, g.entries)
	}
	return err
}

// valueColumn reads the values of one type, of those keys whose values are likely of it,
// or of those of which some were not found where they were likely. An entry has none, one
// or, if it is a list, several.
func (f *filling) valueColumn(s *segment, o owners, column int, likely bool) error {
	g := &f.generics
	path := o.path + "Attrs." + valueColumns[column]
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	asked := false
	for i := range g.keys {
		k := &g.keys[i]
		k.next, k.before = 0, k.left
		asked = asked || k.left > 0 && (len(g.lists) > 0 || (k.likely == column) == likely)
	}
	if !asked || s.chunk(l).noValue {
		return nil
	}
	// Where no value is a list, values' entries are as those of the keys.
	same := len(g.lists) == 0 && s.chunk(l).entries == s.chunk(s.b.cols[o.path+"Attrs.Key"]).entries
	var rows []int32
	if same && len(g.rows) > 0 {
		rows = g.rows
	}
	begun := 0 // entries that have begun
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
		for i := range g.keys {
			if k := &g.keys[i]; k.left > 0 && (k.likely == column) == likely {
				f.valuesOf(k, p, o, int32(begun-p.entries))
			}
		}
		return nil
	})
	for i := range g.keys {
		if k := &g.keys[i]; k.likely != column && 2*(k.before-k.left) > len(k.entries) {
			g.types[trace.AttributeKey{Scope: o.scope, Key: k.column.Key}] = column
		}
	}
	return g.wantEntries(err, path, begun)
}

// valuesOf reads the values of one key in a page whose first entry has the number
// first: entry by entry, since the page has no lists.
func (f *filling) valuesOf(k *keyEntries, p *page, o owners, first int32) {
	d := f.generics.defined
	n, end := k.next, first+int32(p.entries)
	toPage := int32(p.first) - first
	for n < len(k.entries) && k.entries[n].entry() < first { // of pages with lists
		n++
	}
	entries := k.entries
	c, left := k.column, k.left
	again := int32(-1) // the row before, for a key that comes twice
	if n > 0 {
		again = entries[n-1].row()
	}
	switch {
	case p.codes != nil:
		known := k.words.of(p.dict)
		for ; n < len(entries) && entries[n].entry() < end; n++ {
			at, ok := d.rank(entries[n].entry() + toPage)
			if !ok {
				continue
			}
			left--
			word, row := p.codes[at], entries[n].row()
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
		for ; n < len(entries) && entries[n].entry() < end; n++ {
			at, ok := d.rank(entries[n].entry() + toPage)
			if !ok {
				continue
			}
			left--
			row := entries[n].row()
			c.NeedTexts()
			if row == again {
				f.put(o, c, row, p.value(at))
				continue
			}
			again = row
			c.Text.Codes[row] = c.Text.InternLikely(p.text(at))
		}
	case p.ints != nil:
		for ; n < len(entries) && entries[n].entry() < end; n++ {
			at, ok := d.rank(entries[n].entry() + toPage)
			if !ok {
				continue
			}
			left--
			row := entries[n].row()
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
		for ; n < len(entries) && entries[n].entry() < end; n++ {
			at, ok := d.rank(entries[n].entry() + toPage)
			if !ok {
				continue
			}
			left--
			row := entries[n].row()
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
		for ; n < len(entries) && entries[n].entry() < end; n++ {
			at, ok := d.rank(entries[n].entry() + toPage)
			if !ok {
				continue
			}
			left--
			row := entries[n].row()
			c.NeedBools()
			if row == again {
				f.put(o, c, row, p.value(at))
				continue
			}
			again = row
			c.IsBool.Set(row)
			at += p.bit // a bit is not foreseen: it is added, whatever it is
			c.Bools[row>>6] |= uint64(p.bits[at>>3]>>(at&7)&1) << (row & 63)
		}
	default: // no value in the page
		i, _ := slices.BinarySearchFunc(entries[n:], end, func(e keyEntry, end int32) int { return cmp.Compare(e.entry(), end) })
		n += i
	}
	k.next, k.left = n, left
}

// listValues reads a page some of whose entries may have several values.
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

// unsupported reads the values that Tempo keeps as JSON: bytes, maps, lists of
// several types.
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
