package tempoclient

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/stats"
)

// pace limits concurrent requests to the number that Tempo can process, and requests and bytes a second
// to the configured rates.
//
// The number of concurrent requests is adapted: it is halved when Tempo is overloaded, and grows by one
// for each round of successful answers. Requests that were sent concurrently halve it only once.
type pace struct {
	most            int // concurrent requests; 0: no limit
	requests, bytes *rate

	mu       sync.Mutex
	allowed  float64 // concurrent requests, 1 to most
	underway int
	waiting  []chan struct{} // each is closed to wake one waiter
	halved   int64           // number of halvings
}

func newPace(c *Config) *pace {
	return &pace{most: c.Concurrency, allowed: float64(c.Concurrency), requests: newRate(c.MaxRequestsPerSecond), bytes: newRate(c.MaxBytesPerSecond)}
}

// turn waits until a request may be sent. The caller must call the returned function after the request.
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
			p.wake() // the wake-up may have been for this waiter
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

// wake makes all waiters check again, because there are few of them.
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

// times returns the number of halvings.
func (p *pace) times() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.halved
}

// wait waits until the rates allow another request, after all data that was read before.
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

// rate limits events to a number per second. A nil rate has no limit.
type rate struct {
	perSecond float64
	mu        sync.Mutex
	paid      time.Time // the time at which the booked amount is used up
}

func newRate(perSecond float64) *rate {
	if perSecond <= 0 {
		return nil
	}
	return &rate{perSecond: perSecond}
}

// book adds n to the booked amount, and returns the time until the amount before is used up.
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

// received counts received bytes.
func (c *Client) received(n int) {
	c.bytes.Add(int64(n))
	c.retrier.pace.bytes.book(int64(n))
}

// countMessages counts the bytes of messages received over gRPC.
type countMessages struct{ client *Client }

// TagRPC does nothing.
func (countMessages) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC counts a received message.
func (c countMessages) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InPayload); ok {
		c.client.received(in.WireLength)
	}
}

// TagConn does nothing.
func (countMessages) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (countMessages) HandleConn(context.Context, stats.ConnStats) {}
