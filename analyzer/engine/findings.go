package engine

import (
	"cmp"
	"context"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// These limit the traces with violations or errors that are in memory at a time.
const (
	foundTraces = 256
	foundSpans  = 50_000
)

// findings are the verdicts on a batch: the counts, and the verdicts that the interpreter has to find.
type findings struct {
	rules   []rulePlan
	counts  []Counts // by rule
	pending []pending
	found   []Found
}

// pending is a verdict on a trace that the interpreter has to find: a violation whose clause is known, or any.
type pending struct {
	trace, rule int32
	clause      int32 // of the rule, clauseWhen or clauseUnknown
}

const (
	clauseWhen    = -1
	clauseUnknown = -2
)

func newFindings(p *Plan) findings {
	return findings{rules: p.rules, counts: make([]Counts, len(p.rules))}
}

// begin prepares for a batch.
func (f *findings) begin() {
	clear(f.counts)
	f.pending = f.pending[:0]
}

// countNotApplicable counts traces to which no rule applies, until another verdict is counted.
func (f *findings) countNotApplicable(n int) {
	for i := range f.counts {
		f.counts[i].NotApplicable += n
	}
}

func (f *findings) countPassed(rule, n int) {
	f.counts[rule].Pass += n
	f.counts[rule].NotApplicable -= n
}

// add adds a verdict that the interpreter has to find.
func (f *findings) add(rule int, trace, clause int32) {
	f.counts[rule].NotApplicable--
	f.pending = append(f.pending, pending{trace, int32(rule), clause})
}

// resolve finds the pending verdicts, in order, and delivers violations and errors.
func (f *findings) resolve(ctx context.Context, b *columnar.Batch, workers int, deliver func([]Found) error) error {
	slices.SortFunc(f.pending, func(a, b pending) int { return cmp.Or(cmp.Compare(a.trace, b.trace), cmp.Compare(a.rule, b.rule)) })
	for rest := f.pending; len(rest) > 0; {
		n, numTraces, numSpans := 0, 0, int32(0)
		for n < len(rest) {
			if t := rest[n].trace; n == 0 || t != rest[n-1].trace {
				if numTraces >= foundTraces || numSpans >= foundSpans {
					break
				}
				numTraces++
				numSpans += b.First[t+1] - b.First[t]
			}
			n++
		}
		if err := f.resolveSome(ctx, b, workers, rest[:n], deliver); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (f *findings) resolveSome(ctx context.Context, b *columnar.Batch, workers int, some []pending, deliver func([]Found) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	f.found = slices.Grow(f.found[:0], len(some))[:len(some)]
	var group errgroup.Group
	group.SetLimit(workers)
	for from := 0; from < len(some); {
		to := from + 1
		for to < len(some) && some[to].trace == some[from].trace {
			to++
		}
		of, out := some[from:to], f.found[from:to]
		group.Go(func() error {
			view := b.Trace(int(of[0].trace))
			sizes := lang.SizesOf(view)
			for i, p := range of {
				out[i] = Found{Trace: int(p.trace), Rule: int(p.rule), View: view, Verdict: f.verdict(ctx, p, view, sizes)}
			}
			return context.Cause(ctx)
		})
		from = to
	}
	if err := group.Wait(); err != nil {
		return err
	}
	kept := f.found[:0]
	for _, found := range f.found {
		f.counts[found.Rule].Add(found.Verdict.Outcome)
		if found.Verdict.Outcome == rules.Violation || found.Verdict.Outcome == rules.Error {
			kept = append(kept, found)
		}
	}
	defer clear(f.found)
	if len(kept) == 0 {
		return nil
	}
	return deliver(kept)
}

// verdict finds a pending verdict.
func (f *findings) verdict(ctx context.Context, p pending, view *trace.Trace, sizes lang.Sizes) rules.Verdict {
	r := &f.rules[p.rule]
	switch p.clause {
	case clauseUnknown:
		return r.rule.JudgeSized(ctx, view, sizes)
	case clauseWhen:
		return r.rule.Violated(ctx, view, rules.ClauseWhen, sizes)
	}
	return r.rule.Violated(ctx, view, r.clauses[p.clause].name, sizes)
}
