package blocks

import "bytes"

// nesting describes the nesting of a segment's rows, resources, scopes and spans.
type nesting struct {
	// first is the first span of each row, followed by the end.
	first []int32
	// resource and scope are the first spans of each resource and scope. Their last span is the one
	// before the first span of the next.
	resource, scope []int32
	spans           int32
	// slots map an entry of their columns to its span, resource or scope, or to -1 if it stands for an
	// empty list. They are nil if entry i is always element i.
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
	if !n.gaps { // no list was empty so far
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

// addFull is add for pages without empty lists, which is nearly always the case. It works scope by scope.
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

// slot appends to slots the number of the next element, which begins with the span, or -1 if there is no
// element.
func slot(slots, elements []int32, isThere bool, span int32) (newSlots, newElements []int32) {
	if !isThere {
		return append(slots, -1), elements
	}
	return append(slots, int32(len(elements))), append(elements, span)
}

// of returns the range of spans from the first span of element i, of resources or of scopes, to that of
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
