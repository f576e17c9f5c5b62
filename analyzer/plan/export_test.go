package plan

// SetStrip sets how many spans are judged at a time.
func (j *Judge) SetStrip(n int) { j.strips = int32(n) }
