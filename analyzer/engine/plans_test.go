package engine_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
)

var updatePlans = flag.Bool("plan.update", false, "write testdata/plans.txt; review the changes")

// The predicates of expressions. Verdicts do not show whether the interpreter, or an evaluation row by row, is used without
// need. The rules of one paragraph are compiled together.
func TestPlans(t *testing.T) {
	const name = "testdata/plans.txt"
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	var out strings.Builder
	for k, paragraph := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		if k > 0 {
			out.WriteString("\n")
		}
		var lines []string
		for line := range strings.SplitSeq(paragraph, "\n") {
			if !strings.HasPrefix(line, " ") {
				lines = append(lines, line)
			}
		}
		rs := ofExpressions(t, lines)
		p := engine.Compile(rs)
		for i, line := range lines {
			fmt.Fprintf(&out, "%s\n    %s\n", line, p.Dump(i))
		}
	}
	if *updatePlans {
		require.NoError(t, os.WriteFile(name, []byte(out.String()), 0o644))
	}
	got := strings.Split(out.String(), "\n")
	for i, want := range strings.Split(string(text), "\n") {
		if i >= len(got) || got[i] != want {
			t.Fatalf("%s:%d: %s, want %s; update it with -plan.update", name, i+1, got[min(i, len(got)-1)], want)
		}
	}
	require.Len(t, got, strings.Count(string(text), "\n")+1)
}

// ofExpressions returns a rule for each expression.
func ofExpressions(t *testing.T, expressions []string) []*rules.Rule {
	t.Helper()
	var list []any
	for i, x := range expressions {
		list = append(list, map[string]any{"id": fmt.Sprintf("r%d", i), "title": "t", "severity": "low", "when": x})
	}
	doc, err := yaml.Marshal(map[string]any{"apiVersion": "betrace.dev/v1", "kind": "RulePack", "metadata": map[string]any{"name": "p"}, "rules": list})
	require.NoError(t, err)
	pack, err := rules.Parse("p.yaml", doc, rules.Options{MaxCost: 1e15})
	require.NoError(t, err)
	return pack.Rules
}
