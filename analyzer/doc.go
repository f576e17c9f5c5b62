// Package analyzer judges whole traces by rules.
//
// [Scan] is the only path from traces to violations: it takes batches of traces from a source, has every rule
// judge every trace, makes a violation of each verdict that is one, and counts the verdicts. The source, the
// destination of violations and the progress are functions of [ScanOptions].
//
// The [Result] of a scan is complete only if the source read everything requested and no verdict is an error.
package analyzer
