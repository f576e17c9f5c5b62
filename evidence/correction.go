package evidence

import (
	"github.com/betracehq/betrace/trace"
)

// CorrectionKind is the kind of a correction.
type CorrectionKind string

// The kinds of corrections.
const (
	// Withdrawn means that the same rule no longer finds the violation on a trace with at least as many spans.
	Withdrawn CorrectionKind = "withdrawn"
	// Reinstated means that a withdrawn violation was found again on a trace with at least as many spans.
	Reinstated CorrectionKind = "reinstated"
)

// Correction is a change of the state of a violation. The violation itself is never rewritten.
type Correction struct {
	// ID follows from the tenant, the violation and Sequence: 32 hexadecimal digits.
	ID                  string
	Tenant, ViolationID string
	// Sequence counts the corrections of the violation, from 1.
	Sequence int
	Kind     CorrectionKind
	// Reason is a sentence for people. Outcome is the outcome of the new judgement.
	Reason, Outcome string
	// SpansBefore and SpansAfter are the numbers of spans of the two judgements.
	SpansBefore, SpansAfter            int
	Pack, RuleID, RuleDigest, Severity string
	TraceID                            trace.ID
	Circumstances
}
