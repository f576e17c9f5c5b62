// Package traceql parses, prints and evaluates TraceQL span filters, the part of
// TraceQL between braces:
//
//	{ resource.service.name = "payment" && span.amount > 1000 }
//
// A filter is evaluated on whole traces in normal form, as TraceQL documents it: regular expressions are
// anchored at both ends, an absent attribute matches no comparison, not even != (= nil and != nil test
// presence), an array matches if any element does, and attributes of events and links match if those of any
// event or link do. There is one difference: numbers compare by value, so { .amount > 1000 } matches both
// 2500 and 2500.5, unlike in Tempo.
//
// Queries to Tempo therefore use another filter, [Filter.Prefilter], which finds at least every trace that
// the filter matches.
//
// [Filter.OnBatches] returns the same filter for batches of traces in columns, on which it takes a few
// nanoseconds per span instead of hundreds.
//
// All other parts of TraceQL (pipelines, structural operators, aggregates, metrics) are refused with an error
// that names them.
package traceql
