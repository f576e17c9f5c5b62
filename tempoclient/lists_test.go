package tempoclient_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/traceql"
	"github.com/betracehq/betrace/traceql/traceqltest"
)

// listConditions are filters on lists. Tempo loses traces if several of them are sent unchanged.
var listConditions = []string{
	`{ .tags = "tag1" && .tags = "tag2" }`, `{ .tags = "tag1" && .tags != "tag2" }`, `{ .tags =~ "t.*1" && .tags =~ "t.*2" }`,
	`{ span.tags = "tag2" && span.tags = "tag3" && name != "zzz" }`, `{ .tags =~ "tag.*" && .tags !~ "tag1" }`,
	`{ span.tags != "tag1" && span.tags != "tag2" }`, `{ span.tags !~ "tag1.*" && span.tags !~ "tag2.*" }`,
	`{ .tags != "tag1" || .tags != "tag2" }`, `{ .tags = "tag1" || .tags = "tag4" }`, `{ (.tags = "tag1" && name = "a") || (.tags = "tag2" && name = "b") }`,
	`{ (.tags = "tag1" || span.tags = "tag5") && .tags = "tag3" }`, `{ span.tags = "tag1" && .tags = "tag4" && name = "a" }`,
	`{ .sizes > 50 }`, `{ .sizes > 20 && .sizes < 30 }`, `{ .sizes = 7 || .sizes > 90 }`, `{ .sizes != 7 }`, `{ .sizes >= 10.5 }`,
	`{ .ratios > 0.5 }`, `{ .ratios > 0.2 && .ratios < 0.3 }`, `{ .ratios = 0.25 }`, `{ .ratios >= 1.0 }`, `{ .ratios != 0.25 }`, `{ .ratios > 1.0 && .ratios != 9.5 }`,
	`{ .flags = true }`, `{ .flags != true }`, `{ .flags = true && .flags = false }`, `{ .flags = true || .flags = false }`,
}

// listTraces returns traces of a few spans, most of whose attributes are lists.
func listTraces(start time.Time, n int) []ptrace.Traces {
	rng := rand.New(rand.NewPCG(6, 28))
	var all []ptrace.Traces
	for i := range n {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", "lists")
		ss := rs.ScopeSpans().AppendEmpty()
		for k := range 1 + rng.IntN(3) {
			s := ss.Spans().AppendEmpty()
			s.SetTraceID(pcommon.TraceID(id(7000 + i)))
			var spanID [8]byte
			binary.BigEndian.PutUint64(spanID[:], uint64(100*i+k+1))
			s.SetSpanID(spanID)
			s.SetName([]string{"a", "b", "c"}[rng.IntN(3)])
			s.SetStartTimestamp(pcommon.NewTimestampFromTime(start.Add(time.Duration(i) * time.Millisecond)))
			s.SetEndTimestamp(s.StartTimestamp() + 1000)
			put := func(key string, value func(pcommon.Value)) {
				switch size := rng.IntN(5); size {
				case 0:
				case 1:
					value(s.Attributes().PutEmpty(key))
				default:
					list := s.Attributes().PutEmptySlice(key)
					for range size {
						value(list.AppendEmpty())
					}
				}
			}
			put("tags", func(v pcommon.Value) { v.SetStr("tag" + string(rune('1'+rng.IntN(5)))) })
			put("sizes", func(v pcommon.Value) { v.SetInt(rng.Int64N(100)) })
			put("ratios", func(v pcommon.Value) { v.SetDouble(float64(rng.IntN(8)) / 4) })
			put("flags", func(v pcommon.Value) { v.SetBool(rng.IntN(3) == 0) })
		}
		all = append(all, td)
	}
	return all
}

// Prefilters find each trace in which a list meets the conditions. Tempo would lose some of these traces
// if it received the conditions themselves.
func TestTracesWithListsAreFound(t *testing.T) {
	c := newCorpus(t, nil)
	start := time.Now().Add(-50 * time.Second)
	c.sendBatches(t, start, [][]ptrace.Traces{listTraces(start, 260)})
	c.requireLists(t)
	c.flush(t)
	c.requireLists(t)
}

// Tempo does not search the lists of an attribute that has a dedicated column. Prefilters
// find the strings in that column, and the lists of other attributes.
func TestOfAttributesWithAColumnOnlyListsAreMissed(t *testing.T) {
	c := newCorpus(t, dedicated)
	start := time.Now().Add(-50 * time.Second)
	c.sendBatches(t, start, [][]ptrace.Traces{listTraces(start, 260)})
	c.requireLists(t)
	c.flush(t)
	c.requireLists(t)
}

func (c *corpus) requireLists(t *testing.T) {
	t.Helper()
	missed := 0
	for _, query := range listConditions {
		f, err := traceql.Parse(query)
		require.NoError(t, err)
		prefilter := f.Prefilter()
		raw, err := c.ask(query)
		require.NoError(t, err)
		found, err := c.ask(prefilter.String())
		require.NoError(t, err)
		hidden := traceqltest.HiddenLists(prefilter, c.dedicated)
		var ours, byRaw, byPrefilter, lost int
		for _, tr := range c.traces {
			if !f.Matches(tr) {
				continue
			}
			ours++
			if raw[tr.ID] {
				byRaw++
			}
			if found[tr.ID] {
				byPrefilter++
				continue
			}
			if without, some := traceqltest.Without(tr, hidden); !some || f.Matches(without) {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%s matches %d traces, and Tempo does not find %d of them with %s", query, ours, lost, prefilter)
		}
		if c.dedicated == nil && byPrefilter < ours {
			t.Errorf("%s matches %d traces, and Tempo finds %d of them with %s", query, ours, byPrefilter, prefilter)
		}
		missed += ours - byRaw
		t.Logf("%-80s %3d match: Tempo finds %3d of them, and %3d with %s", query, ours, byRaw, byPrefilter, prefilter)
	}
	require.Positive(t, missed, "the unchanged filters lose no trace, so the traces do not show the fault")
}
