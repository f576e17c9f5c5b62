package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/bench/slowbucket"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/schedulertest"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/tracetest"
)

// interval is the time between two ticks.
const interval = 5 * time.Minute

var begins = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// options returns those of a week of traces of which each is stored at once.
func (b *bench) options(ticks, perTick int) schedulertest.Options {
	return schedulertest.Options{
		Ticks: ticks, Interval: interval,
		Traces: tracetest.Options{Seed: 1, Traces: ticks * perTick, Start: begins, MaxSpans: 100, ViolationRate: 0.01},
	}
}

// swept is the result of a week.
type swept struct {
	ticks, scan slowbucket.Counts
	// idle are the requests of a further tick without new data.
	idle           slowbucket.Counts
	blocks, traces int
}

// sweep sweeps the blocks of a week as they appear, in storage of which each request counts, and scans them once at the
// end.
func (b *bench) sweep(ctx context.Context, o schedulertest.Options) (r swept, err error) {
	dir, err := os.MkdirTemp(b.dir, "week-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o.Dir = filepath.Join(dir, "blocks")
	week := schedulertest.New(o)
	bucket := slowbucket.Open(o.Dir, slowbucket.Options{})
	store := blocks.NewStore(bucket.Bucket, "blocks")
	defer store.Close()
	now := begins
	s, err := newService(ctx, serviceOptions{
		dir: filepath.Join(dir, "state"), store: store, now: func() time.Time { return now }, start: time.Hour,
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.db.Close()) }()
	violations := 0
	for n := 0; ; n++ {
		at, ok, err := week.Next()
		if err != nil {
			return r, err
		}
		if !ok {
			break
		}
		now = at
		if len(week.Written()) == 0 {
			continue
		}
		once, err := s.tick(ctx)
		if err != nil {
			return r, fmt.Errorf("at %s: %w", at, err)
		}
		violations += once.Violations
		if n%288 == 287 {
			b.progress("  %d ticks, %d violations", n+1, violations)
		}
	}
	if o.Replicated != nil { // the last block may not have rested
		now = now.Add(interval)
		if _, err := s.tick(ctx); err != nil {
			return r, err
		}
	}
	r.ticks, r.blocks = bucket.Counts(), len(week.Written())
	now = now.Add(interval)
	if _, err := s.tick(ctx); err != nil {
		return r, err
	}
	r.idle = minus(bucket.Counts(), r.ticks)
	r.scan, r.traces, err = scanOnce(ctx, o.Dir, violations, o.LateBy == 0)
	return r, err
}

func minus(a, b slowbucket.Counts) slowbucket.Counts {
	return slowbucket.Counts{Requests: a.Requests - b.Requests, Listings: a.Listings - b.Listings, Bytes: a.Bytes - b.Bytes}
}

// scanOnce scans all live blocks, as betrace scan does. If the verdicts cannot have changed, it checks the number of
// violations.
func scanOnce(ctx context.Context, dir string, violations int, check bool) (slowbucket.Counts, int, error) {
	bucket := slowbucket.Open(dir, slowbucket.Options{})
	store := blocks.NewStore(bucket.Bucket, "blocks")
	defer store.Close()
	pack, err := rules.Parse("tracetest.yaml", []byte(tracetest.Pack), rules.Options{})
	if err != nil {
		return slowbucket.Counts{}, 0, err
	}
	result, err := analyzer.Scan(ctx, analyzer.ScanOptions{
		Rules: pack.Rules,
		Source: func(ctx context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error) {
			report, err := store.Batches(ctx, blocks.Request{
				Tenant: schedulertest.Tenant, Needs: analyzer.Needs(pack.Rules, nil), Filter: analyzer.Prefilter(pack.Rules),
			}, deliver)
			return report.Reading, err
		},
	})
	if err != nil {
		return slowbucket.Counts{}, 0, err
	}
	found := 0
	for _, c := range result.Rules {
		found += c.Violation
	}
	switch {
	case len(result.Problems) > 0:
		err = errors.New(result.Problems[0].Error())
	case check && found != violations:
		err = fmt.Errorf("the ticks found %d violations, and one scan %d", violations, found)
	}
	return bucket.Counts(), result.Traces.Judged, err
}

// ratio returns the bytes that the ticks read, relative to those of one scan.
func (b *bench) ratio(r swept) float64 {
	b.progress("  %d blocks written, %d traces at the end; ticks read %.1f MB in %d requests, one scan %.1f MB in %d",
		r.blocks, r.traces, float64(r.ticks.Bytes)/1e6, r.ticks.Requests, float64(r.scan.Bytes)/1e6, r.scan.Requests)
	return float64(r.ticks.Bytes) / float64(r.scan.Bytes)
}

func weekBytes(ctx context.Context, b *bench) error {
	r, err := b.sweep(ctx, b.options(b.ticks, b.perTick))
	if err != nil {
		return err
	}
	b.print("week_bytes_vs_one_scan", b.ratio(r), "ratio")
	b.print("idle_tick_reads", float64(r.idle.Requests-r.idle.Listings), "requests")
	b.print("week_requests_per_tick", float64(r.ticks.Requests)/float64(b.ticks), "requests")
	return nil
}

// fewTicks is the number of ticks of 8 hours, or of all of a shorter week.
func (b *bench) fewTicks() int { return min(b.ticks, 8*12) }

func replicatedBytes(ctx context.Context, b *bench) error {
	o := b.options(b.fewTicks(), b.perTick)
	o.Replicated = func(int) bool { return true }
	r, err := b.sweep(ctx, o)
	if err != nil {
		return err
	}
	b.print("replicated_bytes_vs_one_scan", b.ratio(r), "ratio")
	return nil
}

func lateBytes(ctx context.Context, b *bench) error {
	o := b.options(b.fewTicks(), b.perTick)
	o.Traces.Nasty[tracetest.Late] = 0.02
	o.LateBy = 4 * time.Hour
	r, err := b.sweep(ctx, o)
	if err != nil {
		return err
	}
	b.print("late_bytes_vs_one_scan", b.ratio(r), "ratio")
	return nil
}
