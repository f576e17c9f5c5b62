package tracetest

import (
	"math"

	"github.com/betracehq/betrace/trace"
)

const (
	keyAmount = "payment.amount"
	keyResend = "http.request.resend_count"
)

// pay charges an amount. With the zero Attribute the charge has no amount.
func pay(amount trace.Attribute, checked bool) func(*builder) {
	return func(b *builder) { b.pay(amount, checked) }
}

func (b *builder) pay(amount trace.Attribute, checked bool) (chargeSpan int) {
	p := b.call(b.at, svcPayment, "POST", "/v1/charges")
	if checked {
		check := b.call(int(p.server), svcFraud, "POST", "/v1/checks")
		b.span(int(check.server), svcFraud, trace.KindInternal, "fraud.check", dbl("fraud.score", 0.125), str("fraud.model", "gbt-7"))
		b.endCall(check)
	}
	c := b.span(int(p.server), svcPayment, trace.KindInternal, "payment.charge", str("payment.currency", "EUR"), str("payment.method", "card"))
	if amount.Key != "" {
		b.set(c, amount)
	}
	b.endCall(p)
	return c
}

var charge = scene{name: "charge", rule: "charge-needs-fraud-check", need: 6, ways: []way{
	{name: "checked", doc: "A charge above 1000 with a fraud check before it.", play: pay(num(keyAmount, 2500), true)},
	{name: "small", doc: "A charge of 20 without a check: the rule does not apply.", play: pay(num(keyAmount, 20), false)},
	{name: "limit", doc: "A charge of exactly 1000 without a check: 1000 is not above 1000.", play: pay(num(keyAmount, 1000), false)},
	{name: "unchecked", violates: true, doc: "A charge above 1000 without a check.", play: pay(num(keyAmount, 2500), false)},
	{name: "limit-as-double", needs: MixedTypes, doc: "1000.0 is 1000.", play: pay(dbl(keyAmount, 1000), false)},
	{name: "unchecked-double", violates: true, needs: MixedTypes, doc: "1000.5 is above 1000: numbers compare by value.", play: pay(dbl(keyAmount, 1000.5), false)},
	{name: "text", needs: MixedTypes, doc: `"2500" is a string, which is not above a number.`, play: pay(str(keyAmount, "2500"), false)},
	{name: "truth-value", needs: MixedTypes, doc: "true is not above a number.", play: pay(yes(keyAmount, true), false)},
	{name: "list", needs: Lists, doc: "A list of 2500 and 3000 is not above a number.", play: pay(list(keyAmount, trace.IntValue(2500), trace.IntValue(3000)), false)},
	{name: "no-amount", needs: MissingAttributes, doc: "A charge without an amount: an absent value is not above a number.", play: pay(trace.Attribute{}, false)},
	{name: "absent-amount", needs: AbsentValues, doc: "An amount without a type is absent.", play: pay(trace.Attribute{Key: keyAmount}, false)},
	{name: "not-a-number", needs: ExtremeNumbers, doc: "NaN is not above a number.", play: pay(dbl(keyAmount, math.NaN()), false)},
	{name: "infinite", violates: true, needs: ExtremeNumbers, doc: "Infinity is above 1000.", play: pay(dbl(keyAmount, math.Inf(1)), false)},
	{
		name: "merged-large", violates: true, needs: UnequalCopies,
		doc: "Two copies of the charge, of 20 and of 2500.0: the double is the greater value.",
		play: func(b *builder) {
			c := b.pay(num(keyAmount, 20), false)
			b.copySpan(c, func(s *span) { s.attrs = replace(s.attrs, dbl(keyAmount, 2500)) })
		},
	},
	{
		name: "merged-small", needs: UnequalCopies,
		doc: "Two copies of the charge, of 2500 and of 20.0: the double is the greater value, by OTLP's order of types.",
		play: func(b *builder) {
			c := b.pay(num(keyAmount, 2500), false)
			b.copySpan(c, func(s *span) { s.attrs = replace(s.attrs, dbl(keyAmount, 20)) })
		},
	},
	{
		name: "on-resource", violates: true, needs: MissingAttributes,
		doc: `The charge has no amount, but its resource has one of 2500: s["key"] is the resource's value if the span has none.`,
		play: func(b *builder) {
			b.pay(trace.Attribute{}, false)
			b.res[svcPayment].extra = append(b.res[svcPayment].extra, num(keyAmount, 2500))
		},
	},
}}

// skip bypasses the checks of a charge.
func skip(attrs ...trace.Attribute) func(*builder) {
	return func(b *builder) { b.span(b.at, svcPayment, trace.KindInternal, "payment.bypass", attrs...) }
}

var bypass = scene{name: "bypass", rule: "no-payment-bypass", need: 1, ways: []way{
	{name: "none", doc: "Nothing is bypassed.", play: func(*builder) {}},
	{name: "drill", doc: "The bypass is exercised: its reason is a drill.", play: skip(str("payment.bypass.reason", "drill"))},
	{name: "used", violates: true, doc: "The bypass is used.", play: skip(str("payment.bypass.reason", "fraud check down"))},
	{name: "no-reason", needs: MissingAttributes, doc: "A bypass without a reason: in TraceQL an absent value is not unequal to anything.", play: skip()},
	{name: "empty-reason", violates: true, needs: EmptyStrings, doc: `The reason is "", which is not a drill.`, play: skip(str("payment.bypass.reason", ""))},
}}

// resend calls the inventory once, and once more for each count.
func (b *builder) resend(counts ...trace.Value) (calls []int) {
	parent := b.open(b.at, svcCheckout, trace.KindInternal, "inventory.reserve")
	for _, count := range append([]trace.Value{{}}, counts...) {
		c := b.open(parent, svcCheckout, trace.KindClient, "POST /v1/reservations")
		b.spans[c].scope = scopeHTTP
		b.set(c, str("http.request.method", "POST"), str("url.full", "https://inventory.shop.internal/v1/reservations"), str("url.template", "/v1/reservations"),
			str("server.address", "inventory.shop.internal"), num("server.port", 443), num("http.response.status_code", 503))
		if !count.IsAbsent() {
			b.set(c, trace.Attribute{Key: keyResend, Value: count})
		}
		b.close(c)
		calls = append(calls, c)
	}
	b.close(parent)
	b.set(calls[len(calls)-1], num("http.response.status_code", 201))
	return calls[1:]
}

func ints(to int) (values []trace.Value) {
	for i := 1; i <= to; i++ {
		values = append(values, trace.IntValue(int64(i)))
	}
	return values
}

var retry = scene{name: "retry", rule: "retries-are-bounded", need: 7, ways: []way{
	{name: "none", doc: "One call that succeeds.", play: func(b *builder) { b.resend() }},
	{name: "three", doc: "A call that is resent three times, which is allowed.", play: func(b *builder) { b.resend(ints(3)...) }},
	{name: "four", violates: true, doc: "A call that is resent four times.", play: func(b *builder) { b.resend(ints(4)...) }},
	{name: "five", violates: true, doc: "A call that is resent five times.", play: func(b *builder) { b.resend(ints(5)...) }},
	{name: "two-callers", more: 1, doc: "Four resent calls below two callers, two each: the rule counts the children of one span.", play: func(b *builder) {
		b.resend(ints(2)...)
		b.resend(ints(2)...)
	}},
	{name: "doubles", violates: true, needs: MixedTypes, doc: "Four resent calls, whose counts are doubles: 1.0 is 1.", play: func(b *builder) {
		b.resend(trace.DoubleValue(1), trace.IntValue(2), trace.DoubleValue(3), trace.DoubleValue(4))
	}},
	{name: "texts", needs: MixedTypes, doc: "Five resent calls, two of whose counts are strings: only three count.", play: func(b *builder) {
		b.resend(trace.IntValue(1), trace.StringValue("2"), trace.IntValue(3), trace.StringValue("4"), trace.IntValue(5))
	}},
	{name: "orphaned", needs: Orphans, doc: "Five resent calls, two of which name a missing parent: three are children of one span.", play: func(b *builder) {
		calls := b.resend(ints(5)...)
		b.spans[calls[1]].parent, b.spans[calls[3]].parent = lostParent, lostParent
	}},
	{name: "copied", needs: EqualCopies, doc: "Three resent calls, whose spans are sent twice: equal copies are one span.", play: func(b *builder) {
		for _, c := range b.resend(ints(3)...) {
			b.copySpan(c, nil)
		}
	}},
}}

// readCards reads cards from the database.
func (b *builder) readCards(parent int) int {
	return b.query(parent, svcVault, "cards", "SELECT token FROM cards WHERE id = $1")
}

// authorize opens a call to the vault and the span that authorizes it.
func (b *builder) authorize() (call pair, auth int) {
	call = b.call(b.at, svcVault, "GET", "/v1/cards/{id}")
	return call, b.open(int(call.server), svcVault, trace.KindInternal, "vault.authorize")
}

var vault = scene{name: "vault", rule: "card-data-behind-vault", need: 5, ways: []way{
	{name: "authorized", doc: "Cards are read below the span that authorized it, two levels down.", play: func(b *builder) { b.readAuthorized() }},
	{name: "direct", violates: true, doc: "Cards are read without authorization.", play: func(b *builder) { b.readCards(b.at) }},
	{name: "beside", violates: true, doc: "Cards are read beside the authorization, not below it.", play: func(b *builder) {
		call, auth := b.authorize()
		b.close(auth)
		b.readCards(int(call.server))
		b.endCall(call)
	}},
	{name: "cut-off", violates: true, needs: Orphans, doc: "The span between the authorization and the query names a missing parent, so the authorization is not an ancestor of the query.", play: func(b *builder) {
		read, _ := b.readAuthorized()
		b.spans[read].parent = lostParent
	}},
	{name: "in-a-cycle", needs: Cycles, doc: "The authorization is the query's ancestor, and the query the authorization's parent.", play: func(b *builder) {
		read, query := b.readAuthorized()
		b.spans[b.spans[read].parent].parent = int32(query)
	}},
	{name: "shared-id", needs: SharedIDs, doc: "The authorization is a server span that shares its ID with its client: the server has the children of both.", play: func(b *builder) {
		call := b.call(b.at, svcVault, "GET", "/v1/cards/{id}")
		b.spans[call.server].name = "vault.authorize"
		b.share(call)
		b.readCards(int(call.client))
		b.endCall(call)
	}},
	{name: "late", needs: Late, doc: "The authorization is late: the trace is judged with all of its spans.", play: func(b *builder) {
		read, _ := b.readAuthorized()
		b.spans[b.spans[read].parent].batch = 1
	}},
	{name: "no-collection", needs: MissingAttributes, doc: "A query without a collection: the rule does not apply.", play: func(b *builder) {
		b.unset(b.readCards(b.at), "db.collection.name")
	}},
}}

func (b *builder) readAuthorized() (read, query int) {
	call, auth := b.authorize()
	read = b.open(auth, svcVault, trace.KindInternal, "vault.read")
	query = b.readCards(read)
	b.close(read)
	b.close(auth)
	b.endCall(call)
	return read, query
}
