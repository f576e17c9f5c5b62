package otlp_test

import (
	"fmt"
	"strings"

	"github.com/betracehq/betrace/trace/otlp"
)

func ExampleRead() {
	file := strings.NewReader(`{"resourceSpans": [{
		"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]},
		"scopeSpans": [{"spans": [
			{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "GET /cart", "kind": 2, "startTimeUnixNano": "10", "endTimeUnixNano": "90"},
			{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "00f067aa0ba902b7", "parentSpanId": "b7ad6b7169203331", "name": "SELECT cart", "kind": 3, "startTimeUnixNano": "20", "endTimeUnixNano": "70"}
		]}]
	}]}`)
	var c otlp.Collector
	if err := otlp.Read(file, c.Add); err != nil {
		fmt.Println(err)
	}
	for _, t := range c.Traces() {
		fmt.Println(t.ID, t.Services(), t.Duration())
		for i := range t.Spans {
			fmt.Println(t.Spans[i].Kind, t.Spans[i].Name, "ancestors:", t.Ancestors(i))
		}
	}
	// Output:
	// 0af7651916cd43dd8448eb211c80319c [web] 80ns
	// server GET /cart ancestors: []
	// client SELECT cart ancestors: [0]
}
