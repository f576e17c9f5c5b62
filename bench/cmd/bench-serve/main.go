// Command bench-serve measures the cost of the service (betrace serve): the data that it reads, the time of a tick, the
// speed of deliveries and of a restart. It prints a line "name value unit" for each figure, and reports progress on
// standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// figures are measured in this order. The figures of a row are measured by the same runs.
var figures = []struct {
	names []string
	run   func(context.Context, *bench) error
}{
	{[]string{"week_bytes_vs_one_scan", "idle_tick_reads", "week_requests_per_tick"}, weekBytes},
	{[]string{"replicated_bytes_vs_one_scan"}, replicatedBytes},
	{[]string{"late_bytes_vs_one_scan"}, lateBytes},
	{[]string{"tick_overhead_ms", "tick_commit_ms"}, tickOverhead},
	{[]string{"violations_per_second_delivered"}, delivery},
	{[]string{"listing_10000_blocks_seconds", "listing_10000_blocks_tick_rss_mib"}, listing},
	{[]string{"idle_1000_sweeps_cores", "idle_1000_sweeps_rss_mib", "idle_database_writes_per_minute"}, idle},
	{[]string{"restart_seconds", "restart_first_tick_seconds"}, restart},
}

// bench is one run.
type bench struct {
	dir        string // for temporary files
	betrace    string // the program
	ticks      int
	perTick    int // traces
	overhead   int // ticks
	violations int // of the state that is restarted
	delivered  int // traces with violations that are delivered
	repeat     int // of the restart
	idle       time.Duration
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// print prints a figure.
func (b *bench) print(name string, value float64, unit string) {
	digits := 3
	if value >= 1000 {
		digits = 0
	}
	fmt.Println(name, strconv.FormatFloat(value, 'f', digits, 64), unit)
}

func median(of []float64) float64 {
	slices.Sort(of)
	n := len(of)
	return (of[(n-1)/2] + of[n/2]) / 2
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-serve:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	pattern := flag.String("figures", "", "measure only the figures whose names match this regular expression, and those that are measured by the same runs")
	list := flag.Bool("list", false, "print the names of the figures and measure nothing")
	b := &bench{}
	flag.StringVar(&b.betrace, "betrace", "../bin/betrace", "the program betrace, for the restart")
	flag.IntVar(&b.ticks, "ticks", 7*24*12, "number of ticks of the week; figures from fewer are not meaningful")
	flag.IntVar(&b.perTick, "traces", 300, "number of traces that are stored between two ticks, of 22 spans on average")
	flag.IntVar(&b.overhead, "overhead-ticks", 300, "number of ticks for the overhead")
	flag.IntVar(&b.delivered, "delivered", 20_000, "number of traces with violations for the deliveries")
	flag.IntVar(&b.violations, "violations", 1_000_000, "number of violations in the state that is opened at a restart")
	flag.IntVar(&b.repeat, "repeat", 5, "number of restarts; figures are medians")
	flag.DurationVar(&b.idle, "idle", 15*time.Minute, "time for which sweeps without new data are measured")
	flag.Parse()
	selected, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-figures: %w", err)
	}
	if b.ticks < 24 || b.overhead < 24 || b.perTick < 1 || b.delivered < 20 || b.violations < 1 || b.repeat < 1 {
		return errors.New("-ticks and -overhead-ticks must be at least 24, -delivered at least 20, and the others at least 1")
	}
	if b.betrace, err = filepath.Abs(b.betrace); err != nil {
		return err
	}
	// The cache folder is on a disk, but the folder for temporary files may be in memory.
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(cache, "betrace"), 0o750); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(filepath.Join(cache, "betrace"), "bench-serve-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	var errs []error
	for _, f := range figures {
		if !slices.ContainsFunc(f.names, selected.MatchString) {
			continue
		}
		if *list {
			fmt.Println(strings.Join(f.names, "\n"))
			continue
		}
		b.progress("measuring %s", f.names[0])
		began := time.Now()
		if err := f.run(ctx, b); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			errs = append(errs, fmt.Errorf("%s: %w", f.names[0], err))
			b.progress("%s: not measured: %v", f.names[0], err)
			continue
		}
		b.progress("measured in %s", time.Since(began).Round(time.Second))
	}
	return errors.Join(errs...)
}
