package lang

import (
	"context"
	"strings"
	"testing"
	"time"
)

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{`spans.exists(s, s["a"] > 1)`, `trace.root.name.matches("x") ? true : has(spans[0].parent)`, `count(spans, s, true) == 1`} {
		f.Add(seed)
	}
	for seed := range strings.SplitSeq(strings.TrimSpace(operandExpressions), "\n") {
		f.Add(strings.ReplaceAll(seed, "$", `spans[1]["amount"]`))
		f.Add(strings.ReplaceAll(seed, "$", `spans[1]["map"]`))
	}
	env, err := NewEnvironment(300, nil)
	if err != nil {
		f.Fatal(err)
	}
	tr := expressionTrace()
	f.Fuzz(func(t *testing.T, source string) {
		start := time.Now()
		defer func() {
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("compiling and evaluating took %s", took)
			}
		}()
		p, err := env.Compile(source, wantAny)
		if err != nil {
			return
		}
		if Cost(SizesOf(tr), p) < 1e6 {
			p.eval(context.Background(), tr, nil)
		}
		Prefilter(nil, p)
		Needs(p)
	})
}
