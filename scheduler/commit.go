package scheduler

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
)

// statementEvery is the time after which an entry states the coverage although nothing was judged.
const statementEvery = time.Hour

// entryWriter writes the result of a tick in a transaction: the changes of the ledger, coverage, violations and
// corrections, the signed entry about them, and the deliveries of that entry.
type entryWriter struct {
	*tick
	tx     *state.Tx
	at     time.Time
	last   state.Entry
	events []evidence.Event
	// judged reports that the taken blocks were judged, hasEntry that an entry about the tick was written.
	judged, hasEntry bool
	loadedRules      []state.LoadedRule
	refused          map[string]string // problems of packs by sweep and tenant
}

// write writes everything. It writes an entry only if something was judged, corrected or found missing, if rules
// changed, or if the last statement of the coverage is an hour old.
func (w *entryWriter) write(ctx context.Context) (err error) {
	w.at = w.now().UTC()
	if w.last, _, err = w.tx.LastEntry(ctx, w.tenant); err != nil {
		return err
	}
	previous, err := w.tx.LoadedRules(ctx, w.ledger.ID)
	if err != nil {
		return err
	}
	begun, ended := changedRules(w.loaded(), previous)
	if err := w.ruleEvents(ctx, begun, ended); err != nil {
		return err
	}
	if err := w.refusalEvents(ctx); err != nil {
		return err
	}
	number := w.last.Number + 1
	// Earlier ticks judged without the new versions.
	all, holes := BeginRules(w.loaded(), previous, w.before, w.pass.sweeps[0].Settle, w.maxTraceDuration, number)
	if len(begun)+len(ended) > 0 {
		if err := w.tx.PutLoadedRules(ctx, all); err != nil {
			return err
		}
	}
	w.loadedRules = all
	w.holes = append(w.holes, holes...)
	w.ledger = w.ledger.Commit(w.taken, w.failures(), number, w.at)
	failed := len(w.taken) > 0 && len(w.report.Failed) > 0
	if failed { // nothing was judged
		w.violations, w.updated, w.corrections, w.errorHoles, w.findings, w.cappedChanges = nil, nil, nil, nil, &findings{}, nil
	}
	w.judged = (len(w.taken) > 0 || w.windowed) && !failed
	w.ledger = w.ledger.Advance(w.pass.sweeps[0].Settle, w.maxTraceDuration)
	moved := w.ledger.Watermark.After(w.before.Watermark)
	w.probed = nil
	if err := w.canaries(ctx); err != nil {
		return err
	}
	for _, h := range w.errorHoles {
		w.holes = append(w.holes, *h)
	}
	for i := range w.holes {
		w.holes[i].Ledger, w.holes[i].Entry = w.ledger.ID, number
	}
	slices.SortFunc(w.holes, func(a, b state.Hole) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Pack, b.Pack), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Subject, b.Subject))
	})
	if err := w.tx.PutHoles(ctx, w.holes); err != nil {
		return err
	}
	if w.judged || len(w.holes) > 0 || len(w.probed) > 0 || len(begun)+len(ended) > 0 || moved && w.at.Sub(w.stated) >= statementEvery {
		kind := evidence.EntryCoverage
		if w.judged {
			kind = evidence.EntryTick
		}
		if err := w.entry(ctx, kind, number, moved || len(w.holes) > 0 || len(w.probed) > 0); err != nil {
			return err
		}
		w.hasEntry = true
	}
	return w.putLedger(ctx)
}

// loaded returns the rules of the tick in the form of the state.
func (w *entryWriter) loaded() []state.LoadedRule {
	var all []state.LoadedRule
	for _, r := range w.sortedRules() {
		all = append(all, state.LoadedRule{Pack: r.Pack.Name, Rule: r.ID, Digest: r.Digest, Title: r.Title, Severity: string(r.Severity)})
	}
	return all
}

// changedRules returns the loaded versions that did not judge before, and the previous ones that are not loaded.
func changedRules(loaded, previous []state.LoadedRule) (begun, ended []state.LoadedRule) {
	for _, n := range loaded {
		if !slices.ContainsFunc(previous, func(r state.LoadedRule) bool { return r.Ended.IsZero() && sameVersion(&n, &r) }) {
			begun = append(begun, n)
		}
	}
	for _, r := range previous {
		if r.Ended.IsZero() && !slices.ContainsFunc(loaded, func(n state.LoadedRule) bool { return sameVersion(&n, &r) }) {
			ended = append(ended, r)
		}
	}
	return begun, ended
}

// ruleEvents appends an event for each pack whose rules were loaded, changed or removed.
func (w *entryWriter) ruleEvents(ctx context.Context, begun, ended []state.LoadedRule) error {
	changed := map[string]map[string]string{} // details by pack
	note := func(pack, key, rule string) {
		if changed[pack] == nil {
			changed[pack] = map[string]string{"pack": pack}
		}
		list := changed[pack][key]
		switch {
		case list == "":
			changed[pack][key] = rule
		case len(list) < 2000:
			changed[pack][key] = list + " " + rule
		}
	}
	for _, r := range begun {
		note(r.Pack, "begun", r.Rule)
	}
	for _, r := range ended {
		note(r.Pack, "ended", r.Rule)
	}
	for _, pack := range w.packs {
		if details := changed[pack.Name]; details != nil {
			details["version"], details["digest"] = pack.Version, pack.Digest
			if err := w.tx.PutPack(ctx, state.Pack{Digest: pack.Digest, Name: pack.Name, Version: pack.Version, Path: pack.Path, Content: pack.Content, LoadedAt: w.at}); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		event := evidence.Event{Name: evidence.EventPackLoaded, Details: changed[name]}
		if changed[name]["digest"] == "" {
			event.Name = evidence.EventPackRemoved
		}
		if err := w.appendEvent(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

// Bounds of the events about refused rules.
const (
	// maxRefusalBytes bounds the problems in an event, because an entry is small.
	maxRefusalBytes = 4000
	// latestEntries is the number of entries that are searched for the last event after a start.
	latestEntries = 1000
)

// refusalEvents appends an event for each sweep whose packs have other problems than at the last such event, and notes
// the problems of all sweeps in refused. The problems stay for many ticks, and each of them has one event.
func (w *entryWriter) refusalEvents(ctx context.Context) error {
	w.refused = map[string]string{}
	for _, s := range w.pass.sweeps {
		problems := strings.Join(w.Service.rules.problems(s.Name), "\n")
		if len(problems) > maxRefusalBytes {
			problems = strings.ToValidUTF8(problems[:maxRefusalBytes], "") + " …"
		}
		before, isKnown := w.memory.refused[s.Name]
		if !isKnown && problems != "" {
			var err error
			if before, err = w.lastRefusal(ctx, s.Name); err != nil {
				return err
			}
		}
		if problems != "" && problems != before {
			event := evidence.Event{Name: evidence.EventPackRefused, Details: map[string]string{"sweep": s.Name, "problems": problems}}
			if err := w.appendEvent(ctx, event); err != nil {
				return err
			}
		}
		w.refused[s.Name] = problems
	}
	return nil
}

// lastRefusal returns the problems in the last event about refused rules of a sweep, if it is among the latest entries.
func (w *entryWriter) lastRefusal(ctx context.Context, sweep string) (string, error) {
	problems := ""
	for entry, err := range w.tx.Entries(ctx, w.tenant, max(w.last.Number-latestEntries, 1), 0) {
		if err != nil {
			return "", err
		}
		if entry.Kind != string(evidence.EntryEvent) {
			continue
		}
		s, _, err := evidence.OpenEnvelope(entry.Envelope, w.key.Public())
		if err != nil {
			continue // an earlier key signed it, so that there is at most one event too many
		}
		if s.Event.Name == evidence.EventPackRefused && s.Event.Details["sweep"] == sweep {
			problems = s.Event.Details["problems"]
		}
	}
	return problems, nil
}

// appendEvent appends an entry about an event.
func (w *entryWriter) appendEvent(ctx context.Context, event evidence.Event) error {
	w.events = append(w.events, event)
	return w.append(ctx, &evidence.Statement{Kind: evidence.EntryEvent, Event: &event})
}

// append signs and appends a statement, which it completes.
func (w *entryWriter) append(ctx context.Context, s *evidence.Statement) error {
	entry, err := appendStatement(ctx, w.tx, w.key, s, statementOf{tenant: w.tenant, at: w.at, engine: w.engine, sweeps: w.pass.names(), last: w.last})
	if err == nil {
		w.last = entry
	}
	return err
}

// statementOf are the parts of a statement that follow from its place.
type statementOf struct {
	tenant, engine string
	at             time.Time
	sweeps         []string
	last           state.Entry
}

// appendStatement completes, signs and appends a statement.
func appendStatement(ctx context.Context, tx *state.Tx, key *evidence.Key, s *evidence.Statement, of statementOf) (state.Entry, error) {
	s.Tenant, s.Number, s.Time, s.Previous, s.Engine, s.Sweeps = of.tenant, of.last.Number+1, of.at, of.last.Digest, of.engine, of.sweeps
	envelope, digest, err := s.Sign(key)
	if err != nil {
		return state.Entry{}, err
	}
	entry := state.Entry{Tenant: of.tenant, Number: s.Number, Kind: string(s.Kind), Time: of.at, Digest: digest, Previous: s.Previous, Envelope: envelope}
	return entry, tx.AppendEntry(ctx, entry)
}

// entry writes the violations and corrections, the entry about the tick, and its deliveries. With file, the entry itself
// is filed as a statement.
func (w *entryWriter) entry(ctx context.Context, kind evidence.EntryKind, number int64, file bool) error {
	name := w.tx.EntryName(number)
	results := w.results()
	filedAt := w.at
	nextFiling := func() time.Time { // no two entries of a stream have one time
		filedAt = filedAt.Add(1)
		return filedAt
	}
	mutes, err := mutesAt(ctx, w.tx, w.tenant, w.at)
	if err != nil {
		return err
	}
	var lines, corrected [][]byte
	for i := range w.violations {
		v := &w.violations[i]
		line, err := v.Record()
		if err != nil {
			return err
		}
		v.Entry, v.EntryNumber, v.Ordinal, v.Line, v.FiledAt = name, number, i, line, nextFiling()
		if v.Muted = mutes.apply(&v.Violation); v.Muted {
			w.muted++
		}
		v.Provisional = !v.TraceStart.Time().Before(w.ledger.Watermark)
		lines = append(lines, line)
		results.Violations = append(results.Violations, evidence.NewLineRef(v.ID, line))
	}
	corrections := make([]state.Correction, len(w.corrections))
	for i := range w.corrections {
		c := w.corrections[i]
		c.Entry, c.FiledAt = name, nextFiling()
		line, err := c.Record()
		if err != nil {
			return err
		}
		corrections[i] = state.Correction{Correction: c, EntryNumber: number, Ordinal: i, Line: line}
		corrected = append(corrected, line)
		results.Corrections = append(results.Corrections, evidence.NewLineRef(c.ID, line))
	}
	results.Canaries = w.probed
	if w.findings != nil {
		var contents [][]byte
		if w.capped, contents = w.cappedLists(); len(w.capped) > 0 {
			file = true
		}
		for _, content := range contents {
			if _, err := w.tx.PutBlob(ctx, content); err != nil {
				return err
			}
		}
		results.Capped = w.capped
	}
	content, err := results.Encode()
	if err != nil {
		return err
	}
	if _, err := w.tx.PutBlob(ctx, content); err != nil {
		return err
	}
	coverage := &evidence.CoverageRef{Rules: len(w.rules), From: w.ledger.Begins, To: w.ledger.Watermark, Moved: file}
	if err := w.append(ctx, &evidence.Statement{
		Kind: kind, Results: evidence.NewBlobRef(content), Violations: evidence.NewSetRef(lines), Corrections: evidence.NewSetRef(corrected), Coverage: coverage,
		Canaries: evidence.NewCanaryRef(w.probed), Capped: evidence.NewCappedRef(w.capped),
	}); err != nil {
		return err
	}
	if err := w.tx.PutViolations(ctx, w.violations); err != nil {
		return err
	}
	if err := w.tx.UpdateViolations(ctx, w.updated); err != nil {
		return err
	}
	if err := w.tx.PutCorrections(ctx, corrections); err != nil {
		return err
	}
	if w.findings != nil {
		if err := w.putCapped(ctx, number); err != nil {
			return err
		}
	}
	return w.deliveries(ctx, number, file)
}

// deliveries writes a delivery for each sink that receives an item.
func (w *entryWriter) deliveries(ctx context.Context, number int64, file bool) error {
	var all []state.Delivery
	for _, name := range w.sinkNames {
		items := len(w.violations) + len(w.corrections)
		if file && name == "loki" { // Tempo takes no statements
			items++
		}
		if items > 0 {
			all = append(all, state.Delivery{Tenant: w.tenant, Entry: number, Sink: name, Items: items, State: state.DeliveryNew, NextAt: w.at, Created: w.at})
		}
	}
	return w.tx.PutDeliveries(ctx, all)
}

// putLedger writes the ledger and the blocks that changed.
func (w *entryWriter) putLedger(ctx context.Context) error {
	if err := w.tx.PutLedger(ctx, w.ledger.Ledger); err != nil {
		return err
	}
	var changed []state.Block
	var gone []string
	for id, b := range w.ledger.Blocks {
		if old, known := w.stored[id]; !known || old != b {
			changed = append(changed, b)
		}
	}
	for id := range w.stored {
		if _, kept := w.ledger.Blocks[id]; !kept {
			gone = append(gone, id)
		}
	}
	slices.SortFunc(changed, func(a, b state.Block) int { return strings.Compare(a.ID, b.ID) })
	slices.Sort(gone)
	if err := w.tx.PutBlocks(ctx, w.ledger.ID, changed); err != nil {
		return err
	}
	if err := w.tx.DeleteBlocks(ctx, w.ledger.ID, gone); err != nil {
		return err
	}
	if w.isRecent {
		return nil // the next tick is due as before
	}
	for _, s := range w.pass.sweeps {
		st, err := w.tx.Sweep(ctx, s.Name, w.pass.tenant)
		if err != nil {
			return err
		}
		st.Ledger, st.LastTick, st.LastRun, st.LastError = w.ledger.ID, w.scheduled, w.at, ""
		st.Ticks++
		st.Missed += int64(w.missed)
		st.HasData = len(w.listing.Live)+len(w.listing.Compacted)+len(w.listing.Unread) > 0
		if err := w.tx.PutSweep(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// results returns the results of the tick without violations and corrections.
func (w *entryWriter) results() *evidence.Results {
	r := &evidence.Results{
		Sweeps: w.pass.names(), Scheduled: w.scheduled, Missed: w.missed,
		Listing: evidence.ListingResult{Began: w.listing.Began, Ended: w.listing.Ended, Stable: !w.listing.Unstable},
	}
	for _, win := range w.windows {
		r.Windows = append(r.Windows, evidence.WindowResult{From: win.From, To: win.To, Recheck: win.Recheck, Recent: w.isRecent})
	}
	for id, b := range w.ledger.Blocks {
		old, known := w.stored[id]
		outcome := ""
		switch {
		case known && old.State == b.State:
			continue
		case b.State == state.BlockJudged && slices.Contains(w.taken, id):
			outcome = evidence.OutcomeJudged
		case b.State == state.BlockJudged:
			outcome = evidence.OutcomeImplied
		case b.State == state.BlockAside:
			outcome = evidence.OutcomeAside
		case b.State == state.BlockBefore && b.Reason == HoleSkipped:
			outcome = evidence.OutcomeSkipped
		case b.State == state.BlockBefore:
			outcome = evidence.OutcomeBefore
		default:
			continue
		}
		r.Blocks = append(r.Blocks, evidence.BlockResult{ID: id, Outcome: outcome, Reason: b.Reason, Earliest: b.Earliest, Latest: b.Latest, Traces: b.Traces, Bytes: b.Bytes})
	}
	for _, h := range w.holes {
		if h.Reason == HoleExpired {
			r.Blocks = append(r.Blocks, evidence.BlockResult{ID: h.Subject, Outcome: evidence.OutcomeExpired, Reason: h.Reason, Earliest: h.From, Latest: h.To})
		}
	}
	slices.SortFunc(r.Blocks, func(a, b evidence.BlockResult) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Outcome, b.Outcome))
	})
	for _, p := range w.packs {
		r.Packs = append(r.Packs, evidence.PackRef{Name: p.Name, Version: p.Version, Digest: p.Digest})
	}
	slices.SortFunc(r.Packs, func(a, b evidence.PackRef) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range Coverage(w.ledger, w.maxTraceDuration, w.loadedRules, w.holes) {
		if c.Rule.Ended.IsZero() {
			r.Coverage = append(r.Coverage, evidence.RuleCoverage{Pack: c.Rule.Pack, Rule: c.Rule.Rule, Digest: c.Rule.Digest, From: c.From, To: c.To, Holes: len(c.Holes)})
		}
	}
	if w.judged {
		c := w.result.Traces
		r.Traces = evidence.TraceCounts{Seen: c.Seen, Own: c.Own, Judged: c.Judged, Spans: c.Spans}
		for _, c := range w.result.Rules {
			rule := evidence.RuleResult{
				Pack: c.Rule.Pack.Name, PackVersion: c.Rule.Pack.Version, Rule: c.Rule.ID, Digest: c.Rule.Digest,
				NotApplicable: c.NotApplicable, Pass: c.Pass, Violation: c.Violation, Error: c.Error,
			}
			if c.FirstError != nil {
				rule.FirstError = fmt.Sprintf("trace %s: %v", c.FirstErrorTrace, c.FirstError)
			}
			r.Rules = append(r.Rules, rule)
		}
		slices.SortFunc(r.Rules, func(a, b evidence.RuleResult) int {
			return cmp.Or(strings.Compare(a.Pack, b.Pack), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Digest, b.Digest))
		})
	}
	return r
}

// compareRules orders rules by pack, ID and digest.
func compareRules(a, b *rules.Rule) int {
	return cmp.Or(strings.Compare(a.Pack.Name, b.Pack.Name), strings.Compare(a.ID, b.ID), strings.Compare(a.Digest, b.Digest))
}
