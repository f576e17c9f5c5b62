package tracetest

import (
	"slices"

	"github.com/betracehq/betrace/trace"
)

// copySpan adds a copy of a span. alter changes the copy; nil adds an equal one. The copy is shallow, so
// alter must not change memory that it shares with the span.
func (b *builder) copySpan(i int, alter func(*span)) {
	b.own(i)
	b.copies = append(b.copies, spanCopy{of: int32(i), alter: alter})
}

// hurtArrival chooses the spans that are late and those that are sent repeatedly.
func (b *builder) hurtArrival() {
	last := uint8(0)
	if b.chosen.has(Late) && len(b.spans) > 1 {
		last = 1 + uint8(b.rng.IntN(2))
		early := 0
		for i := range b.spans {
			if s := &b.spans[i]; s.batch == 0 && b.rng.IntN(4) == 0 {
				s.batch = 1 + uint8(b.rng.IntN(int(last)))
			}
			if b.spans[i].batch == 0 {
				early++
			}
		}
		switch {
		case early == 0:
			b.spans[b.root].batch = 0
		case early == len(b.spans):
			b.spans[len(b.spans)-1].batch = 1
		}
		b.done.add(Late)
	}
	b.someSpans(EqualCopies, func(i int) bool {
		b.copySpan(i, nil)
		return true
	})
	b.someSpans(UnequalCopies, func(i int) bool {
		b.copySpan(i, b.difference(i))
		return true
	})
	if len(b.copies) > 0 && b.rng.IntN(2) == 0 {
		last++ // copies may arrive after everything else
	}
	for i := range b.copies {
		b.copies[i].batch = uint8(b.rng.IntN(int(last) + 1))
	}
	if b.chosen.has(EqualCopies) && b.rng.IntN(4) == 0 { // a sender that got no response repeats everything
		for i := range b.spans {
			if b.spans[i].batch == 0 {
				b.copies = append(b.copies, spanCopy{of: int32(i), batch: last})
			}
		}
	}
}

// difference returns a function that makes a copy of a span unequal to it, without changing a verdict.
func (b *builder) difference(i int) func(*span) {
	s := b.own(i)
	switch b.rng.IntN(3) {
	case 0:
		if len(s.attrs) > 0 && !allAbsent(s.attrs) { // the copy has fewer fields: present values win over absent ones
			return func(s *span) {
				s.attrs, s.events, s.links = nil, nil, nil
				s.status, s.message = trace.StatusUnset, ""
			}
		}
	case 1:
		if i >= b.loose { // the copy has different fields
			later := 1 + b.rng.Int64N(ms)
			return func(s *span) {
				s.name += " (copy)"
				s.end += later
				s.status, s.message = trace.StatusOK, "copied"
			}
		}
	}
	extra := num("app.copy", b.rng.Int64N(1000)) // the copy has another attribute
	return func(s *span) { s.attrs = replace(s.attrs, extra) }
}

func allAbsent(attrs []trace.Attribute) bool {
	return !slices.ContainsFunc(attrs, func(a trace.Attribute) bool { return !a.Value.IsAbsent() })
}
