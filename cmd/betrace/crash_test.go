package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/tracetest"
)

var (
	crashes       = flag.Int("crashes", 10, "number of random moments at which TestCrashesLoseNothing ends the service, besides the named steps")
	crashPatience = flag.Duration("crash.patience", patience, "time after which a service that does not finish has failed")
	crashSeed     = flag.Uint64("crash.seed", 0, "seed of TestCrashesLoseNothing; 0 is a new one")
)

// withSeed runs a test with a tenant of its own.
func withSeed(t *testing.T, test func(*testing.T, *served)) {
	seed := cmp.Or(*crashSeed, uint64(time.Now().UnixNano()))
	t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { test(t, newServed(t, seed)) })
}

// crash is betrace that ends with SIGKILL when a step takes place for the nth time: CRASH_AT="3 tick judged".
func crash() {
	times, at, _ := strings.Cut(os.Getenv("CRASH_AT"), " ")
	left, _ := strconv.Atoi(times)
	var mu sync.Mutex
	start(func(name string) {
		mu.Lock()
		defer mu.Unlock()
		if name != at {
			return
		}
		if left--; left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL) //nolint:errcheck // it does not return
			select {}
		}
	})
}

// crashSteps are the named steps of the start, of a tick and of a delivery.
var crashSteps = []string{
	"started", "tick listed", "tick read", "tick judged", "tick in commit", "tick committed",
	"delivery marked", "delivery sent", "delivery read back", "delivery confirmed",
}

// gate forwards connections to a server while it is open.
type gate struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	thawed   sync.Cond
	frozen   bool // connections stay, and nothing passes
	closed   bool
	conns    map[net.Conn]bool
}

func newGate(t *testing.T, target string) *gate {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{listener: listener, target: target, conns: map[net.Conn]bool{}}
	g.thawed.L = &g.mu
	var done sync.WaitGroup
	done.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() { g.forward(in) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		g.open(false)
		done.Wait()
	})
	return g
}

// forward copies both directions of a connection until one end closes it, or the gate.
func (g *gate) forward(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer out.Close()
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.conns[in], g.conns[out] = true, true
	g.mu.Unlock()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			io.Copy(thawedWriter{g, pair[0]}, pair[1]) //nolint:errcheck // the connection ends
			pair[0].Close()
			pair[1].Close()
		})
	}
	both.Wait()
	g.mu.Lock()
	delete(g.conns, in)
	delete(g.conns, out)
	g.mu.Unlock()
}

// thawedWriter writes when the gate is not frozen.
type thawedWriter struct {
	*gate
	to io.Writer
}

func (w thawedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	for w.frozen && !w.closed {
		w.thawed.Wait()
	}
	w.mu.Unlock()
	return w.to.Write(b)
}

// freeze lets nothing pass, without an end of the connections.
func (g *gate) freeze(frozen bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen = frozen
	g.thawed.Broadcast()
}

// open opens the gate, or closes it and all connections.
func (g *gate) open(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = !open
	g.thawed.Broadcast()
	if !open {
		for c := range g.conns {
			c.Close()
		}
	}
}

func (g *gate) address() string { return g.listener.Addr().String() }

// served is a betrace serve that judges the blocks of a tenant of real servers, which it reaches through gates.
type served struct {
	*world
	database     string // the URL of the state, or empty
	dir, config  string
	otlp, api    *gate
	lokiGate     *gate
	store        *blocks.Store
	traces, late []tracetest.Generated
	planted      []found
	log          *os.File
	began        time.Time
	seed         uint64
	rng          *rand.Rand
	sent         int
}

// servedStack are the servers of the service. Tempo does not cut blocks by itself, because it mixes the order of rows if a
// flush happens meanwhile, and such a block cannot be read.
var servedStack = stack.Options{Tempo: true, Loki: true, Profile: stack.Fast, Multitenant: true, FlushOnly: true, Compacting: true}

func newServed(t *testing.T, seed uint64) *served {
	t.Helper()
	return newServedOn(t, seed, servedStack)
}

// newServedOn is newServed with other servers.
func newServedOn(t *testing.T, seed uint64, servers stack.Options) *served {
	t.Helper()
	s := &served{
		world: newWorldOf(t, servers),
		dir:   t.TempDir(), began: time.Now(), seed: seed, rng: rand.New(rand.NewPCG(seed, 1)),
	}
	tempoURL, err := url.Parse(s.TempoURL)
	require.NoError(t, err)
	lokiURL, err := url.Parse(s.LokiURL)
	require.NoError(t, err)
	s.otlp, s.api, s.lokiGate = newGate(t, s.OTLPGRPC), newGate(t, tempoURL.Host), newGate(t, lokiURL.Host)
	s.store, err = blocks.OpenFolder(t.Context(), s.TempoBlocks)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.store.Close()) })
	require.NoError(t, os.Mkdir(filepath.Dir(s.state()), 0o700))
	s.config = filepath.Join(s.dir, "betrace.yaml")
	require.NoError(t, os.WriteFile(s.config, fmt.Appendf(nil, `
state: %s
server: {address: "127.0.0.1:0"}
tempo: {url: "http://%s", otlp: "%s", blocks: %s, compacted_block_retention: %s}
loki: {url: "http://%s"}
outbox: {resend_after: 5s}
scan: {tries: 2}
log: {level: debug}
sweeps:
  - {name: all, schedule: "@every 1s", tenants: [%s], packs: [%s], start: 1h, settle: 20s, hold: 0s}
`, s.state(), s.api.address(), s.otlp.address(), s.TempoBlocks, stack.CompactedRetention, s.lokiGate.address(), s.tenant, packFile(t)), 0o600))
	s.log, err = os.Create(filepath.Join(s.dir, "log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		s.log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(s.log.Name())
			lines := bytes.Split(text, []byte("\n"))
			t.Logf("seed %d: run again with -crash.seed %d; the end of the log:\n%s", seed, seed, bytes.Join(lines[max(len(lines)-60, 0):], []byte("\n")))
		}
	})
	return s
}

func (s *served) state() string {
	if s.database != "" {
		return s.database
	}
	return filepath.Join(s.dir, "state", "state.db")
}

// load sends traces, and has Tempo write them to a block. The late spans of some come with the next load, so that their
// verdicts are corrected.
func (s *served) load(t *testing.T, traces int) {
	t.Helper()
	s.send(t, s.generate(traces))
	require.NoError(t, s.Flush(t.Context()))
}

// generate returns the traces of a load.
func (s *served) generate(traces int) []tracetest.Generated {
	s.sent++
	now := s.late
	s.late = nil
	if traces > 0 {
		o := tracetest.Mixed(s.seed+uint64(s.sent), traces).ForTempo()
		o.Start, o.Window = time.Now().Add(-20*time.Second), 15*time.Second
		all, planted := generate(o)
		s.traces, s.planted = append(s.traces, all...), append(s.planted, planted...)
		for _, g := range all {
			if s.rng.IntN(3) == 0 {
				first, second := s.halves(tracetest.Merge(g.Batches...))
				late := g
				g.Batches, late.Batches = []ptrace.Traces{first}, []ptrace.Traces{second}
				s.late = append(s.late, late)
			}
			now = append(now, g)
		}
	}
	return now
}

// halves divides spans at random.
func (s *served) halves(td ptrace.Traces) (first, second ptrace.Traces) {
	first, second = ptrace.NewTraces(), ptrace.NewTraces()
	td.CopyTo(first)
	td.CopyTo(second)
	isSecond := map[trace.SpanID]bool{} // also of further copies
	choose := func(span ptrace.Span) bool {
		id := trace.SpanID(span.SpanID())
		if _, known := isSecond[id]; !known {
			isSecond[id] = s.rng.IntN(2) == 0
		}
		return isSecond[id]
	}
	for i, half := range []ptrace.Traces{first, second} {
		for _, resource := range half.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				scope.Spans().RemoveIf(func(span ptrace.Span) bool { return choose(span) == (i == 0) })
			}
		}
	}
	return first, second
}

// start starts the service. at is a step at which it ends, or empty.
func (s *served) start(t *testing.T, at string) *exec.Cmd {
	t.Helper()
	return s.startWith(t, at, s.config)
}

// startWith is start with another configuration.
func (s *served) startWith(t *testing.T, at, config string) *exec.Cmd {
	t.Helper()
	fmt.Fprintf(s.log, "--- start, end at %q\n", at)
	cmd := exec.Command("betrace-crash", "serve", "--config", config)
	cmd.Env = append(os.Environ(), "CRASH_AT="+at)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() }) //nolint:errcheck // it has ended
	return cmd
}

// isKilled reports whether a process ended with SIGKILL.
func isKilled(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// runUntil runs the service until it ends itself at a step.
func (s *served) runUntil(t *testing.T, at string) {
	t.Helper()
	cmd := s.start(t, at)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		require.True(t, isKilled(err), "at %q: %v", at, err)
	case <-time.After(patience):
		require.Fail(t, "step not reached", at)
	}
}

// finish runs the service until it has judged and delivered everything, and stops it with SIGTERM.
func (s *served) finish(t *testing.T) {
	t.Helper()
	cmd := s.start(t, "")
	s.await(t, true)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
}

// progress returns the unfinished part of the work, or an empty string: planted violations that the state does not have,
// and with delivered also blocks that are not judged and deliveries that are not confirmed.
func (s *served) progress(t *testing.T, delivered bool) string {
	t.Helper()
	db, err := state.OpenReadOnly(t.Context(), s.state())
	if err != nil {
		return err.Error() // it may be made just now
	}
	defer db.Close()
	_, open := s.violations(t, db)
	if diff := gocmp.Diff(sorted(s.planted), sorted(open)); diff != "" {
		return "planted and found violations differ: " + diff
	}
	if !delivered {
		return ""
	}
	depths, err := db.Outbox(t.Context())
	require.NoError(t, err)
	if n := s.unjudged(t, db); n != 0 || len(depths) > 0 {
		return fmt.Sprintf("%d blocks are not judged, the outbox has %v", n, depths)
	}
	return ""
}

// await waits until nothing is left of the work.
func (s *served) await(t *testing.T, delivered bool) {
	t.Helper()
	left := ""
	for deadline := time.Now().Add(*crashPatience); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
		if left = s.progress(t, delivered); left == "" {
			return
		}
	}
	require.Fail(t, "the service does not finish", left)
}

// awaitFailure waits until a delivery has failed.
func (s *served) awaitFailure(t *testing.T) {
	t.Helper()
	db, err := state.OpenReadOnly(t.Context(), s.state())
	require.NoError(t, err)
	defer db.Close()
	require.Eventually(t, func() bool {
		waiting, err := db.DueDeliveries(t.Context(), time.Now().Add(time.Hour), 100)
		require.NoError(t, err)
		return slices.ContainsFunc(waiting, func(d state.Delivery) bool { return d.Error != "" })
	}, *crashPatience, 100*time.Millisecond, "a delivery to a closed sink must fail")
}

// violations returns all violations of the state, and the open ones by trace and rule.
func (s *served) violations(t *testing.T, db *state.DB) (all []state.Violation, open []found) {
	t.Helper()
	all, err := db.Violations(t.Context(), state.ViolationFilter{Limit: 1_000_000})
	require.NoError(t, err)
	for _, v := range all {
		if v.Status == state.StatusOpen {
			open = append(open, found{v.TraceID.String(), v.RuleID})
		}
	}
	return all, open
}

// unjudged returns the number of live blocks that are not judged.
func (s *served) unjudged(t *testing.T, db *state.DB) int {
	t.Helper()
	ledgers, err := db.Ledgers(t.Context())
	require.NoError(t, err)
	if len(ledgers) == 0 {
		return -1
	}
	require.Len(t, ledgers, 1)
	known, err := db.LedgerBlocks(t.Context(), ledgers[0].ID)
	require.NoError(t, err)
	listing, err := s.store.List(t.Context(), s.tenant)
	require.NoError(t, err)
	n := 0
	for _, m := range listing.Live {
		if b := known[m.ID]; b.State != state.BlockJudged && b.State != state.BlockBefore {
			n++
		}
	}
	return n
}

// check compares the state with the planted violations, and Tempo and Loki with the state.
func (s *served) check(t *testing.T) {
	t.Helper()
	db, err := state.OpenReadOnly(t.Context(), s.state())
	require.NoError(t, err)
	defer db.Close()
	all, open := s.violations(t, db)
	require.Equal(t, sorted(s.planted), sorted(open))
	want := map[string]int{}
	corrected := map[string]int{}
	for i := range all {
		want[all[i].ID]++
		corrections, err := db.ViolationCorrections(t.Context(), all[i].ID)
		require.NoError(t, err)
		require.Len(t, corrections, all[i].Sequence)
		require.Equal(t, all[i].Status == state.StatusWithdrawn, len(corrections)%2 == 1, "corrections withdraw and reinstate in turn")
		for _, c := range corrections {
			corrected[c.ID]++
		}
	}
	inLoki := s.idsInLoki(t)
	require.Equal(t, want, inLoki["violation"], "each violation is in Loki once")
	require.Equal(t, corrected, inLoki["correction"], "each correction is in Loki once")
	s.checkTempo(t, slices.Collect(maps.Keys(want)), func(id string) trace.ID { tr, _ := evidence.SpanIDs(id); return tr }, evidence.HoldsViolation)
	s.checkTempo(t, slices.Collect(maps.Keys(corrected)), func(id string) trace.ID { tr, _ := evidence.CorrectionSpanIDs(id); return tr }, evidence.HoldsCorrection)
	t.Logf("seed %d: %d traces, %d violations (%d open), %d corrections, each in the state, in Tempo and in Loki once", s.seed, len(s.traces), len(all), len(open), len(corrected))
}

// checkTempo checks that Tempo has each of the violations or corrections once.
func (s *served) checkTempo(t *testing.T, ids []string, traceOf func(id string) trace.ID, holds func(*trace.Trace, string) bool) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(8)
	for _, id := range ids {
		group.Go(func() error {
			tr, err := s.client.Trace(ctx, traceOf(id))
			if err == nil && (len(tr.Spans) != 1 || !holds(tr, id)) {
				err = fmt.Errorf("Tempo has %d spans of %s: want the one", len(tr.Spans), id)
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
}

// idsInLoki counts the records of sweeps by kind and ID.
func (s *served) idsInLoki(t *testing.T) map[string]map[string]int {
	t.Helper()
	counts := map[string]map[string]int{"violation": {}, "correction": {}}
	now := time.Now()
	for kind := range counts {
		for from := s.began; from.Before(now); from = from.Add(time.Minute) { // Loki gives up on large queries
			s.countInLoki(t, kind, from, from.Add(time.Minute), counts[kind])
		}
	}
	return counts
}

// countInLoki counts the records of a kind in a range of time, which it divides while Loki may have more records than it
// returns at once.
func (s *served) countInLoki(t *testing.T, kind string, from, to time.Time, counts map[string]int) {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Stream map[string]string
				Values [][]any
			}
		}
	}
	const limit = 5000
	s.get(t, s.LokiURL+"/loki/api/v1/query_range", url.Values{
		"query": {fmt.Sprintf(`{service_name="betrace", betrace_kind=%q, origin="sweep"}`, kind)}, "limit": {strconv.Itoa(limit)},
		"start": {strconv.FormatInt(from.UnixNano(), 10)}, "end": {strconv.FormatInt(to.UnixNano(), 10)},
	}, &answer)
	n := 0
	for _, stream := range answer.Data.Result {
		n += len(stream.Values)
	}
	if n >= limit {
		middle := from.Add(to.Sub(from) / 2)
		require.True(t, from.Before(middle), "%d records have one time", n)
		s.countInLoki(t, kind, from, middle, counts)
		s.countInLoki(t, kind, middle, to, counts)
		return
	}
	for _, stream := range answer.Data.Result {
		counts[stream.Stream[kind+"_id"]] += len(stream.Values)
	}
}

// TestCrashesLoseNothing ends the service at each named step and at random moments, while traces arrive. At the end
// every planted violation is in the state, in Tempo and in Loki once, and every block is judged.
func TestCrashesLoseNothing(t *testing.T) { withSeed(t, crashOften) }

func crashOften(t *testing.T, s *served) {
	steps := slices.Clone(crashSteps)
	for range *crashes {
		steps = append(steps, "")
	}
	s.rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for _, step := range steps {
		s.load(t, 20+s.rng.IntN(60))
		if step != "" {
			s.runUntil(t, "1 "+step)
			continue
		}
		cmd := s.start(t, "")
		time.Sleep(time.Duration(s.rng.Int64N(int64(4 * time.Second))))
		require.NoError(t, cmd.Process.Kill())
		require.True(t, isKilled(cmd.Wait()))
	}
	s.load(t, 0)
	s.finish(t)
	s.check(t)
}

// TestSinksThatAreAwayReceiveEverythingLater closes the connections to Tempo and to Loki for some time.
func TestSinksThatAreAwayReceiveEverythingLater(t *testing.T) { withSeed(t, closeGates) }

func closeGates(t *testing.T, s *served) {
	cmd := s.start(t, "")
	for _, gates := range [][]*gate{{s.lokiGate}, {s.otlp, s.api}, {s.lokiGate, s.otlp, s.api}} {
		for _, g := range gates {
			g.open(false)
		}
		s.load(t, 60)
		s.load(t, 0)
		s.await(t, false) // sweeps go on meanwhile
		s.awaitFailure(t)
		for _, g := range gates {
			g.open(true)
		}
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	s.load(t, 0)
	s.finish(t)
	s.check(t)
}
