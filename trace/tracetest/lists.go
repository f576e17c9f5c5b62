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

// AddLists replaces a share, from 0 to 1, of the scalar attributes of spans and resources by lists. Each list
// holds the value and values that other spans have under the same key. service.name is not changed. The
// result depends only on the seed; a span in several messages remains equal in all of them.
func AddLists(seed uint64, share float64, batches ...ptrace.Traces) {
	others := map[string][]pcommon.Value{} // a few values for each key and type
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

// eachMap calls do with the attributes of each span, and of each resource that has spans, together with the
// trace's ID. A resource with spans of several traces has the ID of the first.
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
