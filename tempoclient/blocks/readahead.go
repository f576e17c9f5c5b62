package blocks

import (
	"cmp"
	"context"
	"strings"
)

const (
	// wholeShare is the share of a block's bytes from which the block is read as a whole, in few large
	// requests, from the first needed column to the last.
	wholeShare = 0.5
	// wholeGap is the largest run of unneeded bytes that is read too, unless a tenth of the block is
	// more. A request takes about as long as 2.4 MB of a stream (30 ms, 80 MB/s), and costs money.
	wholeGap = 4 << 20
	// wholePart is the largest part for one request, unless a quarter of the block is more. SeaweedFS
	// needs 35 ms of CPU for a request for a part of an object of any size.
	wholePart = 16 << 20
)

// readWhole begins to read the mostly needed blocks as a whole, as many as fit into half of the spool.
// The rest of the spool is for the others.
func (r *reading) readWhole(ctx context.Context, all []*opened) (err error) {
	if r.store.near || conditionOf(r.req.Filter) != nil || r.req.Judged != nil {
		return nil
	}
	left := r.req.SpoolBytes / 2
	var blocks []*block
	parts := map[*block][]byteRange{}
	for _, o := range all {
		b := o.block
		if b == nil {
			continue
		}
		needed, ok := r.wholeRanges(b)
		whole := wholeParts(needed, b.size, r.store.partBytes)
		if size := total(whole); ok && size <= left {
			left -= size
			blocks = append(blocks, b)
			parts[b] = whole
		}
	}
	if len(blocks) == 0 {
		return nil
	}
	r.whole, err = r.store.newSpool(ctx, r.req.SpoolDir, blocks, parts)
	return err
}

// wholeParts returns the parts in which the ranges are read, at most nine if the ranges are half of the
// block's size. partBytes, if not 0, bounds a part.
func wholeParts(ranges []byteRange, size, partBytes int64) []byteRange {
	return divided(coalesced(ranges, max(wholeGap, size/10)), cmp.Or(partBytes, max(wholePart, size/4)))
}

// wholeRanges returns the needed ranges of a block, and whether they are most of it. Columns that may
// turn out to contain none of the needed attributes are read, but do not count.
func (r *reading) wholeRanges(b *block) (ranges []byteRange, most bool) {
	perhaps := b.perhapsWithout(r.req.Needs)
	certain := int64(0)
	for path := range b.needed(r.req.Needs) {
		l, ok := b.cols[path]
		if !ok {
			continue
		}
		scope, _, shared := strings.Cut(path, "Attrs.")
		_, unsure := perhaps[scope]
		for _, group := range b.chunks {
			c := &group[l.index]
			ranges = append(ranges, byteRange{c.begin, c.end})
			if !shared || !unsure {
				certain += c.bytes()
			}
		}
	}
	return ranges, float64(certain) >= wholeShare*float64(b.size)
}

func total(ranges []byteRange) (sum int64) {
	for _, r := range ranges {
		sum += r.to - r.from
	}
	return sum
}
