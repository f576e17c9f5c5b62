package blocks

import (
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/betracehq/betrace/trace/columnar"
)

// leaf is a column of a file: its position, and the meaning of its levels.
//
// Dremel's levels, in short: each entry of a column has a repetition level and a definition level. The
// repetition level is the depth of the nested list in which it starts a new element (0: a new row). The
// definition level is the length of the existing part of its path.
type leaf struct {
	index int
	kind  parquet.Kind
	// depth is the number of lists around the column. present[d] is the least definition level at which
	// an element of the list at depth d exists, defined that of a value.
	depth   int
	present []byte
	defined byte
}

func (l leaf) equal(m leaf) bool {
	return l.index == m.index && l.kind == m.kind && l.depth == m.depth && l.defined == m.defined && slices.Equal(l.present, m.present)
}

// columns are the leaves of a file by their paths, without the groups "list" and "element" around
// repeated fields in vParquet4.
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
			cols[strings.Clone(strings.Join(path, "."))] = leaf{index: next, kind: n.Type().Kind(), depth: len(present) - 1, present: present, defined: defined}
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

// keySet is the set of needed attributes in one scope.
type keySet struct {
	all  bool
	keys map[string]bool
}

func keysOf(needs *columnar.Needs, scope columnar.Scope) keySet {
	set := keySet{keys: map[string]bool{}}
	_, set.all = needs.Reads(scope)
	for _, key := range needs.Keys(scope) {
		set.keys[key] = true
	}
	return set
}

// hasOne reports whether one of the words is a key of the set.
func (s keySet) hasOne(words *dictionary) bool {
	for i := range words.len() {
		if s.has(string(words.word(int32(i)))) {
			return true
		}
	}
	return false
}

func (s keySet) none() bool          { return !s.all && len(s.keys) == 0 }
func (s keySet) has(key string) bool { return s.all || s.keys[key] }
