// Command bench-read measures how fast BeTrace reads traces from Tempo's blocks, by its API and from its
// answers by ID, and judges them. It prints a line "name value unit" for each figure, and reports
// progress on standard error.
//
// The two sides of a ratio run in turn in one process on the same two cores; a ratio is the median of
// several repetitions. A ratio of throughputs above 1 means that the first side is faster. A real Tempo
// makes the data sets once; they are kept in the user's cache.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/reading"
)

// figures are measured in this order. The figures of a row are measured by the same runs.
var figures = []struct {
	names []string
	run   func(context.Context, *bench) error
}{
	{[]string{"fill_vs_raw_columns", "fill_spans_per_second", "raw_columns_spans_per_second"}, fill},
	{[]string{"fill_generic_vs_raw_columns", "fill_generic_spans_per_second", "raw_generic_columns_spans_per_second"}, fillGeneric},
	{[]string{"fill_intrinsic_vs_raw_columns", "fill_intrinsic_spans_per_second", "raw_intrinsic_columns_spans_per_second"}, fillIntrinsic},
	{[]string{"scan_vs_fill", "scan_spans_per_second", "scan_fill_spans_per_second"}, scanFull},
	{[]string{"scan_intrinsic_vs_fill_intrinsic", "scan_intrinsic_spans_per_second", "scan_intrinsic_fill_spans_per_second"}, scanIntrinsic},
	{[]string{"thousand_rules_vs_ten", "scan_thousand_rules_spans_per_second", "scan_ten_rules_spans_per_second"}, scanManyRules},
	{[]string{"scan_vs_one_traceql_query"}, scanAgainstQuery},
	{[]string{"fill_slow_storage_vs_local", "fill_slow_storage_spans_per_second"}, fillSlow},
	{[]string{"s3_vs_local", "s3_spans_per_second"}, s3AgainstLocal},
	{[]string{"requests_per_block", "bytes_vs_needed_columns"}, requests},
	{[]string{"selective_bytes_vs_full", "selective_name_bytes_vs_full", "selective_dedicated_bytes_vs_full", "selective_spans_per_second"}, selective},
	{[]string{"peak_rss_mib"}, peak},
	{[]string{"peak_rss_1000_blocks_mib"}, peakManyBlocks},
	{[]string{"peak_rss_4x_vs_1x"}, peakGrowth},
	{[]string{"blocks_vs_one_traceql_query", "traceql_query_seconds", "traceql_query_spans_per_second"}, againstQuery},
	{[]string{"protobuf_fill_vs_tempopb_unmarshal", "protobuf_fill_spans_per_second", "tempopb_unmarshal_spans_per_second"}, fillProtobuf},
	{[]string{"api_vs_naive", "api_traces_per_second", "naive_traces_per_second"}, againstNaive},
}

// bench is one run.
type bench struct {
	spans, repeat int
	a, b          func(context.Context) (dataset.Data, error) // made on first use
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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-read:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if was, err := reading.Child(ctx); was {
		return err
	}
	pattern := flag.String("figures", "", "measure only the figures whose names match this regular expression, and those that are measured by the same runs")
	list := flag.Bool("list", false, "print the names of the figures and measure nothing")
	prepare := flag.Bool("prepare", false, "make the data sets and measure nothing")
	spans := flag.Int("spans", 5_000_000, "minimum number of spans in each data set; figures from fewer spans are not meaningful")
	repeat := flag.Int("repeat", 5, "number of repetitions of each measurement; figures are medians")
	flag.Parse()
	selected, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-figures: %w", err)
	}
	if *spans < 1000 || *repeat < 1 {
		return errors.New("-spans must be at least 1000 and -repeat at least 1")
	}
	// Tempo has the same number of cores.
	runtime.GOMAXPROCS(reading.Cores)
	if err := os.Setenv("GOMAXPROCS", strconv.Itoa(reading.Cores)); err != nil {
		return err
	}
	b := &bench{spans: *spans, repeat: *repeat}
	b.a, b.b = once(dataset.A(*spans)), once(dataset.B(*spans))
	if *prepare {
		for _, makeSet := range []func(context.Context) (dataset.Data, error){b.a, b.b, b.manyBlocks} {
			if _, err := makeSet(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	var errs []error
	for _, f := range figures {
		if !matchesAny(selected, f.names) {
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

func matchesAny(pattern *regexp.Regexp, names []string) bool {
	for _, name := range names {
		if pattern.MatchString(name) {
			return true
		}
	}
	return false
}

// once returns a function that makes a set on its first call.
func once(s dataset.Set) func(context.Context) (dataset.Data, error) {
	var mu sync.Mutex
	var data *dataset.Data
	return func(ctx context.Context) (dataset.Data, error) {
		mu.Lock()
		defer mu.Unlock()
		if data == nil {
			d, err := dataset.Make(ctx, s, os.Stderr)
			if err != nil {
				return dataset.Data{}, err
			}
			data = &d
		}
		return *data, nil
	}
}

// manyBlocks returns A's spans in 1,000 blocks.
func (b *bench) manyBlocks(ctx context.Context) (dataset.Data, error) {
	a, err := b.a(ctx)
	if err != nil {
		return dataset.Data{}, err
	}
	return dataset.Cut(ctx, a, 1000)
}
