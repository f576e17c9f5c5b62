package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/betracehq/betrace/evidence"
)

// Sink stores violations. [Tempo] and [Loki] are sinks.
type Sink interface {
	// Name returns the name of the sink in reports and errors.
	Name() string
	// Holds returns the IDs of the violations that the sink has. It need not find those that were written
	// before since. If since is zero, it searches all.
	Holds(ctx context.Context, vs []evidence.Violation, since time.Time) (map[string]bool, error)
	// Write sends the violations, and sets the filing time of those that have none. A nil error does not
	// prove that they are stored.
	Write(context.Context, []evidence.Violation) error
}

// Options configure the retries of a delivery. Zero fields have defaults.
type Options struct {
	// Tries is the maximum number of times that a violation is sent. The default is 3.
	Tries int
	// Wait is the time for which a violation is searched after it was sent. The default is 15 s.
	Wait time.Duration
	// Poll is the time between two searches. The default is 250 ms.
	Poll time.Duration
}

// Delivery is the result of delivering violations to one sink.
type Delivery struct {
	Sink string
	// AlreadyThere counts violations that were not sent because the sink has them, Written those that were
	// sent, and Confirmed the sent ones that were read back.
	AlreadyThere, Written, Confirmed int
	// Missing are the IDs of violations of which it is not known that the sink has them.
	Missing []string
	// Err is the reason, if it is known.
	Err error
}

// Add adds the counts of another delivery to the same sink.
func (d *Delivery) Add(other Delivery) {
	d.Sink = other.Sink
	d.AlreadyThere += other.AlreadyThere
	d.Written += other.Written
	d.Confirmed += other.Confirmed
	d.Missing = append(d.Missing, other.Missing...)
	d.Err = errors.Join(d.Err, other.Err)
}

// Deliver stores each violation once in every sink: it searches for existing violations, writes the others,
// reads them back, and sends again those that did not arrive. It returns one Delivery per sink, in order. An
// error of one sink does not affect the others. If the context ends, the remaining violations are missing.
func Deliver(ctx context.Context, sinks []Sink, vs []evidence.Violation, opts Options) []Delivery {
	opts.Tries = cmp.Or(opts.Tries, 3)
	opts.Wait = cmp.Or(opts.Wait, 15*time.Second)
	opts.Poll = cmp.Or(opts.Poll, 250*time.Millisecond)
	unique := make([]evidence.Violation, 0, len(vs))
	seen := map[string]bool{}
	for _, v := range vs {
		if !seen[v.ID] {
			seen[v.ID] = true
			unique = append(unique, v)
		}
	}
	deliveries := make([]Delivery, len(sinks))
	var wg sync.WaitGroup
	for i, sink := range sinks {
		wg.Go(func() { deliveries[i] = deliverTo(ctx, sink, unique, opts) })
	}
	wg.Wait()
	return deliveries
}

func deliverTo(ctx context.Context, sink Sink, vs []evidence.Violation, opts Options) Delivery {
	d := Delivery{Sink: sink.Name()}
	held, err := sink.Holds(ctx, vs, time.Time{})
	if err != nil {
		d.missing(vs, fmt.Errorf("%s: search for existing violations: %w", sink.Name(), err))
		return d
	}
	rest := without(vs, held)
	if len(rest) > 0 && len(rest) < len(vs) {
		// A sink usually has all of a batch or none of it, so a partial answer is checked again: Tempo
		// briefly does not find a trace that it moves from memory to a block.
		if rest, err = askAgain(ctx, sink, rest, opts.Poll); err != nil {
			d.missing(rest, fmt.Errorf("%s: search for existing violations: %w", sink.Name(), err))
			return d
		}
	}
	d.AlreadyThere = len(vs) - len(rest)
	d.Written = len(rest)
	// Allow one hour of clock skew; the wider lookback costs little.
	since := time.Now().Add(-time.Hour)
	for try := 0; len(rest) > 0; try++ {
		if try == opts.Tries {
			d.missing(rest, fmt.Errorf("%s: %d violations were sent %d times and not found within %s: it may have dropped them because of its limits: check its log", sink.Name(), len(rest), opts.Tries, opts.Wait))
			break
		}
		if err := sink.Write(ctx, rest); err != nil {
			// Some may have arrived despite the error.
			if held, lookErr := sink.Holds(ctx, rest, since); lookErr == nil {
				rest = without(rest, held)
			}
			d.missing(rest, fmt.Errorf("%s: write: %w", sink.Name(), err))
			break
		}
		if rest, err = awaitAll(ctx, sink, rest, since, opts); err != nil {
			d.missing(rest, fmt.Errorf("%s: read back: %w", sink.Name(), err))
			break
		}
	}
	d.Confirmed = d.Written - len(d.Missing)
	return d
}

// askAgain searches once more after a pause, and returns the violations that the sink still does not have.
func askAgain(ctx context.Context, sink Sink, vs []evidence.Violation, later time.Duration) ([]evidence.Violation, error) {
	select {
	case <-ctx.Done():
		return vs, context.Cause(ctx)
	case <-time.After(later):
	}
	held, err := sink.Holds(ctx, vs, time.Time{})
	if err != nil {
		return vs, err
	}
	return without(vs, held), nil
}

func (d *Delivery) missing(vs []evidence.Violation, why error) {
	for _, v := range vs {
		d.Missing = append(d.Missing, v.ID)
	}
	if len(vs) > 0 {
		d.Err = why
	}
}

// awaitAll reads back until the sink has all violations or the wait is over, and returns the missing ones.
func awaitAll(ctx context.Context, sink Sink, vs []evidence.Violation, since time.Time, opts Options) ([]evidence.Violation, error) {
	deadline := time.NewTimer(opts.Wait)
	defer deadline.Stop()
	for {
		held, err := sink.Holds(ctx, vs, since)
		if err != nil {
			return vs, err
		}
		if vs = without(vs, held); len(vs) == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return vs, context.Cause(ctx)
		case <-deadline.C:
			return vs, nil
		case <-time.After(opts.Poll):
		}
	}
}

func without(vs []evidence.Violation, held map[string]bool) []evidence.Violation {
	return slices.DeleteFunc(slices.Clone(vs), func(v evidence.Violation) bool { return held[v.ID] })
}
