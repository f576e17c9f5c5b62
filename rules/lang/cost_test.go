package lang

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/cel-go/common/types"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
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
	// A chain of five spans, whose second has two more children. By their starts, parents are before and after
	// their children.
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
	env, err := NewEnvironment(1<<14, nil)
	require.NoError(t, err)
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
		x, err := env.Compile(tt.when, WantBool)
		require.NoError(t, err, tt.when)
		large := base
		tt.grow(&large)
		require.Greater(t, Cost(large, x), Cost(base, x)+900, tt.when)
	}
}

func TestTotalsBoundMacrosWithinMacros(t *testing.T) {
	// A trace of 10,000 spans in which a span may have 100 children and 100 ancestors.
	env, err := NewEnvironment(1<<14, nil)
	require.NoError(t, err)
	perSpan := func(when string) float64 {
		t.Helper()
		x, err := env.Compile(when, WantBool)
		require.NoError(t, err, when)
		return Cost(DefaultSizes, x) / float64(DefaultSizes.Spans)
	}
	const body = 70 // maximum cost of a comparison of names
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
	// A span is the parent of at most four spans, and has eight ancestors on average.
	x, err := env.Compile(`spans.exists(a, a.parent.descendants().exists(b, b.name == "x"))`, WantBool)
	require.NoError(t, err)
	sizes := DefaultSizes
	sizes.Children, sizes.Depths = 4, 8*sizes.Spans
	require.LessOrEqual(t, Cost(sizes, x)/float64(sizes.Spans), 4.0*8*1.2*body)
	// Without a total, lists cost the product.
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

// randomMacros compiles n random expressions with nested macros.
func randomMacros(t *testing.T, n int) []*Expression {
	t.Helper()
	env, err := NewEnvironment(1<<14, nil)
	require.NoError(t, err)
	var compiled []*Expression
	lists := []string{"spans", "X.children", "X.descendants()", "X.ancestors()", "X.children.filter(f, true)", "X.parent.children", "X.parent.descendants()", "X.parent.parent.ancestors()", "X.parent.events", "X.events", "[X, X]", "spans.filter(f, f.kind == 'server')", "spans.map(f, X)"}
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		// Nested macros, each over a list that is read from a variable of an outer one.
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
		x, err := env.Compile(when+"false || spans.size() < 0 && "+names[random.IntN(len(names))]+".name == 'x'"+ends, WantBool)
		require.NoError(t, err, when)
		compiled = append(compiled, x)
	}
	return compiled
}

// For any tree, an evaluation that never stops early takes no more steps than the cost. The steps also count
// each macro itself, unlike the cost: these are at most half as many more.
func TestNoTraceTakesMoreStepsThanTheCost(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	compiled := randomMacros(t, 400)
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
			e := &evaluation{program: x, t: tr}
			require.False(t, types.IsError(e.eval(t.Context(), x.root)), x.source)
			cost := Cost(sizes, x)
			require.LessOrEqual(t, float64(e.steps), 1.5*cost, "%s on %d spans, %s", x.source, n, sizes)
			if float64(e.steps) > cost/4 {
				tight++
			}
		}
	}
	require.Greater(t, tight, 1000)
}

// The body is so expensive that its evaluations determine the cost. On these trees the
// bounds are tight: if any total is halved or doubled, this test fails.
func TestACostIsTheNumberOfEvaluationsWhereTheBoundsAreMet(t *testing.T) {
	// A chain of ten spans, with 90 spans below the last one. Either each leaf has an event and a link, or the
	// root has all of them.
	broom := func(leaves, root int) *trace.Trace {
		spans := make([]trace.Span, 100)
		for i := range spans {
			spans[i] = trace.Span{ID: trace.SpanID{7: byte(i + 1)}, Start: trace.Time(i)}
			if i > 0 {
				spans[i].ParentID = trace.SpanID{7: byte(min(i, 10))}
			}
			if i >= 10 {
				spans[i].Events, spans[i].Links = make([]trace.Event, leaves), make([]trace.Link, leaves)
			}
		}
		spans[0].Events, spans[0].Links = make([]trace.Event, root), make([]trace.Link, root)
		return trace.New(trace.ID{1}, spans)
	}
	atLeaves, atRoot := broom(1, 0), broom(0, 90)
	env, err := NewEnvironment(1<<14, nil)
	require.NoError(t, err)
	for _, tt := range []struct {
		t    *trace.Trace
		when string
	}{
		{atLeaves, `spans.exists(a, BODY)`},
		{atLeaves, `spans.exists(a, a.children.exists(b, BODY))`},
		{atLeaves, `spans.exists(a, a.descendants().exists(b, BODY))`},
		{atLeaves, `spans.exists(a, a.ancestors().exists(b, BODY))`},
		{atLeaves, `spans.exists(a, a.events.exists(b, BODY))`},
		{atLeaves, `spans.exists(a, a.links.exists(b, BODY))`},
		{atLeaves, `spans.exists(a, a.children.exists(b, b.events.exists(c, BODY)))`},
		{atLeaves, `spans.exists(a, a.descendants().exists(b, b.events.exists(c, BODY)))`},
		{atLeaves, `spans.exists(a, a.descendants().filter(b, true).exists(b, b.links.exists(c, BODY)))`},
		{atLeaves, `spans.exists(a, a.children.exists(b, b.children.exists(c, c.events.exists(d, BODY))))`},
		{atLeaves, `spans.exists(a, a.parent.children.exists(b, BODY))`},
		{atLeaves, `spans.exists(a, spans.exists(b, b.descendants().exists(c, BODY)))`},
		{atRoot, `spans.exists(a, a.ancestors().exists(b, b.events.exists(c, BODY)))`},
	} {
		x, err := env.Compile(strings.Replace(tt.when, "BODY", strings.Repeat("1 > 2 || ", 60)+"false", 1), WantBool)
		require.NoError(t, err, tt.when)
		e := &evaluation{program: x, t: tt.t}
		require.Equal(t, types.False, e.eval(t.Context(), x.root), tt.when)
		cost := Cost(SizesOf(tt.t), x)
		require.LessOrEqual(t, float64(e.steps), 1.1*cost, tt.when)
		require.LessOrEqual(t, cost, 1.3*float64(e.steps), tt.when)
	}
}

// The engine searches for the largest trace on which a rule may be judged, so cost must grow with the sizes.
func TestALargerTraceCostsNoLess(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	sizes := func(spans, most int) Sizes {
		upTo := func(n int) int { return random.IntN(n + 1) }
		s := Sizes{Spans: spans, Descendants: spans, Children: upTo(most), Ancestors: upTo(most), Events: upTo(9), Links: upTo(9), Attributes: upTo(9), Text: upTo(99), List: upTo(9)}
		if random.IntN(2) == 0 {
			s.Depths, s.AllEvents, s.AllLinks = upTo(spans*s.Ancestors), upTo(spans*s.Events), upTo(spans*s.Links)
		}
		return s
	}
	compiled := randomMacros(t, 300)
	for range 300 {
		small := sizes(1+random.IntN(100), 30)
		large := small
		more := sizes(random.IntN(100), 30)
		large.Spans, large.Descendants = small.Spans+more.Spans, small.Spans+more.Spans
		large.Children, large.Ancestors, large.Events, large.Links = small.Children+more.Children, small.Ancestors+more.Ancestors, small.Events+more.Events, small.Links+more.Links
		if small.Depths > 0 {
			large.Depths, large.AllEvents, large.AllLinks = small.Depths+more.Depths, small.AllEvents+more.AllEvents, small.AllLinks+more.AllLinks
		}
		for _, x := range compiled {
			require.LessOrEqual(t, Cost(small, x), Cost(large, x)*(1+1e-9), "%s\n%+v\n%+v", x.source, small, large)
			require.LessOrEqual(t, newEstimator(small).built(x.root), newEstimator(large).built(x.root)*(1+1e-9), "%s\n%+v\n%+v", x.source, small, large)
		}
	}
}

func TestANumberTakesNoMemory(t *testing.T) {
	large := DefaultSizes
	large.Spans, large.Descendants = 100_000, 100_000
	for when, want := range map[string]bool{
		`spans.exists(s, count(spans, t, t.name == s.name) > 1)`:                               true,
		`spans.exists(s, s.duration > duration("1s") && s.start + s.duration > s.end)`:         true,
		`spans.exists(a, spans.exists(b, a.name + b.name == "xy"))`:                            false,
		`spans.exists(a, spans.exists(b, a.attributes["x"] + b.attributes["x"] == "xy"))`:      false,
		`spans.exists(a, spans.exists(b, spans.exists(c, count([1], d, d > 0) == 1 && true)))`: true,
	} {
		env, err := NewEnvironment(1<<14, nil)
		require.NoError(t, err)
		x, err := env.Compile(when, WantBool)
		require.NoError(t, err, when)
		require.Equal(t, want, x.IsBounded(large), when)
	}
}

func TestTheLargerExtentIsAsLargeAsBothAtEachDepth(t *testing.T) {
	long := extent{n: 4, element: &extent{n: 2, element: &extent{n: 1000}}}
	more := extent{n: 9, element: &extent{n: 5, element: &extent{n: 3}}}
	for _, x := range []extent{larger(long, more), larger(more, long)} {
		require.Equal(t, []float64{9, 5, 1000}, []float64{x.n, x.of().n, x.of().of().n})
	}
	require.Equal(t, 1000.0, larger(extent{n: 1}, long).of().of().n)
}
