package rules

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestACommentThatTakesTheRestOfAnExpressionIsRefused(t *testing.T) {
	const refused = "the comment (//) contains the rest of the expression"
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
		{"! that is not a tag", "    when: !spans[0].flag && true", "p.yaml:8:11: bad YAML: did not find expected alphabetic or numeric character: YAML reads a value that begins with ! as a tag: put quotes around the whole value"},
		{"! before a parenthesis", "    when: !(true || false) && true", "p.yaml:8:11: bad YAML: "},
		{"! in a list", "    never:\n      - !spans[0].flag\n", "p.yaml:9:9: YAML reads !spans[0].flag as a tag"},
		{"! in a list, with more", "    never:\n      - !spans[0].flag && true\n", "p.yaml:9:9: bad YAML: "},
		{"! in a list on one line", "    never: [!spans[0].flag]\n", "p.yaml:8:13: bad YAML: "},
		{"a tag", "    when: !spans.exists(s, s.name == \"x\")", `p.yaml:8:11: YAML reads !spans.exists(s, as a tag, because the value begins with !: put quotes around`},
		{"a tag without more", "    when: !has(trace.root)", `p.yaml:8:11: YAML reads !has(trace.root) as a tag`},
		{"a tag in a list", "    never:\n      - !trace.root.flag", `p.yaml:9:9: YAML reads !trace.root.flag as a tag`},
		{"!!", "    when: !!spans.exists(s, true)", `p.yaml:8:11: YAML reads !!spans.exists(s, as a tag`},
		{"! with a space after it", "    when: ! spans.exists(s, true)", `p.yaml:8:11: YAML reads ! as a tag`},
		{"! before quotes", "    when: ! 'true'", `p.yaml:8:11: YAML reads ! as a tag`},
		{"! before a block", "    when: ! |\n      true", `p.yaml:8:11: YAML reads ! as a tag`},
		{"a string at the beginning", "    when: \"a\" in trace.services", "p.yaml:8:11: bad YAML: did not find expected key: YAML ends a value that begins with a quote at the next one"},
		{"a list at the beginning", "    when: [1, 2] == []", "p.yaml:8:11: bad YAML: did not find expected key: YAML reads a value that begins with [ or { as a list"},
		{"a filter", "    traceql: { name = \"a\" && .b = 1 }", "p.yaml:8:14: want a string, have a mapping: put quotes around"},
		{"a filter that is a mapping", "    traceql: { .a = 1 }", "p.yaml:8:14: want a string, have a mapping: put quotes around"},
		{"further down", "    description: x\n    when: \"a\" in trace.services\n    about: spans", "p.yaml:9:11: bad YAML: "},
		{"a comment within", "    when: spans.exists(s, true)\n      # why\n      && true", "p.yaml:10:7: bad YAML: did not find expected alphabetic or numeric character: a comment of YAML (#)"},
		{"a colon", "    when: trace.root.flag ? true : false", "p.yaml:8:11: bad YAML: mapping values are not allowed in this context: YAML reads the colon as the end of a key"},
	} {
		_, err := Parse("p.yaml", []byte(head+tt.rule+"\n"), Options{})
		require.ErrorContains(t, err, tt.want, tt.name)
		require.Len(t, strings.Split(err.Error(), "\n"), 1, tt.name)
		at := (*PositionError)(nil)
		require.True(t, errors.As(err, &at), tt.name)
	}
	// A tag that YAML defines is not an expression, and a valid rule next to a refused one is used.
	pack, err := Parse("p.yaml", []byte(head+"    when: !!str 'true'\n  - {id: s, title: t, severity: low, when: !x true}\n"), Options{})
	require.ErrorContains(t, err, "p.yaml:9:44: YAML reads !x as a tag")
	require.Len(t, pack.Rules, 1)
}

func TestACommonMistakeGivesOneErrorWithItsPlaceAndTheRemedy(t *testing.T) {
	// If want begins with a number, that is the column in the expression.
	for _, tt := range []struct{ when, want string }{
		{`spans.exists(s, has(s.attributes["http.request.method"]))`, `33: invalid argument to has() macro: write "http.request.method" in s.attributes (at `},
		{`spans.exists(s, has(s.parent.resource['a']))`, `38: invalid argument to has() macro: write 'a' in s.parent.resource (at `},
		{`spans.exists(s, has(s["a.b"]))`, `write "a.b" in s.attributes, or "a.b" in s.resource (at `},
		{`has(spans)`, `has(…) takes a field, as in has(s.parent)`},
		{`spans.exists(s, s.name == "a" and s.kind == "server")`, `31: write && instead of and (at "and s.kind`},
		{`spans.exists(s, s.name == "a" AND s.kind == "server")`, `31: write && instead of and`},
		{`spans.exists(s, s.name == "a" or s.kind == "server")`, `31: write || instead of or`},
		{`spans.exists(s, not s["a"])`, `17: write ! instead of not`},
		{`spans.exists(s, not(s["a"]))`, `20: undeclared reference to 'not': write ! instead of not`},
		{`spans.exists(s, s.name = "a")`, `24: write == instead of = (at "= \"a\")")`},
		{`spans.exists(s, s.name="a")`, `23: write == instead of = (at "=\"a\")")`},
		{`spans.exists(s, s.name === "a")`, `24: write == instead of ===`},
		{`spans.exists(s, s.name !== "a")`, `24: write != instead of !==`},
		{`spans.exists(s, s.name <> "a")`, `24: write != instead of <>`},
		{`spans.exists(s, s.name =~ "a")`, `24: write a.matches("b") instead of a =~ "b"`},
		{`spans.exists(s => s.name == "a")`, `16: write a name and a condition, as in exists(s, s.kind == "server"), instead of =>`},
		{`spans.exists(s, s.name == "a" & s["b"])`, `31: write && instead of &`},
		{`spans.exists(s, s.name == "a" | s["b"])`, `31: write || instead of |`},
		{`spans.exists(s, s.name == “a”)`, `27: write straight quotes`},
		{`spans.exists(s, s.name == ‘a’)`, `27: write straight quotes`},
		{`spans.exists(s, s.name ≠ "a")`, `24: write != instead of ≠`},
		{`spans.exists(s, s.name is "a")`, `24: write == instead of is`},
		{`spans.exists(s, s.name not in ["a"])`, `24: write !(a in b) instead of a not in b`},
		{`spans.exists(s, s.name !in ["a"])`, `24: write !(a in b) instead of a !in b`},
		{`spans.exists(s, s.name contains "a")`, `24: write a.contains("b") instead of a contains "b"`},
		{`spans.size() > 1 # many`, `18: begin a comment with //`},
		{`spans.size() > 1;`, `17: remove the ;`},
		{`spans.exists(s, s.name == "a)`, `27: close the string with a quote on the same line`},
		{`spans.exists(s, s.duration > 5)`, `28: found no matching overload for '_>_' applied to '(duration, int)': write the number as a duration, as in s.duration > duration("5s")`},
		{`spans.exists(s, 5.5 <= s.duration)`, `write the number as a duration`},
		{`spans.exists(s, s.duration == 5)`, `duration is never equal to int: write the number as a duration`},
		{`spans.exists(s, s.duration > "5s")`, `: write duration("5s")`},
		{`trace.start > "2026-01-01T00:00:00Z"`, `: write timestamp("2026-01-31T00:00:00Z")`},
		{`spans.exists(s, s.duration > duration("1d"))`, `: days are written as hours: duration("24h")`},
		{`spans.exists(s, s.duration > duration("2w"))`, `: weeks are written as hours: duration("336h")`},
		{`spans.exists(s, s.duration > duration("5 seconds"))`, `: the units are h, m, s, ms, us and ns`},
		{`spans.exists(s, s.duration > duration("5"))`, `: the units are h, m, s, ms, us and ns`},
		{`spans.any(s, s.name == "a")`, `10: undeclared reference to 'any': write exists, as in spans.exists(s, s.kind == "server")`},
		{`spans.every(s, s.name == "a" && s.parent.name == "b")`, `undeclared reference to 'every': write all, as in`},
		{`spans.all(s.name == "a")`, `undeclared reference to 'all': all takes a name and a condition, as in spans.all(s, s.kind == "server")`},
		{`exists(spans, s, s.name == "a")`, `undeclared reference to 'exists': write the list first, as in spans.exists(s,`},
		{`len(spans) > 2`, `4: undeclared reference to 'len': write size(), as in spans.size() > 2`},
		{`spans.length > 2`, `write size(), as in spans.size() > 2`},
		{`spans.length() > 2`, `write size(), as in spans.size() > 2`},
		{`count(spans) > 2`, `write size(), as in spans.size() > 2`},
		{`spans.count(s, s.kind == "server") > 2`, `write count(spans, s, s.kind == "server"), or spans.size() for all`},
		{`spans > 2`, `write size(), as in spans.size() > 2`},
		{`spans.exists(s, s.name.startswith("a"))`, `undeclared reference to 'startswith': did you mean startsWith?`},
		{`spans.exists(s, s.name.starts_with("a"))`, `did you mean startsWith?`},
		{`spans.exists(s, s.name.toLower() == "a")`, `write lowerAscii()`},
		{`spans.exists(s, s.nam == "x")`, `undefined field 'nam': did you mean name?`},
		{`spans.exists(s, s.statusmessage == "x")`, `undefined field 'statusmessage': did you mean statusMessage?`},
		{`spans.exists(s, s.serviceName == "x")`, `undefined field 'serviceName': write s.service`},
		{`spans.exists(s, s.traceId == "x")`, `undefined field 'traceId': the ID of the trace is trace.id`},
		{`spans.name == "x"`, `for a condition on one element write exists(s, s.name == …)`},
		{`span.name == "x"`, `undeclared reference to 'span': a condition on some span is spans.exists(s, s.name == "a")`},
		{`spans.exists(s, trce.id == s.name)`, `undeclared reference to 'trce': did you mean trace?`},
		{`trace.services.contains("a")`, `write "a" in the list`},
		{`spans.exists(s, s.attributes.contains("a.b"))`, `write "a.b" in s.attributes`},
		{`trace.services in "a"`, `the list or map is on the right, as in "a" in trace.services`},
		{`"a" in trace.id`, `for a part of a string write a.contains("b")`},
		{`spans.exists(s, s["a"] == null)`, `a comparison with null is always false`},
		{`spans.exists(s, s["a"] == nil)`, `undeclared reference to 'nil': test presence with has(…)`},
		{`spans.exists(s, s.name == "n" + 5)`, `write string(…) around the operand that is not a string`},
		{`trace.start > now()`, `an expression has no clock`},
	} {
		_, err := parseOne(t, "when: |\n  "+tt.when)
		if column, want, ok := strings.Cut(tt.want, ": "); ok {
			if n, numberErr := strconv.Atoi(column); numberErr == nil {
				tt.want = fmt.Sprintf(`pack.yaml:10:%d: rule "r": when: %s`, 6+n, want)
			}
		}
		assert.ErrorContains(t, err, tt.want, tt.when)
		assert.Len(t, strings.Split(err.Error(), "\n"), 1, tt.when)
	}
}

func TestTwoMistakesGiveTwoErrors(t *testing.T) {
	_, err := parseOne(t, `when: 'spans.exists(s, s.name = "a" and s.kind = "b" and s["c"])'`)
	require.EqualError(t, err, `pack.yaml:9:35: rule "r": when: write == instead of = (at "= \"a\" and s.kind = \"")
pack.yaml:9:41: rule "r": when: write && instead of and (at "and s.kind = \"b\" and")`)
	_, err = parseOne(t, `when: 'spans.any(s, s.name == "a") && spans.exists(t, t.nam == "a")'`)
	require.ErrorContains(t, err, "write exists")
	require.ErrorContains(t, err, "did you mean name?")
	require.Len(t, strings.Split(err.Error(), "\n"), 2)
}

func TestWordsOfOtherLanguagesAreNamesWhereTheyAreNoOperators(t *testing.T) {
	for _, when := range []string{
		`spans.exists(and, and.name == "and or not")`, `spans.exists(s, s.attributes.and == 1 && s.attributes.or == "x = y")`,
		`spans.exists(not, not.attributes.is in [1])`,
	} {
		_, err := parseOne(t, "when: |\n  "+when)
		require.NoError(t, err, when)
	}
}

func TestAnExpressionThatFailsOnEveryTraceIsRefused(t *testing.T) {
	for _, tt := range []struct{ when, want string }{
		// invalid, regardless of their position
		{`trace.start.getHours("Europe/Nowhere") == 3`, `22: unknown time zone Europe/Nowhere: write a name like "Europe/Berlin"`},
		{`false && spans.exists(s, s.start.getDayOfWeek("+25:99:1") == 3)`, `write a name like "Europe/Berlin" or an offset like "+02:00"`},
		{`timestamp("0000-01-01T00:00:00Z") < trace.start`, `11: bad timestamp: timestamp overflow: years range from 1 to 9999`},
		{`{"a": 1, "a": 2}.size() == 1`, `10: the key a is repeated in this map`},
		{`{1.5: 1}.size() == 1`, `2: a map key must be a string, a whole number or a boolean; this is double`},
		{`{trace.start: 1}.size() == 1`, `this is timestamp`},
		{`true || spans[-1].name == "a"`, `15: an index must not be negative: the last element of a list is l[l.size() - 1]`},
		{`spans.exists(s, s.id == "EEE19B7EC3C1B174")`, `25: IDs are written in lower case: "eee19b7ec3c1b174"`},
		{`spans.exists(s, "eee19b7ec3c1b17" != s.parent.id)`, `17: this ID has 16 hexadecimal digits, "eee19b7ec3c1b17" has 15`},
		{`spans.exists(s, s.id in ["eee19b7ec3c1b174", "x"])`, `an ID consists of hexadecimal digits, 0-9 and a-f; "x" does not`},
		{`trace.id == "5B8EFFF798038103D269B633813FC60C"`, `13: IDs are written in lower case: "5b8efff798038103d269b633813fc60c"`},
		{`trace.id == ""`, `this ID has 32 hexadecimal digits, "" has 0`},
		{`trace.id.startsWith("5B")`, `IDs are written in lower case: "5b"`},
		{`spans.exists(s, s.id.contains("00000000000000001"))`, `this ID has 16 hexadecimal digits, "00000000000000001" has 17`},
		{`spans.exists(s, s.links.exists(l, l.traceId == "1" || l.spanId == "2"))`, `this ID has 32 hexadecimal digits, "1" has 1`},
		// calculated and always evaluated
		{`{"a": 1}["b"] == 1`, `9: no such key: b, on every trace`},
		{`{"a": trace.id}["b"] == ""`, `no such key: b, on every trace`},
		{`[1][3] == 1`, `4: index 3 is beyond the end of a list of 1, on every trace`},
		{`[trace.id][1] == ""`, `index 1 is beyond the end of a list of 1, on every trace`},
		{`1 / 0 == 1`, `3: division by zero, on every trace`},
		{`spans.size() / 0 == 1`, `division by zero, on every trace`},
		{`spans[0]["x"] % (2 - 2) == 1`, `division by zero, on every trace`},
		{`spans[0]["x"] / 0.0 == 1`, `division by zero, on every trace`},
		{`9223372036854775807 + 1 > 0`, `overflow, on every trace`},
		{`int("x") == spans.size()`, `on every trace`},
		{`!(spans.size() > int("x"))`, `on every trace`},
		{`1 / 0 == 1 && true`, `division by zero`},
		{`false || 1 / 0 == 1`, `division by zero`},
		{`1 / 0 == 1 && 1 % 0 == 1`, `3: division by zero`},
		{`(1 / 0 == 1 ? true : spans.exists(s, true))`, `division by zero`},
		{`true ? 1 / 0 == 1 : spans.exists(s, true)`, `division by zero`},
		{`trace.duration > duration("1s") ? 1 / 0 == 1 : 2 / 0 == 1`, `division by zero`},
		{`spans.exists(s, 1 / 0 == 1)`, `division by zero`},
		{`spans.all(s, s.name.size() > 1 / 0)`, `division by zero`},
		{`spans.filter(s, 1 / 0 == 1).size() > 0`, `division by zero`},
		{`spans.map(s, 1 / 0).size() > 0`, `division by zero`},
		{`count(spans, s, 1 / 0 == 1) > 0`, `division by zero`},
		{`cel.bind(x, 1 / 0, spans.size() > x)`, `division by zero`},
		{`cel.bind(x, spans.size(), x / 0 == 1)`, `division by zero`},
		{`optional.of(1 / 0).orValue(spans.size()) == 1`, `division by zero`},
		{`[spans.size(), 1 / 0].size() == 2`, `division by zero`},
		{`{"a": spans.size(), "b": 1 / 0}.size() == 2`, `division by zero`},
	} {
		_, err := parseOne(t, "when: |\n  "+tt.when)
		if column, want, ok := strings.Cut(tt.want, ": "); ok {
			if n, numberErr := strconv.Atoi(column); numberErr == nil {
				tt.want = fmt.Sprintf(`pack.yaml:10:%d: rule "r": when: %s`, 6+n, want)
			}
		}
		assert.ErrorContains(t, err, tt.want, tt.when)
	}
}

func TestAnErrorThatMayBeAbsorbedIsNotRefused(t *testing.T) {
	for _, when := range []string{
		`false && 1 / 0 > 0`, `1 / 0 > 0 && false`, `true || 1 / 0 > 0`, `1 / 0 == 1 || true`, `!(1 / 0 == 1 && false)`,
		`trace.id == "5b8efff798038103d269b633813fc60c" || 1 / 0 == 1`, `spans.exists(s, s.name == "a") && 1 / 0 == 1`,
		`true ? spans.size() == 1 : 1 / 0 == 1`, `false ? 1 / 0 == 1 : true`, `trace.duration > duration("1s") ? 1 / 0 == 1 : true`,
		`spans.exists(s, 1 / 0 == 1 || s.name == "charge")`, `spans.exists(s, s.kind == "server" && s["x"] / 0 > 1)`,
		`spans[0].children.exists(s, 1 / 0 == 1)`, `[].exists(x, 1 / 0 == 1)`, `[?optional.none()].exists(x, 1 / 0 == 1)`, `spans.filter(s, s.name == "a").exists(s, 1 / 0 == 1)`,
		`spans.filter(s, s.name == "a").map(s, 1 / 0).size() == 0`, `spans.map(s, s.name == "a", 1 / 0).size() == 0`,
		`optional.none().orValue(1) == 1 || optional.of(1).orValue(1 / 0) == 2`, `spans.size() / 1 == 1`,
		`{"a": trace.id, ?"b": optional.none()}[?"b"].hasValue()`, `{"a": 1}[?"b"].hasValue()`, `{"a": 1, trace.id: 2}[trace.id] == 2`, `[1][spans.size()] == 1 || true`,
		`spans.exists(s, s.id in ["eee19b7ec3c1b174"] && s.parent.id.endsWith("b174") && s.name == "EEE")`, `trace.start.getHours("Europe/Berlin") == 3 || trace.start.getHours("-02:00") == 3`,
		`cel.bind(spans, [], spans.exists(s, 1 / 0 == 1))`, `lists.range(4000000).size() == 4000000`,
	} {
		_, err := parseOne(t, "when: |\n  "+when)
		assert.NoError(t, err, when)
	}
}
