package blocks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Tempo writes data.parquet, then the bloom filters, then meta.json, and ignores a block until it has its
// meta.json. Data without a meta.json therefore belongs to a block that is being written, or to a damaged
// or abandoned one, whose spans cannot be read.
const (
	// headlessRest is the time without a change after which the next object of a block
	// that is being written is overdue.
	headlessRest = time.Minute
	// unfinishedRest is the same for data.parquet itself, which Tempo extends by one row
	// group at a time on a local disk. Elsewhere it appears when it is complete.
	unfinishedRest = 15 * time.Minute
	// headlessPause is the time between two checks of such blocks, headlessLooks the number of checks for
	// a block that changed within headlessRest. Each other block is checked once more, since Tempo
	// deletes the objects of a block in any order.
	headlessPause = time.Second
	headlessLooks = 8
)

var errNoMeta = errors.New("it has a data.parquet and no meta.json, so neither Tempo nor BeTrace can read it: if Tempo was about to write meta.json, read again; otherwise restore meta.json, or delete the block if a crash left it behind")

// headless returns the IDs of the blocks that have data but no meta.json in both listings, and are not
// being written. If one of them changed since, it reports changed and returns no ID.
func (l *lister) headless(ctx context.Context, before, after map[string]objectSet) (ids []string, changed bool, err error) {
	found := map[string]objectSet{}
	for id, set := range after {
		if old := before[id]; set.headless() && old.headless() {
			found[id] = set
		}
	}
	if len(found) == 0 {
		return nil, false, nil
	}
	if err := l.dropUnfinished(ctx, found); err != nil {
		return nil, false, err
	}
	for look := 1; len(found) > 0; look++ {
		select {
		case <-ctx.Done():
			return nil, false, fmt.Errorf("blocks at %s: list %s/: %w", l.url, l.tenant, context.Cause(ctx))
		case <-time.After(l.headlessPause()):
		}
		if changed, err := l.changed(ctx, found); changed || err != nil {
			return nil, changed, err
		}
		young := false
		for _, set := range found {
			young = young || within(set.newest, headlessRest)
		}
		if !young || look == headlessLooks {
			break
		}
	}
	return slices.Sorted(maps.Keys(found)), false, nil
}

func (o objectSet) headless() bool { return o.hasData && !o.live && !o.compacted }

// within reports whether a time is less than d from now, in either direction: the clocks of
// this machine and of the storage may differ.
func within(t time.Time, d time.Duration) bool { return time.Since(t).Abs() < d }

func (s *Store) headlessPause() time.Duration {
	if s.pause > 0 {
		return s.pause
	}
	return headlessPause
}

// dropUnfinished removes the blocks whose data.parquet is incomplete.
func (l *lister) dropUnfinished(ctx context.Context, found map[string]objectSet) error {
	ids := slices.Sorted(maps.Keys(found))
	unfinished := make([]bool, len(ids))
	var group errgroup.Group
	group.SetLimit(metaConcurrency)
	for i, id := range ids {
		set := found[id]
		if !within(set.newest, unfinishedRest) {
			continue
		}
		if set.data.size < 8 { // a Parquet file begins and ends with four bytes
			unfinished[i] = true
			continue
		}
		group.Go(func() error {
			r := &objectReader{store: l.Store, key: path.Join(l.tenant, id, dataName), stats: &l.stats}
			magic := make([]byte, 4)
			_, err := r.readAt(ctx, magic, set.data.size-4)
			// An unreadable object does not count as being written.
			unfinished[i] = err == nil && string(magic) != "PAR1"
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("blocks at %s: list %s/: %w", l.url, l.tenant, err)
	}
	for i, id := range ids {
		if unfinished[i] {
			delete(found, id)
		}
	}
	return nil
}

// changed lists each of the blocks again. It reports whether one of them now has a meta.json, or no
// longer exists.
func (l *lister) changed(ctx context.Context, found map[string]objectSet) (bool, error) {
	var changed atomic.Bool
	var group errgroup.Group
	group.SetLimit(metaConcurrency)
	for id := range found {
		group.Go(func() error {
			return l.retried(ctx, func() error {
				now, _, err := l.objectsNow(ctx, id+"/")
				if err == nil && !now[id].headless() {
					changed.Store(true)
				}
				return err
			})
		})
	}
	err := group.Wait()
	return changed.Load(), err
}
