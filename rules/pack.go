package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/traceql"
)

// APIVersion and Kind are the required values of these keys in a pack file.
const (
	APIVersion = "betrace.dev/v1"
	Kind       = "RulePack"
)

// Pack is a file of rules.
type Pack struct {
	Name, Version string
	// Path is the file from which the pack was read.
	Path string
	// Digest is the SHA-256 of the file, in hexadecimal, and Content its bytes.
	Digest  string
	Content []byte
	// Aliases are the older names of attributes that the rules also read.
	Aliases lang.Aliases
	// Rules are the valid rules, in the order of the file.
	Rules []*Rule
	// Refused are the IDs of the invalid rules, in the order of the file, if they have one.
	Refused []string
	// Warnings, each a [*PositionError], report expressions that may mean something else than intended.
	Warnings []error
}

// Severity is the severity of a violation.
type Severity string

// Severities are all severities, the highest first.
var Severities = []Severity{"critical", "high", "medium", "low", "info"}

var (
	idPattern   = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	packPattern = regexp.MustCompile(`^[a-z0-9]+([-._][a-z0-9]+)*$`)
)

// Load reads packs from files, and from the .yaml and .yml files in folders and their subfolders, except
// hidden ones. Each file is read once, even if several paths or links lead to it. Invalid rules do not
// prevent the use of others: the packs contain the valid rules, and the error joins one [*PositionError] for
// each mistake. Two packs with the same name are a mistake.
func Load(paths []string, opts Options) ([]*Pack, error) {
	var packs []*Pack
	var errs []error
	byName := map[string]*Pack{}
	read := map[string]bool{} // by resolved path
	for _, path := range paths {
		files, err := packFiles(path)
		errs = append(errs, err)
		for _, file := range files {
			resolved, err := resolve(file)
			if err != nil {
				errs = append(errs, fmt.Errorf("read rule pack: %w", err))
				continue
			}
			if read[resolved] {
				continue
			}
			read[resolved] = true
			data, err := os.ReadFile(file)
			if err != nil {
				errs = append(errs, fmt.Errorf("read rule pack: %w", err))
				continue
			}
			pack, err := Parse(file, data, opts)
			errs = append(errs, err)
			if pack == nil {
				continue
			}
			if other := byName[pack.Name]; other != nil {
				errs = append(errs, fmt.Errorf("%s: the pack %q is also in %s: rename one, or leave one out", file, pack.Name, other.Path))
				continue
			}
			byName[pack.Name] = pack
			packs = append(packs, pack)
		}
	}
	return packs, errors.Join(errs...)
}

// Fingerprint returns a digest of the names and contents of the files that [Load] would read. It changes if a file is
// changed, added or removed.
func Fingerprint(paths []string) (string, error) {
	h := sha256.New()
	for _, path := range paths {
		files, err := packFiles(path)
		if err != nil {
			return "", err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return "", fmt.Errorf("read rule pack: %w", err)
			}
			fmt.Fprintf(h, "%d %s %d ", len(file), file, len(data)) // a hash never fails
			h.Write(data)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Parse reads one pack. file is its name in errors. The pack is nil only if nothing in it is usable. See
// [Load] for the error.
func Parse(file string, data []byte, opts Options) (*Pack, error) {
	doc, root, err := parseYAML(file, data)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(data)
	pack := &Pack{Path: file, Digest: hex.EncodeToString(digest[:]), Content: data}
	var apiVersion, kind string
	var metadata, ruleNodes, semconv *yaml.Node
	keep := func(to **yaml.Node) func(*yaml.Node) error {
		return func(n *yaml.Node) error { *to = n; return nil }
	}
	err = doc.fields(root, "a pack", map[string]func(*yaml.Node) error{
		"apiVersion": doc.text(&apiVersion), "kind": doc.text(&kind), "metadata": keep(&metadata), "semconv": keep(&semconv), "rules": keep(&ruleNodes),
	})
	errs := []error{err}
	if apiVersion != APIVersion || kind != Kind {
		return nil, errors.Join(err, doc.errorf(root, "want apiVersion: %s and kind: %s, have %q and %q", APIVersion, Kind, apiVersion, kind))
	}
	if metadata == nil {
		return nil, errors.Join(err, doc.errorf(root, "metadata is missing: want metadata: {name: …, version: …}"))
	}
	if err := doc.fields(metadata, "metadata", map[string]func(*yaml.Node) error{"name": doc.text(&pack.Name), "version": doc.text(&pack.Version)}); err != nil {
		errs = append(errs, err)
	}
	if !packPattern.MatchString(pack.Name) {
		return nil, errors.Join(append(errs, doc.errorf(metadata, "metadata: name is %q: want letters a-z, digits and - . _ between them", pack.Name))...)
	}
	if ruleNodes == nil || ruleNodes.Kind != yaml.SequenceNode || len(ruleNodes.Content) == 0 {
		return pack, errors.Join(append(errs, doc.errorf(root, "the pack has no rules"))...)
	}
	if semconv != nil {
		if pack.Aliases, err = doc.semconv(semconv); err != nil {
			return nil, errors.Join(append(errs, err)...) // because every rule would read the wrong attributes
		}
	}
	opts = opts.withDefaults()
	env, err := lang.NewEnvironment(opts.MaxExpressionBytes, pack.Aliases)
	if err != nil {
		return nil, err
	}
	ids := map[string]int{}
	for _, n := range ruleNodes.Content {
		rule, err := doc.rule(env, opts, pack.Aliases, deref(n))
		pack.Warnings = append(pack.Warnings, rule.warnings...)
		if rule.ID != "" {
			if line, twice := ids[rule.ID]; twice {
				err = errors.Join(err, doc.errorf(n, "rule %q: the ID is already used on line %d", rule.ID, line))
			} else {
				ids[rule.ID] = n.Line
			}
		}
		if err != nil {
			errs = append(errs, err)
			if rule.ID != "" {
				pack.Refused = append(pack.Refused, rule.ID)
			}
			continue
		}
		rule.Pack = pack
		pack.Rules = append(pack.Rules, rule)
	}
	return pack, errors.Join(errs...)
}

// rule reads and compiles one rule. The rule is never nil, so its ID is available even after an error.
func (d *document) rule(env *lang.Environment, opts Options, aliases lang.Aliases, n *yaml.Node) (*Rule, error) {
	r := &Rule{limit: opts.MaxCost}
	var severity, query string
	nodes := map[string]*yaml.Node{}
	var always, never []*yaml.Node
	note := func(key string, read func(*yaml.Node) error) func(*yaml.Node) error {
		return func(n *yaml.Node) error {
			err := read(n)
			if err == nil {
				nodes[key] = n
			}
			return err
		}
	}
	var tests *yaml.Node
	err := d.fields(n, "a rule", map[string]func(*yaml.Node) error{
		"id": note("id", d.text(&r.ID)), "title": d.text(&r.Title), "description": d.text(&r.Description),
		"severity": note("severity", d.text(&severity)), "controls": d.texts(&r.Controls), "labels": d.textMap(&r.Labels),
		"traceql": note("traceql", d.text(&query)), "when": note("when", d.text(&r.When)),
		"always":  d.list(func(n *yaml.Node) error { return d.clause(n, &r.Always, &always) }),
		"never":   d.list(func(n *yaml.Node) error { return d.clause(n, &r.Never, &never) }),
		"about":   note("about", d.text(&r.About)),
		"message": note("message", d.text(&r.Message)),
		"tests":   func(n *yaml.Node) error { tests = n; return nil }, //nolint:unparam // as the others
	})
	what := fmt.Sprintf("rule %q", r.ID)
	if !idPattern.MatchString(r.ID) {
		at := n
		if nodes["id"] != nil {
			at = nodes["id"]
		}
		return r, errors.Join(err, d.errorf(at, "%s: want an id of a-z, 0-9 and - between them", what))
	}
	errs := []error{err}
	refuse := func(n *yaml.Node, format string, args ...any) {
		errs = append(errs, d.errorf(n, what+": "+format, args...))
	}
	if r.Title == "" {
		refuse(n, "title is missing")
	}
	r.Severity = Severity(severity)
	if !slices.Contains(Severities, r.Severity) {
		at := n
		if nodes["severity"] != nil {
			at = nodes["severity"]
		}
		refuse(at, "severity is %q: want critical, high, medium, low or info", severity)
	}
	if nodes["traceql"] != nil {
		filter, err := traceql.Parse(query)
		if err != nil {
			line, column := placeOf(err)
			errs = append(errs, d.errorIn(nodes["traceql"], line, column, fmt.Errorf("%s: traceql: %w", what, err)))
		} else if warning := filter.Warning(); warning != nil {
			line, column := placeOf(warning)
			r.warnings = append(r.warnings, d.errorIn(nodes["traceql"], line, column, fmt.Errorf("%s: traceql: %w", what, warning)))
		}
		if filter != nil {
			for _, f := range filter.Fields() {
				r.noteAlias(aliases, f.Key, f.Scope != traceql.ScopeIntrinsic)
			}
			filter = filter.WithOlderNames(aliases)
		}
		r.TraceQL = filter
	}
	if err == nil && nodes["when"] == nil && nodes["traceql"] == nil && len(always) == 0 && len(never) == 0 {
		refuse(n, "the rule has no condition: want when, always, never or traceql")
	}
	compile := func(n *yaml.Node, clause, source string, want lang.ResultType) *lang.Expression {
		if n == nil {
			return nil
		}
		if at, ok := d.swallowing(n); ok {
			errs = append(errs, &PositionError{d.file, at.line + 1, at.column + 1, fmt.Errorf("%s: %s: %s", what, clause, swallowingText)})
			return nil
		}
		p, err := env.Compile(source, want)
		for _, e := range unjoin(err) {
			line, column := 1, 0
			if at := (*lang.SourceError)(nil); errors.As(e, &at) {
				line, column = at.Line, at.Column
			}
			errs = append(errs, d.errorIn(n, line, column, fmt.Errorf("%s: %s: %w", what, clause, e)))
		}
		return p
	}
	r.when = compile(nodes["when"], "when", r.When, lang.WantBool)
	for i, n := range always {
		r.clauses = append(r.clauses, Clause{Name: fmt.Sprintf("always[%d]", i), Expression: compile(n, fmt.Sprintf("always[%d]", i), n.Value, lang.WantBool), Broken: false})
	}
	for i, n := range never {
		r.clauses = append(r.clauses, Clause{Name: fmt.Sprintf("never[%d]", i), Expression: compile(n, fmt.Sprintf("never[%d]", i), n.Value, lang.WantBool), Broken: true})
	}
	r.about = compile(nodes["about"], "about", r.About, lang.WantSpans)
	r.message = compile(nodes["message"], "message", r.Message, lang.WantText)
	if tests != nil {
		if err := d.list(func(n *yaml.Node) error { return d.test(r, n) })(tests); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return r, err
	}
	for _, p := range r.programs(true) {
		for key := range p.AliasesRead() {
			r.noteAlias(aliases, key, true)
		}
	}
	r.Digest = r.digest()
	if cost := r.Cost(opts.Sizes); cost > r.limit {
		return r, d.errorf(n, "%s: its cost is %.3g on a trace of %s, over the limit of %.3g: nest fewer quantifiers over spans, narrow their ranges, or raise limits.max_cost", what, cost, opts.Sizes, r.limit)
	}
	return r, nil
}

// clause appends the text of one always or never clause, and its node.
func (d *document) clause(n *yaml.Node, texts *[]string, nodes *[]*yaml.Node) error {
	var s string
	if err := d.text(&s)(n); err != nil {
		return err
	}
	*texts, *nodes = append(*texts, s), append(*nodes, n)
	return nil
}

// placeOf returns the line (from 1) and column (from 0) of a TraceQL error in its filter.
func placeOf(err error) (line, column int) {
	e := (*traceql.Error)(nil)
	if !errors.As(err, &e) {
		return 1, 0
	}
	before := e.Query[:e.Offset]
	return 1 + strings.Count(before, "\n"), utf8.RuneCountInString(before[strings.LastIndex(before, "\n")+1:])
}

func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
