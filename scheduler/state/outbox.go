package state

import (
	"context"
	"fmt"
	"time"
)

const (
	deliveryColumns = "items, state, tries, next_at, sent_at, refile_at, created, error"
	refusedColumns  = "entry, reason, at"
)

var (
	upsertDelivery = upsertSQL("deliveries", "tenant, entry, sink", deliveryColumns)
	upsertRefused  = upsertSQL("refused", "tenant, sink, kind, id", refusedColumns)
)

func scanDelivery(row scanner, d *Delivery) error {
	return row.Scan(&d.Tenant, &d.Entry, &d.Sink, &d.Items, &d.State, &d.Tries, at(&d.NextAt), at(&d.SentAt), at(&d.RefileAt), at(&d.Created), &d.Error)
}

// PutDeliveries adds or updates deliveries. A delivery is identified by tenant, entry and sink.
func (tx *Tx) PutDeliveries(ctx context.Context, deliveries []Delivery) error {
	err := execAll(ctx, tx.tx, upsertDelivery, deliveries, func(d *Delivery) ([]any, error) {
		return []any{d.Tenant, d.Entry, d.Sink, d.Items, d.State, d.Tries, nanos(d.NextAt), nanos(d.SentAt), nanos(d.RefileAt), nanos(d.Created), d.Error}, nil
	})
	if err != nil {
		return fmt.Errorf("state: put deliveries: %w", err)
	}
	return nil
}

// DueDeliveries returns at most limit deliveries whose next attempt is due at the given time, the longest due first.
func (r *Reader) DueDeliveries(ctx context.Context, now time.Time, limit int) ([]Delivery, error) {
	due, err := queryAll(ctx, r.q, scanDelivery,
		`SELECT tenant, entry, sink, `+deliveryColumns+` FROM deliveries WHERE next_at <= $1 ORDER BY next_at, tenant, entry, sink LIMIT $2`, nanos(now), limit)
	if err != nil {
		return nil, fmt.Errorf("state: due deliveries: %w", err)
	}
	return due, nil
}

// DeleteDelivery deletes a delivery, because the sink has all its items.
func (tx *Tx) DeleteDelivery(ctx context.Context, tenant string, entry int64, sink string) error {
	if _, err := tx.tx.ExecContext(ctx, `DELETE FROM deliveries WHERE tenant = $1 AND entry = $2 AND sink = $3`, tenant, entry, sink); err != nil {
		return fmt.Errorf("state: delete delivery of entry %d of tenant %q to %s: %w", entry, tenant, sink, err)
	}
	return nil
}

// Outbox returns the backlog of each sink that has one, by name.
func (r *Reader) Outbox(ctx context.Context) (map[string]OutboxDepth, error) {
	type sinkDepth struct {
		sink string
		OutboxDepth
	}
	depths, err := queryAll(ctx, r.q, func(row scanner, d *sinkDepth) error {
		return row.Scan(&d.sink, &d.Deliveries, &d.Items, at(&d.Oldest))
	}, `SELECT sink, count(*), sum(items), min(created) FROM deliveries GROUP BY sink`)
	if err != nil {
		return nil, fmt.Errorf("state: outbox: %w", err)
	}
	bySink := map[string]OutboxDepth{}
	for _, d := range depths {
		bySink[d.sink] = d.OutboxDepth
	}
	return bySink, nil
}

// PutRefused adds or updates items that a sink refuses for good. An item is identified by tenant, sink, kind and ID.
func (tx *Tx) PutRefused(ctx context.Context, items []Refused) error {
	err := execAll(ctx, tx.tx, upsertRefused, items, func(r *Refused) ([]any, error) {
		return []any{r.Tenant, r.Sink, r.Kind, r.ID, r.Entry, r.Reason, nanos(r.At)}, nil
	})
	if err != nil {
		return fmt.Errorf("state: put refused items: %w", err)
	}
	return nil
}

// RefusedItems returns the items that sinks refuse for good, the first one first.
func (r *Reader) RefusedItems(ctx context.Context) ([]Refused, error) {
	items, err := queryAll(ctx, r.q, func(row scanner, r *Refused) error {
		return row.Scan(&r.Tenant, &r.Sink, &r.Kind, &r.ID, &r.Entry, &r.Reason, at(&r.At))
	}, `SELECT tenant, sink, kind, id, `+refusedColumns+` FROM refused ORDER BY at, tenant, sink, kind, id`)
	if err != nil {
		return nil, fmt.Errorf("state: refused items: %w", err)
	}
	return items, nil
}
