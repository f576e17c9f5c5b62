package rules

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/rules/lang"
)

const quoteIt = "put quotes around the whole value, or write it on the lines below after |"

// yamlTags are the allowed tags. Any other tag is in fact an expression that begins with an exclamation mark.
var yamlTags = []string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!!timestamp", "!!binary", "!!merge"}

// tag returns an error for a tag that YAML does not define, because YAML removes it from the beginning of the
// expression: in !spans.exists(…) as well as in ! spans.exists(…).
func (d *document) tag(n *yaml.Node) error {
	if n.Line < 1 || n.Line > len(d.lines) {
		return nil
	}
	line := []rune(d.lines[n.Line-1])
	if n.Column < 1 || n.Column > len(line) || line[n.Column-1] != '!' {
		return nil
	}
	tag, _, _ := strings.Cut(strings.TrimRight(string(line[n.Column-1:]), "\r"), " ")
	if slices.Contains(yamlTags, tag) {
		return nil
	}
	return d.errorf(n, "YAML reads %s as a tag, because the value begins with !: %s", tag, quoteIt)
}

// yamlHints recognize lines that are invalid YAML because they contain an expression without quotes. The
// first group is the position.
var yamlHints = []struct {
	line *regexp.Regexp
	text string
}{
	{regexp.MustCompile(beginsValue + `(![^!])`), "YAML reads a value that begins with ! as a tag"},
	{regexp.MustCompile(beginsValue + `("(?:[^"\\]|\\.)*"|'[^']*')\s*[^\s,:}\]#]`), "YAML ends a value that begins with a quote at the next one"},
	{regexp.MustCompile(beginsKey + `([\[{])`), "YAML reads a value that begins with [ or { as a list or a mapping"},
	{regexp.MustCompile(beginsValue + "([&*@%`])"), "the first character of the value has a special meaning in YAML"},
	{regexp.MustCompile(`^\s*(&&|\|\|)`), "a comment of YAML (#) or a wrong indentation ends the expression above"},
	{regexp.MustCompile(beginsValue + `([^"'|>\s].*(?: \? .* : |"[^"]*: ))`), "YAML reads the colon as the end of a key"},
}

// beginsKey matches a line up to the value of a key that holds an expression, beginsValue up to any value
// that may be one.
const (
	beginsKey   = `\b(?:when|about|message|traceql):\s+`
	beginsValue = `(?:` + beginsKey + `|^\s*-\s+|\b(?:always|never):\s*\[\s*)`
)

// yamlHint returns the position of the mistake and a hint for a file that is not YAML. line is the parser's,
// from 1; it may be the line of the surrounding mapping.
func (d *document) yamlHint(line int) (at place, hint string) {
	for n := max(line-1, 1); n <= len(d.lines); n++ {
		for _, h := range yamlHints {
			if m := h.line.FindStringSubmatchIndex(d.lines[n-1]); m != nil {
				return place{n - 1, utf8.RuneCountInString(d.lines[n-1][:m[2]])}, h.text + ": " + quoteIt
			}
		}
	}
	return place{line - 1, 0}, ""
}

const swallowingText = "the comment (//) contains the rest of the expression, because YAML joins these lines: write the expression on the lines below after |, which keeps them"

// swallowing returns the position of a comment in an expression that continues in the file below the comment.
// YAML joins the lines of folded, plain and quoted scalars, so the rest of the expression becomes part of the
// comment.
func (d *document) swallowing(n *yaml.Node) (place, bool) {
	if !strings.Contains(n.Value, "//") {
		return place{}, false
	}
	for start, end := range lang.Comments(n.Value) {
		begins, ends := d.place(n, start), d.place(n, end-1)
		if begins.line != ends.line {
			return begins, true
		}
	}
	return place{}, false
}
