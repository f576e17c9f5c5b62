package rules

import (
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// WhenAndClauses returns the expressions that decide in addition to TraceQL: when, or nil if the rule has
// none, and the always and never clauses in order.
func (r *Rule) WhenAndClauses() (when *lang.Expression, clauses []Clause) { return r.when, r.clauses }

// Decidable reports whether on a trace of these sizes or smaller ones only errors of the rule's own
// expressions can make [Rule.Judge] return Error: the cost does not exceed the limit, and the evaluation
// cannot exceed its limits on memory.
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

// Needs returns the data of spans that the rule reads for its verdict, and for describing violations.
func (r *Rule) Needs() columnar.Needs {
	needs := lang.Needs(r.programs(true)...)
	if r.TraceQL != nil {
		needs = needs.Union(r.TraceQL.Needs())
	}
	return needs
}

// Prefilter returns a span filter that matches every trace to which the rule applies or for which it could
// return an error. It is { } if none can be derived. It does not account for how Tempo evaluates filters:
// send [traceql.Filter.Prefilter] of it.
//
// The filter is derived from traceql and when. Parts that a span filter cannot express are omitted, which
// means true. From a conjunction only the most selective part is used, because its parts may be true for
// different spans.
func (r *Rule) Prefilter() *traceql.Filter { return lang.Prefilter(r.TraceQL, r.when) }

// Cost returns the cost of the rule on a trace of these sizes: see [lang.Cost].
func (r *Rule) Cost(sizes lang.Sizes) float64 { return lang.Cost(sizes, r.programs(true)...) }
