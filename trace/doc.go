// Package trace defines traces in BeTrace's normal form, which every source delivers, and the tree of their
// spans, which rules see.
//
// The same spans give the same [Trace], whichever source delivers them, in any order, and however often they
// are repeated:
//
//   - Trace ID, span ID and kind identify a span. Equal copies are one span. Unequal copies are merged field
//     by field, the greater value wins, and the trace is flagged ([FlagMerged]).
//   - Spans are ordered by start, then span ID, then kind.
//   - If a span ends before it starts, its end is set to its start, and the trace is flagged
//     ([FlagEndBeforeStart]).
//   - Attributes are sorted by key. A value without a type is absent.
//   - The tree is not repaired: orphans and cycles remain, see [Trace.Parent] and [Trace.Root].
//
// Flags are for reports. They never change a verdict.
package trace
