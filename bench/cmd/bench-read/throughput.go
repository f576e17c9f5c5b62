package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/pages"
	"github.com/betracehq/betrace/bench/reading"
	"github.com/betracehq/betrace/bench/slowbucket"
)

// inTurn runs two functions in turn, several times. It returns the medians of their times in seconds, and
// the median ratio of the first to the second within one turn, so that other load on the machine affects
// both.
func (b *bench) inTurn(ctx context.Context, first, second func() error) (firstSeconds, secondSeconds, ratio float64, err error) {
	var firsts, seconds, ratios []float64
	for i := range b.repeat {
		var took [2]float64
		// The functions take turns at running first, because the first may warm caches.
		for k := range 2 {
			which := (i + k) % 2
			run := first
			if which == 1 {
				run = second
			}
			runtime.GC()
			began := time.Now()
			if err := run(); err != nil {
				return 0, 0, 0, err
			}
			if ctx.Err() != nil {
				return 0, 0, 0, context.Cause(ctx)
			}
			took[which] = time.Since(began).Seconds()
		}
		b.progress("  %d of %d: %.2f s and %.2f s", i+1, b.repeat, took[0], took[1])
		firsts, seconds, ratios = append(firsts, took[0]), append(seconds, took[1]), append(ratios, took[0]/took[1])
	}
	return median(firsts), median(seconds), median(ratios), nil
}

func median(of []float64) float64 {
	slices.Sort(of)
	n := len(of)
	return (of[(n-1)/2] + of[n/2]) / 2
}

func fill(ctx context.Context, b *bench) error {
	return b.fillAgainstRaw(ctx, b.a, reading.Full, "")
}

func fillGeneric(ctx context.Context, b *bench) error {
	return b.fillAgainstRaw(ctx, b.b, reading.Full, "_generic")
}

func fillIntrinsic(ctx context.Context, b *bench) error {
	return b.fillAgainstRaw(ctx, b.a, reading.Intrinsic, "_intrinsic")
}

// fillAgainstRaw compares reading a set with decoding the pages of the same columns.
func (b *bench) fillAgainstRaw(ctx context.Context, set func(context.Context) (dataset.Data, error), of func(dataset.Data) (reading.Reading, error), suffix string) error {
	data, err := set(ctx)
	if err != nil {
		return err
	}
	r, err := of(data)
	if err != nil {
		return err
	}
	raw, err := pages.Open(ctx, data.Dir, dataset.Tenant)
	if err != nil {
		return err
	}
	defer raw.Close() //nolint:errcheck // read only
	bytes, columns := raw.Bytes(r.Attributes)
	b.progress("  %d spans in %d blocks; %d columns, %.0f bytes a span", data.Spans, data.Blocks, columns, float64(bytes)/float64(data.Spans))
	decode, read, ratio, err := b.inTurn(ctx,
		func() error { return raw.Decode(ctx, r.Attributes, reading.Cores) },
		readAll(ctx, r, data))
	if err != nil {
		return err
	}
	b.print("fill"+suffix+"_vs_raw_columns", ratio, "ratio")
	b.print("fill"+suffix+"_spans_per_second", float64(data.Spans)/read, "spans/s")
	b.print("raw"+suffix+"_columns_spans_per_second", float64(data.Spans)/decode, "spans/s")
	return nil
}

// readAll reads a whole set.
func readAll(ctx context.Context, r reading.Reading, data dataset.Data) func() error {
	return func() error {
		_, err := r.All(ctx, data)
		return err
	}
}

// objectStorage is the speed of the slow storage in fillSlow.
var objectStorage = slowbucket.Options{Latency: 30 * time.Millisecond, BytesPerSecond: 80e6}

func fillSlow(ctx context.Context, b *bench) error {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	local, err := reading.Full(data)
	if err != nil {
		return err
	}
	slow := local
	slow.Storage = &objectStorage
	_, slowly, ratio, err := b.inTurn(ctx, readAll(ctx, local, data), readAll(ctx, slow, data))
	if err != nil {
		return err
	}
	b.print("fill_slow_storage_vs_local", ratio, "ratio")
	b.print("fill_slow_storage_spans_per_second", float64(data.Spans)/slowly, "spans/s")
	return nil
}

func requests(ctx context.Context, b *bench) error {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	r, err := reading.Full(data)
	if err != nil {
		return err
	}
	r.Storage = &slowbucket.Options{}
	all, err := r.All(ctx, data)
	if err != nil {
		return err
	}
	raw, err := pages.Open(ctx, data.Dir, dataset.Tenant)
	if err != nil {
		return err
	}
	defer raw.Close() //nolint:errcheck // read only
	least, _ := raw.Bytes(r.Attributes)
	b.print("requests_per_block", float64(all.Counts.Requests)/float64(data.Blocks), "requests")
	b.print("bytes_vs_needed_columns", float64(all.Counts.Bytes)/float64(least), "ratio")
	return nil
}

// selective compares the bytes read for a prefilter that few traces match with a full read of the same
// columns.
func selective(ctx context.Context, b *bench) error {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	worst := 0.0
	var seconds []float64
	for _, c := range []struct {
		name, filter string
		attributes   []string // read by the filter
		matches      int
	}{
		{"selective_name_bytes_vs_full", fmt.Sprintf(`{ name = %q }`, dataset.RareName), nil, data.RareNames},
		{
			"selective_dedicated_bytes_vs_full", fmt.Sprintf(`{ span.%s = %q }`, dataset.RareKey, dataset.RareValue),
			[]string{"span." + dataset.RareKey}, data.RareValues,
		},
	} {
		r, err := reading.Full(data)
		if err != nil {
			return err
		}
		r.Attributes = append(r.Attributes, c.attributes...)
		r.Storage = &slowbucket.Options{}
		all, err := r.All(ctx, data)
		if err != nil {
			return err
		}
		r.Filter = c.filter
		some, err := r.Run(ctx)
		if err != nil {
			return err
		}
		if some.Traces < c.matches {
			return fmt.Errorf("%s: %d of %d matching traces were delivered", c.filter, some.Traces, c.matches)
		}
		ratio := float64(some.Counts.Bytes) / float64(all.Counts.Bytes)
		worst = max(worst, ratio)
		seconds = append(seconds, some.Seconds)
		b.progress("  %s: %d traces delivered, %d match; %d requests, %d for all", c.filter, some.Traces, c.matches, some.Counts.Requests, all.Counts.Requests)
		b.print(c.name, ratio, "ratio")
	}
	b.print("selective_bytes_vs_full", worst, "ratio")
	b.print("selective_spans_per_second", float64(data.Spans)/median(seconds), "spans/s")
	return nil
}
