package tempoclient

import (
	"encoding/binary"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// A span ID below this is taken for one that Tempo made: a random one is, once in
// 2^44 spans.
const maxMadeID = 1 << 20

// restoreSharedIDs undoes what Tempo does to a trace that it gives by its ID: a
// server span that shares the ID of its client (Zipkin's way) gets the next free of
// the IDs 1, 2, 3, …, its client as its parent, and, as its children, those that
// named the shared ID (modules/frontend/combiner/trace_by_id_deduper.go of Tempo
// 2.8). So one span that arrived twice becomes two.
//
// A span is taken back only if it looks in all ways like one so made: all IDs up to
// its own are there, and its client's is not of that sort, as it would be where IDs
// are counted and not random. The parent that the server span had named is lost; it
// gets its client's, which is what Zipkin's way means.
func restoreSharedIDs(td ptrace.Traces) {
	byID := map[pcommon.SpanID]ptrace.Span{}
	clients := map[pcommon.SpanID]ptrace.Span{}
	var spans []ptrace.Span
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				spans = append(spans, s)
				byID[s.SpanID()] = s
				if s.Kind() == ptrace.SpanKindClient && number(s.SpanID()) >= maxMadeID {
					clients[s.SpanID()] = s
				}
			}
		}
	}
	shared := map[pcommon.SpanID]pcommon.SpanID{} // what Tempo made → what it was
	for n := uint64(1); n < maxMadeID; n++ {
		var id pcommon.SpanID
		binary.BigEndian.PutUint64(id[:], n)
		s, ok := byID[id]
		if !ok {
			break
		}
		if s.Kind() != ptrace.SpanKindServer {
			continue
		}
		// The copies of a span that arrived twice hang on the last of them.
		up := s.ParentSpanID()
		if last := byID[up]; number(up) < maxMadeID && number(up) > n && last != (ptrace.Span{}) && last.Kind() == ptrace.SpanKindServer {
			up = last.ParentSpanID()
		}
		if _, ok := clients[up]; ok {
			shared[id] = up
		}
	}
	if len(shared) == 0 {
		return
	}
	for _, s := range spans {
		if client, ok := shared[s.SpanID()]; ok {
			s.SetSpanID(client)
			s.SetParentSpanID(clients[client].ParentSpanID())
		}
	}
	for _, s := range spans {
		if client, ok := shared[s.ParentSpanID()]; ok {
			s.SetParentSpanID(client)
		}
	}
}

func number(id pcommon.SpanID) uint64 { return binary.BigEndian.Uint64(id[:]) }
