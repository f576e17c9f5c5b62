package blocks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
)

// Paths of the schema, without the groups "list" and "element".
const (
	pathResource = "rs.Resource."
	pathScope    = "rs.ss.Scope."
	pathSpan     = "rs.ss.Spans."
	pathEvent    = "rs.ss.Spans.Events."
	pathLink     = "rs.ss.Spans.Links."
)

// wellKnown are the attributes that always have columns of their own in vParquet4.
var wellKnown = map[string]map[string]string{
	pathResource: {
		"Cluster": "cluster", "Namespace": "namespace", "Pod": "pod", "Container": "container",
		"K8sClusterName": "k8s.cluster.name", "K8sNamespaceName": "k8s.namespace.name", "K8sPodName": "k8s.pod.name", "K8sContainerName": "k8s.container.name",
	},
	pathSpan: {"HttpMethod": "http.method", "HttpUrl": "http.url", "HttpStatusCode": "http.status_code"},
}

// attributeScopes are the paths of the groups that have attributes.
var attributeScopes = []struct {
	scope columnar.Scope
	path  string
}{{columnar.ScopeSpan, pathSpan}, {columnar.ScopeResource, pathResource}, {columnar.ScopeEvent, pathEvent}, {columnar.ScopeLink, pathLink}}

// eachDedicated calls yield for a scope's dedicated columns, with their names below its path: the n-th
// column of a type is StringN or IntN.
func eachDedicated(all []DedicatedColumn, scope columnar.Scope, yield func(column string, c DedicatedColumn)) {
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

func columnScope(c DedicatedColumn) columnar.Scope {
	switch c.Scope {
	case "resource":
		return columnar.ScopeResource
	case "event":
		return columnar.ScopeEvent
	}
	return columnar.ScopeSpan
}

// owners are the elements of a segment that have attributes: spans, resources, events or links.
type owners struct {
	scope columnar.Scope
	path  string
	depth int     // nesting depth of their list
	rows  []int32 // by slot, -1: none
	n     int     // number of rows in their columns
}

// attributes reads the needed attributes of the owners from the key and value columns, the well-known
// columns and the dedicated columns.
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

// put sets the value of a row, which may already have one.
func (f *filling) put(o owners, c *columnar.Column, row int32, v trace.Value) {
	if c.Put(row, v) && o.scope == columnar.ScopeSpan {
		f.filler.FlagSpan(row, trace.FlagRepeatedKey)
	}
}

// ownColumn reads the column of one attribute. It is optional in vParquet4, and a list in vParquet5,
// where a list of strings has several values if the column has the option for lists. Such a column does
// not distinguish a string from a list of this one string; both are read as the string.
func (f *filling) ownColumn(s *segment, o owners, path, key string, options []string) error {
	to := f.filler.Column(o.scope, key, o.n)
	f.codes.reset()
	slot := -1
	l, err := s.leaf(path)
	if err != nil {
		return err
	}
	isList := l.depth != o.depth && slices.Contains(options, "array")
	err = s.pages(path, l, s.entriesOf(l), func(p *page) error {
		if l.depth == o.depth && p.nulls == p.all {
			slot += p.entries
			return nil
		}
		if l.depth != o.depth || !p.full() {
			if err := p.levels(); err != nil {
				return err
			}
			if p.values() == 0 && (l.depth == o.depth || bytes.IndexByte(p.rep, byte(l.depth)) < 0) {
				slot += p.entries
				return nil
			}
		}
		if err := p.decode(); err != nil {
			return err
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
		if isText && l.depth == o.depth && known != nil && slot+1+p.entries <= len(o.rows) {
			f.ownWords(p, o, to, o.rows[slot+1:slot+1+p.entries])
			slot += p.entries
			return nil
		}
		at := 0
		listRow, list := int32(-1), []trace.Value(nil) // the current list of a slot
		flush := func() {
			if list != nil {
				f.put(o, to, listRow, trace.ArrayValue(list...))
			}
			list = nil
		}
		for i := range p.entries {
			if l.depth == o.depth || int(p.rep[i]) <= o.depth {
				slot++
				flush()
				if slot >= len(o.rows) {
					return fmt.Errorf("it has more than %d elements, unlike the others", len(o.rows))
				}
			} else if p.has(i) { // a further value of a list
				if list != nil {
					list = append(list, p.value(at))
				}
				at++
				continue
			}
			if !p.has(i) {
				continue
			}
			row := o.rows[slot]
			switch {
			case row < 0:
			case isList && i+1 < p.entries && int(p.rep[i+1]) > o.depth:
				listRow, list = row, []trace.Value{p.value(at)}
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

// ownWords reads a page of the column of one attribute if its strings are dictionary words.
func (f *filling) ownWords(p *page, o owners, to *columnar.Column, rows []int32) {
	known, codes := f.codes.of(p.dict), to.Text.Codes
	words := p.codes
	if len(words) == len(rows) && !f.dropped {
		// All values exist, and all are wanted.
		for i, row := range rows {
			code := known[words[i]]
			if code == 0 {
				code = f.codes.add(words[i], &to.Text, true)
			}
			if codes[row] != 0 {
				f.put(o, to, row, trace.StringValue(to.Text.Text(code-1)))
				continue
			}
			codes[row] = code - 1
		}
		return
	}
	at := 0
	for i, row := range rows {
		if !p.has(i) {
			continue
		}
		word := words[at]
		at++
		if row < 0 {
			continue
		}
		code := known[word]
		if code == 0 {
			code = f.codes.add(word, &to.Text, true)
		}
		if codes[row] != 0 {
			f.put(o, to, row, trace.StringValue(to.Text.Text(code-1)))
			continue
		}
		codes[row] = code - 1
	}
}

// value returns value i of a page.
func (p *page) value(i int) trace.Value {
	switch {
	case p.codes != nil:
		return trace.StringValue(string(p.word(i)))
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

// jsonValue parses an AnyValue in protobuf's JSON, as in OTLP.
func jsonValue(text string) (trace.Value, error) {
	if !json.Valid([]byte(text)) {
		return trace.Value{}, fmt.Errorf("%.100q is not JSON", text)
	}
	doc := `{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":` + text + `}]},"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001"}]}]}]}`
	td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces([]byte(doc))
	if err != nil {
		return trace.Value{}, fmt.Errorf("%.100q is not an AnyValue: %w", text, err)
	}
	traces, err := otlp.ToTraces(td)
	if err != nil || len(traces) != 1 {
		return trace.Value{}, fmt.Errorf("%.100q is not an AnyValue: %w", text, err)
	}
	return traces[0].Spans[0].Resource.Get("k"), nil
}
