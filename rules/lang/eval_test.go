package lang

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

// expressionTrace returns the trace for testdata/expressions.txt.
func expressionTrace() *trace.Trace {
	s, n, d := trace.StringValue, trace.IntValue, trace.DoubleValue
	attrs := func(kv ...any) trace.Attributes {
		var as []trace.Attribute
		for i := 0; i < len(kv); i += 2 {
			as = append(as, trace.Attribute{Key: kv[i].(string), Value: kv[i+1].(trace.Value)})
		}
		normal, _ := trace.NewAttributes(as)
		return normal
	}
	id := func(i byte) trace.SpanID { return trace.SpanID{7: i} }
	at := func(seconds float64) trace.Time {
		return trace.TimeOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) + trace.Time(seconds*1e9)
	}
	payment := attrs("service.name", s("payment"), "region", s("eu"), "same", s("resource"))
	return trace.New(trace.ID{15: 0xab}, []trace.Span{
		{
			ID: id(1), Name: "checkout", Kind: trace.KindServer, Start: at(0), End: at(5), Status: trace.StatusError, StatusMessage: "declined",
			Scope: "lib", ScopeVersion: "1.0", Resource: attrs("service.name", s("checkout")),
			Events: []trace.Event{{Name: "exception", Time: at(1), Attributes: attrs("exception.type", s("Timeout"))}},
			Links:  []trace.Link{{TraceID: trace.ID{15: 7}, SpanID: id(9), Attributes: attrs("why", s("follows"))}},
		},
		{
			ID: id(2), ParentID: id(1), Name: "charge", Kind: trace.KindClient, Start: at(1), End: at(2), Resource: payment,
			Attributes: attrs("amount", n(2500), "rate", d(2.5), "text", s("abc"), "flag", trace.BoolValue(true), "http.route", s("/charge"),
				"tags", trace.ArrayValue(s("a"), s("b")), "mixed", trace.ArrayValue(s("a"), n(1)), "empty", trace.ArrayValue(), "same", s("span"),
				"big", n(1<<53+1), "max", n(math.MaxInt64), "nan", d(math.NaN()), "bytes", trace.BytesValue([]byte("ab")), "badre", s("("),
				"map", trace.MapValue(attrs("k", n(1)))),
		},
		{ID: id(3), ParentID: id(2), Name: "check", Start: at(1.5), End: at(1.6), Resource: payment},
		{ID: id(4), ParentID: id(1), Name: "refund", Start: at(3), End: at(4), Resource: attrs("service.name", s("checkout"))},
		{ID: id(5), Name: "a orphan root", Start: at(4), End: at(4)},
		{ID: id(6), ParentID: id(99), Name: "orphan", Kind: trace.KindClient, Start: at(4.5), End: at(4.6)},
	})
}

func TestExpressionsGiveWhatTheTableSays(t *testing.T) {
	env, err := NewEnvironment(1<<14, nil)
	require.NoError(t, err)
	file, err := os.Open("testdata/expressions.txt")
	require.NoError(t, err)
	defer file.Close()
	tr := expressionTrace()
	rows := 0
	for scan, line := bufio.NewScanner(file), 1; scan.Scan(); line++ {
		if scan.Text() == "" || strings.HasPrefix(scan.Text(), "#") {
			continue
		}
		cut := strings.LastIndex(scan.Text(), " | ")
		expression, want := scan.Text()[:cut], scan.Text()[cut+3:]
		rows++
		p, err := env.compileAny(expression)
		if err != nil {
			t.Errorf("expressions.txt:%d: %s: %v", line, expression, err)
			continue
		}
		have := p.eval(context.Background(), tr, nil)
		if show(have) != want {
			t.Errorf("expressions.txt:%d: %s: have %s, want %s (%v)", line, expression, show(have), want, have)
		}
	}
	require.Greater(t, rows, 150)
}

func TestWhatAnExpressionBuildsIsBounded(t *testing.T) {
	env, err := NewEnvironment(1<<14, nil)
	require.NoError(t, err)
	for _, source := range []string{
		"lists.range(4000).map(a, lists.range(4000)).size() > 0",
		"lists.range(4000).map(a, lists.range(4000).map(b, b)).size() > 0",
	} {
		p, err := env.Compile(source, WantBool)
		require.NoError(t, err)
		v := p.eval(context.Background(), expressionTrace(), nil)
		if strings.Contains(source, "map(b") {
			require.Equal(t, "error", show(v), source)
		}
	}
}

// compileAny compiles an expression of any type.
func (e *Environment) compileAny(source string) (*Expression, error) {
	return e.Compile(source, wantAny)
}

func show(v ref.Val) string {
	switch v := v.(type) {
	case *types.Err:
		return "error"
	case absentVal:
		return "absent"
	case types.Duration:
		return v.Duration.String()
	case spanVal:
		return v.span().Name
	case traits.Lister:
		var parts []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			parts = append(parts, show(it.Next()))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v.Value())
}
