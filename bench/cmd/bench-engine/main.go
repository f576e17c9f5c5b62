// Command bench-engine measures how fast batches of traces are judged by rules that were compiled
// together, compared with other engines, and prints a line "name value unit" for each figure. It reports
// progress on standard error.
//
// It uses one core. The two sides of a ratio run in turn on one batch after another, and take turns at
// running first. The least time of each side for each batch counts, so that other load on the machine
// disturbs neither side. A ratio of throughputs above 1 means that the first side is faster. Before the
// measurement the results of both sides are compared.
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
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/betracehq/betrace/bench/batches"
	"github.com/betracehq/betrace/bench/rulesets"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace/columnar"
)

// figures are measured in this order. The figures of a row are measured by the same runs.
var figures = []struct {
	names []string
	run   func(ctx context.Context, b *bench, names []string) error
}{
	{[]string{"one_rule_vs_hand_written", "one_rule_spans_per_second", "one_rule_hand_written_spans_per_second"}, oneRule},
	{[]string{"ten_rules_vs_hand_written", "ten_rules_spans_per_second", "ten_rules_hand_written_spans_per_second"}, tenRules},
	{[]string{"hundred_vs_ten_cost", "hundred_rules_spans_per_second", "hundred_vs_ten_ten_rules_spans_per_second"}, hundredRules},
	{[]string{"thousand_vs_ten_cost", "thousand_rules_spans_per_second", "thousand_vs_ten_ten_rules_spans_per_second"}, thousandRules},
	{[]string{"hundred_rules_vs_cel_go", "hundred_rules_vs_cel_go_spans_per_second", "cel_go_hundred_rules_spans_per_second"}, againstCELGo},
	{[]string{"tree_rules_vs_hand_written", "tree_rules_spans_per_second", "tree_rules_hand_written_spans_per_second"}, treeRules},
	{[]string{"allocs_per_million_spans", "nothing_violated_spans_per_second"}, allocations},
	{[]string{"ten_conditions_vs_ottl", "ten_conditions_spans_per_second", "ottl_ten_conditions_spans_per_second"}, againstOTTL},
}

// mistakeEvery makes one trace in this many do something that a rule forbids, if there is such a rule.
// Rules are meant for systems in which violations are rare.
const mistakeEvery = 200

// bench is one run.
type bench struct {
	repeat  int
	options batches.Options
	rules   map[string][]*rules.Rule
	batches []*columnar.Batch
	spans   int
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
		fmt.Fprintln(os.Stderr, "bench-engine:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	pattern := flag.String("figures", "", "measure only the figures whose names match this regular expression, and those that are measured by the same runs")
	list := flag.Bool("list", false, "print the names of the figures and measure nothing")
	spans := flag.Int("spans", 1_000_000, "minimum number of generated spans; figures from fewer spans are not meaningful")
	seed := flag.Uint64("seed", 1, "seed of the generated traces")
	repeat := flag.Int("repeat", 15, "number of repetitions of each measurement; the least time of each batch counts")
	each := flag.String("each", "", "measure only the cost of each rule of a set by itself, most expensive first: one, ten, hundred, thousand, tree or conditions")
	profile := flag.String("profile", "", "write a CPU profile of all measurements to this file")
	flag.Parse()
	selected, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-figures: %w", err)
	}
	if *spans < 1000 || *repeat < 1 {
		return errors.New("-spans must be at least 1000 and -repeat at least 1")
	}
	runtime.GOMAXPROCS(1)
	b := &bench{repeat: *repeat, options: batches.Options{Seed: *seed, Spans: *spans, MistakeEvery: mistakeEvery}}
	if *each != "" {
		if sets[*each] == nil {
			return fmt.Errorf("-each %s: unknown set", *each)
		}
		return b.eachRule(ctx, *each)
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return fmt.Errorf("-profile: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("-profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	var errs []error
	for _, f := range figures {
		if !slices.ContainsFunc(f.names, selected.MatchString) {
			continue
		}
		if *list {
			fmt.Println(strings.Join(f.names, "\n"))
			continue
		}
		if err := b.prepare(); err != nil {
			return err
		}
		b.progress("measuring %s", f.names[0])
		began := time.Now()
		if err := f.run(ctx, b, f.names); err != nil {
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

// sets are the sets of rules by name.
var sets = map[string]func() []rulesets.Rule{
	"one":        func() []rulesets.Rule { return []rulesets.Rule{rulesets.One} },
	"ten":        func() []rulesets.Rule { return rulesets.Set(10) },
	"hundred":    func() []rulesets.Rule { return rulesets.Set(100) },
	"thousand":   func() []rulesets.Rule { return rulesets.Set(1000) },
	"tree":       func() []rulesets.Rule { return rulesets.Tree },
	"conditions": func() []rulesets.Rule { return rulesets.OfConditions(rulesets.Conditions) },
}

// prepare compiles the rules and generates the traces with all columns that any of them needs. All
// figures use the same batches.
func (b *bench) prepare() error {
	if b.batches != nil {
		return nil
	}
	b.rules = map[string][]*rules.Rule{}
	for name, set := range sets {
		rs, err := rulesets.Compile(set())
		if err != nil {
			return fmt.Errorf("rules %s: %w", name, err)
		}
		b.rules[name] = rs
	}
	began := time.Now()
	b.batches = batches.Make(b.options, b.needs())
	traces := 0
	for _, batch := range b.batches {
		b.spans += batch.NumSpans()
		traces += batch.NumTraces()
	}
	b.progress("%d spans of %d traces in %d batches, generated in %s", b.spans, traces, len(b.batches), time.Since(began).Round(time.Second))
	return nil
}

// needs returns the columns that any of the rules reads.
func (b *bench) needs() (needs columnar.Needs) {
	for _, rs := range b.rules {
		needs = needs.Union(rulesets.Needs(rs))
	}
	return needs
}
