package batches

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/betracehq/betrace/trace"
)

// Options configure the generated traces.
type Options struct {
	// Seed, together with the options below, determines the traces.
	Seed uint64
	// Spans is the minimum number of spans in all batches together.
	Spans int
	// PerBatch is the approximate number of spans in a batch. If 0, it is [PerBatch].
	PerBatch int
	// SpansPerTrace is the number of spans in each trace. If 0, traces have 1 to 400 spans.
	SpansPerTrace int
	// MistakeEvery makes one trace in this many do something that rules forbid. If 0, no trace does.
	MistakeEvery int
	// Texts is the number of distinct values of each attribute with many values: user.id, session.id,
	// url.full and messaging.message.id. If 0, user.id has 10,000 values, and the others have a new value
	// for each span.
	Texts int
	// Plain is the number of further attributes of every span, [PlainKey], with [PlainValues] string
	// values each.
	Plain int
}

// PerBatch is the approximate number of spans that the source of blocks delivers at a time by default, on
// two cores, when it reads 15 attributes.
const PerBatch = 300_000

// PlainValues is the number of distinct values of a plain attribute.
const PlainValues = 50

// PlainKey returns the key of plain attribute i.
func PlainKey(i int) string { return fmt.Sprintf("plain.%02d", i) }

// PlainValue returns value i of a plain attribute.
func PlainValue(i int) string { return fmt.Sprintf("value-%02d", i) }

// span is a span of the trace that is being generated.
type span struct {
	id, parent uint64 // parent is 0 for a root
	name       string
	service    int
	kind       trace.Kind
	status     trace.Status
	start, end uint64
	from, to   int32 // range of its attributes
}

// attribute is an attribute of a span. Its key is an index into the generator's keys.
type attribute struct {
	key   int16
	typ   trace.Type
	text  string
	whole int64
	real  float64
}

// generator generates traces one after another.
type generator struct {
	opts Options
	rng  *rand.Rand
	pcg  *rand.PCG
	// keys are the needed attributes, with their indices.
	keys map[string]int16

	id         trace.ID
	spans      []span
	attributes []attribute
	// The fields below belong to the current trace.
	environment, region, tenant, user, session string
	mistake                                    mistake
	made                                       bool // whether the trace has made its mistake
}

// mistake is a kind of behavior that rules forbid.
type mistake int

const (
	none mistake = iota
	manyRetries
	failureWithoutStatus
	slow
	wrongCaller
	foreignDatabase
	chargeUnchecked
	strayEnvironment
	unaudited
	anonymous
	unapprovedTool
	weakTLS
	manyTokens
	manyRows
	errorUntyped
	foreignTenant
	untestedDeploy
	lostSpan
	numMistakes
)

func pick[T any](g *generator, of []T) T { return of[g.rng.IntN(len(of))] }

// wrong reports whether the mistake is to be made here. A trace makes it once.
func (g *generator) wrong(m mistake) bool {
	if g.mistake != m || g.made {
		return false
	}
	g.made = true
	return true
}

var epoch = uint64(time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC).UnixNano())

// make generates the trace with the index, which determines the whole trace.
func (g *generator) make(index int) {
	g.pcg.Seed(g.opts.Seed, uint64(index))
	for i := range 2 {
		v := g.rng.Uint64()
		for k := range 8 {
			g.id[8*i+k] = byte(v >> (8 * k))
		}
	}
	g.mistake, g.made = none, false
	// Draw these for every trace, so that traces without mistakes do not depend on MistakeEvery.
	forbidden, which := g.rng.Float64(), g.rng.IntN(int(numMistakes)-1)
	if g.opts.MistakeEvery > 0 && forbidden < 1/float64(g.opts.MistakeEvery) {
		g.mistake = 1 + mistake(which)
	}
	users := 10_000
	if g.opts.Texts > 0 {
		users = g.opts.Texts
	}
	g.environment, g.region = pick(g, environments), pick(g, regions)
	g.tenant = numbered("tenant-", g.rng.IntN(200))
	g.user = numbered("user-", g.rng.IntN(users))
	g.session = g.many("session-")
	g.spans, g.attributes = g.spans[:0], g.attributes[:0]

	n := g.opts.SpansPerTrace
	if n == 0 {
		n = min(1+int(math.Exp(2.6+0.95*g.rng.NormFloat64())), 400)
	}
	start := epoch + uint64(index)*uint64(20*time.Millisecond) + g.rng.Uint64N(uint64(time.Second))
	length := uint64(20*time.Millisecond) + g.rng.Uint64N(uint64(2*time.Second))
	if g.wrong(slow) {
		length += uint64(30 * time.Second)
	}
	switch r := g.rng.IntN(100); {
	case r < 70 || n < 6:
		g.server(0, 0, start, start+length, n)
	case r < 72:
		g.deployment(start, start+length, n)
	case r < 85:
		g.consumer(g.rng.IntN(len(Services)), 0, pick(g, Topics[g.rng.IntN(len(Services))]), start, start+length, n)
	default:
		g.server(1+g.rng.IntN(len(Services)-1), 0, start, start+length, n)
	}
	if n := len(g.spans); n > 2 && g.wrong(lostSpan) {
		i := 1 + g.rng.IntN(n-1)
		g.spans = append(g.spans[:i], g.spans[i+1:]...)
	}
}

// many returns a string value of an attribute with many distinct values.
func (g *generator) many(prefix string) string {
	v := g.rng.Uint64()
	if g.opts.Texts > 0 {
		return numbered(prefix, int(v%uint64(g.opts.Texts)))
	}
	return prefix + strconv.FormatUint(v, 16)
}

func numbered(prefix string, n int) string { return prefix + strconv.Itoa(n) }

// open adds a span and returns its index. Attributes that are added before the next open belong to it.
func (g *generator) open(service int, parent int, kind trace.Kind, name string, start, end uint64) int {
	s := span{id: g.rng.Uint64() | 1, service: service, kind: kind, name: name, start: start, end: end, from: int32(len(g.attributes))}
	if parent >= 0 && len(g.spans) > 0 {
		s.parent = g.spans[parent].id
	}
	s.to = s.from
	g.spans = append(g.spans, s)
	for i := range g.opts.Plain {
		g.text(PlainKey(i), PlainValue(g.rng.IntN(PlainValues)))
	}
	g.text("thread.name", numbered("worker-pool-thread-", g.rng.IntN(16)))
	g.whole("thread.id", int64(g.rng.IntN(64)))
	g.text("code.function.name", pick(g, Functions[service]))
	g.text("session.id", g.session)
	g.boolean("app.cache.hit", g.rng.IntN(3) > 0)
	g.double("app.cpu.share", math.Round(g.rng.Float64()*1000)/1000)
	if kind != trace.KindServer && kind != trace.KindClient && kind != trace.KindInternal {
		return len(g.spans) - 1
	}
	g.whole("app.retry.budget", int64(min(g.rng.ExpFloat64()*2, 9)))
	g.text("app.feature.variant", [...]string{"control", "a", "b"}[g.rng.IntN(3)])
	return len(g.spans) - 1
}

// add adds an attribute to the span that was opened last.
func (g *generator) add(key string, a attribute) {
	k, needed := g.keys[key]
	if !needed {
		return
	}
	a.key = k
	g.attributes = append(g.attributes, a)
	g.spans[len(g.spans)-1].to = int32(len(g.attributes))
}

func (g *generator) text(key, v string)        { g.add(key, attribute{typ: trace.TypeString, text: v}) }
func (g *generator) whole(key string, v int64) { g.add(key, attribute{typ: trace.TypeInt, whole: v}) }
func (g *generator) double(key string, v float64) {
	g.add(key, attribute{typ: trace.TypeDouble, real: v})
}
func (g *generator) boolean(key string, v bool) {
	a := attribute{typ: trace.TypeBool}
	if v {
		a.whole = 1
	}
	g.add(key, a)
}

// fail gives the span that was opened last the error status and an error type.
func (g *generator) fail() {
	g.spans[len(g.spans)-1].status = trace.StatusError
	if typ := pick(g, errorTypes); !g.wrong(errorUntyped) {
		g.text("error.type", typ)
	}
}
