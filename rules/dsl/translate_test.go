package dsl

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
)

// traceOf parses the trace of a rule test.
func traceOf(t *testing.T, text string) *trace.Trace {
	t.Helper()
	pack, err := rules.Parse("trace", []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{id: r, title: t, severity: low, when: 'true', tests: [{name: t, want: pass, trace: "+text+"}]}]\n"), rules.Options{})
	require.NoError(t, err)
	return pack.Rules[0].Tests[0].Trace
}

// load loads translations as one pack.
func load(t testing.TB, list ...translation) []*rules.Rule {
	t.Helper()
	all := make([]Rule, len(list))
	for i, tr := range list {
		all[i] = Rule{ID: fmt.Sprintf("r%d", i), Title: "t", Severity: "low"}
		all[i].translated(tr)
	}
	data, err := encode("p", all)
	require.NoError(t, err)
	// The limit of costs is not under test here.
	pack, err := rules.Parse("p", data, rules.Options{MaxCost: 1e15})
	require.NoError(t, err)
	return pack.Rules
}

// number returns the condition in translations that a string is a number.
func number(a string) string { return a + `.matches("` + numberText + `") && double(` + a + `)` }

func TestRulesMeanWhatTheyMeant(t *testing.T) {
	const payment = `{name: payment}`
	for _, test := range []struct {
		dsl, when string
		// verdicts maps traces to the rule's outcomes.
		verdicts map[string]string
	}{
		{`when { payment }`, `spans.exists(s, s.name == "payment")`, map[string]string{
			`[{name: payment}]`: "violation", `[{name: other}]`: "not_applicable", `[{name: Payment}]`: "not_applicable",
		}},
		{`when { payment } always { fraud.check }`, `spans.exists(s, s.name == "payment")`, map[string]string{
			`[{name: payment}, {name: fraud.check}]`: "pass", `[{name: payment}]`: "violation", `[{name: fraud.check}]`: "not_applicable",
			`[{name: payment}, {name: fraud, attributes: {check: true}}]`: "violation",
		}},
		{`when { payment } never { bypass }`, `spans.exists(s, s.name == "payment")`, map[string]string{
			`[{name: payment}]`: "pass", `[{name: payment}, {name: bypass}]`: "violation", `[{name: bypass}]`: "not_applicable",
		}},
		{`when { payment } always { a } never { b }`, `spans.exists(s, s.name == "payment")`, map[string]string{
			`[{name: payment}, {name: a}]`: "pass", `[{name: payment}, {name: a}, {name: b}]`: "violation", `[{name: payment}]`: "violation",
		}},
		{"// a rule\nwhen { payment.amount > 1000 } // of payments", `spans.exists(s, s.name == "payment" && (s.attributes["amount"] > 1000 || (` + number(`s.attributes["amount"]`) + ` > 1000)))`, map[string]string{
			`[{name: payment, attributes: {amount: 1001}}]`:                               "violation",
			`[{name: payment, attributes: {amount: 1000.5}}]`:                             "violation",
			`[{name: payment, attributes: {amount: "1001"}}]`:                             "violation",
			`[{name: payment, attributes: {amount: "1e6"}}]`:                              "violation",
			`[{name: payment, attributes: {amount: "1000"}}]`:                             "not_applicable",
			`[{name: payment, attributes: {amount: "999"}}]`:                              "not_applicable", // "999" > "1000" as strings
			`[{name: payment, attributes: {amount: "much"}}]`:                             "not_applicable",
			`[{name: payment, attributes: {amount: "1e999"}}]`:                            "not_applicable", // not an error either
			`[{name: payment, attributes: {amount: "` + strings.Repeat("9", 400) + `"}}]`: "not_applicable",
			`[{name: payment, attributes: {amount: true}}]`:                               "not_applicable",
			`[{name: payment, attributes: {amount: [2000]}}]`:                             "not_applicable",
			`[{name: payment}]`:                                                "not_applicable",
			`[{name: payment, resource: {amount: 2000}}]`:                      "not_applicable",
			`[{name: other, attributes: {amount: 2000}}, {name: payment}]`:     "not_applicable",
			`[{name: payment}, {name: payment, attributes: {amount: 2000.5}}]`: "violation",
		}},
		{`when { http.request.retry }`, `spans.exists(s, s.name == "http.request.retry")`, nil},
		{`when { http.request.retry == 3 }`, `spans.exists(s, s.name == "http.request" && (s.attributes["retry"] == 3 || (` + number(`s.attributes["retry"]`) + ` == 3)))`, map[string]string{
			`[{name: http.request, attributes: {retry: 3}}]`: "violation", `[{name: http.request, attributes: {retry: "3.0"}}]`: "violation",
			`[{name: http.request, attributes: {retry: 4}}]`: "not_applicable",
		}},
		{`when { payment.amount != -1.5 }`, `spans.exists(s, s.name == "payment" && !(s.attributes["amount"] == -1.5 || (` + number(`s.attributes["amount"]`) + ` == -1.5)))`, map[string]string{
			`[{name: payment, attributes: {amount: -1.5}}]`: "not_applicable", `[{name: payment, attributes: {amount: "-1.50"}}]`: "not_applicable",
			`[{name: payment, attributes: {amount: 1}}]`: "violation", `[{name: payment, attributes: {amount: none}}]`: "violation", `[{name: payment}]`: "violation",
		}},
		{`when { payment.currency != USD }`, `spans.exists(s, s.name == "payment" && !(s.attributes["currency"] == "USD"))`, map[string]string{
			`[{name: payment, attributes: {currency: EUR}}]`: "violation", `[{name: payment, attributes: {currency: USD}}]`: "not_applicable",
			`[{name: payment}]`: "violation", // an absent attribute is not equal to USD
			`[{name: other}]`:   "not_applicable",
		}},
		{`when { not payment.currency == "USD" }`, `!spans.exists(s, s.name == "payment" && s.attributes["currency"] == "USD")`, map[string]string{
			`[{name: payment, attributes: {currency: EUR}}]`: "violation", `[{name: payment, attributes: {currency: USD}}]`: "not_applicable", `[{name: other}]`: "violation",
		}},
		{`when { a.status == "200" }`, `spans.exists(s, s.name == "a" && (s.attributes["status"] == "200" || s.attributes["status"] == 200))`, map[string]string{
			`[{name: a, attributes: {status: "200"}}]`: "violation", `[{name: a, attributes: {status: 200}}]`: "violation", `[{name: a, attributes: {status: "200.0"}}]`: "not_applicable",
		}},
		{`when { payment.where(amount > 1000).where(currency == USD) }`, `spans.exists(s, s.name == "payment" && (s.attributes["amount"] > 1000 || (` + number(`s.attributes["amount"]`) + ` > 1000)) && s.attributes["currency"] == "USD")`, map[string]string{
			`[{name: payment, attributes: {amount: 2000, currency: USD}}]`: "violation",
			// Two spans that pass one filter each are not one span that passes both.
			`[{name: payment, attributes: {amount: 2000}}, {name: payment, attributes: {currency: USD}}]`: "not_applicable",
		}},
		{`when { q.where("data.pii" == true and not masked) }`, `spans.exists(s, s.name == "q" && (s.attributes["data.pii"] == true || s.attributes["data.pii"] == "true") && !(s.attributes["masked"] == true || s.attributes["masked"] == "true"))`, map[string]string{
			`[{name: q, attributes: {data.pii: true}}]`: "violation", `[{name: q, attributes: {data.pii: "true"}}]`: "violation", `[{name: q, attributes: {data.pii: false}}]`: "not_applicable",
			`[{name: q, attributes: {data.pii: true, masked: true}}]`: "not_applicable", `[{name: q, attributes: {data.pii: true, masked: "false"}}]`: "violation",
		}},
		{`when { q.where(a or b and c) }`, `spans.exists(s, s.name == "q" && (s.attributes["a"] == true || s.attributes["a"] == "true" || ((s.attributes["b"] == true || s.attributes["b"] == "true") && (s.attributes["c"] == true || s.attributes["c"] == "true"))))`, map[string]string{
			`[{name: q, attributes: {a: true}}]`: "violation", `[{name: q, attributes: {b: true}}]`: "not_applicable", `[{name: q, attributes: {b: true, c: true}}]`: "violation",
			`[{name: q, attributes: {a: 1}}]`: "not_applicable",
		}},
		{`when { payment.where(amount >= 5 and fraud.check) }`, `spans.exists(s, s.name == "payment" && (s.attributes["amount"] >= 5 || (` + number(`s.attributes["amount"]`) + ` >= 5)) && spans.exists(t, t.name == "fraud.check"))`, map[string]string{
			`[{name: payment, attributes: {amount: 5}}, {name: fraud.check}]`: "violation", `[{name: payment, attributes: {amount: 5}}]`: "not_applicable",
		}},
		{`when { batch.where(expected > count(item)) }`, `spans.exists(s, s.name == "batch" && (s.attributes["expected"] > count(spans, t, t.name == "item") || (` + number(`s.attributes["expected"]`) + ` > count(spans, t, t.name == "item"))))`, map[string]string{
			`[{name: batch, attributes: {expected: 2}}, {name: item}]`: "violation", `[{name: batch, attributes: {expected: "1"}}, {name: item}]`: "not_applicable",
		}},
		{`when { count(http.retry) > 2 }`, `count(spans, s, s.name == "http.retry") > 2`, map[string]string{
			`[{name: http.retry}, {name: http.retry}]`: "not_applicable", `[{name: http.retry}, {name: http.retry}, {name: http.retry}]`: "violation",
		}},
		{`when { count(req) != count(resp) }`, `count(spans, s, s.name == "req") != count(spans, s, s.name == "resp")`, map[string]string{
			`[{name: req}, {name: resp}]`: "not_applicable", `[{name: req}]`: "violation",
		}},
		{`when { a.currency in [USD, "EUR"] }`, `spans.exists(s, s.name == "a" && s.attributes["currency"] in ["USD", "EUR"])`, map[string]string{
			`[{name: a, attributes: {currency: EUR}}]`: "violation", `[{name: a, attributes: {currency: GBP}}]`: "not_applicable", `[{name: a}]`: "not_applicable",
		}},
		{`when { a.code in [1, ok] }`, `spans.exists(s, s.name == "a" && (s.attributes["code"] == 1 || (` + number(`s.attributes["code"]`) + ` == 1) || s.attributes["code"] == "ok"))`, map[string]string{
			`[{name: a, attributes: {code: 1}}]`: "violation", `[{name: a, attributes: {code: "1"}}]`: "violation", `[{name: a, attributes: {code: ok}}]`: "violation", `[{name: a, attributes: {code: 2}}]`: "not_applicable",
		}},
		{`when { a.path matches "^/api/v\d+/" }`, `spans.exists(s, s.name == "a" && s.attributes["path"].matches(r"^/api/v\d+/"))`, map[string]string{
			`[{name: a, attributes: {path: /api/v1/x}}]`: "violation", `[{name: a, attributes: {path: x/api/v1/}}]`: "not_applicable",
		}},
		{`when { a.path matches "admin" }`, `spans.exists(s, s.name == "a" && s.attributes["path"].matches("admin"))`, map[string]string{
			`[{name: a, attributes: {path: /x/admin/y}}]`: "violation",
		}},
		{`when { a.code matches "^5" }`, `spans.exists(s, s.name == "a" && type(s.attributes["code"]) != bytes && string(s.attributes["code"]).matches("^5"))`, map[string]string{
			`[{name: a, attributes: {code: 503}}]`: "violation", `[{name: a, attributes: {code: "503"}}]`: "violation", `[{name: a}]`: "not_applicable",
			`[{name: a, attributes: {code: !!binary NTAz}}]`: "not_applicable", `[{name: a, attributes: {code: [503]}}]`: "not_applicable",
		}},
		{`when { a.code matches "^5(/x)*" }`, `spans.exists(s, s.name == "a" && type(s.attributes["code"]) != bytes && string(s.attributes["code"]).matches("^5(/x)*"))`, map[string]string{
			`[{name: a, attributes: {code: 503}}]`: "violation", `[{name: a, attributes: {code: 5/x}}]`: "violation",
		}},
		{`when { a.path contains "a.b" }`, `spans.exists(s, s.name == "a" && s.attributes["path"].contains("a.b"))`, map[string]string{
			`[{name: a, attributes: {path: xa.by}}]`: "violation", `[{name: a, attributes: {path: xacby}}]`: "not_applicable",
		}},
		{`when { a.tier >= "gold" }`, `spans.exists(s, s.name == "a" && type(s.attributes["tier"]) != bytes && string(s.attributes["tier"]) >= "gold")`, map[string]string{
			`[{name: a, attributes: {tier: silver}}]`: "violation", `[{name: a, attributes: {tier: bronze}}]`: "not_applicable", `[{name: a}]`: "not_applicable",
		}},

		{`trace.has(payment) and not trace.has(fraud.check)`, `spans.exists(s, s.name == "payment") && !spans.exists(s, s.name == "fraud.check")`, map[string]string{
			`[` + payment + `]`: "violation", `[` + payment + `, {name: fraud.check}]`: "not_applicable",
		}},
		// The rule is violated when the condition is true; its name has no effect.
		{`trace.has(payment) and trace.has(fraud.check)`, `spans.exists(s, s.name == "payment") && spans.exists(s, s.name == "fraud.check")`, map[string]string{
			`[` + payment + `, {name: fraud.check}]`: "violation",
		}},
		{`trace.has(q).where(data.pii == true).where(rows:starts_with("x y"))`, `spans.exists(s, s.name == "q" && (s.attributes["data.pii"] == true || s.attributes["data.pii"] == "true") && s.attributes["rows"].startsWith("x y"))`, map[string]string{
			`[{name: q, attributes: {data.pii: true, rows: x yz}}]`: "violation", `[{name: q, attributes: {data.pii: true}}]`: "not_applicable",
		}},
		{`trace.count(http.retry) >= 2 or trace.count(a) == trace.count(b)`, `count(spans, s, s.name == "http.retry") >= 2 || count(spans, s, s.name == "a") == count(spans, s, s.name == "b")`, nil},
		{`trace.has(span.name == "GET /x" and span.service == web and span.kind == SERVER and span.duration > 1.5s)`, `spans.exists(s, s.name == "GET /x" && s.service == "web" && s.kind == "server" && s.duration > duration("1.5s"))`, map[string]string{
			`[{name: GET /x, service: web, kind: server, duration: 2s}]`: "violation", `[{name: GET /x, service: web, kind: server, duration: 1s}]`: "not_applicable",
		}},
		{`trace.has(span.status in [error, "OK"] and (span.attribute.http.method == POST or span.attributes["a b"] != 1))`, `spans.exists(s, s.status in ["error", "ok"] && (s.attributes["http.method"] == "POST" || !(s.attributes["a b"] == 1 || (` + number(`s.attributes["a b"]`) + ` == 1))))`, map[string]string{
			`[{name: x, status: error, attributes: {http.method: POST, a b: 1}}]`: "violation", `[{name: x, status: ok, attributes: {a b: 1}}]`: "not_applicable", `[{name: x, status: ok}]`: "violation",
		}},
		{`trace.has(span.name:starts_with("/api/") and not span.has(attribute.auth.token))`, `spans.exists(s, s.name.startsWith("/api/") && !("auth.token" in s.attributes))`, map[string]string{
			`[{name: /api/x}]`: "violation", `[{name: /api/x, attributes: {auth.token: t}}]`: "not_applicable",
		}},
		// A backslash before a quote: earlier versions had different lexers for the two forms.
		{`when { a.path == "c:\" }`, `spans.exists(s, s.name == "a" && s.attributes["path"] == "c:\\")`, map[string]string{
			`[{name: a, attributes: {path: 'c:\'}}]`: "violation",
		}},
		{`trace.has(a).where(quoted == "\"x\y\"")`, `spans.exists(s, s.name == "a" && s.attributes["quoted"] == "\"x\\y\"")`, map[string]string{
			`[{name: a, attributes: {quoted: '"x\y"'}}]`: "violation",
		}},
		{`span.has(attribute.user.id)`, `spans.exists(s, "user.id" in s.attributes)`, map[string]string{
			`[{name: x, attributes: {user.id: ""}}]`: "violation", `[{name: x}]`: "not_applicable",
		}},
	} {
		t.Run(test.dsl, func(t *testing.T) {
			out, err := translate(test.dsl)
			require.NoError(t, err)
			require.Equal(t, test.when, out.when)
			rule := load(t, out)[0]
			for text, want := range test.verdicts {
				v := rule.Judge(t.Context(), traceOf(t, text))
				require.NoError(t, v.Err)
				require.Equal(t, want, v.Outcome.String(), text)
			}
		})
	}
}

// A conversion would prevent a prefilter.
func TestNarrowing(t *testing.T) {
	for _, test := range []struct{ dsl, traceql string }{
		{`when { a }`, ``},
		{`when { a.x > 1 }`, `{ name = "a" }`},
		{`when { a.x > 1 and b }`, `{ name = "a" }`},
		{`when { not b and a.x > 1 }`, `{ name = "a" }`},
		{`when { a.x > 1 or b }`, `{ name = "a" || name = "b" }`},
		{`when { a.x > 1 or not b }`, ``},
		{`when { not a.x > 1 }`, ``},
		{`when { count(b) > 0 and a.x > 1 }`, `{ name = "b" }`},
		{`when { count(b) < 3 and count(c) == count(b) and a.x > 1 }`, `{ name = "a" }`},
		{`trace.has(span.name == a and span.attribute.x > 1)`, `{ name = "a" }`},
		{`trace.has(span.attribute.x > 1 and span.service == a)`, `{ resource.service.name = "a" }`},
		{`trace.has(span.attribute.x > 1)`, ``},
		{`when { count(b) > -1 and a.x > 1 }`, `{ name = "a" }`},
		{`when { count(b) >= 0 and count(c) == 0 and count(d) != 1 and a.x > 1 }`, `{ name = "a" }`},
		{`when { count(b) != 0 and a.x > 1 }`, `{ name = "b" }`},
	} {
		out, err := translate(test.dsl)
		require.NoError(t, err)
		require.Equal(t, test.traceql, out.traceql, test.dsl)
		load(t, out)
	}
}

func TestWhatIsNotTranslatedHasAPlaceAndARemedy(t *testing.T) {
	for _, test := range []struct{ dsl, want string }{
		{``, `1:1: unexpected end of the rule: expected trace.has(…), trace.count(…), span.has(…), or when { … } for a rule of the newer form`},
		{`payment and check`, `1:1: unexpected "payment": expected trace.has`},
		{`when payment`, `1:6: unexpected "payment" after when: expected "{"`},
		{`when { }`, `1:8: unexpected "}": expected a span's name, or count(…)`},
		{`when { a } always { b } always { c }`, `1:25: unexpected "always" after the clauses`},
		{`when { a } never { b } always { c }`, `1:24: unexpected "always" after the clauses`},
		{"when { a }\nalways { b", `2:11: unexpected end of the rule within always: expected "}"`},
		{`when { a && b }`, `1:10: "&&" is not BeTraceDSL: write and`},
		{`when { a == 1 }`, `1:8: a ==: the span of the attribute is missing`},
		{`when { a.b = 1 }`, `1:12: "=" is not BeTraceDSL: write ==`},
		{`when { a.b == "x }`, `1:15: the string that begins here has no end`},
		{`when { a.b == x.y }`, `1:15: x.y: earlier versions parsed an attribute path here`},
		{`when { a.where(x.y == 1) }`, `1:16: x.y ==: it may be the attribute "x.y" of the filtered span, or y of a span x:`},
		{`when { a.where(x > max) }`, `1:20: > max: by the grammar this is a string, but it may be meant as an attribute:`},
		{`when { a.where(x > "5") }`, `1:20: > "5": earlier versions compared numbers`},
		{`when { a.where(x > true) }`, `1:20: > a boolean: use a number or a quoted string`},
		{`when { a.where(x == "") }`, `1:21: earlier versions differ on whether an absent attribute equals an empty string`},
		{`when { a.where(x matches ".*") }`, `1:26: matches ".*" holds for an empty string`},
		{`when { a.where(x matches "(") }`, `1:26: bad regular expression "("`},
		{`when { a.where(x matches 5) }`, `1:26: matches a number: use a quoted string`},
		{`when { a.where(x in y) }`, `1:21: in a word: use a list`},
		{`when { a.where(x in []) }`, `1:22: unexpected "]": expected a value`},
		{`when { a.where(x == [b]) }`, `1:21: == a list`},
		{`when { a.where(x == 9007199254740992) }`, `1:21: 9007199254740992: earlier versions did not compare numbers of 2^53`},
		{`when { a.where(x > 10s) }`, `1:20: > a duration`},
		{`when { a.where(x) .y }`, `1:19: unexpected ".": only another .where(…)`},
		{`when { count > 3 }`, `1:8: unexpected "count", a reserved word`},
		{`when { a.where(count > 3) }`, `1:16: unexpected "count", a reserved word: expected an attribute (in quotes if it is a reserved word)`},
		{`when { count(a) in [1] }`, `1:17: unexpected "in" after count(a)`},
		{`when { count(a) > many }`, `1:19: count(a) > a word: use a number or count(…)`},
		{`when { not not a }`, `1:12: not not`},
		{"when { é }", `1:8: 'é' is not allowed in a name`},
		{`span.duration > 1s`, `1:1: a span's field outside of trace.has(…)`},
		{`not span.has(attribute.x)`, `1:5: not span.has(…) outside of trace.has(…)`},
		{`span.has(attribute.x) and span.has(attribute.y)`, `1:27: span.has(…) occurs more than once`},
		{`trace.has(span.duration > 1000)`, `1:27: span.duration > 1000: use a duration with a unit`},
		{`trace.has(span.status == failed)`, `1:26: unknown status "failed": use one of unset, ok, error`},
		{`trace.has(span.parent_id == x)`, `1:16: unexpected "parent_id": a span has name`},
		{`trace.has(span.attribute.x)`, `1:27: unexpected ")": expected an operator`},
		{`trace.has(a).where(attribute.x == 1)`, `1:20: attribute.x: attribute may be part of the attribute's name:`},
		{`when { a. }`, `1:11: unexpected "}" after a dot: expected a name`},
		{`when { a.where("x") }`, `1:19: unexpected ")" after the attribute "x": expected an operator`},
		{`when { a.x in [[1]] }`, `1:16: nested lists are not supported`},
		{`when { a.x == 1.2.3 }`, `1:15: 1.2.3 is not a number`},
		{`when { a.x == 1s }`, `1:15: == a duration`},
		{`when { a @ }`, `1:10: '@' is not BeTraceDSL`},
		{"when { a }\n{", `2:1: unexpected "{" after the clauses`},
		{`trace.has(a) trace.has(b)`, `1:14: unexpected "trace": expected and, or, or the end`},
		{`trace.has(a).where(x)`, `1:21: unexpected ")": expected an operator`},
		{`trace.has(a).where(x:ends_with("b"))`, `1:22: unexpected "ends_with" after the colon`},
		{`trace.has(a).where(x:starts_with(""))`, `1:34: starts_with "" holds for an empty string`},
		{`trace.has(a).where(x == "b`, `1:25: the string that begins here has no end`},
		{`trace.has(span.name == a).where(x == 1)`, `1:26: where(…) after trace.has(span. …)`},
		{`trace.has(span.name.x == a)`, `1:20: span.name has no fields`},
		{`trace.has(span.name == 5)`, `1:24: span.name == a number: use a string`},
		{`trace.has(span.name in [5])`, `1:25: span.name in a list with a number`},
		{`trace.has(span.name in x)`, `1:24: in a word: use a list`},
		{`trace.has(span.name > x)`, `1:23: span.name > a word: use a quoted string`},
		{`trace.has(span.name > "5")`, `1:23: span.name > "5": it may be meant as a number or as a string`},
		{`trace.has(span.name matches 5)`, `1:29: matches a number`},
		{`trace.has(span.duration in [1s])`, `1:28: span.duration in`},
		{`trace.has(span.kind > server)`, `1:23: span.kind > a word`},
		{`trace.has(span.attributes[x] == 1)`, `1:27: unexpected "x": expected attributes["KEY"]`},
		{`trace.has(span.has(name))`, `1:11: span.has(name): use attribute.KEY`},
		{`trace.has(not name)`, `1:15: unexpected "name": expected span.name`},
		{strings.Repeat("(", 200), `1:101: over 100 nested parentheses`},
	} {
		_, err := translate(test.dsl)
		require.Error(t, err, test.dsl)
		m := &mistake{}
		require.ErrorAs(t, err, &m, test.dsl)
		require.Contains(t, fmt.Sprintf("%d:%d: %s", m.line, m.column, m.text), test.want, test.dsl)
	}
}
