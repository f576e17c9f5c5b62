package dsl

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/betracehq/betrace/trace"
)

// translation is a rule in the form of a pack. Missing parts are empty.
type translation struct{ traceql, when, always, never string }

// translate translates a DSL source. The errors, joined, have the type *mistake.
func translate(source string) (translation, error) {
	r, err := parse(source)
	if err != nil {
		return translation{}, err
	}
	t := &translator{}
	var out translation
	out.when = t.condition(r.when, "").text
	// Prefilters are not derived from conversions, because a conversion may fail; every trace would be
	// read. Therefore the rule gets a filter for a span without which it cannot apply.
	if t.converts {
		out.traceql = narrowing(r.when)
	}
	if r.always != nil {
		out.always = t.condition(r.always, "").text
	}
	if r.never != nil {
		out.never = t.condition(r.never, "").text
	}
	return out, errors.Join(t.errs...)
}

type translator struct {
	errs []error
	// converts reports whether the CEL so far converts an attribute.
	converts bool
}

func (t *translator) refuse(at position, format string, args ...any) cel {
	t.errs = append(t.errs, &mistake{at, fmt.Sprintf(format, args...)})
	return cel{"false", atom}
}

// cel is an expression with its precedence.
type cel struct {
	text  string
	level int
}

const (
	atom = iota
	relation
	conjunction
	disjunction
)

// chained joins parts by a sign. Parts with one of the levels are put into parentheses.
func chained(parts []cel, sign string, level int, inParentheses ...int) cel {
	if len(parts) == 1 {
		return parts[0]
	}
	texts := make([]string, len(parts))
	for i, p := range parts {
		if texts[i] = p.text; slices.Contains(inParentheses, p.level) {
			texts[i] = "(" + p.text + ")"
		}
	}
	return cel{strings.Join(texts, sign), level}
}

func and(parts ...cel) cel { return chained(parts, " && ", conjunction, disjunction) }

// or puts && into parentheses, which are unnecessary but make the expression easier to read.
func or(parts ...cel) cel { return chained(parts, " || ", disjunction, conjunction) }

func not(x cel) cel {
	if x.level == atom {
		return cel{"!" + x.text, atom}
	}
	return cel{"!(" + x.text + ")", atom}
}

func related(left, op, right string) cel { return cel{left + " " + op + " " + right, relation} }

// quote returns a string as a CEL literal, which has the same escapes as Go.
func quote(text string) string { return strconv.Quote(text) }

// condition translates a condition on the trace or, within filters, on the span with this name.
func (t *translator) condition(n node, span string) cel {
	switch n := n.(type) {
	case *logic:
		parts := make([]cel, len(n.parts))
		for i, p := range n.parts {
			parts[i] = t.condition(p, span)
		}
		if n.op == "and" {
			return and(parts...)
		}
		return or(parts...)
	case *negation:
		return not(t.condition(n.of, span))
	case *spanCheck:
		s := inner(span)
		parts := []cel{related(s+".name", "==", quote(n.name))}
		for _, f := range n.filters {
			parts = append(parts, t.condition(f, s))
		}
		return cel{fmt.Sprintf("spans.exists(%s, %s)", s, and(parts...).text), atom}
	case *anySpan:
		return cel{fmt.Sprintf("spans.exists(s, %s)", t.condition(n.filter, "s").text), atom}
	case *countCheck:
		return t.countCheck(n)
	case *truth:
		return t.equalsTruth(attribute(span, n.key), "true")
	case *presence:
		return related(quote(n.key), "in", span+".attributes")
	case *comparison:
		return t.comparison(n, span)
	}
	return t.refuse(n.at(), "the condition cannot be translated")
}

// inner returns the variable of a quantifier within another one.
func inner(span string) string {
	if span == "" {
		return "s"
	}
	return "t"
}

func attribute(span, key string) string { return span + ".attributes[" + quote(key) + "]" }

func count(name, s string) string {
	return fmt.Sprintf("count(spans, %s, %s.name == %s)", s, s, quote(name))
}

func (t *translator) countCheck(n *countCheck) cel {
	left := count(n.name, "s")
	switch n.right.kind {
	case operandNumber:
		return related(left, n.op, t.number(n.right))
	case operandCount:
		return related(left, n.op, count(n.right.text, "s"))
	}
	return t.refuse(n.right.position, "count(%s) %s a %s: use a number or count(…)", n.name, n.op, n.right.kind)
}

// maxExact bounds the integers that are exact as floating-point numbers. Earlier versions compared
// floating-point numbers, and converted strings to them.
const maxExact = 1 << 53

// number returns a number as a CEL literal.
func (t *translator) number(o operand) string {
	f, err := strconv.ParseFloat(o.text, 64)
	switch {
	case strings.Count(o.text, ".") > 1 || strings.HasSuffix(o.text, "."):
		t.refuse(o.position, "%s is not a number", o.text)
	case err != nil || math.Abs(f) >= maxExact:
		t.refuse(o.position, "%s: earlier versions did not compare numbers of 2^53 (9007199254740992) and more exactly: write the rule in CEL", o.text)
	case !strings.Contains(o.text, "."):
		return strconv.FormatInt(int64(f), 10)
	default:
		text := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	}
	return "0"
}

// comparison translates a comparison of a field of the span s.
func (t *translator) comparison(n *comparison, s string) cel {
	switch n.left.kind {
	case fieldAttribute:
		return t.ofAttribute(n, attribute(s, n.left.key))
	case fieldName, fieldService:
		return t.ofText(n, s+"."+string(n.left.kind))
	case fieldDuration:
		return t.ofDuration(n, s+".duration")
	case fieldStatus:
		return t.ofEnum(n, s+".status", trace.StatusNames[:])
	}
	return t.ofEnum(n, s+".kind", trace.KindNames[:])
}

// ofAttribute compares an attribute of any type. Only != holds for an absent attribute. Comparisons whose
// result would depend on whether an absent attribute counts as an empty string are refused.
func (t *translator) ofAttribute(n *comparison, a string) cel {
	switch n.op {
	case "==":
		return t.equals(a, n.right)
	case "!=":
		return not(t.equals(a, n.right))
	case "in":
		return t.isIn(n, a)
	case "matches", "contains", "starts_with":
		return t.textFunction(n, a)
	}
	switch o := n.right; o.kind {
	case operandNumber:
		return t.compareNumber(a, n.op, t.number(o))
	case operandCount:
		return t.compareNumber(a, n.op, count(o.text, "t"))
	case operandText:
		if _, err := strconv.ParseFloat(o.text, 64); err == nil {
			return t.refuse(o.position, "%s %q: earlier versions compared numbers if both strings were numbers: write it without quotes for a number, or the rule in CEL", n.op, o.text)
		}
		return and(notBytes(a), related(t.textOf(a), n.op, quote(o.text)))
	case operandWord:
		return t.refuse(o.position, "%s %s: by the grammar this is a string, but it may be meant as an attribute: write %q in quotes for the string, or the rule in CEL for the attribute", n.op, o.text, o.text)
	default:
		return t.refuse(o.position, "%s a %s: use a number or a quoted string", n.op, o.kind)
	}
}

// numberText matches strings that contain a decimal number within the range of floating-point numbers,
// for which double(…) never fails.
const numberText = `^[-+]?([0-9]{1,200}([.][0-9]*)?|[.][0-9]+)([eE][-+]?[0-9]{1,2})?$`

// compareNumber compares an attribute that is a number, or a string that contains one, with a number.
func (t *translator) compareNumber(a, op, number string) cel {
	t.converts = true
	return or(
		related(a, op, number),
		and(cel{a + ".matches(" + raw(numberText) + ")", atom}, related("double("+a+")", op, number)),
	)
}

// equals compares an attribute with a value. Earlier versions stored every attribute as a string, so that
// 200 equalled "200", and true equalled "true".
func (t *translator) equals(a string, o operand) cel {
	switch o.kind {
	case operandNumber:
		return t.compareNumber(a, "==", t.number(o))
	case operandCount:
		return t.compareNumber(a, "==", count(o.text, "t"))
	case operandBool:
		return t.equalsTruth(a, o.text)
	case operandText, operandWord:
		switch o.text {
		case "":
			return t.refuse(o.position, `earlier versions differ on whether an absent attribute equals an empty string: write the rule in CEL, with "key" in s.attributes`)
		case "true", "false":
			return t.equalsTruth(a, o.text)
		}
		parts := []cel{related(a, "==", quote(o.text))}
		if number, ok := storedNumber(o.text); ok {
			parts = append(parts, related(a, "==", number))
		}
		return or(parts...)
	}
	return t.refuse(o.position, "== a %s: use a string, a number or a boolean", o.kind)
}

func (t *translator) equalsTruth(a, truth string) cel {
	return or(related(a, "==", truth), related(a, "==", quote(truth)))
}

// storedNumber returns the number, as a CEL literal, that was stored as exactly this string.
func storedNumber(text string) (string, bool) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return text, strconv.FormatInt(i, 10) == text
	}
	f, err := strconv.ParseFloat(text, 64)
	return text, err == nil && strings.Contains(text, ".") && strconv.FormatFloat(f, 'f', -1, 64) == text
}

func (t *translator) isIn(n *comparison, a string) cel {
	if n.right.kind != operandList {
		return t.refuse(n.right.position, "in a %s: use a list such as [a, b]", n.right.kind)
	}
	parts := make([]cel, len(n.right.list))
	texts := make([]string, len(n.right.list))
	plain := true
	for i, o := range n.right.list {
		parts[i] = t.equals(a, o)
		texts[i] = quote(o.text)
		plain = plain && parts[i].text == a+" == "+texts[i]
	}
	if plain {
		return related(a, "in", "["+strings.Join(texts, ", ")+"]")
	}
	return or(parts...)
}

// pattern returns the string on the right of matches, contains or starts_with.
func (t *translator) pattern(n *comparison) (string, bool) {
	o := n.right
	if o.kind != operandText && o.kind != operandWord {
		t.refuse(o.position, "%s a %s: use a quoted string", n.op, o.kind)
		return "", false
	}
	if n.op != "matches" {
		return o.text, true
	}
	if _, err := regexp.Compile(o.text); err != nil {
		t.refuse(o.position, "bad regular expression %q: %v", o.text, err)
		return "", false
	}
	return o.text, true
}

// textCalls are the CEL functions for the operators on strings.
var textCalls = map[string]string{"matches": "matches", "contains": "contains", "starts_with": "startsWith"}

func textCall(a, op, text string) cel {
	literal := quote(text)
	if op == "matches" {
		literal = raw(text)
	}
	return cel{a + "." + textCalls[op] + "(" + literal + ")", atom}
}

// raw returns a regular expression as a raw literal, without doubled backslashes, if possible.
func raw(pattern string) string {
	if !strings.Contains(pattern, `\`) {
		return quote(pattern)
	}
	if strings.ContainsAny(pattern, "\"\r\n") || strings.HasSuffix(pattern, `\`) || quote(pattern) != `"`+strings.ReplaceAll(pattern, `\`, `\\`)+`"` {
		return quote(pattern)
	}
	return `r"` + pattern + `"`
}

func (t *translator) textFunction(n *comparison, a string) cel {
	text, ok := t.pattern(n)
	if !ok {
		return cel{"false", atom}
	}
	var holdsForEmpty, onlyText bool
	if n.op == "matches" {
		holdsForEmpty = regexp.MustCompile(text).MatchString("")
		onlyText = needsText(text)
	} else {
		holdsForEmpty = text == ""
		onlyText = strings.ContainsFunc(text, notInValues)
	}
	if holdsForEmpty {
		return t.refuse(n.right.position, `%s %q holds for an empty string, so the result for an absent attribute is unclear: write the rule in CEL, with "key" in s.attributes`, n.op, text)
	}
	if onlyText {
		return textCall(a, n.op, text)
	}
	return and(notBytes(a), textCall(t.textOf(a), n.op, text))
}

// textOf returns an attribute as the string that earlier versions stored. It is absent for lists and
// maps, and an error for bytes that are not UTF-8, see notBytes.
func (t *translator) textOf(a string) string {
	t.converts = true
	return "string(" + a + ")"
}

func notBytes(a string) cel { return related("type("+a+")", "!=", "bytes") }

// notInValues reports whether the character never occurs in numbers and booleans that are converted to
// strings.
func notInValues(c rune) bool { return !strings.ContainsRune("0123456789+-.eEInfNatrufls", c) }

// needsText reports whether all matches of a regular expression contain a character that never occurs in
// numbers and booleans that are converted to strings.
func needsText(pattern string) bool {
	re, err := syntax.Parse(pattern, syntax.Perl)
	return err == nil && requires(re.Simplify())
}

func requires(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral:
		return re.Flags&syntax.FoldCase == 0 && slices.ContainsFunc(re.Rune, notInValues)
	case syntax.OpConcat:
		return slices.ContainsFunc(re.Sub, requires)
	case syntax.OpCapture, syntax.OpPlus:
		return requires(re.Sub[0])
	case syntax.OpAlternate:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !requires(sub) })
	}
	return false
}

// ofText compares a span's name or service, which are always present.
func (t *translator) ofText(n *comparison, field string) cel {
	isText := func(o operand) bool { return o.kind == operandText || o.kind == operandWord }
	what := n.left.kind
	switch n.op {
	case "==", "!=":
		if !isText(n.right) {
			return t.refuse(n.right.position, "span.%s %s a %s: use a string", what, n.op, n.right.kind)
		}
		return related(field, n.op, quote(n.right.text))
	case "in":
		texts := make([]string, len(n.right.list))
		for i, o := range n.right.list {
			if !isText(o) {
				return t.refuse(o.position, "span.%s in a list with a %s: use strings", what, o.kind)
			}
			texts[i] = quote(o.text)
		}
		if n.right.kind != operandList {
			return t.refuse(n.right.position, "in a %s: use a list such as [a, b]", n.right.kind)
		}
		return related(field, "in", "["+strings.Join(texts, ", ")+"]")
	case "matches", "contains", "starts_with":
		text, ok := t.pattern(n)
		if !ok {
			return cel{"false", atom}
		}
		return textCall(field, n.op, text)
	}
	if n.right.kind != operandText {
		return t.refuse(n.right.position, "span.%s %s a %s: use a quoted string", what, n.op, n.right.kind)
	}
	if _, err := strconv.ParseFloat(n.right.text, 64); err == nil {
		return t.refuse(n.right.position, "span.%s %s %q: it may be meant as a number or as a string: write the rule in CEL", what, n.op, n.right.text)
	}
	return related(field, n.op, quote(n.right.text))
}

func (t *translator) ofDuration(n *comparison, field string) cel {
	o := n.right
	if !slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, n.op) {
		return t.refuse(o.position, "span.duration %s: use ==, !=, <, <=, > or >=", n.op)
	}
	if _, err := time.ParseDuration(o.text); o.kind != operandDuration || err != nil {
		return t.refuse(o.position, "span.duration %s %s: use a duration with a unit, such as 250ms or 1.5s", n.op, o.text)
	}
	return related(field, n.op, `duration(`+quote(o.text)+`)`)
}

// ofEnum compares a status or a kind, whose names are not case-sensitive.
func (t *translator) ofEnum(n *comparison, field string, names []string) cel {
	name := func(o operand) string {
		name := strings.ToLower(o.text)
		if (o.kind != operandText && o.kind != operandWord) || !slices.Contains(names, name) {
			t.refuse(o.position, "unknown %s %q: use one of %s", n.left.kind, o.text, strings.Join(names, ", "))
		}
		return quote(name)
	}
	switch {
	case n.op == "==" || n.op == "!=":
		return related(field, n.op, name(n.right))
	case n.op == "in" && n.right.kind == operandList:
		texts := make([]string, len(n.right.list))
		for i, o := range n.right.list {
			texts[i] = name(o)
		}
		return related(field, "in", "["+strings.Join(texts, ", ")+"]")
	}
	return t.refuse(n.right.position, "span.%s %s a %s: use == or != with a name, or in with a list of names", n.left.kind, n.op, n.right.kind)
}
