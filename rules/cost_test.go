package rules

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/cel-go/common/types"
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
	require.Equal(t, Sizes{Spans: 7, Descendants: 7, Children: 3, Ancestors: 4, Events: 2, Links: 3, Attributes: 4, Text: 50, List: 3, Depths: 14, AllEvents: 2, AllLinks: 3}, have)
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

func TestTotalsBoundMacrosWithinMacros(t *testing.T) {
	// A trace of 10,000 spans in which one may have 100 children and 100 ancestors.
	env, err := newEnvironment(Options{})
	require.NoError(t, err)
	perSpan := func(when string) float64 {
		t.Helper()
		x, err := env.compile(when, wantBool)
		require.NoError(t, err, when)
		return costOf(DefaultSizes, x) / float64(DefaultSizes.Spans)
	}
	const body = 70 // a comparison of names, at most
	for when, most := range map[string]float64{
		`spans.exists(a, a.children.exists(b, b.name == "x"))`:                                                                2 * body,
		`spans.exists(a, a.children.exists(b, b.children.exists(c, c.children.exists(d, d.name == "x"))))`:                    3 * body,
		`spans.filter(a, a.name == "y").exists(a, a.children.filter(b, b.name == "y").exists(b, b.children.exists(c, true)))`: 5 * body,
		`spans.exists(a, a.children.exists(b, b.name == "x") && a.children.exists(b, b.name == "y"))`:                         3 * body,
		`spans.exists(a, a.descendants().exists(b, b.name == "x"))`:                                                           100 * 2 * body,
		`spans.exists(a, a.ancestors().exists(b, b.name == "x"))`:                                                             100 * 2 * body,
		`spans.exists(a, a.descendants().exists(b, b.children.exists(c, c.name == "x")))`:                                     100 * 2 * body,
		`spans.exists(a, a.descendants().exists(b, b.descendants().exists(c, c.name == "x")))`:                                100 * 100 * 2 * body,
		`spans.exists(a, cel.bind(l, a.children, l.exists(b, cel.bind(m, b.children, m.exists(c, c.name == "x")))))`:          3 * body,
	} {
		require.LessOrEqual(t, perSpan(when), most, when)
	}
	// Lists without a total cost the product.
	for when, least := range map[string]float64{
		`spans.exists(a, a.children.exists(b, a.children.exists(c, c.name == "x")))`:                  100 * body,
		`spans.exists(a, a.parent.children.exists(b, b.name == "x"))`:                                 100 * body,
		`spans.exists(a, a.children.exists(b, b.parent.children.exists(c, c.name == "x")))`:           100 * body,
		`spans.exists(a, [a, a].exists(b, b.children.exists(c, c.name == "x")))`:                      100 * body,
		`spans.exists(a, (a.name == "y" ? a : a).children.exists(c, c.name == "x"))`:                  100 * body,
		`spans.exists(a, spans.map(b, a).exists(b, b.children.exists(c, c.name == "x")))`:             100 * 10_000 * body,
		`spans.exists(a, spans.exists(b, b.children.exists(c, a.children.exists(d, d.name == "x"))))`: 10_000 * body,
		`spans.exists(a, spans.exists(b, a.children.exists(c, c.name == "x")))`:                       10_000 * body,
	} {
		require.GreaterOrEqual(t, perSpan(when), least/2, when)
	}
}

// An evaluation that never ends early takes no more steps than the cost, for any tree. The steps count
// each macro itself as well, which the cost does not: half as many more at most.
func TestNoTraceTakesMoreStepsThanTheCost(t *testing.T) {
	env, err := newEnvironment(Options{})
	require.NoError(t, err)
	var compiled []*Expression
	lists := []string{"spans", "X.children", "X.descendants()", "X.ancestors()", "X.children.filter(f, true)", "X.parent.children", "X.events", "[X, X]", "spans.filter(f, f.kind == 'server')", "spans.map(f, X)"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		// Macros within macros, each over a list that is read from one of the variables outside.
		names := []string{"trace.root"}
		when, ends := "", ""
		for depth := range 2 + random.IntN(3) {
			name := string(rune('a' + depth))
			list := strings.ReplaceAll(lists[random.IntN(len(lists))], "X", names[random.IntN(len(names))])
			when += list + ".exists(" + name + ", "
			ends += ")"
			if strings.HasSuffix(list, ".events") {
				break
			}
			names = append(names, name)
		}
		x, err := env.compile(when+"false || spans.size() < 0 && "+names[random.IntN(len(names))]+".name == 'x'"+ends, wantBool)
		require.NoError(t, err, when)
		compiled = append(compiled, x)
	}
	tight := 0
	for range 60 {
		n := 1 + random.IntN(12)
		spans := make([]trace.Span, n)
		for i := range spans {
			spans[i] = trace.Span{ID: trace.SpanID{7: byte(i + 1)}, Start: trace.Time(random.IntN(5)), Kind: trace.Kind(random.IntN(4)), Events: make([]trace.Event, random.IntN(3))}
			if random.IntN(5) > 0 { // some form cycles
				spans[i].ParentID = trace.SpanID{7: byte(random.IntN(min(n, 1+random.IntN(n))) + 1)}
			}
		}
		tr := trace.New(trace.ID{1}, spans)
		sizes := SizesOf(tr)
		for _, x := range compiled {
			e := &evaluation{ctx: t.Context(), program: x, t: tr}
			require.False(t, types.IsError(e.eval(x.root)), x.source)
			cost := costOf(sizes, x)
			require.LessOrEqual(t, float64(e.steps), 1.5*cost, "%s on %d spans, %s", x.source, n, sizes)
			if float64(e.steps) > cost/4 {
				tight++
			}
		}
	}
	require.Greater(t, tight, 1000)
}
