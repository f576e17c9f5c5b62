package rules

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

func semconvPack(semconv, rule string) string {
	return "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\n" + semconv + "rules:\n  - {id: r, title: t, severity: low, " + rule + "}\n"
}

func parseSemconv(t *testing.T, semconv, rule string) *Rule {
	t.Helper()
	pack, err := Parse("p.yaml", []byte(semconvPack(semconv, rule)), Options{})
	require.NoError(t, err)
	return pack.Rules[0]
}

const testAliases = "semconv: {aliases: {url.full: [http.url, url], n: [m]}}\n"

func spanWith(attributes, resource map[string]trace.Value) *trace.Trace {
	list := func(m map[string]trace.Value) trace.Attributes {
		var as trace.Attributes
		for key, v := range m {
			as = append(as, trace.Attribute{Key: key, Value: v})
		}
		normal, _ := trace.NewAttributes(as)
		return normal
	}
	s := trace.Span{ID: trace.SpanID{7: 1}, Name: "s", Start: 1, End: 2, Attributes: list(attributes), Resource: list(resource)}
	s.Events = []trace.Event{{Time: 1, Name: "e", Attributes: s.Attributes}}
	s.Links = []trace.Link{{TraceID: trace.ID{15: 1}, Attributes: s.Attributes}}
	return trace.New(trace.ID{15: 2}, []trace.Span{s})
}

// Each set of attributes is read as if the first name that is present had been renamed to the key.
func TestTheFirstNameThatIsPresentIsRead(t *testing.T) {
	s, i := trace.StringValue, trace.IntValue
	type values = map[string]trace.Value
	for _, tt := range []struct {
		attributes, resource values
		when                 string
		want                 bool
	}{
		{values{"url.full": s("new"), "http.url": s("old")}, nil, `s["url.full"] == "new"`, true},
		{values{"http.url": s("old"), "url": s("oldest")}, nil, `s["url.full"] == "old"`, true},
		{values{"url": s("oldest")}, nil, `s["url.full"] == "oldest"`, true},
		{values{"http.url": s("old")}, values{"url.full": s("resource")}, `s["url.full"] == "old"`, true},
		{nil, values{"http.url": s("old")}, `s["url.full"] == "old"`, true},
		{values{"http.url": s("old")}, nil, `s.attributes["url.full"] == "old"`, true},
		{values{"http.url": s("old")}, nil, `s.resource["url.full"] == "old"`, false},
		{nil, values{"http.url": s("old")}, `s.resource["url.full"] == "old"`, true},
		{nil, values{"http.url": s("old")}, `s.attributes["url.full"] == "old"`, false},
		{values{"m": i(5)}, nil, `s.attributes.n == 5 && has(s.attributes.n) && "n" in s.attributes`, true},
		{values{"n": s("5"), "m": i(5)}, nil, `s.attributes.n == 5`, false},
		{values{"m": i(5)}, nil, `has(s.resource.n) || "n" in s.resource`, false},
		{values{"m": i(5)}, nil, `s.attributes[?"n"].orValue(0) == 5 && s.attributes.?n.orValue(0) == 5 && s[?"n"].orValue(0) == 5`, true},
		{values{"m": i(5)}, nil, `optional.of(s.attributes)["n"].orValue(0) == 5 || s[?"n"].hasValue()`, true},
		{values{"m": i(5)}, nil, `dyn(s)["n"] == 5`, true},
		{values{"m": i(5)}, nil, `s.events.exists(e, e.attributes["n"] == 5) && s.links.exists(l, l.attributes.n == 5)`, true},
		{values{"m": i(5)}, nil, `s["m"] == 5 && s.attributes.m == 5`, true},
		{values{"n": i(5)}, nil, `s["m"] == 5`, false},
		{values{"m": i(5)}, nil, `["n", "x"].exists(k, s[k] == 5 && k in s.attributes)`, true},
		{values{"m": i(5)}, nil, `s.attributes["" + "n"] == 5 || s.attributes.exists(k, k == "x")`, true},
		// The keys of a set of attributes are those that were sent. A key that is not a literal in the
		// expression has one name, and so have keys within an attribute's value.
		{values{"m": i(5)}, nil, `s.attributes.exists(k, k == "n")`, false},
		{values{"m": i(5), "key": s("n")}, nil, `s[s["key"]] == 5`, false},
		{values{"m": i(5)}, nil, `"n" in s.attributes.map(k, k)`, false},
		{values{"map": trace.MapValue(trace.Attributes{{Key: "m", Value: i(5)}})}, nil, `s["map"]["n"] == 5`, false},
	} {
		name := fmt.Sprintf("%v %v %s", tt.attributes, tt.resource, tt.when)
		r := parseSemconv(t, testAliases, "when: '"+`spans.exists(s, `+tt.when+`)`+"'")
		tr := spanWith(tt.attributes, tt.resource)
		require.Equal(t, tt.want, r.Judge(t.Context(), tr).Outcome == Violation, name)
		if tt.want {
			require.True(t, r.Prefilter().Matches(tr), "%s: %s", name, r.Prefilter())
		}
	}
}

func TestNeedsPrefilterAndTraceQLFollowTheAliases(t *testing.T) {
	r := parseSemconv(t, testAliases, `traceql: '{ span.n > 5 }', when: 'spans.exists(s, s.name == "x" && s.attributes["url.full"] == "a")'`)
	require.Equal(t, lang.Aliases{"url.full": {"http.url", "url"}, "n": {"m"}}, r.Aliases)
	needs := r.Needs()
	require.Equal(t, []string{"http.url", "m", "n", "url", "url.full"}, needs.Keys(columnar.ScopeSpan))
	require.Empty(t, needs.Keys(columnar.ScopeResource))
	require.Equal(t, `{ span.n > 5 || (span.n = nil && span.m > 5) }`, r.TraceQL.String())
	r = parseSemconv(t, testAliases, `when: 'spans.exists(s, s.name == "x" && s["n"] == 3)'`)
	require.Equal(t, `{ name = "x" && (.n = 3 || .m = 3) }`, r.Prefilter().String())
	r = parseSemconv(t, testAliases, `when: 'spans.exists(s, s.attributes["url.full"].startsWith("a") && "n" in s.resource)'`)
	require.Equal(t, `{ (span.url.full =~ "a.*" || span.http.url =~ "a.*" || span.url =~ "a.*") && (resource.n != nil || resource.m != nil) }`, r.Prefilter().String())
}

func TestTheDigestCoversTheAliasesThatARuleReads(t *testing.T) {
	digest := func(semconv, rule string) string { return parseSemconv(t, semconv, rule).Digest }
	const reads = `when: 'spans.exists(s, s["n"] == 1)'`
	plain := digest("", reads)
	require.Equal(t, plain, digest("semconv: {aliases: {other: [m]}}\n", reads))
	require.Equal(t, plain, digest("semconv: {include: otel}\n", reads))
	require.Equal(t, plain, digest("semconv: {aliases: {n: []}}\n", reads))
	seen := map[string]string{plain: "none"}
	for _, semconv := range []string{"{n: [m]}", "{n: [k]}", "{n: [m, k]}", "{n: [k, m]}"} {
		d := digest("semconv: {aliases: "+semconv+"}\n", reads)
		require.Empty(t, seen[d], semconv)
		seen[d] = semconv
		require.Equal(t, d, digest("semconv: {aliases: "+semconv[:len(semconv)-1]+", other: [x]}}\n", reads), "an alias that the rule does not read")
	}
	// The message of a violation does not affect the verdict.
	const says = `when: 'spans.exists(s, s["x"] == 1)', message: 'string(spans[0]["n"])'`
	require.Equal(t, digest("", says), digest(testAliases, says))
	require.Equal(t, lang.Aliases{"n": {"m"}}, parseSemconv(t, testAliases, says).Aliases)
	const traceQL = `traceql: '{ span.n = 1 }'`
	require.NotEqual(t, digest("", traceQL), digest(testAliases, traceQL))
	require.Equal(t, digest("", traceQL), digest("semconv: {include: otel}\n", traceQL))
}

func TestOwnListsReplaceTheIncludedOnes(t *testing.T) {
	r := parseSemconv(t, "semconv: {include: otel, aliases: {url.full: [my.url], db.query.text: [], extra: [old]}}\n",
		`when: 'spans.exists(s, s["url.full"] == s["db.query.text"] && s["extra"] == s["http.request.method"])'`)
	require.Equal(t, lang.Aliases{"url.full": {"my.url"}, "extra": {"old"}, "http.request.method": {"http.method"}}, r.Aliases)
}

func TestMistakesInAliasesAreRefusedWithTheirPlace(t *testing.T) {
	for _, tt := range []struct{ semconv, want string }{
		{`{include: otle}`, `p.yaml:4:20: semconv: include is "otle": want otel`},
		{`{alias: {}}`, `p.yaml:4:11: semconv: unknown key "alias"; it has aliases, include`},
		{`{aliases: [a]}`, `p.yaml:4:20: semconv: aliases: want a map`},
		{`{aliases: {a: b}}`, `p.yaml:4:24: semconv: want a list of the older names of "a"`},
		{`{aliases: {a: [b], a: [c]}}`, `p.yaml:4:29: semconv: the key "a" is listed twice, first on line 4`},
		{`{aliases: {a: [b, b]}}`, `p.yaml:4:28: semconv: "b" is listed twice as an older name of "a"`},
		{`{aliases: {a: [b, a]}}`, `p.yaml:4:28: semconv: "a" is listed as an older name of itself`},
		{`{aliases: {a: [""]}}`, `p.yaml:4:25: semconv: "" is not an attribute key`},
		{`{aliases: {"": [a]}}`, `p.yaml:4:21: semconv: "" is not an attribute key`},
		{`{aliases: {"a\0": [a]}}`, `is not an attribute key`},
		{`{aliases: {a: [null]}}`, `p.yaml:4:25: want a string, have nothing`},
		{`{aliases: {service.name: [app]}}`, `p.yaml:4:21: semconv: service.name has no other names`},
		{`{aliases: {app: [service.name]}}`, `p.yaml:4:27: semconv: service.name has no other names`},
		{`{aliases: {a: [b], b: [a]}}`, `p.yaml:4:21: semconv: "a" and "b" are older names of each other`},
		{`{aliases: {a: [b], b: [c]}}`, `p.yaml:4:21: semconv: "b", an older name of "a", has older names itself: list them for "a"`},
		{`{aliases: {a: [b], b: [c], c: [a]}}`, `has older names itself`},
		{`{include: otel, aliases: {http.url: [url.full]}}`, `p.yaml:4:36: semconv: "http.url" and "url.full" are older names of each other`},
		{`{include: otel, aliases: {http.url: [my.url]}}`, `p.yaml:4:36: semconv: "http.url", an older name of "url.full", has older names itself`},
	} {
		pack, err := Parse("p.yaml", []byte(semconvPack("semconv: "+tt.semconv+"\n", "when: 'true'")), Options{})
		require.ErrorContains(t, err, tt.want, tt.semconv)
		require.Nil(t, pack, tt.semconv)
	}
}

// An older name belongs to one attribute, and no name is both an older name and a key.
func TestTheIncludedTableIsConsistent(t *testing.T) {
	of := map[string]string{}
	for key, older := range lang.OTelAliases {
		require.NotEmpty(t, older, key)
		for _, name := range older {
			require.Empty(t, lang.OTelAliases[name], name)
			require.Empty(t, of[name], "%s is an older name of %s and of %s", name, key, of[name])
			of[name] = key
		}
	}
	require.Empty(t, of["http.target"])
	doc, err := os.ReadFile("../docs/rule-language.md")
	require.NoError(t, err)
	for key, older := range lang.OTelAliases {
		require.Contains(t, string(doc), "| `"+key+"` | `"+strings.Join(older, "`, `")+"` |\n")
	}
}
