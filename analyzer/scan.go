package analyzer

import (
	"cmp"
	"context"
	"fmt"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// SourceFunc reads whole traces and gives them to deliver in batches, from one
// goroutine at a time; a batch is valid until deliver returns. What it could not read
// it says in Reading.Problems; an error means that it could not go on. It returns
// deliver's error as it is, or wrapped. [InBatches] makes one of a source that gives
// trace after trace.
type SourceFunc func(ctx context.Context, deliver func(*columnar.Batch) error) (Reading, error)

// WriteFunc takes the violations of some traces, in the order in which their
// traces were delivered. An error ends the scan.
type WriteFunc func(ctx context.Context, violations []Violation) error

// Violation is a verdict of outcome [rules.Violation], and the trace it is about.
type Violation struct {
	Verdict rules.Verdict
	Trace   *trace.Trace
}

// ScanOptions say what is judged, by what, and where it goes.
type ScanOptions struct {
	Source SourceFunc
	Rules  []*rules.Rule
	// IsOwn tells whether trace t of a batch is a violation trace of BeTrace's own, which
	// is not judged. Nil: none is.
	IsOwn func(b *columnar.Batch, t int) bool
	// Filter tells which traces of a batch are judged, a bit a trace, until it is called
	// again: those that were asked for. Nil: all.
	Filter func(*columnar.Batch) columnar.Bits
	// Write takes the violations as they are found. Nil: they are only counted.
	Write WriteFunc
	// Progress is told the counts now and then. Nil: nobody is.
	Progress func(TraceCounts)
	// Workers is how many traces with something found are worked out at once; 0: one a core.
	Workers int
}

// Scan judges every trace that the source delivers by every rule. Its result is
// never nil: after an error, also a context's, it counts the batches that had been judged
// until then and the violations that had been handed to Write, and is not complete.
//
// Besides a batch it holds a few hundred of its traces at most: those with something
// found. The result and the order of violations do not depend on Workers.
func Scan(ctx context.Context, opts ScanOptions) (*Result, error) {
	judge := engine.Compile(opts.Rules).NewJudge()
	judge.Workers = opts.Workers
	result := newResult(opts.Rules)
	var judgeErr, readErr error
	result.Reading, readErr = opts.Source(ctx, func(b *columnar.Batch) error {
		if judgeErr == nil { // a source may go on, to no avail
			judgeErr = judgeBatch(ctx, &opts, judge, b, result)
		}
		return judgeErr
	})
	for _, c := range result.Rules {
		if c.Error > 0 {
			result.Problems = append(result.Problems, Problem{
				What: "rule " + c.Rule.Pack.Name + "/" + c.Rule.ID,
				Why:  fmt.Sprintf("%d of its verdicts are errors; the first is of trace %s: %v", c.Error, c.FirstErrorTrace, c.FirstError),
			})
		}
	}
	err := cmp.Or(context.Cause(ctx), judgeErr, readErr)
	if err != nil {
		result.Problems = append(result.Problems, Problem{What: "the scan ended early", Why: err.Error()})
	}
	return result, err
}

// judgeBatch judges the traces of a batch and hands on what violates.
func judgeBatch(ctx context.Context, opts *ScanOptions, judge *engine.Judge, b *columnar.Batch, result *Result) error {
	var selected columnar.Bits
	if opts.Filter != nil {
		selected = opts.Filter(b)
	}
	judged := make(columnar.Bits, columnar.NumWords(b.NumTraces()))
	for t := range b.NumTraces() {
		switch {
		case opts.IsOwn != nil && opts.IsOwn(b, t):
			result.leaveOut(b, t, &result.Traces.Own)
		case opts.Filter != nil && !selected.Has(int32(t)):
			result.leaveOut(b, t, &result.Traces.OutsideQuery)
		default:
			judged.Set(int32(t))
		}
	}
	counts, err := judge.Each(ctx, b, judged, func(found []engine.Found) error {
		var violations []Violation
		for _, f := range found {
			if f.Verdict.Outcome == rules.Violation {
				violations = append(violations, Violation{Verdict: f.Verdict, Trace: f.View})
			}
			result.found(f)
		}
		if opts.Write != nil && len(violations) > 0 {
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
		result.admit(b, int(t))
	}
	if opts.Progress != nil {
		opts.Progress(result.Traces)
	}
	return nil
}

// Judge returns the verdict of each rule on the trace, in the order of rules.
func Judge(ctx context.Context, rs []*rules.Rule, t *trace.Trace) []rules.Verdict {
	verdicts := make([]rules.Verdict, len(rs))
	sizes := lang.SizesOf(t)
	for i, r := range rs {
		verdicts[i] = r.JudgeSized(ctx, t, sizes)
	}
	return verdicts
}
