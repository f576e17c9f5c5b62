package tracetest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/betracehq/betrace/trace"
)

// builder holds the one trace that is being made. Spans are known by their index
// until they are rendered, so that what shares or changes an ID, or goes missing,
// is said once.
type builder struct {
	rng  *rand.Rand
	opts *Options

	kind   Kind
	id     trace.ID
	size   int      // how many spans the trace will have
	chosen nastySet // what should hurt
	done   nastySet // what does

	clock  int64 // of the story that is told: ns, the trace begins at 0
	spans  []span
	copies []spanCopy
	pairs  []pair // of a client and its server
	res    [serviceCount]resource
	pinned [serviceCount]bool // whose clocks a rule's verdict hangs on
	skewed [serviceCount]int64

	root      int // the span that the kind begins with
	at        int // the span that acts
	room      int // spans that nobody has claimed
	ends      bool
	rootEnds  int64 // when the root ends after its start, if ends is set
	loose     int   // the first of the spans that no rule looks at but to pass them by
	nextLoose int

	violations []string
	behaviours []string

	seq, seqStep uint64 // of span IDs
	buckets      [][]entry
}

// span is one span to be. Times are ns since the trace began.
type span struct {
	parent     int32 // index, or noParent, or lostParent
	sharesID   int32 // index of the span whose ID it has, or its own
	batch      uint8
	taken      bool // something that hurts was done to its place in the tree or its times
	keepsLinks bool // its links decide a verdict
	keepsAttrs bool // so do all its attributes
	service    service
	scope      scope
	kind       trace.Kind
	status     trace.Status
	start, end int64
	name       string
	message    string
	attrs      []trace.Attribute
	part       *part // whose attributes it has as well, until [builder.own]
	measured   int64 // the part's random number
	events     []event
	links      []trace.Link
	id         trace.SpanID // once they are assigned
}

const (
	noParent   = -1 // names none
	lostParent = -2 // names one that is not in the trace
)

type event struct {
	time  int64
	name  string
	attrs []trace.Attribute
}

// spanCopy is a further copy of a span, made when all else is done to the span.
type spanCopy struct {
	of    int32
	batch uint8
	alter func(*span) // nil: an equal copy. It must not change what slices hold.
}

type pair struct{ client, server int32 }

// resource is how a service describes itself in this trace.
type resource struct {
	environment string // "" for none
	nameless    bool
	extra       []trace.Attribute
}

func newBuilder(r *rand.Rand) builder {
	return builder{rng: r, buckets: make([][]entry, int(serviceCount)*int(scopeCount))}
}

// reset begins another trace, in the memory of the last.
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

// spanID returns the n-th ID of the trace. All are different: a walk through the
// odd multiples of a step modulo 2^63, below a leading one.
func (b *builder) spanID(n int) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], (b.seq+uint64(n)*b.seqStep)|1<<63)
	return id
}

// open begins a span now, as a child of parent.
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

// newSpan adds a span, which may hold the slices of another trace's span.
func (b *builder) newSpan() int {
	i := len(b.spans)
	if i < cap(b.spans) {
		b.spans = b.spans[:i+1]
	} else {
		b.spans = append(b.spans, span{})
	}
	return i
}

// close ends a span now.
func (b *builder) close(i int) {
	b.pass(5 * ms)
	b.spans[i].end = b.clock
}

// pass lets up to so many ns pass, and at least 1 µs.
func (b *builder) pass(upTo int64) { b.clock += 1000 + b.rng.Int64N(upTo) }

// span opens a span and closes it.
func (b *builder) span(parent int, svc service, kind trace.Kind, name string, attrs ...trace.Attribute) int {
	i := b.open(parent, svc, kind, name)
	b.spans[i].attrs = append(b.spans[i].attrs, attrs...)
	b.close(i)
	return i
}

// call opens a client span in the service of the parent and its server span.
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

// set gives a span attributes; one that it has is replaced.
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

// unset takes an attribute from a span.
func (b *builder) unset(i int, key string) {
	s := b.own(i)
	s.attrs = slices.DeleteFunc(s.attrs, func(a trace.Attribute) bool { return a.Key == key })
}

// event gives a span an event in its middle (or now, while it is open).
func (b *builder) event(i int, name string, attrs ...trace.Attribute) {
	s := &b.spans[i]
	at := b.clock
	if s.end > s.start {
		at = s.start + (s.end-s.start)/2
	}
	s.events = append(s.events, event{time: at, name: name, attrs: attrs})
}

// fail makes a span an error without saying more.
func (b *builder) fail(i int, message string) {
	b.spans[i].status = trace.StatusError
	b.spans[i].message = message
}

// throw makes a span an error with the exception that caused it.
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
