package engine

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/betracehq/betrace/trace/columnar"
)

// predicate is a condition on the rows of a table. It is evaluated to a bitmap of the rows where it is true
// and, unless it is total, one of the rows where it is unknown. Equal predicates are shared.
type predicate struct {
	id     int
	is     condition
	domain domain
	args   []*predicate
	traits traits
	// total is set if the predicate is known for every row.
	total bool
	// keep is set if the predicate is evaluated for all rows of a strip, once, and the result is kept.
	keep bool
	// cost is the place among the operands of a conjunction.
	cost cost
	refs int
	key  string
}

// condition is the test of a predicate. Every operator that is evaluated to bitmaps implements it.
type condition interface {
	// name identifies the condition among all that have equal operands. It begins with a word for the kind.
	name() string
	traits() traits
	// simplify sets the fields of s that the batch decides.
	simplify(e *evaluation, p *predicate, s *simplified)
	// evaluate sets t to the rows of mask where the predicate is true and, unless the predicate is total, u to
	// those where it is unknown. t may be mask if the predicate is total. evaluate is not called for predicates
	// that are constant in the batch. u may be nil if no row of the batch is unknown.
	evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits)
}

// traits decide how a predicate is shared, and when it is evaluated.
type traits struct {
	cost cost
	// keep: the condition is always worth evaluating for all rows of a strip, once.
	keep bool
	// fallible: the condition may be unknown although its operands are known.
	fallible bool
	// slow: each row takes long, so the condition is evaluated only for rows where all else is true.
	slow bool
	// anyRows: the time depends on the number of rows. If few rows are needed, and no result is kept yet, only those
	// are evaluated.
	anyRows bool
}

// These interfaces are for conditions that need them.
type (
	// A composite condition has the traits of its operands.
	composite interface {
		costOf(args []*predicate) cost
		isSlowOf(args []*predicate) bool
	}
	// An indexed condition has its rows by another means than evaluate. rows returns nil if there are none.
	indexed interface {
		rows(e *evaluation, p *predicate) columnar.Bits
	}
	// A selective condition often is true for no row of a strip, and that is known at little cost.
	selective interface {
		isNeverInStrip(e *evaluation, p *predicate) bool
	}
)

// cost orders the operands of && and ||: a conjunction begins with the cheap ones.
type cost int

// The costs of all conditions.
const (
	costFalse       cost = iota
	costTrue             //
	costTextIs           // text.go
	costHasParent        // relations.go
	costEnum             // enum.go
	costOfTrace          // levels.go
	costOfResource       // levels.go
	costHas              // presence.go
	costIsText           // presence.go
	costBool             // boolean.go
	costNumber           // number.go
	costDuration         // number.go
	costParent           // relations.go
	costChild            // relations.go
	costAncestor         // relations.go
	costDescendant       // relations.go
	costOrder            // order.go
	costMember           // events.go
	costTextMatch        // textmatch.go
	costNot              // logic.go
	costAnd              // logic.go
	costOr               // logic.go
	costInterpreted      // interpreted.go
	costRow              // row.go
	costExists           // quantifier.go
	costExtreme          // extremes.go
	costCount            // quantifier.go
	costRoot             // levels.go
	costUnknown          //
)

// compiler makes predicates of nodes.
type compiler struct {
	plan *Plan
	keys map[string]*predicate
	cols map[source]*column
	// uses is the number of references to each predicate, by key. It is known when the rules are compiled for the
	// second time.
	uses     map[string]int
	extremes map[extremeKey]int
}

// predicate returns the predicate of a condition, the same for an equal condition on equal operands.
func (c *compiler) predicate(is condition, d domain, args ...*predicate) *predicate {
	p := &predicate{is: is, domain: d, args: args, traits: is.traits(), total: true}
	var key strings.Builder
	fmt.Fprintf(&key, "%d/%s", d, is.name())
	p.cost, p.keep = p.traits.cost, p.traits.keep
	for _, a := range args {
		key.WriteString(" #" + strconv.Itoa(a.id))
		p.total = p.total && a.total
	}
	p.key = key.String()
	p.total = p.total && !p.traits.fallible
	if x, ok := is.(composite); ok {
		p.cost = x.costOf(args)
	}
	if found, ok := c.keys[p.key]; ok {
		found.refs++
		switch {
		case found.isSlow(): // cheaper for the rows that need it
		case found.traits.cost == costNumber || found.traits.cost == costDuration:
			found.keep = found.keep || found.refs > 2
		default:
			found.keep = true
		}
		return found
	}
	p.id, p.refs = len(c.plan.predicates), 1
	c.plan.predicates = append(c.plan.predicates, p)
	c.keys[p.key] = p
	return p
}

// isSlow reports whether a predicate takes long for each row, and has no operand that excludes most rows.
func (p *predicate) isSlow() bool {
	if x, ok := p.is.(composite); ok {
		return x.isSlowOf(p.args)
	}
	return p.traits.slow
}

// order is the place of a predicate in a conjunction: a number that is kept costs no more than a text.
func (p *predicate) order() cost {
	if p.keep && (p.traits.cost == costNumber || p.traits.cost == costDuration) {
		return costTextIs
	}
	return p.cost
}

func (p *predicate) isTrue() bool  { return p.traits.cost == costTrue }
func (p *predicate) isFalse() bool { return p.traits.cost == costFalse }

// condition returns the predicate of the rows that v stands for, or of traces if v is nil. The node uses no
// other variable. It returns nil for a condition on events or links that has no bitmap.
func (c *compiler) condition(n *node, v *binder) *predicate {
	d := domainOf(v)
	if is[*constant](n) || is[*unknown](n) {
		return n.is.condition(c, n, v)
	}
	if v != nil && n.free == 0 {
		if d != spans {
			return nil
		}
		return c.ofTrace(c.condition(n, nil))
	}
	p := n.is.condition(c, n, v)
	if p == nil && (d == spans || d == traces) {
		p = c.row(n, v)
		if guards := c.guards(n, v); len(guards) > 0 {
			p = c.join(false, d, append(guards, p)...)
		}
	}
	return p
}

// constant returns the predicate that is true, or false, of all rows.
func (c *compiler) constant(d domain, b bool) *predicate {
	return c.predicate(&constantCondition{b}, d)
}

// constantCondition is the condition that is true, or false, of all rows.
type constantCondition struct{ of bool }

func (a *constantCondition) name() string { return strconv.FormatBool(a.of) }

func (a *constantCondition) traits() traits {
	if a.of {
		return traits{cost: costTrue}
	}
	return traits{cost: costFalse}
}

func (a *constantCondition) simplify(_ *evaluation, _ *predicate, s *simplified) {
	s.always, s.never = a.of, !a.of
}

func (a *constantCondition) evaluate(_ *evaluation, _ *predicate, mask, t, _ columnar.Bits) {
	if a.of {
		copy(t, mask)
	} else {
		clear(t)
	}
}

// unknownCondition is the condition that the interpreter has to evaluate.
type unknownCondition struct{}

func (*unknownCondition) name() string                                  { return "unknown" }
func (*unknownCondition) traits() traits                                { return traits{cost: costUnknown, fallible: true} }
func (*unknownCondition) simplify(*evaluation, *predicate, *simplified) {}

func (*unknownCondition) evaluate(_ *evaluation, _ *predicate, mask, t, u columnar.Bits) {
	copy(u, mask)
	clear(t)
}
