package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/betracehq/betrace/evidence"
)

// Sink takes violations in. [Tempo] and [Loki] are sinks.
type Sink interface {
	// Name says which, in reports and errors.
	Name() string
	// Holds returns the IDs of those violations that are there. Those that were written
	// before since need not be found; zero: all are looked for.
	Holds(ctx context.Context, vs []evidence.Violation, since time.Time) (map[string]bool, error)
	// Write sends the violations, and sets the filing time of those that have none. A nil
	// error does not prove that they are there.
	Write(context.Context, []evidence.Violation) error
}

// Options say how hard delivery tries. Zero fields have defaults.
type Options struct {
	// Tries is how often what does not arrive is sent. Default 3.
	Tries int
	// Wait is how long after each sending it is looked for. Default 15 s.
	Wait time.Duration
	// Poll is the time between two looks. Default 250 ms.
	Poll time.Duration
}

// Delivery says what became of violations in one sink.
type Delivery struct {
	Sink string
	// AlreadyThere counts those that were not written since they were there, Written
	// those that were sent, Confirmed those of them that were read back.
	AlreadyThere, Written, Confirmed int
	// Missing are the IDs of those that are not known to be there.
	Missing []string
	// Err is why, if it is known.
	Err error
}

// Add counts another delivery to the same sink in.
func (d *Delivery) Add(other Delivery) {
	d.Sink = other.Sink
	d.AlreadyThere += other.AlreadyThere
	d.Written += other.Written
	d.Confirmed += other.Confirmed
	d.Missing = append(d.Missing, other.Missing...)
	d.Err = errors.Join(d.Err, other.Err)
}

// Deliver brings the violations into every sink, once each: it asks what is there,
// writes the rest, reads it back and sends again what did not arrive. It returns
// one Delivery a sink, in order; what one sink refuses reaches the others. A
// context that ends leaves the rest missing.
func Deliver(ctx context.Context, sinks []Sink, vs []evidence.Violation, opts Options) []Delivery {
	if opts.Tries == 0 {
		opts.Tries = 3
	}
	if opts.Wait == 0 {
		opts.Wait = 15 * time.Second
	}
	if opts.Poll == 0 {
		opts.Poll = 250 * time.Millisecond
	}
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
		d.missing(vs, fmt.Errorf("%s: ask what is there: %w", sink.Name(), err))
		return d
	}
	rest := without(vs, held)
	if len(rest) > 0 && len(rest) < len(vs) {
		// What is known is mostly known as a whole. A Tempo does not find a trace for the
		// moment in which it moves it from memory to a block.
		if rest, err = askAgain(ctx, sink, rest, opts.Poll); err != nil {
			d.missing(rest, fmt.Errorf("%s: ask what is there: %w", sink.Name(), err))
			return d
		}
	}
	d.AlreadyThere = len(vs) - len(rest)
	d.Written = len(rest)
	// Clocks differ: an hour is little to look at, and far more than they may.
	since := time.Now().Add(-time.Hour)
	for try := 0; len(rest) > 0; try++ {
		if try == opts.Tries {
			d.missing(rest, fmt.Errorf("%s: %d violations were sent %d times and are not there %s later: it may drop what is over its limits: see its log", sink.Name(), len(rest), opts.Tries, opts.Wait))
			break
		}
		if err := sink.Write(ctx, rest); err != nil {
			// Some may have arrived all the same.
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

// askAgain asks once more, a little later, and returns what is still not there.
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

// awaitAll reads back until all are there or the wait is over, and returns those
// that are not.
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
