// Package lang is the language of rules: CEL over one trace. An [Environment] compiles
// and checks expressions; an [Expression] is evaluated on a trace. What an expression costs
// at most ([Cost]), which parts of spans it reads ([Needs]) and which traces it cannot be
// true of ([Prefilter]) follow from the checked expression.
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
package lang
