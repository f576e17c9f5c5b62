package engine

import (
	"math/bits"

	"github.com/betracehq/betrace/trace/columnar"
)

// memberCondition is true of spans that have an event, or a link, of which the operand is true.
type memberCondition struct{ list listKind }

func (x *memberCondition) name() string { return "member " + lists[x.list].name }
func (*memberCondition) traits() traits { return traits{cost: costMember} }

func (*memberCondition) simplify(e *evaluation, p *predicate, s *simplified) {
	of := p.args[0]
	s.never = e.simple[of.id].never || e.frames[of.domain].words == 0
}

func (x *memberCondition) evaluate(e *evaluation, p *predicate, mask, t, u columnar.Bits) {
	from, to := e.batch.Events.From, e.batch.Events.To
	if x.list == listLinks {
		from, to = e.batch.Links.From, e.batch.Links.To
	}
	ofT, ofU := e.all(p.args[0])
	f := &e.frames[spans]
	for w, in := range mask {
		var trueRows, unknownRows uint64
		for rest := in; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			row := int(f.first) + 64*w + k
			switch {
			case ofT.AnyIn(from[row], to[row]):
				trueRows |= 1 << k
			case !p.total && ofU.AnyIn(from[row], to[row]):
				unknownRows |= 1 << k
			}
		}
		t[w] = trueRows
		if !p.total {
			u[w] = unknownRows
		}
	}
}
