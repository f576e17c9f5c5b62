package blocks

import (
	"context"
	"time"

	"gocloud.dev/gcerrors"

	"github.com/betracehq/betrace/trace"
)

// BlockTimes are the facts of a block's footer by which its reading is planned.
type BlockTimes struct {
	// Earliest and Latest bound the times of its spans. They are zero if the file does not contain them.
	Earliest, Latest time.Time
	// Spans counts its spans including copies. Bytes is the size of its data.
	Spans, Bytes int64
}

// Opening is the result of opening blocks.
type Opening struct {
	// Times are the times of the blocks, by ID.
	Times map[string]BlockTimes
	// Failed are the blocks that could not be opened.
	Failed []FailedBlock
	// Requests and Bytes count requests to the storage and the read bytes.
	Requests, Bytes int64
}

// FailedBlock is a block that could not be read.
type FailedBlock struct {
	ID  string
	Err error
	// Gone reports that the listing contains its data, which cannot be found any more: it was deleted during
	// the reading, and a new listing does not contain it. Other errors are of blocks that are still there.
	Gone bool
}

// failedBlock returns the block with the error.
func failedBlock(m Meta, err error) FailedBlock {
	return FailedBlock{m.ID, err, m.data != stamp{} && gcerrors.Code(err) == gcerrors.NotFound}
}

// Times returns the times of blocks from their footers, which are read unless they are kept ([Store.Cache]).
// It returns an error only if the context ends.
func (s *Store) Times(ctx context.Context, metas []Meta) (Opening, error) {
	stats := &readStats{}
	times, errs := make([]BlockTimes, len(metas)), make([]error, len(metas))
	if err := each(ctx, len(metas), func(i int) {
		known := false
		if times[i], known = s.cache.timesOf(metas[i]); known {
			return
		}
		b, err := s.open(ctx, metas[i], stats)
		if err == nil {
			times[i] = b.blockTimes()
		}
		errs[i] = err
	}); err != nil {
		return Opening{}, err
	}
	o := Opening{Times: map[string]BlockTimes{}, Requests: stats.requests.Load(), Bytes: stats.bytes.Load()}
	for i, m := range metas {
		if errs[i] != nil {
			o.Failed = append(o.Failed, failedBlock(m, errs[i]))
		} else {
			o.Times[m.ID] = times[i]
		}
	}
	return o, nil
}

// blockTimes returns the block's times.
func (f *footer) blockTimes() BlockTimes {
	t := BlockTimes{Spans: f.spans, Bytes: f.size}
	if f.latest > 0 {
		t.Earliest, t.Latest = f.earliest.Time(), f.latest.Time()
	}
	return t
}

// timeRange is a range of times. Both bounds are inclusive.
type timeRange struct{ from, to trace.Time }

// widened returns the range with a margin on both sides.
func (r timeRange) widened(margin trace.Time) timeRange {
	return timeRange{r.from - min(r.from, margin), r.to + min(^r.to, margin)}
}

// timeRange returns the range of the times. If they are unknown, it is the range of all times.
func (t BlockTimes) timeRange() timeRange {
	if t.Latest.IsZero() {
		return timeRange{0, ^trace.Time(0)}
	}
	return timeRange{trace.TimeOf(t.Earliest), trace.TimeOf(t.Latest)}
}

// overlap reports whether a row of the block may have a time in the range.
func (t BlockTimes) overlap(r timeRange) bool {
	own := t.timeRange()
	return own.from <= r.to && own.to >= r.from
}
