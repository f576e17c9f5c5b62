package rules

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// PositionError is a mistake in a pack file. Line and Column count from 1.
type PositionError struct {
	File         string
	Line, Column int
	Err          error
}

// Error returns file:line:column and the mistake.
func (e *PositionError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %v", e.File, e.Line, e.Column, e.Err)
}

// Unwrap returns the mistake without its position.
func (e *PositionError) Unwrap() error { return e.Err }

// document is a pack file with its lines, for the positions of errors.
type document struct {
	file  string
	lines []string
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func parseYAML(file string, data []byte) (*document, *yaml.Node, error) {
	doc := &document{file: file, lines: strings.Split(string(data), "\n")}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root *yaml.Node
	for {
		var next yaml.Node
		err := decoder.Decode(&next)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line := 1
			if m := yamlLine.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
				line, _ = strconv.Atoi(m[1]) // digits only
			}
			text := "bad YAML: " + yamlLine.ReplaceAllString(err.Error(), "")
			at, hint := doc.yamlHint(line)
			if hint != "" {
				text += ": " + hint
			}
			return nil, nil, &PositionError{file, at.line + 1, at.column + 1, errors.New(text)}
		}
		switch content := next.Content[0]; {
		case content.Tag == "!!null": // an empty document between two ---, or after the last
		case root == nil:
			root = content
		default:
			return nil, nil, doc.errorf(content, "a second YAML document: write each pack into its own file")
		}
	}
	if root == nil {
		return nil, nil, &PositionError{file, 1, 1, errors.New("the file is empty: want a RulePack")}
	}
	aliases := 0
	return doc, root, doc.bounded(root, nil, &aliases)
}

// maxAliased limits the nodes that aliases repeat. Without it a few lines could expand to more than fits into
// memory.
const maxAliased = 100_000

// bounded returns an error for an alias within the node that it repeats, and for aliases that repeat too many
// nodes.
func (d *document) bounded(n *yaml.Node, above []*yaml.Node, aliased *int) error {
	if len(above) > 0 {
		if *aliased++; *aliased > maxAliased {
			return d.errorf(above[0], "its aliases repeat more than %d nodes", maxAliased)
		}
	}
	if n.Kind == yaml.AliasNode {
		if slices.Contains(above, n.Alias) {
			return d.errorf(n, "the alias *%s refers to a node that contains it", n.Value)
		}
		return d.bounded(n.Alias, append(above, n.Alias), aliased)
	}
	for _, c := range n.Content {
		if err := d.bounded(c, above, aliased); err != nil {
			return err
		}
	}
	return nil
}

func (d *document) errorf(n *yaml.Node, format string, args ...any) error {
	return &PositionError{d.file, max(n.Line, 1), max(n.Column, 1), fmt.Errorf(format, args...)}
}

// errorIn returns an error at a position in the string of a scalar. line counts from 1, column from 0, in
// characters.
func (d *document) errorIn(n *yaml.Node, line, column int, err error) error {
	at := d.placeIn(n, line, column)
	return &PositionError{d.file, at.line + 1, at.column + 1, err}
}

// PlaceInFile returns the position in a YAML file, given by its lines, of a character in the string of the
// scalar n. All positions count from 1, in characters.
func PlaceInFile(lines []string, n *yaml.Node, line, column int) (fileLine, fileColumn int) {
	d := &document{lines: lines}
	at := d.placeIn(n, line, column-1)
	return at.line + 1, at.column + 1
}

func (d *document) placeIn(n *yaml.Node, line, column int) place {
	offset := column
	for i, text := range strings.SplitAfter(n.Value, "\n") {
		if i < line-1 {
			offset += utf8.RuneCountInString(text)
		}
	}
	return d.place(n, offset)
}

// escapes are the lengths of the escapes that have more than two characters.
var escapes = map[rune]int{'x': 4, 'u': 6, 'U': 10}

// place is a position in the file, from 0, in characters.
type place struct{ line, column int }

// place returns the position of a character in the file, given its offset in a scalar's string.
func (d *document) place(n *yaml.Node, offset int) place {
	at := place{n.Line - 1, n.Column - 1}
	start := at
	isBlock := n.Style == yaml.LiteralStyle || n.Style == yaml.FoldedStyle
	indent := math.MaxInt // the part of a line's indentation that is not part of the string
	switch {
	case isBlock:
		// The string begins on the line after the indicator. All lines are indented like the first that is not
		// empty.
		at.line++
		for i := at.line; i < len(d.lines); i++ {
			if strings.TrimSpace(d.lines[i]) != "" {
				indent = indentation(d.lines[i])
				break
			}
		}
		at.column = indent
	case n.Style == yaml.DoubleQuotedStyle || n.Style == yaml.SingleQuotedStyle:
		at.column++
	}
	for offset > 0 && at.line < len(d.lines) {
		text := []rune(strings.TrimRight(d.lines[at.line], " \t\r"))
		switch {
		case n.Style == yaml.LiteralStyle && at.column >= len([]rune(d.lines[at.line])):
			at = place{at.line + 1, indent}
		case n.Style == yaml.LiteralStyle:
			at.column++
		case at.column >= len(text):
			// A line break becomes a space, or with empty lines after it as many line breaks. In a block, line
			// breaks before and after a line with deeper indentation are also kept.
			further := indentation(d.lines[at.line]) > indent
			empty := 0
			for at.line++; at.line < len(d.lines) && strings.TrimSpace(d.lines[at.line]) == ""; at.line++ {
				empty++
			}
			if at.line < len(d.lines) {
				further = further || indentation(d.lines[at.line]) > indent
				at.column = min(indent, indentation(d.lines[at.line]))
			}
			if offset -= empty; empty > 0 && !further {
				offset++
			}
		case n.Style == yaml.DoubleQuotedStyle && text[at.column] == '\\' && at.column == len(text)-1:
			// Neither the line break nor the white space after it is part of the string.
			at.line++
			if at.line < len(d.lines) {
				at.column = indentation(d.lines[at.line])
			}
			continue
		case n.Style == yaml.DoubleQuotedStyle && text[at.column] == '\\':
			at.column += cmp.Or(escapes[text[at.column+1]], 2)
		case n.Style == yaml.SingleQuotedStyle && text[at.column] == '\'':
			at.column += 2
		default:
			at.column++
		}
		offset--
	}
	if at.line >= len(d.lines) {
		return start
	}
	return at
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " \t")) }

// fields reads a mapping. It calls the reader with the name of each key. A key without a reader is an error.
// All errors are returned, joined.
func (d *document) fields(n *yaml.Node, what string, readers map[string]func(*yaml.Node) error) error {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		return d.errorf(n, "%s: want keys and values, have %s", what, kindName(n))
	}
	var errs []error
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, known := readers[key.Value]
		switch {
		case !known:
			errs = append(errs, d.errorf(key, "%s: unknown key %q; it has %s", what, key.Value, strings.Join(sortedKeys(readers), ", ")))
		case seen[key.Value]:
			errs = append(errs, d.errorf(key, "%s: the key %q is repeated", what, key.Value))
		default:
			errs = append(errs, read(deref(value)))
		}
		seen[key.Value] = true
	}
	return errors.Join(errs...)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.Tag == "!!null" {
		return "nothing"
	}
	return strconv.Quote(n.Value)
}

// text returns a reader of a string into s.
func (d *document) text(s *string) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if err := d.tag(n); err != nil {
			return err
		}
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			if n.Style&yaml.FlowStyle != 0 {
				return d.errorf(n, "want a string, have %s: %s", kindName(n), quoteIt)
			}
			return d.errorf(n, "want a string, have %s", kindName(n))
		}
		*s = n.Value
		return nil
	}
}

// list returns a reader of a list that calls read for each element.
func (d *document) list(read func(*yaml.Node) error) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.SequenceNode {
			return d.errorf(n, "want a list, have %s", kindName(n))
		}
		var errs []error
		for _, e := range n.Content {
			errs = append(errs, read(deref(e)))
		}
		return errors.Join(errs...)
	}
}

func (d *document) texts(out *[]string) func(*yaml.Node) error {
	return d.list(func(n *yaml.Node) error {
		var s string
		if err := d.text(&s)(n); err != nil {
			return err
		}
		*out = append(*out, s)
		return nil
	})
}

func (d *document) textMap(out *map[string]string) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.MappingNode {
			return d.errorf(n, "want keys and values, have %s", kindName(n))
		}
		m := map[string]string{}
		for i := 0; i < len(n.Content); i += 2 {
			if _, twice := m[n.Content[i].Value]; twice {
				return d.errorf(n.Content[i], "the key %q is repeated", n.Content[i].Value)
			}
			var s string
			if err := d.text(&s)(deref(n.Content[i+1])); err != nil {
				return err
			}
			m[n.Content[i].Value] = s
		}
		*out = m
		return nil
	}
}
