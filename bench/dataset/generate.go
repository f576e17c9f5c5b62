package dataset

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// The rare values, and the names in the structural query.
const (
	NameAbove = "checkout.submit"
	NameBelow = "ledger.post"
	RareName  = "admin.break_glass"
	RareKey   = "feature.variant"
	RareValue = "rollback"
)

// These are shares of traces: one trace in this many.
const (
	splitEvery = 50
	rareEvery  = 10_000
)

// Dedicated are the attributes that set A stores in dedicated columns, named as in TraceQL.
var Dedicated = []string{
	"span.http.route", "span.http.request.method", "span.db.system.name", "span.customer.tier", "span." + RareKey, "span.messaging.destination.name",
	"resource.deployment.environment.name", "resource.cloud.region",
}

// Generic are the attributes that all sets store in the key-value rows of spans.
var Generic = []string{
	"span.user.id", "span.session.id", "span.http.response.status_code", "span.http.request.body.size", "span.retry.count", "span.payment.amount",
	"span.cache.hit_ratio", "span.cache.hit", "span.auth.mfa", "span.peer.service", "span.thread.name", "span.code.function.name",
}

var (
	services = [...]string{
		"gateway", "checkout", "payment", "ledger", "inventory", "shipping", "search", "catalog", "account", "session", "notification", "recommendation",
	}
	operations   = [...]string{"handle", "validate", "load", "store"} // four names for each service
	methods      = [...]string{"GET", "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE"}
	systems      = [...]string{"postgresql", "redis", "mysql", "cassandra", "none", "none"}
	tiers        = [...]string{"free", "free", "free", "standard", "standard", "premium", "enterprise"}
	variants     = [...]string{"control", "control", "a", "b", "c"}
	environments = [...]string{"production", "production", "production", "staging", "development"}
	regions      = [...]string{"eu-west-1", "eu-central-1", "us-east-1", "us-east-2", "us-west-2", "ap-south-1", "ap-southeast-2", "sa-east-1"}
	statuses     = [...]int64{200, 200, 200, 200, 200, 201, 204, 304, 400, 404, 500}

	routes       = numbered("/api/v2/resources-%02d/{id}/items", 60)
	destinations = numbered("orders.events.%02d", 30)
	peers        = numbered("peer-service-%02d", 40)
	threads      = numbered("worker-pool-thread-%d", 16)
	functions    = numbered("com.example.service.Handler%02d.apply", 50)
	users        = numbered("user-%05d", 10_000)
)

func numbered(format string, n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf(format, i)
	}
	return texts
}

// start is the start of the first trace; all traces start within duration.
var start = time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)

const duration = 6 * time.Hour

// span is a span of the trace that is being generated.
type span struct {
	id, parent uint64 // parent is 0 for a root
	name       string
	service    uint8
	kind       uint8
	start, end uint64
	failed     bool
	rare       bool
}

// generator generates one trace after another, and reuses its memory.
type generator struct {
	set   Set
	rng   *rand.Rand
	pcg   *rand.PCG
	id    [16]byte
	spans []span

	user, session string
	environment   string
	region        string
	tier          string

	spanBuf, scopeBuf, valueBuf, keyBuf []byte
}

func newGenerator(s Set) *generator {
	pcg := rand.NewPCG(0, 0)
	return &generator{set: s, pcg: pcg, rng: rand.New(pcg)}
}

func pick[T any](g *generator, of []T) T { return of[g.rng.IntN(len(of))] }

// relation is the relation of the structural query's two names in a trace.
type relation uint8

const (
	neither relation = iota
	above            // NameBelow is a descendant of NameAbove: the query matches
	onlyAbove
	onlyBelow
	siblings
)

// relationOf gives about 4 in 10 traces either name, as often as each other name occurs.
func relationOf(index int) relation {
	switch n := index % 200; {
	case n < 3:
		return above
	case n < 73:
		return onlyAbove
	case n < 143:
		return onlyBelow
	case n < 157:
		return siblings
	default:
		return neither
	}
}

func isSplit(index int) bool  { return index%splitEvery == splitEvery-1 }
func hasName(index int) bool  { return index%rareEvery == 1234 }
func hasValue(index int) bool { return index%rareEvery == 5678 }
func lengthOf(index int) int  { return 15 + int(mix(uint64(index))%21) } // 15 to 35
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

// make generates the trace with the index, which determines the whole trace.
func (g *generator) make(index int) {
	g.pcg.Seed(g.set.Seed, uint64(index))
	binary.BigEndian.PutUint64(g.id[:8], g.rng.Uint64())
	binary.BigEndian.PutUint64(g.id[8:], g.rng.Uint64())
	g.user, g.environment, g.region, g.tier = pick(g, users), pick(g, environments[:]), pick(g, regions[:]), pick(g, tiers[:])
	g.session = fmt.Sprintf("%016x-%016x", g.rng.Uint64(), g.rng.Uint64())

	n := lengthOf(index)
	begins := uint64(start.UnixNano()) + uint64(duration)/uint64(g.set.traces())*uint64(index) + g.rng.Uint64N(uint64(time.Second))
	g.spans = g.spans[:0]
	for i := range n {
		s := span{id: g.rng.Uint64() | 1, kind: 1}
		if i == 0 {
			s.kind, s.start, s.end = 2, begins, begins+uint64(20*time.Millisecond)+g.rng.Uint64N(uint64(2*time.Second))
		} else {
			above := g.parentOf(i)
			s.parent, s.service = above.id, above.service
			if g.rng.IntN(4) == 0 { // a call to another service
				s.service, s.kind = uint8(g.rng.IntN(len(services))), uint8(2+g.rng.IntN(4))
			}
			length := above.end - above.start
			s.start = above.start + uint64(float64(length)*0.6*g.rng.Float64())
			s.end = s.start + uint64(float64(above.end-s.start)*(0.1+0.9*g.rng.Float64()))
		}
		s.name = names[s.service][g.rng.IntN(len(operations))]
		s.failed = g.rng.IntN(40) == 0
		g.spans = append(g.spans, s)
	}
	g.relate(relationOf(index))
	if hasName(index) {
		g.spans[n-1].name = RareName
	}
	g.spans[n-1].rare = hasValue(index)
}

// names are the span names by service.
var names = func() (names [len(services)][len(operations)]string) {
	for i, s := range services {
		for k, o := range operations {
			names[i][k] = s + "." + o
		}
	}
	return names
}()

// parentOf chooses the parent of span i, usually one of the last few spans. Spans two to six have fixed
// parents, see relate.
func (g *generator) parentOf(i int) *span {
	switch {
	case i <= 2:
		return &g.spans[0]
	case i <= 5:
		return &g.spans[i-2] // 3 beneath 1, 4 beneath 2, 5 beneath 3
	default:
		return &g.spans[i-1-min(int(g.rng.ExpFloat64()*4), i-1)]
	}
}

func (g *generator) relate(r relation) {
	switch r {
	case above:
		g.spans[1].name, g.spans[5].name = NameAbove, NameBelow
	case onlyAbove:
		g.spans[1].name = NameAbove
	case onlyBelow:
		g.spans[5].name = NameBelow
	case siblings:
		g.spans[1].name, g.spans[4].name = NameAbove, NameBelow
	}
}

// halves returns the spans for the trace's own block, and those for the next block.
func (g *generator) halves(index int) (now, later []span) {
	if isSplit(index) {
		half := len(g.spans) / 2
		return g.spans[:half], g.spans[half:]
	}
	return g.spans, nil
}

// appendRequest appends spans of the trace as ResourceSpans of an ExportTraceServiceRequest, one for each
// service.
func (g *generator) appendRequest(b []byte, spans []span) []byte {
	for service := range services {
		g.scopeBuf = g.scopeBuf[:0]
		for i := range spans {
			if int(spans[i].service) == service {
				g.scopeBuf = appendBytes(g.scopeBuf, 2, g.span(&spans[i]))
			}
		}
		if len(g.scopeBuf) == 0 {
			continue
		}
		resource := g.resource(services[service])
		scope := appendString(nil, 1, "github.com/example/instrumentation")
		scope = appendString(scope, 2, "1.4.0")
		scopeSpans := appendBytes(nil, 1, scope)
		scopeSpans = append(scopeSpans, g.scopeBuf...)
		resourceSpans := appendBytes(nil, 1, resource)
		resourceSpans = appendBytes(resourceSpans, 2, scopeSpans)
		b = appendBytes(b, 1, resourceSpans)
	}
	return b
}

func (g *generator) resource(service string) []byte {
	var b []byte
	b = g.text(b, 1, "service.name", service)
	b = g.text(b, 1, "deployment.environment.name", g.environment)
	return g.text(b, 1, "cloud.region", g.region)
}

// span encodes a span. The result is valid until the next call.
func (g *generator) span(s *span) []byte {
	const attributes = 9 // field number
	// A span's attributes depend on the span alone, not on the spans before it.
	g.pcg.Seed(g.set.Seed, s.id)
	b := appendBytes(g.spanBuf[:0], 1, g.id[:])
	b = appendBytes(b, 2, binary.BigEndian.AppendUint64(nil, s.id))
	if s.parent != 0 {
		b = appendBytes(b, 4, binary.BigEndian.AppendUint64(nil, s.parent))
	}
	b = appendString(b, 5, s.name)
	b = appendVarint(b, 6, uint64(s.kind))
	b = appendFixed64(b, 7, s.start)
	b = appendFixed64(b, 8, s.end)
	b = g.text(b, attributes, "user.id", g.user)
	b = g.text(b, attributes, "session.id", g.session)
	b = g.text(b, attributes, "http.route", pick(g, routes))
	b = g.text(b, attributes, "http.request.method", pick(g, methods[:]))
	b = g.number(b, attributes, "http.response.status_code", pick(g, statuses[:]))
	b = g.number(b, attributes, "http.request.body.size", int64(g.rng.ExpFloat64()*4000))
	b = g.text(b, attributes, "db.system.name", pick(g, systems[:]))
	b = g.text(b, attributes, "customer.tier", g.tier)
	variant := pick(g, variants[:])
	if s.rare {
		variant = RareValue
	}
	b = g.text(b, attributes, RareKey, variant)
	b = g.text(b, attributes, "messaging.destination.name", pick(g, destinations))
	b = g.number(b, attributes, "retry.count", int64(min(g.rng.ExpFloat64(), 5)))
	b = g.double(b, attributes, "payment.amount", math.Round(g.rng.ExpFloat64()*20_000)/100)
	b = g.double(b, attributes, "cache.hit_ratio", float64(g.rng.IntN(101))/100)
	b = g.truth(b, attributes, "cache.hit", g.rng.IntN(3) > 0)
	b = g.truth(b, attributes, "auth.mfa", g.rng.IntN(2) > 0)
	b = g.text(b, attributes, "peer.service", pick(g, peers))
	b = g.text(b, attributes, "thread.name", pick(g, threads))
	b = g.text(b, attributes, "code.function.name", pick(g, functions))
	if s.failed {
		b = appendBytes(b, 15, appendVarint(appendString(nil, 2, "upstream did not answer"), 3, 2))
	}
	g.spanBuf = b
	return b
}
