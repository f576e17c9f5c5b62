package blocks

import (
	"cmp"
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// DefaultMemoryBytes is the default of [Request.MemoryBytes]. With less memory, pages at the borders of
// ranges are decoded more often; more memory has hardly any effect.
const DefaultMemoryBytes = 256 << 20

// MemoryLimit returns the limit that a process should pass to [runtime/debug.SetMemoryLimit] if it reads
// blocks with this [Request.MemoryBytes], so that garbage does not double the memory of the spans and
// other data.
func MemoryLimit(memoryBytes int64) int64 {
	memoryBytes = cmp.Or(memoryBytes, DefaultMemoryBytes)
	return memoryBytes + max(memoryBytes/3, 96<<20)
}

// Request selects the traces of a tenant.
type Request struct {
	// Tenant is the tenant. If empty, it is single-tenant, Tempo's name without multitenancy.
	Tenant string
	// From and To bound the start of traces: From is inclusive, To is exclusive. If zero, there is no
	// bound.
	From, To time.Time
	// MaxTraceDuration is the maximum duration of a trace. Blocks whose rows are all further outside the
	// range are not read. Default 1 h.
	MaxTraceDuration time.Duration
	Needs            columnar.Needs
	// Filter allows omitting traces without a matching span. Traces that cannot be decided cheaply are
	// delivered. If nil, all traces are delivered.
	Filter *traceql.Filter
	// Judged, if not nil, reports whether a block contains no new spans. Only traces with a span in
	// another block, a new one, are delivered, merged with their spans in all blocks. Judged blocks whose
	// rows are all further than MaxTraceDuration from those of each new block are not read, so a longer
	// trace may lack spans. Batches mark traces that may have been delivered before
	// ([columnar.Batch.Known]).
	Judged func(blockID string) bool
	// LeaveOut, if not nil, reports whether a block is not read at all. It is no problem that its spans are
	// missing, or that the listing could not read its meta.json.
	LeaveOut func(blockID string) bool
	// Listing, if not nil, contains the blocks to read, on which Judged is based. If nil, the blocks are
	// listed.
	Listing *Listing
	// MemoryBytes is the approximate memory for spans at a time. Default [DefaultMemoryBytes]. A trace is
	// always held as a whole.
	MemoryBytes int64
	// SpoolDir is the folder of the temporary files for data that is read ahead from remote storage,
	// SpoolBytes their approximate size. Defaults: the system's folder for temporary files, 4 GiB.
	SpoolDir   string
	SpoolBytes int64
	// Workers is the number of parts that are read concurrently. Default: the number of cores.
	Workers int
	// Progress, if not nil, receives the progress, from one goroutine at a time.
	Progress func(Progress)
}

// Progress is the progress of a reading.
type Progress struct {
	// Read is the share of the blocks' traces that has been read, 0 to 1.
	Read float64
	// Traces counts the delivered traces.
	Traces int
	// Requests counts the requests to the storage.
	Requests int64
}

// Report is the result of a reading. If there are no problems, all spans in the live blocks were read,
// except those of blocks that the request leaves out.
type Report struct {
	// Skipped counts known traces that may lack spans that could not be read.
	trace.Reading
	// Blocks are the blocks that were read completely. Left counts the blocks without a row near the range or, if they
	// were judged, near the rows of a new block.
	Blocks []Meta
	Left   int
	// Failed are the blocks that could not be read, with the first error of each. Each is a problem, too.
	Failed []FailedBlock
	// Delivered counts traces.
	Delivered int
	// Requests and Bytes count requests to the storage and the read bytes.
	Requests, Bytes int64
}

// Traces calls [Store.Batches] and delivers one trace after another.
func (s *Store) Traces(ctx context.Context, req Request, deliver func(*trace.Trace) error) (Report, error) {
	return s.Batches(ctx, req, func(b *columnar.Batch) error {
		for t := range b.NumTraces() {
			if err := deliver(b.Trace(t)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Batches reads every trace of the tenant's live blocks that starts in the range. It calls deliver with
// batches that contain each whole trace once, from one goroutine at a time, in any order. A batch is
// valid until deliver returns.
//
// Batches ends early with an error if the storage cannot be listed, deliver fails or the context ends.
// Other failures are problems in the report.
//
// The work is divided into ranges of trace IDs, so that the memory does not grow with the number of
// blocks.
func (s *Store) Batches(ctx context.Context, req Request, deliver func(*columnar.Batch) error) (Report, error) {
	req.MaxTraceDuration = cmp.Or(req.MaxTraceDuration, time.Hour)
	req.MemoryBytes = cmp.Or(req.MemoryBytes, DefaultMemoryBytes)
	req.SpoolBytes = cmp.Or(req.SpoolBytes, 4<<30)
	req.Workers = cmp.Or(req.Workers, runtime.GOMAXPROCS(0))
	r := &reading{store: s, req: req, stats: &readStats{mostWords: req.MemoryBytes / wordsShare}, from: 0, to: ^trace.Time(0)}
	if !req.From.IsZero() {
		r.from = trace.TimeOf(req.From)
	}
	if !req.To.IsZero() {
		r.to = trace.TimeOf(req.To)
	}
	err := r.run(ctx, deliver)
	r.report.Requests, r.report.Bytes = r.stats.requests.Load(), r.stats.bytes.Load()
	return r.report, err
}

// wordsShare is the divisor of the memory for the kept dictionaries.
const wordsShare = 10

// reading is one call of Batches.
type reading struct {
	store    *Store
	req      Request
	stats    *readStats
	from, to trace.Time

	blocks []*block
	// whole contains the blocks that are read as a whole, or is nil.
	whole *spool
	// torn is set if a block could not be opened. Then any trace may lack spans.
	torn   bool
	report Report
	// release closes open files; held counts the blocks whose files may be open.
	release []func() error
	held    atomic.Int64
	// ids is the memory of the trace IDs of all rows that were read.
	ids atomic.Int64
}

func (r *reading) problem(p trace.Problem) {
	r.report.Problems = append(r.report.Problems, p)
}

// fail adds an error of a block.
func (r *reading) fail(f FailedBlock) {
	r.problem(blockProblem(f.ID, f.Err))
	if !r.report.failed(f.ID) {
		r.report.Failed = append(r.report.Failed, f)
	}
}

// failed reports whether a block could not be read.
func (r *Report) failed(id string) bool {
	return slices.ContainsFunc(r.Failed, func(f FailedBlock) bool { return f.ID == id })
}

func (r *reading) run(ctx context.Context, deliver func(*columnar.Batch) error) (err error) {
	defer func() {
		for _, release := range r.release {
			err = errors.Join(err, release())
		}
		if r.whole != nil {
			err = errors.Join(err, r.whole.close())
		}
	}()
	listing := r.req.Listing
	if listing == nil {
		now, err := r.store.List(ctx, r.req.Tenant)
		if err != nil {
			return err
		}
		listing = &now
	}
	for _, p := range listing.Problems {
		id, ok := blockOf(p)
		switch {
		case ok && r.leavesOut(id):
			continue
		case ok:
			r.fail(FailedBlock{ID: id, Err: p.Err})
		default:
			r.problem(p)
		}
		r.torn = true
	}
	metas := slices.Concat(listing.Live, listing.CompactedDuring)
	if err := r.open(ctx, slices.DeleteFunc(metas, func(m Meta) bool { return r.leavesOut(m.ID) })); err != nil {
		return err
	}
	err = r.readAll(ctx, deliver)
	r.report.Blocks = slices.DeleteFunc(r.report.Blocks, func(m Meta) bool { return r.report.failed(m.ID) })
	return err
}

// leavesOut reports whether the request leaves out a block.
func (r *reading) leavesOut(id string) bool { return r.req.LeaveOut != nil && r.req.LeaveOut(id) }

// part is the result of reading a range of IDs.
type part struct {
	batch    *columnar.Batch
	filling  *filling // reused after the batch was delivered
	skipped  int
	outside  int
	failed   []FailedBlock
	problems []trace.Problem
}

// stretch is a sequence of adjacent ranges whose columns are read ahead together.
type stretch struct {
	ranges []idRange
	spool  *spool
	begun  sync.Once
	err    error // of its start
}

// stretches divides the ranges so that the data of two stretches fits into the spool, in addition to the
// blocks that are read as a whole. While the last ranges of a third one are read, it needs as much more.
// If nothing is read ahead, there is one stretch. If all data fits, the first stretch is short, because
// no work can start before it has arrived.
func (r *reading) stretches(ranges []idRange) []*stretch {
	n := 1
	if !r.store.near {
		bytes := int64(0)
		for _, b := range r.notWhole() {
			for g, rows := range b.rowsIn {
				for _, part := range b.rangesOf(r.pathsAhead(b), g, 0, rows, spoolGap) {
					bytes += part.to - part.from
				}
			}
		}
		n = int(2*bytes/max(r.req.SpoolBytes-r.whole.bytes(), 1)) + 1
		if first := r.req.Workers; n == 1 && bytes > 16<<20 && len(ranges) > first {
			return []*stretch{{ranges: ranges[:first]}, {ranges: ranges[first:]}}
		}
	}
	n = max(min(n, len(ranges)), 1)
	all := make([]*stretch, n)
	for i := range all {
		all[i] = &stretch{ranges: ranges[i*len(ranges)/n : (i+1)*len(ranges)/n]}
	}
	return all
}

// pathsAhead returns the columns of a block that are read ahead for a stretch: all needed columns or, if
// traces are selected first, the columns for the selection from all rows.
func (r *reading) pathsAhead(b *block) map[string]bool {
	c := conditionOf(r.req.Filter)
	paths := map[string]bool{"TraceID": true}
	switch {
	case r.req.Judged != nil && r.req.Judged(b.ID): // few of its rows are read
	case c != nil:
		c.addPaths(b, paths)
	case r.req.Judged == nil:
		paths = b.needed(r.req.Needs)
	}
	if b.ids.all() {
		delete(paths, "TraceID")
	}
	return paths
}

// notWhole returns the blocks that are not read as a whole.
func (r *reading) notWhole() []*block {
	return slices.DeleteFunc(slices.Clone(r.blocks), r.whole.has)
}

// begin starts reading ahead for a stretch, unless it was started before.
func (r *reading) begin(ctx context.Context, s *stretch) error {
	s.begun.Do(func() {
		if !r.store.near && len(s.ranges) > 0 {
			s.spool, s.err = r.ahead(ctx, s)
		}
	})
	return s.err
}

// ahead reads ahead for a stretch.
func (r *reading) ahead(ctx context.Context, s *stretch) (*spool, error) {
	last := s.ranges[len(s.ranges)-1]
	ids := idRange{from: s.ranges[0].from, to: last.to, last: last.last}
	blocks, parts := r.notWhole(), map[*block][]byteRange{}
	for _, b := range blocks {
		var ranges []byteRange
		for g := range b.rowsIn {
			if from, to := b.rows(g, ids); from < to {
				ranges = append(ranges, b.rangesOf(r.pathsAhead(b), g, from, to, spoolGap)...)
			}
		}
		parts[b] = divided(coalesced(ranges, spoolGap), cmp.Or(r.store.partBytes, mostInPart))
	}
	return r.store.newSpool(ctx, r.req.SpoolDir, blocks, parts)
}

// readAll reads the ranges concurrently, and delivers them in order.
func (r *reading) readAll(ctx context.Context, deliver func(*columnar.Batch) error) (err error) {
	all := r.stretches(r.plan())
	defer func() {
		for _, s := range all {
			if s.spool != nil {
				err = errors.Join(err, s.spool.close())
			}
		}
	}()
	n := 0
	stretchOf := map[int]*stretch{} // by the number of its last range
	for _, s := range all {
		n += len(s.ranges)
		stretchOf[n-1] = s
	}
	group, ctx := errgroup.WithContext(ctx)
	results := make([]chan part, n)
	for i := range results {
		results[i] = make(chan part, 1)
	}
	// The memory of a batch is free after delivery.
	free := make(chan *filling, r.req.Workers)
	for range cap(free) {
		free <- r.filling()
	}
	group.Go(func() error {
		i := 0
		for k := range all {
			for j, ids := range all[k].ranges {
				var f *filling
				select {
				case f = <-free:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				if err := r.begin(ctx, all[k]); err != nil {
					return err
				}
				if ahead := all[k].spool; j == 0 && ahead != nil && k+1 < len(all) {
					group.Go(func() error { // data for later must not delay data that is needed now
						select {
						case <-ahead.asked:
							return r.begin(ctx, all[k+1])
						case <-ctx.Done():
							return context.Cause(ctx)
						}
					})
				}
				f.spool = all[k].spool
				result := results[i]
				i++
				group.Go(func() error {
					result <- r.read(ctx, f, ids)
					return nil
				})
			}
		}
		return nil
	})
	group.Go(func() error {
		for i := range results {
			var p part
			select {
			case p = <-results[i]:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			r.report.Skipped += p.skipped
			r.report.OutsideRange += p.outside
			for _, f := range p.failed {
				r.fail(f)
			}
			for _, problem := range p.problems {
				r.problem(problem)
			}
			if p.batch != nil {
				if err := deliver(p.batch); err != nil {
					return err
				}
				r.report.Delivered += p.batch.NumTraces()
			}
			free <- p.filling
			if s := stretchOf[i]; s != nil && s.spool != nil { // all its ranges were read
				if err := s.spool.close(); err != nil {
					return err
				}
				s.spool = nil
			}
			if r.req.Progress != nil {
				r.req.Progress(Progress{Read: float64(i+1) / float64(n), Traces: r.report.Delivered, Requests: r.stats.requests.Load()})
			}
		}
		return nil
	})
	return group.Wait()
}

func (r *reading) filling() *filling {
	f := &filling{store: r.store, spoolDir: r.req.SpoolDir, whole: r.whole, filter: conditionOf(r.req.Filter), judged: r.req.Judged, needs: r.req.Needs, from: r.from, to: r.to, filler: columnar.NewFiller(r.req.Needs)}
	for _, s := range attributeScopes {
		f.needed[s.scope] = keysOf(&r.req.Needs, s.scope)
	}
	return f
}

// spanBytes is the approximate memory of a span in a batch and while it is read: its position, its
// fields, and the needed attributes.
func (r *reading) spanBytes() float64 {
	if r.req.Needs.All || len(r.req.Needs.Whole) > 0 {
		return 4000 // hundreds of keys, most of them absent
	}
	return 110 + 6*float64(len(r.req.Needs.Attributes))
}

// blockBytes is the approximate memory of the blocks' metadata and dictionaries.
func (r *reading) blockBytes() int64 {
	words := int64(0)
	for _, b := range r.blocks {
		for path := range b.needed(r.req.Needs) {
			for _, group := range b.chunks {
				if l, ok := b.cols[path]; ok {
					c := &group[l.index]
					words += c.data - c.begin
				}
			}
		}
	}
	return int64(len(r.blocks))*openBlockBytes + min(2*words, r.stats.mostWords)
}

// openBlockBytes is the approximate memory of an open block: the positions of its columns and traces, and
// the state of its rows while they are read.
const openBlockBytes = 50_000

// plan divides the IDs into ranges whose spans fit into the memory of one worker.
func (r *reading) plan() []idRange {
	type sample struct {
		id    trace.ID
		spans float64 // number of spans that the sample represents
	}
	var samples []sample
	total := 0.0
	fresh := r.freshIDs()
	for _, b := range r.blocks {
		if r.isUnrelated(b, fresh) {
			continue
		}
		step, n := int(sampleEvery/b.ids.every), 0
		for _, g := range b.ids.groups {
			n += (len(g) + step - 1) / step
		}
		for _, g := range b.ids.groups {
			for i := 0; i < len(g); i += step {
				samples = append(samples, sample{g[i], float64(b.spans) / float64(n)})
			}
		}
		total += float64(b.spans)
	}
	if len(samples) == 0 {
		return nil
	}
	slices.SortFunc(samples, func(a, b sample) int { return a.id.Compare(b.id) })
	most := max(float64(r.req.MemoryBytes-r.blockBytes())/float64(r.req.Workers)/r.spanBytes(), 1000)
	// Ranges have one size, and their number keeps all workers busy until the end.
	n := math.Ceil(total / most)
	if w := float64(r.req.Workers); total > 50_000*w {
		n = math.Ceil(n/w) * w
	}
	each := total / n
	var ranges []idRange
	current, filled := idRange{}, 0.0
	for i, s := range samples {
		if filled >= each && s.id != samples[i-1].id {
			current.to = s.id
			ranges = append(ranges, current)
			current, filled = idRange{from: s.id}, filled-each
		}
		filled += s.spans
	}
	current.last = true
	return append(ranges, current)
}

// freshIDs returns the trace IDs of the new blocks, sorted. It is nil if there are no judged blocks, or if not all IDs are
// known.
func (r *reading) freshIDs() []trace.ID {
	if r.req.Judged == nil {
		return nil
	}
	var ids []trace.ID
	for _, b := range r.blocks {
		if r.req.Judged(b.ID) {
			continue
		}
		if !b.ids.all() {
			return nil
		}
		for _, g := range b.ids.groups {
			ids = append(ids, g...)
		}
	}
	slices.SortFunc(ids, trace.ID.Compare)
	return ids
}

// isUnrelated reports whether a block is judged and has no trace of the new blocks, whose IDs are fresh, so that none of its
// rows is read. Without late data most judged blocks are so. If they counted, a small new block would be read in several
// ranges, and each of them would read its small columns again.
func (r *reading) isUnrelated(b *block, fresh []trace.ID) bool {
	if fresh == nil || !r.req.Judged(b.ID) || !b.ids.all() {
		return false
	}
	for _, g := range b.ids.groups {
		for _, id := range g {
			if _, shared := slices.BinarySearchFunc(fresh, id, trace.ID.Compare); shared {
				return false
			}
		}
	}
	return true
}

// read reads a range of IDs from all blocks.
func (r *reading) read(ctx context.Context, f *filling, ids idRange) part {
	p := part{filling: f}
	blocks := slices.Clone(r.blocks)
	torn := r.torn
	for {
		b, outside, failed, err := f.read(ctx, blocks, ids)
		switch {
		case ctx.Err() != nil:
			return p
		case err == nil && !torn:
			p.batch, p.outside = b, outside
			return p
		case err == nil: // any trace may have spans in the unread part
			if b != nil {
				p.skipped = b.NumTraces()
			}
			return p
		}
		torn = true
		if failed == nil {
			p.problems = append(p.problems, trace.Problem{What: "the blocks", Err: err})
			return p
		}
		p.failed = append(p.failed, failedBlock(failed.Meta, err))
		blocks = slices.DeleteFunc(blocks, func(b *block) bool { return b == failed })
		if len(blocks) == 0 {
			return p
		}
	}
}
