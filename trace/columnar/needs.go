package columnar

import (
	"cmp"
	"slices"
)

// Scope is the part of a span to which an attribute belongs.
type Scope uint8

// The scopes of attributes. ScopeAny means the span's attribute, otherwise the resource's. ScopeIntrinsic is
// not a scope of attributes: it denotes the fields that every span has.
const (
	ScopeIntrinsic Scope = iota
	ScopeAny
	ScopeSpan
	ScopeResource
	ScopeEvent
	ScopeLink
)

// AttributeKey identifies an attribute by scope and key.
type AttributeKey struct {
	Scope Scope
	Key   string
}

// Needs describes the data of spans that rules or a query read. Anything else may be skipped, except a span's
// times, IDs, kind, status, name and service, which are always read.
type Needs struct {
	// All means that everything is read.
	All bool
	// Attributes are the attributes that are read by name. ScopeAny means both the span's and the resource's.
	Attributes []AttributeKey
	// Whole are the scopes whose attributes are all read, because a rule iterates over them or takes a key
	// from data.
	Whole []Scope
	// Events and Links report whether spans' events and links are read.
	Events, Links bool
	// StatusMessage and Instrumentation report whether the status message, and the name and version of the
	// instrumentation scope, are read.
	StatusMessage, Instrumentation bool
}

// Union returns needs that cover both n and m. Its attributes are sorted, without repetition.
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

// Reads reports whether any attributes of a scope are read, and whether all of them are. The scope must not
// be ScopeAny, which stands for two scopes.
func (n *Needs) Reads(scope Scope) (some, all bool) {
	all = n.All
	unscoped := scope == ScopeSpan || scope == ScopeResource
	for _, s := range n.Whole {
		all = all || s == scope || unscoped && s == ScopeAny
	}
	return all || len(n.Keys(scope)) > 0, all
}

// Keys returns the sorted keys of a scope's attributes that are read by name.
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

// ReadsEvents reports whether events are read.
func (n *Needs) ReadsEvents() bool { return n.All || n.Events }

// ReadsLinks reports whether links are read.
func (n *Needs) ReadsLinks() bool { return n.All || n.Links }
