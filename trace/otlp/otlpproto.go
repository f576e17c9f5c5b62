package otlp

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/wire"
)

// signal is the kind of data in a message.
type signal int

const (
	traceSignal signal = iota
	otherSignal        // logs, metrics or profiles
)

// readProtoMessage reads a message of a file.
func readProtoMessage(b []byte) (ptrace.Traces, signal, error) {
	td, err := readTraces(b)
	if err == nil {
		// A metric may look like a span if its name is as long as a trace ID and its description is as long as
		// a span ID. Such a span has no times.
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
		// FillOTLP detects the same error and returns its place.
		if _, named := columnar.NewFiller(columnar.Needs{All: true}).FillOTLP(b); named != nil {
			err = errors.Unwrap(named)
		}
		return td, err
	}
	return td, wire.CheckIDs(td)
}

// checkContainers refuses a message that may have spans in unknown fields. If ResourceSpans have spans in the
// older field, which pdata does not read from protobuf, it returns a message that has them in the newer
// field.
func checkContainers(b []byte) ([]byte, error) {
	var c wire.Container
	rename := false
	f := wire.Message(b)
	for f.Next() {
		if f.Tag != 1<<3+wire.Len {
			c.See(f.Num, 1)
			continue
		}
		c.Content = true
		older, err := checkResourceSpans(f.Sub())
		if err != nil {
			return nil, err
		}
		rename = rename || older
	}
	if f.Err != nil {
		return nil, f.Err
	}
	if err := c.Check("TracesData", "resource_spans"); err != nil {
		return nil, err
	}
	if rename {
		b = renameOldScopes(b)
	}
	return b, nil
}

// checkResourceSpans checks ResourceSpans. It also reports whether the older field has spans.
func checkResourceSpans(f wire.Fields) (older bool, err error) {
	var c wire.Container
	for f.Next() {
		if f.Tag != 2<<3+wire.Len && f.Tag != wire.TagOldScopes {
			c.See(f.Num, 3)
			continue
		}
		older = older || f.Tag == wire.TagOldScopes
		c.Content = true
		var s wire.Container
		scope := f.Sub()
		for scope.Next() {
			if scope.Tag == 2<<3+wire.Len {
				s.Content = true
			} else {
				s.See(scope.Num, 3)
			}
		}
		if scope.Err != nil {
			return false, scope.Err
		}
		if err := s.Check("ScopeSpans", "spans"); err != nil {
			return false, err
		}
	}
	if f.Err != nil {
		return false, f.Err
	}
	return older, c.Check("ResourceSpans", "scope_spans")
}

// renameOldScopes returns the message with the older field's spans moved to the newer field.
func renameOldScopes(b []byte) (out []byte) {
	for f := wire.Message(b); f.Next(); {
		if f.Tag != 1<<3+wire.Len {
			continue
		}
		var batch []byte
		for in := f.Sub(); ; {
			from := in.Pos
			if !in.Next() {
				break
			}
			if in.Tag == wire.TagOldScopes {
				batch = appendBytes(batch, 2, in.Content())
			} else {
				batch = append(batch, in.Bytes[from:in.Pos]...)
			}
		}
		out = appendBytes(out, 1, batch)
	}
	return out
}

// tempoAnswer returns the trace in a TraceByIDResponse of Tempo's API v2, {1: trace, 2: metrics, 3: status,
// 4: message}. ok is false if the message is not such a response.
func tempoAnswer(b []byte) (trace []byte, ok bool, err error) {
	f := wire.Message(b)
	partial := false
	text := ""
	for n := 0; f.Next(); {
		switch f.Tag {
		case 1<<3 + wire.Len:
			if n++; n > 1 {
				return nil, false, nil
			}
			trace = f.Content()
		case 2<<3 + wire.Len:
		case 3<<3 + wire.Varint:
			partial = f.Value == 1
		case 4<<3 + wire.Len:
			text = clip(f.Content())
		default:
			return nil, false, nil
		}
	}
	if f.Err != nil || trace == nil {
		return nil, false, nil //nolint:nilerr // it is another message
	}
	for in := wire.Message(trace); in.Next(); { // a trace consists of ResourceSpans only
		if in.Tag != 1<<3+wire.Len {
			return nil, false, nil
		}
	}
	if _, err := readTraces(trace); err != nil {
		return nil, false, nil //nolint:nilerr // it is another message
	}
	if partial {
		return nil, true, fmt.Errorf("only a part of the trace was returned by Tempo (status PARTIAL: %q): raise its max_bytes_per_trace, and get the trace again", text)
	}
	return trace, true, nil
}

// wireShape describes the fields by which a message can be recognized: the wire type of each field, and the
// messages in it. If it has a field 0, other fields are allowed.
type wireShape map[int32]wireShapeField

type wireShapeField struct {
	typ  uint64
	sure bool // only messages of this kind have the field
	of   wireShape
}

var (
	resourceShape = wireShape{1: {typ: wire.Len}, 2: {typ: wire.Varint}, 3: {typ: wire.Len}}
	scopeShape    = wireShape{1: {typ: wire.Len}, 2: {typ: wire.Len}, 3: {typ: wire.Len}, 4: {typ: wire.Varint}}
	logShape      = wireShape{1: {typ: wire.I64, sure: true}, 2: {typ: wire.Varint, sure: true}, 3: {typ: wire.Len}, 5: {typ: wire.Len}, 6: {typ: wire.Len}, 7: {typ: wire.Varint},
		8: {typ: wire.I32}, 9: {typ: wire.Len}, 10: {typ: wire.Len}, 11: {typ: wire.I64, sure: true}, 12: {typ: wire.Len}}
	// All kinds of metrics have data points in field 1, which have a time in field 3.
	pointsShape = wireShapeField{typ: wire.Len, of: wireShape{0: {}, 1: {typ: wire.Len, of: wireShape{0: {}, 3: {typ: wire.I64, sure: true}}}}}
	metricShape = wireShape{1: {typ: wire.Len}, 2: {typ: wire.Len}, 3: {typ: wire.Len}, 5: pointsShape, 7: pointsShape, 9: pointsShape, 10: pointsShape, 11: pointsShape, 12: {typ: wire.Len}}

	otherShapes = []wireShape{
		{1: signalShape(logShape)},
		{1: signalShape(metricShape)},
		{1: signalShape(nil), 2: {typ: wire.Len, sure: true}}, // profiles and their dictionary
	}
)

// signalShape returns the shape of ResourceLogs or its counterparts, given the shape of a record.
func signalShape(record wireShape) wireShapeField {
	return wireShapeField{typ: wire.Len, of: wireShape{
		1: {typ: wire.Len, of: resourceShape}, 3: {typ: wire.Len},
		2: {typ: wire.Len, of: wireShape{1: {typ: wire.Len, of: scopeShape}, 2: {typ: wire.Len, of: record}, 3: {typ: wire.Len}}},
	}}
}

// isOtherSignal reports whether a message that is not traces belongs to another signal: it has only fields of
// that signal, and at least one that traces do not have.
func isOtherSignal(b []byte) bool {
	for _, shape := range otherShapes {
		if fits, sure := shape.fits(wire.Message(b)); fits && sure {
			return true
		}
	}
	return false
}

func (s wireShape) fits(f wire.Fields) (fits, sure bool) {
	_, open := s[0]
	for f.Next() {
		field, known := s[f.Num]
		if !known && open {
			continue
		}
		if !known || field.typ != f.Tag&7 {
			return false, false
		}
		sure = sure || field.sure
		if field.of != nil {
			fits, sureToo := field.of.fits(f.Sub())
			if !fits {
				return false, false
			}
			sure = sure || sureToo
		}
	}
	return f.Err == nil, sure
}
