// Package ottl looks for spans that meet conditions with the OpenTelemetry Collector's transformation
// language, as the Collector's processors do: every condition is evaluated on every span of pdata that
// was made beforehand.
package ottl

import (
	"context"
	"fmt"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl/contexts/ottlspan"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl/ottlfuncs"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"

	"github.com/betracehq/betrace/bench/rulesets"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
)

// Conditions are compiled conditions.
type Conditions []*ottl.Condition[*ottlspan.TransformContext]

// Compile compiles conditions.
func Compile(conditions []rulesets.Condition) (Conditions, error) {
	parser, err := ottlspan.NewParser(ottlfuncs.StandardConverters[*ottlspan.TransformContext](),
		component.TelemetrySettings{Logger: zap.NewNop()}, ottlspan.EnablePathContextNames())
	if err != nil {
		return nil, fmt.Errorf("OTTL: %w", err)
	}
	texts := make([]string, len(conditions))
	for i, c := range conditions {
		texts[i] = c.OTTL
	}
	parsed, err := parser.ParseConditions(texts)
	if err != nil {
		return nil, fmt.Errorf("OTTL: %w", err)
	}
	return parsed, nil
}

// Traces are pdata, with one message for each trace.
type Traces []ptrace.Traces

// Prepare converts the traces of a batch from index from to before index to into pdata.
func Prepare(b *columnar.Batch, from, to int) Traces {
	var out Traces
	for t := from; t < to; t++ {
		out = append(out, otlp.FromTrace(b.Trace(t)))
	}
	return out
}

// Count returns, for each condition, the number of spans that meet it and the number of traces with such
// a span.
func (c Conditions) Count(ctx context.Context, traces Traces) (spans, withOne []int, err error) {
	spans, withOne = make([]int, len(c)), make([]int, len(c))
	before := make([]int, len(c))
	for _, td := range traces {
		copy(before, spans)
		for i := range td.ResourceSpans().Len() {
			rs := td.ResourceSpans().At(i)
			for k := range rs.ScopeSpans().Len() {
				ss := rs.ScopeSpans().At(k)
				for n := range ss.Spans().Len() {
					if err := c.count(ctx, rs, ss, ss.Spans().At(n), spans); err != nil {
						return nil, nil, err
					}
				}
			}
		}
		for i := range c {
			if spans[i] > before[i] {
				withOne[i]++
			}
		}
	}
	return spans, withOne, nil
}

func (c Conditions) count(ctx context.Context, rs ptrace.ResourceSpans, ss ptrace.ScopeSpans, s ptrace.Span, counts []int) error {
	tc := ottlspan.NewTransformContext(rs, ss, s)
	defer tc.Close()
	for i, condition := range c {
		met, err := condition.Eval(ctx, tc)
		if err != nil {
			return fmt.Errorf("OTTL: %s: %w", condition, err)
		}
		if met {
			counts[i]++
		}
	}
	return nil
}
