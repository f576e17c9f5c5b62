package engine_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Conditions that random rules rarely contain, each with the number of traces on which it is true, an error and false
// according to the interpreter.
func TestRareConditions(t *testing.T) {
	var traces []*trace.Trace
	for i, v := range []trace.Value{
		{}, trace.BoolValue(true), trace.BoolValue(false), trace.IntValue(math.MinInt64), trace.IntValue(0), trace.IntValue(-1),
		trace.StringValue("x"), trace.DoubleValue(math.NaN()),
	} {
		start := trace.Time(i) * 1e9
		traces = append(traces, trace.New(trace.ID{15: byte(i + 1)}, []trace.Span{
			{ID: trace.SpanID{7: 1}, Name: "root", Start: start, End: start + 5e9, Attributes: attributesOf(v)},
			{ID: trace.SpanID{7: 2}, ParentID: trace.SpanID{7: 1}, Name: "child", Start: start + 1e9, End: start + 2e9},
		}))
	}
	for _, c := range []struct {
		when                    string
		isTrue, isError, others int
	}{
		{`spans.exists(s, s["a"] == false)`, 1, 0, 7},
		{`spans.exists(s, s["a"] != false)`, 1, 0, 7},
		{`spans.exists(s, s["a"] > false)`, 1, 0, 7},
		{`spans.exists(s, s["a"] <= false)`, 1, 0, 7},
		{`spans.exists(s, s["a"] / -1 >= 0)`, 2, 1, 5},
		{`spans.exists(s, s["a"] % -1 == 0)`, 2, 1, 5},
		{`spans.exists(s, s["a"] - 1 < 0)`, 2, 1, 5},
		{`spans.exists(s, s.name == "child" && s.start + duration("1s") == s.end)`, 8, 0, 0},
		{`spans.exists(s, s.name == "child" && s.start + duration("4s") < s.parent.end)`, 0, 0, 8},
		{`spans.exists(s, s.name == "child" && s.start + duration("4s") <= s.parent.end)`, 8, 0, 0},
		{`spans.exists(s, s.name == "child" && duration("3s") + s.end == s.parent.end)`, 8, 0, 0},
		{`spans.exists(s, s.name == "child" && s.start - duration("1s") == s.parent.start)`, 8, 0, 0},
		{`spans.exists(s, s.name == "child" && spans.exists(u, u.name == "root" && u.start < s.start))`, 8, 0, 0},
		{`spans.exists(s, s.name == "child" && spans.exists(u, u.name == "root" && u.end <= s.start))`, 0, 0, 8},
		{`spans.exists(s, s.name == "child" && spans.exists(u, u.name == "child" && s.end >= u.end))`, 8, 0, 0},
		{`spans.exists(s, s.name == "child" && spans.exists(u, u.name == "child" && s.end > u.end))`, 0, 0, 8},
	} {
		rs, err := packOf(t, c.when)
		require.NoError(t, err, c.when)
		b := columnar.NewBatch(rs[0].Needs(), traces...)
		for _, few := range []int{1, 1 << 20} {
			judge := engine.Compile(rs).NewJudge()
			judge.SetFew(few)
			v, err := judge.Batch(t.Context(), b, nil)
			require.NoError(t, err)
			require.Equal(t, []engine.Counts{{Violation: c.isTrue, Error: c.isError, NotApplicable: c.others}}, v.Counts, c.when)
		}
		var want engine.Counts
		for ti := range b.NumTraces() {
			want.Add(analyzer.Judge(t.Context(), rs, b.Trace(ti))[0].Outcome)
		}
		require.Equal(t, engine.Counts{Violation: c.isTrue, Error: c.isError, NotApplicable: c.others}, want, c.when)
	}
}

// Violations are delivered in order, a few hundred traces at a time, and completely.
func TestWhatIsFoundComesInParts(t *testing.T) {
	rs, err := packOf(t, `spans.exists(s, s.name == "x")`, `spans.size() > 1`)
	require.NoError(t, err)
	var traces []*trace.Trace
	for i := range 700 {
		spans := make([]trace.Span, 1+i%3)
		for k := range spans {
			spans[k] = trace.Span{ID: trace.SpanID{7: byte(k + 1)}, Name: "x", Start: trace.Time(k)}
		}
		traces = append(traces, trace.New(trace.ID{14: byte(i >> 8), 15: byte(i)}, spans))
	}
	b := columnar.NewBatch(rs[0].Needs().Union(rs[1].Needs()), traces...)
	parts, last := 0, -1
	var found [2]int
	_, err = engine.Compile(rs).NewJudge().Each(t.Context(), b, nil, func(some []engine.Found) error {
		parts++
		require.LessOrEqual(t, len(some), 2*256)
		for _, f := range some {
			require.GreaterOrEqual(t, 2*f.Trace+f.Rule, last)
			last = 2*f.Trace + f.Rule
			found[f.Rule]++
			require.Equal(t, b.IDs[f.Trace], f.View.ID)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 3, parts)
	require.Equal(t, [2]int{700, 466}, found)

	// Large ones come fewer at a time.
	traces = traces[:0]
	for i := range 5 {
		spans := make([]trace.Span, 30_000)
		for k := range spans {
			spans[k] = trace.Span{ID: trace.SpanID{6: byte(k >> 8), 7: byte(k)}, Name: "x"}
		}
		traces = append(traces, trace.New(trace.ID{15: byte(i + 1)}, spans))
	}
	var sizes []int
	_, err = engine.Compile(rs[:1]).NewJudge().Each(t.Context(), columnar.NewBatch(rs[0].Needs(), traces...), nil, func(some []engine.Found) error {
		sizes = append(sizes, len(some))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []int{2, 2, 1}, sizes)
}

// Each rule judges the traces that are selected, that its filter matches and that are within its limit. The interpreter
// judges the larger ones.
func TestEachRuleJudgesItsOwnOfManyTraces(t *testing.T) {
	const text = `
apiVersion: betrace.dev/v1
kind: RulePack
metadata: {name: p}
rules:
  - {id: all, title: t, severity: low, when: 'spans.exists(s, s.kind == "server")'}
  - {id: filtered, title: t, severity: low, traceql: '{ name = "x" }', when: 'spans.exists(s, s.kind == "server")'}
  - {id: dear, title: t, severity: low, when: 'spans.exists(s, spans.exists(u, u.name.matches("^(a|b|x)+$") && u.kind != s.kind))'}
  - {id: both, title: t, severity: low, traceql: '{ name = "x" }', when: 'spans.exists(s, spans.exists(u, u.name.matches("^(a|b|y)+$") && u.kind != s.kind))', always: ['spans.exists(s, s.kind == "client")']}
  - {id: none, title: t, severity: low, when: 'count(spans, s, s.name == "x" && s.kind == "server") == 0'}
`
	pack, err := rules.Parse("p.yaml", []byte(text), rules.Options{MaxCost: 3e4, Sizes: lang.Sizes{Spans: 4, Descendants: 3, Children: 2, Ancestors: 2, Events: 1, Links: 1, Attributes: 1, Text: 8, List: 1}})
	require.NoError(t, err)
	rs := pack.Rules
	r := rand.New(rand.NewPCG(3, 3))
	var traces []*trace.Trace
	var needs columnar.Needs
	for _, rule := range rs {
		needs = needs.Union(rule.Needs())
	}
	for i := range 500 {
		spans := make([]trace.Span, 1+r.IntN(3))
		if r.IntN(9) == 0 {
			spans = make([]trace.Span, 20+r.IntN(60))
		}
		for k := range spans {
			spans[k] = trace.Span{ID: trace.SpanID{7: byte(k + 1)}, Name: []string{"x", "y", "z"}[r.IntN(3)], Kind: trace.Kind(2 + r.IntN(2))}
		}
		traces = append(traces, trace.New(trace.ID{14: byte(i >> 8), 15: byte(i)}, spans))
	}
	b := columnar.NewBatch(needs, traces...)
	outcomes := map[rules.Outcome]int{}
	for _, share := range []int{0, 1, 2, 10} {
		var selected columnar.Bits
		if share > 0 {
			selected = make(columnar.Bits, columnar.NumWords(b.NumTraces()))
			for i := range b.NumTraces() {
				if r.IntN(share) == 0 {
					selected.Set(int32(i))
				}
			}
		}
		want := make([]engine.Counts, len(rs))
		for i := range b.NumTraces() {
			if selected != nil && !selected.Has(int32(i)) {
				continue
			}
			for k, v := range analyzer.Judge(t.Context(), rs, b.Trace(i)) {
				outcomes[v.Outcome]++
				want[k].Add(v.Outcome)
			}
		}
		for _, strip := range []int{1, 150, 1 << 20} {
			judge := engine.Compile(rs).NewJudge()
			judge.SetAny(r, strip)
			for range 2 {
				got, err := judge.Batch(t.Context(), b, selected)
				require.NoError(t, err)
				require.Equal(t, want, got.Counts, "one in %d, %d spans at a time", share, strip)
				judge.SetFew(1)
			}
		}
	}
	for _, o := range []rules.Outcome{rules.NotApplicable, rules.Pass, rules.Violation, rules.Error} {
		require.Greater(t, outcomes[o], 20, o)
	}
}

// A quantifier within the body of another has its own candidates, which may be equal to those of the outer one. Neither
// removes those of the other.
func TestQuantifiersWithinOthersKeepTheirCandidates(t *testing.T) {
	var traces []*trace.Trace
	for i := range 3 {
		names := []string{"s", "w", "c", "z"}
		spans := make([]trace.Span, len(names))
		for k, name := range names {
			spans[k] = trace.Span{ID: trace.SpanID{7: byte(k + 1)}, Name: name, Start: 10, End: 15}
			if k > 0 {
				spans[k].ParentID = spans[k-1].ID
			}
		}
		spans[0].End = 11
		traces = append(traces, trace.New(trace.ID{15: byte(i + 1)}, spans))
	}
	for _, of := range []string{`name == "x"`, `kind == "server"`} {
		rs, err := packOf(t, `count(spans, u, u.`+of+` && u.end == trace.end) > count(spans, w, w.name == "w" && w.children.exists(c, c.children.exists(y, y.`+of+` && y.duration > c.duration && trace.duration > duration("0s"))))`)
		require.NoError(t, err)
		b := columnar.NewBatch(rs[0].Needs(), traces...)
		for ti := range b.NumTraces() {
			require.Equal(t, rules.NotApplicable, analyzer.Judge(t.Context(), rs, b.Trace(ti))[0].Outcome, of)
		}
		for _, few := range []int{1, 16, 1 << 20} {
			judge := engine.Compile(rs).NewJudge()
			judge.SetFew(few)
			v, err := judge.Batch(t.Context(), b, nil)
			require.NoError(t, err)
			require.Equal(t, []engine.Counts{{NotApplicable: 3}}, v.Counts, of)
		}
	}
}

// If an ancestor satisfies a condition, an error on another ancestor does not matter, and neither does it for the
// opposite condition.
func TestAnAncestorThatSatisfiesOutweighsOneThatErrs(t *testing.T) {
	spans := []trace.Span{
		{ID: trace.SpanID{7: 1}, Name: "root", Attributes: attributesOf(trace.IntValue(math.MinInt64))},
		{ID: trace.SpanID{7: 2}, ParentID: trace.SpanID{7: 1}, Name: "middle", Attributes: attributesOf(trace.IntValue(4))},
		{ID: trace.SpanID{7: 3}, ParentID: trace.SpanID{7: 2}, Name: "leaf"},
	}
	traces := []*trace.Trace{trace.New(trace.ID{15: 1}, spans), trace.New(trace.ID{15: 2}, spans)}
	for when, want := range map[string]engine.Counts{
		`spans.exists(s, s.name == "leaf" && s.ancestors().exists(a, a["a"] / -1 == -4))`:    {Violation: 2},
		`spans.exists(s, s.name == "leaf" && !s.ancestors().exists(a, a["a"] / -1 == -4))`:   {NotApplicable: 2},
		`spans.exists(s, s.name == "leaf" && !s.ancestors().exists(a, a["a"] / -1 == 9))`:    {Error: 2},
		`spans.exists(s, s.name == "middle" && !s.ancestors().exists(a, a["a"] / -1 == -4))`: {Error: 2},
	} {
		rs, err := packOf(t, when)
		require.NoError(t, err)
		b := columnar.NewBatch(rs[0].Needs(), traces...)
		for _, few := range []int{1, 16, 1 << 20} {
			judge := engine.Compile(rs).NewJudge()
			judge.SetFew(few)
			v, err := judge.Batch(t.Context(), b, nil)
			require.NoError(t, err)
			require.Equal(t, []engine.Counts{want}, v.Counts, "%s, %d", when, few)
			require.Len(t, judge.Asked(), want.Error, "%s, %d", when, few) // nothing else is not known
		}
	}
}

// The first span of a batch may be a child, too: parents need not come first.
func TestTheFirstOfABatchMayHaveAParent(t *testing.T) {
	rs, err := packOf(t, `spans.exists(s, s.children.exists(c, c.name == "x"))`, `spans.exists(s, s.descendants().exists(d, d.name == "x"))`,
		`spans.exists(s, s.parent.name == "y")`, `spans.exists(s, s.ancestors().exists(a, a.name == "y"))`)
	require.NoError(t, err)
	family := func(id byte, name string) *trace.Trace {
		return trace.New(trace.ID{id}, []trace.Span{{ID: trace.SpanID{2}, ParentID: trace.SpanID{1}, Name: name}, {ID: trace.SpanID{1}, Name: name + "y", Start: 1}})
	}
	b := columnar.NewBatch(rs[0].Needs().Union(rs[1].Needs()).Union(rs[2].Needs()), family(1, "x"), family(2, ""))
	one := engine.Counts{Violation: 1, NotApplicable: 1}
	for i := range 20 {
		judge := engine.Compile(rs).NewJudge()
		judge.SetAny(rand.New(rand.NewPCG(1, uint64(i))), 64)
		v, err := judge.Batch(t.Context(), b, nil)
		require.NoError(t, err)
		require.Equal(t, []engine.Counts{one, one, one, one}, v.Counts)
		require.Equal(t, []int{0, 0, 1, 1}, []int{v.Found[0].Trace, v.Found[1].Trace, v.Found[2].Trace, v.Found[3].Trace})
	}
}

// A string may match more patterns than a word has bits.
func TestManyTestsOfATextAreKeptApart(t *testing.T) {
	var when []string
	for i := range 150 {
		when = append(when, fmt.Sprintf(`spans.exists(s, s.name.contains("<%d>"))`, i))
	}
	rs, err := packOf(t, when...)
	require.NoError(t, err)
	batch := func(passed [][]int) (*columnar.Batch, []engine.Counts) {
		want := make([]engine.Counts, len(rs))
		for i := range want {
			want[i].NotApplicable = len(passed)
		}
		var traces []*trace.Trace
		for i, of := range passed {
			name := ""
			for _, rule := range of {
				name += fmt.Sprintf("<%d>", rule)
				want[rule].Violation++
				want[rule].NotApplicable--
			}
			traces = append(traces, trace.New(trace.ID{14: byte(i >> 8), 15: byte(i)}, []trace.Span{{ID: trace.SpanID{7: 1}, Name: name}}))
		}
		return columnar.NewBatch(rs[0].Needs(), traces...), want
	}
	var alone, pairs [][]int
	for i := range rs {
		alone = append(alone, []int{i})
		if k := (i + 75) % 150; i%3 == 0 {
			pairs = append(pairs, []int{i, k}, []int{i, (i + 64) % 150})
		}
	}
	judge := engine.Compile(rs).NewJudge()
	judge.SetFew(1 << 20)
	for range 3 { // which tests are broad is learnt
		for _, passed := range [][][]int{{{3, 70, 140}, {5, 70, 140}, {70, 140}, {3, 71, 140}, {140}}, alone, pairs} {
			b, want := batch(passed)
			v, err := judge.Batch(t.Context(), b, nil)
			require.NoError(t, err)
			require.Equal(t, want, v.Counts)
		}
	}
}

func attributesOf(v trace.Value) trace.Attributes {
	a, _ := trace.NewAttributes([]trace.Attribute{{Key: "a", Value: v}})
	return a
}

// Numbers of one type that only some spans have, of which the extremes are found.
func TestExtremesOfWhatSomeSpansHave(t *testing.T) {
	for _, value := range []func(i int) trace.Value{
		func(i int) trace.Value { return trace.IntValue(int64(i)) },
		func(i int) trace.Value { return trace.DoubleValue(float64(i)) },
	} {
		var traces []*trace.Trace
		for i := range 10 {
			traces = append(traces, trace.New(trace.ID{15: byte(i + 1)}, []trace.Span{
				{ID: trace.SpanID{7: 1}, Name: "with", Attributes: attributesOf(value(i))}, {ID: trace.SpanID{7: 2}, Name: "without"},
			}))
		}
		rs, err := packOf(t, `spans.exists(s, s["a"] > 6)`, `spans.exists(s, s["a"] < 2)`, `spans.exists(s, s.name == "with" && s["a"] >= 9)`)
		require.NoError(t, err)
		b := columnar.NewBatch(columnar.Needs{Attributes: []columnar.AttributeKey{{Scope: columnar.ScopeAny, Key: "a"}}}, traces...)
		r := rand.New(rand.NewPCG(1, 1))
		for range 50 {
			judge := engine.Compile(rs).NewJudge()
			judge.SetAny(r, 1+r.IntN(30))
			v, err := judge.Batch(t.Context(), b, nil)
			require.NoError(t, err)
			require.Equal(t, []engine.Counts{{Violation: 3, NotApplicable: 7}, {Violation: 2, NotApplicable: 8}, {Violation: 1, NotApplicable: 9}}, v.Counts)
		}
	}
}

// The greatest or least number of a trace passes a limit exactly if the number of a span does, for all types and any
// number of spans.
func TestExtremesSayWhatSomeSpanSays(t *testing.T) {
	conditions := []string{`int(s.name) > 0`} // an error
	for _, op := range []string{"<", "<=", ">", ">="} {
		for limit := -1; limit <= 3; limit++ {
			conditions = append(conditions, fmt.Sprintf(`s["a"] %s %d`, op, limit), fmt.Sprintf(`s["a"] %s %d.5`, op, limit), fmt.Sprintf(`s.name == "x" && s["a"] %s %d`, op, limit),
				fmt.Sprintf(`s.duration %s duration("%dns")`, op, limit), fmt.Sprintf(`s.name == "x" && s.duration %s duration("%dns")`, op, limit))
		}
	}
	r := rand.New(rand.NewPCG(2, 2))
	given := 0
	ints := func() trace.Value { return trace.IntValue(int64(r.IntN(5)) - 2) }
	doubles := func() trace.Value { return trace.DoubleValue(float64(r.IntN(9))/2 - 2) }
	for _, test := range []struct {
		name  string
		value func() trace.Value
	}{
		{"ints", ints},
		{"doubles", doubles},
		{"NaN", func() trace.Value {
			return []trace.Value{doubles(), doubles(), trace.DoubleValue(math.NaN())}[r.IntN(3)]
		}},
		{"both", func() trace.Value { return []trace.Value{ints(), doubles()}[r.IntN(2)] }},
		{"some", func() trace.Value { return []trace.Value{ints(), doubles(), {}, trace.StringValue("1")}[r.IntN(4)] }},
		{"all but the first", func() trace.Value { given++; return []trace.Value{{}, ints()}[min(given-1, 1)] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			var traces []*trace.Trace
			for i := range 150 {
				var spans []trace.Span
				for k := range 1 + i%4 {
					start := trace.Time(r.IntN(3))
					spans = append(spans, trace.Span{
						ID: trace.SpanID{7: byte(k + 1)}, Name: []string{"x", "1"}[r.IntN(2)], Start: start, End: trace.Time(r.IntN(5)), Attributes: attributesOf(test.value()),
					})
				}
				traces = append(traces, trace.New(trace.ID{15: byte(i + 1)}, spans))
			}
			var ways []func(*engine.Judge)
			ways = append(ways, func(j *engine.Judge) { j.SetAny(r, 20) })
			for range 4 {
				ways = append(ways, func(j *engine.Judge) { j.SetAny(r, 1+r.IntN(600)) })
			}
			equalsOracle(t, conditions, traces, func(string, []trace.Span) bool { return false }, ways...)
		})
	}
}

// A condition on the spans before another span may be an error, too.
func TestAnErrorOfASpanBeforeIsNotLost(t *testing.T) {
	spans := func(v int64) []trace.Span {
		return []trace.Span{
			{ID: trace.SpanID{7: 1}, Name: "first", End: 1, Attributes: attributesOf(trace.IntValue(v))},
			{ID: trace.SpanID{7: 2}, Name: "second", Start: 5, End: 9},
		}
	}
	rs, err := packWith(t, rules.Options{MaxCost: 1e12}, `spans.exists(s, s.name == "second" && spans.exists(u, u["a"] / -1 == 9 && u.before(s)))`)
	require.NoError(t, err)
	b := columnar.NewBatch(rs[0].Needs(), trace.New(trace.ID{1}, spans(-9)), trace.New(trace.ID{2}, spans(math.MinInt64)), trace.New(trace.ID{3}, spans(7)))
	v, err := engine.Compile(rs).NewJudge().Batch(t.Context(), b, nil)
	require.NoError(t, err)
	require.Equal(t, []engine.Counts{{Violation: 1, Error: 1, NotApplicable: 1}}, v.Counts)
}

// An expression may have more quantifiers than the plan has variables for: the interpreter has them.
func TestMoreQuantifiersThanVariables(t *testing.T) {
	some := func(n int) string {
		var of []string
		for i := range n {
			of = append(of, fmt.Sprintf(`spans.exists(s, s.name == "%d" && s.duration - s.parent.duration > duration("0s"))`, i))
		}
		return strings.Join(of, " || ")
	}
	rs, err := packWith(t, rules.Options{MaxCost: 1e15}, some(64), some(65), some(70))
	require.NoError(t, err)
	p := engine.Compile(rs)
	require.Empty(t, p.Explain(0)[0].Reasons)
	for i := 1; i < 3; i++ {
		require.Equal(t, []string{"more than 64 quantifiers"}, p.Explain(i)[0].Reasons)
	}
	var traces []*trace.Trace
	for i := range 72 {
		traces = append(traces, trace.New(trace.ID{15: byte(i + 1)}, []trace.Span{
			{ID: trace.SpanID{7: 1}, Name: "up", End: 1}, {ID: trace.SpanID{7: 2}, ParentID: trace.SpanID{7: 1}, Name: fmt.Sprint(i), End: 2},
		}))
	}
	v, err := p.NewJudge().Batch(t.Context(), columnar.NewBatch(rs[0].Needs(), traces...), nil)
	require.NoError(t, err)
	require.Equal(t, []engine.Counts{{Violation: 64, NotApplicable: 8}, {Violation: 65, NotApplicable: 7}, {Violation: 70, NotApplicable: 2}}, v.Counts)
}

// However many rules ask for two things each, those that ask for the same share it and no others do.
func TestRulesOfManyPairsAreKeptApart(t *testing.T) {
	const keys = 26
	var when []string
	var traces []*trace.Trace
	var want []engine.Counts
	for i := range keys {
		for k := range i {
			of := func(key int) string { return fmt.Sprintf(`s.attributes["%c"] == %d`, 'a'+key, key) }
			when = append(when, "spans.exists(s, "+of(i)+" && "+of(k)+")")
			attributes, _ := trace.NewAttributes([]trace.Attribute{{Key: string(rune('a' + i)), Value: trace.IntValue(int64(i))}, {Key: string(rune('a' + k)), Value: trace.IntValue(int64(k))}})
			traces = append(traces, trace.New(trace.ID{14: byte(i), 15: byte(k + 1)}, []trace.Span{{ID: trace.SpanID{1}, Attributes: attributes}}))
			want = append(want, engine.Counts{Violation: 1, NotApplicable: keys*(keys-1)/2 - 1})
		}
	}
	rs, err := packOf(t, when...)
	require.NoError(t, err)
	var needs columnar.Needs
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	v, err := engine.Compile(rs).NewJudge().Batch(t.Context(), columnar.NewBatch(needs, traces...), nil)
	require.NoError(t, err)
	require.Equal(t, want, v.Counts)
	for i, f := range v.Found {
		require.Equal(t, [2]int{i, i}, [2]int{f.Trace, f.Rule})
	}
}

// Strings of any length are distinguished by all of their bytes.
func TestTextsOfAnyLength(t *testing.T) {
	lengths := []int{0, 1, 2, 7, 8, 9, 31, 32, 33, 61, 62, 63, 64, 65, 66, 127, 128, 129, 300, 5000}
	var when []string
	var traces []*trace.Trace
	var want []engine.Counts
	for i, n := range lengths {
		text := strings.Repeat("x", n)
		when = append(when, `spans.exists(s, s.name == "`+text+`")`, `spans.exists(s, s.attributes["a"] == "`+text+`")`)
		spans := []trace.Span{{ID: trace.SpanID{1}, Name: text, Attributes: attributesOf(trace.StringValue(text))}}
		if n > 0 { // as long, and others
			for _, other := range []string{text[1:] + "y", "y" + text[1:]} {
				spans = append(spans, trace.Span{ID: trace.SpanID{7: byte(len(spans))}, Name: other, Attributes: attributesOf(trace.StringValue(other))})
			}
		}
		traces = append(traces, trace.New(trace.ID{15: byte(i + 1)}, spans))
		want = append(want, engine.Counts{Violation: 1, NotApplicable: len(lengths) - 1}, engine.Counts{Violation: 1, NotApplicable: len(lengths) - 1})
	}
	rs, err := packOf(t, when...)
	require.NoError(t, err)
	needs := rs[0].Needs().Union(rs[1].Needs())
	for _, n := range []int{2, len(rs)} { // few are looked for one after another
		v, err := engine.Compile(rs[len(rs)-n:]).NewJudge().Batch(t.Context(), columnar.NewBatch(needs, traces...), nil)
		require.NoError(t, err)
		require.Equal(t, want[len(rs)-n:], v.Counts)
	}
}

// An attribute of which the only value is a list is there.
func TestOneListIsAValue(t *testing.T) {
	rs, err := packOf(t, `spans.exists(s, "a" in s.attributes)`, `spans.exists(s, s.attributes["a"] == [1])`, `spans.exists(s, s.attributes["a"] > 0)`,
		`spans.exists(s, ("a" in s.attributes) != (s.name == s.statusMessage))`)
	require.NoError(t, err)
	b := columnar.NewBatch(rs[0].Needs(), trace.New(trace.ID{1}, []trace.Span{{ID: trace.SpanID{1}, Attributes: attributesOf(trace.ArrayValue(trace.IntValue(1)))}}))
	v, err := engine.Compile(rs).NewJudge().Batch(t.Context(), b, nil)
	require.NoError(t, err)
	require.Equal(t, []engine.Counts{{Violation: 1}, {Violation: 1}, {NotApplicable: 1}, {NotApplicable: 1}}, v.Counts)
}

// The first span, event, link and resource of a batch decide, too, and nothing is true because they are not looked at.
func TestTheFirstOfABatchDecides(t *testing.T) {
	var when []string
	for _, is := range []string{`%s.attributes["a"] == 1`, `int(%s.attributes["a"]) > 0`, `%s.attributes["b"] == "x"`, `%s.attributes["b"].startsWith("x")`} {
		of := func(v string) string { return fmt.Sprintf(is, v) }
		when = append(when, of("s"), strings.ReplaceAll(of("s"), ".attributes", ".resource"), "s.events.exists(e, "+of("e")+")", "s.links.exists(l, "+of("l")+")",
			"!s.events.all(e, !("+of("e")+"))", "!s.links.all(l, !("+of("l")+"))", "s.events.exists(e, "+of("e")+" && e.time == s.start)")
	}
	when = append(when, `s.events.exists(e, e.name == "e")`, `s.events.exists(e, e.name.startsWith("e"))`)
	for i := range when {
		when[i] = "spans.exists(s, " + when[i] + ")"
	}
	rs, err := packOf(t, when...)
	require.NoError(t, err)
	var needs columnar.Needs
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	attributes, _ := trace.NewAttributes([]trace.Attribute{{Key: "a", Value: trace.IntValue(1)}, {Key: "b", Value: trace.StringValue("x")}})
	others, _ := trace.NewAttributes([]trace.Attribute{{Key: "a", Value: trace.IntValue(0)}, {Key: "b", Value: trace.StringValue("y")}})
	of := func(id byte, name string, a trace.Attributes) *trace.Trace {
		return trace.New(trace.ID{id}, []trace.Span{{ID: trace.SpanID{1}, Attributes: a, Resource: a, Events: []trace.Event{{Name: name, Attributes: a}}, Links: []trace.Link{{Attributes: a}}}})
	}
	b := columnar.NewBatch(needs, of(1, "e", attributes), of(2, "f", others))
	for _, few := range []int{1, 1 << 20} {
		judge := engine.Compile(rs).NewJudge()
		judge.SetFew(few)
		v, err := judge.Batch(t.Context(), b, nil)
		require.NoError(t, err)
		for i := range rs {
			require.Equal(t, engine.Counts{Violation: 1, NotApplicable: 1}, v.Counts[i], when[i])
			require.Zero(t, v.Found[i].Trace)
		}
	}
}

// Nothing is true, or not known, because memory that is used again held it.
func TestWhatIsNotKnownOfAnyResource(t *testing.T) {
	when := []string{
		`spans.exists(s, int(s.resource["a"]) > 0)`, `spans.exists(s, s.name == "x" && int(s.resource["a"]) > 0)`, `spans.exists(s, s.name == "x" || int(s.resource["a"]) > 0)`,
		`spans.exists(s, !(int(s.resource["a"]) > 0) && s.name == "x")`, `spans.all(s, int(s.resource["a"]) > 0)`,
	}
	rs, err := packOf(t, when...)
	require.NoError(t, err)
	of := func(resource string) *columnar.Batch {
		span := func(name string) []trace.Span {
			return []trace.Span{{ID: trace.SpanID{1}, Name: name, Resource: attributesOf(trace.StringValue(resource))}}
		}
		return columnar.NewBatch(rs[0].Needs().Union(rs[1].Needs()), trace.New(trace.ID{1}, span("x")), trace.New(trace.ID{2}, span("y")))
	}
	for _, few := range []int{1, 1 << 20} {
		judge := engine.Compile(rs).NewJudge()
		judge.SetFew(few)
		v, err := judge.Batch(t.Context(), of("1"), nil)
		require.NoError(t, err)
		require.Equal(t, []engine.Counts{{Violation: 2}, {Violation: 1, NotApplicable: 1}, {Violation: 2}, {NotApplicable: 2}, {Violation: 2}}, v.Counts)
		v, err = judge.Batch(t.Context(), of("x"), nil)
		require.NoError(t, err)
		require.Equal(t, []engine.Counts{{Error: 2}, {Error: 1, NotApplicable: 1}, {Violation: 1, Error: 1}, {Error: 1, NotApplicable: 1}, {Error: 2}}, v.Counts)
	}
}

// A list that the first span after a strip has is not the strip's.
func TestAListInTheNextStrip(t *testing.T) {
	rs, err := packOf(t, `spans.exists(s, "a" in s.attributes)`)
	require.NoError(t, err)
	spans := make([]trace.Span, 64)
	for i := range spans {
		spans[i].ID = trace.SpanID{7: byte(i + 1)}
	}
	b := columnar.NewBatch(rs[0].Needs(), trace.New(trace.ID{1}, spans), trace.New(trace.ID{2}, []trace.Span{{ID: trace.SpanID{1}, Attributes: attributesOf(trace.ArrayValue())}}))
	judge := engine.Compile(rs).NewJudge()
	judge.SetAny(rand.New(rand.NewPCG(1, 1)), 64)
	v, err := judge.Batch(t.Context(), b, nil)
	require.NoError(t, err)
	require.Equal(t, []engine.Counts{{Violation: 1, NotApplicable: 1}}, v.Counts)
	require.Equal(t, 1, v.Found[0].Trace)
}

// A field that is empty everywhere has the text "", also where only spans with another text are looked at.
func TestAFieldThatIsEmptyEverywhere(t *testing.T) {
	rs, err := packOf(t, `spans.exists(s, s.name == "x" && s.statusMessage == "")`, `spans.exists(s, s.name == "x" && s.statusMessage in ["", "y"])`,
		`spans.exists(s, s.name == "x" && s.statusMessage != "")`, `spans.exists(s, s.name == "x" && !(s.statusMessage in ["", "y"]))`,
		`spans.exists(s, s.name == "x" && s.statusMessage != "y")`, `spans.exists(s, s.name == "x" && s.statusMessage == "y")`)
	require.NoError(t, err)
	var needs columnar.Needs
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	b := columnar.NewBatch(needs, trace.New(trace.ID{1}, []trace.Span{{ID: trace.SpanID{1}, Name: "x"}}), trace.New(trace.ID{2}, []trace.Span{{ID: trace.SpanID{1}, Name: "y"}}))
	is, not := engine.Counts{Violation: 1, NotApplicable: 1}, engine.Counts{NotApplicable: 2}
	for i, few := range []int{1, 1 << 20, 1, 1 << 20} {
		judge := engine.Compile(rs).NewJudge()
		judge.SetFew(few)
		if i > 1 { // it need not have codes then
			b.StatusMessages = columnar.TextColumn{}
		}
		v, err := judge.Batch(t.Context(), b, nil)
		require.NoError(t, err)
		require.Equal(t, []engine.Counts{is, is, not, not, is, not}, v.Counts)
	}
}

// A text that passes a test in the strip before says nothing of the traces of this one, and hides none.
func TestATextOfTheStripBefore(t *testing.T) {
	rs, err := packOf(t, `spans.exists(s, s.parent.name.startsWith("x"))`, `spans.exists(s, s.parent.name.endsWith("a"))`, `spans.exists(s, s.ancestors().exists(a, a.name.contains("xa")))`)
	require.NoError(t, err)
	var traces []*trace.Trace
	names := []string{"b", "b", "xa", "xa", "b", "b", "b", "xa", "b"}
	for i, name := range names {
		traces = append(traces, trace.New(trace.ID{byte(i + 1)}, []trace.Span{{ID: trace.SpanID{1}, Name: name}, {ID: trace.SpanID{2}, ParentID: trace.SpanID{1}, Name: "c"}}))
	}
	b := columnar.NewBatch(rs[0].Needs().Union(rs[2].Needs()), traces...)
	for i := range 40 {
		judge := engine.Compile(rs).NewJudge()
		for range 3 { // a broad match is evaluated for all strings of the next batch
			judge.SetAny(rand.New(rand.NewPCG(2, uint64(i))), 6)
			v, err := judge.Batch(t.Context(), b, nil)
			require.NoError(t, err)
			require.Len(t, v.Found, 3*len(rs))
			for _, f := range v.Found {
				require.Equal(t, "xa", names[f.Trace])
			}
		}
	}
}
