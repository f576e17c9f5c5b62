package dsl

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// TestTranslationsJudgeAsTheTree compares the verdicts of random translated rules with those of an
// interpreter that uses the syntax tree and the trace, but no CEL.
func TestTranslationsJudgeAsTheTree(t *testing.T) {
	count := 6000
	if testing.Short() {
		count = 1500
	}
	const perPack = 250
	for seed := range count / perPack {
		g := generator{rand.New(rand.NewPCG(uint64(seed), 1))}
		var sources []string
		var trees []*ruleTree
		var out []translation
		for len(out) < perPack {
			source := g.rule()
			tr, err := translate(source)
			require.NoError(t, err, source)
			tree, err := parse(source)
			require.NoError(t, err)
			sources, trees, out = append(sources, source), append(trees, tree), append(out, tr)
		}
		outcomes := map[rules.Outcome]int{}
		for i, rule := range load(t, out...) {
			for range 6 {
				tr := g.trace()
				v := rule.Judge(t.Context(), tr)
				require.NoError(t, v.Err)
				if want := trees[i].judge(tr); v.Outcome != want {
					t.Fatalf("seed %d: %s\nwhen %s\nalways %s\nnever %s\ntraceql %s\n%v\nhave %s, want %s", seed, sources[i], out[i].when, out[i].always, out[i].never, out[i].traceql, spansOf(tr), v.Outcome, want)
				}
				// A scan reads only the columns that the rule needs, and only the traces of its
				// prefilter.
				require.Equal(t, v.Outcome, rule.Judge(t.Context(), columnar.NewBatch(rule.Needs(), tr).Trace(0)).Outcome, sources[i])
				require.True(t, v.Outcome == rules.NotApplicable || rule.Prefilter().Matches(tr), sources[i])
				outcomes[v.Outcome]++
			}
		}
		for _, o := range []rules.Outcome{rules.NotApplicable, rules.Pass, rules.Violation} {
			require.Greater(t, outcomes[o], perPack/4, "%s occurs too rarely for a test", o)
		}
	}
}

func spansOf(tr *trace.Trace) (list []string) {
	for _, s := range tr.Spans {
		list = append(list, fmt.Sprintf("%s %v", s.Name, s.Attributes))
	}
	return list
}

// judge returns the outcome of a rule by the meaning of the DSL.
func (r *ruleTree) judge(tr *trace.Trace) rules.Outcome {
	switch {
	case !holds(r.when, tr, nil):
		return rules.NotApplicable
	case r.always == nil && r.never == nil:
		return rules.Violation
	case r.always != nil && !holds(r.always, tr, nil), r.never != nil && holds(r.never, tr, nil):
		return rules.Violation
	}
	return rules.Pass
}

// holds reports whether a condition is true of the trace, or of the span s.
func holds(n node, tr *trace.Trace, s *trace.Span) bool {
	someSpan := func(passes func(*trace.Span) bool) bool {
		for i := range tr.Spans {
			if passes(&tr.Spans[i]) {
				return true
			}
		}
		return false
	}
	switch n := n.(type) {
	case *logic:
		for _, p := range n.parts {
			if holds(p, tr, s) == (n.op == "or") {
				return n.op == "or"
			}
		}
		return n.op == "and"
	case *negation:
		return !holds(n.of, tr, s)
	case *spanCheck:
		return someSpan(func(s *trace.Span) bool {
			if s.Name != n.name {
				return false
			}
			for _, f := range n.filters {
				if !holds(f, tr, s) {
					return false
				}
			}
			return true
		})
	case *anySpan:
		return someSpan(func(s *trace.Span) bool { return holds(n.filter, tr, s) })
	case *countCheck:
		right := new(big.Float)
		if n.right.kind == operandCount {
			right.SetInt64(int64(spansNamed(tr, n.right.text)))
		} else {
			right.SetString(n.right.text)
		}
		return ordered(n.op, big.NewFloat(float64(spansNamed(tr, n.name))).Cmp(right))
	case *truth:
		v := s.Attributes.Get(n.key)
		return v.Type() == trace.TypeBool && v.Bool() || v.Type() == trace.TypeString && v.Str() == "true"
	case *presence:
		return !s.Attributes.Get(n.key).IsAbsent()
	case *comparison:
		return compares(n, tr, s)
	}
	panic("unknown node")
}

func spansNamed(tr *trace.Trace, name string) (n int) {
	for _, s := range tr.Spans {
		if s.Name == name {
			n++
		}
	}
	return n
}

func ordered(op string, c int) bool {
	return map[string]bool{"==": c == 0, "!=": c != 0, "<": c < 0, "<=": c <= 0, ">": c > 0, ">=": c >= 0}[op]
}

func compares(n *comparison, tr *trace.Trace, s *trace.Span) bool {
	var v trace.Value
	switch n.left.kind {
	case fieldAttribute:
		v = s.Attributes.Get(n.left.key)
	case fieldName:
		v = trace.StringValue(s.Name)
	case fieldService:
		v = trace.StringValue(s.Service())
	case fieldStatus:
		v = trace.StringValue(s.Status.String())
		n = lowered(n)
	case fieldKindOf:
		v = trace.StringValue(s.Kind.String())
		n = lowered(n)
	case fieldDuration:
		d, err := time.ParseDuration(n.right.text)
		if err != nil {
			panic(err)
		}
		return ordered(n.op, int(max(-1, min(1, s.Duration()-d))))
	}
	switch n.op {
	case "==":
		return equal(v, n.right, tr)
	case "!=":
		return !equal(v, n.right, tr)
	case "in":
		return slices.ContainsFunc(n.right.list, func(o operand) bool { return equal(v, o, tr) })
	case "matches", "contains", "starts_with":
		text, ok := kept(v)
		switch {
		case !ok:
			return false
		case n.op == "matches":
			return regexp.MustCompile(n.right.text).MatchString(text)
		case n.op == "contains":
			return strings.Contains(text, n.right.text)
		}
		return strings.HasPrefix(text, n.right.text)
	}
	if n.right.kind == operandText {
		text, ok := kept(v)
		return ok && ordered(n.op, strings.Compare(text, n.right.text))
	}
	x, ok := numberOf(v)
	return ok && ordered(n.op, x.Cmp(bound(n.right, tr)))
}

func lowered(n *comparison) *comparison {
	c := *n
	c.right.text = strings.ToLower(c.right.text)
	c.right.list = slices.Clone(c.right.list)
	for i := range c.right.list {
		c.right.list[i].text = strings.ToLower(c.right.list[i].text)
	}
	return &c
}

// bound returns the number on the right of an operator.
func bound(o operand, tr *trace.Trace) *big.Float {
	if o.kind == operandCount {
		return big.NewFloat(float64(spansNamed(tr, o.text)))
	}
	f, err := strconv.ParseFloat(o.text, 64)
	if err != nil {
		panic(err)
	}
	return big.NewFloat(f)
}

// numberOf returns the number that an attribute is, or contains as a decimal string.
func numberOf(v trace.Value) (*big.Float, bool) {
	switch v.Type() {
	case trace.TypeInt:
		return new(big.Float).SetInt64(v.Int()), true
	case trace.TypeDouble:
		if math.IsNaN(v.Double()) {
			return nil, false
		}
		return big.NewFloat(v.Double()), true
	case trace.TypeString:
		f, err := strconv.ParseFloat(v.Str(), 64)
		if err != nil || strings.ContainsAny(v.Str(), "xXpP_nN") { // hexadecimal, NaN, infinity
			return nil, false
		}
		return big.NewFloat(f), true
	}
	return nil, false
}

// kept returns the string as which earlier versions stored an attribute.
func kept(v trace.Value) (string, bool) {
	switch v.Type() {
	case trace.TypeString:
		return v.Str(), true
	case trace.TypeBool:
		return strconv.FormatBool(v.Bool()), true
	case trace.TypeInt:
		return strconv.FormatInt(v.Int(), 10), true
	case trace.TypeDouble:
		return strconv.FormatFloat(v.Double(), 'g', -1, 64), true
	}
	return "", false
}

func equal(v trace.Value, o operand, tr *trace.Trace) bool {
	switch o.kind {
	case operandNumber, operandCount:
		x, ok := numberOf(v)
		return ok && x.Cmp(bound(o, tr)) == 0
	case operandBool:
		text, ok := kept(v)
		return ok && text == o.text
	}
	if text, ok := kept(v); ok && text == o.text {
		return true
	}
	// 2.0 was stored as 2.
	return v.Type() == trace.TypeDouble && strconv.FormatFloat(v.Double(), 'f', -1, 64) == o.text
}

// generator generates rules that can be translated, and traces for them.
type generator struct{ *rand.Rand }

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

func (g generator) name() string {
	return pick(g, "a", "b", "c", "a.b", "a.b.c", "http.request", "never_there", "a.count")
}
func (g generator) order() string { return pick(g, "==", "!=", "<", "<=", ">", ">=") }

func (g generator) rule() string {
	if g.IntN(3) == 0 {
		return g.joined(3, g.olderCheck)
	}
	rule := "when { " + g.joined(2, g.check) + " }"
	if g.IntN(3) > 0 {
		rule += "\nalways { " + g.joined(2, g.check) + " }"
	}
	if g.IntN(3) > 0 {
		rule += " // never\n never{" + g.joined(1, g.check) + "}"
	}
	return rule
}

func (g generator) joined(depth int, leaf func() string) string {
	switch {
	case depth == 0 || g.IntN(3) == 0:
		return leaf()
	case g.IntN(5) == 0:
		return "not (" + g.joined(depth-1, leaf) + ")"
	case g.IntN(5) == 0:
		return "not " + leaf()
	case g.IntN(4) == 0:
		return "(" + g.joined(depth-1, leaf) + ")"
	}
	return g.joined(depth-1, leaf) + pick(g, " and ", " or ", "\n  and\t") + g.joined(depth-1, leaf)
}

func (g generator) check() string {
	switch g.IntN(6) {
	case 0:
		return "count(" + g.name() + ") " + g.order() + " " + pick(g, "0", "1", "2", "1.5", "-1", "count("+g.name()+")")
	case 1:
		return g.name()
	case 2:
		return g.name() + "." + pick(g, "amount", "flag", "status") + " " + g.value()
	}
	check := g.name()
	for range 1 + g.IntN(2) {
		check += ".where(" + g.joined(2, g.filter) + ")"
	}
	return check
}

func (g generator) filter() string {
	switch g.IntN(6) {
	case 0:
		return pick(g, "amount", "flag", "status", "none")
	case 1:
		return pick(g, "a.b", "http.request", "a.b.c", "not_there.x")
	}
	return pick(g, "amount", "flag", "status", `"data.pii"`, `"in"`) + " " + g.value()
}

// value returns an operator with its right operand.
func (g generator) value() string {
	number := func() string { return pick(g, "0", "1", "2", "-1", "1.5", "200", "1000", "0.5", "007") }
	text := func() string {
		return pick(g, `"a"`, `"1"`, `"200"`, `"1.5"`, `"true"`, `"false"`, `"x y"`, `"/api/1"`, `"5.0"`, "abc", "USD", `"\d"`, `"é"`, `"1e6"`)
	}
	switch g.IntN(7) {
	case 0, 1:
		return g.order() + " " + number()
	case 2:
		return pick(g, "==", "!=") + " " + pick(g, text(), "true", "false")
	case 3:
		return "matches " + pick(g, `"^/api/"`, `"^[0-9]+$"`, `"a|b"`, `"\d\.\d"`, `"(?i)TRUE"`, `"^1"`, `"e"`, "abc", `"[^a]"`, `"(x|/)"`, `"^$|q"`[:2]+`q"`)
	case 4:
		return "contains " + pick(g, `"a"`, `"1"`, `"/"`, "ru", `"."`, `"x y"`)
	case 5:
		return "in [" + pick(g, text(), number(), "true") + ", " + pick(g, text(), number(), "USD") + pick(g, "", ", false", ", x") + "]"
	}
	return pick(g, "<", "<=", ">", ">=") + " " + pick(g, `"a"`, `"x y"`, `"gold"`, `"/"`, "count("+g.name()+")")
}

func (g generator) olderCheck() string {
	switch g.IntN(5) {
	case 0:
		return "trace.count(" + g.name() + ") " + g.order() + " " + pick(g, "0", "1", "2")
	case 1:
		return "trace.has(" + g.name() + ")"
	case 2:
		check := "trace.has(" + g.name() + ")"
		for range 1 + g.IntN(2) {
			check += ".where(" + pick(g, "amount", "data.pii", `"data.pii"`, "status") + " " + g.value() + ")"
		}
		return check
	}
	return "trace.has(" + g.joined(2, g.spanFilter) + ")"
}

func (g generator) spanFilter() string {
	switch g.IntN(8) {
	case 0:
		return "span.has(" + pick(g, "attribute.data.pii", `attributes["amount"]`) + ")"
	case 1:
		return "span.name " + pick(g, "== a", `!= "a.b"`, "in [a, b]", `matches "^a"`, `contains "."`, `< "b"`)
	case 2:
		return "span.service " + pick(g, "== web", `!= "web"`, "in [web, shop]")
	case 3:
		return "span.status " + pick(g, "== error", `!= "OK"`, "in [ok, UNSET]")
	case 4:
		return "span.kind " + pick(g, "== server", `!= CLIENT`, `in ["internal"]`)
	case 5:
		return "span.duration " + g.order() + " " + pick(g, "1ms", "2.5ms", "1s")
	case 6:
		return pick(g, `span.name:starts_with("a.")`, `span.attribute.amount:starts_with("1")`, `span.attributes["status"]:starts_with("/a")`)
	}
	return pick(g, "span.attribute.amount", "span.attribute.data.pii", `span.attributes["status"]`) + " " + g.value()
}

func (g generator) trace() *trace.Trace {
	spans := make([]trace.Span, 1+g.IntN(5))
	for i := range spans {
		s := &spans[i]
		s.ID = trace.SpanID{7: byte(i + 1)}
		s.Name = pick(g, "a", "a", "b", "c", "a.b", "a.b.c", "http.request", "a.count", "A")
		s.Kind = trace.Kind(g.IntN(6))
		s.Status = trace.Status(g.IntN(3))
		s.End = s.Start + trace.Time(pick(g, time.Microsecond, time.Millisecond, 2500*time.Microsecond, time.Second, time.Minute))
		s.Resource, _ = trace.NewAttributes([]trace.Attribute{{Key: trace.ServiceName, Value: trace.StringValue(pick(g, "web", "shop", ""))}, {Key: "amount", Value: g.attribute()}})
		var list []trace.Attribute
		for _, key := range []string{"amount", "flag", "status", "data.pii", "in"} {
			if g.IntN(4) > 0 {
				list = append(list, trace.Attribute{Key: key, Value: g.attribute()})
			}
		}
		s.Attributes, _ = trace.NewAttributes(list)
	}
	return trace.New(trace.ID{15: 1}, spans)
}

func (g generator) attribute() trace.Value {
	switch g.IntN(8) {
	case 0:
		return trace.BoolValue(g.IntN(2) == 0)
	case 1, 2:
		return trace.IntValue(pick[int64](g, 0, 1, 2, -1, 200, 1000, 1001, math.MaxInt64, math.MinInt64))
	case 3:
		return trace.DoubleValue(pick(g, 0, 1, 1.5, 2, -1, 200, 999.5, 1e6, 1e300, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1)))
	case 4, 5:
		return trace.StringValue(pick(g, "0", "1", "1.0", "+1", "2", "-1", "200", "1e3", "1E2", "1e999", "1e99", strings.Repeat("9", 200), strings.Repeat("9", 400), "5.", ".5", "0x10", "1_0", "inf", "NaN", " 1", "007", "1.5"))
	case 6:
		return trace.StringValue(pick(g, "", "a", "abc", "USD", "true", "false", "TRUE", "x y", "/api/1", "é", `\d`, "5.0", "1e6", "gold"))
	}
	return pick(g, trace.BytesValue([]byte("1")), trace.BytesValue([]byte{0xff}), trace.ArrayValue(trace.StringValue("a")), trace.ArrayValue(trace.IntValue(1)), trace.MapValue(nil))
}

// generatedTrace returns a trace that contains all kinds of attributes.
func generatedTrace() *trace.Trace {
	return generator{rand.New(rand.NewPCG(7, 7))}.trace()
}
