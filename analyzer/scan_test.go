package analyzer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/tracetest"
)

func generatedRules(t testing.TB) []*rules.Rule {
	t.Helper()
	pack, err := rules.Parse("tracetest.yaml", []byte(tracetest.Pack), rules.Options{})
	require.NoError(t, err)
	return pack.Rules
}

// generated returns traces of all kinds, and what each violates.
func generated(n int) (traces []*trace.Trace, violations map[trace.ID][]string) {
	violations = map[trace.ID][]string{}
	for g := range tracetest.New(tracetest.Mixed(7, n)).All() {
		traces = append(traces, g.Trace())
		violations[g.ID] = g.Violations
	}
	return traces, violations
}

func from(traces []*trace.Trace, reading analyzer.Reading, err error) analyzer.SourceFunc {
	return analyzer.InBatches(columnar.Needs{All: true}, func(_ context.Context, deliver func(*trace.Trace) error) (analyzer.Reading, error) {
		for _, t := range traces {
			if err := deliver(t); err != nil {
				return reading, err
			}
		}
		return reading, err
	})
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

func TestAScanFindsExactlyWhatWasPlanted(t *testing.T) {
	traces, want := generated(2000)
	have := map[trace.ID][]string{}
	var order []trace.ID
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{
		Source: from(traces, analyzer.Reading{Basis: "files"}, nil), Rules: generatedRules(t),
		Write: func(_ context.Context, vs []analyzer.Violation) error {
			for _, v := range vs {
				have[v.Trace.ID] = append(have[v.Trace.ID], v.Verdict.Rule.ID)
				order = append(order, v.Trace.ID)
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
	require.Equal(t, analyzer.Complete, result.Completeness())
	require.NotZero(t, result.Flags["merged"])
	require.False(t, result.Earliest.After(result.Latest))
	// In the order of the source, whatever the number of workers.
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
	own, outside := traces[0], traces[1]
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{
		Source: from(traces, analyzer.Reading{Young: true}, nil), Rules: generatedRules(t), Workers: 1,
		IsOwn:  func(b *columnar.Batch, t int) bool { return b.IDs[t] == own.ID },
		Filter: where(func(b *columnar.Batch, t int) bool { return b.IDs[t] != outside.ID }),
	})
	require.NoError(t, err)
	require.Equal(t, 600, result.Traces.Seen)
	require.Equal(t, 1, result.Traces.Own)
	require.Equal(t, 1, result.Traces.OutsideQuery)
	require.Equal(t, 598, result.Traces.Judged)
	require.Equal(t, analyzer.Provisional, result.Completeness())
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
			return analyzer.Scan(t.Context(), analyzer.ScanOptions{Source: from(traces, analyzer.Reading{}, broken), Rules: rs})
		}, 1000},
		{"writing fails", func() (*analyzer.Result, error) {
			return analyzer.Scan(t.Context(), analyzer.ScanOptions{Source: from(traces, analyzer.Reading{}, nil), Rules: rs,
				Write: func(context.Context, []analyzer.Violation) error { return broken }})
		}, 0},
		{"the context ends", func() (*analyzer.Result, error) {
			ctx, cancel := context.WithCancelCause(t.Context())
			return analyzer.Scan(ctx, analyzer.ScanOptions{Source: from(traces, analyzer.Reading{}, nil), Rules: rs,
				Progress: func(analyzer.TraceCounts) { cancel(broken) }})
		}, 1},
	} {
		result, err := tt.run()
		require.ErrorIs(t, err, broken, tt.name)
		require.Equal(t, analyzer.Incomplete, result.Completeness(), tt.name)
		require.Contains(t, fmt.Sprint(result.Problems), "the scan ended early", tt.name)
		require.GreaterOrEqual(t, result.Traces.Judged, tt.min, tt.name)
		require.LessOrEqual(t, result.Traces.Judged, 1000, tt.name)
	}
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{Source: from(traces, analyzer.Reading{Skipped: 1}, nil), Rules: rs})
	require.NoError(t, err)
	require.Equal(t, analyzer.Incomplete, result.Completeness())
}

func TestAVerdictErrorIsCountedWithItsFirstTrace(t *testing.T) {
	pack, err := rules.Parse("p.yaml", []byte("apiVersion: betrace.dev/v1\nkind: RulePack\nmetadata: {name: p}\nrules: [{id: r, title: t, severity: low, when: \"spans[99999].name == 'x'\"}]\n"), rules.Options{})
	require.NoError(t, err)
	traces, _ := generated(3)
	result, err := analyzer.Scan(t.Context(), analyzer.ScanOptions{Source: from(traces, analyzer.Reading{}, nil), Rules: pack.Rules})
	require.NoError(t, err)
	require.Equal(t, 3, result.Rules[0].Error)
	require.Equal(t, traces[0].ID, result.Rules[0].FirstErrorTrace)
	require.ErrorContains(t, result.Rules[0].FirstError, "index 99999 is beyond the end")
	require.Equal(t, analyzer.Incomplete, result.Completeness())
	require.Len(t, result.Problems, 1)
	require.Equal(t, "rule p/r", result.Problems[0].What)
	require.Contains(t, result.Problems[0].Why, "3 of its verdicts are errors; the first is of trace "+traces[0].ID.String())
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
