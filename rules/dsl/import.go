package dsl

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/rules"
)

// File is a file of rules for earlier versions: YAML with rules, a JSON list, or the DSL source of one
// rule.
type File struct {
	Name string
	Data []byte
}

// Options supply values that the files do not contain.
type Options struct {
	// Rules are the limits for the translated rules.
	Rules rules.Options
	// Severity is the severity of rules whose file states none. If empty, such rules are errors.
	Severity rules.Severity
	// ID is the ID of a rule whose file is a DSL source. If empty, it is the file's name without its
	// extension.
	ID string
}

// Result is the result of an import.
type Result struct {
	// Rules are the translated rules, in the order of the files.
	Rules []Rule
	// Errors are the reasons why other rules were not translated. Warnings report omitted parts of
	// translated rules, and disabled rules. All have the type [*rules.PositionError], except for files
	// that cannot be read at all.
	Errors, Warnings []error
	// Untranslated and Disabled count the omitted rules.
	Untranslated, Disabled int
}

// Import translates the rules of files. A rule that cannot be translated exactly is an error; the other
// rules are translated nevertheless.
func Import(files []File, opts Options) Result {
	im := &importer{opts: opts, ids: map[string]string{}}
	for _, f := range files {
		im.file(f)
	}
	return im.result
}

type importer struct {
	opts   Options
	result Result
	ids    map[string]string // position of the rule with this ID
}

// source is a file whose nodes have positions.
type source struct {
	name  string
	lines []string
}

func (s *source) errorf(n *yaml.Node, format string, args ...any) error {
	return &rules.PositionError{File: s.name, Line: max(n.Line, 1), Column: max(n.Column, 1), Err: fmt.Errorf(format, args...)}
}

func (im *importer) fail(err error)     { im.result.Errors = append(im.result.Errors, err) }
func (im *importer) warn(err error)     { im.result.Warnings = append(im.result.Warnings, err) }
func (im *importer) unreadable(e error) { im.fail(e); im.result.Untranslated++ }

var rulesKey = regexp.MustCompile(`(?m)^(rules|"rules"|apiVersion):(\s|$)`)

func (im *importer) file(f File) {
	data := bytes.TrimPrefix(f.Data, []byte("\ufeff"))
	s := &source{name: f.Name, lines: strings.Split(string(data), "\n")}
	start := &yaml.Node{Line: 1, Column: 1}
	if !utf8.Valid(data) {
		im.unreadable(s.errorf(start, "the file is not UTF-8"))
		return
	}
	text := string(bytes.TrimSpace(data))
	var root *yaml.Node
	var err error
	switch extension := strings.ToLower(filepath.Ext(f.Name)); {
	case text == "":
		err = s.errorf(start, "the file is empty: write rules in YAML or JSON, or one rule in BeTraceDSL")
	case extension == ".json" || extension != ".yaml" && extension != ".yml" && (text[0] == '[' || text[0] == '{'):
		root, err = s.json(data)
	case extension == ".yaml" || extension == ".yml" || rulesKey.MatchString(text):
		root, err = s.yaml(data)
	default:
		im.bare(s, f, string(data))
		return
	}
	if err != nil {
		im.unreadable(err)
		return
	}
	im.list(s, root)
}

// bare imports a file that is the DSL source of one rule.
func (im *importer) bare(s *source, f File, text string) {
	id := im.opts.ID
	if id == "" {
		base := filepath.Base(f.Name)
		id = strings.TrimSuffix(base, filepath.Ext(base))
	}
	at := &yaml.Node{Line: 1, Column: 1}
	im.rule(s, &entry{at: at, id: &yaml.Node{Kind: yaml.ScalarNode, Value: id, Line: 1, Column: 1}, text: text, bare: true})
}

// entry is a rule of a file: the nodes of its keys, nil for missing keys.
type entry struct {
	at                                          *yaml.Node
	id, name, description, severity, frameworks *yaml.Node
	condition, example, enabled, tags           *yaml.Node
	bare                                        bool
	text                                        string // of a bare rule
}

// list imports rules from a list, or from a mapping with the key rules.
func (im *importer) list(s *source, root *yaml.Node) {
	list := deref(root)
	if list.Kind == yaml.MappingNode {
		var found *yaml.Node
		keys := map[string]**yaml.Node{"rules": &found}
		if apiVersion := valueOf(list, "apiVersion"); apiVersion != nil {
			im.unreadable(s.errorf(list, "apiVersion is %q: the file is already a pack, and needs no import", apiVersion.Value))
			return
		}
		for _, err := range s.fields(list, "a file of rules", keys) {
			im.fail(err)
		}
		if found == nil {
			im.unreadable(s.errorf(list, "rules is missing: write a list of rules"))
			return
		}
		list = deref(found)
	}
	if list.Kind != yaml.SequenceNode {
		im.unreadable(s.errorf(list, "the file has no list of rules: write a list of rules"))
		return
	}
	if len(list.Content) == 0 {
		im.unreadable(s.errorf(list, "there are no rules"))
	}
	for _, n := range list.Content {
		n = deref(n)
		e := &entry{at: n}
		var condition, dsl *yaml.Node
		errs := s.fields(n, "a rule", map[string]**yaml.Node{
			"id": &e.id, "name": &e.name, "description": &e.description, "severity": &e.severity, "compliance_frameworks": &e.frameworks,
			"condition": &condition, "dsl": &dsl, "example_violation": &e.example, "enabled": &e.enabled, "tags": &e.tags,
		})
		if condition != nil && dsl != nil {
			errs = append(errs, s.errorf(dsl, "a rule: condition and dsl have the same meaning: use one of them"))
		}
		if e.condition = condition; condition == nil {
			e.condition = dsl
		}
		im.rule(s, e, errs...)
	}
}

// fields stores the node of each key in the variable that keys names. An unknown or repeated key is an
// error.
func (s *source) fields(n *yaml.Node, what string, keys map[string]**yaml.Node) (errs []error) {
	if n.Kind != yaml.MappingNode {
		return []error{s.errorf(n, "%s: expected keys and values", what)}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], deref(n.Content[i+1])
		switch to := keys[key.Value]; {
		case to == nil:
			names := make([]string, 0, len(keys))
			for name := range keys {
				names = append(names, name)
			}
			slices.Sort(names)
			errs = append(errs, s.errorf(key, "%s: unknown key %q: use %s", what, key.Value, strings.Join(names, ", ")))
		case *to != nil:
			errs = append(errs, s.errorf(key, "%s: duplicate key %q", what, key.Value))
		case value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null":
			// A null counts as missing.
		default:
			*to = value
		}
	}
	return errs
}

func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

var (
	idPattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	// control is the form of controls in packs: the framework, and the control's number in it.
	control = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*:\S+$`)
)

// frameworksLabel and tagsLabel are the labels for values that packs have no key for.
const (
	frameworksLabel = "compliance_frameworks"
	tagsLabel       = "tags"
)

// rule imports one rule. errs are the errors in its keys.
func (im *importer) rule(s *source, e *entry, errs ...error) {
	text := func(n *yaml.Node, what string) string {
		if n != nil && n.Kind != yaml.ScalarNode {
			errs = append(errs, s.errorf(n, "%s must be a string", what))
			return ""
		}
		if n == nil {
			return ""
		}
		return n.Value
	}
	r := Rule{ID: text(e.id, "id"), Title: text(e.name, "name"), Description: text(e.description, "description")}
	what := fmt.Sprintf("rule %q", r.ID)
	refuse := func(n *yaml.Node, format string, args ...any) {
		if n == nil {
			n = e.at
		}
		errs = append(errs, s.errorf(n, what+": "+format, args...))
	}
	if e.enabled != nil {
		switch value := strings.ToLower(text(e.enabled, "enabled")); value {
		case "false":
			im.warn(s.errorf(e.enabled, "%s is omitted, because it is disabled and packs have no disabled rules", what))
			im.result.Disabled++
			return
		case "true":
		default:
			refuse(e.enabled, "enabled is %q: use true or false", value)
		}
	}
	switch other := im.ids[r.ID]; {
	case !idPattern.MatchString(r.ID) && e.bare:
		refuse(e.id, "the ID is invalid: set --id to letters a-z and digits, joined by -")
	case !idPattern.MatchString(r.ID):
		refuse(e.id, "the ID is invalid: use letters a-z and digits, joined by -")
	case other != "":
		refuse(e.id, "the ID is already used at %s", other)
	default:
		im.ids[r.ID] = fmt.Sprintf("%s:%d", s.name, e.at.Line)
	}
	if strings.TrimSpace(r.Title) == "" {
		r.Title = r.ID
	}
	r.Severity = rules.Severity(strings.ToLower(text(e.severity, "severity")))
	if e.severity == nil {
		r.Severity = im.opts.Severity
	}
	if !slices.Contains(rules.Severities, r.Severity) {
		if e.severity == nil {
			refuse(nil, "severity is missing: use --severity critical, high, medium or low for rules without one")
		} else {
			refuse(e.severity, "severity is %q: use critical, high, medium or low", e.severity.Value)
		}
	}
	errs = append(errs, s.frameworks(e, &r)...)
	errs = append(errs, s.tags(e, &r)...)
	if e.condition == nil && !e.bare {
		refuse(nil, "condition (in JSON, dsl) is missing")
	} else {
		source := e.text
		if !e.bare {
			source = text(e.condition, "condition")
		}
		out, err := translate(source)
		for _, err := range unjoin(err) {
			errs = append(errs, s.errorIn(e.condition, fmt.Errorf("%s: %w", what, err)))
		}
		r.translated(out)
	}
	if err := errors.Join(errs...); err != nil {
		im.result.Errors = append(im.result.Errors, unjoin(err)...)
		im.result.Untranslated++
		return
	}
	if err := r.check(nil, im.opts.Rules); err != nil {
		im.unreadable(s.errorf(e.at, "%s: its translation is rejected: %w", what, err))
		return
	}
	if e.example != nil {
		if err := s.example(e.example, &r, im.opts.Rules); err != nil {
			im.warn(err)
			r.Tests = nil
		}
	}
	im.result.Rules = append(im.result.Rules, r)
}

// frameworks stores names of frameworks in a label, because they do not identify a control. An entry in
// the form of packs' controls becomes a control.
func (s *source) frameworks(e *entry, r *Rule) []error {
	names, errs := s.texts(e.frameworks, frameworksLabel)
	var others []string
	for _, name := range names {
		if control.MatchString(name) {
			r.Controls = append(r.Controls, name)
		} else {
			others = append(others, name)
		}
	}
	r.label(frameworksLabel, strings.Join(others, ", "))
	return errs
}

// tags stores tags in a label, and tags with keys in labels with these keys.
func (s *source) tags(e *entry, r *Rule) (errs []error) {
	if e.tags == nil || e.tags.Kind != yaml.MappingNode {
		names, errs := s.texts(e.tags, tagsLabel)
		r.label(tagsLabel, strings.Join(names, ", "))
		return errs
	}
	for i := 0; i+1 < len(e.tags.Content); i += 2 {
		key, value := e.tags.Content[i], deref(e.tags.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode:
			errs = append(errs, s.errorf(value, "tags must be strings"))
		case r.Labels[key.Value] != "":
			errs = append(errs, s.errorf(key, "tags: duplicate label %q", key.Value))
		default:
			r.label(key.Value, value.Value)
		}
	}
	return errs
}

func (s *source) texts(n *yaml.Node, what string) (texts []string, errs []error) {
	if n == nil {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, []error{s.errorf(n, "%s must be a list of strings", what)}
	}
	for _, c := range n.Content {
		if c = deref(c); c.Kind != yaml.ScalarNode {
			errs = append(errs, s.errorf(c, "%s must be strings", what))
			continue
		}
		texts = append(texts, c.Value)
	}
	return texts, errs
}

// errorIn adds the position of a mistake in a DSL source, which is the scalar n or, if n is nil, the
// file.
func (s *source) errorIn(n *yaml.Node, err error) error {
	at := position{1, 1}
	if m := (*mistake)(nil); errors.As(err, &m) {
		at = m.position
	}
	if n != nil {
		at.line, at.column = rules.PlaceInFile(s.lines, n, at.line, at.column)
	}
	return &rules.PositionError{File: s.name, Line: at.line, Column: at.column, Err: err}
}

func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	var errs []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			errs = append(errs, unjoin(e)...)
		}
		return errs
	}
	return []error{err}
}
