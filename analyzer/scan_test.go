package analyzer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

func generatedRules(t testing.TB) []*rules.Rule {
	t.Helper()
	pack, err := rules.Parse("tracetest.yaml", []byte(tracetest.Pack), rules.Options{})
	require.NoError(t, err)
	return pack.Rules
}

// generated returns traces of all kinds, and the rules that each violates.
func generated(n int) (traces []*trace.Trace, violations map[trace.ID][]string) {
	violations = map[trace.ID][]string{}
	for g := range tracetest.New(tracetest.Mixed(7, n)).All() {
		traces = append(traces, g.Trace())
		violations[g.ID] = g.Violations
	}
	return traces, violations
}

// from returns a source of the traces, in batches of 100.
func from(traces []*trace.Trace, reading trace.Reading, err error) analyzer.SourceFunc {
	return func(_ context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error) {
		for some := range slices.Chunk(traces, 100) {
			if err := deliver(columnar.NewBatch(columnar.Needs{All: true}, some...)); err != nil {
				return reading, err
			}
		}
		return reading, err
	}
}

// where returns a filter of a condition on a trace.
func where(holds func(b *columnar.Batch, t int) bool) func(*columnar.Batch) columnar.Bits {
	return func(b *columnar.Batch) columnar.Bits {
		selected := make(columnar.Bits, (b.NumTraces()+63)/64)
		for t := range b.NumTraces() {
			if holds(b, t) {
				selected.Set(int32(t))
			}
		}
		return selected
	}
}

func TestCostOfAScanFollowsFromRulesAndSpans(t *testing.T) {
	traces, _ := generated(500)
	rs := generatedRules(t)
	sizes := lang.DefaultSizes
	want := 0.0
	for _, tr := range traces {
		for _, r := range rs {
			s := sizes
			s.Spans = len(tr.Spans)
			s.Descendants, s.Children, s.Ancestors = s.Spans, min(s.Children, s.Spans), min(s.Ancestors, s.Spans)
			want += r.Cost(s)
		}
	}
	checked := 0
	opts := analyzer.ScanOptions{Source: from(traces, trace.Reading{}, nil), Rules: rs, CostSizes: &sizes, Check: func(r *analyzer.Result) error {
		checked++
		require.Equal(t, 100*checked, r.Traces.Judged)
		return nil
	}}
	result, err := analyzer.Scan(t.Context(), opts)
	require.NoError(t, err)
	require.GreaterOrEqual(t, result.Cost, want)
	require.Less(t, result.Cost, 8*want, "numbers of spans are rounded up to powers of two, and costs may grow with their square")

	tooMuch := errors.New("too much")
	opts.Check = func(r *analyzer.Result) error {
		if r.Cost > result.Cost/2 {
			return tooMuch
		}
		return nil
	}
	ended, err := analyzer.Scan(t.Context(), opts)
	require.ErrorIs(t, err, tooMuch)
	require.Less(t, ended.Traces.Judged, 500)
	require.Equal(t, trace.Incomplete, ended.Completeness())
	opts.CostSizes, opts.Check = nil, nil
	result, err = analyzer.Scan(t.Context(), opts)
	require.NoError(t, err)
	require.Zero(t, result.Cost)
}

func TestAScanFindsExactlyWhatWasPlanted(t *testing.T) {
	traces, want := generated(2000)
	have := map[trace.ID][]string{}
	var order []trace.ID
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{
		Source: from(traces, trace.Reading{Basis: "files"}, nil), Rules: generatedRules(t),
		Write: func(_ context.Context, vs []evidence.Violation) error {
			for _, v := range vs {
				have[v.TraceID] = append(have[v.TraceID], v.RuleID)
				order = append(order, v.TraceID)
			}
			return nil
		},
	})
	require.NoError(t, err)
	total := 0
	for id, ids := range want {
		slices.Sort(have[id])
		require.Equal(t, ids, have[id], "trace %s", id)
		total += len(ids)
	}
	require.Greater(t, total, 500)
	var sums analyzer.RuleCounts
	for _, c := range result.Rules {
		sums.NotApplicable += c.NotApplicable
		sums.Pass += c.Pass
		sums.Violation += c.Violation
		sums.Error += c.Error
	}
	require.Equal(t, total, sums.Violation)
	require.Zero(t, sums.Error)
	require.Equal(t, 2000*len(result.Rules), sums.Violation+sums.Pass+sums.NotApplicable)
	passed := 0
	for _, c := range result.Rules {
		require.NotZero(t, c.Violation, c.Rule.ID)
		if c.Pass > 0 {
			passed++
		}
		require.Equal(t, c.Pass+c.Violation, c.Applied())
	}
	require.Greater(t, passed, len(result.Rules)*3/4) // a rule without clauses is never passed
	require.Equal(t, 2000, result.Traces.Judged)
	require.Equal(t, trace.Complete, result.Completeness())
	require.NotZero(t, result.Flags["merged"])
	require.False(t, result.Earliest.After(result.Latest))
	// In the order of the source, with any number of workers.
	position := map[trace.ID]int{}
	for i, tr := range traces {
		position[tr.ID] = i
	}
	require.True(t, slices.IsSortedFunc(order, func(a, b trace.ID) int { return position[a] - position[b] }))
}

func TestEveryTraceThatARuleAppliesToMatchesItsPrefilter(t *testing.T) {
	traces, _ := generated(1500)
	for _, r := range generatedRules(t) {
		filter := r.Prefilter()
		for _, tr := range traces {
			if v := r.Judge(t.Context(), tr); v.Outcome != rules.NotApplicable {
				require.True(t, filter.Matches(tr), "rule %s, trace %s: %s does not match", r.ID, tr.ID, filter)
				require.True(t, filter.Prefilter().Matches(tr), "rule %s, trace %s: %s does not match", r.ID, tr.ID, filter.Prefilter())
			}
		}
	}
}

func TestTracesAreLeftOutAndCounted(t *testing.T) {
	traces, _ := generated(600)
	outside := traces[1]
	own, err := otlp.ToTraces(evidence.Spans([]evidence.Violation{{ID: strings.Repeat("0f", 16)}}, time.Now()))
	require.NoError(t, err)
	traces[0] = own[0]
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{
		Source: from(traces, trace.Reading{Young: true}, nil), Rules: generatedRules(t), Workers: 1,
		Filter: where(func(b *columnar.Batch, t int) bool { return b.IDs[t] != outside.ID }),
	})
	require.NoError(t, err)
	require.Equal(t, 600, result.Traces.Seen)
	require.Equal(t, 1, result.Traces.Own)
	require.Equal(t, 1, result.Traces.OutsideQuery)
	require.Equal(t, 598, result.Traces.Judged)
	require.Equal(t, trace.Provisional, result.Completeness())
}

func TestAScanThatEndsEarlySaysSo(t *testing.T) {
	traces, _ := generated(1000)
	broken := errors.New("broken")
	rs := generatedRules(t)
	for _, tt := range []struct {
		name string
		run  func() (*analyzer.Result, error)
		min  int // traces judged all the same
	}{
		{"the source fails", func() (*analyzer.Result, error) {
			return analyzer.Scan(t.Context(), analyzer.ScanOptions{Source: from(traces, trace.Reading{}, broken), Rules: rs})
		}, 1000},
		{"writing fails", func() (*analyzer.Result, error) {
			return analyzer.Scan(t.Context(), analyzer.ScanOptions{Source: from(traces, trace.Reading{}, nil), Rules: rs,
				Write: func(context.Context, []evidence.Violation) error { return broken }})
		}, 0},
		{"the context ends", func() (*analyzer.Result, error) {
			ctx, cancel := context.WithCancelCause(t.Context())
			return analyzer.Scan(ctx, analyzer.ScanOptions{Source: from(traces, trace.Reading{}, nil), Rules: rs,
				Progress: func(analyzer.TraceCounts) { cancel(broken) }})
		}, 1},
	} {
		result, err := tt.run()
		require.ErrorIs(t, err, broken, tt.name)
		require.Equal(t, trace.Incomplete, result.Completeness(), tt.name)
		require.Contains(t, fmt.Sprint(result.Problems), "the scan ended early", tt.name)
		require.GreaterOrEqual(t, result.Traces.Judged, tt.min, tt.name)
		require.LessOrEqual(t, result.Traces.Judged, 1000, tt.name)
	}
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{Source: from(traces, trace.Reading{Skipped: 1}, nil), Rules: rs})
	require.NoError(t, err)
	require.Equal(t, trace.Incomplete, result.Completeness())
}

func TestAVerdictErrorIsCountedWithItsFirstTrace(t *testing.T) {
	pack, err := rules.Parse("p.yaml", []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{id: r, title: t, severity: low, when: \"spans[99999].name == 'x'\"}]\n"), rules.Options{})
	require.NoError(t, err)
	traces, _ := generated(3)
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{Source: from(traces, trace.Reading{}, nil), Rules: pack.Rules})
	require.NoError(t, err)
	require.Equal(t, 3, result.Rules[0].Error)
	require.Equal(t, traces[0].ID, result.Rules[0].FirstErrorTrace)
	require.ErrorContains(t, result.Rules[0].FirstError, "index 99999 is beyond the end")
	require.Equal(t, trace.Incomplete, result.Completeness())
	require.Len(t, result.Problems, 1)
	require.Equal(t, "rule p/r", result.Problems[0].What)
	require.Contains(t, result.Problems[0].Err.Error(), "3 of its verdicts are errors; the first is of trace "+traces[0].ID.String())
}

func TestAViolationHasTheCircumstancesOfItsScan(t *testing.T) {
	scanned := func(start, settled int64, window time.Time) evidence.Violation {
		var have []evidence.Violation
		_, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{
			Source: from([]*trace.Trace{ofSpans(2, start)}, trace.Reading{}, nil), Rules: oneRule(t, "true"), Tenant: "acme", SettledBefore: time.Unix(settled, 0),
			Circumstances: evidence.Circumstances{Origin: evidence.OriginScan, WindowStart: window, WindowEnd: window, Engine: "v1"},
			Write:         func(_ context.Context, vs []evidence.Violation) error { have = append(have, vs...); return nil },
		})
		require.NoError(t, err)
		require.Len(t, have, 1)
		require.Equal(t, evidence.ViolationID("acme", "p", "r", have[0].RuleDigest, have[0].TraceID), have[0].ID)
		require.Equal(t, "acme", have[0].Tenant)
		require.Equal(t, "v1", have[0].Engine)
		return have[0]
	}
	v := scanned(10, 20, time.Unix(5, 0))
	require.False(t, v.Provisional)
	require.Equal(t, time.Unix(5, 0), v.WindowStart)
	v = scanned(30, 20, time.Time{})
	require.True(t, v.Provisional, "the trace ends after the settled time")
	require.Equal(t, time.Unix(30, 0).UTC(), v.WindowStart, "without a window, that of the trace")
}

func BenchmarkOracle(b *testing.B) {
	traces, _ := generated(500)
	rs := generatedRules(b)
	spans := 0
	for _, t := range traces {
		spans += len(t.Spans)
	}
	start := time.Now()
	for b.Loop() {
		for _, t := range traces {
			analyzer.Judge(b.Context(), rs, t)
		}
	}
	b.ReportMetric(float64(spans*len(rs)*b.N)/time.Since(start).Seconds(), "span-rules/s")
}
