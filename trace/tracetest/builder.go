package tracetest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/betracehq/betrace/trace"
)

// builder holds the trace that is being built. Spans are identified by their indices until they are rendered,
// so that shared, changed or missing IDs are recorded in one place.
type builder struct {
	rng  *rand.Rand
	opts *Options

	kind   Kind
	id     trace.ID
	size   int      // number of spans that the trace will have
	chosen nastySet // difficulties to add
	done   nastySet // difficulties added

	clock  int64 // current time in ns since the start of the trace
	spans  []span
	copies []spanCopy
	pairs  []pair // client spans with their server spans
	res    [serviceCount]resource
	pinned [serviceCount]bool // services whose clocks affect the verdict of a rule
	skewed [serviceCount]int64

	root      int // the first span of the kind
	at        int // the span below which scenes are played
	room      int // number of spans not yet assigned
	ends      bool
	rootEnds  int64 // duration of the root, if ends is set
	loose     int   // the first of the spans that are irrelevant to all rules
	nextLoose int

	violations []string
	behaviours []string

	seq, seqStep uint64 // state of span IDs
	buckets      [][]entry
}

// span is a span of the trace under construction. Times are in ns since the start of the trace.
type span struct {
	parent     int32 // index, or noParent, or lostParent
	sharesID   int32 // index of the span whose ID it has; its own index if not shared
	batch      uint8
	taken      bool // a difficulty changed its place in the tree or its times
	keepsLinks bool // its links affect a verdict
	keepsAttrs bool // all its attributes affect a verdict
	service    service
	scope      scope
	kind       trace.Kind
	status     trace.Status
	start, end int64
	name       string
	message    string
	attrs      []trace.Attribute
	part       *part // provides further attributes, until [builder.own]
	measured   int64 // random number for the part's measure
	events     []event
	links      []trace.Link
	id         trace.SpanID // set by assignIDs
}

const (
	noParent   = -1 // the span names no parent
	lostParent = -2 // the span names a parent that is not in the trace
)

type event struct {
	time  int64
	name  string
	attrs []trace.Attribute
}

// spanCopy is a further copy of a span, made after all other changes to the span.
type spanCopy struct {
	of    int32
	batch uint8
	alter func(*span) // nil for an equal copy; it must not change the elements of slices
}

type pair struct{ client, server int32 }

// resource describes a service in this trace.
type resource struct {
	environment string // "" for none
	nameless    bool
	extra       []trace.Attribute
}

func newBuilder(r *rand.Rand) builder {
	return builder{rng: r, buckets: make([][]entry, int(serviceCount)*int(scopeCount))}
}

// reset starts another trace and reuses the memory of the previous one.
func (b *builder) reset(o *Options, kind Kind) {
	b.opts, b.kind = o, kind
	b.chosen, b.done, b.clock = 0, 0, 0
	b.spans, b.copies, b.pairs = b.spans[:0], b.copies[:0], b.pairs[:0]
	b.violations, b.behaviours = b.violations[:0], b.behaviours[:0]
	for i := range b.res {
		b.res[i] = resource{environment: "production", extra: b.res[i].extra[:0]}
		b.pinned[i], b.skewed[i] = false, 0
	}
	b.ends, b.rootEnds = false, 0
	b.seq, b.seqStep = b.rng.Uint64(), b.rng.Uint64()|1
}

func (b *builder) newTraceID() (id trace.ID) {
	binary.BigEndian.PutUint64(id[:8], b.rng.Uint64()|1<<63)
	binary.BigEndian.PutUint64(id[8:], b.rng.Uint64()|1)
	if b.chosen.has(LeadingZeros) {
		clear(id[:1+b.rng.IntN(8)])
		b.done.add(LeadingZeros)
	}
	return id
}

// spanID returns the n-th span ID of the trace. All are different: the IDs advance by an odd step modulo
// 2^63, below a leading one bit.
func (b *builder) spanID(n int) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], (b.seq+uint64(n)*b.seqStep)|1<<63)
	return id
}

// open starts a span at the current time, as a child of parent.
func (b *builder) open(parent int, svc service, kind trace.Kind, name string) int {
	i := b.newSpan()
	s := &b.spans[i]
	b.pass(5 * ms)
	*s = span{
		parent: int32(parent), sharesID: int32(i), service: svc, scope: ownScope(svc), kind: kind, name: name, start: b.clock,
		attrs: s.attrs[:0], events: s.events[:0], links: s.links[:0],
	}
	return i
}

// newSpan adds a span. It may hold the slices of a previous trace's span.
func (b *builder) newSpan() int {
	i := len(b.spans)
	if i < cap(b.spans) {
		b.spans = b.spans[:i+1]
	} else {
		b.spans = append(b.spans, span{})
	}
	return i
}

// close ends a span at the current time.
func (b *builder) close(i int) {
	b.pass(5 * ms)
	b.spans[i].end = b.clock
}

// pass advances the clock by a random time of 1 µs up to upTo ns more.
func (b *builder) pass(upTo int64) { b.clock += 1000 + b.rng.Int64N(upTo) }

// span opens and closes a span.
func (b *builder) span(parent int, svc service, kind trace.Kind, name string, attrs ...trace.Attribute) int {
	i := b.open(parent, svc, kind, name)
	b.spans[i].attrs = append(b.spans[i].attrs, attrs...)
	b.close(i)
	return i
}

// call opens a client span in the parent's service, and the server span below it.
func (b *builder) call(parent int, to service, method, route string) pair {
	c := b.open(parent, b.spans[parent].service, trace.KindClient, method)
	s := b.open(c, to, trace.KindServer, method+" "+route)
	p := pair{int32(c), int32(s)}
	b.pairs = append(b.pairs, p)
	b.spans[c].scope, b.spans[s].scope = scopeHTTP, scopeHTTP
	host := serviceNames[to] + ".shop.internal"
	b.set(c, str("http.request.method", method), str("url.full", "https://"+host+route), str("server.address", host), num("server.port", 443),
		num("http.response.status_code", 200), str("network.protocol.version", "2"))
	b.set(s, str("http.request.method", method), str("url.path", route), str("url.scheme", "https"), str("http.route", route),
		num("http.response.status_code", 200), str("client.address", "10.2.0.17"))
	return p
}

func (b *builder) endCall(p pair) {
	b.close(int(p.server))
	b.close(int(p.client))
}

// set sets attributes of a span and replaces existing ones.
func (b *builder) set(i int, attrs ...trace.Attribute) {
	s := b.own(i)
	for _, a := range attrs {
		if at := slices.IndexFunc(s.attrs, func(old trace.Attribute) bool { return old.Key == a.Key }); at >= 0 {
			s.attrs[at] = a
			continue
		}
		s.attrs = append(s.attrs, a)
	}
}

// unset removes an attribute of a span.
func (b *builder) unset(i int, key string) {
	s := b.own(i)
	s.attrs = slices.DeleteFunc(s.attrs, func(a trace.Attribute) bool { return a.Key == key })
}

// event adds an event in the middle of a span, or at the current time if the span is open.
func (b *builder) event(i int, name string, attrs ...trace.Attribute) {
	s := &b.spans[i]
	at := b.clock
	if s.end > s.start {
		at = s.start + (s.end-s.start)/2
	}
	s.events = append(s.events, event{time: at, name: name, attrs: attrs})
}

// fail sets the status of a span to error, without an exception.
func (b *builder) fail(i int, message string) {
	b.spans[i].status = trace.StatusError
	b.spans[i].message = message
}

// throw sets the status of a span to error and adds the exception that caused it.
func (b *builder) throw(i int, typ, message string) {
	b.fail(i, message)
	b.set(i, str("error.type", typ))
	b.event(i, "exception", str("exception.type", typ), str("exception.message", message),
		str("exception.stacktrace", typ+": "+message+"\n\tat shop.internal.Call.run(Call.java:42)\n\tat shop.internal.Worker.loop(Worker.java:17)"))
}

// startAt moves the trace so that its first span starts at t.
func (b *builder) startAt(t int64) {
	first := b.spans[0].start
	for i := range b.spans {
		first = min(first, b.spans[i].start)
	}
	for i := range b.spans {
		b.shift(&b.spans[i], t-first)
	}
}

func (b *builder) shift(s *span, by int64) {
	s.start += by
	s.end += by
	for i := range s.events {
		s.events[i].time += by
	}
}

func str(key, value string) trace.Attribute {
	return trace.Attribute{Key: key, Value: trace.StringValue(value)}
}

func num(key string, value int64) trace.Attribute {
	return trace.Attribute{Key: key, Value: trace.IntValue(value)}
}

func yes(key string, value bool) trace.Attribute {
	return trace.Attribute{Key: key, Value: trace.BoolValue(value)}
}

func dbl(key string, value float64) trace.Attribute {
	return trace.Attribute{Key: key, Value: trace.DoubleValue(value)}
}

func list(key string, values ...trace.Value) trace.Attribute {
	return trace.Attribute{Key: key, Value: trace.ArrayValue(values...)}
}
