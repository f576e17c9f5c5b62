package trace_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"

	"github.com/betracehq/betrace/analyzer/trace"
)

func TestCopiesOfASpanAreOne(t *testing.T) {
	base := trace.Span{
		ID: id(1), Kind: trace.KindServer, ParentID: id(5), Name: "b", Start: 10, End: 20,
		Status: trace.StatusOK, StatusMessage: "b", Scope: "b", ScopeVersion: "2",
		Attributes: attributes("a", 1, "b", "x"), Resource: service("b"),
		Events: []trace.Event{{Time: 11, Name: "b"}},
		Links:  []trace.Link{{SpanID: id(8)}},
	}
	with := func(change func(*trace.Span)) trace.Span {
		s := base
		change(&s)
		return s
	}
	for _, tc := range []struct {
		name  string
		other trace.Span
		want  trace.Span // of both
		flags trace.Flags
	}{
		{"equal", base, base, 0},
		{"nothing but the key", trace.Span{ID: id(1), Kind: trace.KindServer}, base, trace.FlagMerged},
		{"greater parent", with(func(s *trace.Span) { s.ParentID = id(6) }), with(func(s *trace.Span) { s.ParentID = id(6) }), trace.FlagMerged},
		{"smaller parent", with(func(s *trace.Span) { s.ParentID = id(4) }), base, trace.FlagMerged},
		{"no parent", with(func(s *trace.Span) { s.ParentID = id(0) }), base, trace.FlagMerged},
		{"name", with(func(s *trace.Span) { s.Name = "c" }), with(func(s *trace.Span) { s.Name = "c" }), trace.FlagMerged},
		{"later start", with(func(s *trace.Span) { s.Start = 12 }), with(func(s *trace.Span) { s.Start = 12 }), trace.FlagMerged},
		{"start after the end of the other", with(func(s *trace.Span) { s.Start, s.End = 30, 0 }), with(func(s *trace.Span) { s.Start, s.End = 30, 30 }), trace.FlagMerged | trace.FlagEndBeforeStart},
		{"earlier end", with(func(s *trace.Span) { s.End = 15 }), base, trace.FlagMerged},
		{"status", with(func(s *trace.Span) { s.Status = trace.StatusError }), with(func(s *trace.Span) { s.Status = trace.StatusError }), trace.FlagMerged},
		{"status message", with(func(s *trace.Span) { s.StatusMessage = "" }), base, trace.FlagMerged},
		{"scope", with(func(s *trace.Span) { s.Scope = "c" }), with(func(s *trace.Span) { s.Scope = "c" }), trace.FlagMerged},
		{"scope version", with(func(s *trace.Span) { s.ScopeVersion = "10" }), base, trace.FlagMerged},
		{"each attribute key is a field of its own", with(func(s *trace.Span) { s.Attributes = attributes("a", 2, "b", "w", "c", true) }),
			with(func(s *trace.Span) { s.Attributes = attributes("a", 2, "b", "x", "c", true) }), trace.FlagMerged},
		{"a double is greater than any int", with(func(s *trace.Span) { s.Attributes = attributes("a", 0.5) }),
			with(func(s *trace.Span) { s.Attributes = attributes("a", 0.5, "b", "x") }), trace.FlagMerged},
		{"attributes to a copy without any", with(func(s *trace.Span) { s.Attributes = nil }), base, trace.FlagMerged},
		{"resource", with(func(s *trace.Span) { s.Resource = attributes("zone", "x") }),
			with(func(s *trace.Span) { s.Resource = attributes(trace.ServiceName, "b", "zone", "x") }), trace.FlagMerged},
		{"events are one field: the longer list", with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 1}, {Time: 1}} }),
			with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 1}, {Time: 1}} }), trace.FlagMerged},
		{"events: then by time", with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 10, Name: "z"}} }), base, trace.FlagMerged},
		{"events: then by name", with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 11, Name: "c"}} }),
			with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 11, Name: "c"}} }), trace.FlagMerged},
		{"events: then by attributes", with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 11, Name: "b", Attributes: attributes("a", 1)}} }),
			with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 11, Name: "b", Attributes: attributes("a", 1)}} }), trace.FlagMerged},
		{"links: by trace, span, attributes", with(func(s *trace.Span) { s.Links = []trace.Link{{TraceID: theID, SpanID: id(1)}} }),
			with(func(s *trace.Span) { s.Links = []trace.Link{{TraceID: theID, SpanID: id(1)}} }), trace.FlagMerged},
		{"links: by attributes", with(func(s *trace.Span) { s.Links = []trace.Link{{SpanID: id(8), Attributes: attributes("a", 1)}} }),
			with(func(s *trace.Span) { s.Links = []trace.Link{{SpanID: id(8), Attributes: attributes("a", 1)}} }), trace.FlagMerged},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, spans := range [][]trace.Span{{base, tc.other}, {tc.other, base}, {base, tc.other, base}, {tc.other, base, tc.other}} {
				tr := trace.New(theID, slices.Clone(spans))
				assert.Empty(t, cmp.Diff([]trace.Span{tc.want}, tr.Spans, cmpopts.EquateEmpty()))
				assert.Equal(t, tc.flags, tr.Flags)
			}
		})
	}
}

func TestSpansOfOneIDAndAnotherKindStayTwo(t *testing.T) {
	tr := trace.New(theID, []trace.Span{{ID: id(1), Kind: trace.KindClient}, {ID: id(1), Kind: trace.KindServer}})
	assert.Len(t, tr.Spans, 2)
	assert.Zero(t, tr.Flags)
}

// random values are drawn from few, so that copies often agree in part.
func randomValue(r *rand.Rand, depth int) trace.Value {
	pick := ordered[r.IntN(len(ordered))]
	if depth > 0 && r.IntN(4) == 0 {
		list := make([]trace.Value, r.IntN(3))
		for i := range list {
			list[i] = randomValue(r, depth-1)
		}
		return trace.ArrayValue(list...)
	}
	return pick
}

func randomAttributes(r *rand.Rand) trace.Attributes {
	var as []trace.Attribute
	for range r.IntN(4) {
		as = append(as, trace.Attribute{Key: string(rune('a' + r.IntN(4))), Value: randomValue(r, 2)})
	}
	normal, _ := trace.NewAttributes(as)
	return normal
}

// randomSpan is a span of one of few keys with fields of few values each.
func randomSpan(r *rand.Rand, ids, kinds int) trace.Span {
	text := func() string { return []string{"", "a", "b"}[r.IntN(3)] }
	s := trace.Span{
		ID: id(byte(1 + r.IntN(ids))), Kind: trace.Kind(r.IntN(kinds)), ParentID: id(byte(r.IntN(ids + 1))),
		Name: text(), Start: trace.Time(r.IntN(6)), End: trace.Time(r.IntN(6)),
		Status: trace.Status(r.IntN(3)), StatusMessage: text(), Scope: text(), ScopeVersion: text(),
		Attributes: randomAttributes(r), Resource: randomAttributes(r),
	}
	for range r.IntN(3) {
		s.Events = append(s.Events, trace.Event{Time: trace.Time(r.IntN(2)), Name: text(), Attributes: randomAttributes(r)})
	}
	for range r.IntN(3) {
		s.Links = append(s.Links, trace.Link{TraceID: trace.ID{byte(r.IntN(2))}, SpanID: id(byte(r.IntN(2))), Attributes: randomAttributes(r)})
	}
	return s
}

// TestMergingDoesNotDependOnTheOrder holds for any spans: whatever the order of
// the copies, however often each comes, and whichever were united before, the
// trace is the same. That is commutative, associative and idempotent.
func TestMergingDoesNotDependOnTheOrder(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		spans := make([]trace.Span, 2+r.IntN(10))
		for i := range spans {
			spans[i] = randomSpan(r, 1+int(seed%4), 1+int(seed%3))
		}
		want := trace.New(theID, slices.Clone(spans))

		shuffled := slices.Clone(spans)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		sameTrace(t, want, trace.New(theID, slices.Clone(shuffled)), "seed", seed, "shuffled")

		twice := append(slices.Clone(spans), shuffled...)
		sameTrace(t, want, trace.New(theID, twice), "seed", seed, "twice")

		cut := r.IntN(len(shuffled)-1) + 1
		first := trace.New(theID, slices.Clone(shuffled[:cut]))
		second := trace.New(theID, slices.Clone(shuffled[cut:]))
		inParts := trace.New(theID, append(slices.Clone(first.Spans), second.Spans...))
		inParts.Flags |= first.Flags | second.Flags
		sameTrace(t, want, inParts, "seed", seed, "in parts")

		if t.Failed() {
			return
		}
	}
}

// TestMergingKeepsTheCopiesAsTheyWere: the attributes of a resource are shared by
// many spans.
func TestMergingKeepsTheCopiesAsTheyWere(t *testing.T) {
	shared := attributes("a", 1, "b", 1)
	trace.New(theID, []trace.Span{
		{ID: id(1), Resource: shared}, {ID: id(1), Resource: attributes("a", 2, "c", 3)}, {ID: id(2), Resource: shared},
	})
	assert.Equal(t, attributes("a", 1, "b", 1), shared)
}
