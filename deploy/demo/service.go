package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace/tracetest"
)

// serviceConfig is the configuration of the service. Its arguments are the addresses of the servers, and the folder
// with Tempo's blocks. The times are short, so that the demo is.
const serviceConfig = `state: state.db
server: {address: "127.0.0.1:0"}
tempo:
  url: %s
  otlp: %s
  blocks: %s
loki: {url: %s}
outbox: {resend_after: 5s}
sweeps:
  - {name: orders, schedule: "@every 2s", packs: [orders.yaml], start: 10m, settle: 20s, hold: 0s}
`

const configFile = "betrace.yaml"

// endTimeout is the time for the end of the service.
const endTimeout = time.Minute

// serve judges orders on schedule. Late spans correct a verdict, although the service is killed meanwhile.
func (d *demo) serve(ctx context.Context) (err error) {
	d.title("8. The service judges everything that Tempo stores, on schedule")
	if d.stack.TempoBlocks == "" {
		d.say("Skipped: the service reads Tempo's blocks, and the storage of a Tempo that was running before is unknown.")
		return nil
	}
	s := &service{demo: *d, log: filepath.Join(d.dir, "serve.log")}
	s.workDir = d.dir
	defer func() {
		err = errors.Join(err, s.end(syscall.SIGTERM))
		if err != nil {
			err = fmt.Errorf("%w\nthe log of the service ends with\n%s", err, s.logTail())
		}
	}()
	config := fmt.Sprintf(serviceConfig, d.stack.TempoURL, d.stack.OTLPGRPC, d.stack.TempoBlocks, d.stack.LokiURL)
	for name, text := range map[string]string{configFile: config, "orders.yaml": ordersPack} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	d.say("$ cat orders.yaml\n\n%s\n$ cat %s\n\n%s", ordersPack, configFile, config)
	if err := s.start(); err != nil {
		return err
	}
	s.orders = newOrders(time.Now())
	for _, step := range []func(context.Context) error{s.judge, s.crash, s.correct, s.cover} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// service is betrace serve, as a user runs it.
type service struct {
	demo
	log    string
	orders []order

	process, guard *exec.Cmd
	exited         chan struct{} // closed after the process has ended
	alive          io.Closer     // closing it makes the guard kill the process
}

// start starts the service, and a guard that kills it if this program dies for any reason.
func (s *service) start() error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()                                                    // the child has its own descriptor
	s.process = exec.Command(s.betrace, "serve", "--config", configFile) //nolint:noctx // stop ends it
	s.process.Dir, s.process.Stdout, s.process.Stderr = s.workDir, log, log
	if err := s.process.Start(); err != nil {
		return err
	}
	process, exited := s.process, make(chan struct{})
	s.exited = exited
	go func() {
		process.Wait() //nolint:errcheck // the result is in its ProcessState
		close(exited)
	}()
	pid := strconv.Itoa(s.process.Process.Pid)
	s.guard = exec.Command("sh", "-c", `cat >/dev/null; kill -KILL "$0"`, pid) //nolint:noctx // end ends it
	if s.alive, err = s.guard.StdinPipe(); err != nil {
		return err
	}
	if err := s.guard.Start(); err != nil {
		return err
	}
	s.say("$ betrace serve --config %s 2>> serve.log &\n[1] %s", configFile, pid)
	return nil
}

// end sends a signal to the service and waits for its end. Without a running service it does nothing.
func (s *service) end(signal syscall.Signal) error {
	if s.process == nil || s.process.Process == nil {
		return nil
	}
	// The guard ends first, because another process may have the same PID later.
	if s.guard != nil && s.guard.Process != nil {
		s.guard.Process.Kill() //nolint:errcheck // it has ended
		s.guard.Wait()         //nolint:errcheck // it was killed
		s.alive.Close()
	}
	process := s.process
	s.process, s.guard = nil, nil
	if err := process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
	case <-time.After(endTimeout):
		process.Process.Kill() //nolint:errcheck // it has ended
		<-s.exited
		return fmt.Errorf("betrace serve did not end within %s of %s", endTimeout, signal)
	}
	if state := process.ProcessState; signal == syscall.SIGTERM && !state.Success() {
		return fmt.Errorf("betrace serve: %s", state)
	}
	return nil
}

// logTail returns the end of the service's log.
func (s *service) logTail() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(len(lines)-10, 0):], "\n")
}

// send sends spans to Tempo, and makes it write a block.
func (s *service) send(ctx context.Context, spans ...ptrace.Traces) error {
	writer, err := tempoclient.NewWriter(tempoclient.WriterConfig{Addr: s.stack.OTLPGRPC, Access: tempoclient.Access{PlainText: true}})
	if err != nil {
		return err
	}
	defer writer.Close()
	if err := writer.Export(ctx, tracetest.Merge(spans...)); err != nil {
		return err
	}
	return s.stack.Flush(ctx)
}

// judge sends the orders without the late span, and waits for the violations.
func (s *service) judge(ctx context.Context) error {
	var spans []ptrace.Traces
	for i := range s.orders {
		spans = append(spans, s.orders[i].spans)
	}
	if err := s.send(ctx, spans...); err != nil {
		return err
	}
	s.say("\nSent %d orders to Tempo, which writes them to a block. %d of them were never paid, and the payment of order %d is late.", orders, unpaid, lateOrder)
	err := s.await(ctx, fmt.Sprintf("the service has found and delivered %d violations", unpaid+1), func(standing string, _ bool) bool { return standing != "withdrawn" })
	if err != nil {
		return err
	}
	s.say("The service has found %d violations, and has written them to Tempo and Loki.\nThey are provisional until the settle time has passed.\n", unpaid+1)
	return s.runBetrace(ctx, "violations", "--config", configFile)
}

// crash sends the late span, and kills the service, which then has the block ahead of it or is reading it.
func (s *service) crash(ctx context.Context) error {
	s.title("9. Late spans correct a verdict, also after a crash")
	var late []ptrace.Traces
	for i := range s.orders {
		late = append(late, s.orders[i].late)
	}
	if err := s.send(ctx, late...); err != nil {
		return err
	}
	s.say("The payment of order %d has arrived in a second block. The service is killed now, whatever it does, and started again.\n", lateOrder)
	s.say("$ kill -9 %d", s.process.Process.Pid)
	if err := s.end(syscall.SIGKILL); err != nil {
		return err
	}
	return s.start()
}

// correct waits for the correction.
func (s *service) correct(ctx context.Context) error {
	s.say("\nThe next ticks read the second block and deliver a correction. Then the settle time passes.")
	err := s.await(ctx, "the service has corrected the verdict on the late order, and confirmed the others", func(standing string, isLate bool) bool {
		return isLate && standing == "withdrawn" || !isLate && standing == "confirmed"
	})
	if err != nil {
		return err
	}
	s.say("The violation of order %d is withdrawn, and the others are confirmed.\n", lateOrder)
	if err := s.runBetrace(ctx, "violations", "--config", configFile); err != nil {
		return err
	}
	return s.readBack(ctx)
}

// await waits until the violations have the wanted standings and nothing waits for a sink.
func (s *service) await(ctx context.Context, what string, wanted func(standing string, isLate bool) bool) error {
	last := "nothing"
	err := until(ctx, what, func() (bool, error) {
		select {
		case <-s.exited:
			return false, fmt.Errorf("betrace serve has ended: %s", s.process.ProcessState)
		default:
		}
		var listed struct {
			Violations []struct {
				Violation struct{ Trace struct{ ID string } }
				Standing  string
			}
		}
		var sweeps struct {
			Outbox []struct {
				Sink  string
				Items int
			}
		}
		if err := errors.Join(s.read(ctx, &listed, "violations"), s.read(ctx, &sweeps, "sweeps")); err != nil {
			last = err.Error()
			return false, nil //nolint:nilerr // the service may be making the state just now
		}
		standings := map[string]string{}
		for _, v := range listed.Violations {
			standings[v.Violation.Trace.ID] = v.Standing
		}
		last = fmt.Sprintf("violations %v, to deliver %v", standings, sweeps.Outbox)
		for i := range s.orders {
			o := &s.orders[i]
			standing, found := standings[o.id]
			isLate := o.number == lateOrder
			if found != (o.unpaid || isLate) || found && !wanted(standing, isLate) {
				return false, nil
			}
		}
		return len(sweeps.Outbox) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("%w; at last: %s", err, last)
	}
	return nil
}

// read reads the output of a command.
func (s *service) read(ctx context.Context, into any, command string) error {
	cmd := exec.CommandContext(ctx, s.betrace, command, "--config", configFile, "-o", "json")
	cmd.Dir = s.workDir
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("betrace %s: %w", command, err)
	}
	return json.Unmarshal(out, into)
}

// readBack compares the violations and corrections in Tempo and Loki with those of the state.
func (s *service) readBack(ctx context.Context) error {
	s.say("\nTempo and Loki have each of them once:\n")
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\tIN THE STATE\tIN TEMPO\tIN LOKI")
	correction := ""
	for _, kind := range []struct {
		name, spans, records string
		want                 int
	}{
		{"violations", violationQuery, sweepRecordQuery, unpaid + 1},
		{"corrections", correctionQuery, correctionRecordQuery, 1},
	} {
		inTempo, inLoki := 0, 0
		err := until(ctx, "Tempo's search finds the "+kind.name, func() (bool, error) {
			spans, err := tempoSpans(ctx, s.stack.TempoURL, kind.spans)
			inTempo = len(slices.DeleteFunc(spans, s.isOther))
			return inTempo >= kind.want, err
		})
		if err != nil {
			return err
		}
		records, err := lokiRecords(ctx, s.stack.LokiURL, kind.records)
		if err != nil {
			return err
		}
		for _, r := range records {
			if !s.isOther(r.violation) {
				inLoki++
				correction = r.line // corrections are read last
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", kind.name, kind.want, inTempo, inLoki)
		if inTempo != kind.want || inLoki != kind.want {
			return fmt.Errorf("the state has %d %s, Tempo %d, and Loki %d", kind.want, kind.name, inTempo, inLoki)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	s.say("\nThe correction in Loki, and the query for it:\n\n%s\n", correction)
	s.say("  curl -G %s/loki/api/v1/query_range --data-urlencode 'query=%s'", s.stack.LokiURL, correctionRecordQuery)
	return nil
}

// isOther reports whether a violation is none of the orders.
func (s *service) isOther(v violation) bool {
	return v.rule != ordersRule || !slices.ContainsFunc(s.orders, func(o order) bool { return o.id == v.trace })
}

// cover shows the coverage. On a busy machine a tick may be late, which the command reports, so it is repeated.
func (s *service) cover(ctx context.Context) error {
	s.title("10. Up to when everything was judged")
	var out bytes.Buffer
	shown := s.demo
	shown.out = &out
	err := until(ctx, "the coverage has no hole", func() (bool, error) {
		out.Reset()
		return shown.runBetrace(ctx, "coverage", "--config", configFile, "--since", "2m", "--step", "5s") == nil, nil
	})
	fmt.Fprint(s.out, out.String())
	return err
}
