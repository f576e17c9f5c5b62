package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/tracetest"
)

// patience bounds the waiting for a server. It ends a test that would wait for ever;
// a loaded machine stays far below it.
const patience = 10 * time.Minute

// world is a tenant of a real Tempo and a real Loki.
type world struct {
	*stack.Stack
	loki   string // the Loki that is named to betrace
	tenant string
	access tempoclient.Access
	client *tempoclient.Client
	writer *tempoclient.Writer
	// records are those that the last scan printed, without their circumstances, sorted.
	records []string
}

func newWorld(t *testing.T, profile stack.Profile) *world {
	t.Helper()
	opts := stack.Options{Tempo: true, Loki: true, Profile: profile, Multitenant: true}
	if profile == stack.Fast {
		// While Tempo moves a block, its search may find none of the block's traces. With
		// its defaults that is after 30 minutes, longer than these tests take.
		opts.NoBlocks = true
	}
	return newWorldOf(t, opts)
}

func newWorldOf(t *testing.T, opts stack.Options) *world {
	t.Helper()
	w := &world{Stack: stacktest.Get(t, opts)}
	w.loki = w.LokiURL
	w.useTenant(t, strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")))
	return w
}

// useTenant makes the world's clients use a tenant.
func (w *world) useTenant(t *testing.T, tenant string) {
	t.Helper()
	w.tenant = tenant
	w.access = tempoclient.Access{Tenant: w.tenant, PlainText: true}
	var err error
	w.client, err = tempoclient.New(tempoclient.Config{URL: w.TempoURL, GRPCAddr: w.TempoGRPC, Access: w.access})
	require.NoError(t, err)
	w.writer, err = tempoclient.NewWriter(tempoclient.WriterConfig{Addr: w.OTLPGRPC, Access: w.access})
	require.NoError(t, err)
	client, writer := w.client, w.writer
	t.Cleanup(func() { require.NoError(t, errors.Join(client.Close(), writer.Close())) })
}

// args are the flags that name the servers.
func (w *world) args(command ...string) []string {
	return append(command, "--tempo", w.TempoURL, "--tempo-grpc", w.TempoGRPC, "--tempo-otlp", w.OTLPGRPC, "--loki", w.loki, "--tenant", w.tenant)
}

// send writes the first batch of each trace, then those that come late.
func (w *world) send(t *testing.T, generated []tracetest.Generated) {
	t.Helper()
	for late := range 8 {
		var batches []ptrace.Traces
		for _, g := range generated {
			if late < len(g.Batches) {
				batches = append(batches, g.Batches[late])
			}
		}
		for chunk := range slices.Chunk(batches, 100) {
			require.NoError(t, w.writer.Export(t.Context(), tracetest.Merge(chunk...)))
		}
	}
}

// read reads a range until it has n traces. Written traces are found after a delay.
func (w *world) read(t *testing.T, from, to time.Time, n int) map[trace.ID]*trace.Trace {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := map[trace.ID]*trace.Trace{}
		report, err := w.client.Traces(t.Context(), tempoclient.Request{From: from, To: to}, func(tr *trace.Trace) error {
			got[tr.ID] = tr
			return nil
		})
		require.NoError(t, err)
		require.Empty(t, report.Problems)
		if len(got) >= n {
			return got
		}
		require.True(t, time.Now().Before(deadline), "%d of %d traces found: %+v", len(got), n, report)
		time.Sleep(time.Second)
	}
}

// found is a violation by its trace and rule.
type found struct{ Trace, Rule string }

func sorted(list []found) []found {
	slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.Trace+a.Rule, b.Trace+b.Rule) })
	return list
}

// scan runs betrace scan -o jsonl and returns its output.
func (w *world) scan(t *testing.T, wantCode int, args ...string) ([]found, summary) {
	t.Helper()
	code, stdout, stderr := betrace(t.Context(), append(w.args("scan", "-o", "jsonl"), args...)...)
	require.Equal(t, wantCode, code, stderr)
	var list []found
	var s summary
	w.records = recordsIn(t, stdout)
	for line := range strings.Lines(stdout) {
		var row struct {
			Violation *struct {
				Trace struct{ ID string }
				Rule  struct{ ID string }
			}
			Summary *summary
		}
		require.NoError(t, json.Unmarshal([]byte(line), &row), line)
		if row.Violation != nil {
			list = append(list, found{row.Violation.Trace.ID, row.Violation.Rule.ID})
		} else {
			s = *row.Summary
		}
	}
	return sorted(list), s
}

// recordsIn returns the records in the output of a scan -o jsonl, as Loki has them, sorted.
func recordsIn(t *testing.T, stdout string) (records []string) {
	t.Helper()
	for line := range strings.Lines(stdout) {
		var row struct{ Violation map[string]json.RawMessage }
		require.NoError(t, json.Unmarshal([]byte(line), &row), line)
		if row.Violation == nil {
			continue
		}
		require.Contains(t, string(row.Violation["circumstances"]), `"origin":"scan"`)
		delete(row.Violation, "circumstances")
		var out strings.Builder
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		require.NoError(t, e.Encode(row.Violation))
		records = append(records, strings.TrimSuffix(out.String(), "\n"))
	}
	slices.Sort(records)
	return records
}

// inTempo returns the violations that Tempo's own search finds.
func (w *world) inTempo(t *testing.T, want int) []found {
	t.Helper()
	var list []found
	require.Eventually(t, func() bool {
		var answer struct {
			Traces []struct {
				SpanSets []struct {
					Spans []struct {
						Attributes []struct {
							Key   string
							Value struct{ StringValue string }
						}
					}
				}
			}
		}
		w.get(t, w.TempoURL+"/api/search", url.Values{
			"q":     {`{ span.betrace.violation = true } | select(span.betrace.trace.id, span.betrace.rule.id)`},
			"limit": {"100000"}, "start": {fmt.Sprint(time.Now().Add(-time.Hour).Unix())}, "end": {fmt.Sprint(time.Now().Add(time.Minute).Unix())},
		}, &answer)
		list = nil
		for _, tr := range answer.Traces {
			for _, set := range tr.SpanSets {
				for _, span := range set.Spans {
					var f found
					for _, a := range span.Attributes {
						switch a.Key {
						case "betrace.trace.id":
							f.Trace = a.Value.StringValue
						case "betrace.rule.id":
							f.Rule = a.Value.StringValue
						}
					}
					list = append(list, f)
				}
			}
		}
		return len(list) >= want
	}, patience, 500*time.Millisecond, "not all of %d violation spans are found", want)
	return sorted(list)
}

// inLoki returns the violations that Loki holds, one for each entry.
func (w *world) inLoki(t *testing.T) (list []found) {
	t.Helper()
	for _, line := range w.linesInLoki(t) {
		v, err := evidence.ParseRecord([]byte(line))
		require.NoError(t, err)
		list = append(list, found{v.TraceID.String(), v.RuleID})
	}
	return sorted(list)
}

// linesInLoki returns the lines that Loki holds, sorted.
func (w *world) linesInLoki(t *testing.T) (lines []string) {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Stream map[string]string
				Values [][]any
			}
		}
	}
	w.get(t, w.LokiURL+"/loki/api/v1/query_range", url.Values{"query": {`{service_name="betrace", betrace_kind="violation"}`}, "limit": {"5000"}, "since": {"1h"}}, &answer)
	for _, stream := range answer.Data.Result {
		for _, v := range stream.Values {
			lines = append(lines, v[1].(string))
		}
	}
	slices.Sort(lines)
	return lines
}

func (w *world) get(t *testing.T, address string, query url.Values, into any) {
	t.Helper()
	client, err := w.access.HTTPClient()
	require.NoError(t, err)
	resp, err := client.Get(address + "?" + query.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode, address)
	require.NoError(t, json.NewDecoder(resp.Body).Decode(into))
}

// packFile writes the pack of the generated traces, and returns its path.
func packFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tracetest.yaml")
	require.NoError(t, os.WriteFile(path, []byte(tracetest.Pack), 0o644))
	return path
}

func generate(o tracetest.Options) (all []tracetest.Generated, planted []found) {
	for g := range tracetest.New(o).All() {
		all = append(all, g)
		for _, rule := range g.Violations {
			planted = append(planted, found{g.ID.String(), rule})
		}
	}
	return all, sorted(planted)
}

// spansOf returns how many spans the traces have, which may be sent more than once.
func spansOf(all []tracetest.Generated) (spans int64) {
	for _, g := range all {
		spans += int64(g.Spans)
	}
	return spans
}

// The main promise: the planted violations in traces of all kinds are found, in a
// Tempo for tests and in one with a user's defaults; in Tempo and in Loki; once.
func TestScanWritesExactlyWhatWasPlanted(t *testing.T) {
	for _, profile := range []stack.Profile{stack.Fast, stack.Default} {
		t.Run(string(profile), func(t *testing.T) {
			w := newWorld(t, profile)
			o := tracetest.Mixed(2026, 700).ForTempo()
			o.Start, o.Window = time.Now().Add(-50*time.Second).Truncate(time.Second), 10*time.Second
			all, planted := generate(o)
			require.Greater(t, len(planted), 200)
			w.send(t, all)
			w.complete(t, spansOf(all))

			from, to := o.Start.Add(-time.Minute), o.Start.Add(time.Minute)
			read := w.read(t, from, to, len(all))
			require.Len(t, read, len(all))
			for _, g := range all {
				want := g.Trace()
				require.NotNil(t, read[g.ID], "trace %s", g.ID)
				if diff := cmp.Diff(want.Spans, read[g.ID].Spans); diff != "" {
					t.Errorf("trace %s %v differs from the sent trace (-sent +read):\n%.3000s", g.ID, g.Nasty, diff)
				}
			}

			times := []string{"--rules", packFile(t), "--from", from.Format(time.RFC3339), "--to", to.Format(time.RFC3339)}
			printed, first := w.scan(t, exitViolations, times...)
			require.Empty(t, cmp.Diff(planted, printed))
			require.EqualValues(t, "provisional", first.Result)
			require.Equal(t, []sinkSummary{
				{Sink: "tempo", Written: len(planted), Confirmed: len(planted)},
				{Sink: "loki", Written: len(planted), Confirmed: len(planted)},
			}, first.Sinks)
			require.Empty(t, cmp.Diff(planted, w.inTempo(t, len(planted))))
			require.Empty(t, cmp.Diff(planted, w.inLoki(t)))

			w.complete(t, spansOf(all)+int64(len(planted)))
			// Scanned again, nothing is written again; nor are BeTrace's own spans judged.
			printed, second := w.scan(t, exitViolations, times...)
			require.Empty(t, cmp.Diff(planted, printed))
			require.Equal(t, []sinkSummary{{Sink: "tempo", AlreadyThere: len(planted)}, {Sink: "loki", AlreadyThere: len(planted)}}, second.Sinks)
			require.Equal(t, first.Rules, second.Rules)
			require.Empty(t, cmp.Diff(planted, w.inLoki(t)))
		})
	}
}

// Two scans at once, of ranges that overlap, find the same violations: each line is the same,
// and the same as that of a scan of the traces in a file.
func TestScansAtOnceFileTheSameLines(t *testing.T) {
	w := newWorld(t, stack.Fast)
	o := tracetest.Mixed(15, 300).ForTempo()
	o.Start, o.Window = time.Now().Add(-50*time.Second).Truncate(time.Second), 10*time.Second
	all, planted := generate(o)
	require.Greater(t, len(planted), 50)
	w.send(t, all)
	w.complete(t, spansOf(all))
	from, to := o.Start.Add(-time.Minute), o.Start.Add(time.Minute)
	w.read(t, from, to, len(all))
	pack := packFile(t)
	scans := [][]string{{"--source", "api"}, {"--source", "by-id"}}
	outputs := make([]string, len(scans))
	var wg sync.WaitGroup
	for i, source := range scans {
		wg.Go(func() {
			args := append(w.args("scan", "-o", "jsonl", "--rules", pack), source...)
			args = append(args, "--from", from.Add(-time.Duration(i)*time.Minute).Format(time.RFC3339), "--to", to.Format(time.RFC3339))
			code, stdout, stderr := betrace(t.Context(), args...)
			if outputs[i] = stdout; code != exitViolations {
				t.Errorf("%v: exit code %d: %s", source, code, stderr)
			}
		})
	}
	wg.Wait()
	want := recordsIn(t, outputs[0])
	require.Len(t, want, len(planted))
	require.Empty(t, cmp.Diff(want, recordsIn(t, outputs[1])))

	filed := w.linesInLoki(t)
	t.Logf("%d entries of %d violations", len(filed), len(planted))
	require.GreaterOrEqual(t, len(filed), len(planted))
	require.Empty(t, cmp.Diff(want, slices.Compact(filed)), "the lines of one violation are the same")

	code, stdout, stderr := betrace(t.Context(), w.args("export", "--from", from.Format(time.RFC3339), "--to", to.Format(time.RFC3339))...)
	require.Equal(t, exitOK, code, stderr)
	file := filepath.Join(t.TempDir(), "traces.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(stdout), 0o644))
	code, stdout, stderr = betrace(t.Context(), "scan", "-o", "jsonl", "--rules", pack, "--tenant", w.tenant, "--traces", file)
	require.Equal(t, exitViolations, code, stderr)
	require.Empty(t, cmp.Diff(want, recordsIn(t, stdout)))
}

func TestScanOfOneTrace(t *testing.T) {
	w := newWorld(t, stack.Fast)
	o := tracetest.Clean(5, 1)
	o.ViolationRate, o.Start, o.Window = 1, time.Now().Add(-20*time.Second), time.Second
	all, planted := generate(o)
	w.send(t, all)
	id := all[0].ID
	require.Eventually(t, func() bool {
		_, err := w.client.Trace(t.Context(), id)
		return err == nil
	}, patience, 100*time.Millisecond)
	printed, s := w.scan(t, exitViolations, "--rules", packFile(t), "--trace", id.String())
	require.Equal(t, planted, printed)
	require.Equal(t, "trace-id", s.Basis)
	require.Equal(t, planted, w.inLoki(t))

	code, _, stderr := betrace(t.Context(), w.args("scan", "--rules", packFile(t), "--trace", "00000000000000000000000000000009")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "no such trace: check the ID and the tenant")
}

func TestADryRunWritesNothing(t *testing.T) {
	w := newWorld(t, stack.Fast)
	o := tracetest.Clean(6, 20)
	o.ViolationRate, o.Start, o.Window = 1, time.Now().Add(-30*time.Second), time.Second
	all, planted := generate(o)
	w.send(t, all)
	w.read(t, o.Start.Add(-time.Second), o.Start.Add(time.Minute), len(all))
	printed, s := w.scan(t, exitViolations, "--rules", packFile(t), "--since", "1h", "--dry-run")
	require.Equal(t, planted, printed)
	require.Empty(t, s.Sinks)
	require.Contains(t, s.Warnings, "nothing was written: --dry-run")
	require.Empty(t, w.inLoki(t))
	_, err := w.client.Trace(t.Context(), violationTrace(t, w, planted[0]))
	require.ErrorIs(t, err, tempoclient.ErrNotFound)
}

// violationTrace returns the ID of the trace that a violation's span would be.
func violationTrace(t *testing.T, w *world, f found) trace.ID {
	t.Helper()
	p := &program{config: newConfig(), stderr: os.Stderr}
	packs, _, err := p.loadRules([]string{packFile(t)})
	require.NoError(t, err)
	id, err := trace.ParseID(f.Trace)
	require.NoError(t, err)
	for _, r := range packs[0].Rules {
		if r.ID == f.Rule {
			own, _ := evidence.SpanIDs(evidence.ViolationID(w.tenant, packs[0].Name, r.ID, r.Digest, id))
			return own
		}
	}
	t.Fatalf("no rule %s", f.Rule)
	return trace.ID{}
}

func TestWhatLokiRefusesIsSaidAndTempoIsWrittenAllTheSame(t *testing.T) {
	w := newWorld(t, stack.Fast)
	o := tracetest.Clean(8, 10)
	o.ViolationRate, o.Start, o.Window = 1, time.Now().Add(-30*time.Second), time.Second
	all, planted := generate(o)
	w.send(t, all)
	w.read(t, o.Start.Add(-time.Second), o.Start.Add(time.Minute), len(all))
	for name, loki := range map[string]string{"down": "http://" + closedPort(t), "refusing": w.TempoURL} {
		w.loki = loki
		printed, s := w.scan(t, exitFailed, "--rules", packFile(t), "--since", "1h", "--tries", "2")
		require.Equal(t, planted, printed, name)
		require.EqualValues(t, "incomplete", s.Result, name)
		require.Equal(t, len(planted), s.Sinks[0].Confirmed+s.Sinks[0].AlreadyThere, name)
		require.Equal(t, len(planted), s.Sinks[1].Missing, name)
		require.Contains(t, s.Sinks[1].Error, "loki: search for existing violations", name)
	}
	w.inTempo(t, len(planted))
}

// Ctrl-C at any moment: the program ends soon, with a summary.
func TestAScanThatIsInterruptedSaysWhatWasCompleted(t *testing.T) {
	w := newWorld(t, stack.Fast)
	o := tracetest.Mixed(9, 600).ForTempo()
	o.Start, o.Window = time.Now().Add(-50*time.Second), 10*time.Second
	all, _ := generate(o)
	w.send(t, all)
	w.complete(t, spansOf(all))
	w.read(t, o.Start.Add(-time.Minute), o.Start.Add(time.Minute), len(all))
	interrupted := errors.New("interrupt signal received")
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 300 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var at time.Time
		timer := time.AfterFunc(after, func() { at = time.Now(); cancel(interrupted) })
		code, stdout, stderr := betrace(ctx, append(w.args("scan", "-o", "jsonl"), "--rules", packFile(t), "--since", "1h")...)
		if timer.Stop() {
			break // it was done before
		}
		require.Less(t, time.Since(at), 10*time.Second, "after %s", after) // a fraction of a second on an idle machine
		require.Equal(t, exitFailed, code, "after %s: %s", after, stdout)
		require.Contains(t, stderr, "betrace: the scan ended early: ", "after %s", after)
		require.Contains(t, stderr, "interrupt signal received", "after %s", after)
		require.Contains(t, stdout, `{"summary":{"result":"incomplete"`, "after %s", after)
	}
	// Nothing of it is in the way of a later scan.
	_, s := w.scan(t, exitViolations, "--rules", packFile(t), "--since", "1h")
	require.EqualValues(t, "provisional", s.Result)
}

// complete has Tempo complete its blocks, and waits until they hold as many spans. Before
// that, a read by ID opens several files of Tempo's log for one trace, and among several
// reads at once one may give a part, or another trace.
func (w *world) complete(t *testing.T, spans int64) {
	t.Helper()
	store, err := blocks.OpenFolder(t.Context(), w.TempoBlocks)
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, w.Flush(t.Context()))
	require.Eventually(t, func() bool {
		_, stored := w.stored(t, store)
		return stored >= spans
	}, patience, 300*time.Millisecond)
}

// stored returns how many blocks the tenant has, and how many spans these hold.
func (w *world) stored(t *testing.T, store *blocks.Store) (count int, spans int64) {
	t.Helper()
	listing, err := store.List(t.Context(), w.tenant)
	require.NoError(t, err)
	for _, m := range listing.Live {
		info, err := store.Inspect(t.Context(), m)
		require.NoError(t, err)
		spans += info.Spans
	}
	return len(listing.Live), spans
}

// flushed waits until the tenant's blocks hold as many spans as were generated, and
// search knows these blocks.
func (w *world) flushed(t *testing.T, store *blocks.Store, spans int64) {
	t.Helper()
	require.NoError(t, w.Flush(t.Context()))
	require.Eventually(t, func() bool {
		count, stored := w.stored(t, store)
		if stored < spans {
			return false
		}
		var answer struct{ Metrics struct{ TotalBlocks int } }
		w.get(t, w.TempoURL+"/api/search", url.Values{
			"q": {"{ }"}, "start": {fmt.Sprint(time.Now().Add(-time.Hour).Unix())}, "end": {fmt.Sprint(time.Now().Unix())},
		}, &answer)
		return answer.Metrics.TotalBlocks >= count
	}, patience, 300*time.Millisecond)
}

// From blocks, by the API and from both the same traces come, each once.
func TestEverySourceGivesTheSameVerdicts(t *testing.T) {
	w := newWorld(t, stack.Fast)
	store, err := blocks.OpenFolder(t.Context(), w.TempoBlocks)
	require.NoError(t, err)
	defer store.Close()
	o := tracetest.Mixed(77, 400).ForTempo()
	o.Start, o.Window = time.Now().Add(-5*time.Minute), 4*time.Minute
	all, planted := generate(o)
	w.send(t, all)
	w.flushed(t, store, spansOf(all))
	w.read(t, o.Start.Add(-time.Minute), o.Start.Add(10*time.Minute), len(all))
	from, to := o.Start.Add(-time.Minute).UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339)
	var first summary
	var lines []string
	for i, tt := range []struct {
		basis string
		seam  time.Time // zero: the default
		args  []string
	}{
		{basis: "search"},
		{basis: "blocks", args: []string{"--source", "blocks", "--tempo-blocks", w.TempoBlocks}},
		{basis: "blocks", args: []string{"--source", "blocks", "--tempo-config", w.TempoConfig}},
		{"blocks and search", o.Start.Add(2 * time.Minute), []string{"--tempo-blocks", w.TempoBlocks, "--max-trace-duration", "1m"}},
		{"blocks", time.Now(), []string{"--tempo-blocks", w.TempoBlocks, "--max-trace-duration", "1m"}},
	} {
		if !tt.seam.IsZero() { // at the same time, however long the scans before took
			settle := time.Since(tt.seam).String()
			tt.args = append(tt.args, "--settle", settle, "--settle-blocks", settle)
		}
		printed, s := w.scan(t, exitViolations, append([]string{"--rules", packFile(t), "--from", from, "--to", to, "--dry-run"}, tt.args...)...)
		require.Empty(t, cmp.Diff(planted, printed), "%v", tt.args)
		require.Equal(t, tt.basis, s.Basis, "%v", tt.args)
		require.Empty(t, s.Problems, "%v", tt.args)
		if i == 0 {
			first, lines = s, w.records
		}
		require.Equal(t, first.Rules, s.Rules, "%v", tt.args)
		require.Empty(t, cmp.Diff(lines, w.records), "%v: records are the same, byte for byte", tt.args)
		require.Equal(t, len(all), s.Traces.Judged+s.Traces.OutsideQuery, "%v", tt.args)
	}
}
