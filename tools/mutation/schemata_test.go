package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The functions of this package have all kinds of signatures. The comment of each line with an operator
// states the outcome of its mutation.
const small = `package p

import "errors"

type number int

var atStart = add(1-1, 2) // not in a function

func init() { atStart += 0 } // NOT TRIED twice

func add(a, b int) int { return a + b } // caught

func (n number) less(m number) bool {
	return n < m // survived
}

func (number) zero(int, string) bool { return true } // caught

func sum(_ string, of ...int) (total int) {
	for _, n := range of {
		total += n // caught
	}
	return
}

type pair[K comparable, _ any] struct{ k K }

func (p *pair[K, _]) is(k K) bool { return p.k == k } // caught

func index[E comparable, _ any](of []E, e E) (int, error) {
	for i, x := range of {
		if x == e { // caught
			return i, nil
		}
	}
	return 0, errors.New("none") // survived
}

func set(p *int) {
	*p += 1 // caught twice
}

func unused() int {
	var n int
	set(&n) // survived
	m := 1 // survived
	m += 2 // survived twice
	var s []int
	clear(s) // does not build
	return len([1]int{0: n}) // caught; does not build
}

func text() string { return "a" + "b" } // does not build

func safely(f func()) (ok bool) {
	defer func() {
		if recover() != nil { // caught
			ok = false // survived
		}
	}()
	f() // caught
	return true // caught
}

func recovers(ok *bool) {
	if recover() != nil { // NOT TRIED
		*ok = true // NOT TRIED
	}
}

func down(n int) int {
	for n > 0 { // caught
		n-- // has no end
	}
	return n
}
`

const smallTest = `package p

import "testing"

func TestAll(t *testing.T) {
	var n int
	set(&n)
	i, _ := index[int, string]([]int{1, 2}, 2)
	p := pair[string, int]{"a"}
	recovered := false
	func() { defer recovers(&recovered); panic("it") }()
	for what, ok := range map[string]bool{
		"add": atStart == 2 && add(1, 2) == 3, "less": number(1).less(2), "zero": number(1).zero(1, ""),
		"sum": sum("", 1, 2) == 3, "is": p.is("a"), "index": i == 1, "set": n == 1, "unused": unused() == 1,
		"text": text() == "ab", "safely": safely(func() {n++}) && n == 2, "recovers": recovered, "down": down(1) == 0,
	} {
		if !ok {
			t.Error(what)
		}
	}
}

func TestNothing(t *testing.T) {}
`

func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.Mkdir("p", 0o755))
	for name, text := range map[string]string{"go.mod": "module m\n\ngo 1.26\n", "p/p.go": small, "p/p_test.go": smallTest} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	return dir
}

func TestOneProgramHoldsAllMutants(t *testing.T) {
	dir := module(t)
	list, err := selection{every: 1}.of("p")
	require.NoError(t, err)
	list = append(list, mutation{File: "p/p.go", Old: "}", offset: 1 + strings.Index(small, "} // caught\n\nfunc (n number) less")}) // cannot be parsed
	tr, err := newTrial("./p/", "-run All", "-run Nothing", 2*time.Second, 2)
	require.NoError(t, err)
	var out, progress bytes.Buffer
	ok, err := tr.in(t.Context(), &out, &progress, dir, list)
	require.NoError(t, err, progress.String())
	require.False(t, ok)

	for line := range strings.SplitSeq(small, "\n") {
		code, says, _ := strings.Cut(strings.TrimSpace(line), " // ")
		want := 0
		switch says {
		case "survived", "has no end":
			want = 1
		case "survived twice":
			want = 2
		}
		if code != "" && says != "" {
			require.Equal(t, want, strings.Count(out.String(), " in "+code+" // "), "%s\n%s", code, out.String())
		}
	}
	require.Equal(t, 1, strings.Count(out.String(), "caught (no end)"))
	require.Regexp(t, `(?m)^caught 14 of 21, 0 accepted, 7 survived, 4 do not build, 4 not tried`, out.String())
	require.Contains(t, progress.String(), "4 mutants do not build")
}

func TestWhatSurvivedIsTriedAgain(t *testing.T) {
	dir := module(t)
	list, err := selection{every: 1}.of("p")
	require.NoError(t, err)
	tr, err := newTrial("p", "-run All", "", 2*time.Second, 2)
	require.NoError(t, err)
	var out, progress bytes.Buffer
	_, err = tr.in(t.Context(), &out, &progress, dir, list)
	require.NoError(t, err, progress.String())

	module(t) // the files were changed
	log := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(log, out.Bytes(), 0o600))
	again, err := selection{again: log, every: 1}.of("p")
	require.NoError(t, err)
	require.Len(t, again, strings.Count(out.String(), string(survived)))
	require.Less(t, len(again), len(list))
	_, err = selection{again: filepath.Join(dir, "none"), every: 1}.of("p")
	require.ErrorContains(t, err, "-again")
}

func TestWhatNeedNotBeNoticedIsAccepted(t *testing.T) {
	dir := module(t)
	list, err := selection{every: 1}.of("p")
	require.NoError(t, err)
	classes, err := parseClasses([]byte("- why: so be it\n  of: ['p.go: .* in set\\(&n\\)', 'instead of \"2\" in m \\+= 2']\n- why: never\n  of: [nowhere]\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"nowhere"}, accept(classes, list))
	tr, err := newTrial("p", "-run All", "", 2*time.Second, 2)
	require.NoError(t, err)
	var out, progress bytes.Buffer
	_, err = tr.in(t.Context(), &out, &progress, dir, list)
	require.NoError(t, err, progress.String())
	require.Regexp(t, `(?m)^accepted     2: so be it\ncaught 14 of 21, 2 accepted, 5 survived`, out.String())

	module(t) // the files were changed
	log := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(log, out.Bytes(), 0o600))
	again, err := selection{again: log, every: 1}.of("p")
	require.NoError(t, err)
	require.Len(t, again, 7)
}

func TestClassesOfMutantsAreChecked(t *testing.T) {
	for wrong, want := range map[string]string{"- why: x": "lacks why or of", "- of: [x]": "lacks why or of", "- {why: x, of: ['(']}": "missing closing", "- {why: x, off: [x]}": "off", "x": "accepted.yaml"} {
		_, err := parseClasses([]byte(wrong))
		require.ErrorContains(t, err, want, wrong)
	}
}

// The accepted mutants must match the current code.
func TestWhatIsAcceptedIsThere(t *testing.T) {
	classes, err := parseClasses(acceptedTable)
	require.NoError(t, err)
	list, err := operators("../../analyzer/engine")
	require.NoError(t, err)
	require.Empty(t, accept(classes, list))
}

func TestTheTestsPassBeforeAMutantIsTried(t *testing.T) {
	for wrong, want := range map[string]string{"-run None": "no test matches", "-run All -no.such.flag": "on the unchanged code"} {
		dir := module(t)
		list, err := selection{every: 1}.of("p")
		require.NoError(t, err)
		tr, err := newTrial("p", wrong, "", time.Minute, 1)
		require.NoError(t, err)
		var out bytes.Buffer
		_, err = tr.in(t.Context(), &out, &out, dir, list)
		require.ErrorContains(t, err, want)
	}
}

func TestAnErrorThatIsInNoMutantIsReported(t *testing.T) {
	dir := module(t)
	list, err := selection{every: 1}.of("p")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p", "q.go"), []byte("package p\n\nvar x int = true\n"), 0o600))
	tr, err := newTrial("p", "-short", "", time.Minute, 1)
	require.NoError(t, err)
	var out bytes.Buffer
	_, err = tr.in(t.Context(), &out, &out, dir, list)
	require.ErrorContains(t, err, "q.go:3")
}

func TestTheArgumentsOfGoTestAreThoseOfABinary(t *testing.T) {
	tr, err := newTrial("a/b/", "./a -short --run=X|Y -plan.seeds=3 -count 2", "-run short", time.Second, 1)
	require.NoError(t, err)
	require.Equal(t, &trial{folder: "a/b", tested: "a", timeout: time.Second, copies: 1, stages: [][]string{
		{"-test.run", "short"}, {"-test.short", "-test.run=X|Y", "-plan.seeds=3", "-test.count", "2"},
	}}, tr)
	for _, wrong := range []string{"./a ./b", "./a/...", "-short ./..."} {
		_, err := newTrial("a", wrong, "", time.Second, 1)
		require.ErrorContains(t, err, "name one package")
	}
}
