package trace

import "slices"

// tree holds the spans' relations as indices into Trace.Spans. -1 means none.
type tree struct {
	root   int32
	parent []int32
	// child[childStart[i]:childStart[i+1]] are the children of span i, in order.
	child, childStart []int32
	inCycle           []bool // nil if no span is its own ancestor
}

// newTree returns the tree of spans, given the index of each span's parent.
func newTree(spans []Span, parent []int32) tree {
	t := tree{root: -1, parent: parent}
	for i, p := range t.parent {
		if p < 0 && spans[i].ParentID.IsZero() {
			t.root = int32(i)
			break
		}
	}
	t.childStart = make([]int32, len(spans)+1)
	for _, p := range t.parent {
		if p >= 0 {
			t.childStart[p+1]++
		}
	}
	for i := range spans {
		t.childStart[i+1] += t.childStart[i]
	}
	t.child = make([]int32, t.childStart[len(spans)])
	next := slices.Clone(t.childStart)
	for i, p := range t.parent {
		if p >= 0 {
			t.child[next[p]] = int32(i)
			next[p]++
		}
	}
	t.inCycle = cycles(t.parent)
	return t
}

// Parents finds the parent of each of n spans, which are in order. key returns a span's ID, the ID of the
// parent that it names, and its kind. Spans may share an ID: the parent of a server is then the client of the
// same ID, and the children of the ID are the server's. Without such a pair they are the children of the
// first span in order.
func Parents(n int, key func(i int) (id, parent SpanID, kind Kind)) []int32 {
	type sharers struct{ first, client, server int32 }
	byID := make(map[SpanID]sharers, n)
	for i := range n {
		id, _, kind := key(i)
		sh, ok := byID[id]
		if !ok {
			sh = sharers{first: int32(i), client: -1, server: -1}
		}
		switch kind {
		case KindClient:
			sh.client = int32(i)
		case KindServer:
			sh.server = int32(i)
		}
		byID[id] = sh
	}
	parent := make([]int32, n)
	for i := range n {
		id, named, kind := key(i)
		parent[i] = -1
		if own := byID[id]; kind == KindServer && own.client >= 0 {
			parent[i] = own.client
			continue
		}
		if named.IsZero() {
			continue
		}
		if sh, ok := byID[named]; ok {
			parent[i] = sh.first
			if sh.client >= 0 && sh.server >= 0 {
				parent[i] = sh.server
			}
		}
	}
	return parent
}

// cycles reports for each span whether it is its own ancestor. It returns nil if none is.
func cycles(parent []int32) []bool {
	var inCycle []bool
	// seenBy[i] is 1 + the span whose walk towards the root met i first.
	seenBy := make([]int32, len(parent))
	for i := range parent {
		at := int32(i)
		for at >= 0 && seenBy[at] == 0 {
			seenBy[at] = int32(i) + 1
			at = parent[at]
		}
		if at < 0 || seenBy[at] != int32(i)+1 {
			continue
		}
		if inCycle == nil {
			inCycle = make([]bool, len(parent))
		}
		for ; !inCycle[at]; at = parent[at] {
			inCycle[at] = true
		}
	}
	return inCycle
}

// Root returns the index of the first span in order that has no parent and names none, or -1.
func (t *Trace) Root() int { return int(t.tree.root) }

// Parent returns the index of span i's parent, or -1 if the span names no parent or the named one is not in
// the trace.
func (t *Trace) Parent(i int) int { return int(t.tree.parent[i]) }

// Children returns the indices of the spans whose parent is span i, in order. The caller must not change the
// slice.
func (t *Trace) Children(i int) []int32 {
	return t.tree.child[t.tree.childStart[i]:t.tree.childStart[i+1]]
}

// Ancestors returns the indices of span i's ancestors, nearest first, without repetition. A span in a cycle
// is its own ancestor.
func (t *Trace) Ancestors(i int) []int32 {
	var up []int32
	entered := int32(-1) // where the walk entered a cycle
	if t.isInCycle(int32(i)) {
		entered = int32(i)
	}
	for at := t.tree.parent[i]; at >= 0; at = t.tree.parent[at] {
		if at == entered && len(up) > 0 && at != int32(i) {
			break
		}
		up = append(up, at)
		if at == int32(i) {
			break
		}
		if entered < 0 && t.isInCycle(at) {
			entered = at
		}
	}
	return up
}

// Descendants returns the indices of all spans that have span i as an ancestor, in order.
func (t *Trace) Descendants(i int) []int32 {
	down := slices.Clone(t.Children(i))
	for n := 0; n < len(down); n++ {
		at := down[n]
		if at == int32(i) {
			continue // i is in a cycle: its children are already in the list
		}
		down = append(down, t.Children(int(at))...)
	}
	slices.Sort(down)
	return down
}

func (t *Trace) isInCycle(i int32) bool { return t.tree.inCycle != nil && t.tree.inCycle[i] }
