package tracetest

import (
	"slices"

	"github.com/betracehq/betrace/trace"
)

// Same reports whether two traces are equal as their users see them. It is faster than go-cmp, which shows
// the difference.
func Same(a, b *trace.Trace) bool {
	if a.ID != b.ID || a.Flags != b.Flags || a.End() != b.End() || !slices.Equal(a.Services(), b.Services()) ||
		!slices.EqualFunc(a.Spans, b.Spans, sameSpan) || a.Root() != b.Root() {
		return false
	}
	for i := range a.Spans {
		if a.Parent(i) != b.Parent(i) || !slices.Equal(a.Children(i), b.Children(i)) {
			return false
		}
	}
	return true
}

func sameSpan(a, b trace.Span) bool {
	return a.ID == b.ID && a.Kind == b.Kind && a.ParentID == b.ParentID && a.Name == b.Name &&
		a.Start == b.Start && a.End == b.End && a.Status == b.Status && a.StatusMessage == b.StatusMessage &&
		a.Scope == b.Scope && a.ScopeVersion == b.ScopeVersion &&
		a.Attributes.Compare(b.Attributes) == 0 && a.Resource.Compare(b.Resource) == 0 &&
		slices.EqualFunc(a.Events, b.Events, func(x, y trace.Event) bool {
			return x.Time == y.Time && x.Name == y.Name && x.Attributes.Compare(y.Attributes) == 0
		}) &&
		slices.EqualFunc(a.Links, b.Links, func(x, y trace.Link) bool {
			return x.TraceID == y.TraceID && x.SpanID == y.SpanID && x.Attributes.Compare(y.Attributes) == 0
		})
}
