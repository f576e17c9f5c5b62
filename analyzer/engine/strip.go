package engine

import "github.com/betracehq/betrace/trace/columnar"

// frame are the rows of a table that are evaluated: low to high. Bit 0 of a bitmap is row first.
type frame struct {
	first, low, high int32
	words            int
	all              columnar.Bits // the rows
	none             columnar.Bits
	stamp            uint64
}

func (f *frame) set(first, low, high int32, stamp uint64) {
	f.first, f.low, f.high, f.stamp = first, low, high, stamp
	f.words = columnar.NumWords(int(high - first))
	f.all = f.all.Resized(64 * f.words)
	clear(f.all)
	f.all.SetRange(low-first, high-first)
	if cap(f.none) < f.words {
		f.none = make(columnar.Bits, f.words, 2*f.words)
	}
	f.none = f.none[:f.words]
}

// isIn reports whether all rows of the frame are in the bits of a column.
func (f *frame) isIn(column columnar.Bits) bool {
	at := int(f.first >> 6)
	for w, in := range f.all {
		if in&^column[at+w] != 0 {
			return false
		}
	}
	return true
}

// strip are some traces of a batch that are evaluated together.
type strip struct {
	// longest is the number of spans of the largest trace.
	longest int32
	// owner is the trace of each span, from the first of the strip, by bit.
	owner []int32
	// roots are the rows of the roots of the traces, rootUnknown or noRoot.
	roots []int32
	// durations are those of the spans, by bit, in the strip with the stamp.
	durations   []int64
	durationsOf uint64
}

const (
	rootUnknown = -2
	noRoot      = -1
)

// enter prepares for the strip of the traces from the first to the second number.
func (e *evaluation) enter(from, to int32) {
	b := e.batch
	e.clock++
	low, high := b.First[from], b.First[to]
	e.frames[spans].set(low&^63, low, high, e.clock)
	e.frames[traces].set(from, from, to, e.clock)
	first, s := e.frames[spans].first, &e.strip
	s.owner = sized(s.owner, int(high-first))
	s.roots = sized(s.roots, int(to-from))
	s.longest = 0
	for t := from; t < to; t++ {
		s.roots[t-from] = rootUnknown
		s.longest = max(s.longest, b.First[t+1]-b.First[t])
		own := s.owner[b.First[t]-first : b.First[t+1]-first]
		for i := range own {
			own[i] = t - from
		}
	}
}

// tracesOf sets of to the traces that have a span in the mask.
func (e *evaluation) tracesOf(mask, of columnar.Bits) {
	clear(of)
	first := e.frames[spans].first
	ends := e.batch.First[e.frames[traces].first+1:]
	for i := mask.Next(0); i >= 0; {
		t := e.strip.owner[i]
		of.Set(t)
		i = mask.Next(ends[t] - first)
	}
}

// spansOf sets t to the spans of mask whose trace is in of. t may be mask.
func (e *evaluation) spansOf(of columnar.Bits, t, mask columnar.Bits) {
	wide, base := e.scratch.Take(len(mask)), e.frames[spans].first
	clear(wide)
	first := e.batch.First[e.frames[traces].first:]
	for i := of.Next(0); i >= 0; i = of.Next(i + 1) {
		wide.SetRange(first[i]-base, first[i+1]-base)
	}
	for w, in := range mask {
		t[w] = in & wide[w]
	}
	e.scratch.Give(1)
}

// rootOf returns the row of the root of a trace of the strip, noRoot if it has none.
func (e *evaluation) rootOf(t int32) int32 {
	roots := e.strip.roots
	if roots[t] == rootUnknown {
		roots[t] = noRoot
		at := e.frames[traces].first + t
		for i := e.batch.First[at]; i < e.batch.First[at+1]; i++ {
			if e.batch.Parents[i] < 0 && e.batch.ParentIDs[i].IsZero() {
				roots[t] = i
				break
			}
		}
	}
	return roots[t]
}

// durations returns the durations of the strip's spans, by bit.
func (e *evaluation) durations() []int64 {
	f, s := &e.frames[spans], &e.strip
	if s.durationsOf != f.stamp {
		s.durationsOf = f.stamp
		n := min(int(f.first)+64*f.words, len(e.batch.Starts))
		starts, ends := e.batch.Starts[f.first:n], e.batch.Ends[f.first:n]
		s.durations = sized(s.durations, len(starts))
		for i, start := range starts {
			s.durations[i] = int64(ends[i].Sub(start))
		}
	}
	return s.durations
}
