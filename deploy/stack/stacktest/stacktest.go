// Package stacktest shares real servers between the tests of a package:
//
//	func TestMain(m *testing.M) { stacktest.Main(m) }
//
//	func TestX(t *testing.T) { s := stacktest.Get(t, stack.Options{Tempo: true}) … }
package stacktest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/betracehq/betrace/deploy/stack"
)

var (
	mu      sync.Mutex
	started = map[stack.Options]*stack.Stack{}
)

// M runs a package's tests, and then ends the servers that they started.
type M struct{ Tests interface{ Run() int } }

// Run runs the tests and returns the exit code.
func (m M) Run() int {
	code := m.Tests.Run()
	for _, s := range started {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the servers of the tests:", err)
			code = 1
		}
	}
	return code
}

// Main is a complete TestMain.
func Main(m *testing.M) { os.Exit(M{m}.Run()) }

// Get returns the servers with these options, which the first call starts. With -short the test is
// skipped. If the servers do not start, the test fails.
func Get(t testing.TB, opts stack.Options) *stack.Stack {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real servers: run without -short")
	}
	mu.Lock()
	defer mu.Unlock()
	if s := started[opts]; s != nil {
		return s
	}
	s, err := stack.Start(context.Background(), opts)
	if err != nil {
		t.Fatalf("start real servers: %v", err)
	}
	started[opts] = s
	return s
}
