package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Mute keeps the violations of a rule out of alerts for a time. They are found, stored and counted as any other.
type Mute struct {
	ID string
	// Tenant is the tenant of the violations, or "*" for all.
	Tenant     string
	Pack, Rule string
	// Service limits the mute to violations in traces with a span of the service. It is empty for all.
	Service string
	// Reason and Actor say why and by whom. They may be erased, so an event has only their digest, with the salt.
	Reason, Actor, Salt string
	// Created is the time from which on, and Until the time until which it is in force, unless it was ended before.
	Created, Until time.Time
	Ended          time.Time
	EndedBy        string
}

// Active reports whether the mute is in force at a time.
func (m *Mute) Active(at time.Time) bool {
	return !at.Before(m.Created) && at.Before(m.Until) && (m.Ended.IsZero() || at.Before(m.Ended))
}

const muteColumns = "id, tenant, pack, rule, service, reason, actor, salt, created, until, ended, ended_by"

var insertMute = insertSQL("mutes", muteColumns)

// PutMute adds a mute.
func (tx *Tx) PutMute(ctx context.Context, m Mute) error {
	_, err := tx.tx.ExecContext(ctx, insertMute, m.ID, m.Tenant, m.Pack, m.Rule, m.Service, m.Reason, m.Actor, m.Salt, nanos(m.Created), nanos(m.Until), nanos(m.Ended), m.EndedBy)
	if err != nil {
		return fmt.Errorf("state: put mute %s: %w", m.ID, err)
	}
	return nil
}

// EndMute ends a mute before its time.
func (tx *Tx) EndMute(ctx context.Context, id string, at time.Time, by string) error {
	if _, err := tx.tx.ExecContext(ctx, `UPDATE mutes SET ended = $1, ended_by = $2 WHERE id = $3`, nanos(at), by, id); err != nil {
		return fmt.Errorf("state: end mute %s: %w", id, err)
	}
	return nil
}

// Mutes returns all mutes, the last created first.
func (r *Reader) Mutes(ctx context.Context) ([]Mute, error) {
	mutes, err := queryAll(ctx, r.q, scanMute, `SELECT `+muteColumns+` FROM mutes ORDER BY created DESC, id`)
	if err != nil {
		return nil, fmt.Errorf("state: mutes: %w", err)
	}
	return mutes, nil
}

// Mute returns a mute, and false if there is none.
func (r *Reader) Mute(ctx context.Context, id string) (m Mute, ok bool, err error) {
	err = scanMute(r.q.QueryRowContext(ctx, `SELECT `+muteColumns+` FROM mutes WHERE id = $1`, id), &m)
	if errors.Is(err, sql.ErrNoRows) {
		return Mute{}, false, nil
	}
	if err != nil {
		return Mute{}, false, fmt.Errorf("state: mute %s: %w", id, err)
	}
	return m, true, nil
}

func scanMute(row scanner, m *Mute) error {
	return row.Scan(&m.ID, &m.Tenant, &m.Pack, &m.Rule, &m.Service, &m.Reason, &m.Actor, &m.Salt, at(&m.Created), at(&m.Until), at(&m.Ended), &m.EndedBy)
}
