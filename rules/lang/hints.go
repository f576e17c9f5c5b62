package lang

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/parser/gen"
)

// The tables below hold the remedies for common mistakes. A remedy is appended to cel-go's error, or replaces
// it if the error would only name a token.

// infixWords are words before or between operands that are operators in other languages.
var infixWords = map[string]string{
	"and": "write && instead of and", "or": "write || instead of or", "not": "write ! instead of not", "xor": "write != instead of xor",
	"is": "write == instead of is", "eq": "write == instead of eq", "equals": "write == instead of equals", "ne": "write != instead of ne",
	"neq": "write != instead of neq", "lt": "write < instead of lt", "le": "write <= instead of le", "gt": "write > instead of gt", "ge": "write >= instead of ge",
	"mod": "write % instead of mod", "div": "write / instead of div",
	"contains":   `write a.contains("b") instead of a contains "b"`,
	"startsWith": `write a.startsWith("b") instead of a startsWith "b"`,
	"endsWith":   `write a.endsWith("b") instead of a endsWith "b"`,
	"matches":    `write a.matches("b") instead of a matches "b"`,
	"like":       `write a.contains("b") or a.matches("b") instead of a like "b"`,
	"between":    "write a >= b && a <= c instead of a between b and c",
	"if":         "write condition ? a : b instead of if and else", "then": "write condition ? a : b instead of then and else",
	"else": "write condition ? a : b instead of if and else",
}

// characters are characters that do not begin a token, and sequences that contain them.
var characters = []struct{ text, hint string }{
	{"===", "write == instead of ==="},
	{"!==", "write != instead of !=="},
	{"=>", "write a name and a condition, as in exists(s, s.kind == \"server\"), instead of =>"},
	{"=~", `write a.matches("b") instead of a =~ "b"`},
	{"!~", `write !a.matches("b") instead of a !~ "b"`},
	{"=", "write == instead of ="},
	{"&", "write && instead of &"},
	{"|", "write || instead of |"},
	{"“", straightHint}, {"”", straightHint}, {"„", straightHint}, {"«", straightHint}, {"»", straightHint},
	{"‘", straightHint}, {"’", straightHint}, {"‚", straightHint},
	{"≠", "write != instead of ≠"}, {"≤", "write <= instead of ≤"}, {"≥", "write >= instead of ≥"},
	{"–", "write - instead of –"}, {"—", "write - instead of —"}, {"×", "write * instead of ×"},
	{"\u00a0", "write a plain space instead of a no-break space"},
	{"#", "begin a comment with //"},
	{";", "remove the ; because only one expression is allowed"},
	{`"`, "close the string with a quote on the same line"}, {"'", "close the string with a quote on the same line"},
}

const straightHint = `write straight quotes, " or ', around a string`

// tokenPairs are pairs of tokens that do not occur in valid expressions.
var tokenPairs = map[[2]string]string{
	{"<", ">"}:    "write != instead of <>",
	{"-", ">"}:    characters[2].hint,
	{"!", "in"}:   "write !(a in b) instead of a !in b",
	{"not", "in"}: "write !(a in b) instead of a not in b",
	{"is", "not"}: "write != instead of is not",
	{"&&", "&&"}:  "write && once",
	{"||", "||"}:  "write || once",
	{"=", "="}:    "write == without a space",
}

const (
	existsHint = `write exists, as in spans.exists(s, s.kind == "server")`
	allHint    = `write all, as in spans.all(s, s.kind == "server")`
	noneHint   = `write !spans.exists(s, s.kind == "server")`
	filterHint = `write filter, as in spans.filter(s, s.kind == "server")`
	sizeHint   = "write size(), as in spans.size() > 2"
	countHint  = `write count(spans, s, s.kind == "server"), or spans.size() for all`
	clockHint  = "an expression has no clock; compare with trace.start or trace.end"
	prefixHint = `write startsWith, as in s.name.startsWith("GET ")`
	suffixHint = `write endsWith, as in s.name.endsWith(".db")`
)

// otherNames are unknown names, in lower case without underscores. Misspelt functions are found by [similar].
var otherNames = map[string]string{
	"any": existsHint, "some": existsHint, "anymatch": existsHint, "exist": existsHint,
	"every": allHint, "each": allHint, "forall": allHint, "allmatch": allHint, "none": noneHint, "nonematch": noneHint,
	"find": filterHint, "where": filterHint, "select": filterHint,
	"len": sizeHint, "length": sizeHint, "count": countHint,
	"not": infixWords["not"], "and": infixWords["and"], "or": infixWords["or"],
	"isempty": "write size() == 0", "empty": "write size() == 0", "isnotempty": "write size() > 0",
	"lower": "write lowerAscii()", "tolower": "write lowerAscii()", "tolowercase": "write lowerAscii()", "downcase": "write lowerAscii()",
	"upper": "write upperAscii()", "toupper": "write upperAscii()", "touppercase": "write upperAscii()",
	"match": `write matches, as in s.name.matches("^GET ")`, "regex": `write matches, as in s.name.matches("^GET ")`, "regexmatch": `write matches, as in s.name.matches("^GET ")`,
	"hasprefix": prefixHint, "hassuffix": suffixHint, "beginswith": prefixHint,
	"includes": `write a.contains("b") for strings, "b" in a for lists`, "containskey": `write "a.b" in s.attributes`, "haskey": `write "a.b" in s.attributes`,
	"get": `write s.attributes["a.b"]`, "tostring": "write string(…)", "str": "write string(…)", "parseint": "write int(…)", "tonumber": "write double(…)", "float": "write double(…)",
	"now": clockHint, "today": clockHint, "date": clockHint, "time": clockHint,
	"max": "write math.greatest(…)", "min": "write math.least(…)", "abs": "write math.abs(…)", "round": "write math.round(…)",
	"seconds": `write duration("5s")`, "minutes": `write duration("5m")`, "hours": `write duration("5h")`, "days": `write duration("24h")`, "milliseconds": `write duration("5ms")`,
	"nil": "test presence with has(…)", "undefined": "test presence with has(…)", "true": "write true", "false": "write false",
	"span": `a condition on some span is spans.exists(s, s.name == "a")`, "attributes": `write spans.exists(s, s.attributes["a.b"] == "c")`,
	"name": `write spans.exists(s, s.name == "a")`, "resource": `write spans.exists(s, s.resource["a.b"] == "c")`,
	"childof": "write s.parent", "isroot": "write !has(s.parent)",
}

// otherFields are unknown field names, in lower case without underscores.
var otherFields = map[string]string{
	"traceid": "the ID of the trace is trace.id", "spanid": "the ID of a span is s.id", "parentid": "the ID of the parent is s.parent.id", "parentspanid": "the ID of the parent is s.parent.id",
	"servicename": "write s.service", "attrs": "write s.attributes", "attribute": "write s.attributes", "tags": "write s.attributes", "resourceattributes": "write s.resource",
	"starttime": "write s.start", "endtime": "write s.end", "starttimeunixnano": "write s.start", "endtimeunixnano": "write s.end",
	"statuscode": `write s.status == "error"`, "error": `write s.status == "error"`, "iserror": `write s.status == "error"`, "spankind": `write s.kind == "server"`,
	"length": sizeHint, "len": sizeHint, "size": sizeHint, "count": sizeHint,
	"rootname": "write trace.root.name", "rootservice": "write trace.root.service", "rootservicename": "write trace.root.service",
	"durationms": `write s.duration > duration("5ms")`, "durationnanos": `write s.duration > duration("5ms")`, "elapsed": "write s.duration",
	"timestamp": "the time of an event is e.time, that of a span s.start", "scopename": "write s.scope",
	"message": "write s.statusMessage",
}

// quantifiers are macros over a list that require a name and a condition.
var quantifiers = []string{"exists", "all", "exists_one", "existsOne", "filter", "map", "count"}

// overloads are operands that do not fit, by operator or function and by their types.
var overloads = []struct {
	function, operands *regexp.Regexp
	hint               string
}{
	{nil, regexp.MustCompile(`^\((duration, (int|uint|double)|(int|uint|double), duration)\)$`), `write the number as a duration, as in s.duration > duration("5s")`},
	{nil, regexp.MustCompile(`^\((duration, string|string, duration)\)$`), `write duration("5s")`},
	{nil, regexp.MustCompile(`^\((timestamp, (int|uint|double|string)|(int|uint|double|string), timestamp)\)$`), `write timestamp("2026-01-31T00:00:00Z")`},
	{nil, regexp.MustCompile(`^\((list\(.*\), (int|uint|double)|(int|uint|double), list\(.*\))\)$`), "write size(), as in spans.size() > 2"},
	{regexp.MustCompile(`^_\+_$`), regexp.MustCompile(`^\((string, (int|uint|double|bool|duration|timestamp)|(int|uint|double|bool|duration|timestamp), string)\)$`), "write string(…) around the operand that is not a string"},
	{regexp.MustCompile(`^contains$`), regexp.MustCompile(`^list\(.*\)\.`), `write "a" in the list`},
	{regexp.MustCompile(`^contains$`), regexp.MustCompile(`^map\(.*\)\.`), `write "a.b" in s.attributes`},
	{regexp.MustCompile(`^(contains|startsWith|endsWith|matches)$`), regexp.MustCompile(`^Span\.`), `name the field or the attribute, as in s.name.contains("a")`},
}

var (
	reUndeclared = regexp.MustCompile(`^undeclared reference to '([^']*)' \(in container ''\)$`)
	reUndefined  = regexp.MustCompile(`^undefined field '([^']*)'$`)
	reOverload   = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
	reNoField    = regexp.MustCompile(`^type '(list\(.*\)|string)' does not support field selection$`)
)

// syntaxErrors returns the errors of an expression that does not parse, without errors that follow from other
// mistakes: either the known mistakes, or the parser's first error and the errors of macros.
func syntaxErrors(issues *cel.Issues, source string) error {
	toks := slices.DeleteFunc(tokens(source), func(t token) bool { return t.kind == gen.CELLexerCOMMENT })
	if found := tokenMistakes(toks, source); len(found) > 0 {
		return joined(found)
	}
	var out []*SourceError
	first := true
	for _, err := range issues.Errors() {
		text := err.Message
		if strings.HasPrefix(text, "Syntax error: ") {
			if !first {
				continue
			}
			first = false
		} else if text == "invalid argument to has() macro" {
			text += ": " + hasHint(toks, source, err.Location)
		}
		out = append(out, newSourceError(source, err.Location.Line(), err.Location.Column(), text))
	}
	return joined(out)
}

func joined(found []*SourceError) error {
	errs := make([]error, len(found))
	for i, e := range found {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// tokenMistakes returns the mistakes that are visible in the tokens, with each remedy once.
func tokenMistakes(toks []token, source string) []*SourceError {
	var out []*SourceError
	seen := map[string]bool{}
	text := []rune(source)
	note := func(at int, hint string) {
		if seen[hint] {
			return
		}
		seen[hint] = true
		line, column := lineColumn(text, at)
		out = append(out, newSourceError(source, line, column, hint))
	}
	for i := 0; i < len(toks); i++ {
		t := toks[i]
		var before, after token
		if i > 0 {
			before = toks[i-1]
		}
		if i+1 < len(toks) {
			after = toks[i+1]
		}
		if hint, ok := tokenPairs[[2]string{t.text, after.text}]; ok && before.kind != gen.CELLexerDOT {
			note(t.start, hint)
			i++
			continue
		}
		switch word := wordOf(t.text); {
		case t.kind == unrecognised:
			if at, hint := characterHint(text, t.start); hint != "" {
				note(at, hint)
			}
			if t.text == `"` || t.text == "'" { // the rest may be part of a string
				return out
			}
			for i+1 < len(toks) && toks[i+1].kind == unrecognised && toks[i+1].start == toks[i].end {
				i++
			}
		case t.kind == gen.CELLexerIDENTIFIER && before.kind != gen.CELLexerDOT && isInfix(word, before, after):
			note(t.start, infixWords[word])
		}
	}
	return out
}

// wordOf returns a word in the form used in infixWords.
func wordOf(text string) string {
	if infixWords[text] != "" {
		return text
	}
	return strings.ToLower(text)
}

// isInfix reports whether a word is in the place of an operator. No valid expression has two adjacent
// operands.
func isInfix(word string, before, after token) bool {
	switch {
	case infixWords[word] == "" || !after.beginsOperand():
		return false
	case word == "not" || word == "if": // not (…) is parsed as a call
		return before.endsOperand() || after.kind != gen.CELLexerLPAREN
	}
	return before.endsOperand()
}

// characterHint returns the remedy for the character at an offset, and the start of the sequence that
// contains it.
func characterHint(text []rune, offset int) (at int, hint string) {
	for _, c := range characters {
		want := []rune(c.text)
		for at := max(0, offset-len(want)+1); at <= offset && at+len(want) <= len(text); at++ {
			if slices.Equal(text[at:at+len(want)], want) {
				return at, c.hint
			}
		}
	}
	return 0, ""
}

// lineColumn returns the line (from 1) and column (from 0) of an offset.
func lineColumn(text []rune, at int) (line, column int) {
	line = 1
	for _, r := range text[:at] {
		column++
		if r == '\n' {
			line, column = line+1, 0
		}
	}
	return line, column
}

// hasHint returns the remedy for the call of has that surrounds a position.
func hasHint(toks []token, source string, at common.Location) string {
	text := []rune(source)
	const otherwise = `has(…) takes a field, as in has(s.parent); for the key of a map write "a.b" in s.attributes`
	open := -1
	for i, t := range toks {
		if line, column := lineColumn(text, t.start); line > at.Line() || line == at.Line() && column > at.Column() {
			break
		}
		if t.kind == gen.CELLexerIDENTIFIER && t.text == "has" {
			open = i + 1
		}
	}
	if open < 0 || open >= len(toks) {
		return otherwise
	}
	depth, end := 0, open
	for ; end < len(toks); end++ {
		switch toks[end].text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		}
		if depth == 0 {
			break
		}
	}
	if end-open < 5 || end >= len(toks) || toks[end-1].text != "]" || toks[end-2].kind != gen.CELLexerSTRING || toks[end-3].text != "[" {
		return otherwise
	}
	of, key := string(text[toks[open+1].start:toks[end-4].end]), toks[end-2].text
	if last := toks[end-4].text; last == "attributes" || last == "resource" {
		return fmt.Sprintf("write %s in %s", key, of)
	}
	return fmt.Sprintf("write %s in %s.attributes, or %s in %s.resource", key, of, key, of)
}

// checkErrors returns the errors of an expression whose types do not fit, each with a remedy if one is known.
// It omits errors about names that would be declared by a call of an unknown macro.
func (e *Environment) checkErrors(issues *cel.Issues, parsed *ast.AST, source string) error {
	byID := map[int64]ast.Expr{}
	ast.PreOrderVisit(parsed.Expr(), ast.NewExprVisitor(func(x ast.Expr) { byID[x.ID()] = x }))
	follows := map[string]bool{}
	for _, err := range issues.Errors() {
		if reUndeclared.MatchString(err.Message) && byID[err.ExprID] != nil && byID[err.ExprID].Kind() == ast.CallKind {
			for _, arg := range byID[err.ExprID].AsCall().Args() {
				ast.PreOrderVisit(arg, ast.NewExprVisitor(func(x ast.Expr) {
					if x.Kind() == ast.IdentKind {
						follows[x.AsIdent()] = true
					}
				}))
			}
		}
	}
	var out []*SourceError
	for _, err := range issues.Errors() {
		x := byID[err.ExprID]
		text := err.Message
		if m := reUndeclared.FindStringSubmatch(text); m != nil {
			if follows[m[1]] && (x == nil || x.Kind() == ast.IdentKind) {
				continue
			}
			text = fmt.Sprintf("undeclared reference to '%s'", m[1])
		}
		text = readable.Replace(text)
		if hint := e.hint(x, readable.Replace(err.Message)); hint != "" {
			text += ": " + hint
		}
		out = append(out, newSourceError(source, err.Location.Line(), err.Location.Column(), text))
	}
	return joined(out)
}

// readable replaces the internal names by CEL's operators.
var readable = strings.NewReplacer(equals, "_==_", notEquals, "_!=_", isIn, "_in_")

// hint returns the remedy for an error of cel-go's checker at x, which may be nil.
func (e *Environment) hint(x ast.Expr, message string) string {
	if m := reUndeclared.FindStringSubmatch(message); m != nil {
		return e.undeclaredHint(x, m[1])
	}
	if m := reUndefined.FindStringSubmatch(message); m != nil {
		if hint := otherFields[plainName(m[1])]; hint != "" {
			return hint
		}
		return didYouMean(m[1], fieldNames())
	}
	if m := reOverload.FindStringSubmatch(message); m != nil {
		return overloadHint(m[1], m[2])
	}
	if m := reNoField.FindStringSubmatch(message); m != nil && x != nil && x.Kind() == ast.SelectKind {
		name := x.AsSelect().FieldName()
		if hint := otherFields[plainName(name)]; hint == sizeHint {
			return hint
		}
		if strings.HasPrefix(m[1], "list") {
			return fmt.Sprintf("for a condition on one element write exists(s, s.%s == …)", name)
		}
	}
	return ""
}

func (e *Environment) undeclaredHint(x ast.Expr, name string) string {
	if x != nil && x.Kind() == ast.CallKind && slices.Contains(quantifiers, name) {
		call := x.AsCall()
		switch {
		case name == "count" && !call.IsMemberFunction() && len(call.Args()) == 1:
			return "write size(), as in spans.size() > 2"
		case name == "count":
			return countHint
		case call.IsMemberFunction():
			return fmt.Sprintf("%s takes a name and a condition, as in spans.%s(s, s.kind == \"server\")", name, name)
		}
		return fmt.Sprintf("write the list first, as in spans.%s(s, s.kind == \"server\")", name)
	}
	if hint := otherNames[plainName(name)]; hint != "" {
		return hint
	}
	if x != nil && x.Kind() == ast.IdentKind {
		return didYouMean(name, []string{"trace", "spans"})
	}
	var names []string
	for function := range e.cel.Functions() {
		if isName.MatchString(function) {
			names = append(names, function)
		}
	}
	return didYouMean(name, append(names, quantifiers...))
}

var isName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.]*$`)

func overloadHint(function, operands string) string {
	for _, o := range overloads {
		if (o.function == nil || o.function.MatchString(function)) && o.operands.MatchString(operands) {
			return o.hint
		}
	}
	return ""
}

// neverEqualHint returns the remedy for values of two types that are never equal.
func neverEqualHint(a, b *types.Type) string {
	if hint := overloadHint("_==_", fmt.Sprintf("(%s, %s)", shortType(a), shortType(b))); hint != "" {
		return ": " + hint
	}
	return ""
}

// shortType returns the name of a type as in cel-go's errors.
func shortType(t *types.Type) string {
	switch t.Kind() {
	case types.DurationKind:
		return "duration"
	case types.TimestampKind:
		return "timestamp"
	}
	return t.String()
}

var reDays = regexp.MustCompile(`^([0-9]+)([dw])$`)

// durationHint returns the remedy for an invalid duration.
func durationHint(text string) string {
	var n int
	var unit string
	if m := reDays.FindStringSubmatch(text); m != nil {
		if _, err := fmt.Sscanf(m[1], "%d", &n); err == nil && n > 0 && n < 100_000 {
			unit = m[2]
		}
	}
	switch unit {
	case "d":
		return fmt.Sprintf(`days are written as hours: duration("%dh")`, 24*n)
	case "w":
		return fmt.Sprintf(`weeks are written as hours: duration("%dh")`, 7*24*n)
	}
	return `the units are h, m, s, ms, us and ns, as in duration("1h30m")`
}

func fieldNames() []string {
	names := map[string]bool{"ancestors": true, "descendants": true}
	for _, fields := range fieldTypes {
		for name := range fields {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// plainName returns a name in lower case without underscores.
func plainName(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "") }

// didYouMean suggests the candidate that is most similar to a name, or returns "".
func didYouMean(name string, candidates []string) string {
	if best := similar(name, candidates); best != "" {
		return "did you mean " + best + "?"
	}
	return ""
}

// similar returns the candidate that differs from name only in case and underscores, or in at most one of
// four letters. It returns "" if there is none.
func similar(name string, candidates []string) string {
	best, least := "", len(name)+1
	plain := plainName(name)
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		d := distance(plain, plainName(c))
		if d <= (len(plain)+2)/4 && d < least && c != name {
			best, least = c, d
		}
	}
	return best
}

// distance returns the number of letters that must be replaced, removed, added or swapped with the next one.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	var last []int
	for i := range a {
		last, before, row = before, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(before[j]+cost, before[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], last[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
