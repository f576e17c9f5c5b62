// Package traceql parses, prints and evaluates TraceQL span filters, the part of
// TraceQL between braces:
//
//	{ resource.service.name = "payment" && span.amount > 1000 }
//
// A filter is evaluated on whole traces in normal form, with TraceQL's
// documented meaning: regular expressions are anchored at both ends, an absent
// attribute matches no comparison (!= neither; = nil and != nil ask for
// presence), an array matches if any element does, and so do the attributes of
// events and links if those of any event or link do. There is one difference:
// numbers compare by value, so that { .amount > 1000 } finds 2500 and 2500.5
// alike, which Tempo does not.
//
// What a Tempo answers is therefore asked for with another filter, which
// [Filter.Prefilter] derives: it finds at least every trace that the filter matches.
//
// [Filter.OnBatches] gives the same filter for batches of traces in columns, where it
// takes a few nanoseconds a span rather than hundreds.
//
// Everything else of TraceQL (pipelines, structural operators, aggregates,
// metrics) is refused by name.
package traceql
