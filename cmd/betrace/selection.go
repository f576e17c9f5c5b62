package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/tempoclient/source"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// selectionFlags are the flags that select the traces to read.
type selectionFlags struct {
	since    time.Duration
	from, to string
	traceID  string
	files    []string
	query    string
}

// add adds the flags to a command. The verb is its action on traces.
func (f *selectionFlags) add(cmd *cobra.Command, verb string) {
	cmd.Flags().DurationVar(&f.since, "since", 0, verb+" the traces that started within this `duration`, until now")
	cmd.Flags().StringVar(&f.from, "from", "", verb+" the traces that started from this `time`: RFC 3339, or a date in UTC")
	cmd.Flags().StringVar(&f.to, "to", "", "and before this `time`")
	cmd.Flags().StringVar(&f.traceID, "trace", "", verb+" the trace of this `ID`")
	cmd.Flags().StringArrayVar(&f.files, "traces", nil, verb+" the traces in these OTLP `files` or folders (JSON, JSON lines or protobuf, also compressed; - is standard input), without a server")
	cmd.Flags().StringVar(&f.query, "query", "", verb+" only traces with a span that matches this TraceQL span `filter`")
}

// selection is the traces that a command reads, and the source that reads them.
type selection struct {
	*program
	request  source.Request // without Needs and Filter
	query    *traceql.Filter
	source   *source.Source
	client   *tempoclient.Client // nil for --traces
	store    *blocks.Store       // nil without access to Tempo's storage
	progress *progress
	written  sync.Map // IDs of the traces with the violation spans of this command
}

// selectTraces parses the flags and opens the source. It sends no request.
func (p *program) selectTraces(ctx context.Context, cmd *cobra.Command, f selectionFlags) (*selection, error) {
	f.files = splitNames(f.files)
	s := &selection{program: p, progress: newProgress(p.stderr)}
	if err := s.setRange(cmd, &f); err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("query") {
		if strings.TrimSpace(f.query) == "" {
			return nil, errors.New("--query is empty: give a TraceQL span filter, or omit the flag to read all traces")
		}
		var err error
		if s.query, err = traceql.Parse(f.query); err != nil {
			return nil, fmt.Errorf("--query: %w", err)
		}
		if warning := s.query.Warning(); warning != nil {
			fmt.Fprintf(p.stderr, "warning: --query: %v\n", warning)
		}
	}
	settle := max(p.config.Scan.Settle, p.config.Scan.SettleBlocks)
	s.request.SettledBefore = time.Now().Add(-settle)
	s.request.Progress = s.progress.read
	s.request.Written = func(id trace.ID) bool {
		_, written := s.written.Load(id)
		return written
	}
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// read reads the selected traces: the parts of them that needs names, and at least those that match the filter.
func (s *selection) read(ctx context.Context, needs columnar.Needs, filter *traceql.Filter, deliver source.DeliverFunc) (trace.Reading, error) {
	request := s.request
	request.Needs, request.Filter = needs, filter
	return s.source.Read(ctx, request, deliver)
}

// setRange sets the range, the trace or the files to read.
func (s *selection) setRange(cmd *cobra.Command, f *selectionFlags) (err error) {
	r := &s.request
	given := 0
	for _, name := range []string{"since", "from", "trace", "traces"} {
		if cmd.Flags().Changed(name) {
			given++
		}
	}
	if given != 1 || cmd.Flags().Changed("to") != cmd.Flags().Changed("from") {
		return fmt.Errorf("%s requires exactly one of --since 1h, --from T --to T, --trace ID, --traces FILE", cmd.Name())
	}
	switch {
	case cmd.Flags().Changed("since"):
		r.To = time.Now()
		r.From = r.To.Add(-f.since)
		if f.since <= 0 {
			return fmt.Errorf("--since %s: want a duration above 0", f.since)
		}
	case cmd.Flags().Changed("from"):
		var fromErr, toErr error
		r.From, fromErr = parseTime("--from", f.from)
		r.To, toErr = parseTime("--to", f.to)
		if err := errors.Join(fromErr, toErr); err != nil {
			return err
		}
		if !r.From.Before(r.To) {
			return fmt.Errorf("--from %s --to %s: the range ends before it starts", f.from, f.to)
		}
	case cmd.Flags().Changed("trace"):
		if r.TraceID, err = trace.ParseID(f.traceID); err != nil {
			return fmt.Errorf("--trace: %w", err)
		}
	case slices.Contains(f.files, ""):
		return errors.New("--traces contains an empty name: give files or folders, or - for standard input")
	default:
		for _, name := range []string{"tempo", "tempo-otlp", "loki", "tempo-blocks", "tempo-config"} {
			if cmd.Flags().Changed(name) {
				return fmt.Errorf("--traces with --%s: with files, no server is read or written", name)
			}
		}
		r.Files = f.files
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

// connect opens Tempo's API and, if configured, its storage, and makes the source.
func (s *selection) connect(ctx context.Context) (err error) {
	if len(s.request.Files) > 0 {
		s.source, err = source.New(source.Options{Stdin: s.stdin})
		return err
	}
	c := s.config
	options := source.Options{
		Mode: source.Mode(c.Scan.Source), Tenant: c.Tenant, MaxTraceDuration: c.Scan.MaxTraceDuration, MemoryBytes: int64(c.Scan.MemoryBytes),
		OwnAttributes: evidence.OwnAttributes,
	}
	client, err := c.tempoClient()
	if err != nil {
		return err
	}
	if s.client, err = tempoclient.New(client); err != nil {
		return err
	}
	if options.Retention, err = c.retention(); err != nil {
		return err
	}
	if options.Mode == source.Auto || options.Mode == source.Blocks {
		if s.store, err = c.openBlocks(ctx); err != nil {
			return err
		}
	}
	switch {
	case s.store != nil:
		s.limitMemory(blocks.MemoryLimit(options.MemoryBytes))
	case options.Mode == source.Blocks:
		return errors.New("--source=blocks requires --tempo-blocks or --tempo-config")
	}
	options.Client, options.Store = s.client, s.store
	s.source, err = source.New(options)
	return err
}

// retention returns the time for which Tempo keeps blocks. Zero means forever, or unknown.
func (c *config) retention() (time.Duration, error) {
	if c.Tempo.Retention > 0 || c.Tempo.Config == "" {
		return c.Tempo.Retention, nil
	}
	return blocks.TempoConfigRetention(c.Tempo.Config, c.Tenant)
}

// openBlocks opens Tempo's object storage. It returns nil if none is configured.
func (c *config) openBlocks(ctx context.Context) (*blocks.Store, error) {
	switch at := c.Tempo.Blocks; {
	case c.Tempo.Config != "":
		return blocks.OpenTempo(ctx, c.Tempo.Config)
	case at == "":
		return nil, nil
	case !strings.Contains(at, "://"):
		return blocks.OpenFolder(ctx, at)
	default:
		return blocks.Open(ctx, at)
	}
}

// close closes the client and the storage.
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
