// Command mutation changes the code in many places, one at a time, and reports whether the tests detect
// the change. A change that they do not detect shows a missing test.
//
// mutations.yaml lists the changes and the tests that must fail. The code is changed in a copy of the
// module, never in place. With -operators, each operator, number, boolean and call in a package is
// changed instead. One program then holds all mutants, so that one build is enough; accepted.yaml lists
// the mutants that need not be detected, with reasons.
package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"
)

//go:embed mutations.yaml
var table []byte

// mutation is one change of the code.
type mutation struct {
	File string `yaml:"file"`
	// Old occurs exactly once in the file; New replaces it.
	Old string `yaml:"old"`
	New string `yaml:"new"`
	// Test are the arguments of go test for the tests that must fail.
	Test string `yaml:"test"`
	Why  string `yaml:"why"`
	// Accepted, if not empty, is the reason why the tests need not detect the mutation.
	Accepted string `yaml:"accepted"`
	// offset is 1 more than the offset of Old in the file. If 0, Old is searched for.
	offset int
}

// outcome is the result of the tests of a mutation.
type outcome string

const (
	caught   outcome = "caught"
	hung     outcome = "caught (no end)"
	survived outcome = "SURVIVED"
	accepted outcome = "accepted"
	unbuilt  outcome = "DOES NOT BUILD"
	untried  outcome = "NOT TRIED"
)

func main() {
	only := flag.String("only", "", "try only mutations whose file or reason matches this `regexp`")
	timeout := flag.Duration("timeout", 2*time.Minute, "maximum time of the tests of one mutation; a mutation that exceeds it counts as caught")
	folder := flag.String("operators", "", "instead of the listed mutations, change each operator, number and boolean of the package in this `folder` once")
	tests := flag.String("test", "-short", "with -operators: the arguments of go test; the tests are those of the folder, or of one other ./package named here")
	first := flag.String("first", "", "with -operators: the arguments of go test for a quicker first pass; only mutants that survive it are tried with -test")
	again := flag.String("again", "", "with -operators: try only the mutants that survived in this `file`, the output of an earlier run on the same code")
	every := flag.Int("every", 1, "with -operators: try only one mutant in this many")
	copies := flag.Int("copies", 2, "number of mutations that are tried at once")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var ok bool
	var err error
	if *folder == "" {
		ok, err = runTable(ctx, *only, *timeout, max(*copies, 1))
	} else {
		ok, err = runOperators(ctx, *folder, *tests, *first, selection{*only, *again, max(*every, 1)}, *timeout, max(*copies, 1))
	}
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutation:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// runTable tries the mutations in the table.
func runTable(ctx context.Context, only string, timeout time.Duration, copies int) (ok bool, err error) {
	list, err := parse(table, only)
	if err != nil {
		return false, err
	}
	return run(ctx, os.Stdout, list, timeout, copies)
}

// runOperators tries mutations of the operators of a package.
func runOperators(ctx context.Context, folder, tests, first string, which selection, timeout time.Duration, copies int) (ok bool, err error) {
	t, err := newTrial(folder, tests, first, timeout, copies)
	if err != nil {
		return false, err
	}
	list, err := which.of(folder)
	if err != nil {
		return false, err
	}
	return t.inCopy(ctx, os.Stdout, os.Stderr, list)
}

// selection selects mutations of a folder's operators.
type selection struct {
	only  string // a regular expression
	again string // a file with surviving mutations; if empty, all are tried
	every int
}

// of returns the selected mutations.
func (s selection) of(folder string) ([]mutation, error) {
	all, err := operators(folder)
	if err != nil {
		return nil, err
	}
	classes, err := parseClasses(acceptedTable)
	if err != nil {
		return nil, err
	}
	accept(classes, all)
	match, err := regexp.Compile(s.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	survivors := map[string]bool{}
	if s.again != "" {
		text, err := os.ReadFile(s.again)
		if err != nil {
			return nil, fmt.Errorf("-again: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			for _, o := range []outcome{survived, accepted} {
				if rest, ok := strings.CutPrefix(strings.TrimSpace(line), string(o)+" "); ok {
					_, what, _ := strings.Cut(rest, "s  ") // after the time
					survivors[what] = true
				}
			}
		}
	}
	var list []mutation
	for i, m := range all {
		if i%s.every == 0 && (match.MatchString(m.File) || match.MatchString(m.Why)) && (s.again == "" || survivors[m.File+": "+m.Why]) {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no mutation matches: change the selection")
	}
	return list, nil
}

// run tries the mutations of the module in the current folder, in several copies of it at once. It
// returns false if a mutation survives that is not accepted, or does not build.
func run(ctx context.Context, w io.Writer, list []mutation, timeout time.Duration, copies int) (ok bool, err error) {
	root, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	dirs := make(chan string, copies)
	for i := range copies {
		dir := filepath.Join(root, strconv.Itoa(i))
		if err := copyModule(ctx, dir); err != nil {
			return false, err
		}
		dirs <- dir
	}
	if err := fit(list, filepath.Join(root, "0")); err != nil {
		return false, err
	}
	if err := sound(ctx, list, dirs, timeout); err != nil {
		return false, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(copies)
	var mu sync.Mutex
	count := map[outcome]int{}
	for i := range list {
		m := &list[i]
		group.Go(func() error {
			dir := <-dirs
			defer func() { dirs <- dir }()
			start := time.Now()
			o, output, err := m.try(ctx, dir, timeout)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			count[o]++
			show(w, o, time.Since(start), m)
			switch o {
			case accepted:
				fmt.Fprintf(w, "%24s%s\n", "", m.Accepted)
			case unbuilt:
				fmt.Fprintln(w, output)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	fmt.Fprintf(w, "caught %d of %d", count[caught]+count[hung], len(list))
	for _, o := range []outcome{accepted, survived, unbuilt} {
		if count[o] > 0 {
			fmt.Fprintf(w, ", %d %s", count[o], strings.ToLower(string(o)))
		}
	}
	fmt.Fprintln(w)
	return count[survived]+count[unbuilt] == 0, nil
}

// show prints the outcome of a mutation.
func show(w io.Writer, o outcome, took time.Duration, m *mutation) {
	fmt.Fprintf(w, "%-15s %5.1fs  %s: %s\n", o, took.Seconds(), m.File, m.Why)
}

// fit checks that the table matches the current code.
func fit(list []mutation, dir string) error {
	var errs []error
	for _, m := range list {
		_, err := m.apply(dir)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// sound checks that all tests pass on the unchanged code. Tests that always fail would detect every
// mutation.
func sound(ctx context.Context, list []mutation, dirs chan string, timeout time.Duration) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cap(dirs))
	started := map[string]bool{}
	for _, m := range list {
		if started[m.Test] {
			continue
		}
		started[m.Test] = true
		group.Go(func() error {
			dir := <-dirs
			defer func() { dirs <- dir }()
			output, err := test(ctx, dir, m.Test, timeout)
			if err != nil || strings.Contains(output, "[no tests to run]") {
				return fmt.Errorf("go test %s on the unchanged code: %w\n%s", m.Test, cmp.Or(err, errNoTests), output)
			}
			return nil
		})
	}
	return group.Wait()
}

var errNoTests = errors.New("no test matches")

// parse reads the table, and keeps the mutations that match only.
func parse(table []byte, only string) ([]mutation, error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(table))
	decoder.KnownFields(true)
	var list []mutation
	if err := decoder.Decode(&list); err != nil {
		return nil, fmt.Errorf("mutations.yaml: %w", err)
	}
	for i, m := range list {
		if m.File == "" || m.Old == "" || m.Test == "" || m.Why == "" || m.Old == m.New {
			return nil, fmt.Errorf("mutations.yaml: mutation %d (%s): set file, old, new, test and why", i+1, m.Why)
		}
	}
	list = slices.DeleteFunc(list, func(m mutation) bool { return !match.MatchString(m.File) && !match.MatchString(m.Why) })
	if len(list) == 0 {
		return nil, errors.New("no mutation matches: change the selection")
	}
	return list, nil
}

// copyModule copies the files that git tracks, or would add, with their content in the work tree.
func copyModule(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		b, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not yet committed
		}
		if err != nil {
			return err
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// apply returns the changed content of the file.
func (m *mutation) apply(dir string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, m.File))
	if err != nil {
		return nil, err
	}
	if m.offset > 0 {
		at := m.offset - 1
		return slices.Concat(b[:at], []byte(m.New), b[at+len(m.Old):]), nil
	}
	if n := strings.Count(string(b), m.Old); n != 1 {
		return nil, fmt.Errorf("%s: %s: the old text occurs %d times and must occur once:\n%s", m.File, m.Why, n, m.Old)
	}
	return []byte(strings.Replace(string(b), m.Old, m.New, 1)), nil
}

// try changes the file, runs the tests and restores the file.
func (m *mutation) try(ctx context.Context, dir string, timeout time.Duration) (outcome, string, error) {
	path := filepath.Join(dir, m.File)
	before, err := os.ReadFile(path)
	if err != nil {
		return "", "", err
	}
	after, err := m.apply(dir)
	if err != nil {
		return "", "", err
	}
	if err := os.WriteFile(path, after, 0o644); err != nil {
		return "", "", err
	}
	output, testErr := test(ctx, dir, m.Test, timeout)
	if err := os.WriteFile(path, before, 0o644); err != nil {
		return "", "", err
	}
	if err := context.Cause(ctx); err != nil {
		return "", "", err
	}
	return m.judge(output, testErr), output, nil
}

// judge derives the outcome from the output of the tests.
func (m *mutation) judge(output string, err error) outcome {
	switch {
	case strings.Contains(output, "[build failed]"), strings.Contains(output, "[setup failed]"):
		return unbuilt
	case errors.Is(err, context.DeadlineExceeded), strings.Contains(output, "panic: test timed out after"):
		return hung
	case err != nil:
		return caught
	case m.Accepted != "":
		return accepted
	}
	return survived
}

// test runs go test in the copy.
func test(ctx context.Context, dir, args string, timeout time.Duration) (string, error) {
	// The tests can first end themselves and the servers they started.
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-count=1", "-failfast", "-vet=off", "-timeout=" + timeout.String()}, strings.Fields(args)...)...)
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return string(out), err
}
