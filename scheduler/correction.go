package scheduler

import (
	"fmt"
	"slices"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace"
)

// Change is the effect of a judgement on a violation.
type Change struct {
	// Changed reports whether Violation differs from the violation before.
	Changed   bool
	Violation state.Violation
	// Correction, if not nil, is the correction that has to be filed. Its circumstances are not set.
	Correction *evidence.Correction
}

// Decide returns the effect of a further judgement of a trace, with the given spans, by the rule version of a
// violation. The judgement of more spans counts, and of equal numbers the later one. So a trace of which a part has
// expired changes nothing, nor does a verdict that could not be determined. As late spans may outnumber the expired
// ones, a violation is withdrawn only if all spans to which it refers were judged again.
func Decide(v state.Violation, outcome rules.Outcome, judged []trace.SpanID) Change {
	change := Change{Violation: v}
	spans := len(judged)
	if outcome == rules.Error || spans < v.Spans {
		return change
	}
	if outcome != rules.Violation {
		for i := range v.About {
			if !slices.Contains(judged, v.About[i].ID) {
				return change
			}
		}
	}
	status, kind := state.StatusWithdrawn, evidence.Withdrawn
	if outcome == rules.Violation {
		status, kind = state.StatusOpen, evidence.Reinstated
	}
	change.Changed = spans != v.Spans || status != v.Status
	change.Violation.Spans, change.Violation.Status = spans, status
	if status == v.Status {
		return change
	}
	sequence := v.Sequence + 1
	change.Violation.Sequence = sequence
	change.Correction = &evidence.Correction{
		ID: evidence.CorrectionID(v.Tenant, v.ID, sequence), Tenant: v.Tenant, ViolationID: v.ID, Sequence: sequence,
		Kind: kind, Reason: correctionReason(outcome, spans-v.Spans), Outcome: outcome.String(),
		SpansBefore: v.Spans, SpansAfter: spans,
		Pack: v.Pack, RuleID: v.RuleID, RuleDigest: v.RuleDigest, Severity: v.Severity, TraceID: v.TraceID,
	}
	return change
}

// correctionReason returns the reason of a correction, a sentence without a full stop.
func correctionReason(outcome rules.Outcome, more int) string {
	verdict := map[rules.Outcome]string{
		rules.NotApplicable: "the rule does not apply",
		rules.Pass:          "the rule passes",
		rules.Violation:     "the rule is violated",
	}[outcome]
	switch more {
	case 0:
		return "the trace was judged again with the same number of spans: " + verdict
	case 1:
		return "1 more span arrived: with it " + verdict
	}
	return fmt.Sprintf("%d more spans arrived: with them %s", more, verdict)
}
