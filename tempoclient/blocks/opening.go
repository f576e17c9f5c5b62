package blocks

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/trace"
)

// heldOpen is the number of blocks whose files stay open, if they are files.
const heldOpen = 500

// opened is a listed block of a reading.
type opened struct {
	Meta
	block   *block // nil: it has no row near the range, or err
	err     error
	release func() error // closes its file; nil: it is not open
}

// open opens the blocks with rows near the range. Judged blocks are opened after the new ones, and only if
// they have rows near those of a new block.
func (r *reading) open(ctx context.Context, metas []Meta) error {
	var all, fresh, judged []*opened
	for _, m := range metas {
		o := &opened{Meta: m}
		all = append(all, o)
		if r.req.Judged != nil && r.req.Judged(m.ID) {
			judged = append(judged, o)
		} else {
			fresh = append(fresh, o)
		}
	}
	margin := trace.Time(r.req.MaxTraceDuration)
	near := timeRange{r.from, r.to}.widened(margin)
	if err := r.openEach(ctx, fresh, func(t BlockTimes) bool { return t.overlap(near) }); err != nil {
		return err
	}
	var nearNew []timeRange
	for _, o := range fresh {
		if o.block != nil {
			nearNew = append(nearNew, o.block.blockTimes().timeRange().widened(margin))
		}
	}
	if len(nearNew) > 0 {
		if err := r.openEach(ctx, judged, func(t BlockTimes) bool {
			return t.overlap(near) && slices.ContainsFunc(nearNew, t.overlap)
		}); err != nil {
			return err
		}
	}
	if err := r.readWhole(ctx, all); err != nil {
		return err
	}
	if err := each(ctx, len(all), func(i int) {
		if o := all[i]; o.block != nil {
			o.err = r.look(ctx, o.block)
		}
	}); err != nil {
		return err
	}
	for _, o := range all {
		switch {
		case o.err != nil:
			r.fail(failedBlock(o.Meta, o.err))
			r.torn = true
		case o.block == nil:
			r.report.Left++
		default:
			r.blocks = append(r.blocks, o.block)
			r.report.Blocks = append(r.report.Blocks, o.Meta)
		}
	}
	return nil
}

// openEach opens those of the blocks whose times are near. A block whose times are kept and not near is not
// opened.
func (r *reading) openEach(ctx context.Context, blocks []*opened, near func(BlockTimes) bool) error {
	defer func() {
		for _, o := range blocks {
			if o.release != nil {
				r.release = append(r.release, o.release)
			}
		}
	}()
	return each(ctx, len(blocks), func(i int) {
		o := blocks[i]
		if t, known := r.store.cache.timesOf(o.Meta); known && !near(t) {
			return
		}
		b, err := r.store.open(ctx, o.Meta, r.stats)
		if err == nil && near(b.blockTimes()) {
			if r.held.Add(1) <= heldOpen {
				o.release, err = b.object.hold(ctx)
			}
			o.block = b
		}
		if err != nil {
			o.block, o.err = nil, err
		}
	})
}

// each calls do concurrently for the numbers below n, until the context ends.
func each(ctx context.Context, n int, do func(i int)) error {
	var group errgroup.Group
	group.SetLimit(metaConcurrency)
	for i := range n {
		group.Go(func() error {
			do(i)
			return context.Cause(ctx)
		})
	}
	return group.Wait()
}

// look reads a block's trace IDs and the keys of its attributes unless they are kept, with separate requests
// unless the block is read as a whole.
func (r *reading) look(ctx context.Context, b *block) error {
	in := readerOf(ctx, b, r.whole)
	before := b.contents
	var group errgroup.Group
	group.Go(func() (err error) {
		if b.ids == nil {
			b.ids, err = b.sample(in, r.sampleEvery(b))
		}
		return err
	})
	group.Go(func() error { return b.findWithout(r.req.Needs, in) })
	if err := group.Wait(); err != nil {
		return err
	}
	if r.store.cache == nil {
		return nil
	}
	if b.keepKeys(); before.ids == nil || len(before.keys) < len(b.keys) {
		r.store.cache.keep(b.Meta, b.contents)
	}
	return nil
}

// sampleEvery returns the distance between the trace IDs of a block that are kept.
func (r *reading) sampleEvery(b *block) int64 {
	if !r.store.cache.hasRoom(&r.ids, b.footer.rows) {
		return sampleEvery
	}
	return 1
}
