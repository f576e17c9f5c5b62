package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/traceql"
)

// selectionFlags say which traces a command reads.
type selectionFlags struct {
	since    time.Duration
	from, to string
	traceID  string
	files    []string
	query    string
}

// add gives a command the flags. Its verb is what it does with traces.
func (f *selectionFlags) add(cmd *cobra.Command, verb string) {
	cmd.Flags().DurationVar(&f.since, "since", 0, verb+" the traces that started within this `duration`, until now")
	cmd.Flags().StringVar(&f.from, "from", "", verb+" the traces that started from this `time`: RFC 3339, or a date in UTC")
	cmd.Flags().StringVar(&f.to, "to", "", "and before this `time`")
	cmd.Flags().StringVar(&f.traceID, "trace", "", verb+" the trace of this `ID`")
	cmd.Flags().StringArrayVar(&f.files, "traces", nil, verb+" the traces in these OTLP `files` or folders (JSON, JSON lines or protobuf, also compressed; - is standard input), without a server")
	cmd.Flags().StringVar(&f.query, "query", "", verb+" only traces with a span that matches this TraceQL span `filter`")
}

// selection is the traces that a command reads, and where they come from.
type selection struct {
	*program
	flags    selectionFlags
	from, to time.Time       // zero for --trace and --traces
	query    *traceql.Filter // nil: all
	// young is the time before which a trace must have ended to be settled, with
	// every source.
	young    time.Time
	client   *tempoclient.Client // nil for --traces
	store    *blocks.Store       // nil without access to Tempo's storage
	way      string              // scan.source
	keeps    time.Duration       // how long Tempo keeps blocks; 0: for good, or it is not known
	progress *progress
	written  sync.Map // IDs of the traces that hold the violation spans of this command
}

// The values of --source.
const (
	sourceAuto   = "auto"
	sourceAPI    = "api"
	sourceByID   = "by-id"
	sourceBlocks = "blocks"
)

// selectTraces works out what is read, and opens what it is read from. Nothing is
// asked of a server yet.
func (p *program) selectTraces(ctx context.Context, cmd *cobra.Command, f selectionFlags) (*selection, error) {
	f.files = splitNames(f.files)
	settle := max(p.config.viper.GetDuration("scan.settle"), p.config.viper.GetDuration("scan.settle_blocks"))
	s := &selection{program: p, flags: f, young: time.Now().Add(-settle), progress: newProgress(p.stderr)}
	if err := s.setRange(cmd); err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("query") {
		if strings.TrimSpace(f.query) == "" {
			return nil, errors.New("--query is empty: give a TraceQL span filter, or leave the flag out to read all traces")
		}
		var err error
		if s.query, err = traceql.Parse(f.query); err != nil {
			return nil, fmt.Errorf("--query: %w", err)
		}
		if warning := s.query.Warning(); warning != nil {
			fmt.Fprintf(p.stderr, "warning: --query: %v\n", warning)
		}
	}
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// setRange works out what is read.
func (s *selection) setRange(cmd *cobra.Command) error {
	f := &s.flags
	given := 0
	for _, name := range []string{"since", "from", "trace", "traces"} {
		if cmd.Flags().Changed(name) {
			given++
		}
	}
	if given != 1 || cmd.Flags().Changed("to") != cmd.Flags().Changed("from") {
		return fmt.Errorf("what is to be read by %s? Give one of --since 1h, --from T --to T, --trace ID, --traces FILE", cmd.Name())
	}
	switch {
	case cmd.Flags().Changed("since"):
		s.to = time.Now()
		s.from = s.to.Add(-f.since)
		if f.since <= 0 {
			return fmt.Errorf("--since %s: want a duration above 0", f.since)
		}
	case cmd.Flags().Changed("from"):
		var fromErr, toErr error
		s.from, fromErr = parseTime("--from", f.from)
		s.to, toErr = parseTime("--to", f.to)
		if err := errors.Join(fromErr, toErr); err != nil {
			return err
		}
		if !s.from.Before(s.to) {
			return fmt.Errorf("--from %s --to %s: the range ends before it starts", f.from, f.to)
		}
	case cmd.Flags().Changed("trace"):
		if _, err := trace.ParseID(f.traceID); err != nil {
			return fmt.Errorf("--trace: %w", err)
		}
	case slices.Contains(f.files, ""):
		return errors.New("--traces holds an empty name: name files or folders, or - for standard input")
	default:
		for _, name := range []string{"tempo", "tempo-otlp", "loki", "tempo-blocks", "tempo-config"} {
			if cmd.Flags().Changed(name) {
				return fmt.Errorf("--traces with --%s: traces from files are read only, nothing is read or written elsewhere", name)
			}
		}
	}
	return nil
}

func parseTime(flag, text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q: want RFC 3339 (2026-03-01T12:00:00Z) or a date (2026-03-01)", flag, text)
}

// connect opens Tempo's API and, if it is named, its storage.
func (s *selection) connect(ctx context.Context) error {
	if len(s.flags.files) > 0 {
		return nil
	}
	s.way = s.config.viper.GetString("scan.source")
	if !slices.Contains([]string{sourceAuto, sourceAPI, sourceByID, sourceBlocks}, s.way) {
		return fmt.Errorf("scan.source is %q: want %s, %s, %s or %s", s.way, sourceAuto, sourceAPI, sourceByID, sourceBlocks)
	}
	config, err := s.config.tempo()
	if err != nil {
		return err
	}
	if s.client, err = tempoclient.New(config); err != nil {
		return err
	}
	if s.keeps, err = s.config.retention(); err != nil {
		return err
	}
	if s.way != sourceAPI && s.way != sourceByID {
		if s.store, err = s.config.openBlocks(ctx); err != nil {
			return err
		}
	}
	if s.store == nil && s.way == sourceBlocks {
		return errors.New("--source blocks: where are they? Name Tempo's storage with --tempo-blocks, or its configuration with --tempo-config")
	}
	return nil
}

// retention returns how long Tempo keeps blocks; 0: for good, or it is not known.
func (c *config) retention() (time.Duration, error) {
	keeps, file := c.viper.GetDuration("tempo.retention"), c.viper.GetString("tempo.config")
	if keeps > 0 || file == "" {
		return keeps, nil
	}
	return blocks.TempoConfigRetention(file, c.viper.GetString("tenant"))
}

// openBlocks opens Tempo's object storage, nil if none is named.
func (c *config) openBlocks(ctx context.Context) (*blocks.Store, error) {
	url, file := c.viper.GetString("tempo.blocks"), c.viper.GetString("tempo.config")
	switch {
	case url != "" && file != "":
		return nil, errors.New("tempo.blocks and tempo.config are both set: keep one")
	case file != "":
		return blocks.OpenTempo(ctx, file)
	case url == "":
		return nil, nil
	case !strings.Contains(url, "://"): // a folder
		return blocks.OpenFolder(ctx, url)
	}
	return blocks.Open(ctx, url)
}

func (s *selection) close() error {
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

// source returns where traces come from. Only what needs name is read where that is
// cheaper, and only traces that match the filter need to come.
func (s *selection) source(needs columnar.Needs, filter *traceql.Filter) analyzer.SourceFunc {
	read := s.sourceOfAll(needs, filter)
	if s.from.IsZero() {
		return read
	}
	return func(ctx context.Context, deliver func(*columnar.Batch) error) (analyzer.Reading, error) {
		reading, err := read(ctx, deliver)
		s.sayExpired(&reading, s.from, fmt.Sprintf("range %s/%s", s.from.UTC().Format(time.RFC3339), s.to.UTC().Format(time.RFC3339)))
		return reading, err
	}
}

// sayExpired adds a problem if Tempo may have done away with what is as old as the start
// of what was read, by now: blocks that ended longer ago than it keeps them.
func (s *selection) sayExpired(reading *analyzer.Reading, start time.Time, what string) {
	oldest := time.Now().Add(-s.keeps)
	if s.keeps == 0 || !start.Before(oldest) {
		return
	}
	reading.Problems = append(reading.Problems, analyzer.Problem{What: what, Why: fmt.Sprintf(
		"it is older than what is stored: Tempo keeps blocks for %s, so that spans from before %s may have expired; if it keeps them longer, say so with --tempo-retention", s.keeps, oldest.UTC().Format(time.RFC3339))})
}

// sourceOfAll returns where traces come from, as if none had expired.
func (s *selection) sourceOfAll(needs columnar.Needs, filter *traceql.Filter) analyzer.SourceFunc {
	switch {
	case len(s.flags.files) > 0:
		return analyzer.InBatches(needs, s.fromFiles)
	case s.flags.traceID != "":
		return analyzer.InBatches(needs, s.oneTrace)
	}
	api := func(from time.Time, skip func(trace.ID) bool) analyzer.SourceFunc {
		return analyzer.InBatches(needs, func(ctx context.Context, deliver func(*trace.Trace) error) (analyzer.Reading, error) {
			return s.fromAPI(ctx, from, skip, needs, filter, deliver)
		})
	}
	return func(ctx context.Context, deliver func(*columnar.Batch) error) (analyzer.Reading, error) {
		switch {
		case s.store == nil, s.way == sourceAuto && s.from.After(s.young):
			return api(s.from, nil)(ctx, deliver)
		case s.way == sourceBlocks || !s.to.After(s.young):
			return s.fromBlocks(ctx, s.to, needs, filter, deliver)
		}
		return s.fromBoth(ctx, needs, filter, api, deliver)
	}
}

func (s *selection) fromAPI(ctx context.Context, from time.Time, skip func(trace.ID) bool, needs columnar.Needs, filter *traceql.Filter, deliver func(*trace.Trace) error) (analyzer.Reading, error) {
	if s.way == sourceByID {
		needs = columnar.Needs{All: true}
	}
	report, err := s.client.Traces(ctx, tempoclient.Request{
		From: from, To: s.to, SettledBefore: s.young, Filter: filter, Skip: skip, SkipAdded: s.wrote, Needs: needs, ByIDWith: []columnar.AttributeKey{evidence.OwnAttribute}, Progress: s.progress.read,
	}, deliver)
	reading := analyzer.Reading{Basis: "search", Young: s.to.After(s.young), Skipped: report.Skipped, MoreProblems: report.MoreProblems, OutsideRange: report.OutsideRange}
	for _, problem := range report.Problems {
		reading.Problems = append(reading.Problems, analyzer.Problem{What: problem.What, Why: problem.Err.Error()})
	}
	if second := report.SecondSearch; second != nil {
		reading.SecondSearch = &analyzer.SecondSearch{From: second.From.UTC().Truncate(time.Second), Added: second.Added}
	}
	return reading, err
}

// wrote reports whether this command has written a trace: its second search may find
// the violation spans that it wrote after the first one.
func (s *selection) wrote(id trace.ID) bool {
	_, own := s.written.Load(id)
	return own
}

func (s *selection) fromBlocks(ctx context.Context, to time.Time, needs columnar.Needs, filter *traceql.Filter, deliver func(*columnar.Batch) error) (analyzer.Reading, error) {
	if os.Getenv("GOMEMLIMIT") == "" {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(blocks.MemoryLimit(s.config.viper.GetInt64("scan.memory_bytes"))))
	}
	report, err := s.store.Batches(ctx, blocks.Request{
		Tenant: s.config.viper.GetString("tenant"), From: s.from, To: to, Needs: needs, Filter: filter,
		MaxTraceDuration: s.config.viper.GetDuration("scan.max_trace_duration"), MemoryBytes: int64(s.config.viper.GetInt("scan.memory_bytes")),
		Progress: func(p blocks.Progress) {
			s.progress.read(tempoclient.Progress{Searched: p.Read, Found: p.Traces, Read: p.Traces})
		},
	}, deliver)
	reading := analyzer.Reading{Basis: "blocks", Young: s.to.After(s.young), Skipped: report.Skipped, OutsideRange: report.OutsideRange}
	for _, problem := range report.Problems {
		reading.Problems = append(reading.Problems, analyzer.Problem{What: problem.What, Why: problem.Err.Error()})
	}
	return reading, err
}

// fromBoth reads what is settled from blocks and the rest by the API. A trace that
// begins near the seam may seem to begin on either side of it, as more of it is known
// here or there: the API is asked from well before the seam, and what blocks gave
// is left out.
func (s *selection) fromBoth(ctx context.Context, needs columnar.Needs, filter *traceql.Filter, api func(time.Time, func(trace.ID) bool) analyzer.SourceFunc, deliver func(*columnar.Batch) error) (analyzer.Reading, error) {
	overlap := s.young.Add(-s.config.viper.GetDuration("scan.max_trace_duration"))
	given, near := map[trace.ID]bool{}, trace.TimeOf(overlap)
	old, err := s.fromBlocks(ctx, s.young, needs, filter, func(b *columnar.Batch) error {
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
	if overlap.Before(s.from) {
		overlap = s.from
	}
	recent, err := api(overlap, func(id trace.ID) bool { return given[id] })(ctx, deliver)
	return analyzer.Reading{
		Basis: "blocks and search", Young: true, Skipped: old.Skipped + recent.Skipped, OutsideRange: old.OutsideRange + recent.OutsideRange,
		Problems: append(old.Problems, recent.Problems...), MoreProblems: old.MoreProblems + recent.MoreProblems,
		SecondSearch: recent.SecondSearch,
	}, err
}

func (s *selection) oneTrace(ctx context.Context, deliver func(*trace.Trace) error) (analyzer.Reading, error) {
	reading := analyzer.Reading{Basis: "trace-id"}
	id, err := trace.ParseID(s.flags.traceID)
	if err != nil {
		return reading, err
	}
	t, err := s.client.Trace(ctx, id)
	if errors.Is(err, tempoclient.ErrNotFound) {
		return reading, fmt.Errorf("%w: is the ID right, and the tenant?", err)
	}
	if err != nil {
		reading.Skipped = 1
		return reading, err
	}
	reading.Young = t.End().Time().After(s.young)
	s.sayExpired(&reading, t.Start().Time(), "trace "+id.String())
	return reading, deliver(t)
}

// fromFiles reads all files before it delivers: the spans of a trace may be in any
// of them.
func (s *selection) fromFiles(ctx context.Context, deliver func(*trace.Trace) error) (analyzer.Reading, error) {
	reading := analyzer.Reading{Basis: "files"}
	problem := func(what string, err error) {
		reading.Problems = append(reading.Problems, analyzer.Problem{What: what, Why: err.Error()})
	}
	var spans otlp.Collector
	for _, name := range s.flags.files {
		if info, err := os.Stat(name); name == "-" || err != nil || !info.IsDir() {
			s.readFile(ctx, name, &spans, &reading)
			continue
		}
		files := 0
		walkFolder(ctx, name, func(file string) { files++; s.readFile(ctx, file, &spans, &reading) }, problem)
		if files == 0 {
			problem("folder "+name, errors.New("it holds no file of traces; hidden files and folders are left out"))
		}
	}
	for _, t := range spans.Traces() {
		if err := context.Cause(ctx); err != nil {
			return reading, err
		}
		if err := deliver(t); err != nil {
			return reading, err
		}
	}
	return reading, nil
}

// interruptible returns a reader that ends with the context. A read of standard
// input cannot be broken off: it is left to itself, and ends with the program.
func interruptible(ctx context.Context, in io.Reader) (io.Reader, func()) {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	return r, func() {
		stop()
		r.Close()
	}
}

// needsOf returns what the rules, and a query, read.
func needsOf(rs []*rules.Rule, query *traceql.Filter) columnar.Needs {
	needs := columnar.Needs{Attributes: []columnar.AttributeKey{evidence.OwnAttribute}}
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	if query != nil {
		needs = needs.Union(query.Needs())
	}
	return needs
}
