package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

func (p *program) countCommand() *cobra.Command {
	var f selectionFlags
	var by, format string
	cmd := &cobra.Command{
		Use:   "count --query TRACEQL (--since 1h | --from T --to T | --traces FILE…)",
		Short: "Count the traces that match a query, exactly",
		Long: `Count the traces that match a query, exactly: each trace once, whole, in the hour or day (UTC) in which it
starts. Exit code: 0 complete, 2 incomplete; standard error lists the parts that were not read.`,
		Args: noArguments("use --traces for files; repeat the flag, or separate names by commas"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			return p.count(cmd, f, by, format)
		},
	}
	p.config.addFlags(cmd.Flags())
	f.add(cmd, "count")
	cmd.Flags().StringVar(&by, "by", "hour", "count by `unit`: hour, day or total")
	cmd.Flags().StringVarP(&format, "output", "o", "table", "`format`: table or json")
	return cmd
}

// counting is the output of count.
type counting struct {
	Result       trace.Completeness  `json:"result"`
	Basis        string              `json:"basis"`
	Problems     []trace.Problem     `json:"problems"`
	SecondSearch *trace.SecondSearch `json:"second_search,omitempty"`
	Files        *filesSummary       `json:"files,omitempty"`
	Traces       int                 `json:"traces"`
	Spans        int                 `json:"spans"`
	By           []bucket            `json:"by"`
}

type bucket struct {
	Start  string `json:"start"`
	Traces int    `json:"traces"`
	Spans  int    `json:"spans"`
}

// units are the values of --by: the length of a bucket, where 0 means all time, and the format of its start.
var units = map[string]struct {
	length time.Duration
	layout string
}{"hour": {time.Hour, "2006-01-02T15:00Z"}, "day": {24 * time.Hour, time.DateOnly}, "total": {}}

func (p *program) count(cmd *cobra.Command, f selectionFlags, by, format string) (err error) {
	unit, ok := units[by]
	if !ok {
		return fmt.Errorf("--by %q: want hour, day or total", by)
	}
	if format != "table" && format != "json" {
		return fmt.Errorf("--output %q: want table or json", format)
	}
	s, err := p.selectTraces(cmd.Context(), cmd, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	c := counting{Problems: []trace.Problem{}, By: []bucket{}}
	buckets := map[trace.Time]*bucket{} // by the start of the unit
	reading, err := s.each(cmd.Context(), columnar.Needs{}, func(batch *columnar.Batch, t int) error {
		first := batch.First[t]
		spans := int(batch.First[t+1] - first)
		c.Traces++
		c.Spans += spans
		at := trace.Time(0)
		if unit.length > 0 {
			at = batch.Starts[first] - batch.Starts[first]%trace.Time(unit.length)
		}
		b := buckets[at]
		if b == nil {
			b = &bucket{Start: at.Time().Format(unit.layout)}
			buckets[at] = b
		}
		b.Traces++
		b.Spans += spans
		return nil
	})
	c.Basis, c.Problems, c.SecondSearch = reading.Basis, append(c.Problems, reading.Problems...), reading.SecondSearch
	c.Files = filesOf(&reading)
	c.Result = reading.Completeness()
	for _, at := range slices.Sorted(maps.Keys(buckets)) {
		c.By = append(c.By, *buckets[at])
	}
	if err != nil && nothingRead(&reading, c.Traces) && format == "table" {
		return p.endOfReading(reading, err)
	}
	if err := p.printCount(c, by, format); err != nil {
		return err
	}
	return p.endOfReading(reading, err)
}

func (p *program) printCount(c counting, by, format string) error {
	if format == "json" {
		e := json.NewEncoder(p.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(c)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	if by != "total" {
		fmt.Fprintf(w, "%s\tTRACES\tSPANS\n", map[string]string{"hour": "HOUR", "day": "DAY"}[by])
		for _, b := range c.By {
			fmt.Fprintf(w, "%s\t%d\t%d\n", b.Start, b.Traces, b.Spans)
		}
	}
	fmt.Fprintf(w, "total\t%d\t%d\n%s, by %s\n", c.Traces, c.Spans, c.Result, c.Basis)
	if c.Files.remarkable() {
		fmt.Fprintln(w, c.Files)
	}
	if c.SecondSearch != nil {
		fmt.Fprintln(w, secondSearchLine(c.SecondSearch))
	}
	return w.Flush()
}

// each delivers every selected trace that matches the query, as trace t of a batch. Without a query it delivers
// all selected traces.
func (s *selection) each(ctx context.Context, needs columnar.Needs, deliver func(b *columnar.Batch, t int) error) (trace.Reading, error) {
	filter := traceql.All
	if s.query != nil {
		filter = s.query
		needs = needs.Union(filter.Needs())
	}
	query := filter.OnBatches()
	var match columnar.Bits
	reading, err := s.read(ctx, needs, filter, func(b *columnar.Batch) error {
		match = query.SelectTraces(b, match)
		for t := range b.NumTraces() {
			if !match.Has(int32(t)) {
				continue
			}
			if err := deliver(b, t); err != nil {
				return err
			}
		}
		return nil
	})
	s.progress.done()
	if err != nil {
		reading.AddProblem("the reading ended early", err)
	}
	return reading, err
}

// nothingRead reports whether a reading that delivered a number of traces read none at all. If it also failed,
// only the error is printed, because a table of zeros would look like a result.
func nothingRead(r *trace.Reading, traces int) bool {
	return traces == 0 && r.OutsideRange == 0 && r.Skipped == 0
}

// endOfReading prints the warnings and problems of a reading to standard error, and returns the error with which
// the program ends.
func (p *program) endOfReading(reading trace.Reading, err error) error {
	for _, warning := range reading.Warnings {
		fmt.Fprintln(p.stderr, "warning:", oneLine(warning))
	}
	const most = 10
	for i, problem := range reading.Problems {
		if i == most {
			fmt.Fprintf(p.stderr, "betrace: and %d more\n", len(reading.Problems)+reading.MoreProblems-most)
			break
		}
		fmt.Fprintln(p.stderr, "betrace:", problemLine(problem))
	}
	if err != nil || len(reading.Problems) > 0 || reading.Skipped > 0 {
		return exitError{exitFailed}
	}
	return nil
}
