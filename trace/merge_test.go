package trace_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/tracetest"
)

func TestCopiesOfASpanAreOne(t *testing.T) {
	base := trace.Span{
		ID: id(1), Kind: trace.KindServer, ParentID: id(5), Name: "b", Start: 10, End: 20,
		Status: trace.StatusOK, StatusMessage: "b", Scope: "b", ScopeVersion: "2",
		Attributes: tracetest.Attributes("a", 1, "b", "x"), Resource: service("b"),
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
		want  trace.Span // of the span merged from base and other
		flags trace.Flags
	}{
		{"equal", base, base, 0},
		{"only the key", trace.Span{ID: id(1), Kind: trace.KindServer}, base, trace.FlagMerged},
		{"greater parent", with(func(s *trace.Span) { s.ParentID = id(6) }), with(func(s *trace.Span) { s.ParentID = id(6) }), trace.FlagMerged},
		{"smaller parent", with(func(s *trace.Span) { s.ParentID = id(4) }), base, trace.FlagMerged},
		{"no parent", with(func(s *trace.Span) { s.ParentID = id(0) }), base, trace.FlagMerged},
		{"name", with(func(s *trace.Span) { s.Name = "c" }), with(func(s *trace.Span) { s.Name = "c" }), trace.FlagMerged},
		{"later start", with(func(s *trace.Span) { s.Start = 12 }), with(func(s *trace.Span) { s.Start = 12 }), trace.FlagMerged},
		{"start after the other copy's end", with(func(s *trace.Span) { s.Start, s.End = 30, 0 }), with(func(s *trace.Span) { s.Start, s.End = 30, 30 }), trace.FlagMerged | trace.FlagEndBeforeStart},
		{"earlier end", with(func(s *trace.Span) { s.End = 15 }), base, trace.FlagMerged},
		{"status", with(func(s *trace.Span) { s.Status = trace.StatusError }), with(func(s *trace.Span) { s.Status = trace.StatusError }), trace.FlagMerged},
		{"status message", with(func(s *trace.Span) { s.StatusMessage = "" }), base, trace.FlagMerged},
		{"scope", with(func(s *trace.Span) { s.Scope = "c" }), with(func(s *trace.Span) { s.Scope = "c" }), trace.FlagMerged},
		{"scope version", with(func(s *trace.Span) { s.ScopeVersion = "10" }), base, trace.FlagMerged},
		{"each attribute key is merged on its own", with(func(s *trace.Span) { s.Attributes = tracetest.Attributes("a", 2, "b", "w", "c", true) }),
			with(func(s *trace.Span) { s.Attributes = tracetest.Attributes("a", 2, "b", "x", "c", true) }), trace.FlagMerged},
		{"a double is greater than any int", with(func(s *trace.Span) { s.Attributes = tracetest.Attributes("a", 0.5) }),
			with(func(s *trace.Span) { s.Attributes = tracetest.Attributes("a", 0.5, "b", "x") }), trace.FlagMerged},
		{"no attributes", with(func(s *trace.Span) { s.Attributes = nil }), base, trace.FlagMerged},
		{"resource", with(func(s *trace.Span) { s.Resource = tracetest.Attributes("zone", "x") }),
			with(func(s *trace.Span) { s.Resource = tracetest.Attributes(trace.ServiceName, "b", "zone", "x") }), trace.FlagMerged},
		{"events: the longer list wins", with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 1}, {Time: 1}} }),
			with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 1}, {Time: 1}} }), trace.FlagMerged},
		{"events of equal number: by time", with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 10, Name: "z"}} }), base, trace.FlagMerged},
		{"events of equal time: by name", with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 11, Name: "c"}} }),
			with(func(s *trace.Span) { s.Events = []trace.Event{{Time: 11, Name: "c"}} }), trace.FlagMerged},
		{"events of equal name: attributes are merged", with(func(s *trace.Span) {
			s.Events = []trace.Event{{Time: 11, Name: "b", Attributes: tracetest.Attributes("a", 1)}}
		}),
			with(func(s *trace.Span) {
				s.Events = []trace.Event{{Time: 11, Name: "b", Attributes: tracetest.Attributes("a", 1)}}
			}), trace.FlagMerged},
		{"links: by trace, then span", with(func(s *trace.Span) { s.Links = []trace.Link{{TraceID: theID, SpanID: id(1)}} }),
			with(func(s *trace.Span) { s.Links = []trace.Link{{TraceID: theID, SpanID: id(1)}} }), trace.FlagMerged},
		{"links of equal IDs: attributes are merged", with(func(s *trace.Span) { s.Links = []trace.Link{{SpanID: id(8), Attributes: tracetest.Attributes("a", 1)}} }),
			with(func(s *trace.Span) { s.Links = []trace.Link{{SpanID: id(8), Attributes: tracetest.Attributes("a", 1)}} }), trace.FlagMerged},
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

// TestMergingDoesNotDependOnTheOrder checks on random spans that merging is commutative, associative and
// idempotent: the order of the copies, their number and earlier merges of some of them do not change the
// trace.
func TestMergingDoesNotDependOnTheOrder(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		spans := make([]trace.Span, 2+r.IntN(10))
		for i := range spans {
			spans[i] = tracetest.RandomSpan(r, 1+int(seed%4), 1+int(seed%3))
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

// TestMergingKeepsTheCopiesAsTheyWere checks that merging does not change attributes in place, because many
// spans share the attributes of a resource.
func TestMergingKeepsTheCopiesAsTheyWere(t *testing.T) {
	shared := tracetest.Attributes("a", 1, "b", 1)
	trace.New(theID, []trace.Span{
		{ID: id(1), Resource: shared}, {ID: id(1), Resource: tracetest.Attributes("a", 2, "c", 3)}, {ID: id(2), Resource: shared},
	})
	assert.Equal(t, tracetest.Attributes("a", 1, "b", 1), shared)
}
