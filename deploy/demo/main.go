// Command demo demonstrates BeTrace. It judges generated traces in a file and then stored blocks of a
// Tempo, both without any server. Then it prints how long the rest will take, starts a real Tempo and
// Loki, which it builds first if necessary, sends traces, scans them, and finds the violations again in
// both. It judges the traces that this Tempo makes of its own work. Finally it runs the service on this Tempo and Loki:
// late spans correct a verdict, although the service is killed meanwhile. Then it stops the servers.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/term"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/tracetest"
)

func main() {
	d := &demo{out: os.Stdout, start: stack.Start}
	flag.StringVar(&d.betrace, "betrace", "bin/betrace", "the betrace `program`")
	flag.IntVar(&d.traces, "traces", 120, "number of generated traces")
	flag.DurationVar(&d.scanned, "range", 5*time.Minute, "length of the scanned range in Tempo; it ends when the traces have been generated")
	flag.StringVar(&d.selfPack, "self-pack", "rules/packs/tempo-self.yaml", "the `pack` that judges Tempo's own traces")
	flag.StringVar(&d.examples, "examples", "docs/examples", "the `folder` with blocks of a Tempo and a pack for them")
	flag.Parse()
	os.Exit(d.main())
}

// main runs the demo until it ends or is interrupted, and returns the exit code. An interruption while
// the servers are built or started is not a failure, because the demo offers it.
func (d *demo) main() int {
	terminated, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	ctx, cancel := signal.NotifyContext(terminated, os.Interrupt)
	defer cancel()
	err := d.run(ctx)
	interrupted := ctx.Err() != nil && terminated.Err() == nil
	switch {
	case err == nil:
		return 0
	case interrupted && d.offersEnd:
		d.say("\nStopped. The packages compiled so far are kept: make demo continues from there.")
		d.say("To use BeTrace without any server: bin/betrace scan --help, and docs/user-guide.md.")
		return 0
	case interrupted:
		fmt.Fprintln(os.Stderr, "demo: interrupted: use make demo to start it again")
		return 130 // as in shells
	}
	fmt.Fprintln(os.Stderr, "demo:", err)
	return 1
}

// demo is one run of the program.
type demo struct {
	out                         io.Writer
	betrace, selfPack, examples string
	traces                      int
	scanned                     time.Duration
	// start starts the servers; a test delays it.
	start func(context.Context, stack.Options) (*stack.Stack, error)

	dir, pack string // the files that it writes
	workDir   string // of commands; empty is that of the demo
	generated []tracetest.Generated
	planted   map[violation]bool
	stack     *stack.Stack
	offersEnd bool // while the servers are built and started
	// from and to bound the scanned range in Tempo.
	from, to time.Time
	// asked is the time before the second scan, when Tempo is first searched for written violations.
	asked time.Time
}

// violation is a rule that a trace violates.
type violation struct{ trace, rule string }

// The generated traces start at least margin inside the scanned range, because the clocks of their services
// are wrong by up to this much.
const (
	margin    = 5 * time.Second
	maxWindow = 10 * time.Second
)

func (d *demo) run(ctx context.Context) (err error) {
	if d.scanned <= 2*margin {
		return fmt.Errorf("-range %s: use more than %s, because of the clock skew of the generated services", d.scanned, 2*margin)
	}
	start := time.Now()
	if d.betrace, err = filepath.Abs(d.betrace); err != nil { // commands run in several folders
		return err
	}
	if d.dir, err = os.MkdirTemp("", "betrace-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	d.pack = filepath.Join(d.dir, "shop.yaml")
	if err := os.WriteFile(d.pack, []byte(tracetest.Pack), 0o644); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.judgeFile, d.judgeBlocks, d.startServers} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, d.stack.Stop()) }()
	for _, step := range []func(context.Context) error{d.send, d.scan, d.readBack, d.judgeTempo, d.serve} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	after := "the servers are stopped now"
	if !d.stack.Started() {
		after = "the servers were running before and are left running"
	}
	d.title("Done in %s; %s", time.Since(start).Round(time.Second), after)
	d.say("To try it yourself: make up, then bin/betrace scan --help or docs/service.md, and make down.")
	return nil
}

func (d *demo) title(format string, args ...any) {
	bold, plain := "", ""
	if f, ok := d.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bold, plain = "\033[1m", "\033[0m"
	}
	fmt.Fprintf(d.out, "\n"+bold+format+plain+"\n\n", args...)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// generate makes the traces, which start shortly before now, and records their violations.
func (d *demo) generate() (batches []ptrace.Traces, spans int) {
	now := time.Now()
	window := min(maxWindow, d.scanned-2*margin)
	o := tracetest.Mixed(uint64(now.UnixNano()), d.traces).ForTempo()
	o.Start, o.Window, o.ViolationRate = now.Add(-margin-window), window, 0.15
	// A range has whole seconds.
	d.to = now.Truncate(time.Second).Add(time.Second)
	d.from = d.to.Add(-d.scanned)
	d.generated, d.planted = nil, map[violation]bool{}
	for g := range tracetest.New(o).All() {
		d.generated = append(d.generated, g)
		batches = append(batches, g.Batches...)
		spans += g.Spans
		for _, rule := range g.Violations {
			d.planted[violation{g.ID.String(), rule}] = true
		}
	}
	return batches, spans
}

// judgeFile writes generated traces to a file and judges them.
func (d *demo) judgeFile(ctx context.Context) error {
	d.title("1. Traces in a file, judged without any server")
	batches, spans := d.generate()
	file := filepath.Join(d.dir, "traces.jsonl")
	var lines bytes.Buffer
	if err := tracetest.WriteJSONLines(&lines, batches...); err != nil {
		return err
	}
	if err := os.WriteFile(file, lines.Bytes(), 0o644); err != nil {
		return err
	}
	d.say("Generated %d traces (%d spans) of a web shop; %d violations of the rules in shop.yaml are among them.\n", len(d.generated), spans, len(d.planted))
	return d.runBetrace(ctx, "scan", "--rules", d.pack, "--traces", file)
}

// judgeBlocks judges the stored blocks of a Tempo in this repository.
func (d *demo) judgeBlocks(ctx context.Context) error {
	d.title("2. Blocks from the object storage of a Tempo, read without that Tempo: the fast path")
	d.say("%s/tempo-blocks holds 300 traces, stored by a Tempo 3.\n", d.examples)
	return d.runBetrace(ctx, "scan", "--rules", filepath.Join(d.examples, "checkout.yaml"), "--from", "2026-11-23", "--to", "2026-11-24",
		"--tempo-blocks", filepath.Join(d.examples, "tempo-blocks"), "--source", "blocks", "--dry-run")
}

// startServers prints how long the start will take, and starts the servers.
func (d *demo) startServers(ctx context.Context) error {
	d.title("3. A real Tempo and a real Loki, on this machine only")
	// While Tempo moves a block to its storage, search may miss the block's traces, so no blocks are cut.
	opts := stack.Options{Tempo: true, Loki: true, SelfTrace: true, NoBlocks: true, Log: d.out}
	missing, err := stack.Missing(opts)
	if err != nil {
		return err
	}
	d.offersEnd = true
	if len(missing) == 0 {
		d.say("Both are available already. The rest takes about two minutes.")
	} else {
		d.say("Go now builds them from source, once. On two cores, not counting the downloads:")
		for _, server := range missing {
			d.say("  %-6s %s", server, server.BuildTime())
		}
		d.say("The rest takes about two minutes. Ctrl-C ends the demo here; make demo continues it later.\n")
	}
	if d.stack, err = d.start(ctx, opts); err != nil {
		return err
	}
	d.offersEnd = false
	d.say("Tempo %s   Loki %s", d.stack.TempoURL, d.stack.LokiURL)
	return nil
}

// runBetrace prints a command and runs it. Exit code 1 means violations.
func (d *demo) runBetrace(ctx context.Context, args ...string) error {
	shown := ""
	for _, arg := range args {
		arg = strings.TrimPrefix(arg, d.dir+"/")
		if strings.Contains(arg, " ") {
			arg = "'" + arg + "'"
		}
		shown += " " + arg
	}
	d.say("$ betrace%s\n", shown)
	cmd := exec.CommandContext(ctx, d.betrace, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Dir, cmd.Stdout, cmd.Stderr = d.workDir, d.out, d.out
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("betrace %s: %w", args[0], err)
	}
	return nil
}

// servers returns the flags for the stack's servers.
func (d *demo) servers() []string {
	return []string{"--tempo", d.stack.TempoURL, "--tempo-otlp", d.stack.OTLPGRPC, "--loki", d.stack.LokiURL}
}

// send generates new traces, since those of the file may be too old by now, sends them to Tempo as their
// services would, and waits until Tempo's search finds all of them.
func (d *demo) send(ctx context.Context) error {
	d.title("4. Traces of the shop, sent to Tempo and scanned there")
	batches, spans := d.generate()
	d.say("Generated %d new traces (%d spans) with %d violations.\n", len(d.generated), spans, len(d.planted))
	writer, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: d.stack.OTLPGRPC, Access: tempoclient.Access{PlainText: true}})
	if err != nil {
		return err
	}
	defer writer.Close()
	want := map[trace.ID]bool{}
	for _, g := range d.generated {
		want[g.ID] = true
	}
	if err := writer.Export(ctx, tracetest.Merge(batches...)); err != nil {
		return err
	}
	return until(ctx, "Tempo's search finds the traces", func() (bool, error) {
		ids, err := tempoTraces(ctx, d.stack.TempoURL)
		for _, id := range ids {
			delete(want, id)
		}
		return len(want) == 0, err
	})
}

// scan runs the scan, and then the same scan again.
func (d *demo) scan(ctx context.Context) error {
	// Tempo's own traces are judged later. Some traces of the shop name no service.
	args := append([]string{"scan", "--rules", d.pack, "--from", d.from.UTC().Format(time.RFC3339), "--to", d.to.UTC().Format(time.RFC3339), "--query", `{ resource.service.name != "tempo-all" || resource.service.name = nil }`}, d.servers()...)
	if err := d.runBetrace(ctx, args...); err != nil {
		return err
	}
	d.title("5. Scanned again: no violation is written twice")
	d.asked = time.Now()
	var out bytes.Buffer
	again := *d
	again.out = &out
	if err := again.runBetrace(ctx, args...); err != nil {
		return errors.Join(err, errors.New(out.String()))
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "tempo:") || strings.HasPrefix(line, "loki:") {
			fmt.Fprint(d.out, line)
		}
	}
	return nil
}

// readBack queries Tempo and Loki themselves, and compares their violations with the generated ones.
func (d *demo) readBack(ctx context.Context) error {
	d.title("6. Read back from Tempo (TraceQL) and from Loki (LogQL), beside the generated violations")
	var inTempo, inLoki map[violation]bool
	err := until(ctx, "Tempo's search finds the violation spans", func() (ok bool, err error) {
		inTempo, err = tempoViolations(ctx, d.stack.TempoURL)
		d.keepGenerated(inTempo)
		return len(inTempo) >= len(d.planted), err
	})
	if err != nil {
		return err
	}
	if inLoki, err = lokiViolations(ctx, d.stack.LokiURL); err != nil {
		return err
	}
	d.keepGenerated(inLoki)
	w := tabwriter.NewWriter(d.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "RULE\tGENERATED\tIN TEMPO\tIN LOKI")
	for _, rule := range rulesOf(d.planted, inTempo, inLoki) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", rule, count(d.planted, rule), count(inTempo, rule), count(inLoki, rule))
	}
	fmt.Fprintf(w, "all\t%d\t%d\t%d\n", len(d.planted), len(inTempo), len(inLoki))
	if err := w.Flush(); err != nil {
		return err
	}
	for name, have := range map[string]map[violation]bool{"Tempo": inTempo, "Loki": inLoki} {
		for v := range d.planted {
			if !have[v] {
				return fmt.Errorf("trace %s violates %s, but %s has no such violation", v.trace, v.rule, name)
			}
		}
		if len(have) != len(d.planted) {
			return fmt.Errorf("%s has %d violations; %d were generated", name, len(have), len(d.planted))
		}
	}
	d.say("\nAll violations are equal. A user of Tempo and Loki can query them with:\n")
	d.say("  curl -G %s/api/search --data-urlencode 'q=%s'", d.stack.TempoURL, violationQuery)
	d.say("  curl -G %s/loki/api/v1/query_range --data-urlencode 'query=%s'", d.stack.LokiURL, recordQuery)
	return nil
}

// keepGenerated removes the violations of traces that existed before, in servers that were running
// already.
func (d *demo) keepGenerated(vs map[violation]bool) {
	generated := map[string]bool{}
	for _, g := range d.generated {
		generated[g.ID.String()] = true
	}
	maps.DeleteFunc(vs, func(v violation, _ bool) bool { return !generated[v.trace] })
}

// judgeTempo judges traces of real software: those of the stack's own Tempo.
func (d *demo) judgeTempo(ctx context.Context) error {
	d.title("7. Traces of other software: Tempo's own, of the work above")
	// The scan makes more of these traces, which must stay out of its range.
	now := time.Now()
	args := []string{
		"scan", "--rules", d.selfPack, "--from", d.asked.UTC().Format(time.RFC3339), "--to", now.UTC().Format(time.RFC3339),
		"--query", `{ resource.service.name = "tempo-all" }`, "--max-trace-duration", "1s",
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(3 * time.Second):
	}
	return d.runBetrace(ctx, append(args, d.servers()...)...)
}

// until polls for at most three minutes, which allows for a loaded machine.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, fmt.Errorf("%s: condition not met within three minutes", what))
	defer cancel()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
}
