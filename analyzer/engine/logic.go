package engine

import (
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"

	"github.com/betracehq/betrace/trace/columnar"
)

// logic is && or ||.
type logic struct{ or bool }

func lowerLogic(l *lowering, _ ast.Expr, call ast.CallExpr) *node {
	var args []*node
	for _, a := range call.Args() {
		args = append(args, l.truth(a))
	}
	return newLogic(call.FunctionName() == operators.LogicalOr, args...)
}

// newLogic joins conditions by && or ||, and takes apart those that are joined by the same.
func newLogic(or bool, conditions ...*node) *node {
	var args []*node
	for _, a := range conditions {
		if x, ok := a.is.(*logic); ok && x.or == or {
			args = append(args, a.args...)
		} else {
			args = append(args, a)
		}
	}
	if len(args) == 1 {
		return args[0]
	}
	return newNode(&logic{or}, true, args...)
}

// conjuncts returns the operands of &&, or the node itself.
func conjuncts(n *node) []*node { return operandsOf(n, false) }

func operandsOf(n *node, or bool) []*node {
	if x, ok := n.is.(*logic); ok && x.or == or {
		return n.args
	}
	return []*node{n}
}

func (x *logic) name() string {
	if x.or {
		return "or"
	}
	return "and"
}

func (x *logic) condition(c *compiler, n *node, v *binder) *predicate {
	var ps []*predicate
	for _, a := range n.args {
		p := c.condition(a, v)
		if p == nil {
			return nil
		}
		ps = append(ps, p)
	}
	return c.join(x.or, domainOf(v), ps...)
}

func (x *logic) value(e *evaluation, n *node) value {
	decisive, found := isFalse, isTrue
	if x.or {
		decisive, found = isTrue, isFalse
	}
	for _, a := range n.args {
		switch v := e.value(a).truth(); v {
		case decisive:
			return v.value()
		case isUnknown:
			found = isUnknown
		}
	}
	return found.value()
}

// join returns the conjunction, or disjunction, of predicates, in the order of their costs.
func (c *compiler) join(or bool, d domain, ps ...*predicate) *predicate {
	var args []*predicate
	for _, p := range ps {
		x, isLogic := p.is.(*logicCondition)
		switch {
		case p.isTrue() && or, p.isFalse() && !or:
			return c.constant(d, or)
		case p.isTrue(), p.isFalse():
		case isLogic && x.or == or:
			args = append(args, p.args...)
		default:
			args = append(args, p)
		}
	}
	if or {
		args = c.uniteTexts(args)
	}
	slices.SortStableFunc(args, func(a, b *predicate) int {
		if a.cost != b.cost {
			return int(a.cost - b.cost)
		}
		return a.id - b.id
	})
	args = slices.Compact(args)
	switch len(args) {
	case 0:
		return c.constant(d, !or)
	case 1:
		return args[0]
	}
	return c.predicate(&logicCondition{or}, d, args...)
}

// logicCondition is true if all operands are, or, for ||, if one of them is.
type logicCondition struct{ or bool }

func (x *logicCondition) name() string {
	if x.or {
		return "or"
	}
	return "and"
}

func (x *logicCondition) traits() traits {
	if x.or {
		return traits{cost: costOr}
	}
	return traits{cost: costAnd}
}

func (x *logicCondition) costOf(args []*predicate) cost {
	most := x.traits().cost
	for _, a := range args {
		most = max(most, a.cost)
	}
	return most
}

func (x *logicCondition) isSlowOf(args []*predicate) bool {
	if x.or {
		return slices.ContainsFunc(args, (*predicate).isSlow)
	}
	return args[0].isSlow() // the first is the cheapest
}

func (x *logicCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	s.total = true
	for _, a := range p.args {
		of := &e.simple[a.id]
		decides, isNeutral := of.never, of.always
		if x.or {
			decides, isNeutral = isNeutral, decides
		}
		switch {
		case decides: // also where another operand is unknown
			s.never, s.always = of.never, of.always
			return
		case !isNeutral:
			s.args = append(s.args, of.as)
			s.total = s.total && of.total
		}
	}
	sortByCost(s.args)
	switch len(s.args) {
	case 0:
		s.never, s.always = x.or, !x.or
	case 1:
		s.as = s.args[0]
		if as := &e.simple[s.as.id]; s.keep && !s.as.isSlow() {
			as.keep = true
		}
	}
}

func (x *logicCondition) isNeverInStrip(e *evaluation, p *predicate) bool {
	for _, a := range e.simple[p.id].args {
		if e.isNever(a) != x.or {
			return !x.or
		}
	}
	return x.or
}

func (x *logicCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	if x.or {
		e.or(p, mask, t, u)
	} else {
		e.and(p, mask, t, u)
	}
}

// and evaluates each operand only where the ones before are true or unknown.
func (e *evaluation) and(p *predicate, mask, t, u columnar.Bits) {
	s := &e.simple[p.id]
	if !p.total {
		clear(u)
	}
	for _, a := range s.args {
		if a.cost > costTextIs {
			break
		}
		if e.isNever(a) {
			clear(t)
			return
		}
	}
	copy(t, mask)
	if s.total {
		for i, a := range s.args {
			if e.simple[a.id].keep && !(i > 0 && e.isCheaperFor(a, t)) {
				all, _ := e.all(a)
				for w := range t {
					t[w] &= all[w]
				}
			} else {
				e.compute(a, t, t, nil)
			}
			if t.IsEmpty() {
				return
			}
		}
		return
	}
	candidates, ofT, ofU := e.scratch.Take(len(mask)), e.scratch.Take(len(mask)), e.scratch.Take(len(mask))
	for _, a := range s.args {
		any := uint64(0)
		for w := range candidates {
			candidates[w] = t[w] | u[w]
			any |= candidates[w]
		}
		if any == 0 {
			return
		}
		e.evaluate(a, candidates, ofT, ofU)
		if a.total {
			clear(ofU)
		}
		for w := range t {
			isTrue := t[w] & ofT[w]
			u[w] = (t[w] | u[w]) & (ofT[w] | ofU[w]) &^ isTrue
			t[w] = isTrue
		}
	}
}

// or evaluates each operand only where none before is true.
func (e *evaluation) or(p *predicate, mask, t, u columnar.Bits) {
	left, ofT, ofU := e.scratch.CopyOf(mask), e.scratch.Take(len(mask)), e.scratch.Take(len(mask))
	clear(t)
	if !p.total {
		clear(u)
	}
	for _, a := range e.simple[p.id].args {
		if e.isNever(a) {
			continue
		}
		e.evaluate(a, left, ofT, ofU)
		any := uint64(0)
		for w := range t {
			t[w] |= ofT[w]
			left[w] &^= ofT[w]
			any |= left[w]
		}
		if !e.simple[a.id].total {
			u.Add(ofU)
		}
		if any == 0 {
			break
		}
	}
	if !p.total {
		u.Remove(t)
	}
}

// negation is !.
type negation struct{}

func lowerNegation(l *lowering, _ ast.Expr, call ast.CallExpr) *node {
	return newNot(l.truth(call.Args()[0]))
}

func newNot(n *node) *node { return newNode(&negation{}, true, n) }

func (*negation) name() string { return "not" }

func (*negation) condition(c *compiler, n *node, v *binder) *predicate {
	if p := c.condition(n.args[0], v); p != nil {
		return c.not(p)
	}
	return nil
}

func (*negation) value(e *evaluation, n *node) value { return e.value(n.args[0]).truth().not().value() }

// not returns the opposite of a predicate.
func (c *compiler) not(p *predicate) *predicate {
	switch is := p.is.(type) {
	case *constantCondition:
		return c.constant(p.domain, !is.of)
	case *notCondition:
		return p.args[0]
	case *logicCondition:
		if is.or { // then each operand is evaluated only where the others are false
			parts := make([]*predicate, len(p.args))
			for i, a := range p.args {
				parts[i] = c.not(a)
			}
			return c.join(false, p.domain, parts...)
		}
	}
	return c.predicate(&notCondition{}, p.domain, p)
}

// notCondition is true where its operand is false.
type notCondition struct{}

func (*notCondition) name() string   { return "not" }
func (*notCondition) traits() traits { return traits{cost: costNot} }

// costOf is more than the operand's, since more rows remain.
func (*notCondition) costOf(args []*predicate) cost { return max(costEnum, args[0].cost+1) }

func (*notCondition) isSlowOf(args []*predicate) bool { return args[0].isSlow() }

func (*notCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	of := &e.simple[p.args[0].id]
	s.always, s.never = of.never, of.always
}

func (*notCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	ofT, ofU := e.scratch.Take(len(mask)), e.scratch.Take(len(mask))
	e.evaluate(p.args[0], mask, ofT, ofU)
	for w, in := range mask {
		t[w] = in &^ ofT[w]
		if !p.total {
			t[w] &^= ofU[w]
			u[w] = ofU[w]
		}
	}
}

// truthOfValue is its operand, which may have any type, used as a condition.
type truthOfValue struct{}

func (*truthOfValue) name() string { return "truth" }

func (*truthOfValue) condition(c *compiler, n *node, v *binder) *predicate {
	if a := n.args[0]; is[*attribute](a) {
		return c.leaf(a, v, func(d domain, col *column) *predicate { return c.isBool(d, col, true) })
	}
	return nil
}

func (*truthOfValue) value(e *evaluation, n *node) value { return e.value(n.args[0]).truth().value() }

// choice is a ? b : c.
type choice struct{}

func lowerChoice(l *lowering, _ ast.Expr, call ast.CallExpr) *node {
	args := call.Args()
	a, b, c := l.truth(args[0]), l.lower(args[1]), l.lower(args[2])
	return newNode(&choice{}, b.isBool && c.isBool, a, b, c)
}

func (*choice) name() string                                   { return "choose" }
func (*choice) condition(*compiler, *node, *binder) *predicate { return nil }

func (*choice) value(e *evaluation, n *node) value {
	switch e.value(n.args[0]).truth() {
	case isTrue:
		return e.value(n.args[1])
	case isFalse:
		return e.value(n.args[2])
	}
	return unknownValue
}
