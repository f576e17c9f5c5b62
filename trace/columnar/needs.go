package columnar

import (
	"cmp"
	"slices"
)

// Scope says whose attribute a key names.
type Scope uint8

// The scopes of attributes. ScopeAny is the span's attribute, else the resource's.
// ScopeIntrinsic is none: what it names is a field that every span has.
const (
	ScopeIntrinsic Scope = iota
	ScopeAny
	ScopeSpan
	ScopeResource
	ScopeEvent
	ScopeLink
)

// AttributeKey names an attribute of a scope.
type AttributeKey struct {
	Scope Scope
	Key   string
}

// Needs are what rules, or a query, read of spans. What they do not name need not be
// read; a span's times, IDs, kind, status, name and service always are.
type Needs struct {
	// All reads everything.
	All bool
	// Attributes are read by scope and key; ScopeAny is the span's and the resource's.
	Attributes []AttributeKey
	// Whole are scopes of which all attributes are read, because a rule ranges over
	// them or takes a key from data.
	Whole []Scope
	// Events and Links say whether spans' events and links are read at all.
	Events, Links bool
	// StatusMessage and Instrumentation say whether the status message, and the name
	// and version of the instrumentation scope, are read.
	StatusMessage, Instrumentation bool
}

// Union returns what either of both reads, its attributes sorted, each once.
func (n Needs) Union(m Needs) Needs {
	sum := Needs{
		All: n.All || m.All, Events: n.Events || m.Events, Links: n.Links || m.Links,
		StatusMessage: n.StatusMessage || m.StatusMessage, Instrumentation: n.Instrumentation || m.Instrumentation,
		Whole: slices.Concat(n.Whole, m.Whole), Attributes: slices.Concat(n.Attributes, m.Attributes),
	}
	slices.Sort(sum.Whole)
	sum.Whole = slices.Compact(sum.Whole)
	slices.SortFunc(sum.Attributes, compareAttributeKeys)
	sum.Attributes = slices.Compact(sum.Attributes)
	return sum
}

func compareAttributeKeys(a, b AttributeKey) int {
	return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Key, b.Key))
}

// Reads reports whether attributes of a scope are read, and whether all of them are.
// The scope is one that holds attributes: not ScopeAny, which is two.
func (n *Needs) Reads(scope Scope) (some, all bool) {
	all = n.All
	unscoped := scope == ScopeSpan || scope == ScopeResource
	for _, s := range n.Whole {
		all = all || s == scope || unscoped && s == ScopeAny
	}
	return all || len(n.Keys(scope)) > 0, all
}

// Keys returns the keys of the attributes of a scope that are read by name, sorted.
func (n *Needs) Keys(scope Scope) []string {
	unscoped := scope == ScopeSpan || scope == ScopeResource
	var keys []string
	for _, a := range n.Attributes {
		if a.Scope == scope || unscoped && a.Scope == ScopeAny {
			keys = append(keys, a.Key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// ReadsEvents and ReadsLinks report whether events, and links, are read at all.
func (n *Needs) ReadsEvents() bool { return n.All || n.Events }

// ReadsLinks reports whether links are read at all.
func (n *Needs) ReadsLinks() bool { return n.All || n.Links }
