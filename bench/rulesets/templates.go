package rulesets

// template is a rule with placeholders for the parts that make a rule unique:
//
//   - {service}, {route}, {table}, {topic}, {function}, {host}: a name of the shop that belongs to one service, or a
//     name that no longer occurs; {callers}: a list of the service's callers;
//   - {user}, {tenant}, {action}, {class}, {model}, {tool}: a value of an attribute;
//   - {n 5 90}: an integer from 5 to 90, another one in each place; {m 5 90}: the same integer in all places.
type template struct {
	when          string
	always, never string
	about         string
	message       string
}

// templates are modelled on the rules of the shipped packs: most select a few spans by a string, and then
// test those spans or the spans around them.
var templates = []template{
	// One span: strings, numbers, times.
	{
		when:    `spans.exists(s, s.kind == "server" && s.service == "{service}" && s["http.response.status_code"] >= {m 500 599})`,
		always:  `spans.filter(s, s.kind == "server" && s.service == "{service}" && s["http.response.status_code"] >= {m 500 599}).all(s, s.status == "error")`,
		about:   `spans.filter(s, s.kind == "server" && s["http.response.status_code"] >= {m 500 599})`,
		message: `string(about[0]["http.response.status_code"]) + " from " + about[0].service`,
	},
	{
		when:  `spans.exists(s, s.kind == "client" && s.service == "{service}" && s["http.request.resend_count"] >= 1)`,
		never: `spans.exists(s, s.kind == "client" && s.service == "{service}" && s["http.request.resend_count"] > {n 3 40})`,
	},
	{
		when:  `spans.exists(s, s.kind == "server" && s["http.route"] == "{route}")`,
		never: `spans.exists(s, s.kind == "server" && s["http.route"] == "{route}" && s.duration > duration("{n 4000 20000}ms"))`,
		about: `spans.filter(s, s.kind == "server" && s["http.route"] == "{route}")`,
	},
	{
		when:  `spans.exists(s, s.kind == "client" && s["db.namespace"] == "{service}_db" && s["db.response.returned_rows"] >= {n 1 60})`,
		never: `spans.exists(s, s.kind == "client" && s["db.namespace"] == "{service}_db" && s.service != "{service}")`,
	},
	{
		when:    `spans.exists(s, s["db.collection.name"] == "{table}" && s["db.operation.name"] in ["INSERT", "UPDATE", "DELETE"])`,
		never:   `spans.exists(s, s["db.collection.name"] == "{table}" && s["db.response.returned_rows"] > {n 500 90000})`,
		about:   `spans.filter(s, s["db.collection.name"] == "{table}" && s["db.response.returned_rows"] > 500)`,
		message: `string(about[0]["db.response.returned_rows"]) + " rows"`,
	},
	{
		when:  `spans.exists(s, s.kind == "producer" && s["messaging.destination.name"] == "{topic}")`,
		never: `spans.exists(s, s["messaging.destination.name"] == "{topic}" && s["messaging.message.body.size"] > {n 50001 900000})`,
	},
	{
		when:  `spans.exists(s, s["tls.protocol.version"] in ["1.0", "1.1", "1.2", "1.3"] && s.service == "{service}")`,
		never: `spans.exists(s, s.service == "{service}" && s["tls.protocol.version"] in ["1.0", "1.1"] && s["server.port"] != {n 1 440})`,
	},
	{
		when:  `spans.exists(s, s.kind == "client" && s["server.address"] == "{host}" && s.duration > duration("{n 1 900}us"))`,
		never: `spans.exists(s, s.kind == "client" && s["server.address"] == "{host}" && s["url.full"].startsWith("http://"))`,
	},
	{
		when:  `spans.exists(s, s.name == "{function}" && s["app.queue.depth"] >= {n 0 60})`,
		never: `spans.exists(s, s.name == "{function}" && (s["app.cache.hit_ratio"] > 1.0 || s["app.queue.depth"] > {n 900 99000}))`,
	},
	{
		when:  `spans.exists(s, s.name == "{function}" && s["app.cpu.share"] > 0.{n 1 899})`,
		never: `spans.exists(s, s.name == "{function}" && s["app.cpu.share"] > 1.{n 1 999})`,
	},
	{
		when:    `spans.exists(s, s.status == "error" && s.service == "{service}" && s.kind in ["client", "server", "consumer"])`,
		never:   `spans.exists(s, s.status == "error" && s.service == "{service}" && !("error.type" in s.attributes) && s.duration >= duration("{n 0 9000}ns"))`,
		message: `"an error without a type in {service}"`,
	},
	{
		when:  `spans.exists(s, s["user.id"] == "{user}" && s.kind == "server")`,
		never: `spans.exists(s, s["user.id"] == "{user}" && s["http.response.body.size"] > {n 400000 9000000})`,
	},
	{
		when:  `spans.exists(s, s["app.tenant.id"] == "{tenant}" && s["http.request.method"] == "POST")`,
		never: `spans.exists(s, s["app.tenant.id"] == "{tenant}" && s["http.request.body.size"] > {n 60000 990000})`,
	},
	{
		when:  `spans.exists(s, s["app.payment.amount"] > {n 10 990}.5)`,
		never: `spans.exists(s, s["app.payment.amount"] > {n 4901 9900}.25 && s["app.payment.currency"] != "JPY")`,
	},
	{
		when:    `spans.exists(s, s["gen_ai.request.model"] == "{model}" && s["gen_ai.usage.input_tokens"] >= {n 0 9000})`,
		never:   `spans.exists(s, s["gen_ai.request.model"] == "{model}" && s["gen_ai.usage.input_tokens"] + s["gen_ai.usage.output_tokens"] > {n 200000 240000})`,
		about:   `spans.filter(s, s["gen_ai.usage.input_tokens"] > 200000)`,
		message: `string(about[0]["gen_ai.usage.input_tokens"]) + " tokens"`,
	},
	{
		when:  `spans.exists(s, s["gen_ai.provider.name"].matches(".") && s["gen_ai.usage.output_tokens"] > {n 0 3000})`,
		never: `spans.exists(s, "gen_ai.provider.name" in s.attributes && !(s["gen_ai.provider.name"] in ["anthropic", "aws.bedrock", "azure.ai.openai", "openai", "provider-{n 0 99999}"]))`,
	},
	{
		when:  `spans.exists(s, s.kind == "client" && s.service == "{service}" && s["server.address"].contains("."))`,
		never: `spans.exists(s, s.kind == "client" && s.service == "{service}" && s["server.address"].endsWith(".example.com") && !("app.recipient.agreement" in s.attributes) && s["server.port"] == {n 1 400})`,
	},
	{
		when:  `spans.exists(s, s["db.query.text"].matches("^(INSERT|UPDATE) {table}\\b"))`,
		never: `spans.exists(s, s["db.query.text"].matches("(?i)\\b(cvv2?|pin_?block|track{n 0 99999})\\b"))`,
	},
	{
		when:  `spans.exists(s, s["http.route"].startsWith("{prefix}") && s["http.request.body.size"] > {n 0 20000})`,
		never: `spans.exists(s, s["http.route"].startsWith("{prefix}") && s["url.scheme"] == "http")`,
	},
	{
		when:  `spans.exists(s, s.resource["deployment.environment.name"] == "production" && s.service == "{service}" && s.duration > duration("{n 1 9000}us"))`,
		never: `spans.exists(s, s.resource["deployment.environment.name"] != "production")`,
	},
	{
		when:  `spans.exists(s, s.resource["cloud.region"] == "eu-west-1" && s["app.data.classification"] == "{class}" && s["db.response.returned_rows"] >= {n 0 50})`,
		never: `spans.exists(s, s["app.data.classification"] == "{class}" && s.resource["cloud.region"] == "eu-west-1" && s["db.response.returned_rows"] > {n 500 9000})`,
	},
	{
		when:  `spans.exists(s, s["app.feature.variant"] == "b" && s.service == "{service}")`,
		never: `spans.exists(s, s["app.retry.budget"] > {n 9 90} && s.service == "{service}")`,
	},
	{
		when:  `spans.exists(s, s["app.cache.hit"] == false && s["thread.name"] == "worker-pool-thread-{n 0 40}" && s.service == "{service}")`,
		never: `spans.exists(s, s["app.cache.hit"] == true && s["thread.id"] >= {n 64 900} && s.service == "{service}")`,
	},
	// Numbers of spans.
	{
		when:  `count(spans, s, s.kind == "client" && s["db.collection.name"] == "{table}") > {n 0 3}`,
		never: `count(spans, s, s["db.collection.name"] == "{table}" && s["db.response.returned_rows"] > 20000) > {n 1 900}`,
	},
	{
		when:  `spans.filter(s, s.service == "{service}" && s.status == "error").size() >= {n 1 3}`,
		never: `spans.filter(s, s.service == "{service}" && s.status == "error" && s.kind == "producer").size() > {n 0 900}`,
	},
	// Parents and children.
	{
		when:   `spans.exists(s, s.service == "{service}" && s.kind == "server" && has(s.parent))`,
		always: `spans.filter(s, s.service == "{service}" && s.kind == "server" && s.parent.kind == "client").all(s, s.parent.service in [{callers}, "{service}-canary-{n 0 9999}"])`,
		about:  `spans.filter(s, s.service == "{service}" && s.kind == "server")`,
	},
	{
		when:  `spans.exists(s, s.kind == "server" && s.service == "{service}" && s.duration > duration("{n 1 300}ms") && s.parent.kind == "client")`,
		never: `spans.exists(s, s.kind == "server" && s.service == "{service}" && s.parent.kind == "client" && s.duration - s.parent.duration > duration("{n 1000 9000}ms"))`,
	},
	{
		when:  `spans.exists(s, s.kind == "client" && s["service.peer.name"] == "{service}")`,
		never: `spans.exists(s, s.kind == "client" && s["service.peer.name"] == "{service}" && s.children.exists(c, c.kind == "server" && c.service != "{service}" && c.duration >= duration("{n 0 9000}ns")))`,
	},
	{
		when:   `spans.exists(s, s["app.data.classification"] == "{class}" && s.service == "{service}")`,
		always: `spans.filter(s, s["app.data.classification"] == "{class}" && s.service == "{service}").all(s, s.parent.children.exists(a, a["app.authz.decision"] in ["allow", "allow-{n 0 99999}"] && a.before(s)))`,
	},
	// Ancestors and descendants.
	{
		when:   `spans.exists(s, s["app.data.classification"] == "{class}" && s["db.collection.name"] == "{table}")`,
		always: `spans.filter(s, s["app.data.classification"] == "{class}" && s["db.collection.name"] == "{table}").all(s, "user.id" in s.attributes || s.ancestors().exists(a, "user.id" in a.attributes))`,
		about:  `spans.filter(s, s["app.data.classification"] == "{class}")`,
	},
	{
		when:   `spans.exists(s, s["app.audit.action"] == "{action}" && s.service == "{service}")`,
		always: `spans.filter(s, s["app.audit.action"] == "{action}" && s.service == "{service}").all(s, s["app.authn.method"] in ["mfa", "webauthn", "certificate-{n 0 9999}"] || s.ancestors().exists(a, a.kind in ["server", "consumer"]))`,
	},
	{
		when:  `spans.exists(s, s.kind == "client" && s.service == "{service}" && s["http.request.resend_count"] >= 1)`,
		never: `spans.exists(s, s.kind == "client" && s.service == "{service}" && s["http.request.resend_count"] >= 1 && s.ancestors().exists(a, a.kind == "client" && a["http.request.resend_count"] > {n 3 8}))`,
	},
	{
		when:   `spans.exists(s, s["app.data.classification"] in ["{class}", "secret"] && s["db.namespace"] == "{service}_db")`,
		always: `spans.filter(s, s["app.data.classification"] in ["{class}", "secret"] && s["db.namespace"] == "{service}_db").all(s, s.parent.descendants().exists(d, "app.audit.action" in d.attributes && d.status != "error" && d.duration < duration("{n 60 900}s")))`,
	},
	{
		when:  `spans.exists(s, s["messaging.destination.name"] == "{topic}" && s["messaging.batch.message_count"] >= {n 1 4})`,
		never: `spans.exists(s, s["messaging.destination.name"] == "{topic}" && count(s.descendants(), d, d["messaging.operation.type"] == "process") < s["messaging.batch.message_count"])`,
	},
	{
		when:  `spans.exists(s, s["gen_ai.operation.name"] == "invoke_agent" && s.service == "{service}")`,
		never: `spans.exists(s, s["gen_ai.operation.name"] == "invoke_agent" && s.service == "{service}" && count(s.descendants(), d, d["gen_ai.operation.name"] in ["chat", "generate_content"]) > {n 5 400})`,
	},
	{
		when:  `spans.exists(s, s.kind == "server" && s["http.route"] == "{route}" && has(s.parent))`,
		never: `spans.exists(s, s.kind == "server" && s["http.route"] == "{route}" && s.duration > duration("{n 1 900}ns") && s.ancestors().exists(a, a.kind == "server" && a.service == s.service && a["http.route"] == s["http.route"]))`,
	},
	// Order.
	{
		when:    `spans.exists(s, s.service == "{service}" && s["app.payment.amount"] > {m 1 990})`,
		always:  `spans.filter(s, s.service == "{service}" && s["app.payment.amount"] > {m 1 990}).all(s, spans.exists(f, f.name == "fraud.check" && f.status != "error" && f.before(s)))`,
		about:   `spans.filter(s, s.service == "{service}" && s["app.payment.amount"] > {m 1 990})`,
		message: `"charge of " + string(about[0]["app.payment.amount"]) + " without a fraud check"`,
	},
	{
		when:   `spans.exists(s, s["gen_ai.tool.name"] == "{tool}" && s["app.tool.effect"] == "irreversible")`,
		always: `spans.filter(s, s["gen_ai.tool.name"] == "{tool}" && s["app.tool.effect"] == "irreversible").all(s, s.parent.children.exists(a, a["app.approval.by"] in ["ann", "bob", "carol", "dave", "eve-{n 0 99999}"] && a.before(s)))`,
		about:  `spans.filter(s, s["gen_ai.tool.name"] == "{tool}")`,
	},
	{
		when:   `spans.exists(s, s["cicd.pipeline.task.type"] == "deploy" && s.service == "{service}")`,
		always: `spans.filter(s, s["cicd.pipeline.task.type"] == "deploy" && s.service == "{service}").all(s, spans.exists(t, t["cicd.pipeline.task.type"] == "test" && t["cicd.pipeline.task.run.result"] in ["success", "run-{n 0 99999}"] && t.before(s)))`,
	},
	{
		when:  `spans.exists(s, s["gen_ai.tool.name"] == "{tool}" && s.duration >= duration("{n 0 9000}us"))`,
		never: `spans.exists(s, s["gen_ai.tool.name"] == "{tool}" && s["app.tool.effect"] == "outbound" && !("app.approval.by" in s.attributes) && spans.exists(u, u["app.tool.effect"] == "untrusted_input" && u.before(s) && u.duration > duration("{n 60 900}s")))`,
	},
	// Any two spans.
	{
		when:  `spans.exists(s, s["app.tenant.id"] == "{tenant}" && s["http.response.body.size"] > {n 0 9000})`,
		never: `spans.exists(s, s["app.tenant.id"] == "{tenant}" && spans.exists(t, t["app.tenant.id"] != "{tenant}"))`,
	},
	{
		when:  `spans.exists(s, s["session.id"].startsWith("session-{n 0 9}") && s.service == "{service}")`,
		never: `spans.exists(s, s.service == "{service}" && s.kind == "server" && spans.exists(t, t["session.id"] != s["session.id"] && t.duration > duration("{n 0 90}ns")))`,
	},
}
