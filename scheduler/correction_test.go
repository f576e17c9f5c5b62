package scheduler

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace"
)

func TestDecide(t *testing.T) {
	// A violation on three spans. It refers to the first.
	spans := func(from, n int) []trace.SpanID {
		var ids []trace.SpanID
		for i := range n {
			ids = append(ids, spanID(from+i))
		}
		return ids
	}
	for name, tt := range map[string]struct {
		before  string // default open
		outcome rules.Outcome
		spans   []trace.SpanID
		want    string // the status
		counts  int    // the spans of the judgement that counts
		reason  string // of a correction
	}{
		"the same":                         {outcome: rules.Violation, spans: spans(0, 3), want: state.StatusOpen, counts: 3},
		"more spans, still violated":       {outcome: rules.Violation, spans: spans(0, 4), want: state.StatusOpen, counts: 4},
		"more spans, passed":               {outcome: rules.Pass, spans: spans(0, 5), want: state.StatusWithdrawn, counts: 5, reason: "2 more spans arrived: with them the rule passes"},
		"more spans, not applicable":       {outcome: rules.NotApplicable, spans: spans(0, 4), want: state.StatusWithdrawn, counts: 4, reason: "1 more span arrived: with it the rule does not apply"},
		"as many spans, passed":            {outcome: rules.Pass, spans: spans(0, 3), want: state.StatusWithdrawn, counts: 3, reason: "the trace was judged again with the same number of spans: the rule passes"},
		"fewer spans, passed":              {outcome: rules.Pass, spans: spans(0, 2), want: state.StatusOpen, counts: 3},
		"more spans, but not the violator": {outcome: rules.Pass, spans: spans(1, 5), want: state.StatusOpen, counts: 3},
		"an error":                         {outcome: rules.Error, spans: spans(0, 5), want: state.StatusOpen, counts: 3},
		"withdrawn, and violated by more":  {before: state.StatusWithdrawn, outcome: rules.Violation, spans: spans(0, 4), want: state.StatusOpen, counts: 4, reason: "1 more span arrived: with it the rule is violated"},
		"withdrawn, and violated by fewer": {before: state.StatusWithdrawn, outcome: rules.Violation, spans: spans(0, 2), want: state.StatusWithdrawn, counts: 3},
	} {
		t.Run(name, func(t *testing.T) {
			v := state.Violation{Violation: evidence.Violation{ID: "v", Tenant: "t", RuleID: "r", About: []evidence.SpanRef{{ID: spanID(0)}}}, Spans: 3, Status: state.StatusOpen, Sequence: 1}
			if tt.before != "" {
				v.Status = tt.before
			}
			change := Decide(v, tt.outcome, tt.spans)
			require.Equal(t, tt.want, change.Violation.Status)
			require.Equal(t, tt.counts, change.Violation.Spans)
			require.Equal(t, tt.counts != 3 || tt.reason != "", change.Changed)
			if tt.reason == "" {
				require.Nil(t, change.Correction)
				require.Equal(t, 1, change.Violation.Sequence)
				return
			}
			require.Equal(t, tt.reason, change.Correction.Reason)
			require.Equal(t, 2, change.Correction.Sequence)
			require.Equal(t, 2, change.Violation.Sequence)
			require.Equal(t, evidence.CorrectionID("t", "v", 2), change.Correction.ID)
			require.Equal(t, map[string]evidence.CorrectionKind{state.StatusOpen: evidence.Reinstated, state.StatusWithdrawn: evidence.Withdrawn}[tt.want], change.Correction.Kind)
			require.Equal(t, []int{3, tt.counts}, []int{change.Correction.SpansBefore, change.Correction.SpansAfter})
		})
	}
}

func spanID(n int) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}
