package main

import (
	"crypto/rand"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// The service judges orders by one rule, so that its output is short.
const (
	ordersPack = `apiVersion: betrace.dev/v1
kind: RulePack
metadata: {name: orders, version: 1.0.0}
rules:
  - id: shipped-orders-are-paid
    title: An order is paid before it is shipped
    severity: high
    when: spans.exists(s, s.name == "order.ship")
    always: ['spans.exists(s, s.name == "order.pay")']
    about: spans.filter(s, s.name == "order.ship")
    message: '"order " + string(about[0]["order.id"]) + " was shipped unpaid"'
`
	ordersRule = "shipped-orders-are-paid"
)

const (
	orders     = 40
	unpaid     = 2    // number of orders that are never paid
	firstOrder = 1001 // its number
	lateOrder  = 1007 // its payment is late
)

// order is a trace. late has the spans that are sent later, if any.
type order struct {
	id          string
	number      int
	unpaid      bool
	spans, late ptrace.Traces
}

// newOrders returns orders that end now.
func newOrders(now time.Time) []order {
	all := make([]order, orders)
	for i := range all {
		number := firstOrder + i
		o := &all[i]
		*o = order{number: number, unpaid: (i+1)%(orders/unpaid) == 0, spans: ptrace.NewTraces(), late: ptrace.NewTraces()}
		start := now.Add(-time.Duration(orders-i) * 50 * time.Millisecond)
		var id pcommon.TraceID
		rand.Read(id[:])
		root := newSpanID()
		o.id = id.String()
		add := func(to ptrace.Traces, service, name string, span, parent pcommon.SpanID, after, lasts time.Duration) {
			resource := to.ResourceSpans().AppendEmpty()
			resource.Resource().Attributes().PutStr("service.name", service)
			s := resource.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
			s.SetTraceID(id)
			s.SetSpanID(span)
			s.SetParentSpanID(parent)
			s.SetName(name)
			s.SetStartTimestamp(pcommon.NewTimestampFromTime(start.Add(after)))
			s.SetEndTimestamp(pcommon.NewTimestampFromTime(start.Add(after + lasts)))
			s.Attributes().PutInt("order.id", int64(number))
		}
		add(o.spans, "shop", "POST /orders", root, pcommon.SpanID{}, 0, 45*time.Millisecond)
		payment := o.spans
		if number == lateOrder {
			payment = o.late
		}
		if !o.unpaid {
			add(payment, "payments", "order.pay", newSpanID(), root, 5*time.Millisecond, 10*time.Millisecond)
		}
		add(o.spans, "warehouse", "order.ship", newSpanID(), root, 20*time.Millisecond, 20*time.Millisecond)
	}
	return all
}

func newSpanID() (id pcommon.SpanID) {
	rand.Read(id[:])
	return id
}
