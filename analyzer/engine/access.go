package engine

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// attribute is an attribute of a span, event or link by its key.
type attribute struct {
	of columnar.AttributeKey
	// older are the older names of the attribute, see source.
	older string
	// own and resource are the columns of the attribute, if it is read row by row.
	own, resource *column
}

// attribute lowers a read of an attribute by its key, and the test whether it is present; it returns nil for other
// expressions.
func (l *lowering) attribute(e ast.Expr) *node {
	a, of, ok := l.x.Attribute(e)
	if !ok {
		return nil
	}
	isOptional := e.Kind() == ast.CallKind && (e.AsCall().FunctionName() == operators.OptIndex || e.AsCall().FunctionName() == operators.OptSelect)
	object := l.object(of)
	if object == nil || isOptional {
		return nil
	}
	x := attribute{of: a, older: strings.Join(l.x.OlderNames(a.Key), nameSeparator)}
	if e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() || e.Kind() == ast.CallKind && e.AsCall().FunctionName() == lang.FunctionIn {
		return newNode(&hasAttribute{x}, true, object)
	}
	return newNode(&x, false, object)
}

func (x *attribute) name() string {
	name := fmt.Sprintf("attribute %d:%q", x.of.Scope, x.of.Key)
	if x.older != "" {
		name += fmt.Sprintf(",%q", x.older)
	}
	return name
}

func (x *attribute) isSameAs(y *attribute) bool { return x.of == y.of && x.older == y.older }

func (*attribute) condition(*compiler, *node, *binder) *predicate { return nil }

// ownDomain is the table of an attribute's first column, by scope.
var ownDomain = [...]domain{
	columnar.ScopeAny: spans, columnar.ScopeSpan: spans, columnar.ScopeResource: resources, columnar.ScopeEvent: events, columnar.ScopeLink: links,
}

func (x *attribute) prepare(c *compiler, _ *node) {
	x.own = c.column(source{domain: ownDomain[x.of.Scope], key: x.of.Key, older: x.older})
	x.resource = c.column(source{domain: resources, key: x.of.Key, older: x.older})
}

func (x *attribute) value(e *evaluation, n *node) value {
	_, row, ok := e.object(n.args[0])
	if !ok {
		return value{}
	}
	return x.at(e, row)
}

// at returns the attribute of a row.
func (x *attribute) at(e *evaluation, row int32) value {
	if x.of.Scope == columnar.ScopeResource {
		return columnValue(e.columns[x.resource.id].attribute, e.batch.Resources[row])
	}
	v := columnValue(e.columns[x.own.id].attribute, row)
	if v.kind == kindAbsent && x.of.Scope == columnar.ScopeAny {
		v = columnValue(e.columns[x.resource.id].attribute, e.batch.Resources[row])
	}
	return v
}

// field is a field of a span or event.
type field struct {
	of     string
	number fieldNumber
}

// fieldNumber identifies a field that is read row by row.
type fieldNumber uint8

const (
	fieldUnknown fieldNumber = iota
	fieldName
	fieldService
	fieldKind
	fieldStatus
	fieldStatusMessage
	fieldScope
	fieldScopeVersion
	fieldStart
	fieldEnd
	fieldDuration
	fieldTime
)

var fieldNumbers = map[string]fieldNumber{
	"name": fieldName, "service": fieldService, "kind": fieldKind, "status": fieldStatus, "statusMessage": fieldStatusMessage,
	"scope": fieldScope, "scopeVersion": fieldScopeVersion, "start": fieldStart, "end": fieldEnd, "duration": fieldDuration, "time": fieldTime,
}

func isSpanField(name string) bool  { return fieldNumbers[name] != fieldUnknown && name != "time" }
func isEventField(name string) bool { return name == "name" || name == "time" }

func newField(name string, object *node) *node {
	return newNode(&field{name, fieldNumbers[name]}, false, object)
}

func (x *field) name() string { return "field " + x.of }

func (*field) condition(*compiler, *node, *binder) *predicate { return nil }

func (x *field) value(e *evaluation, n *node) value {
	kind, row, ok := e.object(n.args[0])
	if !ok {
		return value{}
	}
	return x.at(e, kind, row)
}

// at returns the field of a row of spans or events.
func (x *field) at(e *evaluation, kind kind, row int32) value {
	b := e.batch
	if kind == kindEvent {
		if x.number == fieldTime {
			return value{kind: kindTime, i: int64(b.Events.Times[row])}
		}
		return fieldText(&b.Events.Names, row)
	}
	switch x.number {
	case fieldName:
		return fieldText(&b.Names, row)
	case fieldService:
		return fieldText(&b.Service().Text, b.Resources[row])
	case fieldKind:
		return textValue(nameOf(kindNames, int(b.Kinds[row])))
	case fieldStatus:
		return textValue(nameOf(statusNames, int(b.Statuses[row])))
	case fieldStatusMessage:
		return fieldText(&b.StatusMessages, row)
	case fieldScope:
		return fieldText(&b.Scopes, row)
	case fieldScopeVersion:
		return fieldText(&b.ScopeVersions, row)
	case fieldStart:
		return value{kind: kindTime, i: int64(b.Starts[row])}
	case fieldEnd:
		return value{kind: kindTime, i: int64(b.Ends[row])}
	case fieldDuration:
		return value{kind: kindDuration, i: int64(b.Ends[row].Sub(b.Starts[row]))}
	}
	return unknownValue
}

func fieldText(c *columnar.TextColumn, row int32) value { return textValue(c.Bytes(codeOf(c, row))) }

var kindNames, statusNames = bytesOf(trace.KindNames[:]), bytesOf(trace.StatusNames[:])

func bytesOf(names []string) (of [][]byte) {
	for _, name := range names {
		of = append(of, []byte(name))
	}
	return of
}

// nameOf returns the name of a number. A number without a name has the first.
func nameOf(names [][]byte, number int) []byte {
	if number < 0 || number >= len(names) {
		number = 0
	}
	return names[number]
}

// traceField is the start, end or duration of the trace.
type traceField struct{ of string }

func (x *traceField) name() string { return "trace." + x.of }

func (*traceField) condition(*compiler, *node, *binder) *predicate { return nil }

func (x *traceField) value(e *evaluation, _ *node) value {
	b := e.batch
	low, high := b.First[e.row.trace], b.First[e.row.trace+1]
	start := b.Starts[low]
	if x.of == "start" {
		return value{kind: kindTime, i: int64(start)}
	}
	end := trace.Time(0)
	for _, at := range b.Ends[low:high] {
		end = max(end, at)
	}
	if x.of == "end" {
		return value{kind: kindTime, i: int64(end)}
	}
	return value{kind: kindDuration, i: int64(end.Sub(start))}
}

// leaf returns a predicate of an attribute or a field: test returns it for a column. leaf returns nil for other
// operands, and for those of other rows than v stands for.
func (c *compiler) leaf(operand *node, v *binder, test func(d domain, col *column) *predicate) *predicate {
	d := domainOf(v)
	if v == nil {
		d = spans // the root
	}
	switch x := operand.is.(type) {
	case *field:
		at, ok := c.place(operand.args[0], v)
		if !ok {
			return nil
		}
		if x.of == "service" {
			return at.of(c.ofResource(test(resources, c.column(source{domain: resources, field: "service"}))))
		}
		return at.of(test(d, c.column(source{domain: d, field: x.of})))
	case *attribute:
		at, ok := c.place(operand.args[0], v)
		if !ok {
			return nil
		}
		ofResource := func() *predicate {
			return c.ofResource(test(resources, c.column(source{domain: resources, key: x.of.Key, older: x.older})))
		}
		switch x.of.Scope {
		case columnar.ScopeResource:
			return at.of(ofResource())
		case columnar.ScopeAny:
			own := c.column(source{domain: spans, key: x.of.Key, older: x.older})
			resource := ofResource()
			return at.of(c.join(true, spans, test(spans, own), c.join(false, spans, resource, c.not(c.has(spans, own)))))
		}
		return at.of(test(d, c.column(source{domain: d, key: x.of.Key, older: x.older})))
	}
	return nil
}
