package rules

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/trace"
)

// Test is one test of a rule, from its pack.
type Test struct {
	Name  string
	Trace *trace.Trace
	Want  Outcome
	// Clause, Message and About (the names of spans, in order) are checked if they are set, that is, not "" or
	// nil.
	Clause, Message string
	About           []string
	// File and Line are the position of the test.
	File string
	Line int
}

// TestResult is the result of a test. Err is nil if it passed.
type TestResult struct {
	Test    *Test
	Verdict Verdict
	Err     error
}

// RunTests judges the traces of the rule's tests.
func (r *Rule) RunTests(ctx context.Context) []TestResult {
	results := make([]TestResult, len(r.Tests))
	for i := range r.Tests {
		test := &r.Tests[i]
		v := r.Judge(ctx, test.Trace)
		results[i] = TestResult{Test: test, Verdict: v, Err: test.check(v)}
	}
	return results
}

func (test *Test) check(v Verdict) error {
	var about []string
	for _, i := range v.About {
		about = append(about, test.Trace.Spans[i].Name)
	}
	var errs []error
	differ := func(what string, have, want any) {
		errs = append(errs, fmt.Errorf("%s: have %q, want %q", what, have, want))
	}
	if v.Outcome != test.Want {
		differ("outcome", v.Outcome, test.Want)
		if v.Err != nil {
			errs = append(errs, v.Err)
		}
	}
	if test.Clause != "" && v.Clause != test.Clause {
		differ("clause", v.Clause, test.Clause)
	}
	if test.Message != "" && v.Message != test.Message {
		differ("message", v.Message, test.Message)
	}
	if test.About != nil && !slices.Equal(about, test.About) {
		differ("about", about, test.About)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s:%d: test %q: %w", test.File, test.Line, test.Name, err)
	}
	return nil
}

// testStart is the start of the traces of tests.
var testStart = trace.TimeOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

// test reads one test. The spans of its trace have the fields that rules see, with these defaults:
//
//   - id is a label, which may be any string. The default is the span's number, from 1.
//   - parent is the id or the name of another span. By default the first span is the root, and the parent of
//     all others. "" makes the span a root; a label that no span has makes it an orphan.
//   - start is a duration after the start of the trace, by default a millisecond for each previous span.
//     duration is by default a millisecond. end, a duration after the start of the trace, may replace
//     duration.
//   - kind is by default internal, and status unset. service sets the resource's service.name.
func (d *document) test(r *Rule, n *yaml.Node) error {
	test := Test{File: d.file, Line: n.Line}
	var want string
	var spans *yaml.Node
	err := d.fields(n, "a test", map[string]func(*yaml.Node) error{
		"name": d.text(&test.Name), "want": d.text(&want), "clause": d.text(&test.Clause), "message": d.text(&test.Message),
		"about": func(n *yaml.Node) error { test.About = []string{}; return d.texts(&test.About)(n) },
		"trace": func(n *yaml.Node) error { spans = n; return nil }, //nolint:unparam // as the others
	})
	if err != nil {
		return err
	}
	outcome := slices.Index(outcomeNames[:], want)
	if outcome < 0 {
		return d.errorf(n, "rule %q: test %q: want is %q: use one of %s", r.ID, test.Name, want, strings.Join(outcomeNames[:], ", "))
	}
	test.Want = Outcome(outcome)
	if spans == nil || spans.Kind != yaml.SequenceNode || len(spans.Content) == 0 {
		return d.errorf(n, "rule %q: test %q: trace is missing: want a list of spans", r.ID, test.Name)
	}
	if test.Trace, err = d.testTrace(spans); err != nil {
		return err
	}
	r.Tests = append(r.Tests, test)
	return nil
}

// testSpan is a span of a test.
type testSpan struct {
	span              trace.Span
	label             string
	parent            string
	hasParent         bool
	start, end, lasts time.Duration
	hasEnd            bool
}

func (d *document) testTrace(list *yaml.Node) (*trace.Trace, error) {
	var errs []error
	spans := make([]testSpan, len(list.Content))
	byLabel := map[string]trace.SpanID{}
	byName := map[string]trace.SpanID{}
	for i, n := range list.Content {
		s := &spans[i]
		s.label, s.start, s.lasts = strconv.Itoa(i+1), time.Duration(i)*time.Millisecond, time.Millisecond
		s.span.Kind = trace.KindInternal
		binary.BigEndian.PutUint64(s.span.ID[:], uint64(i+1))
		if err := d.testSpan(s, deref(n)); err != nil {
			errs = append(errs, err)
			continue
		}
		// Spans that share a label share an ID.
		if id, shared := byLabel[s.label]; shared {
			s.span.ID = id
		}
		byLabel[s.label] = s.span.ID
		if _, named := byName[s.span.Name]; !named {
			byName[s.span.Name] = s.span.ID
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	built := make([]trace.Span, len(spans))
	for i, s := range spans {
		s.span.Start = testStart + trace.Time(s.start)
		s.span.End = s.span.Start + trace.Time(s.lasts)
		if s.hasEnd {
			s.span.End = testStart + trace.Time(s.end)
		}
		switch {
		case !s.hasParent && i > 0:
			s.span.ParentID = spans[0].span.ID
		case s.hasParent && s.parent != "":
			id, ok := byLabel[s.parent]
			if !ok {
				id, ok = byName[s.parent]
			}
			if !ok {
				id = trace.SpanID{0xff} // an ID that no span has
			}
			s.span.ParentID = id
		}
		built[i] = s.span
	}
	return trace.New(trace.ID{15: 1}, built), nil
}

func (d *document) testSpan(s *testSpan, n *yaml.Node) error {
	var service string
	span := &s.span
	lasts := func(to *time.Duration) func(*yaml.Node) error {
		return func(n *yaml.Node) error {
			v, err := time.ParseDuration(n.Value)
			if err != nil {
				return d.errorf(n, "want a duration like 250ms or 1.5s, have %s", kindName(n))
			}
			*to = v
			return nil
		}
	}
	oneOf := func(names []string, set func(int)) func(*yaml.Node) error {
		return func(n *yaml.Node) error {
			i := slices.Index(names, n.Value)
			if i < 0 {
				return d.errorf(n, "%s is not one of %s", kindName(n), strings.Join(names, ", "))
			}
			set(i)
			return nil
		}
	}
	err := d.fields(n, "a span", map[string]func(*yaml.Node) error{
		"id":   d.text(&s.label),
		"name": d.text(&span.Name), "service": d.text(&service),
		"parent":        func(n *yaml.Node) error { s.hasParent = true; return d.text(&s.parent)(n) },
		"kind":          oneOf(trace.KindNames[:], func(i int) { span.Kind = trace.Kind(i) }),
		"status":        oneOf(trace.StatusNames[:], func(i int) { span.Status = trace.Status(i) }),
		"statusMessage": d.text(&span.StatusMessage),
		"start":         lasts(&s.start), "duration": lasts(&s.lasts),
		"end":   func(n *yaml.Node) error { s.hasEnd = true; return lasts(&s.end)(n) },
		"scope": d.text(&span.Scope), "scopeVersion": d.text(&span.ScopeVersion),
		"attributes": d.attributes(&span.Attributes), "resource": d.attributes(&span.Resource),
		"events": d.list(func(n *yaml.Node) error {
			e := trace.Event{}
			after := s.start
			err := d.fields(n, "an event", map[string]func(*yaml.Node) error{
				"name": d.text(&e.Name), "attributes": d.attributes(&e.Attributes), "time": lasts(&after),
			})
			e.Time = testStart + trace.Time(after)
			span.Events = append(span.Events, e)
			return err
		}),
		"links": d.list(func(n *yaml.Node) error {
			l := trace.Link{}
			var traceID, spanID string
			err := d.fields(n, "a link", map[string]func(*yaml.Node) error{
				"traceId": d.text(&traceID), "spanId": d.text(&spanID), "attributes": d.attributes(&l.Attributes),
			})
			if traceID != "" && err == nil {
				if l.TraceID, err = trace.ParseID(traceID); err != nil {
					err = d.errorf(n, "%w", err)
				}
			}
			if spanID != "" && err == nil {
				if l.SpanID, err = trace.ParseSpanID(spanID); err != nil {
					err = d.errorf(n, "%w", err)
				}
			}
			span.Links = append(span.Links, l)
			return err
		}),
	})
	if service != "" {
		span.Resource, _ = trace.NewAttributes(append(slices.Clone(span.Resource), trace.Attribute{Key: trace.ServiceName, Value: trace.StringValue(service)}))
	}
	return err
}

func (d *document) attributes(to *trace.Attributes) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		v, err := d.value(n)
		if err != nil {
			return err
		}
		if v.Type() != trace.TypeMap {
			return d.errorf(n, "want keys and values, have %s", kindName(n))
		}
		*to = v.Map()
		return nil
	}
}

// value reads an attribute's value. null means absent, !!binary means bytes.
func (d *document) value(n *yaml.Node) (trace.Value, error) {
	n = deref(n)
	switch n.Kind {
	case yaml.SequenceNode:
		list := make([]trace.Value, len(n.Content))
		for i, e := range n.Content {
			var err error
			if list[i], err = d.value(e); err != nil {
				return trace.Value{}, err
			}
		}
		return trace.ArrayValue(list...), nil
	case yaml.MappingNode:
		var attrs []trace.Attribute
		for i := 0; i < len(n.Content); i += 2 {
			if slices.ContainsFunc(attrs, func(a trace.Attribute) bool { return a.Key == n.Content[i].Value }) {
				return trace.Value{}, d.errorf(n.Content[i], "the key %q is repeated", n.Content[i].Value)
			}
			v, err := d.value(n.Content[i+1])
			if err != nil {
				return trace.Value{}, err
			}
			attrs = append(attrs, trace.Attribute{Key: n.Content[i].Value, Value: v})
		}
		normal, _ := trace.NewAttributes(attrs)
		return trace.MapValue(normal), nil
	}
	switch n.ShortTag() {
	case "!!null":
		return trace.Value{}, nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return trace.BoolValue(b), err
	case "!!int":
		i, err := strconv.ParseInt(n.Value, 0, 64)
		if err != nil {
			return trace.Value{}, d.errorf(n, "the number %s does not fit into 64 bits", n.Value)
		}
		return trace.IntValue(i), nil
	case "!!float":
		var f float64
		err := n.Decode(&f)
		return trace.DoubleValue(f), err
	case "!!binary":
		b, err := base64.StdEncoding.DecodeString(n.Value)
		if err != nil {
			return trace.Value{}, d.errorf(n, "bad !!binary: %w", err)
		}
		return trace.BytesValue(b), nil
	}
	return trace.StringValue(n.Value), nil
}
