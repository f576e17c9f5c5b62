package lang

import (
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Needs returns the data of spans that the expressions read.
func Needs(expressions ...*Expression) columnar.Needs {
	c := needsCollector{attributes: map[columnar.AttributeKey]bool{}, whole: map[columnar.Scope]bool{}}
	for _, p := range expressions {
		c.program = p
		c.walk(p.root)
	}
	return c.needs()
}

var serviceName = columnar.AttributeKey{Scope: columnar.ScopeResource, Key: trace.ServiceName}

type needsCollector struct {
	program    *Expression
	fields     columnar.Needs // only its flags
	attributes map[columnar.AttributeKey]bool
	whole      map[columnar.Scope]bool
}

func (c *needsCollector) needs() columnar.Needs {
	n := c.fields
	for a := range c.attributes {
		if !c.whole[a.Scope] {
			n.Attributes = append(n.Attributes, a)
		}
	}
	for s := range c.whole {
		n.Whole = append(n.Whole, s)
	}
	return n.Union(columnar.Needs{})
}

// reads records that an attribute is read, by all its names.
func (c *needsCollector) reads(scope columnar.Scope, key string) {
	c.attributes[columnar.AttributeKey{Scope: scope, Key: key}] = true
	for _, name := range c.program.aliasesRead[key] {
		c.attributes[columnar.AttributeKey{Scope: scope, Key: name}] = true
	}
}

// field records that a span's field is read.
func (c *needsCollector) field(name string) {
	switch name {
	case "events":
		c.fields.Events = true
	case "links":
		c.fields.Links = true
	case "statusMessage":
		c.fields.StatusMessage = true
	case "scope", "scopeVersion":
		c.fields.Instrumentation = true
	}
}

// walk finds everything that is read within x.
func (c *needsCollector) walk(x ast.Expr) {
	if scope, key, ok := c.program.attribute(x); ok {
		c.reads(scope, key)
		c.walk(subject(x))
		return
	}
	if scope, ok := c.program.attributeMap(x); ok {
		c.whole[scope] = true // used without naming a key
		c.walk(x.AsSelect().Operand())
		return
	}
	switch x.Kind() {
	case ast.SelectKind:
		if c.program.isA(x.AsSelect().Operand(), "Span") || c.program.isKind(x.AsSelect().Operand(), types.DynKind) {
			c.field(x.AsSelect().FieldName())
		}
		if x.AsSelect().FieldName() == "service" && c.program.isA(x.AsSelect().Operand(), "Span") {
			c.attributes[serviceName] = true
		}
		if x.AsSelect().FieldName() == "services" && c.program.isA(x.AsSelect().Operand(), "Trace") {
			c.attributes[serviceName] = true
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

// index records v[key] if the key is unknown, or if v is known only at run time.
func (c *needsCollector) index(v, key ast.Expr) {
	text, literal := literalString(key)
	dynamic := c.program.isKind(v, types.DynKind)
	switch {
	case dynamic && literal:
		c.reads(columnar.ScopeAny, text)
	case dynamic && c.program.isKind(key, types.StringKind, types.DynKind), c.program.isA(v, "Span"):
		c.whole[columnar.ScopeAny] = true
	}
}

// optionalField records v.?field for any v.
func (c *needsCollector) optionalField(field ast.Expr) {
	name, _ := literalString(field)
	c.field(name)
	switch name {
	case "attributes":
		c.whole[columnar.ScopeSpan], c.whole[columnar.ScopeEvent], c.whole[columnar.ScopeLink] = true, true, true
	case "resource":
		c.whole[columnar.ScopeResource] = true
	case "service", "services":
		c.attributes[serviceName] = true
	}
}

func (p *Expression) isKind(x ast.Expr, kinds ...types.Kind) bool {
	t := ofOptional(p.types[x.ID()])
	return t != nil && slices.Contains(kinds, t.Kind())
}

func (p *Expression) isA(x ast.Expr, typeName string) bool {
	t := ofOptional(p.types[x.ID()])
	return t != nil && t.TypeName() == typeName
}

// ofOptional returns the type of an optional's value. Selecting from an optional selects from its value.
func ofOptional(t *types.Type) *types.Type {
	for t != nil && t.Kind() == types.OpaqueKind && t.TypeName() == "optional_type" {
		t = t.Parameters()[0]
	}
	return t
}

// attributeMap recognizes s.attributes, s.resource, e.attributes and l.attributes.
func (p *Expression) attributeMap(x ast.Expr) (columnar.Scope, bool) {
	if x.Kind() != ast.SelectKind || x.AsSelect().IsTestOnly() {
		return 0, false
	}
	operand, field := x.AsSelect().Operand(), x.AsSelect().FieldName()
	switch {
	case field == "attributes" && p.isA(operand, "Span"):
		return columnar.ScopeSpan, true
	case field == "resource" && p.isA(operand, "Span"):
		return columnar.ScopeResource, true
	case field == "attributes" && p.isA(operand, "Event"):
		return columnar.ScopeEvent, true
	case field == "attributes" && p.isA(operand, "Link"):
		return columnar.ScopeLink, true
	}
	return 0, false
}

// attribute recognizes a part that reads one attribute by its key: s["key"], s.attributes.key,
// s.attributes["key"], has(s.attributes.key) and "key" in s.attributes, their optional forms, and the same
// for resources, events and links.
func (p *Expression) attribute(x ast.Expr) (columnar.Scope, string, bool) {
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
				return columnar.ScopeAny, key, true
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

// subject returns the expression to whose value the attribute x belongs.
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
