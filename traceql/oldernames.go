package traceql

// WithOlderNames returns a filter that also reads the older names of attributes. older maps a key to its
// older names, newest first. The filter reads the first name that is present among the span's attributes,
// otherwise among the resource's, as if each had been renamed to the newest. A condition on events or links
// reads all names.
func (f *Filter) WithOlderNames(older map[string][]string) *Filter {
	for _, field := range f.Fields() {
		if field.Scope != ScopeIntrinsic && len(older[field.Key]) > 0 {
			return MustNew(withOlderNames(f.expr, older))
		}
	}
	return f
}

func withOlderNames(x Expr, older map[string][]string) Expr {
	switch x := x.(type) {
	case Not:
		return Not{withOlderNames(x.X, older)}
	case Binary:
		if x.Op == OpAnd || x.Op == OpOr {
			return Binary{Op: x.Op, Left: withOlderNames(x.Left, older), Right: withOlderNames(x.Right, older)}
		}
	}
	var renamed []Field
	for _, field := range (&Filter{expr: x}).Fields() {
		if field.Scope != ScopeIntrinsic && len(older[field.Key]) > 0 {
			renamed = append(renamed, field)
		}
	}
	return alternatives(x, renamed, older, map[Field]Field{})
}

// alternatives returns x with each of the fields replaced by its first name that is present.
func alternatives(x Expr, fields []Field, older map[string][]string, chosen map[Field]Field) Expr {
	if len(fields) == 0 {
		return rename(x, chosen)
	}
	field := fields[0]
	names := namesOf(field, older)
	if b, ok := x.(Binary); ok {
		if _, op, c, ok := comparison(b); ok && c.Type == TypeNil {
			parts := make([]Expr, len(names))
			for i, name := range names {
				parts[i] = Compare(name, op, Nil)
			}
			if op == OpEqual {
				return And(parts...)
			}
			return AnyOf(parts...)
		}
	}
	isAny := field.Scope == ScopeEvent || field.Scope == ScopeLink
	var out Expr
	for i := len(names) - 1; i >= 0; i-- {
		chosen[field] = names[i]
		one := alternatives(x, fields[1:], older, chosen)
		switch {
		case out == nil:
			out = one
		case isAny:
			out = AnyOf(one, out)
		case isFalseIfAbsent(x):
			out = AnyOf(one, And(Compare(names[i], OpEqual, Nil), out))
		default:
			out = AnyOf(And(Compare(names[i], OpNotEqual, Nil), one), And(Compare(names[i], OpEqual, Nil), out))
		}
	}
	delete(chosen, field)
	return out
}

// namesOf returns the fields that may replace a field, in the order in which they are tried.
func namesOf(field Field, older map[string][]string) []Field {
	scopes := []Scope{field.Scope}
	if field.Scope == ScopeAny {
		scopes = []Scope{ScopeSpan, ScopeResource}
	}
	var names []Field
	for _, scope := range scopes {
		names = append(names, Attribute(scope, field.Key))
		for _, key := range older[field.Key] {
			names = append(names, Attribute(scope, key))
		}
	}
	return names
}

// isFalseIfAbsent reports whether x, which reads one field, is false if that field is absent.
func isFalseIfAbsent(x Expr) bool {
	if _, ok := x.(Field); ok {
		return true
	}
	b, ok := x.(Binary)
	if !ok {
		return false
	}
	_, _, _, ok = comparison(b)
	return ok
}

// rename replaces fields.
func rename(x Expr, names map[Field]Field) Expr {
	switch x := x.(type) {
	case Field:
		if name, ok := names[x]; ok {
			return name
		}
	case Not:
		return Not{rename(x.X, names)}
	case Binary:
		return Binary{Op: x.Op, Left: rename(x.Left, names), Right: rename(x.Right, names)}
	}
	return x
}
