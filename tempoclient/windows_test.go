package tempoclient_test

import (
	"bytes"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/protobuf/proto"

	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/tempopb"
	"github.com/betracehq/betrace/trace"
)

// exact are traces without duration, by their start. Unlike store it compares to the nanosecond.
type exact map[trace.ID]time.Time

func (e exact) server(t *testing.T) *fake {
	return &fake{
		search: func(_ int, w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			start, end := time.Unix(number(t, q, "start"), 0), time.Unix(number(t, q, "end"), 0)
			var ids []trace.ID
			for id, at := range e {
				if !at.Before(start) && !at.After(end) && len(ids) < int(number(t, q, "limit")) {
					ids = append(ids, id)
				}
			}
			writeSearch(w, wholeSearch(ids...))
		},
		trace: func(_ int, w http.ResponseWriter, r *http.Request) {
			writeProto(w, envelope(asked(r), func(m *tempopb.TraceByIDResponse) {
				td := ptrace.NewTraces()
				addTrace(td, asked(r), e[asked(r)], 1, "op")
				var err error
				if m.Trace, err = (&ptrace.ProtoMarshaler{}).MarshalTraces(td); err != nil {
					t.Error(err)
				}
			}))
		},
	}
}

func TestARangeHoldsItsStartAndNotItsEnd(t *testing.T) {
	t.Parallel()
	from, to := at.Add(300*time.Millisecond), at.Add(700*time.Millisecond)
	f := exact{id(1): from.Add(-1), id(2): from, id(3): to.Add(-1), id(4): to}.server(t).start(t)
	got := map[trace.ID]int{}
	report, err := f.client(t, nil).Traces(t.Context(), tempoclient.Request{From: from, To: to}, collect(got))
	require.NoError(t, err)
	require.Equal(t, map[trace.ID]int{id(2): 1, id(3): 1}, got)
	require.Equal(t, 2, report.OutsideRange)
}

func TestTracesBetweenTwoSecondsAreFoundHoweverOftenTheRangeIsCut(t *testing.T) {
	t.Parallel()
	traces, want := exact{}, map[trace.ID]int{}
	for i := range 40 {
		traces[id(i)] = at.Add(time.Duration(i)*250*time.Millisecond + 100*time.Millisecond)
		want[id(i)] = 1
	}
	f := traces.server(t).start(t)
	got := map[trace.ID]int{}
	// No second contains as many traces as the limit, so that windows are divided by time only.
	report, err := f.client(t, func(c *tempoclient.Config) { c.SearchLimit = 6 }).Traces(t.Context(), theRange(), collect(got))
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.Equal(t, want, got)
}

// The match of a trace may be as late after the range as the maximum duration of a trace, including the
// second in which that duration ends.
func TestAsMuchIsSearchedAsATraceMayLast(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	last := int64(0)
	f := (&fake{search: func(n int, w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		last = max(last, number(t, r.URL.Query(), "end"))
		finds()(n, w, r)
	}}).start(t)
	req := tempoclient.Request{From: at, To: at.Add(500 * time.Millisecond)}
	_, err := f.client(t, func(c *tempoclient.Config) { c.MaxTraceDuration = 20 * time.Second }).Traces(t.Context(), req, nil)
	require.NoError(t, err)
	require.Equal(t, at.Unix()+21, last)
}

// Tempo returns the IDs that it made for spans that share one.
func TestATraceWhoseSpansShareAnIDIsReadAsItWasSent(t *testing.T) {
	t.Parallel()
	const client, made = 0xa0, 1
	f := (&fake{trace: func(_ int, w http.ResponseWriter, r *http.Request) {
		td := ptrace.NewTraces()
		addTrace(td, asked(r), at.Add(time.Second), 2, "op")
		spans := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans()
		spans.At(0).SetSpanID(pcommon.SpanID{0: client})
		spans.At(0).SetKind(ptrace.SpanKindClient)
		spans.At(1).SetSpanID(pcommon.SpanID{7: made})
		spans.At(1).SetParentSpanID(pcommon.SpanID{0: client})
		otlp, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
		if err != nil {
			t.Error(err)
		}
		b, err := proto.Marshal(&tempopb.TraceByIDResponse{Trace: otlp})
		if err != nil {
			t.Error(err)
		}
		writeProto(w, b)
	}}).start(t)
	tr, err := f.client(t, nil).Trace(t.Context(), id(1))
	require.NoError(t, err)
	require.Len(t, tr.Spans, 2)
	for _, s := range tr.Spans {
		require.Equal(t, trace.SpanID{0: client}, s.ID, s.Kind)
	}
}

// Tempo's own bound is lower, but can be raised.
func TestAnAnswerOverOurBoundIsAskedForInParts(t *testing.T) {
	t.Parallel()
	f := (&fake{search: func(n int, w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); number(t, q, "end")-number(t, q, "start") > 6 {
			w.Header().Set("Content-Type", "application/json")
			space := bytes.Repeat([]byte{' '}, 1<<20)
			for range 65 { // MiB
				if _, err := w.Write(space); err != nil {
					return // the client has read enough
				}
			}
			return
		}
		finds(id(1))(n, w, r)
	}}).start(t)
	got := map[trace.ID]int{}
	report, err := f.client(t, nil).Traces(t.Context(), theRange(), collect(got))
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.Equal(t, map[trace.ID]int{id(1): 1}, got)
	require.Zero(t, report.Retries)
}
