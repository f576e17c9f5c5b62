// Package tracetest generates traces for tests, demonstrations and benchmarks, and
// knows which rules of its [Pack] each of them violates: from having made it so, not
// from judging it.
//
//	for g := range tracetest.New(tracetest.Mixed(1, 1000)).All() {
//		send(g.Batches)
//		expect(g.ID, g.Violations)
//	}
//
// The services of a web shop act in it: a checkout with payment and fraud check, an
// administrator's refunds and exports, queues, databases, an AI agent with its tools.
// What hurts readers of traces is in it at chosen rates: see [Nasty]. The same
// options give the same traces.
package tracetest
