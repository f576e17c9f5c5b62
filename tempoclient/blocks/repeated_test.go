package blocks_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
)

// OTLP requires unique keys in a span, but Tempo stores repeated ones. The greater value is read, for any
// types and any order, and the trace is flagged.
func TestOfARepeatedKeyTheGreaterValueIsRead(t *testing.T) {
	values := []string{
		`{"stringValue":"a"}`, `{"stringValue":"b"}`, `{"intValue":"1"}`, `{"intValue":"-7"}`, `{"doubleValue":1.5}`, `{"doubleValue":0.25}`,
		`{"boolValue":false}`, `{"boolValue":true}`,
	}
	// Values are read by another method if some are lists.
	t.Run("single", func(t *testing.T) { wantGreaterOf(t, values) })
	t.Run("lists", func(t *testing.T) {
		wantGreaterOf(t, append(values, `{"arrayValue":{"values":[{"stringValue":"x"},{"stringValue":"y"}]}}`))
	})
}

func wantGreaterOf(t *testing.T, values []string) {
	w := newTenant(t)
	start := time.Now().Add(-time.Hour).UnixNano()
	var sent otlp.Collector
	n := 0
	for i, one := range values {
		for j, other := range values {
			// One span for each pair, one without the key and one that has it once.
			var spans []string
			for k, attributes := range []string{
				fmt.Sprintf(`{"key":"k","value":%s},{"key":"other","value":{"intValue":"5"}},{"key":"k","value":%s}`, one, other),
				`{"key":"other","value":{"stringValue":"k"}}`,
				fmt.Sprintf(`{"key":"k","value":%s}`, one),
			} {
				spans = append(spans, fmt.Sprintf(`{"traceId":"%032x","spanId":"%016x","name":"s","startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[%s]}`,
					100*i+j+1, k+1, start+int64(k), start+9, attributes))
			}
			td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(fmt.Appendf(nil, `{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}`, strings.Join(spans, ",")))
			require.NoError(t, err)
			require.NoError(t, sent.Add(td))
			w.send(t, td)
			n += len(spans)
		}
	}
	w.flush(t, int64(n))
	want := sent.Traces()
	for _, needs := range []columnar.Needs{{All: true}, {Attributes: []columnar.AttributeKey{{Scope: columnar.ScopeSpan, Key: "k"}}}} {
		got, report := readAll(t, w.store, blocks.Request{Tenant: w.name, Needs: needs})
		require.Empty(t, report.Problems)
		if needs.All {
			wantEqual(t, want, got)
		}
		repeated := 0
		for _, tr := range want {
			for i := range tr.Spans {
				require.Equal(t, tr.Spans[i].Attributes.Get("k"), got[tr.ID].Spans[i].Attributes.Get("k"), "trace %s", tr.ID)
			}
			require.Equal(t, tr.Flags, got[tr.ID].Flags, "trace %s", tr.ID)
			if tr.Flags&trace.FlagRepeatedKey != 0 {
				repeated++
			}
		}
		require.Equal(t, len(values)*(len(values)-1), repeated)
	}
}
