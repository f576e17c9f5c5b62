package dsl_test

import (
	"fmt"

	"github.com/betracehq/betrace/rules/dsl"
)

func ExampleImport() {
	result := dsl.Import([]dsl.File{{Name: "payments.yaml", Data: []byte(`rules:
  - id: no-bypass
    name: Payments are not bypassed
    severity: HIGH
    condition: when { payment.charge } never { payment.bypass }
  - id: dotted
    severity: low
    condition: when { query.where(data.pii == true) }
`)}}, dsl.Options{})
	for _, err := range result.Errors {
		fmt.Println(err)
	}
	pack, err := result.Pack("payments")
	if err != nil {
		fmt.Println(err)
	}
	fmt.Print(string(pack))
	// Output:
	// payments.yaml:8:35: rule "dotted": data.pii ==: it may be the attribute "data.pii" of the filtered span, or pii of a span data: write "data.pii" in quotes for the former, a separate check outside of where(…) for the latter
	// apiVersion: betrace.dev/v1
	// kind: RulePack
	// metadata:
	//   name: payments
	// rules:
	//   - id: no-bypass
	//     title: Payments are not bypassed
	//     severity: high
	//     when: spans.exists(s, s.name == "payment.charge")
	//     never:
	//       - spans.exists(s, s.name == "payment.bypass")
}
