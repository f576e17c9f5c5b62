package state

import (
	"context"
	"fmt"
	"time"
)

// Kinds of canaries.
const (
	// KindCanary is a harmless trace that must be found again.
	KindCanary = "canary"
	// KindSeeded is a trace that must be found in violation of a rule that is part of BeTrace.
	KindSeeded = "seeded_violation"
)

// Canary is a trace that a sweep wrote to Tempo to find it again.
type Canary struct {
	ID     string
	Ledger int64
	// Kind is [KindCanary] or [KindSeeded].
	Kind string
	// Sent is the start of the trace. Found and Missed are the times at which it was found, and at which it was clear
	// that it should have been found before. They are zero if that has not happened; a late one has both.
	Sent, Found, Missed time.Time
}

const canaryColumns = "ledger, kind, sent, found, missed"

var upsertCanary = upsertSQL("canaries", "id", canaryColumns)

// PutCanaries adds canaries, or replaces those with the same IDs.
func (tx *Tx) PutCanaries(ctx context.Context, canaries []Canary) error {
	var last string
	err := execAll(ctx, tx.tx, upsertCanary, canaries, func(c *Canary) ([]any, error) {
		last = c.ID
		return []any{c.ID, c.Ledger, c.Kind, nanos(c.Sent), nanos(c.Found), nanos(c.Missed)}, nil
	})
	if err != nil {
		return fmt.Errorf("state: put canary %s: %w", last, err)
	}
	return nil
}

// Canaries returns the canaries of a ledger that were sent at a time or later, the last one first.
func (r *Reader) Canaries(ctx context.Context, ledger int64, since time.Time) ([]Canary, error) {
	canaries, err := queryAll(ctx, r.q, func(row scanner, c *Canary) error {
		return row.Scan(&c.ID, &c.Ledger, &c.Kind, at(&c.Sent), at(&c.Found), at(&c.Missed))
	}, `SELECT id, `+canaryColumns+` FROM canaries WHERE ledger = $1 AND sent >= $2 ORDER BY sent DESC, id`, ledger, nanos(since))
	if err != nil {
		return nil, fmt.Errorf("state: canaries of ledger %d: %w", ledger, err)
	}
	return canaries, nil
}

// DeleteCanaries deletes the canaries of a ledger that were sent before a time.
func (tx *Tx) DeleteCanaries(ctx context.Context, ledger int64, before time.Time) error {
	if _, err := tx.tx.ExecContext(ctx, `DELETE FROM canaries WHERE ledger = $1 AND sent < $2`, ledger, nanos(before)); err != nil {
		return fmt.Errorf("state: delete canaries of ledger %d: %w", ledger, err)
	}
	return nil
}
