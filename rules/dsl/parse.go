package dsl

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxNesting bounds the nesting of parentheses and nots.
const maxNesting = 100

// newerForm matches the beginning of rules in the newer form, after comments.
var newerForm = regexp.MustCompile(`^(\s|//[^\n]*(\n|$))*when\b`)

// parse parses a rule of either form.
func parse(source string) (*ruleTree, error) {
	isNewer := newerForm.MatchString(source)
	tokens, err := lex(source, !isNewer)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	var r *ruleTree
	if isNewer {
		r = p.newer()
	} else {
		r = &ruleTree{when: p.or(p.olderCheck)}
		if p.looseHas > 1 {
			p.fail(p.looseAt, "span.has(…) occurs more than once outside of trace.has(…): write trace.has(span.has(…) and span.has(…)) for one span, or trace.has(span.has(…)) for each of several")
		}
	}
	if t := p.peek(); t.kind != tokenEnd {
		p.fail(t.position, "unexpected %s: expected and, or, or the end", t)
	}
	if p.err != nil {
		return nil, p.err
	}
	return r, nil
}

// parser reads tokens. After the first mistake it returns only the end token.
type parser struct {
	tokens []token
	i      int
	err    error
	// nesting counts open parentheses and nots, nots only the latter.
	nesting, nots int
	// looseHas counts span.has(…) outside of trace.has(…); the last one is at looseAt.
	looseHas int
	looseAt  position
}

func (t token) isWord(text string) bool { return t.kind == tokenWord && t.text == text }
func (t token) isSign(text string) bool { return t.kind == tokenSign && t.text == text }

func (p *parser) fail(at position, format string, args ...any) {
	if p.err == nil {
		p.err = &mistake{at, fmt.Sprintf(format, args...)}
	}
	p.i = len(p.tokens) - 1
}

func (p *parser) peek() token { return p.peekAfter(0) }

func (p *parser) peekAfter(n int) token { return p.tokens[min(p.i+n, len(p.tokens)-1)] }

func (p *parser) next() token {
	t := p.peek()
	p.i = min(p.i+1, len(p.tokens)-1)
	return t
}

func (p *parser) takeWord(text string) bool {
	if p.peek().isWord(text) {
		p.next()
		return true
	}
	return false
}

func (p *parser) takeSign(text string) bool {
	if p.peek().isSign(text) {
		p.next()
		return true
	}
	return false
}

func (p *parser) want(sign, where string) {
	if t := p.peek(); !p.takeSign(sign) {
		p.fail(t.position, "unexpected %s %s: expected %q", t, where, sign)
	}
}

// newer parses when { … } always { … } never { … }.
func (p *parser) newer() *ruleTree {
	r := &ruleTree{}
	for _, clause := range []struct {
		name string
		to   *node
	}{{"when", &r.when}, {"always", &r.always}, {"never", &r.never}} {
		if p.takeWord(clause.name) {
			p.want("{", "after "+clause.name)
			*clause.to = p.or(p.check)
			p.want("}", "within "+clause.name)
		}
	}
	if t := p.peek(); t.kind != tokenEnd {
		p.fail(t.position, "unexpected %s after the clauses: write when { … }, then always { … } and never { … }, each at most once", t)
	}
	return r
}

// or parses conditions that are joined by or and and; leaf parses the parts between them.
func (p *parser) or(leaf func() node) node {
	return p.joined("or", func() node {
		return p.joined("and", func() node { return p.term(leaf) })
	})
}

func (p *parser) joined(op string, part func() node) node {
	at := p.peek().position
	parts := []node{part()}
	for p.takeWord(op) {
		parts = append(parts, part())
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return &logic{at, op, parts}
}

func (p *parser) term(leaf func() node) node {
	at := p.peek().position
	if p.nesting++; p.nesting > maxNesting {
		p.fail(at, "over %d nested parentheses and nots", maxNesting)
		return &negation{position: at}
	}
	defer func() { p.nesting-- }()
	switch {
	case p.takeWord("not"):
		p.nots++
		defer func() { p.nots-- }()
		if t := p.peek(); t.isWord("not") {
			p.fail(t.position, "not not: remove both, or put the second into parentheses")
		}
		return &negation{at, p.term(leaf)}
	case p.takeSign("("):
		n := p.or(leaf)
		p.want(")", "within parentheses")
		return n
	}
	return leaf()
}

// reserved words cannot begin a name.
var reserved = []string{"when", "always", "never", "and", "or", "not", "in", "matches", "contains", "where", "count", "true", "false"}

var operators = []string{"==", "!=", "<", "<=", ">", ">=", "in", "matches", "contains"}

func (p *parser) operator() (string, bool) {
	t := p.peek()
	if (t.kind == tokenSign || t.kind == tokenWord) && slices.Contains(operators, t.text) {
		p.next()
		return t.text, true
	}
	return "", false
}

// path parses identifiers joined by dots, up to ".where(".
func (p *parser) path(what string) (parts []string, at position) {
	t := p.peek()
	switch {
	case t.kind != tokenWord:
		p.fail(t.position, "unexpected %s: expected %s", t, what)
		return []string{""}, t.position
	case slices.Contains(reserved, t.text):
		p.fail(t.position, "unexpected %s, a reserved word: expected %s", t, what)
		return []string{""}, t.position
	}
	p.next()
	return p.rest([]string{t.text}), t.position
}

// rest parses the part of a path after its first identifiers.
func (p *parser) rest(parts []string) []string {
	for p.peek().isSign(".") && !(p.peekAfter(1).isWord("where") && p.peekAfter(2).isSign("(")) {
		p.next()
		t := p.next()
		if t.kind != tokenWord {
			p.fail(t.position, "unexpected %s after a dot: expected a name", t)
			return parts
		}
		parts = append(parts, t.text)
	}
	return parts
}

// check parses a condition in a clause of a rule.
func (p *parser) check() node {
	if at := p.peek().position; p.peek().isWord("count") && p.peekAfter(1).isSign("(") {
		p.next()
		return p.countCheck(at)
	}
	parts, at := p.path("a span's name, or count(…)")
	name := strings.Join(parts, ".")
	if p.peek().isSign(".") {
		return p.where(&spanCheck{position: at, name: name}, func() node { return p.or(p.filter) })
	}
	op, ok := p.operator()
	if !ok {
		return &spanCheck{position: at, name: name}
	}
	if len(parts) < 2 {
		p.fail(at, "%s %s: the span of the attribute is missing: write span.attribute, or span.where(%s %s …)", name, op, name, op)
	}
	last := len(parts) - 1
	attribute := field{at, fieldAttribute, parts[last]}
	return &spanCheck{at, strings.Join(parts[:last], "."), []node{&comparison{at, attribute, op, p.operand()}}}
}

// where parses any number of .where(filter).
func (p *parser) where(check *spanCheck, filter func() node) node {
	for p.peek().isSign(".") && p.peekAfter(1).isWord("where") {
		p.next()
		p.next()
		p.want("(", "after where")
		check.filters = append(check.filters, filter())
		p.want(")", "within where")
	}
	if t := p.peek(); t.isSign(".") {
		p.fail(t.position, "unexpected %s: only another .where(…) may follow where(…)", t)
	}
	return check
}

// countCheck parses the part after count.
func (p *parser) countCheck(at position) node {
	name := p.counted()
	t := p.peek()
	op, ok := p.operator()
	if !ok || op == "in" || op == "matches" || op == "contains" {
		p.fail(t.position, "unexpected %s after count(%s): expected ==, !=, <, <=, > or >=", t, name)
	}
	return &countCheck{at, name, op, p.operand()}
}

// counted parses (name).
func (p *parser) counted() string {
	p.want("(", "after count")
	parts, _ := p.path("a span's name")
	p.want(")", "within count(…)")
	return strings.Join(parts, ".")
}

// filter parses a condition within where(…).
func (p *parser) filter() node {
	if t := p.peek(); t.kind == tokenText {
		p.next()
		op, ok := p.operator()
		if !ok {
			p.fail(p.peek().position, "unexpected %s after the attribute %q: expected an operator (== true for a boolean attribute)", p.peek(), t.text)
		}
		return &comparison{t.position, field{t.position, fieldAttribute, t.text}, op, p.operand()}
	}
	parts, at := p.path("an attribute (in quotes if it is a reserved word), or a span's name")
	name := strings.Join(parts, ".")
	op, ok := p.operator()
	switch {
	case ok && len(parts) > 1:
		p.fail(at, "%s %s: it may be the attribute %q of the filtered span, or %s of a span %s: write %q in quotes for the former, a separate check outside of where(…) for the latter",
			name, op, name, parts[len(parts)-1], strings.Join(parts[:len(parts)-1], "."), name)
	case ok:
		return &comparison{at, field{at, fieldAttribute, name}, op, p.operand()}
	case len(parts) > 1:
		return &spanCheck{position: at, name: name}
	}
	return &truth{at, name}
}

// operand parses the right operand of an operator.
func (p *parser) operand() operand {
	t := p.peek()
	switch {
	case t.kind == tokenText:
		p.next()
		return operand{position: t.position, kind: operandText, text: t.text}
	case t.kind == tokenNumber:
		p.next()
		return operand{position: t.position, kind: operandNumber, text: t.text}
	case t.kind == tokenDuration:
		p.next()
		return operand{position: t.position, kind: operandDuration, text: t.text}
	case t.isWord("true") || t.isWord("false"):
		p.next()
		return operand{position: t.position, kind: operandBool, text: t.text}
	case t.isSign("["):
		return p.list()
	case t.isWord("count") && p.peekAfter(1).isSign("("):
		p.next()
		return operand{position: t.position, kind: operandCount, text: p.counted()}
	case t.isWord("trace") && p.peekAfter(1).isSign(".") && p.peekAfter(2).isWord("count") && p.peekAfter(3).isSign("("):
		p.next()
		p.next()
		p.next()
		return operand{position: t.position, kind: operandCount, text: p.counted()}
	}
	parts, at := p.path("a value")
	if len(parts) > 1 {
		path := strings.Join(parts, ".")
		p.fail(at, "%s: earlier versions parsed an attribute path here, but did not evaluate it, so its span is unknown: write %q in quotes for a string, or the rule in CEL", path, path)
	}
	return operand{position: at, kind: operandWord, text: parts[0]}
}

func (p *parser) list() operand {
	o := operand{position: p.next().position, kind: operandList}
	for {
		t := p.peek()
		if t.isSign("[") {
			p.fail(t.position, "nested lists are not supported")
		}
		o.list = append(o.list, p.operand())
		if !p.takeSign(",") {
			p.want("]", "within a list")
			return o
		}
	}
}

const olderForms = "trace.has(…), trace.count(…), span.has(…), or when { … } for a rule of the newer form"

// olderCheck parses a condition in a rule of the older form.
func (p *parser) olderCheck() node {
	t := p.peek()
	isFunction := func(object, name string) bool {
		return t.isWord(object) && p.peekAfter(1).isSign(".") && p.peekAfter(2).isWord(name) && p.peekAfter(3).isSign("(")
	}
	switch {
	case isFunction("trace", "has"):
		p.i += 4
		return p.olderHas(t.position)
	case isFunction("trace", "count"):
		p.i += 3
		return p.countCheck(t.position)
	case isFunction("span", "has"):
		if p.nots > 0 {
			p.fail(t.position, "not span.has(…) outside of trace.has(…): write not trace.has(span.has(…)) if no span has the attribute, or trace.has(not span.has(…)) if some span lacks it")
		}
		p.looseHas++
		p.looseAt = t.position
		return &anySpan{t.position, p.olderFilter()}
	case t.isWord("span"):
		p.fail(t.position, "a span's field outside of trace.has(…): write trace.has(span. …)")
	}
	p.fail(t.position, "unexpected %s: expected %s", t, olderForms)
	return &negation{position: t.position}
}

// olderHas parses the part after "trace.has(".
func (p *parser) olderHas(at position) node {
	if p.startsFilter() {
		n := &anySpan{at, p.or(p.olderFilter)}
		p.want(")", "within trace.has(…)")
		if t := p.peek(); t.isSign(".") {
			p.fail(t.position, "where(…) after trace.has(span. …): write and within trace.has(…)")
		}
		return n
	}
	parts, _ := p.path("a span's name, or span.name, span.attribute.…")
	p.want(")", "within trace.has(…)")
	return p.where(&spanCheck{position: at, name: strings.Join(parts, ".")}, p.olderWhere)
}

// startsFilter reports whether a condition on a span's fields follows, rather than a name.
func (p *parser) startsFilter() bool {
	n := 0
	for p.peekAfter(n).isSign("(") || p.peekAfter(n).isWord("not") {
		n++
	}
	return n > 0 || p.peek().isWord("span") && p.peekAfter(1).isSign(".")
}

// olderWhere parses ATTR OP VALUE, in which the whole path is the attribute.
func (p *parser) olderWhere() node {
	t := p.peek()
	attribute := field{t.position, fieldAttribute, t.text}
	if t.kind == tokenText {
		p.next()
	} else {
		parts, _ := p.path("an attribute (in quotes if it is a reserved word)")
		attribute.key = strings.Join(parts, ".")
		if len(parts) > 1 && (parts[0] == "span" || parts[0] == "attribute" || parts[0] == "attributes") {
			p.fail(t.position, "%s: %s may be part of the attribute's name: write the attribute without it, or all of it in quotes", attribute.key, parts[0])
		}
	}
	return p.olderComparison(t.position, attribute)
}

// olderFilter parses a condition on one span: span.FIELD OP VALUE, or span.has(…).
func (p *parser) olderFilter() node {
	t := p.peek()
	if !p.takeWord("span") || !p.takeSign(".") {
		p.fail(p.peek().position, "unexpected %s: expected span.name, span.attribute.… or another field of a span", p.peek())
		return &negation{position: t.position}
	}
	if p.takeWord("has") {
		p.want("(", "after span.has")
		f := p.field(t.position)
		if f.kind != fieldAttribute {
			p.fail(f.position, "span.has(%s): use attribute.KEY, because every span has the other fields", f.kind)
		}
		p.want(")", "within span.has(…)")
		return &presence{t.position, f.key}
	}
	return p.olderComparison(t.position, p.field(t.position))
}

// field parses name, service, attribute.KEY or attributes["KEY"].
func (p *parser) field(at position) field {
	t := p.next()
	switch kind := fieldKind(t.text); {
	case t.kind != tokenWord:
	case kind == fieldName || kind == fieldService || kind == fieldDuration || kind == fieldStatus || kind == fieldKindOf:
		if p.peek().isSign(".") {
			p.fail(p.peek().position, "span.%s has no fields", kind)
		}
		return field{at, kind, ""}
	case kind == fieldAttribute && p.peek().isSign("."):
		return field{at, fieldAttribute, strings.Join(p.rest(nil), ".")}
	case t.text == "attributes" && p.takeSign("["):
		key := p.next()
		if key.kind != tokenText {
			p.fail(key.position, "unexpected %s: expected attributes[\"KEY\"]", key)
		}
		p.want("]", "after the attribute")
		return field{at, fieldAttribute, key.text}
	}
	p.fail(t.position, "unexpected %s: a span has name, service, duration, status, kind, attribute.KEY and attributes[\"KEY\"]", t)
	return field{at, fieldAttribute, ""}
}

// olderComparison parses the part after a field: OP VALUE, or :starts_with("…").
func (p *parser) olderComparison(at position, left field) node {
	if p.takeSign(":") {
		if t := p.next(); !t.isWord("starts_with") {
			p.fail(t.position, "unexpected %s after the colon: use starts_with(\"…\")", t)
		}
		p.want("(", "after starts_with")
		right := p.operand()
		p.want(")", "within starts_with(…)")
		return &comparison{at, left, "starts_with", right}
	}
	op, ok := p.operator()
	if !ok {
		p.fail(p.peek().position, "unexpected %s: expected an operator: write span.has(attribute.KEY) to test for presence, == true for a boolean attribute", p.peek())
	}
	return &comparison{at, left, op, p.operand()}
}
