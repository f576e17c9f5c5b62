package engine

import "math/rand/v2"

// SetFew sets the fraction of rows, one in few, above which a predicate is evaluated for all rows. Verdicts must not
// depend on it.
func (j *Judge) SetFew(few int) {
	j.soil()
	j.evaluation.fewRows = few
}

// SetAny sets all numbers that verdicts must not depend on.
func (j *Judge) SetAny(r *rand.Rand, strip int) {
	j.soil()
	j.evaluation.tuning = tuning{stripSpans: int32(strip), fewRows: []int{1, 2, 16, 1 << 20}[r.IntN(4)]}
}

// Asked is a rule that the interpreter judged on a trace, because its expressions were unknown there.
type Asked struct{ Trace, Rule int }

// Asked returns the rules and traces of the last batch that the interpreter judged as a whole.
func (j *Judge) Asked() map[Asked]bool {
	asked := map[Asked]bool{}
	for _, p := range j.findings.pending {
		if p.clause == clauseUnknown {
			asked[Asked{int(p.trace), int(p.rule)}] = true
		}
	}
	return asked
}

// Limit returns the number of spans of the largest trace of the last batch on which a rule is judged by its expressions
// alone.
func (j *Judge) Limit(rule int) int { return j.limits.of[rule].spans }

// soil fills the bitmaps of the scratch memory: no result may depend on them.
func (j *Judge) soil() {
	for range 64 {
		of := j.evaluation.scratch.Take(64)
		of.Fill(64 * len(of))
	}
	j.evaluation.scratch.GiveTo(0)
}
