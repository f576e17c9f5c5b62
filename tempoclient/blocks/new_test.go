package blocks_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/otlp"
	"github.com/betracehq/betrace/trace/tracetest"
)

var newRounds = flag.Int("new.rounds", 8, "minimum number of blocks that TestNewBlocks makes Tempo write; make new-blocks uses 100")

// counting is a bucket that counts the read bytes, by key.
type counting struct {
	driver.Bucket // nil: methods that are not implemented are not called
	in            *blob.Bucket

	mu    sync.Mutex
	bytes map[string]int64
}

func (c *counting) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	page := &driver.ListPage{}
	for it := c.in.List(&blob.ListOptions{Prefix: o.Prefix}); ; {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return page, nil
		}
		if err != nil {
			return nil, err
		}
		page.Objects = append(page.Objects, &driver.ListObject{Key: o.Key, Size: o.Size})
	}
}

func (c *counting) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	a, err := c.in.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{Size: a.Size, ModTime: a.ModTime}, nil
}

func (c *counting) NewRangeReader(ctx context.Context, key string, from, length int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	r, err := c.in.NewRangeReader(ctx, key, from, length, nil)
	if err != nil {
		return nil, err
	}
	if length > 0 {
		c.mu.Lock()
		c.bytes[path.Base(path.Dir(key))] += length
		c.mu.Unlock()
	}
	return bodyCloser{r, driver.ReaderAttributes{Size: r.Size(), ModTime: r.ModTime()}}, nil
}

// bodyCloser closes the body of the underlying bucket.
type bodyCloser struct {
	*blob.Reader
	attributes driver.ReaderAttributes
}

func (r bodyCloser) Attributes() *driver.ReaderAttributes { return &r.attributes }
func (r bodyCloser) As(any) bool                          { return false }

func (c *counting) ErrorCode(err error) gcerrors.ErrorCode { return gcerrors.Code(err) }
func (c *counting) As(any) bool                            { return false }
func (c *counting) ErrorAs(error, any) bool                { return false }
func (c *counting) Close() error                           { return c.in.Close() }

// follower judges the new blocks of a tenant, tick by tick.
type follower struct {
	tenant  string
	pack    *rules.Pack
	bucket  *counting
	store   *blocks.Store
	ledger  []byte // in its stored form
	verdict map[trace.ID]map[string]rules.Outcome

	ticks, traces, again int
	inFull               map[string]int // by block of level 0: the number of times it was read as new
	compacted            map[string]bool
	derived              int // blocks written by compactions and read as new
	// Bytes read from new blocks and from judged ones.
	firstBytes, againBytes int64
}

// tick reports whether all listed blocks are judged.
func (f *follower) tick(t *testing.T) bool {
	t.Helper()
	var ledger scheduler.Ledger
	if f.ledger != nil {
		require.NoError(t, json.Unmarshal(f.ledger, &ledger))
	}
	listing, err := f.store.List(t.Context(), f.tenant)
	require.NoError(t, err)
	if len(listing.Problems) == 1 && listing.Problems[0].What == "tenant "+f.tenant {
		return false // Tempo has not stored its first block yet
	}
	require.Empty(t, listing.Problems)
	for _, id := range listing.Compacted {
		f.compacted[id] = true
	}
	ledger, _ = ledger.Next(listing, scheduler.Options{CompactedRetention: stack.CompactedRetention})
	taken := ledger.Take(time.Now(), 0, scheduler.Limits{})
	judged := func(id string) bool { return !slices.Contains(taken, id) }
	f.bucket.bytes = map[string]int64{}
	report, err := f.store.Batches(t.Context(), blocks.Request{Tenant: f.tenant, Needs: needsOf(f.pack), Listing: &listing, Judged: judged, LeaveOut: ledger.LeaveOut}, func(b *columnar.Batch) error {
		for i, id := range b.IDs {
			f.traces++
			if b.Known.Has(int32(i)) {
				f.again++
			}
			f.verdict[id] = verdictsOf(t, f.pack, b.Trace(i))
		}
		return nil
	})
	require.NoError(t, err)
	f.ticks++
	errs := map[string]error{}
	for _, b := range report.Failed {
		errs[b.ID] = b.Err
	}
	complete := len(report.Problems) == 0
	if complete {
		for _, m := range listing.Live {
			switch {
			case judged(m.ID):
				f.againBytes += f.bucket.bytes[m.ID]
				continue
			case m.CompactionLevel == 0:
				f.inFull[m.ID]++
			default:
				f.derived++
			}
			f.firstBytes += f.bucket.bytes[m.ID]
		}
	} else {
		t.Logf("tick %d is incomplete: %v", f.ticks, report.Problems)
	}
	ledger = ledger.Commit(taken, errs, int64(f.ticks), time.Now())
	for _, b := range ledger.Blocks {
		complete = complete && (b.Compacted || b.State == state.BlockJudged)
	}
	f.ledger, err = json.Marshal(ledger)
	require.NoError(t, err)
	return complete
}

func verdictsOf(t *testing.T, pack *rules.Pack, tr *trace.Trace) map[string]rules.Outcome {
	verdicts := map[string]rules.Outcome{}
	for _, r := range pack.Rules {
		verdicts[r.ID] = r.Judge(t.Context(), tr).Outcome
	}
	return verdicts
}

// TestNewBlocks judges new blocks as they appear, with compactions, late data and a time without
// listings. Finally the verdicts must be those of one scan.
func TestNewBlocks(t *testing.T) {
	pack, err := rules.Parse("tracetest.yaml", []byte(tracetest.Pack), rules.Options{})
	require.NoError(t, err)
	w := newTenantOf(t, stack.Options{Tempo: true, Multitenant: true, Compacting: true}, "new")
	folder, err := blob.OpenBucket(t.Context(), "file://"+w.TempoBlocks)
	require.NoError(t, err)
	bucket := &counting{in: folder, bytes: map[string]int64{}}
	f := &follower{
		tenant: w.name, pack: pack, bucket: bucket, store: blocks.NewStore(blob.NewBucket(bucket), "blocks").Near(),
		verdict: map[trace.ID]map[string]rules.Outcome{}, inFull: map[string]int{}, compacted: map[string]bool{},
	}
	f.store.Cache(cacheBytes)
	t.Cleanup(func() { require.NoError(t, f.store.Close()) })

	// Each trace begins in one round. Its later batches are sent up to three rounds later.
	rounds := *newRounds
	o := tracetest.Mixed(91, 100*rounds)
	o.Nasty[tracetest.LongValues], o.Nasty[tracetest.UnequalCopies] = 0, 0
	o.Nasty[tracetest.Late] = 0.2
	o.Start, o.Window, o.MaxSpans = time.Now().Add(-3*time.Hour), time.Hour, 200
	r := rand.New(rand.NewPCG(91, 1))
	var all otlp.Collector
	sends := make([][]ptrace.Traces, rounds)
	planted := map[trace.ID][]string{}
	late := 0
	for g := range tracetest.New(o).All() {
		planted[g.ID] = g.Violations
		round := r.IntN(rounds)
		for i, td := range g.Batches {
			require.NoError(t, all.Add(td))
			if i > 0 && round < rounds-1 {
				round = min(round+r.IntN(4), rounds-1)
				late++
			}
			sends[round] = append(sends[round], td)
		}
	}
	spans := int64(0)
	for _, tr := range all.Traces() {
		spans += int64(len(tr.Spans))
	}
	gapAt := rounds / 2
	for round, batches := range sends {
		w.send(t, batches...)
		require.NoError(t, w.Flush(t.Context()))
		time.Sleep(1500 * time.Millisecond) // while blocks are written, compacted and deleted
		switch {
		case round == gapAt: // no listing for longer than compacted blocks are kept
			time.Sleep(stack.CompactedRetention + 2*time.Second)
		case round != gapAt-1:
			f.tick(t)
		}
	}

	// One scan of all sent data.
	var scan map[trace.ID]*trace.Trace
	var report blocks.Report
	for deadline := time.Now().Add(patience); ; time.Sleep(300 * time.Millisecond) {
		scan, report = readAll(t, f.store, blocks.Request{Tenant: w.name, Needs: needsOf(pack)})
		stored := int64(0)
		for _, tr := range scan {
			stored += int64(len(tr.Spans))
		}
		if stored >= spans && len(report.Problems) == 0 {
			break
		}
		require.True(t, time.Now().Before(deadline), "%d of %d spans are in blocks: %v", stored, spans, report.Problems)
	}
	for try := 1; !f.tick(t); try++ {
		require.Less(t, try, 100)
	}
	require.Equal(t, slices.Sorted(maps.Keys(boolsOf(scan))), slices.Sorted(maps.Keys(boolsOf(f.verdict))))
	for id, tr := range scan {
		require.Equal(t, verdictsOf(t, pack, tr), f.verdict[id], "trace %s", id)
		var violated []string
		for rule, outcome := range f.verdict[id] {
			if outcome == rules.Violation {
				violated = append(violated, rule)
			}
		}
		slices.Sort(violated)
		require.Equal(t, planted[id], violated, "trace %s", id)
	}
	for id, n := range f.inFull {
		require.Equal(t, 1, n, "block %s of level 0 was read in full %d times", id, n)
	}
	require.NotEmpty(t, f.compacted, "Tempo must compact blocks during the test")
	require.Positive(t, f.again, "some data must be late")
	t.Logf("%d traces, %d spans, %d late batches; %d ticks, one gap: %d blocks of level 0 read in full once, %d compacted blocks seen, %d blocks written by compactions read as new",
		len(scan), spans, late, f.ticks, len(f.inFull), len(f.compacted), f.derived)
	t.Logf("%d traces judged, %d of them again for late spans; bytes read: %d of new blocks, %d of judged ones again for late traces; one scan reads %d",
		f.traces, f.again, f.firstBytes, f.againBytes, report.Bytes)
}

// boolsOf returns the keys of a map as a set of strings.
func boolsOf[V any](m map[trace.ID]V) map[string]bool {
	set := map[string]bool{}
	for id := range m {
		set[id.String()] = true
	}
	return set
}
