package traceql

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Expr is an expression within a filter: a [Field], a [Const], a [Binary] or a [Not]. Expressions are
// immutable.
type Expr interface {
	// appendTo appends the expression as TraceQL, in parentheses if its precedence is lower than min.
	appendTo(b []byte, min int) []byte
	// static returns the type of the expression as far as it is known without evaluation.
	static() Type
}

// Type is the type of an expression or a constant.
type Type uint8

// TypeAny is the type of attributes, which may hold any value.
const (
	TypeAny Type = iota
	TypeNil
	TypeString
	TypeInt
	TypeFloat
	TypeBool
	TypeDuration
	TypeStatus
	TypeKind
)

var typeNames = [...]string{"any", "nil", "string", "int", "float", "bool", "duration", "status", "kind"}

// String returns the type's name in lower case.
func (t Type) String() string { return typeNames[t] }

func (t Type) isNumber() bool { return t == TypeInt || t == TypeFloat || t == TypeDuration }

// Scope is the scope of a [Field].
type Scope = columnar.Scope

// The scopes of attributes. ScopeAny means the span's attribute, otherwise the resource's.
const (
	ScopeIntrinsic = columnar.ScopeIntrinsic // not an attribute: see Intrinsic
	ScopeAny       = columnar.ScopeAny
	ScopeSpan      = columnar.ScopeSpan
	ScopeResource  = columnar.ScopeResource
	ScopeEvent     = columnar.ScopeEvent
	ScopeLink      = columnar.ScopeLink
)

var scopePrefix = [...]string{"", ".", "span.", "resource.", "event.", "link."}

// Field is an attribute or an intrinsic of a span.
type Field struct {
	Scope Scope
	// Key is the attribute's key, or the scoped name of an intrinsic, such as "span:name".
	Key string
}

// Const is a constant. Value holds durations as an int of nanoseconds, and status and kind as an int with
// OTLP's number.
type Const struct {
	Type  Type
	Value trace.Value
}

// Op is an operator between two expressions.
type Op uint8

// The operators of TraceQL's filters.
const (
	OpOr Op = iota
	OpAnd
	OpEqual
	OpNotEqual
	OpLess
	OpLessEqual
	OpGreater
	OpGreaterEqual
	OpRegex
	OpNotRegex
	OpAdd
	OpSub
	OpMul
	OpDiv
	OpMod
	OpPow
)

// ops holds each operator's text and precedence. In TraceQL && and || have equal precedence, from left to
// right.
var ops = [...]struct {
	text    string
	binding int
}{
	OpOr: {"||", 1}, OpAnd: {"&&", 1},
	OpEqual: {"=", 2}, OpNotEqual: {"!=", 2}, OpLess: {"<", 2}, OpLessEqual: {"<=", 2},
	OpGreater: {">", 2}, OpGreaterEqual: {">=", 2}, OpRegex: {"=~", 2}, OpNotRegex: {"!~", 2},
	OpAdd: {"+", 3}, OpSub: {"-", 3},
	OpMul: {"*", 5}, OpDiv: {"/", 5}, OpMod: {"%", 5},
	OpPow: {"^", 6},
}

const (
	bindNot  = 4
	bindAtom = 7
)

// String returns the operator in TraceQL.
func (op Op) String() string { return ops[op].text }

func (op Op) isComparison() bool { return op >= OpEqual && op <= OpNotRegex }
func (op Op) isArithmetic() bool { return op >= OpAdd }

// flipped returns the operator for exchanged operands: a < b becomes b > a.
func (op Op) flipped() Op {
	switch op {
	case OpLess:
		return OpGreater
	case OpLessEqual:
		return OpGreaterEqual
	case OpGreater:
		return OpLess
	case OpGreaterEqual:
		return OpLessEqual
	}
	return op
}

// Binary is an operator with two operands.
type Binary struct {
	Op          Op
	Left, Right Expr
	regex       *regexp.Regexp // for =~ and !~
}

// OnText returns a function that evaluates a comparison with a constant string on a string. It returns nil
// for any other expression.
func (b Binary) OnText() func(text []byte) bool {
	c, ok := b.Right.(Const)
	if !ok || c.Type != TypeString || !b.Op.isComparison() {
		return nil
	}
	if b.regex != nil {
		return func(text []byte) bool { return b.regex.Match(text) == (b.Op == OpRegex) }
	}
	return func(text []byte) bool {
		return holds(b.Op, TypeString, trace.StringValue(string(text)), TypeString, c.Value)
	}
}

// Not is !x.
type Not struct{ X Expr }

// True and False are the boolean constants: { true } matches every span.
var (
	True  = Const{Type: TypeBool, Value: trace.BoolValue(true)}
	False = Const{Type: TypeBool, Value: trace.BoolValue(false)}
	// Nil is the constant for testing presence with = and !=.
	Nil = Const{Type: TypeNil}
)

// String returns a string constant.
func String(s string) Const { return Const{TypeString, trace.StringValue(s)} }

// Int returns an int constant.
func Int(i int64) Const { return Const{TypeInt, trace.IntValue(i)} }

// Float returns a float constant.
func Float(f float64) Const { return Const{TypeFloat, trace.DoubleValue(f)} }

// Bool returns True or False.
func Bool(b bool) Const { return Const{TypeBool, trace.BoolValue(b)} }

// Duration returns a duration constant.
func Duration(d time.Duration) Const { return Const{TypeDuration, trace.IntValue(int64(d))} }

// Status returns a status constant.
func Status(s trace.Status) Const { return Const{TypeStatus, trace.IntValue(int64(s))} }

// Kind returns a kind constant.
func Kind(k trace.Kind) Const { return Const{TypeKind, trace.IntValue(int64(k))} }

// Attribute returns the field for an attribute.
func Attribute(scope Scope, key string) Field { return Field{Scope: scope, Key: key} }

// Intrinsic returns the field for an intrinsic, given its scoped name such as "span:name". It panics if the
// name is unknown.
func Intrinsic(name string) Field {
	if _, ok := intrinsics[name]; !ok {
		panic("traceql.Intrinsic: unknown intrinsic " + name)
	}
	return Field{Scope: ScopeIntrinsic, Key: name}
}

// Compare returns the comparison of two expressions. It panics if op is not a comparison. [New] may refuse
// the result for other reasons.
func Compare(left Expr, op Op, right Expr) Expr {
	if !op.isComparison() {
		panic("traceql.Compare: " + op.String() + " is not a comparison")
	}
	return Binary{Op: op, Left: left, Right: right}
}

// And returns the conjunction of all expressions, simplified. Without arguments it returns True.
func And(xs ...Expr) Expr { return join(OpAnd, True, False, xs) }

// AnyOf returns the disjunction of all expressions, simplified. Without arguments it returns False.
func AnyOf(xs ...Expr) Expr { return join(OpOr, False, True, xs) }

// join joins xs with op and omits neutral and repeated operands.
func join(op Op, neutral, absorbing Const, xs []Expr) Expr {
	var out Expr
	seen := map[string]bool{}
	var add func(x Expr) bool
	add = func(x Expr) bool {
		if c, ok := x.(Const); ok && c == neutral {
			return true
		} else if ok && c == absorbing {
			return false
		}
		if b, ok := x.(Binary); ok && b.Op == op {
			return add(b.Left) && add(b.Right)
		}
		text := string(x.appendTo(nil, 0))
		if seen[text] {
			return true
		}
		seen[text] = true
		if out == nil {
			out = x
		} else {
			out = Binary{Op: op, Left: out, Right: x}
		}
		return true
	}
	for _, x := range xs {
		if !add(x) {
			return absorbing
		}
	}
	if out == nil {
		return neutral
	}
	return out
}

func (f Field) static() Type {
	if f.Scope != ScopeIntrinsic {
		return TypeAny
	}
	return intrinsics[f.Key].typ
}

func (c Const) static() Type { return c.Type }
func (n Not) static() Type   { return TypeBool }

func (x Binary) static() Type {
	if !x.Op.isArithmetic() {
		return TypeBool
	}
	l, r := x.Left.static(), x.Right.static()
	switch {
	case l == TypeAny || r == TypeAny:
		return TypeAny
	case l == TypeDuration || r == TypeDuration:
		return TypeDuration
	case l == TypeInt && r == TypeInt:
		return TypeInt
	}
	return TypeFloat
}

func (f Field) appendTo(b []byte, _ int) []byte {
	if f.Scope == ScopeIntrinsic {
		return append(b, intrinsics[f.Key].text...)
	}
	b = append(b, scopePrefix[f.Scope]...)
	if isPlainKey(f) {
		return append(b, f.Key...)
	}
	return append(append(append(b, '"'), keyEscaper.Replace(f.Key)...), '"')
}

var keyEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// isPlainKey reports whether a key needs no quotes. Tempo's grammar allows more characters, but they are hard
// to read without quotes.
func isPlainKey(f Field) bool {
	if f.Key == "" {
		return false
	}
	for _, r := range f.Key {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/@:", r)) {
			return false
		}
	}
	// .span.x would be read as attribute x of the scope span.
	if f.Scope == ScopeAny {
		first, _, dotted := strings.Cut(f.Key, ".")
		if _, isScope := scopes[first+"."]; dotted && (isScope || first == "instrumentation") || first == "parent" {
			return false
		}
	}
	return !strings.ContainsRune("0123456789-/.", rune(f.Key[0])) // .5 is a number, // begins a comment
}

func (c Const) appendTo(b []byte, min int) []byte {
	switch c.Type {
	case TypeString:
		return strconv.AppendQuote(b, c.Value.Str())
	case TypeInt:
		return parens(b, min, c.Value.Int() < 0, strconv.FormatInt(c.Value.Int(), 10))
	case TypeFloat:
		text := strconv.FormatFloat(c.Value.Double(), 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return parens(b, min, c.Value.Double() < 0, text)
	case TypeBool:
		return strconv.AppendBool(b, c.Value.Bool())
	case TypeDuration:
		return parens(b, min, c.Value.Int() < 0, formatDuration(time.Duration(c.Value.Int())))
	case TypeStatus:
		return append(b, trace.Status(c.Value.Int()).String()...)
	case TypeKind:
		return append(b, trace.Kind(c.Value.Int()).String()...)
	}
	return append(b, "nil"...)
}

// formatDuration formats a duration as one number and one unit, without rounding.
func formatDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"}} {
		if d != 0 && d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + "ns"
}

func parens(b []byte, min int, negative bool, text string) []byte {
	if negative && min > 3 { // -x has the precedence of x - y
		return append(append(append(b, '('), text...), ')')
	}
	return append(b, text...)
}

func (n Not) appendTo(b []byte, min int) []byte {
	if min > bindNot {
		return append(n.appendTo(append(b, '('), 0), ')')
	}
	return n.X.appendTo(append(b, '!'), bindAtom)
}

func (x Binary) appendTo(b []byte, min int) []byte {
	binding := ops[x.Op].binding
	if min > binding {
		return append(x.appendTo(append(b, '('), 0), ')')
	}
	left, right := binding, binding+1
	if x.Op == OpPow { // right-associative
		left, right = binding+1, binding
	}
	if l, ok := x.Left.(Binary); ok && binding == 1 && l.Op != x.Op && ops[l.Op].binding == 1 {
		left = bindAtom // a || b && c means (a || b) && c in TraceQL, so write the parentheses
	}
	b = x.Left.appendTo(b, left)
	b = append(append(append(b, ' '), x.Op.String()...), ' ')
	return x.Right.appendTo(b, right)
}

// intrinsic describes a field of a span that is not an attribute.
type intrinsic struct {
	text string // the spelling that Tempo 2.8 and newer read
	typ  Type
	// whole is set if the value depends on the whole trace. Tempo may see only a part of it.
	whole bool
}

// intrinsics holds all intrinsics by their scoped names.
var intrinsics = map[string]intrinsic{
	"span:name":               {text: "name", typ: TypeString},
	"span:status":             {text: "status", typ: TypeStatus},
	"span:statusMessage":      {text: "statusMessage", typ: TypeString},
	"span:kind":               {text: "kind", typ: TypeKind},
	"span:duration":           {text: "duration", typ: TypeDuration},
	"span:id":                 {text: "span:id", typ: TypeString},
	"span:parentID":           {text: "span:parentID", typ: TypeString},
	"span:childCount":         {text: "childCount", typ: TypeInt, whole: true},
	"trace:id":                {text: "trace:id", typ: TypeString},
	"trace:duration":          {text: "traceDuration", typ: TypeDuration, whole: true},
	"trace:rootName":          {text: "rootName", typ: TypeString, whole: true},
	"trace:rootService":       {text: "rootServiceName", typ: TypeString, whole: true},
	"event:name":              {text: "event:name", typ: TypeString},
	"event:timeSinceStart":    {text: "event:timeSinceStart", typ: TypeDuration},
	"link:traceID":            {text: "link:traceID", typ: TypeString},
	"link:spanID":             {text: "link:spanID", typ: TypeString},
	"instrumentation:name":    {text: "instrumentation:name", typ: TypeString},
	"instrumentation:version": {text: "instrumentation:version", typ: TypeString},
}

// unscoped are the older names of intrinsics.
var unscoped = map[string]string{
	"name": "span:name", "status": "span:status", "statusMessage": "span:statusMessage", "kind": "span:kind",
	"duration": "span:duration", "childCount": "span:childCount", "traceDuration": "trace:duration",
	"rootName": "trace:rootName", "rootServiceName": "trace:rootService",
}

var scopes = map[string]Scope{
	".": ScopeAny, "span.": ScopeSpan, "resource.": ScopeResource, "event.": ScopeEvent, "link.": ScopeLink,
}

// check returns an error for expressions that cannot be evaluated, otherwise the expression with compiled
// regular expressions.
func check(x Expr) (Expr, error) {
	switch x := x.(type) {
	case Not:
		inner, err := check(x.X)
		if err != nil {
			return nil, err
		}
		if t := inner.static(); t != TypeBool && t != TypeAny {
			return nil, fmt.Errorf("! takes a boolean; %s is %s", text(inner), article(t))
		}
		return Not{inner}, nil
	case Binary:
		return checkBinary(x)
	}
	return x, nil
}

func checkBinary(x Binary) (Expr, error) {
	var err error
	if x.Left, err = check(x.Left); err != nil {
		return nil, err
	}
	if x.Right, err = check(x.Right); err != nil {
		return nil, err
	}
	l, r := x.Left.static(), x.Right.static()
	refuse := func(format string, args ...any) (Expr, error) {
		return nil, fmt.Errorf("%s: "+format, append([]any{text(x)}, args...)...)
	}
	if l == TypeNil || r == TypeNil {
		if x.Op != OpEqual && x.Op != OpNotEqual {
			return refuse("nil can be compared with = and != only")
		}
		if l == TypeNil && r == TypeNil {
			return refuse("nil cannot be compared with nil")
		}
		if l == TypeNil {
			x.Left, x.Right = x.Right, x.Left
		}
		if _, ok := x.Left.(Field); !ok {
			return refuse("nil tests the presence of an attribute; %s is not an attribute", text(x.Left))
		}
		return x, nil
	}
	if l != r && l != TypeAny && r != TypeAny && !(l.isNumber() && r.isNumber()) {
		return refuse("%s cannot be compared with %s", article(l), article(r))
	}
	for _, side := range []Expr{x.Left, x.Right} {
		if t := side.static(); !x.Op.takes(t) {
			return refuse("%s cannot be applied to %s", x.Op, article(t))
		}
	}
	if x.Op == OpRegex || x.Op == OpNotRegex {
		pattern, ok := x.Right.(Const)
		if !ok || pattern.Type != TypeString {
			return refuse("%s requires a quoted regular expression on its right", x.Op)
		}
		if x.regex, err = regexp.Compile("^(?s:" + pattern.Value.Str() + ")$"); err != nil {
			return refuse("bad regular expression %q: %w", pattern.Value.Str(), err)
		}
	}
	return x, nil
}

func (op Op) takes(t Type) bool {
	switch t {
	case TypeAny:
		return true
	case TypeBool:
		return op <= OpNotEqual
	case TypeInt, TypeFloat, TypeDuration:
		return op.isArithmetic() || op.isComparison() && op != OpRegex && op != OpNotRegex
	case TypeString:
		return op.isComparison()
	}
	return op == OpEqual || op == OpNotEqual // status, kind
}

func article(t Type) string {
	if t == TypeInt {
		return "an int"
	}
	return "a " + t.String()
}

func text(x Expr) string { return string(x.appendTo(nil, 0)) }

// String returns the field in TraceQL.
func (f Field) String() string { return text(f) }
