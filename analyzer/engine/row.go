package engine

import (
	"bytes"
	"context"
	"math"
	"slices"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// value evaluates a node where the variables are rows, as j.env says, of trace j.trace.
func (j *Judge) value(n *node) value {
	switch n.op {
	case opConst:
		return n.constant
	case opVar, opParent, opRoot:
		kind, row, ok := j.object(n)
		if !ok {
			return value{}
		}
		return value{kind: kind, i: int64(row)}
	case opPresent:
		_, _, ok := j.object(n.args[0])
		return boolValue(ok)
	case opTraceField:
		return j.traceField(n.field)
	case opField:
		return j.field(n)
	case opAttribute:
		return j.attribute(n)
	case opHas:
		return boolValue(j.attribute(n).kind != kindAbsent)
	case opCompare:
		return compare(n.comparison, j.value(n.args[0]), j.value(n.args[1])).value()
	case opIn:
		return j.in(n)
	case opAnd, opOr:
		decisive, found := isFalse, isTrue
		if n.op == opOr {
			decisive, found = isTrue, isFalse
		}
		for _, a := range n.args {
			switch v := j.value(a).truth(); v {
			case decisive:
				return v.value()
			case isUnknown:
				found = isUnknown
			}
		}
		return found.value()
	case opNot:
		switch j.value(n.args[0]).truth() {
		case isTrue:
			return boolValue(false)
		case isFalse:
			return boolValue(true)
		}
		return unknownValue
	case opTruth:
		return j.value(n.args[0]).truth().value()
	case opChoose:
		switch j.value(n.args[0]).truth() {
		case isTrue:
			return j.value(n.args[1])
		case isFalse:
			return j.value(n.args[2])
		}
		return unknownValue
	case opCalculate:
		return calculate(n.function, j.value(n.args[0]), j.value(n.args[1]))
	case opTextTest:
		return n.text.holds(j.value(n.args[0])).value()
	case opPart:
		return j.partOf(n)
	case opQuantify:
		return j.quantify(n)
	}
	return unknownValue
}

// object returns the row of a span, event or link.
func (j *Judge) object(n *node) (kind, int32, bool) {
	switch n.op {
	case opVar:
		return [...]kind{spans: kindSpan, events: kindEvent, links: kindLink}[n.binder.domain], j.env[n.binder.id], true
	case opParent:
		_, row, ok := j.object(n.args[0])
		if !ok {
			return 0, 0, false
		}
		at := j.b.Parents[row]
		return kindSpan, at, at >= 0
	case opRoot:
		at := j.rootOf(j.trace - j.frame[traces].first)
		return kindSpan, at, at != noRoot
	}
	return 0, 0, false
}

func (j *Judge) traceField(field string) value {
	b := j.b
	start := b.Starts[b.First[j.trace]]
	if field == "start" {
		return value{kind: kindTime, i: int64(start)}
	}
	end := trace.Time(0)
	for _, e := range b.Ends[b.First[j.trace]:b.First[j.trace+1]] {
		end = max(end, e)
	}
	if field == "end" {
		return value{kind: kindTime, i: int64(end)}
	}
	return value{kind: kindDuration, i: int64(end.Sub(start))}
}

// fieldNumber is a field that is read row by row.
type fieldNumber uint8

const (
	fieldUnknown fieldNumber = iota
	fieldName
	fieldService
	fieldKind
	fieldStatus
	fieldStatusMessage
	fieldScope
	fieldScopeVersion
	fieldStart
	fieldEnd
	fieldDuration
	fieldTime
)

var fieldNumbers = map[string]fieldNumber{
	"name": fieldName, "service": fieldService, "kind": fieldKind, "status": fieldStatus, "statusMessage": fieldStatusMessage,
	"scope": fieldScope, "scopeVersion": fieldScopeVersion, "start": fieldStart, "end": fieldEnd, "duration": fieldDuration, "time": fieldTime,
}

func (j *Judge) field(n *node) value {
	kind, row, ok := j.object(n.args[0])
	if !ok {
		return value{}
	}
	b := j.b
	if kind == kindEvent {
		if n.number == fieldTime {
			return value{kind: kindTime, i: int64(b.Events.Times[row])}
		}
		return fieldText(&b.Events.Names, row)
	}
	switch n.number {
	case fieldName:
		return fieldText(&b.Names, row)
	case fieldService:
		return fieldText(&b.Service().Text, b.Resources[row])
	case fieldKind:
		return textValue(nameOf(kindNames, int(b.Kinds[row])))
	case fieldStatus:
		return textValue(nameOf(statusNames, int(b.Statuses[row])))
	case fieldStatusMessage:
		return fieldText(&b.StatusMessages, row)
	case fieldScope:
		return fieldText(&b.Scopes, row)
	case fieldScopeVersion:
		return fieldText(&b.ScopeVersions, row)
	case fieldStart:
		return value{kind: kindTime, i: int64(b.Starts[row])}
	case fieldEnd:
		return value{kind: kindTime, i: int64(b.Ends[row])}
	case fieldDuration:
		return value{kind: kindDuration, i: int64(b.Ends[row].Sub(b.Starts[row]))}
	}
	return unknownValue
}

func fieldText(c *columnar.TextColumn, row int32) value { return textValue(c.Bytes(codeOf(c, row))) }

var kindNames, statusNames = bytesOf(trace.KindNames[:]), bytesOf(trace.StatusNames[:])

func bytesOf(names []string) (of [][]byte) {
	for _, name := range names {
		of = append(of, []byte(name))
	}
	return of
}

// nameOf returns the name of a number; one of which there is none is the first.
func nameOf(names [][]byte, number int) []byte {
	if number < 0 || number >= len(names) {
		number = 0
	}
	return names[number]
}

func (j *Judge) attribute(n *node) value {
	_, row, ok := j.object(n.args[0])
	if !ok {
		return value{}
	}
	return j.attributeAt(n, row)
}

// attributeAt returns the attribute of a row.
func (j *Judge) attributeAt(n *node, row int32) value {
	if n.attribute.Scope == columnar.ScopeResource {
		return columnValue(j.columns[n.resource].attribute, j.b.Resources[row])
	}
	v := columnValue(j.columns[n.own].attribute, row)
	if v.kind == kindAbsent && n.attribute.Scope == columnar.ScopeAny {
		v = columnValue(j.columns[n.resource].attribute, j.b.Resources[row])
	}
	return v
}

// partOf asks the interpreter about a value.
func (j *Judge) partOf(n *node) value {
	operand := n.args[0]
	v := j.value(operand)
	switch v.kind {
	case kindAbsent:
		return j.part(n, trace.Value{}).value()
	case kindText:
		return j.part(n, trace.StringValue(string(v.s))).value()
	case kindInt:
		return j.part(n, trace.IntValue(v.i)).value()
	case kindDouble:
		return j.part(n, trace.DoubleValue(v.f)).value()
	case kindBool:
		return j.part(n, trace.BoolValue(v.i != 0)).value()
	}
	return unknownValue
}

func (j *Judge) in(n *node) value {
	element := j.value(n.args[0])
	if element.kind == kindUnknown {
		return unknownValue
	}
	found := isFalse
	for _, a := range n.args[1:] {
		switch compare(columnar.Equal, element, j.value(a)) {
		case isTrue:
			if found == isFalse {
				found = isTrue
			}
		case isUnknown:
			found = isUnknown // an error in the list is the whole's
		}
	}
	return found.value()
}

// quantify evaluates a quantifier over what is related to one row.
func (j *Judge) quantify(n *node) value {
	of := int32(0)
	if len(n.args) > 1 {
		var ok bool
		if _, of, ok = j.object(n.args[1]); !ok {
			if n.isBool {
				return boolValue(false)
			}
			return value{}
		}
	}
	q := quantification{j: j, n: n}
	if n.row.candidates != nil {
		q.candidates = j.candidates[n.row.candidates.id]
	}
	var known *quickData
	if n.row.quick != nil {
		for i := range n.row.quick.parts {
			q.with[i] = j.value(n.row.quick.parts[i].with)
		}
		if n.list == listSpans && len(n.row.quick.parts) == 1 {
			if known = &j.quick[n.row.quick.id]; known.is(j, q.with[0]) {
				return known.result
			}
		}
	}
	b := j.b
	low, high := b.First[j.trace], b.First[j.trace+1]
	if n.row.quick != nil && slices.ContainsFunc(n.row.quick.parts, func(p quickPart) bool { return p.differs && j.isOne(p.of) }) {
		return q.result()
	}
	switch n.list {
	case listSpans:
		q.each(low, high, j.frame[spans].first, nil)
	case listChildren:
		q.each(low, high, j.frame[spans].first, func(row int32) bool { return b.Parents[row] == of })
	case listDescendants:
		q.each(low, high, j.frame[spans].first, func(row int32) bool { return j.isAbove(of, row, high-low) })
	case listEvents:
		if b.Events.From != nil {
			q.each(b.Events.From[of], b.Events.To[of], 0, nil)
		}
	case listLinks:
		if b.Links.From != nil {
			q.each(b.Links.From[of], b.Links.To[of], 0, nil)
		}
	case listAncestors:
		first := j.frame[spans].first
		steps := int32(0)
		for at := b.Parents[of]; at >= 0 && !q.done; at = b.Parents[at] {
			if steps++; steps > high-low { // a cycle: all were met
				q.again = true
				break
			}
			if q.candidates == nil || q.candidates.Has(at-first) {
				q.element(at)
			}
		}
	}
	if known != nil {
		*known = quickData{j.frame[spans].stamp, j.trace, q.with[0], q.result()}
	}
	return q.result()
}

// oneData says in which traces of the strip a column has one text at most.
type oneData struct {
	stamp uint64
	of    columnar.Bits
}

// isOne reports whether all spans of the trace that have an attribute surely have the same text.
func (j *Judge) isOne(n *node) bool {
	c := j.columns[n.own].attribute
	if n.attribute.Scope == columnar.ScopeAny && j.columns[n.resource].attribute != nil || n.attribute.Scope == columnar.ScopeResource {
		return false
	}
	if c == nil {
		return true
	}
	if c.IsInt != nil || c.IsDouble != nil || c.IsBool != nil || len(c.Others) > 0 {
		return false
	}
	d, f := &j.ones[n.own], &j.frame[traces]
	if d.stamp != f.stamp {
		d.stamp = f.stamp
		d.of = d.of.Resized(64 * f.words)
		clear(d.of)
		for t := f.low; t < f.high; t++ {
			first, isOne := uint32(0), true
			for _, code := range c.Text.Codes[j.b.First[t]:j.b.First[t+1]] {
				if first == 0 {
					first = code
				}
				isOne = isOne && (code == 0 || code == first)
			}
			if isOne {
				d.of.Set(t - f.first)
			}
		}
	}
	return d.of.Has(j.trace - f.first)
}

// quickData is what a quantifier over the spans of a trace came to last, whose body compares them
// with a value: spans of one trace often have the same.
type quickData struct {
	stamp  uint64
	trace  int32
	with   value
	result value
}

func (d *quickData) is(j *Judge, with value) bool {
	return d.stamp == j.frame[spans].stamp && d.trace == j.trace && d.with.kind == with.kind && d.with.i == with.i &&
		math.Float64bits(d.with.f) == math.Float64bits(with.f) && bytes.Equal(d.with.s, with.s)
}

// isAbove reports whether span above is an ancestor of span row, of a trace of n spans.
func (j *Judge) isAbove(above, row, n int32) bool {
	for at, steps := j.b.Parents[row], int32(0); at >= 0 && steps <= n; at, steps = j.b.Parents[at], steps+1 {
		if at == above {
			return true
		}
	}
	return false
}

// quantification is a quantifier while its elements are looked at.
type quantification struct {
	j          *Judge
	n          *node
	candidates columnar.Bits
	with       [mostQuick]value // of the parts of a quickComparison
	count      int64            // of what is true; of quantAll, of what is false
	unknown    bool
	again      bool // elements may have been met twice
	done       bool
}

// each looks at the rows from low to high that are candidates and are meant.
func (q *quantification) each(low, high, first int32, meant func(row int32) bool) {
	for row := low; row < high && !q.done; row++ {
		if q.candidates != nil {
			next := q.candidates.Next(row - first)
			if next < 0 || next+first >= high {
				return
			}
			row = next + first
		}
		if meant == nil || meant(row) {
			q.element(row)
		}
	}
}

func (q *quantification) element(row int32) {
	j := q.j
	if j.steps++; j.steps&0xfff == 0 && context.Cause(j.ctx) != nil {
		q.done, q.unknown = true, true // the caller sees that the context ended
		return
	}
	holds := isTrue
	switch {
	case q.n.row.quick != nil:
		holds = q.compare(row)
	case q.n.row.rest != nil:
		j.env[q.n.binder.id] = row
		holds = j.value(q.n.row.rest).truth()
	case q.n.quantifier == quantAll:
		holds = isFalse // candidates are those of which it is
	}
	switch holds {
	case isUnknown:
		q.unknown = true
	case isTrue:
		if q.n.quantifier != quantAll {
			q.count++
			q.done = q.n.quantifier == quantExists
		}
	case isFalse:
		if q.n.quantifier == quantAll {
			q.count++
			q.done = true
		}
	}
}

// compare is what the parts of a quickComparison say of an element.
func (q *quantification) compare(row int32) truth {
	j, holds := q.j, isTrue
	j.env[q.n.binder.id] = row
	for i := range q.n.row.quick.parts {
		p := &q.n.row.quick.parts[i]
		var v value
		if p.of.op == opAttribute {
			v = j.attributeAt(p.of, row)
		} else {
			v = j.field(p.of)
		}
		switch compare(p.op, v, q.with[i]) {
		case isFalse:
			return isFalse
		case isUnknown:
			holds = isUnknown
		}
	}
	return holds
}

func (q *quantification) result() value {
	switch q.n.quantifier {
	case quantExists:
		if q.count > 0 {
			return boolValue(true)
		}
		if q.unknown {
			return unknownValue
		}
		return boolValue(false)
	case quantAll:
		if q.count > 0 {
			return boolValue(false)
		}
		if q.unknown {
			return unknownValue
		}
		return boolValue(true)
	}
	if q.unknown || q.again {
		return unknownValue
	}
	if q.n.quantifier == quantOne {
		return boolValue(q.count == 1)
	}
	return value{kind: kindInt, i: q.count}
}
