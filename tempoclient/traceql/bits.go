package traceql

import "github.com/betracehq/betrace/analyzer/trace"

// take returns a bitmap of so many words, which hold anything, until give.
func (f *BatchFilter) take(words int) trace.Bits {
	if f.used == len(f.spare) {
		f.spare = append(f.spare, nil)
	}
	f.spare[f.used] = f.spare[f.used].Resized(64 * words)
	f.used++
	return f.spare[f.used-1]
}

// give ends the use of the n bitmaps that were taken last.
func (f *BatchFilter) give(n int) { f.used -= n }

func (f *BatchFilter) copyOf(b trace.Bits) trace.Bits {
	c := f.take(len(b))
	copy(c, b)
	return c
}
