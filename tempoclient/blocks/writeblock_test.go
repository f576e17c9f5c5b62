package blocks

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

// WriteBlock returns the data.parquet and the meta.json of a block with traces that start at a time. Each
// trace has one span of a second, whose ID is the number.
func WriteBlock(t testing.TB, id string, at time.Time, span uint64, traces ...trace.ID) (data, meta []byte) {
	t.Helper()
	slices.SortFunc(traces, trace.ID.Compare)
	var file bytes.Buffer
	w := parquet.NewGenericWriter[rowTrace](&file)
	for _, trace := range traces {
		start := uint64(at.UnixNano())
		s := rowSpan{SpanID: make([]byte, 8), ParentSpanID: make([]byte, 8), Name: "work", StartTimeUnixNano: start, DurationNano: uint64(time.Second)}
		binary.BigEndian.PutUint64(s.SpanID, span)
		_, err := w.Write([]rowTrace{{
			TraceID: trace[:], StartTimeUnixNano: start, EndTimeUnixNano: start + s.DurationNano,
			Resources: []rowResource{{Scopes: []rowScope{{Spans: []rowSpan{s}}}}},
		}})
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	m := Meta{Version: "vParquet5", ID: id, Tenant: "single-tenant", Traces: len(traces), Size: int64(file.Len()), DedicatedColumns: dedicatedOfRows}
	meta, err := json.Marshal(m)
	require.NoError(t, err)
	return file.Bytes(), meta
}
