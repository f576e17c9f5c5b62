package state

import (
	"context"
	"fmt"
)

const (
	ruleColumns = "title, severity, since_entry, ended"
	holeColumns = "pack, rule, digest, from_time, to_time, reason, subject, entry, closed_entry"
)

var (
	upsertRule = upsertSQL("loaded_rules", "ledger, pack, rule, digest, begins", ruleColumns)
	insertHole = insertSQL("holes", "ledger, "+holeColumns) + " RETURNING id"
	upsertHole = upsertSQL("holes", "id", "ledger, "+holeColumns)
)

// LoadedRules returns the rules of a ledger, also those that ended.
func (r *Reader) LoadedRules(ctx context.Context, ledger int64) ([]LoadedRule, error) {
	rules, err := queryAll(ctx, r.q, func(row scanner, l *LoadedRule) error {
		return row.Scan(&l.Ledger, &l.Pack, &l.Rule, &l.Digest, at(&l.Begins), &l.Title, &l.Severity, &l.SinceEntry, at(&l.Ended))
	}, `SELECT ledger, pack, rule, digest, begins, `+ruleColumns+` FROM loaded_rules WHERE ledger = $1 ORDER BY pack, rule, begins, digest`, ledger)
	if err != nil {
		return nil, fmt.Errorf("state: rules of ledger %d: %w", ledger, err)
	}
	return rules, nil
}

// PutLoadedRules adds or updates rules. A row is identified by ledger, pack, rule, digest and Begins.
func (tx *Tx) PutLoadedRules(ctx context.Context, rules []LoadedRule) error {
	err := execAll(ctx, tx.tx, upsertRule, rules, func(l *LoadedRule) ([]any, error) {
		return []any{l.Ledger, l.Pack, l.Rule, l.Digest, nanos(l.Begins), l.Title, l.Severity, l.SinceEntry, nanos(l.Ended)}, nil
	})
	if err != nil {
		return fmt.Errorf("state: put rules: %w", err)
	}
	return nil
}

// Holes returns the holes of a ledger, also those that were closed, by their beginning.
func (r *Reader) Holes(ctx context.Context, ledger int64) ([]Hole, error) {
	holes, err := queryAll(ctx, r.q, func(row scanner, h *Hole) error {
		return row.Scan(&h.ID, &h.Ledger, &h.Pack, &h.Rule, &h.Digest, at(&h.From), at(&h.To), &h.Reason, &h.Subject, &h.Entry, &h.ClosedEntry)
	}, `SELECT id, ledger, `+holeColumns+` FROM holes WHERE ledger = $1 ORDER BY from_time, id`, ledger)
	if err != nil {
		return nil, fmt.Errorf("state: holes of ledger %d: %w", ledger, err)
	}
	return holes, nil
}

// PutHoles adds the holes without ID, and sets their IDs. It updates the others.
func (tx *Tx) PutHoles(ctx context.Context, holes []Hole) error {
	for i := range holes {
		h := &holes[i]
		values := []any{h.Ledger, h.Pack, h.Rule, h.Digest, nanos(h.From), nanos(h.To), h.Reason, h.Subject, h.Entry, h.ClosedEntry}
		var err error
		if h.ID == 0 {
			err = tx.tx.QueryRowContext(ctx, insertHole, values...).Scan(&h.ID)
		} else {
			_, err = tx.tx.ExecContext(ctx, upsertHole, append([]any{h.ID}, values...)...)
		}
		if err != nil {
			return fmt.Errorf("state: put hole of ledger %d: %w", h.Ledger, err)
		}
	}
	return nil
}
