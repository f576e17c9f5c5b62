package plan

import "math/rand/v2"

// SetFew sets of how many rows one has to be asked about for all to be looked at together, and how
// many spans are listed for each word of the strip: what is chosen must not matter.
func (j *Judge) SetFew(few int, listed float64) {
	j.soil()
	j.by.fewRows, j.by.listed = few, listed
}

// SetAny sets all thresholds: what is chosen must not matter.
func (j *Judge) SetAny(r *rand.Rand, strip int) {
	j.soil()
	one := func(of ...int) int { return of[r.IntN(len(of))] }
	j.by = thresholds{
		strip: int32(strip), fewRows: one(1, 2, 16, 1<<20), ofChildren: one(1, 2, 1<<20), listed: float64(one(0, 1, 8, 64)),
		texts: one(0, 2, 8, 1000), metTexts: one(0, 8, 1000), often: one(1, 12, 1<<20), mostLimits: one(0, 1, 4),
	}
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
