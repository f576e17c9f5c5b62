package engine

import "math/rand/v2"

// SetFew sets the fraction of rows, one in few, above which a predicate is evaluated for all rows. Verdicts
// must not depend on it.
func (j *Judge) SetFew(few int) {
	j.soil()
	j.by.fewRows = few
}

// SetAny sets all thresholds: what is chosen must not matter.
func (j *Judge) SetAny(r *rand.Rand, strip int) {
	j.soil()
	one := func(of ...int) int { return of[r.IntN(len(of))] }
	j.by = thresholds{strip: int32(strip), fewRows: one(1, 2, 16, 1<<20)}
}

// Asked is a rule that the interpreter judged on a trace, because the plan did not know.
type Asked struct{ Trace, Rule int }

// Asked returns what the interpreter was asked about the last batch.
func (j *Judge) Asked() map[Asked]bool {
	asked := map[Asked]bool{}
	for _, p := range j.pending {
		if p.clause == ask {
			asked[Asked{int(p.trace), int(p.rule)}] = true
		}
	}
	return asked
}

// Limit returns how many spans a trace of the last batch may have for a rule to be judged by the plan.
func (j *Judge) Limit(rule int) int { return j.limits[rule].spans }

// soil fills the bitmaps that are lent: nothing may depend on what they hold.
func (j *Judge) soil() {
	for range 64 {
		of := j.scratch.Take(64)
		of.Fill(64 * len(of))
	}
	j.scratch.GiveTo(0)
}
