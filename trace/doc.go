// Package trace says what a trace is to BeTrace: the normal form that every
// source delivers, and the tree over its spans that rules see.
//
// The same spans give the same [Trace], whatever way they came, in whatever
// order, and however often each was repeated:
//
//   - A span is known by trace ID, span ID and kind. Equal copies are one.
//     Unequal copies are merged field by field, the greater value winning, and
//     the trace is flagged ([FlagMerged]).
//   - Spans are ordered by start, then span ID, then kind.
//   - An end before its start is its start, flagged ([FlagEndBeforeStart]).
//   - Attributes are sorted by key; a value without a type is absent.
//   - The tree is as the data has it: see [Trace.Parent] and [Trace.Root].
//
// Flags are for reports. They never change a verdict.
package trace
