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
	// A request to object storage costs about 30 ms, a stream has about 80 MB/s. Up to so far
	// apart it is cheaper to read two runs as one.
	spoolGap = 256 << 10
	// A few rows are read for few bytes, too: it is their number that users pay for then.
	selectedGap = 64 << 10
	// mostInPart is about how much one request asks for: 100 ms of a stream.
	mostInPart = 8 << 20
	// spoolStreams is how many there are at once, of a store.
	spoolStreams = 64
	spoolBuffer  = 256 << 10
	// spoolFiles share what is written: a file is locked while it is.
	spoolFiles = 8
)

// byteRange is a part of a file.
type byteRange struct{ from, to int64 }

// coalesced joins ranges that lie close together.
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

// divided cuts ranges into parts of one size, of up to most bytes.
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

// spool holds parts of blocks that are read ahead from distant storage, many at once, in
// temporary files: so a scan waits for few requests, and holds little in memory.
type spool struct {
	files []*os.File
	parts map[*block][]*spooled
	stop  context.CancelFunc
	group *errgroup.Group
	// asked is closed once all parts were asked for, or none is any more.
	asked chan struct{}
}

// spooled is one part, at a place of a file. What has come of it may be read while the
// rest comes.
type spooled struct {
	byteRange
	file *os.File
	at   int64

	mu   sync.Mutex
	have int64         // bytes, from its start
	more chan struct{} // is closed when more came, or it is done
	done bool
	err  error
}

// came says that n more bytes came.
func (p *spooled) came(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.have += n
	close(p.more)
	p.more = make(chan struct{})
}

// end says that no more comes.
func (p *spooled) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.err = true, err
	close(p.more)
}

// wait waits until the first n bytes have come.
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

// newSpool begins to read the parts of the blocks, the first of each block first. The files are
// gone when the spool is closed, or the program ends.
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
			err = os.Remove(file.Name()) // it lives until it is closed
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("a file for what is read ahead: %w", err), sp.closeFiles())
		}
	}
	ctx, sp.stop = context.WithCancel(ctx)
	type job struct {
		b    *block
		part *spooled
	}
	// A range is read column by column through all blocks, about in the order in which
	// columns stand in a file: so they come.
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

// close ends what is being read and gives the files back.
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

// spoolReader reads a block from the spool, and what the spool does not have from its
// storage.
type spoolReader struct {
	ctx   context.Context
	spool *spool
	block *block
}

// ReadAt waits until what it reads has come. That may lie in several adjacent parts.
func (r spoolReader) ReadAt(p []byte, off int64) (int, error) {
	parts := r.spool.parts[r.block]
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
		return r.block.object.ReadAt(p, off)
	}
	n := 0
	for _, part := range parts[i : last+1] {
		some := p[n:min(int64(len(p)), part.to-off)]
		if err := part.wait(r.ctx, off+int64(n+len(some))-part.from); err != nil {
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

// rangesOf returns the bytes of columns that hold the rows, with their dictionaries. A
// column of no more than gap bytes is taken whole.
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

// findWithout finds out whether the columns that attributes share have to be read where all
// needed attributes have columns of their own: values of another type would be there. The
// words of the keys tell, for one small request, of what is by far the most of a block.
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

// perhapsWithout returns the paths, with their scopes, of which all needed attributes have
// columns of their own.
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

// aheadOf begins to read what is needed of the segments, if their storage is distant.
// What it returns ends it.
func (f *filling) aheadOf(segments []*segment) (end func() error, err error) {
	if f.store.near {
		return func() error { return nil }, nil
	}
	var blocks []*block
	parts := map[*block][]byteRange{}
	for _, s := range segments {
		if parts[s.b] == nil {
			blocks = append(blocks, s.b)
		}
		parts[s.b] = append(parts[s.b], s.b.rangesOf(s.b.needed(f.needs), s.group, s.from, s.to, selectedGap)...)
	}
	for b := range parts {
		parts[b] = divided(coalesced(parts[b], selectedGap), cmp.Or(f.store.partBytes, mostInPart))
	}
	before := f.spool
	if f.spool, err = f.store.newSpool(f.ctx, f.spoolDir, blocks, parts); err != nil {
		return nil, err
	}
	own := f.spool
	return func() error {
		f.spool = before
		return own.close()
	}, nil
}
