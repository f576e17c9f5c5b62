package analyzer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/rules"
)

// A batch of traces is judged when it has this many traces or spans: enough to
// keep all cores busy, and a bound on what is held in memory.
const (
	batchTraces = 256
	batchSpans  = 50_000
)

// SourceFunc reads whole traces and gives each to deliver, from one goroutine
// at a time. What it could not read it says in Reading.Problems; an error means
// that it could not go on. It returns deliver's error as it is, or wrapped.
type SourceFunc func(ctx context.Context, deliver func(*trace.Trace) error) (Reading, error)

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
	// IsOwn tells BeTrace's own violation traces, which are not judged. Nil: none is.
	IsOwn func(*trace.Trace) bool
	// Filter tells which traces are judged: those to which a rule could apply. Nil: all.
	Filter func(*trace.Trace) bool
	// Write takes the violations as they are found. Nil: they are only counted.
	Write WriteFunc
	// Progress is told the counts after each batch. Nil: nobody is.
	Progress func(TraceCounts)
	// Workers is how many traces are judged at once; 0: one a core.
	Workers int
}

// Scan judges every trace that the source delivers by every rule. Its result is
// never nil: after an error, also a context's, it counts what had been judged
// and handed to Write until then, and is not complete.
//
// It holds at most two batches of traces. The result and the order of
// violations do not depend on Workers.
func Scan(ctx context.Context, opts ScanOptions) (*Result, error) {
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	result := newResult(opts.Rules)
	batches := make(chan []*trace.Trace)
	readCtx, stopReading := context.WithCancelCause(ctx)
	defer stopReading(nil)
	var readErr, judgeErr error
	go func() {
		defer close(batches)
		result.Reading, readErr = readBatches(readCtx, opts.Source, batches)
	}()
	// What was read before the source failed is still judged.
	for batch := range batches {
		if judgeErr != nil {
			continue
		}
		if judgeErr = judgeBatch(ctx, &opts, batch, result); judgeErr != nil {
			stopReading(judgeErr)
		}
	}
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

// readBatches gathers the source's traces into batches.
func readBatches(ctx context.Context, source SourceFunc, batches chan<- []*trace.Trace) (Reading, error) {
	var batch []*trace.Trace
	spans := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case batches <- batch:
			batch, spans = nil, 0
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	reading, err := source(ctx, func(t *trace.Trace) error {
		batch = append(batch, t)
		spans += len(t.Spans)
		if len(batch) < batchTraces && spans < batchSpans {
			return nil
		}
		return flush()
	})
	return reading, errors.Join(err, flush())
}

// judgeBatch judges the traces of one batch and hands on what violates.
func judgeBatch(ctx context.Context, opts *ScanOptions, batch []*trace.Trace, result *Result) error {
	judged := make([]*trace.Trace, 0, len(batch))
	for _, t := range batch {
		if result.admit(t, opts) {
			judged = append(judged, t)
		}
	}
	verdicts, err := judgeAll(ctx, opts.Rules, judged, opts.Workers)
	if err != nil {
		return err
	}
	var violations []Violation
	for i, t := range judged {
		for _, v := range verdicts[i] {
			result.count(v, t)
			if v.Outcome == rules.Violation {
				violations = append(violations, Violation{Verdict: v, Trace: t})
			}
		}
	}
	result.Traces.Judged += len(judged)
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

// judgeAll returns the verdicts of all rules on each trace. A context that ends
// meanwhile is an error, not a verdict.
func judgeAll(ctx context.Context, rs []*rules.Rule, traces []*trace.Trace, workers int) ([][]rules.Verdict, error) {
	verdicts := make([][]rules.Verdict, len(traces))
	var group errgroup.Group
	group.SetLimit(workers)
	for i, t := range traces {
		group.Go(func() error {
			verdicts[i] = Judge(ctx, rs, t)
			return context.Cause(ctx)
		})
	}
	return verdicts, group.Wait()
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
