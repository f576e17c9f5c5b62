package scheduler

import (
	"errors"
	"fmt"

	"github.com/betracehq/betrace/scheduler/state"
)

// Limits bound one tick. Zero fields are no bounds. A tick takes the oldest blocks within the limits, but at least one, and
// the next tick takes the rest at once.
//
// Blocks, bytes and traces are known from the list of the blocks. Spans, requests and cost are estimated from the last tick,
// and counted during the reading: a tick with several blocks that comes over one of these limits starts again with half of
// them. A sweep by the API has the limits of traces, spans and cost, for which its tick reads a shorter window.
type Limits struct {
	Blocks int
	// Traces bounds the sum of the blocks' numbers of traces, Bytes that of their sizes.
	Traces int
	Bytes  int64
	// Spans bounds the spans of the traces that the rules may apply to, Requests the requests to the storage.
	Spans    int
	Requests int64
	// Cost bounds the sum of the costs of the rules on these traces: see [analyzer.Result].Cost.
	Cost float64
	// Violations bounds the new violations of one rule that are kept in full. Of the others only the traces are listed.
	Violations int
}

func (l *Limits) areNegative() bool {
	return l.Blocks < 0 || l.Bytes < 0 || l.Traces < 0 || l.Spans < 0 || l.Requests < 0 || l.Cost < 0 || l.Violations < 0
}

// String lists the limits.
func (l *Limits) String() string {
	return fmt.Sprintf("%d blocks, %d bytes, %d traces, %d spans, %d requests, cost %g, %d violations of a rule",
		l.Blocks, l.Bytes, l.Traces, l.Spans, l.Requests, l.Cost, l.Violations)
}

// errOverLimit means that a tick is over a limit that is only known while it reads. It starts again with less.
var errOverLimit = errors.New("a tick is over a limit")

// usage is the part of the limits that a tick needs.
type usage struct {
	blocks                        int
	bytes                         int64
	traces, spans, requests, cost float64
}

func (u *usage) add(v usage) {
	u.blocks += v.blocks
	u.bytes += v.bytes
	u.traces += v.traces
	u.spans += v.spans
	u.requests += v.requests
	u.cost += v.cost
}

// exceeded returns an error that wraps errOverLimit and names the limit if the usage exceeds one, or nil.
func (l *Limits) exceeded(u *usage) error {
	for _, c := range []struct {
		name        string
		have, limit float64
	}{
		{"blocks", float64(u.blocks), float64(l.Blocks)},
		{"bytes", float64(u.bytes), float64(l.Bytes)},
		{"traces", u.traces, float64(l.Traces)},
		{"spans", u.spans, float64(l.Spans)},
		{"requests", u.requests, float64(l.Requests)},
		{"cost", u.cost, l.Cost},
	} {
		if c.limit > 0 && c.have > c.limit {
			return fmt.Errorf("%w: %s: %.6g, and at most %.6g", errOverLimit, c.name, c.have, c.limit)
		}
	}
	return nil
}

// rates are the usage of the last tick of a pass, from which that of other blocks is estimated. The zero value estimates
// nothing.
type rates struct{ spansPerByte, costPerByte, requestsPerBlock float64 }

func newRates(u *usage) rates {
	if u.blocks == 0 || u.bytes == 0 {
		return rates{}
	}
	return rates{u.spans / float64(u.bytes), u.cost / float64(u.bytes), u.requests / float64(u.blocks)}
}

// of returns the estimated usage of a block.
func (r rates) of(b *state.Block) usage {
	bytes := float64(b.Bytes)
	return usage{blocks: 1, bytes: b.Bytes, traces: float64(b.Traces), spans: bytes * r.spansPerByte, cost: bytes * r.costPerByte, requests: r.requestsPerBlock}
}
