package engine

import (
	"fmt"
	"strings"

	"github.com/betracehq/betrace/trace/columnar"
)

var predicateNames = [...]string{
	predFalse: "false", predTrue: "true", predTextIs: "text", predHasParent: "hasParent", predEnum: "enum", predBroadcast: "ofTrace", predGather: "ofResource",
	predHas: "has", predIsText: "isText", predBool: "bool", predNumber: "number", predDuration: "duration", predParent: "parent", predChild: "child",
	predAncestor: "ancestor", predDescendant: "descendant", predOrder: "order", predMember: "member", predTextTest: "textTest", predNot: "not", predAnd: "and",
	predOr: "or", predPart: "part", predRow: "row", predExists: "exists", predExtreme: "extreme", predCount: "count", predRoot: "root", predUnknown: "unknown",
}

var comparisons = [...]string{columnar.Equal: "==", columnar.NotEqual: "!=", columnar.Less: "<", columnar.LessEqual: "<=", columnar.Greater: ">", columnar.GreaterEqual: ">="}

// Dump says what an expression of rule i became: predicates, with what is kept (+), what is not known of everything
// (?); and why it is not vectorised, or whether some of it is evaluated for one span at a time.
func (p *Plan) Dump(i int) string {
	var b strings.Builder
	r := &p.rules[i]
	if r.when != nil {
		p.dump(&b, r.when)
	}
	for _, c := range r.clauses {
		b.WriteString(" | ")
		p.dump(&b, c.of)
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

func (p *Plan) dump(b *strings.Builder, of *predicate) {
	b.WriteString(predicateNames[of.kind])
	if of.memo {
		b.WriteString("+")
	}
	if !of.total {
		b.WriteString("?")
	}
	b.WriteString("(")
	switch of.kind {
	case predTextIs:
		fmt.Fprintf(b, "%s %q", p.columnName(of), of.texts)
	case predEnum:
		fmt.Fprintf(b, "%s %x", p.columnName(of), of.mask)
	case predHas, predIsText:
		b.WriteString(p.columnName(of))
	case predBool:
		fmt.Fprintf(b, "%s %v", p.columnName(of), of.mask == 1)
	case predNumber, predDuration, predExtreme:
		// The constant ends the key: a duration, or an int and a double, one of them 0.
		parts := strings.Fields(strings.NewReplacer(`\`, "", `"`, "").Replace(of.key))
		want := parts[len(parts)-1]
		if p.columns[of.column].field == "" && want == "0" {
			want = parts[len(parts)-2]
		}
		fmt.Fprintf(b, "%s %s %s", p.columnName(of), comparisons[of.op], want)
	case predCount:
		parts := strings.Fields(of.key)
		fmt.Fprintf(b, "%s", strings.Join(parts[len(parts)-2:], " "))
	case predTextTest:
		fmt.Fprintf(b, "%s %s", p.columnName(of), of.text.key)
	case predPart:
		b.WriteString(p.columnName(of))
	case predOrder:
		fmt.Fprintf(b, "%s %s %s", of.times.other, comparisons[of.times.op], of.times.own)
	case predRow:
		dumpNode(b, of.node)
	}
	for i, a := range of.args {
		if i > 0 || !strings.HasSuffix(b.String(), "(") {
			b.WriteString(" ")
		}
		p.dump(b, a)
	}
	b.WriteString(")")
}

func (p *Plan) columnName(of *predicate) string {
	c := p.columns[of.column]
	name := [...]string{spans: "span.", events: "event.", links: "link.", resources: "resource."}[c.domain]
	if of.kind == predTextIs && of.domain != c.domain {
		name += "of."
	}
	if c.field != "" {
		return name + c.field
	}
	return name + fmt.Sprintf("%q", c.key)
}

func dumpNode(b *strings.Builder, n *node) {
	b.WriteString(n.key)
	var walk func(n *node)
	walk = func(n *node) {
		if n.row != nil {
			fmt.Fprintf(b, " {rest %v, quick %v, candidates %v}", n.row.rest != nil, n.row.quick != nil, n.row.candidates != nil)
		}
		for _, a := range n.args {
			walk(a)
		}
	}
	walk(n)
}
