package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

const (
	ledgerColumns = "tenant, source, schedule, begins, watermark, frontier, listings, listed_at, created"
	blockColumns  = "state, level, start_time, end_time, earliest, latest, traces, bytes, first_listed, written, compacted, compacted_at, failures, reason, entry"
	sweepColumns  = "ledger, last_tick, last_run, last_error, last_error_at, ticks, missed, paused, has_data"
)

var (
	insertLedger = insertSQL("ledgers", ledgerColumns) + " RETURNING id"
	upsertLedger = upsertSQL("ledgers", "id", ledgerColumns)
	upsertBlock  = upsertSQL("blocks", "ledger, id", blockColumns)
	upsertSweep  = upsertSQL("sweeps", "sweep, tenant", sweepColumns)
)

func scanLedger(row scanner, l *Ledger) error {
	return row.Scan(&l.ID, &l.Tenant, &l.Source, &l.Schedule, at(&l.Begins), at(&l.Watermark), at(&l.Frontier), &l.Listings, at(&l.ListedAt), at(&l.Created))
}

func ledgerValues(l *Ledger) []any {
	return []any{l.Tenant, l.Source, l.Schedule, nanos(l.Begins), nanos(l.Watermark), nanos(l.Frontier), l.Listings, nanos(l.ListedAt), nanos(l.Created)}
}

// Ledger returns the ledger with the given ID. It is an error if there is none.
func (r *Reader) Ledger(ctx context.Context, id int64) (Ledger, error) {
	var l Ledger
	err := scanLedger(r.q.QueryRowContext(ctx, `SELECT id, `+ledgerColumns+` FROM ledgers WHERE id = $1`, id), &l)
	if errors.Is(err, sql.ErrNoRows) {
		return Ledger{}, fmt.Errorf("state: ledger %d does not exist", id)
	}
	if err != nil {
		return Ledger{}, fmt.Errorf("state: ledger %d: %w", id, err)
	}
	return l, nil
}

// Ledgers returns all ledgers in the order of their creation.
func (r *Reader) Ledgers(ctx context.Context) ([]Ledger, error) {
	ledgers, err := queryAll(ctx, r.q, scanLedger, `SELECT id, `+ledgerColumns+` FROM ledgers ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("state: ledgers: %w", err)
	}
	return ledgers, nil
}

// CreateLedger stores a ledger and returns its ID. The ID of l is not used.
func (tx *Tx) CreateLedger(ctx context.Context, l Ledger) (int64, error) {
	var id int64
	if err := tx.tx.QueryRowContext(ctx, insertLedger, ledgerValues(&l)...).Scan(&id); err != nil {
		return 0, fmt.Errorf("state: create ledger of tenant %q: %w", l.Tenant, err)
	}
	return id, nil
}

// PutLedger updates the ledger with the ID of l.
func (tx *Tx) PutLedger(ctx context.Context, l Ledger) error {
	if _, err := tx.Ledger(ctx, l.ID); err != nil {
		return err
	}
	if _, err := tx.tx.ExecContext(ctx, upsertLedger, append([]any{l.ID}, ledgerValues(&l)...)...); err != nil {
		return fmt.Errorf("state: put ledger %d: %w", l.ID, err)
	}
	return nil
}

// CopyLedger copies a ledger with its blocks, rules and holes, and returns the ID of the copy. Violations stay with the
// original.
func (tx *Tx) CopyLedger(ctx context.Context, id int64) (int64, error) {
	l, err := tx.Ledger(ctx, id)
	if err != nil {
		return 0, err
	}
	copied, err := tx.CreateLedger(ctx, l)
	if err != nil {
		return 0, err
	}
	const (
		blocks = "id, " + blockColumns
		rules  = "pack, rule, digest, begins, " + ruleColumns
		holes  = holeColumns
	)
	for _, query := range []string{
		`INSERT INTO blocks (ledger, ` + blocks + `) SELECT $1, ` + blocks + ` FROM blocks WHERE ledger = $2`,
		`INSERT INTO loaded_rules (ledger, ` + rules + `) SELECT $1, ` + rules + ` FROM loaded_rules WHERE ledger = $2`,
		`INSERT INTO holes (ledger, ` + holes + `) SELECT $1, ` + holes + ` FROM holes WHERE ledger = $2 ORDER BY id`,
	} {
		if _, err := tx.tx.ExecContext(ctx, query, copied, id); err != nil {
			return 0, fmt.Errorf("state: copy ledger %d: %w", id, err)
		}
	}
	return copied, nil
}

func scanBlock(row scanner, b *Block) error {
	return row.Scan(&b.ID, &b.State, &b.Level, at(&b.Start), at(&b.End), at(&b.Earliest), at(&b.Latest), &b.Traces, &b.Bytes,
		at(&b.FirstListed), at(&b.Written), &b.Compacted, at(&b.CompactedAt), &b.Failures, &b.Reason, &b.Entry)
}

// LedgerBlocks returns the blocks of a ledger by ID.
func (r *Reader) LedgerBlocks(ctx context.Context, ledger int64) (map[string]Block, error) {
	blocks, err := queryAll(ctx, r.q, scanBlock, `SELECT id, `+blockColumns+` FROM blocks WHERE ledger = $1`, ledger)
	if err != nil {
		return nil, fmt.Errorf("state: blocks of ledger %d: %w", ledger, err)
	}
	byID := make(map[string]Block, len(blocks))
	for _, b := range blocks {
		byID[b.ID] = b
	}
	return byID, nil
}

// PutBlocks adds or updates blocks of a ledger.
func (tx *Tx) PutBlocks(ctx context.Context, ledger int64, blocks []Block) error {
	err := execAll(ctx, tx.tx, upsertBlock, blocks, func(b *Block) ([]any, error) {
		return []any{ledger, b.ID, string(b.State), b.Level, nanos(b.Start), nanos(b.End), nanos(b.Earliest), nanos(b.Latest), b.Traces, b.Bytes,
			nanos(b.FirstListed), nanos(b.Written), b.Compacted, nanos(b.CompactedAt), b.Failures, b.Reason, b.Entry}, nil
	})
	if err != nil {
		return fmt.Errorf("state: put blocks of ledger %d: %w", ledger, err)
	}
	return nil
}

// DeleteBlocks deletes blocks of a ledger. IDs that it does not have are ignored.
func (tx *Tx) DeleteBlocks(ctx context.Context, ledger int64, ids []string) error {
	err := execAll(ctx, tx.tx, `DELETE FROM blocks WHERE ledger = $1 AND id = $2`, ids, func(id *string) ([]any, error) {
		return []any{ledger, *id}, nil
	})
	if err != nil {
		return fmt.Errorf("state: delete blocks of ledger %d: %w", ledger, err)
	}
	return nil
}

func scanSweep(row scanner, s *SweepState) error {
	return row.Scan(&s.Sweep, &s.Tenant, &s.Ledger, at(&s.LastTick), at(&s.LastRun), &s.LastError, at(&s.LastErrorAt), &s.Ticks, &s.Missed, &s.Paused, &s.HasData)
}

// Sweep returns the state of a sweep of one tenant, which has only these names before its first tick.
func (r *Reader) Sweep(ctx context.Context, sweep, tenant string) (SweepState, error) {
	s := SweepState{Sweep: sweep, Tenant: tenant}
	err := scanSweep(r.q.QueryRowContext(ctx, `SELECT sweep, tenant, `+sweepColumns+` FROM sweeps WHERE sweep = $1 AND tenant = $2`, sweep, tenant), &s)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return SweepState{}, fmt.Errorf("state: sweep %q of tenant %q: %w", sweep, tenant, err)
	}
	return s, nil
}

// Sweeps returns the states of all sweeps, by name and tenant.
func (r *Reader) Sweeps(ctx context.Context) ([]SweepState, error) {
	sweeps, err := queryAll(ctx, r.q, scanSweep, `SELECT sweep, tenant, `+sweepColumns+` FROM sweeps ORDER BY sweep, tenant`)
	if err != nil {
		return nil, fmt.Errorf("state: sweeps: %w", err)
	}
	return sweeps, nil
}

// PutSweep adds or updates the state of a sweep of one tenant.
func (tx *Tx) PutSweep(ctx context.Context, s SweepState) error {
	_, err := tx.tx.ExecContext(ctx, upsertSweep, s.Sweep, s.Tenant, s.Ledger, nanos(s.LastTick), nanos(s.LastRun), s.LastError, nanos(s.LastErrorAt),
		s.Ticks, s.Missed, s.Paused, s.HasData)
	if err != nil {
		return fmt.Errorf("state: put sweep %q of tenant %q: %w", s.Sweep, s.Tenant, err)
	}
	return nil
}
