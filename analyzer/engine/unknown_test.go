package engine_test

import (
	"testing"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/trace"
)

// A condition that is an error on some spans, events, links or resources has the value that the others decide, if they
// do: in quantifiers, in conditions around a span, and in combinations of these.
func TestErrorsAreKeptWhereTheyDecide(t *testing.T) {
	is := func(of string) string { return "int(" + of + `.attributes["a"]) > 0` }
	atoms := []string{
		is("s"), is("s.parent"), is("s.parent.parent"), is("trace.root"), `int(s.resource["a"]) > 0`, `s.name == "b"`, "has(s.parent)",
		"s.children.exists(c, " + is("c") + ")", "s.children.all(c, " + is("c") + ")", "s.ancestors().exists(c, " + is("c") + ")", "s.descendants().exists(c, " + is("c") + ")",
		"s.events.exists(e, " + is("e") + ")", "s.events.all(e, " + is("e") + ")", "s.events.exists_one(e, " + is("e") + ")", "s.links.exists(l, " + is("l") + ")",
		"spans.exists(u, " + is("u") + " && u.before(s))", "count(spans, u, " + is("u") + ") > 1", "spans.exists_one(u, " + is("u") + ")", "spans.exists(u, " + is("u") + " && u.name == s.name)",
		"count(s.children, c, " + is("c") + ") == 1", `s.parent.events.exists(e, ` + is("e") + `)`, `spans.all(u, int(u.resource["a"]) > 0)`,
		`s.events.exists(e, e.time > s.start)`, `s.events.exists(e, e.name == s.name)`, `s.events.exists(e, e.attributes.a == s.parent.attributes.a)`,
	}
	var conditions []string
	for i, a := range atoms {
		conditions = append(conditions, a, "!("+a+")")
		for k, b := range atoms {
			if k != i {
				conditions = append(conditions, []string{a + " && " + b, a + " || " + b, "!(" + a + ") && " + b}[(i+k)%3])
			}
		}
	}
	values := []trace.Value{{}, trace.IntValue(1), trace.IntValue(0), trace.StringValue("x")}
	parents := [][4]int{{-1, 2, 0, 0}, {-1, 0, 1, 0}, {-1, 0, 1, 2}, {-1, 2, 1, 0}, {-1, 0, 3, 0}} // some before their parents, and a cycle
	var traces []*trace.Trace
	for number := range 70 {
		n := (85 + 5*number) % 256 // the first span, event, link and resource have one that decides
		attributes := func(i int) trace.Attributes {
			a, _ := trace.NewAttributes([]trace.Attribute{{Key: "a", Value: values[n>>(2*(i%4))&3]}})
			return a
		}
		spans := make([]trace.Span, 4)
		for i := range spans {
			s := &spans[i]
			s.ID, s.Name = trace.SpanID{byte(i + 1)}, string("abca"[i])
			if p := parents[number%len(parents)][i]; p >= 0 {
				s.ParentID = trace.SpanID{byte(p + 1)}
			}
			s.Start, s.End = trace.Time(i), trace.Time(i+n%3)
			s.Attributes, s.Resource = attributes(i), attributes(i+3)
			if i != n%5 {
				s.Events = []trace.Event{{Time: s.Start, Name: "b", Attributes: attributes(i + 1)}, {Time: s.Start + trace.Time(n%2), Name: "d", Attributes: attributes(i + 2)}}
			}
			if i%2 == n%2 {
				s.Links = []trace.Link{{Attributes: attributes(i)}}
			}
		}
		traces = append(traces, trace.New(trace.ID{14: byte(n >> 7), 15: byte(n + 1)}, spans))
	}
	equalsOracle(t, conditions, traces, func(string, []trace.Span) bool { return false },
		func(j *engine.Judge) { j.SetFew(16) }, func(j *engine.Judge) { j.SetFew(1) }, func(j *engine.Judge) { j.SetFew(1 << 20) })
}
