package lang

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/betracehq/betrace/trace"
)

// absent is the absent value.
var absent ref.Val = absentVal{}

var absentType = types.NewOpaqueType("absent")

type absentVal struct{}

func (absentVal) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("no such overload: absent to %v", t)
}
func (absentVal) ConvertToType(ref.Type) ref.Val { return absent }
func (absentVal) Equal(ref.Val) ref.Val          { return types.False }
func (absentVal) Type() ref.Type                 { return absentType }
func (absentVal) Value() any                     { return nil }

func isAbsent(v ref.Val) bool { return v == absent }

// isTrue returns a value as a boolean. Values that are absent or not booleans are false.
func isTrue(v ref.Val) bool { return v == types.True }

// objectVal is a trace, an event or a link.
type objectVal struct {
	typ *types.Type
	key any // identifies the object; comparable
	get func(field string) ref.Val
}

func (o objectVal) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("no such overload: %s to %v", o.typ, t)
}
func (o objectVal) ConvertToType(ref.Type) ref.Val { return types.NoSuchOverloadErr() }
func (o objectVal) Equal(other ref.Val) ref.Val {
	p, ok := other.(objectVal)
	return types.Bool(ok && p.typ == o.typ && p.key == o.key)
}
func (o objectVal) Type() ref.Type { return o.typ }
func (o objectVal) Value() any     { return o.key }

// spanVal is a span of a trace.
type spanVal struct {
	t *trace.Trace
	i int
}

func (s spanVal) span() *trace.Span { return &s.t.Spans[s.i] }

func (s spanVal) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("no such overload: Span to %v", t)
}
func (s spanVal) ConvertToType(ref.Type) ref.Val { return types.NoSuchOverloadErr() }
func (s spanVal) Equal(other ref.Val) ref.Val    { return types.Bool(other == ref.Val(s)) }
func (s spanVal) Type() ref.Type                 { return spanType }
func (s spanVal) Value() any                     { return s }

func spanAt(t *trace.Trace, i int) ref.Val {
	if i < 0 {
		return absent
	}
	return spanVal{t, i}
}

func spanList(t *trace.Trace, indices []int32) ref.Val {
	list := make([]ref.Val, len(indices))
	for n, i := range indices {
		list[n] = spanVal{t, int(i)}
	}
	return listOf(list)
}

func listOf(list []ref.Val) traits.Lister { return types.NewRefValList(types.DefaultTypeAdapter, list) }

func allSpans(t *trace.Trace) ref.Val {
	list := make([]ref.Val, len(t.Spans))
	for i := range list {
		list[i] = spanVal{t, i}
	}
	return listOf(list)
}

func timestamp(t trace.Time) ref.Val { return types.Timestamp{Time: t.Time()} }

func traceField(t *trace.Trace, field string) ref.Val {
	switch field {
	case "id":
		return types.String(t.ID.String())
	case "start":
		return timestamp(t.Start())
	case "end":
		return timestamp(t.End())
	case "duration":
		return types.Duration{Duration: t.Duration()}
	case "root":
		return spanAt(t, t.Root())
	case "services":
		list := make([]ref.Val, len(t.Services()))
		for i, s := range t.Services() {
			list[i] = types.String(s)
		}
		return listOf(list)
	}
	return absent
}

func (s spanVal) field(field string) ref.Val {
	span := s.span()
	switch field {
	case "id":
		return types.String(span.ID.String())
	case "name":
		return types.String(span.Name)
	case "service":
		return types.String(span.Service())
	case "kind":
		return types.String(span.Kind.String())
	case "status":
		return types.String(span.Status.String())
	case "statusMessage":
		return types.String(span.StatusMessage)
	case "start":
		return timestamp(span.Start)
	case "end":
		return timestamp(span.End)
	case "duration":
		return types.Duration{Duration: span.Duration()}
	case "scope":
		return types.String(span.Scope)
	case "scopeVersion":
		return types.String(span.ScopeVersion)
	case "attributes":
		return attrMap{span.Attributes}
	case "resource":
		return attrMap{span.Resource}
	case "parent":
		return spanAt(s.t, s.t.Parent(s.i))
	case "children":
		return spanList(s.t, s.t.Children(s.i))
	case "events":
		list := make([]ref.Val, len(span.Events))
		for n := range span.Events {
			list[n] = eventOf(&span.Events[n])
		}
		return listOf(list)
	case "links":
		list := make([]ref.Val, len(span.Links))
		for n := range span.Links {
			list[n] = linkOf(&span.Links[n])
		}
		return listOf(list)
	}
	return absent
}

func eventOf(e *trace.Event) ref.Val {
	return objectVal{eventType, e, func(field string) ref.Val {
		switch field {
		case "name":
			return types.String(e.Name)
		case "time":
			return timestamp(e.Time)
		case "attributes":
			return attrMap{e.Attributes}
		}
		return absent
	}}
}

func linkOf(l *trace.Link) ref.Val {
	return objectVal{linkType, l, func(field string) ref.Val {
		switch field {
		case "traceId":
			return types.String(l.TraceID.String())
		case "spanId":
			return types.String(l.SpanID.String())
		case "attributes":
			return attrMap{l.Attributes}
		}
		return absent
	}}
}

// valueOf converts an attribute's value to CEL.
func valueOf(v trace.Value) ref.Val {
	switch v.Type() {
	case trace.TypeString:
		return types.String(v.Str())
	case trace.TypeBool:
		return types.Bool(v.Bool())
	case trace.TypeInt:
		return types.Int(v.Int())
	case trace.TypeDouble:
		return types.Double(v.Double())
	case trace.TypeBytes:
		return types.Bytes(v.Bytes())
	case trace.TypeArray:
		list := make([]ref.Val, len(v.Array()))
		for i, e := range v.Array() {
			list[i] = valueOf(e)
		}
		return listOf(list)
	case trace.TypeMap:
		return attrMap{v.Map()}
	}
	return absent
}

// attrMap is a set of attributes as a map from key to value.
type attrMap struct{ attrs trace.Attributes }

func (m attrMap) Find(key ref.Val) (ref.Val, bool) {
	k, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	v := m.attrs.Get(string(k))
	if v.IsAbsent() {
		return nil, false
	}
	return valueOf(v), true
}

func (m attrMap) Get(key ref.Val) ref.Val {
	if v, ok := m.Find(key); ok {
		return v
	}
	return absent
}

func (m attrMap) Contains(key ref.Val) ref.Val {
	_, ok := m.Find(key)
	return types.Bool(ok)
}

func (m attrMap) Size() ref.Val { return types.Int(len(m.attrs)) }

// Iterator returns an iterator over the sorted keys.
func (m attrMap) Iterator() traits.Iterator {
	keys := make([]ref.Val, len(m.attrs))
	for i, a := range m.attrs {
		keys[i] = types.String(a.Key)
	}
	return listOf(keys).Iterator()
}

func (m attrMap) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("no such overload: map to %v", t)
}

func (m attrMap) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return types.MapType
	}
	return types.NoSuchOverloadErr()
}
func (m attrMap) Equal(other ref.Val) ref.Val {
	equal, _ := compareEqual(m, other)
	return types.Bool(equal)
}
func (m attrMap) Type() ref.Type { return types.MapType }
func (m attrMap) Value() any     { return m.attrs }
