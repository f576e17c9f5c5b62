package blocks

import (
	"bytes"
	"slices"
)

// nesting says how the spans of a segment are nested: rows, resources, scopes, spans.
type nesting struct {
	// first is by row the first span, and the end.
	first []int32
	// By span, the numbers of its resource and its scope in the segment.
	resource, scope []int32
	// slots say which span, or resource, or scope, an entry of their columns is, -1 for
	// one that stands for an empty list; nil where entry i is i.
	spanSlots, resourceSlots, scopeSlots []int32
	resources, scopes                    int32

	gaps bool // a list was empty
}

func (n *nesting) reset() {
	*n = nesting{first: n.first[:0], resource: n.resource[:0], scope: n.scope[:0]}
}

// add reads the levels of a column of spans.
func (n *nesting) add(l leaf, rep, def []byte) {
	if !n.gaps && (def == nil || bytes.Count(def, []byte{l.defined}) == len(def)) {
		n.addFull(rep)
		return
	}
	if !n.gaps { // until here nothing was empty
		n.gaps = true
		n.spanSlots, n.resourceSlots, n.scopeSlots = iota32(int32(len(n.resource))), iota32(n.resources), iota32(n.scopes)
	}
	next := int32(len(n.resource))
	for i, r := range rep {
		level := l.defined
		if def != nil {
			level = def[i]
		}
		if r == 0 {
			n.first = append(n.first, next)
		}
		if r <= 1 {
			n.resourceSlots = slot(n.resourceSlots, &n.resources, level >= l.present[1])
		}
		if r <= 2 {
			n.scopeSlots = slot(n.scopeSlots, &n.scopes, level >= l.present[2])
		}
		isSpan := level >= l.present[3]
		n.spanSlots = slot(n.spanSlots, &next, isSpan)
		if isSpan {
			n.resource, n.scope = append(n.resource, n.resources-1), append(n.scope, n.scopes-1)
		}
	}
}

// addFull is add where no list is empty, as nearly always: scope by scope.
func (n *nesting) addFull(rep []byte) {
	for i := 0; i < len(rep); {
		if rep[i] == 0 {
			n.first = append(n.first, int32(len(n.resource)))
		}
		if rep[i] <= 1 {
			n.resources++
		}
		n.scopes++
		begin := i
		for i++; i < len(rep) && rep[i] == 3; i++ {
		}
		n.resource, n.scope = repeat(n.resource, n.resources-1, i-begin), repeat(n.scope, n.scopes-1, i-begin)
	}
}

// end ends the last row.
func (n *nesting) end() { n.first = append(n.first, int32(len(n.resource))) }

// repeat appends v n times.
func repeat(to []int32, v int32, n int) []int32 {
	begin := len(to)
	to = slices.Grow(to, n)[:begin+n]
	for i := range to[begin:] {
		to[begin+i] = v
	}
	return to
}

func slot(slots []int32, n *int32, isThere bool) []int32 {
	if !isThere {
		return append(slots, -1)
	}
	*n++
	return append(slots, *n-1)
}

func iota32(n int32) []int32 {
	s := make([]int32, n)
	for i := range s {
		s[i] = int32(i)
	}
	return s
}
