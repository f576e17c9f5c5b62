package traceql

import (
	"bytes"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// narrowIntrinsic is narrowAtom for intrinsics.
func (f *BatchFilter) narrowIntrinsic(a *atom, s columnar.Bits) {
	b := f.b
	switch a.field.Key {
	case "span:name":
		f.narrowTexts(&b.Names, a, s)
	case "span:statusMessage":
		f.narrowTexts(&b.StatusMessages, a, s)
	case "instrumentation:name":
		f.narrowTexts(&b.Scopes, a, s)
	case "instrumentation:version":
		f.narrowTexts(&b.ScopeVersions, a, s)
	case "span:status":
		narrowEnum(b.Statuses, enumMask(a, TypeStatus, len(trace.StatusNames)), s)
	case "span:kind":
		narrowEnum(b.Kinds, enumMask(a, TypeKind, len(trace.KindNames)), s)
	case "span:duration":
		f.narrowDurations(a, s)
	case "span:childCount":
		f.countChildren()
		f.keep(s, func(i int32) bool { return a.holdsInt(int64(f.children[i])) })
	case "span:id":
		f.keep(s, func(i int32) bool { return a.holdsText(f.hexID(b.SpanIDs[i][:])) })
	case "span:parentID":
		f.keep(s, func(i int32) bool { return !b.ParentIDs[i].IsZero() && a.holdsText(f.hexID(b.ParentIDs[i][:])) })
	case "trace:id":
		f.keepTraces(s, func(t int32) bool { return a.holdsText(bytes.TrimLeft(f.hexID(b.IDs[t][:]), "0")) })
	case "trace:duration":
		f.keepTraces(s, func(t int32) bool { return a.holdsInt(f.traceDuration(t)) })
	case "trace:rootName":
		names := f.matchTexts(&b.Names, a, b.NumTraces(), true)
		f.keepTraces(s, func(t int32) bool {
			root := f.rootOf(t)
			return root >= 0 && names.at(b.Names.Codes[root])
		})
	case "trace:rootService":
		services := f.matchTexts(&b.Service().Text, a, b.NumTraces(), true)
		f.keepTraces(s, func(t int32) bool {
			root := f.rootOf(t)
			return root >= 0 && services.at(f.serviceCode(root))
		})
	case "event:name":
		f.narrowMembers(b.Events.From, b.Events.To, len(b.Events.Times), s, func(events columnar.Bits) { f.narrowTexts(&b.Events.Names, a, events) })
	case "event:timeSinceStart":
		f.keep(s, func(i int32) bool {
			if b.Events.From == nil {
				return false
			}
			for e := b.Events.From[i]; e < b.Events.To[i]; e++ {
				if a.holdsInt(int64(b.Events.Times[e]) - int64(b.Starts[i])) {
					return true
				}
			}
			return false
		})
	case "link:traceID":
		f.narrowMembers(b.Links.From, b.Links.To, len(b.Links.SpanIDs), s, func(links columnar.Bits) {
			f.keep(links, func(l int32) bool { return a.holdsText(f.hexID(b.Links.TraceIDs[l][:])) })
		})
	case "link:spanID":
		f.narrowMembers(b.Links.From, b.Links.To, len(b.Links.SpanIDs), s, func(links columnar.Bits) {
			f.keep(links, func(l int32) bool { return a.holdsText(f.hexID(b.Links.SpanIDs[l][:])) })
		})
	default:
		clear(s)
	}
}

// narrowPresentIntrinsic is narrowPresent for intrinsics.
func (f *BatchFilter) narrowPresentIntrinsic(name string, s columnar.Bits) {
	b := f.b
	member := func(from, to []int32) {
		f.keep(s, func(i int32) bool { return from != nil && from[i] < to[i] })
	}
	switch name {
	case "span:parentID":
		f.keep(s, func(i int32) bool { return !b.ParentIDs[i].IsZero() })
	case "trace:rootName", "trace:rootService":
		f.keepTraces(s, func(t int32) bool { return f.rootOf(t) >= 0 })
	case "event:name", "event:timeSinceStart":
		member(b.Events.From, b.Events.To)
	case "link:traceID", "link:spanID":
		member(b.Links.From, b.Links.To)
	}
}

// enumMask returns the numbers for which a test of the atom holds, as bits. Numbers from n on are treated as
// 0.
func enumMask(a *atom, typ Type, n int) (mask uint64) {
	for i := range n {
		if a.holdsAny(typ, trace.IntValue(int64(i))) {
			mask |= 1 << i
		}
	}
	if mask&1 != 0 {
		mask |= ^uint64(0) << n
	}
	return mask
}

// narrowEnum removes the rows from s whose number is not in mask. Numbers that are negative or too great are
// represented by the highest bit.
func narrowEnum[E ~int32](numbers []E, mask uint64, s columnar.Bits) {
	for w, in := range s {
		if in != 0 {
			s[w] = columnar.EnumsAmong(numbers[64*w:], mask, in)
		}
	}
}

func (f *BatchFilter) narrowDurations(a *atom, s columnar.Bits) {
	starts, ends := f.b.Starts, f.b.Ends
	var durations [64]int64
	for w, in := range s {
		if in == 0 {
			continue
		}
		first := 64 * w
		n := min(64, len(starts)-first)
		ends := ends[first:]
		for j, start := range starts[first : first+n] {
			durations[j] = int64(ends[j].Sub(start))
		}
		var out uint64
		for i := range a.numbers {
			out |= a.numbers[i].Ints(durations[:n], in)
		}
		s[w] = out
	}
}

// countChildren counts the children of each span of the batch, once per batch.
func (f *BatchFilter) countChildren() {
	n := f.b.NumSpans()
	if len(f.children) == n {
		return
	}
	if cap(f.children) < n {
		f.children = make([]int32, n)
	}
	f.children = f.children[:n]
	clear(f.children)
	for _, p := range f.b.Parents {
		if p >= 0 {
			f.children[p]++
		}
	}
}

// rootOf returns the row of trace t's root, or -1 if there is none.
func (f *BatchFilter) rootOf(t int32) int32 {
	for i := f.b.First[t]; i < f.b.First[t+1]; i++ {
		if f.b.Parents[i] < 0 && f.b.ParentIDs[i].IsZero() {
			return i
		}
	}
	return -1
}

func (f *BatchFilter) traceDuration(t int32) int64 {
	first, last := f.b.First[t], f.b.First[t+1]
	end := trace.Time(0)
	for _, e := range f.b.Ends[first:last] {
		end = max(end, e)
	}
	return int64(end.Sub(f.b.Starts[first]))
}

// serviceCode returns the code of a span's service name.
func (f *BatchFilter) serviceCode(span int32) uint32 {
	c := f.b.Service()
	if c.Text.Codes == nil {
		return 0
	}
	return c.Text.Codes[f.b.Resources[span]]
}
