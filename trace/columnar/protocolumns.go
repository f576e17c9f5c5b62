package columnar

import (
	"hash/maphash"

	"github.com/betracehq/betrace/trace/wire"
)

// attribute puts the KeyValue in b[i:] into its column if it is needed.
func (p *protoFill) attribute(b []byte, i int, cols *protoColumns, row int32) error {
	// Nearly all attributes consist of one key and one scalar. They are read here without iterating over their
	// fields, which raises BenchmarkFillOTLP from 1.4 to 2.0 million spans a second. All others take the
	// general path.
	key, value, ok := splitKeyValue(b, i)
	if !ok {
		return p.anyAttribute(wire.Fields{Bytes: b, Pos: i}, cols, row)
	}
	c := cols.find(key)
	if c == nil {
		if !cols.all {
			return nil
		}
		return p.anyAttribute(wire.Fields{Bytes: b, Pos: i}, cols, row)
	}
	if c.row != row && c.putScalar(row, value) {
		c.row = row
		return nil
	}
	return p.anyAttribute(wire.Fields{Bytes: b, Pos: i}, cols, row)
}

// splitKeyValue splits a KeyValue that consists of one key and one value, in either order. pdata writes the
// value first.
func splitKeyValue(b []byte, i int) (key, value []byte, ok bool) {
	if i >= len(b) {
		return nil, nil, false
	}
	const keyTag, valueTag = 1<<3 + wire.Len, 2<<3 + wire.Len
	first, second := byte(keyTag), byte(valueTag)
	if b[i] == valueTag {
		first, second = valueTag, keyTag
	}
	from, to, ok := wire.OnlyLen(b, i, first)
	if !ok {
		return nil, nil, false
	}
	from2, to2, ok := wire.OnlyLen(b, to, second)
	if !ok || to2 != len(b) {
		return nil, nil, false
	}
	if first == keyTag {
		return b[from:to], b[from2:to2], true
	}
	return b[from2:to2], b[from:to], true
}

// anyAttribute puts any KeyValue into its column if it is needed.
func (p *protoFill) anyAttribute(f wire.Fields, cols *protoColumns, row int32) error {
	var key []byte
	start := f.Pos
	for f.Next() {
		switch f.Tag {
		case 1<<3 + wire.Len:
			key = f.Content()
		case 2<<3 + wire.Len:
		default:
			skip(&f, keyValueFields)
		}
	}
	if f.Err != nil {
		return f.Err
	}
	c := cols.find(key)
	if c == nil && !cols.all {
		return nil
	}
	var v protoValue
	if _, err := v.readKeyValue(wire.Fields{Bytes: f.Bytes, Pos: start}, 0); err != nil {
		return err
	}
	p.repeated = p.repeated || v.repeated
	if v.IsAbsent() {
		return nil
	}
	if c == nil {
		c = cols.add(key)
	}
	c.row = row
	p.repeated = c.Put(row, v.Value) || p.repeated
	return nil
}

// protoColumns is a hash table of the columns of a scope's attributes.
type protoColumns struct {
	f     *Filler
	scope Scope
	rows  int
	all   bool // all attributes of the scope are needed

	columns []protoColumn
	slots   []int32 // an open hash table: 1 + the index of a column, 0 if free
}

type protoColumn struct {
	*Column
	key string // copy of Column.Key, one pointer closer
	row int32  // the last row that got a value
}

func (p *protoColumns) reset(f *Filler, scope Scope, rows int) {
	p.f, p.scope, p.rows = f, scope, rows
	_, p.all = f.needs.Reads(scope)
	p.columns = p.columns[:0]
	clear(p.slots)
	for _, c := range *f.columnsOf(scope) {
		p.put(c)
	}
}

// find returns the column of a key, or nil.
func (p *protoColumns) find(key []byte) *protoColumn {
	if len(p.columns) == 0 {
		return nil
	}
	mask := uint64(len(p.slots) - 1)
	for i := p.hash(key) & mask; ; i = (i + 1) & mask {
		n := p.slots[i]
		if n == 0 {
			return nil
		}
		if c := &p.columns[n-1]; c.key == string(key) {
			return c
		}
	}
}

// hash hashes the length, the beginning and the end of a key. If all attributes are needed, it hashes the
// whole key with a seed, because a message may contain keys that were chosen to collide.
func (p *protoColumns) hash(key []byte) uint64 {
	if p.all {
		return maphash.Bytes(textSeed, key)
	}
	h := uint64(len(key))
	if n := len(key); n >= 8 {
		h += le64(key) ^ le64(key[n-8:])*0xd6e8feb86659fd93
	} else {
		for _, c := range key {
			h = h*257 + uint64(c)
		}
	}
	return h * 0x9e3779b97f4a7c15 >> 32
}

// add creates the column of a key.
func (p *protoColumns) add(key []byte) *protoColumn {
	return p.put(p.f.Column(p.scope, string(key), p.rows))
}

func (p *protoColumns) put(c *Column) *protoColumn {
	p.columns = append(p.columns, protoColumn{c, c.Key, -1})
	first := len(p.columns) - 1
	if 4*len(p.columns) > len(p.slots) {
		p.slots = make([]int32, max(64, 2*len(p.slots)))
		first = 0
	}
	mask := uint64(len(p.slots) - 1)
	for n := first; n < len(p.columns); n++ {
		i := p.hash([]byte(p.columns[n].key)) & mask
		for p.slots[i] != 0 {
			i = (i + 1) & mask
		}
		p.slots[i] = int32(n + 1)
	}
	return &p.columns[len(p.columns)-1]
}
