package celgo

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/betracehq/betrace/trace"
)

// Trace is a trace as cel-go's programs read it. All values of its spans are made beforehand, so that
// none is converted while a program runs.
type Trace struct {
	spans []*span
	list  ref.Val
}

// Spans returns how many spans the trace has.
func (t *Trace) Spans() int { return len(t.spans) }

// span is a native value. Its fields are read by functions, without their names.
type span struct {
	fields [numFields]ref.Val
	values []ref.Val // by slot
	own    []bool    // whether the value is the span's, not its resource's
	slots  map[string]int

	parent         *span
	up, below      []*span
	ancestors, all ref.Val // made on first use
	start, end     trace.Time
}

type field int

const (
	fieldName field = iota
	fieldService
	fieldKind
	fieldStatus
	fieldDuration
	fieldChildren
	fieldAttributes
	fieldResource
	numFields
)

var spanType = types.NewObjectType("Span", traits.FieldTesterType, traits.IndexerType)

func (s *span) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("no conversion of a span to %v", t)
}
func (s *span) ConvertToType(ref.Type) ref.Val { return types.NoSuchOverloadErr() }
func (s *span) Equal(other ref.Val) ref.Val    { return types.Bool(other == ref.Val(s)) }
func (s *span) Type() ref.Type                 { return spanType }
func (s *span) Value() any                     { return s }
func (s *span) IsSet(ref.Val) ref.Val          { return types.NoSuchOverloadErr() }
func (s *span) Get(key ref.Val) ref.Val        { return s.value(string(key.(types.String))) }
func (s *span) isAbsent() bool                 { return s.slots == nil }
func (s *span) value(key string) ref.Val {
	if slot, ok := s.slots[key]; ok {
		return s.values[slot]
	}
	return absent
}

// attributes are those of a span or of its resource.
type attributes struct {
	of  *span
	own bool
}

var attributesType = types.NewMapType(types.StringType, types.DynType)

func (a attributes) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("no conversion of attributes to %v", t)
}
func (a attributes) ConvertToType(ref.Type) ref.Val { return types.NoSuchOverloadErr() }
func (a attributes) Equal(ref.Val) ref.Val          { return types.False }
func (a attributes) Type() ref.Type                 { return attributesType }
func (a attributes) Value() any                     { return a }
func (a attributes) Size() ref.Val                  { return types.NoSuchOverloadErr() }
func (a attributes) Iterator() traits.Iterator      { panic("attributes cannot be iterated over") }
func (a attributes) Get(key ref.Val) ref.Val        { v, _ := a.Find(key); return v }
func (a attributes) Find(key ref.Val) (ref.Val, bool) {
	slot, ok := a.of.slots[string(key.(types.String))]
	if !ok || a.of.own[slot] != a.own {
		return absent, true
	}
	return a.of.values[slot], true
}
func (a attributes) Contains(key ref.Val) ref.Val {
	v, _ := a.Find(key)
	return types.Bool(v != absent)
}

// absent is the value of an attribute that does not exist. It equals nothing, and no comparison with it
// is true. Thus an expression needs no test for presence, which would cost another lookup.
var absent ref.Val = absentValue{}

type absentValue struct{}

var absentType = types.NewOpaqueType("absent").WithTraits(traits.ComparerType)

func (absentValue) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("no conversion of an absent attribute to %v", t)
}
func (absentValue) ConvertToType(ref.Type) ref.Val { return types.NoSuchOverloadErr() }
func (absentValue) Equal(ref.Val) ref.Val          { return types.False }
func (absentValue) Compare(ref.Val) ref.Val        { return types.False }
func (absentValue) Type() ref.Type                 { return absentType }
func (absentValue) Value() any                     { return nil }

// nobody stands in for the parent of a root span.
var nobody = func() *span {
	s := &span{ancestors: listOf(nil), all: listOf(nil)}
	for i := range s.fields {
		s.fields[i] = absent
	}
	s.fields[fieldChildren] = listOf(nil)
	s.fields[fieldAttributes], s.fields[fieldResource] = attributes{s, true}, attributes{s, false}
	return s
}()

func listOf(spans []*span) ref.Val {
	values := make([]ref.Val, len(spans))
	for i, s := range spans {
		values[i] = s
	}
	return types.NewRefValList(types.DefaultTypeAdapter, values)
}

// Prepare makes the values of a trace that programs read. keys are the attributes that the programs read.
func Prepare(t *trace.Trace, keys []string) *Trace {
	slots := make(map[string]int, len(keys))
	for i, key := range keys {
		slots[key] = i
	}
	out := &Trace{}
	for i := range t.Spans {
		s := &t.Spans[i]
		v := &span{slots: slots, values: make([]ref.Val, len(keys)), own: make([]bool, len(keys)), start: s.Start, end: s.End}
		v.fields = [numFields]ref.Val{
			fieldName: types.String(s.Name), fieldService: types.String(s.Service()), fieldKind: types.String(s.Kind.String()),
			fieldStatus: types.String(s.Status.String()), fieldDuration: types.Duration{Duration: s.Duration()},
			fieldAttributes: attributes{v, true}, fieldResource: attributes{v, false},
		}
		for slot, key := range keys {
			own := s.Attributes.Get(key)
			v.own[slot] = !own.IsAbsent()
			v.values[slot] = valueOf(s.Attribute(key))
		}
		out.spans = append(out.spans, v)
	}
	of := func(indices []int32) (list []*span) {
		for _, i := range indices {
			list = append(list, out.spans[i])
		}
		return list
	}
	for i, s := range out.spans {
		s.parent = nobody
		if p := t.Parent(i); p >= 0 {
			s.parent = out.spans[p]
		}
		s.fields[fieldChildren] = listOf(of(t.Children(i)))
		s.up, s.below = of(t.Ancestors(i)), of(t.Descendants(i))
	}
	out.list = listOf(out.spans)
	return out
}

func valueOf(v trace.Value) ref.Val {
	switch v.Type() {
	case trace.TypeString:
		return types.String(v.Str())
	case trace.TypeInt:
		return types.Int(v.Int())
	case trace.TypeDouble:
		return types.Double(v.Double())
	case trace.TypeBool:
		return types.Bool(v.Bool())
	}
	return absent
}
