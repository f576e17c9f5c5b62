package tempoclient

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/stats"
)

// pace says when a request may be sent: so many at a time as Tempo bears, and so
// many requests and bytes a second as the configuration allows.
//
// How many Tempo bears is found out: half as many once it is overloaded, one more
// for each round of answers that it gives. Requests that were under way together
// halve it once.
type pace struct {
	most            int // at a time; 0: any number
	requests, bytes *rate

	mu       sync.Mutex
	allowed  float64 // at a time, 1 to most
	underway int
	waiting  []chan struct{} // each closed when it is that one's turn
	halved   int64           // how often
}

func newPace(c *Config) *pace {
	return &pace{most: c.Concurrency, allowed: float64(c.Concurrency), requests: newRate(c.MaxRequestsPerSecond), bytes: newRate(c.MaxBytesPerSecond)}
}

// turn waits until a request may be sent. The function that it returns is to be
// called with what came of it.
func (p *pace) turn(ctx context.Context) (done func(overloaded bool), err error) {
	halved, err := p.enter(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.wait(ctx); err != nil {
		p.leave()
		return nil, err
	}
	return func(overloaded bool) {
		p.learn(overloaded, halved)
		p.leave()
	}, nil
}

func (p *pace) enter(ctx context.Context) (halved int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.most > 0 && p.underway >= int(p.allowed) {
		mine := make(chan struct{})
		p.waiting = append(p.waiting, mine)
		p.mu.Unlock()
		select {
		case <-mine:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		p.mu.Lock()
		if err != nil {
			p.wake() // it may have been this one's turn
			return 0, err
		}
	}
	p.underway++
	return p.halved, nil
}

func (p *pace) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.underway--
	p.wake()
}

// wake tells all that wait to look again: they are few.
func (p *pace) wake() {
	for _, c := range p.waiting {
		close(c)
	}
	p.waiting = nil
}

func (p *pace) learn(overloaded bool, halved int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.most == 0:
	case !overloaded:
		p.allowed = min(float64(p.most), p.allowed+1/p.allowed)
	case halved == p.halved:
		p.allowed = max(1, p.allowed/2)
		p.halved++
	}
}

// times returns how often the number was halved.
func (p *pace) times() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.halved
}

// wait waits until what was read before is paid for, and another request is.
func (p *pace) wait(ctx context.Context) error {
	pause := max(p.bytes.book(0), p.requests.book(1))
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// rate bounds how many there are a second. Nil: no bound.
type rate struct {
	perSecond float64
	mu        sync.Mutex
	paid      time.Time // when all that was booked is paid for
}

func newRate(perSecond float64) *rate {
	if perSecond <= 0 {
		return nil
	}
	return &rate{perSecond: perSecond}
}

// book takes n, and returns how long to wait until what was taken before is paid for.
func (r *rate) book(n int64) time.Duration {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.paid.Before(now) {
		r.paid = now
	}
	pause := r.paid.Sub(now)
	r.paid = r.paid.Add(time.Duration(float64(n) / r.perSecond * float64(time.Second)))
	return pause
}

// received counts what came.
func (c *Client) received(n int) {
	c.bytes.Add(int64(n))
	c.retrier.pace.bytes.book(int64(n))
}

// countMessages counts the messages that come over gRPC.
type countMessages struct{ client *Client }

// TagRPC does nothing.
func (countMessages) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC counts a message.
func (c countMessages) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InPayload); ok {
		c.client.received(in.WireLength)
	}
}

// TagConn does nothing.
func (countMessages) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (countMessages) HandleConn(context.Context, stats.ConnStats) {}
