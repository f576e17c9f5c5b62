package blocks

import (
	"cmp"
	"fmt"
	"io"
	"sort"

	"github.com/betracehq/betrace/trace"
)

// sampleEvery is the distance, in rows, between the trace IDs of a block that are kept if there is no memory
// for all. They suffice to find any row.
const sampleEvery = 32

// idSample holds trace IDs of a block. It is immutable.
type idSample struct {
	// groups are every every-th trace ID of each row group, from the first.
	groups [][]trace.ID
	every  int64
}

// memory returns the approximate memory of the IDs.
func (s *idSample) memory() int64 {
	n := 0
	for _, g := range s.groups {
		n += cap(g)
	}
	return int64(n) * int64(len(trace.ID{}))
}

// all reports whether the sample contains the IDs of all rows.
func (s *idSample) all() bool { return s.every == 1 }

// sample reads the trace IDs and returns every every-th one. They must be sorted, because rows are found by
// them.
func (b *block) sample(in io.ReaderAt, every int64) (s *idSample, err error) {
	defer recovered(&err)
	id, ok := b.cols["TraceID"]
	if !ok {
		return nil, fmt.Errorf("the file has no column TraceID")
	}
	s = &idSample{groups: make([][]trace.ID, len(b.rowsIn)), every: every}
	var last trace.ID
	for g, rows := range b.rowsIn {
		s.groups[g] = make([]trace.ID, 0, (rows+every-1)/every)
		row := int64(0)
		if err := id.eachPage(b, g, &pageReader{in: in}, rowRange{to: rows}, func(p *page) error {
			if err := p.decode(); err != nil {
				return err
			}
			var unsorted error
			err := eachText(p, func(_ int, text []byte) {
				var at trace.ID
				pad(at[:], text)
				if at.Compare(last) < 0 {
					unsorted = fmt.Errorf("trace %s follows %s: the rows are not sorted by trace ID", at, last)
				}
				last = at
				if row%every == 0 {
					s.groups[g] = append(s.groups[g], at)
				}
				row++
			})
			return cmp.Or(unsorted, err)
		}); err != nil {
			return nil, fmt.Errorf("column TraceID: %w", err)
		}
		if row != rows {
			return nil, fmt.Errorf("column TraceID has %d IDs in %d rows", row, rows)
		}
	}
	return s, nil
}

// rows returns rows of a row group that include all rows with IDs in the range, and up to as many more at
// either end as there are between two IDs of the sample.
func (b *block) rows(group int, ids idRange) (from, to int64) {
	sample := b.ids.groups[group]
	// The last sample below the range: all rows before it are below the range, too.
	first := sort.Search(len(sample), func(i int) bool { return sample[i].Compare(ids.from) >= 0 })
	if first > 0 {
		from = int64(first-1) * b.ids.every
	}
	to = b.rowsIn[group]
	if !ids.last {
		end := sort.Search(len(sample), func(i int) bool { return sample[i].Compare(ids.to) >= 0 })
		to = min(to, int64(end)*b.ids.every)
	}
	return from, max(from, to)
}

// idRange is a range of trace IDs: from is inclusive, to is exclusive. The last range has no end.
type idRange struct {
	from, to trace.ID
	last     bool
}
