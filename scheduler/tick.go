package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"weak"

	"go.opentelemetry.io/otel/attribute"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// tick is one run of a pass: it lists the blocks, judges those that are new, and commits the result in one transaction.
// Before the commit nothing has happened.
type tick struct {
	*Service
	*memory
	pass      *pass
	tenant    string // of violations and entries
	scheduled time.Time
	missed    int
	began     time.Time

	before, ledger Ledger
	stored         map[string]state.Block // the blocks as the state has them
	rules          []*rules.Rule
	sweepOf        map[*rules.Rule]string
	packs          []*rules.Pack

	listing  blocks.Listing
	taken    []string
	windows  []APIWindow
	windowed bool // traces of windows were judged
	isRecent bool // the windows will be judged again from the blocks
	limited  bool // a limit left blocks for the next tick
	report   blocks.Report
	result   *analyzer.Result

	found    []state.Violation // collected, and not yet in the findings
	findings *findings
	// The changes of state that the tick commits.
	violations    []state.Violation // new ones that are kept in full
	updated       []state.Violation
	corrections   []evidence.Correction
	cappedChanges map[*rules.Rule][]cappedChange
	capped        []evidence.CappedList // in the results
	holes         []state.Hole
	muted         int // of violations
	probes        *probes
	probed        []evidence.CanaryResult
	judged        bool // the taken blocks were judged and that was committed
	errorHoles    map[*rules.Rule]*state.Hole
}

var (
	errSlow    = fmt.Errorf("the storage did not list the blocks within %s", listTimeout)
	errStalled = fmt.Errorf("the reading delivered nothing for %s", stallTimeout)
)

// causeOf returns the cause for which a context ended, or else the error.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// awaitTurn waits until the tick may judge, which needs memory and processors, and returns the end of that.
func (t *tick) awaitTurn(ctx context.Context) (done func(), err error) {
	select {
	case t.judging <- struct{}{}:
		return func() { <-t.judging }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// watched returns a source that fails if it delivers nothing for stallTimeout.
func watched(source analyzer.SourceFunc) analyzer.SourceFunc {
	return func(ctx context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stall := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
		defer stall.Stop()
		reading, err := source(ctx, func(b *columnar.Batch) error {
			stall.Stop() // judging may take long
			defer stall.Reset(stallTimeout)
			return deliver(b)
		})
		if err != nil {
			err = causeOf(ctx, err)
		}
		return reading, err
	}
}

// ruleOfTrace identifies a verdict.
type ruleOfTrace struct {
	trace              trace.ID
	pack, rule, digest string
}

// run runs a tick. Only if it returns nil has it committed.
func (t *tick) run(ctx context.Context) (err error) {
	t.began = t.now()
	if err := t.load(ctx); err != nil {
		return err
	}
	if t.store == nil {
		return t.runWindow(ctx)
	}
	listing, cancel := context.WithTimeoutCause(ctx, listTimeout, errSlow)
	defer cancel()
	err = traced(listing, t.tracer, "list", func(ctx context.Context) (err error) {
		t.listing, err = t.store.List(ctx, t.pass.tenant)
		return err
	})
	if err != nil {
		return causeOf(listing, err)
	}
	t.countRequests(t.listing.Requests, t.listing.Bytes)
	if isUnusable(&t.listing) && len(t.before.Blocks) > 0 {
		return fmt.Errorf("%w; the last listing had %d blocks: make the storage available, or remove tenant %s from the sweep", t.listing.Problems[0].Err, len(t.before.Blocks), t.pass.tenant)
	}
	t.step("tick listed")
	if err := t.choose(listing); err != nil {
		return causeOf(listing, err)
	}
	cancel()
	if len(t.taken) > 0 {
		done, err := t.awaitTurn(ctx)
		if err != nil {
			return err
		}
		defer done()
		if err := t.claims.begin(ctx, tenantWork(t.pass.tenant)); err != nil {
			return err
		}
	}
	for len(t.taken) > 0 {
		if err = traced(ctx, t.tracer, "judge", t.judge, attribute.Int("betrace.blocks", len(t.taken))); !errors.Is(err, errOverLimit) {
			break
		}
		t.taken, t.limited = t.taken[:len(t.taken)/2], true
		t.log.InfoContext(ctx, "the tick judges fewer blocks", "sweep", t.labels()[0], "tenant", t.pass.tenant, "blocks", len(t.taken), "reason", err)
	}
	if err != nil {
		return err
	}
	t.step("tick judged")
	return t.commit(ctx)
}

// choose applies the listing to the ledger and chooses the blocks to judge.
func (t *tick) choose(ctx context.Context) error {
	sweep := t.pass.sweeps[0]
	var holes []state.Hole
	t.ledger, holes = t.before.Next(t.listing, Options{
		Hold: sweep.Hold, CompactedRetention: t.compactedRetention, Retention: t.retention(t.pass.tenant), MaxTraceDuration: t.maxTraceDuration,
	})
	t.holes = append(t.holes, holes...)
	var unknown []blocks.Meta
	for _, m := range t.listing.Live {
		if b := t.ledger.Blocks[m.ID]; b.Latest.IsZero() && b.State != state.BlockBefore || b.State == state.BlockAside {
			unknown = append(unknown, m)
		}
	}
	if len(unknown) > 0 {
		opening, err := t.store.Times(ctx, unknown)
		if err != nil {
			return err
		}
		t.countRequests(opening.Requests, opening.Bytes)
		times := map[string]BlockTimes{}
		for id, b := range opening.Times {
			times[id] = BlockTimes{Earliest: b.Earliest, Latest: b.Latest}
		}
		t.ledger = t.ledger.SetTimes(times)
		for id := range times {
			if t.ledger.Blocks[id].State == state.BlockAside {
				t.ledger = t.ledger.Readable(id)
			}
		}
		for _, f := range opening.Failed {
			t.log.WarnContext(ctx, "block cannot be read", "tenant", t.pass.tenant, "block", f.ID, "error", f.Err)
		}
	}
	t.skipMissed(ctx, t.catchUpFrom())
	t.taken = t.ledger.take(t.now(), sweep.Hold, sweep.Limits, t.compiled.rates)
	t.limited = len(t.taken) < len(t.ledger.Take(t.now(), sweep.Hold, Limits{}))
	return nil
}

// passPlan is the compiled form of the rules of a pass, which is kept until they change, with the rates of its last tick.
type passPlan struct {
	rules []*rules.Rule
	plan  *engine.Plan
	rates rates
	// window is the length of the last window that was within the limits, if the pass reads by the API.
	window time.Duration
}

// sharedPlan is the compiled form of rules that several passes may use.
type sharedPlan struct {
	rules []*rules.Rule
	plan  weak.Pointer[engine.Plan]
}

// compile returns the compiled form of rules, which is that of another pass with the same rules if there is one.
func (s *Service) compile(rs []*rules.Rule) *engine.Plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans = slices.DeleteFunc(s.plans, func(p sharedPlan) bool { return p.plan.Value() == nil })
	for _, p := range s.plans {
		if plan := p.plan.Value(); plan != nil && slices.Equal(p.rules, rs) {
			return plan
		}
	}
	plan := engine.Compile(rs)
	s.plans = append(s.plans, sharedPlan{rs, weak.Make(plan)})
	return plan
}

// plan returns the compiled form of the rules. Compilation may take longer than the rest of a small tick.
func (t *tick) plan() *engine.Plan {
	if t.compiled.plan == nil || !slices.Equal(t.compiled.rules, t.rules) {
		t.compiled = passPlan{rules: t.rules, plan: t.compile(t.rules)}
	}
	return t.compiled.plan
}

// judge reads the traces of the taken blocks and judges them.
func (t *tick) judge(ctx context.Context) error {
	taken := map[string]bool{}
	used := usage{blocks: len(t.taken)}
	for _, id := range t.taken {
		taken[id] = true
		used.bytes += t.ledger.Blocks[id].Bytes
	}
	limits, divisible := t.pass.sweeps[0].Limits, len(t.taken) > 1
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	needs, filter := t.probes.reads(t.rules)
	request := blocks.Request{
		Tenant: t.pass.tenant, Needs: needs, Filter: filter, Listing: &t.listing,
		Judged: func(id string) bool { return !taken[id] }, LeaveOut: t.ledger.LeaveOut,
		MaxTraceDuration: t.maxTraceDuration, MemoryBytes: t.memoryBytes / max(min(t.tenants.Load(), int64(cap(t.judging))), 1),
		Progress: func(p blocks.Progress) {
			if err := limits.exceeded(&usage{requests: float64(p.Requests)}); err != nil && divisible && p.Read < 1 {
				stop(err)
			}
		},
	}
	var err error
	t.result, err = analyzer.Scan(ctx, t.scanOptions(func(ctx context.Context, deliver func(*columnar.Batch) error) (trace.Reading, error) {
		var err error
		t.report, err = t.store.Batches(ctx, request, deliver)
		t.step("tick read")
		return t.report.Reading, err
	}, nil, divisible))
	t.countRequests(t.report.Requests, t.report.Bytes)
	if err = t.endScan(err); err == nil {
		used.spans, used.cost, used.requests = float64(t.result.Traces.Spans), t.result.Cost, float64(t.report.Requests)
		t.compiled.rates = newRates(&used)
	}
	return err
}

// endScan ends a scan, which may have ended with an error.
func (t *tick) endScan(err error) error {
	if err == nil {
		err = t.findings.capAll()
	}
	if err == nil {
		t.violations = t.findings.kept()
	}
	return err
}

// fail records a verdict that is an error: its rule does not cover the start of the trace.
func (t *tick) fail(r *rules.Rule, tr *trace.Trace, err error) {
	start := tr.Start().Time()
	if h := t.errorHoles[r]; h != nil { // one hole for each rule and tick
		h.From, h.To = earlier(h.From, start), later(h.To, start.Add(1))
		return
	}
	t.errorHoles[r] = &state.Hole{
		Ledger: t.ledger.ID, Pack: r.Pack.Name, Rule: r.ID, Digest: r.Digest, From: start, To: start.Add(1),
		Reason: HoleError, Subject: fmt.Sprintf("trace %s: %v", tr.ID, err),
	}
}

func spanIDs(tr *trace.Trace) []trace.SpanID {
	ids := make([]trace.SpanID, len(tr.Spans))
	for i := range tr.Spans {
		ids[i] = tr.Spans[i].ID
	}
	return ids
}

func (t *tick) ruleOf(pack, id, digest string) *rules.Rule {
	for _, r := range t.rules {
		if r.ID == id && r.Digest == digest && r.Pack.Name == pack {
			return r
		}
	}
	return nil
}

// load reads the ledger and the rules.
func (t *tick) load(ctx context.Context) error {
	ledger, err := t.ledgerOf(ctx, t.pass)
	if err != nil {
		return err
	}
	blocksOf, err := t.state.LedgerBlocks(ctx, ledger.ID)
	if err != nil {
		return err
	}
	t.before, t.stored = Ledger{Ledger: ledger, Blocks: blocksOf}, blocksOf
	if t.probes, err = newProbes(t.pass, t.Service.rules.options); err != nil {
		return err
	}
	t.sweepOf = map[*rules.Rule]string{}
	byName := map[string]*rules.Pack{}
	for _, s := range t.pass.sweeps {
		set, err := t.rulesOf(ctx, s)
		if err != nil {
			return err
		}
		for _, pack := range set.packs {
			if other := byName[pack.Name]; other != nil && other.Digest != pack.Digest {
				return fmt.Errorf("sweep %s: the pack %s in %s differs from that in %s, which another sweep with the same schedule uses: rename one", s.Name, pack.Name, pack.Path, other.Path)
			} else if other == nil {
				byName[pack.Name] = pack
				t.packs = append(t.packs, pack)
			}
		}
		for _, r := range set.rules {
			if t.ruleOf(r.Pack.Name, r.ID, r.Digest) == nil {
				t.rules = append(t.rules, r)
				t.sweepOf[r] = s.Name
			}
		}
	}
	return nil
}

// failures returns the errors of the blocks that could not be read, by ID.
func (t *tick) failures() map[string]error {
	failed := map[string]error{}
	for _, f := range t.report.Failed {
		failed[f.ID] = f.Err
	}
	return failed
}

// commit writes the result of the tick in one transaction.
func (t *tick) commit(ctx context.Context) error {
	return traced(ctx, t.tracer, "commit", t.commitOnce)
}

func (t *tick) commitOnce(ctx context.Context) error {
	var written *entryWriter
	err := t.state.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		if err := t.claims.keep(ctx, tx, tenantWork(t.pass.tenant), false); err != nil {
			return err
		}
		w := &entryWriter{tick: t, tx: tx}
		if err := w.write(ctx); err != nil {
			return err
		}
		written = w
		t.step("tick in commit")
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit the tick: %w", err)
	}
	t.step("tick committed")
	t.judged = written.judged
	if written.hasEntry {
		t.stated = written.at
	}
	maps.Copy(t.memory.refused, written.refused)
	for _, e := range written.events {
		t.log.InfoContext(ctx, "rules changed", "tenant", t.pass.tenant, "event", e.Name, "details", e.Details)
	}
	return nil
}

// problems returns the incomplete parts of the tick, one sentence each.
func (t *tick) problems() []string {
	var problems []string
	name := "sweep " + strings.Join(t.pass.names(), ",") + ", tenant " + t.pass.tenant + ": "
	for _, s := range t.pass.sweeps {
		for _, p := range t.Service.rules.problems(s.Name) {
			problems = append(problems, "sweep "+s.Name+": "+p)
		}
	}
	for _, p := range t.listing.Problems {
		problems = append(problems, name+p.Error())
	}
	for _, f := range t.report.Failed {
		problems = append(problems, name+"block "+f.ID+": "+f.Err.Error())
	}
	for _, h := range t.holes {
		if h.Reason != HoleBefore {
			problems = append(problems, fmt.Sprintf("%s%s to %s: %s: %s", name, h.From.Format(time.RFC3339), h.To.Format(time.RFC3339), h.Reason, h.Subject))
		}
	}
	return problems
}

// countRequests adds requests to the storage to the metrics.
func (t *tick) countRequests(requests, bytes int64) {
	t.metrics.sourceRequests.WithLabelValues(t.labels()...).Add(float64(requests))
	t.metrics.sourceBytes.WithLabelValues(t.labels()...).Add(float64(bytes))
}

func (t *tick) labels() []string {
	return []string{strings.Join(t.pass.names(), ","), t.pass.tenant}
}

// reportMetrics sets the metrics of a committed tick, and logs it.
func (t *tick) reportMetrics(ctx context.Context) {
	m, labels := t.metrics, t.labels()
	took := t.now().Sub(t.began)
	m.ticks.WithLabelValues(labels...).Inc()
	m.ticksMissed.WithLabelValues(labels...).Add(float64(t.missed))
	m.tickSeconds.WithLabelValues(labels...).Observe(took.Seconds())
	m.watermark.WithLabelValues(labels...).Set(seconds(t.ledger.Watermark))
	waiting, aside := 0, 0
	var oldest time.Time
	for _, b := range t.ledger.Blocks {
		switch b.State {
		case state.BlockWaiting, state.BlockPending:
			waiting++
			if oldest.IsZero() || b.Earliest.Before(oldest) {
				oldest = b.Earliest
			}
		case state.BlockAside:
			aside++
		}
	}
	m.blocksWaiting.WithLabelValues(labels...).Set(float64(waiting))
	m.blocksAside.WithLabelValues(labels...).Set(float64(aside))
	m.oldestUnjudged.WithLabelValues(labels...).Set(seconds(oldest))
	if t.limited {
		m.limitHits.WithLabelValues(labels...).Inc()
	}
	t.reportCanaries(ctx)
	log := t.log.With("sweep", labels[0], "tenant", t.pass.tenant, "scheduled", t.scheduled)
	if !t.judged {
		log.DebugContext(ctx, "tick without new data", "blocks_waiting", waiting, "watermark", t.ledger.Watermark, "took", took)
		return
	}
	c := t.result.Traces
	m.blocksJudged.WithLabelValues(labels...).Add(float64(len(t.taken)))
	m.tracesRead.WithLabelValues(labels...).Add(float64(c.Seen))
	m.tracesJudged.WithLabelValues(labels...).Add(float64(c.Judged))
	m.spansRead.WithLabelValues(labels...).Add(float64(c.Spans))
	verdicts := func(outcome rules.Outcome, n int) {
		m.verdicts.WithLabelValues(append(labels, outcome.String())...).Add(float64(n))
	}
	for _, r := range t.result.Rules {
		verdicts(rules.NotApplicable, r.NotApplicable)
		verdicts(rules.Pass, r.Pass)
		verdicts(rules.Violation, r.Violation)
		verdicts(rules.Error, r.Error)
	}
	m.muted.WithLabelValues(labels...).Add(float64(t.muted))
	t.reportCapped(ctx, log)
	for _, c := range t.corrections {
		m.corrections.WithLabelValues(append(labels, string(c.Kind))...).Inc()
	}
	message := "tick"
	if t.isRecent {
		message = "recent traces judged"
	}
	log.InfoContext(ctx, message, "blocks", len(t.taken), "blocks_waiting", waiting, "traces", c.Judged, "spans", c.Spans,
		"violations", len(t.violations), "capped", t.countCapped(), "muted", t.muted, "corrections", len(t.corrections), "missed", t.missed, "watermark", t.ledger.Watermark, "took", took)
}

// countCapped returns the number of new violations that are not kept in full.
func (t *tick) countCapped() (n int) {
	if ref := evidence.NewCappedRef(t.capped); ref != nil {
		n = ref.Violations
	}
	return n
}

// reportCapped counts and logs the rules whose violations are not all kept in full.
func (t *tick) reportCapped(ctx context.Context, log *slog.Logger) {
	for _, l := range t.capped {
		rule := l.Pack + "/" + l.Rule
		if l.Kind != evidence.CappedFound {
			t.metrics.corrections.WithLabelValues(append(t.labels(), string(l.Kind))...).Add(float64(l.Count))
			continue
		}
		t.metrics.capped.WithLabelValues(append(t.labels(), rule)...).Add(float64(l.Count))
		log.WarnContext(ctx, "rule is capped: it has more new violations than a tick keeps in full; the others are listed by their traces",
			"rule", rule, "kept", t.findings.limit, "capped", l.Count)
	}
}

// sortedRules returns the loaded rules in the order of results.
func (t *tick) sortedRules() []*rules.Rule {
	return slices.SortedFunc(slices.Values(t.rules), func(a, b *rules.Rule) int { return compareRules(a, b) })
}
