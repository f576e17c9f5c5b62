package tempoclient

import (
	"encoding/binary"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// A span ID below maxMadeID is considered to be made by Tempo. A random ID is below it once in 2^44
// spans.
const maxMadeID = 1 << 20

// restoreSharedIDs undoes a change that Tempo makes when it returns a trace by its ID. In Zipkin's scheme
// a server span shares the ID of its client. Tempo gives such a server span the next free of the IDs 1,
// 2, 3, …, makes its client its parent, and makes the spans whose parent was the shared ID its children
// (modules/frontend/combiner/trace_by_id_deduper.go of Tempo 2.8). Thus one span that arrived twice
// becomes two.
//
// A span is restored only if all signs indicate such a change: all IDs up to its own exist, and its
// client's ID is not small, as it would be if IDs were counted and not random. The original parent of the
// server span is lost. It gets its client's parent, which is the meaning of Zipkin's scheme.
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
	shared := map[pcommon.SpanID]pcommon.SpanID{} // new ID → original ID
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
		// The copies of a span that arrived twice are children of the last copy.
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
