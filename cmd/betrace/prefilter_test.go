package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/rules/packs"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
	"github.com/betracehq/betrace/traceql"
	"github.com/betracehq/betrace/traceql/traceqltest"
)

// A batch for the needs of a rule contains the data that its prefilter reads.
func TestAPrefilterReadsNothingThatItsRuleDoesNotNeed(t *testing.T) {
	o := tracetest.Mixed(31, 100)
	generated, _ := generate(o)
	var traces []*trace.Trace
	for _, g := range generated {
		traces = append(traces, g.Trace())
	}
	list := parsePack(t, "tracetest.yaml", []byte(tracetest.Pack))
	files, err := fs.Glob(packs.FS, "*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		data, err := packs.FS.ReadFile(file)
		require.NoError(t, err)
		list = append(list, parsePack(t, file, data)...)
	}
	list = append(list, randomRules(t, rand.New(rand.NewPCG(5, 7)), traces, 400)...)
	for _, r := range list {
		needs, filter := r.Needs(), r.Prefilter()
		reads := filter.Needs()
		for _, scope := range []columnar.Scope{columnar.ScopeSpan, columnar.ScopeResource, columnar.ScopeEvent, columnar.ScopeLink} {
			if _, whole := needs.Reads(scope); !whole {
				require.Subset(t, needs.Keys(scope), reads.Keys(scope), "%s: %s", r.ID, filter)
			}
		}
		require.True(t, needs.Events || !reads.Events, "%s: %s", r.ID, filter)
		require.True(t, needs.Links || !reads.Links, "%s: %s", r.ID, filter)
		require.True(t, needs.StatusMessage || !reads.StatusMessage, "%s: %s", r.ID, filter)
		require.True(t, needs.Instrumentation || !reads.Instrumentation, "%s: %s", r.ID, filter)
	}
}

// A trace that a rule's prefilter does not find is never judged. So each prefilter must
// find, in a real Tempo, every trace that its rule applies to, also where attributes are
// lists: in Tempos without dedicated columns, and in one that has them.
func TestAPrefilterFindsEveryTraceThatItsRuleAppliesTo(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers: run without -short")
	}
	o := tracetest.Mixed(31, 400).ForTempo()
	o.Start, o.Window = time.Now().Add(-50*time.Second), 10*time.Second
	generated, _ := generate(o)
	var batches []ptrace.Traces
	for _, g := range generated {
		batches = append(batches, g.Batches...)
	}
	tracetest.AddLists(31, 0.125, batches...)
	traces, err := otlp.ToTraces(tracetest.Merge(batches...))
	require.NoError(t, err)
	list := parsePack(t, "tracetest.yaml", []byte(tracetest.Pack))
	files, err := fs.Glob(packs.FS, "*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		data, err := packs.FS.ReadFile(file)
		require.NoError(t, err)
		list = append(list, parsePack(t, file, data)...)
	}
	shipped := len(list)
	list = append(list, randomRules(t, rand.New(rand.NewPCG(5, 7)), traces, 400)...)
	require.Greater(t, len(list), shipped+200)
	// The traces of rules' own tests, since not all packs' rules apply to generated
	// ones, and the same with half of their attributes lists.
	tests := testTraces(list, o.Start)
	listed := slices.Clone(tests)
	for i, tr := range listed {
		id := tr.ID
		id[0] = 0xdd
		listed[i] = trace.New(id, tr.Spans)
	}
	listedOTLP := toOTLP(listed...)
	tracetest.AddLists(32, 0.5, listedOTLP)
	listed, err = otlp.ToTraces(listedOTLP)
	require.NoError(t, err)
	tests = append(tests, listed...)
	traces = append(traces, tests...)
	applied := applications(t, list, traces)

	dedicated := []string{"app.data.classification", "gen_ai.operation.name", "user.id", "http.request.method", "app.audit.action", "db.system.name", "user.roles", "app.approval.by"}
	for _, tempo := range []struct {
		name    string
		options stack.Options
		columns []string
	}{
		{"fast", stack.Options{Tempo: true, Loki: true, Profile: stack.Fast, Multitenant: true, NoBlocks: true}, nil},
		{"default", stack.Options{Tempo: true, Loki: true, Profile: stack.Default, Multitenant: true}, nil},
		{"dedicated", stack.Options{Tempo: true, Profile: stack.Fast, Multitenant: true, NoBlocks: true, Dedicated: "span." + strings.Join(dedicated, ",span.")}, dedicated},
	} {
		t.Run(tempo.name, func(t *testing.T) {
			w := newWorldOf(t, tempo.options)
			w.send(t, generated)
			for chunk := range slices.Chunk(tests, 100) {
				require.NoError(t, w.writer.Export(t.Context(), toOTLP(chunk...)))
			}
			w.waitUntilSearched(t, len(traces))

			answers := answers{w: w}
			var mu sync.Mutex
			var applying, rulesApplied, narrow, byLists, hiddenLists int
			var group errgroup.Group
			group.SetLimit(4)
			for i, r := range list {
				group.Go(func() error {
					filter := r.Prefilter()
					query := filter.Prefilter().String()
					found, err := answers.get(t.Context(), query)
					if err != nil {
						return err
					}
					hidden := traceqltest.HiddenLists(filter.Prefilter(), tempo.columns)
					lists, excused := 0, 0
					for _, a := range applied[i] {
						if found[a.trace.ID] {
							if a.byLists {
								lists++
							}
						} else if without, some := traceqltest.Without(a.trace, hidden); some && !filter.Matches(without) {
							excused++
						} else {
							t.Errorf("rule %s of %s is %s on trace %s, which Tempo does not find with %s (%d found)\nwhen: %s", r.ID, r.Pack.Name, a.outcome, a.trace.ID, query, len(found), r.When)
						}
					}
					mu.Lock()
					defer mu.Unlock()
					applying += len(applied[i])
					if len(applied[i]) > 0 {
						rulesApplied++
					}
					byLists += lists
					hiddenLists += excused
					if query != traceql.All.String() {
						narrow++
					}
					return nil
				})
			}
			require.NoError(t, group.Wait())
			t.Logf("%d rules (%d of packs), %d of which apply to a trace; %d prefilters narrower than everything, %d queries; %d times a rule applied to one of %d traces: %d of these were found and match by lists only, %d were not found and match by hidden lists only", len(list), shipped, rulesApplied, narrow, len(answers.byQuery), applying, len(traces), byLists, hiddenLists)
			require.Positive(t, byLists)
			require.Greater(t, rulesApplied, len(list)/2)
			require.Greater(t, narrow, len(list)/2)
			for i, r := range list[:shipped] {
				require.NotEmpty(t, applied[i], "rule %s of %s was not put to the test", r.ID, r.Pack.Name)
			}
		})
	}
}

// application is a trace that a rule applies to.
type application struct {
	trace   *trace.Trace
	outcome rules.Outcome
	// byLists: without its lists the trace does not match the rule's prefilter.
	byLists bool
}

// applications returns the traces that each rule applies to. It fails the test if the
// rule's prefilter does not match one of them.
func applications(t *testing.T, list []*rules.Rule, traces []*trace.Trace) [][]application {
	t.Helper()
	sizes := make([]lang.Sizes, len(traces))
	scalars := make([]*trace.Trace, len(traces)) // nil where the trace has no list
	for i, tr := range traces {
		sizes[i] = lang.SizesOf(tr)
		if without, some := traceqltest.Without(tr, isList); some {
			scalars[i] = without
		}
	}
	applied := make([][]application, len(list))
	var group errgroup.Group
	group.SetLimit(4)
	for i, r := range list {
		group.Go(func() error {
			filter := r.Prefilter()
			for k, tr := range traces {
				outcome := r.JudgeSized(t.Context(), tr, sizes[k]).Outcome
				if outcome == rules.NotApplicable {
					continue
				}
				if !filter.Matches(tr) {
					t.Errorf("rule %s of %s is %s on trace %s, which its prefilter does not match: %s\nwhen: %s", r.ID, r.Pack.Name, outcome, tr.ID, filter, r.When)
				}
				applied[i] = append(applied[i], application{tr, outcome, scalars[k] != nil && !filter.Matches(scalars[k])})
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	return applied
}

func isList(a trace.Attribute) bool { return a.Value.Type() == trace.TypeArray }

func parsePack(t *testing.T, file string, data []byte) []*rules.Rule {
	t.Helper()
	pack, err := rules.Parse(file, data, rules.Options{})
	require.NoError(t, err)
	return pack.Rules
}

// answers are Tempo's results, by query.
type answers struct {
	w       *world
	mu      sync.Mutex
	byQuery map[string]func() (map[trace.ID]bool, error)
}

func (a *answers) get(ctx context.Context, query string) (map[trace.ID]bool, error) {
	a.mu.Lock()
	if a.byQuery == nil {
		a.byQuery = map[string]func() (map[trace.ID]bool, error){}
	}
	once := a.byQuery[query]
	if once == nil {
		once = sync.OnceValues(func() (map[trace.ID]bool, error) { return a.w.search(ctx, query) })
		a.byQuery[query] = once
	}
	a.mu.Unlock()
	return once()
}

// search returns the IDs of all traces of the last and the next hour that Tempo finds.
func (w *world) search(ctx context.Context, query string) (map[trace.ID]bool, error) {
	client, err := w.access.HTTPClient()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.TempoURL+"/api/search?"+url.Values{
		"q": {query}, "limit": {"10000"}, "spss": {"1"},
		"start": {fmt.Sprint(time.Now().Add(-time.Hour).Unix())}, "end": {fmt.Sprint(time.Now().Add(time.Hour).Unix())},
	}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %s", query, resp.Status, body)
	}
	var answer struct {
		Traces  []struct{ TraceID string }
		Metrics struct{ CompletedJobs, TotalJobs int }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	if m := answer.Metrics; m.CompletedJobs != m.TotalJobs {
		return nil, fmt.Errorf("%s: %d of %d jobs completed", query, m.CompletedJobs, m.TotalJobs)
	}
	ids := map[trace.ID]bool{}
	for _, tr := range answer.Traces {
		id, err := trace.ParseID(tr.TraceID)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		ids[id] = true
	}
	return ids, nil
}

// waitUntilSearched returns when search sees n traces and all that was written so
// far. Tempo cuts traces in passes, one after another, by when they were written: once
// a trace is found that was written after the pass that cut the first one had begun,
// that pass, which cut all that was written before, has ended.
func (w *world) waitUntilSearched(t *testing.T, n int) {
	t.Helper()
	for i := range 2 {
		last := trace.New(trace.ID{0: 0xfe, 15: byte(1 + i)}, []trace.Span{{ID: trace.SpanID{7: 1}, Name: "last", Start: trace.TimeOf(time.Now()), End: trace.TimeOf(time.Now())}})
		require.NoError(t, w.writer.Export(t.Context(), toOTLP(last)))
		require.Eventually(t, func() bool {
			ids, err := w.search(t.Context(), `{ name = "last" }`)
			require.NoError(t, err)
			return len(ids) == i+1
		}, patience, 200*time.Millisecond, "search does not find the last trace")
	}
	ids, err := w.search(t.Context(), `{ }`)
	require.NoError(t, err)
	require.Len(t, ids, n+2)
}

// testTraces returns the traces of the rules' tests with IDs of their own, as if
// they started at a time.
func testTraces(list []*rules.Rule, start time.Time) []*trace.Trace {
	var traces []*trace.Trace
	for _, r := range list {
		for _, test := range r.Tests {
			later := trace.TimeOf(start) - test.Trace.Start()
			spans := slices.Clone(test.Trace.Spans)
			for i := range spans {
				s := &spans[i]
				s.Start, s.End = s.Start+later, s.End+later
				s.Events = slices.Clone(s.Events)
				for j := range s.Events {
					s.Events[j].Time += later
				}
			}
			var id trace.ID
			binary.BigEndian.PutUint64(id[8:], uint64(len(traces)+1)*0x9E3779B97F4A7C15)
			traces = append(traces, trace.New(id, spans))
		}
	}
	return traces
}

func toOTLP(traces ...*trace.Trace) ptrace.Traces {
	all := make([]ptrace.Traces, len(traces))
	for i, tr := range traces {
		all[i] = otlp.FromTrace(tr)
	}
	return tracetest.Merge(all...)
}

// randomRules returns rules about the content of the traces. Refused rules, such as a comparison of a name with
// a number, are omitted.
func randomRules(t *testing.T, rng *rand.Rand, traces []*trace.Trace, n int) []*rules.Rule {
	t.Helper()
	g := ruleGenerator{rng: rng, traces: traces}
	type rule struct {
		ID       string `json:"id"`
		Title    string `json:"title"`
		Severity string `json:"severity"`
		When     string `json:"when,omitempty"`
		TraceQL  string `json:"traceql,omitempty"`
	}
	list := make([]rule, n)
	for i := range list {
		list[i] = rule{ID: fmt.Sprintf("random-%d", i), Title: "A random rule", Severity: "low", When: g.when(2)}
		if rng.IntN(5) == 0 {
			list[i].TraceQL = g.traceQL()
			if rng.IntN(3) == 0 {
				list[i].When = ""
			}
		}
	}
	data, err := json.Marshal(map[string]any{
		"apiVersion": "betrace.dev/v1", "kind": "RulePack", "metadata": map[string]string{"name": "random", "version": "1.0.0"}, "rules": list,
	})
	require.NoError(t, err)
	pack, err := rules.Parse("random.yaml", data, rules.Options{}) // JSON is YAML
	require.NotNil(t, pack, "%v", err)
	if refused := n - len(pack.Rules); refused > 0 {
		t.Logf("%d of %d random rules were refused: %.300s", refused, n, err)
	}
	return pack.Rules
}

type ruleGenerator struct {
	rng    *rand.Rand
	traces []*trace.Trace
	vars   int
}

func (g *ruleGenerator) pick(list ...string) string { return list[g.rng.IntN(len(list))] }

func (g *ruleGenerator) span() *trace.Span {
	tr := g.traces[g.rng.IntN(len(g.traces))]
	return &tr.Spans[g.rng.IntN(len(tr.Spans))]
}

// when makes a condition on a trace.
func (g *ruleGenerator) when(depth int) string {
	if depth > 0 {
		switch g.rng.IntN(6) {
		case 0, 1:
			return "(" + g.when(depth-1) + " && " + g.when(depth-1) + ")"
		case 2:
			return "(" + g.when(depth-1) + " || " + g.when(depth-1) + ")"
		case 3:
			if g.rng.IntN(3) == 0 {
				return "!(" + g.when(depth-1) + ")"
			}
		}
	}
	g.vars++
	s := fmt.Sprintf("s%d", g.vars)
	like := g.span()
	p := g.predicate(s, like, 2)
	number := strconv.Itoa(g.rng.IntN(3))
	switch g.rng.IntN(14) {
	case 0:
		return fmt.Sprintf("spans.all(%s, %s)", s, p)
	case 1:
		return fmt.Sprintf("spans.exists_one(%s, %s)", s, p)
	case 2, 3:
		return fmt.Sprintf("count(spans, %s, %s) %s %s", s, p, g.pick(">", ">=", "==", "!=", "<", "<="), number)
	case 4:
		return fmt.Sprintf("%s %s count(spans, %s, %s)", number, g.pick("<", "<=", "=="), s, p)
	case 5:
		return fmt.Sprintf("spans.filter(%s, %s).size() %s %s", s, p, g.pick(">", ">=", "==", "!="), number)
	case 6:
		return fmt.Sprintf("spans.filter(%s, %s).exists(x, %s)", s, p, g.predicate("x", like, 1))
	case 7:
		return g.pick(
			strconv.Quote(like.Service())+" in trace.services", "trace.root.name == "+strconv.Quote(like.Name),
			"trace.duration > duration(\"100ms\")", "has(trace.root)", "spans.size() > 10", "spans[0].name == "+strconv.Quote(like.Name),
			"spans.exists(a, spans.exists(b, "+g.atom("a", like)+" && a.before(b)))",
		)
	}
	return fmt.Sprintf("spans.exists(%s, %s)", s, p)
}

// predicate makes a condition on the span s, with a chance to be true of one like like.
func (g *ruleGenerator) predicate(s string, like *trace.Span, depth int) string {
	if depth > 0 {
		switch g.rng.IntN(6) {
		case 0, 1, 2:
			return "(" + g.predicate(s, like, depth-1) + " && " + g.predicate(s, like, depth-1) + ")"
		case 3:
			return "(" + g.predicate(s, like, depth-1) + " || " + g.predicate(s, like, depth-1) + ")"
		case 4:
			if g.rng.IntN(2) == 0 {
				return "!(" + g.predicate(s, like, depth-1) + ")"
			}
		}
	}
	if g.rng.IntN(6) == 0 {
		like = g.span()
	}
	return g.atom(s, like)
}

func (g *ruleGenerator) atom(s string, like *trace.Span) string {
	equality := g.pick("==", "==", "==", "!=")
	switch g.rng.IntN(20) {
	case 0, 1, 2:
		return g.text(s+".name", like.Name)
	case 3:
		return fmt.Sprintf("%s.kind %s %q", s, equality, like.Kind)
	case 4:
		return fmt.Sprintf("%s.status %s %q", s, equality, like.Status)
	case 5:
		return g.text(s+".service", like.Service())
	case 6:
		return g.text(s+".statusMessage", like.StatusMessage)
	case 7, 8:
		d := like.Duration()
		return fmt.Sprintf("%s.duration %s duration(%q)", s, g.pick("<", "<=", ">", ">=", "==", "!="), fmt.Sprint(int64(d))+"ns")
	case 9:
		if len(like.Events) > 0 {
			e := like.Events[g.rng.IntN(len(like.Events))]
			p := g.text("e.name", e.Name)
			if len(e.Attributes) > 0 {
				a := e.Attributes[g.rng.IntN(len(e.Attributes))]
				p = g.pick(p, g.value("e.attributes["+strconv.Quote(a.Key)+"]", a.Value), p+" && "+g.value("e.attributes["+strconv.Quote(a.Key)+"]", a.Value))
			}
			return s + ".events.exists(e, " + p + ")"
		}
	case 10:
		if len(like.Links) > 0 {
			l := like.Links[g.rng.IntN(len(like.Links))]
			return s + ".links.exists(l, l.traceId == " + strconv.Quote(l.TraceID.String()) + " || has(l.attributes.x))"
		}
	case 11:
		return g.pick(
			g.text(s+".parent.name", like.Name), "has("+s+".parent)", s+".children.exists(c, "+g.text("c.name", like.Name)+")",
			s+".ancestors().exists(a, "+g.text("a.name", like.Name)+")", s+".children.size() > 1", s+".id == "+strconv.Quote(like.ID.String()),
		)
	case 12:
		return g.text(s+".scope", like.Scope)
	}
	of, attrs := s, like.Attributes
	switch g.rng.IntN(5) {
	case 0:
		of = s + ".attributes"
	case 1:
		of, attrs = s+".resource", like.Resource
	case 2:
		attrs = like.Resource
	}
	if len(attrs) == 0 {
		return g.text(s+".name", like.Name)
	}
	a := attrs[g.rng.IntN(len(attrs))]
	if of != s && g.rng.IntN(6) == 0 {
		return strconv.Quote(a.Key) + " in " + of
	}
	if g.rng.IntN(15) == 0 {
		a.Key = "app.zzz"
	}
	return g.value(of+"["+strconv.Quote(a.Key)+"]", a.Value)
}

func (g *ruleGenerator) value(x string, v trace.Value) string {
	comparison := g.pick("==", "==", "!=", "<", "<=", ">", ">=")
	switch v.Type() {
	case trace.TypeString:
		return g.text(x, v.Str())
	case trace.TypeInt:
		i := max(v.Int(), -1<<62)
		if g.rng.IntN(4) == 0 {
			return fmt.Sprintf("%d %s %s", i, comparison, x)
		}
		return fmt.Sprintf("%s %s %s", x, comparison, g.pick(fmt.Sprint(i), fmt.Sprint(i), fmt.Sprintf("%d.5", i), fmt.Sprintf("%d.0", i), fmt.Sprint(i-1)))
	case trace.TypeDouble:
		d := v.Double()
		if !(d > -1e15 && d < 1e15) {
			d = 0.5
		}
		return fmt.Sprintf("%s %s %s", x, comparison, g.pick(fmt.Sprintf("%f", d), fmt.Sprintf("%d", int64(d))))
	case trace.TypeBool:
		return g.pick(x, "!"+x, fmt.Sprintf("%s == %t", x, v.Bool()), fmt.Sprintf("%s != %t", x, v.Bool()))
	case trace.TypeArray:
		list := v.Array()
		if len(list) > 0 && list[0].Type() == trace.TypeString {
			return g.pick(strconv.Quote(list[0].Str())+" in "+x, x+".exists(v, v == "+strconv.Quote(list[0].Str())+")", x+" == "+strconv.Quote(list[0].Str()))
		}
		return "size(" + x + ") >= 0"
	}
	return x + " == 1"
}

func (g *ruleGenerator) text(x, text string) string {
	runes := []rune(text)
	from := g.rng.IntN(len(runes) + 1)
	to := from + g.rng.IntN(len(runes)-from+1)
	q := strconv.Quote
	prefix, middle, suffix := string(runes[:to]), string(runes[from:to]), string(runes[from:])
	return g.pick(
		x+" == "+q(text), x+" == "+q(text), x+" == "+q(text), q(text)+" == "+x, x+" != "+q(text),
		x+".startsWith("+q(prefix)+")", x+".endsWith("+q(suffix)+")", x+".contains("+q(middle)+")",
		x+".matches("+q(regexp.QuoteMeta(middle))+")", x+".matches("+q("^"+regexp.QuoteMeta(prefix))+")", x+".matches("+q("^(?:"+regexp.QuoteMeta(text)+"|x)$")+")",
		x+".matches("+q("(?i)"+strings.ToUpper(regexp.QuoteMeta(text)))+")",
		x+" in ["+q(text)+", "+q(g.span().Name)+"]", x+" < "+q(text), x+" >= "+q(middle),
	)
}

// traceQL makes a span filter. It leaves lists alone: see traceql.Filter.Prefilter.
func (g *ruleGenerator) traceQL() string {
	s := g.span()
	list := []traceql.Expr{
		traceql.Compare(traceql.Intrinsic("span:name"), traceql.OpEqual, traceql.String(s.Name)),
		traceql.Compare(traceql.Intrinsic("span:kind"), traceql.OpEqual, traceql.Kind(s.Kind)),
		traceql.Compare(traceql.Intrinsic("span:duration"), traceql.OpGreaterEqual, traceql.Duration(s.Duration())),
	}
	for _, a := range s.Attributes {
		f := traceql.Attribute(traceql.ScopeSpan, a.Key)
		switch a.Value.Type() {
		case trace.TypeString:
			list = append(list, traceql.Compare(f, traceql.OpEqual, traceql.String(a.Value.Str())))
		case trace.TypeInt:
			list = append(list, traceql.Compare(f, traceql.OpGreaterEqual, traceql.Int(max(a.Value.Int(), -1<<62))))
		}
	}
	for _, e := range s.Events {
		list = append(list, traceql.Compare(traceql.Intrinsic("event:name"), traceql.OpEqual, traceql.String(e.Name)))
	}
	g.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	list = list[:1+g.rng.IntN(3)]
	if g.rng.IntN(3) == 0 {
		return traceql.MustNew(traceql.AnyOf(list...)).String()
	}
	return traceql.MustNew(traceql.And(list...)).String()
}
