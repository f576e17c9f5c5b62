// Command stack builds, starts and stops a Tempo and a Loki for developers. With -s3 it also starts a
// SeaweedFS, an S3 server, in which Tempo then stores its blocks.
//
//	stack build [-s3|-all]    build the servers, once; with -all also SeaweedFS, and fetch PostgreSQL
//	stack up [-s3]            start them and keep them running
//	stack status              print their addresses
//	stack down                stop them
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/betracehq/betrace/deploy/stack"
)

// stateDir is the folder of the state, data and logs of running servers, in the working folder.
const stateDir = ".stack"

// state is written by up for status and down.
type state struct {
	PID   int // of the process that runs the servers
	Stack *stack.Stack
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var run func(context.Context) error
	switch command := strings.Join(os.Args[1:], " "); command {
	case "build", "build -s3":
		run = func(ctx context.Context) error { return build(ctx, len(os.Args) > 2) }
	case "build -all":
		run = buildAll
	case "up", "up -s3":
		run = func(ctx context.Context) error { return up(ctx, len(os.Args) > 2) }
	case "serve", "serve -s3":
		run = func(ctx context.Context) error { return serve(ctx, len(os.Args) > 2) }
	case "status":
		run = status
	case "down":
		run = down
	default:
		fmt.Fprintln(os.Stderr, "usage: stack build [-s3|-all] | up [-s3] | status | down")
		os.Exit(2)
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "stack:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context, s3 bool) error {
	servers := []stack.Server{stack.Tempo, stack.Loki}
	if s3 {
		servers = append(servers, stack.SeaweedFS)
	}
	for _, server := range servers {
		path, err := stack.Build(ctx, server, os.Stderr)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n", server, path)
	}
	return nil
}

// buildAll builds or fetches all servers that tests need.
func buildAll(ctx context.Context) error {
	if err := build(ctx, true); err != nil {
		return err
	}
	path, err := stack.BuildPostgres(ctx, os.Stderr)
	if err == nil {
		fmt.Printf("postgres: %s\n", path)
	}
	return err
}

// up starts this program again as a detached process that runs the servers.
func up(ctx context.Context, s3 bool) error {
	if s, err := running(); err == nil {
		show(s)
		return nil
	}
	if err := build(ctx, s3); err != nil {
		return err
	}
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return err
	}
	if err := os.Remove(statePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	log, err := os.Create(filepath.Join(stateDir, "serve.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// go run removes its program when it ends, so the detached process needs a copy.
	kept := filepath.Join(stateDir, "stack")
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	if err := os.WriteFile(kept, program, 0o755); err != nil {
		return err
	}
	args := []string{"serve"}
	if s3 {
		args = append(args, "-s3")
	}
	cmd := exec.Command(kept, args...) //nolint:noctx // it outlives this program
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for {
		if s, err := running(); err == nil {
			show(s)
			return nil
		}
		select {
		case err := <-exited:
			text, _ := os.ReadFile(log.Name()) // only adds detail to the error below
			return fmt.Errorf("the servers did not start: %w\n%s", err, text)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), cmd.Process.Signal(syscall.SIGTERM))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func serve(ctx context.Context, s3 bool) error {
	dir, err := filepath.Abs(stateDir)
	if err != nil {
		return err
	}
	s, err := stack.Start(ctx, stack.Options{Tempo: true, Loki: true, S3: s3, Dir: dir, Log: os.Stderr})
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(state{os.Getpid(), s}, "", "  ")
	if err == nil {
		err = os.WriteFile(statePath()+".new", b, 0o600) // it may hold credentials
	}
	if err == nil {
		err = os.Rename(statePath()+".new", statePath())
	}
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, s.Stop(), os.Remove(statePath()))
}

func statePath() string { return filepath.Join(stateDir, "state.json") }

// running reads the state. It returns an error if the process in it is not running.
func running() (state, error) {
	var s state
	b, err := os.ReadFile(statePath())
	if err != nil {
		return s, fmt.Errorf("no servers are running here: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s: %w", statePath(), err)
	}
	// The PID may be reused by another program, or belong to a zombie. The process was started from the
	// kept copy; only Linux allows a check of this.
	kept, err := os.Stat(filepath.Join(stateDir, "stack"))
	if err != nil {
		return s, err
	}
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		if program, err := os.Stat(fmt.Sprintf("/proc/%d/exe", s.PID)); err != nil || !os.SameFile(program, kept) {
			return s, fmt.Errorf("process %d is not the one that stack up started", s.PID)
		}
	}
	if err := syscall.Kill(s.PID, 0); err != nil {
		return s, fmt.Errorf("process %d: %w", s.PID, err)
	}
	return s, nil
}

func status(context.Context) error {
	s, err := running()
	if err != nil {
		return err
	}
	show(s)
	return nil
}

func show(s state) {
	fmt.Printf(`Tempo      %s  (gRPC %s)
  OTLP     %s (gRPC)  %s (HTTP)
  config   %s
Loki       %s

  bin/betrace scan --rules rules/packs --since 1h --tempo %s --tempo-grpc %s --tempo-otlp %s --loki %s
`, s.Stack.TempoURL, s.Stack.TempoGRPC, s.Stack.OTLPGRPC, s.Stack.OTLPHTTP, s.Stack.TempoConfig, s.Stack.LokiURL,
		s.Stack.TempoURL, s.Stack.TempoGRPC, s.Stack.OTLPGRPC, s.Stack.LokiURL)
	if b := s.Stack.S3; b != nil {
		fmt.Printf(`
S3         http://%s  bucket %s; the keys are in Tempo's config
  bin/betrace blocks --rules rules/packs --tempo-config %s
`, b.Address, b.Name, s.Stack.TempoConfig)
	}
}

func down(ctx context.Context) error {
	s, err := running()
	if err != nil {
		return err
	}
	if err := syscall.Kill(s.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("process %d: %w", s.PID, err)
	}
	for {
		if _, err := running(); err != nil {
			return nil //nolint:nilerr // the process has ended
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
