package engine

import "slices"

// simplified is what remains of a predicate in one batch, in which many columns have no value.
type simplified struct {
	// as is the predicate that it is equal to: itself, or its only operand that is not constant.
	as *predicate
	// args are, for && and ||, the operands that are not constant.
	args []*predicate
	// never is set if the predicate is false or unknown for every row; always, if it is true for every row.
	never, always bool
	total         bool // it is known for every row
	keep          bool // like predicate.keep
}

// simplify finds what remains of each predicate in the batch.
func (e *evaluation) simplify() {
	for _, p := range e.plan.predicates { // operands come first
		s := &e.simple[p.id]
		*s = simplified{as: p, args: s.args[:0], total: p.total, keep: p.keep}
		p.is.simplify(e, p, s)
	}
}

// sortByCost sorts operands: in the batch they may be cheaper than in general.
func sortByCost(args []*predicate) {
	slices.SortStableFunc(args, func(a, b *predicate) int { return int(a.order() - b.order()) })
}

// isNever reports whether it is known, at little cost, that a predicate is false or unknown for every row of the
// strip.
func (e *evaluation) isNever(p *predicate) bool {
	s := &e.simple[p.id]
	if s.never || s.always {
		return s.never
	}
	x, ok := s.as.is.(selective)
	return ok && x.isNeverInStrip(e, s.as)
}
