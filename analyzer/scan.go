package analyzer

import (
	"cmp"
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/rules"
)

// So many traces of a batch, or of so many spans, are judged at a time: enough to keep
// all cores busy, and a bound on what is held in memory besides the batch.
const (
	chunkTraces = 256
	chunkSpans  = 50_000
)

// SourceFunc reads whole traces and gives them to deliver in batches, from one
// goroutine at a time; a batch is valid until deliver returns. What it could not read
// it says in Reading.Problems; an error means that it could not go on. It returns
// deliver's error as it is, or wrapped. [InBatches] makes one of a source that gives
// trace after trace.
type SourceFunc func(ctx context.Context, deliver func(*trace.Batch) error) (Reading, error)

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
	IsOwn func(b *trace.Batch, t int) bool
	// Filter tells which traces of a batch are judged, a bit a trace, until it is called
	// again: those to which a rule could apply. Nil: all.
	Filter func(*trace.Batch) trace.Bits
	// Write takes the violations as they are found. Nil: they are only counted.
	Write WriteFunc
	// Progress is told the counts now and then. Nil: nobody is.
	Progress func(TraceCounts)
	// Workers is how many traces are judged at once; 0: one a core.
	Workers int
}

// Scan judges every trace that the source delivers by every rule. Its result is
// never nil: after an error, also a context's, it counts what had been judged
// and handed to Write until then, and is not complete.
//
// Besides a batch it holds at most 256 of its traces. The result and the order of
// violations do not depend on Workers.
func Scan(ctx context.Context, opts ScanOptions) (*Result, error) {
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	result := newResult(opts.Rules)
	var judgeErr, readErr error
	result.Reading, readErr = opts.Source(ctx, func(b *trace.Batch) error {
		if judgeErr == nil { // a source may go on, to no avail
			judgeErr = judgeBatch(ctx, &opts, b, result)
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

// judgeBatch judges the traces of a batch, some at a time.
func judgeBatch(ctx context.Context, opts *ScanOptions, b *trace.Batch, result *Result) error {
	var selected trace.Bits
	if opts.Filter != nil {
		selected = opts.Filter(b)
	}
	var chunk []int
	spans := 0
	flush := func() error {
		err := judgeChunk(ctx, opts, b, chunk, result)
		chunk, spans = chunk[:0], 0
		return err
	}
	for t := range b.NumTraces() {
		switch {
		case opts.IsOwn != nil && opts.IsOwn(b, t):
			result.leaveOut(b, t, &result.Traces.Own)
			continue
		case opts.Filter != nil && !selected.Has(int32(t)):
			result.leaveOut(b, t, &result.Traces.OutsidePrefilter)
			continue
		}
		chunk = append(chunk, t)
		spans += int(b.First[t+1] - b.First[t])
		if len(chunk) >= chunkTraces || spans >= chunkSpans {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// judgeChunk judges some traces of a batch and hands on what violates.
func judgeChunk(ctx context.Context, opts *ScanOptions, b *trace.Batch, chunk []int, result *Result) error {
	traces, verdicts, err := judgeAll(ctx, opts.Rules, b, chunk, opts.Workers)
	if err != nil {
		return err
	}
	var violations []Violation
	for i, t := range traces {
		result.admit(t)
		for _, v := range verdicts[i] {
			result.count(v, t)
			if v.Outcome == rules.Violation {
				violations = append(violations, Violation{Verdict: v, Trace: t})
			}
		}
	}
	result.Traces.Judged += len(traces)
	if opts.Write != nil && len(violations) > 0 {
		if err := opts.Write(ctx, violations); err != nil {
			return fmt.Errorf("write %d violations: %w", len(violations), err)
		}
	}
	if opts.Progress != nil {
		opts.Progress(result.Traces)
	}
	return nil
}

// judgeAll returns traces of the batch, and the verdicts of all rules on each. A context
// that ends meanwhile is an error, not a verdict.
func judgeAll(ctx context.Context, rs []*rules.Rule, b *trace.Batch, chunk []int, workers int) ([]*trace.Trace, [][]rules.Verdict, error) {
	traces, verdicts := make([]*trace.Trace, len(chunk)), make([][]rules.Verdict, len(chunk))
	var group errgroup.Group
	group.SetLimit(workers)
	for i, t := range chunk {
		group.Go(func() error {
			traces[i] = b.Trace(t)
			verdicts[i] = Judge(ctx, rs, traces[i])
			return context.Cause(ctx)
		})
	}
	return traces, verdicts, group.Wait()
}

// Judge returns the verdict of each rule on the trace, in the order of rules.
func Judge(ctx context.Context, rs []*rules.Rule, t *trace.Trace) []rules.Verdict {
	verdicts := make([]rules.Verdict, len(rs))
	sizes := rules.SizesOf(t)
	for i, r := range rs {
		verdicts[i] = r.JudgeSized(ctx, t, sizes)
	}
	return verdicts
}
