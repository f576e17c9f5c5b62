// Package engine judges batches of traces by all rules at once.
//
// [Compile] takes the rules' checked CEL apart into predicates of rows (spans, events,
// links, resources, traces) and keeps each that several rules share once. A [Judge]
// evaluates them on a batch, column by column, a strip of some ten thousand spans at a time:
//
//   - A text is looked up once, however many rules ask for how many texts: a column's codes
//     become the constants that they are, and only spans with one of them are looked at.
//   - A predicate is a bitmap. &&, || and ! are operations on words; a conjunction goes
//     from cheap to dear and ends where nothing is left.
//   - Parents, ancestors, descendants, events and links are passes over their indices.
//   - What compares a span with another, or calculates, is evaluated for those spans only
//     of which all else is true.
//
// Every predicate also says where it is not known: where an expression would fail, or
// looks into lists, or does what is not vectorised. There, if it matters to the verdict,
// and wherever a rule is violated, [rules.Rule] judges the trace. Its verdicts are the
// measure: a plan gives the same.
package engine
