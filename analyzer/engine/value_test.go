package engine_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Calculations and comparisons of two values of any types, and at the limits of their types, have the results of the
// interpreter.
func TestCalculationsAtTheLimits(t *testing.T) {
	values := []trace.Value{
		{}, trace.IntValue(0), trace.IntValue(1), trace.IntValue(-1), trace.IntValue(2), trace.IntValue(-7), trace.IntValue(math.MaxInt64), trace.IntValue(math.MinInt64),
		trace.IntValue(math.MinInt64 + 1), trace.IntValue(1<<53 + 1), trace.IntValue(1 << 62), trace.IntValue(3037000500), trace.DoubleValue(0), trace.DoubleValue(math.Copysign(0, -1)),
		trace.DoubleValue(2), trace.DoubleValue(-2.5), trace.DoubleValue(1 << 53), trace.DoubleValue(1 << 63), trace.DoubleValue(math.NaN()), trace.DoubleValue(math.Inf(-1)),
		trace.StringValue(""), trace.StringValue("a"), trace.StringValue("b"), trace.BoolValue(false), trace.BoolValue(true), trace.ArrayValue(trace.IntValue(1)),
	}
	var expressions []string
	comparisons := []string{"==", "!=", "<", "<=", ">", ">="}
	for _, op := range []string{"+", "-", "*", "/", "%"} {
		for _, want := range []string{`s["c"]`, "0", "-1", "1.5", `"ab"`, "9223372036854775807"} {
			expressions = append(expressions, fmt.Sprintf(`s["a"] %s s["b"] == %s`, op, want), fmt.Sprintf(`s["a"] %s s["b"] < %s`, op, want), fmt.Sprintf(`2 %s s["b"] >= %s`, op, want))
		}
	}
	for _, of := range []string{`s.duration + %s`, `s.duration - %s`, `%s + s.duration`, `%s - s.duration`, `s.start + %s`, `s.start - %s`, `%s + s.start`, `%s - s.start`} {
		expressions = append(expressions, fmt.Sprintf(of+` == s["a"]`, `s["b"]`))
	}
	for _, op := range comparisons {
		expressions = append(expressions, fmt.Sprintf(`s["a"] %s s["b"]`, op), fmt.Sprintf(`s.name %s s["b"]`, op), fmt.Sprintf(`(s["a"] == s["b"]) %s s["a"]`, op))
	}
	expressions = append(expressions, `s["a"] in [s["b"], 2]`, `s["a"] in [2, s["b"]]`, `2 in [s["b"], s["a"]]`, `s["a"] in [s["b"], s["c"]]`, `(s["a"] == 1 ? s["b"] : s["c"]) == 2`, `!(s["a"] || s["b"])`, `-s["a"] < s["b"]`,
		`(s["a"] + s["b"] == 1) != (s.name == "a")`, `1 / (s["a"] - s["a"]) + s["b"] == 1`, `s["b"] + 1 / (s["a"] - s["a"]) == 1`, `s["b"] < 1 / (s["a"] - s["a"])`)

	var traces []*trace.Trace
	for i, a := range values {
		for k, b := range values {
			c := trace.Value{}
			if a.Type() == trace.TypeInt && b.Type() == trace.TypeInt {
				c = trace.IntValue([]int64{a.Int() + b.Int(), a.Int() - b.Int(), a.Int() * b.Int()}[(i+k)%3])
			}
			list := []trace.Attribute{{Key: "a", Value: a}, {Key: "b", Value: b}, {Key: "c", Value: c}}
			attributes, _ := trace.NewAttributes(list)
			traces = append(traces, trace.New(trace.ID{14: byte(i), 15: byte(k + 1)}, []trace.Span{{ID: trace.SpanID{1}, Name: "a", Attributes: attributes}}))
		}
	}
	equalsOracle(t, expressions, traces, func(condition string, spans []trace.Span) bool {
		texts, least := 0, false
		for _, a := range spans[0].Attributes {
			switch {
			case a.Value.Type() == trace.TypeArray: // an absent operand needs no interpreter
				return len(spans[0].Attributes) > 1 || !strings.Contains(condition, `s["a"] + s["b"] == 1`)
			case a.Value.Type() == trace.TypeString:
				texts++
			case a.Value.Type() == trace.TypeInt && a.Value.Int() == math.MinInt64:
				least = true
			}
		}
		return strings.HasPrefix(condition, "spans.exists(s, -") || texts > 1 && strings.Contains(condition, " + ") || least && strings.Contains(condition, " * ")
	})
}

// Points in time and durations, at the limits.
func TestCalculationsWithTimesAtTheLimits(t *testing.T) {
	var expressions []string
	for _, op := range []string{"==", "!=", "<", "<=", ">", ">="} {
		for _, of := range []string{
			`s.end - s.parent.start %s duration("1s")`, `s.start - s.parent.end %s duration("0s")`, `s.duration + s.parent.duration %s duration("1s")`, `s.duration - s.parent.duration %s duration("0s")`,
			`s.start + s.parent.duration %s s.parent.end`, `s.parent.duration + s.start %s s.end`, `s.end - s.parent.duration %s s.start`, `s.start %s s.parent.start`, `s.duration %s s.parent.duration`,
			`s.end - s.parent.start %s s.parent.end - s.start`, `trace.start %s s.end`, `trace.end %s s.parent.end`, `trace.duration %s s.duration`,
		} {
			expressions = append(expressions, fmt.Sprintf(of, op))
		}
	}
	times := []uint64{0, 1, 1e9, 5e18, 1<<63 - 1, 1 << 63, 1<<63 + 1, math.MaxUint64 - 1, math.MaxUint64}
	var traces []*trace.Trace
	for i := range len(times) * len(times) * len(times) {
		parent := trace.Span{ID: trace.SpanID{1}, Start: trace.Time(times[i%9]), End: trace.Time(times[i/9%9])}
		child := trace.Span{ID: trace.SpanID{2}, ParentID: parent.ID, Start: trace.Time(times[i/81]), End: trace.Time(times[(i/81+i%9+i/9)%9])}
		traces = append(traces, trace.New(trace.ID{14: byte(i >> 8), 15: byte(i)}, []trace.Span{parent, child}))
	}
	equalsOracle(t, expressions, traces, func(_ string, spans []trace.Span) bool {
		// The interpreter has seconds and nanoseconds apart.
		first, last := uint64(math.MaxUint64), uint64(0)
		for _, s := range spans {
			first, last = min(first, uint64(s.Start), uint64(s.End)), max(last, uint64(s.Start), uint64(s.End))
		}
		return last >= 1<<63 || last-first > 1<<62 || last+(last-first) >= 1<<63
	})
}

// equalsOracle judges traces by a rule for each condition on a span s, in each of the ways, at least once: all of
// them, every other one, some without attributes, events and links, and some whose attributes are all 0, by the same
// judge. The interpreter is used only where it gives an error, and where mayAsk
// allows it.
func equalsOracle(t *testing.T, conditions []string, traces []*trace.Trace, mayAsk func(condition string, spans []trace.Span) bool, ways ...func(*engine.Judge)) {
	t.Helper()
	var accepted []string
	for _, c := range conditions {
		if rs, err := packOf(t, "spans.exists(s, "+c+")"); err == nil && len(rs) == 1 {
			accepted = append(accepted, "spans.exists(s, "+c+")")
		}
	}
	require.Greater(t, len(accepted), len(conditions)/2)
	rs := ofExpressions(t, accepted)
	var needs columnar.Needs
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	outcomes := map[rules.Outcome]int{}
	judged := func(b *columnar.Batch) (verdicts [][]rules.Verdict) {
		for i := range b.NumTraces() {
			verdicts = append(verdicts, analyzer.Judge(t.Context(), rs, b.Trace(i)))
			for _, v := range verdicts[i] {
				outcomes[v.Outcome]++
			}
		}
		return verdicts
	}
	var bare, zero []*trace.Trace
	zeros := func(of trace.Attributes) trace.Attributes {
		of = slices.Clone(of)
		for i := range of {
			of[i].Value = trace.IntValue(0)
		}
		return of
	}
	for _, tr := range traces[:min(len(traces), 10)] {
		without, with := slices.Clone(tr.Spans), slices.Clone(tr.Spans)
		for i := range tr.Spans {
			without[i].Attributes, without[i].Resource, without[i].Events, without[i].Links = nil, nil, nil, nil
			s := &with[i]
			s.Attributes, s.Resource, s.Events, s.Links = zeros(s.Attributes), zeros(s.Resource), slices.Clone(s.Events), slices.Clone(s.Links)
			for k := range s.Events {
				s.Events[k].Attributes = zeros(s.Events[k].Attributes)
			}
			for k := range s.Links {
				s.Links[k].Attributes = zeros(s.Links[k].Attributes)
			}
		}
		bare, zero = append(bare, trace.New(tr.ID, without)), append(zero, trace.New(tr.ID, with))
	}
	all, without, zeroed := columnar.NewBatch(needs, traces...), columnar.NewBatch(needs, bare...), columnar.NewBatch(needs, zero...)
	want, wantWithout, wantZeroed := judged(all), judged(without), judged(zeroed)
	require.Greater(t, outcomes[rules.Violation], 1000)
	require.Positive(t, outcomes[rules.Error])
	half := make(columnar.Bits, columnar.NumWords(len(want)))
	for i := 1; i < len(want); i += 2 {
		half.Set(int32(i))
	}
	for i, way := range append(ways, nil)[:max(len(ways), 1)] {
		if i == 1 {
			repeatTexts(all, rand.New(rand.NewPCG(1, 1)))
		}
		judge := engine.Compile(rs).NewJudge()
		if way != nil {
			way(judge)
		}
		for _, of := range []struct {
			batch    *columnar.Batch
			selected columnar.Bits
			want     [][]rules.Verdict
		}{{all, nil, want}, {without, nil, wantWithout}, {all, half, want}, {zeroed, nil, wantZeroed}} {
			got, err := judge.Batch(t.Context(), of.batch, of.selected)
			require.NoError(t, err)
			asked := judge.Asked()
			found := got.Found
			for i := range of.want {
				if of.selected != nil && !of.selected.Has(int32(i)) {
					continue
				}
				for k, v := range of.want[i] {
					said := rules.NotApplicable
					if len(found) > 0 && found[0].Trace == i && found[0].Rule == k {
						said = found[0].Verdict.Outcome
						found = found[1:]
					}
					if v.Outcome != said {
						t.Fatalf("%s: %v, want %v, of %v", accepted[k], said, v.Outcome, of.batch.Trace(i).Spans)
					}
					if asked[engine.Asked{Trace: i, Rule: k}] && v.Outcome != rules.Error && !mayAsk(accepted[k], of.batch.Trace(i).Spans) {
						t.Fatalf("%s: the interpreter was asked about %v", accepted[k], of.batch.Trace(i).Spans)
					}
				}
			}
			require.Empty(t, found)
		}
	}
}
