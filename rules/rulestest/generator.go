package rulestest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
)

// Generator generates rules and traces. The same seed and calls generate the same ones. It must be used
// by one goroutine only.
type Generator struct {
	*rand.Rand
	// Refused are the errors of generated rules that were refused.
	Refused []error

	options  rules.Options
	vars     []variable // in scope, innermost last
	loops    int        // around the current expression
	cautious bool       // no expressions that are likely to fail
	plain    bool       // constructs that are common in practice
	closed   []string   // conditions without free variables, which several rules share
	traces   uint64     // number of generated traces
	aliases  lang.Aliases
}

// tables are tables of older attribute names for packs. Half of them are empty.
var tables = []lang.Aliases{
	nil, nil, nil,
	{"a": {"b"}}, {"a": {"c", "b"}, "n": {"http.route"}}, {"http.route": {"a"}, "größe": {"n", "absent"}},
}

// New returns a generator with a seed.
func New(seed uint64) *Generator {
	g := &Generator{Rand: rand.New(rand.NewPCG(seed, 1))}
	// Traces exceed the sizes for which rules are checked when they are loaded. Thus some verdicts are
	// errors of cost, and no rule takes long.
	g.options.Sizes = lang.Sizes{Spans: 12, Descendants: 12, Children: 4, Ancestors: 4, Events: 2, Links: 2, Attributes: 4, Text: 32, List: 4}
	g.aliases = tables[rand.New(rand.NewPCG(seed, 2)).IntN(len(tables))]
	g.options.MaxCost = pick(g, 3e5, 1e6, 3e6)
	if g.one(12) {
		g.options.MaxCost = 2e4
	}
	return g
}

// Options returns the limits for the rules.
func (g *Generator) Options() rules.Options { return g.options }

func pick[T any](g *Generator, of ...T) T { return of[g.IntN(len(of))] }

// one returns true with a probability of 1/n.
func (g *Generator) one(n int) bool { return g.IntN(n) == 0 }

// Rules returns n rules of one pack. The few rules that are refused are replaced.
func (g *Generator) Rules(n int) []*rules.Rule {
	var accepted []*rules.Rule
	for made := 0; len(accepted) < n; {
		var sources []source
		for range n - len(accepted) {
			sources = append(sources, g.source("r"+strconv.Itoa(made)))
			made++
		}
		pack, err := rules.Parse("random.yaml", packOf(sources, g.aliases), g.options)
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			g.Refused = append(g.Refused, joined.Unwrap()...)
		} else if err != nil {
			g.Refused = append(g.Refused, err)
		}
		if pack == nil {
			panic(fmt.Sprintf("rulestest: no pack: %v", err))
		}
		accepted = append(accepted, pack.Rules...)
	}
	return accepted
}

// source is the source text of a rule.
type source struct {
	ID       string   `yaml:"id"`
	Title    string   `yaml:"title"`
	Severity string   `yaml:"severity"`
	TraceQL  string   `yaml:"traceql,omitempty"`
	When     string   `yaml:"when,omitempty"`
	Always   []string `yaml:"always,omitempty"`
	Never    []string `yaml:"never,omitempty"`
	About    string   `yaml:"about,omitempty"`
	Message  string   `yaml:"message,omitempty"`
}

func packOf(sources []source, aliases lang.Aliases) []byte {
	pack := map[string]any{"apiVersion": rules.APIVersion, "kind": rules.Kind, "metadata": map[string]string{"name": "random"}, "rules": sources}
	if len(aliases) > 0 {
		pack["semconv"] = map[string]any{"aliases": aliases}
	}
	text, err := yaml.Marshal(pack)
	if err != nil {
		panic(fmt.Sprintf("rulestest: %v", err)) // the source contains only strings
	}
	return text
}

// YAML returns a pack with this rule only, for failure reports.
func YAML(r *rules.Rule) string { return string(packOf([]source{sourceOf(r)}, r.Pack.Aliases)) }

func sourceOf(r *rules.Rule) source {
	s := source{ID: r.ID, Title: r.Title, Severity: string(r.Severity), When: r.When, Always: r.Always, Never: r.Never, About: r.About, Message: r.Message}
	if r.TraceQL != nil {
		s.TraceQL = r.TraceQL.String()
	}
	return s
}

// Parse parses a pack that must be valid, such as a stored result of [YAML].
func Parse(pack string, o rules.Options) ([]*rules.Rule, error) {
	p, err := rules.Parse("random.yaml", []byte(pack), o)
	if err != nil {
		return nil, err
	}
	if len(p.Rules) == 0 {
		return nil, errors.New("the pack has no rules")
	}
	return p.Rules, nil
}

func (g *Generator) source(id string) source {
	s := source{ID: id, Title: "title of " + id, Severity: "low"}
	depth := func() int { return 1 + g.IntN(3) }
	g.plain = !g.one(3)
	defer func() { g.plain = false }()
	if g.one(6) {
		s.TraceQL = g.traceQL()
	}
	if g.one(2) {
		g.cautious = !g.one(4) // an expression that fails on evaluation would determine every verdict
		s.When = g.condition(depth())
		if !g.one(4) {
			s.When = g.likely(s.When)
		}
		g.cautious = false
	}
	g.cautious = g.one(3)
	for range pick(g, 0, 1, 1, 1, 2) {
		c := g.condition(depth())
		if !g.one(3) {
			c = g.likely(c)
		}
		s.Always = append(s.Always, c)
	}
	for range pick(g, 0, 0, 1, 1, 2) {
		c := g.condition(depth())
		if g.one(2) {
			c = "(" + c + ") && " + g.condition(1)
		}
		s.Never = append(s.Never, c)
	}
	g.cautious = false
	if s.When == "" && s.TraceQL == "" && len(s.Always)+len(s.Never) == 0 {
		s.When = g.condition(depth())
	}
	if !g.one(3) {
		s.About = g.spans(2)
	}
	if !g.one(3) {
		g.with("about", spanList, func() { s.Message = g.message() })
	}
	return s
}

// likely returns a condition that is true for more traces.
func (g *Generator) likely(condition string) string {
	return pick(g, "("+condition+") || "+g.condition(1), "("+condition+") || spans.exists(s, s.kind != "+strconv.Quote(pick(g, kinds...))+")", "("+condition+") || "+g.condition(2))
}

func (g *Generator) message() string {
	if g.one(3) {
		return g.text(2)
	}
	return pick(g, `string(about.size()) + " spans"`, `about.map(s, s.name).distinct().join(", ")`, `about[0].name + " of " + about[0].service`, `string(about[0][`+g.key()+`])`,
		`string(about[0][?`+g.key()+`].orValue("nothing"))`, `about.size() > 1 ? "many" : "few"`, `"%s in %s".format([about[0].name, trace.duration])`, `about[0][`+g.key()+`]`)
}

// traceQL returns a span filter.
func (g *Generator) traceQL() string {
	var b strings.Builder
	b.WriteString("{ ")
	for i := range pick(g, 0, 1, 1, 1, 2, 3) {
		if i > 0 {
			b.WriteString(pick(g, " && ", " || "))
		}
		key := pick(g, "a", "b", "c", "n", "http.route", "service.name")
		b.WriteString(pick(g,
			"name "+pick(g, "=", "!=")+" "+g.literalText(), "name =~ "+strconv.Quote(pick(g, "a.*", "[ab]+", "")), "kind = "+pick(g, "server", "client", "internal"), "status != "+pick(g, "ok", "error", "unset"),
			"duration > "+pick(g, "0s", "1ms", "5ms"), pick(g, ".", "span.", "resource.", "event.", "link.")+key+" "+pick(g, "=", "!=", ">=", "<")+" "+pick(g, ints...),
			pick(g, ".", "span.", "resource.")+key+" "+pick(g, "=", "!=")+" "+g.literalText(), "."+key+" != nil", "event:name = "+g.literalText(), "!(."+key+" = true)",
			"childCount > "+pick(g, ints...), "rootName = "+g.literalText(), "traceDuration < "+pick(g, "1ms", "1s"), "instrumentation:name = "+g.literalText(), `statusMessage != ""`))
	}
	b.WriteString(" }")
	return b.String()
}
