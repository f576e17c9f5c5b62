package rules

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/traceql"
)

const examplePack = `apiVersion: betrace.dev/v1
kind: RulePack
metadata: {name: payments, version: 1.4.0}
rules:
  - id: charge-needs-fraud-check
    title: Charges above 1000 pass a fraud check
    severity: critical
    controls: [soc2:CC6.1, pci-dss:10.2]
    labels: {team: payments}
    traceql: '{ resource.service.name = "payment" }'
    when: spans.exists(s, s.name == "payment.charge_card" && s["amount"] > 1000)
    always: [ 'spans.exists(s, s.name == "payment.fraud_check")' ]
    never: [ 'spans.exists(s, s.name == "payment.bypass")' ]
    about: spans.filter(s, s.name == "payment.charge_card")
    message: '"charge of " + string(about[0]["amount"]) + " without a fraud check"'
    tests:
      - name: unchecked charge
        trace: [ {name: payment.charge_card, service: payment, attributes: {amount: 2500}} ]
        want: violation
        clause: always[0]
        about: [payment.charge_card]
        message: charge of 2500 without a fraud check
      - name: checked, but bypassed
        trace:
          - {name: payment.charge_card, service: payment, attributes: {amount: 2500.5}}
          - {name: payment.fraud_check}
          - {name: payment.bypass}
        want: violation
        clause: never[0]
      - name: checked
        trace: [ {name: payment.charge_card, service: payment, attributes: {amount: 2500}}, {name: payment.fraud_check} ]
        want: pass
      - name: small
        trace: [ {name: payment.charge_card, service: payment, attributes: {amount: 25}} ]
        want: not_applicable
      - name: of another service
        trace: [ {name: payment.charge_card, service: shop, attributes: {amount: 2500}} ]
        want: not_applicable
`

func parseOne(t *testing.T, rule string) (*Rule, error) {
	t.Helper()
	indented := "    " + strings.ReplaceAll(strings.TrimSpace(rule), "\n", "\n    ")
	pack, err := Parse("pack.yaml", []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules:\n  -\n    id: r\n    title: t\n    severity: low\n"+indented+"\n"), Options{})
	if err != nil {
		return nil, err
	}
	return pack.Rules[0], nil
}

func TestAPackIsReadWholeAndItsTestsPass(t *testing.T) {
	pack, err := Parse("payments.yaml", []byte(examplePack), Options{})
	require.NoError(t, err)
	require.Equal(t, "payments", pack.Name)
	require.Equal(t, "1.4.0", pack.Version)
	require.Len(t, pack.Digest, 64)
	require.Len(t, pack.Rules, 1)
	r := pack.Rules[0]
	require.Same(t, pack, r.Pack)
	require.Equal(t, Severity("critical"), r.Severity)
	require.Equal(t, []string{"soc2:CC6.1", "pci-dss:10.2"}, r.Controls)
	require.Equal(t, map[string]string{"team": "payments"}, r.Labels)
	results := r.RunTests(context.Background())
	require.Len(t, results, 5)
	for _, result := range results {
		require.NoError(t, result.Err)
	}
}

func TestARuleTestThatDoesNotHoldSaysWhatDiffers(t *testing.T) {
	pack, err := Parse("p.yaml", []byte(strings.NewReplacer("want: pass", "want: violation", "message: charge of 2500", "message: charge of 99", "clause: never[0]", "clause: never[7]").Replace(examplePack)), Options{})
	require.NoError(t, err)
	results := pack.Rules[0].RunTests(context.Background())
	require.ErrorContains(t, results[0].Err, `p.yaml:17: test "unchecked charge": message: have "charge of 2500 without a fraud check", want "charge of 99 without a fraud check"`)
	require.ErrorContains(t, results[1].Err, `clause: have "never[0]", want "never[7]"`)
	require.ErrorContains(t, results[2].Err, `outcome: have "pass", want "violation"`)
	require.NoError(t, results[3].Err)
	// about: [] requires that no spans are returned.
	pack, err = Parse("p.yaml", []byte(strings.Replace(examplePack, "about: [payment.charge_card]", "about: []", 1)), Options{})
	require.NoError(t, err)
	require.ErrorContains(t, pack.Rules[0].RunTests(context.Background())[0].Err, `about: have ["payment.charge_card"], want []`)
}

func TestTheDigestCoversWhatDecidesAndNothingElse(t *testing.T) {
	digest := func(pack string) string {
		p, err := Parse("p.yaml", []byte(pack), Options{})
		require.NoError(t, err)
		return p.Rules[0].Digest
	}
	base := digest(examplePack)
	require.Len(t, base, 64)
	for _, same := range []string{"critical", "Charges above 1000", "team: payments", `"charge of "`} {
		require.Equal(t, base, digest(strings.Replace(examplePack, same, map[string]string{"critical": "low", "Charges above 1000": "x", "team: payments": "a: b", `"charge of "`: `"c "`}[same], 1)), same)
	}
	for from, to := range map[string]string{`name = "payment"`: `name = "pay"`, "> 1000)": "> 1001)", `payment.fraud_check")' ]`: `payment.fraud_check") || true' ]`, `payment.bypass")' ]`: `payment.bypass2")' ]`} {
		require.NotEqual(t, base, digest(strings.Replace(examplePack, from, to, 1)), to)
	}
	// Moving strings between lists and clauses must change the digest.
	a, err := parseOne(t, "always: ['true']\nnever: []")
	require.NoError(t, err)
	b, err := parseOne(t, "always: []\nnever: ['true']")
	require.NoError(t, err)
	require.NotEqual(t, a.Digest, b.Digest)
}

func TestMistakesAreRefusedWithTheirPosition(t *testing.T) {
	for _, tt := range []struct{ name, rule, want string }{
		{"does not parse", `when: spans.exists(s, s.name == `, `pack.yaml:9:`},
		{"does not parse: message", `when: spans.exists(s, s.name == `, `rule "r": when: Syntax error`},
		{"unknown field", `when: spans.exists(s, s.nam == "x")`, `pack.yaml:9:28: rule "r": when: undefined field 'nam'`},
		{"unknown variable", `when: span.name == "x"`, `undeclared reference to 'span'`},
		{"unknown function", `when: spans.exists(s, s.name.foo())`, `undeclared reference to 'foo'`},
		{"types that do not fit", `when: spans.exists(s, s.name > 5)`, `no matching overload for '_>_'`},
		{"types never equal", `when: spans.exists(s, s.name == 5)`, `string is never equal to int`},
		{"types never equal, exchanged", `when: spans.exists(s, 5 != s.name)`, `int is never equal to string`},
		{"never in a list", `when: spans.exists(s, s.name in [1, 2])`, `string is never equal to int`},
		{"never in a typed list", `when: 5 in trace.services`, `int is never in list(string)`},
		{"in a string", `when: '"a" in trace.id'`, `in requires a list or a map on its right, have string`},
		{"lists never equal", `when: 'trace.services == [1]'`, `list(string) is never equal to list(int)`},
		{"a kind that does not exist", `when: spans.exists(s, s.kind == "servr")`, `unknown kind "servr": kinds are unspecified, internal, server`},
		{"a kind in a list", `when: spans.exists(s, s.kind in ["server", "x"])`, `unknown kind "x"`},
		{"a status that does not exist", `when: spans.exists(s, "failed" != s.status)`, `unknown status "failed"`},
		{"null", `when: spans.exists(s, s["a"] != null)`, `a comparison with null is always false: use has(`},
		{"a selection inside an attribute", `when: spans.exists(s, s.attributes.a.b == 1)`, `write the whole key in brackets`},
		{"a selection on an attribute", `when: spans.exists(s, s["a"].b == 1)`, `field "b" of an attribute's value cannot be selected`},
		{"no boolean", `when: spans.size()`, `want a boolean, have int`},
		{"no boolean in a clause", `always: [trace.id]`, `rule "r": always[0]: want a boolean, have string`},
		{"no boolean for &&", `when: trace.id && true`, `expected type 'bool' but found 'string'`},
		{"about is not a list of spans", "when: 'true'\nabout: trace.root", `about: want a list of spans, have Span`},
		{"message is not a string", "when: 'true'\nmessage: spans.size()", `message: want a string, have int`},
		{"about is defined in message only", "when: about.size() > 0", `undeclared reference to 'about'`},
		{"a bad regular expression", `when: spans.exists(s, s.name.matches("("))`, `bad regular expression: error parsing regexp`},
		{"a bad duration", `when: trace.duration > duration("5 minutes")`, `bad duration: time:`},
		{"a bad timestamp", `when: trace.start > timestamp("yesterday")`, `bad timestamp`},
		{"a field of an attribute, of an optional", `when: spans.exists(s, s[?"a"].b.hasValue())`, `write the whole key in brackets`},
		{"a message type", `when: google.protobuf.Int64Value{value:1} == 1`, `messages cannot be constructed`},
		{"bad TraceQL", `traceql: '{ .a = }'`, `pack.yaml:9:22: rule "r": traceql: TraceQL, line 1, column 8: want an attribute`},
		{"a pipeline", `traceql: '{ .a = 1 } | count() > 2'`, `a pipeline (|) is not supported`},
		{"an unknown key", "when: 'true'\nwhenn: 'true'", `pack.yaml:10:5: a rule: unknown key "whenn"; it has about, always`},
		{"a key twice", "when: 'true'\nwhen: 'true'", `"when"`},
		{"no condition", `description: x`, `the rule has no condition: want when, always, never or traceql`},
		{"empty", `when: ""`, `the expression is empty`},
		{"a list instead of a string", `when: [a]`, `want a string, have a list`},
		{"a string instead of a list", `always: 'true'`, `want a list, have "true"`},
		{"too long", `when: '"` + strings.Repeat("x", 20000) + `" == trace.id'`, `the expression has 20014 bytes, more than the limit of 16384`},
		{"too deep", `when: '` + strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300) + `'`, `recursion`},
		{"three nested quantifiers", `when: spans.exists(a, spans.exists(b, spans.exists(c, a.name == c.name)))`, `over the limit of 1e+11: nest fewer quantifiers`},
		{"a test without want", "when: 'true'\ntests: [{name: x, trace: [{name: a}]}]", `test "x": want is ""`},
		{"a test without trace", "when: 'true'\ntests: [{name: x, want: pass}]", `test "x": trace is missing`},
		{"a test's unknown key", "when: 'true'\ntests: [{name: x, want: pass, trace: [{nme: a}]}]", `a span: unknown key "nme"`},
		{"a test's bad duration", "when: 'true'\ntests: [{name: x, want: pass, trace: [{name: a, duration: long}]}]", `want a duration like 250ms`},
		{"a test's bad kind", "when: 'true'\ntests: [{name: x, want: pass, trace: [{name: a, kind: srv}]}]", `"srv" is not one of unspecified`},
		{"a test's bad link", "when: 'true'\ntests: [{name: x, want: pass, trace: [{name: a, links: [{spanId: zz}]}]}]", `span ID "zz"`},
		{"block scalar", "when: |\n  true &&\n    trace.idd == \"x\"", `pack.yaml:11:14: rule "r": when: undefined field 'idd'`},
		{"folded scalar", "when: >\n  true &&\n  trace.idd == \"x\"", `pack.yaml:11:12: rule "r": when: undefined field 'idd'`},
		{"folded scalar, an empty line and an indented one", "when: >-\n  true\n\n\n    && trace.idd == \"x\"", `pack.yaml:13:17: rule "r": when: undefined field 'idd'`},
		{"block scalar with an empty line", "when: |\n  true &&\n\n  trace.idd == \"x\"", `pack.yaml:12:12: rule "r": when: undefined field 'idd'`},
		{"plain scalar of several lines", "when: trace.id == \"ä\" &&\n\n     trace.idd == \"x\"", `pack.yaml:11:15: rule "r": when: undefined field 'idd'`},
		{"quoted scalar of several lines", "when: 'trace.id == \"it''s\" &&\n  trace.idd == \"x\"'", `pack.yaml:10:12: rule "r": when: undefined field 'idd'`},
		{"escaped scalar", `when: "trace.id == \"\u00e4\" && trace.idd == 1"`, `pack.yaml:9:43: rule "r": when: undefined field 'idd'`},
		{"escaped scalar with a continuation line", "when: \"trace.id == 'a' \\\n   && trace.idd == 1\"", `pack.yaml:10:16: rule "r": when: undefined field 'idd'`},
		{"TraceQL of several lines", "traceql: |\n  { name = \"a\"\n    && }", `pack.yaml:11:12: rule "r": traceql: TraceQL, line 2, column 6`},
		{"quoted scalar", "when: 'trace.idd == \"x\"'", `pack.yaml:9:17: rule "r": when: undefined field 'idd'`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseOne(t, tt.rule)
			require.ErrorContains(t, err, tt.want)
			var at *PositionError
			require.ErrorAs(t, err, &at)
		})
	}
}

func TestTwoNestedQuantifiersOverSpansPass(t *testing.T) {
	r, err := parseOne(t, `when: spans.exists(a, spans.exists(b, a.before(b) && a.name.matches("^charge.*") && b["http.route"] == "/x"))`)
	require.NoError(t, err)
	require.Greater(t, r.Cost(lang.DefaultSizes), 1e8)
}

func TestMistakesOfTheFile(t *testing.T) {
	head := "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\n"
	for _, tt := range []struct{ name, file, want string }{
		{"empty", "", "p.yaml:1:1: the file is empty"},
		{"not YAML", "a: [", "p.yaml:1:1: bad YAML:"},
		{"not YAML further down", "a: 1\nb: [\nc: {", "p.yaml:"},
		{"only a comment", "# later\n---\n", "p.yaml:1:1: the file is empty"},
		{"two documents", head + "rules: [{id: a, title: t, severity: low, when: 'true'}]\n---\n" + head, "p.yaml:6:1: a second YAML document: write each pack into its own file"},
		{"an alias within itself", head + "rules: [{id: a, title: t, severity: low, when: 'true', tests: [{name: n, want: pass, trace: [{attributes: &a {x: *a}}]}]}]\n", "p.yaml:4:114: the alias *a refers to a node that contains it"},
		{"aliases that repeat too much", "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e]\n", "its aliases repeat more than 100000 nodes"},
		{"a label twice", head + "rules: [{id: a, title: t, severity: low, when: 'true', labels: {a: x, a: y}}]\n", `p.yaml:4:71: the key "a" is repeated`},
		{"an attribute twice", head + "rules: [{id: a, title: t, severity: low, when: 'true', tests: [{name: n, want: pass, trace: [{attributes: {k: 1, k: 2}}]}]}]\n", `p.yaml:4:114: the key "k" is repeated`},
		{"another kind", "apiVersion: v1\nkind: Pod\n", `want apiVersion: betrace.dev/v1 and kind: RulePack, have "v1" and "Pod"`},
		{"a list", "- 1", "a pack: want keys and values, have a list"},
		{"no metadata", "apiVersion: betrace.dev/v1\nkind: RulePack\n", "metadata is missing"},
		{"no name", "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {version: 1}\n", `name is ""`},
		{"no rules", "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\n", "the pack has no rules"},
		{"unknown key", "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrulez: []\n", `p.yaml:4:1: a pack: unknown key "rulez"`},
		{"no id", "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{title: x}]\n", `p.yaml:4:9: rule "": want an id of a-z, 0-9 and -`},
		{"bad id", "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{id: A_b}]\n", `rule "A_b": want an id`},
		{"no severity, no title", "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{id: a, when: 'true'}]\n", "title is missing"},
		{"bad severity", "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{id: a, title: t, severity: bad, when: 'true'}]\n", `severity is "bad": want critical, high`},
	} {
		_, err := Parse("p.yaml", []byte(tt.file), Options{})
		require.ErrorContains(t, err, tt.want, tt.name)
	}
}

func TestSeparatorsAndAliasesThatAreRightAreRead(t *testing.T) {
	pack, err := Parse("p.yaml", []byte(`---
apiVersion: betrace.dev/v1
kind: RulePack
metadata: {name: p}
rules:
  - id: r
    title: t
    severity: low
    never: ['spans.exists(s, s["k"] == 1)']
    tests:
      - {name: one, want: violation, trace: [{name: a, attributes: &k {k: 1}}, {name: b, attributes: *k}]}
---
`), Options{})
	require.NoError(t, err)
	require.NoError(t, pack.Rules[0].RunTests(context.Background())[0].Err)
}

func TestARefusedRuleDoesNotKeepTheOthersFromLoading(t *testing.T) {
	pack, err := Parse("p.yaml", []byte(`apiVersion: betrace.dev/v1
kind: RulePack
metadata: {name: p}
rules:
  - {id: good, title: t, severity: low, when: 'true'}
  - {id: bad, title: t, severity: low, when: trace.zzz == "x"}
  - {id: good, title: again, severity: low, when: 'true'}
  - {id: last, title: t, severity: low, when: 'true'}
`), Options{})
	require.ErrorContains(t, err, `p.yaml:6:51: rule "bad": when: undefined field 'zzz'`)
	require.ErrorContains(t, err, `p.yaml:7:5: rule "good": the ID is already used on line 5`)
	var ids []string
	for _, r := range pack.Rules {
		ids = append(ids, r.ID)
	}
	require.Equal(t, []string{"good", "last"}, ids)
}

func TestLoadReadsFilesAndFolders(t *testing.T) {
	dir := t.TempDir()
	write := func(name, pack string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: "+pack+"}\nrules:\n  - {id: r, title: t, severity: low, when: 'true'}\n"), 0o644))
		return path
	}
	a := write("a.yaml", "a")
	write("sub/b.yml", "b")
	write("notes.txt", "c")
	packs, err := Load([]string{dir, a}, Options{})
	require.NoError(t, err)
	require.Len(t, packs, 2)
	write("again.yaml", "a")
	_, err = Load([]string{dir}, Options{})
	require.ErrorContains(t, err, `the pack "a" is also in`)
	_, err = Load([]string{filepath.Join(dir, "missing.yaml")}, Options{})
	require.ErrorContains(t, err, "missing.yaml")
	_, err = Load([]string{t.TempDir()}, Options{})
	require.ErrorContains(t, err, "no .yaml or .yml file in")
}

func TestJudgeGivesTheVerdictOfTheTable(t *testing.T) {
	const fails, yes, no = "1 / (spans.size() - spans.size()) == 1", "trace.root.name == 'a'", "trace.root.name == 'b'"
	for _, tt := range []struct {
		name, rule string
		want       Outcome
		clause     string
	}{
		{"when alone", `when: "` + yes + `"`, Violation, "when"},
		{"when false", `when: "` + no + `"`, NotApplicable, ""},
		{"when fails", "when: " + fails, Error, ""},
		{"traceql alone", `traceql: '{ name = "a" }'`, Violation, "when"},
		{"traceql does not match", `traceql: '{ name = "b" }'`, NotApplicable, ""},
		{"traceql does not match, when fails", "traceql: '{ name = \"b\" }'\nwhen: " + fails, NotApplicable, ""},
		{"all hold", `always: ["` + yes + `", "` + yes + `"]` + "\n" + `never: ["` + no + `"]`, Pass, ""},
		{"always broken", `always: ["` + yes + `", "` + no + `"]` + "\n" + `never: ["` + yes + `"]`, Violation, "always[1]"},
		{"never broken", `always: ["` + yes + `"]` + "\n" + `never: ["` + no + `", "` + yes + `"]`, Violation, "never[1]"},
		{"a clause fails", `always: ["` + yes + `", "` + fails + `"]`, Error, ""},
		{"a broken clause takes precedence over a failed one before it", `always: ["` + fails + `", "` + no + `"]`, Violation, "always[1]"},
		{"a broken clause takes precedence over a failed one after it", `always: ["` + no + `", "` + fails + `"]`, Violation, "always[0]"},
		{"absent in always", `always: ['spans[0]["zzz"] == 1']`, Violation, "always[0]"},
		{"absent in never", `never: ['spans[0]["zzz"] == 1']`, Pass, ""},
		{"an attribute as a clause", `always: ['spans[0]["flag"]']`, Pass, ""},
		{"a string as a clause", `always: ['spans[0]["text"]']`, Violation, "always[0]"},
		{"when false hides clauses", `when: "` + no + `"` + "\n" + `always: ["` + fails + `"]`, NotApplicable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseOne(t, tt.rule+"\ntests: [{name: x, want: "+tt.want.String()+", trace: [{name: a, attributes: {flag: true, text: x}}]}]")
			require.NoError(t, err)
			result := r.RunTests(context.Background())[0]
			require.NoError(t, result.Err)
			require.Equal(t, tt.clause, result.Verdict.Clause)
			require.Equal(t, tt.want == Error, result.Verdict.Err != nil)
		})
	}
}

func TestMessageAndAboutNeverChangeThatItIsAViolation(t *testing.T) {
	const test = "\ntests: [{name: x, want: violation, trace: [{name: a}, {name: b}]}]"
	for _, tt := range []struct {
		name, rule, message string
		about               []int
	}{
		{"neither", `when: 'true'`, "t", nil},
		{"both", "when: 'true'\nabout: spans\nmessage: 'about[1].name'", "b", []int{0, 1}},
		{"the message fails", "when: 'true'\nmessage: 'about[1].name'", "t", nil},
		{"the message is absent", "when: 'true'\nmessage: 'spans[0][\"zzz\"]'", "t", nil},
		{"the message is a number", "when: 'true'\nmessage: 'dyn(1)'", "t", nil},
		{"about fails", "when: 'true'\nabout: '[spans[7]]'", "t", nil},
		{"about holds absent spans and one twice", "when: 'true'\nabout: '[spans[1], spans[0].parent, spans[1]]'", "t", []int{1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseOne(t, tt.rule+test)
			require.NoError(t, err)
			v := r.RunTests(context.Background())[0].Verdict
			require.Equal(t, Violation, v.Outcome)
			require.Equal(t, tt.message, v.Message)
			require.Equal(t, tt.about, v.About)
		})
	}
}

func TestARuleOverItsLimitOnATraceGivesAnError(t *testing.T) {
	pack, err := Parse("p.yaml", []byte(examplePack), Options{})
	require.NoError(t, err)
	r := pack.Rules[0]
	r.limit = 10
	v := r.Judge(context.Background(), r.Tests[0].Trace)
	require.Equal(t, Error, v.Outcome)
	require.ErrorContains(t, v.Err, "rule charge-needs-fraud-check: cost:")
}

func TestOnlyWhatIsEvaluatedHasToBeWithinTheCostLimit(t *testing.T) {
	text := strings.Repeat("x", 4000)
	spans := make([]trace.Span, 50)
	for i := range spans {
		spans[i] = trace.Span{ID: trace.SpanID{7: byte(i + 1)}, Name: "op"}
	}
	spans[0].Attributes, _ = trace.NewAttributes([]trace.Attribute{{Key: "k", Value: trace.StringValue(text)}})
	tr := trace.New(trace.ID{1}, spans)
	quadratic := `spans.exists(a, spans.exists(b, a.name == b.name))`
	for name, tt := range map[string]struct {
		rule string
		want Outcome
		err  string
	}{
		"a clause that costs too much":                  {"never: ['" + quadratic + "']", Error, "rule r: cost: "},
		"when costs too much":                           {"when: '" + quadratic + "'", Error, "rule r: cost: "},
		"the rule does not apply":                       {"when: 'spans.exists(s, s.name == \"other\")', never: ['" + quadratic + "']", NotApplicable, ""},
		"traceql does not match":                        {"traceql: '{ name = \"other\" }', never: ['" + quadratic + "']", NotApplicable, ""},
		"the message costs too much":                    {"never: ['spans.exists(s, s.name == \"op\")'], message: '" + quadratic + ` ? "a" : "b"'`, Violation, ""},
		"about costs too much":                          {"never: ['spans.exists(s, s.name == \"op\")'], about: 'spans.filter(s, " + quadratic + ")'", Violation, ""},
		"strings are joined as often as in the message": {`never: ['spans.exists(s, s.name == "op")'], message: 'string(spans[0]["k"]) + string(spans[0]["k"]) + string(spans[0]["k"]) + "." + string(spans[0]["k"])'`, Violation, ""},
	} {
		pack, err := Parse("p.yaml", []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules:\n  - {id: r, title: title, severity: low, "+tt.rule+"}\n"),
			Options{MaxCost: 30_000, Sizes: lang.Sizes{Spans: 2, Text: 10}})
		require.NoError(t, err, name)
		v := pack.Rules[0].Judge(t.Context(), tr)
		require.Equal(t, tt.want, v.Outcome, "%s: %v", name, v.Err)
		if tt.err != "" {
			require.ErrorContains(t, v.Err, tt.err, name)
		}
		if tt.want == Violation && name != "strings are joined as often as in the message" {
			require.Equal(t, "title", v.Message, name)
			require.Empty(t, v.About, name)
		}
		if name == "strings are joined as often as in the message" {
			require.Equal(t, text+text+text+"."+text, v.Message)
		}
	}
}

func TestAContextThatEndsEndsTheEvaluation(t *testing.T) {
	r, err := parseOne(t, "when: lists.range(3000).exists(a, lists.range(3000).exists(b, a + b < 0))\ntests: [{name: x, want: violation, trace: [{name: a}]}]")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	v := r.Judge(ctx, r.Tests[0].Trace)
	require.Equal(t, Error, v.Outcome)
	require.ErrorIs(t, v.Err, context.Canceled)
}

func TestNeedsNameWhatIsRead(t *testing.T) {
	for _, tt := range []struct {
		rule, want string
		whole      []traceql.Scope
	}{
		{`when: spans.exists(s, s["a"] == 1 && s.attributes.b == 2 && s.resource["c.d"] == 3)`, `.a span.b resource.c.d`, nil},
		{`when: spans.exists(s, has(s.attributes.b) && "c" in s.attributes && s.attributes[?"d"].hasValue() && s[?"e"].hasValue() && s.?attributes.?f.hasValue())`, `.e`, []traceql.Scope{traceql.ScopeSpan, traceql.ScopeEvent, traceql.ScopeLink}},
		{`when: spans.exists(s, s.service == "x") && "y" in trace.services`, `resource.service.name`, nil},
		{`when: '"y" in trace.services'`, `resource.service.name`, nil},
		{`when: spans.exists(s, s.service == "x")`, `resource.service.name`, nil},
		{`when: spans.exists(s, s.events.exists(e, e.attributes["k"] == 1) && s.links.exists(l, l.attributes.m == 1))`, `event.k link.m`, nil},
		{`when: spans.exists(s, s.attributes.exists(k, k.startsWith("x")))`, ``, []traceql.Scope{traceql.ScopeSpan}},
		{`when: spans.exists(s, dyn(s)["a"] == 1 && s["m"]["b"] == 2)`, `.a .b .m`, nil},
		{`when: spans.exists(s, s["m"][s.name] == 1)`, ``, []traceql.Scope{traceql.ScopeAny}},
		{`when: spans.exists(s, s[s.name] == 1)`, ``, []traceql.Scope{traceql.ScopeAny}},
		{"when: 'true'\nabout: spans.filter(s, s[\"a\"] == 1)\nmessage: string(about[0][\"b\"])", `.a .b`, nil},
		{`traceql: '{ span.x = 1 && name = "y" && duration > 1s }'`, `span.x`, nil},
		// The owner of an attribute is read too.
		{`when: spans.filter(s, s["a"] == 1)[0]["b"] == 2`, `.a .b`, nil},
		{`when: spans.filter(s, s["a"] == 1)[0].attributes.b == 2`, `.a span.b`, nil},
		{`when: spans.filter(s, s["a"] == 1)[0].attributes.exists(k, k == "x")`, `.a`, []traceql.Scope{traceql.ScopeSpan}},
		{`when: '"c" in spans.filter(s, s["a"] == 1)[0].resource'`, `.a resource.c`, nil},
		// Selecting from an optional reads the same as selecting from its value.
		{`when: spans.exists(s, s.?parent.attributes["a"].orValue(0) == 1 && has(s.?parent.resource.b))`, `span.a resource.b`, nil},
		{`when: spans.exists(s, s.?parent.attributes.orValue({}).size() == 1)`, ``, []traceql.Scope{traceql.ScopeSpan}},
		{`when: spans.first().service.orValue("") == "x" && spans.first().events.hasValue()`, `resource.service.name`, nil},
		{`when: spans.exists(s, s[?"m"]["b"].orValue(0) == 1)`, `.b .m`, nil},
	} {
		r, err := parseOne(t, tt.rule)
		require.NoError(t, err, tt.rule)
		needs := r.Needs()
		var have []string
		for _, f := range needs.Attributes {
			have = append(have, strings.TrimSuffix(strings.TrimPrefix(traceql.MustNew(traceql.Compare(traceql.Field(f), traceql.OpNotEqual, traceql.Nil)).String(), "{ "), " != nil }"))
		}
		require.Equal(t, tt.want, strings.Join(have, " "), tt.rule)
		require.Equal(t, tt.whole, needs.Whole, tt.rule)
	}
}

func TestNeedsSayWhetherEventsAndLinksAreRead(t *testing.T) {
	for _, tt := range []struct {
		rule          string
		events, links bool
	}{
		{`when: spans.exists(s, s.name == "x" && s["events"] == 1)`, false, false},
		{`when: spans.exists(s, s.events.size() > 1)`, true, false},
		{`when: spans.exists(s, s.links.exists(l, l.traceId == trace.id))`, false, true},
		{`when: spans.exists(s, s.events[0].attributes.k == 1)`, true, false},
		{`when: spans.exists(s, s.?events.hasValue())`, true, false},
		{`when: spans.exists(s, s.?parent.events.hasValue())`, true, false},
		{`when: spans.exists(s, s.?parent.links[0].traceId.orValue("") == trace.id)`, false, true},
		{`when: spans.exists(s, s.?links.hasValue())`, false, true},
		{`traceql: '{ event:name = "x" }'`, true, false},
		{`traceql: '{ event.k = 1 }'`, true, false},
		{`traceql: '{ link.k = 1 }'`, false, true},
		{`traceql: '{ link:spanID = "0000000000000001" }'`, false, true},
	} {
		r, err := parseOne(t, tt.rule)
		require.NoError(t, err, tt.rule)
		needs := r.Needs()
		require.Equal(t, tt.events, needs.Events, tt.rule)
		require.Equal(t, tt.links, needs.Links, tt.rule)
	}
}

func TestPrefilterSaysWhatAFilterCanAndNoMore(t *testing.T) {
	for _, tt := range []struct{ rule, want string }{
		{`when: spans.exists(s, s.name == "a" && s["amount"] > 1000)`, `{ name = "a" && .amount > 1000 }`},
		{`when: spans.exists(s, "a" == s.name && 1000 < s["amount"])`, `{ name = "a" && .amount > 1000 }`},
		{`when: spans.exists(s, s.name == "a") && spans.exists(s, s.kind == "server")`, `{ name = "a" }`},
		{`when: spans.exists(s, s.kind != "server") && spans.exists(s, s.service == "pay")`, `{ resource.service.name = "pay" }`},
		{`when: spans.exists(s, s.name == "a") || spans.exists(s, s.status == "error")`, `{ name = "a" || status = error }`},
		{`when: spans.exists(s, s.name == "a") || trace.duration > duration("1s")`, `{ }`},
		{`when: count(spans, s, s.name == "a") > 2`, `{ name = "a" }`},
		{`when: count(spans, s, s.name == "a") < 2`, `{ }`},
		{`when: 2 <= count(spans, s, s.name == "a")`, `{ name = "a" }`},
		{`when: count(spans, s, s.name == "a") == 0`, `{ }`},
		{`when: count(spans, s, s.name == "a") >= 0`, `{ }`},
		{`when: -1 < count(spans, s, s.name == "a")`, `{ }`},
		{`when: spans.filter(s, s.name == "a").size() >= 0`, `{ }`},
		{`when: count(spans, s, s.name == "a") != 0`, `{ name = "a" }`},
		{`when: spans.filter(s, s.name == "a").size() >= 1`, `{ name = "a" }`},
		{`when: size(spans.filter(s, s.name == "a")) > 0`, `{ name = "a" }`},
		{`when: spans.filter(s, s.name == "a").exists(t, t["x"] == true)`, `{ name = "a" && .x = true }`},
		{`when: spans.exists_one(s, s.name == "a")`, `{ name = "a" }`},
		{`when: spans.all(s, s.name == "a")`, `{ }`},
		{`when: '!spans.exists(s, s.name == "a")'`, `{ }`},
		{`when: spans.exists(s, !(s.name == "a"))`, `{ }`},
		{`when: spans.exists(s, s.name == "a" && !(s["x"] == 1))`, `{ name = "a" }`},
		{`when: spans.exists(s, s.name in ["a", "b"])`, `{ name = "a" || name = "b" }`},
		{`when: spans.exists(s, s.name.startsWith("a.b"))`, `{ name =~ "a\\.b.*" }`},
		{`when: spans.exists(s, s.name.endsWith("b"))`, `{ name =~ ".*b" }`},
		{`when: spans.exists(s, s.name.contains("b"))`, `{ name =~ ".*b.*" }`},
		{`when: spans.exists(s, s.name.matches("^a|b$"))`, `{ name =~ ".*(?:^a|b$).*" }`},
		{`when: spans.exists(s, s.name.matches("a*"))`, `{ }`},
		{`when: spans.exists(s, s["a"].hasCardNumber())`, `{ .a =~ ".*(?:[0-9]{4}[ -]?[0-9]{4}).*" }`},
		{`when: spans.exists(s, !s["a"].hasCardNumber())`, `{ }`},
		{`when: spans.exists(s, s["flag"])`, `{ .flag = true }`},
		{`when: spans.exists(s, has(s.attributes.x) && "y.z" in s.resource)`, `{ span.x != nil && resource.y.z != nil }`},
		{`when: spans.exists(s, s.attributes["a"] != "x")`, `{ span.a != "x" }`},
		// Parts that are never sent to Tempo do not count.
		{`when: spans.exists(s, has(s.attributes.x) && has(s.attributes.y) && has(s.attributes.z)) && spans.exists(s, s.kind == "server")`, `{ kind = server }`},
		{`when: spans.exists(s, s.events.exists(e, e.attributes["k"] == "v")) && spans.exists(s, s.status == "error")`, `{ status = error }`},
		{`when: spans.exists(s, s.service != "x")`, `{ }`},
		{`when: spans.exists(s, s.service == "")`, `{ }`},
		{`when: spans.exists(s, s.statusMessage == "")`, `{ }`},
		{`when: spans.exists(s, s.duration > duration("1s"))`, `{ duration > 1s }`},
		{`when: spans.exists(s, s.events.exists(e, e.name == "exception" && e.attributes["exception.type"] == "T"))`, `{ event:name = "exception" && event.exception.type = "T" }`},
		{`when: spans.exists(s, s.parent.name == "a")`, `{ }`},
		{`when: spans.exists(s, s.name == "a" && s.ancestors().exists(t, t.name == "b"))`, `{ name = "a" }`},
		{`when: spans.exists(a, spans.exists(b, b.name == "x" && a.before(b)))`, `{ }`},
		{`when: trace.root.name == "a"`, `{ }`},
		{`when: '"pay" in trace.services'`, `{ resource.service.name = "pay" }`},
		{`when: spans.exists(s, s["a"] == 1u)`, `{ .a = 1 }`},
		{`when: spans.exists(s, s.name == "a" && int(s["x"]) > 5)`, `{ }`},
		{`when: spans.exists(s, s.name == "a" && s["x"] + 1 > 5)`, `{ }`},
		{`when: spans[0].name == "a"`, `{ }`},
		{"traceql: '{ name = \"b\" }'\nwhen: spans.exists(s, s[\"x\"] > 5)", `{ name = "b" }`},
		{"traceql: '{ .x > 5 }'\nwhen: spans.exists(s, s.name == \"a\")", `{ name = "a" }`},
		{`always: ['spans.exists(s, s.name == "a")']`, `{ }`},
	} {
		r, err := parseOne(t, tt.rule)
		require.NoError(t, err, tt.rule)
		require.Equal(t, tt.want, r.Prefilter().String(), tt.rule)
	}
}
