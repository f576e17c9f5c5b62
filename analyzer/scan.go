package analyzer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// SourceFunc reads whole traces and delivers them in batches, which hold at least [Needs] of the rules. Calls of
// deliver do not overlap, and a batch is valid until deliver returns. The reading names the parts that could not
// be read. An error means that the source could not continue; it wraps an error of deliver.
type SourceFunc func(ctx context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error)

// WriteFunc receives the violations of several traces, in the order in which the traces were delivered. An
// error ends the scan.
type WriteFunc func(ctx context.Context, violations []evidence.Violation) error

// ScanOptions configure a scan.
type ScanOptions struct {
	Source SourceFunc
	Rules  []*rules.Rule
	// Plan, if not nil, is the compiled form of Rules. It saves time if the same rules are used repeatedly.
	Plan *engine.Plan
	// Filter, if not nil, returns which traces of a batch are judged, one bit per trace, valid until the next
	// call. If nil, all are judged.
	Filter func(*columnar.Batch) columnar.Bits
	// Tenant is the tenant of the violations.
	Tenant string
	// Circumstances are those of all violations. If the window is zero, it is that of each trace. Provisional is
	// set for traces that end after SettledBefore.
	Circumstances evidence.Circumstances
	SettledBefore time.Time
	// Write, if not nil, receives the violations as they are found.
	Write WriteFunc
	// Found, if not nil, receives each violation with its trace, before Judged is called for the batch of the trace. An
	// error ends the scan.
	Found func(ctx context.Context, v evidence.Violation, t *trace.Trace) error
	// Own, if not nil, receives the traces of each batch that BeTrace wrote, one bit per trace, before the others are
	// judged. Both arguments are valid until it returns.
	Own func(ctx context.Context, b *columnar.Batch, own columnar.Bits) error
	// Failed, if not nil, receives each verdict that is an error, before Judged is called for its batch.
	Failed func(r *rules.Rule, t *trace.Trace, err error)
	// Judged, if not nil, is called after each batch with the traces that were judged, one bit per trace, after Write
	// received the violations of the batch. Both arguments are valid until it returns.
	Judged func(ctx context.Context, b *columnar.Batch, judged columnar.Bits) error
	// CostSizes, if not nil, are the sizes of traces for which [Result].Cost is computed.
	CostSizes *lang.Sizes
	// Check, if not nil, receives the result so far after each batch. An error ends the scan.
	Check func(*Result) error
	// Progress, if not nil, receives the cumulative counts after each batch.
	Progress func(TraceCounts)
	// Workers is the number of traces with violations or errors that are evaluated at once. The default is the
	// number of cores.
	Workers int

	costs *costs // nil if they are not needed
}

// Needs returns the parts of spans that a scan by the rules reads, with those of a query that selects traces, if
// it is not nil.
func Needs(rs []*rules.Rule, query *traceql.Filter) columnar.Needs {
	needs := columnar.Needs{Attributes: slices.Clone(evidence.OwnAttributes)}
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	if query != nil {
		needs = needs.Union(query.Needs())
	}
	return needs
}

// Prefilter returns a filter that matches a span of every trace to which one of the rules may apply.
func Prefilter(rs []*rules.Rule) *traceql.Filter {
	filters := make([]*traceql.Filter, len(rs))
	for i, r := range rs {
		filters[i] = r.Prefilter()
	}
	return traceql.Or(filters...)
}

// Scan judges every trace that the source delivers by every rule, except the traces that BeTrace itself wrote.
// The result is never nil: after an error, also of the context, it counts the batches that were judged and the
// violations that were written until then, and is incomplete.
//
// Besides a batch, a scan holds at most a few hundred of its traces: those with violations or errors. The result
// and the order of violations do not depend on Workers.
func Scan(ctx context.Context, opts ScanOptions) (*Result, error) {
	plan := opts.Plan
	if plan == nil {
		plan = engine.Compile(opts.Rules)
	}
	judge := plan.NewJudge()
	judge.Workers = opts.Workers
	result := newResult(opts.Rules)
	if opts.CostSizes != nil {
		opts.costs = &costs{rules: opts.Rules, sizes: *opts.CostSizes, bySpans: map[int]float64{}}
	}
	var judgeErr, readErr error
	result.Reading, readErr = opts.Source(ctx, func(b *columnar.Batch) error {
		if judgeErr == nil { // a source may deliver more after an error
			judgeErr = judgeBatch(ctx, &opts, judge, b, result)
		}
		return judgeErr
	})
	for _, c := range result.Rules {
		if c.Error > 0 {
			result.AddProblem("rule "+c.Rule.Pack.Name+"/"+c.Rule.ID,
				fmt.Errorf("%d of its verdicts are errors; the first is of trace %s: %w", c.Error, c.FirstErrorTrace, c.FirstError))
		}
	}
	err := cmp.Or(context.Cause(ctx), judgeErr, readErr)
	if err != nil {
		result.AddProblem("the scan ended early", err)
	}
	return result, err
}

// judgeBatch judges the traces of a batch and writes the violations.
func judgeBatch(ctx context.Context, opts *ScanOptions, judge *engine.Judge, b *columnar.Batch, result *Result) error {
	var selected columnar.Bits
	if opts.Filter != nil {
		selected = opts.Filter(b)
	}
	judged := make(columnar.Bits, columnar.NumWords(b.NumTraces()))
	own := make(columnar.Bits, len(judged))
	for t := range b.NumTraces() {
		switch {
		case evidence.IsOwn(b, t):
			result.exclude(b, t, &result.Traces.Own)
			own.Set(int32(t))
		case opts.Filter != nil && !selected.Has(int32(t)):
			result.exclude(b, t, &result.Traces.OutsideQuery)
		default:
			judged.Set(int32(t))
		}
	}
	if opts.Own != nil && own.Next(0) >= 0 {
		if err := opts.Own(ctx, b, own); err != nil {
			return err
		}
	}
	counts, err := judge.Each(ctx, b, judged, func(found []engine.Found) error {
		var violations []evidence.Violation
		for _, f := range found {
			if f.Verdict.Outcome == rules.Violation && opts.Write != nil {
				violations = append(violations, opts.violation(f.Verdict, f.View))
			}
			if f.Verdict.Outcome == rules.Violation && opts.Found != nil {
				if err := opts.Found(ctx, opts.violation(f.Verdict, f.View), f.View); err != nil {
					return err
				}
			}
			if f.Verdict.Outcome == rules.Error && opts.Failed != nil {
				opts.Failed(f.Verdict.Rule, f.View, f.Verdict.Err)
			}
			result.found(f)
		}
		if len(violations) > 0 {
			if err := opts.Write(ctx, violations); err != nil {
				return fmt.Errorf("write %d violations: %w", len(violations), err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, c := range counts {
		result.Rules[i].NotApplicable += c.NotApplicable
		result.Rules[i].Pass += c.Pass
	}
	for t := judged.Next(0); t >= 0; t = judged.Next(t + 1) {
		result.addJudged(b, int(t))
		if opts.costs != nil {
			result.Cost += opts.costs.of(int(b.First[t+1] - b.First[t]))
		}
	}
	if opts.Judged != nil {
		if err := opts.Judged(ctx, b, judged); err != nil {
			return err
		}
	}
	if opts.Check != nil {
		if err := opts.Check(result); err != nil {
			return err
		}
	}
	if opts.Progress != nil {
		opts.Progress(result.Traces)
	}
	return nil
}

// Judge returns the verdict of each rule on a trace, in the order of the rules.
func Judge(ctx context.Context, rs []*rules.Rule, t *trace.Trace) []rules.Verdict {
	verdicts := make([]rules.Verdict, len(rs))
	sizes := lang.SizesOf(t)
	for i, r := range rs {
		verdicts[i] = r.JudgeSized(ctx, t, sizes)
	}
	return verdicts
}
