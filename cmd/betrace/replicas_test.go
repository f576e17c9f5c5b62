package main

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
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
