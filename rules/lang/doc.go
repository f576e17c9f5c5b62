// Package lang implements the language of rules: CEL over one trace. An [Environment] compiles and checks
// expressions; an [Expression] is evaluated on a trace. From the checked expression follow its maximum cost
// ([Cost]), the parts of spans that it reads ([Needs]), and the traces for which it cannot be true
// ([Prefilter]).
//
// # Absent values
//
// A value can be absent: an attribute that a span does not have, or a field of a parent that is not in the
// trace. An absent value is never an error:
//
//   - If a boolean is required, an absent value is false, and so is a string or a number from an attribute.
//     !absent is true.
//   - As an operand of an operation with a boolean result (a comparison, in, startsWith, exists, all), it
//     makes the result false, which is an ordinary value. The same holds for operands from attributes whose
//     types do not fit: != of a string and a number is false, as in TraceQL.
//   - As an operand of any other operation (arithmetic, size, filter, map, count, a field, an index), it
//     makes the result absent.
//   - An error in another operand takes precedence, except in && and ||, where the absent value is false.
package lang
