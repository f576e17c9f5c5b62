package engine_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

type gen struct {
	*rand.Rand
	vars []string // span variables
}

func pick[T any](g *gen, xs ...T) T { return xs[g.IntN(len(xs))] }

func (g *gen) span() string {
	if len(g.vars) == 0 || g.IntN(12) == 0 {
		return "trace.root"
	}
	v := g.vars[g.IntN(len(g.vars))]
	for g.IntN(6) == 0 {
		v += ".parent"
	}
	return v
}

func (g *gen) attr() string {
	s, k := g.span(), pick(g, "a", "b", "c", "a", "b", "c", "t", "n")
	return pick(g, s+`["`+k+`"]`, s+`["`+k+`"]`, s+`.attributes.`+k, s+`.resource["`+k+`"]`, s+`.attributes["`+k+`"]`)
}

func (g *gen) num() string {
	return pick(g, "0", "1", "2", "-1", "1.5", "2.0", "9007199254740993", "0.1", "3")
}
func (g *gen) str() string { return pick(g, `"x"`, `"y"`, `""`, `"xy"`, `"5"`, `"é"`) }
func (g *gen) cmp() string { return pick(g, "==", "!=", "<", "<=", ">", ">=", "==") }

func (g *gen) value(d int) string {
	switch g.IntN(8) {
	case 0:
		return g.num()
	case 1:
		return g.str()
	case 2:
		if d > 0 {
			return "(" + g.value(d-1) + pick(g, " + ", " - ", " * ", " / ", " % ") + g.value(d-1) + ")"
		}
		return g.attr()
	case 3:
		if d > 0 {
			return "(" + g.cond(d-1) + " ? " + g.value(d-1) + " : " + g.value(d-1) + ")"
		}
		return g.attr()
	case 4:
		if d > 0 {
			return g.count(d)
		}
	}
	return g.attr()
}

func (g *gen) list() string {
	s := g.span()
	return pick(g, "spans", "spans", s+".children", s+".ancestors()", s+".descendants()", s+".ancestors()")
}

func (g *gen) filtered(d int) string {
	l := g.list()
	if g.IntN(5) == 0 && d > 0 {
		v := fmt.Sprintf("f%d", g.IntN(3))
		g.vars = append(g.vars, v)
		l += ".filter(" + v + ", " + g.cond(d-1) + ")"
		g.vars = g.vars[:len(g.vars)-1]
	}
	return l
}

func (g *gen) within(d int) (string, string) {
	v := pick(g, "s", "t", "u")
	g.vars = append(g.vars, v)
	defer func() { g.vars = g.vars[:len(g.vars)-1] }()
	return v, g.cond(d - 1)
}

func (g *gen) count(d int) string {
	l := g.filtered(d)
	v, c := g.within(d)
	return pick(g, "count("+l+", "+v+", "+c+")", l+".filter("+v+", "+c+").size()", l+".size()")
}

func (g *gen) cond(d int) string {
	s := g.span()
	if d <= 0 {
		switch g.IntN(16) {
		case 0:
			return s + ".name " + pick(g, "==", "!=", "<", ">=") + " " + g.str()
		case 1:
			return s + `.service ` + pick(g, "==", "!=") + " " + g.str()
		case 2:
			return s + ".kind " + pick(g, "==", "!=") + pick(g, ` "server"`, ` "client"`, ` "unspecified"`, ` "internal"`)
		case 3:
			return s + ".status " + pick(g, "==", "!=") + pick(g, ` "error"`, ` "unset"`)
		case 4:
			return s + ".duration " + g.cmp() + ` duration("` + pick(g, "1s", "0s", "3ns", "100ms") + `")`
		case 5:
			return g.attr() + " in [" + pick(g, g.str()+", "+g.num(), g.str()+", "+g.str(), g.num()+", 2, true") + "]"
		case 6:
			return pick(g, "has("+s+".attributes.a)", `("b" in `+s+".attributes) == "+pick(g, "true", "false"), `"b" in `+s+".attributes", `"a" in `+s+".resource", "has("+s+".parent)")
		case 7:
			return g.attr() + pick(g, ".startsWith(", ".contains(", ".endsWith(", ".matches(") + pick(g, `"x"`, `"y"`, `""`) + ")"
		case 8:
			return s + pick(g, ".name", ".statusMessage", ".scope", ".service") + pick(g, ".startsWith(", ".contains(") + pick(g, `"x"`, `"y"`, `""`) + ")"
		case 9:
			if s != "trace.root" {
				return s + ".before(" + g.span() + ")"
			}
		case 10:
			return s + pick(g, `.events.exists(e, e.name == "x")`, `.events.all(e, e.attributes["a"] == 1)`, `.links.exists(l, has(l.attributes.a))`, `.events.exists(e, e.time > `+s+`.end)`, `.events.size() > 1`, `.events.exists(e, int(e.attributes["a"]) > 0)`, `.links.all(l, size(l.attributes["b"]) < 2)`, `.events.exists(e, e.name == "x" && double(e.attributes["c"]) > 0.5)`, `.events.exists(e, e.attributes.a == `+s+`["a"])`)
		case 11:
			return pick(g, "size("+g.attr()+") > 1", "int("+g.attr()+") > 1", g.attr()+`.lowerAscii() == "x"`, `double(`+g.attr()+") < 3.0", g.attr()+`.exists(z, z == "x")`, s+".name.size() == 1", "int("+s+`.resource["a"]) > 0`, "size("+s+`.resource["b"]) == 1`)
		case 12:
			return s + pick(g, ".start", ".end") + g.cmp() + g.span() + pick(g, ".start", ".end")
		case 13:
			return s + ".end - " + g.span() + ".start " + g.cmp() + ` duration("` + pick(g, "1s", "3ns") + `")`
		case 14:
			return pick(g, `"x" in trace.services`, `trace.duration > duration("1s")`, `has(trace.root)`, `trace.services.size() > 1`, g.attr(), s+" == "+g.span())
		}
		return g.attr() + " " + g.cmp() + " " + g.value(0)
	}
	switch g.IntN(12) {
	case 10, 11:
		return g.textAnd()
	case 0, 1:
		return "(" + g.cond(d-1) + " && " + g.cond(d-1) + ")"
	case 2, 3:
		return "(" + g.cond(d-1) + " || " + g.cond(d-1) + ")"
	case 4:
		return "!(" + g.cond(d-1) + ")"
	case 5, 6, 7:
		l := g.filtered(d)
		v, c := g.within(d)
		return l + pick(g, ".exists(", ".exists(", ".all(", ".exists_one(") + v + ", " + c + ")"
	case 8:
		return g.value(d-1) + " " + g.cmp() + " " + g.value(d-1)
	}
	return "(" + g.cond(d-1) + " " + pick(g, "==", "!=") + " " + g.cond(d-1) + ")"
}

// textAnd returns a condition on spans with a string and other properties.
func (g *gen) textAnd() string {
	v := pick(g, "s", "t", "u")
	g.vars = append(g.vars, v)
	defer func() { g.vars = g.vars[:len(g.vars)-1] }()
	of := v + pick(g, `.name == "x"`, `["a"] == "x"`, `.service == "y"`, `.attributes["b"] in ["x", "y"]`, `.name == ""`)
	for range 1 + g.IntN(3) {
		of += " && " + pick(g, g.cond(0), "("+g.cond(0)+" || "+g.cond(0)+" && "+g.cond(0)+")", "!("+g.cond(0)+" && "+g.cond(0)+")", "("+g.cond(1)+" || "+g.cond(0)+")")
	}
	return pick(g, "spans.exists("+v+", "+of+")", "spans.all("+v+", !("+of+"))", "count(spans, "+v+", "+of+") "+g.cmp()+" 1", "spans.exists_one("+v+", "+of+")")
}

// related returns a condition on spans with a string, on other properties of these, and on spans around them. Some
// parts are those of the pack, so that rules share them.
func (g *gen) related(shared []string) string {
	of := pick(g, `s.name == "x"`, `s.name == "x"`, `s.name in ["x", "xy"]`, `s.service == "y"`, `s.attributes["a"] == "x"`, `s.name == "y" && s.service == "x"`, `s.attributes["a"] in ["x", "y", "xy"]`)
	for range 1 + g.IntN(4) {
		if len(shared) > 0 && g.IntN(3) == 0 {
			of += " && " + pick(g, shared...)
			continue
		}
		of += " && " + g.around("s", 1)
	}
	switch g.IntN(6) {
	case 0, 1, 2:
		return "spans.exists(s, " + of + ")"
	case 3:
		return "spans.filter(s, " + of + ").all(s, " + g.around("s", 1) + ")"
	case 4:
		return "count(spans, s, " + of + ") " + g.cmp() + " " + pick(g, "0", "1", "2")
	}
	return "spans.exists(s, " + of + ` && s.attributes["` + pick(g, "b", "n") + `"] ` + pick(g, "<", "<=", ">", ">=") + " " + g.num() + ")"
}

// around returns a condition on a span or on spans around it.
func (g *gen) around(v string, depth int) string {
	switch g.IntN(16) {
	case 0:
		return "!(" + g.around(v, depth) + ")"
	case 1, 2:
		return "(" + g.around(v, depth) + " || " + g.around(v, depth) + ")"
	case 3:
		return "!(" + g.around(v, depth) + " && " + g.around(v, depth) + ")"
	}
	if depth == 0 {
		return pick(g,
			v+".kind "+pick(g, "==", "!=")+pick(g, ` "server"`, ` "client"`, ` "unspecified"`), v+`.kind in ["server", "consumer"]`, v+".status "+pick(g, "==", "!=")+` "error"`,
			v+".duration "+g.cmp()+` duration("`+pick(g, "1s", "0s", "3ns")+`")`, v+`.attributes["`+pick(g, "a", "b", "t", "n")+`"] `+g.cmp()+" "+pick(g, g.num(), g.str(), "true"),
			v+`["c"] `+g.cmp()+" "+pick(g, g.num(), g.str()), `"b" in `+v+".attributes", `"a" in `+v+".resource", v+`.attributes["c"]`,
			v+pick(g, ".name", `["a"]`, ".statusMessage")+pick(g, `.startsWith("x")`, `.contains("y")`, `.endsWith("")`, `.matches("^(x|y)")`, `.matches("(?i)x?y")`),
			v+".name "+pick(g, "==", "!=", "<")+` "x"`, v+".service "+pick(g, "==", "!=")+` "y"`, v+`.attributes["a"] in ["x", "5", "y"]`, "has("+v+".parent)",
			v+".events.exists(e, e.name == \"x\")", `"x" in trace.services`)
	}
	inner := func(w string) string {
		of := g.around(w, depth-1)
		if g.IntN(2) == 0 {
			of += " && " + g.around(w, g.IntN(depth+1))
		}
		return of
	}
	w := fmt.Sprintf("w%d", len(v))
	switch g.IntN(12) {
	case 0:
		return v + ".ancestors().exists(" + w + ", " + inner(w) + ")"
	case 1:
		return v + ".children.exists(" + w + ", " + inner(w) + ")"
	case 2:
		return v + ".descendants().exists(" + w + ", " + inner(w) + ")"
	case 3:
		return v + ".parent" + pick(g, ".children", ".descendants()", ".ancestors()") + ".exists(" + w + ", " + inner(w) + ")"
	case 4:
		return v + pick(g, ".children", ".descendants()", ".ancestors()") + ".all(" + w + ", " + inner(w) + ")"
	case 5:
		return "spans.exists(" + w + ", " + inner(w) + " && " + w + ".before(" + v + "))"
	case 6:
		return v + pick(g, `["a"] + `+v+`["b"] > 1`, `.attributes["a"] - 1 < `+v+`.attributes["b"]`, ".duration - "+v+`.parent.duration > duration("1s")`, ".name == "+v+".parent.name", `["a"] != `+v+`.parent["a"]`)
	case 9:
		return "spans." + pick(g, "exists", "exists", "exists_one") + "(" + w + ", " + pick(g, "", inner(w)+" && ") + w + pick(g, `["t"] != `+v+`["t"]`, `.attributes["t"] != `+v+`.attributes["t"]`) + ")"
	case 7:
		return v + ".ancestors().exists(" + w + ", " + inner(w) + " && " + w + ".name == " + v + ".name)"
	case 8:
		return g.around(v+".parent", 0)
	}
	return g.around(v, 0)
}

// nested is a quantifier about spans in some relation to the span that is outer, the trace's if there
// is none; others are within it, which often ask for the same of other spans.
func (g *gen) nested(outer string, depth int) string {
	list, v, of := g.nestedBody(outer, depth)
	return pick(g, list+".exists("+v+", "+of+")", list+".exists("+v+", "+of+")", list+".all("+v+", !("+of+"))", "count("+list+", "+v+", "+of+") > 1")
}

func (g *gen) nestedCount(outer string, depth int) string {
	list, v, of := g.nestedBody(outer, depth)
	return "count(" + list + ", " + v + ", " + of + ")"
}

func (g *gen) nestedBody(outer string, depth int) (list, v, of string) {
	list, v = "spans", fmt.Sprintf("n%d", depth)
	of = v + pick(g, `.name == "x"`, `.name == "x"`, `.kind == "server"`, `["a"] == "x"`)
	if outer == "" {
		of += pick(g, "", " && "+v+".end == trace.end", " && "+v+`["a"] != trace.root["a"]`)
	} else {
		list = pick(g, "spans", outer+".children", outer+".children", outer+".descendants()", outer+".ancestors()")
		if g.IntN(3) > 0 { // the condition on the trace is separated
			of += ` && trace.duration > duration("0s")`
		}
		if depth == 2 || g.IntN(4) == 0 {
			of += " && " + pick(g, v+".duration >= "+outer+".duration", v+".start != "+outer+".start", v+`["a"] != `+outer+`["a"]`)
		}
	}
	if depth < 2 && g.IntN(4) > 0 {
		inner := g.nested(v, depth+1)
		if of += " && " + inner; g.IntN(2) == 0 {
			of = inner
		}
	}
	return list, v, of
}

func (g *gen) val() trace.Value {
	switch g.IntN(12) {
	case 0:
		return trace.Value{}
	case 1:
		return trace.BoolValue(g.IntN(2) == 0)
	case 2, 3:
		return trace.IntValue(pick[int64](g, 0, 1, 2, -1, 1<<53+1, math.MinInt64, math.MaxInt64, 3))
	case 4, 5:
		return trace.DoubleValue(pick(g, 0, 1, 1.5, math.NaN(), math.Inf(1), 2, 1<<53, math.Copysign(0, -1)))
	case 6:
		return trace.ArrayValue(trace.StringValue("x"), trace.IntValue(1))
	}
	return trace.StringValue(pick(g, "x", "y", "", "xy", "5", "é", "yx", "X"))
}

// attrs are attributes of any type, and some more.
func (g *gen) attrs(more ...trace.Attribute) trace.Attributes {
	var list trace.Attributes
	for _, a := range more {
		switch g.IntN(12) {
		case 0:
		case 1:
			list = append(list, trace.Attribute{Key: "t", Value: trace.StringValue("z")})
		default:
			list = append(list, a)
		}
	}
	for range g.IntN(4) {
		list = append(list, trace.Attribute{Key: pick(g, "a", "b", "c"), Value: g.val()})
	}
	n, _ := trace.NewAttributes(list)
	return n
}

func (g *gen) trace(id int) *trace.Trace {
	n := 1 + g.IntN(pick(g, 3, 10, 40))
	resources := make([]trace.Attributes, 3)
	for i := range resources {
		resources[i] = g.attrs()
		if g.IntN(4) > 0 {
			list := append(slices.Clone(resources[i]), trace.Attribute{Key: "service.name", Value: trace.StringValue(pick(g, "x", "y", ""))})
			resources[i], _ = trace.NewAttributes(list)
		}
	}
	spans := make([]trace.Span, n)
	// A text that the spans of a trace often share, and numbers that are all whole: columns of one type.
	own := []trace.Attribute{{Key: "t", Value: trace.StringValue(pick(g, "x", "y"))}, {Key: "n", Value: trace.IntValue(int64(g.IntN(4)))}}[g.IntN(3)%2:]
	for i := range spans {
		s := &spans[i]
		s.ID[7] = byte(1 + g.IntN(n+n/8+1))
		if g.IntN(5) > 0 {
			s.ParentID[7] = byte(1 + g.IntN(n+1))
			if g.IntN(3) > 0 && i > 0 {
				s.ParentID = spans[g.IntN(i)].ID
			}
		}
		s.Kind = trace.Kind(g.IntN(7))
		s.Status = trace.Status(g.IntN(4))
		s.Name = pick(g, "x", "y", "xy", "", "z")
		s.StatusMessage = pick(g, "", "x")
		s.Scope = pick(g, "", "y")
		s.Start = trace.Time(pick(g, uint64(i), uint64(g.IntN(10)), uint64(g.IntN(5))*1e9, uint64(1)<<63+5))
		s.End = s.Start + trace.Time(pick(g, 0, 3, 1e9, 2e9))
		s.Attributes, s.Resource = g.attrs(own...), pick(g, resources...)
		for range g.IntN(3) {
			s.Events = append(s.Events, trace.Event{Time: s.Start + trace.Time(g.IntN(5)), Name: pick(g, "x", "y"), Attributes: g.attrs()})
		}
		if g.IntN(4) == 0 {
			s.Links = append(s.Links, trace.Link{Attributes: g.attrs()})
		}
	}
	return trace.New(trace.ID{14: byte(id >> 8), 15: byte(id)}, spans)
}

// calculated are expressions of which only the interpreter knows some values that are no errors: sums of
// texts, times that are centuries apart, and counts of ancestors, of which those of a cycle are met twice.
var calculated = regexp.MustCompile(` \+ |\.(start|end) - |count\([^,]*ancestors\(\)|ancestors\(\)\.(size|exists_one|filter)`)

var seeds = flag.Int("plan.seeds", 1000, "so many random packs TestRandomConditionsGiveTheOraclesVerdicts compares")

var firstSeed = flag.Int("plan.first", 0, "the first of them")

// A generator of its own, apart from rulestest: few names, keys and values, so that much is
// equal, and conditions nested at random, of which cel-go refuses a third.
func TestRandomConditionsGiveTheOraclesVerdicts(t *testing.T) {
	shards := make([]tally, runtime.GOMAXPROCS(0))
	t.Run("seeds", func(t *testing.T) {
		for shard := range shards {
			t.Run(strconv.Itoa(shard), func(t *testing.T) {
				t.Parallel()
				for seed := *firstSeed + shard; seed < *firstSeed+*seeds; seed += len(shards) {
					shards[shard].compare(t, uint64(seed))
				}
			})
		}
	})
	all := tally{outcomes: map[rules.Outcome]int{}}
	cases := 0
	for _, s := range shards {
		for o, n := range s.outcomes {
			all.outcomes[o] += n
			cases += n
		}
		all.parsed, all.refused, all.unknown = all.parsed+s.parsed, all.refused+s.refused, all.unknown+s.unknown
	}
	t.Logf("%d cases of %d rules: %v; %d rules were refused, %d expressions are not vectorised", cases, all.parsed, all.outcomes, all.refused, all.unknown)
}

// tally counts the verdicts that were compared.
type tally struct {
	outcomes                 map[rules.Outcome]int
	parsed, refused, unknown int
}

// compare judges the random traces of a seed by its random rules.
func (n *tally) compare(t *testing.T, seed uint64) {
	if n.outcomes == nil {
		n.outcomes = map[rules.Outcome]int{}
	}
	g := &gen{Rand: rand.New(rand.NewPCG(seed, 4242))}
	var rs []*rules.Rule
	var shared []string
	mayAsk := map[*rules.Rule]bool{}
	for range g.IntN(4) {
		shared = append(shared, g.around("s", 1))
	}
	for i := range 1 + g.IntN(12) {
		rule := map[string]any{"id": fmt.Sprintf("r%d", i), "title": "t", "severity": "low"}
		switch {
		case seed%4 == 0: // rules within which much is the same
			rule["when"] = pick(g, g.nested("", 0), g.nestedCount("", 0)+" "+g.cmp()+" "+g.nestedCount("", 0))
		case g.IntN(3) > 0:
			rule["when"] = g.cond(1 + g.IntN(3))
		}
		if seed%4 != 0 {
			rule["when"] = g.related(shared)
		}
		for _, k := range []string{"always", "never"} {
			if seed%4 != 0 && g.IntN(3) > 0 {
				rule[k] = []string{g.related(shared)}
				continue
			}
			if g.IntN(2) == 0 {
				rule[k] = []string{g.cond(1 + g.IntN(3))}
				if g.IntN(4) == 0 {
					rule[k] = []string{g.cond(1 + g.IntN(3)), g.cond(1)}
				}
			}
		}
		if g.IntN(5) == 0 {
			rule["traceql"] = pick(g, `{ name = "x" }`, `{ .a = 1 }`)
		}
		doc, err := yaml.Marshal(map[string]any{"apiVersion": "betrace.dev/v1", "kind": "RulePack", "metadata": map[string]any{"name": "p"}, "rules": []any{rule}})
		require.NoError(t, err)
		options := pick(g, rules.Options{MaxCost: 1e17}, rules.Options{MaxCost: 1e17}, rules.Options{MaxCost: 3e4, Sizes: lang.Sizes{Spans: 4, Descendants: 3, Children: 2, Ancestors: 2, Events: 2, Links: 1, Attributes: 4, Text: 8, List: 2}})
		pack, err := rules.Parse("p.yaml", doc, options)
		if err != nil {
			n.refused++
			continue
		}
		n.parsed++
		rs = append(rs, pack.Rules...)
		mayAsk[rs[len(rs)-1]] = options.MaxCost < 1e17 || calculated.Match(doc)
	}
	if len(rs) == 0 {
		return
	}
	var needs columnar.Needs
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	pl := engine.Compile(rs)
	known := make([]bool, len(rs))
	for i := range rs {
		known[i] = !mayAsk[rs[i]]
		for _, p := range pl.Explain(i) {
			if !p.Vectorised() {
				n.unknown++
				known[i] = false
			}
		}
	}
	judge := pl.NewJudge()
	judge.SetAny(g.Rand, 1+g.IntN(pick(g, 20, 200, 2000)))
	for range 4 {
		var traces []*trace.Trace
		plain := g.IntN(5) == 0
		for i := range pick(g, 0, 1, 1+g.IntN(30), 1+g.IntN(30), 1+g.IntN(30)) {
			tr := g.trace(i)
			if plain {
				for k := range tr.Spans {
					tr.Spans[k].Attributes, tr.Spans[k].Resource, tr.Spans[k].Events, tr.Spans[k].Links = nil, nil, nil, nil
				}
				tr = trace.New(tr.ID, tr.Spans)
			}
			traces = append(traces, tr)
		}
		b := columnar.NewBatch(needs, traces...)
		if g.IntN(3) == 0 {
			repeatTexts(b, g.Rand)
		}
		var sel columnar.Bits
		if g.IntN(2) == 0 {
			sel = make(columnar.Bits, columnar.NumWords(b.NumTraces()))
			for k := range b.NumTraces() {
				if g.IntN(2) == 0 {
					sel.Set(int32(k))
				}
			}
		}
		got, err := judge.Batch(t.Context(), b, sel)
		require.NoError(t, err)
		asked := judge.Asked()
		counts := make([]engine.Counts, len(rs))
		at := 0
		for ti := range b.NumTraces() {
			if sel != nil && !sel.Has(int32(ti)) {
				continue
			}
			view := b.Trace(ti)
			for ri, v := range analyzer.Judge(t.Context(), rs, view) {
				// With several clauses, one may be an error and another broken.
				isKnown := v.Outcome == rules.NotApplicable || v.Outcome == rules.Pass || v.Outcome == rules.Violation && len(rs[ri].Always)+len(rs[ri].Never) < 2
				if isKnown && known[ri] && asked[engine.Asked{Trace: ti, Rule: ri}] && !hasLists(view) && len(view.Spans) <= judge.Limit(ri) {
					t.Errorf("seed %d trace %d rule %d: %v, but the interpreter was asked", seed, ti, ri, v.Outcome)
					report(t, seed, rs, b, ti, ri, v)
				}
				n.outcomes[v.Outcome]++
				counts[ri].Add(v.Outcome)
				if v.Outcome == rules.Violation || v.Outcome == rules.Error {
					if at >= len(got.Found) || got.Found[at].Trace != ti || got.Found[at].Rule != ri || got.Found[at].Verdict.Outcome != v.Outcome || got.Found[at].Verdict.Clause != v.Clause {
						report(t, seed, rs, b, ti, ri, v)
					}
					at++
				}
			}
		}
		if at != len(got.Found) {
			f := got.Found[at]
			report(t, seed, rs, b, f.Trace, f.Rule, rules.Verdict{})
		}
		require.Equal(t, counts, got.Counts)
	}
}

func report(t *testing.T, seed uint64, rs []*rules.Rule, b *columnar.Batch, ti, ri int, v rules.Verdict) {
	t.Helper()
	r := rs[ri]
	one := engine.Compile(rs[ri : ri+1]).NewJudge()
	sel := make(columnar.Bits, columnar.NumWords(b.NumTraces()))
	sel.Set(int32(ti))
	got, _ := one.Batch(t.Context(), b, sel)
	text := ""
	for i, s := range b.Trace(ti).Spans {
		text += fmt.Sprintf("%d: parent %d id %x name %q kind %v %v start %d end %d attrs %v res %v ev %v\n", i, b.Trace(ti).Parent(i), s.ID, s.Name, s.Kind, s.Status, s.Start, s.End, s.Attributes, s.Resource, s.Events)
	}
	if len(text) > 2500 {
		text = text[:2500]
	}
	t.Fatalf("seed %d trace %d rule %d: oracle %v %q %v\nwhen %s\nalways %q\nnever %q\ntraceql %v\nalone: %+v\n%s", seed, ti, ri, v.Outcome, v.Clause, v.Err, r.When, r.Always, r.Never, r.TraceQL, got.Counts, text)
}

// hasLists reports whether any attribute of a trace is a list.
func hasLists(t *trace.Trace) bool {
	in := func(attributes trace.Attributes) bool {
		return slices.ContainsFunc(attributes, func(a trace.Attribute) bool { return a.Value.Type() == trace.TypeArray })
	}
	for _, s := range t.Spans {
		if in(s.Attributes) || in(s.Resource) || slices.ContainsFunc(s.Events, func(e trace.Event) bool { return in(e.Attributes) }) || slices.ContainsFunc(s.Links, func(l trace.Link) bool { return in(l.Attributes) }) {
			return true
		}
	}
	return false
}
