// Package source reads whole traces from three places: the blocks in Tempo's object storage, Tempo's API, and
// OTLP files.
//
// A [Source] decides which part of a range is read from blocks and which by the API, delivers every trace once,
// in batches, and reports in a [trace.Reading] whether the data is complete, provisional or incomplete.
package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// Mode selects the places from which a range is read.
type Mode string

const (
	// Auto reads settled traces from blocks, if the storage is given, and the others by the API.
	Auto Mode = "auto"
	// API reads by the API only.
	API Mode = "api"
	// ByID reads by the API only, and each trace by its ID.
	ByID Mode = "by-id"
	// Blocks reads from blocks only.
	Blocks Mode = "blocks"
)

// Modes are all modes.
var Modes = []Mode{Auto, API, ByID, Blocks}

// Options configure a source.
type Options struct {
	// Mode is the mode of reading ranges. The default is [Auto].
	Mode Mode
	// Client is required except for files.
	Client *tempoclient.Client
	// Store is the storage of blocks. It is required by [Blocks] and optional otherwise.
	Store *blocks.Store
	// Tenant is the tenant whose blocks are read. The client has its own setting.
	Tenant string
	// Retention is the time for which Tempo keeps blocks. Zero means forever, or unknown.
	Retention time.Duration
	// MaxTraceDuration is the maximum duration of a trace. The default is 1 h.
	MaxTraceDuration time.Duration
	// MemoryBytes is [blocks.Request.MemoryBytes].
	MemoryBytes int64
	// OwnAttributes are the attributes of the spans that the caller writes. Search may lose them, so the
	// traces that have one are read by ID.
	OwnAttributes []columnar.AttributeKey
	// Stdin is the content of the file "-".
	Stdin io.Reader
}

// Request defines the traces to read: those that start in a range, one trace, or those in files.
type Request struct {
	// From and To bound the start of traces: From is included, To is not. If From is zero, there is no range.
	From, To time.Time
	// TraceID, if not zero, is the ID of the only trace to read.
	TraceID trace.ID
	// Files are the OTLP files and folders to read. "-" is standard input.
	Files []string
	// SettledBefore is the time before which a trace must have ended for all its spans to have reached the
	// storage.
	SettledBefore time.Time
	// Needs are the parts of spans that are read. Other parts may be absent.
	Needs columnar.Needs
	// Filter selects traces with a matching span; others may be delivered, too. If nil, all traces are read.
	Filter *traceql.Filter
	// Written, if not nil, reports whether the caller has written a trace since it began to read. Such a
	// trace is not delivered if only the second search finds it. It is called by several goroutines.
	Written func(trace.ID) bool
	// Progress, if not nil, receives the cumulative progress, from one goroutine at a time.
	Progress func(tempoclient.Progress)
}

// DeliverFunc receives a batch, which is valid until the function returns. Calls do not overlap. An error ends
// the reading.
type DeliverFunc func(*columnar.Batch) error

// Source reads traces from one Tempo, and from files. It may be used by several goroutines.
type Source struct{ opts Options }

// New returns a source. It does not own the client and the storage of its options.
func New(opts Options) (*Source, error) {
	opts.Mode = cmp.Or(opts.Mode, Auto)
	opts.MaxTraceDuration = cmp.Or(opts.MaxTraceDuration, time.Hour)
	if opts.Stdin == nil {
		opts.Stdin = strings.NewReader("")
	}
	switch {
	case !slices.Contains(Modes, opts.Mode):
		return nil, fmt.Errorf("unknown source %q: want one of %q", opts.Mode, Modes)
	case opts.Mode == Blocks && opts.Store == nil:
		return nil, errors.New("source blocks requires the storage of the blocks")
	case opts.Mode == API || opts.Mode == ByID:
		opts.Store = nil
	}
	return &Source{opts}, nil
}

// Read reads the requested traces and delivers each once, whole, in no particular order. Parts that cannot be
// read are problems of the reading. Read returns an error, together with the reading so far, if it cannot
// continue: the source fails as a whole, deliver fails, or the context ends.
func (s *Source) Read(ctx context.Context, req Request, deliver DeliverFunc) (trace.Reading, error) {
	switch {
	case len(req.Files) > 0:
		return inBatches(ctx, req.Needs, func(ctx context.Context, deliver func(*trace.Trace) error) (trace.Reading, error) {
			return s.readFiles(ctx, req.Files, deliver)
		}, deliver)
	case req.TraceID != trace.ID{}:
		return inBatches(ctx, req.Needs, func(ctx context.Context, deliver func(*trace.Trace) error) (trace.Reading, error) {
			return s.readTrace(ctx, &req, deliver)
		}, deliver)
	}
	reading, err := s.readRange(ctx, &req, deliver)
	s.reportExpired(&reading, req.From, fmt.Sprintf("range %s/%s", req.From.UTC().Format(time.RFC3339), req.To.UTC().Format(time.RFC3339)))
	return reading, err
}

// readRange reads a range from blocks, by the API, or from both.
func (s *Source) readRange(ctx context.Context, req *Request, deliver DeliverFunc) (trace.Reading, error) {
	settled := req.SettledBefore
	switch {
	case s.opts.Store == nil, s.opts.Mode == Auto && req.From.After(settled):
		return s.readAPI(ctx, req, req.From, nil, deliver)
	case s.opts.Mode == Blocks || !req.To.After(settled):
		return s.readBlocks(ctx, req, req.To, deliver)
	}
	return s.readBoth(ctx, req, deliver)
}

// readBoth reads the settled part of a range from blocks and the rest by the API. A trace that begins near the
// boundary may seem to begin on either side, because each place may hold other spans of it. So the API is
// asked from well before the boundary, and the traces that blocks delivered are skipped.
func (s *Source) readBoth(ctx context.Context, req *Request, deliver DeliverFunc) (trace.Reading, error) {
	overlap := req.SettledBefore.Add(-s.opts.MaxTraceDuration)
	near, given := trace.TimeOf(overlap), map[trace.ID]bool{}
	old, err := s.readBlocks(ctx, req, req.SettledBefore, func(b *columnar.Batch) error {
		for t, id := range b.IDs {
			if slices.Max(b.Ends[b.First[t]:b.First[t+1]]) >= near {
				given[id] = true
			}
		}
		return deliver(b)
	})
	if err != nil {
		return old, err
	}
	if overlap.Before(req.From) {
		overlap = req.From
	}
	reading, err := s.readAPI(ctx, req, overlap, func(id trace.ID) bool { return given[id] }, deliver)
	reading.Basis, reading.Young = "blocks and search", true
	reading.Problems = append(old.Problems, reading.Problems...)
	reading.MoreProblems += old.MoreProblems
	reading.Skipped += old.Skipped
	reading.OutsideRange += old.OutsideRange
	return reading, err
}

// readBlocks reads the traces that start before a time from blocks.
func (s *Source) readBlocks(ctx context.Context, req *Request, to time.Time, deliver DeliverFunc) (trace.Reading, error) {
	blocksRequest := blocks.Request{
		Tenant: s.opts.Tenant, From: req.From, To: to, Needs: req.Needs, Filter: req.Filter,
		MaxTraceDuration: s.opts.MaxTraceDuration, MemoryBytes: s.opts.MemoryBytes,
	}
	if req.Progress != nil {
		blocksRequest.Progress = func(p blocks.Progress) {
			req.Progress(tempoclient.Progress{Searched: p.Read, Found: p.Traces, Read: p.Traces})
		}
	}
	report, err := s.opts.Store.Batches(ctx, blocksRequest, deliver)
	reading := report.Reading
	reading.Basis, reading.Young = "blocks", req.To.After(req.SettledBefore)
	return reading, err
}

// readAPI reads the traces that start from a time on by the API, except those that skip reports.
func (s *Source) readAPI(ctx context.Context, req *Request, from time.Time, skip func(trace.ID) bool, deliver DeliverFunc) (trace.Reading, error) {
	needs := req.Needs
	if s.opts.Mode == ByID {
		needs = columnar.Needs{All: true}
	}
	return inBatches(ctx, req.Needs, func(ctx context.Context, deliver func(*trace.Trace) error) (trace.Reading, error) {
		report, err := s.opts.Client.Traces(ctx, tempoclient.Request{
			From: from, To: req.To, SettledBefore: req.SettledBefore, Filter: req.Filter, Skip: skip, SkipAdded: req.Written,
			Needs: needs, ByIDWith: s.opts.OwnAttributes, Progress: req.Progress,
		}, deliver)
		reading := report.Reading
		reading.Basis, reading.Young = "search", req.To.After(req.SettledBefore)
		if second := reading.SecondSearch; second != nil {
			reading.SecondSearch = &trace.SecondSearch{From: second.From.UTC().Truncate(time.Second), Added: second.Added}
		}
		return reading, err
	}, deliver)
}

// readTrace reads one trace by its ID.
func (s *Source) readTrace(ctx context.Context, req *Request, deliver func(*trace.Trace) error) (trace.Reading, error) {
	reading := trace.Reading{Basis: "trace-id"}
	t, err := s.opts.Client.Trace(ctx, req.TraceID)
	if errors.Is(err, tempoclient.ErrNotFound) {
		return reading, fmt.Errorf("%w: check the ID and the tenant", err)
	}
	if err != nil {
		reading.Skipped = 1
		return reading, err
	}
	reading.Young = t.End().Time().After(req.SettledBefore)
	s.reportExpired(&reading, t.Start().Time(), "trace "+req.TraceID.String())
	return reading, deliver(t)
}

// reportExpired adds a problem if spans may have expired since the start of the data: Tempo deletes a block
// when its end is older than the retention.
func (s *Source) reportExpired(reading *trace.Reading, start time.Time, what string) {
	oldest := time.Now().Add(-s.opts.Retention)
	if s.opts.Retention == 0 || !start.Before(oldest) {
		return
	}
	reading.AddProblem(what, fmt.Errorf("it is older than the stored data: Tempo keeps blocks for %s, so spans from before %s may have expired; if it keeps them longer, set tempo.retention", s.opts.Retention, oldest.UTC().Format(time.RFC3339)))
}
