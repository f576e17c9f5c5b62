package tracetest

import (
	"encoding/binary"

	"github.com/betracehq/betrace/trace"
)

// spansFor is the number of loose spans that each difficulty needs. Scenes leave them unused.
var spansFor = [nastyEnd]int{
	NoServiceName: 2, Orphans: 1, ExtraRoots: 1, Cycles: 3, SharedIDs: 2, SharedByOthers: 2, Deep: leastDeep, Wide: leastWide,
	ManyLinks: 1, ClockSkew: 2, EndBeforeStart: 1, Late: 1,
}

// reserved returns the number of spans that the chosen difficulties need.
func (b *builder) reserved() (n int) {
	for _, nasty := range b.chosen.list() {
		n += spansFor[nasty]
	}
	return n
}

// hurt adds the chosen difficulties where they cannot change a verdict: in spans that only fill the trace,
// and in attributes that no rule reads. Each step preserves the results of the scenes and of the previous
// steps.
func (b *builder) hurt() {
	if root := &b.spans[b.root]; b.ends {
		root.end = root.start + b.rootEnds
	}
	b.nextLoose = b.loose
	b.hurtTree()
	b.hurtServices()
	b.hurtTimes()
	b.hurtAttributes()
	b.assignIDs()
	b.hurtEvents()
	b.hurtLinks()
	b.hurtArrival()
}

// take returns a loose span that has not been changed, or -1.
func (b *builder) take() int {
	for ; b.nextLoose < len(b.spans); b.nextLoose++ {
		if s := &b.spans[b.nextLoose]; !s.taken {
			s.taken = true
			return b.nextLoose
		}
	}
	return -1
}

// hurtTree moves spans in the tree: first one for each chosen difficulty, then up to a twentieth of the loose
// spans for each, at most 50.
func (b *builder) hurtTree() {
	steps := [...]struct {
		nasty Nasty
		do    func(*builder) bool
	}{
		{SharedIDs, (*builder).sharePair}, {Orphans, (*builder).orphan}, {ExtraRoots, (*builder).addRoot},
		{Cycles, (*builder).closeCycle}, {SharedByOthers, (*builder).shareOther},
	}
	for _, step := range steps {
		if b.chosen.has(step.nasty) && step.do(b) {
			b.done.add(step.nasty)
		}
	}
	for _, step := range steps {
		if b.chosen.has(step.nasty) {
			for more := b.rng.IntN(1 + min((len(b.spans)-b.loose)/20, 50)); more > 0 && step.do(b); more-- {
			}
		}
	}
}

func (b *builder) orphan() bool {
	i := b.take()
	if i >= 0 {
		b.spans[i].parent = lostParent
	}
	return i >= 0
}

func (b *builder) addRoot() bool {
	i := b.take()
	if i >= 0 {
		b.spans[i].parent, b.spans[i].service = noParent, svcGateway
	}
	return i >= 0
}

// closeCycle makes a span its own parent, or creates a cycle of two or three spans.
func (b *builder) closeCycle() bool {
	i := b.take()
	if i < 0 {
		return false
	}
	last := i
	for range b.rng.IntN(3) {
		if j := b.take(); j >= 0 {
			b.spans[j].parent = int32(last)
			last = j
		}
	}
	b.spans[i].parent = int32(last)
	return true
}

func (b *builder) shareOther() bool {
	i := b.take()
	j := b.take()
	if j < 0 {
		return false
	}
	b.spans[i].kind, b.spans[j].kind = trace.KindInternal, trace.KindProducer
	b.spans[j].sharesID = int32(i)
	return true
}

// sharePair lets a client and its server share an ID, if the trace has such a pair.
func (b *builder) sharePair() bool {
	from := b.rng.IntN(max(len(b.pairs), 1))
	for i := range b.pairs {
		if b.share(b.pairs[(from+i)%len(b.pairs)]) {
			return true
		}
	}
	return false
}

// share gives a server the ID and the parent of its client, as Zipkin's instrumentation does. The tree does
// not change.
//
// It returns false if one of the pair has already been changed.
func (b *builder) share(p pair) bool {
	c, s := &b.spans[p.client], &b.spans[p.server]
	if c.taken || s.taken || s.parent != p.client {
		return false
	}
	s.sharesID, s.parent = p.client, c.parent
	c.taken, s.taken = true, true
	return true
}

// hurtServices removes the name of a service that no rule names, and skews the clock of one that does not
// affect a verdict.
func (b *builder) hurtServices() {
	var present [serviceCount]bool
	services := 0
	for i := range b.spans {
		if svc := b.spans[i].service; !present[svc] {
			present[svc] = true
			services++
		}
	}
	pick := func(ok func(service) bool) service {
		from := service(b.rng.IntN(int(serviceCount)))
		for i := range serviceCount {
			if svc := (from + i) % serviceCount; present[svc] && ok(svc) {
				return svc
			}
		}
		return noService
	}
	if b.chosen.has(NoServiceName) {
		if svc := pick(func(svc service) bool { return svc != svcWeb && svc != svcConsole && svc != svcVault }); svc != noService {
			b.res[svc].nameless = true
			b.done.add(NoServiceName)
		}
	}
	if b.chosen.has(ClockSkew) && services > 1 {
		if svc := pick(func(svc service) bool { return !b.pinned[svc] }); svc != noService {
			b.skewed[svc] = 10*ms + b.rng.Int64N(int64(b.opts.MaxSkew)-10*ms)
			if b.rng.IntN(2) == 0 {
				b.skewed[svc] = -b.skewed[svc]
			}
			b.done.add(ClockSkew)
		}
	}
}

func (b *builder) hurtTimes() {
	for i := range b.spans {
		if by := b.skewed[b.spans[i].service]; by != 0 {
			b.shift(&b.spans[i], by)
		}
	}
	first := b.spans[b.root].start
	for i := b.loose; i < len(b.spans); i++ {
		if s := &b.spans[i]; s.parent == noParent && s.start <= first {
			s.start, s.end = first+1+b.rng.Int64N(ms), max(s.end, first+2*ms) // keeps the root first
		}
	}
	if loose := len(b.spans) - b.loose; b.chosen.has(EndBeforeStart) && loose > 0 {
		for range 1 + b.rng.IntN(1+min(loose/20, 50)) {
			s := &b.spans[b.loose+b.rng.IntN(loose)]
			s.end = s.start - 1 - b.rng.Int64N(1000*ms)
		}
		b.done.add(EndBeforeStart)
	}
}

// assignIDs sets the ID of each span.
func (b *builder) assignIDs() {
	zeros := b.chosen.has(LeadingZeros)
	for i := range b.spans {
		s := &b.spans[i]
		s.id = b.spanID(i)
		if zeros && (i == 0 || b.rng.IntN(4) == 0) {
			binary.BigEndian.PutUint64(s.id[:], uint64(i)+1)
		}
	}
	for i := range b.spans {
		s := &b.spans[i]
		s.id = b.spans[s.sharesID].id
	}
}

func (b *builder) hurtEvents() {
	b.someSpans(ManyEvents, func(i int) bool {
		s := &b.spans[i]
		for range 1 + b.rng.IntN(30) {
			e := moments[b.rng.IntN(len(moments))]
			e.time = s.start - ms + b.rng.Int64N(max(s.end-s.start, 0)+2*ms)
			s.events = append(s.events, e)
		}
		return true
	})
}

var moments = []event{
	{name: "cache.miss", attrs: []trace.Attribute{str("cache.key", "cart"), num("cache.size", 512)}},
	{name: "gc.pause", attrs: []trace.Attribute{dbl("gc.seconds", 0.004)}},
	{name: "feature_flag.evaluation", attrs: []trace.Attribute{str("feature_flag.key", "new-cart"), yes("feature_flag.result.value", true)}},
	{name: "page.flushed", attrs: []trace.Attribute{list("page.numbers", trace.IntValue(1), trace.IntValue(2))}},
	{name: "tick"},
	{name: ""},
}

func (b *builder) hurtLinks() {
	b.someSpans(ManyLinks, func(i int) bool {
		if b.spans[i].keepsLinks {
			return false
		}
		for range 1 + b.rng.IntN(30) {
			switch b.rng.IntN(4) {
			case 0: // to a span of its own trace
				b.link(i, b.id)
				s := &b.spans[i]
				s.links[len(s.links)-1].SpanID = b.spans[b.rng.IntN(len(b.spans))].id
			case 1: // to a span of its own trace that was never sent
				b.link(i, b.id)
			case 2:
				b.link(i, b.otherTraceID(), str("link.reason", "follows"), num("link.rank", b.rng.Int64N(9)))
			default:
				b.link(i, b.otherTraceID())
			}
		}
		return true
	})
}

// someSpans applies do to one or more random spans, at most a twentieth and at most 100. For each it tries
// spans until do succeeds.
func (b *builder) someSpans(n Nasty, do func(i int) bool) {
	if !b.chosen.has(n) {
		return
	}
	for range 1 + b.rng.IntN(1+min(len(b.spans)/20, 100)) {
		from := b.rng.IntN(len(b.spans))
		for i := range b.spans {
			if do((from + i) % len(b.spans)) {
				b.done.add(n)
				break
			}
		}
	}
}
