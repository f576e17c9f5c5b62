package scheduler

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Bounds of the violations that a tick holds in memory.
const (
	// maxKept bounds the new violations of a tick that are kept in full. Twice as many are held for a while.
	maxKept = 100_000
	// maxListed bounds the traces with capped violations and the spans to which these refer, unless a tick has only one
	// block. A trace takes some 100 bytes, a span 8.
	maxListed = 2_000_000
	// knownChunk is the number of traces whose known violations are read at once.
	knownChunk = 1000
)

// findings collect the new violations of a tick. If there are more of a rule than the limit, those with the smallest trace
// IDs are kept in full, and the others are capped: only their traces are listed. So the result depends on the traces alone,
// and not on the order in which they are read.
type findings struct {
	// limit is that of each rule. If it is 0, there is none until there are more than most.
	limit int
	// divisible reports that the tick can start again with less.
	divisible bool
	// most bounds the violations in full of all rules: it is maxKept.
	most   int
	byRule map[*rules.Rule]*ruleFindings
	// held counts the violations in full, listed the capped ones and their spans.
	held, listed int
}

// ruleFindings are the new violations of one rule.
type ruleFindings struct {
	kept   []state.Violation
	capped []state.CappedViolation
}

// add adds a new violation. It returns errOverLimit if the tick should start again with less.
func (f *findings) add(r *rules.Rule, v state.Violation) error {
	of := f.byRule[r]
	if of == nil {
		of = &ruleFindings{}
		f.byRule[r] = of
	}
	of.kept = append(of.kept, v)
	f.held++
	if f.limit > 0 && len(of.kept) >= 2*f.limit {
		f.capRule(of)
	}
	if f.held > 2*f.most {
		return f.capAll()
	}
	if f.divisible && f.listed > maxListed {
		return fmt.Errorf("%w: more than %d traces with capped violations and their spans", errOverLimit, maxListed)
	}
	return nil
}

// capAll leaves at most the limit of each rule, and most of all, in full. For most it lowers the limit of all rules.
func (f *findings) capAll() error {
	for {
		if f.limit > 0 {
			for _, of := range f.byRule {
				f.capRule(of)
			}
		}
		switch {
		case f.held <= f.most || f.limit == 1:
			return nil
		case f.limit == 0 && f.divisible:
			return fmt.Errorf("%w: more than %d violations", errOverLimit, f.most)
		}
		f.limit = max(cmp.Or(f.limit, 2*f.most)/2, 1)
	}
}

// capRule leaves at most the limit of one rule in full.
func (f *findings) capRule(of *ruleFindings) {
	if len(of.kept) <= f.limit {
		return
	}
	slices.SortFunc(of.kept, func(a, b state.Violation) int { return bytes.Compare(a.TraceID[:], b.TraceID[:]) })
	for i := range of.kept[f.limit:] {
		v := &of.kept[f.limit+i]
		of.capped = append(of.capped, state.CappedViolation{
			TraceID: v.TraceID, TraceStart: v.TraceStart, About: aboutSpans(v), Spans: v.Spans, Status: state.StatusOpen,
		})
		f.listed += 1 + len(of.capped[len(of.capped)-1].About)
	}
	f.held -= len(of.kept) - f.limit
	clear(of.kept[f.limit:])
	of.kept = of.kept[:f.limit]
}

// aboutSpans returns the spans to which a violation refers, as many as its record has.
func aboutSpans(v *state.Violation) []trace.SpanID {
	ids := make([]trace.SpanID, min(len(v.About), evidence.MaxAbout))
	for i := range ids {
		ids[i] = v.About[i].ID
	}
	return ids
}

// kept returns the violations that are kept in full, by trace and rule.
func (f *findings) kept() []state.Violation {
	all := make([]state.Violation, 0, f.held)
	for _, of := range f.byRule {
		all = append(all, of.kept...)
	}
	slices.SortFunc(all, func(a, b state.Violation) int {
		return cmp.Or(bytes.Compare(a.TraceID[:], b.TraceID[:]), strings.Compare(a.Pack, b.Pack), strings.Compare(a.RuleID, b.RuleID), strings.Compare(a.RuleDigest, b.RuleDigest))
	})
	return all
}

// cappedChange is a further judgement of a capped violation. kind is empty if only its number of spans changed.
type cappedChange struct {
	state.CappedViolation
	kind evidence.CappedKind
}

// find collects a violation of the batch.
func (t *tick) find(ctx context.Context, v evidence.Violation, tr *trace.Trace) error {
	t.found = append(t.found, state.Violation{Violation: v, Ledger: t.ledger.ID, Spans: len(tr.Spans), Status: state.StatusOpen})
	if len(t.found) < knownChunk {
		return nil
	}
	return t.addNew(ctx)
}

// addNew adds the collected violations that the state does not have to the findings.
func (t *tick) addNew(ctx context.Context) error {
	ids := make([]trace.ID, len(t.found))
	for i := range t.found {
		ids[i] = t.found[i].TraceID
	}
	known, capped, err := t.knownOf(ctx, ids)
	if err != nil {
		return err
	}
	isKnown := map[ruleOfTrace]bool{}
	for i := range known {
		isKnown[ruleOfTrace{known[i].TraceID, known[i].Pack, known[i].RuleID, known[i].RuleDigest}] = true
	}
	for i := range capped {
		isKnown[ruleOfTrace{capped[i].TraceID, capped[i].Pack, capped[i].Rule, capped[i].Digest}] = true
	}
	for i := range t.found {
		v := &t.found[i]
		if isKnown[ruleOfTrace{v.TraceID, v.Pack, v.RuleID, v.RuleDigest}] {
			continue
		}
		r := t.ruleOf(v.Pack, v.RuleID, v.RuleDigest)
		v.Sweep = t.sweepOf[r]
		if err := t.findings.add(r, *v); err != nil {
			return err
		}
	}
	t.found = t.found[:0]
	return nil
}

// knownOf returns the violations of traces that the state has.
func (t *tick) knownOf(ctx context.Context, ids []trace.ID) ([]state.Violation, []state.ListedCapped, error) {
	known, err := t.state.ViolationsOfTraces(ctx, t.tenant, ids)
	if err != nil {
		return nil, nil, err
	}
	capped, err := t.state.CappedOfTraces(ctx, t.tenant, ids)
	return known, capped, err
}

// finish adds the new violations of a batch, and judges again the traces with violations that the state has.
func (t *tick) finish(ctx context.Context, b *columnar.Batch, judged columnar.Bits) error {
	if err := t.addNew(ctx); err != nil {
		return err
	}
	places := map[trace.ID]int{} // in the batch
	var ids []trace.ID
	for i := judged.Next(0); i >= 0; i = judged.Next(i + 1) {
		places[b.IDs[i]] = int(i)
		ids = append(ids, b.IDs[i])
	}
	for chunk := range slices.Chunk(ids, knownChunk) {
		if err := t.judgeKnown(ctx, chunk, func(id trace.ID) *trace.Trace { return b.Trace(places[id]) }); err != nil {
			return err
		}
	}
	return nil
}

// judgeKnown decides about the violations of judged traces that the state has. Those of rules that were changed or removed
// stand.
func (t *tick) judgeKnown(ctx context.Context, ids []trace.ID, traceOf func(trace.ID) *trace.Trace) error {
	known, capped, err := t.knownOf(ctx, ids)
	if err != nil {
		return err
	}
	for _, v := range known {
		r := t.ruleOf(v.Pack, v.RuleID, v.RuleDigest)
		if r == nil {
			continue
		}
		tr := traceOf(v.TraceID)
		change := Decide(v, r.Judge(ctx, tr).Outcome, spanIDs(tr))
		if change.Correction != nil {
			c := *change.Correction
			c.Origin, c.Sweep, c.Engine = evidence.OriginSweep, t.sweepOf[r], t.engine
			c.Muted = v.Muted
			t.corrections = append(t.corrections, c)
		}
		if change.Changed {
			t.updated = append(t.updated, change.Violation)
		}
	}
	for _, v := range capped {
		r := t.ruleOf(v.Pack, v.Rule, v.Digest)
		if r == nil {
			continue
		}
		tr := traceOf(v.TraceID)
		about := make([]evidence.SpanRef, len(v.About))
		for i, id := range v.About {
			about[i].ID = id
		}
		change := Decide(state.Violation{Violation: evidence.Violation{About: about}, Spans: v.Spans, Status: v.Status}, r.Judge(ctx, tr).Outcome, spanIDs(tr))
		if !change.Changed {
			continue
		}
		c := cappedChange{CappedViolation: v.CappedViolation}
		c.Spans, c.Status = change.Violation.Spans, change.Violation.Status
		if change.Correction != nil {
			c.kind = evidence.CappedKind(change.Correction.Kind)
		}
		t.cappedChanges[r] = append(t.cappedChanges[r], c)
	}
	return nil
}

// cappedLists returns the lists of the traces with capped violations that the tick found or corrected, by rule, with their
// contents.
func (t *tick) cappedLists() (lists []evidence.CappedList, contents [][]byte) {
	add := func(r *rules.Rule, kind evidence.CappedKind, ids []trace.ID) {
		if len(ids) == 0 {
			return
		}
		slices.SortFunc(ids, func(a, b trace.ID) int { return bytes.Compare(a[:], b[:]) })
		ids = slices.Compact(ids)
		content := evidence.EncodeTraceIDs(ids)
		lists = append(lists, evidence.CappedList{
			Kind: kind, Pack: r.Pack.Name, Rule: r.ID, Digest: r.Digest, Severity: string(r.Severity), Count: len(ids), Traces: *evidence.NewBlobRef(content),
		})
		contents = append(contents, content)
	}
	for _, r := range t.sortedRules() {
		if of := t.findings.byRule[r]; of != nil {
			slices.SortFunc(of.capped, func(a, b state.CappedViolation) int { return bytes.Compare(a.TraceID[:], b.TraceID[:]) })
			ids := make([]trace.ID, len(of.capped))
			for i := range of.capped {
				ids[i] = of.capped[i].TraceID
			}
			add(r, evidence.CappedFound, ids)
		}
		for _, kind := range []evidence.CappedKind{evidence.CappedWithdrawn, evidence.CappedReinstated} {
			var ids []trace.ID
			for _, c := range t.cappedChanges[r] {
				if c.kind == kind {
					ids = append(ids, c.TraceID)
				}
			}
			add(r, kind, ids)
		}
	}
	return lists, contents
}

// putCapped stores the capped violations that the tick found, and the changes of earlier ones.
func (w *entryWriter) putCapped(ctx context.Context, entry int64) error {
	for _, r := range w.sortedRules() {
		if of := w.findings.byRule[r]; of != nil && len(of.capped) > 0 {
			list := state.CappedList{Tenant: w.tenant, Entry: entry, Ledger: w.ledger.ID, Pack: r.Pack.Name, Rule: r.ID, Digest: r.Digest, Severity: string(r.Severity)}
			if err := w.tx.PutCapped(ctx, &list, of.capped); err != nil {
				return err
			}
		}
		var changed []state.CappedViolation
		for _, c := range w.cappedChanges[r] {
			if c.kind != "" {
				c.Changed = entry
			}
			changed = append(changed, c.CappedViolation)
		}
		if err := w.tx.UpdateCapped(ctx, changed); err != nil {
			return err
		}
	}
	return nil
}
