package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/schedulertest"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// delivery measures the time from the first message to a real Tempo and Loki until both have returned every violation.
func delivery(ctx context.Context, b *bench) (err error) {
	dir, err := os.MkdirTemp(b.dir, "delivery-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// One entry for each block of about a thousand traces.
	ticks := max(b.delivered/1000, 1)
	o := b.options(ticks, b.delivered/ticks)
	o.Traces.MaxSpans, o.Traces.ViolationRate = 20, 1
	o.Traces.Start = time.Now().UTC().Add(-time.Duration(ticks+1) * interval)
	o.Dir = filepath.Join(dir, "blocks")
	for week := schedulertest.New(o); ; {
		if _, ok, err := week.Next(); err != nil {
			return err
		} else if !ok {
			break
		}
	}
	store, err := blocks.Open(ctx, "file://"+filepath.ToSlash(o.Dir))
	if err != nil {
		return err
	}
	defer store.Close()
	servers, err := stack.Start(ctx, stack.Options{Tempo: true, Loki: true, Dir: filepath.Join(dir, "stack"), Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, servers.Stop()) }()
	sinks, closeSinks, err := realSinks(servers)
	if err != nil {
		return err
	}
	defer closeSinks()
	var mu sync.Mutex
	var first time.Time
	s, err := newService(ctx, serviceOptions{
		dir: filepath.Join(dir, "state"), store: store, now: time.Now, start: 48 * time.Hour, limits: scheduler.Limits{Blocks: 1},
		sinks: func(string) ([]sink.EntrySink, error) { return sinks, nil }, sinkNames: []string{"tempo", "loki"},
		step: func(name string) {
			mu.Lock()
			defer mu.Unlock()
			if name == "delivery marked" && first.IsZero() {
				first = time.Now()
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.db.Close()) }()
	once, err := s.Once(ctx, 10*time.Minute)
	if err != nil {
		return err
	}
	took := time.Since(first)
	refused, err := s.db.RefusedItems(ctx)
	if err != nil {
		return err
	}
	depths, err := s.db.Outbox(ctx)
	switch {
	case err != nil:
		return err
	case len(once.Problems) > 0:
		return errors.New(once.Problems[0])
	case len(refused)+len(depths) > 0:
		return fmt.Errorf("%d items were refused, and these were not delivered: %v", len(refused), depths)
	}
	b.progress("  %d violations of %d entries were sent to both and read back in %s", once.Violations, once.Ticks, took.Round(time.Millisecond))
	b.print("violations_per_second_delivered", float64(once.Violations)/took.Seconds(), "violations/s")
	return nil
}

// realSinks returns the sinks as betrace serve makes them.
func realSinks(servers *stack.Stack) (sinks []sink.EntrySink, closeAll func(), err error) {
	client, err := tempoclient.New(tempoclient.Config{URL: servers.TempoURL, GRPCAddr: servers.TempoGRPC})
	if err != nil {
		return nil, nil, err
	}
	writer, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: servers.OTLPGRPC, Access: tempoclient.Access{PlainText: true}})
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	closeAll = func() {
		writer.Close()
		client.Close()
	}
	loki, err := sink.NewLoki(sink.LokiConfig{URL: servers.LokiURL})
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	tempo := &sink.Tempo{
		Export: writer.Export, Read: client.Trace, NotFound: tempoclient.ErrNotFound, Search: client.Select, LimitRefused: tempoclient.ErrSearchLimit,
	}
	return []sink.EntrySink{tempo, loki}, closeAll, nil
}
