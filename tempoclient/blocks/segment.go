package blocks

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/tempoclient/traceql"
)

// segment is what some rows of a block hold: the traces' IDs, and their spans, not
// yet in normal form.
type segment struct {
	ids   []trace.ID
	first []int32 // by row, and the end
	spans []trace.Span
}

// row returns the spans of a row.
func (s *segment) row(i int) []trace.Span { return s.spans[s.first[i]:s.first[i+1]] }

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

// decoder reads rows of one row group.
type decoder struct {
	meta     Meta
	cols     columns
	needs    Needs
	group    parquet.RowGroup
	from, to int64
}

// decode reads rows [from, to) of a row group.
func decode(meta Meta, cols columns, needs Needs, group parquet.RowGroup, from, to int64) (*segment, error) {
	d := &decoder{meta: meta, cols: cols, needs: needs, group: group, from: from, to: to}
	s, err := d.segment()
	if err != nil {
		return nil, fmt.Errorf("rows %d to %d: %w", from, to, err)
	}
	return s, nil
}

func (d *decoder) column(path string) (*entries, error) {
	l, ok := d.cols[path]
	if !ok {
		return nil, fmt.Errorf("the file has no column %s: it is no %s that is read here", path, d.meta.Version)
	}
	e, err := l.read(d.group, d.from, d.to)
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", path, err)
	}
	return e, nil
}

// required reads a column that has a value for each of n elements.
func (d *decoder) required(path string, n int32) (*entries, error) {
	e, err := d.column(path)
	if err != nil {
		return nil, err
	}
	if have := len(e.texts) + len(e.ints) + len(e.doubles) + len(e.bools); have != int(n) {
		return nil, fmt.Errorf("column %s has %d values, others have %d", path, have, n)
	}
	return e, nil
}

// nested reads a column and follows the elements of the list at depth.
func (d *decoder) nested(path string, depth int, above *slots) (*entries, *slots, error) {
	e, err := d.column(path)
	if err != nil {
		return nil, nil, err
	}
	s, err := e.walk(depth, above, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("column %s: %w", path, err)
	}
	return e, s, nil
}

func (d *decoder) segment() (*segment, error) {
	rows := int32(d.to - d.from)
	ids, err := d.required("TraceID", rows)
	if err != nil {
		return nil, err
	}
	services, resources, err := d.nested(pathResource+"ServiceName", 1, nil)
	if err != nil {
		return nil, err
	}
	scopeNames, scopes, err := d.nested(pathScope+"Name", 2, resources)
	if err != nil {
		return nil, err
	}
	scopeVersions, err := d.required(pathScope+"Version", scopes.n)
	if err != nil {
		return nil, err
	}
	spanIDs, spans, err := d.nested(pathSpan+"SpanID", 3, scopes)
	if err != nil {
		return nil, err
	}
	s := &segment{ids: make([]trace.ID, rows), first: make([]int32, rows+1), spans: make([]trace.Span, spans.n)}
	for i, id := range ids.texts {
		pad(s.ids[i][:], id)
	}
	resourceAttrs := newOwned(resources.n)
	for i, name := range services.texts {
		if name != "" { // "" stands for absent
			resourceAttrs.add(int32(i), trace.Attribute{Key: trace.ServiceName, Value: trace.StringValue(name)})
		}
	}
	if err := d.attributes(pathResource, 1, resources, traceql.ScopeResource, resourceAttrs); err != nil {
		return nil, err
	}
	resource := resourceAttrs.lists()
	for i := range s.spans {
		scope := spans.parent[i]
		span := &s.spans[i]
		pad(span.ID[:], spanIDs.texts[i])
		span.Scope, span.ScopeVersion = scopeNames.texts[scope], scopeVersions.texts[scope]
		span.Resource = resource[scopes.parent[scope]]
		s.first[resources.parent[scopes.parent[scope]]+1]++
	}
	for i := range rows {
		s.first[i+1] += s.first[i]
	}
	if err := d.intrinsics(s.spans); err != nil {
		return nil, err
	}
	attrs := newOwned(spans.n)
	if err := d.attributes(pathSpan, 3, spans, traceql.ScopeSpan, attrs); err != nil {
		return nil, err
	}
	for i, list := range attrs.lists() {
		s.spans[i].Attributes = list
	}
	if err := d.events(s.spans, spans); err != nil {
		return nil, err
	}
	return s, d.links(s.spans, spans)
}

// pad copies an ID that may lack leading zeros.
func pad(to []byte, id string) {
	if n := len(to) - len(id); n >= 0 {
		copy(to[n:], id)
	} else {
		copy(to, id[-n:])
	}
}

// intrinsicColumns are the columns of what every span has.
var intrinsicColumns = []struct {
	name string
	set  func(e *entries, s *trace.Span, i int)
}{
	{"ParentSpanID", func(e *entries, s *trace.Span, i int) { pad(s.ParentID[:], e.texts[i]) }},
	{"Name", func(e *entries, s *trace.Span, i int) { s.Name = e.texts[i] }},
	{"Kind", func(e *entries, s *trace.Span, i int) { s.Kind = trace.Kind(e.ints[i]) }},
	{"StartTimeUnixNano", func(e *entries, s *trace.Span, i int) { s.Start = trace.Time(e.ints[i]) }},
	{"DurationNano", func(e *entries, s *trace.Span, i int) { s.End = s.Start + trace.Time(e.ints[i]) }}, // after the start
	{"StatusCode", func(e *entries, s *trace.Span, i int) { s.Status = trace.Status(e.ints[i]) }},
	{"StatusMessage", func(e *entries, s *trace.Span, i int) { s.StatusMessage = e.texts[i] }},
}

func (d *decoder) intrinsics(spans []trace.Span) error {
	for _, c := range intrinsicColumns {
		e, err := d.required(pathSpan+c.name, int32(len(spans)))
		if err != nil {
			return err
		}
		for i := range spans {
			c.set(e, &spans[i], i)
		}
	}
	return nil
}

func (d *decoder) events(spans []trace.Span, above *slots) error {
	if !d.needs.All && !d.needs.Events {
		return nil
	}
	names, events, err := d.nested(pathEvent+"Name", 4, above)
	if err != nil || events.n == 0 {
		return err
	}
	times, err := d.required(pathEvent+"TimeSinceStartNano", events.n)
	if err != nil {
		return err
	}
	attrs := newOwned(events.n)
	if err := d.attributes(pathEvent, 4, events, traceql.ScopeEvent, attrs); err != nil {
		return err
	}
	all := make([]trace.Event, events.n)
	for i, list := range attrs.lists() {
		all[i] = trace.Event{Name: names.texts[i], Time: spans[events.parent[i]].Start + trace.Time(times.ints[i]), Attributes: list}
	}
	eachOwner(events, func(span int32, from, to int) { spans[span].Events = all[from:to:to] })
	return nil
}

func (d *decoder) links(spans []trace.Span, above *slots) error {
	if !d.needs.All && !d.needs.Links {
		return nil
	}
	ids, links, err := d.nested(pathLink+"TraceID", 4, above)
	if err != nil || links.n == 0 {
		return err
	}
	spanIDs, err := d.required(pathLink+"SpanID", links.n)
	if err != nil {
		return err
	}
	attrs := newOwned(links.n)
	if err := d.attributes(pathLink, 4, links, traceql.ScopeLink, attrs); err != nil {
		return err
	}
	all := make([]trace.Link, links.n)
	for i, list := range attrs.lists() {
		pad(all[i].TraceID[:], ids.texts[i])
		pad(all[i].SpanID[:], spanIDs.texts[i])
		all[i].Attributes = list
	}
	eachOwner(links, func(span int32, from, to int) { spans[span].Links = all[from:to:to] })
	return nil
}

// eachOwner calls yield for each element above that has elements, with their range.
func eachOwner(s *slots, yield func(parent int32, from, to int)) {
	for from := 0; from < len(s.parent); {
		to := from + 1
		for to < len(s.parent) && s.parent[to] == s.parent[from] {
			to++
		}
		yield(s.parent[from], from, to)
		from = to
	}
}

// owned gathers attributes by the element that has them.
type owned struct {
	n     int32
	owner []int32
	attrs []trace.Attribute
}

func newOwned(n int32) *owned { return &owned{n: n} }

func (o *owned) add(owner int32, a trace.Attribute) {
	o.owner = append(o.owner, owner)
	o.attrs = append(o.attrs, a)
}

// lists returns each element's attributes in normal form. Equal keys stay: the last
// value counts, as package trace says.
func (o *owned) lists() []trace.Attributes {
	first := make([]int32, o.n+1)
	for _, owner := range o.owner {
		first[owner+1]++
	}
	for i := range o.n {
		first[i+1] += first[i]
	}
	sorted := make([]trace.Attribute, len(o.attrs))
	next := slices.Clone(first)
	for i, owner := range o.owner {
		sorted[next[owner]] = o.attrs[i]
		next[owner]++
	}
	lists := make([]trace.Attributes, o.n)
	for i := range lists {
		if from, to := first[i], first[i+1]; from < to {
			lists[i], _ = trace.NewAttributes(sorted[from:to:to])
		}
	}
	return lists
}

// attributes reads the needed attributes of the elements at a depth into to: from
// key and value columns, from the well-known and from the dedicated columns.
func (d *decoder) attributes(path string, depth int, above *slots, scope traceql.Scope, to *owned) error {
	need := d.needs.of(scope)
	if need.none() {
		return nil
	}
	if err := d.generic(path+"Attrs.", depth+1, above, need, to); err != nil {
		return err
	}
	for column, key := range wellKnown[path] {
		if _, ok := d.cols[path+column]; !ok || !need.has(key) {
			continue
		}
		if err := d.dedicated(path+column, key, depth, above, nil, to); err != nil {
			return err
		}
	}
	var err error
	eachDedicated(d.meta.DedicatedColumns, scope, func(column string, c DedicatedColumn) {
		if err == nil && need.has(c.Name) {
			err = d.dedicated(path+column, c.Name, depth, above, c.Options, to)
		}
	})
	return err
}

// attributeScopes are the paths of what has attributes.
var attributeScopes = []struct {
	scope traceql.Scope
	path  string
}{{traceql.ScopeSpan, pathSpan}, {traceql.ScopeResource, pathResource}, {traceql.ScopeEvent, pathEvent}, {traceql.ScopeLink, pathLink}}

// eachDedicated gives a scope's dedicated columns, by their names below its path: the
// n-th of a type is StringN or IntN.
func eachDedicated(all []DedicatedColumn, scope traceql.Scope, yield func(column string, c DedicatedColumn)) {
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

func columnScope(c DedicatedColumn) traceql.Scope {
	switch c.Scope {
	case "resource":
		return traceql.ScopeResource
	case "event":
		return traceql.ScopeEvent
	}
	return traceql.ScopeSpan
}

// dedicated reads a column of one attribute: optional in vParquet4, a list in
// vParquet5, where an attribute that is a list of texts has several values, if the
// column is for lists. Such a column does not tell a text from a list of that one
// text: it is read as the text.
func (d *decoder) dedicated(path, key string, depth int, above *slots, options []string, to *owned) error {
	e, err := d.column(path)
	if err != nil {
		return err
	}
	value := func(i int) trace.Value {
		if len(e.ints) > 0 {
			return trace.IntValue(e.ints[i])
		}
		return trace.StringValue(e.texts[i])
	}
	if e.depth > depth {
		isList := slices.Contains(options, "array")
		lists := map[int32][]trace.Value{}
		var order []int32
		if _, err := e.walk(depth+1, above, func(parent, element int32, _ bool, at int) {
			if element < 0 || at < 0 {
				return
			}
			if lists[parent] == nil {
				order = append(order, parent)
			}
			lists[parent] = append(lists[parent], value(at))
		}); err != nil {
			return fmt.Errorf("column %s: %w", path, err)
		}
		for _, owner := range order {
			v := lists[owner][0]
			if isList && len(lists[owner]) > 1 {
				v = trace.ArrayValue(lists[owner]...)
			}
			to.add(owner, trace.Attribute{Key: key, Value: v})
		}
		return nil
	}
	// One entry an element, in the same order; the elements above that are empty have
	// an entry too.
	slot := 0
	at := 0
	for i := range e.n {
		defined := e.def == nil || e.def[i] >= e.defined
		if slot >= len(above.element) {
			return fmt.Errorf("column %s has more than %d elements, unlike the others", path, len(above.element))
		}
		if defined {
			to.add(above.element[slot], trace.Attribute{Key: key, Value: value(at)})
			at++
		}
		slot++
	}
	if slot != len(above.element) {
		return fmt.Errorf("column %s has %d elements, others have %d", path, slot, len(above.element))
	}
	return nil
}

// generic reads key and value columns.
func (d *decoder) generic(path string, depth int, above *slots, need keySet, to *owned) error {
	keys, err := d.column(path + "Key")
	if err != nil {
		return err
	}
	wanted := false
	attrs, err := keys.walk(depth, above, nil)
	if err != nil {
		return fmt.Errorf("column %sKey: %w", path, err)
	}
	for i, key := range keys.texts {
		if need.has(key) {
			wanted = true
		} else {
			attrs.parent[i] = -1
		}
	}
	if !wanted {
		return nil
	}
	isArray, err := d.required(path+"IsArray", attrs.n)
	if err != nil {
		return err
	}
	values := make([]trace.Value, attrs.n)
	lists := map[int32][]trace.Value{}
	for _, c := range []struct {
		name  string
		value func(e *entries, i int) trace.Value
	}{
		{"Value", func(e *entries, i int) trace.Value { return trace.StringValue(e.texts[i]) }},
		{"ValueInt", func(e *entries, i int) trace.Value { return trace.IntValue(e.ints[i]) }},
		{"ValueDouble", func(e *entries, i int) trace.Value { return trace.DoubleValue(e.doubles[i]) }},
		{"ValueBool", func(e *entries, i int) trace.Value { return trace.BoolValue(e.bools[i]) }},
	} {
		e, err := d.column(path + c.name)
		if err != nil {
			return err
		}
		if _, err := e.walk(depth+1, attrs, func(attr, element int32, _ bool, at int) {
			switch {
			case element < 0 || at < 0 || attrs.parent[attr] < 0:
			case isArray.bools[attr]:
				lists[attr] = append(lists[attr], c.value(e, at))
			default:
				values[attr] = c.value(e, at)
			}
		}); err != nil {
			return fmt.Errorf("column %s%s: %w", path, c.name, err)
		}
	}
	if err := d.unsupported(path+"ValueUnsupported", attrs, values); err != nil {
		return err
	}
	to.owner, to.attrs = slices.Grow(to.owner, int(attrs.n)), slices.Grow(to.attrs, int(attrs.n))
	for i, owner := range attrs.parent {
		if owner < 0 {
			continue
		}
		if isArray.bools[i] {
			values[i] = trace.ArrayValue(lists[int32(i)]...)
		}
		if !values[i].IsAbsent() {
			to.add(owner, trace.Attribute{Key: keys.texts[i], Value: values[i]})
		}
	}
	return nil
}

// unsupported reads the values that Tempo keeps as JSON: bytes, maps, lists of
// several types.
func (d *decoder) unsupported(path string, attrs *slots, values []trace.Value) error {
	e, err := d.column(path)
	if err != nil {
		return err
	}
	at := 0
	if e.n != len(attrs.element) {
		return fmt.Errorf("column %s has %d elements, others have %d", path, e.n, len(attrs.element))
	}
	for i := range e.n {
		if e.def != nil && e.def[i] < e.defined {
			continue
		}
		attr := attrs.element[i]
		text := e.texts[at]
		at++
		if attrs.parent[attr] < 0 {
			continue
		}
		if values[attr], err = jsonValue(text); err != nil {
			return fmt.Errorf("column %s: %w", path, err)
		}
	}
	return nil
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
