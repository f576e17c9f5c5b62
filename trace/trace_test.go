package trace_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/tracetest"
)

var theID = trace.ID{15: 7}

func id(n byte) trace.SpanID { return trace.SpanID{7: n} }

func keys(tr *trace.Trace) (keys []string) {
	for i := range tr.Spans {
		s := &tr.Spans[i]
		keys = append(keys, fmt.Sprintf("%d/%v/%v", s.Start, s.ID[7], s.Kind))
	}
	return keys
}

func service(name string) trace.Attributes { return tracetest.Attributes(trace.ServiceName, name) }

func TestSpansAreOrderedByStartThenIDThenKind(t *testing.T) {
	tr := trace.New(theID, []trace.Span{
		{ID: id(2), Kind: trace.KindServer, Start: 5},
		{ID: id(9), Start: 1},
		{ID: id(2), Kind: trace.KindConsumer, Start: 5},
		{ID: id(1), Kind: trace.KindConsumer, Start: 5},
		{ID: id(2), Kind: trace.KindInternal, Start: 5},
		{ID: trace.SpanID{0: 1}, Start: 5},
	})
	assert.Equal(t, []string{"1/9/unspecified", "5/1/consumer", "5/2/internal", "5/2/server", "5/2/consumer", "5/0/unspecified"}, keys(tr))
	assert.Equal(t, theID, tr.ID)
}

// TestManySpansOfOneStartAreOrderedByID uses enough spans for an unstable sort to reorder equal ones.
func TestManySpansOfOneStartAreOrderedByID(t *testing.T) {
	spans := make([]trace.Span, 200)
	for i := range spans {
		spans[i] = trace.Span{ID: id(byte(i*7%200 + 1)), Start: trace.Time(5 - i%2)}
	}
	tr := trace.New(theID, spans)
	for i := 1; i < len(tr.Spans); i++ {
		a, b := &tr.Spans[i-1], &tr.Spans[i]
		assert.True(t, a.Start < b.Start || a.Start == b.Start && a.ID.Compare(b.ID) < 0, "span %d", i)
	}
}

func TestTheTraceStartsWithItsFirstSpanAndEndsWithItsLast(t *testing.T) {
	tr := trace.New(theID, []trace.Span{
		{ID: id(1), Start: 10, End: 20, Resource: service("web")},
		{ID: id(2), Start: 5, End: 8},
		{ID: id(3), Start: 12, End: 40, Resource: service("db")},
		{ID: id(4), Start: 13, End: 30, Resource: service("web")},
		{ID: id(5), Start: 14, End: 15, Resource: tracetest.Attributes(trace.ServiceName, 7)},
	})
	assert.Equal(t, trace.Time(5), tr.Start())
	assert.Equal(t, trace.Time(40), tr.End())
	assert.Equal(t, 35*time.Nanosecond, tr.Duration())
	assert.Equal(t, []string{"", "db", "web"}, tr.Services(), "sorted, without repetition, including the empty name")
	assert.Equal(t, "", tr.RootService(), "the first span in order without a parent names no service")
}

func TestRootServiceIsEmptyWithoutARoot(t *testing.T) {
	tr := trace.New(theID, []trace.Span{{ID: id(1), ParentID: id(2), Resource: service("web")}})
	assert.Equal(t, -1, tr.Root())
	assert.Equal(t, "", tr.RootService())
	tr = trace.New(theID, []trace.Span{{ID: id(1), Resource: service("web")}})
	assert.Equal(t, "web", tr.RootService())
}

func TestAnEndBeforeTheStartIsTheStart(t *testing.T) {
	tr := trace.New(theID, []trace.Span{{ID: id(1), Start: 10, End: 4}, {ID: id(2), Start: 3, End: 3}})
	assert.Equal(t, trace.Time(10), tr.Spans[1].End)
	assert.Equal(t, time.Duration(0), tr.Spans[1].Duration())
	assert.Equal(t, trace.Time(10), tr.End())
	assert.Equal(t, trace.FlagEndBeforeStart, tr.Flags)
}

func TestDurationsBeyondTheLongestAreTheLongest(t *testing.T) {
	tr := trace.New(theID, []trace.Span{{ID: id(1), Start: 0, End: math.MaxUint64}})
	assert.Equal(t, time.Duration(math.MaxInt64), tr.Duration())
	assert.Equal(t, time.Duration(math.MaxInt64), tr.Spans[0].Duration())
}

func TestTimeIsNanosecondsSinceTheEpochInUTC(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	assert.Equal(t, trace.Time(1772362800123456789), trace.TimeOf(at))
	assert.Equal(t, at.UTC(), trace.TimeOf(at).Time())
	assert.Equal(t, trace.Time(0), trace.TimeOf(time.Unix(-1, 0)))
	assert.Equal(t, trace.Time(0), trace.TimeOf(time.Time{}))
	assert.Equal(t, "2554-07-21 23:34:33.709551615 +0000 UTC", trace.Time(math.MaxUint64).Time().String())
}

func TestASpanWithoutAnAttributeAnswersWithItsResource(t *testing.T) {
	s := trace.Span{Attributes: tracetest.Attributes("a", 1), Resource: tracetest.Attributes("a", 2, "b", 3)}
	assert.Equal(t, tracetest.Value(1), s.Attribute("a"))
	assert.Equal(t, tracetest.Value(3), s.Attribute("b"))
	assert.True(t, s.Attribute("c").IsAbsent())
}

func TestNamesOfKindsStatusAndFlags(t *testing.T) {
	assert.Equal(t, "server", trace.KindServer.String())
	assert.Equal(t, "unspecified", trace.Kind(6).String())
	assert.Equal(t, "unspecified", trace.Kind(-1).String())
	assert.Equal(t, "error", trace.StatusError.String())
	assert.Equal(t, "unset", trace.Status(3).String())
	assert.Equal(t, "unset", trace.Status(-1).String())
	assert.Equal(t, []string{"merged", "repeated_key"}, (trace.FlagMerged | trace.FlagRepeatedKey).Names())
	assert.Nil(t, trace.Flags(0).Names())
}

func TestAttributesMadeByHandAreBroughtIntoNormalForm(t *testing.T) {
	mixed := func() trace.Attributes {
		return trace.Attributes{{Key: "b", Value: tracetest.Value(1)}, {Key: "a", Value: tracetest.Value(2)}, {Key: "b", Value: tracetest.Value(3)}, {Key: "c"}}
	}
	want := tracetest.Attributes("a", 2, "b", 3)
	tr := trace.New(theID, []trace.Span{{
		ID: id(1), Attributes: mixed(), Resource: mixed(),
		Events: []trace.Event{{Attributes: mixed()}}, Links: []trace.Link{{Attributes: mixed()}},
	}})
	s := tr.Spans[0]
	for _, got := range []trace.Attributes{s.Attributes, s.Resource, s.Events[0].Attributes, s.Links[0].Attributes} {
		assert.Empty(t, cmp.Diff(want, got))
	}
	assert.Equal(t, trace.FlagRepeatedKey, tr.Flags)
}

func TestNewPanicsWithoutSpans(t *testing.T) {
	assert.PanicsWithValue(t, "trace.New: trace "+theID.String()+" without spans", func() { trace.New(theID, nil) })
}

func TestFindKnowsASpanByIDAndKind(t *testing.T) {
	tr := trace.New(theID, []trace.Span{{ID: id(1), Kind: trace.KindClient, Start: 2}, {ID: id(1), Kind: trace.KindServer, Start: 1}})
	assert.Equal(t, 1, tr.Find(id(1), trace.KindClient))
	assert.Equal(t, 0, tr.Find(id(1), trace.KindServer))
	assert.Equal(t, -1, tr.Find(id(1), trace.KindInternal))
	assert.Equal(t, -1, tr.Find(id(2), trace.KindClient))
}

// sameTrace fails unless both traces are equal as their users see them.
func sameTrace(t *testing.T, want, got *trace.Trace, context ...any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(trace.Trace{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%v: -want +got:\n%s", context, diff)
	}
}
