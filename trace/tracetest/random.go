package tracetest

import (
	"math"
	"math/rand/v2"

	"github.com/betracehq/betrace/trace"
)

// Attributes returns the attributes of alternating keys and values: see [Value].
func Attributes(kv ...any) trace.Attributes {
	var as []trace.Attribute
	for i := 0; i < len(kv); i += 2 {
		as = append(as, trace.Attribute{Key: kv[i].(string), Value: Value(kv[i+1])})
	}
	normal, _ := trace.NewAttributes(as)
	return normal
}

// Value converts a Go value to a value, and nil to an absent one. It panics if the type is not supported.
func Value(v any) trace.Value {
	switch v := v.(type) {
	case nil:
		return trace.Value{}
	case string:
		return trace.StringValue(v)
	case bool:
		return trace.BoolValue(v)
	case int:
		return trace.IntValue(int64(v))
	case float64:
		return trace.DoubleValue(v)
	case []byte:
		return trace.BytesValue(v)
	case []any:
		var list []trace.Value
		for _, e := range v {
			list = append(list, Value(e))
		}
		return trace.ArrayValue(list...)
	case trace.Attributes:
		return trace.MapValue(v)
	}
	panic(v)
}

// Ordered holds values of every type, in the order defined by [trace.Value.Compare].
var Ordered = []trace.Value{
	Value(nil),
	Value(""), Value("\x00"), Value("Z"), Value("a"), Value("a\x00"), Value("aa"), Value("é"), Value("世"),
	Value(false), Value(true),
	Value(math.MinInt64), Value(-1), Value(0), Value(1<<53 + 1), Value(math.MaxInt64),
	trace.DoubleValue(math.Float64frombits(0x7ff8000000000001)), trace.DoubleValue(math.Float64frombits(0x7ff8000000000002)),
	Value(math.Inf(-1)), Value(-1.5), Value(0.0), Value(math.Copysign(0, -1)), Value(5e-324), Value(1.5), Value(math.Inf(1)),
	Value([]any{}), Value([]any{nil}), Value([]any{"z"}), Value([]any{9.5}), Value([]any{"a", "b"}), Value([]any{"a", "c"}), Value([]any{1, 1, 1}), Value([]any{1, 1, []any{}}),
	Value(Attributes()), Value(Attributes("a", "z")), Value(Attributes("a", 1)), Value(Attributes("b", "a")), Value(Attributes("a", 1, "b", 1)), Value(Attributes("a", 1, "b", 2)),
	Value([]byte{}), Value([]byte{0}), Value([]byte{0xff}), Value([]byte{0xff, 0}),
}

// randomValue chooses from few values, so that copies often agree in part.
func randomValue(r *rand.Rand, depth int) trace.Value {
	pick := Ordered[r.IntN(len(Ordered))]
	if depth > 0 && r.IntN(4) == 0 {
		list := make([]trace.Value, r.IntN(3))
		for i := range list {
			list[i] = randomValue(r, depth-1)
		}
		return trace.ArrayValue(list...)
	}
	return pick
}

func randomAttributes(r *rand.Rand) trace.Attributes {
	var as []trace.Attribute
	for range r.IntN(4) {
		as = append(as, trace.Attribute{Key: string(rune('a' + r.IntN(4))), Value: randomValue(r, 2)})
	}
	normal, _ := trace.NewAttributes(as)
	return normal
}

// RandomSpan returns a random span with one of ids IDs and kinds kinds. The other fields have few different
// values each.
func RandomSpan(r *rand.Rand, ids, kinds int) trace.Span {
	text := func() string { return []string{"", "a", "b"}[r.IntN(3)] }
	s := trace.Span{
		ID: id(byte(1 + r.IntN(ids))), Kind: trace.Kind(r.IntN(kinds)), ParentID: id(byte(r.IntN(ids + 1))),
		Name: text(), Start: trace.Time(r.IntN(6)), End: trace.Time(r.IntN(6)),
		Status: trace.Status(r.IntN(3)), StatusMessage: text(), Scope: text(), ScopeVersion: text(),
		Attributes: randomAttributes(r), Resource: randomAttributes(r),
	}
	for range r.IntN(3) {
		s.Events = append(s.Events, trace.Event{Time: trace.Time(r.IntN(2)), Name: text(), Attributes: randomAttributes(r)})
	}
	for range r.IntN(3) {
		s.Links = append(s.Links, trace.Link{TraceID: trace.ID{byte(r.IntN(2))}, SpanID: id(byte(r.IntN(2))), Attributes: randomAttributes(r)})
	}
	return s
}

func id(n byte) trace.SpanID { return trace.SpanID{7: n} }
