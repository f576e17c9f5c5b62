package byhand

import (
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

func paymentIsCalledByItsClients(b *columnar.Batch, out []rules.Outcome) {
	services := b.Service().Text.Codes
	isPayment, isClient := codes(&b.Service().Text, "payment"), codes(&b.Service().Text, "gateway", "checkout", "orders", "billing", "refunds")
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1]; i++ {
			if b.Kinds[i] != trace.KindServer || !isPayment[services[b.Resources[i]]] {
				continue
			}
			p := b.Parents[i]
			if p < 0 || b.Kinds[p] != trace.KindClient {
				continue
			}
			if !isClient[services[b.Resources[p]]] {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

func queriesServeSomebody(b *columnar.Batch, out []rules.Outcome) {
	operations := texts(b, "db.operation.name")
	isDelete := codes(operations, "DELETE")
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1]; i++ {
			if !isDelete[operations.Codes[i]] || b.Kinds[i] != trace.KindClient {
				continue
			}
			a := b.Parents[i]
			for a >= 0 && b.Kinds[a] != trace.KindServer && b.Kinds[a] != trace.KindConsumer {
				a = b.Parents[a]
			}
			if a < 0 {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

// isBelow reports whether span a is above span i.
func isBelow(b *columnar.Batch, i, a int32) bool {
	for i = b.Parents[i]; i >= 0; i = b.Parents[i] {
		if i == a {
			return true
		}
	}
	return false
}

func dataIsAudited(b *columnar.Batch, out []rules.Outcome) {
	classifications, audits := texts(b, "app.data.classification"), texts(b, "app.audit.action").Codes
	isClassified := codes(classifications, "confidential", "special", "cardholder")
	audited := func(t int, i int32) bool {
		p := b.Parents[i]
		if p < 0 {
			return false
		}
		for d := b.First[t]; d < b.First[t+1]; d++ {
			if audits[d] != 0 && b.Statuses[d] != trace.StatusError && isBelow(b, d, p) {
				return true
			}
		}
		return false
	}
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1]; i++ {
			if !isClassified[classifications.Codes[i]] {
				continue
			}
			if !audited(t, i) {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

func chargeFollowsCheck(b *columnar.Batch, out []rules.Outcome) {
	amount := doubles(b, "app.payment.amount")
	isCheck, isCharge := codes(&b.Names, "fraud.check"), codes(&b.Names, "payment.charge")
	at := int32(-1)
	for t := range out {
		out[t] = rules.NotApplicable
		last := b.First[t+1]
		checked := trace.Time(0)
		for i := amount.next(b.First[t], last, &at); i >= 0; i = amount.next(i+1, last, &at) {
			if amount.of[i] <= 500 || !isCharge[b.Names.Codes[i]] {
				continue
			}
			if checked == 0 {
				checked = earliestEnd(b, t, isCheck)
			}
			if checked > b.Starts[i] {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

func retriesDoNotMultiply(b *columnar.Batch, out []rules.Outcome) {
	resent := ints(b, "http.request.resend_count")
	at := int32(-1)
	for t := range out {
		out[t] = rules.NotApplicable
		last := b.First[t+1]
		for i := resent.next(b.First[t], last, &at); i >= 0; i = resent.next(i+1, last, &at) {
			if b.Kinds[i] != trace.KindClient || resent.of[i] < 1 {
				continue
			}
			out[t] = rules.Pass
			a := b.Parents[i]
			for a >= 0 && !(b.Kinds[a] == trace.KindClient && resent.is.Has(a) && resent.of[a] > 3) {
				a = b.Parents[a]
			}
			if a >= 0 {
				out[t] = rules.Violation
				break
			}
		}
	}
}

func dataFollowsAuthorization(b *columnar.Batch, out []rules.Outcome) {
	classifications, decisions := texts(b, "app.data.classification"), texts(b, "app.authz.decision")
	isClassified, isAllow := codes(classifications, "personal", "confidential"), codes(decisions, "allow")
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1]; i++ {
			if !isClassified[classifications.Codes[i]] {
				continue
			}
			if !siblingBefore(b, t, i, func(s int32) bool { return isAllow[decisions.Codes[s]] }) {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

func stepsAreBounded(b *columnar.Batch, out []rules.Outcome) {
	operations := texts(b, "gen_ai.operation.name")
	isAgent, isChat := codes(operations, "invoke_agent"), codes(operations, "chat")
	for t := range out {
		out[t] = rules.NotApplicable
		first, last := b.First[t], b.First[t+1]
		chats := 0
		for i := first; i < last; i++ {
			if code := operations.Codes[i]; isAgent[code] {
				out[t] = rules.Pass
			} else if isChat[code] {
				chats++
			}
		}
		if out[t] == rules.NotApplicable || chats <= 20 {
			continue
		}
		for i := first; i < last && out[t] != rules.Violation; i++ {
			if !isAgent[operations.Codes[i]] {
				continue
			}
			below := 0
			for d := first; d < last; d++ {
				if isChat[operations.Codes[d]] && isBelow(b, d, i) {
					below++
				}
			}
			if below > 20 {
				out[t] = rules.Violation
			}
		}
	}
}

func failedCallBelowSuccess(b *columnar.Batch, out []rules.Outcome) {
	status, resent := ints(b, "http.response.status_code"), ints(b, "http.request.resend_count")
	isSuccess := func(i int32) bool {
		return b.Kinds[i] == trace.KindServer && status.is.Has(i) && status.of[i] == 204
	}
	for t := range out {
		out[t] = rules.NotApplicable
		first, last := b.First[t], b.First[t+1]
		for i := first; i < last; i++ {
			// Start from the child, which has one parent.
			if p := b.Parents[i]; p >= 0 && b.Kinds[i] == trace.KindClient && isSuccess(p) {
				out[t] = rules.Pass
				break
			}
		}
		if out[t] == rules.NotApplicable {
			continue
		}
		for i := resent.is.Next(first); i >= 0 && i < last && out[t] == rules.Pass; i = resent.is.Next(i + 1) {
			if resent.of[i] <= 3 || b.Kinds[i] != trace.KindClient || b.Statuses[i] != trace.StatusError {
				continue
			}
			for a := b.Parents[i]; a >= 0; a = b.Parents[a] {
				if isSuccess(a) {
					out[t] = rules.Violation
					break
				}
			}
		}
	}
}

func requestsDoNotLoop(b *columnar.Batch, out []rules.Outcome) {
	routes, services := texts(b, "http.route"), &b.Service().Text
	route, service := canonical(routes), canonical(services)
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1] && out[t] != rules.Violation; i++ {
			if b.Kinds[i] != trace.KindServer || b.Parents[i] < 0 || routes.Codes[i] == 0 {
				continue
			}
			out[t] = rules.Pass
			myRoute, myService := route[routes.Codes[i]], service[services.Codes[b.Resources[i]]]
			for a := b.Parents[i]; a >= 0; a = b.Parents[a] {
				if b.Kinds[a] == trace.KindServer && route[routes.Codes[a]] == myRoute && service[services.Codes[b.Resources[a]]] == myService {
					out[t] = rules.Violation
					break
				}
			}
		}
	}
}
