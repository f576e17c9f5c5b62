package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/scheduler/schedulertest"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// noSinks are sinks that hold everything.
func noSinks(string) ([]sink.EntrySink, error) {
	return []sink.EntrySink{heldBy("tempo"), heldBy("loki")}, nil
}

// heldBy is the name of a sink that stores nothing and claims to have everything.
type heldBy string

// Name implements sink.EntrySink.
func (h heldBy) Name() string { return string(h) }

// Takes implements sink.EntrySink.
func (h heldBy) Takes(kind string) bool { return h == "loki" || kind != sink.KindStatement }

// Send implements sink.EntrySink.
func (h heldBy) Send(context.Context, []sink.Item) error { return nil }

// Held implements sink.EntrySink.
func (h heldBy) Held(_ context.Context, _ string, items []sink.Item) (map[string]bool, error) {
	held := map[string]bool{}
	for _, item := range items {
		held[item.ID] = true
	}
	return held, nil
}

// tickOverhead measures whole ticks, from their beginning to the end of the commit. Each judges a block of three traces,
// so that nearly all of the time is that of the tick itself.
func tickOverhead(ctx context.Context, b *bench) (err error) {
	dir, err := os.MkdirTemp(b.dir, "overhead-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o := b.options(b.overhead, 3)
	o.Traces.ViolationRate = 0.3
	o.Dir = filepath.Join(dir, "blocks")
	week := schedulertest.New(o)
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return err
	}
	store, err := blocks.Open(ctx, "file://"+filepath.ToSlash(o.Dir))
	if err != nil {
		return err
	}
	defer store.Close()
	// The clock advances during a tick, so that deliveries are read back.
	now, since := begins, time.Now()
	at := map[string]time.Time{} // the last time of each step
	s, err := newService(ctx, serviceOptions{
		dir: filepath.Join(dir, "state"), store: store, now: func() time.Time { return now.Add(time.Since(since)) }, start: time.Hour,
		sinks: noSinks, sinkNames: []string{"tempo", "loki"}, step: func(name string) { at[name] = time.Now() },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.db.Close()) }()
	names := []string{"tick listed", "tick read", "tick judged", "tick in commit", "tick committed"}
	parts := make([][]float64, len(names))
	var whole, commits []float64
	for n := 1; ; n++ {
		next, ok, err := week.Next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if len(week.Written()) == 0 {
			continue
		}
		clear(at)
		now, since = next, time.Now()
		began := time.Now()
		if _, err := s.Once(ctx, time.Nanosecond); err != nil { // the deliveries stay in the state
			return err
		}
		if at["tick read"].IsZero() { // no trace was stored
			continue
		}
		last := began
		for i, name := range names {
			parts[i] = append(parts[i], milliseconds(at[name].Sub(last)))
			last = at[name]
		}
		whole = append(whole, milliseconds(last.Sub(began)))
		commits = append(commits, milliseconds(last.Sub(at["tick judged"])))
	}
	for i, name := range names {
		b.progress("  median until %q: %.2f ms", name, median(parts[i]))
	}
	b.print("tick_overhead_ms", median(whole), "ms")
	b.print("tick_commit_ms", median(commits), "ms")
	return nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
