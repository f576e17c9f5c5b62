// Package tracetest generates traces for tests, demonstrations and benchmarks, each with the list of the
// rules of its [Pack] that it violates. The list follows from the construction of the trace, not from judging
// it.
//
//	for g := range tracetest.New(tracetest.Mixed(1, 1000)).All() {
//		send(g.Batches)
//		expect(g.ID, g.Violations)
//	}
//
// The traces come from the services of a web shop: a checkout with payment and fraud check, an
// administrator's refunds and exports, queues, databases, an AI agent with its tools. They contain data that
// is difficult for readers of traces, at rates that the options set: see [Nasty]. The same options generate
// the same traces.
package tracetest
