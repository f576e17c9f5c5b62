// Package traceqltest helps tests that compare the results of a real Tempo with those of package traceql.
package traceqltest

import (
	"slices"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/traceql"
)

// Columns are the attributes for which Tempo's vParquet4 always has a column for one string or number.
// Dedicated columns have the same limitation.
var Columns = []string{
	trace.ServiceName, "cluster", "namespace", "pod", "container", "k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name",
	"http.method", "http.url", "http.status_code",
}

// HiddenLists returns a function that reports whether an attribute is a list that Tempo 2.8 may evaluate
// incorrectly for the query sent. There are two kinds, both documented in docs/completeness.md:
//
//   - The attribute is one of Columns or dedicated. Tempo stores its lists elsewhere and does not search them.
//   - The query has different conditions on several attributes with values of the list's type, and two or
//     more elements meet one of them. Tempo holds these elements in a buffer, in which elements of another
//     attribute may replace them before Tempo evaluates the query. Different conditions on one attribute only
//     do not count, because a prefilter never has them.
func HiddenLists(sent *traceql.Filter, dedicated []string) func(trace.Attribute) bool {
	var tests []traceql.Binary
	collect(sent.Expr(), &tests)
	return func(a trace.Attribute) bool {
		if a.Value.Type() != trace.TypeArray {
			return false
		}
		if slices.Contains(Columns, a.Key) || slices.Contains(dedicated, a.Key) {
			return true
		}
		kept := 0
		for _, v := range a.Value.Array() {
			met := false
			conditions, keys := map[string]bool{}, map[string]bool{}
			for _, test := range tests {
				if test.Right.(traceql.Const).Value.Type() != v.Type() {
					continue
				}
				x := traceql.Compare(traceql.Attribute(traceql.ScopeSpan, "x"), test.Op, test.Right)
				f := traceql.MustNew(x)
				conditions[f.String()], keys[test.Left.(traceql.Field).Key] = true, true
				met = met || f.Matches(trace.New(trace.ID{}, []trace.Span{{Attributes: trace.Attributes{{Key: "x", Value: v}}}}))
			}
			if met && len(conditions) > 1 && len(keys) > 1 {
				kept++
			}
		}
		return kept > 1
	}
}

// collect appends the comparisons of attributes with constants to tests. A prefilter has its constants on the
// right.
func collect(x traceql.Expr, tests *[]traceql.Binary) {
	b, ok := x.(traceql.Binary)
	if !ok {
		return
	}
	if f, ok := b.Left.(traceql.Field); ok {
		if _, ok := b.Right.(traceql.Const); ok && f.Scope != traceql.ScopeIntrinsic {
			*tests = append(*tests, b)
		}
		return
	}
	collect(b.Left, tests)
	collect(b.Right, tests)
}

// Without returns the trace without those attributes of its spans and resources for which hidden is true.
// some reports whether there are any.
func Without(tr *trace.Trace, hidden func(trace.Attribute) bool) (without *trace.Trace, some bool) {
	spans := slices.Clone(tr.Spans)
	for i := range spans {
		for _, attrs := range []*trace.Attributes{&spans[i].Attributes, &spans[i].Resource} {
			if slices.ContainsFunc(*attrs, hidden) {
				*attrs, some = slices.DeleteFunc(slices.Clone(*attrs), hidden), true
			}
		}
	}
	return trace.New(tr.ID, spans), some
}
