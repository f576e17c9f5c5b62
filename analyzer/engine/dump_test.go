package engine

import (
	"fmt"
	"strings"
)

// Dump returns the predicates of the expressions of rule i. A result that is kept is marked by +, a predicate that may be
// unknown by ?. The reasons why an expression is not vectorised follow, and whether it is evaluated row by row.
func (p *Plan) Dump(i int) string {
	var b strings.Builder
	r := &p.rules[i]
	if r.when != nil {
		dump(&b, r.when)
	}
	for _, c := range r.clauses {
		b.WriteString(" | ")
		dump(&b, c.of)
	}
	for _, part := range r.parts {
		for _, reason := range part.Reasons {
			fmt.Fprintf(&b, "\n    because: %s", reason)
		}
		if part.ByRow {
			b.WriteString("\n    for one span at a time")
		}
	}
	return b.String()
}

func dump(b *strings.Builder, p *predicate) {
	kind, details, _ := strings.Cut(p.is.name(), " ")
	if x, ok := p.is.(*interpretedCondition); ok {
		details = x.column.String() // without an address
	}
	b.WriteString(kind)
	if p.keep {
		b.WriteString("+")
	}
	if !p.total {
		b.WriteString("?")
	}
	parts := []string{}
	if details != "" {
		parts = append(parts, details)
	}
	if x, ok := p.is.(*rowCondition); ok {
		for n := range nodesOf(x.node) {
			if q, ok := n.is.(*quantifier); ok {
				parts = append(parts, fmt.Sprintf("{rest %v, simple %v, candidates %v}", q.plan.rest != nil, q.plan.simple != nil, q.plan.candidates != nil))
			}
		}
	}
	for _, a := range p.args {
		var of strings.Builder
		dump(&of, a)
		parts = append(parts, of.String())
	}
	b.WriteString("(" + strings.Join(parts, " ") + ")")
}

// nodesOf ranges over a node and all below it.
func nodesOf(n *node) func(yield func(*node) bool) {
	return func(yield func(*node) bool) {
		if !yield(n) {
			return
		}
		for _, a := range n.args {
			for below := range nodesOf(a) {
				if !yield(below) {
					return
				}
			}
		}
	}
}
