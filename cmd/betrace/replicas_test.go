package main

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/scheduler/state"
)

// replica is one of several services with one state, to which it connects through a gate.
type replica struct {
	*served
	config   string
	database *gate
	process  *exec.Cmd
}

func (s *served) newReplica(t *testing.T, n int) *replica {
	t.Helper()
	u, err := url.Parse(s.database)
	require.NoError(t, err)
	r := &replica{served: s, database: newGate(t, u.Host), config: filepath.Join(s.dir, fmt.Sprintf("replica-%d.yaml", n))}
	u.Host = r.database.address()
	config, err := os.ReadFile(s.config)
	require.NoError(t, err)
	config = bytes.Replace(config, []byte("state: "+s.state()), fmt.Appendf(nil, "state: %s\nsigning: {key_file: %s}", u, filepath.Join(s.dir, "key.pem")), 1)
	require.NoError(t, os.WriteFile(r.config, config, 0o600))
	r.process = s.startWith(t, "", r.config)
	return r
}

func (r *replica) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	require.NoError(t, r.process.Process.Signal(signal))
}

// holder returns the replica that has the work on the tenant, or nil.
func (s *served) holder(t *testing.T, db *state.DB, replicas []*replica) *replica {
	t.Helper()
	names, err := db.Replicas(t.Context())
	require.NoError(t, err)
	claim, err := db.Claim(t.Context(), "tenant "+s.tenant, time.Hour)
	require.NoError(t, err)
	for _, r := range replicas {
		if strings.HasPrefix(names[claim.Replica], fmt.Sprintf("pid %d on ", r.process.Process.Pid)) {
			return r
		}
	}
	return nil
}

// TestReplicasTakeOver runs three replicas. The one that has the work is killed, then cut off from the database and healed,
// then stopped for longer than its claim lasts and continued. The results are those of one service without faults.
func TestReplicasTakeOver(t *testing.T) {
	s := newServed(t, 31)
	path := s.state()
	s.database = postgresState(t)
	config, err := os.ReadFile(s.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.config, bytes.Replace(config, []byte(path), []byte(s.database), 1), 0o600))

	replicas := []*replica{s.newReplica(t, 0)}
	s.load(t, 40)
	s.load(t, 0) // the late spans
	s.await(t, false)
	db, err := state.OpenReadOnly(t.Context(), s.database)
	require.NoError(t, err)
	defer db.Close()
	replicas = append(replicas, s.newReplica(t, 1), s.newReplica(t, 2))

	worst := time.Duration(0)
	takenFrom := func(name string, disturb func(r *replica)) *replica {
		t.Helper()
		from := s.holder(t, db, replicas)
		require.NotNil(t, from)
		s.load(t, 40)
		began := time.Now()
		disturb(from)
		for end := began.Add(patience); ; time.Sleep(100 * time.Millisecond) {
			if now := s.holder(t, db, replicas); now != nil && now != from {
				break
			}
			require.True(t, time.Now().Before(end), "%s: no other replica takes over", name)
		}
		took := time.Since(began)
		worst = max(worst, took)
		t.Logf("%s: another replica took over after %.1f s", name, took.Seconds())
		s.load(t, 40)
		s.load(t, 0)
		s.await(t, false)
		return from
	}
	killed := takenFrom("killed", func(r *replica) {
		r.signal(t, syscall.SIGKILL)
		require.Error(t, r.process.Wait())
	})
	killed.process = s.startWith(t, "", killed.config)
	cut := takenFrom("cut off from the database", func(r *replica) { r.database.freeze(true) })
	cut.database.freeze(false)
	stopped := takenFrom("stopped", func(r *replica) { r.signal(t, syscall.SIGSTOP) })
	stopped.signal(t, syscall.SIGCONT)
	s.load(t, 40)
	s.load(t, 0)
	s.await(t, true)
	for _, r := range replicas {
		r.signal(t, syscall.SIGTERM)
		require.NoError(t, r.process.Wait())
	}
	s.check(t)
	code, stdout, stderr := betrace(t.Context(), "state", "verify", "--state", s.database)
	require.Equal(t, exitOK, code, stdout+stderr)
	t.Logf("takeover_seconds %.1f s", worst.Seconds())
}

// TestReplicasUseThePacksOfTheState runs two replicas with different packs on their disks. Both use those that were posted last:
// no rule is loaded twice in turn.
func TestReplicasUseThePacksOfTheState(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	database := postgresState(t)
	pack, err := os.ReadFile("../../docs/examples/checkout.yaml")
	require.NoError(t, err)
	changed := bytes.ReplaceAll(pack, []byte("4500"), []byte("5500"))
	require.NotEqual(t, pack, changed)
	write := func(name string, content []byte) {
		require.NoError(t, os.WriteFile(path(name), content, 0o600))
	}
	start := func(name string) *exec.Cmd {
		write(name+".yaml", fmt.Appendf(nil, `
state: %s
signing: {key_file: %s}
server: {address: "127.0.0.1:0"}
tempo: {blocks: ../../docs/examples/tempo-blocks}
sweeps:
  - {name: all, schedule: "@every 1s", packs: [%s], start: 200000h, settle: 1m, hold: 0s}
`, database, path("key.pem"), path(name)))
		require.NoError(t, os.MkdirAll(path(name), 0o700))
		cmd := exec.CommandContext(t.Context(), "betrace", "serve", "--config", path(name+".yaml"))
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		return cmd
	}
	var db *state.DB
	loaded := func() (digests []string) {
		require.NoError(t, db.View(t.Context(), func(ctx context.Context, r *state.Reader) error {
			ledgers, err := r.Ledgers(ctx)
			if err != nil || len(ledgers) == 0 {
				return err
			}
			rules, err := r.LoadedRules(ctx, ledgers[0].ID)
			for _, rule := range rules {
				if rule.Ended.IsZero() {
					digests = append(digests, rule.Digest)
				}
			}
			return err
		}))
		return digests
	}
	events := func() int {
		n := 0
		for entry, err := range db.Entries(t.Context(), "", 1, 0) {
			require.NoError(t, err)
			if entry.Kind == "event" {
				n++
			}
		}
		return n
	}
	changes := func(before []string) {
		t.Helper()
		for end := time.Now().Add(patience); slices.Equal(loaded(), before); time.Sleep(100 * time.Millisecond) {
			require.True(t, time.Now().Before(end), "the rules do not change")
		}
	}

	require.NoError(t, os.Mkdir(path("old"), 0o700))
	require.NoError(t, os.Mkdir(path("new"), 0o700))
	write("old/pack.yaml", pack)
	write("new/pack.yaml", pack)
	first := start("old")
	require.Eventually(t, func() bool {
		var err error
		db, err = state.OpenReadOnly(t.Context(), database)
		return err == nil
	}, patience, 100*time.Millisecond)
	defer func() { require.NoError(t, db.Close()) }()
	changes(nil)
	before := loaded()
	second := start("new")
	time.Sleep(2 * time.Second)
	eventsBefore := events() // one is about the configuration of the second one

	// The one that does not have the tenant posts, and the other one follows.
	write("new/pack.yaml", changed)
	changes(before)
	after := loaded()
	time.Sleep(2 * time.Second)
	require.NoError(t, first.Process.Kill())
	require.Error(t, first.Wait())
	time.Sleep(3 * time.Second) // the second one takes over, and changes nothing
	require.Equal(t, after, loaded())
	require.Equal(t, eventsBefore+1, events())

	// A replica posts its packs when it starts.
	first = start("old")
	changes(after)
	require.Equal(t, before, loaded())
	for _, process := range []*exec.Cmd{first, second} {
		require.NoError(t, process.Process.Signal(syscall.SIGTERM))
		require.NoError(t, process.Wait())
	}
	code, stdout, stderr := betrace(t.Context(), "state", "verify", "--state", database)
	require.Equal(t, exitOK, code, stdout+stderr)
}
