package batches

import (
	"math"

	"github.com/betracehq/betrace/trace"
)

// part returns part i of n of a time interval, with some margin around it.
func (g *generator) part(start, end uint64, i, n int) (from, to uint64) {
	length := float64(end-start) * 0.94 / float64(n)
	at := float64(end-start)*0.03 + length*(float64(i)+0.1*g.rng.Float64())
	from = start + uint64(at)
	return from, from + uint64(length*(0.3+0.55*g.rng.Float64()))
}

// server adds a request to a service, and n-1 spans beneath it.
func (g *generator) server(service, parent int, start, end uint64, n int) {
	method, route := pick(g, methods), pick(g, Routes[service])
	code := pick(g, statusCodes)
	failed := g.rng.IntN(60) == 0
	if failed {
		code = [...]int64{500, 502, 503, 504}[g.rng.IntN(4)]
	}
	isRoot := len(g.spans) == 0
	me := g.open(service, parent, trace.KindServer, method+" "+route, start, end)
	if failed && !g.wrong(failureWithoutStatus) {
		g.fail()
	}
	g.text("http.request.method", method)
	g.text("http.route", route)
	g.text("url.path", route)
	g.text("url.scheme", "https")
	g.whole("http.response.status_code", code)
	g.whole("http.request.body.size", int64(min(g.rng.ExpFloat64()*4000, 60_000)))
	g.whole("http.response.body.size", int64(min(g.rng.ExpFloat64()*20_000, 400_000)))
	tenant := g.tenant
	if !isRoot && g.wrong(foreignTenant) {
		tenant = "tenant-other"
	}
	g.text("app.tenant.id", tenant)
	g.text("tls.protocol.version", g.tls())
	g.text("user_agent.original", pick(g, userAgents))
	g.text("client.address", numbered("203.0.113.", g.rng.IntN(250)))
	if isRoot || g.rng.IntN(8) == 0 {
		if !g.wrong(anonymous) {
			g.text("user.id", g.user)
		}
		g.text("app.authn.method", pick(g, authnMethods))
	}
	g.below(service, me, start, end, n-1)
}

func (g *generator) tls() string {
	v := pick(g, tlsVersions)
	if g.wrong(weakTLS) {
		v = "1.1"
	}
	return v
}

// below adds n spans beneath a span.
func (g *generator) below(service, parent int, start, end uint64, n int) {
	if n <= 0 {
		return
	}
	if n >= 4 {
		if k := g.scene(service, parent, start, start+(end-start)/2, n); k > 0 {
			n -= k
			start += (end - start) / 2
		}
	}
	children := min(n, 1+g.rng.IntN(4))
	if n > 100 {
		children = min(n, 4+g.rng.IntN(12))
	}
	for i := range children {
		// The last child takes all remaining spans, the others a part of them.
		share := n
		if i < children-1 {
			share = max(1, min(n-(children-1-i), int(float64(n)*g.rng.Float64()*2/float64(children-i))))
		}
		n -= share
		from, to := g.part(start, end, i, children)
		g.child(service, parent, from, to, share)
	}
}

// child adds a span with n-1 spans beneath it.
func (g *generator) child(service, parent int, start, end uint64, n int) {
	to := -1
	if len(callees[service]) > 0 {
		to = pick(g, callees[service])
	}
	switch r := g.rng.IntN(100); {
	case n == 1 && r < 55:
		g.query(service, parent, start, end)
	case n == 1 && r < 65:
		g.outside(service, parent, start, end)
	case n == 1 && r < 72:
		g.producer(service, parent, pick(g, Topics[service]), start, end)
	case n == 1:
		g.internal(service, parent, start, end, n)
	case r < 55 && to >= 0:
		g.call(service, to, parent, start, end, n)
	case r < 65 && to >= 0:
		topic := pick(g, Topics[service])
		me := g.producer(service, parent, topic, start, end)
		from, until := g.part(start, end, 0, 1)
		g.consumer(to, me, topic, from, until, n-1)
	default:
		g.internal(service, parent, start, end, n)
	}
}

// call adds a client span and the request to the called service.
func (g *generator) call(service, to, parent int, start, end uint64, n int) {
	if g.wrong(wrongCaller) {
		service, to = len(Services)-1, 5
	}
	me := g.open(service, parent, trace.KindClient, pick(g, methods), start, end)
	g.client(Services[to] + ".internal")
	g.text("service.peer.name", Services[to])
	from, until := g.part(start, end, 0, 1)
	if g.rng.IntN(300) == 0 { // clock skew
		from = start - 10_000 - g.rng.Uint64N(90_000)
	}
	g.server(to, me, from, until, n-1)
}

// client adds the attributes of a client span.
func (g *generator) client(host string) {
	method := g.spans[len(g.spans)-1].name
	g.text("http.request.method", method)
	g.text("server.address", host)
	g.whole("server.port", 443)
	path := g.many("/")
	g.text("url.full", "https://"+host+path)
	code := pick(g, statusCodes)
	if g.rng.IntN(60) == 0 {
		code = 503
		g.fail()
	}
	g.whole("http.response.status_code", code)
	g.text("tls.protocol.version", g.tls())
	if resent := g.rng.IntN(40); resent < 3 {
		count := int64(1 + resent)
		if g.wrong(manyRetries) {
			count = 9
		}
		g.whole("http.request.resend_count", count)
	}
}

func (g *generator) outside(service, parent int, start, end uint64) {
	g.open(service, parent, trace.KindClient, pick(g, methods), start, end)
	g.client(pick(g, Hosts))
	g.text("app.recipient.agreement", "dpa")
}

func (g *generator) internal(service, parent int, start, end uint64, n int) {
	me := g.open(service, parent, trace.KindInternal, pick(g, Functions[service]), start, end)
	g.double("app.cache.hit_ratio", float64(g.rng.IntN(101))/100)
	g.whole("app.queue.depth", int64(min(g.rng.ExpFloat64()*30, 900)))
	if g.rng.IntN(50) == 0 {
		g.fail()
	}
	g.below(service, me, start, end, n-1)
}

// query adds a query to the service's own database.
func (g *generator) query(service, parent int, start, end uint64) {
	operation, table := pick(g, dbOperations), pick(g, Tables[service])
	g.open(service, parent, trace.KindClient, operation+" "+table, start, end)
	g.database(service, operation, table)
}

func (g *generator) database(service int, operation, table string) {
	namespace := Services[service] + "_db"
	if g.wrong(foreignDatabase) {
		namespace = "payment_db"
	}
	g.text("db.system.name", dbSystems[service%len(dbSystems)])
	g.text("db.namespace", namespace)
	g.text("db.operation.name", operation)
	g.text("db.collection.name", table)
	g.text("db.query.text", operation+" "+table+" WHERE id = ? AND tenant = ?")
	rows := int64(min(g.rng.ExpFloat64()*40, 500))
	if g.wrong(manyRows) {
		rows = 250_000
	}
	g.whole("db.response.returned_rows", rows)
	g.text("server.address", Hosts[service%80])
	g.whole("server.port", 5432)
	if g.rng.IntN(80) == 0 {
		g.fail()
	}
}

func (g *generator) producer(service, parent int, topic string, start, end uint64) int {
	me := g.open(service, parent, trace.KindProducer, "send "+topic, start, end)
	g.messaging(topic, "send")
	return me
}

func (g *generator) messaging(topic, operation string) {
	g.text("messaging.system", "kafka")
	g.text("messaging.destination.name", topic)
	g.text("messaging.operation.type", operation)
	g.text("messaging.message.id", g.many("message-"))
	g.whole("messaging.message.body.size", int64(min(g.rng.ExpFloat64()*900, 50_000)))
}

func (g *generator) consumer(service, parent int, topic string, start, end uint64, n int) {
	me := g.open(service, parent, trace.KindConsumer, "process "+topic, start, end)
	g.messaging(topic, "process")
	g.text("messaging.consumer.group.name", Services[service])
	if g.rng.IntN(60) == 0 {
		g.fail()
	}
	if me == 0 {
		g.text("user.id", g.user)
	}
	g.below(service, me, start, end, n-1)
}

// scene occasionally adds up to n spans that rules are about, and returns their number.
func (g *generator) scene(service, parent int, start, end uint64, n int) int {
	domain := domains[service%len(domains)]
	before := len(g.spans)
	switch r := g.rng.IntN(100); {
	case domain == "payment" || domain == "billing" && r < 30:
		g.payment(service, parent, start, end)
	case domain == "agent" && n >= 8 || n >= 8 && r == 99:
		g.agent(service, parent, start, end, n)
	case domain == "account" || r < 12:
		g.reading(service, parent, start, end)
	case r < 16 && n >= 5:
		g.batch(service, parent, start, end, n)
	}
	return len(g.spans) - before
}

// payment adds a charge that follows a check.
func (g *generator) payment(service, parent int, start, end uint64) {
	amount := math.Round(min(g.rng.ExpFloat64()*60_000, 490_000)) / 100
	checked := !g.wrong(chargeUnchecked)
	if from, to := g.part(start, end, 0, 3); checked {
		g.open(service, parent, trace.KindInternal, "fraud.check", from, to)
		g.double("app.fraud.score", float64(g.rng.IntN(1000))/1000)
	}
	from, to := g.part(start, end, 1, 3)
	g.open(service, parent, trace.KindClient, "payment.charge", from, to)
	g.double("app.payment.amount", amount)
	g.text("app.payment.currency", pick(g, currencies))
	g.text("server.address", "acquirer.example.com")
	g.text("tls.protocol.version", g.tls())
	from, to = g.part(start, end, 2, 3)
	g.open(service, parent, trace.KindInternal, "ledger.append", from, to)
	g.text("app.audit.action", "charge")
}

// reading adds an access to data that was approved and is audited.
func (g *generator) reading(service, parent int, start, end uint64) {
	from, to := g.part(start, end, 0, 3)
	g.open(service, parent, trace.KindInternal, "authorize", from, to)
	g.text("app.authz.decision", "allow")
	from, to = g.part(start, end, 1, 3)
	table := pick(g, Tables[service])
	g.open(service, parent, trace.KindClient, "SELECT "+table, from, to)
	g.database(service, "SELECT", table)
	g.text("app.data.classification", pick(g, classifications))
	g.text("app.data.legal_basis", pick(g, legalBases))
	from, to = g.part(start, end, 2, 3)
	action := pick(g, auditActions)
	if !g.wrong(unaudited) {
		g.open(service, parent, trace.KindInternal, "audit.append", from, to)
		g.text("app.audit.action", action)
	}
}

// agent adds an agent that calls a model and tools.
func (g *generator) agent(service, parent int, start, end uint64, n int) {
	me := g.open(service, parent, trace.KindInternal, "invoke_agent", start, end)
	g.text("gen_ai.operation.name", "invoke_agent")
	steps := min((n-1)/3, 1+g.rng.IntN(5))
	for i := range steps {
		s, e := g.part(start, end, i, steps)
		from, to := g.part(s, e, 0, 3)
		g.open(service, me, trace.KindClient, "chat", from, to)
		g.text("gen_ai.operation.name", "chat")
		model := pick(g, models)
		g.text("gen_ai.request.model", model)
		g.text("gen_ai.provider.name", pick(g, providers))
		tokens := int64(min(g.rng.ExpFloat64()*6000, 90_000))
		if g.wrong(manyTokens) {
			tokens = 250_000
		}
		g.whole("gen_ai.usage.input_tokens", tokens)
		g.whole("gen_ai.usage.output_tokens", int64(min(g.rng.ExpFloat64()*500, 8000)))
		g.double("gen_ai.request.temperature", float64(g.rng.IntN(11))/10)
		from, to = g.part(s, e, 1, 3)
		if !g.wrong(unapprovedTool) {
			g.open(service, me, trace.KindInternal, "approve", from, to)
			g.text("app.approval.by", pick(g, approvers))
		}
		from, to = g.part(s, e, 2, 3)
		tool := g.rng.IntN(len(tools))
		g.open(service, me, trace.KindInternal, "execute_tool "+tools[tool], from, to)
		g.text("gen_ai.operation.name", "execute_tool")
		g.text("gen_ai.tool.name", tools[tool])
		g.text("app.tool.effect", toolEffects[tool])
	}
}

// batch adds several messages that are received together.
func (g *generator) batch(service, parent int, start, end uint64, n int) {
	topic := pick(g, Topics[service])
	count := min(n-1, 2+g.rng.IntN(6))
	me := g.open(service, parent, trace.KindConsumer, "receive "+topic, start, end)
	g.messaging(topic, "receive")
	g.whole("messaging.batch.message_count", int64(count))
	for i := range count {
		from, to := g.part(start, end, i, count)
		g.open(service, me, trace.KindConsumer, "process "+topic, from, to)
		g.messaging(topic, "process")
		g.text("messaging.consumer.group.name", Services[service])
	}
}

// deployment adds a pipeline that tests and deploys.
func (g *generator) deployment(start, end uint64, n int) {
	service := g.rng.IntN(len(Services))
	me := g.open(service, -1, trace.KindInternal, "pipeline", start, end)
	tested := !g.wrong(untestedDeploy)
	for i := range n - 1 {
		from, to := g.part(start, end, i, n-1)
		typ := "build"
		switch i {
		case 0:
			typ = "test"
		case n - 2:
			typ = "deploy"
		}
		if typ == "test" && !tested {
			typ = "build"
		}
		g.open(service, me, trace.KindInternal, typ, from, to)
		g.text("cicd.pipeline.task.type", typ)
		g.text("cicd.pipeline.task.run.result", "success")
	}
}
