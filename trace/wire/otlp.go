package wire

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace"
)

// TagOldScopes is the tag of the field of ResourceSpans that held spans before OTLP 0.15,
// instrumentation_library_spans. It has the same content as scope_spans.
const TagOldScopes = 1000<<3 + Len

// MaxDepth is the maximum nesting of messages in an attribute, as in pdata's unmarshaler.
const MaxDepth = 100

// ErrTooDeep is the error for a value that exceeds MaxDepth.
var ErrTooDeep = errors.New("a value is nested more than 100 messages deep")

// Container records which fields a message has that exists only to hold other messages.
type Container struct {
	Content bool  // whether the message has a field of its expected content
	unknown int32 // the number of an unknown field, 0 for none
}

// See records a field other than the content. known is the highest field number that OTLP defines.
func (c *Container) See(num int32, known int32) {
	if num > known {
		c.unknown = num
	}
}

// Check returns an error if the message has no content but an unknown field, which may hold the content under
// a wrong number.
func (c *Container) Check(name, content string) error {
	if c.unknown != 0 && !c.Content {
		return fmt.Errorf("%s without %s, but with field %d, which OTLP does not define", name, content, c.unknown)
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
					return fmt.Errorf("span %d (%q, service %q, trace ID %q, span ID %q) has no valid ID: OTLP requires 16 bytes for a trace and 8 for a span, not all zero",
						i, s.Name(), service, s.TraceID().String(), s.SpanID().String())
				}
			}
		}
	}
	return nil
}
