package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace/columnar"
)

// side is one of two compared sides. It processes each of n batches.
type side struct {
	n     int
	spans int // in all batches
	run   func(batch int) error
}

// inTurn runs the sides in turn on one batch after another, several times. It returns the time of each
// side for a span, in seconds, from the least time of each batch.
func (b *bench) inTurn(ctx context.Context, sides ...side) ([]float64, error) {
	least := make([][]time.Duration, len(sides))
	most := 0
	for i, s := range sides {
		least[i] = make([]time.Duration, s.n)
		most = max(most, s.n)
	}
	for repeat := range b.repeat {
		runtime.GC() // earlier garbage must not count for these sides
		for batch := range most {
			for k := range sides {
				// The sides take turns at running first, because the first one warms the caches.
				i := (repeat + batch + k) % len(sides)
				if batch >= sides[i].n {
					continue
				}
				began := time.Now()
				if err := sides[i].run(batch); err != nil {
					return nil, err
				}
				if took := time.Since(began); repeat == 0 || took < least[i][batch] {
					least[i][batch] = took
				}
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
			}
		}
	}
	perSpan := make([]float64, len(sides))
	for i, s := range sides {
		var sum time.Duration
		for _, took := range least[i] {
			sum += took
		}
		perSpan[i] = sum.Seconds() / float64(s.spans)
		if len(sides) > 1 {
			b.progress("  %s: %.2f ns a span", [...]string{"first", "second"}[i], 1e9*perSpan[i])
		}
	}
	return perSpan, nil
}

// compareThroughput prints the ratio of the first side's throughput to the second's, and both
// throughputs.
func (b *bench) compareThroughput(ctx context.Context, names []string, ours, theirs side) error {
	perSpan, err := b.inTurn(ctx, ours, theirs)
	if err != nil {
		return err
	}
	b.print(names[0], perSpan[1]/perSpan[0], "ratio")
	b.print(names[1], 1/perSpan[0], "spans/s")
	b.print(names[2], 1/perSpan[1], "spans/s")
	return nil
}

// compareCost prints the ratio of the first side's cost for a span to the second's, and both throughputs.
func (b *bench) compareCost(ctx context.Context, names []string, many, few side) error {
	perSpan, err := b.inTurn(ctx, many, few)
	if err != nil {
		return err
	}
	b.print(names[0], perSpan[0]/perSpan[1], "ratio")
	b.print(names[1], 1/perSpan[0], "spans/s")
	b.print(names[2], 1/perSpan[1], "spans/s")
	return nil
}

// judged returns a side that judges batches by rules that were compiled together. As in a scan,
// violations are reported with their messages.
func (b *bench) judged(ctx context.Context, rs []*rules.Rule) side {
	return judging(ctx, rs, b.batches)
}

func judging(ctx context.Context, rs []*rules.Rule, of []*columnar.Batch) side {
	judge := engine.Compile(rs).NewJudge()
	s := side{n: len(of), run: func(i int) error {
		_, err := judge.Each(ctx, of[i], nil, take)
		return err
	}}
	for _, batch := range of {
		s.spans += batch.NumSpans()
	}
	return s
}

func take([]engine.Found) error { return nil }

// count judges the first traces of a batch by rules that were compiled together.
func count(ctx context.Context, rs []*rules.Rule, batch *columnar.Batch, traces int) ([]engine.Counts, error) {
	var selected columnar.Bits
	if traces < batch.NumTraces() {
		selected = make(columnar.Bits, columnar.NumWords(batch.NumTraces()))
		selected.SetRange(0, int32(traces))
	}
	v, err := engine.Compile(rs).NewJudge().Batch(ctx, batch, selected)
	if err != nil {
		return nil, err
	}
	return v.Counts, nil
}

// summarise reports the verdicts of all rules on all batches.
func (b *bench) summarise(ctx context.Context, rs []*rules.Rule) error {
	var sum engine.Counts
	traces := 0
	for _, batch := range b.batches {
		counts, err := count(ctx, rs, batch, batch.NumTraces())
		if err != nil {
			return err
		}
		for _, c := range counts {
			sum.Pass += c.Pass
			sum.Violation += c.Violation
			sum.Error += c.Error
		}
		traces += batch.NumTraces()
	}
	b.progress("  %d rules on %d traces: %.2f apply to a trace, %d violations, %d errors", len(rs), traces, float64(sum.Pass+sum.Violation)/float64(traces), sum.Violation, sum.Error)
	if sum.Error > 0 {
		return fmt.Errorf("%d verdicts are errors", sum.Error)
	}
	return nil
}

// eachRule prints the cost of each rule of a set when it is compiled alone.
func (b *bench) eachRule(ctx context.Context, set string) error {
	if err := b.prepare(); err != nil {
		return err
	}
	type cost struct {
		rule    *rules.Rule
		perSpan float64
	}
	var costs []cost
	for _, r := range b.rules[set] {
		perSpan, err := b.inTurn(ctx, b.judged(ctx, []*rules.Rule{r}))
		if err != nil {
			return err
		}
		costs = append(costs, cost{r, perSpan[0]})
	}
	slices.SortFunc(costs, func(x, y cost) int { return cmp.Compare(y.perSpan, x.perSpan) })
	for _, c := range costs {
		fmt.Printf("%s %.2f ns/span when %s always %v never %v\n", c.rule.ID, 1e9*c.perSpan, c.rule.When, c.rule.Always, c.rule.Never)
	}
	return nil
}
