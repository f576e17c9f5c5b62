package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrClaimLost is the error of a replica whose claim another one has taken.
var ErrClaimLost = errors.New("another replica has taken over this work")

// Claim is the right of a replica to do a piece of work. Replicas are processes that share the database.
type Claim struct {
	Work, Replica string
	// Token is another number each time that another replica takes the work.
	Token int64
	// Busy reports that the work is under way: it is not taken from a living replica.
	Busy bool
	// Live reports that the replica was seen lately.
	Live bool
}

// Beat says that a replica lives. In a shared database it waits for no transaction. Times are those of the database, because
// the clocks of replicas may differ.
func (db *DB) Beat(ctx context.Context, replica, name string) error {
	pool := db.beat
	if pool == nil {
		pool = db.write
	}
	now := db.database.clock()
	_, err := pool.ExecContext(ctx, `INSERT INTO replicas (id, name, seen) VALUES ($1, $2, `+now+`)
		ON CONFLICT (id) DO UPDATE SET seen = excluded.seen`, replica, name)
	if err != nil {
		return fmt.Errorf("state: replica %s: %w", replica, db.withRemedy(err))
	}
	return nil
}

// Replicas returns the names of the replicas that have not left, by ID.
func (r *Reader) Replicas(ctx context.Context) (map[string]string, error) {
	names, err := queryMap(ctx, r.q, `SELECT id, name FROM replicas`)
	if err != nil {
		return nil, fmt.Errorf("state: replicas: %w", err)
	}
	return names, nil
}

// Claim returns the claim on a piece of work, which is empty if no replica ever took it. A replica is live if it was seen
// within ttl.
func (db *DB) Claim(ctx context.Context, work string, ttl time.Duration) (Claim, error) {
	return db.claim(ctx, db.q, work, ttl)
}

func (db *DB) claim(ctx context.Context, q querier, work string, ttl time.Duration) (Claim, error) {
	c := Claim{Work: work}
	err := q.QueryRowContext(ctx, `SELECT c.replica, c.token, c.busy, coalesce(r.seen > `+db.database.clock()+` - $2, FALSE)
		FROM claims c LEFT JOIN replicas r ON r.id = c.replica WHERE c.work = $1`, work, ttl.Nanoseconds()).Scan(&c.Replica, &c.Token, &c.Busy, &c.Live)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Claim{}, fmt.Errorf("state: claim of %s: %w", work, err)
	}
	return c, nil
}

// TakeClaim gives a piece of work to a replica, unless a living replica has it. With idle, the work is also taken from a
// living replica that is not busy with it. TakeClaim returns [ErrClaimLost] if another replica keeps the work.
func (db *DB) TakeClaim(ctx context.Context, work, replica string, ttl time.Duration, idle bool) (Claim, error) {
	mine := Claim{Work: work, Replica: replica, Live: true}
	err := db.Write(ctx, func(ctx context.Context, tx *Tx) error {
		c, err := db.claim(ctx, tx.q, work, ttl)
		switch {
		case err != nil:
			return err
		case c.Replica == replica:
			mine = c
			return nil
		case c.Live && (c.Busy || !idle):
			return ErrClaimLost
		}
		mine.Token = c.Token + 1
		_, err = tx.tx.ExecContext(ctx, `INSERT INTO claims (work, replica, token, busy) VALUES ($1, $2, $3, FALSE)
			ON CONFLICT (work) DO UPDATE SET replica = excluded.replica, token = excluded.token, busy = FALSE`, work, replica, mine.Token)
		if err != nil {
			return fmt.Errorf("state: take %s: %w", work, err)
		}
		return nil
	})
	return mine, err
}

// KeepClaim returns [ErrClaimLost] if another replica has taken the work. Otherwise, nobody takes it before the
// transaction ends. Whether the work is busy becomes as in c.
func (tx *Tx) KeepClaim(ctx context.Context, c Claim) error {
	var busy bool
	err := tx.q.QueryRowContext(ctx, `SELECT busy FROM claims WHERE work = $1 AND replica = $2 AND token = $3`, c.Work, c.Replica, c.Token).Scan(&busy)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrClaimLost
	case err == nil && busy != c.Busy:
		_, err = tx.tx.ExecContext(ctx, `UPDATE claims SET busy = $2 WHERE work = $1`, c.Work, c.Busy)
	}
	if err != nil {
		return fmt.Errorf("state: claim of %s: %w", c.Work, err)
	}
	return nil
}

// Leave ends a replica, so that others take its work at once. It also forgets replicas that were not seen for a day.
func (db *DB) Leave(ctx context.Context, replica string) error {
	err := db.Write(ctx, func(ctx context.Context, tx *Tx) error {
		_, err := tx.tx.ExecContext(ctx, `DELETE FROM replicas WHERE id = $1 OR seen < `+db.database.clock()+` - $2`, replica, (24 * time.Hour).Nanoseconds())
		return err
	})
	if err != nil {
		return fmt.Errorf("state: end of replica %s: %w", replica, err)
	}
	return nil
}
