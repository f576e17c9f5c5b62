package wire

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
)

// TagOldScopes is the field of ResourceSpans that had spans before OTLP 0.15:
// instrumentation_library_spans, whose content is that of scope_spans.
const TagOldScopes = 1000<<3 + Len

// MaxDepth is how many messages of an attribute lie one in the other at the most, as
// in pdata's unmarshaler.
const MaxDepth = 100

// ErrTooDeep is the error of a value that is nested deeper.
var ErrTooDeep = errors.New("a value is nested too deeply")

// Container counts the fields of a message that has others in it.
type Container struct {
	Content bool  // there is a field of the content for which the message exists
	unknown int32 // the number of a field that OTLP does not have
}

// See notes a field that is not content.
func (c *Container) See(num int32, known int32) {
	if num > known {
		c.unknown = num
	}
}

// Check refuses a message whose content may be in a field that is not known.
func (c *Container) Check(name, content string) error {
	if c.unknown != 0 && !c.Content {
		return fmt.Errorf("%s without %s, but with field %d, which OTLP does not have", name, content, c.unknown)
	}
	return nil
}

// CheckIDs returns an error that names the first span without valid IDs.
func CheckIDs(td ptrace.Traces) error {
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for i, s := range ss.Spans().All() {
				if s.TraceID().IsEmpty() || s.SpanID().IsEmpty() {
					service := ""
					if v, ok := rs.Resource().Attributes().Get(trace.ServiceName); ok {
						service = v.AsString()
					}
					return fmt.Errorf("span %d (%q, service %q, trace ID %q, span ID %q) has no valid ID: OTLP wants 16 bytes for a trace and 8 for a span, not all zero",
						i, s.Name(), service, s.TraceID().String(), s.SpanID().String())
				}
			}
		}
	}
	return nil
}
