package blocks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/trace"
)

// listTries bounds the number of listings if blocks are compacted during a listing.
const listTries = 5

// Listing is the set of a tenant's blocks at one time.
type Listing struct {
	// Live are the blocks that are not compacted, by ID.
	Live []Meta
	// Compacted are the IDs of compacted blocks, which are kept for a limited time only.
	Compacted []string
	// Unread are the IDs of blocks whose meta.json could not be read, or is missing although their data
	// exists. Each of them is a problem, too.
	Unread []string
	// Began and Ended are the start and the end of the listing.
	Began, Ended time.Time
	// Problems are the blocks that could not be listed, with the reasons.
	Problems []trace.Problem
	// Unstable is set if blocks were compacted during each attempt to list them. Then no conclusions may be
	// drawn from a block that is absent or compacted.
	Unstable bool
	// CompactedDuring are the blocks that were compacted during an unstable listing, by ID. Each span that
	// was stored when the listing began is in one of them or in a live block, and may be in both.
	CompactedDuring []Meta
	// Requests and Bytes count requests to the storage and the read bytes.
	Requests, Bytes int64
}

// lister makes one listing of a tenant.
type lister struct {
	*Store
	tenant string
	stats  readStats
	// first is the first list of objects. seen are the blocks that were live in any list, or compacted in
	// one but not in the first, as last listed. metas are the meta.json files that were read.
	first, seen map[string]objectSet
	metas       map[string]Meta
}

// List returns a tenant's live blocks. It lists the objects of the bucket, because the index that Tempo
// writes is older. Objects are listed one after another while Tempo writes and compacts. A listing counts
// only if the next one shows that no block was compacted meanwhile; otherwise a trace might be in neither
// the old nor the new block. In a listing that counts, the sources of a block written by a compaction are
// live, compacted, unread, or deleted.
//
// If blocks are compacted during each of several attempts, the listing contains the blocks of all of them.
// Such a listing misses no span either: if a block was compacted before its turn in the first list, the
// block that replaced it was written before, and so is in the first list or in the second.
func (s *Store) List(ctx context.Context, tenant string) (Listing, error) {
	l := &lister{Store: s, tenant: cmp.Or(tenant, "single-tenant"), seen: map[string]objectSet{}, metas: map[string]Meta{}}
	listing, err := l.list(ctx)
	if err != nil {
		return Listing{}, err
	}
	listing.Ended = s.now()
	listing.Requests, listing.Bytes = l.stats.requests.Load(), l.stats.bytes.Load()
	return listing, nil
}

func (l *lister) list(ctx context.Context) (Listing, error) {
	earliest := l.now()
	began := earliest
	before, indexed, err := l.objects(ctx)
	if err != nil {
		return Listing{}, err
	}
	if len(before) == 0 && !indexed {
		l.cache.retain(l.tenant, nil)
		return Listing{Began: began, Problems: []trace.Problem{{What: "tenant " + l.tenant, Err: l.noTenant(ctx)}}}, nil
	}
	for try := 1; ; try++ {
		found, after, err := l.metasAndObjects(ctx, before)
		if err != nil {
			return Listing{}, err
		}
		written, err := l.writtenSince(ctx, before, after)
		if err != nil {
			return Listing{}, err
		}
		stable := !written.unsure() && !compactedSince(before, after)
		if !stable && try < listTries {
			began, before = l.now(), after
			continue
		}
		headless, changed, err := l.headless(ctx, before, after)
		if err != nil {
			return Listing{}, err
		}
		if changed && try < listTries {
			began = l.now()
			if before, _, err = l.objects(ctx); err != nil {
				return Listing{}, err
			}
			continue
		}
		found.add(written)
		l.cache.retain(l.tenant, after)
		listing := Listing{Live: found.live, Compacted: found.compacted, Unread: found.unread, Problems: found.problems, Began: began, Unstable: !stable}
		for _, id := range headless {
			listing.addUnread(id, errNoMeta)
		}
		if listing.Unstable {
			listing.Began = earliest
			if err := l.addCompacted(ctx, &listing, after); err != nil {
				return Listing{}, err
			}
		} else {
			for _, id := range found.missing {
				if after[id].isLive() {
					listing.addUnread(id, errMetaNotFound)
				}
			}
		}
		slices.SortFunc(listing.Live, func(a, b Meta) int { return strings.Compare(a.ID, b.ID) })
		return listing, nil
	}
}

var errMetaNotFound = errors.New("its meta.json is listed but cannot be found")

// addUnread adds a block that cannot be read.
func (l *Listing) addUnread(id string, err error) {
	l.Unread = append(l.Unread, id)
	l.Problems = append(l.Problems, blockProblem(id, err))
}

// blockProblem returns the problem of a block that cannot be read.
func blockProblem(id string, err error) trace.Problem {
	return trace.Problem{What: blockPrefix + id, Err: err}
}

// blockPrefix begins the name of a problem with a block.
const blockPrefix = "block "

// blockOf returns the ID of the block that a problem concerns.
func blockOf(p trace.Problem) (id string, ok bool) { return strings.CutPrefix(p.What, blockPrefix) }

// addCompacted adds to an unstable listing the blocks that were live in an earlier list and are not in the
// last, or were compacted since the first.
func (l *lister) addCompacted(ctx context.Context, listing *Listing, after map[string]objectSet) error {
	known := map[string]bool{}
	for _, m := range listing.Live {
		known[m.ID] = true
	}
	for _, id := range listing.Unread {
		known[id] = true
	}
	var unknown []string
	for _, id := range slices.Sorted(maps.Keys(l.seen)) {
		if known[id] {
			continue
		}
		if m, ok := l.metas[id]; ok {
			listing.CompactedDuring = append(listing.CompactedDuring, m)
		} else {
			unknown = append(unknown, id)
		}
	}
	metas, errs, err := l.readMetas(ctx, unknown, compactedMetaName)
	if err != nil {
		return err
	}
	for i, id := range unknown {
		switch {
		case errs[i] == nil:
			listing.CompactedDuring = append(listing.CompactedDuring, metas[i].listed(l.seen[id]))
		case after[id].isLive() && gcerrors.Code(errs[i]) == gcerrors.NotFound:
			listing.addUnread(id, errMetaNotFound)
		default:
			listing.Problems = append(listing.Problems, blockProblem(id, fmt.Errorf("it was compacted during the listing: %w", errs[i])))
		}
	}
	slices.SortFunc(listing.CompactedDuring, func(a, b Meta) int { return strings.Compare(a.ID, b.ID) })
	return nil
}

// found are the blocks in a list of objects.
type found struct {
	live              []Meta
	compacted, unread []string
	missing           []string // their meta.json is not there: compacted or deleted meanwhile
	problems          []trace.Problem
}

func (f *found) add(g found) {
	f.live = append(f.live, g.live...)
	f.unread = append(f.unread, g.unread...)
	f.missing = append(f.missing, g.missing...)
	f.problems = append(f.problems, g.problems...)
}

// unsure reports whether a compaction may have written one of the blocks, which were written between two
// listings. Then a source may be missing, if it was written to a part that the second listing had already
// passed.
func (f *found) unsure() bool {
	return len(f.missing)+len(f.unread) > 0 || slices.ContainsFunc(f.live, func(m Meta) bool { return m.CompactionLevel > 0 })
}

// metasAndObjects reads the meta.json of blocks and lists them again, both concurrently. Only if a
// meta.json is missing must the listing be later.
func (l *lister) metasAndObjects(ctx context.Context, before map[string]objectSet) (f found, after map[string]objectSet, err error) {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		after, _, err = l.objects(groupCtx)
		return err
	})
	group.Go(func() (err error) {
		f, err = l.find(groupCtx, before)
		return err
	})
	if err := group.Wait(); err != nil {
		return found{}, nil, err
	}
	if len(f.missing) > 0 {
		after, _, err = l.objects(ctx)
	}
	return f, after, err
}

// writtenSince returns the blocks that were written between two listings.
func (l *lister) writtenSince(ctx context.Context, before, after map[string]objectSet) (found, error) {
	written := map[string]objectSet{}
	for id, set := range after {
		if set.isLive() && !before[id].live && !before[id].compacted {
			written[id] = set
		}
	}
	return l.find(ctx, written)
}

// find reads the meta.json of the live blocks.
func (l *lister) find(ctx context.Context, blocks map[string]objectSet) (f found, err error) {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(blocks)) {
		if set := blocks[id]; set.compacted {
			f.compacted = append(f.compacted, id)
		} else if set.live {
			ids = append(ids, id)
		}
	}
	var unknown []string
	for _, id := range ids {
		if m, ok := l.cache.meta(l.tenant, id, blocks[id]); ok {
			f.live = append(f.live, m.listed(blocks[id]))
		} else {
			unknown = append(unknown, id)
		}
	}
	metas, errs, err := l.readMetas(ctx, unknown, metaName)
	if err != nil {
		return found{}, err
	}
	for i, err := range errs {
		id := unknown[i]
		switch {
		case gcerrors.Code(err) == gcerrors.NotFound:
			f.missing = append(f.missing, id)
		case err != nil:
			f.unread = append(f.unread, id)
			f.problems = append(f.problems, blockProblem(id, err))
		default:
			l.cache.keepMeta(l.tenant, metas[i], blocks[id])
			f.live = append(f.live, metas[i].listed(blocks[id]))
		}
	}
	for _, m := range f.live {
		l.metas[m.ID] = m
	}
	return f, nil
}

// objectSet describes the objects in a block's folder.
type objectSet struct {
	// live and compacted report which of the two kinds of meta.json exist, one or both.
	live, compacted bool
	// meta and data identify meta.json and data.parquet, if they exist.
	meta, data stamp
	hasData    bool
	// newest is the latest modification time of its objects.
	newest time.Time
}

// isLive reports whether the block is live. Tempo marks a block as compacted by a copy and a delete, so a
// block with both files is compacted.
func (o objectSet) isLive() bool { return o.live && !o.compacted }

// listed returns the meta with the facts from the listing.
func (m Meta) listed(set objectSet) Meta {
	m.Written, m.data = set.newest, set.data
	return m
}

// objects lists the tenant's blocks. indexed reports whether the tenant has Tempo's index, which may exist
// without blocks.
func (l *lister) objects(ctx context.Context) (blocks map[string]objectSet, indexed bool, err error) {
	if err = l.retried(ctx, func() error {
		blocks, indexed, err = l.objectsNow(ctx, "")
		return err
	}); err != nil {
		return nil, false, err
	}
	if l.first == nil {
		l.first = blocks
	}
	for id, set := range blocks {
		if _, seen := l.seen[id]; seen || set.isLive() || set.compacted && !l.first[id].compacted {
			l.seen[id] = set
		}
	}
	return blocks, indexed, nil
}

// objectsNow lists the tenant's blocks whose ID has the prefix.
func (l *lister) objectsNow(ctx context.Context, idPrefix string) (blocks map[string]objectSet, indexed bool, err error) {
	blocks = map[string]objectSet{}
	ctx, w := l.watch(ctx)
	defer w.end()
	for it := l.bucket.List(l.counted(&blob.ListOptions{Prefix: l.tenant + "/" + idPrefix})); ; w.moved() {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			maps.DeleteFunc(blocks, func(_ string, set objectSet) bool { return !set.live && !set.compacted && !set.hasData })
			unreadable, err := l.unreadable(l.tenant)
			if err != nil {
				return nil, false, fmt.Errorf("blocks at %s: list %s/: %w", l.url, l.tenant, err)
			}
			for _, id := range unreadable {
				if strings.HasPrefix(id, idPrefix) && blocks[id] == (objectSet{}) {
					blocks[id] = objectSet{live: true} // reading its meta.json says why
				}
			}
			return blocks, indexed, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("blocks at %s: list %s/: %w", l.url, l.tenant, w.why(ctx, err))
		}
		id, name, ok := strings.Cut(strings.TrimPrefix(o.Key, l.tenant+"/"), "/")
		if !ok {
			indexed = indexed || slices.Contains(indexNames, id)
			continue
		}
		set := blocks[id]
		if o.ModTime.After(set.newest) {
			set.newest = o.ModTime
		}
		at := stamp{o.Size, o.ModTime.UnixNano()}
		switch name {
		case metaName:
			set.live, set.meta = true, at
		case compactedMetaName:
			set.compacted = true
		case dataName:
			set.hasData, set.data = true, at
		}
		blocks[id] = set
	}
}

// counted counts the requests for the pages of a list.
func (l *lister) counted(o *blob.ListOptions) *blob.ListOptions {
	o.BeforeList = func(func(any) bool) error {
		l.stats.requests.Add(1)
		return nil
	}
	return o
}

// compactedSince reports whether a block was compacted or a live block was removed between two listings.
func compactedSince(before, after map[string]objectSet) bool {
	for id, set := range before {
		if set.isLive() && !after[id].live {
			return true
		}
	}
	for id, set := range after {
		if set.compacted && !before[id].compacted {
			return true
		}
	}
	return false
}
