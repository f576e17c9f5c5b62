package tracetest

import "github.com/betracehq/betrace/trace"

// Kind is the kind of a trace: it determines the services and the shape.
type Kind string

// The kinds of traces. Each can have any size; small traces lack some of the parts.
const (
	// Checkout: web → checkout → payment → fraud check, card vault, database,
	// retries, an order sent through a queue.
	Checkout Kind = "checkout"
	// Refund: an administrator's request that needs approval.
	Refund Kind = "refund"
	// Export: an administrator's export that must be audited.
	Export Kind = "export"
	// Batch: a poll that receives a batch of messages from a queue.
	Batch Kind = "batch"
	// Agent: an AI agent that talks to a model and calls tools.
	Agent Kind = "agent"
	// Probe: a health check and the calls that it causes.
	Probe Kind = "probe"
)

// AllKinds returns every kind.
func AllKinds() []Kind { return []Kind{Checkout, Refund, Export, Batch, Agent, Probe} }

type kindInfo struct {
	begin  func(*builder) int // opens the root
	inner  service            // called by the root if there are enough spans
	route  string
	scenes []*scene
}

var kindTable = map[Kind]kindInfo{
	Checkout: {request(svcWeb, "POST", "/checkout"), svcCheckout, "/v1/orders",
		[]*scene{&roles, &charge, &bypass, &vault, &database, &retry, &queue, &failure, &cards, &environment, &latency}},
	Refund: {request(svcConsole, "POST", "/admin/refunds"), svcRefunds, "/v1/refunds",
		[]*scene{&admin, &roles, &refund, &database, &failure, &environment}},
	Export: {request(svcConsole, "POST", "/admin/exports"), svcExporter, "/v1/exports",
		[]*scene{&admin, &roles, &export, &cards, &database, &failure}},
	Batch: {receive, noService, "",
		[]*scene{&batch, &queue, &database, &retry, &failure, &environment}},
	Agent: {request(svcWeb, "POST", "/chat"), svcAgent, "/v1/chat",
		[]*scene{&roles, &toolCall, &retry, &failure, &cards, &latency}},
	Probe: {request(svcWeb, "GET", "/healthz"), noService, "",
		[]*scene{&roles, &failure, &latency}},
}

// request returns a function that begins a trace with an HTTP request of a user.
func request(svc service, method, route string) func(*builder) int {
	return func(b *builder) int {
		i := b.open(noParent, svc, trace.KindServer, method+" "+route)
		b.spans[i].scope = scopeHTTP
		b.set(i, str("http.request.method", method), str("url.path", route), str("url.scheme", "https"), str("http.route", route),
			num("http.response.status_code", 200), str("server.address", "shop.example.com"), num("server.port", 443),
			str("client.address", "203.0.113.7"), str("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0"),
			str("user.id", b.word("u")), list("user.roles", trace.StringValue("customer")), str("session.id", b.word("s")))
		return i
	}
}

// receive begins a trace with a poll of a queue.
func receive(b *builder) int {
	i := b.open(noParent, svcOrders, trace.KindClient, "receive orders")
	b.spans[i].scope = scopeKafka
	b.set(i, str("messaging.system", "kafka"), str("messaging.destination.name", "orders"),
		str("messaging.operation.name", "poll"), str("messaging.operation.type", "receive"),
		str("messaging.consumer.group.name", "orders"), str("server.address", "kafka.shop.internal"), num("server.port", 9093))
	return i
}

// word returns prefix and 16 hexadecimal digits. A prefix that is a letter prevents the word from looking
// like a card number.
func (b *builder) word(prefix string) string {
	const digits = "0123456789abcdef"
	text := make([]byte, 0, len(prefix)+16)
	text = append(text, prefix...)
	for n, bits := 0, b.rng.Uint64(); n < 16; n, bits = n+1, bits>>4 {
		text = append(text, digits[bits&15])
	}
	return string(text)
}
