// Package rules defines packs of rules in YAML, and the verdict of one rule on one trace.
//
// [Rule.Judge] is the oracle: every faster method of judging must return its verdicts. A verdict is
// determined as follows:
//
//	traceql   when      clauses                          verdict
//	no match  –         –                                not applicable
//	match     false     –                                not applicable
//	match     error     –                                error
//	match     true      none                             violation, clause "when"
//	match     true      one broken (first in order)      violation, even if others fail
//	match     true      none broken, one fails           error
//	match     true      all hold                         pass
//
// An absent traceql counts as a match, an absent when as true. An always clause is broken by false, a never
// clause by true. If the cost of a rule on a trace exceeds the limit, the verdict is an error, and nothing is
// evaluated.
package rules
