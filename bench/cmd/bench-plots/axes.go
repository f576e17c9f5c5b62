package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/reading"
	"github.com/betracehq/betrace/bench/slowbucket"
)

// axis is a parameter that grows.
type axis struct {
	name, title, unit string
	logarithmic       bool
	text              string
	points            func(ctx context.Context, d dataset.Data) ([]point, error)
}

// point is one reading of an axis with its measurements.
type point struct {
	x       float64
	label   string
	reading reading.Reading
	spans   int64 // expected; 0: not known

	seconds, mib, megabytes float64
}

// series is an axis with its measured points.
type series struct {
	axis
	points []point
}

var axes = []axis{
	{
		"spans", "Spans", "million spans", false,
		"The first blocks of the data set, from 1 to all. Time grows with the number of spans, memory does not.",
		bySpans,
	},
	{
		"blocks", "Blocks", "blocks", true,
		"The same spans in more and smaller blocks, each of which ranges over nearly all trace IDs.",
		byBlocks,
	},
	{
		"columns", "Attributes needed", "attributes", false,
		"The first 8 attributes have dedicated columns, the others are generic. The first generic attribute costs most, because the key-value rows of all attributes are read for it.",
		byColumns,
	},
	{
		"selectivity", "Traces that match the prefilter", "% of traces", true,
		"Filters on a name, a dedicated column and a generic attribute. The bytes read show how much was skipped.",
		bySelectivity,
	},
	{
		"cores", "Cores", "cores", false,
		"One process with this number of cores.",
		byCores,
	},
	{
		"latency", "Latency of the storage", "ms a request", false,
		"The latency is the time from a request to its first byte. A stream delivers 80 MB/s.",
		byLatency,
	},
}

// counted is storage that counts requests and is not slowed down.
var counted = &slowbucket.Options{}

func bySpans(ctx context.Context, d dataset.Data) (points []point, err error) {
	for _, n := range []int{1, 2, 3, 6, 9, 12} {
		part := d
		if n < d.Blocks {
			if part, err = dataset.Part(ctx, d, n); err != nil {
				return nil, err
			}
		}
		r, err := reading.Full(part)
		if err != nil {
			return nil, err
		}
		r.Storage = counted
		million := float64(part.Spans) / 1e6
		points = append(points, point{x: million, label: fmt.Sprintf("%.2f million", million), reading: r, spans: part.Spans})
	}
	return points, nil
}

func byBlocks(ctx context.Context, d dataset.Data) (points []point, err error) {
	for _, n := range []int{12, 50, 200, 1000} {
		cut := d
		if n > d.Blocks {
			if cut, err = dataset.Cut(ctx, d, n); err != nil {
				return nil, err
			}
		}
		r, err := reading.Full(cut)
		if err != nil {
			return nil, err
		}
		r.Storage = counted
		points = append(points, point{x: float64(n), label: fmt.Sprint(n), reading: r, spans: cut.Spans})
	}
	return points, nil
}

func byColumns(_ context.Context, d dataset.Data) (points []point, err error) {
	all := slices.Concat(dataset.Dedicated, dataset.Generic)
	for _, n := range []int{0, 1, 4, 8, 9, 12, 16, 20} {
		r := reading.Reading{Dir: d.Dir, Attributes: all[:n], Storage: counted}
		points = append(points, point{x: float64(n), label: fmt.Sprint(n), reading: r, spans: d.Spans})
	}
	return points, nil
}

func bySelectivity(_ context.Context, d dataset.Data) (points []point, err error) {
	share := func(traces int) float64 { return 100 * float64(traces) / float64(d.Traces) }
	for _, f := range []struct {
		percent    float64
		filter     string
		attributes []string
	}{
		{share(d.RareNames), fmt.Sprintf(`{ name = %q }`, dataset.RareName), nil},
		{share(d.RareValues), fmt.Sprintf(`{ span.%s = %q }`, dataset.RareKey, dataset.RareValue), []string{"span." + dataset.RareKey}},
		{0.1, `{ span.user.id =~ "user-0042." }`, []string{"span.user.id"}},
		{1, `{ span.user.id =~ "user-004.." }`, []string{"span.user.id"}},
		{100. / 7, `{ span.customer.tier = "enterprise" }`, []string{"span.customer.tier"}},
		{44, fmt.Sprintf(`{ name = %q }`, dataset.NameAbove), nil},
		{100, "", nil},
	} {
		r, err := reading.Full(d)
		if err != nil {
			return nil, err
		}
		r.Attributes, r.Filter, r.Storage = append(r.Attributes, f.attributes...), f.filter, counted
		label := fmt.Sprintf("%.3g: all", f.percent)
		if f.filter != "" {
			label = fmt.Sprintf("%.3g: `%s`", f.percent, f.filter)
		}
		points = append(points, point{x: f.percent, label: label, reading: r})
	}
	return points, nil
}

func byCores(_ context.Context, d dataset.Data) (points []point, err error) {
	for n := 1; n <= runtime.NumCPU(); n *= 2 {
		r, err := reading.Full(d)
		if err != nil {
			return nil, err
		}
		r.Cores, r.Storage = n, counted
		points = append(points, point{x: float64(n), label: fmt.Sprint(n), reading: r, spans: d.Spans})
	}
	return points, nil
}

func byLatency(_ context.Context, d dataset.Data) (points []point, err error) {
	for _, ms := range []int{0, 10, 30, 60, 100} {
		r, err := reading.Full(d)
		if err != nil {
			return nil, err
		}
		r.Storage = &slowbucket.Options{Latency: time.Duration(ms) * time.Millisecond, BytesPerSecond: 80e6}
		points = append(points, point{x: float64(ms), label: fmt.Sprint(ms), reading: r, spans: d.Spans})
	}
	return points, nil
}
