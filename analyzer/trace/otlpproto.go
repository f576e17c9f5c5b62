package trace

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// signal is the kind of data in a message.
type signal int

const (
	traceSignal signal = iota
	otherSignal        // logs, metrics or profiles
)

// tagOldScopes is the field of ResourceSpans that had spans before OTLP 0.15:
// instrumentation_library_spans, whose content is that of scope_spans.
const tagOldScopes = 1000<<3 + wireLen

// readProtoMessage reads a message of a file.
func readProtoMessage(b []byte) (ptrace.Traces, signal, error) {
	td, err := readTraces(b)
	if err == nil {
		// A metric whose name is as long as a trace ID, and its description as a span ID, seems
		// to be a span; but without times.
		if !hasTimes(td) && isOtherSignal(b) {
			return td, otherSignal, nil
		}
		return td, traceSignal, nil
	}
	if inner, ok, answerErr := tempoAnswer(b); ok {
		if answerErr == nil {
			td, answerErr = readTraces(inner)
		}
		return td, traceSignal, answerErr
	}
	if isOtherSignal(b) {
		return td, otherSignal, nil
	}
	return td, traceSignal, err
}

// hasTimes reports whether the first span has a time.
func hasTimes(td ptrace.Traces) bool {
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				return s.StartTimestamp() != 0 || s.EndTimestamp() != 0
			}
		}
	}
	return false
}

func readTraces(b []byte) (ptrace.Traces, error) {
	b, err := checkContainers(b)
	if err != nil {
		return ptrace.Traces{}, err
	}
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
	if err != nil {
		// FillOTLP finds the same fault, and names its place.
		if _, named := NewFiller(Needs{All: true}).FillOTLP(b); named != nil {
			err = errors.Unwrap(named)
		}
		return td, err
	}
	return td, checkIDs(td)
}

// container counts the fields of a message that has others in it.
type container struct {
	content bool  // there is a field of the content for which the message exists
	unknown int32 // the number of a field that OTLP does not have
}

// see notes a field that is not content.
func (c *container) see(num int32, known int32) {
	if num > known {
		c.unknown = num
	}
}

// check refuses a message whose content may be in a field that is not known.
func (c *container) check(name, content string) error {
	if c.unknown != 0 && !c.content {
		return fmt.Errorf("%s without %s, but with field %d, which OTLP does not have", name, content, c.unknown)
	}
	return nil
}

// checkContainers refuses a message in which spans may be in fields that are not known.
// Where ResourceSpans have spans in the older field, which pdata does not take from
// protobuf, it returns a message that has them in the newer one.
func checkContainers(b []byte) ([]byte, error) {
	var c container
	rename := false
	f := message(b)
	for f.next() {
		if f.tag != 1<<3+wireLen {
			c.see(f.num, 1)
			continue
		}
		c.content = true
		older, err := checkResourceSpans(f.sub())
		if err != nil {
			return nil, err
		}
		rename = rename || older
	}
	if f.err != nil {
		return nil, f.err
	}
	if err := c.check("TracesData", "resource_spans"); err != nil {
		return nil, err
	}
	if rename {
		b = renameOldScopes(b)
	}
	return b, nil
}

// checkResourceSpans also reports whether there are spans in the older field.
func checkResourceSpans(f fields) (older bool, err error) {
	var c container
	for f.next() {
		if f.tag != 2<<3+wireLen && f.tag != tagOldScopes {
			c.see(f.num, 3)
			continue
		}
		older = older || f.tag == tagOldScopes
		c.content = true
		var s container
		scope := f.sub()
		for scope.next() {
			if scope.tag == 2<<3+wireLen {
				s.content = true
			} else {
				s.see(scope.num, 3)
			}
		}
		if scope.err != nil {
			return false, scope.err
		}
		if err := s.check("ScopeSpans", "spans"); err != nil {
			return false, err
		}
	}
	if f.err != nil {
		return false, f.err
	}
	return older, c.check("ResourceSpans", "scope_spans")
}

// renameOldScopes returns the message with the spans of the older field in the newer one.
func renameOldScopes(b []byte) (out []byte) {
	for f := message(b); f.next(); {
		if f.tag != 1<<3+wireLen {
			continue
		}
		var batch []byte
		for in := f.sub(); ; {
			from := in.i
			if !in.next() {
				break
			}
			if in.tag == tagOldScopes {
				batch = appendBytes(batch, 2, in.content())
			} else {
				batch = append(batch, in.b[from:in.i]...)
			}
		}
		out = appendBytes(out, 1, batch)
	}
	return out
}

// tempoAnswer returns the trace in an answer of Tempo's API v2, TraceByIDResponse, and
// whether the message is one: {1: trace, 2: metrics, 3: status, 4: message}.
func tempoAnswer(b []byte) (trace []byte, ok bool, err error) {
	f := message(b)
	partial := false
	text := ""
	for n := 0; f.next(); {
		switch f.tag {
		case 1<<3 + wireLen:
			if n++; n > 1 {
				return nil, false, nil
			}
			trace = f.content()
		case 2<<3 + wireLen:
		case 3<<3 + wireVarint:
			partial = f.value == 1
		case 4<<3 + wireLen:
			text = clip(f.content())
		default:
			return nil, false, nil
		}
	}
	if f.err != nil || trace == nil {
		return nil, false, nil
	}
	for in := message(trace); in.next(); { // a trace has nothing but ResourceSpans
		if in.tag != 1<<3+wireLen {
			return nil, false, nil
		}
	}
	if _, err := readTraces(trace); err != nil {
		return nil, false, nil
	}
	if partial {
		return nil, true, fmt.Errorf("Tempo gave a part of the trace (status PARTIAL: %q): raise its max_bytes_per_trace, and get the trace again", text)
	}
	return trace, true, nil
}

// wireShape is the part of a message that tells it from others: the wire type of each
// field, and the messages in it. With a field 0 there may be other fields.
type wireShape map[int32]wireShapeField

type wireShapeField struct {
	typ  uint64
	sure bool // only messages of this kind have the field
	of   wireShape
}

var (
	resourceShape = wireShape{1: {typ: wireLen}, 2: {typ: wireVarint}, 3: {typ: wireLen}}
	scopeShape    = wireShape{1: {typ: wireLen}, 2: {typ: wireLen}, 3: {typ: wireLen}, 4: {typ: wireVarint}}
	logShape      = wireShape{1: {typ: wireI64, sure: true}, 2: {typ: wireVarint, sure: true}, 3: {typ: wireLen}, 5: {typ: wireLen}, 6: {typ: wireLen}, 7: {typ: wireVarint},
		8: {typ: wireI32}, 9: {typ: wireLen}, 10: {typ: wireLen}, 11: {typ: wireI64, sure: true}, 12: {typ: wireLen}}
	// All kinds of metrics have data points in their field 1, with a time in their field 3.
	pointsShape = wireShapeField{typ: wireLen, of: wireShape{0: {}, 1: {typ: wireLen, of: wireShape{0: {}, 3: {typ: wireI64, sure: true}}}}}
	metricShape = wireShape{1: {typ: wireLen}, 2: {typ: wireLen}, 3: {typ: wireLen}, 5: pointsShape, 7: pointsShape, 9: pointsShape, 10: pointsShape, 11: pointsShape, 12: {typ: wireLen}}

	otherShapes = []wireShape{
		{1: signalShape(logShape)},
		{1: signalShape(metricShape)},
		{1: signalShape(nil), 2: {typ: wireLen, sure: true}}, // profiles, and their dictionary
	}
)

// signalShape returns the shape of ResourceLogs and the like, of such records.
func signalShape(record wireShape) wireShapeField {
	return wireShapeField{typ: wireLen, of: wireShape{
		1: {typ: wireLen, of: resourceShape}, 3: {typ: wireLen},
		2: {typ: wireLen, of: wireShape{1: {typ: wireLen, of: scopeShape}, 2: {typ: wireLen, of: record}, 3: {typ: wireLen}}},
	}}
}

// isOtherSignal reports whether a message that is no traces is of another signal: all of
// its fields are those of that signal, and it has one that traces do not have.
func isOtherSignal(b []byte) bool {
	for _, shape := range otherShapes {
		if fits, sure := shape.fits(message(b)); fits && sure {
			return true
		}
	}
	return false
}

func (s wireShape) fits(f fields) (fits, sure bool) {
	_, open := s[0]
	for f.next() {
		field, known := s[f.num]
		if !known && open {
			continue
		}
		if !known || field.typ != f.tag&7 {
			return false, false
		}
		sure = sure || field.sure
		if field.of != nil {
			fits, sureToo := field.of.fits(f.sub())
			if !fits {
				return false, false
			}
			sure = sure || sureToo
		}
	}
	return f.err == nil, sure
}
