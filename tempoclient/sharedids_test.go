package tempoclient

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

type sharedSpan struct {
	id, parent uint64
	kind       ptrace.SpanKind
}

func TestSharedIDsAreRestoredOnlyWhereTempoChangedThem(t *testing.T) {
	const client, server, internal = ptrace.SpanKindClient, ptrace.SpanKindServer, ptrace.SpanKindInternal
	const a, b, c, d = 0xa000000000000000, 0xb000000000000000, 0xc000000000000000, 0xd000000000000000
	for name, tt := range map[string]struct{ read, want []sharedSpan }{
		"one server, its child":   {[]sharedSpan{{a, 0, client}, {1, a, server}, {b, 1, internal}}, []sharedSpan{{a, 0, client}, {a, 0, server}, {b, a, internal}}},
		"shared twice on the way": {[]sharedSpan{{a, 0, client}, {1, a, server}, {b, 1, client}, {2, b, server}, {c, 2, internal}}, []sharedSpan{{a, 0, client}, {a, 0, server}, {b, a, client}, {b, a, server}, {c, b, internal}}},
		"one that arrived twice":  {[]sharedSpan{{a, d, client}, {1, 2, server}, {2, a, server}, {b, 2, internal}}, []sharedSpan{{a, d, client}, {a, d, server}, {a, d, server}, {b, a, internal}}},
		"beside one that is so":   {[]sharedSpan{{1, 0, server}, {a, 1, client}, {2, a, server}, {b, 2, internal}}, []sharedSpan{{1, 0, server}, {a, 1, client}, {a, 1, server}, {b, a, internal}}},
		"no client":               {[]sharedSpan{{a, 0, internal}, {1, a, server}}, nil},
		"not a server":            {[]sharedSpan{{a, 0, client}, {1, a, internal}}, nil},
		"IDs are counted":         {[]sharedSpan{{1, 0, server}, {2, 1, client}, {3, 2, server}}, nil},
		"not from 1":              {[]sharedSpan{{a, 0, client}, {2, a, server}}, nil},
		"not one after the other": {[]sharedSpan{{a, 0, client}, {1, a, server}, {3, b, server}, {b, 0, client}}, []sharedSpan{{a, 0, client}, {a, 0, server}, {3, b, server}, {b, 0, client}}},
	} {
		td := ptrace.NewTraces()
		spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
		for _, s := range tt.read {
			to := spans.AppendEmpty()
			to.SetSpanID(spanID(s.id))
			to.SetParentSpanID(spanID(s.parent))
			to.SetKind(s.kind)
		}
		restoreSharedIDs(td)
		var have []sharedSpan
		for _, s := range spans.All() {
			have = append(have, sharedSpan{number(s.SpanID()), number(s.ParentSpanID()), s.Kind()})
		}
		if tt.want == nil {
			tt.want = tt.read
		}
		require.Equal(t, tt.want, have, name)
	}
}

func spanID(n uint64) (id pcommon.SpanID) {
	for i := range id {
		id[7-i] = byte(n >> (8 * i))
	}
	return id
}
