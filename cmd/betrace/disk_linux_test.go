package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/betracehq/betrace/deploy/stack/stacktest"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
)

// inNamespace reports whether the process has a mount namespace of its own. It does not have one when a test begins:
// then inNamespace runs that test again in a process that has one, with more environment variables, and the test ends
// with the result of that process.
func inNamespace(t *testing.T, env ...string) bool {
	t.Helper()
	const variable = "DISK_TEST_NAMESPACE"
	if os.Getenv(variable) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), must(os.Executable()), "-test.run", "^"+t.Name()+"$", "-test.v", "-test.count", "1",
		"-crash.seed", strconv.FormatUint(*crashSeed, 10), "-crash.patience", crashPatience.String())
	cmd.Env = append(append(os.Environ(), variable+"=1"), env...)
	ids := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: ids(os.Getuid()), GidMappings: ids(os.Getgid()), Pdeathsig: syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err, "a user and mount namespace cannot be made, so no small disk: permit unprivileged user namespaces")
	}
	require.NoError(t, err, "%s", out)
	t.Logf("in a namespace:\n%s", out)
	return false
}

// disk is a small file system in memory. Only processes in this mount namespace have it.
type disk struct{ dir string }

func newDisk(t *testing.T, dir string, bytes int64) disk {
	t.Helper()
	d := disk{dir}
	d.mount(t, 0, bytes)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return d
}

func (d disk) mount(t *testing.T, flags uintptr, bytes int64) {
	t.Helper()
	err := unix.Mount("tmpfs", d.dir, "tmpfs", flags, fmt.Sprintf("size=%d,mode=700", bytes))
	require.NoError(t, err, "a tmpfs cannot be mounted in a user namespace, so no small disk: permit unprivileged user namespaces to mount")
}

func (d disk) resize(t *testing.T, bytes int64) {
	t.Helper()
	d.mount(t, unix.MS_REMOUNT, bytes)
}

func (d disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves at most so many bytes.
func (d disk) fill(t *testing.T, left int64) {
	t.Helper()
	var now unix.Statfs_t
	require.NoError(t, unix.Statfs(d.dir, &now))
	content := make([]byte, max(int64(now.Bavail)*now.Bsize-left, 0))
	if err := os.WriteFile(d.ballast(), content, 0o600); !errors.Is(err, unix.ENOSPC) {
		require.NoError(t, err)
	}
}

func (d disk) free(t *testing.T) {
	t.Helper()
	require.NoError(t, os.Remove(d.ballast()))
}

// TestAStartOnAFullDiskHarmsNothing runs a sweep on disks of many sizes, which are full at another moment each: when the
// state is created, in a migration, in the tick. With more space the next start finishes the work.
func TestAStartOnAFullDiskHarmsNothing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "betrace.yaml")
	require.NoError(t, os.WriteFile(config, []byte(`
sweeps:
  - {name: all, schedule: "@every 5s", packs: [../../docs/examples/checkout.yaml], start: 20000h, settle: 1m, hold: 0s}
`), 0o600))
	const enough = 16 << 20
	finished, failed := 0, 0
	for size := int64(4 << 10); finished < 2; size += 4<<10 + size/8&^0xfff {
		t.Run(strconv.FormatInt(size, 10), func(t *testing.T) {
			d := newDisk(t, t.TempDir(), size)
			path := filepath.Join(d.dir, "state.db")
			sweep := func() (code int, stdout, stderr string) {
				return betrace(t.Context(), "serve", "--once", "--config", config, "--state", path, "--tempo-blocks", "../../docs/examples/tempo-blocks")
			}
			code, stdout, stderr := sweep()
			if code == exitViolations {
				finished++
				require.Contains(t, stdout, "1 tick, 7 new violations")
			} else {
				failed++
				require.Equal(t, exitFailed, code, stderr)
				require.Regexp(t, `free space on the disk|no space left on device`, stderr)
			}
			d.resize(t, enough)
			again, stdout, stderr := sweep()
			if code == exitViolations {
				require.Equal(t, exitOK, again, stderr)
			} else {
				require.Equal(t, exitViolations, again, stderr)
				require.Contains(t, stdout, "1 tick, 7 new violations")
			}
			code, stdout, stderr = betrace(t.Context(), "state", "verify", "--state", path)
			require.Equal(t, exitOK, code, stderr)
			require.Contains(t, stdout, "7 violations")
		})
		require.Less(t, size, int64(enough), "no disk was large enough")
	}
	require.Greater(t, failed, 5)
}

// TestAFullDiskLosesNothing fills the disk of the state again and again while traces arrive. The service goes on, reports
// it, and finishes the work when there is space, also if it was killed on the full disk.
func TestAFullDiskLosesNothing(t *testing.T) {
	const variable = "DISK_TEST_BLOCKS"
	if os.Getenv(variable) == "" {
		servers := stacktest.Get(t, servedStack)
		*crashSeed = cmp.Or(*crashSeed, uint64(time.Now().UnixNano()))
		inNamespace(t, variable+"="+servers.TempoBlocks, "TEMPO_URL="+servers.TempoURL, "TEMPO_GRPC="+servers.TempoGRPC,
			"TEMPO_OTLP_GRPC="+servers.OTLPGRPC, "TEMPO_OTLP_HTTP="+servers.OTLPHTTP, "LOKI_URL="+servers.LokiURL)
		return
	}
	stacktest.Get(t, servedStack).TempoBlocks = os.Getenv(variable)
	withSeed(t, fillDisk)
}

func fillDisk(t *testing.T, s *served) {
	d := newDisk(t, filepath.Dir(s.state()), 32<<20)
	s.load(t, 40)
	s.load(t, 0)
	cmd := s.start(t, "")
	s.await(t, true)
	s.awaitReady(t, "")
	for round := range 6 {
		t.Log("round", round)
		switch round % 3 {
		case 0, 1: // a tick fails, which would correct verdicts
			s.load(t, 40)
			s.awaitJudged(t)
			d.fill(t, s.rng.Int64N(256<<10))
			for end := time.Now().Add(patience); s.ready(t) == ""; s.load(t, 40+s.rng.IntN(100)) {
				require.True(t, time.Now().Before(end), "the disk does not become full")
			}
			if round%3 == 1 {
				require.NoError(t, cmd.Process.Kill())
				require.True(t, isKilled(cmd.Wait()))
				cmd = s.start(t, "")
			}
		case 2: // deliveries fail: a start begins another log file, so there is no room for the smallest transaction
			s.lokiGate.open(false)
			s.load(t, 40)
			s.load(t, 0)
			s.await(t, false)
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			require.NoError(t, cmd.Wait())
			cmd = s.start(t, "")
			s.awaitReady(t, "")
			d.fill(t, 0)
			s.lokiGate.open(true)
			s.awaitLog(t, "deliveries wait")
		}
		s.awaitReady(t, "free space on the disk")
		s.awaitLog(t, "free space on the disk")
		require.Regexp(t, `(?m)^betrace_state_errors_total [1-9]`, s.page(t, "/metrics"))
		time.Sleep(time.Duration(s.rng.Int64N(int64(3 * time.Second))))
		d.free(t)
		s.load(t, 0)
		s.await(t, true)
		s.awaitReady(t, "")
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	s.check(t)
	s.checkCoverage(t)
	code, stdout, stderr := betrace(t.Context(), "state", "verify", "--state", s.state())
	require.Equal(t, exitOK, code, "%s%s", stdout, stderr)
	t.Log(strings.TrimSpace(stdout))
}

// awaitJudged waits until every block is judged.
func (s *served) awaitJudged(t *testing.T) {
	t.Helper()
	db, err := state.OpenReadOnly(t.Context(), s.state())
	require.NoError(t, err)
	defer db.Close()
	for end := time.Now().Add(*crashPatience); s.unjudged(t, db) != 0; time.Sleep(300 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "blocks stay unjudged")
	}
}

// awaitLog waits until the log of the service since its last start has a text.
func (s *served) awaitLog(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(s.logText(t), text) }, *crashPatience, 100*time.Millisecond, text)
}

// checkCoverage compares the coverage with one in which nothing is missing.
func (s *served) checkCoverage(t *testing.T) {
	t.Helper()
	db, err := state.OpenReadOnly(t.Context(), s.state())
	require.NoError(t, err)
	defer db.Close()
	ledgers, err := scheduler.ReadCoverage(t.Context(), &db.Reader, scheduler.CoverageQuery{MaxTraceDuration: time.Hour}, time.Now())
	require.NoError(t, err)
	require.Len(t, ledgers, 1)
	l := &ledgers[0]
	windows := scheduler.Calendar(l.Present(), l.Begins, l.Watermark, 0)
	require.Len(t, windows, 1)
	require.Equal(t, scheduler.Complete, windows[0].State, "%+v", windows[0].Holes)
}

// logText returns the log of the service since its last start.
func (s *served) logText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(s.log.Name())
	require.NoError(t, err)
	return string(text[max(bytes.LastIndex(text, []byte("--- start")), 0):])
}

var startedAt = regexp.MustCompile(`msg=started address=(\S+)`)

// page returns a page of the running service, after the line with its status if that is not 200.
func (s *served) page(t *testing.T, path string) string {
	t.Helper()
	address := startedAt.FindStringSubmatch(s.logText(t))
	if address == nil {
		return "not started"
	}
	resp, err := http.Get("http://" + address[1] + path)
	require.NoError(t, err, "the service has ended")
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.StatusCode != http.StatusOK {
		return resp.Status + "\n" + string(text)
	}
	return string(text)
}

// ready returns the reason for which the service is not ready, or an empty string.
func (s *served) ready(t *testing.T) string {
	t.Helper()
	if text := s.page(t, "/ready"); text != "ready\n" {
		return text
	}
	return ""
}

// awaitReady waits until the service is not ready for a reason, or if that is empty until it is ready.
func (s *served) awaitReady(t *testing.T, reason string) {
	t.Helper()
	have := ""
	for end := time.Now().Add(*crashPatience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if have = s.ready(t); have == reason || reason != "" && strings.Contains(have, reason) {
			return
		}
	}
	require.Fail(t, "unexpected answer of /ready", "have %q, want %q", have, reason)
}
