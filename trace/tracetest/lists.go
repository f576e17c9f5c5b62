package tracetest

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
)

// AddLists replaces a share (0 to 1) of the scalar attributes of spans and resources by
// lists of the value and of values that other spans have under the same key. It leaves
// service.name as it is. The seed decides; a span that is in several messages remains
// the same in all of them.
func AddLists(seed uint64, share float64, batches ...ptrace.Traces) {
	others := map[string][]pcommon.Value{} // the first values by key and type
	eachMap(batches, func(_ string, m pcommon.Map) {
		for key, v := range m.All() {
			key := fmt.Sprint(v.Type(), key)
			if isNew := !slices.ContainsFunc(others[key], v.Equal); isNew && len(others[key]) < 4 {
				other := pcommon.NewValueEmpty()
				v.CopyTo(other)
				others[key] = append(others[key], other)
			}
		}
	})
	eachMap(batches, func(of string, m pcommon.Map) {
		for key, v := range m.All() {
			switch v.Type() {
			case pcommon.ValueTypeStr, pcommon.ValueTypeInt, pcommon.ValueTypeDouble, pcommon.ValueTypeBool:
			default:
				continue
			}
			h := fnv.New64a()
			fmt.Fprint(h, of, key, v.AsString()) // never fails
			rng := rand.New(rand.NewPCG(seed, h.Sum64()))
			if key == trace.ServiceName || rng.Float64() >= share {
				continue
			}
			list := pcommon.NewValueSlice()
			v.CopyTo(list.Slice().AppendEmpty())
			for _, other := range others[fmt.Sprint(v.Type(), key)] {
				if rng.IntN(2) == 0 {
					other.CopyTo(list.Slice().AppendEmpty())
				}
			}
			list.CopyTo(v)
		}
	})
}

// eachMap calls do with the attributes of each span, and of each resource that has spans,
// and with the trace's ID. Resources with spans of several traces have the first one's.
func eachMap(batches []ptrace.Traces, do func(of string, m pcommon.Map)) {
	for _, td := range batches {
		for _, rs := range td.ResourceSpans().All() {
			of := ""
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					if of == "" {
						of = s.TraceID().String()
					}
					do(s.TraceID().String(), s.Attributes())
				}
			}
			if of != "" {
				do(of, rs.Resource().Attributes())
			}
		}
	}
}
