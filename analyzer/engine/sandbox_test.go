package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// packOf parses rules, of which those that are refused are left out.
func packOf(t *testing.T, when ...string) ([]*rules.Rule, error) {
	t.Helper()
	return packWith(t, rules.Options{}, when...)
}

func packWith(t *testing.T, options rules.Options, when ...string) ([]*rules.Rule, error) {
	t.Helper()
	var b strings.Builder
	b.WriteString("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules:\n")
	for i, w := range when {
		fmt.Fprintf(&b, "  - {id: r%d, title: t, severity: low, when: '%s'}\n", i, strings.ReplaceAll(w, "'", "''"))
	}
	pack, err := rules.Parse("p.yaml", []byte(b.String()), options)
	if pack == nil {
		return nil, err
	}
	return pack.Rules, err
}

func TestAttacksAreRefusedWhenLoaded(t *testing.T) {
	for name, attack := range map[string]string{
		"three nested quantifiers over all spans":  `spans.exists(a, spans.exists(b, spans.exists(c, a.name == b.name && b.name == c.name)))`,
		"a depth of 10,000":                        strings.Repeat("(", 10_000) + "true" + strings.Repeat(")", 10_000),
		"10,000 nested negations":                  strings.Repeat("!(", 5_000) + "true" + strings.Repeat(")", 5_000),
		"a literal of 1 MB":                        `spans.exists(s, s.name == "` + strings.Repeat("x", 1<<20) + `")`,
		"a list of 1,000,000 literals":             `spans.exists(s, s.name in [` + strings.Repeat(`"x",`, 1_000_000) + `"y"])`,
		"a regular expression that repeats itself": `spans.exists(s, s.name.matches("((a{1,1000}){1,1000}){1,1000}"))`,
		"nested ranges":                            `lists.range(4000000).exists(a, lists.range(4000000).exists(b, a + b < 0))`,
	} {
		rs, err := packOf(t, attack, `spans.exists(s, s.name == "x")`)
		require.Error(t, err, name)
		require.Len(t, rs, 1, "%s: the others go on", name)
	}
}

// A rule that exceeds a limit on a trace gives an error there; the other rules of the trace, and the other traces,
// are judged.
func TestAttacksEndAtTheLimitAndTheOthersGoOn(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a trace of a million spans and a text of 100 MB")
	}
	rs, err := packOf(t,
		`spans.exists(s, s.name == "needle")`,
		`spans.exists(a, spans.exists(b, a.name == "needle" && a.id != b.id && b["k"] == a["k"]))`,
		`spans.exists(s, s["k"].matches("(a|aa|aaa|aaaa|aaaaa)*(b|bb|bbb)*c(d|e|f|g)*(x+x+)+y$"))`,
		`spans.exists(s, s["k"].lowerAscii().upperAscii().lowerAscii() == "x")`,
		`spans.map(a, spans.map(b, a.name + b.name)).size() < 0`,
	)
	require.NoError(t, err)
	const million = 1_000_000
	wide := make([]trace.Span, million)
	for i := range wide {
		wide[i].ID = trace.SpanID{0: 1, 5: byte(i >> 16), 6: byte(i >> 8), 7: byte(i)}
		wide[i].Name = "hay"
		wide[i].Start = trace.Time(i)
		wide[i].End = trace.Time(i)
	}
	wide[million/2].Name = "needle"
	long := []trace.Span{{ID: trace.SpanID{1}, Name: "needle", Attributes: trace.Attributes{{Key: "k", Value: trace.StringValue(strings.Repeat("a", 100<<20))}}}}
	small := func() []trace.Span {
		return []trace.Span{{ID: trace.SpanID{1}, Name: "needle"}, {ID: trace.SpanID{2}, Name: "hay"}}
	}
	b := columnar.NewBatch(columnar.Needs{Attributes: []columnar.AttributeKey{{Scope: columnar.ScopeAny, Key: "k"}}},
		trace.New(trace.ID{1}, small()), trace.New(trace.ID{2}, wide), trace.New(trace.ID{3}, long), trace.New(trace.ID{4}, small()))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	judge := engine.Compile(rs).NewJudge()
	verdicts, err := judge.Batch(t.Context(), b, nil)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	t.Logf("%d MiB were allocated", (after.TotalAlloc-before.TotalAlloc)>>20)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<30))
	require.Equal(t, engine.Counts{Violation: 4}, verdicts.Counts[0], "the cheap rule is judged on all traces")
	require.Equal(t, 1, verdicts.Counts[1].Error, "a trillion pairs of spans are too many")
	require.Equal(t, 3, verdicts.Counts[1].NotApplicable)
	require.Equal(t, engine.Counts{NotApplicable: 4}, verdicts.Counts[2], "the time of a regular expression is linear")
	require.Equal(t, 4, verdicts.Counts[3].NotApplicable+verdicts.Counts[3].Error)
	require.Equal(t, 1, verdicts.Counts[4].Error)
	for _, f := range verdicts.Found {
		if f.Verdict.Outcome == rules.Error {
			require.Regexp(t, "over the limit|the evaluation was stopped", f.Verdict.Err.Error(), "rule %s", f.Verdict.Rule.ID)
		}
	}
}

// The limits of a rule are computed for each batch, independently of the batch before, and for each kind of long value.
func TestLimitsAreOfTheBatch(t *testing.T) {
	attribute := func(v string) trace.Attributes { return attributesOf(trace.StringValue(v)) }
	options := rules.Options{Sizes: lang.Sizes{Spans: 1000, Descendants: 10, Children: 10, Ancestors: 10, Events: 2, Links: 2, Attributes: 10, Text: 64, List: 10}}
	for of, set := range map[string]func(s *trace.Span, text string){
		`u.name`:            func(s *trace.Span, text string) { s.Name = text },
		`u.statusMessage`:   func(s *trace.Span, text string) { s.StatusMessage = text },
		`u.scope`:           func(s *trace.Span, text string) { s.Scope = text },
		`u.scopeVersion`:    func(s *trace.Span, text string) { s.ScopeVersion = text },
		`u.attributes["a"]`: func(s *trace.Span, text string) { s.Attributes = attribute(text) },
		`u.resource["a"]`:   func(s *trace.Span, text string) { s.Resource = attribute(text) },
		`e.name`:            func(s *trace.Span, text string) { s.Events = []trace.Event{{Name: text}} },
		`e.attributes["a"]`: func(s *trace.Span, text string) { s.Events = []trace.Event{{Attributes: attribute(text)}} },
		`l.attributes["a"]`: func(s *trace.Span, text string) { s.Links = []trace.Link{{Attributes: attribute(text)}} },
	} {
		t.Run(of, func(t *testing.T) {
			condition := of + `.matches("^(a|b|c|d)+$")`
			switch of[0] {
			case 'e':
				condition = "u.events.exists(e, " + condition + ")"
			case 'l':
				condition = "u.links.exists(l, " + condition + ")"
			}
			rs, err := packWith(t, options, `spans.exists(s, spans.exists(u, `+condition+` && u.id != s.id))`)
			require.NoError(t, err)
			batch := func(text string) *columnar.Batch {
				spans := make([]trace.Span, 200)
				for i := range spans {
					spans[i].ID = trace.SpanID{7: byte(i + 1)}
					spans[i].Events, spans[i].Links = make([]trace.Event, 1), make([]trace.Link, 1)
				}
				set(&spans[0], text)
				return columnar.NewBatch(rs[0].Needs(), trace.New(trace.ID{1}, spans))
			}
			judge := engine.Compile(rs).NewJudge()
			short, long := batch("x"), batch(strings.Repeat("x", 16<<20))
			for range 2 {
				v, err := judge.Batch(t.Context(), short, nil)
				require.NoError(t, err)
				require.Equal(t, []engine.Counts{{NotApplicable: 1}}, v.Counts)
				v, err = judge.Batch(t.Context(), long, nil)
				require.NoError(t, err)
				require.Equal(t, []engine.Counts{{Error: 1}}, v.Counts, "texts so long are too many to match 40,000 times")
			}
		})
	}
}

// Traces of any size are judged as the interpreter does, on both sides of a rule's limit.
func TestLimitsAreTheInterpreters(t *testing.T) {
	const matched = `.name.matches("^(a|b|c|d)+$")`
	rs, err := packWith(t, rules.Options{MaxCost: 1e5, Sizes: lang.Sizes{Spans: 2, Descendants: 2, Children: 2, Ancestors: 2, Events: 1, Links: 1, Attributes: 1, Text: 1, List: 1}},
		`spans.exists(s, s`+matched+`)`, `spans.exists(s, spans.exists(u, u`+matched+`))`, `spans.exists(s, s.ancestors().exists(u, u`+matched+`))`,
		`spans.exists(s, s.descendants().exists(u, u`+matched+`))`, `spans.exists(s, s.children.exists(u, u`+matched+`))`, `spans.exists(s, s.children.exists(u, s.ancestors().exists(v, v`+matched+`)))`)
	require.NoError(t, err)
	outcomes := make([]map[rules.Outcome]int, len(rs))
	for n := 1; n < 4000; n += 1 + n/6 {
		for name, parent := range map[string]func(i int) int{"chain": func(i int) int { return i - 1 }, "star": func(i int) int { return min(i-1, 0) }, "cycle": func(i int) int { return (i + n - 1) % n }} {
			for _, text := range []string{"x", strings.Repeat("x", 300_000), strings.Repeat("x", 5_000_000)} {
				spans := make([]trace.Span, n)
				for i := range spans {
					spans[i] = trace.Span{ID: trace.SpanID{6: byte((i + 1) >> 8), 7: byte(i + 1)}, Name: "x"}
					if p := parent(i); p >= 0 {
						spans[i].ParentID = trace.SpanID{6: byte((p + 1) >> 8), 7: byte(p + 1)}
					}
				}
				spans[0].Name = text
				b := columnar.NewBatch(rs[0].Needs(), trace.New(trace.ID{1}, spans))
				v, err := engine.Compile(rs).NewJudge().Batch(t.Context(), b, nil)
				require.NoError(t, err)
				for i, want := range analyzer.Judge(t.Context(), rs, b.Trace(0)) {
					if outcomes[i] == nil {
						outcomes[i] = map[rules.Outcome]int{}
					}
					outcomes[i][want.Outcome]++
					switch want.Outcome {
					case rules.NotApplicable:
						require.Equal(t, engine.Counts{NotApplicable: 1}, v.Counts[i], "rule %d, %s of %d, text of %d", i, name, n, len(text))
					default:
						require.Equal(t, engine.Counts{Error: 1}, v.Counts[i], "rule %d, %s of %d, text of %d", i, name, n, len(text))
					}
				}
			}
		}
	}
	for i, of := range outcomes {
		require.Positive(t, of[rules.NotApplicable], i)
		require.Positive(t, of[rules.Error], i)
	}
}

// The interpreter judges the traces beyond a rule's limit, and no others.
func TestOnlyTracesBeyondTheLimitAreTheInterpreters(t *testing.T) {
	rs, err := packWith(t, rules.Options{MaxCost: 1e5, Sizes: lang.Sizes{Spans: 2, Descendants: 2, Children: 2, Ancestors: 2, Events: 1, Links: 1, Attributes: 1, Text: 1, List: 1}},
		`spans.exists(s, spans.exists(u, u.name.matches("^(a|b|c|d)+$")))`)
	require.NoError(t, err)
	var traces []*trace.Trace
	for i := range 22 { // up to 1,024 spans, and down again
		spans := make([]trace.Span, 1<<min(i, 21-i))
		for k := range spans {
			spans[k] = trace.Span{ID: trace.SpanID{6: byte((k + 1) >> 8), 7: byte(k + 1)}, Name: "x"}
		}
		traces = append(traces, trace.New(trace.ID{byte(i + 1)}, spans))
	}
	for _, strip := range []int{1, 64, 1 << 20} {
		judge := engine.Compile(rs).NewJudge()
		judge.SetAny(rand.New(rand.NewPCG(1, 1)), strip)
		_, err = judge.Batch(t.Context(), columnar.NewBatch(rs[0].Needs(), traces...), nil)
		require.NoError(t, err)
		limit, beyond := judge.Limit(0), map[engine.Asked]bool{}
		for i, tr := range traces {
			if len(tr.Spans) > limit {
				beyond[engine.Asked{Trace: i}] = true
			}
		}
		require.NotEmpty(t, beyond, limit)
		require.Less(t, len(beyond), len(traces), limit)
		require.Equal(t, beyond, judge.Asked())
	}
}

// Conditions on ancestors take at most one step for each span in long chains, reversed chains and cycles. Otherwise each
// of these traces would take from seconds to hours.
func TestChainsAndCyclesAreWalkedOnce(t *testing.T) {
	id := func(i int) trace.SpanID { return trace.SpanID{3: 1, 5: byte(i >> 16), 6: byte(i >> 8), 7: byte(i)} }
	named := func(i int) trace.Span {
		s := trace.Span{ID: id(i), Name: "y", Kind: trace.KindServer, Start: trace.Time(i)}
		if i%64 == 63 {
			s.Name = "x"
		}
		return s
	}
	chain := func(n, step int) (spans []trace.Span) {
		for i := range n {
			s := named(i)
			s.ParentID = id(i + step)
			spans = append(spans, s)
		}
		return spans
	}
	cycle := func(at int) []trace.Span {
		a, b := named(2*at), named(2*at+1)
		a.ParentID, b.ParentID = b.ID, a.ID
		return []trace.Span{a, b}
	}
	const ancestors = `s.ancestors().exists(a, a.kind == "server" && a.ancestors().exists(b, b.kind == "client"))`
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, spans := range map[string]func(i int) []trace.Span{
		"short chains":          func(int) []trace.Span { return chain(1000, -1) },
		"short chains reversed": func(int) []trace.Span { return chain(1000, 1) },
		"long chain":            func(int) []trace.Span { return chain(64_000, -1) },
		"long chain reversed":   func(int) []trace.Span { return chain(64_000, 1) },
		"cycles":                cycle,
	} {
		rs, err := packOf(t,
			`spans.exists(s, s.name == "x" && `+ancestors+` && s.duration > duration("1s"))`,
			`spans.exists(s, s.name == "x" && `+ancestors+` && s.duration > duration("2s"))`,
			`spans.exists(s, s.name == "x" && s.children.exists(c, c.kind == "server" && c.ancestors().exists(b, b.kind == "client")))`,
			`spans.exists(s, s.kind == "server" && s.ancestors().exists(a, !has(a.parent) && a.kind == "client"))`,
			`spans.exists(s, s.name == "x" && s.ancestors().exists(a, a.kind == "client"))`,
		)
		require.NoError(t, err, name)
		if strings.HasPrefix(name, "long") { // the interpreter judges these traces, and takes long
			rs = rs[:2]
		}
		var traces []*trace.Trace
		for i, n := 0, 0; n < 64_000; i++ {
			of := spans(i)
			traces = append(traces, trace.New(trace.ID{12: 1, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}, of))
			n += len(of)
		}
		b := columnar.NewBatch(columnar.Needs{}, traces...)
		judge := engine.Compile(rs).NewJudge()
		v, err := judge.Batch(ctx, b, nil)
		require.NoError(t, err, name)
		for i, c := range v.Counts {
			require.Equal(t, len(traces), c.NotApplicable+c.Error, "%s, rule %d", name, i)
			if len(traces) > 1 {
				require.Zero(t, c.Error, "%s, rule %d", name, i)
			}
		}
	}
}
