package dsl

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules"
)

func importText(name, text string) Result {
	return Import([]File{{name, []byte(text)}}, Options{})
}

func texts(errs []error) string {
	var list []string
	for _, err := range errs {
		list = append(list, err.Error())
	}
	return strings.Join(list, "\n")
}

func TestYAMLBecomesAPack(t *testing.T) {
	r := importText("payments.yaml", `# Rules of payments
rules:
  - id: charge-needs-check
    name: "Charges: checked"
    description: |
      Discovered during an incident.
    severity: CRITICAL
    compliance_frameworks: [SOC2, soc2:CC6.1, PCI-DSS]
    tags: [payments, fraud]
    condition: |
      when { payment.charge.where(currency == USD) }
      always { payment.check }
    example_violation:
      description: Unchecked charge
      trace:
        - span: payment.charge
          attributes: {currency: USD, lines: ['1', 2, true]}
        - span: other
  - id: tagged
    severity: low
    enabled: true
    tags: {team: payments, on: call}
    condition: trace.has(bypass)
  - id: off
    enabled: false
    condition: this is not even a rule
`)
	require.Empty(t, texts(r.Errors))
	require.Equal(t, `payments.yaml:25:14: rule "off" is omitted, because it is disabled and packs have no disabled rules`, texts(r.Warnings))
	require.Equal(t, 1, r.Disabled)
	out, err := r.Pack("payments")
	require.NoError(t, err)
	require.Equal(t, `apiVersion: betrace.dev/v1
kind: RulePack
metadata:
  name: payments
rules:
  - id: charge-needs-check
    title: 'Charges: checked'
    description: |
      Discovered during an incident.
    severity: critical
    controls:
      - soc2:CC6.1
    labels:
      compliance_frameworks: SOC2, PCI-DSS
      tags: payments, fraud
    when: spans.exists(s, s.name == "payment.charge" && s.attributes["currency"] == "USD")
    always:
      - spans.exists(s, s.name == "payment.check")
    tests:
      - name: Unchecked charge
        trace:
          - name: payment.charge
            attributes:
              currency: USD
              lines:
                - "1"
                - 2
                - true
          - name: other
        want: violation
  - id: tagged
    title: tagged
    severity: low
    labels:
      "on": call
      team: payments
    when: spans.exists(s, s.name == "bypass")
`, string(out))
	pack, err := rules.Parse("payments.yaml", out, rules.Options{})
	require.NoError(t, err)
	for _, rule := range pack.Rules {
		for _, result := range rule.RunTests(t.Context()) {
			require.NoError(t, result.Err)
		}
	}
}

func TestJSONBecomesAPack(t *testing.T) {
	r := importText("rules", "[\n\t{\"id\": \"a\", \"name\": \"A \\ud83d\\ude00\", \"description\": \"\", \"dsl\": \"when { a.b == \\\"x\\\" }\", \"severity\": \"High\", \"enabled\": true},\n\t{\"id\": \"b\", \"dsl\": \"trace.has(b)\", \"severity\": \"low\", \"enabled\": false}\n]\n")
	require.Empty(t, texts(r.Errors))
	require.Equal(t, 1, r.Disabled)
	require.Len(t, r.Rules, 1)
	require.Equal(t, Rule{ID: "a", Title: "A 😀", Severity: "high", When: `spans.exists(s, s.name == "a" && s.attributes["b"] == "x")`}, r.Rules[0])
}

func TestATextBecomesARule(t *testing.T) {
	r := Import([]File{{"dir/no-bypass.dsl", []byte("// never\nwhen { a } never { bypass }\n")}}, Options{Severity: "medium"})
	require.Empty(t, texts(r.Errors))
	require.Equal(t, []Rule{{ID: "no-bypass", Title: "no-bypass", Severity: "medium", When: `spans.exists(s, s.name == "a")`, Never: []string{`spans.exists(s, s.name == "bypass")`}}}, r.Rules)
	r = Import([]File{{"a", []byte("when { a }")}, {"b", []byte("when {\n  a ! }")}}, Options{ID: "x"})
	require.Equal(t, `a:1:1: rule "x": severity is missing: use --severity critical, high, medium or low for rules without one
b:1:1: rule "x": the ID is already used at a:1
b:1:1: rule "x": severity is missing: use --severity critical, high, medium or low for rules without one
b:2:5: rule "x": "!" is not BeTraceDSL: write not, or !=`, texts(r.Errors))
	require.Equal(t, 2, r.Untranslated)
}

// A mistake in a DSL source is reported with its position in the file, whichever form of string the file
// uses. The other rules are translated.
func TestMistakesHaveAPlaceInTheFile(t *testing.T) {
	for _, test := range []struct{ name, file, text, errors, warnings string }{
		{"a block", "f.yaml", "rules:\n  - id: a\n    severity: low\n    condition: |\n      when { a }\n      always { b =  c }\n  - {id: b, severity: low, condition: 'trace.has(b)'}\n", `f.yaml:6:18: rule "a": "=" is not BeTraceDSL: write ==`, ""},
		{"a folded block", "f.yaml", "rules:\n  - id: a\n    severity: low\n    condition: >-\n      when { a }\n      always { b =  c }\n  - {id: b, severity: low, condition: 'trace.has(b)'}\n", `f.yaml:6:18: rule "a": "=" is not BeTraceDSL: write ==`, ""},
		{"quotes", "f.yaml", "rules:\n  - {id: a, severity: low, condition: \"when { a.b == \\\"é\\\" or \\u0061 =  c }\"}\n  - {id: b, severity: low, condition: 'trace.has(b)'}\n", `f.yaml:2:70: rule "a": "=" is not BeTraceDSL: write ==`, ""},
		{"JSON", "f.json", "[\n  {\"id\": \"a\", \"severity\": \"low\",\n   \"dsl\": \"when {\\n \\\"\\u0061\\\"}\"},\n  {\"id\": \"b\", \"severity\": \"low\", \"dsl\": \"trace.has(b)\"}\n]", `f.json:3:21: rule "a": unexpected string "a": expected a span's name, or count(…)`, ""},
		{"several mistakes", "f.yaml", `rules:
  - id: Not_An_Id
    severity: urgent
    colour: red
    condition: when { a.where(x == "" or y matches "(") }
  - {id: b, severity: low, condition: 'trace.has(b)'}
  - {id: b, severity: low, condition: 'trace.has(b)'}
  - {id: c, severity: low}
`, `f.yaml:4:5: a rule: unknown key "colour": use compliance_frameworks, condition, description, dsl, enabled, example_violation, id, name, severity, tags
f.yaml:2:9: rule "Not_An_Id": the ID is invalid: use letters a-z and digits, joined by -
f.yaml:3:15: rule "Not_An_Id": severity is "urgent": use critical, high, medium or low
f.yaml:5:36: rule "Not_An_Id": earlier versions differ on whether an absent attribute equals an empty string: write the rule in CEL, with "key" in s.attributes
f.yaml:5:52: rule "Not_An_Id": bad regular expression "(": error parsing regexp: missing closing ): ` + "`(`" + `
f.yaml:7:10: rule "b": the ID is already used at f.yaml:6
f.yaml:8:5: rule "c": condition (in JSON, dsl) is missing`, ""},
		{"an example that is none", "f.yaml", "rules:\n  - id: b\n    severity: low\n    condition: when { a } always { b }\n    example_violation:\n      description: D\n      trace: [{span: a}, {span: b}]\n", "",
			`f.yaml:6:7: rule "b": example_violation is omitted: its trace does not violate the rule: the outcome is pass`},
		{"an example that is more than spans", "f.yaml", "rules:\n  - id: b\n    severity: low\n    condition: when { a }\n    example_violation:\n      trace: [{span: a, kind: server}]\n", "",
			`f.yaml:6:15: rule "b": example_violation is omitted: a span: unknown key "kind": use attributes, span`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := importText(test.file, test.text)
			require.Equal(t, test.errors, texts(r.Errors))
			require.Equal(t, test.warnings, texts(r.Warnings))
			require.Equal(t, "b", r.Rules[0].ID)
			_, err := r.Pack("p")
			require.NoError(t, err)
		})
	}
}

func TestFilesThatAreNoRules(t *testing.T) {
	for _, test := range []struct{ file, text, want string }{
		{"f.yaml", "", "f.yaml:1:1: the file is empty"},
		{"f.yaml", "# nothing", "f.yaml:1:1: the file is empty"},
		{"f.yaml", "rules: [", "f.yaml:1:1: bad YAML: "},
		{"f.yaml", "rules: []", "f.yaml:1:8: there are no rules"},
		{"f.yaml", "rules: {}", "f.yaml:1:8: the file has no list of rules"},
		{"f.yaml", "rule: []", "f.yaml:1:1: rules is missing: write a list of rules"},
		{"f.yaml", "rules: [1]", "f.yaml:1:9: a rule: expected keys and values"},
		{"f.yaml", "rules: []\n---\nrules: []\n", "a second YAML document: split the file"},
		{"f", "apiVersion: betrace.dev/v1\nkind: RulePack\n", `f:1:1: apiVersion is "betrace.dev/v1": the file is already a pack`},
		{"f.json", "[\n {\"id\": }]", "f.json:2:9: bad JSON: invalid character '}'"},
		{"f.json", "[{\"id\": 1}", "f.json:1:11: bad JSON: unexpected EOF"},
		{"f.json", "[] []", "bad JSON: unexpected data after the list of rules"},
		{"f", "\xff", "f:1:1: the file is not UTF-8"},
	} {
		r := importText(test.file, test.text)
		require.Contains(t, texts(r.Errors), test.want, test.text)
		require.NotZero(t, r.Untranslated, test.text)
		_, err := r.Pack("p")
		require.EqualError(t, err, "no rule was translated, and a pack needs at least one")
	}
	r := importText("f", "when { a }")
	_, err := r.Pack("Not A Name")
	require.ErrorContains(t, err, `the name "Not A Name" of the pack`)
}

func TestATranslationThatIsRefusedIsSaid(t *testing.T) {
	text := "rules:\n- {id: a, severity: low, condition: 'when { a.x > 1 }'}"
	r := Import([]File{{"f.yaml", []byte(text)}}, Options{Rules: rules.Options{MaxCost: 10}})
	require.Contains(t, texts(r.Errors), `f.yaml:2:3: rule "a": its translation is rejected: its cost is`)
	require.Equal(t, 1, r.Untranslated)
}

// Aliases that contain themselves, or that repeat many values, are refused.
func TestAliasesAreBounded(t *testing.T) {
	text := "rules:\n  - id: a\n    severity: low\n    condition: when { a }\n    example_violation:\n      trace:\n        - span: a\n          attributes: &x {k: [*x, *x]}\n"
	r := importText("f.yaml", text)
	require.Contains(t, texts(r.Warnings), "its attributes have over 10000 values")
}

// FuzzTranslate checks that no source causes a panic, and that translations load and judge.
func FuzzTranslate(f *testing.F) {
	for _, seed := range []string{
		"when { a.where(x > 1 and not \"y\" in [a, 1, true]).where(z) } always { count(a) >= count(b) } never { b.c == -1.5 }",
		"trace.has(span.name == a and not span.has(attribute.b)) or trace.count(a) > 3 // c",
		"when { a.b matches \"\\d\\\"\" }", "trace.has(a).where(b:starts_with(\"\\\"x\")) and span.has(attributes[\"k\"])",
		"when { a.b contains \"\u2028\x00\" }", "trace.has(span.duration > 1.5h and span.status in [ok])", "((((((",
	} {
		f.Add(seed)
	}
	tr := generatedTrace()
	f.Fuzz(func(t *testing.T, source string) {
		out, err := translate(source)
		for _, err := range unjoin(err) {
			if m := (*mistake)(nil); !errors.As(err, &m) || m.line < 1 || m.column < 1 {
				t.Fatalf("%q: %v has no position", source, err)
			}
		}
		if err != nil {
			return
		}
		r := Rule{ID: "r", Title: "t", Severity: "low"}
		r.translated(out)
		// Deeply nested and expensive rules are refused because of their size alone.
		if err := r.check(func(loaded *rules.Rule) error { return loaded.Judge(t.Context(), tr).Err }, rules.Options{MaxCost: 1e18, MaxExpressionBytes: 1 << 24}); err != nil &&
			!strings.Contains(err.Error(), "recursion") && !strings.Contains(err.Error(), "over the limit") {
			t.Fatalf("%q: %v\n%+v", source, err, out)
		}
	})
}

// FuzzImport checks that no file causes a panic, and that imported rules form a pack whose tests pass.
func FuzzImport(f *testing.F) {
	for _, seed := range []string{
		"rules:\n  - id: a\n    name: A\n    severity: low\n    tags: {a: b}\n    compliance_frameworks: [a:b, c]\n    condition: |\n      when { a }\n    example_violation: {description: d, trace: [{span: a, attributes: {x: !!binary AA==, y: null}}]}\n",
		"[{\"id\": \"a\", \"dsl\": \"when { a }\", \"severity\": \"low\", \"enabled\": true}]", "when { a }", "rules: &x [*x]", "apiVersion: x",
	} {
		f.Add("f", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		r := Import([]File{{name, data}}, Options{Severity: "low", ID: "bare"})
		if len(r.Rules) == 0 {
			return
		}
		out, err := r.Pack("p")
		if err != nil {
			t.Fatal(err)
		}
		pack, err := rules.Parse("p", out, rules.Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, rule := range pack.Rules {
			for _, result := range rule.RunTests(t.Context()) {
				if result.Err != nil {
					t.Fatalf("%v\n%s", result.Err, out)
				}
			}
		}
	})
}
