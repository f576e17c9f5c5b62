package tracetest

import "github.com/betracehq/betrace/trace"

func (b *builder) job() int {
	return b.span(b.at, svcInventory, trace.KindInternal, "inventory.recount", num("inventory.items", 1+b.rng.Int64N(900)))
}

var failure = scene{name: "failure", rule: "errors-carry-an-exception", need: 1, ways: []way{
	{name: "none", doc: "Nothing fails.", play: func(b *builder) { b.job() }},
	{name: "thrown", doc: "An error with the exception that caused it.", play: func(b *builder) {
		b.throw(b.job(), "inventory.Locked", "the shelf is locked")
	}},
	{name: "unset", doc: "HTTP status 500 while the span's status is unset: not an error by OpenTelemetry's rules.", play: func(b *builder) {
		b.set(b.job(), num("http.response.status_code", 500))
	}},
	{name: "silent", violates: true, doc: "An error without any event.", play: func(b *builder) { b.fail(b.job(), "") }},
	{name: "other-event", violates: true, doc: "An error whose only event is not an exception.", play: func(b *builder) {
		i := b.job()
		b.fail(i, "the shelf is locked")
		b.event(i, "retry.scheduled", num("retry.delay_ms", 50))
	}},
	{name: "untyped", violates: true, needs: MissingAttributes, doc: "An error with an exception event that lacks exception.type.", play: func(b *builder) {
		i := b.job()
		b.fail(i, "the shelf is locked")
		b.event(i, "exception", str("exception.message", "the shelf is locked"))
	}},
	{
		name: "exception-in-a-copy", needs: UnequalCopies,
		doc: "Two copies of an error, one with its exception: the longer list of events is greater.",
		play: func(b *builder) {
			i := b.job()
			b.throw(i, "inventory.Locked", "the shelf is locked")
			b.copySpan(i, func(s *span) { s.events = nil })
		},
	},
	{
		name: "error-in-a-copy", violates: true, needs: UnequalCopies,
		doc: "Two copies of a span, one of which is an error, neither with an exception.",
		play: func(b *builder) {
			b.copySpan(b.job(), func(s *span) { s.status = trace.StatusError })
		},
	},
}}

// leak calls a service with an attribute that may hold a card number.
func leak(attr trace.Attribute) func(*builder) {
	return func(b *builder) {
		i := b.span(b.at, svcCheckout, trace.KindClient, "GET /v1/points", str("http.request.method", "GET"), str("url.template", "/v1/points"),
			str("server.address", "loyalty.shop.internal"), num("server.port", 443), num("http.response.status_code", 200), attr)
		b.spans[i].scope, b.spans[i].keepsAttrs = scopeHTTP, true
	}
}

const cardNumber = "4111111111111111" // a test number, which no bank issues

var cards = scene{name: "cards", rule: "no-card-number-in-telemetry", need: 1, ways: []way{
	{name: "none", doc: "A call without a card number.", play: leak(str("url.full", "https://loyalty.shop.internal/v1/points?token=tok_9f"))},
	{name: "other-number", doc: "Numbers of 15 and of 17 digits, which are not card numbers.", play: leak(str("url.full", "https://loyalty.shop.internal/v1/points?a=411111111111111&b=41111111111111111"))},
	{name: "in-url", violates: true, doc: "A card number in a URL.", play: leak(str("url.full", "https://loyalty.shop.internal/v1/points?card="+cardNumber))},
	{name: "in-header", violates: true, doc: "A card number in an attribute that no rule names.", play: leak(str("http.request.header.x-customer", "card "+cardNumber+"; eu"))},
	{name: "as-number", needs: MixedTypes, doc: "The digits as an int: a string function on a number is false.", play: leak(num("loyalty.number", 4111111111111111))},
	{name: "in-list", needs: Lists, doc: "The digits in a list: a string function on a list is false.", play: leak(list("http.request.header.x-customer", trace.StringValue(cardNumber)))},
	{name: "in-unicode", violates: true, needs: Unicode, doc: "A card number within text in another script.", play: leak(str("loyalty.note", "Карта клиента «"+cardNumber+"» ✓"))},
	{name: "in-long-value", violates: true, needs: LongValues, doc: "A card number after 20,000 bytes of text.", play: leak(str("loyalty.note", longText(20_000)+" "+cardNumber))},
}}

// query queries a database over TLS.
func (b *builder) query(parent int, svc service, collection, text string) int {
	i := b.span(parent, svc, trace.KindClient, "SELECT "+collection, str("db.system.name", "postgresql"), str("db.namespace", "shop"),
		str("db.collection.name", collection), str("db.operation.name", "SELECT"), str("db.query.text", text),
		str("server.address", "postgres.shop.internal"), num("server.port", 5432), yes("tls.established", true), str("tls.protocol.version", "1.3"))
	b.spans[i].scope = scopeSQL
	return i
}

// connect queries a database over a connection some of whose attributes are changed.
func connect(change func(b *builder, i int)) func(*builder) {
	return func(b *builder) {
		change(b, b.query(b.at, svcInventory, "stock", "SELECT count FROM stock WHERE sku = ANY($1)"))
	}
}

var database = scene{name: "database", rule: "database-connections-are-encrypted", need: 1, ways: []way{
	{name: "encrypted", doc: "A database over TLS.", play: connect(func(*builder, int) {})},
	{name: "local", doc: "A database on the same host, without TLS.", play: connect(func(b *builder, i int) {
		b.set(i, str("server.address", "localhost"), yes("tls.established", false))
	})},
	{name: "plain", violates: true, doc: "A database on another host, without TLS.", play: connect(func(b *builder, i int) {
		b.set(i, yes("tls.established", false))
		b.unset(i, "tls.protocol.version")
	})},
	{name: "unknown", violates: true, needs: MissingAttributes, doc: "A connection without the TLS attribute: it is not known to use TLS.", play: connect(func(b *builder, i int) { b.unset(i, "tls.established") })},
	{name: "no-address", needs: MissingAttributes, doc: "A connection without TLS and without an address: an absent value is not unequal to localhost.", play: connect(func(b *builder, i int) {
		b.set(i, yes("tls.established", false))
		b.unset(i, "server.address")
	})},
	{name: "text", violates: true, needs: MixedTypes, doc: `TLS is "true", which is a string.`, play: connect(func(b *builder, i int) { b.set(i, str("tls.established", "true")) })},
	{name: "address-as-number", needs: MixedTypes, doc: "A connection without TLS to an address that is a number: a value of another type is not unequal to localhost.", play: connect(func(b *builder, i int) {
		b.set(i, num("server.address", 2130706433), yes("tls.established", false))
	})},
}}

// latency concerns the duration of the root, and the choice of the root.
var latency = scene{name: "latency", rule: "web-answers-in-three-seconds", ways: []way{
	{name: "fast", doc: "An answer in well under a second.", play: func(*builder) {}},
	{name: "limit", doc: "An answer in exactly 3 s, which is not longer than 3 s.", play: lasts(3000 * ms)},
	{name: "slow", violates: true, doc: "An answer in 4 s.", play: lasts(4000 * ms)},
	{name: "just-over", violates: true, doc: "An answer in 3 s and a nanosecond.", play: lasts(3000*ms + 1)},
	{name: "negative", needs: EndBeforeStart, doc: "A root that ends before it starts takes no time.", play: lasts(-4000 * ms)},
	{name: "orphaned", needs: Orphans, doc: "A slow answer whose span names a missing parent: the trace has no root.", play: func(b *builder) {
		lasts(4000 * ms)(b)
		b.spans[b.root].parent = lostParent
	}},
	{name: "own-parent", needs: Cycles, doc: "A slow answer whose span is its own parent: the trace has no root.", play: func(b *builder) {
		lasts(4000 * ms)(b)
		b.spans[b.root].parent = int32(b.root)
	}},
	{name: "later-root", violates: true, needs: ExtraRoots, more: 1, doc: "A slow answer and a second root that starts later.", play: func(b *builder) {
		lasts(4000 * ms)(b)
		b.secondRoot(1)
	}},
	{name: "earlier-root", needs: ExtraRoots, more: 1, doc: "A slow answer, but another service's root starts a nanosecond earlier, so it is the root of the trace.", play: func(b *builder) {
		lasts(4000 * ms)(b)
		b.secondRoot(-1)
	}},
	{name: "end-in-a-copy", violates: true, needs: UnequalCopies, doc: "Two copies of the root, one of which ends 4 s later: the later end is greater.", play: func(b *builder) {
		b.copySpan(b.root, func(s *span) { s.end += 4000 * ms })
	}},
}}

func lasts(ns int64) func(*builder) {
	return func(b *builder) { b.ends, b.rootEnds = true, ns }
}

// secondRoot adds a root of the gateway that starts the given number of ns after the first.
func (b *builder) secondRoot(after int64) {
	i := b.open(noParent, svcGateway, trace.KindServer, "GET /")
	s := &b.spans[i]
	s.start = b.spans[b.root].start + after
	s.end = s.start + 2*ms
	b.pinned[svcGateway], b.pinned[b.spans[b.root].service] = true, true
}

// environment concerns the environments of the resources. It adds a call to the inventory, so that there are
// two services.
var environment = scene{name: "environment", rule: "environments-do-not-mix", need: 2, ways: []way{
	{name: "production", doc: "All services are in production.", play: in("production", "production")},
	{name: "staging", doc: "All services are in staging.", play: in("staging", "staging")},
	{name: "mixed", violates: true, doc: "A service of staging is called from production.", play: in("production", "staging")},
	{name: "on-span", doc: "A span's own attribute is staging, but all resources are in production: the rule reads the resource.", play: func(b *builder) {
		b.set(int(b.reserve().server), str(environmentKey, "staging"))
	}},
	{name: "unknown", needs: MissingAttributes, doc: "A service without an environment.", play: in("staging", "")},
}}

func (b *builder) reserve() pair {
	p := b.call(b.at, svcPricing, "GET", "/v1/prices")
	b.endCall(p)
	return p
}

func in(most, pricing string) func(*builder) {
	return func(b *builder) {
		b.reserve()
		for svc := range b.res {
			b.res[svc].environment = most
		}
		b.res[svcPricing].environment = pricing
	}
}
