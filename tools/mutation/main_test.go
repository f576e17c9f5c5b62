package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheTableSaysWhatIsBrokenHowAndWhy(t *testing.T) {
	list, err := parse(table, "")
	require.NoError(t, err)
	require.Greater(t, len(list), 100)
	list, err = parse(table, "^evidence/sink/loki.go$")
	require.NoError(t, err)
	for _, m := range list {
		require.Equal(t, "evidence/sink/loki.go", m.File)
	}
	for _, wrong := range []string{"", "- file: a\n  old: b\n  new: c\n  test: ./a\n", "- {file: a, old: b, new: b, test: ./a, why: w}", "- {fil: a}"} {
		_, err := parse([]byte(wrong), "")
		require.Error(t, err, wrong)
	}
	_, err = parse(table, "no such thing")
	require.ErrorContains(t, err, "no mutation matches")
}

// A table that no longer matches the code cannot be run.
func TestTheTableIsAboutTheCodeAsItIs(t *testing.T) {
	list, err := parse(table, "")
	require.NoError(t, err)
	require.NoError(t, fit(list, "../.."))
}

func TestTheOldTextIsReplacedWhereItIsOnce(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.go"), []byte("x < y; y < z"), 0o600))
	m := mutation{File: "a.go", Old: "x < y", New: "x <= y"}
	b, err := m.apply(dir)
	require.NoError(t, err)
	require.Equal(t, "x <= y; y < z", string(b))
	for old, times := range map[string]string{"<": "2 times", ">": "0 times"} {
		_, err := (&mutation{File: "a.go", Old: old}).apply(dir)
		require.ErrorContains(t, err, "the old text occurs "+times)
	}
}

func TestAMutationIsCaughtIfTheTestsFail(t *testing.T) {
	failed := errors.New("exit status 1")
	for _, tt := range []struct {
		output   string
		err      error
		accepted string
		want     outcome
	}{
		{"ok  p", nil, "", survived},
		{"ok  p", nil, "it makes no difference", accepted},
		{"--- FAIL: TestX", failed, "it makes no difference", caught},
		{"panic: test timed out after 2m0s", failed, "", hung},
		{"", context.DeadlineExceeded, "", hung},
		{"FAIL p [build failed]", failed, "it makes no difference", unbuilt},
	} {
		require.Equal(t, tt.want, (&mutation{Accepted: tt.accepted}).judge(tt.output, tt.err), tt.output)
	}
}

func TestEachOperatorIsAlteredOnce(t *testing.T) {
	dir := t.TempDir()
	text := "package p\n\nfunc f(a, b int, s []int) bool {\n\tclear(s)\n\ta += 2\n\treturn !(a < b) && true\n}\n"
	path := filepath.Join(dir, "a.go")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	list, err := operators(dir)
	require.NoError(t, err)
	var altered []string
	for _, m := range list {
		m.File = "a.go"
		b, err := m.apply(dir)
		require.NoError(t, err)
		altered = append(altered, string(b))
	}
	swap := func(old, with string) string { return strings.Replace(text, old, with, 1) }
	require.ElementsMatch(t, []string{
		swap("clear(s)", ""), swap("+=", "-="), swap("2", "3"), swap("!", ""), swap("<", "<="), swap("&&", "||"), swap("&& true", "&& false"),
	}, altered)
}
