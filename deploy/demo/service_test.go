package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newService returns a service whose program is a shell script.
func newService(t *testing.T, script string) *service {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "betrace")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o700)) //nolint:gosec // it is run
	s := &service{demo: demo{out: &output{}, betrace: program, workDir: dir}, log: filepath.Join(dir, "serve.log")}
	require.NoError(t, s.start())
	t.Cleanup(func() { s.end(syscall.SIGKILL) })
	return s
}

func ended(t *testing.T, s *service) {
	t.Helper()
	select {
	case <-s.exited:
	case <-time.After(endTimeout):
		require.Fail(t, "the service runs on")
	}
}

func TestAServiceThatEndsIsReportedAtOnce(t *testing.T) {
	s := newService(t, "echo no storage of blocks >&2; exit 3")
	ended(t, s)
	err := s.await(t.Context(), "a condition that is never met", func(string, bool) bool { return false })
	require.EqualError(t, err, "betrace serve has ended: exit status 3; at last: nothing")
	require.Equal(t, "no storage of blocks", s.logTail())
	require.EqualError(t, s.end(syscall.SIGTERM), "betrace serve: exit status 3")
	require.NoError(t, s.end(syscall.SIGTERM), "nothing is left to end")
}

func TestAServiceEndsWithTheDemo(t *testing.T) {
	s := newService(t, "exec sleep 600")
	require.NoError(t, s.alive.Close()) // as if the demo were killed
	ended(t, s)
	require.Equal(t, syscall.SIGKILL, s.process.ProcessState.Sys().(syscall.WaitStatus).Signal())
}
