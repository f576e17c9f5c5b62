package evidence_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/evidence"
)

// correction withdraws violation(1, "acme").
func correction() evidence.Correction {
	v := violation(1, "acme")
	return evidence.Correction{
		ID: evidence.CorrectionID(v.Tenant, v.ID, 1), Tenant: v.Tenant, ViolationID: v.ID, Sequence: 1, Kind: evidence.Withdrawn,
		Reason: "2 more spans arrived, with which the rule passes", Outcome: "pass", SpansBefore: 3, SpansAfter: 5,
		Pack: v.Pack, RuleID: v.RuleID, RuleDigest: v.RuleDigest, Severity: v.Severity, TraceID: v.TraceID,
		Circumstances: evidence.Circumstances{
			Origin: evidence.OriginSweep, Sweep: "all", Engine: "v1.2.3", Entry: evidence.EntryName("0123abcd", 7), FiledAt: time.Unix(1_800_000_000, 5),
		},
	}
}

func TestTheIdentityOfACorrectionIsFixed(t *testing.T) {
	// Python: h.update(len(p).to_bytes(8, "big") + p) for "t", "v" and "12", hexdigest()[:32]. It must never change.
	have := evidence.CorrectionID("t", "v", 12)
	require.Equal(t, "62e5faa04356d0b138c9dbfb9cd60e22", have)
	for _, other := range []string{evidence.CorrectionID("tv", "", 12), evidence.CorrectionID("t", "v1", 2), evidence.CorrectionID("t", "v", 13)} {
		require.NotEqual(t, have, other)
	}
	traceID, spanID := evidence.CorrectionSpanIDs(have)
	violationTrace, violationSpan := evidence.SpanIDs(have)
	require.NotEqual(t, violationTrace, traceID)
	require.NotEqual(t, violationSpan, spanID)
}

func TestTheSpanAndTheRecordOfACorrectionHoldTheChange(t *testing.T) {
	c := correction()
	span, err := (&ptrace.JSONMarshaler{}).MarshalTraces(evidence.CorrectionSpans([]evidence.Correction{c}))
	require.NoError(t, err)
	golden(t, "correction-span.json", append(span, '\n'))
	line, err := c.Record()
	require.NoError(t, err)
	golden(t, "correction.json", append(line, '\n'))
	validate(t, "correction.v1", line)

	have, err := evidence.ParseCorrection(line)
	require.NoError(t, err)
	require.Zero(t, have.Circumstances)
	have.Circumstances = c.Circumstances
	require.Equal(t, c, have)
	for from, want := range map[string]string{
		"correction/v1": `its schema is "betrace.dev/correction/v9"; only betrace.dev/correction/v1 can be read`,
		`"id":"01`:      "correction record " + c.ID + ": ",
		`"sequence"`:    "unknown field",
	} {
		changed := strings.Replace(string(line), from, map[string]string{"correction/v1": "correction/v9", `"id":"01`: `"id":"x`, `"sequence"`: `"seq"`}[from], 1)
		_, err := evidence.ParseCorrection([]byte(changed))
		require.ErrorContains(t, err, want)
	}

	labels, err := c.Labels()
	require.NoError(t, err)
	require.Equal(t, `{betrace_kind="correction", origin="sweep", service_name="betrace", severity="critical"}`, labels)
	c.Origin = "cron"
	_, err = c.Labels()
	require.ErrorContains(t, err, `its origin is "cron": want one of`)
	require.Equal(t, [][2]string{
		{"correction_id", c.ID}, {"violation_id", c.ViolationID}, {"kind", "withdrawn"}, {"trace_id", c.TraceID.String()},
		{"pack", "payments"}, {"rule_id", "charge-needs-fraud-check"}, {"engine", "v1.2.3"}, {"sweep", "all"}, {"entry", "0123abcd-7"},
	}, c.Metadata())
}

func TestTheMetadataOfAnEntryLeaveOutWhatIsUnknown(t *testing.T) {
	require.Equal(t, [][2]string{{"entry", "0123abcd-7"}, {"kind", "tick"}, {"sweep", "all,other"}}, evidence.StatementMetadata("0123abcd-7", "tick", []string{"all", "other"}))
	require.Equal(t, [][2]string{{"entry", "0123abcd-7"}, {"kind", "event"}}, evidence.StatementMetadata("0123abcd-7", "event", nil))
}
