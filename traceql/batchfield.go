package traceql

import (
	"encoding/hex"
	"math/bits"

	"github.com/betracehq/betrace/trace/columnar"
)

// narrowAtom removes the spans from s for which no test of the atom holds.
func (f *BatchFilter) narrowAtom(a *atom, s columnar.Bits) {
	b := f.b
	switch a.field.Scope {
	case ScopeSpan:
		f.narrowColumn(b.Attribute(a.field.Key), a, s)
	case ScopeResource:
		f.gather(f.resources(a), s)
		f.scratch.Give(1)
	case ScopeAny:
		f.narrowUnscoped(a, s)
	case ScopeEvent:
		f.narrowMembers(b.Events.From, b.Events.To, len(b.Events.Times), s, func(events columnar.Bits) {
			f.narrowColumn(b.Events.Attribute(a.field.Key), a, events)
		})
	case ScopeLink:
		f.narrowMembers(b.Links.From, b.Links.To, len(b.Links.SpanIDs), s, func(links columnar.Bits) {
			f.narrowColumn(b.Links.Attribute(a.field.Key), a, links)
		})
	default:
		f.narrowIntrinsic(a, s)
	}
}

// narrowPresent removes the spans from s that do not have the field.
func (f *BatchFilter) narrowPresent(field Field, s columnar.Bits) {
	b := f.b
	switch field.Scope {
	case ScopeSpan:
		f.narrowPresentColumn(b.Attribute(field.Key), s)
	case ScopeResource:
		f.gather(f.presentResources(field.Key), s)
		f.scratch.Give(1)
	case ScopeAny:
		own := f.scratch.CopyOf(s)
		f.narrowPresentColumn(b.Attribute(field.Key), own)
		f.gather(f.presentResources(field.Key), s)
		s.Add(own)
		f.scratch.Give(2)
	case ScopeEvent:
		f.narrowMembers(b.Events.From, b.Events.To, len(b.Events.Times), s, func(events columnar.Bits) {
			f.narrowPresentColumn(b.Events.Attribute(field.Key), events)
		})
	case ScopeLink:
		f.narrowMembers(b.Links.From, b.Links.To, len(b.Links.SpanIDs), s, func(links columnar.Bits) {
			f.narrowPresentColumn(b.Links.Attribute(field.Key), links)
		})
	default:
		f.narrowPresentIntrinsic(field.Key, s)
	}
}

// resources returns the rows of resources for which a test of the atom holds, in a bitmap of scratch that the
// caller gives back.
func (f *BatchFilter) resources(a *atom) columnar.Bits {
	n := f.b.Service().Rows()
	rows := f.scratch.Take(columnar.NumWords(n))
	rows.Fill(n)
	f.narrowColumn(f.b.ResourceAttribute(a.field.Key), a, rows)
	return rows
}

func (f *BatchFilter) presentResources(key string) columnar.Bits {
	n := f.b.Service().Rows()
	rows := f.scratch.Take(columnar.NumWords(n))
	rows.Fill(n)
	f.narrowPresentColumn(f.b.ResourceAttribute(key), rows)
	return rows
}

// gather removes the spans from s whose resource is not in rows.
func (f *BatchFilter) gather(rows, s columnar.Bits) {
	if rows.IsEmpty() {
		clear(s)
		return
	}
	resources := f.b.Resources
	for w, in := range s {
		if in == 0 {
			continue
		}
		var out uint64
		if bits.OnesCount64(in) <= fewBits {
			for rest := in; rest != 0; rest &= rest - 1 {
				j := bits.TrailingZeros64(rest)
				r := resources[64*w+j]
				out |= rows[r>>6] >> (r & 63) & 1 << j
			}
		} else {
			for j, r := range resources[64*w : min(64*w+64, len(resources))] {
				out |= rows[r>>6] >> (r & 63) & 1 << (j & 63)
			}
		}
		s[w] = in & out
	}
}

// narrowUnscoped is narrowAtom for the span's attribute, otherwise the resource's.
func (f *BatchFilter) narrowUnscoped(a *atom, s columnar.Bits) {
	own, resources := f.b.Attribute(a.field.Key), f.resources(a)
	if resources.IsEmpty() {
		f.narrowColumn(own, a, s)
	} else {
		lacking, present := f.scratch.CopyOf(s), f.scratch.CopyOf(s)
		f.narrowPresentColumn(own, present)
		lacking.Remove(present)
		f.gather(resources, lacking)
		f.narrowColumn(own, a, s)
		s.Add(lacking)
		f.scratch.Give(2)
	}
	f.scratch.Give(1)
}

// narrowMembers removes the spans from s that have no event or link left after narrowing. n is the number of
// all events or links.
func (f *BatchFilter) narrowMembers(from, to []int32, n int, s columnar.Bits, narrow func(members columnar.Bits)) {
	if from == nil {
		clear(s)
		return
	}
	members := f.scratch.Take(columnar.NumWords(n))
	clear(members)
	for i := s.Next(0); i >= 0; i = s.Next(i + 1) {
		members.SetRange(from[i], to[i])
	}
	narrow(members)
	f.keep(s, func(i int32) bool { return members.AnyIn(from[i], to[i]) })
	f.scratch.Give(1)
}

// keep removes the spans from s for which matches is false.
func (f *BatchFilter) keep(s columnar.Bits, matches func(i int32) bool) {
	for w, in := range s {
		for rest := in; rest != 0; rest &= rest - 1 {
			if j := bits.TrailingZeros64(rest); !matches(int32(64*w + j)) {
				s[w] &^= 1 << j
			}
		}
	}
}

// keepTraces removes the spans of those traces from s for which matches is false.
func (f *BatchFilter) keepTraces(s columnar.Bits, matches func(t int32) bool) {
	first := f.b.First
	for t, i := int32(0), s.Next(0); i >= 0; i = s.Next(first[t]) {
		for first[t+1] <= i {
			t++
		}
		if !matches(t) {
			s.ClearRange(first[t], first[t+1])
		}
		t++
	}
}

// hexID returns an ID in hexadecimal. The result is valid until the next call.
func (f *BatchFilter) hexID(id []byte) []byte {
	f.digits = hex.AppendEncode(f.digits[:0], id)
	return f.digits
}
