package traceql

import (
	"fmt"
	"math"
	"strings"

	"github.com/betracehq/betrace/trace/columnar"
)

// Limits on parsing, far above the size of real filters.
const (
	maxQueryBytes = 128 << 10 // Tempo's own default limit
	maxDepth      = 500
)

// Filter is one TraceQL span filter. It is immutable.
type Filter struct {
	expr    Expr
	warning *Error
}

// All is { }, the filter that matches every span.
var All = &Filter{expr: True}

// New returns the filter { expr }. If expr cannot be evaluated, New returns an error, as [Parse] does.
func New(expr Expr) (*Filter, error) {
	expr, err := check(expr)
	if err != nil {
		return nil, err
	}
	if t := expr.static(); t != TypeBool && t != TypeAny {
		return nil, fmt.Errorf("a filter must be a boolean; %s is %s", text(expr), article(t))
	}
	return &Filter{expr: expr}, nil
}

// MustNew is [New] for expressions that are known to be valid. It panics on an error.
func MustNew(expr Expr) *Filter {
	f, err := New(expr)
	if err != nil {
		panic("traceql.MustNew: " + err.Error())
	}
	return f
}

// Or returns a filter that matches if any of the filters does. Without arguments it matches nothing.
func Or(filters ...*Filter) *Filter {
	exprs := make([]Expr, len(filters))
	for i, f := range filters {
		exprs[i] = f.expr
	}
	return &Filter{expr: AnyOf(exprs...)}
}

// Parse parses one span filter, { … }. Its errors have type [*Error].
func Parse(query string) (*Filter, error) {
	if len(query) > maxQueryBytes {
		return nil, &Error{query, 0, fmt.Errorf("the filter has %d bytes, more than the limit of %d", len(query), maxQueryBytes)}
	}
	tokens, err := lex(query)
	if err != nil {
		return nil, err
	}
	p := parser{query: query, tokens: tokens}
	if err := p.expect("{", "a filter starts with {"); err != nil {
		return nil, err
	}
	expr := Expr(True)
	if !p.at("}") {
		if expr, err = p.expression(0, 0); err != nil {
			return nil, err
		}
	}
	if err := p.expect("}", "the filter is not closed"); err != nil {
		return nil, err
	}
	if tok := p.peek(); tok.kind != tokenEnd {
		return nil, p.refuse(tok)
	}
	f, err := New(expr)
	if err != nil {
		return nil, &Error{query, 0, err}
	}
	if err := p.knownIDs(); err != nil {
		return nil, err
	}
	if p.mixed > 0 {
		f.warning = &Error{query, p.mixed, fmt.Errorf("&& and || have equal precedence in TraceQL, from left to right: this means %s; add the parentheses", f)}
	}
	return f, nil
}

// Warning returns an *[Error] if the filter mixes && and || without parentheses, which most other languages
// evaluate in another order, otherwise nil. Only parsed filters have warnings.
func (f *Filter) Warning() error {
	if f.warning == nil {
		return nil
	}
	return f.warning
}

// String returns the filter in TraceQL, from which Parse returns the same filter.
func (f *Filter) String() string {
	if f.IsAll() {
		return "{ }"
	}
	return "{ " + text(f.expr) + " }"
}

// IsAll reports whether the filter is { } or { true }.
func (f *Filter) IsAll() bool { return f.expr == Expr(True) }

// Expr returns the filter's expression.
func (f *Filter) Expr() Expr { return f.expr }

// Fields returns the attributes and intrinsics that the filter reads, in order of their first occurrence.
func (f *Filter) Fields() []Field {
	var fields []Field
	seen := map[Field]bool{}
	var walk func(Expr)
	walk = func(x Expr) {
		switch x := x.(type) {
		case Field:
			if !seen[x] {
				seen[x] = true
				fields = append(fields, x)
			}
		case Not:
			walk(x.X)
		case Binary:
			walk(x.Left)
			walk(x.Right)
		}
	}
	walk(f.expr)
	return fields
}

// Needs returns the data of spans that the filter reads.
func (f *Filter) Needs() columnar.Needs {
	var n columnar.Needs
	for _, field := range f.Fields() {
		n.Events = n.Events || field.Scope == ScopeEvent || field.isIntrinsicOf("event:")
		n.Links = n.Links || field.Scope == ScopeLink || field.isIntrinsicOf("link:")
		n.Instrumentation = n.Instrumentation || field.isIntrinsicOf("instrumentation:")
		n.StatusMessage = n.StatusMessage || field == Intrinsic("span:statusMessage")
		if field.Scope != ScopeIntrinsic {
			n.Attributes = append(n.Attributes, columnar.AttributeKey(field))
		}
	}
	return n.Union(columnar.Needs{})
}

func (f Field) isIntrinsicOf(prefix string) bool {
	return f.Scope == ScopeIntrinsic && strings.HasPrefix(f.Key, prefix)
}

type parser struct {
	query  string
	tokens []token
	next   int
	mixed  int // offset of an && after ||, or the reverse; 0 if there is none
}

// knownIDs refuses comparisons of an ID with a string that cannot be an ID. A trace ID may be in upper case
// and without leading zeros.
func (p *parser) knownIDs() error {
	for i := 1; i+1 < len(p.tokens); i++ {
		if op := p.tokens[i]; op.kind != tokenOp || op.text != "=" && op.text != "!=" {
			continue
		}
		field, value := p.tokens[i-1], p.tokens[i+1]
		if _, ok := value.expr.(Field); ok {
			field, value = value, field
		}
		id, isField := field.expr.(Field)
		text, isConst := value.expr.(Const)
		digits := idDigits[id]
		if !isField || !isConst || digits == 0 || text.Type != TypeString {
			continue
		}
		switch s := text.Value.Str(); {
		case strings.Trim(strings.ToLower(s), "0123456789abcdef") != "":
			return p.errorf(value, "an ID consists of hexadecimal digits, 0-9 and a-f; %q does not", s)
		case id == traceIDField:
			if len(strings.TrimLeft(s, "0")) > digits {
				return p.errorf(value, "%s has %d hexadecimal digits, %q has %d", field.text, digits, s, len(s))
			}
		case s != strings.ToLower(s):
			return p.errorf(value, "%s is written in lower case: %q", field.text, strings.ToLower(s))
		case len(s) != digits && s != "":
			return p.errorf(value, "%s has %d hexadecimal digits, %q has %d", field.text, digits, s, len(s))
		}
	}
	return nil
}

// idDigits is the number of hexadecimal digits of each ID.
var idDigits = map[Field]int{
	traceIDField: 32, Intrinsic("span:id"): 16, Intrinsic("span:parentID"): 16, Intrinsic("link:traceID"): 32, Intrinsic("link:spanID"): 16,
}

func (p *parser) peek() token { return p.tokens[p.next] }

func (p *parser) at(op string) bool { return p.peek().kind == tokenOp && p.peek().text == op }

func (p *parser) errorf(tok token, format string, args ...any) error {
	return &Error{p.query, tok.at, fmt.Errorf(format, args...)}
}

func (p *parser) expect(op, otherwise string) error {
	if !p.at(op) {
		if tok := p.peek(); refusal(tok) != "" {
			return p.refuse(tok)
		}
		return p.errorf(p.peek(), "%s: want %q, have %s", otherwise, op, p.peek().text)
	}
	p.next++
	return nil
}

// expression reads operators of higher precedence than min, and their operands.
func (p *parser) expression(min, depth int) (Expr, error) {
	if depth > maxDepth {
		return nil, p.errorf(p.peek(), "the filter is nested deeper than %d levels", maxDepth)
	}
	left, err := p.operand(depth)
	if err != nil {
		return nil, err
	}
	junctions := map[Op]bool{} // && and ||, as far as they were read
	for {
		op, ok := p.operator()
		if !ok || ops[op].binding <= min {
			return left, nil
		}
		if op == OpAnd || op == OpOr {
			if junctions[op] = true; len(junctions) == 2 && p.mixed == 0 {
				p.mixed = p.peek().at
			}
		}
		p.next++
		binding := ops[op].binding
		if op == OpPow {
			binding-- // right-associative
		}
		right, err := p.expression(binding, depth+1)
		if err != nil {
			return nil, err
		}
		left = Binary{Op: op, Left: left, Right: right}
	}
}

func (p *parser) operator() (Op, bool) {
	tok := p.peek()
	if tok.kind != tokenOp {
		return 0, false
	}
	for op := range ops {
		if ops[op].text == tok.text {
			return Op(op), true
		}
	}
	return 0, false
}

func (p *parser) operand(depth int) (Expr, error) {
	tok := p.peek()
	switch {
	case tok.kind == tokenOperand:
		p.next++
		return tok.expr, nil
	case p.at("("):
		p.next++
		x, err := p.expression(0, depth+1)
		if err != nil {
			return nil, err
		}
		return x, p.expect(")", "the parenthesis is not closed")
	case p.at("!"):
		p.next++
		x, err := p.expression(bindNot, depth+1)
		if err != nil {
			return nil, err
		}
		return Not{x}, nil
	case p.at("-"):
		p.next++
		x, err := p.expression(ops[OpSub].binding, depth+1)
		if err != nil {
			return nil, err
		}
		return negate(x), nil
	}
	if tok.kind == tokenWord && refusal(tok) != "" {
		return nil, p.refuse(tok)
	}
	return nil, p.errorf(tok, "want an attribute, an intrinsic or a value, have %s", tok.text)
}

// negate returns -x.
func negate(x Expr) Expr {
	if c, ok := x.(Const); ok {
		switch c.Type {
		case TypeInt, TypeDuration:
			if i := c.Value.Int(); i != math.MinInt64 {
				return Const{c.Type, Int(-i).Value}
			}
		case TypeFloat:
			return Float(-c.Value.Double())
		}
	}
	return Binary{Op: OpSub, Left: Int(0), Right: x}
}

// refuse returns an error that names the part of TraceQL that begins at the token.
func (p *parser) refuse(tok token) error {
	if why := refusal(tok); why != "" {
		return p.errorf(tok, "%s is not supported: BeTrace reads one span filter, { … }; relate spans in the rule's CEL", why)
	}
	return p.errorf(tok, "unexpected %s: want an operator or }", tok.text)
}

func refusal(tok token) string {
	switch tok.kind {
	case tokenOp:
		switch tok.text {
		case "|":
			return "a pipeline (|)"
		case ">", "<", ">>", "<<", "~", "!>", "!<", "!>>", "!<<", "!~", "&>", "&<", "&>>", "&<<", "&~":
			return "the structural operator " + tok.text
		case "&&", "||":
			return "a combination of span sets (" + tok.text + ")"
		}
	case tokenWord:
		switch tok.text {
		case "count", "avg", "max", "min", "sum":
			return "the aggregate " + tok.text + "()"
		case "by", "coalesce", "select":
			return "the pipeline stage " + tok.text + "()"
		case "with":
			return "a hint (with)"
		case "rate", "compare", "topk", "bottomk", "histogram_over_time", "quantile_over_time":
			return "the metrics function " + tok.text + "()"
		case "nestedSetLeft", "nestedSetRight", "nestedSetParent":
			return "the intrinsic " + tok.text + " (a number inside of Tempo's blocks)"
		case "parent":
			return "the intrinsic parent (not implemented by Tempo)"
		}
		if strings.HasSuffix(tok.text, "_over_time") {
			return "the metrics function " + tok.text + "()"
		}
	}
	return ""
}
