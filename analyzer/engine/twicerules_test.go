package engine_test

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/betracehq/betrace/rules"
)

// twice is a rule in CEL, and the same rule in plain Go over the OTLP that was sent.
type twice struct {
	name                         string
	traceql, when, always, never string
	// filter, applies and holds are traceql, when, and that no clause is broken. nil: true.
	filter, applies, holds func(*sent) bool
	// judge is all of these, where the verdict may be an error.
	judge func(*sent) rules.Outcome
	// about and spans are the span that a violation refers to; message and text are its message.
	about   string
	spans   func(*sentSpan) bool
	message string
	text    func(t *sent, about []*sentSpan) string
}

// want is the verdict by plain Go.
func (w *twice) want(t *sent) rules.Outcome {
	switch {
	case w.judge != nil:
		return w.judge(t)
	case w.filter != nil && !w.filter(t), w.applies != nil && !w.applies(t):
		return rules.NotApplicable
	case w.always == "" && w.never == "", w.holds != nil && !w.holds(t):
		return rules.Violation
	}
	return rules.Pass
}

type is = func(*sentSpan) bool

var (
	cardNumber = regexp.MustCompile(`\b[45][0-9]{15}\b`)
	versioned  = regexp.MustCompile(`^/v[0-9]+/`)
)

func named(name string) is   { return func(s *sentSpan) bool { return s.name == name } }
func from(service string) is { return func(s *sentSpan) bool { return s.service == service } }

func (s *sentSpan) amount() float64 { return num(s.attr("app.payment.amount")) }
func (s *sentSpan) code() float64   { return num(s.attr("http.response.status_code")) }
func (s *sentSpan) op(op string) bool {
	return s.is("gen_ai.operation.name", op)
}

func roles(v any) []any {
	list, _ := v.([]any)
	return list
}

func isAdmin(v any) bool { return v == any("admin") }

func outcome(applies, errs, broken bool) rules.Outcome {
	switch {
	case !applies:
		return rules.NotApplicable
	case broken:
		return rules.Violation
	case errs:
		return rules.Error
	}
	return rules.Pass
}

var rulesTwice = []twice{
	// Services, names, kinds, status: the fields of all spans.
	{
		name: "payment is called by its clients",
		when: `spans.exists(s, s.service == "payment" && s.kind == "server")`, always: `spans.filter(s, s.service == "payment" && s.kind == "server").all(s, s.parent.service in ["checkout", "gateway", "payment"])`,
		about: `spans.filter(s, s.service == "payment" && s.kind == "server")`, spans: func(s *sentSpan) bool { return s.service == "payment" && s.kind == "server" },
		message: `about.map(s, has(s.parent) ? s.parent.service : "an unknown service").distinct().join(", ") + " called payment"`,
		text: func(_ *sent, about []*sentSpan) string {
			var callers []string
			for _, s := range about {
				caller := "an unknown service"
				if s.parent != nil {
					caller = s.parent.service
				}
				if !slices.Contains(callers, caller) {
					callers = append(callers, caller)
				}
			}
			return strings.Join(callers, ", ") + " called payment"
		},
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.service == "payment" && s.kind == "server" })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return s.service != "payment" || s.kind != "server" || s.parent != nil && slices.Contains([]string{"checkout", "gateway", "payment"}, s.parent.service)
			})
		},
	},
	{
		name: "vault does not fail", when: `"vault" in trace.services`, never: `spans.exists(s, s.service == "vault" && s.status == "error")`,
		about: `spans.filter(s, s.service == "vault" && s.status == "error")`, spans: func(s *sentSpan) bool { return s.service == "vault" && s.status == "error" },
		message: `about[0].name + " failed: " + about[0].statusMessage`,
		text:    func(_ *sent, about []*sentSpan) string { return about[0].name + " failed: " + about[0].message },
		applies: func(t *sent) bool { return slices.Contains(t.services, "vault") },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return s.service == "vault" && s.status == "error" })
		},
	},
	{
		name: "web asks servers", when: `spans.exists(s, s.service == "web" && s.kind != "server")`, always: `spans.all(s, s.service != "web" || s.kind in ["client", "server", "internal"])`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.service == "web" && s.kind != "server" })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return s.service != "web" || slices.Contains([]string{"client", "server", "internal"}, s.kind)
			})
		},
	},
	{
		name: "names are of known forms", always: `spans.all(s, s.name.startsWith("payment.") || s.name.contains(" ") || s.name.endsWith("T") || s.name < "b")`,
		about: `spans.filter(s, s.name.startsWith("cache"))`, spans: func(s *sentSpan) bool { return strings.HasPrefix(s.name, "cache") },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return strings.HasPrefix(s.name, "payment.") || strings.Contains(s.name, " ") || strings.HasSuffix(s.name, "T") || s.name < "b"
			})
		},
	},
	{
		name: "a trace has one root", when: `has(trace.root)`, always: `spans.exists_one(s, s == trace.root)`, never: `spans.exists(s, !has(s.parent) && s != trace.root)`,
		applies: func(t *sent) bool { return t.root != nil },
		holds:   func(t *sent) bool { return !t.any(func(s *sentSpan) bool { return s.parent == nil && s != t.root }) },
	},
	{
		name: "the root is a server", when: `trace.root.kind != "internal"`, always: `trace.root.kind == "server"`,
		applies: func(t *sent) bool { return t.root != nil && t.root.kind != "internal" }, holds: func(t *sent) bool { return t.root.kind == "server" },
		message: `"root is " + trace.root.kind`, text: func(t *sent, _ []*sentSpan) string { return "root is " + t.root.kind },
	},
	{
		name: "a failed root says why", when: `trace.root.status == "error"`, never: `trace.root.statusMessage == ""`,
		applies: func(t *sent) bool { return t.root != nil && t.root.status == "error" }, holds: func(t *sent) bool { return t.root.message != "" },
	},
	{
		name: "the database library is current", when: `spans.exists(s, s.scope == "shop/db")`, always: `spans.all(s, s.scope != "shop/db" || s.scopeVersion >= "1")`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.scope == "shop/db" }) },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool { return s.scope != "shop/db" || s.version >= "1" })
		},
	},
	{
		name: "three services at most", when: `trace.services.size() > 1`, always: `trace.services.size() <= 3`,
		applies: func(t *sent) bool { return len(t.services) > 1 }, holds: func(t *sent) bool { return len(t.services) <= 3 },
		message: `trace.services.join("+")`, text: func(t *sent, _ []*sentSpan) string { return strings.Join(t.services, "+") },
	},
	{
		name: "every span names its service", never: `"" in trace.services`, holds: func(t *sent) bool { return !slices.Contains(t.services, "") },
		about: `spans.filter(s, s.service == "")`, spans: func(s *sentSpan) bool { return s.service == "" },
	},
	{
		name: "messages of failures are specific", when: `spans.exists(s, s.statusMessage.size() > 0)`, never: `spans.exists(s, s.statusMessage.matches("^time") && s.status == "error")`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.message != "" }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return strings.HasPrefix(s.message, "time") && s.status == "error" })
		},
	},
	// Attributes compared with constants.
	{
		name: "large charges are approved", when: `spans.exists(s, s["app.payment.amount"] > 1000)`, always: `spans.exists(s, s["app.approved"] == true)`,
		about: `spans.filter(s, s["app.payment.amount"] > 1000)`, spans: func(s *sentSpan) bool { return s.amount() > 1000 },
		message: `string(about.size()) + " charges"`, text: func(_ *sent, about []*sentSpan) string { return strconv.Itoa(len(about)) + " charges" },
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.amount() > 1000 }) },
		holds: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.attr("app.approved") == any(true) })
		},
	},
	{
		name: "an amount is on the span itself", when: `spans.exists(s, s["app.payment.amount"] >= 20)`, always: `spans.exists(s, s.attributes["app.payment.amount"] >= 20)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.amount() >= 20 }) },
		holds: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return num(s.attrs["app.payment.amount"]) >= 20 })
		},
	},
	{
		name: "environments do not mix", when: `spans.exists(s, s.resource["deployment.environment.name"] == "staging")`, never: `spans.exists(s, s.resource["deployment.environment.name"] == "production")`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return text(s.resource["deployment.environment.name"]) == "staging" })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return text(s.resource["deployment.environment.name"]) == "production" })
		},
	},
	{
		name: "servers do not fail", when: `spans.exists(s, s["http.response.status_code"] < 600)`, never: `spans.exists(s, s["http.response.status_code"] >= 500)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.code() < 600 }) },
		holds:   func(t *sent) bool { return !t.any(func(s *sentSpan) bool { return s.code() >= 500 }) },
	},
	{
		name: "a status code is not 500", when: `spans.exists(s, s["http.response.status_code"] != 500)`, never: `spans.exists(s, s["http.response.status_code"] == 500.0)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return !math.IsNaN(s.code()) && s.code() != 500 })
		},
		holds: func(t *sent) bool { return !t.any(func(s *sentSpan) bool { return s.code() == 500 }) },
	},
	{
		name: "a status code is a number", when: `spans.exists(s, "http.response.status_code" in s.attributes)`, never: `spans.exists(s, s["http.response.status_code"] == "500")`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.has("http.response.status_code") }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return s.is("http.response.status_code", "500") })
		},
	},
	{
		name: "methods are known", when: `spans.exists(s, has(s.attributes.nothing) || "http.request.method" in s.attributes)`, always: `spans.all(s, !("http.request.method" in s.attributes) || s["http.request.method"] in ["GET", "POST", "DELETE"])`,
		about: `spans.filter(s, s["http.request.method"] == "get")`, spans: func(s *sentSpan) bool { return s.is("http.request.method", "get") },
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.has("http.request.method") }) },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return !s.has("http.request.method") || slices.Contains([]string{"GET", "POST", "DELETE"}, text(s.attr("http.request.method")))
			})
		},
	},
	{
		name: "codes and texts in one list", when: `spans.exists(s, s["http.response.status_code"] in [200, 201.0, "500"])`, never: `spans.exists(s, s["http.response.status_code"] in [500, 503, true])`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool {
				return s.code() == 200 || s.code() == 201 || s.is("http.response.status_code", "500")
			})
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return s.code() == 500 || s.code() == 503 })
		},
	},
	{
		name: "tls is 1.2 or later", when: `spans.exists(s, s["tls.protocol.version"] >= "1")`, never: `spans.exists(s, s["tls.protocol.version"] < "1.2")`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return text(s.attr("tls.protocol.version")) >= "1" })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				v := s.attr("tls.protocol.version")
				return isText(v) && text(v) < "1.2"
			})
		},
	},
	{
		name: "a version is no number", when: `spans.exists(s, "tls.protocol.version" in s.attributes)`, never: `spans.exists(s, s["tls.protocol.version"] > 1 && s["tls.protocol.version"] < 1.4)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.has("tls.protocol.version") }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { v := num(s.attr("tls.protocol.version")); return v > 1 && v < 1.4 })
		},
	},
	{
		name: "connections are encrypted", when: `spans.exists(s, s.kind == "client" && "server.address" in s.attributes)`,
		never: `spans.exists(s, s.kind == "client" && "server.address" in s.attributes && s["server.address"] != "localhost" && !(s["tls.established"] == true))`,
		about: `spans.filter(s, s.kind == "client" && s["server.address"] == "db.shop.internal")`, spans: func(s *sentSpan) bool { return s.kind == "client" && s.is("server.address", "db.shop.internal") },
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.kind == "client" && s.has("server.address") })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				v := s.attr("server.address")
				return s.kind == "client" && s.has("server.address") && isText(v) && text(v) != "localhost" && s.attr("tls.established") != any(true)
			})
		},
	},
	{
		name: "a truth value alone", when: `spans.exists(s, s["tls.established"])`, always: `spans.all(s, !s["app.approved"] || s["tls.established"])`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.attr("tls.established") == any(true) })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return s.attr("app.approved") != any(true) || s.attr("tls.established") == any(true)
			})
		},
	},
	{
		name: "approval by a number counts not", when: `spans.exists(s, s["app.approved"] == 1)`, always: `spans.exists(s, s["app.approved"] != false)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return num(s.attr("app.approved")) == 1 }) },
		holds: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.attr("app.approved") == any(true) })
		},
	},
	{
		name: "a user is named", when: `spans.exists(s, s["url.path"].startsWith("/admin/"))`, always: `spans.filter(s, s["url.path"].startsWith("/admin/")).all(s, "user.id" in s.attributes || "session.id" in s.attributes)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return strings.HasPrefix(text(s.attr("url.path")), "/admin/") })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return !strings.HasPrefix(text(s.attr("url.path")), "/admin/") || s.has("user.id") || s.has("session.id")
			})
		},
	},
	{
		name: "a user is not empty", when: `spans.exists(s, "user.id" in s.attributes || "user.id" in s.resource)`, never: `spans.exists(s, s["user.id"] == "")`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.has("user.id") || s.resource["user.id"] != nil })
		},
		holds: func(t *sent) bool { return !t.any(func(s *sentSpan) bool { return s.is("user.id", "") }) },
	},
	{
		name: "routes have a version", when: `spans.exists(s, s.kind == "server" && s["http.route"].contains("/"))`, always: `spans.all(s, !(s.kind == "server" && s["http.route"].contains("/")) || s["http.route"].matches("^/v[0-9]+/"))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.kind == "server" && strings.Contains(text(s.attr("http.route")), "/") })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				r := text(s.attr("http.route"))
				return s.kind != "server" || !strings.Contains(r, "/") || versioned.MatchString(r)
			})
		},
	},
	{
		name: "version 1 is retired", traceql: `{ span.http.route =~ "/v[12]/.*" }`, never: `spans.exists(s, s["http.route"] == "/v1/stock" && s.parent.kind == "client")`,
		filter: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool {
				return regexp.MustCompile("^/v[12]/.*$").MatchString(text(s.attrs["http.route"]))
			})
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return s.is("http.route", "/v1/stock") && s.parent != nil && s.parent.kind == "client"
			})
		},
	},
	{
		name: "no address in a url", when: `spans.exists(s, s["url.full"].matches("^https?:"))`, never: `spans.exists(s, s["url.full"].matches("@|%40"))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return regexp.MustCompile("^https?:").MatchString(text(s.attr("url.full"))) })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return strings.Contains(text(s.attr("url.full")), "@") })
		},
	},
	{
		name: "queries name their columns", when: `spans.exists(s, s["db.query.text"].startsWith("SELECT"))`, never: `spans.exists(s, s["db.query.text"].matches("(?i)select \\*"))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return strings.HasPrefix(text(s.attr("db.query.text")), "SELECT") })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return strings.Contains(strings.ToUpper(text(s.attr("db.query.text"))), "SELECT *")
			})
		},
	},
	{
		name: "deletions have a condition", when: `spans.exists(s, s["db.query.text"].contains("DELETE"))`, never: `spans.exists(s, s["db.query.text"].startsWith("DELETE") && !s["db.query.text"].contains(" WHERE ") && s["db.system.name"] == "postgresql")`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return strings.Contains(text(s.attr("db.query.text")), "DELETE") })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				q := text(s.attr("db.query.text"))
				return strings.HasPrefix(q, "DELETE") && !strings.Contains(q, " WHERE ") && s.is("db.system.name", "postgresql")
			})
		},
	},
	{
		name: "rows are few", when: `spans.exists(s, s["db.response.returned_rows"] >= 0)`, never: `spans.exists(s, s["app.data.classification"] == "phi" && s["db.response.returned_rows"] > 500)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return num(s.attr("db.response.returned_rows")) >= 0 })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return s.is("app.data.classification", "phi") && num(s.attr("db.response.returned_rows")) > 500
			})
		},
	},
	{
		name: "personal data stays here", when: `spans.exists(s, s["app.data.classification"] in ["personal", "phi"])`,
		never:   `spans.exists(s, s["app.data.classification"] in ["personal", "phi"] && s.resource["cloud.region"] != "eu-west-1")`,
		applies: func(t *sent) bool { return t.any(personal) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				r := text(s.resource["cloud.region"])
				return personal(s) && r != "" && r != "eu-west-1"
			})
		},
		about: `spans.filter(s, s["app.data.classification"] in ["personal", "phi"])`, spans: personal,
		message: `"personal data in " + string(about[0].resource["cloud.region"])`,
		text: func(_ *sent, about []*sentSpan) string {
			if r, ok := about[0].resource["cloud.region"].(string); ok {
				return "personal data in " + r
			}
			return ""
		},
	},
	// Two values of one span; arithmetic.
	{
		name: "tokens are bounded", when: `spans.exists(s, s["gen_ai.usage.input_tokens"] > 0)`, never: `spans.exists(s, s["gen_ai.usage.input_tokens"] + s["gen_ai.usage.output_tokens"] > 200000)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return num(s.attr("gen_ai.usage.input_tokens")) > 0 })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return num(s.attr("gen_ai.usage.input_tokens"))+num(s.attr("gen_ai.usage.output_tokens")) > 200_000
			})
		},
	},
	{
		name: "an answer is shorter than its question", when: `spans.exists(s, s["gen_ai.usage.output_tokens"] > 5)`, never: `spans.exists(s, s["gen_ai.usage.output_tokens"] > s["gen_ai.usage.input_tokens"])`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return num(s.attr("gen_ai.usage.output_tokens")) > 5 })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return num(s.attr("gen_ai.usage.output_tokens")) > num(s.attr("gen_ai.usage.input_tokens"))
			})
		},
	},
	{
		name: "half of the rows", when: `spans.exists(s, s["db.response.returned_rows"] > 1)`, never: `spans.exists(s, s["db.response.returned_rows"] * 2 - 1 > 1000.5)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return num(s.attr("db.response.returned_rows")) > 1 })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return num(s.attr("db.response.returned_rows"))*2-1 > 1000.5 })
		},
	},
	{
		name: "amounts are in whole units", when: `spans.exists(s, s["app.payment.amount"] >= 1000 && s["app.payment.amount"] < 2000)`, never: `spans.exists(s, s["app.payment.amount"] - 0.5 == 1000)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.amount() >= 1000 && s.amount() < 2000 })
		},
		holds: func(t *sent) bool { return !t.any(func(s *sentSpan) bool { return s.amount() == 1000.5 }) },
	},
	{
		name: "an amount keeps its last digit", when: `spans.exists(s, s["app.payment.amount"] > 9007199254740992)`, never: `spans.exists(s, s["app.payment.amount"] == 9007199254740993)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool {
				return s.attr("app.payment.amount") == any(int64(1<<53+1)) || math.IsInf(s.amount(), 1)
			})
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return s.attr("app.payment.amount") == any(int64(1<<53+1)) })
		},
	},
	{
		name: "the user of the span is that of the resource", when: `spans.exists(s, "user.id" in s.resource && "user.id" in s.attributes)`, never: `spans.exists(s, s.attributes["user.id"] != s.resource["user.id"])`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.has("user.id") && s.resource["user.id"] != nil })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				a, b := s.attrs["user.id"], s.resource["user.id"]
				return isText(a) && isText(b) && a != b
			})
		},
	},
	{
		name: "a service has its own namespace", when: `spans.exists(s, s["db.namespace"] == "payments")`, never: `spans.exists(s, s["db.namespace"] == "payments" && !s["db.namespace"].startsWith(s.service))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.is("db.namespace", "payments") }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return s.is("db.namespace", "payments") && !strings.HasPrefix("payments", s.service)
			})
		},
	},
	{
		name: "a note is written in small letters", when: `spans.exists(s, s["app.note"].lowerAscii() == "fine")`, never: `spans.exists(s, s["app.note"] != s["app.note"].lowerAscii())`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return strings.ToLower(text(s.attr("app.note"))) == "fine" })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { n := text(s.attr("app.note")); return n != lower(n) })
		},
	},
	{
		name: "notes are short", when: `spans.exists(s, size(s["app.note"]) > 0)`, never: `spans.exists(s, s["app.note"].size() > 10)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return text(s.attr("app.note")) != "" }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return len([]rune(text(s.attr("app.note")))) > 10 })
		},
	},
	{
		name: "a digest is no text", when: `spans.exists(s, "app.digest" in s.attributes)`, never: `spans.exists(s, s["app.digest"] == b"ab" || s["app.digest"] == "ab")`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.has("app.digest") }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				d, ok := s.attr("app.digest").([]byte)
				return ok && string(d) == "ab" || s.is("app.digest", "ab")
			})
		},
	},
	// Lists and maps in attributes.
	{
		name: "admins are few", when: `spans.exists(s, size(s["user.roles"]) > 0)`, never: `spans.exists(s, "admin" in s["user.roles"])`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool {
				return len(roles(s.attr("user.roles"))) > 0 || text(s.attr("user.roles")) != ""
			})
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return some(roles(s.attr("user.roles")), isAdmin) })
		},
	},
	{
		name: "roles are texts", when: `spans.exists(s, type(s["user.roles"]) == list)`, always: `spans.all(s, !(type(s["user.roles"]) == list) || s["user.roles"].all(r, type(r) == string))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { _, ok := s.attr("user.roles").([]any); return ok })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool { return every(roles(s.attr("user.roles")), isText) })
		},
	},
	{
		name: "an admin has another role too", when: `spans.exists(s, s["user.roles"].exists(r, r == "admin"))`, always: `spans.all(s, !("admin" in s["user.roles"]) || "customer" in s["user.roles"])`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return some(roles(s.attr("user.roles")), isAdmin) })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				r := roles(s.attr("user.roles"))
				return !some(r, isAdmin) || some(r, func(v any) bool { return v == any("customer") })
			})
		},
	},
	{
		name: "roles are exactly those", when: `spans.exists(s, "user.roles" in s.attributes)`, never: `spans.exists(s, s["user.roles"] == ["customer", "admin"])`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.has("user.roles") }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return slices.EqualFunc(roles(s.attr("user.roles")), []any{"customer", "admin"}, same)
			})
		},
	},
	{
		name: "the new flag is on", when: `spans.exists(s, "new" in s["app.switches"])`, never: `spans.exists(s, s["app.switches"][?"new"].orValue(true) == false)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return flagOf(s, "new") != nil }) },
		holds:   func(t *sent) bool { return !t.any(func(s *sentSpan) bool { return flagOf(s, "new") == any(false) }) },
	},
	{
		name: "flags are few", when: `spans.exists(s, "app.switches" in s.attributes)`, never: `spans.exists(s, s["app.switches"].size() == 2 || s["app.switches"].exists(k, k == "old"))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.has("app.switches") }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				m, _ := s.attr("app.switches").(map[string]any)
				return len(m) == 2 || m["old"] != nil
			})
		},
	},
	// All attributes of a span.
	{
		name: "no card number in telemetry", never: `spans.exists(s, s.attributes.exists(k, v, v.matches("\\b[45][0-9]{15}\\b")))`,
		holds: func(t *sent) bool { return !t.any(carded) }, about: `spans.filter(s, s.attributes.exists(k, v, v.matches("\\b[45][0-9]{15}\\b")))`, spans: carded,
	},
	{
		name: "keys are of known names", when: `spans.exists(s, s.attributes.size() > 12)`, always: `spans.all(s, s.attributes.all(k, k.matches("^(http|url|db|app|tls|user|gen_ai|server|session)\\.")))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(s.attrs) > 12 }) },
		holds: func(t *sent) bool {
			known := regexp.MustCompile(`^(http|url|db|app|tls|user|gen_ai|server|session)\.`)
			return t.all(func(s *sentSpan) bool {
				for k := range s.attrs {
					if !known.MatchString(k) {
						return false
					}
				}
				return true
			})
		},
	},
	{
		name: "one false attribute at most", when: `spans.exists(s, s.attributes.exists(k, v, v == false))`, always: `spans.all(s, !s.attributes.exists(k, v, v == false) || s.attributes.existsOne(k, v, v == false))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return falses(s) > 0 }) },
		holds:   func(t *sent) bool { return t.all(func(s *sentSpan) bool { return falses(s) < 2 }) },
	},
	{
		name: "empty texts are rare", when: `spans.exists(s, s.attributes.transformList(k, v, v == "", k).size() > 0)`, never: `spans.exists(s, s.attributes.transformList(k, v, v == "", k) == ["app.note"])`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(empties(s)) > 0 }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return slices.Equal(empties(s), []string{"app.note"}) })
		},
	},
	// Absent values and optionals.
	{
		name: "a default for an absent attribute", when: `spans.exists(s, s.kind == "server")`, always: `spans.all(s, s.kind != "server" || s[?"http.request.method"].orValue("GET") == "GET")`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.kind == "server" }) },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return s.kind != "server" || s.attr("http.request.method") == nil || s.is("http.request.method", "GET")
			})
		},
	},
	{
		name: "of the span, else of its parent", when: `spans.exists(s, has(s.parent) && "session.id" in s.attributes)`,
		always: `spans.all(s, s.attributes[?"session.id"].or(s.parent.attributes[?"session.id"]).orValue("none") != "none")`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.parent != nil && s.has("session.id") })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				if s.has("session.id") || s.parent == nil {
					return isText(s.attrs["session.id"])
				}
				return isText(s.parent.attrs["session.id"])
			})
		},
	},
	{
		name: "neither one nor another value", when: `spans.exists(s, !(s["db.namespace"] == "payments") && !(s["db.namespace"] == "orders"))`, always: `spans.exists(s, s["db.namespace"] != "payments")`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return !s.is("db.namespace", "payments") && !s.is("db.namespace", "orders") })
		},
		holds: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { v := s.attr("db.namespace"); return isText(v) && text(v) != "payments" })
		},
	},
	{
		name: "truth values compared", when: `spans.exists(s, (s.status == "error") == ("session.id" in s.attributes))`, always: `spans.all(s, (s.kind == "client") != (s["tls.established"] == true))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return (s.status == "error") == s.has("session.id") })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool { return (s.kind == "client") != (s.attr("tls.established") == any(true)) })
		},
	},
	{
		name: "one limit for one kind, another for others", when: `spans.exists(s, s["db.response.returned_rows"] > 0)`, never: `spans.exists(s, s["db.response.returned_rows"] > (s.kind == "client" ? 1000 : 100))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return num(s.attr("db.response.returned_rows")) > 0 })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				limit := 100.
				if s.kind == "client" {
					limit = 1000
				}
				return num(s.attr("db.response.returned_rows")) > limit
			})
		},
	},
	{
		name: "the caller decides the requirement", when: `spans.size() > 1`, always: `trace.root.service == "web" ? spans.exists(s, s.service == "gateway") : trace.root.kind != "consumer"`,
		applies: func(t *sent) bool { return len(t.spans) > 1 },
		holds: func(t *sent) bool {
			if t.root != nil && t.root.service == "web" {
				return t.any(from("gateway"))
			}
			return t.root != nil && t.root.kind != "consumer"
		},
	},
	// Parents and children.
	{
		name: "a server is called by a client", when: `spans.exists(s, s.kind == "server" && has(s.parent))`, never: `spans.exists(s, s.kind == "server" && has(s.parent) && s.parent.kind != "client")`,
		about: `spans.filter(s, s.kind == "server" && has(s.parent) && s.parent.kind != "client")`, spans: func(s *sentSpan) bool { return s.kind == "server" && s.parent != nil && s.parent.kind != "client" },
		message: `string(about[0].parent.children.size()) + " children"`, text: func(_ *sent, about []*sentSpan) string {
			return strconv.Itoa(len(about[0].parent.children)) + " children"
		},
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.kind == "server" && s.parent != nil })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return s.kind == "server" && s.parent != nil && s.parent.kind != "client" })
		},
	},
	{
		name: "a failure has a failed parent", when: `spans.exists(s, s.status == "error" && has(s.parent))`, always: `spans.all(s, s.status != "error" || !has(s.parent) || s.parent.status == "error")`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.status == "error" && s.parent != nil })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool { return s.status != "error" || s.parent == nil || s.parent.status == "error" })
		},
	},
	{
		name: "not the third in a row", when: `spans.exists(s, has(s.parent.parent))`, never: `spans.exists(s, s.kind == s.parent.kind && s.parent.kind == s.parent.parent.kind)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.parent != nil && s.parent.parent != nil })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return s.parent != nil && s.parent.parent != nil && s.kind == s.parent.kind && s.parent.kind == s.parent.parent.kind
			})
		},
	},
	{
		name: "a session is handed down", when: `spans.exists(s, s.parent["session.id"] == "s1")`, never: `spans.exists(s, s["session.id"] != s.parent["session.id"])`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.parent.is("session.id", "s1") }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				a, b := s.attr("session.id"), s.parent.attr("session.id")
				return isText(a) && isText(b) && a != b
			})
		},
	},
	{
		name: "retries are bounded", when: `spans.exists(s, s.children.size() > 1)`, never: `spans.exists(s, count(s.children, c, c.name == s.name || c.kind == "client") > 1)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(s.children) > 1 }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return number(s.children, func(c *sentSpan) bool { return c.name == s.name || c.kind == "client" }) > 1
			})
		},
	},
	{
		name: "a client has one server", when: `spans.exists(s, s.kind == "client" && s.children.exists(c, c.kind == "server"))`, always: `spans.filter(s, s.kind == "client").all(s, s.children.filter(c, c.kind == "server").size() <= 1)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.kind == "client" && some(s.children, server) })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool { return s.kind != "client" || number(s.children, server) <= 1 })
		},
	},
	{
		name: "the first child is the nearest", when: `spans.exists(s, s.children.size() > 0)`, never: `spans.exists(s, s.children.map(c, c.kind) == ["server", "client"] || s.children.first().orValue(s).name == "process")`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(s.children) > 0 }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				first := s
				if len(s.children) > 0 {
					first = s.children[0]
				}
				return len(s.children) == 2 && s.children[0].kind == "server" && s.children[1].kind == "client" || first.name == "process"
			})
		},
	},
	{
		name: "an only child is of another service", when: `spans.exists(s, s.children.exists_one(c, true))`, never: `spans.exists(s, s.children.exists_one(c, true) && s.children.all(c, c.service == s.service))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(s.children) == 1 }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return len(s.children) == 1 && s.children[0].service == s.service })
		},
	},
	// Ancestors and descendants.
	{
		name: "cards are behind the vault", when: `spans.exists(s, s["app.data.classification"] == "cardholder")`, always: `spans.filter(s, s["app.data.classification"] == "cardholder").all(s, s.ancestors().exists(a, a.name == "vault.authorize"))`,
		about: `spans.filter(s, s["app.data.classification"] == "cardholder" && s.ancestors().size() == 0)`, spans: func(s *sentSpan) bool { return s.is("app.data.classification", "cardholder") && len(s.chain) == 0 },
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.is("app.data.classification", "cardholder") })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return !s.is("app.data.classification", "cardholder") || some(s.chain, named("vault.authorize"))
			})
		},
	},
	{
		name: "the interface is behind the gateway", when: `spans.exists(s, s["url.path"] == "/api/orders")`, always: `spans.filter(s, s["url.path"] == "/api/orders").all(s, s.service == "gateway" || s.ancestors().exists(a, a.service == "gateway"))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.is("url.path", "/api/orders") }) },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return !s.is("url.path", "/api/orders") || s.service == "gateway" || some(s.chain, from("gateway"))
			})
		},
	},
	{
		name: "an export is audited", when: `spans.exists(s, s.name == "admin.export")`, always: `spans.filter(s, s.name == "admin.export").all(s, s.descendants().exists(d, d.name == "audit.append" && d.status != "error"))`,
		applies: func(t *sent) bool { return t.any(named("admin.export")) },
		holds: func(t *sent) bool {
			return every(those(t.spans, named("admin.export")), func(s *sentSpan) bool {
				return some(s.all, func(d *sentSpan) bool { return d.name == "audit.append" && d.status != "error" })
			})
		},
	},
	{
		name: "agents nest two deep", when: `spans.exists(s, s["gen_ai.operation.name"] == "invoke_agent")`, never: `spans.exists(s, s["gen_ai.operation.name"] == "invoke_agent" && count(s.ancestors(), a, a["gen_ai.operation.name"] == "invoke_agent") >= 1)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.op("invoke_agent") }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return s.op("invoke_agent") && some(s.chain, func(a *sentSpan) bool { return a.op("invoke_agent") })
			})
		},
	},
	{
		name: "steps of an agent are bounded", when: `spans.exists(s, s.descendants().size() > 1)`, never: `spans.exists(s, s.descendants().filter(d, d["gen_ai.operation.name"] in ["chat", "execute_tool"]).size() > 2)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(s.all) > 1 }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return number(s.all, func(d *sentSpan) bool { return d.op("chat") || d.op("execute_tool") }) > 2
			})
		},
	},
	{
		name: "no span is its own ancestor", never: `spans.exists(s, s in s.ancestors())`,
		holds: func(t *sent) bool { return !t.any(func(s *sentSpan) bool { return slices.Contains(s.chain, s) }) },
		about: `spans.filter(s, s.descendants().exists(d, d == s))`, spans: func(s *sentSpan) bool { return slices.Contains(s.chain, s) },
	},
	{
		name: "the way up is through servers", when: `spans.exists(s, s.ancestors().size() > 1)`, always: `spans.all(s, s.ancestors().all(a, a.kind in ["server", "client", "internal"] || a.status == "ok"))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(s.chain) > 1 }) },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return every(s.chain, func(a *sentSpan) bool {
					return a.kind == "server" || a.kind == "client" || a.kind == "internal" || a.status == "ok"
				})
			})
		},
	},
	{
		name: "one ancestor is of the same service", when: `spans.exists(s, s.ancestors().exists(a, a.service == s.service))`, always: `spans.exists(s, s.ancestors().exists_one(a, a.service == s.service))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return number(s.chain, from(s.service)) > 0 })
		},
		holds: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return number(s.chain, from(s.service)) == 1 })
		},
	},
	{
		name: "who is above is who is below", when: `spans.size() > 2`, never: `spans.exists(s, s.ancestors().exists(a, a.descendants().exists(d, d.name == "fraud.check" && d.kind == s.kind)))`,
		applies: func(t *sent) bool { return len(t.spans) > 2 },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return some(s.chain, func(a *sentSpan) bool {
					return some(a.all, func(d *sentSpan) bool { return d.name == "fraud.check" && d.kind == s.kind })
				})
			})
		},
	},
	{
		name: "the nearest ancestor of that name", when: `spans.exists(s, s.ancestors().filter(a, a.name == "GET").size() > 0)`, never: `spans.exists(s, s.ancestors().filter(a, a.name == "GET").first().orValue(s).status == "error")`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return some(s.chain, named("GET")) }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				nearest := append(those(s.chain, named("GET")), s)[0]
				return nearest.status == "error"
			})
		},
	},
	// Order and time.
	{
		name: "a check before a charge", when: `spans.exists(s, s.name == "payment.charge")`, always: `spans.filter(s, s.name == "payment.charge").all(s, spans.exists(f, f.name == "fraud.check" && f.status != "error" && f.before(s)))`,
		applies: func(t *sent) bool { return t.any(named("payment.charge")) },
		holds: func(t *sent) bool {
			return every(those(t.spans, named("payment.charge")), func(s *sentSpan) bool {
				return t.any(func(f *sentSpan) bool { return f.name == "fraud.check" && f.status != "error" && f.end <= s.start })
			})
		},
	},
	{
		name: "a refund after its approval", traceql: `{ name = "refund.execute" }`, always: `spans.exists(r, r.name == "refund.execute" && spans.exists(a, a.name == "refund.approve" && a.before(r)))`,
		filter: func(t *sent) bool { return t.any(named("refund.execute")) },
		holds: func(t *sent) bool {
			return some(those(t.spans, named("refund.execute")), func(r *sentSpan) bool {
				return t.any(func(a *sentSpan) bool { return a.name == "refund.approve" && a.end <= r.start })
			})
		},
	},
	{
		name: "nobody waits for seconds", when: `spans.exists(s, s.duration > duration("2ms"))`, never: `spans.exists(s, s.duration >= duration("5s"))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.length() > 2*time.Millisecond }) },
		holds:   func(t *sent) bool { return !t.any(func(s *sentSpan) bool { return s.length() >= 5*time.Second }) },
		message: `string(trace.duration)`, text: func(t *sent, _ []*sentSpan) string {
			return strconv.FormatFloat((time.Duration(t.last()-t.spans[0].start)).Seconds(), 'f', -1, 64) + "s"
		},
	},
	{
		name: "a child is within its parent", when: `spans.exists(s, has(s.parent))`, never: `spans.exists(s, s.start < s.parent.start || s.end > s.parent.end)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.parent != nil }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return s.parent != nil && (s.start < s.parent.start || s.end > s.parent.end) })
		},
	},
	{
		name: "clocks agree", when: `spans.exists(s, s.kind == "server" && s.parent.kind == "client")`, never: `spans.exists(s, s.parent.start - s.start > duration("1ms"))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.kind == "server" && s.parent != nil && s.parent.kind == "client" })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool { return s.parent != nil && s.parent.start-s.start > 1_000_000 })
		},
	},
	{
		name: "the trace is as long as its root", when: `has(trace.root)`, always: `trace.duration == trace.root.duration`,
		applies: func(t *sent) bool { return t.root != nil }, holds: func(t *sent) bool { return t.last()-t.spans[0].start == t.root.end-t.root.start },
	},
	{
		name: "it starts with its root", when: `spans.size() >= 3`, always: `trace.start == trace.root.start && trace.end >= trace.root.end + duration("1ms")`,
		applies: func(t *sent) bool { return len(t.spans) >= 3 }, holds: func(t *sent) bool {
			return t.root != nil && t.spans[0].start == t.root.start && t.last() >= t.root.end+1_000_000
		},
	},
	{
		name: "after that time", when: `spans.exists(s, s.start >= timestamp("2026-01-02T03:04:05Z"))`, always: `spans.all(s, s.end > timestamp("2026-01-02T04:04:05.002+01:00"))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.start >= 1_767_323_045_000_000_000 })
		},
		holds: func(t *sent) bool { return t.all(func(s *sentSpan) bool { return s.end > 1_767_323_045_002_000_000 }) },
	},
	{
		name: "siblings do not overlap", when: `spans.exists(s, s.children.size() > 1)`, always: `spans.all(s, s.children.all(a, s.children.all(b, a == b || a.before(b) || b.before(a))))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(s.children) > 1 }) },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return every(s.children, func(a *sentSpan) bool {
					return every(s.children, func(b *sentSpan) bool { return a == b || a.end <= b.start || b.end <= a.start })
				})
			})
		},
	},
	// Spans related by their values.
	{
		name: "a message is processed once", when: `spans.exists(s, s["messaging.operation.type"] == "process" && "messaging.message.id" in s.attributes)`,
		never: `spans.exists(s, s["messaging.operation.type"] == "process" && count(spans, t, t["messaging.operation.type"] == "process" && t["messaging.message.id"] == s["messaging.message.id"]) > 1)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return process(s) && s.has("messaging.message.id") })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return process(s) && t.count(func(o *sentSpan) bool {
					return process(o) && same(o.attr("messaging.message.id"), s.attr("messaging.message.id"))
				}) > 1
			})
		},
	},
	{
		name: "a session is of one user", when: `spans.exists(s, "session.id" in s.attributes && "user.id" in s.attributes)`, never: `spans.exists(s, spans.exists(t, s["session.id"] == t["session.id"] && s["user.id"] != t["user.id"]))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.has("session.id") && s.has("user.id") })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return t.any(func(o *sentSpan) bool {
					a, b := s.attr("user.id"), o.attr("user.id")
					return same(s.attr("session.id"), o.attr("session.id")) && isText(a) && isText(b) && a != b
				})
			})
		},
	},
	{
		name: "three spans in a chain of calls", when: `spans.size() > 2`,
		never:   `spans.exists(a, a.name == "GET" && a.children.exists(b, b.service == a.service && b.children.exists(c, c.service == a.service && c.kind != b.kind)))`,
		applies: func(t *sent) bool { return len(t.spans) > 2 },
		holds: func(t *sent) bool {
			return !t.any(func(a *sentSpan) bool {
				return a.name == "GET" && some(a.children, func(b *sentSpan) bool {
					return b.service == a.service && some(b.children, func(c *sentSpan) bool { return c.service == a.service && c.kind != b.kind })
				})
			})
		},
	},
	{
		name: "one name hides another", when: `spans.exists(s, s.kind == "client" && s.children.exists(s, s.kind == "server"))`, always: `spans.all(s, s.children.exists(s, s.status == "error") || s.status != "error")`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.kind == "client" && some(s.children, server) })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return some(s.children, func(c *sentSpan) bool { return c.status == "error" }) || s.status != "error"
			})
		},
	},
	{
		name: "as many sent as processed", when: `spans.exists(s, s["messaging.operation.type"] == "send")`, always: `count(spans, s, s["messaging.operation.type"] == "send") <= count(spans, s, s["messaging.operation.type"] == "process")`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.is("messaging.operation.type", "send") })
		},
		holds: func(t *sent) bool {
			return t.count(func(s *sentSpan) bool { return s.is("messaging.operation.type", "send") }) <= t.count(process)
		},
	},
	{
		name: "most spans succeed", when: `spans.size() > 3`, always: `count(spans, s, s.status == "error") * 3 < spans.size()`,
		applies: func(t *sent) bool { return len(t.spans) > 3 },
		holds: func(t *sent) bool {
			return t.count(func(s *sentSpan) bool { return s.status == "error" })*3 < len(t.spans)
		},
	},
	// Events and links.
	{
		name: "errors carry an exception", when: `spans.exists(s, s.status == "error")`, always: `spans.filter(s, s.status == "error").all(s, s.events.exists(e, e.name == "exception" && "exception.type" in e.attributes))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.status == "error" }) },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return s.status != "error" || some(s.events, func(e sentEvent) bool { return e.name == "exception" && e.attrs["exception.type"] != nil })
			})
		},
	},
	{
		name: "a tool call is approved", when: `spans.exists(s, s["gen_ai.tool.name"] == "send_payment")`,
		always: `spans.all(s, s["gen_ai.tool.name"] != "send_payment" || s.events.exists(e, e.name == "tool.approved" && e.attributes["gen_ai.tool.name"] == s["gen_ai.tool.name"])) || spans.exists(s, s.links.size() > 1)`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.is("gen_ai.tool.name", "send_payment") })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				v := s.attr("gen_ai.tool.name")
				return isText(v) && text(v) != "send_payment" || some(s.events, func(e sentEvent) bool { return e.name == "tool.approved" && same(e.attrs["gen_ai.tool.name"], v) })
			}) || t.any(func(s *sentSpan) bool { return len(s.links) > 1 })
		},
	},
	{
		name: "delays grow no further", when: `spans.exists(s, s.events.exists(e, e.name == "retry"))`, never: `spans.exists(s, s.events.exists(e, e.attributes["delay_ms"] > 150) || count(s.events, e, e.name == "retry") > 1)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return some(s.events, retried) }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return some(s.events, func(e sentEvent) bool { return num(e.attrs["delay_ms"]) > 150 }) || number(s.events, retried) > 1
			})
		},
	},
	{
		name: "events are within their span", when: `spans.exists(s, s.events.size() > 0)`, never: `spans.exists(s, s.events.exists(e, e.time > s.end || e.time < s.start))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(s.events) > 0 }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return some(s.events, func(e sentEvent) bool { return e.time > s.end || e.time < s.start })
			})
		},
	},
	{
		name: "links lead to other traces", when: `spans.exists(s, s.links.size() > 0)`, always: `spans.all(s, s.links.all(l, l.traceId != trace.id))`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return len(s.links) > 0 }) },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool { return every(s.links, func(l sentLink) bool { return l.traceID != t.id }) })
		},
	},
	{
		name: "links say why", when: `spans.exists(s, s.links.exists(l, l.spanId != s.id))`, never: `spans.exists(s, s.links.exists(l, !(l.attributes["link.reason"] == "follows") && l.spanId != s.id))`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return some(s.links, func(l sentLink) bool { return l.spanID != s.id }) })
		},
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				return some(s.links, func(l sentLink) bool { return text(l.attrs["link.reason"]) != "follows" && l.spanID != s.id })
			})
		},
	},
	{
		name: "a batch links its messages", when: `spans.exists(s, "messaging.batch.message_count" in s.attributes)`, always: `spans.all(s, !("messaging.batch.message_count" in s.attributes) || size(s.links) >= s["messaging.batch.message_count"])`,
		applies: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool { return s.has("messaging.batch.message_count") })
		},
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool {
				return !s.has("messaging.batch.message_count") || float64(len(s.links)) >= num(s.attr("messaging.batch.message_count"))
			})
		},
	},
	// Functions, errors.
	{
		name: "a count of tries is a number", when: `spans.exists(s, "app.tries" in s.attributes)`, never: `spans.exists(s, int(s.attributes["app.tries"]) > 2)`,
		judge: func(t *sent) rules.Outcome {
			var failed, broken bool
			for _, s := range t.spans {
				switch v := s.attrs["app.tries"].(type) {
				case string:
					n, err := strconv.Atoi(v)
					failed, broken = failed || err != nil, broken || err == nil && n > 2
				case int64:
					broken = broken || v > 2
				}
			}
			return outcome(t.any(func(s *sentSpan) bool { return s.has("app.tries") }), failed, broken)
		},
	},
	{
		name: "a budget is kept", when: `spans.exists(s, "app.budget" in s.attributes)`, always: `spans.all(s, !("app.budget" in s.attributes) || s.duration < duration(s["app.budget"]))`,
		judge: func(t *sent) rules.Outcome {
			var failed, broken bool
			for _, s := range t.spans {
				if b, ok := s.attrs["app.budget"].(string); ok {
					limit, err := time.ParseDuration(b)
					failed, broken = failed || err != nil, broken || err == nil && s.length() >= limit
				}
			}
			return outcome(t.any(func(s *sentSpan) bool { return s.has("app.budget") }), failed, broken)
		},
	},
	{
		name: "no share of nothing", when: `spans.exists(s, s["messaging.batch.message_count"] >= 0)`, never: `spans.exists(s, 6 / s["messaging.batch.message_count"] > 5)`,
		judge: func(t *sent) rules.Outcome {
			var applies, failed, broken bool
			for _, s := range t.spans {
				n := num(s.attr("messaging.batch.message_count"))
				applies, failed = applies || n >= 0, failed || n == 0
				broken = broken || n > 0 && math.Trunc(6/n) > 5
			}
			return outcome(applies, failed, broken)
		},
	},
	{
		name: "there is a second span", when: `trace.services.size() > 0`, always: `spans[1].name != "process"`,
		judge: func(t *sent) rules.Outcome {
			return outcome(true, len(t.spans) < 2, len(t.spans) > 1 && t.spans[1].name == "process")
		},
	},
	{
		name: "names as a set", when: `spans.size() > 1`, never: `sets.contains(spans.map(s, s.name), ["GET", "SELECT"]) || sets.intersects(trace.services, ["fraud", "nobody"])`,
		applies: func(t *sent) bool { return len(t.spans) > 1 },
		holds: func(t *sent) bool {
			return !(t.any(named("GET")) && t.any(named("SELECT")) || slices.Contains(t.services, "fraud"))
		},
	},
	{
		name: "names in order", when: `spans.size() > 1`, always: `spans.map(s, s.name).sort() == spans.map(s, s.name) || spans.map(s, s.name).distinct().size() < spans.size()`,
		applies: func(t *sent) bool { return len(t.spans) > 1 },
		holds: func(t *sent) bool {
			var names []string
			for _, s := range t.spans {
				names = append(names, s.name)
			}
			sorted := slices.Sorted(slices.Values(names))
			return slices.Equal(names, sorted) || len(slices.Compact(sorted)) < len(names)
		},
	},
	{
		name: "the greatest count of children", when: `spans.size() >= 2`, always: `math.greatest(spans.map(s, s.children.size())) <= 2 && cel.bind(n, spans.filter(s, s.children.size() == 0).size(), n * 2 > spans.size())`,
		applies: func(t *sent) bool { return len(t.spans) >= 2 },
		holds: func(t *sent) bool {
			return t.all(func(s *sentSpan) bool { return len(s.children) <= 2 }) && t.count(func(s *sentSpan) bool { return len(s.children) == 0 })*2 > len(t.spans)
		},
		message: `"%d spans of %s".format([spans.size(), spans.last().value().name])`,
		text: func(t *sent, _ []*sentSpan) string {
			return fmt.Sprintf("%d spans of %s", len(t.spans), t.spans[len(t.spans)-1].name)
		},
	},
	{
		name: "a name of two words", when: `spans.exists(s, s.name.split(".").size() == 2)`, never: `spans.exists(s, s.name.split(".").size() == 2 && s.name.split(".")[0] == s.service)`,
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return strings.Count(s.name, ".") == 1 }) },
		holds: func(t *sent) bool {
			return !t.any(func(s *sentSpan) bool {
				first, _, ok := strings.Cut(s.name, ".")
				return ok && strings.Count(s.name, ".") == 1 && first == s.service
			})
		},
	},
	{
		name: "charges in traces of that filter", traceql: `{ name = "payment.charge" && span.app.approved != false || resource.cloud.region = "us-east-1" }`, when: `spans.exists(s, s["app.payment.amount"] >= 1000)`,
		filter: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool {
				return s.name == "payment.charge" && s.attrs["app.approved"] == any(true) || text(s.resource["cloud.region"]) == "us-east-1"
			})
		},
		applies: func(t *sent) bool { return t.any(func(s *sentSpan) bool { return s.amount() >= 1000 }) },
	},
	{
		name: "a staging trace is reported", traceql: `{ resource.deployment.environment.name = "staging" && kind = server && status != error }`,
		filter: func(t *sent) bool {
			return t.any(func(s *sentSpan) bool {
				return text(s.resource["deployment.environment.name"]) == "staging" && s.kind == "server" && s.status != "error"
			})
		},
	},
}

func personal(s *sentSpan) bool {
	return s.is("app.data.classification", "personal") || s.is("app.data.classification", "phi")
}

func server(s *sentSpan) bool  { return s.kind == "server" }
func process(s *sentSpan) bool { return s.is("messaging.operation.type", "process") }
func retried(e sentEvent) bool { return e.name == "retry" }

func carded(s *sentSpan) bool {
	for _, v := range s.attrs {
		if cardNumber.MatchString(text(v)) {
			return true
		}
	}
	return false
}

func flagOf(s *sentSpan, name string) any {
	m, _ := s.attr("app.switches").(map[string]any)
	return m[name]
}

func falses(s *sentSpan) (n int) {
	for _, v := range s.attrs {
		if v == any(false) {
			n++
		}
	}
	return n
}

func empties(s *sentSpan) (keys []string) {
	for k, v := range s.attrs {
		if v == any("") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func (t *sent) last() int64 {
	end := int64(0)
	for _, s := range t.spans {
		end = max(end, s.end)
	}
	return end
}
