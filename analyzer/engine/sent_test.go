package engine_test

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// shop sends random traces of a shop, one by one: any span may have any attribute, so that
// every rule that is about a few of them applies, holds and is broken now and then.
type shop struct{ *rand.Rand }

// attributeValues are the attributes of a shop's spans: the last values of each are rare.
var attributeValues = []struct {
	key    string
	values []any
}{
	{"http.request.method", []any{"GET", "POST", "DELETE", "get"}},
	{"http.response.status_code", []any{200, 201, 404, 500, 503, 500.0, "500"}},
	{"http.route", []any{"/v1/stock", "/v2/stock", "/checkout", "/healthz"}},
	{"url.path", []any{"/api/orders", "/admin/users", "/healthz", "", 7}},
	{"url.full", []any{"https://stock.shop.internal/a", "http://plain.example.com/", "https://x.example.com/?mail=ann@example.com"}},
	{"server.address", []any{"localhost", "db.shop.internal", "api.example.com"}},
	{"db.system.name", []any{"postgresql", "redis"}},
	{"db.namespace", []any{"payments", "orders"}},
	{"db.query.text", []any{"SELECT * FROM users", "DELETE FROM users", "SELECT name FROM users WHERE id = $1"}},
	{"db.response.returned_rows", []any{0, 10, 501, 90_000, 500.5}},
	{"tls.protocol.version", []any{"1.2", "1.3", "1.0", 1.3}},
	{"tls.established", []any{true, false, "true"}},
	{"user.id", []any{"ann", "bob", "", 7}},
	{"session.id", []any{"s1", "s2"}},
	{"app.payment.amount", []any{20, 1000, 1000.5, 2500, "2500", math.NaN(), math.Inf(1), 1<<53 + 1}},
	{"app.data.classification", []any{"public", "personal", "phi", "cardholder"}},
	{"app.approved", []any{true, false, 1}},
	{"app.tries", []any{1, 2, 3, "2", "many"}},
	{"app.budget", []any{"10ms", "1s", "soon"}},
	{"messaging.operation.type", []any{"process", "send", "receive"}},
	{"messaging.message.id", []any{"m1", "m2", 7, 7.0}},
	{"messaging.batch.message_count", []any{0, 1, 2}},
	{"gen_ai.operation.name", []any{"chat", "execute_tool", "invoke_agent"}},
	{"gen_ai.tool.name", []any{"send_payment", "search"}},
	{"gen_ai.usage.input_tokens", []any{100, 150_000, 200_000}},
	{"gen_ai.usage.output_tokens", []any{10, 60_000}},
	{"user.roles", []any{[]any{"customer"}, []any{"customer", "admin"}, []any{}, "admin", []any{7, "admin"}}},
	{"app.switches", []any{map[string]any{"new": true}, map[string]any{"old": 1, "new": false}, map[string]any{}}},
	{"app.note", []any{"fine", "card 4111111111111111", "", "Fine"}},
	{"app.digest", []any{[]byte("ab"), []byte{0xff}}},
}

var (
	spanNames    = []string{"payment.charge", "fraud.check", "refund.execute", "refund.approve", "audit.append", "admin.export", "vault.authorize", "SELECT", "GET", "POST /checkout", "process", "cache.get"}
	services     = []string{"payment", "fraud", "checkout", "gateway", "orders", "vault", "web"}
	shopKinds    = []string{"unspecified", "internal", "server", "client", "producer", "consumer"}
	shopStatuses = []string{"unset", "ok", "error"}
	environments = []any{"production", "staging", nil}
	regions      = []any{"eu-west-1", "us-east-1", nil}
)

func seldom[T any](r *rand.Rand, of []T) T {
	i := r.IntN(len(of))
	return of[min(i, r.IntN(len(of)+1))]
}

// send makes one trace, in one message.
func (g shop) send(n uint64) ptrace.Traces {
	td := ptrace.NewTraces()
	var id pcommon.TraceID
	binary.BigEndian.PutUint64(id[:], g.Uint64()|1)
	binary.BigEndian.PutUint64(id[8:], n)
	size := 1 + g.IntN(1+g.IntN(14))
	numResources := 1 + g.IntN(4)
	var scopes []ptrace.ScopeSpans
	for range numResources {
		rs := td.ResourceSpans().AppendEmpty()
		res := rs.Resource().Attributes()
		set := func(key string, v any) {
			if v != nil {
				put(res.PutEmpty(key), v)
			}
		}
		switch g.IntN(30) {
		case 0:
		case 1:
			set("service.name", 7)
		default:
			set("service.name", services[g.IntN(len(services))])
		}
		set("deployment.environment.name", environments[g.IntN(3)])
		set("cloud.region", regions[g.IntN(3)])
		if g.IntN(6) == 0 {
			set("app.payment.amount", 5000)
		}
		if g.IntN(6) == 0 {
			set("user.id", "service-account")
		}
		ss := rs.ScopeSpans().AppendEmpty()
		if g.IntN(3) > 0 {
			ss.Scope().SetName([]string{"shop/db", "shop/http"}[g.IntN(2)])
			ss.Scope().SetVersion([]string{"1.0.0", "0.9.0"}[g.IntN(2)])
		}
		scopes = append(scopes, ss)
	}
	spanID := func(i int) (id pcommon.SpanID) {
		binary.BigEndian.PutUint64(id[:], uint64(i+1))
		return id
	}
	nasty := g.IntN(3) == 0
	const ms = 1_000_000
	starts, ids, parents := make([]uint64, size), make([]pcommon.SpanID, size), make([]int, size)
	used := map[pcommon.SpanID][6]bool{} // kinds
	for i := range size {
		scope := scopes[g.IntN(len(scopes))].Spans()
		s := scope.AppendEmpty()
		s.SetTraceID(id)
		ids[i], parents[i] = spanID(i), -1
		starts[i] = 1_767_323_045_000_000_000 + uint64(g.IntN(4))*ms
		kind := ptrace.SpanKind(g.IntN(6))
		if i > 0 && g.IntN(10) > 0 {
			parents[i] = g.IntN(i)
			if g.IntN(2) == 0 {
				parents[i] = i - 1
			}
			starts[i] = starts[parents[i]] + uint64(g.IntN(4))*ms
			s.SetParentSpanID(ids[parents[i]])
		}
		if nasty {
			switch g.IntN(12) {
			case 0: // a cycle, if that span comes to be below
				s.SetParentSpanID(spanID(g.IntN(size)))
			case 1: // an orphan
				s.SetParentSpanID(pcommon.SpanID{0xee})
			case 2: // the other half of its client
				if p := parents[i]; p >= 0 && !used[ids[p]][ptrace.SpanKindServer] {
					ids[i], kind = ids[p], ptrace.SpanKindServer
				}
			case 4: // or of any other
				if p := parents[i]; p >= 0 && !used[ids[p]][kind] {
					ids[i] = ids[p]
				}
			case 5: // before its parent
				starts[i] -= 5 * ms
			}
		}
		kinds := used[ids[i]]
		kinds[kind] = true
		used[ids[i]] = kinds
		s.SetSpanID(ids[i])
		s.SetKind(kind)
		s.SetStartTimestamp(pcommon.Timestamp(starts[i]))
		s.SetEndTimestamp(pcommon.Timestamp(starts[i] + []uint64{0, ms, ms, 2 * ms, 3 * ms, 5000 * ms}[g.IntN(6)]))
		if nasty && g.IntN(12) == 0 {
			s.SetEndTimestamp(pcommon.Timestamp(starts[i] - 1))
		}
		s.SetName(spanNames[g.IntN(len(spanNames))])
		s.Status().SetCode(ptrace.StatusCode([]int{0, 0, 1, 2}[g.IntN(4)]))
		if s.Status().Code() == ptrace.StatusCodeError && g.IntN(2) == 0 {
			s.Status().SetMessage([]string{"timeout", "declined: no funds"}[g.IntN(2)])
		}
		for _, a := range attributeValues {
			if g.IntN(3) == 0 {
				put(s.Attributes().PutEmpty(a.key), seldom(g.Rand, a.values))
			}
		}
		if g.IntN(20) == 0 {
			s.Attributes().PutEmpty("app.absent") // of no type
		}
		for range []int{0, 0, 0, 1, 1, 2}[g.IntN(6)] {
			e := s.Events().AppendEmpty()
			e.SetName([]string{"exception", "tool.approved", "retry"}[g.IntN(3)])
			e.SetTimestamp(pcommon.Timestamp(starts[i] + uint64(g.IntN(4))*ms))
			if g.IntN(2) == 0 {
				e.Attributes().PutStr("exception.type", []string{"Timeout", "Declined"}[g.IntN(2)])
			}
			if g.IntN(2) == 0 {
				e.Attributes().PutStr("gen_ai.tool.name", []string{"send_payment", "search"}[g.IntN(2)])
			}
			if g.IntN(2) == 0 {
				e.Attributes().PutInt("delay_ms", int64(g.IntN(200)))
			}
		}
		for range []int{0, 0, 0, 1, 2}[g.IntN(5)] {
			l := s.Links().AppendEmpty()
			if l.SetTraceID(id); g.IntN(2) == 0 {
				l.SetTraceID(pcommon.TraceID{9})
			}
			l.SetSpanID(spanID(g.IntN(size)))
			if g.IntN(2) == 0 {
				l.Attributes().PutStr("link.reason", "follows")
			}
		}
		if nasty && g.IntN(20) == 0 { // sent twice
			s.CopyTo(scope.AppendEmpty())
		}
	}
	return td
}

func put(to pcommon.Value, v any) {
	switch v := v.(type) {
	case string:
		to.SetStr(v)
	case bool:
		to.SetBool(v)
	case int:
		to.SetInt(int64(v))
	case float64:
		to.SetDouble(v)
	case []byte:
		to.SetEmptyBytes().FromRaw(v)
	case []any:
		list := to.SetEmptySlice()
		for _, e := range v {
			put(list.AppendEmpty(), e)
		}
	case map[string]any:
		m := to.SetEmptyMap()
		for k, e := range v {
			put(m.PutEmpty(k), e)
		}
	}
}

// sent is a trace as a plain reader of OTLP sees it: nothing here is the normal form's or
// the rules', so that an error of theirs shows.
type sent struct {
	id       string
	spans    []*sentSpan // by start, ID and kind
	root     *sentSpan
	services []string
}

type sentSpan struct {
	t                    *sent
	id, parentID         string
	number               ptrace.SpanKind
	kind, status         string
	name, message        string
	service              string
	scope, version       string
	start, end           int64
	attrs, resource      map[string]any
	events               []sentEvent
	links                []sentLink
	parent               *sentSpan
	children, chain, all []*sentSpan // chain and all: ancestors and descendants
}

type sentEvent struct {
	name  string
	time  int64
	attrs map[string]any
}

type sentLink struct {
	traceID, spanID string
	attrs           map[string]any
}

const noSpan = "0000000000000000"

// receive reads a trace. Copies of a span must be equal.
func receive(td ptrace.Traces) *sent {
	t := &sent{}
	type key struct {
		id   string
		kind ptrace.SpanKind
	}
	byKey := map[key]*sentSpan{}
	for _, rs := range td.ResourceSpans().All() {
		resource := withoutNil(rs.Resource().Attributes().AsRaw())
		service, _ := resource["service.name"].(string)
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				id, parent := s.SpanID(), s.ParentSpanID()
				n := &sentSpan{
					t: t, id: hex(id[:]), parentID: hex(parent[:]), number: s.Kind(), kind: shopKinds[s.Kind()], status: shopStatuses[s.Status().Code()],
					name: s.Name(), message: s.Status().Message(), service: service, scope: ss.Scope().Name(), version: ss.Scope().Version(),
					start: int64(s.StartTimestamp()), end: max(int64(s.StartTimestamp()), int64(s.EndTimestamp())),
					attrs: withoutNil(s.Attributes().AsRaw()), resource: resource,
				}
				for _, e := range s.Events().All() {
					n.events = append(n.events, sentEvent{e.Name(), int64(e.Timestamp()), withoutNil(e.Attributes().AsRaw())})
				}
				for _, l := range s.Links().All() {
					tid, sid := l.TraceID(), l.SpanID()
					n.links = append(n.links, sentLink{hex(tid[:]), hex(sid[:]), withoutNil(l.Attributes().AsRaw())})
				}
				k := key{n.id, n.number}
				if byKey[k] == nil {
					byKey[k] = n
					t.spans = append(t.spans, n)
				}
				tid := s.TraceID()
				t.id = hex(tid[:])
			}
		}
	}
	slices.SortFunc(t.spans, func(a, b *sentSpan) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.id, b.id), cmp.Compare(a.number, b.number))
	})
	for _, s := range t.spans {
		t.services = append(t.services, s.service)
		client := byKey[key{s.id, ptrace.SpanKindClient}]
		switch {
		case s.kind == "server" && client != nil:
			s.parent = client
		case s.parentID == noSpan:
			if t.root == nil {
				t.root = s
			}
		default:
			client, server := byKey[key{s.parentID, ptrace.SpanKindClient}], byKey[key{s.parentID, ptrace.SpanKindServer}]
			if client != nil && server != nil {
				s.parent = server
				break
			}
			for _, p := range t.spans {
				if p.id == s.parentID {
					s.parent = p
					break
				}
			}
		}
		if s.parent != nil {
			s.parent.children = append(s.parent.children, s)
		}
	}
	slices.Sort(t.services)
	t.services = slices.Compact(t.services)
	for _, s := range t.spans {
		for p := s.parent; p != nil && !slices.Contains(s.chain, p); p = p.parent {
			s.chain = append(s.chain, p)
			p.all = append(p.all, s)
		}
	}
	return t
}

func hex(b []byte) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for _, c := range b {
		out.WriteByte(digits[c>>4])
		out.WriteByte(digits[c&15])
	}
	return out.String()
}

func withoutNil(m map[string]any) map[string]any {
	for k, v := range m {
		if v == nil {
			delete(m, k)
		}
	}
	return m
}

// These functions make predicates. A nil span has no fields, so conditions on it are false.

func some[E any](list []E, ok func(E) bool) bool { return slices.ContainsFunc(list, ok) }

func every[E any](list []E, ok func(E) bool) bool {
	return !slices.ContainsFunc(list, func(e E) bool { return !ok(e) })
}

func number[E any](list []E, ok func(E) bool) (n int) {
	for _, e := range list {
		if ok(e) {
			n++
		}
	}
	return n
}

func those[E any](list []E, ok func(E) bool) (found []E) {
	for _, e := range list {
		if ok(e) {
			found = append(found, e)
		}
	}
	return found
}

func (t *sent) any(ok func(*sentSpan) bool) bool  { return some(t.spans, ok) }
func (t *sent) all(ok func(*sentSpan) bool) bool  { return every(t.spans, ok) }
func (t *sent) count(ok func(*sentSpan) bool) int { return number(t.spans, ok) }

// attr is the span's attribute, else the resource's; nil if there is none.
func (s *sentSpan) attr(key string) any {
	if s == nil {
		return nil
	}
	if v, ok := s.attrs[key]; ok {
		return v
	}
	return s.resource[key]
}

func (s *sentSpan) has(key string) bool {
	if s == nil {
		return false
	}
	_, ok := s.attrs[key]
	return ok
}

// is says whether an attribute is that text.
func (s *sentSpan) is(key, text string) bool {
	v, ok := s.attr(key).(string)
	return ok && v == text
}

func (s *sentSpan) length() time.Duration { return time.Duration(s.end - s.start) }

// num returns a value as a number, or NaN, which compares with nothing. Rounded numbers are far from all limits.
func num(v any) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return math.NaN()
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func isText(v any) bool {
	_, ok := v.(string)
	return ok
}

// same says whether two values are equal, numbers by value; lists and maps are not asked for.
func same(a, b any) bool {
	if x, y := exactly(a), exactly(b); x != nil && y != nil {
		return x.Cmp(y) == 0
	}
	switch a := a.(type) {
	case string:
		b, ok := b.(string)
		return ok && a == b
	case bool:
		b, ok := b.(bool)
		return ok && a == b
	}
	return false
}

// exactly is a number without rounding, nil if it is none.
func exactly(v any) *big.Float {
	switch v := v.(type) {
	case int64:
		return new(big.Float).SetInt64(v)
	case float64:
		if !math.IsNaN(v) {
			return new(big.Float).SetFloat64(v)
		}
	}
	return nil
}
