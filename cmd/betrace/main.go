// Command betrace judges the traces that Grafana Tempo stores by rules written in CEL, and writes the violations
// back.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker; see the Makefile.
var version = ""

// Exit codes. They are part of the command line's contract.
const (
	exitOK         = 0 // done, no violation
	exitViolations = 1 // done, there are violations
	exitFailed     = 2 // something could not be done
)

// exitError ends the program with a code, without a message.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// program holds the streams and settings of a command.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	config         *config
	// limitMemory sets the memory limit of the process. It is called at most once, before blocks are read.
	limitMemory func(bytes int64)
	// step is [scheduler.ServiceOptions].Step.
	step func(name string)
}

func main() { start(nil) }

// start runs the program. Tests pass a function that ends the process at a step of the service.
func start(step func(name string)) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, cancel) // a second signal ends the program at once
	p := &program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, limitMemory: limitMemory, step: step}
	code := p.run(ctx, os.Args[1:])
	cancel()
	os.Exit(code)
}

// limitMemory sets the memory limit of the process, unless the environment variable GOMEMLIMIT does.
func limitMemory(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
}

// run executes a command line and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	out := &checkedWriter{w: p.stdout}
	p.stdout, p.config = out, newConfig()
	root := &cobra.Command{
		Use:           "betrace",
		Short:         "Judge the traces that Tempo stores by rules",
		Version:       engineVersion(),
		SilenceErrors: true, SilenceUsage: true,
	}
	p.config.addConfigFlag(root)
	root.AddCommand(p.scanCommand(), p.serveCommand(), p.coverageCommand(), p.violationsCommand(), p.sweepsCommand(), p.stateCommand(), p.keysCommand(), p.countCommand(), p.exportCommand(), p.blocksCommand(), p.rulesCommand(), p.configCommand()) //nolint:contextcheck // commands take cobra's
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(out)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if out.err != nil && !errors.Is(err, out.err) {
		err = fmt.Errorf("standard output: %w", out.err) // it matters more than an exit code
	}
	var exit exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	}
	fmt.Fprintln(p.stderr, "betrace:", err)
	return exitFailed
}

func engineVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// checkedWriter remembers that a write failed, so that a full disk is never a success.
type checkedWriter struct {
	w   io.Writer
	err error
}

// Write writes; after an error it returns that error.
func (c *checkedWriter) Write(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(b)
	c.err = err
	return n, err
}
