// Package batches generates traces of an invented shop, straight as the batches that a
// source would fill: in columns, only with the attributes that are needed, about as many
// spans in one as the source of blocks delivers.
//
// A trace is a tree of 1 to 400 spans, half of them up to 14, of 48 services that call each
// other without loops: requests, queries, messages, payments, reads of personal data,
// agents. A span has about 20 attributes, its own and its resource's: texts of few and of
// many values, whole numbers, doubles and truth values. One call in 300 has clocks that
// disagree, so that a child starts before its parent.
//
// Whatever the needs, a seed gives the same traces. Some do what rules forbid: one in
// [Options.MistakeEvery], by mistakes of several kinds.
package batches
