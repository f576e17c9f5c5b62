package tempoclient_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
)

// faultyWays are the methods of reading, which have different answers that can fail.
var faultyWays = []struct {
	name  string
	needs columnar.Needs
	grpc  bool
}{
	{"by ID, streamed", columnar.Needs{}, true},
	{"by ID, over HTTP", columnar.Needs{}, false},
	{"by search", someNeeds, true},
}

// Whatever fails between BeTrace and Tempo, and whenever: a reading returns all traces whole, or names
// the missing ones, or fails.
func TestAFailingTempoNeverGivesLessWithoutAWord(t *testing.T) {
	const seeds, atATime = 72, 24
	s := stacktest.Get(t, still)
	f := connect(t, stack.Fast, true, nil)
	start := time.Now().Add(-3 * time.Minute).Truncate(time.Second)
	sent := newSendable(start)
	for i := range 24 {
		for n := range uint16(1 + i%5) {
			// Half of the traces are in one second, in which the search limit requires a division by IDs.
			sent.span(id(i), n+1, (n+1)/2, i%2*i*1000+int(n), nil)
		}
	}
	f.store(t, sent.td)
	traces, err := otlp.ToTraces(sent.td)
	require.NoError(t, err)

	var mu sync.Mutex
	counts := map[string]map[string]int{}
	happened := map[string]int{}
	var readings sync.WaitGroup
	slots := make(chan struct{}, atATime)
	for seed := range uint64(seeds) {
		slots <- struct{}{}
		readings.Go(func() {
			defer func() { <-slots }()
			way := faultyWays[seed%3]
			faults := newSchedule(seed)
			p, stop := startProxy(t, faults.next, s.TempoURL, s.TempoGRPC)
			defer stop()
			config := f.config
			config.URL, config.GRPCAddr = p.url, ""
			if !way.grpc {
				config.GRPCAddr = s.OTLPHTTP[len("http://"):]
			}
			config.PlainAttributes, config.MaxTraceDuration = plain, time.Minute
			config.Tries, config.RequestTimeout, config.Concurrency = 3, 3*time.Second, 8
			if seed%2 == 0 {
				config.SearchLimit = 10
			}
			outcome, bySearch, wrong := readFaulty(f.ctx, config, tempoclient.Request{
				From: start, To: start.Add(time.Minute), Needs: way.needs, ByIDWith: []columnar.AttributeKey{attr(columnar.ScopeSpan, "mark")},
			}, traces)
			if wrong != "" {
				t.Errorf("seed %d, %s: %s", seed, way.name, wrong)
			}
			mu.Lock()
			defer mu.Unlock()
			if counts[way.name] == nil {
				counts[way.name] = map[string]int{}
			}
			counts[way.name][outcome]++
			counts[way.name]["by search"] += bySearch
			for kind, n := range faults.counts() {
				happened[kind] += n
			}
		})
	}
	readings.Wait()
	all := map[string]int{}
	for _, way := range faultyWays {
		c := counts[way.name]
		t.Logf("%s: %d readings: %d complete, %d incomplete with reasons, %d failed", way.name, seeds/3, c["complete"], c["incomplete"], c["failed"])
		for outcome, n := range c {
			all[outcome] += n
		}
		require.Equal(t, way.name == "by search", c["by search"] > 0, "whole traces by search: %d", c["by search"])
		require.NotZero(t, c["complete"], way.name)
		require.NotZero(t, c["incomplete"], way.name)
	}
	t.Logf("%d readings: %d complete, %d incomplete with reasons, %d failed; faults: %v", seeds, all["complete"], all["incomplete"], all["failed"], happened)
	for kind := range faults {
		require.NotZero(t, happened[kind], kind)
	}
}

// newSchedule returns the schedule for a seed: temporary faults and, for one in two seeds, a permanent
// outage.
func newSchedule(seed uint64) *schedule {
	r := rand.New(rand.NewPCG(seed, 8))
	kinds := slices.Sorted(maps.Keys(faults))
	r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	s := &schedule{
		seed: seed, rate: []float64{0.02, 0.05, 0.2, 0.4}[r.IntN(4)], kinds: kinds[:1+r.IntN(4)],
		asked: map[string]uint64{}, happened: map[string]int{},
	}
	if r.IntN(2) == 0 {
		digit := "0123456789abcdef"[r.IntN(16)]
		s.after = r.IntN(12)
		s.outage = []func(string, bool) bool{
			func(string, bool) bool { return true },
			func(_ string, grpc bool) bool { return grpc },
			func(path string, _ bool) bool { return strings.HasSuffix(path, "/api/search") },
			func(path string, _ bool) bool {
				return strings.Contains(path, "/traces/") && path[len(path)-1] == digit
			},
		}[r.IntN(4)]
	}
	return s
}

// readFaulty reads, and returns the kind of result and a description of wrong results.
func readFaulty(ctx context.Context, config tempoclient.Config, req tempoclient.Request, want []*trace.Trace) (outcome string, bySearch int, wrong string) {
	client, err := tempoclient.New(config)
	if err != nil {
		return "failed", 0, err.Error()
	}
	defer client.Close()
	got := map[trace.ID]*trace.Trace{}
	report, err := client.Traces(ctx, req, func(tr *trace.Trace) error {
		if got[tr.ID] != nil {
			wrong = fmt.Sprintf("trace %s was delivered twice", tr.ID)
		}
		got[tr.ID] = tr
		return nil
	})
	missing := []*trace.Trace{}
	known := 0
	for _, w := range want {
		tr := got[w.ID]
		if tr == nil {
			missing = append(missing, w)
			continue
		}
		known++
		a, b := w.Spans, tr.Spans
		if len(req.Needs.Attributes) > 0 {
			a, b = needed(w, req.Needs), needed(tr, req.Needs)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			wrong = fmt.Sprintf("trace %s differs from the sent trace (-sent +read):\n%s", w.ID, diff)
		}
	}
	switch {
	case wrong != "":
		return "wrong", report.BySearch, wrong
	case len(got) != known:
		return "wrong", report.BySearch, "a trace was delivered that does not exist"
	case err != nil && !strings.Contains(err.Error(), "tempo "):
		return "failed", report.BySearch, "the error does not name the request: " + err.Error()
	case err != nil:
		return "failed", report.BySearch, ""
	case report.Delivered != len(got) || report.Found != len(got)+report.Skipped || report.MoreProblems > 0:
		return "wrong", report.BySearch, fmt.Sprintf("%d traces were delivered of %+v", len(got), report)
	}
	for _, tr := range missing {
		if !slices.ContainsFunc(report.Problems, func(p trace.Problem) bool { return names(p, tr) }) {
			return "wrong", report.BySearch, fmt.Sprintf("trace %s is missing, and no problem names it: %v", tr.ID, report.Problems)
		}
	}
	for _, p := range report.Problems {
		if p.Err == nil {
			return "wrong", report.BySearch, "no reason: " + p.What
		}
	}
	if len(report.Problems) > 0 {
		return "incomplete", report.BySearch, ""
	}
	return "complete", report.BySearch, ""
}

// names reports whether a problem covers a missing trace, by its ID or by the unsearched window and part
// of the IDs.
func names(p trace.Problem, tr *trace.Trace) bool {
	if p.What == "trace "+tr.ID.String() {
		return true
	}
	what, ok := strings.CutPrefix(strings.TrimPrefix(p.What, "second "), "search ")
	times, digits, _ := strings.Cut(what, ", IDs ")
	first, last, _ := strings.Cut(times, "/")
	from, err1 := time.Parse(time.RFC3339, first)
	to, err2 := time.Parse(time.RFC3339, last)
	return ok && err1 == nil && err2 == nil && strings.HasPrefix(trimmed(tr.ID), strings.TrimSuffix(digits, "…")) &&
		tr.End() >= trace.TimeOf(from) && tr.Start() < trace.TimeOf(to.Add(time.Second))
}
