package plan

// SetStrip sets how many spans are judged at a time.
func (j *Judge) SetStrip(n int) { j.strips = int32(n) }

// SetFew sets of how many rows one has to be asked about for all to be looked at together, and how
// many spans are listed for each word of the strip: what is chosen must not matter.
func (j *Judge) SetFew(few int, listed float64) { j.few, j.perWord = few, listed }
