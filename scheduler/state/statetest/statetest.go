// Package statetest fills databases of the service for tests and measurements.
package statetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/trace"
)

// Epoch is the time of the first generated trace and entry.
var Epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// Work is the content of one entry.
type Work struct {
	Tenant string
	// Kind is [evidence.EntryTick] if it is empty and there is no event.
	Kind evidence.EntryKind
	Time time.Time
	// Event makes the entry an event, which has nothing else.
	Event *evidence.Event
	// Results are completed by the lines of the violations and corrections.
	Results     evidence.Results
	Violations  []state.Violation
	Corrections []state.Correction
	// Capped are lists of capped violations. Those of another kind than violation correct earlier ones.
	Capped []Capped
	// Sinks receive a delivery each.
	Sinks []string
}

// Capped is a list of capped violations with the kind of the list.
type Capped struct {
	Kind       evidence.CappedKind
	List       state.CappedList
	Violations []state.CappedViolation
}

// Key returns a new key and stores it as the one that signs.
func Key(ctx context.Context, db *state.DB) (*evidence.Key, error) {
	key, err := evidence.NewKey()
	if err != nil {
		return nil, err
	}
	return key, db.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutKey(ctx, state.Key{ID: key.ID(), PEM: key.Public().PEM(), Added: Epoch})
	})
}

// Append appends the next entry of a tenant, as the service does. It sets the tenant, entry number, ordinal and line of
// the violations and corrections, and the status and sequence of the corrected violations in the database.
func Append(ctx context.Context, tx *state.Tx, key *evidence.Key, w *Work) (state.Entry, error) {
	last, _, err := tx.LastEntry(ctx, w.Tenant)
	if err != nil {
		return state.Entry{}, err
	}
	s := evidence.Statement{Kind: w.Kind, Tenant: w.Tenant, Number: last.Number + 1, Time: w.Time, Previous: last.Digest, Engine: "test", Event: w.Event}
	if w.Event != nil {
		s.Kind = evidence.EntryEvent
	} else if s.Kind == "" {
		s.Kind = evidence.EntryTick
	}
	if w.Event == nil {
		if err := appendResults(ctx, tx, &s, w); err != nil {
			return state.Entry{}, err
		}
	}
	e := state.Entry{Tenant: w.Tenant, Number: s.Number, Kind: string(s.Kind), Time: s.Time, Previous: s.Previous}
	if e.Envelope, e.Digest, err = s.Sign(key); err != nil {
		return state.Entry{}, err
	}
	var deliveries []state.Delivery
	for _, sink := range w.Sinks {
		deliveries = append(deliveries, state.Delivery{Tenant: w.Tenant, Entry: e.Number, Sink: sink, Items: len(w.Violations) + len(w.Corrections),
			State: state.DeliveryNew, NextAt: w.Time, Created: w.Time})
	}
	if err := tx.PutDeliveries(ctx, deliveries); err != nil {
		return state.Entry{}, err
	}
	return e, tx.AppendEntry(ctx, e)
}

func appendResults(ctx context.Context, tx *state.Tx, s *evidence.Statement, w *Work) (err error) {
	results := w.Results
	var violations, corrections evidence.SetHash
	for i := range w.Violations {
		v := &w.Violations[i]
		v.Tenant, v.EntryNumber, v.Ordinal = w.Tenant, s.Number, i
		v.ID = evidence.ViolationID(v.Tenant, v.Pack, v.RuleID, v.RuleDigest, v.TraceID)
		if v.Line, err = v.Record(); err != nil {
			return err
		}
		violations.Add(v.Line)
		results.Violations = append(results.Violations, evidence.NewLineRef(v.ID, v.Line))
	}
	corrected := make([]state.Violation, len(w.Corrections))
	for i := range w.Corrections {
		c := &w.Corrections[i]
		c.Tenant, c.EntryNumber, c.Ordinal = w.Tenant, s.Number, i
		c.ID = evidence.CorrectionID(c.Tenant, c.ViolationID, c.Sequence)
		if c.Line, err = c.Record(); err != nil {
			return err
		}
		corrections.Add(c.Line)
		results.Corrections = append(results.Corrections, evidence.NewLineRef(c.ID, c.Line))
		corrected[i] = state.Violation{Violation: evidence.Violation{ID: c.ViolationID}, Spans: c.SpansAfter, Status: state.StatusOpen, Sequence: c.Sequence}
		if c.Kind == evidence.Withdrawn {
			corrected[i].Status = state.StatusWithdrawn
		}
	}
	for i := range w.Capped {
		ref, err := putCapped(ctx, tx, &w.Capped[i], w.Tenant, s.Number)
		if err != nil {
			return err
		}
		results.Capped = append(results.Capped, ref)
	}
	s.Capped = evidence.NewCappedRef(results.Capped)
	content, err := results.Encode()
	if err != nil {
		return err
	}
	if _, err := tx.PutBlob(ctx, content); err != nil {
		return err
	}
	s.Results, s.Violations, s.Corrections = evidence.NewBlobRef(content), violations.Ref(), corrections.Ref()
	if err := tx.PutViolations(ctx, w.Violations); err != nil {
		return err
	}
	if err := tx.PutCorrections(ctx, w.Corrections); err != nil {
		return err
	}
	return tx.UpdateViolations(ctx, corrected)
}

// putCapped stores a list of capped violations, which are in the order of their traces.
func putCapped(ctx context.Context, tx *state.Tx, c *Capped, tenant string, entry int64) (evidence.CappedList, error) {
	var ids []trace.ID
	for i := range c.Violations {
		ids = append(ids, c.Violations[i].TraceID)
	}
	content := evidence.EncodeTraceIDs(ids)
	if _, err := tx.PutBlob(ctx, content); err != nil {
		return evidence.CappedList{}, err
	}
	ref := evidence.CappedList{
		Kind: c.Kind, Pack: c.List.Pack, Rule: c.List.Rule, Digest: c.List.Digest, Severity: c.List.Severity, Count: len(ids), Traces: *evidence.NewBlobRef(content),
	}
	if c.Kind == evidence.CappedFound {
		c.List.Tenant, c.List.Entry = tenant, entry
		return ref, tx.PutCapped(ctx, &c.List, c.Violations)
	}
	for i := range c.Violations {
		c.Violations[i].Changed = entry
	}
	return ref, tx.UpdateCapped(ctx, c.Violations)
}

// TraceID returns the ID of generated trace i.
func TraceID(i int) trace.ID {
	var id trace.ID
	// Multiplication by an odd number mixes the order, as random IDs would be.
	binary.BigEndian.PutUint64(id[:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(id[8:], uint64(i)+1)
	return id
}

var services = []string{"checkout", "payments", "inventory", "shipping", "gateway", "users", "search", "mail"}

// Violation returns generated violation i: of trace i, which starts i seconds after [Epoch].
func Violation(i int) state.Violation {
	start := Epoch.Add(time.Duration(i) * time.Second)
	service, caller := services[i%len(services)], services[(i/7)%len(services)]
	v := evidence.Violation{
		Pack: "payments", PackVersion: "1.2.0", RuleID: fmt.Sprintf("rule-%02d", i%20), RuleDigest: "3b0c5f7a91d24e68", Title: "Card numbers stay in the vault",
		Severity: []string{"low", "medium", "high"}[i%3], Controls: []string{"pci:3.4", "soc2:CC6.1"}, Clause: "never[0]",
		Message: fmt.Sprintf("the attribute card.number of span %q of order %d is not masked", "POST /charge", i),
		TraceID: TraceID(i), TraceStart: trace.TimeOf(start), RootService: caller, Services: []string{caller, service},
		Root:  evidence.SpanRef{ID: trace.SpanID{1, 2, 3, byte(i)}, Name: "POST /checkout", Service: caller},
		About: []evidence.SpanRef{{ID: trace.SpanID{4, 5, 6, byte(i)}, Name: "POST /charge", Service: service}},
		Circumstances: evidence.Circumstances{Origin: evidence.OriginSweep, Sweep: "all", WindowStart: start.Truncate(time.Minute),
			WindowEnd: start.Truncate(time.Minute).Add(5 * time.Minute), Provisional: true, Engine: "test", FiledAt: start.Add(10 * time.Minute)},
	}
	return state.Violation{Violation: v, Ledger: 1, Spans: 12, Status: state.StatusOpen}
}

// Correction returns the next correction of a violation, which has been judged on one more span.
func Correction(v *state.Violation, kind evidence.CorrectionKind) state.Correction {
	c := evidence.Correction{
		ViolationID: v.ID, Sequence: v.Sequence + 1, Kind: kind, Reason: "1 more span arrived", Outcome: "pass", SpansBefore: v.Spans, SpansAfter: v.Spans + 1,
		Pack: v.Pack, RuleID: v.RuleID, RuleDigest: v.RuleDigest, Severity: v.Severity, TraceID: v.TraceID, Circumstances: v.Circumstances,
	}
	if kind == evidence.Reinstated {
		c.Outcome = "violation"
	}
	return state.Correction{Correction: c}
}

// Fill appends entries with generated violations first to first+n-1 of a tenant, at most 1000 in each. Each entry
// withdraws 1 violation in 100 of the entry before. Several entries are committed together, which is faster in a large
// database.
func Fill(ctx context.Context, db *state.DB, key *evidence.Key, tenant string, first, n int, sinks ...string) error {
	var before []state.Violation
	for done := 0; done < n; {
		err := db.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
			for range 20 {
				if done == n {
					break
				}
				w := &Work{Tenant: tenant, Time: Epoch.Add(time.Duration(first+done) * time.Second), Sinks: sinks}
				for ; len(w.Violations) < 1000 && done < n; done++ {
					w.Violations = append(w.Violations, Violation(first+done))
				}
				for i := 0; i < len(before); i += 100 {
					w.Corrections = append(w.Corrections, Correction(&before[i], evidence.Withdrawn))
				}
				if _, err := Append(ctx, tx, key, w); err != nil {
					return err
				}
				before = w.Violations
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("fill the state: %w", err)
		}
	}
	return nil
}
