package blocks

import (
	"slices"
	"strings"

	"github.com/betracehq/betrace/tempoclient/traceql"
)

// Needs say what is read of a span, besides its own fields, which always are.
type Needs struct {
	// All reads everything.
	All bool
	// Attributes are read by scope and key; traceql.ScopeAny is the span's and the
	// resource's.
	Attributes []traceql.Field
	// Whole are scopes of which all attributes are read.
	Whole []traceql.Scope
	// Events and Links say whether spans' events and links are read at all.
	Events, Links bool
}

// With returns the needs and those of a filter.
func (n Needs) With(f *traceql.Filter) Needs {
	n.Attributes = slices.Clone(n.Attributes)
	for _, field := range f.Fields() {
		switch {
		case field.Scope != traceql.ScopeIntrinsic:
			n.Attributes = append(n.Attributes, field)
			n.Events = n.Events || field.Scope == traceql.ScopeEvent
			n.Links = n.Links || field.Scope == traceql.ScopeLink
		case strings.HasPrefix(field.Key, "event:"):
			n.Events = true
		case strings.HasPrefix(field.Key, "link:"):
			n.Links = true
		}
	}
	return n
}

// keySet says which attributes of one scope are needed.
type keySet struct {
	all  bool
	keys map[string]bool
}

func (s keySet) none() bool          { return !s.all && len(s.keys) == 0 }
func (s keySet) has(key string) bool { return s.all || s.keys[key] }
func (n Needs) of(scope traceql.Scope) keySet {
	set := keySet{all: n.All, keys: map[string]bool{}}
	unscoped := scope == traceql.ScopeSpan || scope == traceql.ScopeResource
	for _, s := range n.Whole {
		set.all = set.all || s == scope || unscoped && s == traceql.ScopeAny
	}
	for _, f := range n.Attributes {
		if f.Scope == scope || unscoped && f.Scope == traceql.ScopeAny {
			set.keys[f.Key] = true
		}
	}
	return set
}
