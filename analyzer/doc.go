// Package analyzer turns whole traces into verdicts.
//
// [Scan] is the one path of every judgement, whoever asks for it: it takes
// traces from a source, has every rule judge every trace, hands the violations
// to be written, and counts what it saw. What was read, where violations go and
// what is shown meanwhile come in as functions.
//
// A scan's [Result] says how complete it is: [Complete] only if the source
// read all it was asked for.
package analyzer
