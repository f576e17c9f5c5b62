package batches

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Make returns batches of generated traces that hold the needed columns. Each batch has memory of its
// own.
func Make(opts Options, needs columnar.Needs) []*columnar.Batch {
	if opts.PerBatch == 0 {
		opts.PerBatch = PerBatch
	}
	pcg := rand.NewPCG(0, 0)
	g := &generator{opts: opts, pcg: pcg, rng: rand.New(pcg), keys: map[string]int16{}}
	names := needs.Keys(columnar.ScopeSpan)
	for i, key := range names {
		g.keys[key] = int16(i)
	}
	var out []*columnar.Batch
	for index, left := 0, opts.Spans; left > 0; {
		f := &filling{needs: needs, names: names}
		for f.numSpans() < min(opts.PerBatch, left) {
			g.make(index)
			f.add(g)
			index++
		}
		b := f.fill()
		left -= b.NumSpans()
		out = append(out, b)
	}
	return out
}

// filling collects traces for a batch.
type filling struct {
	needs      columnar.Needs
	names      []string
	ids        []trace.ID
	ends       []int32 // of the traces' spans
	spans      []span
	attributes []attribute
	resources  []resource
	ofSpan     []int32
}

type resource struct {
	service                      int
	namespace, environment, zone string
}

func (f *filling) numSpans() int { return len(f.spans) }

func (f *filling) add(g *generator) {
	offset := int32(len(f.attributes))
	first := len(f.resources)
	f.ids = append(f.ids, g.id)
	stray := -1
	if n := len(g.spans); n > 1 && g.wrong(strayEnvironment) {
		stray = n - 1
	}
	for i, s := range g.spans {
		s.from, s.to = s.from+offset, s.to+offset
		f.spans = append(f.spans, s)
		r := resource{s.service, namespaces[s.service%len(namespaces)], g.environment, g.region}
		if i == stray {
			r.environment = "sandbox"
		}
		// A trace has few resources.
		at := first
		for at < len(f.resources) && f.resources[at] != r {
			at++
		}
		if at == len(f.resources) {
			f.resources = append(f.resources, r)
		}
		f.ofSpan = append(f.ofSpan, int32(at))
	}
	f.attributes = append(f.attributes, g.attributes...)
	f.ends = append(f.ends, int32(len(f.spans)))
}

func (f *filling) fill() *columnar.Batch {
	filler := columnar.NewFiller(f.needs)
	k := &filler.Keys
	k.Resize(len(f.spans))
	for i, s := range f.spans {
		binary.BigEndian.PutUint64(k.IDs[i][:], s.id)
		binary.BigEndian.PutUint64(k.ParentIDs[i][:], s.parent)
		k.Starts[i], k.Ends[i], k.Kinds[i] = trace.Time(s.start), trace.Time(s.end), s.kind
	}
	filler.Reset()
	from := int32(0)
	for t, to := range f.ends {
		filler.AddTrace(f.ids[t], columnar.SpanRun{From: from, To: to})
		from = to
	}
	b := filler.Layout(len(f.resources), 0, 0)
	columns := make([]*columnar.Column, len(f.names))
	ofMany := make([]bool, len(f.names))
	for i, key := range f.names {
		ofMany[i] = slices.Contains(keysOfMany, key)
		columns[i] = filler.Column(columnar.ScopeSpan, key, len(f.spans))
	}
	for i, s := range f.spans {
		row := filler.Place[i]
		b.Statuses[row], b.Resources[row] = s.status, f.ofSpan[i]
		b.Names.Codes[row] = b.Names.Intern([]byte(s.name))
		for _, a := range f.attributes[s.from:s.to] {
			put(columns[a.key], row, a, ofMany[a.key])
		}
	}
	wanted := map[string]*columnar.Column{}
	for _, key := range f.needs.Keys(columnar.ScopeResource) {
		wanted[key] = filler.Column(columnar.ScopeResource, key, len(f.resources))
	}
	wanted[trace.ServiceName] = b.Service()
	for row, r := range f.resources {
		for key, text := range map[string]string{
			trace.ServiceName: Services[r.service], "service.namespace": r.namespace,
			"deployment.environment.name": r.environment, "cloud.region": r.zone,
		} {
			if c := wanted[key]; c != nil {
				put(c, int32(row), attribute{typ: trace.TypeString, text: text}, false)
			}
		}
	}
	return filler.Finish()
}

// keysOfMany are the attributes with so many distinct values that a block has no dictionary for them.
var keysOfMany = []string{"session.id", "url.full", "messaging.message.id"}

// put sets the value of a row. As in blocks, strings with few distinct values are codes of a dictionary,
// and other strings are not looked up.
func put(c *columnar.Column, row int32, a attribute, ofMany bool) {
	switch a.typ {
	case trace.TypeString:
		c.NeedTexts()
		if ofMany {
			c.Text.Codes[row] = c.Text.InternLikely([]byte(a.text))
		} else {
			c.Text.Codes[row] = c.Text.Intern([]byte(a.text))
		}
	case trace.TypeInt:
		c.NeedInts()
		c.Ints[row] = a.whole
		c.IsInt.Set(row)
	case trace.TypeDouble:
		c.NeedDoubles()
		c.Doubles[row] = a.real
		c.IsDouble.Set(row)
	case trace.TypeBool:
		c.NeedBools()
		c.IsBool.Set(row)
		if a.whole != 0 {
			c.Bools.Set(row)
		}
	}
}
