package blocks_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

var (
	equalSets = flag.Int("equal.sets", 20, "number of data sets that TestEqual compares; make equal compares 200")
	equalSeed = flag.Uint64("equal.seed", 1, "seed of the first data set")
)

// dataSet is the data that was sent for one tenant.
type dataSet struct {
	*tenant
	seed      uint64
	options   tracetest.Options
	generated []tracetest.Generated
	sent      []*trace.Trace
	spans     int64
}

func newDataSet(t *testing.T, seed uint64) *dataSet {
	t.Helper()
	d := &dataSet{tenant: newTenantNamed(t, fmt.Sprintf("equal-%d", seed)), seed: seed}
	r := rand.New(rand.NewPCG(seed, 17))
	o := tracetest.Mixed(seed, 5+r.IntN(60))
	// Values are truncated at 2 KiB on arrival, and Tempo keeps one of several unequal copies.
	o.Nasty[tracetest.LongValues], o.Nasty[tracetest.UnequalCopies] = 0, 0
	for _, n := range tracetest.AllNasty() {
		if o.Nasty[n] > 0 {
			o.Nasty[n] = r.Float64() * 0.5
		}
	}
	o.Start, o.Window = time.Now().Add(-time.Duration(2+r.IntN(5))*time.Hour), time.Hour
	o.MaxSpans = 200
	if seed%10 == 0 { // few large data sets
		o.Traces, o.MinSpans, o.MaxSpans = 2, 10_000, 20_000
		if seed%100 == 0 {
			o.MaxSpans = 100_000
		}
	}
	d.options = o
	var c otlp.Collector
	for g := range tracetest.New(o).All() {
		d.generated = append(d.generated, g)
		for _, td := range g.Batches {
			require.NoError(t, c.Add(td))
		}
	}
	d.sent = c.Traces()
	for _, tr := range d.sent {
		d.spans += int64(len(tr.Spans))
	}
	return d
}

// round sends a part of the data: first batches, then late data, then, in every third set, everything
// once more, as replicas write it into blocks of their own.
func (d *dataSet) round(t *testing.T, round int) (sent bool) {
	t.Helper()
	var batches []ptrace.Traces
	for _, g := range d.generated {
		switch {
		case round == 0:
			batches = append(batches, g.Batches[0])
		case round == 1:
			batches = append(batches, g.Batches[1:]...)
		case d.seed%3 == 0:
			batches = append(batches, g.Batches...)
		}
	}
	for _, td := range batches {
		for _, part := range tracetest.Split(td, 5000) {
			require.NoError(t, d.writer.Export(t.Context(), part))
		}
	}
	return len(batches) > 0
}

// TestEqual checks that traces sent to a real Tempo are equal, in normal form, to those read from its
// blocks and by its API, and that the verdicts are the planted ones.
func TestEqual(t *testing.T) {
	pack, err := rules.Parse("tracetest.yaml", []byte(tracetest.Pack), rules.Options{MaxCost: 1e15})
	require.NoError(t, err)
	const together = 20 // number of concurrent tenants
	traces, spans, blocksRead := 0, int64(0), 0
	for first := 0; first < *equalSets; first += together {
		var sets []*dataSet
		for i := first; i < min(first+together, *equalSets); i++ {
			sets = append(sets, newDataSet(t, *equalSeed+uint64(i)))
		}
		for round := range 4 {
			for _, d := range sets {
				d.round(t, round)
			}
			require.NoError(t, sets[0].Flush(t.Context()))
		}
		for _, d := range sets {
			blocksRead += d.compare(t, pack)
			traces += len(d.sent)
			spans += d.spans
		}
	}
	t.Logf("%d data sets, %d traces, %d spans, %d blocks: all equal from blocks and by the API, with the planted verdicts", *equalSets, traces, spans, blocksRead)
}

// compare reads the data by each method. Tempo may compact blocks meanwhile.
func (d *dataSet) compare(t *testing.T, pack *rules.Pack) (blocksRead int) {
	t.Helper()
	var got map[trace.ID]*trace.Trace
	var report blocks.Report
	deadline := time.Now().Add(patience)
	for { // until all sent data has arrived in blocks
		got, report = readAll(t, d.store, blocks.Request{Tenant: d.name, Needs: columnar.Needs{All: true}})
		stored := int64(0)
		for _, tr := range got {
			stored += int64(len(tr.Spans))
		}
		if stored >= d.spans {
			break
		}
		require.True(t, time.Now().Before(deadline), "set %d: %d of %d spans are in blocks", d.seed, stored, d.spans)
		time.Sleep(300 * time.Millisecond)
	}
	require.Empty(t, report.Problems, "set %d", d.seed)
	d.wantSent(t, "blocks", got, nil)

	// Tempo's own search reads blocks after it has polled its storage.
	var byAPI map[trace.ID]*trace.Trace
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Second) {
		byAPI = map[trace.ID]*trace.Trace{}
		apiReport, err := d.client.Traces(t.Context(), tempoclient.Request{From: d.options.Start.Add(-time.Hour), To: time.Now()}, func(tr *trace.Trace) error {
			byAPI[tr.ID] = tr
			return nil
		})
		require.NoError(t, err)
		stored := int64(0)
		for _, tr := range byAPI {
			stored += int64(len(tr.Spans))
		}
		// While Tempo moves a block, it may not find a trace by its ID either.
		if stored >= d.spans && len(apiReport.Problems) == 0 {
			break
		}
		require.True(t, time.Now().Before(deadline), "set %d: %d of %d spans are returned by the API: %v", d.seed, stored, d.spans, apiReport.Problems)
	}
	// In traces by ID Tempo renames server spans that share an ID with their client. This cannot be
	// reversed if IDs are small numbers, like Tempo's new IDs.
	renamed := map[trace.ID]bool{}
	for _, g := range d.generated {
		renamed[g.ID] = slices.Contains(g.Nasty, tracetest.SharedIDs) && slices.Contains(g.Nasty, tracetest.LeadingZeros)
	}
	d.wantSent(t, "API", byAPI, renamed)

	// Verdicts on only the columns that the rules need.
	needed, _ := readAll(t, d.store, blocks.Request{Tenant: d.name, Needs: needsOf(pack)})
	for _, g := range d.generated {
		for way, tr := range map[string]*trace.Trace{"blocks": needed[g.ID], "API": byAPI[g.ID]} {
			if way == "API" && renamed[g.ID] {
				continue
			}
			var violated []string
			for _, r := range pack.Rules {
				v := r.Judge(t.Context(), tr)
				require.NotEqual(t, rules.Error, v.Outcome, "set %d, trace %s: %v", d.seed, g.ID, v.Err)
				if v.Outcome == rules.Violation {
					violated = append(violated, r.ID)
				}
			}
			slices.Sort(violated)
			require.Equal(t, g.Violations, violated, "set %d, trace %s by %s", d.seed, g.ID, way)
		}
	}
	return len(report.Blocks)
}

func (d *dataSet) wantSent(t *testing.T, way string, got map[trace.ID]*trace.Trace, except map[trace.ID]bool) {
	t.Helper()
	require.Len(t, got, len(d.sent), "set %d by %s", d.seed, way)
	for _, want := range d.sent {
		require.NotNil(t, got[want.ID], "set %d by %s: trace %s", d.seed, way, want.ID)
		if except[want.ID] {
			require.GreaterOrEqual(t, len(got[want.ID].Spans), len(want.Spans), "set %d by %s: trace %s", d.seed, way, want.ID)
			continue
		}
		if diff := cmp.Diff(want.Spans, got[want.ID].Spans); diff != "" {
			t.Fatalf("set %d by %s: trace %s differs from the sent trace (-sent +read):\n%.4000s", d.seed, way, want.ID, diff)
		}
	}
}

func needsOf(pack *rules.Pack) (needs columnar.Needs) {
	for _, r := range pack.Rules {
		needs = needs.Union(r.Needs())
	}
	return needs
}
