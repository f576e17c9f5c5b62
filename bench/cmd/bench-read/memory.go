package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// usage is what a child reports.
type usage struct {
	Spans  int64 `json:"spans"`
	PeakKB int64 `json:"peak_kb"`
}

// runChild reads a folder once and prints the usage.
func runChild(ctx context.Context, dir string) error {
	needs, err := fullNeeds()
	if err != nil {
		return err
	}
	store, err := blocks.OpenFolder(ctx, dir)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // it was only read
	var u usage
	if u.Spans, _, err = read(ctx, store, blocks.Request{Tenant: dataset.Tenant, Needs: needs}); err != nil {
		return err
	}
	if u.PeakKB, err = peakKB(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(u)
}

// peakKB is the most memory that the process had resident.
func peakKB() (int64, error) {
	const path, field = "/proc/self/status", "VmHWM:"
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("peak memory is known on Linux only: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), field); ok {
			var kb int64
			_, err := fmt.Sscanf(rest, "%d kB", &kb)
			return kb, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, field)
}

// peakOf reads a set in processes of their own, in turn with another's if there is one,
// and returns the medians of the MiB they took.
func (b *bench) peakOf(ctx context.Context, sets ...dataset.Data) ([]float64, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	peaks := make([][]float64, len(sets))
	for range b.repeat {
		for i, data := range sets {
			cmd := exec.CommandContext(ctx, program, "-child", data.Dir)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("read %s in a process of its own: %w", data.Dir, err)
			}
			var u usage
			if err := json.Unmarshal(out, &u); err != nil {
				return nil, fmt.Errorf("read %s in a process of its own: %w", data.Dir, err)
			}
			if u.Spans != data.Spans {
				return nil, fmt.Errorf("%d spans were read of %d", u.Spans, data.Spans)
			}
			mib := float64(u.PeakKB) / 1024
			b.progress("  %d spans in %d blocks: %.0f MiB", data.Spans, data.Blocks, mib)
			peaks[i] = append(peaks[i], mib)
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
