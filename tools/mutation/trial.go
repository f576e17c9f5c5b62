package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// trial runs the mutants of a package, in a program that is built once.
type trial struct {
	folder string // folder with the changed code
	tested string // folder with the tests
	// stages are the flags of the tests. Mutants that survive a stage are tried with the next.
	stages  [][]string
	timeout time.Duration
	copies  int // number of mutants tried at once
}

// newTrial parses the arguments of go test, and those of a quicker first pass, if any.
func newTrial(folder, tests, first string, timeout time.Duration, copies int) (*trial, error) {
	folder = filepath.ToSlash(filepath.Clean(folder))
	t := &trial{folder: folder, tested: folder, timeout: timeout, copies: copies}
	for _, args := range []string{first, tests} {
		if args == "" {
			continue
		}
		packages, flags := testFlags(args)
		t.stages = append(t.stages, flags)
		if len(packages) == 0 {
			continue
		}
		if len(packages) > 1 || strings.HasSuffix(packages[0], "...") {
			return nil, fmt.Errorf("go test %s: with -operators, name one package", args)
		}
		t.tested = filepath.ToSlash(filepath.Clean(packages[0]))
	}
	return t, nil
}

// ownFlags are flags of go test that have a longer name in a test binary.
var ownFlags = []string{"count", "cpu", "failfast", "parallel", "run", "short", "shuffle", "skip", "timeout", "v"}

// testFlags splits the arguments of go test into packages and the flags of a test binary.
func testFlags(args string) (packages, flags []string) {
	for arg := range strings.FieldsSeq(args) {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch {
		case strings.HasPrefix(arg, "./"):
			packages = append(packages, arg)
		case strings.HasPrefix(arg, "-") && slices.Contains(ownFlags, name):
			flags = append(flags, "-test."+strings.TrimLeft(arg, "-"))
		default:
			flags = append(flags, arg)
		}
	}
	return packages, flags
}

// inCopy tries the mutations in a copy of the module in the current folder. It returns false if one
// survives.
func (t *trial) inCopy(ctx context.Context, w, progress io.Writer, list []mutation) (ok bool, err error) {
	root, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return false, fmt.Errorf("create a folder for the copy: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if err := copyModule(ctx, root); err != nil {
		return false, err
	}
	return t.in(ctx, w, progress, root, list)
}

// in tries the mutations in a module whose files may be changed.
func (t *trial) in(ctx context.Context, w, progress io.Writer, dir string, list []mutation) (ok bool, err error) {
	s, err := newSchemata(dir, list)
	if err != nil {
		return false, err
	}
	binary := filepath.Join(dir, "mutants.test")
	if err := t.build(ctx, progress, s, binary); err != nil {
		return false, err
	}
	if err := t.sound(ctx, progress, s, binary); err != nil {
		return false, err
	}
	if err := t.all(ctx, w, progress, s, binary); err != nil {
		return false, err
	}
	showAccepted(w, s)
	noticed, lived, allowed := s.count(caught)+s.count(hung), s.count(survived), s.count(accepted)
	fmt.Fprintf(w, "caught %d of %d, %d accepted, %d survived, %d do not build", noticed, noticed+lived+allowed, allowed, lived, s.count(unbuilt))
	if n := s.count(untried); n > 0 {
		fmt.Fprintf(w, ", %d not tried: they are in init or main, or where recover is called", n)
	}
	fmt.Fprintln(w)
	return lived == 0, nil
}

// build builds the tests with all mutants. It removes mutants with compiler errors until the build
// succeeds.
func (t *trial) build(ctx context.Context, progress io.Writer, s *schemata, binary string) error {
	start := time.Now()
	for {
		if err := s.write(); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-ldflags=-s",
			"-gcflags=./"+t.folder+"=-e -dwarf=false", "-o", binary, "./"+t.tested)
		cmd.Dir = s.dir
		output, err := cmd.CombinedOutput()
		if err == nil {
			fmt.Fprintf(progress, "built %d mutants in %.1fs\n", s.count(""), time.Since(start).Seconds())
			return nil
		}
		dropped := s.drop(string(output))
		if dropped == 0 || ctx.Err() != nil {
			return fmt.Errorf("build the tests of %s with mutants: %w\n%s", t.tested, err, output)
		}
		fmt.Fprintf(progress, "%d mutants do not build, after %.1fs\n", s.count(unbuilt), time.Since(start).Seconds())
	}
}

// sound checks that the tests pass while no mutant is chosen.
func (t *trial) sound(ctx context.Context, progress io.Writer, s *schemata, binary string) error {
	for _, flags := range t.stages {
		start := time.Now()
		output, err := t.test(ctx, s.dir, binary, 0, flags)
		if err == nil && strings.Contains(output, "no tests to run") {
			err = errNoTests
		}
		if err != nil {
			return fmt.Errorf("the tests of %s on the unchanged code: %w\n%s", t.tested, err, output)
		}
		fmt.Fprintf(progress, "the tests pass without a mutant, in %.1fs: %s\n", time.Since(start).Seconds(), strings.Join(flags, " "))
	}
	return nil
}

// all tries each mutant and prints those that survive or do not end.
func (t *trial) all(ctx context.Context, w, progress io.Writer, s *schemata, binary string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(t.copies)
	var mu sync.Mutex
	left := slices.Clone(s.verdicts) // the verdicts change meanwhile
	tried, total, said := 0, s.count(""), time.Now()
	for i := range s.list {
		if left[i] != "" {
			continue
		}
		group.Go(func() error {
			start := time.Now()
			o, err := t.try(ctx, s, binary, i)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			s.verdicts[i] = o
			if o != caught {
				show(w, o, time.Since(start), &s.list[i])
			}
			tried++
			if time.Since(said) > 30*time.Second {
				said = time.Now()
				fmt.Fprintf(progress, "tried %d of %d, %d survived\n", tried, total, s.count(survived))
			}
			return nil
		})
	}
	return group.Wait()
}

// try runs the stages of tests until one detects the mutation.
func (t *trial) try(ctx context.Context, s *schemata, binary string, i int) (o outcome, err error) {
	for _, flags := range t.stages {
		output, testErr := t.test(ctx, s.dir, binary, i+1, flags)
		if err := context.Cause(ctx); err != nil {
			return "", err
		}
		if o = s.list[i].judge(output, testErr); o != survived && o != accepted {
			break
		}
	}
	return o, nil
}

// limited bounds the memory of a mutant, which could otherwise use up that of the machine.
const limited = `ulimit -v 8000000; exec "$0" "$@"`

// test runs the tests with a mutant.
func (t *trial) test(ctx context.Context, dir, binary string, mutant int, flags []string) (string, error) {
	// The tests first have time to end themselves.
	ctx, cancel := context.WithTimeout(ctx, t.timeout+5*time.Second)
	defer cancel()
	args := []string{"-c", limited, binary, "-test.paniconexit0", "-test.failfast", "-test.timeout=" + t.timeout.String()}
	cmd := exec.CommandContext(ctx, "sh", append(args, flags...)...)
	cmd.Dir = filepath.Join(dir, filepath.FromSlash(t.tested))
	cmd.Env = append(os.Environ(), chosenMutant+"="+strconv.Itoa(mutant), "GOMEMLIMIT=2GiB", "GOGC=400", "GOMAXPROCS="+strconv.Itoa(max(runtime.NumCPU()/t.copies, 1)))
	cmd.WaitDelay = 10 * time.Second
	var output head
	cmd.Stdout, cmd.Stderr = &output, &output
	start := time.Now()
	err := cmd.Run()
	if err != nil && time.Since(start) >= t.timeout {
		err = context.DeadlineExceeded
	}
	return string(output), err
}

// head keeps the beginning of the output, because a mutant may write without end.
type head []byte

func (h *head) Write(b []byte) (int, error) {
	*h = append(*h, b[:min(len(b), 1<<16-len(*h))]...)
	return len(b), nil
}
