package tracetest

import "slices"

// Behaviour is something that the services of a trace may do, and that does or does not violate one rule of
// [Pack]. The verdict is fixed by hand, without any engine.
type Behaviour struct {
	Name     string // "charge/unchecked"
	Rule     string // the rule of Pack to which it belongs
	Violates bool
	// Needs is the difficulty that the behaviour uses, or 0. Such a behaviour occurs only in traces that were
	// selected for that difficulty.
	Needs Nasty
	Doc   string // describes the behaviour and the reason for its verdict
}

// Behaviours returns all behaviours, ordered by rule.
func Behaviours() []Behaviour {
	var all []Behaviour
	for _, sc := range allScenes {
		for _, w := range sc.ways {
			all = append(all, Behaviour{Name: sc.name + "/" + w.name, Rule: sc.rule, Violates: w.violates, Needs: w.needs, Doc: w.doc})
		}
	}
	return all
}

// scene is the part of a trace to which one rule refers, with its variants. At least one variant without
// difficulties violates the rule, and one does not.
type scene struct {
	name, rule string
	need       int // maximum number of spans
	ways       []way
}

type way struct {
	name     string
	violates bool
	needs    Nasty
	more     int // number of spans in addition to the scene's need
	doc      string
	play     func(*builder) // adds its spans below b.at
}

// allScenes lists the scenes in the order of the rules in the pack.
var allScenes = []*scene{
	&charge, &bypass, &retry, &vault, &export, &refund, &failure, &cards, &database,
	&toolCall, &queue, &latency, &environment, &batch, &admin, &roles,
}

// act plays those scenes of the kind for which there are enough spans.
func (b *builder) act(violate bool) {
	k := kindTable[b.kind]
	b.room = max(b.size-1-b.reserved(), 0)
	b.root = k.begin(b)
	b.at = b.root
	var inner pair
	if k.inner != noService && b.room >= 2 {
		b.room -= 2
		inner = b.call(b.root, k.inner, "POST", k.route)
		b.at = int(inner.server)
	}

	cast := make([]*scene, 0, len(k.scenes)) // in random order, so that small traces differ
	for _, i := range b.rng.Perm(len(k.scenes)) {
		if sc := k.scenes[i]; sc.need <= b.room {
			b.room -= sc.need
			cast = append(cast, sc)
		}
	}
	villains := 0
	if violate {
		villains = min(len(cast), 1+b.rng.IntN(3)/2)
	}
	for _, sc := range k.scenes {
		if i := slices.Index(cast, sc); i >= 0 {
			b.play(sc, i < villains)
		}
	}
	if b.at != b.root {
		b.endCall(inner)
	}
	b.close(b.root)
}

// play plays one variant of a scene. It prefers variants with a difficulty.
func (b *builder) play(sc *scene, violate bool) {
	var fit []*way
	for i := range sc.ways {
		w := &sc.ways[i]
		if w.violates != violate || w.more > b.room || w.needs != nothing && !b.chosen.has(w.needs) {
			continue
		}
		fit = append(fit, w)
		if w.needs != nothing {
			fit = append(fit, w, w)
		}
	}
	w := fit[b.rng.IntN(len(fit))]
	b.room -= w.more
	w.play(b)
	if w.needs != nothing {
		b.done.add(w.needs)
	}
	b.behaviours = append(b.behaviours, sc.name+"/"+w.name)
	if violate {
		b.violations = append(b.violations, sc.rule)
	}
}
