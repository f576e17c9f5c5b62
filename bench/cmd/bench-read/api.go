package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/packs"
	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// The traces for reading by the API, and the age that they must have: younger traces are always read by
// ID.
const (
	recentTraces = 2000
	recentFor    = 50 * time.Second
	recentAge    = 65 * time.Second
	recentCut    = 40 * time.Second // from sending until search finds the trace
)

// againstNaive compares reading recent traces by the API source with the naive method: a search with the
// same prefilter, then each trace by its ID, with the fastest concurrency.
func againstNaive(ctx context.Context, b *bench) (err error) {
	server, err := stack.Start(ctx, stack.Options{Tempo: true, Profile: stack.Default, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	pack, err := packs.Full(100)
	if err != nil {
		return err
	}
	filters := make([]*traceql.Filter, len(pack.Rules))
	for i, r := range pack.Rules {
		filters[i] = r.Prefilter()
	}
	from := time.Now().Add(-recentFor - time.Minute)
	spans, err := dataset.SendRecent(ctx, server, recentTraces, from, recentFor)
	if err != nil {
		return err
	}
	api := recent{server: server, request: tempoclient.Request{From: from, To: from.Add(recentFor), Filter: traceql.Or(filters...), Needs: packs.Needs(pack)}}
	for _, name := range packs.Names(api.request.Needs) {
		// All attributes of the generator have plain values.
		api.plain = append(api.plain, name[strings.Index(name, ".")+1:])
	}
	ready := max(time.Until(from.Add(recentFor+recentAge)), recentCut)
	b.progress("  %d traces with %d spans in all were sent; waiting %s until Tempo can search them", recentTraces, spans, ready.Round(time.Second))
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(ready):
	}
	naive := api
	naive.request.Needs = columnar.Needs{All: true}
	part := naive
	part.request.To = from.Add(recentFor / 10)
	part.maxTraceDuration = time.Second // bounds the part that is searched and read
	best := 0.0
	for _, concurrency := range []int{2, 4, 8} {
		part.concurrency = concurrency
		began := time.Now()
		report, err := part.read(ctx)
		if err != nil {
			return err
		}
		rate := float64(report.Delivered+report.OutsideRange) / time.Since(began).Seconds()
		b.progress("  each by its ID, %d at a time: %.1f traces/s", concurrency, rate)
		if rate > best {
			best, naive.concurrency = rate, concurrency
		}
	}
	var byAPI, byID tempoclient.Report
	apiSeconds, naiveSeconds, ratio, err := b.inTurn(ctx,
		func() (err error) { byAPI, err = api.read(ctx); return err },
		func() (err error) { byID, err = naive.read(ctx); return err })
	if err != nil {
		return err
	}
	if byAPI.Delivered != byID.Delivered || byID.Delivered == 0 {
		return fmt.Errorf("the API source returned %d traces, reading by ID %d", byAPI.Delivered, byID.Delivered)
	}
	b.progress("  %d of %d traces match, %d spans in all; by search %d, by ID %d %v; naive: %d at a time",
		byID.Delivered, recentTraces, spans, byAPI.BySearch, byAPI.ByID, byAPI.ByIDWhy, naive.concurrency)
	b.print("api_vs_naive", 1/ratio, "ratio")
	b.print("api_traces_per_second", float64(byAPI.Delivered)/apiSeconds, "traces/s")
	b.print("naive_traces_per_second", float64(byID.Delivered)/naiveSeconds, "traces/s")
	return nil
}

// recent is a reading of the sent traces.
type recent struct {
	server  *stack.Stack
	request tempoclient.Request
	plain   []string
	// If 0, concurrency and maxTraceDuration have the client's defaults.
	concurrency      int
	maxTraceDuration time.Duration
}

func (r recent) read(ctx context.Context) (report tempoclient.Report, err error) {
	client, err := tempoclient.New(tempoclient.Config{URL: r.server.TempoURL, GRPCAddr: r.server.TempoGRPC, PlainAttributes: r.plain, Concurrency: r.concurrency, MaxTraceDuration: r.maxTraceDuration})
	if err != nil {
		return report, err
	}
	defer client.Close()
	report, err = client.Traces(ctx, r.request, func(*trace.Trace) error { return nil })
	if err == nil && len(report.Problems) > 0 {
		err = fmt.Errorf("%s: %w", report.Problems[0].What, report.Problems[0].Err)
	}
	return report, err
}
