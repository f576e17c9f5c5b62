// Package rules says what a rule is: packs of rules in YAML, the CEL that they
// are written in, and the verdict of one rule on one trace.
//
// [Rule.Judge] is the oracle: every faster way of judging must give its verdicts.
// A rule's verdict comes about so:
//
//	traceql   when      clauses                          verdict
//	no match  –         –                                not applicable
//	match     false     –                                not applicable
//	match     error     –                                error
//	match     true      none                             violation, clause "when"
//	match     true      one broken (first in order)      violation, also where others fail
//	match     true      none broken, one fails           error
//	match     true      all hold                         pass
//
// An absent traceql or when counts as match and true. An always clause is broken
// by false, a never clause by true. A rule that would cost more than its limit
// on a trace gives error before anything is evaluated.
//
// # What is absent
//
// A value can be absent: an attribute that a span does not have, a field of a
// parent that is not in the trace. Nothing absent makes an error:
//
//   - A truth value is asked of it, or of a text or a number from an attribute:
//     false. !absent is true.
//   - It is an operand of something that gives a truth value (a comparison, in,
//     startsWith, exists, all): that is false, a value like any other. The same
//     holds for operands from attributes whose type does not fit: != of a text
//     and a number is false, as in TraceQL.
//   - It is an operand of anything else (arithmetic, size, filter, map, count,
//     a field, an index): the result is absent.
//   - An error in another operand beats it, but in && and ||, where it is false.
package rules
