package blocks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/analyzer/trace"
)

// Paths of the schema, without "list" and "element".
const (
	pathResource = "rs.Resource."
	pathScope    = "rs.ss.Scope."
	pathSpan     = "rs.ss.Spans."
	pathEvent    = "rs.ss.Spans.Events."
	pathLink     = "rs.ss.Spans.Links."
)

// wellKnown are the attributes that vParquet4 gives columns of their own, whatever
// the configuration.
var wellKnown = map[string]map[string]string{
	pathResource: {
		"Cluster": "cluster", "Namespace": "namespace", "Pod": "pod", "Container": "container",
		"K8sClusterName": "k8s.cluster.name", "K8sNamespaceName": "k8s.namespace.name", "K8sPodName": "k8s.pod.name", "K8sContainerName": "k8s.container.name",
	},
	pathSpan: {"HttpMethod": "http.method", "HttpUrl": "http.url", "HttpStatusCode": "http.status_code"},
}

// attributeScopes are the paths of what has attributes.
var attributeScopes = []struct {
	scope trace.Scope
	path  string
}{{trace.ScopeSpan, pathSpan}, {trace.ScopeResource, pathResource}, {trace.ScopeEvent, pathEvent}, {trace.ScopeLink, pathLink}}

// eachDedicated gives a scope's dedicated columns, by their names below its path: the
// n-th of a type is StringN or IntN.
func eachDedicated(all []DedicatedColumn, scope trace.Scope, yield func(column string, c DedicatedColumn)) {
	count := map[string]int{}
	for _, c := range all {
		if columnScope(c) != scope {
			continue
		}
		group := "String"
		if c.Type == "int" {
			group = "Int"
		}
		count[group]++
		yield(fmt.Sprintf("DedicatedAttributes.%s%02d", group, count[group]), c)
	}
}

func columnScope(c DedicatedColumn) trace.Scope {
	switch c.Scope {
	case "resource":
		return trace.ScopeResource
	case "event":
		return trace.ScopeEvent
	}
	return trace.ScopeSpan
}

// owners are what has attributes in a segment: spans, resources, events or links.
type owners struct {
	scope trace.Scope
	path  string
	depth int     // of their list
	rows  []int32 // by slot, -1: none
	n     int     // rows of their columns
}

// attributes reads the needed attributes of the owners: from key and value columns,
// from the well-known and from the dedicated columns.
func (f *filling) attributes(s *segment, o owners) error {
	need := f.needed[o.scope]
	if need.none() {
		return nil
	}
	if err := f.generic(s, o, need); err != nil {
		return err
	}
	for column, key := range wellKnown[o.path] {
		if _, ok := s.b.cols[o.path+column]; !ok || !need.has(key) {
			continue
		}
		if err := f.ownColumn(s, o, o.path+column, key, nil); err != nil {
			return err
		}
	}
	var err error
	eachDedicated(s.b.DedicatedColumns, o.scope, func(column string, c DedicatedColumn) {
		if err == nil && need.has(c.Name) {
			err = f.ownColumn(s, o, o.path+column, c.Name, c.Options)
		}
	})
	return err
}

// put gives a row a value that may have one already.
func (f *filling) put(o owners, c *trace.Column, row int32, v trace.Value) {
	if c.Put(row, v) && o.scope == trace.ScopeSpan {
		f.filler.FlagSpan(row, trace.FlagRepeatedKey)
	}
}

// ownColumn reads a column of one attribute: optional in vParquet4, a list in
// vParquet5, where an attribute that is a list of texts has several values, if the
// column is for lists. Such a column does not tell a text from a list of that one
// text: it is read as the text.
func (f *filling) ownColumn(s *segment, o owners, path, key string, options []string) error {
	to := f.filler.Column(o.scope, key, o.n)
	isList := slices.Contains(options, "array")
	f.codes.reset()
	slot := -1
	err := s.column(path, func(l leaf, p *page) error {
		if p.values(l.defined) == 0 && (l.depth == o.depth || bytes.IndexByte(p.rep, byte(l.depth)) < 0) {
			slot += p.entries
			return nil
		}
		isText := l.kind == parquet.ByteArray
		if isText {
			to.NeedTexts()
		} else {
			to.NeedInts()
		}
		var known []uint32
		if p.dict != nil {
			known = f.codes.of(p.dict)
		}
		at := 0
		listRow, list := int32(-1), []trace.Value(nil) // the list that a slot has begun
		flush := func() {
			if len(list) > 1 && listRow >= 0 {
				f.put(o, to, listRow, trace.ArrayValue(list...))
			}
			list = nil
		}
		for i := range p.entries {
			if l.depth == o.depth || int(p.rep[i]) <= o.depth {
				slot++
				if list != nil {
					flush()
				}
				if slot >= len(o.rows) {
					return fmt.Errorf("it has more than %d elements, unlike the others", len(o.rows))
				}
			} else if p.def == nil || p.def[i] == l.defined { // a further value of a list
				if isList {
					if list == nil {
						listRow = o.rows[slot]
						list = []trace.Value{p.value(at - 1)}
						if listRow >= 0 {
							to.Remove(listRow)
						}
					}
					list = append(list, p.value(at))
				}
				at++
				continue
			}
			if p.def != nil && p.def[i] != l.defined {
				continue
			}
			row := o.rows[slot]
			switch {
			case row < 0:
			case !isText:
				if to.IsInt.Has(row) {
					f.put(o, to, row, p.value(at))
					break
				}
				if p.ints != nil {
					to.Ints[row] = p.ints[at]
				} else {
					to.Ints[row] = int64(p.ints32[at])
				}
				to.IsInt.Set(row)
			case to.Text.Codes[row] != 0:
				f.put(o, to, row, p.value(at))
			case known != nil:
				code := known[p.codes[at]]
				if code == 0 {
					code = f.codes.add(p.codes[at], &to.Text, true)
				}
				to.Text.Codes[row] = code - 1
			default:
				to.Text.Codes[row] = to.Text.InternLikely(p.text(at))
			}
			at++
		}
		flush()
		return nil
	})
	if err == nil && slot+1 != len(o.rows) {
		err = fmt.Errorf("column %s has %d elements, others have %d", path, slot+1, len(o.rows))
	}
	return err
}

// value returns value i of a page.
func (p *page) value(i int) trace.Value {
	switch {
	case p.codes != nil:
		words := p.dict.Page()
		data := words.Data()
		b, ends := data.ByteArray()
		word := p.codes[i]
		return trace.StringValue(string(b[ends[word]:ends[word+1]]))
	case p.ends != nil:
		return trace.StringValue(string(p.text(i)))
	case p.ints != nil:
		return trace.IntValue(p.ints[i])
	case p.ints32 != nil:
		return trace.IntValue(int64(p.ints32[i]))
	case p.doubles != nil:
		return trace.DoubleValue(p.doubles[i])
	}
	return trace.BoolValue(p.bool(i))
}

// entry is a key of a generic attribute: the row of its owner, and the number of its
// column, -1 if it is not needed, or no key.
type entry struct{ row, col int32 }

// generics is what is being read of the key and value columns of one segment.
type generics struct {
	entries []entry
	cols    []*trace.Column
	byKey   map[string]int32
	words   translator
	byWord  []int32 // by word of the keys' dictionary: 1 + its column, -1: not needed, 0: not known
	texts   []translator
	arrays  map[int32][]trace.Value // by entry: the elements of values that are lists
}

// generic reads key and value columns.
func (f *filling) generic(s *segment, o owners, need keySet) error {
	g := &f.generics
	wanted, err := f.keyColumn(s, o, need)
	if err != nil || !wanted {
		return err
	}
	path := o.path + "Attrs."
	clear(g.arrays)
	if err := f.arrayFlags(s, o, path+"IsArray"); err != nil {
		return err
	}
	for _, name := range []string{"Value", "ValueInt", "ValueDouble", "ValueBool"} {
		if err := f.valueColumn(s, o, path+name); err != nil {
			return err
		}
	}
	for at, list := range g.arrays {
		e := g.entries[at]
		f.put(o, g.cols[e.col], e.row, trace.ArrayValue(list...))
	}
	return f.unsupported(s, o, path+"ValueUnsupported")
}

// keyColumn reads the keys. It reports whether one is needed.
func (f *filling) keyColumn(s *segment, o owners, need keySet) (wanted bool, err error) {
	g := &f.generics
	g.entries, g.cols = g.entries[:0], g.cols[:0]
	if g.byKey == nil {
		g.byKey, g.arrays = map[string]int32{}, map[int32][]trace.Value{}
	}
	clear(g.byKey)
	var dict parquet.Dictionary
	column := func(key []byte) int32 {
		if !need.has(string(key)) {
			return -1
		}
		col, ok := g.byKey[string(key)]
		if !ok {
			col = int32(len(g.cols))
			g.cols = append(g.cols, f.filler.Column(o.scope, string(key), o.n))
			g.byKey[string(key)] = col
		}
		return col
	}
	slot := -1
	err = s.column(o.path+"Attrs.Key", func(l leaf, p *page) error {
		if l.depth != o.depth+1 {
			return fmt.Errorf("it is nested in %d lists, not %d", l.depth, o.depth+1)
		}
		begin := len(g.entries)
		g.entries = slices.Grow(g.entries, p.entries)[:begin+p.entries]
		entries := g.entries[begin:]
		var words []byte
		var ends []uint32
		if p.dict != nil {
			data := p.dict.Page().Data()
			words, ends = data.ByteArray()
			if dict != p.dict {
				dict = p.dict
				g.byWord = sized(g.byWord, max(len(ends)-1, 0))
				clear(g.byWord)
			}
		}
		at := 0
		depth, defined, rows := byte(o.depth), l.defined, o.rows
		for i, rep := range p.rep {
			if rep <= depth {
				slot++
			}
			if p.def[i] != defined {
				entries[i] = entry{-1, -1}
				continue
			}
			if uint(slot) >= uint(len(rows)) {
				return fmt.Errorf("it has more than %d elements, unlike the others", len(rows))
			}
			var col int32
			if p.dict != nil {
				word := p.codes[at]
				if col = g.byWord[word]; col == 0 {
					if col = column(words[ends[word]:ends[word+1]]); col >= 0 {
						col++
					}
					g.byWord[word] = col
				}
				if col > 0 {
					col--
				}
			} else {
				col = column(p.text(at))
			}
			at++
			row := rows[slot]
			if row < 0 {
				col = -1
			}
			wanted = wanted || col >= 0
			entries[i] = entry{row, col}
		}
		return nil
	})
	if err == nil && slot+1 != len(o.rows) {
		err = fmt.Errorf("column %sAttrs.Key has %d elements, others have %d", o.path, slot+1, len(o.rows))
	}
	for len(g.texts) < len(g.cols) {
		g.texts = append(g.texts, translator{})
	}
	for i := range g.texts {
		g.texts[i].reset()
	}
	return wanted, err
}

// arrayFlags notes which values are lists. Nearly none is.
func (f *filling) arrayFlags(s *segment, o owners, path string) error {
	g := &f.generics
	if l, ok := s.b.cols[path]; ok && !l.mayBeTrue(s.group) {
		return nil
	}
	at := 0
	err := s.column(path, func(l leaf, p *page) error {
		if at+p.entries > len(g.entries) {
			return fmt.Errorf("it has more than %d elements, unlike the others", len(g.entries))
		}
		value := 0
		for i := range p.entries {
			if p.def != nil && p.def[i] != l.defined {
				continue
			}
			if p.bool(value) && g.entries[at+i].col >= 0 {
				g.arrays[int32(at+i)] = []trace.Value{}
			}
			value++
		}
		at += p.entries
		return nil
	})
	if err == nil && at != len(g.entries) {
		err = fmt.Errorf("column %s has %d elements, others have %d", path, at, len(g.entries))
	}
	return err
}

// mayBeTrue says whether a column of truth values has a true one, as far as its
// statistics tell.
func (l leaf) mayBeTrue(group parquet.RowGroup) bool {
	chunk, ok := group.ColumnChunks()[l.index].(*parquet.FileColumnChunk)
	if !ok {
		return true
	}
	_, highest, ok := chunk.Bounds()
	return !ok || highest.IsNull() || highest.Boolean()
}

// isEmpty says whether a column has no value in a row group, as its statistics tell.
func (l leaf) isEmpty(group parquet.RowGroup) bool {
	chunk, ok := group.ColumnChunks()[l.index].(*parquet.FileColumnChunk)
	return ok && chunk.NumValues() > 0 && chunk.NullCount() == chunk.NumValues()
}

// valueColumn reads the values of one type. An entry has none, one or, if it is a list,
// several.
func (f *filling) valueColumn(s *segment, o owners, path string) error {
	g := &f.generics
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	if l.isEmpty(s.group) {
		return nil
	}
	begun := 0 // entries that have begun
	err = s.column(path, func(l leaf, p *page) error {
		depth := byte(o.depth + 1)
		if len(g.arrays) > 0 || int(l.depth) != int(depth) && bytes.IndexByte(p.rep, depth+1) >= 0 {
			return f.listValues(l, p, o, depth, &begun)
		}
		if begun+p.entries > len(g.entries) {
			return fmt.Errorf("it has more than %d elements, unlike the others", len(g.entries))
		}
		entries := g.entries[begun : begun+p.entries]
		begun += p.entries
		f.plainValues(l, p, o, entries)
		return nil
	})
	if err == nil && begun != len(g.entries) {
		err = fmt.Errorf("column %s has %d elements, others have %d", path, begun, len(g.entries))
	}
	return err
}

// plainValues reads a page without lists: entry i of the page is entry i of the keys.
func (f *filling) plainValues(l leaf, p *page, o owners, entries []entry) {
	switch {
	case p.codes != nil:
		f.wordValues(l, p, o, entries)
	case p.ends != nil:
		at := 0
		for i, d := range p.def {
			if d != l.defined {
				continue
			}
			if e := entries[i]; e.col >= 0 {
				c := f.generics.cols[e.col]
				c.NeedTexts()
				if c.Text.Codes[e.row] != 0 {
					f.put(o, c, e.row, p.value(at))
				} else {
					c.Text.Codes[e.row] = c.Text.InternLikely(p.text(at))
				}
			}
			at++
		}
	case p.ints != nil:
		for at, i := 0, next(p.def, 0, l.defined); i < len(p.def); at, i = at+1, next(p.def, i+1, l.defined) {
			if e := entries[i]; e.col >= 0 {
				c := f.generics.cols[e.col]
				c.NeedInts()
				if c.IsInt.Has(e.row) {
					f.put(o, c, e.row, p.value(at))
					continue
				}
				c.Ints[e.row] = p.ints[at]
				c.IsInt.Set(e.row)
			}
		}
	default:
		for at, i := 0, next(p.def, 0, l.defined); i < len(p.def); at, i = at+1, next(p.def, i+1, l.defined) {
			if e := entries[i]; e.col >= 0 {
				f.put(o, f.generics.cols[e.col], e.row, p.value(at))
			}
		}
	}
}

// next returns the first defined entry from i on.
func next(def []byte, i int, defined byte) int {
	// Values of one type are often every few entries, or rare.
	for end := min(i+8, len(def)); i < end; i++ {
		if def[i] == defined {
			return i
		}
	}
	if n := bytes.IndexByte(def[i:], defined); n >= 0 {
		return i + n
	}
	return len(def)
}

// wordValues reads texts that are words of a dictionary.
func (f *filling) wordValues(l leaf, p *page, o owners, entries []entry) {
	g := &f.generics
	at := 0
	defined, codes := l.defined, p.codes
	entries = entries[:len(p.def)]
	for i, d := range p.def {
		if d != defined {
			continue
		}
		word := codes[at]
		at++
		e := entries[i]
		if e.col < 0 {
			continue
		}
		t := &g.texts[e.col]
		c := g.cols[e.col]
		if t.dict != p.dict {
			t.of(p.dict)
			c.NeedTexts()
		}
		code := t.codes[word]
		if code == 0 {
			code = t.add(word, &c.Text, true)
		}
		if old := c.Text.Codes[e.row]; old != 0 {
			f.put(o, c, e.row, trace.StringValue(c.Text.Text(code-1)))
			continue
		}
		c.Text.Codes[e.row] = code - 1
	}
}

// listValues reads a page some of whose entries may have several values.
func (f *filling) listValues(l leaf, p *page, o owners, depth byte, begun *int) error {
	g := &f.generics
	at := 0
	for i := range p.entries {
		if p.rep[i] <= depth {
			*begun++
		}
		if *begun > len(g.entries) || *begun == 0 {
			return fmt.Errorf("it has more than %d elements, unlike the others", len(g.entries))
		}
		if p.def[i] != l.defined {
			continue
		}
		n := int32(*begun - 1)
		if e := g.entries[n]; e.col >= 0 {
			if list, isArray := g.arrays[n]; isArray {
				g.arrays[n] = append(list, p.value(at))
			} else {
				f.put(o, g.cols[e.col], e.row, p.value(at))
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
	if l.isEmpty(s.group) {
		return nil
	}
	begun := 0
	err = s.column(path, func(l leaf, p *page) error {
		if begun+p.entries > len(g.entries) {
			return fmt.Errorf("it has more than %d elements, unlike the others", len(g.entries))
		}
		entries := g.entries[begun : begun+p.entries]
		begun += p.entries
		for at, i := 0, next(p.def, 0, l.defined); i < len(p.def); at, i = at+1, next(p.def, i+1, l.defined) {
			e := entries[i]
			if e.col < 0 {
				continue
			}
			v, err := jsonValue(p.value(at).Str())
			if err != nil {
				return err
			}
			f.put(o, g.cols[e.col], e.row, v)
		}
		return nil
	})
	if err == nil && begun != len(g.entries) {
		err = fmt.Errorf("column %s has %d elements, others have %d", path, begun, len(g.entries))
	}
	return err
}

// jsonValue reads an AnyValue in protobuf's JSON, which is OTLP's.
func jsonValue(text string) (trace.Value, error) {
	if !json.Valid([]byte(text)) {
		return trace.Value{}, fmt.Errorf("%.100q is no JSON", text)
	}
	doc := `{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":` + text + `}]},"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001"}]}]}]}`
	td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces([]byte(doc))
	if err != nil {
		return trace.Value{}, fmt.Errorf("%.100q is no AnyValue: %w", text, err)
	}
	traces, err := trace.FromOTLP(td)
	if err != nil || len(traces) != 1 {
		return trace.Value{}, fmt.Errorf("%.100q is no AnyValue: %w", text, err)
	}
	return traces[0].Spans[0].Resource.Get("k"), nil
}
