package tracetest_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace/tracetest"
)

// usual describes traces without difficulties. The owners of attributes are spans (by scope, name and kind),
// resources and events. For each owner it holds the keys that are always present, and for each key its type.
type usual struct {
	keys  map[string]map[string]bool
	types map[string]string
}

// attributeSets calls yield for the attributes of each span, resource and event in the batches, with a name
// of the owner.
func attributeSets(batches []ptrace.Traces, yield func(of string, attrs map[string]any)) {
	for _, td := range batches {
		for _, rs := range td.ResourceSpans().All() {
			yield("resource", rs.Resource().Attributes().AsRaw())
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					yield(fmt.Sprint(ss.Scope().Name(), s.Name(), s.Kind()), s.Attributes().AsRaw())
					for _, e := range s.Events().All() {
						yield("event "+e.Name(), e.Attributes().AsRaw())
					}
				}
			}
		}
	}
}

func typeName(v any) string {
	if v == nil {
		return "absent"
	}
	return reflect.TypeOf(v).String()
}

func learnUsual(t *testing.T) usual {
	u := usual{map[string]map[string]bool{}, map[string]string{}}
	o := tracetest.Clean(99, 3000)
	o.ViolationRate = 0.5
	for g := range tracetest.New(o).All() {
		attributeSets(g.Batches, func(of string, attrs map[string]any) {
			for k, v := range attrs {
				if old, ok := u.types[k]; ok && old != typeName(v) {
					t.Errorf("the key %s has values of types %s and %s in clean traces", k, old, typeName(v))
				}
				u.types[k] = typeName(v)
			}
			if u.keys[of] == nil {
				u.keys[of] = map[string]bool{}
				for k := range attrs {
					u.keys[of][k] = true
				}
			}
			maps.DeleteFunc(u.keys[of], func(k string, _ bool) bool { return attrs[k] == nil })
		})
	}
	return u
}

func anySpan(ok func(*naive, []*naive) bool) func(usual, tracetest.Generated) bool {
	return func(_ usual, g tracetest.Generated) bool {
		spans := readNaively(g.Batches)
		return slices.ContainsFunc(spans, func(s *naive) bool { return ok(s, spans) })
	}
}

func anyValue(ok func(u usual, key string, v any) bool) func(usual, tracetest.Generated) bool {
	return func(u usual, g tracetest.Generated) (found bool) {
		attributeSets(g.Batches, func(_ string, attrs map[string]any) {
			for k, v := range attrs {
				found = found || ok(u, k, v)
			}
		})
		return found
	}
}

func isMixed(v any) bool {
	list, _ := v.([]any)
	for _, e := range list {
		if typeName(e) != typeName(list[0]) || isMixed(e) {
			return true
		}
	}
	return false
}

func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// copies counts the further copies of spans that equal a previous one, and those that do not.
func copies(g tracetest.Generated) (equal, unequal int) {
	seen := map[string][]string{}
	for _, td := range g.Batches {
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					key := fmt.Sprint(s.SpanID(), s.Kind())
					one := ptrace.NewTraces()
					to := one.ResourceSpans().AppendEmpty()
					rs.Resource().CopyTo(to.Resource())
					s.CopyTo(to.ScopeSpans().AppendEmpty().Spans().AppendEmpty())
					b, _ := (&ptrace.ProtoMarshaler{}).MarshalTraces(one)
					if slices.Contains(seen[key], string(b)) {
						equal++
					} else if seen[key] != nil {
						unequal++
					}
					seen[key] = append(seen[key], string(b))
				}
			}
		}
	}
	return equal, unequal
}

// detectors detect difficulties in the OTLP that is sent.
var detectors = map[tracetest.Nasty]func(usual, tracetest.Generated) bool{
	tracetest.MissingAttributes: func(u usual, g tracetest.Generated) (found bool) {
		attributeSets(g.Batches, func(of string, attrs map[string]any) {
			for k := range u.keys[of] {
				if _, ok := attrs[k]; !ok {
					found = true
				}
			}
		})
		return found
	},
	tracetest.NoServiceName: anySpan(func(s *naive, _ []*naive) bool { return s.resource["service.name"] == nil }),
	tracetest.AbsentValues:  anyValue(func(_ usual, _ string, v any) bool { return v == nil }),
	tracetest.MixedTypes: func(u usual, g tracetest.Generated) (found bool) {
		seen := map[string]string{}
		attributeSets(g.Batches, func(_ string, attrs map[string]any) {
			for k, v := range attrs {
				if usually, ok := u.types[k]; ok {
					found = found || usually != typeName(v)
				} else if old, ok := seen[k]; ok {
					found = found || old != typeName(v)
				}
				seen[k] = typeName(v)
			}
		})
		return found
	},
	tracetest.Lists: anyValue(func(u usual, k string, v any) bool {
		list, ok := v.([]any)
		return ok && len(list) > 0 && !isMixed(v) && u.types[k] != "[]interface {}"
	}),
	tracetest.EmptyLists:   anyValue(func(_ usual, _ string, v any) bool { list, ok := v.([]any); return ok && len(list) == 0 }),
	tracetest.MixedLists:   anyValue(func(_ usual, _ string, v any) bool { return isMixed(v) }),
	tracetest.EmptyStrings: anyValue(func(_ usual, _ string, v any) bool { return v == "" }),
	tracetest.Bytes:        anyValue(func(_ usual, _ string, v any) bool { _, ok := v.([]byte); return ok }),
	tracetest.Maps:         anyValue(func(_ usual, _ string, v any) bool { _, ok := v.(map[string]any); return ok }),
	tracetest.Unicode: func(u usual, g tracetest.Generated) bool {
		return anyValue(func(_ usual, k string, v any) bool {
			text, _ := v.(string)
			return k == "app.title" || !isPlain(k) || strings.Contains(k, `"`) || k != "exception.stacktrace" && !isPlain(text)
		})(u, g)
	},
	tracetest.LongValues: anyValue(func(_ usual, _ string, v any) bool { s, _ := v.(string); return len(s) > 2048 }),
	tracetest.ExtremeNumbers: anyValue(func(_ usual, k string, v any) bool {
		f, isDouble := v.(float64)
		i, isInt := v.(int64)
		return k == "app.number" || isInt && (i > 1<<53 || i < -1<<53) ||
			isDouble && (math.IsNaN(f) || math.Abs(f) >= 1<<53 || f == 0 && math.Signbit(f) || f != 0 && math.Abs(f) < 1e-300)
	}),
	tracetest.Orphans: anySpan(func(s *naive, _ []*naive) bool { return s.parent == nil && s.parentID != "" }),
	tracetest.ExtraRoots: func(_ usual, g tracetest.Generated) bool {
		roots := 0
		for _, s := range readNaively(g.Batches) {
			if s.parent == nil && s.parentID == "" {
				roots++
			}
		}
		return roots > 1
	},
	tracetest.Cycles: anySpan(func(s *naive, _ []*naive) bool { return s.isBelow(func(a *naive) bool { return a == s }) }),
	tracetest.SharedIDs: anySpan(func(s *naive, all []*naive) bool {
		return s.kind == ptrace.SpanKindClient && slices.ContainsFunc(all, func(o *naive) bool { return o.id == s.id && o.kind == ptrace.SpanKindServer })
	}),
	tracetest.SharedByOthers: anySpan(func(s *naive, all []*naive) bool {
		return s.kind == ptrace.SpanKindInternal && slices.ContainsFunc(all, func(o *naive) bool { return o.id == s.id && o != s })
	}),
	tracetest.Deep: anySpan(func(s *naive, _ []*naive) bool {
		depth := 0
		for ; s != nil && s.name == "recursion.step"; s = s.parent {
			depth++
		}
		return depth >= 6
	}),
	tracetest.Wide: anySpan(func(s *naive, _ []*naive) bool {
		n := 0
		for _, c := range s.children {
			if c.name == "fanout.item" {
				n++
			}
		}
		return n >= 6
	}),
	tracetest.ManyEvents: anySpan(func(s *naive, _ []*naive) bool {
		return slices.ContainsFunc(s.events, func(e any) bool {
			return !slices.Contains([]string{"exception", "tool.approved", "retry.scheduled"}, e.([]any)[1].(string))
		})
	}),
	tracetest.ManyLinks: anySpan(func(s *naive, _ []*naive) bool {
		return len(s.links) > 0 && s.attr("messaging.operation.type") != "receive"
	}),
	tracetest.Late: func(_ usual, g tracetest.Generated) bool {
		return len(readNaively(g.Batches[:1])) < g.Spans
	},
	tracetest.EqualCopies:   func(_ usual, g tracetest.Generated) bool { equal, _ := copies(g); return equal > 0 },
	tracetest.UnequalCopies: func(_ usual, g tracetest.Generated) bool { _, unequal := copies(g); return unequal > 0 },
	tracetest.ClockSkew: anySpan(func(s *naive, _ []*naive) bool {
		return s.parent != nil && s.service() != s.parent.service() && (s.start < s.parent.start || s.start > s.parent.end+400_000_000)
	}),
	tracetest.EndBeforeStart: func(_ usual, g tracetest.Generated) (found bool) {
		for _, td := range g.Batches {
			for _, rs := range td.ResourceSpans().All() {
				for _, ss := range rs.ScopeSpans().All() {
					for _, s := range ss.Spans().All() {
						found = found || s.EndTimestamp() < s.StartTimestamp()
					}
				}
			}
		}
		return found
	},
	tracetest.LeadingZeros: func(_ usual, g tracetest.Generated) bool {
		return g.ID[0] == 0 && anySpan(func(s *naive, _ []*naive) bool { return strings.HasPrefix(s.id, "00") })(usual{}, g)
	},
}

func TestWhatHurtsIsThereAtItsRateAndNowhereElse(t *testing.T) {
	u := learnUsual(t)
	if t.Failed() {
		return
	}
	for _, n := range tracetest.AllNasty() {
		t.Run(n.String(), func(t *testing.T) {
			t.Parallel()
			const traces, rate = 1200, 0.3
			o := tracetest.Options{Seed: uint64(n), Traces: traces, ViolationRate: 0.4, MinSpans: 12, MaxSpans: 60}
			o.Nasty[n] = rate
			listed, found := 0, 0
			for g := range tracetest.New(o).All() {
				is := detectors[n](u, g)
				says := slices.Contains(g.Nasty, n)
				// Detectors miss little skew, and a missing attribute that not all spans of that name have.
				if n == tracetest.ClockSkew || n == tracetest.MissingAttributes {
					assert.False(t, is && !says, "%s: has the difficulty, but does not list it", g.ID)
				} else {
					assert.Equal(t, says, is, "%s of %d spans: did %v", g.ID, g.Spans, g.Behaviours)
				}
				assert.LessOrEqual(t, len(g.Nasty), 1, "%v", g.Nasty)
				if says {
					listed++
				}
				if is {
					found++
				}
			}
			deviation := math.Sqrt(traces * rate * (1 - rate))
			assert.InDelta(t, traces*rate, listed, 5*deviation, "traces that list the difficulty")
			if n == tracetest.ClockSkew {
				assert.Greater(t, found, listed*3/5)
			} else {
				assert.Greater(t, found, listed*9/10)
			}
		})
	}
}

func TestNothingHurtsInCleanTraces(t *testing.T) {
	u := learnUsual(t)
	o := tracetest.Clean(3, 400)
	o.ViolationRate = 0.5
	for g := range tracetest.New(o).All() {
		assert.Empty(t, g.Nasty)
		assert.Len(t, g.Batches, 1)
		for n, detect := range detectors {
			assert.False(t, detect(u, g), "%s: %v", g.ID, n)
		}
	}
}

func TestAllThatHurtsFitsIntoOneTrace(t *testing.T) {
	u := learnUsual(t)
	o := tracetest.Options{Seed: 1, Traces: 150, MinSpans: 40, MaxSpans: 200}
	for _, n := range tracetest.AllNasty() {
		o.Nasty[n] = 1
	}
	for g := range tracetest.New(o).All() {
		assert.Equal(t, tracetest.AllNasty(), g.Nasty, "%s of %d spans", g.ID, g.Spans)
		for _, n := range g.Nasty {
			noFirstRoot := slices.Contains(g.Behaviours, "latency/orphaned") || slices.Contains(g.Behaviours, "latency/own-parent")
			if n != tracetest.ClockSkew && !(n == tracetest.ExtraRoots && noFirstRoot) {
				assert.True(t, detectors[n](u, g), "%s: %v", g.ID, n)
			}
		}
	}
}

func TestEveryTypeOfValueIsUsed(t *testing.T) {
	types := map[string]bool{}
	for g := range tracetest.New(tracetest.Mixed(1, 1000)).All() {
		attributeSets(g.Batches, func(_ string, attrs map[string]any) {
			for _, v := range attrs {
				types[typeName(v)] = true
			}
		})
	}
	assert.Len(t, types, 8, "%v", types)
}

func TestNastyHasNames(t *testing.T) {
	assert.Equal(t, "shared-ids", tracetest.SharedIDs.String())
	assert.Equal(t, "nasty(99)", tracetest.Nasty(99).String())
	names := map[string]bool{}
	for _, n := range tracetest.AllNasty() {
		assert.Contains(t, detectors, n)
		assert.NotEmpty(t, n.String())
		names[n.String()] = true
	}
	assert.Len(t, names, len(tracetest.AllNasty()))
}
