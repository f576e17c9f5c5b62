package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/packs"
	"github.com/betracehq/betrace/bench/reading"
	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/rules"
)

// judging returns a reading that is judged by rules, and the same reading without rules.
func judging(data dataset.Data, of func(dataset.Data) (reading.Reading, error), pack *rules.Pack) (scan, fill reading.Reading, err error) {
	if fill, err = of(data); err != nil {
		return scan, fill, err
	}
	scan = fill
	scan.Rules = pack.Rules
	return scan, fill, nil
}

// scanFull compares reading a set and judging all of it by 100 rules with reading alone.
func scanFull(ctx context.Context, b *bench) error {
	return b.scanAgainstFill(ctx, reading.Full, packs.Full, "")
}

func scanIntrinsic(ctx context.Context, b *bench) error {
	return b.scanAgainstFill(ctx, reading.Intrinsic, packs.Intrinsic, "_intrinsic")
}

func (b *bench) scanAgainstFill(ctx context.Context, of func(dataset.Data) (reading.Reading, error), packOf func(int) (*rules.Pack, error), suffix string) error {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	pack, err := packOf(100)
	if err != nil {
		return err
	}
	scan, fill, err := judging(data, of, pack)
	if err != nil {
		return err
	}
	once, err := scan.All(ctx, data)
	if err != nil {
		return err
	}
	b.progress("  %d traces by %d rules: %d verdicts not applicable, %d pass, %d violation, %d error", once.Traces, len(pack.Rules),
		once.Verdicts.NotApplicable, once.Verdicts.Pass, once.Verdicts.Violation, once.Verdicts.Error)
	read, judged, ratio, err := b.inTurn(ctx, readAll(ctx, fill, data), readAll(ctx, scan, data))
	if err != nil {
		return err
	}
	b.print("scan"+suffix+"_vs_fill"+suffix, ratio, "ratio")
	b.print("scan"+suffix+"_spans_per_second", float64(data.Spans)/judged, "spans/s")
	b.print("scan"+suffix+"_fill_spans_per_second", float64(data.Spans)/read, "spans/s")
	return nil
}

// scanManyRules compares 1,000 rules with 10 rules that read the same attributes.
func scanManyRules(ctx context.Context, b *bench) error {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	var readings [2]reading.Reading
	for i, n := range []int{1000, 10} {
		pack, err := packs.Full(n)
		if err != nil {
			return err
		}
		if readings[i], _, err = judging(data, reading.Full, pack); err != nil {
			return err
		}
	}
	many, few, ratio, err := b.inTurn(ctx, readAll(ctx, readings[0], data), readAll(ctx, readings[1], data))
	if err != nil {
		return err
	}
	b.print("thousand_rules_vs_ten", ratio, "ratio")
	b.print("scan_thousand_rules_spans_per_second", float64(data.Spans)/many, "spans/s")
	b.print("scan_ten_rules_spans_per_second", float64(data.Spans)/few, "spans/s")
	return nil
}

// scanAgainstQuery compares judging all spans by 100 rules with Tempo's answer to one structural query on
// the same blocks.
func scanAgainstQuery(ctx context.Context, b *bench) error {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	pack, err := packs.Full(100)
	if err != nil {
		return err
	}
	scan, _, err := judging(data, reading.Full, pack)
	if err != nil {
		return err
	}
	return b.withTempo(ctx, data, func(url string) error {
		_, _, ratio, err := b.inTurn(ctx, readAll(ctx, scan, data), func() error { return structural(ctx, url, data) })
		if err != nil {
			return err
		}
		b.print("scan_vs_one_traceql_query", ratio, "ratio")
		return nil
	})
}

// withTempo runs a Tempo that serves a set's blocks.
func (b *bench) withTempo(ctx context.Context, data dataset.Data, do func(url string) error) (err error) {
	// The folder is beside the data, because hard links cannot cross file systems.
	dir, err := os.MkdirTemp(filepath.Dir(filepath.Dir(data.Dir)), ".query-")
	if err != nil {
		return fmt.Errorf("folder for Tempo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := dataset.Link(data, filepath.Join(dir, "tempo", "blocks")); err != nil {
		return err
	}
	server, err := stack.Start(ctx, stack.Options{Tempo: true, FlushOnly: true, Dir: dir, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	return do(server.TempoURL)
}
