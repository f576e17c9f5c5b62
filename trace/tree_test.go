package trace_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/betracehq/betrace/trace"
)

// node is one span of a tree test. Spans start in the order of the list.
type node struct {
	name       string
	id, parent byte
	kind       trace.Kind
}

func build(nodes []node) *trace.Trace {
	var spans []trace.Span
	for i, n := range nodes {
		spans = append(spans, trace.Span{Name: n.name, ID: id(n.id), ParentID: id(n.parent), Kind: n.kind, Start: trace.Time(i)})
	}
	return trace.New(theID, spans)
}

func names(tr *trace.Trace, spans []int32) (names string) {
	for _, i := range spans {
		names += tr.Spans[i].Name
	}
	return names
}

func TestTree(t *testing.T) {
	const internal, server, client, consumer = trace.KindInternal, trace.KindServer, trace.KindClient, trace.KindConsumer
	type relations struct{ parent, children, ancestors, descendants string }
	for _, tc := range []struct {
		name  string
		nodes []node
		root  string // "" for none
		want  map[string]relations
	}{
		{"one span", []node{{"a", 1, 0, server}}, "a", map[string]relations{"a": {}}},
		{
			"a tree, nearest ancestor first, descendants in span order",
			[]node{{"a", 1, 0, server}, {"b", 2, 1, internal}, {"c", 3, 1, internal}, {"d", 4, 2, internal}, {"e", 5, 3, internal}, {"f", 6, 4, internal}}, "a",
			map[string]relations{
				"a": {"", "bc", "", "bcdef"},
				"b": {"a", "d", "a", "df"},
				"f": {"d", "", "dba", ""},
			},
		},
		{
			"children that start before their parent",
			[]node{{"c", 3, 2, internal}, {"b", 2, 1, internal}, {"a", 1, 0, server}}, "a",
			map[string]relations{"a": {"", "b", "", "cb"}, "c": {"b", "", "ba", ""}},
		},
		{
			"an orphan has no parent and is no root",
			[]node{{"o", 5, 9, server}, {"p", 6, 5, internal}}, "",
			map[string]relations{"o": {"", "p", "", "p"}, "p": {"o", "", "o", ""}},
		},
		{
			"of several roots the first in order is the root",
			[]node{{"o", 5, 9, server}, {"a", 2, 0, server}, {"b", 1, 0, server}}, "a",
			map[string]relations{"a": {}, "b": {}},
		},
		{
			"each span in a cycle is its own ancestor",
			[]node{{"a", 1, 3, internal}, {"b", 2, 1, internal}, {"c", 3, 2, internal}}, "",
			map[string]relations{
				"a": {"c", "b", "cba", "abc"},
				"b": {"a", "c", "acb", "abc"},
				"c": {"b", "a", "bac", "abc"},
			},
		},
		{
			"a span below a cycle has each span of the cycle as an ancestor once",
			[]node{{"r", 9, 0, server}, {"a", 1, 2, internal}, {"b", 2, 1, internal}, {"x", 3, 2, internal}, {"y", 4, 3, internal}}, "r",
			map[string]relations{
				"y": {"x", "", "xba", ""},
				"x": {"b", "y", "ba", "y"},
				"a": {"b", "b", "ba", "abxy"},
			},
		},
		{
			"a span that is its own parent",
			[]node{{"a", 1, 1, server}, {"b", 2, 1, internal}, {"c", 3, 2, internal}}, "",
			map[string]relations{"a": {"a", "ab", "a", "abc"}, "b": {"a", "c", "a", "c"}, "c": {"b", "", "ba", ""}},
		},
		{
			"client and server share an ID: the server is the client's child and has the children",
			[]node{{"r", 1, 0, server}, {"c", 2, 1, client}, {"s", 2, 1, server}, {"x", 3, 2, internal}}, "r",
			map[string]relations{
				"r": {"", "c", "", "csx"},
				"c": {"r", "s", "r", "sx"},
				"s": {"c", "x", "cr", "x"},
				"x": {"s", "", "scr", ""},
			},
		},
		{
			"client and server share an ID, the server's clock is behind, and neither names a parent",
			[]node{{"s", 2, 0, server}, {"c", 2, 0, client}, {"x", 3, 2, internal}}, "c",
			map[string]relations{"c": {"", "s", "", "sx"}, "s": {"c", "x", "c", "x"}},
		},
		{
			"the server names the ID that it shares as its parent",
			[]node{{"c", 2, 0, client}, {"s", 2, 2, server}}, "c",
			map[string]relations{"c": {"", "s", "", "s"}, "s": {"c", "", "c", ""}},
		},
		{
			"the client names the ID that it shares as its parent: a cycle",
			[]node{{"c", 2, 2, client}, {"s", 2, 0, server}}, "",
			map[string]relations{"c": {"s", "s", "sc", "cs"}, "s": {"c", "c", "cs", "cs"}},
		},
		{
			"client, server and a third span share an ID: the server has the children, the third keeps its own parent",
			[]node{{"i", 2, 9, internal}, {"c", 2, 0, client}, {"s", 2, 0, server}, {"x", 3, 2, internal}}, "c",
			map[string]relations{"i": {}, "s": {"c", "x", "c", "x"}, "x": {"s", "", "sc", ""}},
		},
		{
			"spans of other kinds share an ID: the first in order has the children",
			[]node{{"r", 1, 0, server}, {"p", 2, 1, consumer}, {"q", 2, 1, internal}, {"x", 3, 2, internal}}, "r",
			map[string]relations{"r": {"", "pq", "", "pqx"}, "p": {"r", "x", "r", "x"}, "q": {"r", "", "r", ""}, "x": {"p", "", "pr", ""}},
		},
		{
			"a server and a consumer share an ID: the first in order, here by kind, is the parent",
			[]node{{"s", 2, 0, server}, {"k", 2, 2, consumer}}, "s",
			map[string]relations{"s": {"", "k", "", "k"}, "k": {"s", "", "s", ""}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := build(tc.nodes)
			root := ""
			if r := tr.Root(); r >= 0 {
				root = tr.Spans[r].Name
			}
			assert.Equal(t, tc.root, root)
			for name, want := range tc.want {
				i := slices.IndexFunc(tr.Spans, func(s trace.Span) bool { return s.Name == name })
				var got relations
				if p := tr.Parent(i); p >= 0 {
					got.parent = tr.Spans[p].Name
				}
				got.children, got.ancestors, got.descendants = names(tr, tr.Children(i)), names(tr, tr.Ancestors(i)), names(tr, tr.Descendants(i))
				assert.Equal(t, want, got, "span %s", name)
			}
		})
	}
}

// TestTreeIsWhatItsDefinitionSays compares the tree with a naive walk of its definition, on random spans with
// many cycles and shared IDs.
func TestTreeIsWhatItsDefinitionSays(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 2))
		ids := 1 + r.IntN(12)
		var spans []trace.Span
		for range 1 + r.IntN(15) {
			spans = append(spans, trace.Span{
				ID: id(byte(1 + r.IntN(ids))), ParentID: id(byte(r.IntN(ids + 2))),
				Kind: trace.Kind(r.IntN(6)), Start: trace.Time(r.IntN(4)),
			})
		}
		tr := trace.New(theID, spans)
		n := len(tr.Spans)
		parent := make([]int, n)
		root := -1
		for i := range n {
			parent[i] = parentByDefinition(tr.Spans, i)
			assert.Equal(t, parent[i], tr.Parent(i), "seed %d: parent of %d", seed, i)
			if root < 0 && parent[i] < 0 && tr.Spans[i].ParentID.IsZero() {
				root = i
			}
		}
		assert.Equal(t, root, tr.Root(), "seed %d: root", seed)

		ancestors := make([][]int32, n)
		for i := range n {
			for at := parent[i]; at >= 0 && !slices.Contains(ancestors[i], int32(at)); at = parent[at] {
				ancestors[i] = append(ancestors[i], int32(at))
			}
			assert.Equal(t, ancestors[i], tr.Ancestors(i), "seed %d: ancestors of %d", seed, i)
		}
		for i := range n {
			children, descendants := []int32{}, []int32{}
			for j := range n {
				if parent[j] == i {
					children = append(children, int32(j))
				}
				if slices.Contains(ancestors[j], int32(i)) {
					descendants = append(descendants, int32(j))
				}
			}
			assert.ElementsMatch(t, children, tr.Children(i), "seed %d: children of %d", seed, i)
			assert.True(t, slices.IsSorted(tr.Children(i)))
			assert.ElementsMatch(t, descendants, tr.Descendants(i), "seed %d: descendants of %d", seed, i)
			assert.True(t, slices.IsSorted(tr.Descendants(i)))
		}
		if t.Failed() {
			return
		}
	}
}

func parentByDefinition(spans []trace.Span, i int) int {
	has := func(id trace.SpanID, kind trace.Kind) int {
		return slices.IndexFunc(spans, func(s trace.Span) bool { return s.ID == id && s.Kind == kind })
	}
	s := spans[i]
	if client := has(s.ID, trace.KindClient); s.Kind == trace.KindServer && client >= 0 {
		return client
	}
	if s.ParentID.IsZero() {
		return -1
	}
	if client, server := has(s.ParentID, trace.KindClient), has(s.ParentID, trace.KindServer); client >= 0 && server >= 0 {
		return server
	}
	return slices.IndexFunc(spans, func(p trace.Span) bool { return p.ID == s.ParentID })
}

// TestADeepTraceIsReadInLinearTime would take more than a minute if each step walked to the root.
func TestADeepTraceIsReadInLinearTime(t *testing.T) {
	const n = 200_000
	spans := make([]trace.Span, n)
	for i := range spans {
		spans[i].ID = trace.SpanID{4: byte(i >> 24), 5: byte(i >> 16), 6: byte(i >> 8), 7: byte(i)}
		spans[i].ID[0] = 1
		spans[i].Start = trace.Time(i)
		if i > 0 {
			spans[i].ParentID = spans[i-1].ID
		}
	}
	tr := trace.New(theID, spans)
	assert.Len(t, tr.Ancestors(n-1), n-1)
	assert.Len(t, tr.Descendants(0), n-1)
}
