package dsl

import (
	"strconv"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/traceql"
)

// narrowing returns a TraceQL filter that matches every trace on which the condition is true, or "" if
// the only such filter is { }.
func narrowing(n node) string {
	expr := narrow(n)
	if expr == traceql.Expr(traceql.True) {
		return ""
	}
	f, err := traceql.New(expr)
	if err != nil {
		return "" // an inexpressible condition has no filter
	}
	return f.String()
}

func narrow(n node) traceql.Expr {
	named := func(name string) traceql.Expr {
		return traceql.Compare(traceql.Intrinsic("span:name"), traceql.OpEqual, traceql.String(name))
	}
	switch n := n.(type) {
	case *logic:
		if n.op == "or" {
			parts := make([]traceql.Expr, len(n.parts))
			for i, p := range n.parts {
				parts[i] = narrow(p)
			}
			return traceql.AnyOf(parts...)
		}
		// One part is enough, because the parts may be true of different spans.
		for _, p := range n.parts {
			if expr := narrow(p); expr != traceql.Expr(traceql.True) {
				return expr
			}
		}
	case *spanCheck:
		return named(n.name)
	case *anySpan:
		return narrow(n.filter)
	case *countCheck:
		number, err := strconv.ParseFloat(n.right.text, 64)
		if n.right.kind == operandNumber && err == nil &&
			(n.op == ">" && number >= 0 || (n.op == ">=" || n.op == "==") && number > 0 || n.op == "!=" && number == 0) {
			return named(n.name)
		}
	case *comparison:
		isText := n.right.kind == operandText || n.right.kind == operandWord
		switch {
		case n.op != "==" || !isText || n.right.text == "":
		case n.left.kind == fieldName:
			return named(n.right.text)
		case n.left.kind == fieldService:
			return traceql.Compare(traceql.Attribute(traceql.ScopeResource, trace.ServiceName), traceql.OpEqual, traceql.String(n.right.text))
		}
	}
	return traceql.True
}
