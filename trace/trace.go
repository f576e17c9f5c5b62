package trace

import (
	"slices"
	"time"
)

// Flags record the corrections that brought a trace into normal form. They are counted and reported; no
// verdict depends on them.
type Flags uint8

const (
	// FlagMerged marks a trace with unequal copies of a span, which were merged.
	FlagMerged Flags = 1 << iota
	// FlagEndBeforeStart marks a trace with a span that ended before it started.
	FlagEndBeforeStart
	// FlagRepeatedKey marks a trace with a list of attributes in which a key had unequal values.
	FlagRepeatedKey
)

// FlagNames are the names of the flags in reports, in the order of their bits.
var FlagNames = [...]string{"merged", "end_before_start", "repeated_key"}

// Names returns the names of the flags that are set.
func (f Flags) Names() []string {
	var names []string
	for i, name := range FlagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Trace is one whole trace in normal form. It must not be changed, so several goroutines may read it
// concurrently.
type Trace struct {
	ID    ID
	Spans []Span // in order, at least one
	Flags Flags

	end      Time
	services []string
	tree     tree
}

// New returns the trace of the given ID and spans in normal form. It takes ownership of the slice and may
// reorder it. It panics if there are no spans.
func New(id ID, spans []Span) *Trace {
	if len(spans) == 0 {
		panic("trace.New: trace " + id.String() + " without spans")
	}
	t := &Trace{ID: id}
	for i := range spans {
		s := &spans[i]
		if s.normalize() {
			t.Flags |= FlagRepeatedKey
		}
		if s.End < s.Start {
			s.End = s.Start
			t.Flags |= FlagEndBeforeStart
		}
	}
	t.Spans = t.unite(spans)
	slices.SortFunc(t.Spans, func(a, b Span) int { return a.CompareOrder(&b) })
	t.complete(Parents(len(t.Spans), func(i int) (SpanID, SpanID, Kind) { return t.Spans[i].ID, t.Spans[i].ParentID, t.Spans[i].Kind }))
	return t
}

// OfNormal returns the trace of spans that are already in normal form. parents holds the index of each span's
// parent, or -1. OfNormal takes ownership of both slices.
func OfNormal(id ID, flags Flags, spans []Span, parents []int32) *Trace {
	t := &Trace{ID: id, Flags: flags, Spans: spans}
	t.complete(parents)
	return t
}

// complete computes the fields that follow from the spans, which are in normal form.
func (t *Trace) complete(parent []int32) {
	for i := range t.Spans {
		t.end = max(t.end, t.Spans[i].End)
		t.services = append(t.services, t.Spans[i].Service())
	}
	slices.Sort(t.services)
	t.services = slices.Clip(slices.Compact(t.services))
	t.tree = newTree(t.Spans, parent)
}

// unite merges all copies of each span into one.
func (t *Trace) unite(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int { return a.compareKey(&b) })
	n := 1
	for i := 1; i < len(spans); i++ {
		last, s := &spans[n-1], &spans[i]
		switch {
		case last.compareKey(s) != 0:
			spans[n] = *s
			n++
		case !last.equal(s):
			last.merge(s)
			t.Flags |= FlagMerged
		}
	}
	clear(spans[n:])
	return spans[:n:n]
}

// Start returns when the first span starts, which is when the trace starts.
func (t *Trace) Start() Time { return t.Spans[0].Start }

// End returns when the last span ends.
func (t *Trace) End() Time { return t.end }

// Duration returns the time from Start to End.
func (t *Trace) Duration() time.Duration { return t.end.Sub(t.Start()) }

// Services returns the sorted names of all services that have spans in the trace, without repetition. ""
// represents spans without a service name.
func (t *Trace) Services() []string { return t.services }

// RootService returns the service of the root span, or "" if there is no root.
func (t *Trace) RootService() string {
	if r := t.Root(); r >= 0 {
		return t.Spans[r].Service()
	}
	return ""
}

// Find returns the index of the span with that ID and kind, or -1.
func (t *Trace) Find(id SpanID, kind Kind) int {
	return slices.IndexFunc(t.Spans, func(s Span) bool { return s.ID == id && s.Kind == kind })
}
