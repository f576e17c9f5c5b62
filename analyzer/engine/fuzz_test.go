package engine_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/rules/rulestest"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

var (
	planCases = flag.Int("plan.cases", 100_000, "how many verdicts TestPlanEqualsOracle compares")
	planSeed  = flag.Uint64("plan.seed", 0, "the first seed of TestPlanEqualsOracle, to go on from, or to see one failure again")
)

func FuzzPlan(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { new(equality).compare(t, seed) })
}

// A plan gives each trace the oracle's verdict: outcome, clause, spans, message and error.
func TestPlanEqualsOracle(t *testing.T) {
	cases := *planCases
	if testing.Short() {
		cases /= 10
	}
	var e equality
	start := time.Now()
	seed := *planSeed
	for ; e.cases < cases; seed++ {
		e.compare(t, seed)
		if t.Failed() {
			return
		}
	}
	took := time.Since(start).Seconds()
	share := func(o rules.Outcome) float64 { return float64(e.outcomes[o]) / float64(e.cases) }
	for o := range e.outcomes {
		t.Logf("%-14v %.3f", rules.Outcome(o), share(rules.Outcome(o)))
	}
	t.Logf("%d cases, seeds %d to %d, %.0f cases/s; %.3f of the expressions vectorised", e.cases, *planSeed, seed-1, float64(e.cases)/took, float64(e.vectorised)/float64(e.expressions))
	if share(rules.Pass) < 0.2 || share(rules.Violation) < 0.2 || share(rules.Error) < 0.005 {
		t.Error("too few verdicts of a kind for this to say much")
	}
}

// equality compares plans with the oracle, and counts.
type equality struct {
	cases                   int
	outcomes                [4]int
	expressions, vectorised int
}

// compare makes rules of a seed, and batches of traces for one judge.
func (e *equality) compare(t *testing.T, seed uint64) {
	t.Helper()
	g := rulestest.New(seed)
	numRules, numTraces, maxSpans := 1+g.IntN(12), 1+g.IntN(40), 1+g.IntN(60)
	switch g.IntN(40) {
	case 0: // more than one strip
		numRules, numTraces, maxSpans = 1+g.IntN(3), 1000+g.IntN(500), 100
	case 1: // a trace longer than a word, and than most
		numRules, numTraces, maxSpans = 1+g.IntN(3), 1+g.IntN(6), 900
	case 2, 3, 4: // much that is shared
		numRules = 30 + g.IntN(21)
	}
	rs := g.Rules(numRules)
	var needs columnar.Needs
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	p := engine.Compile(rs)
	for i := range rs {
		for _, part := range p.Explain(i) {
			e.expressions++
			if part.Vectorised() {
				e.vectorised++
			}
		}
	}
	judge := p.NewJudge()
	judge.Workers = 1 + g.IntN(3)
	if g.IntN(3) > 0 {
		judge.SetAny(g.Rand, 1+g.IntN(500))
	}
	for range 1 + g.IntN(3) {
		traces := g.Traces(numTraces, maxSpans)
		if g.IntN(10) == 0 {
			traces = nil
		}
		b := columnar.NewBatch(needs, traces...)
		selected := someTraces(g.Rand, b.NumTraces())
		got, err := judge.Batch(t.Context(), b, selected)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want := e.oracle(t, rs, b, selected)
		if rule, tr, difference := firstDifference(rs, b, got, want); difference != "" {
			t.Fatal(describe(t, seed, g.Options(), needs, rs, rule, traces, tr, difference))
		}
		numTraces = 1 + g.IntN(numTraces)
	}
}

func someTraces(r *rand.Rand, n int) columnar.Bits {
	if r.IntN(3) > 0 {
		return nil
	}
	selected := make(columnar.Bits, columnar.NumWords(n))
	for i := range n {
		if r.IntN(3) > 0 {
			selected.Set(int32(i))
		}
	}
	return selected
}

// oracle returns the verdicts of the rules themselves, which the plan has to give.
func (e *equality) oracle(t *testing.T, rs []*rules.Rule, b *columnar.Batch, selected columnar.Bits) *engine.Verdicts {
	v := &engine.Verdicts{Counts: make([]engine.Counts, len(rs))}
	for i := range b.NumTraces() {
		if selected != nil && !selected.Has(int32(i)) {
			continue
		}
		view := b.Trace(i)
		sizes := lang.SizesOf(view)
		for k, r := range rs {
			verdict := r.JudgeSized(t.Context(), view, sizes)
			e.cases++
			e.outcomes[verdict.Outcome]++
			c := &v.Counts[k]
			c.Add(verdict.Outcome)
			if verdict.Outcome == rules.Violation || verdict.Outcome == rules.Error {
				v.Found = append(v.Found, engine.Found{Trace: i, Rule: k, Verdict: verdict, View: view})
			}
		}
	}
	return v
}

// firstDifference says where, and how, two answers differ; "" if they do not.
func firstDifference(rs []*rules.Rule, b *columnar.Batch, got, want *engine.Verdicts) (rule, tr int, difference string) {
	text := func(f *engine.Found) string {
		v := f.Verdict
		return fmt.Sprintf("%s %s about %d %q (%v)", v.Outcome, v.Clause, v.About, v.Message, v.Err)
	}
	for i := range max(len(got.Found), len(want.Found)) {
		var g, w *engine.Found
		if i < len(got.Found) {
			g = &got.Found[i]
		}
		if i < len(want.Found) {
			w = &want.Found[i]
		}
		before := func(f, h *engine.Found) bool {
			return h == nil || f.Trace < h.Trace || f.Trace == h.Trace && f.Rule < h.Rule
		}
		switch {
		case g != nil && before(g, w):
			return g.Rule, g.Trace, "the plan has " + text(g) + ", the oracle finds nothing"
		case w != nil && before(w, g):
			return w.Rule, w.Trace, "the plan finds nothing, the oracle has " + text(w)
		case text(g) != text(w):
			return w.Rule, w.Trace, "the plan has " + text(g) + ", the oracle " + text(w)
		case g.Verdict.Rule != rs[g.Rule] || g.View.ID != b.IDs[g.Trace] || len(g.View.Spans) != len(w.View.Spans):
			return g.Rule, g.Trace, "the plan names another rule, or shows another trace"
		}
	}
	for k := range want.Counts {
		if got.Counts[k] != want.Counts[k] {
			return k, -1, fmt.Sprintf("the plan counts %+v, the oracle %+v", got.Counts[k], want.Counts[k])
		}
	}
	return 0, 0, ""
}

// describe tells of a difference as small as it can be made: by the rule alone and the
// trace alone, then by fewer of its spans and less of the rule, as long as plan and oracle
// differ.
func describe(t *testing.T, seed uint64, o rules.Options, needs columnar.Needs, rs []*rules.Rule, rule int, traces []*trace.Trace, tr int, difference string) string {
	differs := func(r *rules.Rule, traces ...*trace.Trace) (int, string) {
		rs := []*rules.Rule{r}
		b := columnar.NewBatch(needs, traces...)
		got, err := engine.Compile(rs).NewJudge().Batch(t.Context(), b, nil)
		if err != nil {
			return 0, err.Error()
		}
		_, at, difference := firstDifference(rs, b, got, new(equality).oracle(t, rs, b, nil))
		return at, difference
	}
	r := rs[rule]
	var out strings.Builder
	fmt.Fprintf(&out, "go test ./analyzer/engine -run TestPlanEqualsOracle -plan.seed %d -plan.cases 1\nin a plan of %d rules, a batch of %d traces: %s\n", seed, len(rs), len(traces), difference)
	if at, alone := differs(r, traces...); alone == "" {
		fmt.Fprintf(&out, "the rule alone gives the same: shared predicates matter, or earlier batches\n")
	} else if at >= 0 {
		tr = at
	}
	text := ""
	if tr >= 0 {
		smallest := traces[tr]
		if _, d := differs(r, smallest); d == "" {
			fmt.Fprintf(&out, "the trace alone gives the same: its place in the batch matters (trace %d)\n", tr)
		} else {
			fails := func(r *rules.Rule, tr *trace.Trace) bool { _, d := differs(r, tr); return d != "" }
			smallest = shrink(smallest, func(tr *trace.Trace) bool { return fails(r, tr) })
			r = rulestest.Shrink(r, o, func(r *rules.Rule) bool { return fails(r, smallest) })
			smallest = shrink(smallest, func(tr *trace.Trace) bool { return fails(r, tr) })
			_, difference = differs(r, smallest)
			fmt.Fprintf(&out, "made small: %s\n", difference)
		}
		var err error
		if text, err = rulestest.JSON(smallest); err != nil {
			text = err.Error()
		}
	}
	fmt.Fprintf(&out, "%s\noptions %+v\n%s\n", rulestest.YAML(r), o, text)
	return out.String()
}

// shrink removes spans, and then their fields, as long as the trace fails.
func shrink(tr *trace.Trace, fails func(*trace.Trace) bool) *trace.Trace {
	try := func(change func(spans []trace.Span) []trace.Span) bool {
		spans := change(append([]trace.Span(nil), tr.Spans...))
		if len(spans) == 0 {
			return false
		}
		smaller := trace.New(tr.ID, spans)
		if !fails(smaller) {
			return false
		}
		tr = smaller
		return true
	}
	for n := len(tr.Spans) / 2; n > 0; n /= 2 {
		for i := 0; i < len(tr.Spans); {
			if !try(func(s []trace.Span) []trace.Span { return append(s[:i], s[min(i+n, len(s)):]...) }) {
				i += n
			}
		}
	}
	for i := range tr.Spans {
		for _, change := range []func(*trace.Span){
			func(s *trace.Span) { s.Events = nil }, func(s *trace.Span) { s.Links = nil }, func(s *trace.Span) { s.Attributes = nil }, func(s *trace.Span) { s.Resource = nil },
			func(s *trace.Span) { s.StatusMessage, s.Scope, s.ScopeVersion = "", "", "" }, func(s *trace.Span) { s.Name = "" }, func(s *trace.Span) { s.End = s.Start },
		} {
			try(func(s []trace.Span) []trace.Span { change(&s[i]); return s })
		}
		without := func(of func(*trace.Span) *trace.Attributes) {
			for k := 0; k < len(*of(&tr.Spans[i])); {
				if !try(func(s []trace.Span) []trace.Span {
					as := append(trace.Attributes(nil), *of(&s[i])...)
					*of(&s[i]) = append(as[:k], as[k+1:]...)
					return s
				}) {
					k++
				}
			}
		}
		without(func(s *trace.Span) *trace.Attributes { return &s.Attributes })
		without(func(s *trace.Span) *trace.Attributes { return &s.Resource })
	}
	return tr
}
