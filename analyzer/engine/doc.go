// Package engine judges batches of traces by all rules together.
//
// A rule's expression goes through four stages, each in files of its own:
//
//   - Lowering (lower.go, macros.go): checked CEL becomes a tree of nodes (node.go). Each node holds an
//     expression, the operator that it applies to its operands.
//   - Sharing (predicate.go): nodes become predicates of rows: spans, events, links, resources or traces.
//     Equal predicates of all rules are one. Each predicate holds a condition.
//   - Simplifying (simplify.go): predicates that are constant in a batch are removed for that batch.
//   - Evaluating (evaluation.go): a predicate becomes a bitmap of the rows of a strip, some ten thousand
//     spans at a time. Expressions that have no condition are evaluated row by row (row.go).
//
// The other files hold one operator, or a family of operators, each: how it is lowered, the condition that
// it becomes, how that condition is simplified and evaluated, and how the expression is evaluated for one
// row. To add an operator, read membership.go, an expression that becomes conditions of other files, or
// negation in logic.go, an expression with a condition of its own. Then write a file with an expression and,
// unless other conditions suffice, a condition; add a line to loweringOf (lower.go) and to the table of costs
// (predicate.go).
//
// A predicate also reports the rows where it is unknown: where the expression would fail, reads a list, or
// does something that is not vectorised. If a verdict depends on such a row, and wherever a rule is
// violated, [rules.Rule] judges the trace. The engine returns the same verdicts as [rules.Rule].
package engine
