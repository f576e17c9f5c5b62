package tracetest

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
)

// Generated is one trace as its services send it, with facts about it.
type Generated struct {
	ID   trace.ID
	Kind Kind
	// Spans is the number of spans in the trace. Further copies of a span are not counted.
	Spans int
	// Violations are the sorted IDs of the rules of [Pack] that the trace violates. It satisfies all others,
	// or they do not apply.
	Violations []string
	// Behaviours are the names of the services' behaviours, in the order of their rules: see [Behaviours].
	Behaviours []string
	// Nasty lists the difficulties in the trace.
	Nasty []Nasty
	// Batches are the messages to send, in this order. All after the first are late: a reader may have seen
	// the trace without them.
	Batches []ptrace.Traces
}

// Trace returns the normal form of the trace, from all batches.
func (g Generated) Trace() *trace.Trace {
	var c otlp.Collector
	for _, td := range g.Batches {
		if err := c.Add(td); err != nil {
			panic(fmt.Sprintf("tracetest: trace %s: %v", g.ID, err)) // every generated span has its IDs
		}
	}
	return c.Traces()[0]
}

// Generator generates traces one after another. It holds one trace at a time. It is not safe for concurrent
// use; use one per goroutine, with the same options and different indices for [Generator.At].
type Generator struct {
	opts Options
	next int
	pcg  *rand.PCG
	b    builder
}

// New returns a Generator. It panics if the options are invalid. Callers that take them from a user should
// call [Options.Validate] first.
func New(o Options) *Generator {
	if err := o.Validate(); err != nil {
		panic(err)
	}
	pcg := rand.NewPCG(0, 0)
	return &Generator{opts: o.withDefaults(), pcg: pcg, b: newBuilder(rand.New(pcg))}
}

// Next returns the next trace, or false after the last of [Options.Traces].
func (g *Generator) Next() (Generated, bool) {
	if g.next >= g.opts.Traces {
		return Generated{}, false
	}
	g.next++
	return g.At(g.next - 1), true
}

// All returns the traces that Next has not returned yet.
func (g *Generator) All() iter.Seq[Generated] {
	return func(yield func(Generated) bool) {
		for t, ok := g.Next(); ok; t, ok = g.Next() {
			if !yield(t) {
				return
			}
		}
	}
}

// At returns the trace of an index, which must not be negative. The trace depends only on the index and the
// options except Traces. At does not change the trace that Next returns.
func (g *Generator) At(index int) Generated {
	o, b := &g.opts, &g.b
	g.pcg.Seed(o.Seed, uint64(index))
	r := b.rng

	b.reset(o, o.Kinds[r.IntN(len(o.Kinds))])
	b.size = logUniform(r, o.MinSpans, o.MaxSpans)
	start := o.Start.UnixNano() + int64(r.Float64()*float64(o.Window))
	for n := nothing + 1; n < nastyEnd; n++ {
		if r.Float64() < o.Nasty[n] {
			b.chosen.add(n)
		}
	}
	b.id = b.newTraceID()
	b.act(r.Float64() < o.ViolationRate)
	b.fill()
	b.hurt()
	b.startAt(start)

	slices.Sort(b.violations)
	return Generated{
		ID: b.id, Kind: b.kind, Spans: b.size,
		Violations: append([]string(nil), slices.Compact(b.violations)...),
		Behaviours: append([]string(nil), b.behaviours...),
		Nasty:      b.done.list(),
		Batches:    b.render(),
	}
}

// logUniform returns a random whole number from lo to hi whose logarithm is uniformly distributed.
func logUniform(r *rand.Rand, lo, hi int) int {
	low, high := math.Log(float64(lo)), math.Log(float64(hi)+1)
	n := int(math.Exp(low + r.Float64()*(high-low)))
	return min(max(n, lo), hi)
}
