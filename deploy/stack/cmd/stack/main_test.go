package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// The test program is also the program under test, which starts itself again, and the servers that it
// runs.
const (
	asMain = "STACK_TEST_MAIN"
	notes  = "STACK_TEST_NOTES" // a folder in which each server creates a file named by its PID
	broken = "STACK_TEST_BROKEN"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if config, ok := strings.CutPrefix(os.Args[1], "-config.file="); ok {
			fakeServer(config)
		}
	}
	if slices.Contains(os.Args, "server") {
		fakeS3(os.Args)
	}
	if os.Getenv(asMain) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeServer answers /ready at the address in a configuration.
func fakeServer(config string) {
	if err := os.WriteFile(filepath.Join(os.Getenv(notes), strconv.Itoa(os.Getpid())), nil, 0o600); err != nil {
		panic(err)
	}
	if os.Getenv(broken) != "" {
		fmt.Println("out of disk")
		os.Exit(1)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		panic(err)
	}
	var c struct {
		Server struct {
			Address string `yaml:"http_listen_address"`
			Port    int    `yaml:"http_listen_port"`
		}
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		panic(err)
	}
	ready := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	panic(http.ListenAndServe(net.JoinHostPort(c.Server.Address, strconv.Itoa(c.Server.Port)), ready))
}

// fakeS3 answers every request with success at the address in the arguments of SeaweedFS.
func fakeS3(args []string) {
	if err := os.WriteFile(filepath.Join(os.Getenv(notes), strconv.Itoa(os.Getpid())), nil, 0o600); err != nil {
		panic(err)
	}
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-s3.port=") })
	all := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	panic(http.ListenAndServe("127.0.0.1:"+strings.TrimPrefix(args[i], "-s3.port="), all))
}

// project makes a working folder with fake servers. As a home folder may be, it is reached through a
// symbolic link.
func project(t *testing.T) (pids string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	pids = t.TempDir()
	for k, v := range map[string]string{"TEMPO_BIN": self, "LOKI_BIN": self, "WEED_BIN": self, notes: pids, "TEMPO_URL": "", "LOKI_URL": ""} {
		t.Setenv(k, v)
	}
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(t.TempDir(), link))
	t.Chdir(link)
	t.Cleanup(func() { // processes that a failed test has left
		if s, err := running(); err == nil {
			syscall.Kill(s.PID, syscall.SIGTERM)
		}
	})
	return pids
}

// run runs the program.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asMain+"=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("condition not met within 2 minutes: %s", what)
		}
	}
}

// wantGone waits until a process has ended. A zombie counts as ended.
func wantGone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d ends", pid), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && bytes.Contains(stat, []byte(") Z ")) {
			return true
		}
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
}

// servers returns the PIDs of the started servers.
func servers(t *testing.T, dir string) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

func saved(t *testing.T) state {
	t.Helper()
	var s state
	b, err := os.ReadFile(statePath())
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &s))
	return s
}

func TestServersStayUpUntilDown(t *testing.T) {
	pids := project(t)
	out, errs, code := run(t, "status")
	require.Equal(t, 1, code)
	require.Empty(t, out)
	require.Contains(t, errs, "stack: no servers are running here: open .stack/state.json: ")

	up, errs, code := run(t, "up")
	require.Zero(t, code, errs)
	s := saved(t)
	for _, want := range []string{
		"Tempo      " + s.Stack.TempoURL, "gRPC " + s.Stack.TempoGRPC, "Loki       " + s.Stack.LokiURL, s.Stack.OTLPGRPC, s.Stack.OTLPHTTP,
		"bin/betrace scan ", "--tempo " + s.Stack.TempoURL,
	} {
		require.Contains(t, up, want)
	}
	for _, url := range []string{s.Stack.TempoURL, s.Stack.LokiURL} {
		resp, err := http.Get(url + "/ready")
		require.NoError(t, err, "the servers must keep running after up has ended")
		require.NoError(t, resp.Body.Close())
	}
	status, errs, code := run(t, "status")
	require.Zero(t, code, errs)
	require.True(t, strings.HasSuffix(up, status), "up and status must print the same")
	again, _, code := run(t, "up")
	require.Zero(t, code)
	require.Equal(t, status, again, "a second up must not start servers")
	running := servers(t, pids)
	require.Len(t, running, 2)

	_, errs, code = run(t, "down")
	require.Zero(t, code, errs)
	for _, pid := range append(running, s.PID) {
		wantGone(t, pid)
	}
	require.NoFileExists(t, statePath())
	require.DirExists(t, filepath.Join(stateDir, "tempo"), "data and logs must be kept")
	_, errs, code = run(t, "down")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "no servers are running here")
}

func TestWithS3TempoStoresInItsBucket(t *testing.T) {
	pids := project(t)
	up, errs, code := run(t, "up", "-s3")
	require.Zero(t, code, errs)
	s := saved(t)
	require.Contains(t, up, "S3         http://"+s.Stack.S3.Address+"  bucket traces")
	require.Contains(t, up, "--tempo-config "+s.Stack.TempoConfig)
	require.NotContains(t, up, s.Stack.S3.SecretKey)
	stat, err := os.Stat(statePath())
	require.NoError(t, err)
	require.Zero(t, stat.Mode().Perm()&0o077, "the state holds credentials")
	running := servers(t, pids)
	require.Len(t, running, 3)
	_, errs, code = run(t, "down")
	require.Zero(t, code, errs)
	for _, pid := range running {
		wantGone(t, pid)
	}
	require.NoError(t, build(t.Context(), true))
}

func TestTheCommandsWorkInOneProcess(t *testing.T) {
	pids := project(t)
	t.Setenv(asMain, "1") // for the copy that up starts
	require.NoError(t, up(t.Context(), false))
	require.NoError(t, up(t.Context(), false))
	require.NoError(t, status(t.Context()))
	args := os.Args
	t.Cleanup(func() { os.Args = args })
	os.Args = []string{"stack", "build"}
	main()
	require.NoError(t, down(t.Context()))
	require.Error(t, status(t.Context()))
	require.Error(t, down(t.Context()))
	for _, pid := range servers(t, pids) {
		wantGone(t, pid)
	}
}

func TestServersThatDoNotStartAreAnError(t *testing.T) {
	project(t)
	t.Setenv(broken, "1")
	_, errs, code := run(t, "up")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "stack: the servers did not start: exit status 1\n")
	require.Contains(t, errs, "tempo ended: exit status 1; its log ends with\nout of disk")
	t.Setenv(asMain, "1")
	require.ErrorContains(t, up(t.Context(), false), "out of disk")
	require.ErrorContains(t, serve(t.Context(), false), "out of disk")

	t.Setenv("BETRACE_TEST_POSTGRES", "db.example")
	_, errs, code = run(t, "build", "-all")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "stack: BETRACE_TEST_POSTGRES is no URL of a PostgreSQL")
	t.Setenv("BETRACE_TEST_POSTGRES", "postgres://me@db.example/test")
	out, errs, code := run(t, "build", "-all")
	require.Zero(t, code, errs)
	require.Contains(t, out, "\npostgres: postgres://me@db.example/test\n")

	t.Setenv("TEMPO_BIN", "/none")
	_, errs, code = run(t, "build", "-all")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "stack: TEMPO_BIN: stat /none")
	_, errs, code = run(t, "build")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "stack: TEMPO_BIN: stat /none: no such file or directory")
	_, errs, code = run(t, "up")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "TEMPO_BIN: ")
}

func TestServeHoldsTheServersUntilItIsAskedToEnd(t *testing.T) {
	pids := project(t)
	require.NoError(t, os.Mkdir(stateDir, 0o755))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, false) }()
	eventually(t, "the state is written", func() bool {
		_, err := os.Stat(statePath())
		return err == nil
	})
	require.Equal(t, os.Getpid(), saved(t).PID)
	_, err := running()
	require.Error(t, err, "this is not the copy that up starts")
	cancel()
	require.NoError(t, <-done)
	require.NoFileExists(t, statePath())
	for _, pid := range servers(t, pids) {
		wantGone(t, pid)
	}
}

func TestAStateWhoseProcessWasKilledIsNotBelieved(t *testing.T) {
	pids := project(t)
	_, errs, code := run(t, "up")
	require.Zero(t, code, errs)
	first := saved(t)
	require.NoError(t, syscall.Kill(first.PID, syscall.SIGKILL))
	wantGone(t, first.PID)
	killed := servers(t, pids)
	for _, pid := range killed {
		wantGone(t, pid)
	}
	// Its number may be another's by now: this process's.
	for _, pid := range []int{first.PID, os.Getpid()} {
		b, err := json.Marshal(state{pid, first.Stack})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(statePath(), b, 0o600))
		for _, command := range []string{"status", "down"} {
			_, errs, code = run(t, command)
			require.Equal(t, 1, code)
			require.Contains(t, errs, fmt.Sprintf("process %d", pid))
		}
	}
	_, errs, code = run(t, "up")
	require.Zero(t, code, errs)
	require.Len(t, servers(t, pids), 4)
	_, errs, code = run(t, "down")
	require.Zero(t, code, errs)
	for _, pid := range servers(t, pids) {
		wantGone(t, pid)
	}
	require.NoError(t, os.WriteFile(statePath(), []byte("{"), 0o600))
	_, errs, _ = run(t, "status")
	require.Contains(t, errs, ".stack/state.json: unexpected end of JSON input")
}

func TestAnUnknownCommandSaysWhichThereAre(t *testing.T) {
	for _, args := range [][]string{nil, {"sideways"}, {"up", "down"}, {"down", "-s3"}, {"up", "-s3", "-s3"}} {
		_, errs, code := run(t, args...)
		require.Equal(t, 2, code)
		require.Contains(t, errs, "usage: stack build [-s3|-all] | up [-s3] | status | down")
	}
}
