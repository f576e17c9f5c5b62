package scheduler_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// Each distinct refusal of rules is an event in the log, once, however many ticks it lasts and also after a restart.
func TestRefusedRulesAreRecordedOnce(t *testing.T) {
	text, err := os.ReadFile(examples + "checkout.yaml")
	require.NoError(t, err)
	good := string(text)
	broken := func(name string) string {
		changed := strings.Replace(good, "when: ", "when: "+name+" && ", 1)
		require.NotEqual(t, good, changed)
		return changed
	}
	pack := filepath.Join(t.TempDir(), "pack.yaml")
	path := filepath.Join(t.TempDir(), "state.db")
	store, err := blocks.OpenFolder(t.Context(), examples+"tempo-blocks")
	require.NoError(t, err)
	defer store.Close()
	schedule, err := scheduler.ParseSchedule("@every 1m", "")
	require.NoError(t, err)
	var db *state.DB
	var key *evidence.Key
	var service *scheduler.Service
	start := func() {
		db, err = state.Open(t.Context(), state.Options{Path: path})
		require.NoError(t, err)
		key, err = scheduler.SigningKey(t.Context(), db, "", time.Now())
		require.NoError(t, err)
		service, err = scheduler.New(scheduler.ServiceOptions{
			State: db, Key: key, Store: store, Source: store.URL(), Engine: "test",
			Sweeps: []scheduler.Sweep{{Name: "all", Schedule: schedule, Tenants: []string{"*"}, Packs: []string{pack}, Start: 20000 * time.Hour, Settle: time.Minute}},
		})
		require.NoError(t, err)
	}
	start()
	defer func() { require.NoError(t, db.Close()) }()
	for _, step := range []struct {
		rules   string
		restart bool
		want    int // events
		last    string
	}{
		{rules: good},
		{rules: broken("first"), want: 1, last: "first"},
		{rules: broken("first"), want: 1, last: "first"},
		{rules: broken("first"), restart: true, want: 1, last: "first"},
		{rules: broken("second"), want: 2, last: "second"},
		{rules: good, want: 2, last: "second"},
		{rules: broken("second"), want: 3, last: "second"},
		{rules: broken("third"), restart: true, want: 4, last: "third"},
	} {
		require.NoError(t, os.WriteFile(pack, []byte(step.rules), 0o600))
		if step.restart {
			require.NoError(t, db.Close())
			start()
		}
		service.Reload()
		for range 2 {
			_, err := service.Once(t.Context(), time.Second)
			require.NoError(t, err)
		}
		var refused []map[string]string
		for entry, err := range db.Entries(t.Context(), "", 1, 0) {
			require.NoError(t, err)
			s, _, err := evidence.OpenEnvelope(entry.Envelope, key.Public())
			require.NoError(t, err)
			if s.Event != nil && s.Event.Name == evidence.EventPackRefused {
				refused = append(refused, s.Event.Details)
			}
		}
		require.Len(t, refused, step.want)
		if step.want > 0 {
			details := refused[len(refused)-1]
			require.Equal(t, "all", details["sweep"])
			require.Contains(t, details["problems"], pack)
			require.Contains(t, details["problems"], step.last)
		}
	}
	verification, err := db.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, verification.OK(), "%+v", verification.Faults)
}
