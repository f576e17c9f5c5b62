package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/packs"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/tempoclient/traceql"
)

// read reads what the request asks for, and returns how many spans were delivered.
func read(ctx context.Context, store *blocks.Store, req blocks.Request) (spans int64, report blocks.Report, err error) {
	report, err = store.Traces(ctx, req, func(t *trace.Trace) error {
		spans += int64(len(t.Spans))
		return nil
	})
	if err == nil && len(report.Problems) > 0 {
		err = fmt.Errorf("%s was not read: %w", report.Problems[0].What, report.Problems[0].Err)
	}
	return spans, report, err
}

// matching is a request for the traces that a prefilter may match.
func matching(blocks.Request, *traceql.Filter) (blocks.Request, error) {
	return blocks.Request{}, errors.New("the block source takes no prefilter yet")
}

// readAll reads all of a set's traces, and makes sure that these are all.
func readAll(ctx context.Context, store *blocks.Store, d dataset.Data, needs blocks.Needs) error {
	spans, _, err := read(ctx, store, blocks.Request{Tenant: dataset.Tenant, Needs: needs})
	if err != nil {
		return err
	}
	if spans != d.Spans {
		return fmt.Errorf("%d spans were read of %d", spans, d.Spans)
	}
	return nil
}

// fullNeeds are those of a pack of 100 rules that reads 15 attributes.
func fullNeeds() (blocks.Needs, error) {
	pack, err := packs.Full(100)
	if err != nil {
		return blocks.Needs{}, err
	}
	return packs.Needs(pack), nil
}

// intrinsicNeeds are those of a pack that reads what every span has, the tree and one
// dedicated column.
func intrinsicNeeds() (blocks.Needs, error) {
	pack, err := packs.Intrinsic(20)
	if err != nil {
		return blocks.Needs{}, err
	}
	return packs.Needs(pack), nil
}
