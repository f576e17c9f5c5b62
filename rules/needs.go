package rules

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/betracehq/betrace/analyzer/trace"
	"github.com/betracehq/betrace/tempoclient/traceql"
)

// Needs are the attributes, events and links that rules read. What they do not name
// need not be read; a span's own fields and service.name always are.
type Needs struct {
	// Attributes are the attributes read, by scope and key, sorted, each once.
	// traceql.ScopeAny is s["key"]: the span's, else the resource's.
	Attributes []traceql.Field
	// Whole are the scopes of which all attributes are read, because a rule ranges
	// over them or takes a key from data.
	Whole []traceql.Scope
	// Events and Links say whether spans' events and links are read.
	Events, Links bool
}

// Needs returns the attributes that the rule reads to decide, and to say of its
// violations.
func (r *Rule) Needs() Needs {
	c := needsCollector{attributes: map[traceql.Field]bool{}, whole: map[traceql.Scope]bool{}}
	for _, p := range r.programs(true) {
		c.program = p
		c.walk(p.root)
	}
	if r.TraceQL != nil {
		for _, f := range r.TraceQL.Fields() {
			switch {
			case f.Scope != traceql.ScopeIntrinsic:
				c.attributes[f] = true
				c.events = c.events || f.Scope == traceql.ScopeEvent
				c.links = c.links || f.Scope == traceql.ScopeLink
			case strings.HasPrefix(f.Key, "event:"):
				c.events = true
			case strings.HasPrefix(f.Key, "link:"):
				c.links = true
			}
		}
	}
	return c.needs()
}

type needsCollector struct {
	program       *program
	events, links bool
	attributes    map[traceql.Field]bool
	whole         map[traceql.Scope]bool
}

func (c *needsCollector) needs() Needs {
	n := Needs{Events: c.events, Links: c.links}
	for f := range c.attributes {
		if !c.whole[f.Scope] {
			n.Attributes = append(n.Attributes, f)
		}
	}
	slices.SortFunc(n.Attributes, func(a, b traceql.Field) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Key, b.Key))
	})
	for s := range c.whole {
		n.Whole = append(n.Whole, s)
	}
	slices.Sort(n.Whole)
	return n
}

// walk finds what is read below x.
func (c *needsCollector) walk(x ast.Expr) {
	if scope, key, ok := c.program.attribute(x); ok {
		c.attributes[traceql.Attribute(scope, key)] = true
		c.walk(subject(x))
		return
	}
	if scope, ok := c.program.attributeMap(x); ok {
		c.whole[scope] = true // used in a way that names no key
		c.walk(x.AsSelect().Operand())
		return
	}
	switch x.Kind() {
	case ast.SelectKind:
		if c.program.isA(x.AsSelect().Operand(), "Span") {
			c.events = c.events || x.AsSelect().FieldName() == "events"
			c.links = c.links || x.AsSelect().FieldName() == "links"
		}
		if x.AsSelect().FieldName() == "service" && c.program.isA(x.AsSelect().Operand(), "Span") {
			c.attributes[traceql.Attribute(traceql.ScopeResource, trace.ServiceName)] = true
		}
		if x.AsSelect().FieldName() == "services" && c.program.isA(x.AsSelect().Operand(), "Trace") {
			c.attributes[traceql.Attribute(traceql.ScopeResource, trace.ServiceName)] = true
		}
		c.walk(x.AsSelect().Operand())
	case ast.CallKind:
		call := x.AsCall()
		switch call.FunctionName() {
		case operators.Index, operators.OptIndex:
			c.index(call.Args()[0], call.Args()[1])
		case operators.OptSelect:
			c.optionalField(call.Args()[1])
		}
		if call.IsMemberFunction() {
			c.walk(call.Target())
		}
		for _, a := range call.Args() {
			c.walk(a)
		}
	case ast.ListKind:
		for _, e := range x.AsList().Elements() {
			c.walk(e)
		}
	case ast.MapKind:
		for _, e := range x.AsMap().Entries() {
			c.walk(e.AsMapEntry().Key())
			c.walk(e.AsMapEntry().Value())
		}
	case ast.ComprehensionKind:
		f := x.AsComprehension()
		for _, part := range []ast.Expr{f.IterRange(), f.AccuInit(), f.LoopCondition(), f.LoopStep(), f.Result()} {
			c.walk(part)
		}
	}
}

// index notes v[key] where key is not known, or v is only known at run time.
func (c *needsCollector) index(v, key ast.Expr) {
	text, literal := literalString(key)
	dynamic := c.program.isKind(v, types.DynKind)
	switch {
	case dynamic && literal:
		c.attributes[traceql.Attribute(traceql.ScopeAny, text)] = true
	case dynamic && c.program.isKind(key, types.StringKind, types.DynKind), c.program.isA(v, "Span"):
		c.whole[traceql.ScopeAny] = true
	}
}

// optionalField notes v.?field, whatever v is.
func (c *needsCollector) optionalField(field ast.Expr) {
	switch name, _ := literalString(field); name {
	case "attributes":
		c.whole[traceql.ScopeSpan], c.whole[traceql.ScopeEvent], c.whole[traceql.ScopeLink] = true, true, true
	case "events":
		c.events = true
	case "links":
		c.links = true
	case "resource":
		c.whole[traceql.ScopeResource] = true
	case "service", "services":
		c.attributes[traceql.Attribute(traceql.ScopeResource, trace.ServiceName)] = true
	}
}

func (p *program) isKind(x ast.Expr, kinds ...types.Kind) bool {
	t := ofOptional(p.types[x.ID()])
	return t != nil && slices.Contains(kinds, t.Kind())
}

func (p *program) isA(x ast.Expr, typeName string) bool {
	t := ofOptional(p.types[x.ID()])
	return t != nil && t.TypeName() == typeName
}

// ofOptional returns the type of an optional's value: what is selected of an
// optional is selected of its value.
func ofOptional(t *types.Type) *types.Type {
	for t != nil && t.Kind() == types.OpaqueKind && t.TypeName() == "optional_type" {
		t = t.Parameters()[0]
	}
	return t
}

// attributeMap recognises s.attributes, s.resource, e.attributes and l.attributes.
func (p *program) attributeMap(x ast.Expr) (traceql.Scope, bool) {
	if x.Kind() != ast.SelectKind || x.AsSelect().IsTestOnly() {
		return 0, false
	}
	operand, field := x.AsSelect().Operand(), x.AsSelect().FieldName()
	switch {
	case field == "attributes" && p.isA(operand, "Span"):
		return traceql.ScopeSpan, true
	case field == "resource" && p.isA(operand, "Span"):
		return traceql.ScopeResource, true
	case field == "attributes" && p.isA(operand, "Event"):
		return traceql.ScopeEvent, true
	case field == "attributes" && p.isA(operand, "Link"):
		return traceql.ScopeLink, true
	}
	return 0, false
}

// attribute recognises one attribute by its key: s["key"], s.attributes.key,
// s.attributes["key"], has(s.attributes.key) and "key" in s.attributes, their
// optional forms, and the same of resources, events and links.
func (p *program) attribute(x ast.Expr) (traceql.Scope, string, bool) {
	switch x.Kind() {
	case ast.SelectKind:
		if scope, ok := p.attributeMap(x.AsSelect().Operand()); ok {
			return scope, x.AsSelect().FieldName(), true
		}
	case ast.CallKind:
		args := x.AsCall().Args()
		switch x.AsCall().FunctionName() {
		case operators.Index, operators.OptIndex, operators.OptSelect:
			key, ok := literalString(args[1])
			if !ok {
				return 0, "", false
			}
			if scope, ok := p.attributeMap(args[0]); ok {
				return scope, key, true
			}
			if p.isA(args[0], "Span") && x.AsCall().FunctionName() != operators.OptSelect {
				return traceql.ScopeAny, key, true
			}
		case isIn:
			key, ok := literalString(args[0])
			if scope, isMap := p.attributeMap(args[1]); ok && isMap {
				return scope, key, true
			}
		}
	}
	return 0, "", false
}

// subject returns the expression whose attribute x is.
func subject(x ast.Expr) ast.Expr {
	switch x.Kind() {
	case ast.SelectKind:
		return x.AsSelect().Operand().AsSelect().Operand()
	case ast.CallKind:
		args := x.AsCall().Args()
		of := args[0]
		if x.AsCall().FunctionName() == isIn {
			of = args[1]
		}
		if of.Kind() == ast.SelectKind && (of.AsSelect().FieldName() == "attributes" || of.AsSelect().FieldName() == "resource") {
			return of.AsSelect().Operand()
		}
		return of
	}
	return x
}
