package rules

import (
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// WhenAndClauses returns what decides besides TraceQL: when, nil if the rule has none,
// and the always and never in their order.
func (r *Rule) WhenAndClauses() (when *lang.Expression, clauses []Clause) { return r.when, r.clauses }

// Decidable reports whether nothing but the rule's own expressions can make
// [Rule.Judge] give Error on a trace of these sizes or smaller ones: it costs no more
// than the limit, and cannot build more than an evaluation may.
func (r *Rule) Decidable(sizes lang.Sizes) bool {
	// The cost of a smaller trace may be rounded up.
	if lang.Cost(sizes, r.programs(false)...) > r.limit*(1-1e-9) {
		return false
	}
	for _, x := range r.programs(false) {
		if !x.IsBounded(sizes) {
			return false
		}
	}
	return true
}

// Needs returns what the rule reads of spans to decide, and to say of its violations.
func (r *Rule) Needs() columnar.Needs {
	needs := lang.Needs(r.programs(true)...)
	if r.TraceQL != nil {
		needs = needs.Union(r.TraceQL.Needs())
	}
	return needs
}

// Prefilter returns a span filter that every trace matches which the rule applies
// to, or could give an error on: { } where none can be derived. It says nothing
// of how a Tempo answers it: see [traceql.Filter.Prefilter] for what to send.
//
// It is derived from traceql and when: what a span filter cannot say is left out,
// which means true; of a conjunction the part that says most is taken, since its
// parts may be true of different spans.
func (r *Rule) Prefilter() *traceql.Filter { return lang.Prefilter(r.TraceQL, r.when) }

// Cost returns the cost of the rule on a trace of these sizes: see [lang.Cost].
func (r *Rule) Cost(sizes lang.Sizes) float64 { return lang.Cost(sizes, r.programs(true)...) }
