package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// scanFlags are the flags of scan that are no settings.
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

Violations are written to Tempo as spans and, if Loki is named, to Loki as records, each once however often
a range is scanned, and read back. Traces from files are judged only: nothing is written.

Exit code: 0 no violation, 1 violations, 2 something could not be done: a rule was refused, a verdict is an
error, something was not read or not written.`,
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

// scanJob is what a scan works with.
type scanJob struct {
	*selection
	dryRun     bool
	format     string // of the output
	rules      []*rules.Rule
	refused    int // what was wrong with the packs
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
		return errors.New("no rule can be used: see what was refused, or name others with --rules")
	}
	closeSinks, err := job.connectSinks()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSinks()) }()
	job.refused = refused
	return job.run(ctx)
}

// connectSinks prepares what violations are written to. Nothing is asked of it yet.
func (j *scanJob) connectSinks() (closeSinks func() error, err error) {
	closeSinks = func() error { return nil }
	if j.client == nil || j.dryRun {
		return closeSinks, nil
	}
	otlp, err := j.config.otlp()
	if err != nil {
		return nil, err
	}
	writer, err := tempoclient.NewWriter(otlp)
	if err != nil {
		return nil, err
	}
	closeSinks = writer.Close
	j.sinks = append(j.sinks, &sink.Tempo{Export: writer.Export, Read: j.client.Trace, NotFound: tempoclient.ErrNotFound, Concurrency: j.config.viper.GetInt("scan.concurrency")})
	if url := j.config.viper.GetString("loki.url"); url != "" {
		access, err := j.config.access("loki")
		if err != nil {
			return nil, err
		}
		client, err := access.HTTPClient()
		if err != nil {
			return nil, fmt.Errorf("loki: %w", err)
		}
		loki, err := sink.NewLoki(sink.LokiConfig{URL: url, Client: client, Lookback: j.config.viper.GetDuration("loki.lookback"), Tries: j.config.viper.GetInt("scan.tries")})
		if err != nil {
			return nil, err
		}
		j.sinks = append(j.sinks, loki)
	}
	return closeSinks, nil
}

// run is the scan: source, verdicts, delivery, summary.
func (j *scanJob) run(ctx context.Context) error {
	for _, s := range j.sinks {
		j.deliveries = append(j.deliveries, sink.Delivery{Sink: s.Name()})
	}
	opts := analyzer.ScanOptions{
		Source: j.source(needsOf(j.rules, j.query), j.asked()), Rules: j.rules, IsOwn: evidence.IsOwn, Write: j.write,
		Progress: func(c analyzer.TraceCounts) { j.progress.judged(c) },
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
	result, err := analyzer.Scan(ctx, opts) // the result's problems include the error
	j.progress.done()
	if j.refused > 0 {
		result.Problems = append(result.Problems, analyzer.Problem{What: "rules", Why: counted(j.refused, "problem") + " in the packs: what was refused did not judge"})
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
		fmt.Fprintf(j.stderr, "betrace: %s: %s\n", s.Problems[n-1].What, oneLine(s.Problems[n-1].Why))
	}
	if code := s.exitCode(); code != exitOK {
		return exitError{code}
	}
	return nil
}

// asked returns what a span must match in every trace that is read.
func (j *scanJob) asked() *traceql.Filter {
	if j.query != nil && !j.query.IsAll() {
		return j.query
	}
	filters := make([]*traceql.Filter, len(j.rules))
	for i, r := range j.rules {
		filters[i] = r.Prefilter()
	}
	return traceql.Or(filters...)
}

// write shows violations and brings them into the sinks.
func (j *scanJob) write(ctx context.Context, found []analyzer.Violation) error {
	vs := make([]evidence.Violation, len(found))
	for i, v := range found {
		vs[i] = j.violation(v)
		own, _ := evidence.SpanIDs(vs[i].ID)
		j.written.Store(own, true)
	}
	j.progress.pause()
	if err := j.out.violations(vs); err != nil {
		return fmt.Errorf("show the violations: %w", err)
	}
	var errs []error
	for i, d := range sink.Deliver(ctx, j.sinks, vs, sink.Options{}) {
		j.deliveries[i].Add(d) // what one sink refuses the others may have taken
		errs = append(errs, d.Err)
	}
	return errors.Join(errs...) // what one batch meets, the next will
}

// violation returns what is written of a verdict.
func (j *scanJob) violation(found analyzer.Violation) evidence.Violation {
	v, t := found.Verdict, found.Trace
	r := v.Rule
	tenant := j.config.viper.GetString("tenant")
	out := evidence.Violation{
		ID: evidence.ViolationID(tenant, r.Pack.Name, r.ID, r.Digest, t.ID), Tenant: tenant,
		Pack: r.Pack.Name, PackVersion: r.Pack.Version, RuleID: r.ID, RuleDigest: r.Digest,
		Title: r.Title, Severity: string(r.Severity), Controls: slices.Clone(r.Controls),
		Clause: v.Clause, Message: v.Message,
		TraceID: t.ID, TraceStart: t.Start(), RootService: t.RootService(), Services: t.Services(),
		Root: evidence.RefOf(&t.Spans[max(t.Root(), 0)]),
		Circumstances: evidence.Circumstances{
			Origin: evidence.OriginScan, WindowStart: j.from, WindowEnd: j.to,
			Provisional: t.End().Time().After(j.young), Engine: engineVersion(),
		},
	}
	if j.from.IsZero() { // one trace, or files: there is no range but the trace's own
		out.WindowStart, out.WindowEnd = t.Start().Time(), t.End().Time()
	}
	for _, i := range v.About {
		out.About = append(out.About, evidence.RefOf(&t.Spans[i]))
	}
	return out
}

// ruleName is how a rule is named to people.
func ruleName(r *rules.Rule) string { return strings.Join([]string{r.Pack.Name, r.ID}, "/") }
