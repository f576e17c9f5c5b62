package tracetest_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace/tracetest"
)

// The predicates in this file implement each rule of the pack a second time, by hand, on the OTLP that is
// sent. They share no code with the generator, the normal form or the engine, so that an error in one of
// these is detected.

// naive is a span as in OTLP, with values of type any.
type naive struct {
	traceID, id, parentID string
	kind                  ptrace.SpanKind
	name, message         string
	status                ptrace.StatusCode
	start, end            uint64
	attrs, resource       map[string]any
	events                []any // of []any{time, name, attributes}
	links                 []any // of []any{trace ID, span ID, attributes}
	parent                *naive
	children              []*naive
}

// readNaively merges the copies of spans and finds their parents.
func readNaively(batches []ptrace.Traces) []*naive {
	byKey := map[string]*naive{}
	for _, td := range batches {
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					n := &naive{
						traceID: s.TraceID().String(), id: s.SpanID().String(), parentID: s.ParentSpanID().String(), kind: s.Kind(),
						name: s.Name(), message: s.Status().Message(), status: s.Status().Code(),
						start: uint64(s.StartTimestamp()), end: uint64(s.EndTimestamp()),
						attrs: present(s.Attributes().AsRaw()), resource: present(rs.Resource().Attributes().AsRaw()),
					}
					n.end = max(n.end, n.start)
					for _, e := range s.Events().All() {
						n.events = append(n.events, []any{int64(e.Timestamp()), e.Name(), present(e.Attributes().AsRaw())})
					}
					for _, l := range s.Links().All() {
						n.links = append(n.links, []any{l.TraceID().String(), l.SpanID().String(), present(l.Attributes().AsRaw())})
					}
					key := fmt.Sprint(n.id, n.kind)
					if old := byKey[key]; old != nil {
						old.unite(n)
						continue
					}
					byKey[key] = n
				}
			}
		}
	}
	spans := slices.SortedFunc(maps.Values(byKey), func(a, b *naive) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.id, b.id), cmp.Compare(a.kind, b.kind))
	})
	for _, s := range spans {
		if s.parent = s.findParent(spans, byKey); s.parent != nil {
			s.parent.children = append(s.parent.children, s)
		}
	}
	return spans
}

func present(m map[string]any) map[string]any {
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

func (n *naive) unite(o *naive) {
	n.parentID, n.name, n.message = max(n.parentID, o.parentID), max(n.name, o.name), max(n.message, o.message)
	n.status, n.start, n.end = max(n.status, o.status), max(n.start, o.start), max(n.end, o.end)
	for k, v := range o.attrs {
		n.attrs[k] = greater(n.attrs[k], v)
	}
	for k, v := range o.resource {
		n.resource[k] = greater(n.resource[k], v)
	}
	n.events, n.links = greater(n.events, o.events).([]any), greater(n.links, o.links).([]any)
}

func greater(a, b any) any {
	if compareAny(a, b) < 0 {
		return b
	}
	return a
}

func compareAny(a, b any) int {
	rank := func(v any) int {
		return slices.IndexFunc([]func() bool{
			func() bool { return v == nil }, func() bool { _, ok := v.(string); return ok }, func() bool { _, ok := v.(bool); return ok },
			func() bool { _, ok := v.(int64); return ok }, func() bool { _, ok := v.(float64); return ok }, func() bool { _, ok := v.([]any); return ok },
			func() bool { _, ok := v.(map[string]any); return ok }, func() bool { _, ok := v.([]byte); return ok },
		}, func(is func() bool) bool { return is() })
	}
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	switch a := a.(type) {
	case string:
		return strings.Compare(a, b.(string))
	case bool:
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) // false < true
	case int64:
		return cmp.Compare(a, b.(int64))
	case float64:
		return cmp.Compare(a, b.(float64))
	case []byte:
		return bytes.Compare(a, b.([]byte))
	case []any:
		return cmp.Or(cmp.Compare(len(a), len(b.([]any))), slices.CompareFunc(a, b.([]any), compareAny))
	case map[string]any:
		b := b.(map[string]any)
		if c := cmp.Compare(len(a), len(b)); c != 0 {
			return c
		}
		ka, kb := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b))
		for i := range ka {
			if c := cmp.Or(strings.Compare(ka[i], kb[i]), compareAny(a[ka[i]], b[kb[i]])); c != 0 {
				return c
			}
		}
	}
	return 0
}

func (n *naive) findParent(spans []*naive, byKey map[string]*naive) *naive {
	if client := byKey[fmt.Sprint(n.id, ptrace.SpanKindClient)]; n.kind == ptrace.SpanKindServer && client != nil {
		return client
	}
	client, server := byKey[fmt.Sprint(n.parentID, ptrace.SpanKindClient)], byKey[fmt.Sprint(n.parentID, ptrace.SpanKindServer)]
	if client != nil && server != nil {
		return server
	}
	for _, s := range spans { // the first match in order
		if s.id == n.parentID {
			return s
		}
	}
	return nil
}

func (n *naive) isBelow(ok func(*naive) bool) bool {
	seen := map[*naive]bool{}
	for p := n.parent; p != nil && !seen[p]; p = p.parent {
		if ok(p) {
			return true
		}
		seen[p] = true
	}
	return false
}

func (n *naive) attr(key string) any {
	if v, ok := n.attrs[key]; ok {
		return v
	}
	return n.resource[key]
}

func (n *naive) service() string {
	s, _ := n.resource["service.name"].(string)
	return s
}

// above reports whether a value is a number above a limit. A double must be able to hold the limit without
// rounding.
func above(v any, limit int64) bool {
	switch v := v.(type) {
	case int64:
		return v > limit
	case float64:
		return v > float64(limit)
	}
	return false
}

// equal reports whether two present values are equal. Numbers are compared by value.
func equal(a, b any) bool {
	if i, ok := a.(float64); ok {
		if j, ok := b.(int64); ok {
			return equal(j, i)
		}
	}
	if i, ok := a.(int64); ok {
		if f, ok := b.(float64); ok {
			return float64(i) == f && int64(f) == i // both directions, because one may round
		}
	}
	return a != nil && b != nil && compareAny(a, b) == 0
}

var cardPattern = regexp.MustCompile(`(^|[^0-9A-Za-z_])[45][0-9]{15}($|[^0-9A-Za-z_])`)

// truth holds a predicate for each rule that reports whether the trace violates it.
var truth = map[string]func([]*naive) bool{
	"charge-needs-fraud-check": func(spans []*naive) bool {
		large, checked := false, false
		for _, s := range spans {
			large = large || s.name == "payment.charge" && above(s.attr("payment.amount"), 1000)
			checked = checked || s.name == "fraud.check"
		}
		return large && !checked
	},
	"no-payment-bypass": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(s *naive) bool {
			reason, ok := s.attrs["payment.bypass.reason"].(string)
			return s.name == "payment.bypass" && ok && reason != "drill"
		})
	},
	"retries-are-bounded": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(s *naive) bool {
			again := 0
			for _, c := range s.children {
				if above(c.attr("http.request.resend_count"), 0) {
					again++
				}
			}
			return again > 3
		})
	},
	"card-data-behind-vault": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(s *naive) bool {
			return s.attr("db.collection.name") == "cards" && !s.isBelow(func(a *naive) bool { return a.name == "vault.authorize" })
		})
	},
	"export-is-audited": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(x *naive) bool {
			return x.name == "admin.export" && !slices.ContainsFunc(spans, func(s *naive) bool {
				return s.name == "audit.append" && s.status != ptrace.StatusCodeError && s.isBelow(func(a *naive) bool { return a == x })
			})
		})
	},
	"refund-after-approval": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(r *naive) bool {
			return r.name == "refund.execute" && !slices.ContainsFunc(spans, func(a *naive) bool {
				return a.name == "refund.approve" && a.attr("refund.approved") == true && a.end <= r.start
			})
		})
	},
	"errors-carry-an-exception": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(s *naive) bool {
			return s.status == ptrace.StatusCodeError && !slices.ContainsFunc(s.events, func(e any) bool {
				return e.([]any)[1] == "exception" && e.([]any)[2].(map[string]any)["exception.type"] != nil
			})
		})
	},
	"no-card-number-in-telemetry": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(s *naive) bool {
			for _, v := range s.attrs {
				if text, ok := v.(string); ok && cardPattern.MatchString(text) {
					return true
				}
			}
			return false
		})
	},
	"database-connections-are-encrypted": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(s *naive) bool {
			address, isText := s.attr("server.address").(string)
			return s.kind == ptrace.SpanKindClient && s.attrs["db.system.name"] != nil && isText && address != "localhost" && s.attr("tls.established") != true
		})
	},
	"tool-call-needs-approval": func(spans []*naive) bool {
		approves := func(s *naive, tool any) bool {
			return s != nil && slices.ContainsFunc(s.events, func(e any) bool {
				return e.([]any)[1] == "tool.approved" && (tool == nil || equal(e.([]any)[2].(map[string]any)["gen_ai.tool.name"], tool))
			})
		}
		return slices.ContainsFunc(spans, func(s *naive) bool {
			tool := s.attr("gen_ai.tool.name")
			return s.attr("gen_ai.operation.name") == "execute_tool" && (equal(tool, "send_payment") || equal(tool, "delete_records")) && !approves(s, nil) && !approves(s.parent, tool)
		})
	},
	"message-processed-once": func(spans []*naive) bool {
		for _, a := range spans {
			for _, b := range spans {
				processes := func(s *naive) bool {
					return s.kind == ptrace.SpanKindConsumer && s.attr("messaging.operation.type") == "process"
				}
				if processes(a) && processes(b) && a.id != b.id && equal(a.attr("messaging.message.id"), b.attr("messaging.message.id")) &&
					equal(a.attr("messaging.consumer.group.name"), b.attr("messaging.consumer.group.name")) {
					return true
				}
			}
		}
		return false
	},
	"web-answers-in-three-seconds": func(spans []*naive) bool {
		for _, s := range spans { // in order
			if s.parent == nil && s.parentID == "" {
				return s.service() == "web" && s.kind == ptrace.SpanKindServer && s.end-s.start > 3_000_000_000
			}
		}
		return false
	},
	"environments-do-not-mix": func(spans []*naive) bool {
		has := func(environment string) bool {
			return slices.ContainsFunc(spans, func(s *naive) bool { return s.resource["deployment.environment.name"] == environment })
		}
		return has("staging") && has("production")
	},
	"batch-links-its-messages": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(s *naive) bool {
			return s.attr("messaging.operation.type") == "receive" && (!equal(s.attr("messaging.batch.message_count"), int64(len(s.links))) ||
				slices.ContainsFunc(s.links, func(l any) bool { return l.([]any)[0] == s.traceID }))
		})
	},
	"admin-requests-name-a-user": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(s *naive) bool {
			path, _ := s.attr("url.path").(string)
			return s.kind == ptrace.SpanKindServer && strings.HasPrefix(path, "/admin/") && s.attrs["user.id"] == nil && s.attrs["enduser.id"] == nil
		})
	},
	"admin-role-only-on-console": func(spans []*naive) bool {
		return slices.ContainsFunc(spans, func(s *naive) bool {
			roles, _ := s.attr("user.roles").([]any)
			return s.kind == ptrace.SpanKindServer && s.service() != "console" && slices.Contains(roles, any("admin"))
		})
	},
}

// violated returns the sorted rules that a trace violates according to the predicates.
func violated(batches []ptrace.Traces) []string {
	spans := readNaively(batches)
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(truth)) {
		if truth[id](spans) {
			ids = append(ids, id)
		}
	}
	return ids
}

func checkTruth(t *testing.T, o tracetest.Options, g tracetest.Generated) bool {
	t.Helper()
	return assert.Equal(t, fmt.Sprint(violated(g.Batches)), fmt.Sprint(g.Violations),
		"seed %d: trace %s, %s of %d spans: behaviours %v, difficulties %v", o.Seed, g.ID, g.Kind, g.Spans, g.Behaviours, g.Nasty)
}

func TestTheViolationsAreThoseOfTheTraces(t *testing.T) {
	everything := tracetest.Options{ViolationRate: 0.5, MinSpans: 1, MaxSpans: 60}
	for _, n := range tracetest.AllNasty() {
		everything.Nasty[n] = 0.5
	}
	tests := map[string]tracetest.Options{
		"clean":               {ViolationRate: 0.5},
		"mixed":               tracetest.Mixed(0, 0),
		"half of all at once": everything,
		"for Tempo":           tracetest.Mixed(0, 0).ForTempo(),
		"tiny":                {ViolationRate: 0.5, MinSpans: 1, MaxSpans: 4, Nasty: everything.Nasty},
	}
	for _, n := range tracetest.AllNasty() {
		o := tracetest.Options{ViolationRate: 0.5, MaxSpans: 40}
		o.Nasty[n] = 1
		tests["only "+n.String()] = o
	}
	for name, o := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Traces = 250
			for o.Seed = range 4 {
				for g := range tracetest.New(o).All() {
					if !checkTruth(t, o, g) {
						return
					}
				}
			}
		})
	}
}

// FuzzTheViolations searches for a seed with wrong violations.
func FuzzTheViolations(f *testing.F) {
	f.Add(uint64(1), uint64(0), uint16(30), 0.5)
	f.Add(uint64(2), ^uint64(0), uint16(300), 0.9)
	f.Add(uint64(3), uint64(1)<<tracetest.UnequalCopies|uint64(1)<<tracetest.MixedTypes, uint16(1), 1.0)
	f.Fuzz(func(t *testing.T, seed, nasty uint64, size uint16, rate float64) {
		o := tracetest.Options{Seed: seed, Traces: 3, MaxSpans: 1 + int(size)%500, ViolationRate: rate}
		for _, n := range tracetest.AllNasty() {
			if nasty&(1<<n) != 0 {
				o.Nasty[n] = 0.7
			}
		}
		if o.Validate() != nil {
			t.Skip()
		}
		for g := range tracetest.New(o).All() {
			checkTruth(t, o, g)
			assert.Len(t, g.Trace().Spans, g.Spans)
		}
	})
}

func TestEachBehaviourIsPlayedWithTheVerdictItPromises(t *testing.T) {
	o := tracetest.Options{Seed: 5, Traces: 20_000, ViolationRate: 0.5, MinSpans: 20, MaxSpans: 60}
	for _, n := range tracetest.AllNasty() {
		o.Nasty[n] = 0.3
	}
	behaviours := map[string]tracetest.Behaviour{}
	played := map[string]int{}
	for _, b := range tracetest.Behaviours() {
		assert.NotContains(t, behaviours, b.Name)
		assert.NotEmpty(t, b.Doc, b.Name)
		assert.Contains(t, truth, b.Rule, b.Name)
		behaviours[b.Name] = b
	}
	for g := range tracetest.New(o).All() {
		violations := map[string]bool{}
		for _, name := range g.Behaviours {
			b, ok := behaviours[name]
			assert.True(t, ok, name)
			played[name]++
			violations[b.Rule] = violations[b.Rule] || b.Violates
			if b.Needs != 0 {
				assert.Contains(t, g.Nasty, b.Needs, name)
			}
			assert.Equal(t, b.Violates, slices.Contains(g.Violations, b.Rule), name)
		}
		for _, rule := range g.Violations {
			assert.True(t, violations[rule], "%s: no behaviour explains %s", g.ID, rule)
		}
	}
	for name := range behaviours {
		assert.Greater(t, played[name], 5, "%s is hardly ever played", name)
	}
}
