package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/scheduler/state"
)

// Times of deliveries.
const (
	// firstCheck is the time after sending at which a sink is first searched.
	firstCheck = 500 * time.Millisecond
	// maxCheck bounds the time between two searches, maxBackoff that between two attempts.
	maxCheck   = 15 * time.Second
	maxBackoff = 5 * time.Minute
	// DefaultResendAfter is the default of [ServiceOptions].ResendAfter.
	DefaultResendAfter = 2 * time.Minute
	// outboxPoll is the time after which the outbox is read again if nothing wakes it.
	outboxPoll = 5 * time.Second
	// outboxBatch is the number of deliveries that are worked on together.
	outboxBatch = 16
)

// outbox sends the items of entries to the sinks, reads them back, and repeats the missing ones.
//
//	         mark            send, mark             read back: all there
//	new ───────────▶ sending ───────────▶ sent ─────────────────────────▶ (deleted)
//	                    ▲ ▲                │
//	   after a crash ───┘ └────────────────┘ not found for ResendAfter
//
// A delivery in the state new was never sent, so its sink is not searched before. One in the state sending may have been
// sent in part, so the sink is searched and only the rest is sent.
type outbox struct {
	tracer      trace.Tracer
	claims      *claims
	state       *state.DB
	sinksOf     func(tenant string) ([]sink.EntrySink, error)
	resendAfter time.Duration
	now         func() time.Time
	log         *slog.Logger
	metrics     *metrics
	health      *stateHealth
	step        func(string)
	wake        chan struct{}
}

// signal makes the outbox look for new deliveries at once.
func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run delivers until the context ends. Failed deliveries are repeated, and after an error of the state all work is.
func (o *outbox) run(ctx context.Context) error {
	failures := 0
	for {
		wait, err := o.turn(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, state.ErrClaimLost) {
			o.log.InfoContext(ctx, "another replica delivers now")
			wait, err = lateAfter, nil
		}
		o.health.report(partOutbox, err)
		failures++
		if err != nil {
			wait = backoff(failures, time.Second, maxStateBackoff)
			o.log.ErrorContext(ctx, "the state fails; deliveries wait", "next_attempt", o.now().Add(wait), "error", err)
		} else {
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-o.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// turn works on the deliveries whose time has come, and returns the time to wait for the next ones. An error is one of the
// state.
func (o *outbox) turn(ctx context.Context) (wait time.Duration, err error) {
	mine, err := o.claims.take(ctx, deliveriesWork, false)
	if err != nil {
		return 0, err
	}
	if !mine {
		return lateAfter, nil
	}
	busy, err := o.deliverDue(ctx)
	if err != nil {
		return 0, err
	}
	next, ok, err := o.nextDue(ctx)
	if err != nil {
		return 0, err
	}
	wait = outboxPoll
	if ok {
		wait = min(wait, max(next.Sub(o.now()), 0))
	}
	if !busy {
		wait = max(wait, 10*time.Millisecond)
	}
	return wait, nil
}

// drain delivers until nothing is left, or until the deliveries that are left have to wait longer than the context.
func (o *outbox) drain(ctx context.Context) error {
	for {
		mine, err := o.claims.take(ctx, deliveriesWork, false)
		if err != nil {
			return err
		}
		if mine {
			if _, err := o.deliverDue(ctx); err != nil {
				return err
			}
		}
		next, ok, err := o.nextDue(ctx)
		if err != nil || !ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(max(next.Sub(o.now()), 10*time.Millisecond)):
		}
	}
}

// nextDue returns the time of the next attempt.
func (o *outbox) nextDue(ctx context.Context) (next time.Time, ok bool, err error) {
	due, err := o.state.DueDeliveries(ctx, o.now().Add(100*365*24*time.Hour), 1)
	if err != nil || len(due) == 0 {
		return time.Time{}, false, err
	}
	return due[0].NextAt, true, nil
}

// deliverDue works on the deliveries whose time has come, several at once. It reports whether there were any.
func (o *outbox) deliverDue(ctx context.Context) (any bool, err error) {
	due, err := o.state.DueDeliveries(ctx, o.now(), outboxBatch)
	if err != nil {
		return false, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, d := range due {
		group.Go(func() error { return o.deliver(ctx, d) })
	}
	return len(due) > 0, group.Wait()
}

// deliver makes one attempt of a delivery. An error of the sink is recorded in the delivery; deliver returns errors of the
// state and the end of the context.
func (o *outbox) deliver(ctx context.Context, d state.Delivery) error {
	err := traced(ctx, o.tracer, "deliver", func(ctx context.Context) error { return o.attempt(ctx, &d) },
		attribute.String("betrace.sink", d.Sink), attribute.String("betrace.tenant", d.Tenant), attribute.Int64("betrace.entry", d.Entry), attribute.Int("betrace.items", d.Items))
	var ofState *stateError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ofState):
		return ofState.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	o.metrics.sinkErrors.WithLabelValues(d.Sink).Inc()
	d.Tries++
	d.Error = err.Error()
	d.NextAt = o.now().Add(backoff(d.Tries, time.Second, maxBackoff))
	o.log.ErrorContext(ctx, "delivery failed", "sink", d.Sink, "tenant", d.Tenant, "entry", d.Entry, "items", d.Items, "tries", d.Tries, "next_attempt", d.NextAt, "error", err)
	return o.put(ctx, d)
}

// stateError is an error of the state, as opposed to one of a sink.
type stateError struct{ err error }

func (e *stateError) Error() string { return e.err.Error() }
func (e *stateError) Unwrap() error { return e.err }

func ofState(err error) error {
	if err == nil {
		return nil
	}
	return &stateError{err}
}

// backoff returns the pause after a number of tries.
func backoff(tries int, least, most time.Duration) time.Duration {
	return min(least<<min(max(tries-1, 0), 20), most)
}

// attempt sends a delivery, or reads it back.
func (o *outbox) attempt(ctx context.Context, d *state.Delivery) error {
	sinks, err := o.sinksOf(d.Tenant)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(sinks, func(s sink.EntrySink) bool { return s.Name() == d.Sink })
	if i < 0 {
		return fmt.Errorf("%s is not configured any more: its deliveries wait until it is configured again", d.Sink)
	}
	to := sinks[i]
	items, err := o.items(ctx, d, to)
	if err != nil {
		return err
	}
	name := o.state.EntryName(d.Entry)
	if d.State != state.DeliveryNew {
		held, err := to.Held(ctx, name, items)
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		all := items
		items = slices.DeleteFunc(slices.Clone(items), func(i sink.Item) bool { return held[i.ID] })
		if len(items) == 0 {
			return o.confirm(ctx, d, all)
		}
		if d.State == state.DeliverySent && o.now().Sub(d.SentAt) < o.resendAfter {
			d.NextAt = o.now().Add(min(max(o.now().Sub(d.SentAt)/2, firstCheck), maxCheck))
			return o.put(ctx, *d)
		}
	}
	if d.State != state.DeliveryNew {
		// Search may miss spans that Tempo has.
		if tempo, ok := to.(*sink.Tempo); ok {
			held, err := tempo.HeldByID(ctx, items)
			if err != nil {
				return fmt.Errorf("read back: %w", err)
			}
			all := items
			if items = slices.DeleteFunc(slices.Clone(items), func(i sink.Item) bool { return held[i.ID] }); len(items) == 0 {
				return o.confirm(ctx, d, all)
			}
		}
	}
	return o.send(ctx, d, to, items)
}

// send sends items, after it has marked the delivery.
func (o *outbox) send(ctx context.Context, d *state.Delivery, to sink.EntrySink, items []sink.Item) error {
	d.State = state.DeliverySending
	if err := o.put(ctx, *d); err != nil {
		return err
	}
	o.step("delivery marked")
	if !d.RefileAt.IsZero() {
		// Items that were stored before have their first filing time, so only the items of this attempt are moved.
		items = slices.Clone(items)
		for i := range items {
			items[i].FiledAt = d.RefileAt.Add(items[i].FiledAt.Sub(d.Created))
		}
	}
	if !o.claims.isLive() { // after a pause of the process, another replica may be sending
		return ofState(state.ErrClaimLost)
	}
	err := to.Send(ctx, items)
	var refused *sink.RefusedError
	var tooOld *sink.TooOldError
	if errors.As(err, &refused) {
		o.log.ErrorContext(ctx, "items are set aside, because the sink refuses them", "sink", d.Sink, "tenant", d.Tenant, "entry", d.Entry, "items", len(refused.Reasons))
		var rows []state.Refused
		for _, item := range items {
			if reason, is := refused.Reasons[item.ID]; is {
				rows = append(rows, state.Refused{Tenant: d.Tenant, Sink: d.Sink, Kind: item.Kind, ID: item.ID, Entry: d.Entry, Reason: reason, At: o.now()})
			}
		}
		if err := o.write(ctx, func(ctx context.Context, tx *state.Tx) error { return tx.PutRefused(ctx, rows) }); err != nil {
			return err
		}
	}
	switch {
	case errors.As(err, &tooOld): // the new time is stored before the next attempt
		d.RefileAt = o.now().UTC()
		d.NextAt, d.Error = d.RefileAt, err.Error()
		return o.put(ctx, *d)
	case refused != nil:
		d.NextAt = o.now().UTC() // the others are searched, and sent again if they are missing
		return o.put(ctx, *d)
	case err != nil:
		return err
	}
	o.step("delivery sent")
	d.State, d.SentAt, d.Tries, d.Error = state.DeliverySent, o.now().UTC(), 0, ""
	d.NextAt = d.SentAt.Add(firstCheck)
	return o.put(ctx, *d)
}

// confirm deletes a delivery of which the sink has every item.
func (o *outbox) confirm(ctx context.Context, d *state.Delivery, items []sink.Item) error {
	o.step("delivery read back")
	err := o.write(ctx, func(ctx context.Context, tx *state.Tx) error {
		return tx.DeleteDelivery(ctx, d.Tenant, d.Entry, d.Sink)
	})
	if err != nil {
		return err
	}
	o.step("delivery confirmed")
	for _, item := range items {
		o.metrics.delivered.WithLabelValues(d.Sink, item.Kind).Inc()
	}
	return nil
}

func (o *outbox) put(ctx context.Context, d state.Delivery) error {
	return o.write(ctx, func(ctx context.Context, tx *state.Tx) error { return tx.PutDeliveries(ctx, []state.Delivery{d}) })
}

// write changes the state, unless another replica has taken over the deliveries.
func (o *outbox) write(ctx context.Context, f func(context.Context, *state.Tx) error) error {
	return ofState(o.state.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		if err := o.claims.keep(ctx, tx, deliveriesWork, false); err != nil {
			return err
		}
		return f(ctx, tx)
	}))
}

// items returns the items of a delivery, without those that the sink refused.
func (o *outbox) items(ctx context.Context, d *state.Delivery, to sink.EntrySink) ([]sink.Item, error) {
	violations, err := o.state.EntryViolations(ctx, d.Tenant, d.Entry)
	if err != nil {
		return nil, ofState(err)
	}
	corrections, err := o.state.EntryCorrections(ctx, d.Tenant, d.Entry)
	if err != nil {
		return nil, ofState(err)
	}
	refused, err := o.state.RefusedItems(ctx)
	if err != nil {
		return nil, ofState(err)
	}
	isRefused := map[string]bool{}
	for _, r := range refused {
		if r.Tenant == d.Tenant && r.Entry == d.Entry && r.Sink == d.Sink {
			isRefused[r.Kind+r.ID] = true
		}
	}
	name := o.state.EntryName(d.Entry)
	var items []sink.Item
	add := func(item sink.Item) {
		if !isRefused[item.Kind+item.ID] {
			items = append(items, item)
		}
	}
	for i := range violations {
		v := &violations[i].Violation
		v.Entry = name
		add(sink.Item{Kind: sink.KindViolation, ID: v.ID, Violation: v, Line: violations[i].Line, FiledAt: v.FiledAt})
	}
	for i := range corrections {
		c := &corrections[i].Correction
		c.Entry = name
		add(sink.Item{Kind: sink.KindCorrection, ID: c.ID, Correction: c, Line: corrections[i].Line, FiledAt: c.FiledAt})
	}
	if len(violations)+len(corrections) < d.Items && to.Takes(sink.KindStatement) {
		for entry, err := range o.state.Entries(ctx, d.Tenant, d.Entry, d.Entry) {
			if err != nil {
				return nil, ofState(err)
			}
			add(sink.Item{
				Kind: sink.KindStatement, ID: name, FiledAt: entry.Time,
				Statement: &sink.Statement{Entry: name, Kind: entry.Kind, Envelope: entry.Envelope},
			})
		}
	}
	return items, nil
}

// report sets the metrics of the outbox. A sink without deliveries has zeros.
func (o *outbox) report(ctx context.Context, sinkNames []string) error {
	depths, err := o.state.Outbox(ctx)
	if err != nil {
		return err
	}
	items, err := o.state.RefusedItems(ctx)
	if err != nil {
		return err
	}
	refused := map[string]int{}
	for _, item := range items {
		refused[item.Sink]++
	}
	for _, name := range sinkNames {
		d := depths[name]
		o.metrics.outboxDeliveries.WithLabelValues(name).Set(float64(d.Deliveries))
		o.metrics.outboxItems.WithLabelValues(name).Set(float64(d.Items))
		o.metrics.outboxAge.WithLabelValues(name).Set(seconds(d.Oldest))
		o.metrics.refused.WithLabelValues(name).Set(float64(refused[name]))
	}
	size, err := o.state.Size()
	if err != nil {
		return err
	}
	o.metrics.stateBytes.Set(float64(size))
	return nil
}

// seconds returns a time for a metric: seconds since 1970, and 0 for the zero time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}
