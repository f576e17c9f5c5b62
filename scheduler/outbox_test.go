package scheduler_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// examples has blocks with 7 violations of the rules in checkout.yaml: 5 of a rule about charges, 2 of one about agents.
const examples = "../docs/examples/"

// lokiService is a service that judges stored blocks and writes to a Loki.
type lokiService struct {
	*scheduler.Service
	state  *state.DB
	url    string
	client *http.Client
	// commitsAt is the difference of the clock from the true time while a tick is committed, ahead the present one.
	commitsAt, ahead atomic.Int64
}

func newLokiService(t *testing.T, pack string) *lokiService {
	t.Helper()
	s := &lokiService{url: stacktest.Get(t, stack.Options{Loki: true, Multitenant: true}).LokiURL}
	var err error
	s.client, err = tempoclient.Access{Tenant: t.Name(), PlainText: true}.HTTPClient()
	require.NoError(t, err)
	now := func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }
	loki, err := sink.NewLoki(sink.LokiConfig{URL: s.url, Client: s.client, Now: now})
	require.NoError(t, err)
	folder, err := filepath.Abs(examples + "tempo-blocks")
	require.NoError(t, err)
	store, err := blocks.OpenFolder(t.Context(), folder)
	require.NoError(t, err)
	s.state, err = state.Open(t.Context(), state.Options{Path: filepath.Join(t.TempDir(), "state.db")})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.state.Close())
		require.NoError(t, store.Close())
	})
	key, err := scheduler.SigningKey(t.Context(), s.state, "", time.Now())
	require.NoError(t, err)
	schedule, err := scheduler.ParseSchedule("@every 1m", "")
	require.NoError(t, err)
	s.Service, err = scheduler.New(scheduler.ServiceOptions{
		State: s.state, Key: key, Store: store, Source: store.URL(), Rules: rules.Options{}, Engine: "test", Now: now,
		Sweeps:    []scheduler.Sweep{{Name: "all", Schedule: schedule, Tenants: []string{"*"}, Packs: []string{pack}, Start: 20000 * time.Hour, Settle: time.Minute}},
		SinkNames: []string{"loki"}, Sinks: func(string) ([]sink.EntrySink, error) { return []sink.EntrySink{loki}, nil },
		ResendAfter: time.Second,
		Step: func(name string) {
			switch name {
			case "tick judged":
				s.ahead.Store(s.commitsAt.Load())
			case "tick committed":
				s.ahead.Store(0)
			}
		},
	})
	require.NoError(t, err)
	return s
}

// records returns the number of violations in Loki by rule, and the time of the oldest.
func (s *lokiService) records(t *testing.T) (count map[string]int, oldest time.Time) {
	t.Helper()
	resp, err := s.client.Get(s.url + "/loki/api/v1/query_range?" + url.Values{"query": {`{service_name="betrace", betrace_kind="violation"}`}, "since": {"240h"}}.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var answer struct {
		Data struct {
			Result []struct {
				Stream map[string]string
				Values [][]string
			}
		}
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	count, oldest = map[string]int{}, time.Now().Add(time.Hour)
	for _, stream := range answer.Data.Result {
		count[stream.Stream["rule_id"]] += len(stream.Values)
		for _, value := range stream.Values {
			at, err := time.ParseDuration(value[0] + "ns")
			require.NoError(t, err)
			if filed := time.Unix(0, int64(at)); filed.Before(oldest) {
				oldest = filed
			}
		}
	}
	return count, oldest
}

// isDelivered fails the test unless the outbox is empty.
func (s *lokiService) isDelivered(t *testing.T) {
	t.Helper()
	depths, err := s.state.Outbox(t.Context())
	require.NoError(t, err)
	require.Empty(t, depths)
}

// Loki refuses the records of a rule with more controls than structured metadata may have. The others are delivered.
func TestItemsThatLokiRefusesAreSetAside(t *testing.T) {
	text, err := os.ReadFile(examples + "checkout.yaml")
	require.NoError(t, err)
	pack := filepath.Join(t.TempDir(), "pack.yaml")
	controls := "controls: [" + strings.Repeat("soc2:CC6.1, ", 8000) + "soc2:CC6.1]"
	many := strings.Replace(string(text), "title: The shell of an agent", controls+"\n    title: The shell of an agent", 1)
	require.NotEqual(t, string(text), many)
	require.NoError(t, os.WriteFile(pack, []byte(many), 0o600))
	s := newLokiService(t, pack)
	once, err := s.Once(t.Context(), time.Minute)
	require.NoError(t, err)
	require.Equal(t, 7, once.Violations)
	require.Empty(t, once.Problems)
	s.isDelivered(t)
	refused, err := s.state.RefusedItems(t.Context())
	require.NoError(t, err)
	count, _ := s.records(t)
	require.Equal(t, 7, len(refused)+count["large-charges-pass-a-fraud-check"])
	require.NotEmpty(t, refused)
	require.Zero(t, count["agents-do-not-charge"])
	for _, r := range refused {
		require.Contains(t, r.Reason, "metadata", "%+v", r)
	}
}

// After a long outage Loki refuses records as too old. They are filed under a new time, once.
func TestItemsThatAreTooOldAreFiledUnderANewTime(t *testing.T) {
	s := newLokiService(t, examples+"checkout.yaml")
	s.commitsAt.Store(int64(-10 * 24 * time.Hour))
	tick, err := s.Once(t.Context(), time.Nanosecond)
	require.NoError(t, err)
	require.Equal(t, 7, tick.Violations)
	require.Len(t, tick.Problems, 1, "the time for deliveries is over")
	s.commitsAt.Store(0)
	began := time.Now()
	once, err := s.Once(t.Context(), time.Minute)
	require.NoError(t, err)
	require.Empty(t, once.Problems)
	s.isDelivered(t)
	count, oldest := s.records(t)
	require.Equal(t, 7, count["agents-do-not-charge"]+count["large-charges-pass-a-fraud-check"])
	require.False(t, oldest.Before(began.Truncate(time.Second)), "filed at %s", oldest)
	violations, err := s.state.Violations(t.Context(), state.ViolationFilter{Limit: 10})
	require.NoError(t, err)
	require.True(t, violations[0].FiledAt.Before(began.Add(-9*24*time.Hour)), "the state has the first filing time")
}
