package blocks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/trace/columnar"
)

const (
	// A request to object storage takes about 30 ms, a stream has about 80 MB/s. Two runs with a gap of
	// up to this size are cheaper to read as one.
	spoolGap = 256 << 10
	// If few rows are read, the gap is smaller: there are fewer bytes, and users pay for the number of
	// requests.
	selectedGap = 64 << 10
	// mostInPart is the approximate size of one request: 100 ms of a stream.
	mostInPart = 8 << 20
	// spoolStreams is the number of concurrent streams of a store.
	spoolStreams = 64
	spoolBuffer  = 256 << 10
	// spoolFiles is the number of files, because a file is locked while it is written.
	spoolFiles = 8
)

// byteRange is a part of a file.
type byteRange struct{ from, to int64 }

// coalesced joins ranges with small gaps.
func coalesced(ranges []byteRange, gap int64) []byteRange {
	slices.SortFunc(ranges, func(a, b byteRange) int { return cmp.Compare(a.from, b.from) })
	joined := ranges[:0]
	for _, r := range ranges {
		if n := len(joined); n > 0 && r.from <= joined[n-1].to+gap {
			joined[n-1].to = max(joined[n-1].to, r.to)
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// divided cuts ranges into parts of equal size, of at most most bytes.
func divided(ranges []byteRange, most int64) []byteRange {
	var parts []byteRange
	for _, r := range ranges {
		size := r.to - r.from
		n := (size + most - 1) / most
		for i := range n {
			parts = append(parts, byteRange{r.from + i*size/n, r.from + (i+1)*size/n})
		}
	}
	return parts
}

// spool contains parts of blocks that are read ahead from remote storage, many concurrently, in temporary
// files. Thus a scan waits for few requests, and needs little memory.
type spool struct {
	files []*os.File
	parts map[*block][]*spooled
	stop  context.CancelFunc
	group *errgroup.Group
	// asked is closed after all parts were requested, or no further part will be.
	asked chan struct{}
}

// spooled is one part, at a position of a file. Received bytes can be read before the rest has arrived.
type spooled struct {
	byteRange
	file *os.File
	at   int64

	mu   sync.Mutex
	have int64         // received bytes, from its start
	more chan struct{} // closed when more bytes arrive, or the part is complete
	done bool
	err  error
}

// came records n more received bytes.
func (p *spooled) came(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.have += n
	close(p.more)
	p.more = make(chan struct{})
}

// end records that no more bytes will arrive.
func (p *spooled) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.err = true, err
	close(p.more)
}

// wait waits until the first n bytes have arrived.
func (p *spooled) wait(ctx context.Context, n int64) error {
	for {
		p.mu.Lock()
		have, more, done, err := p.have, p.more, p.done, p.err
		p.mu.Unlock()
		if have >= n {
			return nil
		}
		if done {
			return err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// newSpool begins to read the parts of the blocks, starting with the first part of each block. The files
// are deleted when the spool is closed or the program ends.
func (s *Store) newSpool(ctx context.Context, dir string, blocks []*block, parts map[*block][]byteRange) (*spool, error) {
	sp := &spool{parts: map[*block][]*spooled{}, group: &errgroup.Group{}, asked: make(chan struct{})}
	numParts := 0
	for _, b := range blocks {
		numParts += len(parts[b])
	}
	ends := make([]int64, min(numParts, spoolFiles))
	for range ends {
		file, err := os.CreateTemp(dir, "betrace-spool-*")
		if err == nil {
			sp.files = append(sp.files, file)
			err = os.Remove(file.Name()) // the data exists until the file is closed
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("create a file for reading ahead: %w", err), sp.closeFiles())
		}
	}
	ctx, sp.stop = context.WithCancel(ctx)
	type job struct {
		b    *block
		part *spooled
	}
	// A range is read column by column from all blocks, approximately in the order of columns in a file.
	// Parts are requested in this order.
	var jobs []job
	for n, more := 0, true; more; n++ {
		more = false
		for _, b := range blocks {
			if n >= len(parts[b]) {
				continue
			}
			more = true
			r := parts[b][n]
			file := len(jobs) % len(ends)
			part := &spooled{byteRange: r, file: sp.files[file], at: ends[file], more: make(chan struct{})}
			ends[file] += r.to - r.from
			sp.parts[b] = append(sp.parts[b], part)
			jobs = append(jobs, job{b, part})
		}
	}
	sp.group.Go(func() error {
		defer close(sp.asked)
		for _, j := range jobs {
			select {
			case s.streams <- struct{}{}:
			case <-ctx.Done():
				j.part.end(context.Cause(ctx))
				continue
			}
			sp.group.Go(func() error {
				defer func() { <-s.streams }()
				j.part.end(j.b.copyRange(ctx, j.part.byteRange, j.part.file, j.part.at, j.part.came))
				return nil
			})
		}
		return nil
	})
	return sp, nil
}

// close ends current reads and closes the files.
func (sp *spool) close() error {
	sp.stop()
	return errors.Join(sp.group.Wait(), sp.closeFiles())
}

func (sp *spool) closeFiles() (err error) {
	for _, file := range sp.files {
		err = errors.Join(err, file.Close())
	}
	return err
}

// has reports whether the spool has parts of the block. A nil spool has none.
func (sp *spool) has(b *block) bool { return sp != nil && len(sp.parts[b]) > 0 }

// bytes returns the size of all parts.
func (sp *spool) bytes() int64 {
	sum := int64(0)
	if sp != nil {
		for _, parts := range sp.parts {
			for _, p := range parts {
				sum += p.to - p.from
			}
		}
	}
	return sum
}

// readerAt returns a reader of a block, whose reads end with the context. It reads data that is not in the
// spool from the block's storage.
func (sp *spool) readerAt(ctx context.Context, b *block) io.ReaderAt {
	return readerAtFunc(func(p []byte, off int64) (int, error) { return sp.readAt(ctx, b, p, off) })
}

// readAt waits until the requested data has arrived. The data may be in several adjacent parts.
func (sp *spool) readAt(ctx context.Context, b *block, p []byte, off int64) (int, error) {
	parts := sp.parts[b]
	i, found := slices.BinarySearchFunc(parts, off, func(s *spooled, off int64) int { return cmp.Compare(s.from, off) })
	if !found {
		i--
	}
	end := off + int64(len(p))
	last := i
	for last >= 0 && last+1 < len(parts) && parts[last].to < end && parts[last+1].from == parts[last].to {
		last++
	}
	if i < 0 || end > parts[last].to {
		return b.object.readAt(ctx, p, off)
	}
	n := 0
	for _, part := range parts[i : last+1] {
		some := p[n:min(int64(len(p)), part.to-off)]
		if err := part.wait(ctx, off+int64(n+len(some))-part.from); err != nil {
			return n, err
		}
		read, err := part.file.ReadAt(some, part.at+off+int64(n)-part.from)
		n += read
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// rangesOf returns the byte ranges of columns with the rows, including dictionaries. A column of at most
// gap bytes is read whole.
func (b *block) rangesOf(paths map[string]bool, group int, from, to, gap int64) []byteRange {
	var ranges []byteRange
	for path := range paths {
		l, ok := b.cols[path]
		if !ok {
			continue
		}
		c := &b.chunks[group][l.index]
		if len(c.pages) == 0 || c.bytes() <= gap {
			ranges = append(ranges, byteRange{c.begin, c.end})
			continue
		}
		if c.hasDictionary() {
			ranges = append(ranges, byteRange{c.begin, c.data})
		}
		first, last := c.pagesOf(from, to)
		ranges = append(ranges, byteRange{c.pages[first].offset, c.pages[last].offset + int64(c.pages[last].size)})
	}
	return ranges
}

// needed returns the columns of the block that are read for the needs.
func (b *block) needed(needs columnar.Needs) map[string]bool {
	paths := neededColumns(slices.Collect(maps.Keys(b.cols)), b.DedicatedColumns, needs)
	for scope := range b.without {
		maps.DeleteFunc(paths, func(path string, _ bool) bool { return strings.HasPrefix(path, scope+"Attrs.") })
	}
	return paths
}

// findWithout determines whether the shared attribute columns must be read if all needed attributes have
// columns of their own, because values of another type would be there. One small request for the key
// dictionary decides this, and often avoids by far the largest part of a block.
func (b *block) findWithout(needs columnar.Needs, from io.ReaderAt) (err error) {
	defer recovered(&err)
	b.without = map[string]bool{}
	in := &pageReader{in: from}
	for path, scope := range b.perhapsWithout(needs) {
		need, l, shared := keysOf(&needs, scope), b.cols[path+"Attrs.Key"], false
		for g := range b.chunks {
			s := &segment{b: b, in: in, group: g}
			if shared || s.chunk(l).noValue {
				continue
			}
			words, err := l.words(s)
			if err != nil {
				return fmt.Errorf("column %sAttrs.Key: %w", path, err)
			}
			shared = words == nil || need.hasOne(words)
		}
		if !shared {
			b.without[path] = true
		}
	}
	return nil
}

// perhapsWithout returns the paths, with their scopes, for which all needed attributes have columns of
// their own.
func (b *block) perhapsWithout(needs columnar.Needs) map[string]columnar.Scope {
	paths := map[string]columnar.Scope{}
	for _, scope := range attributeScopes {
		need := keysOf(&needs, scope.scope)
		if _, ok := b.cols[scope.path+"Attrs.Key"]; need.all || need.none() || !ok {
			continue
		}
		own := map[string]bool{}
		for _, key := range ownColumns(slices.Collect(maps.Keys(b.cols)), b.DedicatedColumns, scope.scope) {
			own[key] = true
		}
		shared := false
		for key := range need.keys {
			shared = shared || !own[key]
		}
		if !shared {
			paths[scope.path] = scope.scope
		}
	}
	return paths
}

// aheadOf begins to read columns of the segments if their storage is remote. The returned function ends it.
func (f *filling) aheadOf(ctx context.Context, segments []*segment, paths func(*block) map[string]bool) (end func() error, err error) {
	if f.store.near || len(segments) == 0 {
		return func() error { return nil }, nil
	}
	var blocks []*block
	parts := map[*block][]byteRange{}
	for _, s := range segments {
		if parts[s.b] == nil {
			blocks = append(blocks, s.b)
		}
		parts[s.b] = append(parts[s.b], s.b.rangesOf(paths(s.b), s.group, s.from, s.to, selectedGap)...)
	}
	for b := range parts {
		parts[b] = divided(coalesced(parts[b], selectedGap), cmp.Or(f.store.partBytes, mostInPart))
	}
	selected, err := f.store.newSpool(ctx, f.spoolDir, blocks, parts)
	if err != nil {
		return nil, err
	}
	f.selected = selected
	return func() error {
		f.selected = nil
		return selected.close()
	}, nil
}
