// Package batches generates traces of an invented shop, directly as the batches that a source would fill:
// in columns, with only the needed attributes, and with about as many spans in a batch as the source of
// blocks delivers.
//
// A trace is a tree of 1 to 400 spans; half of the traces have at most 14. There are 48 services, which
// call each other without cycles. The traces hold requests, queries, messages, payments, reads of
// personal data and agents. A span has about 20 attributes, including those of its resource: strings with
// few and with many distinct values, integers, doubles and booleans. One call in 300 has clock skew, so
// that a child starts before its parent.
//
// A seed always gives the same traces, whichever attributes are needed. Some traces do something that
// rules forbid: one in [Options.MistakeEvery], by mistakes of several kinds.
package batches
