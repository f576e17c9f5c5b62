package scheduler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/analyzer"
	"github.com/betracehq/betrace/analyzer/engine"
	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/traceql"
)

// A sweep can write traces that it must find again: canaries, which prove that it reads what Tempo receives, and seeded
// violations, which prove that it also judges it. One that is not found before the watermark passes it is a hole.

// seededPack is the pack with the rule of seeded violations. It judges only these.
var seededPack = `apiVersion: betrace.dev/v1
kind: RulePack
metadata: {name: betrace, version: 1.0.0}
rules:
  - id: seeded-violation
    title: A seeded violation is found
    severity: info
    never: ['spans.exists(s, s.name == "` + evidence.SeededSpanName + `")']
`

// canaryFilter matches the spans of canaries and seeded violations, so that the prefilter of the rules does not leave
// them out.
const canaryFilter = `{ span.` + evidence.AttrCanaryID + ` != nil || span.` + evidence.AttrSeededID + ` != nil }`

const (
	// canaryMemory is the time for which canaries are remembered, and a missed one is still looked for.
	canaryMemory = 30 * 24 * time.Hour
	// canaryTimeout bounds the sending of one.
	canaryTimeout = 10 * time.Second
)

// SendFunc writes spans to the Tempo of a tenant.
type SendFunc func(ctx context.Context, tenant string, spans ptrace.Traces) error

// probes finds canaries and seeded violations in the batches of a tick. It is nil if the pass has none.
type probes struct {
	rule   *rules.Rule
	filter *traceql.Filter
	judge  *engine.Judge
	found  map[string]bool // by ID, since the tick began to read
}

// newProbes returns nil if the pass writes neither canaries nor seeded violations.
func newProbes(p *pass, opts rules.Options) (*probes, error) {
	if p.sweeps[0].Canary == 0 && p.sweeps[0].Seeded == 0 {
		return nil, nil
	}
	pack, err := rules.Parse("betrace.yaml", []byte(seededPack), opts)
	if err != nil {
		return nil, fmt.Errorf("rule of seeded violations: %w", err)
	}
	filter, err := traceql.Parse(canaryFilter)
	if err != nil {
		return nil, fmt.Errorf("filter of canaries: %w", err)
	}
	return &probes{rule: pack.Rules[0], filter: filter, judge: engine.Compile(pack.Rules).NewJudge(), found: map[string]bool{}}, nil
}

// reads returns what a scan by the rules reads to judge them and to find the probes.
func (p *probes) reads(rs []*rules.Rule) (columnar.Needs, *traceql.Filter) {
	needs, filter := analyzer.Needs(rs, nil), analyzer.Prefilter(rs)
	if p != nil {
		needs = needs.Union(p.rule.Needs())
		filter = traceql.Or(filter, p.filter)
	}
	return needs, filter
}

// own receives the traces of a batch that BeTrace wrote.
func (p *probes) own(ctx context.Context, b *columnar.Batch, own columnar.Bits) error {
	canaries, seeded := b.Attribute(evidence.AttrCanaryID), b.Attribute(evidence.AttrSeededID)
	isSeeded := make(columnar.Bits, columnar.NumWords(b.NumTraces()))
	for t := own.Next(0); t >= 0; t = own.Next(t + 1) {
		first := b.First[t]
		if canaries != nil {
			if id := canaries.Value(first).Str(); id != "" {
				p.found[id] = true
			}
		}
		if seeded != nil && seeded.Value(first).Str() != "" {
			isSeeded.Set(t)
		}
	}
	if isSeeded.Next(0) < 0 {
		return nil
	}
	_, err := p.judge.Each(ctx, b, isSeeded, func(found []engine.Found) error {
		for _, f := range found {
			if f.Verdict.Outcome == rules.Violation {
				p.found[seededID(f.View)] = true
			}
		}
		return nil
	})
	return err
}

func seededID(t *trace.Trace) string {
	for i := range t.Spans {
		if id := t.Spans[i].Attributes.Get(evidence.AttrSeededID).Str(); id != "" {
			return id
		}
	}
	return ""
}

// canaries records which of the ledger's canaries the tick found, and which of them it should have found before.
func (w *entryWriter) canaries(ctx context.Context) error {
	if w.probes == nil {
		return nil
	}
	all, err := w.tx.Canaries(ctx, w.ledger.ID, w.at.Add(-canaryMemory))
	if err != nil {
		return err
	}
	for _, c := range all {
		outcome := ""
		switch {
		case !c.Found.IsZero():
			continue
		case w.judged && w.probes.found[c.ID]:
			if outcome = evidence.CanaryFound; !c.Missed.IsZero() {
				outcome = evidence.CanaryLate
				if err := w.closeHole(ctx, &c); err != nil {
					return err
				}
			}
			c.Found = w.at
		case c.Missed.IsZero() && c.Sent.Before(w.ledger.Watermark):
			outcome, c.Missed = evidence.CanaryMissed, w.at
			w.holes = append(w.holes, state.Hole{From: c.Sent, To: c.Sent.Add(1), Reason: HoleCanary, Subject: canarySubject(&c)})
		default:
			continue
		}
		w.probed = append(w.probed, evidence.CanaryResult{ID: c.ID, Kind: c.Kind, Sent: c.Sent, Outcome: outcome})
		if err := w.tx.PutCanaries(ctx, []state.Canary{c}); err != nil {
			return err
		}
	}
	return w.tx.DeleteCanaries(ctx, w.ledger.ID, w.at.Add(-canaryMemory))
}

// closeHole closes the hole of a missed canary.
func (w *entryWriter) closeHole(ctx context.Context, c *state.Canary) error {
	holes, err := w.tx.Holes(ctx, w.ledger.ID)
	if err != nil {
		return err
	}
	holes = slices.DeleteFunc(holes, func(h state.Hole) bool {
		return h.ClosedEntry != 0 || h.Reason != HoleCanary || h.Subject != canarySubject(c)
	})
	for i := range holes {
		holes[i].ClosedEntry = w.last.Number + 1
	}
	return w.tx.PutHoles(ctx, holes)
}

// canarySubject names a canary in a hole.
func canarySubject(c *state.Canary) string {
	name, traceID := "canary ", trace.ID{}
	if traceID, _ = evidence.CanarySpanIDs(c.ID); c.Kind == state.KindSeeded {
		name = "seeded violation "
		traceID, _ = evidence.SeededSpanIDs(c.ID)
	}
	return name + c.ID + ": trace " + traceID.String()
}

// sendCanaries writes the canary and the seeded violation of a pass that are due. A failure is logged and repeated with
// the next tick: only what was sent can be missed.
func (s *Service) sendCanaries(ctx context.Context, t *tick) error {
	sweep := t.pass.sweeps[0]
	if s.send == nil || t.probes == nil {
		return nil
	}
	sent, err := s.state.Canaries(ctx, t.ledger.ID, s.now().Add(-canaryMemory))
	if err != nil {
		return err
	}
	for _, probe := range []struct {
		kind  string
		every time.Duration
		span  func(id, engine string, at time.Time) ptrace.Traces
	}{{state.KindCanary, sweep.Canary, evidence.CanarySpan}, {state.KindSeeded, sweep.Seeded, evidence.SeededSpan}} {
		now := s.now().UTC()
		i := slices.IndexFunc(sent, func(c state.Canary) bool { return c.Kind == probe.kind })
		if probe.every == 0 || i >= 0 && now.Sub(sent[i].Sent) < probe.every {
			continue
		}
		c := state.Canary{ID: randomHex(16), Ledger: t.ledger.ID, Kind: probe.kind, Sent: now}
		if err := s.sendCanary(ctx, t.tenant, probe.span(c.ID, s.engine, now)); err != nil {
			s.metrics.canaries.WithLabelValues(append(t.labels(), probe.kind, "failed")...).Inc()
			s.log.WarnContext(ctx, "canary cannot be sent", "tenant", t.pass.tenant, "kind", probe.kind, "error", err)
			continue
		}
		if err := s.state.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
			if err := s.claims.keep(ctx, tx, tenantWork(t.pass.tenant), false); err != nil {
				return err
			}
			return tx.PutCanaries(ctx, []state.Canary{c})
		}); err != nil {
			return err
		}
		s.metrics.canaries.WithLabelValues(append(t.labels(), probe.kind, "sent")...).Inc()
	}
	return nil
}

func (s *Service) sendCanary(ctx context.Context, tenant string, spans ptrace.Traces) error {
	ctx, cancel := context.WithTimeout(ctx, canaryTimeout)
	defer cancel()
	return s.send(ctx, tenant, spans)
}

// reportCanaries sets the metrics about the canaries that a tick looked for.
func (t *tick) reportCanaries(ctx context.Context) {
	for _, c := range t.probed {
		labels := append(t.labels(), c.Kind)
		t.metrics.canaries.WithLabelValues(append(labels, c.Outcome)...).Inc()
		if c.Outcome == evidence.CanaryMissed {
			t.log.ErrorContext(ctx, "canary missed: Tempo received a trace, and the sweep did not find it", "sweep", t.labels()[0], "tenant", t.pass.tenant, "kind", c.Kind, "id", c.ID, "sent", c.Sent)
			continue
		}
		t.metrics.canaryDelay.WithLabelValues(labels...).Set(t.now().Sub(c.Sent).Seconds())
	}
}
