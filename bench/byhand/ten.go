package byhand

import (
	"time"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

func failuresAreErrors(b *columnar.Batch, out []rules.Outcome) {
	status := ints(b, "http.response.status_code")
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1]; i++ {
			if b.Kinds[i] != trace.KindServer || !status.is.Has(i) || status.of[i] < 500 {
				continue
			}
			if b.Statuses[i] != trace.StatusError {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

func retriesAreBounded(b *columnar.Batch, out []rules.Outcome) {
	resent := ints(b, "http.request.resend_count")
	at := int32(-1)
	for t := range out {
		out[t] = rules.NotApplicable
		last := b.First[t+1]
		for i := resent.next(b.First[t], last, &at); i >= 0; i = resent.next(i+1, last, &at) {
			if b.Kinds[i] != trace.KindClient || resent.of[i] < 1 {
				continue
			}
			if resent.of[i] > 3 {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

// earliestEnd returns the earliest end of the spans that have one of the names and no error status.
func earliestEnd(b *columnar.Batch, t int, hasName []bool) trace.Time {
	earliest := ^trace.Time(0)
	for i := b.First[t]; i < b.First[t+1]; i++ {
		if hasName[b.Names.Codes[i]] && b.Statuses[i] != trace.StatusError {
			earliest = min(earliest, b.Ends[i])
		}
	}
	return earliest
}

func chargeIsChecked(b *columnar.Batch, out []rules.Outcome) {
	amount := doubles(b, "app.payment.amount")
	isCheck := codes(&b.Names, "fraud.check")
	isPayment, services := codes(&b.Service().Text, "payment"), b.Service().Text.Codes
	at := int32(-1)
	for t := range out {
		out[t] = rules.NotApplicable
		last := b.First[t+1]
		checked := trace.Time(0)
		for i := amount.next(b.First[t], last, &at); i >= 0; i = amount.next(i+1, last, &at) {
			if amount.of[i] <= 1000 || !isPayment[services[b.Resources[i]]] {
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

func databaseHasOneOwner(b *columnar.Batch, out []rules.Outcome) {
	namespaces := texts(b, "db.namespace")
	isPayments := codes(namespaces, "payment_db")
	isPayment, services := codes(&b.Service().Text, "payment"), b.Service().Text.Codes
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1]; i++ {
			if !isPayments[namespaces.Codes[i]] || b.Kinds[i] != trace.KindClient {
				continue
			}
			if !isPayment[services[b.Resources[i]]] {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

func personalDataNamesUser(classes ...string) Loop {
	return func(b *columnar.Batch, out []rules.Outcome) {
		classifications, users := texts(b, "app.data.classification"), texts(b, "user.id").Codes
		isPersonal := codes(classifications, classes...)
		for t := range out {
			out[t] = rules.NotApplicable
			for i := b.First[t]; i < b.First[t+1]; i++ {
				if !isPersonal[classifications.Codes[i]] {
					continue
				}
				a := i
				for a >= 0 && users[a] == 0 {
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
}

func ordersAnswerInTime(b *columnar.Batch, out []rules.Outcome) {
	routes := texts(b, "http.route")
	isRoute := codes(routes, "/api/v2/orders/{id}/summary")
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1]; i++ {
			if !isRoute[routes.Codes[i]] || b.Kinds[i] != trace.KindServer {
				continue
			}
			if b.Ends[i]-b.Starts[i] > trace.Time(5*time.Second) {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

func tlsIsRecent(b *columnar.Batch, out []rules.Outcome) {
	versions := texts(b, "tls.protocol.version")
	isKnown, isWeak := codes(versions, "1.0", "1.1", "1.2", "1.3"), codes(versions, "1.0", "1.1")
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1]; i++ {
			if !isKnown[versions.Codes[i]] {
				continue
			}
			if isWeak[versions.Codes[i]] {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

func environmentsDoNotMix(b *columnar.Batch, out []rules.Outcome) {
	environments := &b.ResourceAttribute("deployment.environment.name").Text
	isProduction := codes(environments, "production")
	for t := range out {
		out[t] = rules.NotApplicable
		production, other := false, false
		last := int32(-1)
		for i := b.First[t]; i < b.First[t+1] && !(production && other); i++ {
			r := b.Resources[i]
			if r == last { // neighbours usually belong to one service
				continue
			}
			last = r
			if code := environments.Codes[r]; isProduction[code] {
				production = true
			} else if code != 0 {
				other = true
			}
		}
		switch {
		case production && other:
			out[t] = rules.Violation
		case production:
			out[t] = rules.Pass
		}
	}
}

func toolIsApproved(b *columnar.Batch, out []rules.Outcome) {
	operations, effects, approvals := texts(b, "gen_ai.operation.name"), texts(b, "app.tool.effect"), texts(b, "app.approval.by").Codes
	isTool, isIrreversible := codes(operations, "execute_tool"), codes(effects, "irreversible")
	for t := range out {
		out[t] = rules.NotApplicable
		for i := b.First[t]; i < b.First[t+1]; i++ {
			if !isIrreversible[effects.Codes[i]] || !isTool[operations.Codes[i]] {
				continue
			}
			if !siblingBefore(b, t, i, func(s int32) bool { return approvals[s] != 0 }) {
				out[t] = rules.Violation
				break
			}
			out[t] = rules.Pass
		}
	}
}

// siblingBefore reports whether a child of span i's parent matches is and ended before i began.
func siblingBefore(b *columnar.Batch, t int, i int32, is func(s int32) bool) bool {
	p, start := b.Parents[i], b.Starts[i]
	if p < 0 {
		return false
	}
	// Siblings that begin later do not end before i begins.
	for s := b.First[t]; s < b.First[t+1] && b.Starts[s] <= start; s++ {
		if b.Parents[s] == p && b.Ends[s] <= start && is(s) {
			return true
		}
	}
	return false
}

func tokensAreBounded(b *columnar.Batch, out []rules.Outcome) {
	operations := texts(b, "gen_ai.operation.name")
	isCall := codes(operations, "chat", "generate_content")
	input, output := ints(b, "gen_ai.usage.input_tokens"), ints(b, "gen_ai.usage.output_tokens")
	at := int32(-1)
	for t := range out {
		out[t] = rules.NotApplicable
		applies, broken := false, false
		last := b.First[t+1]
		for i := input.next(b.First[t], last, &at); i >= 0; i = input.next(i+1, last, &at) {
			n := input.of[i]
			applies = applies || n >= 0 && isCall[operations.Codes[i]]
			broken = broken || n > 200_000 || output.is.Has(i) && n+output.of[i] > 200_000
		}
		switch {
		case applies && broken:
			out[t] = rules.Violation
		case applies:
			out[t] = rules.Pass
		}
	}
}
