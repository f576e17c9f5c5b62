// Package byhand are rules as an engineer would write them in Go for one rule on
// trace.Batch: columns are looked up once a batch, texts are compared once a text and then
// by a table of codes (measured by BenchmarkTexts: seven times as fast as comparing bytes, and
// no slower than comparing with one code), rare numbers are found by their bitmaps, and
// each trace ends as early as it can.
//
// They are for the traces of package batches: an attribute is the span's and of one type,
// and no span is its own ancestor. Their verdicts are those of the rules of package rulesets.
package byhand
