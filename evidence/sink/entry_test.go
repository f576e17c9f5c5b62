package sink_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grafana/loki/pkg/push"
	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/otlp"
)

var _ = []sink.EntrySink{(*sink.Loki)(nil), (*sink.Tempo)(nil)}

// items returns the items of an entry: n violations, half as many corrections of them, and the statement. They are
// filed from a time on, each a nanosecond later.
func items(entry, tenant string, n int, at time.Time) []sink.Item {
	var all []sink.Item
	file := func(item sink.Item) {
		item.FiledAt = at.Add(time.Duration(len(all)))
		all = append(all, item)
	}
	for i := range n {
		v := violation(i, tenant)
		v.Circumstances = evidence.Circumstances{Origin: evidence.OriginSweep, Sweep: "all", Engine: "v1.2.3", Entry: entry}
		file(sink.Item{Kind: sink.KindViolation, ID: v.ID, Violation: &v})
		if i%2 == 1 {
			c := evidence.Correction{
				ID: evidence.CorrectionID(tenant, v.ID, 1), Tenant: tenant, ViolationID: v.ID, Sequence: 1, Kind: evidence.Withdrawn,
				Reason: "2 more spans arrived, with which the rule passes", Outcome: "pass", SpansBefore: 1, SpansAfter: 3,
				Pack: v.Pack, RuleID: v.RuleID, RuleDigest: v.RuleDigest, Severity: v.Severity, TraceID: v.TraceID, Circumstances: v.Circumstances,
			}
			file(sink.Item{Kind: sink.KindCorrection, ID: c.ID, Correction: &c})
		}
	}
	envelope := fmt.Appendf(nil, `{"payload":"%s of %s","payloadType":"t","signatures":[]}`, entry, tenant)
	file(sink.Item{Kind: sink.KindStatement, ID: evidence.EntryDigest(envelope), Statement: &sink.Statement{
		Entry: entry, Kind: "tick", Sweeps: []string{"all"}, Envelope: envelope,
	}})
	return all
}

// idsOf returns the set of the items' IDs.
func idsOf(items []sink.Item) map[string]bool {
	ids := map[string]bool{}
	for _, item := range items {
		ids[item.ID] = true
	}
	return ids
}

// entryLoki stores pushed records, and answers searches for an entry as Loki does. It refuses the records that refuse
// has an answer for, and stores the others of the same push.
type entryLoki struct {
	mu     sync.Mutex
	refuse func(push.Entry) (code int, text string)
	// refuseAll, if not nil, refuses whole requests.
	refuseAll func([]push.Entry) (code int, text string)
	// failing makes each push fail after its records were stored.
	failing bool
	records map[string]push.Entry // by labels, time, line and metadata
	labels  map[string]string
	pushes  int
	queries int
	stored  int // with repeated records
}

var (
	entryQuery = regexp.MustCompile(`\| entry="([^"]*)"`)
	kindOf     = regexp.MustCompile(`betrace_kind="([a-z]*)"`)
)

func (l *entryLoki) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/push") {
		l.push(w, r)
		return
	}
	l.queries++
	q := r.URL.Query()
	entry := entryQuery.FindStringSubmatch(q.Get("query"))[1]
	start, end, limit := number(q.Get("start")), number(q.Get("end")), number(q.Get("limit"))
	var keys []string
	for key, e := range l.records {
		if at := e.Timestamp.UnixNano(); at >= start && at < end && metadata(e)["entry"] == entry {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(l.records[a].Timestamp.Compare(l.records[b].Timestamp), cmp.Compare(a, b))
	})
	type stream struct {
		Stream map[string]string `json:"stream"`
		Values [][2]string       `json:"values"`
	}
	found := []stream{}
	for _, key := range keys[:min(len(keys), int(limit))] {
		e := l.records[key]
		labels := metadata(e)
		labels["betrace_kind"] = kindOf.FindStringSubmatch(l.labels[key])[1]
		found = append(found, stream{labels, [][2]string{{strconv.FormatInt(e.Timestamp.UnixNano(), 10), e.Line}}})
	}
	slices.Reverse(found)                                                                  // streams have no order
	_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"result": found}}) // the client reports a broken answer
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (l *entryLoki) push(w http.ResponseWriter, r *http.Request) {
	packed, _ := io.ReadAll(r.Body) // a truncated body cannot be decoded
	body, err := snappy.Decode(nil, packed)
	var request push.PushRequest
	if err != nil || request.Unmarshal(body) != nil {
		http.Error(w, "no push", http.StatusBadRequest)
		return
	}
	l.pushes++
	code, text := http.StatusNoContent, ""
	if l.failing {
		code, text = http.StatusInternalServerError, "sorry"
	}
	if l.refuseAll != nil {
		var all []push.Entry
		for _, s := range request.Streams {
			all = append(all, s.Entries...)
		}
		if c, why := l.refuseAll(all); c != 0 {
			http.Error(w, why, c)
			return
		}
	}
	for _, s := range request.Streams {
		for _, e := range s.Entries {
			if l.refuse != nil {
				if c, why := l.refuse(e); c != 0 {
					code, text = c, why
					continue
				}
			}
			key := fmt.Sprint(s.Labels, e.Timestamp.UnixNano(), e.Line, e.StructuredMetadata)
			if l.records == nil {
				l.records, l.labels = map[string]push.Entry{}, map[string]string{}
			}
			l.records[key], l.labels[key] = e, s.Labels
			l.stored++
		}
	}
	if text == "" {
		w.WriteHeader(code)
		return
	}
	http.Error(w, text, code)
}

func (l *entryLoki) sink(t *testing.T) *sink.Loki {
	t.Helper()
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	loki, err := sink.NewLoki(sink.LokiConfig{URL: server.URL, Tries: 1})
	require.NoError(t, err)
	return loki
}

func TestTheItemsOfAnEntryAreFiledOnceAndFoundByOneSearch(t *testing.T) {
	server := &entryLoki{}
	loki := server.sink(t)
	at := time.Now()
	all, others := items("0123abcd-7", "acme", 100, at), items("0123abcd-8", "acme", 0, at)
	require.NoError(t, loki.Send(t.Context(), all[:50]))
	require.NoError(t, loki.Send(t.Context(), all))
	require.NoError(t, loki.Send(t.Context(), others))
	require.Len(t, server.records, len(all)+1)
	for _, item := range all {
		require.True(t, loki.Takes(item.Kind))
	}

	held, err := loki.Held(t.Context(), "0123abcd-7", all)
	require.NoError(t, err)
	require.Equal(t, idsOf(all), held)
	require.Equal(t, 1, server.queries)
	more := items("0123abcd-7", "acme", 101, at)
	held, err = loki.Held(t.Context(), "0123abcd-7", more)
	require.NoError(t, err)
	require.Equal(t, idsOf(all), held, "the item that was not sent is missing")
	held, err = loki.Held(t.Context(), "0123abcd-9", all)
	require.NoError(t, err)
	require.Empty(t, held)
	held, err = loki.Held(t.Context(), "0123abcd-7", nil)
	require.NoError(t, err)
	require.Empty(t, held)
}

func TestAStatementOfAnotherTenantIsNotTakenForThisOne(t *testing.T) {
	server := &entryLoki{}
	loki := server.sink(t)
	own, other := items("0123abcd-7", "acme", 1, time.Now()), items("0123abcd-7", "other", 1, time.Now())
	require.NoError(t, loki.Send(t.Context(), other))
	held, err := loki.Held(t.Context(), "0123abcd-7", own)
	require.NoError(t, err)
	require.Empty(t, held)
}

func TestTheLineThatWasCommittedIsFiled(t *testing.T) {
	server := &entryLoki{}
	loki := server.sink(t)
	one := items("0123abcd-7", "acme", 2, time.Now())
	for i := range one {
		one[i].Line = fmt.Appendf(nil, "line %d", i)
	}
	require.NoError(t, loki.Send(t.Context(), one))
	var lines []string
	for _, e := range server.records {
		lines = append(lines, e.Line)
	}
	require.ElementsMatch(t, []string{"line 0", "line 1", "line 2", string(one[3].Statement.Envelope)}, lines)
}

func TestAnEntryOfManyItemsIsReadInPages(t *testing.T) {
	for name, step := range map[string]time.Duration{"a nanosecond apart": 1, "a year apart": time.Hour * 24 * 365 / 7000} {
		t.Run(name, func(t *testing.T) {
			server := &entryLoki{}
			loki := server.sink(t)
			all := items("0123abcd-7", "acme", 8000, time.Now())
			begin := time.Now().Add(-time.Duration(len(all)) * step)
			for i := range all {
				all[i].FiledAt = begin.Add(time.Duration(i) * step)
			}
			require.NoError(t, loki.Send(t.Context(), all))
			held, err := loki.Held(t.Context(), "0123abcd-7", all)
			require.NoError(t, err)
			require.Equal(t, idsOf(all), held)
			require.Less(t, server.queries, 40)
		})
	}
}

func TestARecordThatIsRefusedDoesNotHoldUpTheOthers(t *testing.T) {
	at := time.Now()
	all := items("0123abcd-7", "acme", 200, at)
	const tooLong = "max entry size '10' bytes exceeded for stream '{}'"
	bad := map[string]bool{all[7].ID: true, all[8].ID: true, all[250].ID: true}
	one := func(e push.Entry) bool { return bad[cmp.Or(metadata(e)["correction_id"], metadata(e)["violation_id"])] }
	for name, reason := range map[string]string{"a known reason": tooLong, "an unknown reason": "we do not like it"} {
		t.Run(name, func(t *testing.T) {
			server := &entryLoki{refuse: func(e push.Entry) (int, string) {
				if one(e) {
					return 400, reason
				}
				return 0, ""
			}}
			err := server.sink(t).Send(t.Context(), all)
			var refused *sink.RefusedError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, "loki refused 3 records for good, the first is ")
			var tooOld *sink.TooOldError
			require.False(t, errors.As(err, &tooOld))
			require.Equal(t, slices.Sorted(maps.Keys(bad)), slices.Sorted(maps.Keys(refused.Reasons)))
			for _, why := range refused.Reasons {
				require.Equal(t, "400 "+reason, why)
			}
			require.Len(t, server.records, len(all)-3)
			require.Equal(t, len(all)-3, server.stored, "no record is repeated")
			require.Less(t, server.pushes, 6)
		})
	}
}

func TestARefusalOfAWholeRequestDoesNotHoldUpTheOthers(t *testing.T) {
	all := items("0123abcd-7", "acme", 200, time.Now())
	bad := all[7].ID
	server := &entryLoki{refuseAll: func(entries []push.Entry) (int, string) {
		if slices.ContainsFunc(entries, func(e push.Entry) bool {
			return metadata(e)["violation_id"] == bad && metadata(e)["correction_id"] == ""
		}) {
			return 400, "we do not like it"
		}
		return 0, ""
	}}
	err := server.sink(t).Send(t.Context(), all)
	var refused *sink.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, map[string]string{bad: "400 we do not like it"}, refused.Reasons)
	require.Len(t, server.records, len(all)-1)
	require.Equal(t, len(all)-1, server.stored)
	require.Less(t, server.pushes, 20)
}

func TestRecordsOfAFailedRequestAreNotFiledAgain(t *testing.T) {
	all := items("0123abcd-7", "acme", 200, time.Now())
	for name, tt := range map[string]struct {
		most, pushes int
		want         string
	}{
		"all were stored":  {len(all), 1, ""},
		"some were stored": {101, 3, ""},
		"none was stored":  {0, 4, "500 sorry: see Loki's log (4 tries)"},
	} {
		t.Run(name, func(t *testing.T) {
			server := &entryLoki{}
			var pushes, n int
			server.refuse = func(push.Entry) (int, string) {
				if pushes != server.pushes {
					pushes, n = server.pushes, 0
				}
				if n++; n > tt.most {
					return 500, "sorry"
				}
				return 0, ""
			}
			server.failing = tt.most == len(all)
			address := httptest.NewServer(server)
			defer address.Close()
			loki, err := sink.NewLoki(sink.LokiConfig{URL: address.URL, Tries: 4})
			require.NoError(t, err)
			if err = loki.Send(t.Context(), all); tt.want != "" {
				require.ErrorContains(t, err, tt.want)
			} else {
				require.NoError(t, err)
				require.Len(t, server.records, len(all))
			}
			require.Len(t, server.records, server.stored, "no record is repeated")
			require.Equal(t, tt.pushes, server.pushes)
		})
	}
}

func TestAFilingTimeThatIsTooOldIsTold(t *testing.T) {
	at := time.Now()
	all := items("0123abcd-7", "acme", 50, at)
	bad := all[0].ID
	server := &entryLoki{refuse: func(e push.Entry) (int, string) {
		switch id := metadata(e)["violation_id"]; {
		case id == bad:
			return 400, "max entry size exceeded"
		case kindIs(e, "withdrawn"):
			return 400, "entry with timestamp 2026 ignored, reason: 'entry too far behind, entry timestamp is: 2026'"
		}
		return 0, ""
	}}
	loki := server.sink(t)
	err := loki.Send(t.Context(), all)
	var tooOld *sink.TooOldError
	require.ErrorAs(t, err, &tooOld)
	require.ErrorContains(t, err, "entry too far behind, entry timestamp is: 2026': check this machine's clock")
	held, err := loki.Held(t.Context(), "0123abcd-7", all)
	require.NoError(t, err)
	require.Len(t, held, 50, "the others were stored: 49 violations and the statement")

	server.refuse = func(e push.Entry) (int, string) {
		if metadata(e)["violation_id"] == bad && metadata(e)["correction_id"] == "" {
			return 400, "max entry size exceeded"
		}
		return 0, ""
	}
	var refused *sink.RefusedError
	err = loki.Send(t.Context(), all)
	require.ErrorAs(t, err, &refused)
	require.Len(t, refused.Reasons, 1)
	require.Len(t, server.records, len(all)-1)
}

func TestRecordsAfterOneThatIsTooOldAreSent(t *testing.T) {
	all := items("0123abcd-7", "acme", 2000, time.Now())
	server := &entryLoki{refuse: func(e push.Entry) (int, string) {
		if e.Timestamp.Equal(all[0].FiledAt) {
			return 400, "entry too far behind"
		}
		return 0, ""
	}}
	var tooOld *sink.TooOldError
	require.ErrorAs(t, server.sink(t).Send(t.Context(), all), &tooOld)
	require.Greater(t, server.pushes, 1)
	require.Len(t, server.records, len(all)-1)
}

func kindIs(e push.Entry, kind string) bool { return metadata(e)["kind"] == kind }

func TestARefusalOfThousandsOfRecordsEndsSoon(t *testing.T) {
	server := &entryLoki{refuse: func(push.Entry) (int, string) { return 400, "go away" }}
	err := server.sink(t).Send(t.Context(), items("0123abcd-7", "acme", 2000, time.Now()))
	require.ErrorContains(t, err, "loki push: each of 20 records was refused: 400 go away: check Loki's limits_config")
	require.Less(t, server.pushes, 60)
}

func TestARefusalOfEveryRecordIsNotForGood(t *testing.T) {
	all := items("0123abcd-7", "acme", 3, time.Now())
	for name, tt := range map[string]struct {
		code    int
		text    string
		want    string
		refused bool
	}{
		"an unknown reason":  {400, "go away", "each of 5 records was refused: 400 go away: check Loki's limits_config", false},
		"a known reason":     {400, "max entry size '10' bytes exceeded", "loki refused 5 records for good", true},
		"a setting":          {400, "stream '{}' includes structured metadata, but this feature is disallowed", "change Loki's limits_config", false},
		"a clock ahead":      {400, "entry has timestamp too new: 2027", "check this machine's clock", false},
		"a server at fault":  {500, "oh", "500 oh: see Loki's log", false},
		"a limit":            {429, "slow", "429 slow: raise the tenant's ingestion rate", false},
		"no credentials":     {401, "no", "401 no: check the credentials", false},
		"too large a batch":  {413, "request body too large", "each of 5 records was refused: 413 ", false},
		"an old filing time": {400, "entry for stream '{}' has timestamp too old: 2025", "too old: 2025: check this machine's clock", false},
	} {
		t.Run(name, func(t *testing.T) {
			server := &entryLoki{refuse: func(push.Entry) (int, string) { return tt.code, tt.text }}
			err := server.sink(t).Send(t.Context(), all)
			require.ErrorContains(t, err, tt.want)
			var refused *sink.RefusedError
			require.Equal(t, tt.refused, errors.As(err, &refused))
			if !tt.refused && tt.code != 400 && tt.code != 413 || name == "a setting" || name == "a clock ahead" || name == "an old filing time" {
				require.Equal(t, 1, server.pushes, "halves are not sent")
			}
		})
	}
}

func TestAnItemThatCannotBeFiledIsAnError(t *testing.T) {
	loki, tempo := (&entryLoki{}).sink(t), &sink.Tempo{}
	v := violation(1, "")
	v.Origin = "cron"
	for want, item := range map[string]sink.Item{
		"violation x has no filing time": {Kind: sink.KindViolation, ID: "x", Violation: &v},
		"item x has no content":          {Kind: sink.KindViolation, ID: "x", FiledAt: time.Now()},
		`its origin is "cron"`:           {Kind: sink.KindViolation, ID: "x", FiledAt: time.Now(), Violation: &v},
	} {
		require.ErrorContains(t, loki.Send(t.Context(), []sink.Item{item}), want)
	}
	require.ErrorContains(t, tempo.Send(t.Context(), []sink.Item{{Kind: sink.KindViolation, ID: "x", Violation: &v}}), "violation x has no filing time")
}

// tempoInMemory answers searches for an entry and reads by ID from the spans that were exported.
type tempoInMemory struct {
	traces   map[trace.ID]*trace.Trace
	limit    int // above which it refuses
	searches []string
	reads    int
}

var errLimit = errors.New("limit refused")

var (
	tempoEntry  = regexp.MustCompile(`span\.betrace\.entry = "([^"]*)"`)
	tempoPrefix = regexp.MustCompile(`span\.betrace\.violation\.id =~ "([0-9a-f]*)\.\*"`)
)

func (m *tempoInMemory) sink() *sink.Tempo {
	return &sink.Tempo{
		Export: func(_ context.Context, td ptrace.Traces) error {
			traces, err := otlp.ToTraces(td)
			for _, t := range traces {
				m.traces[t.ID] = t
			}
			return err
		},
		Read: func(_ context.Context, id trace.ID) (*trace.Trace, error) {
			m.reads++
			if t := m.traces[id]; t != nil {
				return t, nil
			}
			return nil, errNone
		},
		NotFound: errNone, LimitRefused: errLimit, Concurrency: 1,
		Search: func(_ context.Context, query string, start, end time.Time, limit int) (found []map[string]string, err error) {
			m.searches = append(m.searches, query)
			if m.limit > 0 && limit > m.limit {
				return nil, fmt.Errorf("%w: exceeds max limit", errLimit)
			}
			prefix := ""
			if p := tempoPrefix.FindStringSubmatch(query); p != nil {
				prefix = p[1]
			}
			for _, t := range m.traces {
				s := &t.Spans[0]
				get := func(key string) string { return s.Attributes.Get(key).Str() }
				if len(found) < limit && get("betrace.entry") == tempoEntry.FindStringSubmatch(query)[1] && strings.HasPrefix(get("betrace.violation.id"), prefix) &&
					!s.Start.Time().Before(start) && s.Start.Time().Before(end) {
					found = append(found, map[string]string{"betrace.violation.id": get("betrace.violation.id"), "betrace.correction.id": get("betrace.correction.id")})
				}
			}
			return found, nil
		},
	}
}

func TestTheSpansOfAnEntryAreFoundByOneSearch(t *testing.T) {
	m := &tempoInMemory{traces: map[trace.ID]*trace.Trace{}}
	tempo := m.sink()
	all := items("0123abcd-7", "acme", 100, time.Now().Add(-48*time.Hour))
	spans := all[:len(all)-1] // without the statement
	require.False(t, tempo.Takes(all[len(all)-1].Kind))
	require.NoError(t, tempo.Send(t.Context(), all[:20]))
	require.NoError(t, tempo.Send(t.Context(), all))
	require.Len(t, m.traces, 150)
	for _, item := range spans {
		id, _ := evidence.SpanIDs(item.ID)
		if item.Kind == sink.KindCorrection {
			id, _ = evidence.CorrectionSpanIDs(item.ID)
		}
		require.Equal(t, item.FiledAt.UnixNano(), m.traces[id].Spans[0].Start.Time().UnixNano())
		require.True(t, isOwn(m.traces[id]))
	}
	held, err := tempo.Held(t.Context(), "0123abcd-7", all)
	require.NoError(t, err)
	require.Equal(t, idsOf(spans), held)
	require.Equal(t, []string{`{ span.betrace.entry = "0123abcd-7" } | select(span.betrace.violation.id, span.betrace.correction.id)`}, m.searches)
	require.Zero(t, m.reads)

	held, err = tempo.Held(t.Context(), "0123abcd-8", all)
	require.NoError(t, err)
	require.Empty(t, held)
	held, err = tempo.Held(t.Context(), "0123abcd-8", all[len(all)-1:])
	require.NoError(t, err)
	require.Empty(t, held)
	held, err = tempo.HeldByID(t.Context(), all)
	require.NoError(t, err)
	require.Equal(t, idsOf(spans), held)
}

func TestTheSpanOfACorrectionDoesNotStandForItsViolation(t *testing.T) {
	m := &tempoInMemory{traces: map[trace.ID]*trace.Trace{}}
	tempo := m.sink()
	all := items("0123abcd-7", "acme", 2, time.Now()) // violation, violation, its correction, statement
	require.NoError(t, tempo.Send(t.Context(), all[2:3]))
	for _, find := range []func() (map[string]bool, error){
		func() (map[string]bool, error) { return tempo.Held(t.Context(), "0123abcd-7", all) },
		func() (map[string]bool, error) { return tempo.HeldByID(t.Context(), all) },
	} {
		held, err := find()
		require.NoError(t, err)
		require.Equal(t, idsOf(all[2:3]), held)
	}
}

func TestSpansBeyondTheSearchLimitAreFoundToo(t *testing.T) {
	for name, tt := range map[string]struct {
		limit, refuse int
		others        int // spans of another tenant's entry with the same name
		searches      int
		reads         bool
	}{
		"in parts":                       {limit: 50, searches: 16},
		"by ID if Tempo's limit is less": {limit: 5000, refuse: 20, searches: 1, reads: true},
		"by ID if the search is full":    {limit: 5000, others: 500, searches: 1, reads: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := &tempoInMemory{traces: map[trace.ID]*trace.Trace{}, limit: tt.refuse}
			tempo := m.sink()
			tempo.SearchLimit = tt.limit
			all := items("0123abcd-7", "acme", 200, time.Now())
			require.NoError(t, tempo.Send(t.Context(), all))
			require.NoError(t, tempo.Send(t.Context(), items("0123abcd-7", "other", tt.others, time.Now())))
			held, err := tempo.Held(t.Context(), "0123abcd-7", all)
			require.NoError(t, err)
			require.Equal(t, idsOf(all[:len(all)-1]), held)
			require.Len(t, m.searches, tt.searches)
			require.Equal(t, tt.reads, m.reads > 0)
		})
	}
	down := errors.New("down")
	tempo := &sink.Tempo{Search: func(context.Context, string, time.Time, time.Time, int) ([]map[string]string, error) {
		return nil, down
	}}
	_, err := tempo.Held(t.Context(), "0123abcd-7", items("0123abcd-7", "acme", 1, time.Now()))
	require.ErrorIs(t, err, down)
}
