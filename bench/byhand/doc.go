// Package byhand contains rules as an engineer would write them in Go on columnar.Batch, one loop for each
// rule. Columns are looked up once for each batch. Strings are compared once for each distinct string,
// and then by a table of codes (BenchmarkTexts: seven times as fast as comparing bytes, and no slower
// than comparing with one code). Rare numbers are found by their bitmaps, and each trace ends as early as
// possible.
//
// The loops rely on the traces of package batches: an attribute belongs to the span and has one type, and
// no span is its own ancestor. They return the same verdicts as the rules of package rulesets.
package byhand
