package rulestest

import (
	"math"

	"github.com/betracehq/betrace/trace"
)

// keys are the keys of attributes. Spans, resources, events and links share them, so that a key occurs in
// several of them, with several types. Only the first idents keys can be selected.
var keys = []string{"a", "b", "c", "n", "http.route", "größe", trace.ServiceName}

const idents = 4

// texts are names, values and constants. Some contain a number, a time, a duration, an invalid regular
// expression, another key, a card number or almost one.
var texts = []string{
	"", "a", "b", "ab", "A", "x,y", "1", "2.5", "1s", "2026-01-02T03:04:05Z", "größe", "日本", "(", "true", "a.*",
	"a 4111 1111 1111 1111", "4111111111111112",
}

// common are the strings that are chosen most of the time.
var common = texts[1:4]

// broken is not UTF-8. Some OTLP receivers accept it in protobuf. It cannot be written as a constant.
const broken = "a\xff"

// numbers are numeric values. Those that can be written as constants are also in literals.
var numbers = []trace.Value{
	trace.IntValue(0), trace.IntValue(1), trace.IntValue(2), trace.IntValue(3), trace.IntValue(-1), trace.IntValue(500),
	trace.IntValue(1<<53 + 1), trace.IntValue(1 << 53), trace.IntValue(math.MaxInt64), trace.IntValue(math.MinInt64),
	trace.DoubleValue(0), trace.DoubleValue(math.Copysign(0, -1)), trace.DoubleValue(1), trace.DoubleValue(1.5), trace.DoubleValue(2), trace.DoubleValue(-0.1),
	trace.DoubleValue(1 << 53), trace.DoubleValue(1 << 63), trace.DoubleValue(-1 << 63), trace.DoubleValue(math.NaN()), trace.DoubleValue(math.Inf(1)), trace.DoubleValue(math.Inf(-1)),
	trace.DoubleValue(math.MaxFloat64), trace.DoubleValue(math.SmallestNonzeroFloat64),
}

var (
	ints         = []string{"0", "1", "2", "3", "-1", "500"}
	extremeInts  = []string{"9007199254740993", "9007199254740992", "9223372036854775807", "-9223372036854775808"}
	doubles      = []string{"0.0", "1.0", "1.5", "2.0", "-0.1", "2.5"}
	extremes     = []string{"-0.0", "9007199254740992.0", "9223372036854775808.0", "-9223372036854775808.0", "1e308", "5e-324", `double("NaN")`, `double("Infinity")`}
	uints        = []string{"0u", "1u", "2u", "9223372036854775807u", "9223372036854775808u", "18446744073709551615u"}
	durations    = []string{"0s", "1ns", "1ms", "2ms", "5ms", "1s", "-1ms", "1h"}
	times        = []string{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.002Z", "2026-01-02T04:04:05+01:00", "1970-01-01T00:00:00Z", "2262-04-12T00:00:00Z"}
	patterns     = []string{"a", "^a", "b$", "^a.*b$", "[0-9]+", "", "^$", "(?i)A", "ö", "a|x", `\\d`, "."}
	kinds        = trace.KindNames[:]
	statuses     = trace.StatusNames[:]
	textFields   = []string{"name", "name", "service", "service", "statusMessage", "scope", "scopeVersion", "id", "kind", "status"}
	variableName = []string{"s", "t", "u", "x", "y", "k"}
)

// epoch is the start of most traces, times[0].
const epoch = trace.Time(1767323045_000000000)
