package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/betracehq/betrace/scheduler/state"
)

// Replicas share a PostgreSQL database. Each says every beatEvery that it lives. The work on a tenant, and that on the
// deliveries, belong to one of them at a time, which has a claim. A replica keeps its claims, so that a tick with nothing new
// writes no more than without replicas. It loses them if it was not seen for claimTTL: by the next replica that finds the
// work due. A tick that is late, because its replica has too much to do, is taken by another one unless it is under way.
// Every transaction about the work fails if the claim was lost.
const (
	beatEvery = 2 * time.Second
	claimTTL  = 8 * time.Second
	// lateAfter is the time after which another replica may take a tick that has not begun.
	lateAfter = 3 * time.Second
	// deliveriesWork is the work of the outbox.
	deliveriesWork = "deliveries"
)

// tenantWork is the work on a tenant.
func tenantWork(tenant string) string { return "tenant " + tenant }

// claims are those of this replica. A nil pointer is a service that is alone, and has all work.
type claims struct {
	state   *state.DB
	replica string
	log     *slog.Logger

	mu   sync.Mutex
	held map[string]state.Claim
	seen time.Time // the last sign of life that the database has
}

func newClaims(db *state.DB, log *slog.Logger) *claims {
	if !db.Shared() {
		return nil
	}
	return &claims{state: db, replica: randomHex(8), log: log, held: map[string]state.Claim{}}
}

// run says that the replica lives, until the context ends.
func (c *claims) run(ctx context.Context) error {
	for {
		if err := c.beat(ctx); err != nil && ctx.Err() == nil {
			c.log.ErrorContext(ctx, "the state does not hear from this replica; others will take over its work", "replica", c.replica, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(beatEvery):
		}
	}
}

func (c *claims) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, claimTTL)
	defer cancel()
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	began := time.Now()
	if err := c.state.Beat(ctx, c.replica, fmt.Sprintf("pid %d on %s", os.Getpid(), host)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = began
	return nil
}

// leave gives up all claims.
func (c *claims) leave(ctx context.Context) {
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTTL)
	defer cancel()
	if err := c.state.Leave(ctx, c.replica); err != nil {
		c.log.WarnContext(ctx, "others take over the work of this replica later", "replica", c.replica, "error", err)
	}
}

// isLive reports whether the database has heard from the replica lately. Otherwise, its claims may be lost.
func (c *claims) isLive() bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.seen) < claimTTL
}

// take reports whether the replica has a piece of work, which it takes if no living replica has it. With late, it is also
// taken from one that has not begun it.
func (c *claims) take(ctx context.Context, work string, late bool) (bool, error) {
	if c == nil {
		return true, nil
	}
	if !c.isLive() {
		if err := c.beat(ctx); err != nil {
			return false, err
		}
	}
	if _, held := c.get(work); held {
		return true, nil
	}
	known, err := c.state.Claim(ctx, work, claimTTL)
	if err != nil {
		return false, err
	}
	if known.Live && known.Replica != c.replica && (known.Busy || !late) {
		return false, nil
	}
	claim, err := c.state.TakeClaim(ctx, work, c.replica, claimTTL, late)
	if errors.Is(err, state.ErrClaimLost) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if known.Token != 0 {
		c.log.InfoContext(ctx, "work taken over", "work", work, "from", known.Replica, "replica_live", known.Live)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[work] = claim
	return true, nil
}

func (c *claims) get(work string) (state.Claim, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	claim, held := c.held[work]
	return claim, held
}

// keep fails with [state.ErrClaimLost] if another replica has taken the work. Nobody takes it before the transaction ends.
func (c *claims) keep(ctx context.Context, tx *state.Tx, work string, busy bool) error {
	if c == nil {
		return nil
	}
	claim, held := c.get(work)
	if !held {
		return state.ErrClaimLost
	}
	claim.Busy = busy
	err := tx.KeepClaim(ctx, claim)
	if errors.Is(err, state.ErrClaimLost) {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.held, work)
	}
	return err
}

// begin marks the work as under way.
func (c *claims) begin(ctx context.Context, work string) error {
	if c == nil {
		return nil
	}
	return c.state.Write(ctx, func(ctx context.Context, tx *state.Tx) error { return c.keep(ctx, tx, work, true) })
}
