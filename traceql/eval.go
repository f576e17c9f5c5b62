package traceql

import (
	"encoding/hex"
	"math"
	"strings"

	"github.com/betracehq/betrace/trace"
)

// Matches reports whether a span of the trace matches the filter.
func (f *Filter) Matches(t *trace.Trace) bool {
	for i := range t.Spans {
		if f.MatchesSpan(t, i) {
			return true
		}
	}
	return false
}

// MatchesSpan reports whether span i of the trace matches the filter.
func (f *Filter) MatchesSpan(t *trace.Trace, i int) bool {
	return (&evaluation{t: t, i: i, s: &t.Spans[i]}).truth(f.expr)
}

// evaluation evaluates expressions on one span: span i of t, or the span of row.
type evaluation struct {
	t   *trace.Trace
	i   int
	s   *trace.Span
	row *batchRow
}

func (e *evaluation) traceID() trace.ID {
	if e.row != nil {
		return e.row.f.b.IDs[e.row.t]
	}
	return e.t.ID
}

// operand is the result of an expression for one span: absent, one value, or several of which any may match
// (elements of an array, attributes of events and links).
type operand struct {
	typ Type // the type of constants and intrinsics; TypeAny if each value has its own type
	one trace.Value
	any []trace.Value
}

// truth returns the expression's value as a boolean. Values that are absent or not booleans are false.
func (e *evaluation) truth(x Expr) bool {
	switch x := x.(type) {
	case Not:
		return !e.truth(x.X)
	case Binary:
		switch {
		case x.Op == OpAnd:
			return e.truth(x.Left) && e.truth(x.Right)
		case x.Op == OpOr:
			return e.truth(x.Left) || e.truth(x.Right)
		case x.Op.isComparison():
			return e.compare(x)
		}
	}
	o := e.operand(x)
	for v := range o.values {
		if v.Bool() {
			return true
		}
	}
	return false
}

func (e *evaluation) compare(x Binary) bool {
	left := e.operand(x.Left)
	if c, ok := x.Right.(Const); ok && c.Type == TypeNil {
		return left.isPresent() == (x.Op == OpNotEqual)
	}
	if f, ok := x.Left.(Field); ok && f.Key == "trace:id" && f.Scope == ScopeIntrinsic {
		return e.compareTraceID(x)
	}
	if x.regex != nil {
		for v := range left.values {
			if v.Type() == trace.TypeString && x.regex.MatchString(v.Str()) == (x.Op == OpRegex) {
				return true
			}
		}
		return false
	}
	right := e.operand(x.Right)
	for v := range left.values {
		for w := range right.values {
			if holds(x.Op, left.typ, v, right.typ, w) {
				return true
			}
		}
	}
	return false
}

// compareTraceID compares the trace's ID as a hexadecimal number, so that an ID matches with and without
// leading zeros. Regular expressions are matched against the ID without them, as Tempo shows it.
func (e *evaluation) compareTraceID(x Binary) bool {
	trimmed := strings.TrimLeft(e.traceID().String(), "0")
	if x.regex != nil {
		return x.regex.MatchString(trimmed) == (x.Op == OpRegex)
	}
	for w := range e.operand(x.Right).values {
		text := strings.TrimLeft(strings.ToLower(w.Str()), "0")
		if w.Type() == trace.TypeString && holds(x.Op, TypeString, trace.StringValue(trimmed), TypeString, trace.StringValue(text)) {
			return true
		}
	}
	return false
}

// holds compares two values. A comparison of values of different types is false; all numbers have the same
// type.
func holds(op Op, leftType Type, v trace.Value, rightType Type, w trace.Value) bool {
	leftIsEnum, rightIsEnum := leftType == TypeStatus || leftType == TypeKind, rightType == TypeStatus || rightType == TypeKind
	if (leftIsEnum || rightIsEnum) && leftType != rightType {
		return false // a status is not a number
	}
	var c int
	switch {
	case isNumber(v) && isNumber(w):
		var ordered bool
		if c, ordered = trace.CompareNumbers(v, w); !ordered {
			return op == OpNotEqual // NaN is unequal to everything
		}
	case v.Type() != w.Type():
		return false
	case v.Type() == trace.TypeString:
		c = strings.Compare(v.Str(), w.Str())
	case v.Type() == trace.TypeBool && op <= OpNotEqual:
		c = v.Compare(w)
	default:
		return false // arrays, maps and bytes cannot be compared
	}
	switch op {
	case OpEqual:
		return c == 0
	case OpNotEqual:
		return c != 0
	case OpLess:
		return c < 0
	case OpLessEqual:
		return c <= 0
	case OpGreater:
		return c > 0
	case OpGreaterEqual:
		return c >= 0
	}
	return false
}

func isNumber(v trace.Value) bool { return v.Type() == trace.TypeInt || v.Type() == trace.TypeDouble }

func (o operand) isPresent() bool { return !o.one.IsAbsent() || len(o.any) > 0 }

// values yields the values that may match: the value, or the elements of an array if they all have one type.
// Tempo stores other arrays as strings that match nothing.
func (o operand) values(yield func(trace.Value) bool) {
	if !o.one.IsAbsent() {
		elements(o.one, yield)
		return
	}
	for _, v := range o.any {
		if !elements(v, yield) {
			return
		}
	}
}

func elements(v trace.Value, yield func(trace.Value) bool) bool {
	if v.Type() != trace.TypeArray {
		return yield(v)
	}
	list := v.Array()
	for _, e := range list {
		if e.Type() != list[0].Type() {
			return true
		}
	}
	for _, e := range list {
		if !yield(e) {
			return false
		}
	}
	return true
}

func (e *evaluation) operand(x Expr) operand {
	switch x := x.(type) {
	case Const:
		return operand{typ: x.Type, one: x.Value}
	case Field:
		return e.field(x)
	case Binary:
		if x.Op.isArithmetic() {
			return operand{one: arithmetic(x.Op, e.operand(x.Left), e.operand(x.Right))}
		}
	}
	return operand{typ: TypeBool, one: trace.BoolValue(e.truth(x))}
}

func (e *evaluation) field(f Field) operand {
	if e.row != nil {
		return e.row.field(f)
	}
	switch f.Scope {
	case ScopeAny:
		return operand{one: e.s.Attribute(f.Key)}
	case ScopeSpan:
		return operand{one: e.s.Attributes.Get(f.Key)}
	case ScopeResource:
		return operand{one: e.s.Resource.Get(f.Key)}
	case ScopeEvent:
		return e.events(func(ev trace.Event) trace.Value { return ev.Attributes.Get(f.Key) })
	case ScopeLink:
		return e.links(func(l trace.Link) trace.Value { return l.Attributes.Get(f.Key) })
	}
	o := e.intrinsic(f.Key)
	o.typ = intrinsics[f.Key].typ
	return o
}

func (e *evaluation) intrinsic(name string) operand {
	str := func(s string) operand { return operand{one: trace.StringValue(s)} }
	num := func(n int64) operand { return operand{one: trace.IntValue(n)} }
	switch name {
	case "span:name":
		return str(e.s.Name)
	case "span:statusMessage":
		return str(e.s.StatusMessage)
	case "span:status":
		return num(int64(knownStatus(e.s.Status)))
	case "span:kind":
		return num(int64(knownKind(e.s.Kind)))
	case "span:duration":
		return num(int64(e.s.Duration()))
	case "span:id":
		return str(e.s.ID.String())
	case "span:parentID":
		if e.s.ParentID.IsZero() {
			return operand{}
		}
		return str(e.s.ParentID.String())
	case "span:childCount":
		return num(int64(len(e.t.Children(e.i))))
	case "trace:id":
		return str(e.t.ID.String())
	case "trace:duration":
		return num(int64(e.t.Duration()))
	case "trace:rootName":
		if r := e.t.Root(); r >= 0 {
			return str(e.t.Spans[r].Name)
		}
	case "trace:rootService":
		if r := e.t.Root(); r >= 0 {
			return str(e.t.Spans[r].Service())
		}
	case "event:name":
		return e.events(func(ev trace.Event) trace.Value { return trace.StringValue(ev.Name) })
	case "event:timeSinceStart":
		return e.events(func(ev trace.Event) trace.Value { return trace.IntValue(int64(ev.Time) - int64(e.s.Start)) })
	case "link:traceID":
		return e.links(func(l trace.Link) trace.Value { return trace.StringValue(hex.EncodeToString(l.TraceID[:])) })
	case "link:spanID":
		return e.links(func(l trace.Link) trace.Value { return trace.StringValue(hex.EncodeToString(l.SpanID[:])) })
	case "instrumentation:name":
		return str(e.s.Scope)
	case "instrumentation:version":
		return str(e.s.ScopeVersion)
	}
	return operand{}
}

// knownStatus returns StatusUnset for numbers that OTLP does not define.
func knownStatus(s trace.Status) trace.Status {
	if s != trace.StatusOK && s != trace.StatusError {
		return trace.StatusUnset
	}
	return s
}

func knownKind(k trace.Kind) trace.Kind {
	if k < 0 || int(k) >= len(trace.KindNames) {
		return trace.KindUnspecified
	}
	return k
}

func (e *evaluation) events(of func(trace.Event) trace.Value) operand {
	var o operand
	for _, ev := range e.s.Events {
		if v := of(ev); !v.IsAbsent() {
			o.any = append(o.any, v)
		}
	}
	return o
}

func (e *evaluation) links(of func(trace.Link) trace.Value) operand {
	var o operand
	for _, l := range e.s.Links {
		if v := of(l); !v.IsAbsent() {
			o.any = append(o.any, v)
		}
	}
	return o
}

// arithmetic calculates with two numbers. Ints are calculated as in Go if the result fits, otherwise as
// doubles. The result is absent if an operand is not a number, or for a division by zero.
func arithmetic(op Op, left, right operand) trace.Value {
	v, w := left.one, right.one
	if !isNumber(v) || !isNumber(w) {
		return trace.Value{}
	}
	if v.Type() == trace.TypeInt && w.Type() == trace.TypeInt {
		if i, ok := wholeArithmetic(op, v.Int(), w.Int()); ok {
			return trace.IntValue(i)
		}
	}
	a, b := double(v), double(w)
	switch op {
	case OpAdd:
		return trace.DoubleValue(a + b)
	case OpSub:
		return trace.DoubleValue(a - b)
	case OpMul:
		return trace.DoubleValue(a * b)
	case OpPow:
		return trace.DoubleValue(math.Pow(a, b))
	}
	if b == 0 {
		return trace.Value{}
	}
	if op == OpMod {
		return trace.DoubleValue(math.Mod(a, b))
	}
	return trace.DoubleValue(a / b)
}

func wholeArithmetic(op Op, a, b int64) (int64, bool) {
	switch op {
	case OpAdd:
		c := a + b
		return c, (c > a) == (b > 0)
	case OpSub:
		c := a - b
		return c, (c < a) == (b > 0)
	case OpMul:
		if a == 0 || b == 0 {
			return 0, true
		}
		c := a * b
		return c, c/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64)
	case OpDiv:
		if b == 0 || b == -1 && a == math.MinInt64 {
			return 0, false
		}
		return a / b, true
	case OpMod:
		if b == 0 || b == -1 {
			return 0, b == -1
		}
		return a % b, true
	}
	return 0, false
}

func double(v trace.Value) float64 {
	if v.Type() == trace.TypeInt {
		return float64(v.Int())
	}
	return v.Double()
}
