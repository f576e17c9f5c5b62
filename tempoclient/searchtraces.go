package tempoclient

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/betracehq/betrace/tempoclient/tempopb"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// Limits of reading by search, see [wholeSearch].
const (
	// maxSearchAge bounds the age of traces that are read by search, because such a search extends until
	// now.
	maxSearchAge = 24 * time.Hour
	// maxSearchSpans bounds the spans of a trace, because Tempo's time for merging span sets grows with
	// their square.
	maxSearchSpans = 300
	// uncut bounds the time for which Tempo may return a span by ID but not by search. These are its live
	// traces, by default for 30 s, and 10 s until they are cut.
	uncut = time.Minute
	// spansPerSet is the requested number of spans with one ID and kind. There are never more than a few.
	spansPerSet = 10
)

// wholeSearch reads whole traces by a search for a list of trace IDs, which selects the needed data of
// their spans.
//
// The query groups spans by their IDs and kinds, so that search returns the spans of all blocks. Tempo
// merges the results for a trace from several blocks by group, and keeps one of several equal groups.
// Without groups it keeps the spans of the largest block and silently drops the others
// (pkg/traceql/combine.go of Tempo 2.8).
//
// Some data is returned by ID but not by search. Therefore some needs, and some traces, are read by ID:
// see newWholeSearch and build.
type wholeSearch struct {
	needs    *columnar.Needs
	pipeline string // the query after the filter
	keys     map[string]columnar.Scope
	byIDWith map[string]bool
	from     trace.Time
}

// fields are the selected fields that are not attributes, with their keys in the answer and the condition
// for them.
var fields = []struct {
	selected, key string
	needed        func(*columnar.Needs) bool
}{
	{"name", "", nil},
	{"status", "status", nil},
	{"span:parentID", "span:parentID", nil},
	{"resource." + trace.ServiceName, trace.ServiceName, nil},
	{"statusMessage", "statusMessage", func(n *columnar.Needs) bool { return n.StatusMessage }},
	{"instrumentation:name", "instrumentation:name", func(n *columnar.Needs) bool { return n.Instrumentation }},
	{"instrumentation:version", "instrumentation:version", func(n *columnar.Needs) bool { return n.Instrumentation }},
}

// intrinsicKeys are keys of attributes that Tempo may interpret as intrinsics, or that have another
// meaning in its answers.
var intrinsicKeys = []string{
	"name", "status", "statusMessage", "kind", "duration", "parent", "id", "parentID", "childCount", "rootName", "rootService",
	"rootServiceName", "traceDuration", "traceStartTime", "spanStartTime", "nestedSetLeft", "nestedSetRight", "nestedSetParent",
	"version", "spanID", "traceID", "timeSinceStart", trace.ServiceName,
}

// newWholeSearch returns the search for the data that a request needs, or the reason why search cannot
// return it.
func newWholeSearch(req *Request, config *Config) (w *wholeSearch, why string) {
	n := &req.Needs
	w = &wholeSearch{needs: n, keys: map[string]columnar.Scope{}, byIDWith: map[string]bool{}, from: trace.TimeOf(req.From)}
	switch {
	case n.All || len(n.Attributes) == 0 && len(n.Whole) == 0 && !n.Events && !n.Links && !n.StatusMessage && !n.Instrumentation:
		return nil, "all data of spans is needed"
	case len(n.Whole) > 0:
		return nil, "all attributes are needed"
	case n.Events || n.Links:
		return nil, "events or links are needed"
	case time.Since(req.From)+config.MaxTraceDuration > maxSearchAge:
		return nil, fmt.Sprintf("the range is older than %s", maxSearchAge)
	}
	for _, k := range req.ByIDWith {
		w.byIDWith[k.Key] = true
	}
	selected := []string{}
	for _, f := range fields {
		if f.needed == nil || f.needed(n) {
			selected = append(selected, f.selected)
		}
	}
	for _, a := range n.Attributes {
		_, twice := w.keys[a.Key]
		switch {
		case a.Scope == columnar.ScopeEvent || a.Scope == columnar.ScopeLink:
			return nil, "events or links are needed"
		case twice:
			return nil, fmt.Sprintf("attribute %s is needed both from spans and from resources", a.Key)
		case strings.Contains(a.Key, ":") || slices.Contains(intrinsicKeys, a.Key):
			return nil, fmt.Sprintf("attribute %s has the name of a span field", a.Key)
		case !w.byIDWith[a.Key] && !config.isPlain(a.Key):
			return nil, fmt.Sprintf("attribute %s may have values that search does not return", a.Key)
		}
		w.keys[a.Key] = a.Scope
		selected = append(selected, traceql.Attribute(a.Scope, a.Key).String())
	}
	w.pipeline = " | by(span:id) | by(kind) | select(" + strings.Join(selected, ", ") + ")"
	return w, ""
}

// isPlain reports whether a key is named in PlainAttributes.
func (c *Config) isPlain(key string) bool {
	return slices.Contains(c.PlainAttributes, key) || slices.Contains(c.PlainAttributes, "*")
}

// query returns the query for traces by their IDs. It never contains one ID alone, which Tempo would not
// treat as a regular expression.
func (w *wholeSearch) query(ids []trace.ID) string {
	var b strings.Builder
	b.WriteString("{ trace:id =~ `")
	for i, id := range ids {
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteString(strings.TrimLeft(id.String(), "0"))
	}
	b.WriteString("|none` }")
	return b.String() + w.pipeline
}

// found are the results for one trace, from one or more answers.
type found []*tempopb.TraceSearchMetadata

// searchWhole searches for whole traces. A trace that may have more spans than the answers contain is
// omitted from the result.
//
// By ID Tempo reads all its data. A search selects by time twice: blocks, and rows in them. A block with
// late spans has the time at which they arrived. Therefore one search covers all times from before the
// range until now. Tempo restricts this search again in its ingesters, so another search without times
// covers those. The first search is omitted if it would read no block.
func (c *Client) searchWhole(ctx context.Context, w *wholeSearch, ids []trace.ID, from time.Time) (map[trace.ID]found, error) {
	query := w.query(ids)
	all := window{from.Add(-c.config.MaxTraceDuration).Unix(), time.Now().Add(time.Minute).Unix()}
	// The limit is one more than the traces, because Tempo stops at the limit even if spans are missing.
	ask := func(query string, times window) (answer, error) {
		a, err := c.searchFor(ctx, searchQuery{query, times, len(ids) + 1, int(c.spansPerSet.Load()), true})
		if most, is := tooManySpansPerSet(err); is {
			c.spansPerSet.Store(most)
			a, err = c.searchFor(ctx, searchQuery{query, times, len(ids) + 1, int(most), true})
		}
		if err == nil && a.completed < a.total {
			err = fmt.Errorf("tempo finished %d of %d jobs", a.completed, a.total)
		}
		return a, err
	}
	traces := map[trace.ID]found{}
	times := []window{{}}
	probe, err := ask("{ trace:id = `1` }", all)
	if err != nil {
		return nil, err
	}
	if probe.blocks > 0 {
		times = append(times, all)
	}
	for _, t := range times {
		a, err := ask(query, t)
		if err != nil {
			return nil, err
		}
		for id, m := range a.traces {
			traces[id] = append(traces[id], m)
		}
	}
	return traces, nil
}

var spansPerSetText = regexp.MustCompile(`spans per span set exceeds (\d+)`)

// tooManySpansPerSet returns Tempo's own limit from its error message.
func tooManySpansPerSet(err error) (most int64, is bool) {
	if err == nil {
		return 0, false
	}
	m := spansPerSetText.FindStringSubmatch(err.Error())
	if m == nil {
		return 0, false
	}
	most, err = strconv.ParseInt(m[1], 10, 32)
	return most, err == nil && most > 0
}

// build converts the search results to a trace, or returns the reason why the trace must be read by ID.
func (w *wholeSearch) build(id trace.ID, parts found) (t *trace.Trace, why string) {
	if len(parts) == 0 {
		return nil, "the search for whole traces did not find it"
	}
	var spans []trace.Span
	starts := ^uint64(0)
	for _, m := range parts {
		starts = min(starts, m.GetStartTimeUnixNano())
		for _, set := range m.GetSpanSets() {
			if int(set.GetMatched()) != len(set.GetSpans()) {
				return nil, "cut"
			}
			for _, s := range set.GetSpans() {
				span, why := w.span(s)
				if why != "" {
					return nil, why
				}
				spans = append(spans, span)
			}
		}
	}
	if len(spans) == 0 {
		return nil, "search returned no spans"
	}
	t = trace.New(id, spans)
	switch {
	case t.Start() < w.from:
		return t, "" // before the range, even if more spans exist
	case uint64(t.Start()) > starts:
		return nil, "it starts before the spans that search returned"
	case t.End() > trace.TimeOf(time.Now().Add(-uncut)):
		return nil, "young"
	case hasOrphan(t):
		return nil, "a parent is missing"
	}
	return t, ""
}

// hasOrphan reports whether the parent of a span is missing. The parent may be in a part of the trace
// that search does not reach.
func hasOrphan(t *trace.Trace) bool {
	ids := make(map[trace.SpanID]struct{}, len(t.Spans))
	for i := range t.Spans {
		ids[t.Spans[i].ID] = struct{}{}
	}
	for i := range t.Spans {
		if _, ok := ids[t.Spans[i].ParentID]; !ok && !t.Spans[i].ParentID.IsZero() {
			return true
		}
	}
	return false
}

// span converts a span of an answer, or returns the reason why its trace must be read by ID.
func (w *wholeSearch) span(s *tempopb.Span) (span trace.Span, why string) {
	id, err := trace.ParseSpanID(s.GetSpanID())
	if err != nil {
		return span, "a span ID is invalid"
	}
	span = trace.Span{ID: id, Name: string(s.GetName()), Start: trace.Time(s.GetStartTimeUnixNano()), Kind: -1}
	span.End = span.Start + trace.Time(s.GetDurationNanos())
	var attributes, resource []trace.Attribute
	for _, a := range s.GetAttributes() {
		key := string(a.GetKey())
		text, isText := a.GetValue().GetValue().(*tempopb.AnyValue_StringValue)
		if scope, ok := w.keys[key]; ok {
			v, ok := plainValue(a.GetValue())
			switch {
			case w.byIDWith[key]:
				return span, "it has attribute " + key
			case !ok:
				return span, notPlain(key)
			case scope == columnar.ScopeResource:
				resource = append(resource, trace.Attribute{Key: key, Value: v})
			default: // with ScopeAny it is unknown which of the two has it, which does not matter
				attributes = append(attributes, trace.Attribute{Key: key, Value: v})
			}
			continue
		}
		if !isText {
			continue
		}
		switch value := string(text.StringValue); key {
		case "kind":
			span.Kind = trace.Kind(slices.Index(trace.KindNames[:], value))
		case "status":
			i := slices.Index(trace.StatusNames[:], value)
			if i < 0 {
				return span, "a status is unknown"
			}
			span.Status = trace.Status(i)
		case "statusMessage":
			span.StatusMessage = value
		case "span:parentID":
			if span.ParentID, err = trace.ParseSpanID(value); err != nil && value != "" {
				return span, "a parent's ID is invalid"
			}
		case "instrumentation:name":
			span.Scope = value
		case "instrumentation:version":
			span.ScopeVersion = value
		case trace.ServiceName:
			if value != "" { // otherwise it is absent or not a string, which means the same service
				resource = append(resource, trace.Attribute{Key: key, Value: trace.StringValue(value)})
			}
		}
	}
	if span.Kind < 0 {
		return span, "a kind is unknown"
	}
	for _, list := range []*[]trace.Attribute{&attributes, &resource} {
		slices.SortFunc(*list, func(a, b trace.Attribute) int { return strings.Compare(a.Key, b.Key) })
		for i := 1; i < len(*list); i++ {
			if (*list)[i].Key == (*list)[i-1].Key {
				return span, "span and resource have the same attribute"
			}
		}
	}
	span.Attributes, span.Resource = attributes, resource
	return span, ""
}

func notPlain(key string) string { return "attribute " + key + " is not plain" }

// plainValue returns a value of a plain type. An empty string may stand for an absent value.
func plainValue(v *tempopb.AnyValue) (trace.Value, bool) {
	switch v := v.GetValue().(type) {
	case *tempopb.AnyValue_StringValue:
		return trace.StringValue(string(v.StringValue)), len(v.StringValue) > 0
	case *tempopb.AnyValue_BoolValue:
		return trace.BoolValue(v.BoolValue), true
	case *tempopb.AnyValue_IntValue:
		return trace.IntValue(v.IntValue), true
	case *tempopb.AnyValue_DoubleValue:
		return trace.DoubleValue(v.DoubleValue), true
	}
	return trace.Value{}, false
}

// check compares a trace read by ID with the promise of PlainAttributes and, if bySearch is not nil, with
// the trace as search returned it. An error means that search is unreliable.
func (w *wholeSearch) check(byID, bySearch *trace.Trace) error {
	for i := range byID.Spans {
		s := &byID.Spans[i]
		for key, scope := range w.keys {
			for _, v := range []trace.Value{s.Attributes.Get(key), s.Resource.Get(key)} {
				if scope != columnar.ScopeEvent && !w.byIDWith[key] && (v.Type() == trace.TypeArray || v.Type() == trace.TypeMap || v.Type() == trace.TypeBytes) {
					return fmt.Errorf("span %s of trace %s: attribute %s is %s %s, which search does not distinguish from other values: remove it from the plain attributes", s.ID, byID.ID, key, v.Type(), v)
				}
			}
		}
	}
	if bySearch == nil || len(bySearch.Spans) != len(byID.Spans) {
		return nil // spans arrived between the two requests
	}
	for i := range byID.Spans {
		a, b := &byID.Spans[i], &bySearch.Spans[i]
		if what := w.differ(a, b); what != "" {
			return fmt.Errorf("span %s of trace %s: search returned another %s than reading the trace by its ID", a.ID, byID.ID, what)
		}
	}
	return nil
}

func (w *wholeSearch) differ(a, b *trace.Span) string {
	switch {
	case a.ID != b.ID || a.Kind.String() != b.Kind.String():
		return "span"
	case a.Name != b.Name:
		return "name"
	case a.Start != b.Start || a.End != b.End:
		return "time"
	case a.Status.String() != b.Status.String():
		return "status"
	case a.Service() != b.Service():
		return "service"
	case w.needs.StatusMessage && a.StatusMessage != b.StatusMessage:
		return "status message"
	case w.needs.Instrumentation && (a.Scope != b.Scope || a.ScopeVersion != b.ScopeVersion):
		return "instrumentation scope"
	}
	for key, scope := range w.keys {
		var v, u trace.Value
		switch scope {
		case columnar.ScopeResource:
			v, u = a.Resource.Get(key), b.Resource.Get(key)
		case columnar.ScopeSpan:
			v, u = a.Attributes.Get(key), b.Attributes.Get(key)
		default:
			v, u = a.Attribute(key), b.Attribute(key)
		}
		if v.Compare(u) != 0 && !w.byIDWith[key] {
			return "attribute " + key + " (" + u.String() + ", not " + v.String() + ")"
		}
	}
	return ""
}

// halves divides a batch whose answer was too large. ok is false for a single trace.
func halves(ids []trace.ID) (a, b []trace.ID, ok bool) {
	middle := len(ids) / 2
	return ids[:middle], ids[middle:], middle > 0
}
