package blocks

import "bytes"

// nesting says how the spans of a segment are nested: rows, resources, scopes, spans.
type nesting struct {
	// first is by row the first span, and the end.
	first []int32
	// resource and scope are by resource and by scope the first of its spans; the last are
	// those before the first of the next.
	resource, scope []int32
	spans           int32
	// slots say which span, or resource, or scope, an entry of their columns is, -1 for
	// one that stands for an empty list; nil where entry i is i.
	spanSlots, resourceSlots, scopeSlots []int32

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
		n.spanSlots, n.resourceSlots, n.scopeSlots = iota32(n.spans), iota32(int32(len(n.resource))), iota32(int32(len(n.scope)))
	}
	for i, r := range rep {
		level := l.defined
		if def != nil {
			level = def[i]
		}
		if r == 0 {
			n.first = append(n.first, n.spans)
		}
		if r <= 1 {
			n.resourceSlots, n.resource = slot(n.resourceSlots, n.resource, level >= l.present[1], n.spans)
		}
		if r <= 2 {
			n.scopeSlots, n.scope = slot(n.scopeSlots, n.scope, level >= l.present[2], n.spans)
		}
		if level < l.present[3] {
			n.spanSlots = append(n.spanSlots, -1)
			continue
		}
		n.spanSlots = append(n.spanSlots, n.spans)
		n.spans++
	}
}

// addFull is add where no list is empty, as nearly always: scope by scope.
func (n *nesting) addFull(rep []byte) {
	for i := 0; i < len(rep); {
		if rep[i] == 0 {
			n.first = append(n.first, n.spans)
		}
		if rep[i] <= 1 {
			n.resource = append(n.resource, n.spans)
		}
		n.scope = append(n.scope, n.spans)
		begin := i
		for i++; i < len(rep) && rep[i] == 3; i++ {
		}
		n.spans += int32(i - begin)
	}
}

// end ends the last row.
func (n *nesting) end() { n.first = append(n.first, n.spans) }

// slot appends to slots the number of the next element, which begins with the span, or
// that there is none.
func slot(slots, elements []int32, isThere bool, span int32) (newSlots, newElements []int32) {
	if !isThere {
		return append(slots, -1), elements
	}
	return append(slots, int32(len(elements))), append(elements, span)
}

// of returns the spans from the first of element i, of resources or of scopes, to that of
// the next.
func (n *nesting) of(elements []int32, i int) (from, to int32) {
	if i+1 < len(elements) {
		return elements[i], elements[i+1]
	}
	return elements[i], n.spans
}

func iota32(n int32) []int32 {
	s := make([]int32, n)
	for i := range s {
		s[i] = int32(i)
	}
	return s
}
