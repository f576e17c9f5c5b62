package tracetest

import "github.com/betracehq/betrace/trace"

// send sends a message to the queue.
func (b *builder) send(id trace.Value) int {
	i := b.span(b.at, svcOrders, trace.KindProducer, "send orders", str("messaging.system", "kafka"), str("messaging.destination.name", "orders"),
		str("messaging.operation.name", "send"), str("messaging.operation.type", "send"), num("messaging.message.body.size", 200+b.rng.Int64N(900)),
		trace.Attribute{Key: "messaging.message.id", Value: id}, str("server.address", "kafka.shop.internal"), num("server.port", 9093))
	b.spans[i].scope = scopeKafka
	return i
}

// process processes a message. id may be absent.
func (b *builder) process(sent int, svc service, id trace.Value) int {
	b.pass(30 * ms)
	i := b.span(sent, svc, trace.KindConsumer, "process orders", str("messaging.system", "kafka"), str("messaging.destination.name", "orders"),
		str("messaging.operation.name", "process"), str("messaging.operation.type", "process"), str("messaging.consumer.group.name", serviceNames[svc]))
	b.spans[i].scope = scopeKafka
	if !id.IsAbsent() {
		b.set(i, trace.Attribute{Key: "messaging.message.id", Value: id})
	}
	return i
}

// deliver sends a message that is processed twice, by shipping and by the given service, under the given IDs.
func deliver(again service, first, second trace.Value) func(*builder) {
	return func(b *builder) {
		sent := b.send(trace.StringValue(b.word("m")))
		b.process(sent, svcShipping, first)
		b.process(sent, again, second)
	}
}

var queue = scene{name: "queue", rule: "message-processed-once", need: 3, ways: []way{
	{name: "once", doc: "A message that is processed once.", play: func(b *builder) {
		id := trace.StringValue(b.word("m"))
		b.process(b.send(id), svcShipping, id)
	}},
	{name: "two-messages", doc: "Two messages, each processed once.", play: deliver(svcShipping, trace.StringValue("m-1"), trace.StringValue("m-2"))},
	{name: "two-groups", doc: "A message that two consumer groups process, which is allowed.", play: deliver(svcLoyalty, trace.StringValue("m-1"), trace.StringValue("m-1"))},
	{name: "twice", violates: true, doc: "A message that one consumer group processes twice.", play: deliver(svcShipping, trace.StringValue("m-1"), trace.StringValue("m-1"))},
	{name: "copied", needs: EqualCopies, doc: "A message processed once, whose span is sent twice: equal copies are one span.", play: func(b *builder) {
		id := trace.StringValue(b.word("m"))
		b.copySpan(b.process(b.send(id), svcShipping, id), nil)
	}},
	{name: "numbers", violates: true, needs: MixedTypes, doc: "Processed twice, under 7 and 7.0: numbers compare by value.", play: deliver(svcShipping, trace.IntValue(7), trace.DoubleValue(7))},
	{name: "number-and-text", needs: MixedTypes, doc: `Processed under 7 and "7": a number does not equal a string.`, play: deliver(svcShipping, trace.IntValue(7), trace.StringValue("7"))},
	{name: "large-numbers", needs: ExtremeNumbers, doc: "Processed under 2^53 + 1 and 2^53 as a double: the numbers differ by one.", play: deliver(svcShipping, trace.IntValue(1<<53+1), trace.DoubleValue(1<<53))},
	{name: "no-ids", needs: MissingAttributes, doc: "Processed twice, without an ID: an absent value equals nothing.", play: deliver(svcShipping, trace.Value{}, trace.Value{})},
	{name: "empty-ids", violates: true, needs: EmptyStrings, doc: `Processed twice, under "": empty strings are equal.`, play: deliver(svcShipping, trace.StringValue(""), trace.StringValue(""))},
	{name: "late", violates: true, needs: Late, doc: "Processed twice, the second time in a later batch.", play: func(b *builder) {
		id := trace.StringValue(b.word("m"))
		sent := b.send(id)
		b.process(sent, svcShipping, id)
		b.spans[b.process(sent, svcShipping, id)].batch = 1
	}},
}}

// poll receives count messages and adds the given number of links.
func poll(count trace.Attribute, links int) func(*builder) {
	return func(b *builder) {
		if count.Key != "" {
			b.set(b.root, count)
		}
		for range links {
			b.link(b.root, b.otherTraceID(), str("messaging.message.id", b.word("m")))
		}
		b.spans[b.root].keepsLinks = true
	}
}

func (b *builder) link(i int, id trace.ID, attrs ...trace.Attribute) {
	s := &b.spans[i]
	s.links = append(s.links, trace.Link{TraceID: id, SpanID: b.spanID(1<<40 + b.rng.IntN(1<<40)), Attributes: attrs})
}

func (b *builder) otherTraceID() trace.ID {
	id := b.id
	id[8] ^= byte(1 + b.rng.IntN(255))
	id[9] = byte(b.rng.IntN(256))
	return id
}

const keyCount = "messaging.batch.message_count"

// batch concerns the root of a poll.
var batch = scene{name: "batch", rule: "batch-links-its-messages", ways: []way{
	{name: "linked", doc: "A batch of three messages with a link to each.", play: poll(num(keyCount, 3), 3)},
	{name: "empty", doc: "A batch without messages and without links.", play: poll(num(keyCount, 0), 0)},
	{name: "unlinked", violates: true, doc: "A batch of three messages with links to two.", play: poll(num(keyCount, 3), 2)},
	{name: "own-link", violates: true, doc: "A batch of two messages, one of whose links points into its own trace.", play: func(b *builder) {
		poll(num(keyCount, 2), 1)(b)
		b.link(b.root, b.id)
	}},
	{name: "count-as-double", needs: MixedTypes, doc: "A batch of 3.0 messages with three links.", play: poll(dbl(keyCount, 3), 3)},
	{name: "count-as-text", violates: true, needs: MixedTypes, doc: `A batch of "3" messages: a string does not equal a number.`, play: poll(str(keyCount, "3"), 3)},
	{name: "no-count", violates: true, needs: MissingAttributes, doc: "A batch without a message count: an absent value equals nothing.", play: poll(trace.Attribute{}, 0)},
	{name: "links-in-a-copy", needs: UnequalCopies, doc: "Two copies of a batch, one without its links: the longer list is greater.", play: func(b *builder) {
		poll(num(keyCount, 3), 3)(b)
		b.copySpan(b.root, func(s *span) { s.links = nil })
	}},
}}
