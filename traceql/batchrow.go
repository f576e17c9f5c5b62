package traceql

import (
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// narrowRows removes the spans from s for which the expression is not true. It evaluates them one by one, for
// expressions that compare fields with fields or calculate.
func (f *BatchFilter) narrowRows(x Expr, s columnar.Bits) {
	b := f.b
	f.columns = f.columns[:0]
	f.findColumns(x)
	row := batchRow{f: f}
	e := evaluation{row: &row}
	for t, i := int32(0), s.Next(0); i >= 0; i = s.Next(i + 1) {
		for b.First[t+1] <= i {
			t++
		}
		row.t, row.i = t, i
		if !e.truth(x) {
			s[i>>6] &^= 1 << (i & 63)
		}
	}
}

// fieldColumns are the columns from which an attribute is read.
type fieldColumns struct {
	field          Field
	span, resource *columnar.Column
	members        *columnar.Column // of events or links
}

// findColumns finds the columns of the attributes that the expression reads.
func (f *BatchFilter) findColumns(x Expr) {
	switch x := x.(type) {
	case Field:
		c := fieldColumns{field: x}
		switch x.Scope {
		case ScopeSpan:
			c.span = f.b.Attribute(x.Key)
		case ScopeResource:
			c.resource = f.b.ResourceAttribute(x.Key)
		case ScopeAny:
			c.span, c.resource = f.b.Attribute(x.Key), f.b.ResourceAttribute(x.Key)
		case ScopeEvent:
			c.members = f.b.Events.Attribute(x.Key)
		case ScopeLink:
			c.members = f.b.Links.Attribute(x.Key)
		}
		f.columns = append(f.columns, c)
	case Not:
		f.findColumns(x.X)
	case Binary:
		f.findColumns(x.Left)
		f.findColumns(x.Right)
	}
}

// batchRow is span i of a batch, in trace t.
type batchRow struct {
	f    *BatchFilter
	t, i int32
}

func (r *batchRow) field(f Field) operand {
	if f.Scope == ScopeIntrinsic {
		o := r.intrinsic(f.Key)
		o.typ = intrinsics[f.Key].typ
		return o
	}
	var c *fieldColumns
	for i := range r.f.columns {
		if r.f.columns[i].field == f {
			c = &r.f.columns[i]
			break
		}
	}
	b := r.f.b
	if c.span != nil {
		if v := c.span.Value(r.i); !v.IsAbsent() {
			return operand{one: v}
		}
	}
	if c.resource != nil {
		return operand{one: c.resource.Value(b.Resources[r.i])}
	}
	if c.members == nil {
		return operand{}
	}
	from, to := b.Events.From, b.Events.To
	if f.Scope == ScopeLink {
		from, to = b.Links.From, b.Links.To
	}
	return r.members(from, to, c.members.Value)
}

// members returns the values of the span's events or links.
func (r *batchRow) members(from, to []int32, value func(member int32) trace.Value) operand {
	var o operand
	if from == nil {
		return o
	}
	for m := from[r.i]; m < to[r.i]; m++ {
		if v := value(m); !v.IsAbsent() {
			o.any = append(o.any, v)
		}
	}
	return o
}

func (r *batchRow) intrinsic(name string) operand {
	b, i := r.f.b, r.i
	str := func(s string) operand { return operand{one: trace.StringValue(s)} }
	num := func(n int64) operand { return operand{one: trace.IntValue(n)} }
	text := func(c *columnar.TextColumn) operand {
		if c.Codes == nil {
			return str("")
		}
		return str(c.Text(c.Codes[i]))
	}
	switch name {
	case "span:name":
		return text(&b.Names)
	case "span:statusMessage":
		return text(&b.StatusMessages)
	case "instrumentation:name":
		return text(&b.Scopes)
	case "instrumentation:version":
		return text(&b.ScopeVersions)
	case "span:status":
		return num(int64(knownStatus(b.Statuses[i])))
	case "span:kind":
		return num(int64(knownKind(b.Kinds[i])))
	case "span:duration":
		return num(int64(b.Ends[i].Sub(b.Starts[i])))
	case "span:id":
		return str(b.SpanIDs[i].String())
	case "span:parentID":
		if b.ParentIDs[i].IsZero() {
			return operand{}
		}
		return str(b.ParentIDs[i].String())
	case "span:childCount":
		r.f.countChildren()
		return num(int64(r.f.children[i]))
	case "trace:id":
		return str(b.IDs[r.t].String())
	case "trace:duration":
		return num(r.f.traceDuration(r.t))
	case "trace:rootName":
		if root := r.f.rootOf(r.t); root >= 0 {
			return str(b.Names.Text(b.Names.Codes[root]))
		}
	case "trace:rootService":
		if root := r.f.rootOf(r.t); root >= 0 {
			return str(b.Service().Text.Text(r.f.serviceCode(root)))
		}
	case "event:name":
		return r.members(b.Events.From, b.Events.To, func(e int32) trace.Value {
			return trace.StringValue(b.Events.Names.Text(b.Events.Names.Codes[e]))
		})
	case "event:timeSinceStart":
		return r.members(b.Events.From, b.Events.To, func(e int32) trace.Value {
			return trace.IntValue(int64(b.Events.Times[e]) - int64(b.Starts[i]))
		})
	case "link:traceID":
		return r.members(b.Links.From, b.Links.To, func(l int32) trace.Value { return trace.StringValue(b.Links.TraceIDs[l].String()) })
	case "link:spanID":
		return r.members(b.Links.From, b.Links.To, func(l int32) trace.Value { return trace.StringValue(b.Links.SpanIDs[l].String()) })
	}
	return operand{}
}
