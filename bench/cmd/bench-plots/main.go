// Command bench-plots measures how time and memory grow when Tempo's blocks are read, and how time grows
// when the spans are judged. It writes plots and a page that shows them, docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/reading"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-plots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if was, err := reading.Child(ctx); was {
		return err
	}
	spans := flag.Int("spans", 5_000_000, "minimum number of spans in the data set")
	repeat := flag.Int("repeat", 3, "number of measurements of each point; the median is shown")
	only := flag.String("only", "", `"reading" or "judging": measure only this part, and leave the other part of the page unchanged`)
	judged := flag.Int("judged-spans", judgingSpans, "minimum number of spans for each point of judging")
	docs := flag.String("docs", "../docs", "folder in which performance.md and the folder performance/ are written")
	flag.Parse()
	if *spans < 1000 || *repeat < 1 {
		return errors.New("-spans must be at least 1000 and -repeat at least 1")
	}
	if *only != "" && *only != "reading" && *only != "judging" {
		return fmt.Errorf("-only %s: use reading or judging", *only)
	}
	page := filepath.Join(*docs, "performance.md")
	images := filepath.Join(*docs, "performance")
	if err := os.MkdirAll(images, 0o755); err != nil {
		return err
	}
	reads, judges, err := parts(page)
	if err != nil {
		return err
	}
	if *only != "judging" {
		if reads, err = measureReading(ctx, images, *spans, *repeat); err != nil {
			return err
		}
	}
	if *only != "reading" {
		if judges, err = measureJudging(ctx, images, *judged, 3**repeat); err != nil {
			return err
		}
	}
	return writePage(page, reads, judges)
}

// measureReading measures the axes of reading, and draws them.
func measureReading(ctx context.Context, images string, spans, repeat int) (string, error) {
	data, err := dataset.Make(ctx, dataset.A(spans), os.Stderr)
	if err != nil {
		return "", err
	}
	var measured []series
	for _, a := range axes {
		s := series{axis: a}
		points, err := a.points(ctx, data)
		if err != nil {
			return "", fmt.Errorf("%s: %w", a.name, err)
		}
		for _, p := range points {
			if err := p.measure(ctx, repeat); err != nil {
				return "", fmt.Errorf("%s, %s: %w", a.name, p.label, err)
			}
			fmt.Fprintf(os.Stderr, "%s: %s: %.2f s, %.0f MiB, %.0f MB read\n", a.name, p.label, p.seconds, p.mib, p.megabytes)
			s.points = append(s.points, p)
		}
		if len(s.points) == 0 {
			continue
		}
		if err := s.draw(filepath.Join(images, a.name+".svg")); err != nil {
			return "", fmt.Errorf("%s: %w", a.name, err)
		}
		measured = append(measured, s)
	}
	return readingPart(data, repeat, measured), nil
}

// measure fills in the measurements of a point.
func (p *point) measure(ctx context.Context, repeat int) error {
	var seconds, mib, megabytes []float64
	for range repeat {
		r, err := p.reading.Apart(ctx)
		if err != nil {
			return err
		}
		if p.spans > 0 && r.Spans != p.spans {
			return fmt.Errorf("%d of %d spans were read", r.Spans, p.spans)
		}
		seconds, mib, megabytes = append(seconds, r.Seconds), append(mib, r.PeakMiB), append(megabytes, float64(r.Counts.Bytes)/1e6)
	}
	p.seconds, p.mib, p.megabytes = median(seconds), median(mib), median(megabytes)
	return nil
}

func median(of []float64) float64 {
	slices.Sort(of)
	n := len(of)
	return (of[(n-1)/2] + of[n/2]) / 2
}
