package rulesets

import (
	"fmt"

	"github.com/betracehq/betrace/bench/batches"
)

// OfManyTexts returns n rules on string attributes with many distinct values: users, sessions, messages
// and URLs. Each rule applies to few traces, and none is violated.
func OfManyTexts(n int) []Rule {
	var set []Rule
	for i := range n {
		when := [...]string{
			`s["user.id"] == "user-%d"`, `s["session.id"] == "session-%d"`, `s["messaging.message.id"].startsWith("message-%d7")`, `s["url.full"].endsWith("/9%d")`,
		}[i%4]
		set = append(set, Rule{
			ID:    fmt.Sprintf("texts-%05d", i),
			When:  fmt.Sprintf("spans.exists(s, "+when+" && s.duration > duration(\"1us\"))", i),
			Never: fmt.Sprintf(`spans.exists(s, s["user.id"] == "nobody-%d")`, i),
		})
	}
	return set
}

// OfPlain returns n rules that together read the given number of plain attributes of package batches.
// None is violated.
func OfPlain(n, attributes int) []Rule {
	var set []Rule
	for i := range n {
		key, value := batches.PlainKey(i%attributes), batches.PlainValue(i*7/attributes%batches.PlainValues)
		set = append(set, Rule{
			ID:    fmt.Sprintf("plain-%05d", i),
			When:  fmt.Sprintf(`spans.exists(s, s[%q] == %q && s.duration > duration("%dms"))`, key, value, 100+i),
			Never: fmt.Sprintf(`spans.exists(s, s[%q] == "gone-%d")`, key, i),
		})
	}
	return set
}
