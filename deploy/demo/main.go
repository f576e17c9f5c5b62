// Command demo shows what BeTrace does, on real servers that it starts and stops:
// it generates traces that violate rules, judges them in a file, sends them to a
// Tempo, scans that, and finds the violations again in Tempo and in Loki. In the end
// it judges the traces that this Tempo makes of its own work.
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

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/analyzer/trace/tracetest"
	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/tempoclient"
)

func main() {
	d := &demo{out: os.Stdout}
	flag.StringVar(&d.betrace, "betrace", "bin/betrace", "the betrace `program`")
	flag.IntVar(&d.traces, "traces", 120, "how many traces are generated")
	flag.StringVar(&d.selfPack, "self-pack", "rules/packs/tempo-self.yaml", "the `pack` that judges Tempo's own traces")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := d.run(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is one run of it.
type demo struct {
	out               io.Writer
	betrace, selfPack string
	traces            int

	dir, pack string // what it writes
	generated []tracetest.Generated
	planted   map[violation]bool
	stack     *stack.Stack
	// asked is when Tempo was first asked for what had been written.
	asked time.Time
}

// violation is a rule that a trace violates.
type violation struct{ trace, rule string }

func (d *demo) run(ctx context.Context) (err error) {
	start := time.Now()
	if d.dir, err = os.MkdirTemp("", "betrace-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if err := d.judgeFile(ctx); err != nil {
		return err
	}
	d.title("2. A real Tempo and a real Loki, on this machine only")
	d.stack, err = stack.Start(ctx, stack.Options{Tempo: true, Loki: true, SelfTrace: true, Log: d.out})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stack.Stop()) }()
	d.say("Tempo %s   Loki %s", d.stack.TempoURL, d.stack.LokiURL)
	for _, step := range []func(context.Context) error{d.send, d.scan, d.readBack, d.judgeTempo} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	after := "the servers are stopped now"
	if !d.stack.Started() {
		after = "the servers, which ran before, are left as they are"
	}
	d.title("Done in %s; %s", time.Since(start).Round(time.Second), after)
	d.say("To look around with your own hands: make up, then bin/betrace scan --help, and make down.")
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

// judgeFile generates the traces, writes them to a file and judges that.
func (d *demo) judgeFile(ctx context.Context) error {
	d.title("1. Traces in a file, judged without any server")
	o := tracetest.Mixed(uint64(time.Now().UnixNano()), d.traces).ForTempo()
	o.Start, o.Window, o.ViolationRate = time.Now().Add(-30*time.Second), 10*time.Second, 0.15
	d.planted = map[violation]bool{}
	var batches []ptrace.Traces
	spans := 0
	for g := range tracetest.New(o).All() {
		d.generated = append(d.generated, g)
		batches = append(batches, g.Batches...)
		spans += g.Spans
		for _, rule := range g.Violations {
			d.planted[violation{g.ID.String(), rule}] = true
		}
	}
	d.pack = filepath.Join(d.dir, "shop.yaml")
	file := filepath.Join(d.dir, "traces.jsonl")
	var lines bytes.Buffer
	if err := tracetest.WriteJSONLines(&lines, batches...); err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(file, lines.Bytes(), 0o644), os.WriteFile(d.pack, []byte(tracetest.Pack), 0o644)); err != nil {
		return err
	}
	d.say("Generated %d traces (%d spans) of a web shop; %d violations of %s are among them.\n", len(d.generated), spans, len(d.planted), "the rules in shop.yaml")
	return d.runBetrace(ctx, "scan", "--rules", d.pack, "--traces", file)
}

// runBetrace shows a command and runs it. Exit code 1 means violations.
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
	cmd.Stdout, cmd.Stderr = d.out, d.out
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

// servers are the flags that name the stack's servers.
func (d *demo) servers() []string {
	return []string{"--tempo", d.stack.TempoURL, "--tempo-otlp", d.stack.OTLPGRPC, "--loki", d.stack.LokiURL}
}

// send sends the traces to Tempo as their services would, and waits until its
// search finds all.
func (d *demo) send(ctx context.Context) error {
	writer, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: d.stack.OTLPGRPC, Access: tempoclient.Access{PlainText: true}})
	if err != nil {
		return err
	}
	defer writer.Close()
	want := map[trace.ID]bool{}
	var batches []ptrace.Traces
	for _, g := range d.generated {
		batches = append(batches, g.Batches...)
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

// scan is the main job, and the same once more.
func (d *demo) scan(ctx context.Context) error {
	d.title("3. The same traces, sent to Tempo and scanned there")
	// Tempo's own traces come later. Some traces of the shop name no service.
	args := append([]string{"scan", "--rules", d.pack, "--since", "5m", "--query", `{ resource.service.name != "tempo-all" || resource.service.name = nil }`}, d.servers()...)
	if err := d.runBetrace(ctx, args...); err != nil {
		return err
	}
	d.title("4. Scanned again: what is there is not written again")
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

// readBack asks Tempo and Loki themselves, and holds what they have against what
// was generated.
func (d *demo) readBack(ctx context.Context) error {
	d.title("5. Read back from Tempo (TraceQL) and from Loki (LogQL), beside what was generated")
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
				return fmt.Errorf("trace %s violates %s, and %s has no such violation", v.trace, v.rule, name)
			}
		}
		if len(have) != len(d.planted) {
			return fmt.Errorf("%s has %d violations; %d were generated", name, len(have), len(d.planted))
		}
	}
	d.say("\nEqual, trace by trace. As a user of Tempo and Loki would ask:\n")
	d.say("  curl -G %s/api/search --data-urlencode 'q=%s'", d.stack.TempoURL, violationQuery)
	d.say("  curl -G %s/loki/api/v1/query_range --data-urlencode 'query=%s'", d.stack.LokiURL, recordQuery)
	return nil
}

// keepGenerated leaves out the violations of traces that were there before, in servers
// that ran already.
func (d *demo) keepGenerated(vs map[violation]bool) {
	generated := map[string]bool{}
	for _, g := range d.generated {
		generated[g.ID.String()] = true
	}
	maps.DeleteFunc(vs, func(v violation, _ bool) bool { return !generated[v.trace] })
}

// judgeTempo judges traces of real software: those of the stack's Tempo itself.
func (d *demo) judgeTempo(ctx context.Context) error {
	d.title("6. Traces that nobody here wrote: Tempo's own, of the work above")
	// The scan makes more of them, which shall stay out of its range.
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

// until polls for a minute at most.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("%s: not within a minute", what))
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
