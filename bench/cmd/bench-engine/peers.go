package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/bench/byhand"
	"github.com/betracehq/betrace/bench/celgo"
	"github.com/betracehq/betrace/bench/ottl"
	"github.com/betracehq/betrace/bench/rulesets"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace/columnar"
)

func oneRule(ctx context.Context, b *bench, names []string) error {
	return b.againstLoops(ctx, names, b.rules["one"], []byhand.Loop{byhand.One})
}

func tenRules(ctx context.Context, b *bench, names []string) error {
	return b.againstLoops(ctx, names, b.rules["ten"], byhand.Ten)
}

func treeRules(ctx context.Context, b *bench, names []string) error {
	return b.againstLoops(ctx, names, b.rules["tree"], byhand.Tree)
}

// againstLoops compares rules with one loop for each of them, over the same batches.
func (b *bench) againstLoops(ctx context.Context, names []string, rs []*rules.Rule, loops []byhand.Loop) error {
	if err := b.summarise(ctx, rs); err != nil {
		return err
	}
	out := make([][]rules.Outcome, len(b.batches))
	for i, batch := range b.batches {
		out[i] = make([]rules.Outcome, batch.NumTraces())
		counts, err := count(ctx, rs, batch, batch.NumTraces())
		if err != nil {
			return err
		}
		for k, loop := range loops {
			var c engine.Counts
			loop(batch, out[i])
			for _, o := range out[i] {
				c.Add(o)
			}
			if c != counts[k] {
				return fmt.Errorf("rule %s returns %+v, its loop %+v", rs[k].ID, counts[k], c)
			}
		}
	}
	return b.compareThroughput(ctx, names, b.judged(ctx, rs), side{n: len(b.batches), spans: b.spans, run: func(i int) error {
		for _, loop := range loops {
			loop(b.batches[i], out[i])
		}
		return nil
	}})
}

func hundredRules(ctx context.Context, b *bench, names []string) error {
	return b.againstTen(ctx, names, b.rules["hundred"])
}

func thousandRules(ctx context.Context, b *bench, names []string) error {
	return b.againstTen(ctx, names, b.rules["thousand"])
}

func (b *bench) againstTen(ctx context.Context, names []string, rs []*rules.Rule) error {
	if err := b.summarise(ctx, rs); err != nil {
		return err
	}
	return b.compareCost(ctx, names, b.judged(ctx, rs), b.judged(ctx, b.rules["ten"]))
}

// These are the numbers of spans for the slower engines, whose time for a span does not depend on the
// number of spans.
const (
	celGoSpans = 20_000
	ottlSpans  = 100_000
)

// part returns the number of first traces of the first batch that have at least this many spans, and
// their spans.
func (b *bench) part(spans int) (traces, have int) {
	batch := b.batches[0]
	for traces < batch.NumTraces() && int(batch.First[traces]) < spans {
		traces++
	}
	return traces, int(batch.First[traces])
}

// againstCELGo compares 100 rules with cel-go, on a part of the traces.
func againstCELGo(ctx context.Context, b *bench, names []string) error {
	rs, set := b.rules["hundred"], rulesets.Set(100)
	keys := celgo.Keys(rulesets.Needs(rs))
	programs, err := celgo.Compile(set, keys)
	if err != nil {
		return err
	}
	numTraces, spans := b.part(celGoSpans)
	traces := make([]*celgo.Trace, numTraces)
	for t := range traces {
		traces[t] = celgo.Prepare(b.batches[0].Trace(t), keys)
	}
	want, err := count(ctx, rs, b.batches[0], numTraces)
	if err != nil {
		return err
	}
	for i := range programs {
		var got engine.Counts
		for _, t := range traces {
			got.Add(programs[i].Judge(t))
		}
		if got != want[i] {
			return fmt.Errorf("rule %s returns %+v, cel-go %+v", rs[i].ID, want[i], got)
		}
	}
	b.progress("  cel-go judges %d spans of %d traces", spans, numTraces)
	return b.compareThroughput(ctx, names, b.judged(ctx, rs), side{n: 1, spans: spans, run: func(int) error {
		for _, t := range traces {
			for i := range programs {
				programs[i].Judge(t)
			}
		}
		return nil
	}})
}

// againstOTTL compares ten conditions with OTTL, on a part of the traces.
func againstOTTL(ctx context.Context, b *bench, names []string) error {
	rs := b.rules["conditions"]
	conditions, err := ottl.Compile(rulesets.Conditions)
	if err != nil {
		return err
	}
	// Generate only the attributes that the conditions read, as BeTrace reads them.
	few := b.options
	few.Spans = min(few.Spans, ottlSpans)
	var traces ottl.Traces
	spans := 0
	want := make([]int, len(rs))
	for _, batch := range batches.Make(few, rulesets.Needs(rs)) {
		traces = append(traces, ottl.Prepare(batch, 0, batch.NumTraces())...)
		spans += batch.NumSpans()
		counts, err := count(ctx, rs, batch, batch.NumTraces())
		if err != nil {
			return err
		}
		for i, c := range counts {
			want[i] += c.Pass
		}
	}
	_, got, err := conditions.Count(ctx, traces)
	if err != nil {
		return err
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("%d traces have a span that meets %s, but %d have one that meets %s", want[i], rulesets.Conditions[i].CEL, got[i], rulesets.Conditions[i].OTTL)
		}
	}
	b.progress("  OTTL evaluates %d spans", spans)
	return b.compareThroughput(ctx, names, b.judged(ctx, rs), side{n: 1, spans: spans, run: func(int) error {
		_, _, err := conditions.Count(ctx, traces)
		return err
	}})
}

// allocations counts the heap allocations of 100 fully vectorised rules, on traces that violate none of
// them. The judge has processed such batches before.
func allocations(ctx context.Context, b *bench, names []string) error {
	var rs []*rules.Rule
	all := engine.Compile(b.rules["thousand"])
	for i, r := range b.rules["thousand"] {
		vectorised := true
		for _, part := range all.Explain(i) {
			vectorised = vectorised && part.Vectorised()
		}
		if vectorised && len(rs) < 100 {
			rs = append(rs, r)
		}
	}
	clean := b.options
	clean.MistakeEvery = 0
	of := batches.Make(clean, b.needs())
	n, err := violations(ctx, rs, of)
	if err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("%d verdicts are violations or errors", n)
	}
	s := judging(ctx, rs, of)
	perSpan, err := b.inTurn(ctx, s) // also warms the judge
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range b.repeat {
		for i := range s.n {
			if err := s.run(i); err != nil {
				return err
			}
		}
	}
	runtime.ReadMemStats(&after)
	millions := float64(s.spans) * float64(b.repeat) / 1e6
	b.print(names[0], float64(after.Mallocs-before.Mallocs)/millions, "allocations")
	b.print(names[1], 1/perSpan[0], "spans/s")
	return nil
}

func violations(ctx context.Context, rs []*rules.Rule, of []*columnar.Batch) (n int, err error) {
	for _, batch := range of {
		counts, err := count(ctx, rs, batch, batch.NumTraces())
		if err != nil {
			return 0, err
		}
		for _, c := range counts {
			n += c.Violation + c.Error
		}
	}
	return n, nil
}
