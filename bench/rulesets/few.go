package rulesets

// One is a rule with two exists.
var One = Rule{
	ID:    "checkout-posts-reach-their-partners",
	When:  `spans.exists(s, s.kind == "server" && s.service == "checkout" && s["http.request.method"] == "POST")`,
	Never: `spans.exists(s, s.kind == "client" && s["http.response.status_code"] >= 200 && s["http.request.resend_count"] > 3)`,
}

// Ten are the rules that package byhand has loops for, in the same order.
var Ten = []Rule{
	{
		ID:     "server-failures-are-errors",
		When:   `spans.exists(s, s.kind == "server" && s["http.response.status_code"] >= 500)`,
		Always: `spans.filter(s, s.kind == "server" && s["http.response.status_code"] >= 500).all(s, s.status == "error")`,
	},
	{
		ID:      "retries-are-bounded",
		When:    `spans.exists(s, s.kind == "client" && s["http.request.resend_count"] >= 1)`,
		Never:   `spans.exists(s, s.kind == "client" && s["http.request.resend_count"] > 3)`,
		About:   `spans.filter(s, s.kind == "client" && s["http.request.resend_count"] > 3)`,
		Message: `string(about[0]["http.request.resend_count"]) + " retries"`,
	},
	{
		ID:      "large-charge-follows-fraud-check",
		When:    `spans.exists(s, s.service == "payment" && s["app.payment.amount"] > 1000)`,
		Always:  `spans.filter(s, s.service == "payment" && s["app.payment.amount"] > 1000).all(s, spans.exists(f, f.name == "fraud.check" && f.status != "error" && f.before(s)))`,
		About:   `spans.filter(s, s.service == "payment" && s["app.payment.amount"] > 1000)`,
		Message: `"charge of " + string(about[0]["app.payment.amount"])`,
	},
	{
		ID:    "payment-database-has-one-owner",
		When:  `spans.exists(s, s.kind == "client" && s["db.namespace"] == "payment_db")`,
		Never: `spans.exists(s, s.kind == "client" && s["db.namespace"] == "payment_db" && s.service != "payment")`,
	},
	{
		ID:     "personal-data-names-its-user",
		When:   `spans.exists(s, s["app.data.classification"] in ["personal", "special"])`,
		Always: `spans.filter(s, s["app.data.classification"] in ["personal", "special"]).all(s, "user.id" in s.attributes || s.ancestors().exists(a, "user.id" in a.attributes))`,
	},
	{
		ID:    "orders-answer-in-five-seconds",
		When:  `spans.exists(s, s.kind == "server" && s["http.route"] == "/api/v2/orders/{id}/summary")`,
		Never: `spans.exists(s, s.kind == "server" && s["http.route"] == "/api/v2/orders/{id}/summary" && s.duration > duration("5s"))`,
	},
	{
		ID:    "tls-is-version-1-2-or-later",
		When:  `spans.exists(s, s["tls.protocol.version"] in ["1.0", "1.1", "1.2", "1.3"])`,
		Never: `spans.exists(s, s["tls.protocol.version"] in ["1.0", "1.1"])`,
	},
	{
		ID:    "environments-do-not-mix",
		When:  `spans.exists(s, s.resource["deployment.environment.name"] == "production")`,
		Never: `spans.exists(s, s.resource["deployment.environment.name"] != "production")`,
	},
	{
		ID:     "irreversible-tool-is-approved",
		When:   `spans.exists(s, s["gen_ai.operation.name"] == "execute_tool" && s["app.tool.effect"] == "irreversible")`,
		Always: `spans.filter(s, s["gen_ai.operation.name"] == "execute_tool" && s["app.tool.effect"] == "irreversible").all(s, s.parent.children.exists(a, "app.approval.by" in a.attributes && a.before(s)))`,
	},
	{
		ID:    "model-call-tokens-are-bounded",
		When:  `spans.exists(s, s["gen_ai.operation.name"] in ["chat", "generate_content"] && s["gen_ai.usage.input_tokens"] >= 0)`,
		Never: `spans.exists(s, s["gen_ai.usage.input_tokens"] > 200000 || s["gen_ai.usage.input_tokens"] + s["gen_ai.usage.output_tokens"] > 200000)`,
	},
}

// Tree are rules about parents, children, ancestors, descendants and order.
var Tree = []Rule{
	{
		ID:     "payment-is-called-by-its-clients",
		When:   `spans.exists(s, s.service == "payment" && s.kind == "server" && s.parent.kind == "client")`,
		Always: `spans.filter(s, s.service == "payment" && s.kind == "server" && s.parent.kind == "client").all(s, s.parent.service in ["gateway", "checkout", "orders", "billing", "refunds"])`,
	},
	{
		ID:     "queries-serve-somebody",
		When:   `spans.exists(s, s.kind == "client" && s["db.operation.name"] == "DELETE")`,
		Always: `spans.filter(s, s.kind == "client" && s["db.operation.name"] == "DELETE").all(s, s.ancestors().exists(a, a.kind == "server" || a.kind == "consumer"))`,
	},
	{
		ID:     "personal-data-names-its-user",
		When:   `spans.exists(s, s["app.data.classification"] == "personal")`,
		Always: `spans.filter(s, s["app.data.classification"] == "personal").all(s, "user.id" in s.attributes || s.ancestors().exists(a, "user.id" in a.attributes))`,
	},
	{
		ID:     "classified-data-is-audited",
		When:   `spans.exists(s, s["app.data.classification"] in ["confidential", "special", "cardholder"])`,
		Always: `spans.filter(s, s["app.data.classification"] in ["confidential", "special", "cardholder"]).all(s, s.parent.descendants().exists(d, "app.audit.action" in d.attributes && d.status != "error"))`,
	},
	{
		ID:     "charge-follows-fraud-check",
		When:   `spans.exists(s, s.name == "payment.charge" && s["app.payment.amount"] > 500)`,
		Always: `spans.filter(s, s.name == "payment.charge" && s["app.payment.amount"] > 500).all(s, spans.exists(f, f.name == "fraud.check" && f.status != "error" && f.before(s)))`,
	},
	{
		ID:    "retries-do-not-multiply",
		When:  `spans.exists(s, s.kind == "client" && s["http.request.resend_count"] >= 1)`,
		Never: `spans.exists(s, s.kind == "client" && s["http.request.resend_count"] >= 1 && s.ancestors().exists(a, a.kind == "client" && a["http.request.resend_count"] > 3))`,
	},
	{
		ID:     "data-is-read-after-an-authorization",
		When:   `spans.exists(s, s["app.data.classification"] in ["personal", "confidential"])`,
		Always: `spans.filter(s, s["app.data.classification"] in ["personal", "confidential"]).all(s, s.parent.children.exists(a, a["app.authz.decision"] == "allow" && a.before(s)))`,
	},
	{
		ID:    "agent-steps-are-bounded",
		When:  `spans.exists(s, s["gen_ai.operation.name"] == "invoke_agent")`,
		Never: `spans.exists(s, s["gen_ai.operation.name"] == "invoke_agent" && count(s.descendants(), d, d["gen_ai.operation.name"] == "chat") > 20)`,
	},
	{
		ID:    "failed-call-is-not-below-a-success",
		When:  `spans.exists(s, s.kind == "server" && s["http.response.status_code"] == 204 && s.children.exists(c, c.kind == "client"))`,
		Never: `spans.exists(s, s.kind == "server" && s["http.response.status_code"] == 204 && s.descendants().exists(d, d.kind == "client" && d.status == "error" && d["http.request.resend_count"] > 3))`,
	},
	{
		ID:    "requests-do-not-loop",
		When:  `spans.exists(s, s.kind == "server" && "http.route" in s.attributes && has(s.parent))`,
		Never: `spans.exists(s, s.kind == "server" && s.ancestors().exists(a, a.kind == "server" && a.service == s.service && a["http.route"] == s["http.route"]))`,
	},
}

// Condition is a condition on one span in both languages.
type Condition struct {
	// CEL is the condition on a span s.
	CEL string
	// OTTL is the same condition in OTTL.
	OTTL string
}

// Conditions are conditions on one span each.
var Conditions = []Condition{
	{`s.attributes["http.response.status_code"] >= 500`, `span.attributes["http.response.status_code"] >= 500`},
	{`s.kind == "server" && s.attributes["http.request.method"] == "POST"`, `span.kind == SPAN_KIND_SERVER and span.attributes["http.request.method"] == "POST"`},
	{`s.attributes["db.system.name"] == "postgresql" && s.attributes["db.response.returned_rows"] > 200`, `span.attributes["db.system.name"] == "postgresql" and span.attributes["db.response.returned_rows"] > 200`},
	{`s.name == "fraud.check"`, `span.name == "fraud.check"`},
	{`s.attributes["server.address"].matches("\\.example\\.com$")`, `IsMatch(span.attributes["server.address"], "\\.example\\.com$")`},
	{`s.attributes["app.cache.hit"] == false && s.status == "error"`, `span.attributes["app.cache.hit"] == false and span.status.code == STATUS_CODE_ERROR`},
	{`s.attributes["app.payment.amount"] > 1000.0`, `span.attributes["app.payment.amount"] > 1000.0`},
	{`s.resource["service.name"] == "checkout" && s.status == "error"`, `resource.attributes["service.name"] == "checkout" and span.status.code == STATUS_CODE_ERROR`},
	{`s.duration > duration("1s")`, `span.end_time_unix_nano - span.start_time_unix_nano > 1000000000`},
	{`"user.id" in s.attributes && s.attributes["http.route"] == "/api/v2/orders/{id}/summary"`, `span.attributes["user.id"] != nil and span.attributes["http.route"] == "/api/v2/orders/{id}/summary"`},
}

// OfConditions returns a rule for each condition. It passes for traces in which a span meets the
// condition, and applies to no other trace.
func OfConditions(conditions []Condition) []Rule {
	var set []Rule
	for i, c := range conditions {
		// The always part holds for every span that was found.
		set = append(set, Rule{ID: "condition-" + string(rune('a'+i)), When: "spans.exists(s, " + c.CEL + ")", Always: `spans.size() > 0`})
	}
	return set
}
