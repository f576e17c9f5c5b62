package dsl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/rules"
)

// Rule is a translated rule in the form of a pack.
type Rule struct {
	ID          string            `yaml:"id"`
	Title       string            `yaml:"title"`
	Description string            `yaml:"description,omitempty"`
	Severity    rules.Severity    `yaml:"severity"`
	Controls    []string          `yaml:"controls,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	TraceQL     string            `yaml:"traceql,omitempty"`
	When        string            `yaml:"when"`
	Always      []string          `yaml:"always,omitempty"`
	Never       []string          `yaml:"never,omitempty"`
	Tests       []Test            `yaml:"tests,omitempty"`
}

// Test is a rule test, made from an example of a violation.
type Test struct {
	Name  string `yaml:"name"`
	Trace []Span `yaml:"trace"`
	Want  string `yaml:"want"`
}

// Span is a span of a rule test.
type Span struct {
	Name       string     `yaml:"name"`
	Attributes *yaml.Node `yaml:"attributes,omitempty"`
}

func (r *Rule) label(key, value string) {
	if value == "" {
		return
	}
	if r.Labels == nil {
		r.Labels = map[string]string{}
	}
	r.Labels[key] = value
}

func (r *Rule) translated(t translation) {
	r.TraceQL, r.When = t.traceql, t.when
	if t.always != "" {
		r.Always = []string{t.always}
	}
	if t.never != "" {
		r.Never = []string{t.never}
	}
}

var packName = regexp.MustCompile(`^[a-z0-9]+([-._][a-z0-9]+)*$`)

// Pack returns the translated rules as the YAML of a pack with this name.
func (r *Result) Pack(name string) ([]byte, error) {
	if !packName.MatchString(name) {
		return nil, fmt.Errorf("the name %q of the pack is invalid: set --name to letters a-z and digits, joined by - . or _", name)
	}
	if len(r.Rules) == 0 {
		return nil, errors.New("no rule was translated, and a pack needs at least one")
	}
	return encode(name, r.Rules)
}

func encode(name string, list []Rule) ([]byte, error) {
	type metadata struct {
		Name string `yaml:"name"`
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	err := encoder.Encode(struct {
		APIVersion string   `yaml:"apiVersion"`
		Kind       string   `yaml:"kind"`
		Metadata   metadata `yaml:"metadata"`
		Rules      []Rule   `yaml:"rules"`
	}{rules.APIVersion, rules.Kind, metadata{name}, list})
	return out.Bytes(), errors.Join(err, encoder.Close())
}

// check loads the rule in a pack, and passes it to with, if not nil. Thus no rule is written that would
// be refused later.
func (r *Rule) check(with func(*rules.Rule) error, opts rules.Options) error {
	data, err := encode("import", []Rule{*r})
	if err != nil {
		return err
	}
	pack, err := rules.Parse("import", data, opts)
	if err != nil {
		var texts []string
		for _, e := range unjoin(err) {
			if at := (*rules.PositionError)(nil); errors.As(e, &at) {
				e = at.Err
			}
			texts = append(texts, strings.TrimPrefix(e.Error(), fmt.Sprintf("rule %q: ", r.ID)))
		}
		return errors.New(strings.Join(texts, "; "))
	}
	loaded := pack.Rules[0]
	if loaded.ID != r.ID || loaded.When != r.When || loaded.Title != r.Title || loaded.Description != r.Description {
		return errors.New("the pack's YAML changes the rule")
	}
	if with == nil {
		return nil
	}
	return with(loaded)
}

// maxExampleNodes bounds the number of values in an example, including repetitions by aliases.
const maxExampleNodes = 10_000

// example converts an example of a violation to a test, if it violates the rule.
func (s *source) example(n *yaml.Node, r *Rule, opts rules.Options) error {
	fail := func(at *yaml.Node, format string, args ...any) error {
		return s.errorf(at, "rule %q: example_violation is omitted: %w", r.ID, fmt.Errorf(format, args...))
	}
	var description, trace *yaml.Node
	if errs := s.fields(n, "example_violation", map[string]**yaml.Node{"description": &description, "trace": &trace}); len(errs) > 0 {
		return fail(n, "%w", bare(errs[0]))
	}
	test := Test{Name: "example violation", Want: rules.Violation.String()}
	if description != nil && strings.TrimSpace(description.Value) != "" {
		test.Name = strings.TrimSpace(description.Value)
	}
	if trace == nil || trace.Kind != yaml.SequenceNode || len(trace.Content) == 0 {
		return fail(n, "trace is missing: write a list of spans")
	}
	nodes := 0
	for _, c := range trace.Content {
		c = deref(c)
		var name, attributes *yaml.Node
		if errs := s.fields(c, "a span", map[string]**yaml.Node{"span": &name, "attributes": &attributes}); len(errs) > 0 {
			return fail(c, "%w", bare(errs[0]))
		}
		if name == nil || name.Kind != yaml.ScalarNode {
			return fail(c, "a span: the key span with its name is missing")
		}
		span := Span{Name: name.Value}
		if attributes != nil {
			if span.Attributes = plain(attributes, &nodes); span.Attributes == nil {
				return fail(attributes, "its attributes have over %d values", maxExampleNodes)
			}
		}
		test.Trace = append(test.Trace, span)
	}
	r.Tests = []Test{test}
	err := r.check(func(loaded *rules.Rule) error {
		v := loaded.Judge(context.Background(), loaded.Tests[0].Trace)
		if v.Outcome == rules.Violation {
			return nil
		}
		return fmt.Errorf("its trace does not violate the rule: the outcome is %s", v.Outcome)
	}, opts)
	if err != nil {
		return fail(n, "%w", err)
	}
	return nil
}

// bare removes the position from an error.
func bare(err error) error {
	if at := (*rules.PositionError)(nil); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// plain copies a value without its style, anchors and aliases. It returns nil if the value is too large.
func plain(n *yaml.Node, count *int) *yaml.Node {
	if *count++; *count > maxExampleNodes {
		return nil
	}
	n = deref(n)
	out := &yaml.Node{Kind: n.Kind, Tag: n.ShortTag(), Value: n.Value}
	for _, c := range n.Content {
		copied := plain(c, count)
		if copied == nil {
			return nil
		}
		out.Content = append(out.Content, copied)
	}
	return out
}
