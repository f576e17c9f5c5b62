package rulestest_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/rules/rulestest"
	"github.com/betracehq/betrace/trace"
)

func TestRulesVaryInTheirVerdicts(t *testing.T) {
	seeds := uint64(120)
	if testing.Short() {
		seeds = 30
	}
	var outcomes [4]int
	var cases, accepted, refused, varying int
	for seed := range seeds {
		g := rulestest.New(seed)
		rs := g.Rules(12)
		accepted += len(rs)
		refused += len(g.Refused)
		for i, err := range g.Refused {
			if testing.Verbose() && i < 2 {
				t.Log(err)
			}
		}
		var seen [12]map[rules.Outcome]bool
		for range 25 {
			tr := g.Trace(40)
			sizes := lang.SizesOf(tr)
			for i, r := range rs {
				v := r.JudgeSized(t.Context(), tr, sizes)
				outcomes[v.Outcome]++
				cases++
				if seen[i] == nil {
					seen[i] = map[rules.Outcome]bool{}
				}
				seen[i][v.Outcome] = true
			}
		}
		for _, s := range seen {
			if len(s) > 1 {
				varying++
			}
		}
	}
	share := func(n, of int) float64 { return float64(n) / float64(of) }
	for o, n := range outcomes {
		t.Logf("%-14s %.3f", rules.Outcome(o), share(n, cases))
	}
	t.Logf("%d cases, %.3f of the rules refused, %.3f with several outcomes", cases, share(refused, accepted+refused), share(varying, accepted))
	require.GreaterOrEqual(t, share(outcomes[rules.Pass], cases), 0.2, "pass")
	require.GreaterOrEqual(t, share(outcomes[rules.Violation], cases), 0.2, "violation")
	require.GreaterOrEqual(t, share(outcomes[rules.Error], cases), 0.01, "error")
	require.GreaterOrEqual(t, share(varying, accepted), 0.4, "share of rules with several outcomes")
	require.LessOrEqual(t, share(refused, accepted+refused), 0.09, "share of refused rules") // some fail on every trace
}

func TestASeedGivesTheSameRulesAndTraces(t *testing.T) {
	make := func() (texts []string) {
		g := rulestest.New(7)
		for _, r := range g.Rules(5) {
			texts = append(texts, rulestest.YAML(r))
		}
		for _, tr := range g.Traces(5, 30) {
			text, err := rulestest.JSON(tr)
			require.NoError(t, err)
			texts = append(texts, text)
		}
		return texts
	}
	require.Equal(t, make(), make())
}

func TestARuleIsReadAsItIsPrinted(t *testing.T) {
	g := rulestest.New(3)
	for _, r := range g.Rules(20) {
		again, err := rulestest.Parse(rulestest.YAML(r), g.Options())
		require.NoError(t, err)
		require.Equal(t, r.Digest, again[0].Digest)
		require.Equal(t, r.Message, again[0].Message)
	}
}

// constructs are constructs of the language, all of which must be generated.
const constructs = `.exists( .all( .exists_one( .existsOne( count( .filter( .map( has( cel.bind( .transformList( .transformMap(
.name .service .kind .status .statusMessage .scope .scopeVersion .id .start .end .duration .attributes .resource .events .links .parent .parent.parent
.children .ancestors() .descendants() .before( trace.id trace.start trace.end trace.duration trace.root trace.services .time .traceId .spanId
== != < <= > >= && || !( ? + - * / % in
.startsWith( .endsWith( .contains( .matches( size( .size() type( int( double( string( timestamp( duration( dyn(
.lowerAscii() .upperAscii() .trim() .substring( .charAt( .replace( .split( .join( .indexOf( .format( .reverse()
.distinct() .sort() .sortBy( .slice( .first() .last() sets.contains( sets.intersects( sets.equivalent(
math.greatest( math.least( math.abs( math.sign( math.ceil( math.floor( math.trunc( math.bitAnd( math.isNaN( math.isInf(
.getMilliseconds() .orValue( .or( .hasValue() [? .? attributes[" resource[" {" [0] 9007199254740993 18446744073709551615u double("NaN") -0.0
about[0] about.map( about.size() .?parent.name`

func TestRulesUseTheWholeLanguage(t *testing.T) {
	var all strings.Builder
	deepest, shadowed := 0, 0
	for seed := range uint64(300) {
		for _, r := range rulestest.New(seed).Rules(12) {
			for _, x := range append(append([]string{r.When, r.About, r.Message}, r.Always...), r.Never...) {
				all.WriteString(x + "\n")
				deepest = max(deepest, strings.Count(x, "exists("))
				if i := strings.Index(x, "exists(s, "); i >= 0 && strings.Contains(x[i:], "children.exists(s, ") {
					shadowed++
				}
			}
		}
	}
	for _, c := range strings.Fields(constructs) {
		if !strings.Contains(all.String(), c) {
			t.Errorf("no rule contains %s", c)
		}
	}
	require.GreaterOrEqual(t, deepest, 3)
	require.NotZero(t, shadowed)
}

func TestTracesHaveWhatHurts(t *testing.T) {
	types := map[trace.Type]int{}
	var flags trace.Flags
	found := map[string]int{}
	for seed := range uint64(40) {
		g := rulestest.New(seed)
		for _, tr := range g.Traces(30, 300) {
			flags |= tr.Flags
			note := func(what string, is bool) {
				if is {
					found[what]++
				}
			}
			note("no root", tr.Root() < 0)
			note("one span", len(tr.Spans) == 1)
			note("over 100 spans", len(tr.Spans) > 100)
			roots := 0
			ids := map[trace.SpanID]int{}
			for i := range tr.Spans {
				s := &tr.Spans[i]
				ids[s.ID]++
				if s.ParentID.IsZero() {
					roots++
				}
				p := tr.Parent(i)
				note("orphan", p < 0 && !s.ParentID.IsZero())
				note("own ancestor", slices.Contains(tr.Ancestors(i), int32(i)))
				note("before its parent", p > i)
				note("two halves", p >= 0 && tr.Spans[p].ID == s.ID && s.Kind == trace.KindServer)
				note("no service", s.Resource.Get(trace.ServiceName).IsAbsent())
				note("service no text", s.Service() == "" && !s.Resource.Get(trace.ServiceName).IsAbsent())
				note("unknown kind", s.Kind > trace.KindConsumer || s.Kind < 0)
				note("events", len(s.Events) > 0)
				note("links", len(s.Links) > 0)
				for _, a := range s.Attributes {
					types[a.Value.Type()]++
					r := s.Resource.Get(a.Key)
					note("another type on the resource", !r.IsAbsent() && r.Type() != a.Value.Type())
					note("no UTF-8", !utf8.ValidString(a.Value.Str()))
					note("NaN", math.IsNaN(a.Value.Double()))
				}
			}
			note("several roots", roots > 1)
			for _, n := range ids {
				note("shared ID", n > 1)
			}
		}
	}
	for _, what := range []string{"no root", "one span", "over 100 spans", "orphan", "own ancestor", "before its parent", "two halves", "no service", "service no text", "unknown kind", "events", "links",
		"another type on the resource", "no UTF-8", "NaN", "several roots", "shared ID"} {
		require.NotZero(t, found[what], what)
	}
	require.Equal(t, trace.FlagMerged|trace.FlagEndBeforeStart, flags)
	for typ := trace.TypeString; typ <= trace.TypeBytes; typ++ {
		require.NotZero(t, types[typ], typ)
	}
}

func TestShrinkLeavesWhatFails(t *testing.T) {
	rs, err := rulestest.Parse(`
apiVersion: betrace.dev/v1
kind: RulePack
metadata: {name: large}
rules:
  - id: large
    title: much that does not matter
    severity: low
    when: spans.size() > 0
    always: ['spans.all(s, s.name == "x" || (s.name == "a" && s.kind == "server"))', 'trace.services.size() > 0']
    never: ['spans.exists(s, (s.status == "error" || s["b"] == 1) && !(has(s.parent)))']
    about: spans
`, rules.Options{})
	require.NoError(t, err)
	small := rulestest.Shrink(rs[0], rules.Options{}, func(r *rules.Rule) bool { return len(r.Never) == 1 && strings.Contains(r.Never[0], `s["b"] == 1`) })
	require.Equal(t, []string{`spans.exists(s, s["b"] == 1)`}, small.Never)
	require.Empty(t, small.When+small.About)
	require.Empty(t, small.Always)
}
