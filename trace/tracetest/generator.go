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

// Generated is one trace as its services send it, and what is true of it.
type Generated struct {
	ID   trace.ID
	Kind Kind
	// Spans is how many spans the trace has, each copy of a span not counted.
	Spans int
	// Violations are the IDs of the rules of [Pack] that the trace violates,
	// sorted. It satisfies all others, or they do not apply to it.
	Violations []string
	// Behaviours are the names of what its services did, in the order of the
	// rules concerned: see [Behaviours].
	Behaviours []string
	// Nasty is what hurts about it.
	Nasty []Nasty
	// Batches are what is sent, in this order. All after the first come late: a
	// reader may have seen the trace without them.
	Batches []ptrace.Traces
}

// Trace returns the normal form of all batches.
func (g Generated) Trace() *trace.Trace {
	var c otlp.Collector
	for _, td := range g.Batches {
		if err := c.Add(td); err != nil {
			panic(fmt.Sprintf("tracetest: trace %s: %v", g.ID, err)) // every generated span has its IDs
		}
	}
	return c.Traces()[0]
}

// Generator makes traces one after the other. It holds one trace at a time,
// whatever their number. It is not safe for concurrent use: use one for each
// goroutine, with the same options and different indices for [Generator.At].
type Generator struct {
	opts Options
	next int
	pcg  *rand.PCG
	b    builder
}

// New returns a generator. It panics if the options are wrong; who takes them from
// a user asks [Options.Validate] first.
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

// All returns the traces that Next has not given yet.
func (g *Generator) All() iter.Seq[Generated] {
	return func(yield func(Generated) bool) {
		for t, ok := g.Next(); ok; t, ok = g.Next() {
			if !yield(t) {
				return
			}
		}
	}
}

// At returns the trace of an index, of 0 and more. It depends on the options and
// the index alone (on Traces not at all), and does not move Next.
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

// logUniform draws a whole number from lo to hi whose logarithm is evenly
// distributed.
func logUniform(r *rand.Rand, lo, hi int) int {
	low, high := math.Log(float64(lo)), math.Log(float64(hi)+1)
	n := int(math.Exp(low + r.Float64()*(high-low)))
	return min(max(n, lo), hi)
}
