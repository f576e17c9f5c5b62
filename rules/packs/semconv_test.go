package packs_test

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

// older returns the trace with attributes renamed to their nth older names, or to the last one if there
// are fewer.
func older(tr *trace.Trace, aliases lang.Aliases, n int) (renamed *trace.Trace, changed int) {
	rename := func(as trace.Attributes) trace.Attributes {
		list := slices.Clone(as)
		for i, a := range list {
			if names := aliases[a.Key]; len(names) > 0 {
				list[i].Key = names[min(n, len(names)-1)]
				changed++
			}
		}
		normal, _ := trace.NewAttributes(list)
		return normal
	}
	spans := slices.Clone(tr.Spans)
	for i := range spans {
		s := &spans[i]
		s.Attributes, s.Resource = rename(s.Attributes), rename(s.Resource)
		s.Events, s.Links = slices.Clone(s.Events), slices.Clone(s.Links)
		for j := range s.Events {
			s.Events[j].Attributes = rename(s.Events[j].Attributes)
		}
		for j := range s.Links {
			s.Links[j].Attributes = rename(s.Links[j].Attributes)
		}
	}
	return trace.New(tr.ID, spans), changed
}

func TestVerdictsAreTheSameUnderOlderNames(t *testing.T) {
	var traces []*trace.Trace
	for g := range tracetest.New(tracetest.Mixed(7, 60)).All() {
		traces = append(traces, g.Trace())
	}
	renamed, outcomes := 0, map[rules.Outcome]int{}
	each(t, func(t *testing.T, r *rules.Rule) {
		judged := traces
		for _, test := range r.Tests {
			judged = append(judged, test.Trace)
		}
		for _, tr := range judged {
			want := r.Judge(t.Context(), tr)
			outcomes[want.Outcome]++
			for n := range 2 {
				old, changed := older(tr, r.Pack.Aliases, n)
				got := r.Judge(t.Context(), old)
				require.Equal(t, want.Outcome, got.Outcome, "trace %s under names %d", tr.ID, n)
				require.Equal(t, want.Clause, got.Clause)
				require.Equal(t, want.About, got.About)
				require.Equal(t, want.Message, got.Message)
				if want.Outcome != rules.NotApplicable {
					require.True(t, r.Prefilter().Prefilter().Matches(old), "trace %s under names %d", tr.ID, n)
				}
				renamed += changed
			}
		}
	})
	require.Greater(t, renamed, 5000)
	require.Greater(t, outcomes[rules.Violation], 91)
	require.Greater(t, outcomes[rules.Pass], 91)
}

// Names from before 2023, which instrumentation still uses.
func TestPacksSeeAttributesUnderTheirOlderNames(t *testing.T) {
	file, err := os.Open("testdata/older-names.json")
	require.NoError(t, err)
	defer file.Close()
	var traces []*trace.Trace
	require.NoError(t, otlp.Read(file, func(td ptrace.Traces) error {
		list, err := otlp.ToTraces(td)
		traces = append(traces, list...)
		return err
	}))
	require.Len(t, traces, 2)
	judge := func(pack, id string) (outcomes []rules.Outcome) {
		for _, p := range load(t) {
			for _, r := range p.Rules {
				if p.Name == pack && r.ID == id {
					for _, tr := range traces {
						outcomes = append(outcomes, r.Judge(t.Context(), tr).Outcome)
					}
				}
			}
		}
		return outcomes
	}
	require.Equal(t, []rules.Outcome{rules.Violation, rules.Violation}, judge("gdpr", "no-email-address-in-urls"))
	require.Equal(t, []rules.Outcome{rules.Pass, rules.Pass}, judge("sre-reliability", "errors-carry-a-type"))
}
