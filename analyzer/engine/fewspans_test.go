package engine_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Conditions on few spans, and limits of numbers, give the verdicts of the interpreter: alone, and next to others that
// share parts of them.
func TestConditionsOnFewSpansAndLimits(t *testing.T) {
	const list = `
count(spans, s, s.name in ["a", "b", "c"] && s.kind == "server") == 2
count(spans, s, s.name in ["a", "b", "c"] && s.kind == "server") == 0
count(spans, s, s.name == "a" && s.attributes["n"] > 1) < 1
count(spans, s, s.name == "a" && s["n"] + s["m"] > 3) >= 1
count(spans, s, s.name in ["a", "b"] && s["k"] / s["n"] >= 1) >= 1
count(spans, s, s.name in ["a", "b"] && s["k"] / s["n"] >= 1) == 0
spans.exists(s, s.name in ["a", "b"] && s["k"] / s["n"] >= 1)
spans.exists(s, s.name == "b" && s.kind == "unspecified")
spans.exists(s, s.name == "b" && s.kind in ["unspecified", "client"] && s.status != "error")
spans.exists(s, s.name == "b" && s.kind.startsWith("un"))
spans.exists(s, s.attributes["rare"] > 1)
spans.exists(s, s.attributes["rare"] > 2)
spans.exists(s, s.attributes["rare"] >= 3)
spans.exists(s, s.attributes["rare"] < 2)
spans.exists(s, s.attributes["rare"] <= 0)
spans.exists(s, s.attributes["rarely"] > 1)
spans.exists(s, s.attributes["rarely"] > 2)
spans.exists(s, s.attributes["rarely"] >= 3)
spans.exists(s, s.attributes["rarely"] < 2)
spans.exists(s, s.attributes["rarely"] <= 0)
spans.exists(s, s.name == "a" && s.kind != "server" && s.status == "error")
spans.exists(s, s.name != "a" && s.service == "x" && s.status != "error")
spans.exists(s, s.name == "a" && s.service != "x")
spans.exists(s, s.name == "b" && s.attributes["n"] == 2)
spans.exists(s, s.name == "b" && s.attributes["n"] > 1)
spans.exists(s, s.name == "b" && s.attributes["n"] <= 1)
spans.exists(s, s.name == "b" && s.duration > duration("2s"))
spans.exists(s, s.name == "b" && s.duration <= duration("1s"))
spans.exists(s, s.name == "b" && s.duration <= duration("1s") && s.attributes["n"] > 0)
spans.exists(s, s.name == "b" && s.attributes["bool"])
spans.exists(s, s.name == "b" && s.attributes["bool"] == false)
spans.exists(s, s.name == "b" && s.attributes["text"] != "x")
spans.exists(s, s.name == "b" && s.attributes["text"] in ["x", "y"])
spans.exists(s, s.name == "b" && !(s.attributes["text"] in ["x", "y"]))
spans.exists(s, s.name == "b" && "list" in s.attributes)
spans.exists(s, s.name == "b" && !("list" in s.attributes))
spans.exists(s, s.name == "b" && !("text" in s.attributes))
spans.exists(s, s.name == "b" && !("bool" in s.attributes))
spans.exists(s, s.name == "b" && !("n" in s.attributes) && "m" in s.attributes)
spans.exists(s, s.name == "b" && s.attributes["text"].startsWith("x"))
spans.exists(s, s.name == "b" && !s.attributes["text"].startsWith("x"))
spans.exists(s, s.name == "b" && s.statusMessage.endsWith(""))
spans.exists(s, s.name == "b" && s.statusMessage.endsWith("m"))
spans.exists(s, s.name == "b" && has(s.parent))
spans.exists(s, s.name == "b" && !has(s.parent))
spans.exists(s, s.name == "b" && s.parent.name == "a")
spans.exists(s, s.name == "b" && s.parent.kind == "server")
spans.exists(s, s.name == "b" && !(s.parent.name in ["a", "c"]))
spans.exists(s, s.name == "b" && s.parent.parent.name == "a")
spans.exists(s, s.name == "b" && s.ancestors().exists(p, p.name == "a"))
spans.exists(s, s.name == "b" && !s.ancestors().exists(p, p.kind == "client" && p.status == "error"))
spans.exists(s, s.name == "b" && s.ancestors().exists(p, p.children.exists(q, q.name == "c" && q.kind == "client")))
spans.exists(s, s.name == "a" && s.children.exists(p, p.name == "b"))
spans.exists(s, s.name == "a" && s.children.exists(p, p.kind == "server" && p.status != "error"))
spans.exists(s, s.name == "a" && !s.children.exists(p, p.kind == "client" && p.name != "c"))
spans.exists(s, s.name == "a" && (s.kind == "client" || s.children.exists(p, p.kind == "client" && p.name == "d")))
spans.exists(s, s.name == "a" && s.children.exists(p, p.kind == "client" && p.children.exists(q, q.kind == "server" && q.name == "e")))
spans.exists(s, s.name == "a" && s.descendants().exists(p, p.name == "e" && p.kind == "server"))
spans.exists(s, s.name == "a" && !s.descendants().exists(p, p.name == "e" && p.kind == "client"))
spans.exists(s, s.name == "b" && s.parent.children.exists(p, p.name == "c" && p.kind == "server"))
spans.exists(s, s.name == "b" && s.parent.descendants().exists(p, p.name == "e" && p.status == "error"))
spans.exists(s, s.name == "c" && spans.exists(p, p.name == "a" && p.before(s)))
spans.exists(s, s.name == "c" && spans.exists(p, p.name == "a" && s.before(p)))
spans.exists(s, s.name == "c" && spans.exists(p, p.name == "b" && p.start < s.end))
spans.exists(s, s.name == "c" && spans.exists(p, p.name == "b" && p.start >= s.end))
spans.exists(s, s.name == "c" && s["n"] + 1 > s["m"])
spans.exists(s, s.name == "c" && s["m"] / s["n"] == 1)
spans.exists(s, s.name == "c" && s["m"] / s["n"] == 1 && s["n"] / s["m"] == 1)
spans.exists(s, s.name == "c" && s.duration - s.parent.duration > duration("0s"))
spans.exists(s, s.name == "c" && spans.exists(p, p["text"] != s["text"]))
spans.exists(s, s.name == "c" && spans.exists(p, p.kind == "server" && p["text"] != s["text"]))
spans.exists(s, s.name == "c" && spans.exists(p, p["same"] != s["same"]))
spans.exists(s, s.name == "c" && spans.exists_one(p, p["same"] != s["same"]))
spans.exists(s, s.name == "c" && spans.exists(p, p["same"] != s["text"]))
spans.exists(s, s.name == "b" && spans.exists(t, true))
spans.exists(s, s.name == "c" && spans.exists(p, p["same"] == s["same"] && p.kind == "server" && p.status == "error"))
count(spans, s, s.name == "a" && s["k"] / s["n"] >= 1) == 1 && count(spans, s, s.name == "b" && s["k"] / s["n"] >= 1) <= 1
spans.exists(s, s.name == "c" && (string(s.attributes["bool"]) == "true") != (s.kind == "server"))
spans.exists(s, s.name == "c" && spans.exists(p, p.attributes["m"] == s.attributes["m"] && p.kind == "server"))
spans.exists(s, s.name == "c" && !spans.exists(p, p.kind == "server" && p.attributes["double"] > s.attributes["double"]))
spans.exists(s, s.kind == "client" && !spans.exists(p, p.kind == "server" && p.attributes["m"] > s.attributes["m"]))
spans.exists(s, s.name == "b" && s.children.exists(c, s.kind == "server"))
spans.exists(s, s.name == "c" && spans.exists(p, ("text" in p.attributes) != ("text" in s.attributes)))
spans.exists(s, s.name == "b" && [1, 2].all(z, !(z == s.attributes["n"])))
spans.exists(s, s.name == "b" && s.kind in ["unspecified", "internal", "server", "client", "producer", "consumer"])
spans.exists(s, s.name == "c" && spans.exists(p, p["text"] != s["same"]))
spans.exists(s, s.name == "c" && spans.exists(p, s["r"] == p["text"] && p.kind == "server"))
spans.exists(s, s.name == "c" && count(spans, p, p.attributes["same"] != s.attributes["same"]) == 0)
spans.exists(s, s.name == "c" && s.ancestors().exists(p, p.service == s.service && p.kind == s.kind))
spans.filter(s, s.name in ["a", "c"]).all(s, s.kind == "server" || s.parent.kind == "server")
spans.filter(s, s.name in ["c", "b"]).all(s, s["n"] / s["m"] >= 1)
spans.exists_one(s, s.name in ["b", "c"] && s.kind == "client")
spans.exists(s, s.name == "c" && s.resource["bool"] == true)
spans.exists(s, s.name == "c" && spans.exists(p, p.resource["r"] != s.resource["r"]))
spans.exists(s, s.name == "c" && spans.exists(p, p["r"] != s["r"] && p.kind == s.kind))
spans.exists(s, s.name == "c" && spans.exists(p, p["mixed"] != s["mixed"] && p.kind == s.kind))
spans.exists(s, s.name == "c" && spans.exists(p, p["textOrInt"] != s["textOrInt"]))
spans.exists(s, s.name == "c" && spans.exists(p, p["textOrDouble"] != s["textOrDouble"]))
spans.exists(s, s.name == "c" && spans.exists(p, p["textOrBool"] != s["textOrBool"]))
spans.exists(s, s.name == "c" && spans.exists(p, p["textOrList"] != s["textOrList"]))
spans.exists(s, s.name == "c" && spans.exists(p, p["n"] != s["n"] && p.kind == s.kind && p.status == s.status))
spans.exists(s, s.duration > duration("2s"))
spans.exists(s, s.duration > duration("2999ms"))
spans.exists(s, s.duration >= duration("3s"))
spans.exists(s, s.duration < duration("1s"))
spans.exists(s, s.duration <= duration("0s"))
spans.exists(s, s.kind == "server" && s.duration < duration("1s"))
spans.exists(s, s.kind == "server" && s.duration > duration("2s"))
spans.exists(s, s.kind == "server" && s.duration <= duration("0s"))
spans.exists(s, s.kind == "server" && s.duration >= duration("3s"))
spans.exists(s, s.kind == "server" && s.duration >= duration("2500ms"))
spans.exists(s, s.attributes["int"] > 90)
spans.exists(s, s.attributes["int"] > 95)
spans.exists(s, s.attributes["int"] >= 97)
spans.exists(s, s.attributes["int"] < 3)
spans.exists(s, s.attributes["int"] <= 2.5)
spans.exists(s, s.attributes["double"] > 0.9)
spans.exists(s, s.attributes["double"] > 0.95)
spans.exists(s, s.attributes["double"] >= 0.97)
spans.exists(s, s.attributes["double"] < 0.03)
spans.exists(s, s.attributes["double"] <= 0.02)
spans.exists(s, s.kind == "client" && s.attributes["double"] > 0.9)
spans.exists(s, s.kind == "client" && s.attributes["double"] > 0.95)
spans.exists(s, s.kind == "client" && s.attributes["double"] >= 0.97)
spans.exists(s, s.kind == "client" && s.attributes["double"] < 0.03)
spans.exists(s, s.kind == "client" && s.attributes["double"] <= 0.02)
spans.exists(s, s.attributes["nan"] > 0.9)
spans.exists(s, s.attributes["nan"] > 0.95)
spans.exists(s, s.attributes["nan"] >= 0.97)
spans.exists(s, s.attributes["nan"] < 0.03)
spans.exists(s, s.attributes["nan"] <= 0.02)
spans.exists(s, s.attributes["m"] > 1)
spans.exists(s, s.attributes["m"] >= 2)
spans.exists(s, s.attributes["m"] > 1.5)
spans.exists(s, s.attributes["m"] < 1)
spans.exists(s, s.attributes["m"] <= 0)
spans.exists(s, s.name == "b" && !(s.kind == s.parent.kind))
spans.exists(s, s.name == "b" && s.kind == "server" && !(s["n"] > s.parent["n"]) && s.status != "error")
spans.filter(s, s.name == "b").all(s, s["n"] > s.parent["n"])
count(spans, s, s.name == "b" && !(s["n"] > s.parent["n"])) == 1
spans.exists(s, s.name == "b" && !s.ancestors().all(p, "zz" in p.attributes))
spans.exists(s, s.name == "b" && !s.children.all(p, "zz" in p.attributes))
spans.exists(s, s.name == "b" && !s.descendants().all(p, "zz" in p.attributes))
spans.exists(s, s.name == "c" && spans.exists(p, p.name == "b" && p.end <= s.parent.start))
spans.exists(s, s.name == "c" && s.children.exists(c, spans.exists(p, p.name == "b" && p.before(c))))`
	r := rand.New(rand.NewPCG(5, 5))
	lines := strings.Split(strings.TrimSpace(list), "\n")
	rs := ofExpressions(t, lines)
	var needs columnar.Needs
	for _, rule := range rs {
		needs = needs.Union(rule.Needs())
	}
	together, alone := engine.Compile(rs), make([]*engine.Judge, len(rs))
	for i := range rs {
		alone[i] = engine.Compile(rs[i : i+1]).NewJudge()
	}
	all := together.NewJudge()
	violated, passed := make([]int, len(rs)), make([]int, len(rs))
	for round := range 14 {
		var traces []*trace.Trace
		for i := range 1 + r.IntN([]int{10, 40, 200}[round%3]) {
			traces = append(traces, fewSpans(r, byte(i)))
		}
		b := columnar.NewBatch(needs, traces...)
		if round%4 < 2 {
			repeatTexts(b, r)
		}
		var selected columnar.Bits
		for round%2 == 1 && selected == nil {
			selected = someTraces(r, b.NumTraces())
		}
		want := make([]engine.Counts, len(rs))
		for i := range b.NumTraces() {
			if selected != nil && !selected.Has(int32(i)) {
				continue
			}
			for k, v := range analyzer.Judge(t.Context(), rs, b.Trace(i)) {
				want[k].Add(v.Outcome)
				switch v.Outcome {
				case rules.NotApplicable:
					passed[k]++
				case rules.Violation:
					violated[k]++
				}
			}
		}
		strip, seed := 1+r.IntN([]int{30, 3000}[r.IntN(2)]), r.Uint64()
		all.SetAny(rand.New(rand.NewPCG(seed, 1)), strip)
		got, err := all.Batch(t.Context(), b, selected)
		require.NoError(t, err)
		for i := range rs {
			require.Equal(t, want[i], got.Counts[i], "together: %s", lines[i])
			alone[i].SetAny(rand.New(rand.NewPCG(seed, 1)), strip)
			one, err := alone[i].Batch(t.Context(), b, selected)
			require.NoError(t, err)
			require.Equal(t, want[i], one.Counts[0], "alone: %s", lines[i])
		}
	}
	for i, line := range lines {
		require.Positive(t, violated[i], line)
		require.Positive(t, passed[i], line)
	}
}

// fewSpans is a trace whose spans have one of a few names, and attributes of one type each, some of none.
func fewSpans(r *rand.Rand, id byte) *trace.Trace {
	spans := make([]trace.Span, 4+r.IntN(12))
	rare := r.IntN(6) == 0
	resources := make([]trace.Attributes, 4) // which spans share
	for i := range resources {
		resources[i], _ = trace.NewAttributes([]trace.Attribute{{Key: "service.name", Value: trace.StringValue([]string{"x", "y", "z"}[r.IntN(3)])},
			{Key: "r", Value: trace.StringValue([]string{"x", "y"}[r.IntN(8)/7])}, {Key: "bool", Value: trace.BoolValue(r.IntN(2) == 0)}})
	}
	same := trace.StringValue([]string{"p", "q"}[r.IntN(2)])
	for i := range spans {
		s := &spans[i]
		s.ID[7] = byte(i + 1)
		if i > 0 && r.IntN(8) > 0 {
			s.ParentID = spans[r.IntN(i)].ID
		} else if r.IntN(4) == 0 {
			s.ParentID[7] = byte(1 + r.IntN(len(spans))) // a cycle, or a parent that comes later
		}
		s.Name = string("abcdefghij"[r.IntN(10)])
		if id == 0 { // the first of its batch, whose first span has number 0
			s.Name = string("abc"[r.IntN(3)])
			if i > 0 && r.IntN(2) == 0 {
				s.ParentID = spans[0].ID
			}
		}
		if r.IntN(3) == 0 {
			s.Name = string("abc"[r.IntN(3)])
		}
		s.Kind, s.Status = trace.Kind(2+r.IntN(2)), trace.Status(r.IntN(3))
		if r.IntN(8) == 0 { // of which there may be no name
			s.Kind, s.Status = []trace.Kind{0, 4, 6, 63, 64, 99, -1}[r.IntN(7)], []trace.Status{3, 64, -1}[r.IntN(3)]
		}
		s.StatusMessage = []string{"", "m"}[r.IntN(2)]
		s.Start = trace.Time(r.IntN(4)) * 1e9
		s.End = s.Start + trace.Time(r.IntN(4))*1e9
		var list []trace.Attribute
		for _, a := range []trace.Attribute{
			{Key: "n", Value: trace.IntValue(int64(r.IntN(4)))}, {Key: "m", Value: trace.DoubleValue(float64(r.IntN(3)))}, {Key: "bool", Value: trace.BoolValue(r.IntN(2) == 0)},
			{Key: "text", Value: trace.StringValue([]string{"x", "y", "z"}[r.IntN(3)])}, {Key: "list", Value: trace.ArrayValue(same)},
			{Key: "k", Value: trace.IntValue(r.Int64N(4))},
		} {
			if r.IntN(3) > 0 {
				list = append(list, a)
			}
		}
		if rare {
			list = append(list, trace.Attribute{Key: "rare", Value: trace.IntValue(r.Int64N(4))}, trace.Attribute{Key: "rarely", Value: trace.DoubleValue(float64(r.IntN(4)))})
		}
		if r.IntN(9) > 0 {
			list = append(list, trace.Attribute{Key: "same", Value: same})
		} else if r.IntN(3) == 0 {
			list = append(list, trace.Attribute{Key: "same", Value: trace.StringValue("r")})
		}
		mixed := []trace.Value{trace.StringValue("x"), trace.IntValue(1), trace.IntValue(2), trace.DoubleValue(2), trace.BoolValue(true)}[r.IntN(5)]
		nan := r.Float64()
		if r.IntN(5) == 0 {
			nan = math.NaN()
		}
		list = append(list, trace.Attribute{Key: "int", Value: trace.IntValue(r.Int64N(100))}, trace.Attribute{Key: "double", Value: trace.DoubleValue(r.Float64())},
			trace.Attribute{Key: "nan", Value: trace.DoubleValue(nan)}, trace.Attribute{Key: "mixed", Value: mixed})
		// Texts that are all one, and some values of one other type.
		for _, a := range []trace.Attribute{
			{Key: "textOrInt", Value: trace.IntValue(r.Int64N(2))}, {Key: "textOrDouble", Value: trace.DoubleValue(float64(r.IntN(2)))},
			{Key: "textOrBool", Value: trace.BoolValue(r.IntN(2) == 0)}, {Key: "textOrList", Value: trace.ArrayValue(trace.IntValue(r.Int64N(2)))},
		} {
			if r.IntN(4) > 0 {
				a.Value = trace.StringValue("x")
			}
			list = append(list, a)
		}
		s.Attributes, _ = trace.NewAttributes(list)
		s.Resource = resources[r.IntN(len(resources))]
	}
	return trace.New(trace.ID{14: id, 15: 1}, spans)
}
