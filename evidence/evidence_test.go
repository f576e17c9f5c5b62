package evidence_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
)

var update = flag.Bool("update", false, "write the golden files")

func violation(n int, tenant string) evidence.Violation {
	id := trace.ID{0: 1, 14: byte(n >> 8), 15: byte(n)}
	digest := strings.Repeat("ab", 32)
	return evidence.Violation{
		ID: evidence.ViolationID(tenant, "payments", "charge-needs-fraud-check", digest, id), Tenant: tenant,
		Pack: "payments", PackVersion: "1.4.0", RuleID: "charge-needs-fraud-check", RuleDigest: digest,
		Title: "Charges pass a fraud check", Severity: "critical", Controls: []string{"soc2:CC6.1", "pci-dss:10.2"},
		Clause: "always[0]", Message: "charge of 2500 without a fraud check",
		TraceID: id, TraceStart: 1_767_323_045_000_000_001, RootService: "shop", Services: []string{"payment", "shop"},
		Root:  evidence.SpanRef{ID: trace.SpanID{7: 1}, Name: "checkout", Service: "shop"},
		About: []evidence.SpanRef{{ID: trace.SpanID{7: 2}, Name: "charge", Service: "payment"}, {ID: trace.SpanID{7: 1}, Name: "checkout", Service: "shop"}},
		Circumstances: evidence.Circumstances{
			Origin: evidence.OriginScan, WindowStart: time.Unix(1_767_323_000, 0), WindowEnd: time.Unix(1_767_324_000, 0), Engine: "v1.2.3",
		},
	}
}

func TestTheIdentityOfAViolationIsFixed(t *testing.T) {
	id := trace.ID{15: 1}
	// Python: h.update(len(p).to_bytes(8, "big") + p) for each part, hexdigest()[:32].
	// It must never change.
	have := evidence.ViolationID("t", "p", "r", "d", id)
	require.Equal(t, "7c404018decdd8d985f277b4651c6b9e", have)
	for _, other := range []string{
		evidence.ViolationID("tp", "", "r", "d", id), evidence.ViolationID("t", "p", "rd", "", id),
		evidence.ViolationID("t", "p", "r", "e", id), evidence.ViolationID("t", "p", "r", "d", trace.ID{15: 2}), evidence.ViolationID("", "p", "r", "d", id),
	} {
		require.NotEqual(t, have, other)
	}
}

func TestTheSpanAndTheRecordHoldWhatTheDesignNames(t *testing.T) {
	v := violation(1, "acme")
	td := evidence.Spans([]evidence.Violation{v}, time.Unix(1_800_000_000, 5))
	span, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)
	golden(t, "span.json", append(span, '\n'))
	line, err := v.Record()
	require.NoError(t, err)
	golden(t, "record.json", append(line, '\n'))

	empty := evidence.Violation{ID: v.ID, RuleID: "r", RuleDigest: v.RuleDigest, Severity: "low", Clause: "when"}
	for _, v := range []evidence.Violation{v, empty} {
		line, err := v.Record()
		require.NoError(t, err)
		validate(t, "violation.v2", line)
	}
}

// validate checks a line against a schema in docs/schemas.
func validate(t *testing.T, name string, line []byte) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("../docs/schemas/" + name + ".json")
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(line)))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(value), name)
}

func TestASpanIsBounded(t *testing.T) {
	v := violation(1, "")
	v.Message = strings.Repeat("é", 3000)
	v.About = make([]evidence.SpanRef, 10_000)
	for i := range v.About {
		v.About[i].ID = trace.SpanID{0: 9, 6: byte(i >> 8), 7: byte(i)}
	}
	s := evidence.Spans([]evidence.Violation{v}, time.Now()).ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	require.Equal(t, 128, s.Links().Len())
	require.Equal(t, uint32(10_000+1-128), s.DroppedLinksCount())
	require.Less(t, len(s.Status().Message()), 2048)
	require.True(t, strings.HasSuffix(s.Status().Message(), "é…"))
	line, err := v.Record()
	require.NoError(t, err)
	require.Less(t, len(line), 64<<10)

	// Long names, and control characters that JSON writes as six.
	for i := range v.About {
		v.About[i].Name = strings.Repeat("SELECT * ", 1000)
	}
	v.Services = slices.Repeat([]string{strings.Repeat("\x01", 100)}, 10_000)
	line, err = v.Record()
	require.NoError(t, err)
	require.Less(t, len(line), 200<<10+1)
	require.Greater(t, len(line), 50<<10, "as much is kept as fits")
	require.Contains(t, string(line), v.ID)
	require.Len(t, v.Services, 10_000, "the violation itself is left as it is")
}

func isOwn(t *trace.Trace) bool {
	needs := columnar.Needs{Attributes: evidence.OwnAttributes}
	return evidence.IsOwn(columnar.NewBatch(needs, t), 0)
}

func TestOnlyBeTracesOwnTracesAreItsOwn(t *testing.T) {
	own, err := otlp.ToTraces(evidence.Spans([]evidence.Violation{violation(1, "")}, time.Now()))
	require.NoError(t, err)
	require.True(t, isOwn(own[0]))
	span := own[0].Spans[0]
	other := span
	other.ID = trace.SpanID{1}
	for name, tr := range map[string]*trace.Trace{
		"another trace ID": trace.New(trace.ID{1}, []trace.Span{span}),
		"another span ID":  trace.New(own[0].ID, []trace.Span{other}),
		"a span besides":   trace.New(own[0].ID, []trace.Span{span, other}),
		"named betrace":    trace.New(trace.ID{1}, []trace.Span{{ID: trace.SpanID{1}, Name: "betrace.violation", Resource: span.Resource}}),
	} {
		require.False(t, isOwn(tr), name)
	}

	own, err = otlp.ToTraces(evidence.CorrectionSpans([]evidence.Correction{correction()}))
	require.NoError(t, err)
	require.True(t, isOwn(own[0]), "a correction names the violation, too")
	require.False(t, isOwn(trace.New(trace.ID{1}, own[0].Spans)))
}

func golden(t *testing.T, name string, have []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		require.NoError(t, os.WriteFile(path, have, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(have))
}

func TestALineDependsOnTheFindingOnly(t *testing.T) {
	v := violation(1, "acme")
	line, err := v.Record()
	require.NoError(t, err)
	v.Circumstances = evidence.Circumstances{
		Origin: evidence.OriginSweep, Sweep: "hourly", Job: "j", Provisional: true, Engine: "v9", Entry: "0123abcd-7",
		WindowStart: time.Unix(1, 0), WindowEnd: time.Unix(2, 0), FiledAt: time.Unix(3, 0),
	}
	v.Root = evidence.SpanRef{}
	other, err := v.Record()
	require.NoError(t, err)
	require.Equal(t, string(line), string(other))
	v.Circumstances = evidence.Circumstances{}
	none, err := v.Record()
	require.NoError(t, err)
	require.Equal(t, string(line), string(none))
}

func TestRecordsOfBothVersionsAreRead(t *testing.T) {
	want := violation(1, "acme")
	want.Root = evidence.SpanRef{}
	for version, path := range map[string]string{"v1": "testdata/record.v1.json", "v2": "testdata/record.json"} {
		line, err := os.ReadFile(path)
		require.NoError(t, err)
		validate(t, "violation."+version, line)
		have, err := evidence.ParseRecord(line)
		require.NoError(t, err)
		if version == "v2" {
			require.Zero(t, have.Circumstances)
			again, err := have.Record()
			require.NoError(t, err)
			require.Equal(t, string(line), string(again)+"\n")
		} else {
			have.WindowStart, have.WindowEnd = have.WindowStart.Local(), have.WindowEnd.Local()
			require.Equal(t, want.Circumstances, have.Circumstances, "version 1 holds the circumstances, too")
		}
		have.Circumstances = want.Circumstances
		require.Equal(t, want, have)
	}
}

func TestALineThatIsNoRecordIsRefused(t *testing.T) {
	line, err := os.ReadFile("testdata/record.v1.json")
	require.NoError(t, err)
	for _, tt := range []struct{ from, to, want string }{
		{"", "", "unexpected end of JSON input"},
		{"violation/v1", "violation/v3", `its schema is "betrace.dev/violation/v3"; betrace.dev/violation/v2 and betrace.dev/violation/v1 can be read`},
		{`"id":"01`, `"id":"x`, "violation record 15d0bb78e3f18a3bc19fdc7fd2ef6bb8: "},
		{`"span_id":"0000`, `"span_id":"xy`, `"xy000000000002" is no span ID`},
		{`"span_id":"0000`, `"span_id":"`, `"000000000002" is no span ID`},
		{`"start":"2026-01-02T03:04`, `"start":"yesterday`, "yesterday"},
		{`"end":"2026`, `"end":"20x6`, "20x6"},
	} {
		text := ""
		if tt.from != "" {
			require.Contains(t, string(line), tt.from)
			text = strings.Replace(string(line), tt.from, tt.to, 1)
		}
		_, err := evidence.ParseRecord([]byte(text))
		require.ErrorContains(t, err, tt.want)
	}
}

func TestATextIsCutBetweenCharacters(t *testing.T) {
	for _, before := range []string{"", "x", "xx", "xxx"} {
		v := violation(1, "")
		v.Message = before + strings.Repeat("😀", 1000)
		s := evidence.Spans([]evidence.Violation{v}, time.Now()).ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
		require.True(t, strings.HasSuffix(s.Status().Message(), "😀…"), before)
	}
}
