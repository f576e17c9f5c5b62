// Package reading reads a data set once, in this process or in one of its own, and reports the time and
// memory.
package reading

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/packs"
	"github.com/betracehq/betrace/bench/slowbucket"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// Cores is the number of cores for every measurement that does not set another.
const Cores = 2

// Reading defines the data to read and its location.
type Reading struct {
	// Dir is a folder with the layout of Tempo's local backend.
	Dir string `json:"dir"`
	// Attributes are read in addition to the intrinsic fields. They are named span.<key>, resource.<key>
	// or .<key>.
	Attributes []string `json:"attributes"`
	// Filter, a TraceQL span filter, is the prefilter, if any.
	Filter string `json:"filter"`
	// Storage is the speed of the storage. If nil, the source reads the folder itself.
	Storage *slowbucket.Options `json:"storage"`
	// URL is a storage that holds the same blocks. If empty, the folder is read.
	URL string `json:"url"`
	// Cores is the number of cores for a process of its own. If 0, it is [Cores].
	Cores int `json:"cores"`
	// Rules judge the traces, if there are any.
	Rules []*rules.Rule `json:"-"`
}

// Result is the outcome of a reading with its measurements.
type Result struct {
	Spans   int64   `json:"spans"`
	Traces  int     `json:"traces"`
	Seconds float64 `json:"seconds"`
	// Counts are the requests to the storage, if [Reading.Storage] is set.
	Counts slowbucket.Counts `json:"counts"`
	// BodyRequests is the number of requests for parts of the blocks' files.
	BodyRequests int64 `json:"body_requests"`
	// Verdicts are the verdicts of [Reading.Rules], summed over the rules.
	Verdicts engine.Counts `json:"verdicts"`
	// PeakMiB is the peak resident memory of the process. Only [Reading.Apart] sets it.
	PeakMiB float64 `json:"peak_mib"`
}

// Full returns a reading of a set for a pack of 100 rules that reads 15 attributes.
func Full(d dataset.Data) (Reading, error) {
	pack, err := packs.Full(100)
	if err != nil {
		return Reading{}, err
	}
	return Reading{Dir: d.Dir, Attributes: packs.Names(packs.Needs(pack))}, nil
}

// Intrinsic returns a reading of a set for a pack that reads the intrinsic fields of spans, the tree, and
// one attribute that A stores in a dedicated column.
func Intrinsic(d dataset.Data) (Reading, error) {
	pack, err := packs.Intrinsic(20)
	if err != nil {
		return Reading{}, err
	}
	return Reading{Dir: d.Dir, Attributes: packs.Names(packs.Needs(pack))}, nil
}

// Run reads all of the set's traces, or those that the filter may match.
func (r Reading) Run(ctx context.Context) (Result, error) {
	req, err := r.request()
	if err != nil {
		return Result{}, err
	}
	runtime.GC() // earlier garbage must not count for this reading
	began := time.Now()
	var bucket *slowbucket.Bucket
	var store *blocks.Store
	switch {
	case r.URL != "":
		store, err = blocks.Open(ctx, r.URL)
	case r.Storage != nil:
		bucket = slowbucket.Open(r.Dir, *r.Storage)
		store = blocks.NewStore(bucket.Bucket, "counted storage")
	default:
		store, err = blocks.OpenFolder(ctx, r.Dir)
	}
	if err != nil {
		return Result{}, err
	}
	defer store.Close() //nolint:errcheck // read only
	var result Result
	var judge *engine.Judge
	if r.Rules != nil {
		judge = engine.Compile(r.Rules).NewJudge()
	}
	report, err := store.Batches(ctx, req, func(b *columnar.Batch) error {
		result.Spans += int64(b.NumSpans())
		if judge == nil {
			return nil
		}
		counts, err := judge.Each(ctx, b, nil, func([]engine.Found) error { return nil })
		for _, c := range counts {
			result.Verdicts.NotApplicable += c.NotApplicable
			result.Verdicts.Pass += c.Pass
			result.Verdicts.Violation += c.Violation
			result.Verdicts.Error += c.Error
		}
		return err
	})
	if err != nil {
		return Result{}, err
	}
	if len(report.Problems) > 0 {
		return Result{}, fmt.Errorf("%s was not read: %w", report.Problems[0].What, report.Problems[0].Err)
	}
	result.Seconds = time.Since(began).Seconds()
	result.Traces = report.Delivered
	result.BodyRequests = report.Requests
	if bucket != nil {
		result.Counts = bucket.Counts()
	}
	return result, nil
}

// All reads, and returns an error unless all of the set's spans were delivered.
func (r Reading) All(ctx context.Context, d dataset.Data) (Result, error) {
	result, err := r.Run(ctx)
	if err == nil && result.Spans != d.Spans {
		err = fmt.Errorf("%d of %d spans were read", result.Spans, d.Spans)
	}
	return result, err
}

// request converts the reading to the source's request.
func (r Reading) request() (blocks.Request, error) {
	req := blocks.Request{Tenant: dataset.Tenant}
	for _, name := range r.Attributes {
		scope, key, _ := strings.Cut(name, ".")
		field := columnar.AttributeKey{Scope: columnar.ScopeAny, Key: key}
		switch scope {
		case "span":
			field.Scope = columnar.ScopeSpan
		case "resource":
			field.Scope = columnar.ScopeResource
		}
		req.Needs.Attributes = append(req.Needs.Attributes, field)
	}
	if r.Filter != "" {
		f, err := traceql.Parse(r.Filter)
		if err != nil {
			return blocks.Request{}, err
		}
		req.Filter, req.Needs = f, req.Needs.Union(f.Needs())
	}
	return req, nil
}
