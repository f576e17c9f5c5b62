package scheduler

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
)

var (
	modelHistories = flag.Int("model.histories", 500, "number of random histories of blocks in the model test of ledgers")
	modelSeed      = flag.Uint64("model.seed", 0, "run only the history with this seed, and print its ticks")
	modelOnly      = flag.String("model.faults", "", "with -model.seed: the only faults of the history, separated by commas")
)

// version identifies a version of a rule.
type version struct{ rule, digest string }

// period is a time in which a version was loaded. since is the entry with which it began.
type period struct {
	version version
	since   int64
}

// traceIn identifies the truth about a trace at the end of a period.
type traceIn struct {
	period period
	trace  int
}

// traceOf identifies the verdicts of a version on a trace.
type traceOf struct {
	version version
	trace   int
}

// truth is everything that was judged by a version on a trace.
type truth struct {
	all  map[int]bool // the spans of all judgements together
	last map[int]bool // those of the last judgement
	// full is the outcome of the last judgement of all spans together, if there was one.
	full      rules.Outcome
	fullSpans int
	failed    bool
}

// history is a random history of a storage and of the sweep that judges its blocks. It compares the ledger with all
// that is true.
type history struct {
	*modelStorage
	seed    uint64
	verbose bool
	log     func(format string, args ...any)

	// The state of the service.
	stored     Ledger
	rules      []state.LoadedRule
	holes      []state.Hole
	violations map[string]state.Violation
	entry      int64
	loaded     []version

	settle time.Duration
	clock  time.Duration // by which the clock of the service is ahead
	limits Limits
	o      Options

	// The truth.
	judged map[traceOf]*truth
	// seen are the spans in the stable listings of committed ticks, present those in the last one.
	seen, present map[int]bool
	since         map[version]map[int]bool // seen since the version was loaded
	ended         map[period]time.Time     // the true time of the last listing before a version was removed
	endedTruth    map[traceIn]endTruth
	// listed is the true time of the last stable listing of a committed tick, listedAny that of the last listing.
	listed, listedAny time.Time
	clockWasWrong     bool
	wasLongOut        bool

	spansOf             map[int][]int // by trace
	grouped             int
	violationOf         map[string]traceOf
	ticks, reads, again int
	falseHoles          int
}

func newHistory(seed uint64, faults map[modelFault]bool, log func(string, ...any)) *history {
	r := rand.New(rand.NewPCG(seed, 17))
	s := &modelStorage{Rand: r, faults: map[modelFault]bool{}, now: noon.Add(time.Duration(r.IntN(1e9)))}
	for _, f := range modelFaults {
		if rare := f == leftovers || f == erasure; r.IntN(3) == 0 && (!rare || r.IntN(3) == 0) {
			s.faults[f] = true
		}
	}
	if faults != nil {
		s.faults = faults
	}
	s.maxTraceDuration = time.Duration(10+r.IntN(50)) * time.Minute
	if r.IntN(2) == 0 {
		s.retention = time.Duration(4+r.IntN(8)) * time.Hour
	}
	h := &history{
		modelStorage: s, seed: seed, log: log, violations: map[string]state.Violation{}, judged: map[traceOf]*truth{},
		seen:    map[int]bool{},
		present: map[int]bool{}, since: map[version]map[int]bool{}, ended: map[period]time.Time{}, endedTruth: map[traceIn]endTruth{},
		violationOf: map[string]traceOf{},
		settle:      time.Duration(r.IntN(4)) * 10 * time.Minute,
		o:           Options{Hold: time.Duration(r.IntN(3)) * 2 * time.Minute, CompactedRetention: modelCompactedRetention, MaxTraceDuration: s.maxTraceDuration},
		loaded:      []version{{"always", "1"}},
	}
	if s.faults[expiry] {
		h.o.Retention = s.retention
	}
	h.stored = Ledger{Ledger: state.Ledger{ID: 1, Begins: s.now.Add(-s.upTo(time.Hour))}}
	return h
}

// run runs a history, and returns the first difference from the truth.
func (h *history) run() error {
	h.advance(h.upTo(2 * time.Hour))
	h.stored.Begins = h.now.Add(-h.upTo(time.Hour))
	if h.one(2, bounds) {
		h.limits = Limits{Blocks: 1 + h.IntN(4)}
	}
	for range 20 + h.IntN(60) {
		pause := h.upTo(10 * time.Minute)
		switch {
		case h.one(20, outages):
			pause = h.upTo(3 * time.Hour)
		case h.one(60, outages):
			pause, h.wasLongOut = 4*time.Hour+h.upTo(12*time.Hour), true
		}
		h.advance(pause)
		h.setClock()
		h.changeRules()
		if err := h.tick(); err != nil {
			return fmt.Errorf("tick %d: %w", h.ticks, err)
		}
	}
	h.heal()
	h.clock = 0
	for i := range 40 {
		pause := 5 * time.Minute
		if i >= 15 {
			pause = 29 * time.Minute
		}
		h.advance(pause)
		if err := h.tick(); err != nil {
			return fmt.Errorf("tick %d, after all faults: %w", h.ticks, err)
		}
	}
	return h.checkEnd()
}

// setClock changes the clock of the service.
func (h *history) setClock() {
	if !h.one(12, serviceClock) {
		return
	}
	h.clockWasWrong = true
	switch h.IntN(5) {
	case 0:
		h.clock = h.upTo(24 * time.Hour)
	case 1:
		h.clock = h.upTo(2 * time.Hour)
	case 2:
		h.clock = -h.upTo(modelCompactedRetention / 2)
	default:
		h.clock = 0
	}
}

// changeRules adds, changes or removes a rule. One rule is always loaded.
func (h *history) changeRules() {
	if !h.one(12, ruleChanges) || h.faults[serviceClock] && h.faults[clientClocks] {
		return
	}
	i := 1 + h.IntN(2)
	rule := fmt.Sprint("rule", i)
	h.loaded = slices.DeleteFunc(h.loaded, func(v version) bool { return v.rule == rule })
	if h.IntN(3) > 0 {
		h.loaded = append(h.loaded, version{rule, fmt.Sprint(h.IntN(3))})
	}
}

// tick lists, judges and commits as a tick of the service does.
func (h *history) tick() error {
	h.ticks++
	listing, contained := h.list(h.clock)
	at := h.now
	h.groupSpans()
	clock := func() time.Time { return h.now.Add(h.clock) }
	next, holes := h.stored.Next(listing, h.o)
	times := map[string]BlockTimes{}
	byID := map[string]*modelBlock{}
	for _, b := range h.blocks {
		byID[b.id] = b
	}
	for _, m := range listing.Live {
		if b := next.Blocks[m.ID]; b.Latest.IsZero() && b.State != state.BlockBefore || b.State == state.BlockAside {
			if real := byID[m.ID]; !h.now.Before(real.noFooter) {
				first, last := h.bounds(real.spans)
				times[m.ID] = BlockTimes{Earliest: first, Latest: last}
			}
		}
	}
	next = next.SetTimes(times)
	for id := range times {
		if next.Blocks[id].State == state.BlockAside {
			next = next.Readable(id)
		}
	}
	if h.one(10, skips) {
		skipped, hole, n := next.Skip(clock().Add(-h.upTo(3*time.Hour)), h.maxTraceDuration)
		if next = skipped; n > 0 {
			holes = append(holes, hole)
		}
	}
	taken := next.Take(clock(), h.o.Hold, h.limits)
	if h.one(6, slowReadings) {
		for range 1 + h.IntN(5) {
			h.now = h.now.Add(h.upTo(2 * time.Minute))
			h.step()
		}
	}
	r := h.read(&listing, next, taken)
	if h.one(8, crashes) {
		h.log("tick %d crashes", h.ticks)
		return nil
	}
	return h.commit(&listing, contained, at, next, holes, taken, r)
}

// verdict is the set of spans on which a trace was judged.
type verdict struct {
	trace int
	spans []int
}

// reading is the result of reading blocks. again counts the taken blocks of which all spans were judged before.
type reading struct {
	verdicts []verdict
	failed   map[string]error
	again    int
}

// read returns the traces with a span in the taken blocks, with all their spans in the listed blocks.
func (h *history) read(listing *blocks.Listing, l Ledger, taken []string) reading {
	r := reading{failed: map[string]error{}}
	if len(taken) == 0 {
		return r
	}
	for _, p := range listing.Problems {
		if id := strings.TrimPrefix(p.What, "block "); !l.LeaveOut(id) {
			r.failed[id] = p.Err
		}
	}
	var opened []*modelBlock
	for _, m := range slices.Concat(listing.Live, listing.CompactedDuring) {
		if l.LeaveOut(m.ID) {
			continue
		}
		i := slices.IndexFunc(h.blocks, func(b *modelBlock) bool { return b.id == m.ID })
		switch {
		case i < 0:
			r.failed[m.ID] = errors.New("it was deleted")
		case h.now.Before(h.blocks[i].noFooter):
			r.failed[m.ID] = errors.New("no footer")
		default:
			opened = append(opened, h.blocks[i])
		}
	}
	inTaken := map[int]bool{} // traces
	for _, b := range opened {
		if slices.Contains(taken, b.id) {
			isNew := false
			for _, id := range b.spans {
				inTaken[h.spans[id].trace] = true
				t := h.judged[traceOf{h.loaded[0], h.spans[id].trace}]
				isNew = isNew || t == nil || !t.all[id]
			}
			if !isNew {
				r.again++
			}
		}
	}
	spansOf := map[int][]int{}
	for _, b := range opened {
		if !slices.Contains(taken, b.id) && !h.isNear(b, opened, taken) {
			continue
		}
		if h.now.Before(b.noRows) {
			r.failed[b.id] = errors.New("damaged rows")
			continue
		}
		for _, id := range b.spans {
			if t := h.spans[id].trace; inTaken[t] {
				spansOf[t] = append(spansOf[t], id)
			}
		}
	}
	for _, t := range slices.Sorted(maps.Keys(spansOf)) {
		r.verdicts = append(r.verdicts, verdict{t, slices.Compact(slices.Sorted(slices.Values(spansOf[t])))})
	}
	return r
}

// isNear reports whether a block that is not taken may have spans of the traces in the taken ones.
func (h *history) isNear(b *modelBlock, opened []*modelBlock, taken []string) bool {
	first, last := h.bounds(b.spans)
	for _, other := range opened {
		if slices.Contains(taken, other.id) {
			from, to := h.bounds(other.spans)
			if !first.After(to.Add(h.maxTraceDuration)) && !last.Before(from.Add(-h.maxTraceDuration)) {
				return true
			}
		}
	}
	return false
}

// hashOf returns a random number for its arguments.
func hashOf(v version, kind string, n int) int {
	f := fnv.New64a()
	_, _ = fmt.Fprint(f, v.rule, v.digest, kind)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	_, _ = f.Write(b[:])
	return int(f.Sum64() >> 8 & 0xffff)
}

// outcomeOf judges spans: a violation is a bad span without a cure. about are the bad spans.
func outcomeOf(v version, of verdict) (o rules.Outcome, about []int, cured bool) {
	for _, id := range of.spans {
		if hashOf(v, "bad", id)%3 == 0 {
			about = append(about, id)
		}
		cured = cured || hashOf(v, "cure", id)%4 == 0
	}
	switch {
	case hashOf(v, "error", of.trace)%40 == 0:
		return rules.Error, nil, cured
	case len(about) == 0:
		return rules.NotApplicable, nil, cured
	case cured:
		return rules.Pass, nil, cured
	}
	return rules.Violation, about, cured
}

// commit stores the result of a tick. at is the true time of its listing, contained are the blocks in it.
func (h *history) commit(listing *blocks.Listing, contained []*modelBlock, at time.Time, next Ledger, holes []state.Hole, taken []string, r reading) error {
	var loaded []state.LoadedRule
	for _, v := range h.loaded {
		loaded = append(loaded, state.LoadedRule{Pack: "pack", Rule: v.rule, Digest: v.digest})
	}
	h.entry++
	all, more := BeginRules(loaded, h.rules, h.stored, h.settle, h.maxTraceDuration, h.entry)
	h.endVersions()
	next = next.Commit(taken, r.failed, h.entry, h.now.Add(h.clock)).Advance(h.settle, h.maxTraceDuration)
	h.holes = slices.Concat(h.holes, holes, more)
	h.rules = all
	h.stored = Ledger{Ledger: next.Ledger, Blocks: next.Blocks}
	h.log("tick %d at %s: %d listed, unstable %t, taken %v, failed %v, watermark %s", h.ticks, h.short(h.now), len(listing.Live),
		listing.Unstable, taken, r.failed, h.short(next.Watermark.Add(-h.clock)))
	if h.verbose {
		for _, b := range h.blocks {
			h.log("  block %s %v: live %t, %s", b.id, b.spans, b.isLive(), h.stored.Blocks[b.id].State)
		}
	}
	for _, r := range h.rules {
		h.log("  rule %s/%s %s to %s", r.Rule, r.Digest, h.short(r.Begins), h.short(r.Ended))
	}
	for _, hole := range slices.Concat(holes, more) {
		h.log("  hole %s to %s %s %s %s/%s", h.short(hole.From), h.short(hole.To), hole.Reason, hole.Subject, hole.Rule, hole.Digest)
	}
	h.listedAny = at
	if !listing.Unstable {
		if at.Sub(h.listed) >= modelCompactedRetention/2-time.Minute || h.clockWasWrong {
			for id := range h.spans {
				h.spans[id].erased = h.spans[id].erased || h.spans[id].deleted.After(h.listed)
			}
		}
		h.listed = at
		h.present = map[int]bool{}
		for _, b := range contained {
			b.isListed = true
			for _, id := range b.spans {
				h.seen[id], h.present[id] = true, true
				for _, v := range h.loaded {
					if h.since[v] == nil {
						h.since[v] = map[int]bool{}
					}
					h.since[v][id] = true
				}
			}
		}
	}
	if len(r.failed) == 0 {
		h.reads += len(taken)
		h.again += r.again
		for _, of := range r.verdicts {
			for _, v := range h.loaded {
				if err := h.judge(v, of); err != nil {
					return err
				}
			}
		}
	}
	return h.check()
}

// endTruth is the reason why a version that was removed has not judged a trace, or empty, and the start of the trace at
// that time.
type endTruth struct {
	reason string
	start  time.Time
}

// endVersions notes the removed versions, and whether they have judged each trace.
func (h *history) endVersions() {
	for _, r := range h.rules {
		v := version{r.Rule, r.Digest}
		if !r.Ended.IsZero() || slices.Contains(h.loaded, v) {
			continue
		}
		p := period{v, r.SinceEntry}
		h.ended[p] = h.listedAny
		for t := 1; t <= h.traces; t++ {
			if start, isSeen := h.startOf(t); isSeen {
				h.endedTruth[traceIn{p, t}] = endTruth{h.isJudged(v, t), start}
			}
		}
		delete(h.since, v)
	}
}

// isJudged returns the fact by which a version has not judged a trace completely, or nothing.
func (h *history) isJudged(v version, t int) string {
	done := h.judged[traceOf{v, t}]
	for _, id := range h.spansOf[t] {
		switch {
		case h.spans[id].erased && !h.present[id]:
		case done == nil && (h.present[id] || h.since[v][id]):
			return fmt.Sprintf("span %d: its trace was never judged", id)
		case done == nil:
		case h.since[v][id] && !done.all[id]:
			return fmt.Sprintf("span %d was never judged", id)
		case h.present[id] && !done.last[id] && h.spans[id].deleted.IsZero():
			return fmt.Sprintf("the last judgement was without span %d", id)
		}
	}
	if done == nil || !done.failed {
		return ""
	}
	seen, _ := h.startOf(t)
	if start, _ := h.bounds(slices.Collect(maps.Keys(done.all))); !start.After(seen) { // else the first span was erased
		return "its verdict is an error"
	}
	return ""
}

// judge stores the verdict of a version.
func (h *history) judge(v version, of verdict) error {
	key := traceOf{v, of.trace}
	done := h.judged[key]
	if done == nil {
		done = &truth{all: map[int]bool{}}
		h.judged[key] = done
	}
	done.last = map[int]bool{}
	for _, id := range of.spans {
		done.all[id], done.last[id] = true, true
		h.seen[id] = true // also if the listing was unstable
	}
	outcome, about, _ := outcomeOf(v, of)
	if outcome == rules.Error {
		done.failed = true
		start, _ := h.bounds(of.spans)
		h.holes = append(h.holes, state.Hole{Pack: "pack", Rule: v.rule, Digest: v.digest, From: start, To: start.Add(1), Reason: HoleError})
	}
	id := fmt.Sprint(v, of.trace)
	h.log("  %v judges trace %d on %v: %s, about %v", v, of.trace, of.spans, outcome, about)
	known, isKnown := h.violations[id]
	// Verdicts without a violation are not stored, so a violation may be found later on fewer spans.
	if len(of.spans) == len(done.all) && (isKnown || outcome == rules.Violation) {
		done.full, done.fullSpans = outcome, len(of.spans)
	}
	if !isKnown {
		if outcome == rules.Violation {
			violation := evidence.Violation{ID: id, Pack: "pack", RuleID: v.rule, RuleDigest: v.digest}
			for _, span := range about {
				violation.About = append(violation.About, evidence.SpanRef{ID: spanID(span)})
			}
			h.violationOf[id] = key
			h.violations[id] = state.Violation{Violation: violation, Spans: len(of.spans), Status: state.StatusOpen}
		}
		return nil
	}
	var spans []trace.SpanID
	for _, span := range of.spans {
		spans = append(spans, spanID(span))
	}
	change := Decide(known, outcome, spans)
	if change.Correction != nil {
		if change.Violation.Sequence != known.Sequence+1 || change.Violation.Status == known.Status {
			return fmt.Errorf("violation %s: correction %d of status %s follows %d", id, change.Violation.Sequence, change.Violation.Status, known.Sequence)
		}
		if change.Violation.Status == state.StatusWithdrawn {
			if _, _, cured := outcomeOf(v, of); !cured {
				return fmt.Errorf("violation %s was withdrawn by a judgement of spans %v without new evidence", id, of.spans)
			}
		}
	}
	h.violations[id] = change.Violation
	return nil
}

// check compares the coverage with the truth.
func (h *history) check() error {
	h.groupSpans()
	for _, c := range Coverage(h.stored, h.maxTraceDuration, h.rules, h.holes) {
		v := version{c.Rule.Rule, c.Rule.Digest}
		for t := 1; t <= h.traces; t++ {
			start, isSeen := h.startOf(t)
			if !isSeen || !covers(&c, start) {
				continue
			}
			reason := ""
			if c.Rule.Ended.IsZero() {
				reason = h.isJudged(v, t)
			} else {
				p := period{v, c.Rule.SinceEntry}
				end, known := h.endedTruth[traceIn{p, t}]
				switch {
				case !known && start.After(h.ended[p]):
					reason = "it started after the version ended"
				case end.start.Equal(start): // no late spans
					reason = end.reason
				}
			}
			if reason != "" {
				return fmt.Errorf("trace %d, which starts at %s, counts as judged by %v: %s", t, h.short(start), v, reason)
			}
		}
	}
	for id, v := range h.violations {
		done := h.judgedOf(id)
		if done == nil || done.failed || len(done.all) != done.fullSpans {
			continue
		}
		if isViolation := done.full == rules.Violation; isViolation != (v.Status == state.StatusOpen) {
			return fmt.Errorf("violation %s is %s, but on all spans the verdict is %s", id, v.Status, done.full)
		}
	}
	return nil
}

// covers reports whether the coverage claims that a trace with the start was judged.
func covers(c *RuleCoverage, start time.Time) bool {
	return !start.Before(c.From) && start.Before(c.To) &&
		!slices.ContainsFunc(c.Holes, func(h state.Hole) bool { return !start.Before(h.From) && start.Before(h.To) })
}

// short returns a time since noon.
func (h *history) short(t time.Time) string { return t.Sub(noon).Round(time.Second).String() }

// startOf returns the start of a trace by the spans that were listed.
func (h *history) startOf(t int) (start time.Time, isSeen bool) {
	for _, id := range h.spansOf[t] {
		if at := h.spans[id].at; h.seen[id] && (!isSeen || at.Before(start)) {
			start, isSeen = at, true
		}
	}
	return start, isSeen
}

// checkEnd compares the state after all faults with the truth.
func (h *history) checkEnd() error {
	for id, b := range h.stored.Blocks {
		i := slices.IndexFunc(h.blocks, func(b *modelBlock) bool { return b.id == id })
		isAside := b.State == state.BlockAside && (i < 0 || !h.blocks[i].wasBad)
		if b.State == state.BlockWaiting && !b.Compacted || b.State == state.BlockPending || isAside {
			return fmt.Errorf("at the end block %s is %s: %+v", id, b.State, b)
		}
	}
	if want := h.stored.ListedAt.Add(-h.settle); h.stored.Watermark.Before(want) {
		return fmt.Errorf("at the end the watermark is %s, must be %s", h.short(h.stored.Watermark), h.short(want))
	}
	c := Coverage(h.stored, h.maxTraceDuration, h.rules, h.holes)[0]
	for id := range h.spans {
		span := &h.spans[id]
		isLate := span.stored.Sub(span.at) > h.settle
		if span.stored.IsZero() || span.erased || !h.seen[id] && (isLate || !span.deleted.IsZero()) {
			continue
		}
		start := span.at
		for _, other := range h.spansOf[span.trace] {
			if !h.spans[other].stored.IsZero() {
				start = earlier(start, h.spans[other].at)
			}
		}
		done := h.judged[traceOf{h.loaded[0], span.trace}]
		if covers(&c, start) && (done == nil || !done.all[id]) {
			return fmt.Errorf("span %d of trace %d, which was stored at %s and starts at %s, counts as judged at the end",
				id, span.trace, h.short(span.stored), h.short(start))
		}
	}
	for _, hole := range h.holes {
		isFalse := hole.Reason == HoleExpired && h.isFalse(&hole) || hole.Reason == HoleOutage && !h.wasLongOut
		if isFalse {
			h.falseHoles++
			h.log("false hole: %s", hole.Subject)
		}
		// After the expiry of a block, or a change by an operator, it is unknown whether another block has the spans.
		if isFalse && !h.faults[expiry] && !h.faults[erasure] && !h.clockWasWrong {
			return fmt.Errorf("the hole %q (%s) is none", hole.Reason, hole.Subject)
		}
	}
	return nil
}

// isFalse reports whether the hole of a block is none: all its spans were judged.
func (h *history) isFalse(hole *state.Hole) bool {
	for _, b := range slices.Concat(h.removed, h.blocks) {
		if "block "+b.id != hole.Subject {
			continue
		}
		if b.wasBad {
			return false
		}
		for _, id := range b.spans {
			if done := h.judged[traceOf{h.loaded[0], h.spans[id].trace}]; done == nil || !done.all[id] {
				return false
			}
		}
	}
	return true
}

// groupSpans groups the new spans by trace.
func (h *history) groupSpans() {
	if h.spansOf == nil {
		h.spansOf = map[int][]int{}
	}
	for ; h.grouped < len(h.spans); h.grouped++ {
		t := h.spans[h.grouped].trace
		h.spansOf[t] = append(h.spansOf[t], h.grouped)
	}
}

// judgedOf returns the truth about a violation.
func (h *history) judgedOf(id string) *truth { return h.judged[h.violationOf[id]] }

// TestLedgerModel compares the ledger in random histories of a storage with the truth.
func TestLedgerModel(t *testing.T) {
	if *modelSeed != 0 {
		var only map[modelFault]bool
		if *modelOnly != "" {
			only = map[modelFault]bool{}
			for _, f := range strings.Split(*modelOnly, ",") {
				only[modelFault(f)] = true
			}
		}
		h := newHistory(*modelSeed, only, t.Logf)
		h.verbose = true
		t.Logf("faults %v", slices.Sorted(maps.Keys(h.faults)))
		require.NoError(t, h.run())
		return
	}
	n := *modelHistories
	if testing.Short() {
		n = min(n, 100)
	}
	var mu sync.Mutex
	var ticks, reads, again, spans, violations, falseHoles, failures int
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for seed := uint64(1); seed <= uint64(n); seed++ {
		group.Go(func() error {
			h := newHistory(seed, nil, noLog)
			err := h.run()
			mu.Lock()
			defer mu.Unlock()
			ticks, spans, violations = ticks+h.ticks, spans+len(h.spans), violations+len(h.violations)
			reads, again, falseHoles = reads+h.reads, again+h.again, falseHoles+h.falseHoles
			if err != nil {
				if failures++; failures <= 5 {
					t.Errorf("%v\nreplay with -model.seed=%d -model.faults=%s", err, seed, shrink(seed, h.faults))
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	t.Logf("%d histories, %d failed: %d ticks, %d spans, %d violations; %d blocks judged, %d of them again; %d false holes after expiry, erasure or a wrong clock",
		n, failures, ticks, spans, violations, reads, again, falseHoles)
}

// shrink returns the faults of a failing history without which it does not fail.
func shrink(seed uint64, faults map[modelFault]bool) string {
	faults = maps.Clone(faults)
	for _, f := range slices.Sorted(maps.Keys(faults)) {
		fewer := maps.Clone(faults)
		delete(fewer, f)
		if newHistory(seed, fewer, noLog).run() != nil {
			faults = fewer
		}
	}
	var names []string
	for _, f := range slices.Sorted(maps.Keys(faults)) {
		names = append(names, string(f))
	}
	return strings.Join(names, ",")
}

func noLog(string, ...any) {}
