package byhand

import (
	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// Loop judges the traces of a batch by one rule and sets the outcome of each.
type Loop func(b *columnar.Batch, out []rules.Outcome)

// One is the loop for rulesets.One.
func One(b *columnar.Batch, out []rules.Outcome) {
	isCheckout := codes(&b.Service().Text, "checkout")
	methods := texts(b, "http.request.method")
	isPost := codes(methods, "POST")
	services, status, resent := b.Service().Text.Codes, ints(b, "http.response.status_code"), ints(b, "http.request.resend_count")
	for t := range out {
		out[t] = rules.NotApplicable
		first, last := b.First[t], b.First[t+1]
		for i := first; i < last; i++ {
			if b.Kinds[i] != trace.KindServer || !isPost[methods.Codes[i]] || !isCheckout[services[b.Resources[i]]] {
				continue
			}
			out[t] = rules.Pass
			for i := resent.is.Next(first); i >= 0 && i < last; i = resent.is.Next(i + 1) {
				if resent.of[i] > 3 && b.Kinds[i] == trace.KindClient && status.is.Has(i) && status.of[i] >= 200 {
					out[t] = rules.Violation
					break
				}
			}
			break
		}
	}
}

// Ten are the loops for rulesets.Ten, in the same order.
var Ten = []Loop{failuresAreErrors, retriesAreBounded, chargeIsChecked, databaseHasOneOwner, personalDataNamesUser("personal", "special"), ordersAnswerInTime, tlsIsRecent, environmentsDoNotMix, toolIsApproved, tokensAreBounded}

// Tree are the loops for rulesets.Tree, in the same order.
var Tree = []Loop{paymentIsCalledByItsClients, queriesServeSomebody, personalDataNamesUser("personal"), dataIsAudited, chargeFollowsCheck, retriesDoNotMultiply, dataFollowsAuthorization, stepsAreBounded, failedCallBelowSuccess, requestsDoNotLoop}

// texts returns the string column of an attribute, with one value for each span.
func texts(b *columnar.Batch, key string) *columnar.TextColumn {
	if c := b.Attribute(key); c != nil && c.Text.Codes != nil {
		return &c.Text
	}
	return &columnar.TextColumn{Codes: make([]uint32, b.NumSpans())}
}

// numbers are an attribute's numbers of one type, with a bitmap of the spans that have one.
type numbers[N int64 | float64] struct {
	of []N
	is columnar.Bits
}

func ints(b *columnar.Batch, key string) numbers[int64] {
	if c := b.Attribute(key); c != nil {
		return numbers[int64]{c.Ints, c.IsInt}
	}
	return numbers[int64]{}
}

func doubles(b *columnar.Batch, key string) numbers[float64] {
	if c := b.Attribute(key); c != nil {
		return numbers[float64]{c.Doubles, c.IsDouble}
	}
	return numbers[float64]{}
}

// next returns the first span of a trace at or after i that has a number, or -1. at caches the position
// of the last search: where numbers are rare, most traces need no further search.
func (n *numbers[N]) next(i, last int32, at *int32) int32 {
	if *at < i {
		if *at = n.is.Next(i); *at < 0 {
			*at = 1<<31 - 1
		}
	}
	if *at >= last {
		return -1
	}
	return *at
}
