package tracetest

import "github.com/betracehq/betrace/trace"

// part is one span of the work that fills a trace. No rule refers to it.
type part struct {
	name    string
	kind    trace.Kind
	scope   scope
	service service // noService means the parent's service
	attrs   []trace.Attribute
	measure string // key of an attribute with a random number
}

// work is a single span, or a call: a client span and the server span below it.
type work struct{ client, server *part }

var works = makeWorks()

func makeWorks() (all []work) {
	for _, c := range []struct {
		svc                 service
		method, route, path string
		status              int64
	}{
		{svcCatalog, "GET", "/v1/products/{id}", "/v1/products/1893", 200},
		{svcCatalog, "GET", "/v1/categories", "/v1/categories", 200},
		{svcPricing, "POST", "/v1/quotes", "/v1/quotes", 201},
		{svcSearch, "GET", "/v1/search", "/v1/search", 200},
		{svcReviews, "GET", "/v1/reviews", "/v1/reviews", 404},
		{svcInventory, "PUT", "/v1/stock/{sku}", "/v1/stock/A-17", 204},
	} {
		host := serviceNames[c.svc] + ".shop.internal"
		all = append(all, work{
			client: &part{name: c.method, kind: trace.KindClient, scope: scopeHTTP, service: noService, measure: "http.response.body.size", attrs: []trace.Attribute{
				str("http.request.method", c.method), str("url.full", "https://"+host+c.path), str("server.address", host), num("server.port", 443),
				num("http.response.status_code", c.status), str("network.protocol.version", "2"),
			}},
			server: &part{name: c.method + " " + c.route, kind: trace.KindServer, scope: scopeHTTP, service: c.svc, measure: "http.response.body.size", attrs: []trace.Attribute{
				str("http.request.method", c.method), str("url.path", c.path), str("url.scheme", "https"), str("http.route", c.route),
				num("http.response.status_code", c.status), str("client.address", "10.2.3.4"), str("user_agent.original", "Go-http-client/2.0"),
			}},
		})
	}
	for _, c := range []struct {
		svc    service
		method string
	}{{svcPricing, "shop.pricing.v1.Pricing/Quote"}, {svcCatalog, "shop.catalog.v1.Catalog/GetProduct"}, {svcReviews, "shop.reviews.v2.Reviews/List"}} {
		attrs := func(more ...trace.Attribute) []trace.Attribute {
			return append([]trace.Attribute{str("rpc.system.name", "grpc"), str("rpc.method", c.method), str("rpc.status_code", "OK")}, more...)
		}
		host := serviceNames[c.svc] + ".shop.internal"
		all = append(all, work{
			client: &part{name: c.method, kind: trace.KindClient, scope: scopeRPC, service: noService, measure: "rpc.request.size", attrs: attrs(str("server.address", host), num("server.port", 8443))},
			server: &part{name: c.method, kind: trace.KindServer, scope: scopeRPC, service: c.svc, measure: "rpc.request.size", attrs: attrs(str("client.address", "10.2.3.4"))},
		})
	}
	for _, q := range []struct{ op, collection, text string }{
		{"SELECT", "products", "SELECT id, name, price FROM products WHERE id = $1"},
		{"SELECT", "stock", "SELECT count FROM stock WHERE sku = ANY($1) AND warehouse = $2"},
		{"INSERT", "events", "INSERT INTO events (id, kind, body) VALUES ($1, $2, $3)"},
		{"UPDATE", "carts", "UPDATE carts SET updated_at = now() WHERE id = $1"},
	} {
		all = append(all, work{client: &part{name: q.op + " " + q.collection, kind: trace.KindClient, scope: scopeSQL, service: noService, measure: "db.response.returned_rows", attrs: []trace.Attribute{
			str("db.system.name", "postgresql"), str("db.namespace", "shop"), str("db.collection.name", q.collection), str("db.operation.name", q.op),
			str("db.query.text", q.text), str("server.address", "postgres.shop.internal"), num("server.port", 5432), yes("tls.established", true),
		}}})
	}
	return append(all,
		work{client: &part{name: "GET", kind: trace.KindClient, scope: scopeRedis, service: noService, measure: "db.response.returned_rows", attrs: []trace.Attribute{
			str("db.system.name", "redis"), str("db.namespace", "0"), str("db.operation.name", "GET"), str("db.query.text", "GET cart:?"),
			str("server.address", "redis.shop.internal"), num("server.port", 6380), yes("tls.established", true),
		}}},
		work{client: &part{name: "settle orders", kind: trace.KindClient, scope: scopeKafka, service: noService, measure: "messaging.kafka.offset", attrs: []trace.Attribute{
			str("messaging.system", "kafka"), str("messaging.destination.name", "orders"), str("messaging.operation.name", "commit"),
			str("messaging.operation.type", "settle"), str("server.address", "kafka.shop.internal"), num("server.port", 9093),
		}}},
		work{client: &part{name: "render", kind: trace.KindInternal, scope: scopeNone, service: noService, measure: "code.line.number", attrs: []trace.Attribute{
			str("code.function.name", "shop.view.Page.render"), str("thread.name", "worker-3"), yes("app.cached", false),
		}}},
		work{client: &part{name: "validate", kind: trace.KindInternal, scope: scopeNone, service: noService, measure: "code.line.number", attrs: []trace.Attribute{
			str("code.function.name", "shop.model.Cart.validate"), dbl("app.score", 0.75),
		}}},
	)
}

var (
	recursion = &part{name: "recursion.step", kind: trace.KindInternal, scope: scopeNone, service: noService, measure: "code.line.number"}
	fanout    = &part{name: "fanout.item", kind: trace.KindInternal, scope: scopeNone, service: noService, measure: "code.line.number"}
)

const (
	leastDeep, mostDeep = 6, 200
	leastWide, mostWide = 6, 2000
)

// fill adds work until the trace has the chosen size.
func (b *builder) fill() {
	if b.chosen.has(Deep) && b.free() >= leastDeep {
		parent := b.root
		for range min(mostDeep, max(leastDeep, b.free()/4)) {
			parent = b.add(parent, recursion)
		}
		b.done.add(Deep)
	}
	if b.chosen.has(Wide) && b.free() >= leastWide {
		parent := b.root
		for range min(mostWide, max(leastWide, b.free()/2)) {
			b.add(parent, fanout)
		}
		b.done.add(Wide)
	}
	b.loose = len(b.spans)
	for free := b.free(); free > 0; free = b.free() {
		r := b.rng.Uint64()
		parent := b.workingSpan(r)
		w := &works[(r>>40)%uint64(len(works))]
		if len(b.spans) == b.loose {
			w = &works[0] // first a call to another service
		}
		client := b.add(parent, w.client)
		if w.server != nil && free > 1 {
			b.pairs = append(b.pairs, pair{int32(client), int32(b.add(client, w.server))})
		}
	}
}

// free returns the number of spans that the trace lacks.
func (b *builder) free() int { return b.size - len(b.spans) }

// workingSpan picks a random span that may call others. After three attempts it takes any span.
func (b *builder) workingSpan(r uint64) int {
	n := uint32(len(b.spans))
	i := int(uint64(uint32(r)) * uint64(n) >> 32)
	for range 3 {
		if k := b.spans[i].kind; k != trace.KindClient && k != trace.KindProducer {
			break
		}
		i = int(b.rng.Uint32N(n))
	}
	return i
}

// add adds a part within the time range of its parent.
func (b *builder) add(parent int, p *part) int {
	i := b.newSpan()
	s, up := &b.spans[i], &b.spans[parent]
	svc := p.service
	if svc == noService {
		svc = up.service
	}
	sc := p.scope
	if sc == scopeNone && svc&1 == 0 {
		sc = ownScope(svc)
	}
	length := max(up.end-up.start, 0)
	start := up.start + b.rng.Int64N(length/2+1)
	*s = span{
		parent: int32(parent), sharesID: int32(i), service: svc, scope: sc, kind: p.kind, name: p.name,
		start: start, end: start + b.rng.Int64N(max(up.end-start, 0)+1),
		part: p, measured: int64(b.rng.Uint32N(4096)), attrs: s.attrs[:0], events: s.events[:0], links: s.links[:0],
	}
	if p.kind == trace.KindServer && s.start&3 == 0 {
		s.attrs = append(s.attrs, str("session.id", b.word("s")))
	}
	return i
}

// own copies the attributes of the span's part into the span, so that they may be changed.
func (b *builder) own(i int) *span {
	s := &b.spans[i]
	if s.part != nil {
		s.attrs = append(append(s.attrs, s.part.attrs...), num(s.part.measure, s.measured))
		s.part = nil
	}
	return s
}
