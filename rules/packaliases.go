package rules

import (
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/betracehq/betrace/rules/lang"
	"github.com/betracehq/betrace/trace"
)

// includes are the tables that a pack may include by name.
var includes = map[string]lang.Aliases{"otel": lang.OTelAliases}

// semconv reads a pack's table of older names. It returns the included table, in which the pack's own lists
// replace those with the same key.
func (d *document) semconv(n *yaml.Node) (lang.Aliases, error) {
	table := lang.Aliases{}
	var include string
	var includeAt *yaml.Node
	var errs []error
	own := map[string]*yaml.Node{}
	err := d.fields(n, "semconv", map[string]func(*yaml.Node) error{
		"include": func(n *yaml.Node) error { includeAt = n; return d.text(&include)(n) },
		"aliases": func(n *yaml.Node) error {
			if n.Kind != yaml.MappingNode {
				return d.errorf(n, "semconv: aliases: want a map from a key to the list of its older names")
			}
			for i := 0; i < len(n.Content); i += 2 {
				key, err := d.alias(n.Content[i], deref(n.Content[i+1]), own, table)
				errs = append(errs, err)
				own[key] = n.Content[i]
			}
			return nil
		},
	})
	errs = append(errs, err)
	if includeAt != nil {
		included, ok := includes[include]
		if !ok {
			errs = append(errs, d.errorf(includeAt, "semconv: include is %q: want %s", include, strings.Join(sortedKeys(includes), ", ")))
		}
		for key, older := range included {
			if own[key] == nil {
				table[key] = older
			}
		}
	}
	for _, key := range sortedKeys(table) {
		for _, older := range table[key] {
			if table[older] == nil {
				continue
			}
			at := own[key]
			if at == nil {
				at = own[older]
			}
			if slices.Contains(table[older], key) {
				if key < older || own[older] == nil {
					errs = append(errs, d.errorf(at, "semconv: %q and %q are older names of each other: keep the one that is newer", key, older))
				}
				continue
			}
			errs = append(errs, d.errorf(at, "semconv: %q, an older name of %q, has older names itself: list them for %q", older, key, key))
		}
	}
	for key, older := range table {
		if len(older) == 0 {
			delete(table, key)
		}
	}
	return table, errors.Join(errs...)
}

// alias reads one key and its list of older names into the table.
func (d *document) alias(keyNode, list *yaml.Node, own map[string]*yaml.Node, table lang.Aliases) (string, error) {
	var key string
	if err := d.text(&key)(keyNode); err != nil {
		return "", err
	}
	if own[key] != nil {
		return key, d.errorf(keyNode, "semconv: the key %q is listed twice, first on line %d: join both lists", key, own[key].Line)
	}
	var errs []error
	refuse := func(n *yaml.Node, name string) {
		switch {
		case name == "" || strings.ContainsRune(name, 0):
			errs = append(errs, d.errorf(n, "semconv: %q is not an attribute key", name))
		case name == trace.ServiceName:
			errs = append(errs, d.errorf(n, "semconv: %s has no other names: s.service and trace.services read it", trace.ServiceName))
		}
	}
	refuse(keyNode, key)
	table[key] = []string{}
	if list.Kind != yaml.SequenceNode {
		return key, errors.Join(append(errs, d.errorf(list, "semconv: want a list of the older names of %q, the newest first", key))...)
	}
	for _, n := range list.Content {
		n = deref(n)
		var name string
		if err := d.text(&name)(n); err != nil {
			errs = append(errs, err)
			continue
		}
		refuse(n, name)
		switch {
		case name == key:
			errs = append(errs, d.errorf(n, "semconv: %q is listed as an older name of itself", key))
			continue
		case slices.Contains(table[key], name):
			errs = append(errs, d.errorf(n, "semconv: %q is listed twice as an older name of %q", name, key))
			continue
		}
		table[key] = append(table[key], name)
	}
	return key, errors.Join(errs...)
}
