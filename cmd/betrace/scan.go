package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// scanFlags are the flags of scan that are not settings.
type scanFlags struct {
	selectionFlags
	dryRun bool
	output string
}

func (p *program) scanCommand() *cobra.Command {
	var f scanFlags
	cmd := &cobra.Command{
		Use:   "scan --rules PATH… (--since 1h | --from T --to T | --trace ID | --traces FILE…)",
		Short: "Judge the traces of a range, one trace, or those in files, now",
		Long: `Judge the traces of a range, one trace, or those in files, now.

Violations are written to Tempo as spans and, if --loki is set, to Loki as records, and then read back. Each is
written once, even if a range is scanned repeatedly. Traces from files are only judged; nothing is written.

Exit code: 0 no violation, 1 violations, 2 incomplete: a rule was refused, a verdict is an error, or some data was
not read or not written.`,
		Args: noArguments("use --rules for packs, --traces for files of traces; repeat the flag, or separate names by commas, for several"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			return p.scan(cmd.Context(), f, cmd)
		},
	}
	p.config.addFlags(cmd.Flags())
	f.add(cmd, "judge")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "write nothing")
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "`format`: table, json or jsonl")
	return cmd
}

// scanJob is one scan.
type scanJob struct {
	*selection
	dryRun     bool
	format     string // of the output
	rules      []*rules.Rule
	refused    int // number of problems in the packs
	sinks      []sink.Sink
	out        output
	deliveries []sink.Delivery
}

func (p *program) scan(ctx context.Context, f scanFlags, cmd *cobra.Command) (err error) {
	job := &scanJob{dryRun: f.dryRun, format: f.output}
	if job.out, err = newOutput(f.output, p.stdout); err != nil {
		return err
	}
	if job.selection, err = p.selectTraces(ctx, cmd, f.selectionFlags); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, job.close()) }()
	packs, refused, err := p.loadRules(p.config.rulePaths())
	if err != nil {
		return err
	}
	for _, pack := range packs {
		job.rules = append(job.rules, pack.Rules...)
	}
	if len(job.rules) == 0 {
		return errors.New("no usable rule: see the refused ones, or give others with --rules")
	}
	closeSinks, err := job.connectSinks()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSinks()) }()
	job.refused = refused
	return job.run(ctx)
}

// connectSinks prepares the destinations of violations. It sends no request.
func (j *scanJob) connectSinks() (closeSinks func() error, err error) {
	closeSinks = func() error { return nil }
	if j.client == nil || j.dryRun {
		return closeSinks, nil
	}
	otlp, err := j.config.otlpWriter()
	if err != nil {
		return nil, err
	}
	writer, err := tempoclient.NewWriter(otlp)
	if err != nil {
		return nil, err
	}
	closeSinks = writer.Close
	j.sinks = append(j.sinks, &sink.Tempo{Export: writer.Export, Read: j.client.Trace, NotFound: tempoclient.ErrNotFound, Concurrency: j.config.Scan.Concurrency})
	if j.config.Loki.URL != "" {
		loki, err := j.config.lokiSink()
		if err != nil {
			return nil, err
		}
		j.sinks = append(j.sinks, loki)
	}
	return closeSinks, nil
}

// run performs the scan and prints the summary.
func (j *scanJob) run(ctx context.Context) error {
	for _, s := range j.sinks {
		j.deliveries = append(j.deliveries, sink.Delivery{Sink: s.Name()})
	}
	filter := j.query
	if filter == nil || filter.IsAll() {
		filter = analyzer.Prefilter(j.rules)
	}
	opts := analyzer.ScanOptions{
		Source: func(ctx context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error) {
			return j.read(ctx, analyzer.Needs(j.rules, j.query), filter, deliver)
		},
		Rules: j.rules, Tenant: j.config.Tenant, SettledBefore: j.request.SettledBefore, Write: j.write, Progress: j.progress.judged,
		Circumstances: evidence.Circumstances{Origin: evidence.OriginScan, WindowStart: j.request.From, WindowEnd: j.request.To, Engine: engineVersion()},
	}
	if j.query != nil {
		query := j.query.OnBatches()
		var matches columnar.Bits
		opts.Filter = func(b *columnar.Batch) columnar.Bits {
			matches = query.SelectTraces(b, matches)
			return matches
		}
	}
	start := time.Now()
	result, err := analyzer.Scan(ctx, opts) // the problems of the result include the error
	j.progress.done()
	if j.refused > 0 {
		result.AddProblem("rules", fmt.Errorf("%s in the packs: refused rules did not judge", counted(j.refused, "problem")))
	}
	s := j.summarize(result, time.Since(start))
	if err != nil && nothingRead(&result.Reading, result.Traces.Seen) && j.format == "table" {
		return j.endOfReading(result.Reading, err)
	}
	if err := j.out.summary(s); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	for _, w := range s.Warnings {
		fmt.Fprintln(j.stderr, "warning:", w)
	}
	if n := len(s.Problems); n > 0 { // the last is the one that ended the scan
		fmt.Fprintln(j.stderr, "betrace:", problemLine(s.Problems[n-1]))
	}
	if code := s.exitCode(); code != exitOK {
		return exitError{code}
	}
	return nil
}

// write prints violations and delivers them to the sinks.
func (j *scanJob) write(ctx context.Context, vs []evidence.Violation) error {
	for _, v := range vs {
		own, _ := evidence.SpanIDs(v.ID)
		j.written.Store(own, true)
	}
	j.progress.pause()
	if err := j.out.violations(vs); err != nil {
		return fmt.Errorf("print the violations: %w", err)
	}
	var errs []error
	for i, d := range sink.Deliver(ctx, j.sinks, vs, sink.Options{}) {
		j.deliveries[i].Add(d) // also after an error: other sinks may have accepted them
		errs = append(errs, d.Err)
	}
	return errors.Join(errs...) // the next batch would fail in the same way
}

// ruleName returns the name of a rule in output.
func ruleName(r *rules.Rule) string { return strings.Join([]string{r.Pack.Name, r.ID}, "/") }
