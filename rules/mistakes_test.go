package rules

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACommentThatTakesTheRestOfAnExpressionIsRefused(t *testing.T) {
	const refused = "the comment (//) holds the rest of the expression"
	for _, tt := range []struct{ name, rule, want string }{
		{"folded", "when: >-\n  trace.id == \"a\"   // why\n  && true", `pack.yaml:10:25: rule "r": when: ` + refused},
		{"folded, in a list", "never:\n  - >-\n    trace.id == \"a\" // why\n    && true", `pack.yaml:11:25: rule "r": never[0]: ` + refused},
		{"folded, the second of two comments", "when: >-\n  true // one\n\n  && true // two\n  && false", `pack.yaml:12:15: rule "r": when: ` + refused},
		{"plain, of several lines", "when: trace.id == \"a\" // why\n  && true", `pack.yaml:9:27: rule "r": when: ` + refused},
		{"quoted, of several lines", "when: 'trace.id == \"a\" // why\n  && true'", `pack.yaml:9:28: rule "r": when: ` + refused},
		{"in quotes and escaped, of several lines", "when: \"trace.id == 'a' // why\n  && true\"", `pack.yaml:9:28: rule "r": when: ` + refused},
		{"a comment at the beginning", "when: >-\n  // why\n  true", `pack.yaml:10:7: rule "r": when: ` + refused},
	} {
		_, err := parseOne(t, tt.rule)
		require.ErrorContains(t, err, tt.want, tt.name)
		require.ErrorContains(t, err, "after |", tt.name)
		require.Len(t, strings.Split(err.Error(), "\n"), 1, tt.name)
	}
	for name, rule := range map[string]string{
		"lines that are kept":         "when: |\n  trace.duration > duration(\"1s\") // why\n  && true",
		"at the end":                  "when: >-\n  trace.duration > duration(\"1s\")\n  && true // why",
		"before an empty line":        "when: >-\n  trace.duration > duration(\"1s\") // why\n\n  && true",
		"of one line":                 "when: trace.duration > duration(\"1s\") // why",
		"an escaped line break":       `when: "true // why\n && true"`,
		"in a string":                 "when: >-\n  spans.exists(s, s[\"url.full\"] == \"http://x\"\n  && s[\"b\"] == 'http://y'\n  && s[\"c\"] == r'\\//')",
		"in a string of three quotes": "when: >-\n  spans.exists(s, s[\"url.full\"] == \"\"\"a\"b // c\"\"\"\n  && true)",
	} {
		_, err := parseOne(t, rule)
		require.NoError(t, err, name)
	}
}

func TestAnExpressionThatYAMLTakesForSomethingElseIsNamed(t *testing.T) {
	const head = "apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules:\n  - id: r\n    title: t\n    severity: low\n"
	for _, tt := range []struct{ name, rule, want string }{
		{"! that is no tag", "    when: !spans[0].flag && true", "p.yaml:8:11: bad YAML: did not find expected alphabetic or numeric character: YAML takes a value that begins with ! as a tag: put quotes around the whole value"},
		{"! before a parenthesis", "    when: !(true || false) && true", "p.yaml:8:11: bad YAML: "},
		{"! in a list", "    never:\n      - !spans[0].flag\n", "p.yaml:9:9: YAML takes !spans[0].flag as a tag"},
		{"! in a list, with more", "    never:\n      - !spans[0].flag && true\n", "p.yaml:9:9: bad YAML: "},
		{"! in a list on one line", "    never: [!spans[0].flag]\n", "p.yaml:8:13: bad YAML: "},
		{"a tag", "    when: !spans.exists(s, s.name == \"x\")", `p.yaml:8:11: YAML takes !spans.exists(s, as a tag, because the value begins with !: put quotes around`},
		{"a tag that is all", "    when: !has(trace.root)", `p.yaml:8:11: YAML takes !has(trace.root) as a tag`},
		{"a tag in a list", "    never:\n      - !trace.root.flag", `p.yaml:9:9: YAML takes !trace.root.flag as a tag`},
		{"!!", "    when: !!spans.exists(s, true)", `p.yaml:8:11: YAML takes !!spans.exists(s, as a tag`},
		{"! apart", "    when: ! spans.exists(s, true)", `p.yaml:8:11: YAML takes ! as a tag`},
		{"! before quotes", "    when: ! 'true'", `p.yaml:8:11: YAML takes ! as a tag`},
		{"! before a block", "    when: ! |\n      true", `p.yaml:8:11: YAML takes ! as a tag`},
		{"a string at the beginning", "    when: \"a\" in trace.services", "p.yaml:8:11: bad YAML: did not find expected key: YAML ends a value that begins with a quote at the next one"},
		{"a list at the beginning", "    when: [1, 2] == []", "p.yaml:8:11: bad YAML: did not find expected key: YAML takes a value that begins with [ or { as a list"},
		{"a filter", "    traceql: { name = \"a\" && .b = 1 }", "p.yaml:8:14: want a text, have a mapping: put quotes around"},
		{"a filter that is a mapping", "    traceql: { .a = 1 }", "p.yaml:8:14: want a text, have a mapping: put quotes around"},
		{"further down", "    description: x\n    when: \"a\" in trace.services\n    about: spans", "p.yaml:9:11: bad YAML: "},
		{"a comment within", "    when: spans.exists(s, true)\n      # why\n      && true", "p.yaml:10:7: bad YAML: did not find expected alphabetic or numeric character: a comment of YAML (#)"},
		{"a colon", "    when: trace.root.flag ? true : false", "p.yaml:8:11: bad YAML: mapping values are not allowed in this context: YAML takes the colon as the end of a key"},
	} {
		_, err := Parse("p.yaml", []byte(head+tt.rule+"\n"), Options{})
		require.ErrorContains(t, err, tt.want, tt.name)
		require.Len(t, strings.Split(err.Error(), "\n"), 1, tt.name)
		at := (*PositionError)(nil)
		require.True(t, errors.As(err, &at), tt.name)
	}
	// A tag that YAML defines is none of these, and a rule beside one that is refused is used.
	pack, err := Parse("p.yaml", []byte(head+"    when: !!str 'true'\n  - {id: s, title: t, severity: low, when: !x true}\n"), Options{})
	require.ErrorContains(t, err, "p.yaml:9:44: YAML takes !x as a tag")
	require.Len(t, pack.Rules, 1)
}
