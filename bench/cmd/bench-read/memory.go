package main

import (
	"context"
	"fmt"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/reading"
)

// peakOf reads the sets in turn, each in a process of its own. It returns the median peak memory for each
// set, in MiB.
func (b *bench) peakOf(ctx context.Context, sets ...dataset.Data) ([]float64, error) {
	peaks := make([][]float64, len(sets))
	for range b.repeat {
		for i, data := range sets {
			full, err := reading.Full(data)
			if err != nil {
				return nil, err
			}
			r, err := full.Apart(ctx)
			if err != nil {
				return nil, err
			}
			if r.Spans != data.Spans {
				return nil, fmt.Errorf("%d of %d spans were read", r.Spans, data.Spans)
			}
			b.progress("  %d spans in %d blocks: %.0f MiB, %.2f s", data.Spans, data.Blocks, r.PeakMiB, r.Seconds)
			peaks[i] = append(peaks[i], r.PeakMiB)
		}
	}
	medians := make([]float64, len(sets))
	for i, p := range peaks {
		medians[i] = median(p)
	}
	return medians, nil
}

func peak(ctx context.Context, b *bench) error {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	mib, err := b.peakOf(ctx, data)
	if err != nil {
		return err
	}
	b.print("peak_rss_mib", mib[0], "MiB")
	return nil
}

func peakManyBlocks(ctx context.Context, b *bench) error {
	data, err := b.manyBlocks(ctx)
	if err != nil {
		return err
	}
	mib, err := b.peakOf(ctx, data)
	if err != nil {
		return err
	}
	b.print("peak_rss_1000_blocks_mib", mib[0], "MiB")
	return nil
}

func peakGrowth(ctx context.Context, b *bench) error {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	quarter, err := dataset.Part(ctx, data, data.Blocks/4)
	if err != nil {
		return err
	}
	mib, err := b.peakOf(ctx, data, quarter)
	if err != nil {
		return err
	}
	b.print("peak_rss_4x_vs_1x", mib[0]/mib[1], "ratio")
	return nil
}
