package scheduler

import (
	"fmt"
	"maps"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/betracehq/betrace/rules"
)

// Selector is a condition in CEL that selects the rules of a sweep, as labels.team == "payments".
//
// Its variables are labels (a map; a label that a rule does not have is ""), pack, rule and severity (strings) and
// controls (a list of strings).
type Selector struct {
	text    string
	program cel.Program
}

// ParseSelector compiles a condition.
func ParseSelector(text string) (*Selector, error) {
	env, err := cel.NewEnv(
		cel.Variable("labels", cel.MapType(cel.StringType, cel.StringType)), cel.Variable("controls", cel.ListType(cel.StringType)),
		cel.Variable("pack", cel.StringType), cel.Variable("rule", cel.StringType), cel.Variable("severity", cel.StringType),
	)
	if err != nil {
		return nil, fmt.Errorf("select: %w", err)
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, fmt.Errorf("select %q: %w", text, issues.Err())
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf(`select %q: it is a %s: want a condition, as labels.team == "payments"`, text, ast.OutputType())
	}
	program, err := env.Program(ast)
	if err != nil {
		return nil, fmt.Errorf("select %q: %w", text, err)
	}
	return &Selector{text: text, program: program}, nil
}

// String returns the condition.
func (s *Selector) String() string { return s.text }

// Matches reports whether a rule is selected.
func (s *Selector) Matches(r *rules.Rule) (bool, error) {
	labels := types.DefaultTypeAdapter.NativeToValue(maps.Clone(r.Labels))
	controls := r.Controls
	if controls == nil {
		controls = []string{}
	}
	if mapper, ok := labels.(traits.Mapper); ok {
		labels = labelMap{mapper}
	}
	value, _, err := s.program.Eval(map[string]any{
		"labels": labels, "controls": controls, "pack": r.Pack.Name, "rule": r.ID, "severity": string(r.Severity),
	})
	if err != nil {
		return false, fmt.Errorf("select %q: rule %s/%s: %w", s.text, r.Pack.Name, r.ID, err)
	}
	return value == types.True, nil
}

// labelMap is a map in which each absent label is an empty string.
type labelMap struct{ traits.Mapper }

// Find implements traits.Mapper.
func (m labelMap) Find(key ref.Val) (ref.Val, bool) {
	if value, ok := m.Mapper.Find(key); ok {
		return value, true
	}
	return types.String(""), true
}

// Get implements traits.Indexer.
func (m labelMap) Get(key ref.Val) ref.Val {
	value, _ := m.Find(key)
	return value
}

// selected returns the rules that a sweep takes of a pack.
func (s *Sweep) selected(all []*rules.Rule) ([]*rules.Rule, error) {
	if s.Select == nil {
		return all, nil
	}
	var some []*rules.Rule
	for _, r := range all {
		ok, err := s.Select.Matches(r)
		if err != nil {
			return nil, err
		}
		if ok {
			some = append(some, r)
		}
	}
	return some, nil
}
