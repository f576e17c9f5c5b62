package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/deploy/stack"
)

// maxReleaseBytes bounds the size of the program that make build writes. Without the build tags in the
// Makefile it has over 50 MB.
const maxReleaseBytes = 50_000_000

// releaseDir is the folder of the program that release builds. It is empty until the first call.
var releaseDir string

// release returns the program that make build writes.
var release = sync.OnceValues(func() (program string, err error) {
	if releaseDir, err = os.MkdirTemp("", "betrace-demo-test-"); err != nil {
		return "", err
	}
	program = filepath.Join(releaseDir, "betrace")
	out, err := exec.Command("make", "-s", "-C", "../..", "build", "BIN="+program).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return program, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if err := os.RemoveAll(releaseDir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// output collects the lines of the demo. The builds of the servers write to it concurrently.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// newDemo returns a demo that starts its servers with start.
func newDemo(t *testing.T, start func(context.Context, stack.Options) (*stack.Stack, error)) (*demo, *output) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds betrace and starts real servers: run without -short")
	}
	program, err := release()
	require.NoError(t, err)
	out := &output{}
	return &demo{
		out: out, betrace: program, selfPack: "../../rules/packs/tempo-self.yaml", examples: "../../docs/examples",
		traces: 60, scanned: 20 * time.Second, start: start,
	}, out
}

func TestServersThatTakeLongerThanTheRangeDoNotHideTheTraces(t *testing.T) {
	var ready time.Time
	var before string
	var out *output // output of the demo; the servers start while it runs
	var d *demo
	d, out = newDemo(t, func(ctx context.Context, opts stack.Options) (*stack.Stack, error) {
		before = out.String()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(40 * time.Second):
		}
		s, err := stack.Start(ctx, opts)
		ready = time.Now()
		return s, err
	})
	require.NoError(t, d.run(t.Context()), "%s", out)
	require.Contains(t, before, "result  complete\ntraces  60 seen", "the result of the file must be printed before the servers start")
	require.Contains(t, before, "traces  226 seen (2891 spans, by blocks)", "the result of the blocks must be printed before the servers start")
	require.Regexp(t, "(The rest takes about two minutes|Ctrl-C ends the demo here)", before)
	require.Contains(t, out.String(), "\nAll violations are equal.")
	require.True(t, d.from.Add(d.scanned).After(ready), "the sent traces must be generated after the servers were ready at %s, but the range ends at %s", ready, d.to)
	require.NotEmpty(t, d.planted)
	require.Regexp(t, `(?s)order 1007 was shipped unpaid\n +\w+  (provisional|confirmed)\n.*\$ kill -9 \d+\n.*order 1007 was shipped unpaid\n +\w+  withdrawn\n.*\$ betrace coverage .* complete up to `, out.String())
	require.Contains(t, out.String(), "violations   3             3         3\ncorrections  1             1         1\n")
}

func TestBeforeTheServersAnInterruptionIsNoFailure(t *testing.T) {
	for _, tt := range []struct {
		signal syscall.Signal
		code   int
		says   bool
	}{{syscall.SIGINT, 0, true}, {syscall.SIGTERM, 1, false}} {
		d, out := newDemo(t, func(ctx context.Context, _ stack.Options) (*stack.Stack, error) {
			require.NoError(t, syscall.Kill(os.Getpid(), tt.signal))
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		require.Equal(t, tt.code, d.main(), "%s: %s", tt.signal, out)
		if tt.says {
			require.Contains(t, out.String(), "Stopped. The packages compiled so far are kept: make demo continues from there.")
		}
		require.NoDirExists(t, d.dir)
	}
}

func TestTheReleaseBuildIsSmall(t *testing.T) {
	d, _ := newDemo(t, stack.Start)
	info, err := os.Stat(d.betrace)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(maxReleaseBytes))
	t.Logf("%d bytes", info.Size())
}

func TestARangeShorterThanTheClocksAreWrongIsRefused(t *testing.T) {
	err := (&demo{scanned: 10 * time.Second}).run(t.Context())
	require.EqualError(t, err, "-range 10s: use more than 10s, because of the clock skew of the generated services")
}
