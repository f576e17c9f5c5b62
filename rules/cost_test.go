package rules

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer/trace"
)

func TestSizesOfATraceAreThoseOfItsLargestSpans(t *testing.T) {
	text := func(n int) trace.Value { return trace.StringValue(strings.Repeat("x", n)) }
	attrs := func(values ...trace.Value) trace.Attributes {
		var as []trace.Attribute
		for i, v := range values {
			as = append(as, trace.Attribute{Key: string(rune('a' + i)), Value: v})
		}
		return as
	}
	// A chain of five, whose second span has two more children; in the order of
	// their starts, parents come before their children and after them.
	id := func(i byte) trace.SpanID { return trace.SpanID{7: i} }
	spans := []trace.Span{
		{ID: id(1), Start: 9},
		{ID: id(2), ParentID: id(1), Start: 1, Events: []trace.Event{{Name: "a"}, {Name: "b"}}},
		{ID: id(3), ParentID: id(2), Start: 3, Links: make([]trace.Link, 3)},
		{ID: id(4), ParentID: id(3), Start: 8},
		{ID: id(5), ParentID: id(4), Start: 5, Attributes: attrs(text(1), text(2), text(3), text(40))},
		{ID: id(6), ParentID: id(2), Start: 2, Resource: attrs(trace.ArrayValue(text(5), text(50), text(5)))},
		{ID: id(7), ParentID: id(2), Start: 4, Name: "short"},
	}
	have := SizesOf(trace.New(trace.ID{1}, spans))
	require.Equal(t, Sizes{Spans: 7, Descendants: 7, Children: 3, Ancestors: 4, Events: 2, Links: 3, Attributes: 4, Text: 50, List: 3}, have)
}

func TestCostGrowsWithWhatARuleRangesOver(t *testing.T) {
	base := Sizes{Spans: 1, Descendants: 1, Children: 1, Ancestors: 1, Events: 1, Links: 1, Attributes: 1, Text: 16, List: 1}
	for _, tt := range []struct {
		when string
		grow func(*Sizes)
	}{
		{`spans.exists(s, s.name == "x")`, func(s *Sizes) { s.Spans = 1000 }},
		{`trace.root.descendants().exists(s, s.name == "x")`, func(s *Sizes) { s.Descendants = 1000 }},
		{`trace.root.descendants() == trace.root.children`, func(s *Sizes) { s.Descendants = 1000 }},
		{`trace.root.children.exists(s, s.name == "x")`, func(s *Sizes) { s.Children = 1000 }},
		{`trace.root.ancestors().exists(s, s.name == "x")`, func(s *Sizes) { s.Ancestors = 1000 }},
		{`trace.root.events.exists(e, e.name == "x")`, func(s *Sizes) { s.Events = 1000 }},
		{`trace.root.links.exists(l, l.spanId == "00000000000000ab")`, func(s *Sizes) { s.Links = 1000 }},
		{`trace.root.attributes.exists(k, k == "x")`, func(s *Sizes) { s.Attributes = 1000 }},
		{`trace.root.name.matches("x+")`, func(s *Sizes) { s.Text = 100_000 }},
		{`trace.root.name.hasCardNumber()`, func(s *Sizes) { s.Text = 100_000 }},
		{`trace.root["a"].exists(e, e == "x")`, func(s *Sizes) { s.List = 1000 }},
	} {
		r, err := parseOne(t, "when: '"+tt.when+"'")
		require.NoError(t, err, tt.when)
		large := base
		tt.grow(&large)
		require.Greater(t, r.Cost(large), r.Cost(base)+900, tt.when)
	}
}
