package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// Without access to the storage of the blocks, a sweep reads windows of trace start by Tempo's API. Its ledger has no
// blocks. A tick takes place as of a time, its listing: the window up to settle before that time is judged, and the one
// up to recheck before it is judged again. After downtime, ticks follow each other until that time is now.

// Where the storage is accessible, a sweep may read recent traces by the API as well, before their blocks are stored. Such
// a reading changes neither ledger nor coverage. Its violations are provisional, and the judgement of the blocks confirms or
// corrects them like any other.

// APIWindow is a range of trace starts to read: From is inclusive, To is not.
type APIWindow struct {
	From, To time.Time
	// SettledBefore is the time before which a trace must have ended for all its spans to have arrived.
	SettledBefore time.Time
	// Recheck means that it was judged before.
	Recheck bool
	Needs   columnar.Needs
	// Filter, if not nil, selects traces with a matching span; others may be delivered, too.
	Filter *traceql.Filter
}

// ReadWindowFunc reads the traces of a tenant in a window. Parts that cannot be read are problems of the reading.
type ReadWindowFunc func(ctx context.Context, tenant string, w APIWindow, deliver func(*columnar.Batch) error) (trace.Reading, error)

const (
	// maxWindow bounds the time by which one tick moves the watermark.
	maxWindow = time.Hour
	// windowTries is the number of ticks that must fail to read a window completely before the rest of it is a hole.
	windowTries = 3
)

// runWindow is [tick.run] for a sweep that reads by the API.
func (t *tick) runWindow(ctx context.Context) error {
	length := maxWindow
	if within := t.compiled.window; within > 0 {
		length = min(2*within, maxWindow)
	}
	if elapsed := stamp(t.began).Sub(t.readUpTo()); elapsed > 0 {
		length = min(length, elapsed)
	}
	for ; ; length /= 2 {
		err := t.judgeUpTo(ctx, length)
		switch {
		case errors.Is(err, errOverLimit):
			t.log.InfoContext(ctx, "the tick judges a shorter window", "sweep", t.labels()[0], "tenant", t.pass.tenant, "window", length/2, "reason", err)
		case err != nil:
			return err
		default:
			if t.limited {
				t.compiled.window = length
			}
			t.step("tick judged")
			return t.commit(ctx)
		}
	}
}

// readUpTo returns the time as of which the sweep has read, or from which it continues after missed ticks.
func (t *tick) readUpTo() time.Time {
	settle := t.pass.sweeps[0].Settle
	last := t.before.ListedAt
	if last.IsZero() {
		last = t.before.Begins.Add(settle)
	}
	if from := t.catchUpFrom(); !from.IsZero() {
		last = later(last, from.Add(settle))
	}
	return last
}

// judgeUpTo moves the time as of which the sweep has read by at most the length, and judges the windows before it.
func (t *tick) judgeUpTo(ctx context.Context, length time.Duration) error {
	sweep := t.pass.sweeps[0]
	t.holes = nil
	now := stamp(t.began)
	last := t.readUpTo()
	asOf := now
	if t.limited = now.Sub(last) > length; t.limited {
		asOf = last.Add(length)
	}
	t.listing = blocks.Listing{Began: asOf, Ended: asOf}
	var holes []state.Hole
	t.ledger, holes = t.before.Next(t.listing, Options{Retention: t.retention(t.pass.tenant), CompactedRetention: t.compactedRetention})
	t.holes = append(t.holes, holes...)
	t.step("tick listed")

	first := APIWindow{From: later(t.before.Watermark, t.before.Begins), To: asOf.Add(-sweep.Settle)}
	judged := first.From
	if from := t.catchUpFrom(); judged.Before(from) {
		first.From = from
		t.addSkipped(ctx, state.Hole{From: judged, To: from, Reason: HoleSkipped, Subject: fmt.Sprintf("%d ticks were missed", t.missed)})
	}
	windows := []APIWindow{first}
	if sweep.Recheck > 0 {
		again := APIWindow{From: later(t.before.ListedAt.Add(-sweep.Recheck), t.before.Begins), To: asOf.Add(-sweep.Recheck), Recheck: true}
		again.To = earlier(again.To, judged) // what is judged now need not be judged again yet
		windows = append(windows, again)
	}
	windows = slices.DeleteFunc(windows, func(w APIWindow) bool { return !w.From.Before(w.To) })
	if len(windows) > 0 {
		if err := t.judgeWindows(ctx, windows, length > time.Second); err != nil {
			return err
		}
		t.ledger.Frontier = later(t.ledger.Frontier, first.To)
	}
	return nil
}

// runRecent judges traces by the API that started since the last call and are as old as the sweep's Recent. It judges none
// whose settling has passed: the blocks have them. A failure delays nothing but the early verdicts, so that it is only
// reported.
func (s *Service) runRecent(ctx context.Context, p *pass, scheduled time.Time) {
	sweep := p.sweeps[0]
	if s.store == nil || sweep.Recent == 0 {
		return
	}
	now, m := s.now(), s.memoryOf(p)
	w := APIWindow{From: later(m.recent, now.Add(-max(sweep.Settle, 2*sweep.Recent))), To: now.Add(-sweep.Recent)}
	if !w.From.Before(w.To) {
		return
	}
	t := &tick{Service: s, memory: m, pass: p, tenant: evidenceTenant(p.tenant), scheduled: scheduled, isRecent: true}
	if err := t.runRecent(ctx, w); err != nil {
		if ctx.Err() == nil {
			s.metrics.recentFailures.WithLabelValues(t.labels()...).Inc()
			s.log.WarnContext(ctx, "recent traces were not judged; they will be when their blocks are stored", "sweep", t.labels()[0], "tenant", p.tenant, "error", err)
		}
		return
	}
	m.recent = w.To
	if t.judged {
		s.outbox.signal()
		t.reportMetrics(ctx)
	}
}

// runRecent judges the traces of a window, and commits the findings.
func (t *tick) runRecent(ctx context.Context, w APIWindow) error {
	t.began = t.now()
	if err := t.load(ctx); err != nil {
		return err
	}
	t.probes = nil // they must be found in the blocks
	t.ledger = t.before
	t.listing = blocks.Listing{Began: t.began, Ended: t.began}
	if err := t.judgeWindows(ctx, []APIWindow{w}, false); err != nil || !t.windowed {
		return err
	}
	return t.commit(ctx)
}

// judgeWindows reads the traces of windows and judges each trace once. If the windows are divisible, it returns errOverLimit
// above a limit.
func (t *tick) judgeWindows(ctx context.Context, windows []APIWindow, divisible bool) error {
	needs, filter := t.probes.reads(t.rules)
	done, err := t.awaitTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := t.claims.begin(ctx, tenantWork(t.pass.tenant)); err != nil {
		return err
	}
	t.windows = windows
	seen := map[trace.ID]bool{}
	isNew := func(b *columnar.Batch) columnar.Bits {
		bits := make(columnar.Bits, columnar.NumWords(b.NumTraces()))
		for i, id := range b.IDs {
			if !seen[id] {
				seen[id] = true
				bits.Set(int32(i))
			}
		}
		return bits
	}
	read := func(ctx context.Context, deliver func(*columnar.Batch) error) (all trace.Reading, err error) {
		for _, w := range windows {
			w.SettledBefore, w.Needs, w.Filter = t.began, needs, filter
			reading, err := t.readWindow(ctx, t.tenant, w, deliver)
			if err != nil {
				return all, err
			}
			if problems := reading.Problems; len(problems) > 0 {
				if t.isRecent || t.memory.failures < windowTries-1 {
					return all, fmt.Errorf("window %s/%s: %w", w.From.Format(time.RFC3339), w.To.Format(time.RFC3339), problems[0])
				}
				t.holes = append(t.holes, state.Hole{From: w.From, To: w.To, Reason: HoleUnread, Subject: problems[0].Error()})
			}
			all.Problems = append(all.Problems, reading.Problems...)
			all.Skipped += reading.Skipped
		}
		t.step("tick read")
		return all, nil
	}
	holes := len(t.holes)
	t.result, err = analyzer.Scan(ctx, t.scanOptions(read, isNew, divisible))
	if err = t.endScan(err); err != nil {
		t.holes = t.holes[:holes]
		return err
	}
	t.windowed = t.result.Traces.Seen > 0
	return nil
}

// scanOptions returns the options of a scan, without the findings of the one before. If it is divisible, it ends with errOverLimit above a limit.
func (t *tick) scanOptions(read analyzer.SourceFunc, filter func(*columnar.Batch) columnar.Bits, divisible bool) analyzer.ScanOptions {
	t.found, t.violations, t.updated, t.corrections, t.muted = nil, nil, nil, nil, 0
	t.findings = &findings{limit: t.pass.sweeps[0].Limits.Violations, divisible: divisible, most: maxKept, byRule: map[*rules.Rule]*ruleFindings{}}
	t.cappedChanges, t.errorHoles = map[*rules.Rule][]cappedChange{}, map[*rules.Rule]*state.Hole{}
	opts := analyzer.ScanOptions{
		Source: watched(read), Filter: filter, Rules: t.rules, Plan: t.plan(), Tenant: t.tenant, SettledBefore: t.began,
		Circumstances: evidence.Circumstances{Origin: evidence.OriginSweep, Engine: t.engine},
		Found:         t.find, Failed: t.fail, Judged: t.finish,
	}
	limits := t.pass.sweeps[0].Limits
	if limits.Cost > 0 {
		sizes := cmp.Or(t.Service.rules.options.Sizes, lang.DefaultSizes)
		opts.CostSizes = &sizes
	}
	if divisible {
		opts.Check = func(r *analyzer.Result) error {
			have := usage{spans: float64(r.Traces.Spans), cost: r.Cost}
			if t.store == nil { // else the traces are known from the blocks
				have.traces = float64(r.Traces.Seen)
			}
			return limits.exceeded(&have)
		}
	}
	if t.probes != nil {
		clear(t.probes.found)
		opts.Own = t.probes.own
	}
	return opts
}
