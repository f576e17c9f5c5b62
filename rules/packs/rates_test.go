package packs_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

var (
	rateValues = flag.Int("rates.values", 5_000, "number of values of each kind in TestRulesTakeNoOtherValuesForWhatTheyLookFor")
	rateSeed   = flag.Uint64("rates.seed", 1, "seed of the values")
)

// A probe is a rule and a string attribute that determines whether one of the rule's tests is a
// violation. With the value "x" it is not a violation. Any value that makes it a violation matches the
// rule's pattern.
type probe struct {
	rule  *rules.Rule
	key   string
	test  *trace.Trace
	needs columnar.Needs
}

func (p probe) String() string { return p.rule.Pack.Name + "/" + p.rule.ID + " " + p.key }

// testedKeys returns the attributes in which a rule searches for a pattern or a card number, or all if it
// searches every attribute of a span.
func testedKeys(r *rules.Rule) (keys []string, all bool) {
	for _, x := range expressions(r) {
		ast.PreOrderVisit(x.Root(), ast.NewExprVisitor(func(e ast.Expr) {
			if e.Kind() != ast.CallKind || !e.AsCall().IsMemberFunction() {
				return
			}
			switch call := e.AsCall(); call.FunctionName() {
			case "matches":
				if call.Args()[0].AsLiteral() == types.String(".") {
					return // tests whether the string is empty
				}
			case lang.FunctionHasCardNumber:
			default:
				return
			}
			target := e.AsCall().Target()
			if a, _, ok := x.Attribute(target); ok {
				keys = append(keys, a.Key)
			}
			all = all || target.Kind() == ast.IdentKind
		}))
	}
	return keys, all
}

// probes returns the probes of all packs.
func probes(t *testing.T) []probe {
	t.Helper()
	var found []probe
	for _, pack := range load(t) {
		for _, r := range pack.Rules {
			keys, all := testedKeys(r)
			seen := map[string]bool{}
			for _, test := range r.Tests {
				if test.Want != rules.Violation {
					continue
				}
				for _, key := range textKeys(test.Trace) {
					if _, inText := texts[key]; seen[key] || !slices.Contains(keys, key) && !(all && inText) {
						continue
					}
					p := probe{r, key, test.Trace, r.Needs()}
					if r.Judge(t.Context(), p.trace(0, "x")).Outcome == rules.Violation {
						continue
					}
					seen[key] = true
					found = append(found, p)
				}
			}
		}
	}
	return found
}

// textKeys returns the keys of string attributes.
func textKeys(t *trace.Trace) []string {
	var keys []string
	add := func(as trace.Attributes) {
		for _, a := range as {
			if a.Value.Type() == trace.TypeString {
				keys = append(keys, a.Key)
			}
		}
	}
	for _, s := range t.Spans {
		add(s.Attributes)
		add(s.Resource)
		for _, e := range s.Events {
			add(e.Attributes)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// with returns the attributes with another string for a key, if the key exists.
func with(as trace.Attributes, key, text string) (trace.Attributes, bool) {
	i := slices.IndexFunc(as, func(a trace.Attribute) bool { return a.Key == key })
	if i < 0 {
		return as, false
	}
	as = slices.Clone(as)
	as[i].Value = trace.StringValue(text)
	return as, true
}

// trace returns the test's trace with the given strings as values of the attribute. Spans with the
// attribute are repeated for each string.
func (p probe) trace(id uint64, texts ...string) *trace.Trace {
	var spans []trace.Span
	for _, s := range p.test.Spans {
		for i, text := range texts {
			has, found := s, false
			if has.Attributes, found = with(s.Attributes, p.key, text); !found {
				has.Resource, found = with(s.Resource, p.key, text)
			}
			has.Events = slices.Clone(s.Events)
			for k := range has.Events {
				var inEvent bool
				has.Events[k].Attributes, inEvent = with(s.Events[k].Attributes, p.key, text)
				found = found || inEvent
			}
			if !found {
				spans = append(spans, s)
				break
			}
			if i > 0 {
				binary.BigEndian.PutUint64(has.ID[:], 1<<32+uint64(len(spans)))
			}
			spans = append(spans, has)
		}
	}
	var traceID trace.ID
	binary.BigEndian.PutUint64(traceID[8:], id+1)
	return trace.New(traceID, spans)
}

// texts are, by key, strings around the values of any kind. Without an entry the value is the whole
// string.
var texts = map[string]string{
	"url.full":          "https://api.example.com/items/$?page=2",
	"url.path":          "/items/$",
	"url.query":         "id=$&page=2",
	"http.route":        "/$",
	"db.query.text":     `UPDATE "items_$" SET a = ? WHERE b = $1 /*request $*/`,
	"exception.message": "request $ failed: no such item: $",
}

// text returns the attribute's string with a value in it.
func (p probe) text(k valueKind, value string) string {
	if form, ok := texts[p.key]; ok && k.only == "" {
		return strings.ReplaceAll(form, "$", value)
	}
	return value
}

// takes reports whether the attribute may contain a value of this kind.
func (p probe) takes(k valueKind) bool {
	switch p.key {
	case "server.address":
		return k.asAddress
	case "tls.server.not_after":
		return false // contains a time, and the rule fails on anything else
	}
	return k.only == "" || k.only == p.key
}

// groups are the numbers of strings in a trace. If a trace with many strings is not a violation, none of
// its strings is. Otherwise they are judged in smaller groups.
var groups = []int{256, 32, 4, 1}

// find returns the strings that are violations, each judged in a trace of its own.
func (p probe) find(t *testing.T, judge *engine.Judge, texts []string, groups []int) (found []string) {
	var traces []*trace.Trace
	for group := range slices.Chunk(texts, groups[0]) {
		traces = append(traces, p.trace(uint64(len(traces)), group...))
	}
	for _, i := range p.judge(t, judge, traces) {
		found = append(found, texts[i*groups[0]:min((i+1)*groups[0], len(texts))]...)
	}
	if len(groups) == 1 || len(found) == 0 {
		return found
	}
	return p.find(t, judge, found, groups[1:])
}

// judge returns the indices of traces that are violations.
func (p probe) judge(t *testing.T, judge *engine.Judge, traces []*trace.Trace) (found []int) {
	if len(traces) == 0 {
		return nil
	}
	verdicts, err := judge.Batch(t.Context(), columnar.NewBatch(p.needs, traces...), nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	for _, f := range verdicts.Found {
		if f.Verdict.Outcome != rules.Violation {
			t.Errorf("%s: %s", p, f.Verdict.Err)
		}
		found = append(found, f.Trace)
	}
	return found
}

// knownRate is a kind of values that a rule matches by mistake more often than once in 100,000, with the
// reason.
type knownRate struct {
	rule, kind string
	perMillion float64
	why        string
}

func TestRulesTakeNoOtherValuesForWhatTheyLookFor(t *testing.T) {
	n := *rateValues
	if testing.Short() {
		n = min(n, 1_000)
	}
	all := probes(t)
	for _, rule := range []string{"no-card-number-in-telemetry", "no-email-address-in-urls", "no-social-security-number-beside-phi", "query-texts-hold-no-values", "verification-code-is-not-stored",
		"outbound-http-is-encrypted", "outbound-traffic-leaves-by-the-proxy", "phi-goes-to-business-associates-only", "classified-data-goes-to-models-under-agreement"} {
		require.True(t, slices.ContainsFunc(all, func(p probe) bool { return p.rule.ID == rule }), "no test of %s depends on a string that the rule searches for", rule)
	}
	type cell struct{ probe, kind int }
	rates := map[cell]float64{}
	var mu sync.Mutex
	t.Run("kinds", func(t *testing.T) {
		for ki, k := range valueKinds {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				judges := make([]*engine.Judge, len(all))
				for i, p := range all {
					judges[i] = engine.Compile([]*rules.Rule{p.rule}).NewJudge()
					judges[i].Workers = 1
				}
				violations, examples := make([]int, len(all)), make([]string, len(all))
				v := &values{rand.New(rand.NewPCG(*rateSeed, uint64(ki)))}
				const chunk = 1 << 13
				made := make([]string, 0, chunk)
				held := make([]string, 0, chunk)
				for done := 0; done < n; done += len(made) {
					made = made[:0]
					for range min(chunk, n-done) {
						made = append(made, k.make(v))
					}
					for i, p := range all {
						if !p.takes(k) {
							continue
						}
						held = held[:0]
						for _, value := range made {
							held = append(held, p.text(k, value))
						}
						found := p.find(t, judges[i], held, groups)
						violations[i] += len(found)
						if len(found) > 0 {
							examples[i] = found[0]
						}
					}
				}
				mu.Lock()
				defer mu.Unlock()
				for i, p := range all {
					if !p.takes(k) {
						continue
					}
					rates[cell{i, ki}] = 1e6 * float64(violations[i]) / float64(n)
					if k.never && violations[i] > 0 {
						t.Errorf("%s: %d of %d are violations, such as %q", p, violations[i], n, examples[i])
					}
				}
			})
		}
	})
	for i, p := range all {
		t.Logf("%s", p)
		for ki, k := range valueKinds {
			rate, judged := rates[cell{i, ki}]
			if !judged {
				continue
			}
			t.Logf("    %10.1f of a million %s", rate, k.name)
			known, _ := rateOf(p.rule.ID, k.name)
			// Four standard deviations, of this count and of the recorded one.
			chance := 4 * (math.Sqrt(max(rate, known.perMillion, 10)*1e6/float64(n)) + math.Sqrt(max(known.perMillion, 10)))
			switch {
			case k.never || rate <= 10+chance && known == knownRate{}:
			case known == knownRate{}:
				t.Errorf("%s: %.0f of a million %s are violations: rates above 10 must be in knownRates, with a reason", p, rate, k.name)
			case math.Abs(rate-known.perMillion) > chance && p.key == keyOf(all, p.rule.ID):
				t.Errorf("%s: %.0f of a million %s are violations, but knownRates has %.0f", p, rate, k.name, known.perMillion)
			}
		}
	}
	for _, known := range knownRates {
		require.True(t, slices.ContainsFunc(all, func(p probe) bool { return p.rule.ID == known.rule }), "knownRates: no rule %s", known.rule)
		require.True(t, slices.ContainsFunc(valueKinds, func(k valueKind) bool { return k.name == known.kind && !k.never }), "knownRates: no kind %s", known.kind)
	}
}

func rateOf(rule, kind string) (knownRate, bool) {
	i := slices.IndexFunc(knownRates, func(k knownRate) bool { return k.rule == rule && k.kind == kind })
	if i < 0 {
		return knownRate{}, false
	}
	return knownRates[i], true
}

// keyOf returns the first attribute with which a rule is probed, which is the one that knownRates counts.
func keyOf(all []probe, rule string) string {
	return all[slices.IndexFunc(all, func(p probe) bool { return p.rule.ID == rule })].key
}

var knownRates = []knownRate{
	{"no-card-number-in-telemetry", "numbers of 16 digits", 23_230, "23% of the random values for the first four digits are an issuer's, and one number in ten passes the check."},
	{"no-card-number-in-telemetry", "order numbers", 934, "Some consist of 15 or 16 digits only. A letter or a hyphen before the digits would prevent the match."},
	{"no-card-number-in-telemetry", "hex strings of 16 digits", 13, "One in 1,845 has no letter and is a number of 16 digits. Values whose key ends in `span_id`, `SpanId` or the like are excluded."},
	{"no-card-number-in-telemetry", "integers of 64 bits", 13, "One in 2,000 has 16 digits."},
	{"no-social-security-number-beside-phi", "part numbers like 123-45-6789", 888_900, "The format is the same. All such numbers match, except those that are never issued."},
}

// rateTable returns the table for docs/packs.md.
func rateTable() string {
	var b strings.Builder
	b.WriteString("\n| rule | values | per million, about | reason |\n| --- | --- | --- | --- |\n")
	for _, k := range knownRates {
		fmt.Fprintf(&b, "| `%s` | %s | %.0f | %s |\n", k.rule, k.kind, k.perMillion, k.why)
	}
	b.WriteByte('\n')
	return b.String()
}
