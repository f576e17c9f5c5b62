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
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

func (p *program) blocksCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "blocks (--tempo-blocks URL | --tempo-config FILE) [--tenant TENANT] [--rules PATH…]",
		Short: "List the blocks of a tenant, and the cost of reading them",
		Long: `List the live blocks of a tenant: format, compaction level, traces, spans, size, and the times of their spans
(not those of meta.json, which are wrong after late data). With --rules: the bytes of each block that the rules need
(fewer are read if a prefilter excludes traces), the attributes that the rules read and that have no dedicated column
in Tempo, and the bytes that such columns would save.

Exit code: 0 complete, 2 incomplete; standard error lists the blocks that could not be read.`,
		Args: noArguments("use --tempo-blocks for the storage, --rules for packs"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			return p.blocks(cmd, format)
		},
	}
	p.config.addFlags(cmd.Flags())
	cmd.Flags().StringVarP(&format, "output", "o", "table", "`format`: table or json")
	return cmd
}

// blockList is the output of blocks.
type blockList struct {
	Blocks    []blockRow      `json:"blocks"`
	Compacted int             `json:"compacted"`
	Problems  []trace.Problem `json:"problems"`
	// Dedicate counts, for each attribute that the rules read, the blocks in which it has no dedicated
	// column.
	Dedicate map[string]int `json:"worth_a_dedicated_column"`
}

type blockRow struct {
	ID              string `json:"id"`
	Format          string `json:"format"`
	CompactionLevel int    `json:"compaction_level"`
	RowGroups       int    `json:"row_groups"`
	Traces          int    `json:"traces"`
	Spans           int64  `json:"spans"`
	Bytes           int64  `json:"bytes"`
	Needed          int64  `json:"needed_bytes"`
	// Shared is the number of needed bytes that would not be read if the listed attributes had dedicated
	// columns.
	Shared int64  `json:"shared_bytes"`
	From   string `json:"from"`
	To     string `json:"to"`
}

func (p *program) blocks(cmd *cobra.Command, format string) (err error) {
	if format != "table" && format != "json" {
		return fmt.Errorf("--output %q: want table or json", format)
	}
	ctx := cmd.Context()
	store, err := p.config.openBlocks(ctx)
	if err != nil {
		return err
	}
	if store == nil {
		return errors.New("the storage of the blocks is not set: use --tempo-blocks or --tempo-config")
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	needs := columnar.Needs{All: true}
	if paths := p.config.rulePaths(); len(paths) > 0 {
		packs, refused, err := p.loadRules(paths)
		if err != nil {
			return err
		}
		if refused > 0 {
			return exitError{exitFailed}
		}
		var rs []*rules.Rule
		for _, pack := range packs {
			rs = append(rs, pack.Rules...)
		}
		needs = analyzer.Needs(rs, nil)
	}
	listing, err := store.List(ctx, p.config.Tenant)
	if err != nil {
		return err
	}
	list := blockList{Blocks: []blockRow{}, Compacted: len(listing.Compacted), Problems: []trace.Problem{}, Dedicate: map[string]int{}}
	list.Problems = append(list.Problems, listing.Problems...)
	if listing.Unstable {
		list.Problems = append(list.Problems, trace.Problem{What: "the list of blocks", Err: errors.New("blocks were compacted during each of several listings: list again")})
	}
	if err := list.inspect(ctx, store, listing.Live, needs); err != nil {
		return err
	}
	if err := p.printBlocks(&list, format); err != nil {
		return err
	}
	return p.endOfReading(trace.Reading{Problems: list.Problems}, nil)
}

// inspectConcurrency is the number of blocks that are inspected at once.
const inspectConcurrency = 16

// inspect adds the blocks, in their order.
func (l *blockList) inspect(ctx context.Context, store *blocks.Store, live []blocks.Meta, needs columnar.Needs) error {
	infos, errs := make([]blocks.Info, len(live)), make([]error, len(live))
	var group errgroup.Group
	group.SetLimit(inspectConcurrency)
	for i, m := range live {
		group.Go(func() error {
			infos[i], errs[i] = store.Inspect(ctx, m)
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, m := range live {
		if errs[i] != nil {
			l.Problems = append(l.Problems, trace.Problem{What: "block " + m.ID, Err: errs[i]})
			continue
		}
		info := &infos[i]
		row := blockRow{
			ID: m.ID, Format: m.Version, CompactionLevel: m.CompactionLevel, RowGroups: info.RowGroups,
			Traces: m.Traces, Spans: info.Spans, Bytes: info.Bytes, Needed: info.Needed(needs), Shared: info.Shared(needs),
		}
		if !info.Latest.IsZero() {
			row.From, row.To = info.Earliest.UTC().Format(time.RFC3339), info.Latest.UTC().Format(time.RFC3339)
		}
		l.Blocks = append(l.Blocks, row)
		for _, name := range info.Generic(needs) {
			if !isOwn(name) {
				l.Dedicate[name]++
			}
		}
	}
	return nil
}

// isOwn reports whether a name is that of an attribute that a scan reads to recognise its own spans.
func isOwn(name string) bool {
	return slices.ContainsFunc(evidence.OwnAttributes, func(k columnar.AttributeKey) bool { return traceql.Field(k).String() == name })
}

func (p *program) printBlocks(list *blockList, format string) error {
	if format == "json" {
		e := json.NewEncoder(p.stdout)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "BLOCK\tFORMAT\tLEVEL\tTRACES\tSPANS\tMB\tMB NEEDED\tFROM\tTO")
	var sum blockRow
	for _, b := range list.Blocks {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%.1f\t%.1f\t%s\t%s\n", b.ID, b.Format, b.CompactionLevel, b.Traces, b.Spans, float64(b.Bytes)/1e6, float64(b.Needed)/1e6, b.From, b.To)
		sum.Traces += b.Traces
		sum.Spans += b.Spans
		sum.Bytes += b.Bytes
		sum.Needed += b.Needed
		sum.Shared += b.Shared
	}
	fmt.Fprintf(w, "%s, %d compacted\t\t\t%d\t%d\t%.1f\t%.1f\t\t\n", counted(len(list.Blocks), "block"), list.Compacted, sum.Traces, sum.Spans, float64(sum.Bytes)/1e6, float64(sum.Needed)/1e6)
	if err := w.Flush(); err != nil {
		return err
	}
	if len(list.Dedicate) > 0 {
		fmt.Fprintln(p.stdout, "\nWorth a dedicated column (storage.trace.block.parquet_dedicated_columns, or overrides per tenant):")
		for _, name := range slices.Sorted(maps.Keys(list.Dedicate)) {
			fmt.Fprintf(p.stdout, "  %s: has none in %s\n", name, counted(list.Dedicate[name], "block"))
		}
		if sum.Shared > 0 {
			fmt.Fprintf(p.stdout, "With these, %.1f of the %.1f MB needed would not be read.\n", float64(sum.Shared)/1e6, float64(sum.Needed)/1e6)
		} else {
			fmt.Fprintln(p.stdout, "They save nothing while a rule reads all attributes of spans.")
		}
	}
	return nil
}
