// Package rules says what a rule is: packs of rules in YAML, and the verdict of one rule on one trace.
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
package rules
