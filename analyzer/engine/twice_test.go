package engine_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

var twiceTraces = flag.Int("plan.twice", 10_000, "on how many traces the rules that are written twice must agree; make plan-cases: 100,000")

// compiled are the rules in CEL, each loaded from YAML.
func compiled(t *testing.T) []*rules.Rule {
	var list []map[string]any
	for i, w := range rulesTwice {
		rule := map[string]any{"id": fmt.Sprintf("r%d", i), "title": w.name, "severity": "low"}
		for key, x := range map[string]string{"traceql": w.traceql, "when": w.when, "about": w.about, "message": w.message} {
			if x != "" {
				rule[key] = x
			}
		}
		if w.always != "" {
			rule["always"] = []string{w.always}
		}
		if w.never != "" {
			rule["never"] = []string{w.never}
		}
		list = append(list, rule)
	}
	text, err := yaml.Marshal(map[string]any{"apiVersion": rules.APIVersion, "kind": rules.Kind, "metadata": map[string]string{"name": "twice"}, "rules": list})
	require.NoError(t, err)
	pack, err := rules.Parse("twice.yaml", text, rules.Options{MaxCost: 1e13}) // one ranges over ancestors' descendants
	require.NoError(t, err)
	require.Len(t, pack.Rules, len(rulesTwice))
	return pack.Rules
}

// Rules written in CEL, and as Go over the OTLP that was sent, agree: both by the oracle,
// which sees the traces as rows, and by a plan, which sees them as columns.
func TestRulesWrittenTwiceAgree(t *testing.T) {
	require.GreaterOrEqual(t, len(rulesTwice), 100)
	n := *twiceTraces
	if testing.Short() {
		n = min(n, 2000)
	}
	rs := compiled(t)
	var needs columnar.Needs
	for _, r := range rs {
		needs = needs.Union(r.Needs())
	}
	const batch = 100
	parts := make(chan uint64, n/batch+1)
	for i := range (n + batch - 1) / batch {
		parts <- uint64(i)
	}
	close(parts)
	counts := make([][]engine.Counts, 2)
	t.Run("agree", func(t *testing.T) {
		p := engine.Compile(rs)
		for w := range counts {
			counts[w] = make([]engine.Counts, len(rs))
			t.Run("", func(t *testing.T) {
				t.Parallel()
				judge := p.NewJudge()
				for part := range parts {
					agree(t, rs, judge, needs, part, batch, counts[w])
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	seldomSeen, total := 0, engine.Counts{}
	for k, w := range rulesTwice {
		c := engine.Counts{}
		for _, some := range counts {
			c.NotApplicable += some[k].NotApplicable
			c.Pass += some[k].Pass
			c.Violation += some[k].Violation
			c.Error += some[k].Error
		}
		total.NotApplicable += c.NotApplicable
		total.Pass += c.Pass
		total.Violation += c.Violation
		total.Error += c.Error
		mayPass := w.always+w.never != ""
		if c.Violation == 0 || c.Pass == 0 && mayPass || c.NotApplicable == 0 && w.when != "" && w.when != `trace.services.size() > 0` {
			t.Logf("%s: %+v", w.name, c)
			seldomSeen++
		}
		if w.judge != nil && c.Error == 0 {
			t.Errorf("%s is never an error", w.name)
		}
	}
	t.Logf("%d rules on %d traces: %+v", len(rs), n, total)
	require.LessOrEqual(t, seldomSeen, 3, "rules that do not apply, pass and are violated")
}

// agree compares one batch of traces, of which one in ten is of tracetest.
func agree(t *testing.T, rs []*rules.Rule, judge *engine.Judge, needs columnar.Needs, part, size uint64, counts []engine.Counts) {
	o := tracetest.Mixed(part, int(size))
	o.MaxSpans = 30
	o.Nasty[tracetest.UnequalCopies] = 0 // how they are merged is not written twice
	generated := tracetest.New(o)
	var messages []ptrace.Traces
	var traces []*trace.Trace
	for i := range size {
		n := part*size + i + 1
		td := shop{rand.New(rand.NewPCG(n, 5))}.send(n)
		if i%10 == 0 {
			g := generated.At(int(i))
			td = tracetest.Merge(g.Batches...)
		}
		read, err := otlp.ToTraces(td)
		require.NoError(t, err)
		require.Len(t, read, 1)
		messages, traces = append(messages, td), append(traces, read[0])
	}
	got, err := judge.Batch(t.Context(), columnar.NewBatch(needs, traces...), nil)
	require.NoError(t, err)
	have := make([]engine.Counts, len(rs))
	found := got.Found
	for i, td := range messages {
		seen := receive(td)
		sizes := lang.SizesOf(traces[i])
		for k, r := range rs {
			w := &rulesTwice[k]
			want := w.want(seen)
			v := r.JudgeSized(t.Context(), traces[i], sizes)
			if v.Outcome != want {
				t.Fatalf("%s: the oracle says %v (%v), plain Go %v\n%s", w.name, v.Outcome, v.Err, want, asJSON(td))
			}
			have[k].Add(want)
			if want == rules.Violation {
				w.said(t, seen, v, td)
			}
			if want != rules.Violation && want != rules.Error {
				continue
			}
			if len(found) == 0 || found[0].Trace != i || found[0].Rule != k || found[0].Verdict.Outcome != want {
				t.Fatalf("%s: the plan does not find the %v\n%s", w.name, want, asJSON(td))
			}
			if p := found[0].Verdict; p.Message != v.Message || p.Clause != v.Clause || !slices.Equal(p.About, v.About) {
				t.Fatalf("%s: the plan says %+v, the oracle %+v\n%s", w.name, p, v, asJSON(td))
			}
			found = found[1:]
		}
	}
	require.Empty(t, found, "the plan finds more than plain Go")
	require.Equal(t, have, got.Counts)
	for k, c := range have {
		counts[k].NotApplicable += c.NotApplicable
		counts[k].Pass += c.Pass
		counts[k].Violation += c.Violation
		counts[k].Error += c.Error
	}
}

// said checks the span that a violation refers to, and its message.
func (w *twice) said(t *testing.T, seen *sent, v rules.Verdict, td ptrace.Traces) {
	var about []*sentSpan
	var indices []int
	for i, s := range seen.spans {
		if w.spans != nil && w.spans(s) {
			about, indices = append(about, s), append(indices, i)
		}
	}
	message := ""
	if w.text != nil && (w.about == "" || len(about) > 0) {
		message = w.text(seen, about)
	}
	if message == "" {
		message = w.name
	}
	clause := rules.ClauseWhen
	switch {
	case w.always != "":
		clause = "always[0]"
	case w.never != "":
		clause = "never[0]"
	}
	if v.Message != message || !slices.Equal(v.About, indices) || v.Clause != clause && !strings.HasPrefix(v.Clause, "never") {
		t.Fatalf("%s: the oracle says %q of %d, clause %s; plain Go %q of %d, %s\n%s", w.name, v.Message, v.About, v.Clause, message, indices, clause, asJSON(td))
	}
}

func asJSON(td ptrace.Traces) string {
	var m ptrace.JSONMarshaler
	text, err := m.MarshalTraces(td)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
