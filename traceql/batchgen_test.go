package traceql

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"

	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
	"github.com/betracehq/betrace/trace/tracetest"
)

// filterTest generates traces, batches of them, and random filters.
type filterTest struct {
	r      *rand.Rand
	traces []*trace.Trace
	fields []Field // attributes of the traces, and some others
	values []trace.Value
}

func newFilterTest(seed uint64) *filterTest {
	ft := &filterTest{r: rand.New(rand.NewPCG(seed, 2))}
	o := tracetest.Mixed(seed, 1+ft.r.IntN(8))
	o.MaxSpans = 1 + ft.r.IntN(60)
	for _, n := range tracetest.AllNasty() {
		if ft.r.IntN(3) == 0 && n != tracetest.Wide && n != tracetest.Deep {
			o.Nasty[n] = 0.7
		}
	}
	for g := range tracetest.New(o).All() {
		tr := g.Trace()
		if ft.r.IntN(2) == 0 {
			tr = trace.New(tr.ID, ft.stir(slices.Clone(tr.Spans)))
		}
		ft.traces = append(ft.traces, tr)
	}
	ft.collect()
	return ft
}

// stir gives spans attributes with few keys and values, so that they often match, and numbers that OTLP does
// not define.
func (ft *filterTest) stir(spans []trace.Span) []trace.Span {
	some := func(as trace.Attributes) trace.Attributes {
		list := slices.Clone(as)
		for range ft.r.IntN(4) {
			list = append(list, trace.Attribute{Key: string(rune('a' + ft.r.IntN(3))), Value: ft.value(2)})
		}
		normal, _ := trace.NewAttributes(list)
		return normal
	}
	for i := range spans {
		s := &spans[i]
		s.Attributes, s.Resource = some(s.Attributes), some(s.Resource)
		s.Events, s.Links = slices.Clone(s.Events), slices.Clone(s.Links)
		for j := range s.Events {
			s.Events[j].Attributes = some(s.Events[j].Attributes)
		}
		for j := range s.Links {
			s.Links[j].Attributes = some(s.Links[j].Attributes)
		}
		if ft.r.IntN(20) == 0 {
			s.Status, s.Kind = trace.Status(ft.r.IntN(200)-5), trace.Kind(ft.r.IntN(200)-5)
		}
		if ft.r.IntN(20) == 0 {
			s.Start, s.End = trace.Time(ft.r.Uint64()), trace.Time(ft.r.Uint64())
		}
	}
	return spans
}

var numbers = []trace.Value{
	trace.IntValue(0), trace.IntValue(1), trace.IntValue(2), trace.IntValue(-1), trace.IntValue(1<<53 + 1), trace.IntValue(math.MaxInt64), trace.IntValue(math.MinInt64),
	trace.IntValue(math.MaxInt64 - 1), trace.IntValue(math.MinInt64 + 1), trace.DoubleValue(1), trace.DoubleValue(1.5), trace.DoubleValue(2), trace.DoubleValue(math.Copysign(0, -1)),
	trace.DoubleValue(1 << 53), trace.DoubleValue(1 << 63), trace.DoubleValue(-1 << 63), trace.DoubleValue(math.Nextafter(-1<<63, math.Inf(-1))), trace.DoubleValue(math.Nextafter(1<<63, 0)),
	trace.DoubleValue(math.NaN()), trace.DoubleValue(math.Inf(1)), trace.DoubleValue(math.Inf(-1)), trace.DoubleValue(math.MaxFloat64), trace.DoubleValue(-math.MaxFloat64),
	trace.DoubleValue(math.SmallestNonzeroFloat64), trace.DoubleValue(0.1),
}

// value returns a random value. depth limits the nesting of arrays.
func (ft *filterTest) value(depth int) trace.Value {
	switch n := ft.r.IntN(12); {
	case n < 3:
		return trace.StringValue([]string{"", "a", "b", "ab", "1", "\xff", "größe"}[ft.r.IntN(7)])
	case n < 4:
		return trace.BoolValue(ft.r.IntN(2) == 0)
	case n < 9 || depth == 0:
		return numbers[ft.r.IntN(len(numbers))]
	case n < 10:
		return trace.BytesValue([]byte("a"))
	}
	list := make([]trace.Value, ft.r.IntN(4))
	for i := range list {
		list[i] = ft.value(depth - 1)
		if i > 0 && ft.r.IntN(3) > 0 {
			list[i] = list[0] // so that all have one type
		}
	}
	return trace.ArrayValue(list...)
}

// collect records the attributes of the traces.
func (ft *filterTest) collect() {
	seen := map[Field]bool{}
	add := func(scope Scope, as trace.Attributes) {
		for _, a := range as {
			for _, s := range []Scope{scope, ScopeAny, ScopeSpan} {
				if f := (Field{s, a.Key}); !seen[f] && !(scope >= ScopeEvent && s != scope) {
					seen[f] = true
					ft.fields = append(ft.fields, f)
				}
			}
			ft.values = append(ft.values, a.Value)
		}
	}
	for _, tr := range ft.traces {
		for i := range tr.Spans {
			s := &tr.Spans[i]
			add(ScopeSpan, s.Attributes)
			add(ScopeResource, s.Resource)
			for _, e := range s.Events {
				add(ScopeEvent, e.Attributes)
			}
			for _, l := range s.Links {
				add(ScopeLink, l.Attributes)
			}
		}
	}
	for scope := ScopeAny; scope <= ScopeLink; scope++ {
		ft.fields = append(ft.fields, Field{scope, "nobody.has.this"})
	}
}

// field returns a random field, often one of a few.
func (ft *filterTest) field() Field {
	switch ft.r.IntN(3) {
	case 0:
		return Field{Scope(1 + ft.r.IntN(5)), string(rune('a' + ft.r.IntN(3)))}
	case 1:
		return ft.fields[ft.r.IntN(len(ft.fields))]
	}
	return ft.intrinsic()
}

var intrinsicNames = func() (names []string) {
	for name := range intrinsics {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}()

func (ft *filterTest) intrinsic() Field {
	return Intrinsic(intrinsicNames[ft.r.IntN(len(intrinsicNames))])
}

// constantFor returns a constant to compare with a field: its value in some span, a value next to it, or any.
func (ft *filterTest) constantFor(x Expr) Const {
	f, ok := x.(Field)
	if !ok || ft.r.IntN(8) == 0 {
		return ft.constant()
	}
	tr := ft.traces[ft.r.IntN(len(ft.traces))]
	for range 6 {
		i := ft.r.IntN(len(tr.Spans))
		o := (&evaluation{t: tr, i: i, s: &tr.Spans[i]}).field(f)
		for v := range o.values {
			if ft.r.IntN(2) == 0 {
				return ft.beside(v, f.static())
			}
		}
	}
	if t := f.static(); t != TypeAny {
		switch t {
		case TypeString:
			return String([]string{"", "a", "0", "00", "zz"}[ft.r.IntN(5)])
		case TypeStatus:
			return Status(trace.Status(ft.r.IntN(3)))
		case TypeKind:
			return Kind(trace.Kind(ft.r.IntN(6)))
		}
	}
	return ft.constant()
}

func (ft *filterTest) beside(v trace.Value, typ Type) Const {
	switch v.Type() {
	case trace.TypeString:
		s := v.Str()
		switch ft.r.IntN(8) {
		case 0:
			s += "x"
		case 1:
			s = s[:len(s)/2]
		case 2:
			s = strings.ToUpper(s)
		case 3:
			s = strings.TrimLeft(s, "0")
		}
		return String(s)
	case trace.TypeBool:
		return Bool(v.Bool())
	case trace.TypeInt:
		i := v.Int() + int64(ft.r.IntN(3)-1)
		switch {
		case typ == TypeStatus || typ == TypeKind:
			return Const{typ, v}
		case typ == TypeDuration && ft.r.IntN(2) == 0:
			return Const{typ, trace.IntValue(i)}
		case ft.r.IntN(4) == 0:
			return Float(float64(i) + float64(ft.r.IntN(2))/2)
		}
		return Int(i)
	case trace.TypeDouble:
		d := v.Double()
		switch ft.r.IntN(4) {
		case 0:
			d = math.Nextafter(d, math.Inf(1-2*ft.r.IntN(2)))
		case 1:
			return Int(int64(d))
		}
		return Float(d)
	}
	return ft.constant()
}

func (ft *filterTest) constant() Const {
	switch ft.r.IntN(10) {
	case 0:
		return Duration(0)
	case 1:
		return Status(trace.Status(ft.r.IntN(3)))
	case 2:
		return Kind(trace.Kind(ft.r.IntN(6)))
	}
	v := ft.value(0)
	if ft.r.IntN(3) == 0 && len(ft.values) > 0 {
		v = ft.values[ft.r.IntN(len(ft.values))]
	}
	switch v.Type() {
	case trace.TypeString:
		return String(v.Str())
	case trace.TypeBool:
		return Bool(v.Bool())
	case trace.TypeDouble:
		return Float(v.Double())
	}
	return Int(v.Int())
}

func (ft *filterTest) pattern(x Expr) Const {
	text := ft.constantFor(x).Value.Str()
	runes := []rune(text)
	prefix := regexp.QuoteMeta(string(runes[:len(runes)/2]))
	return String([]string{regexp.QuoteMeta(text), prefix + ".*", prefix + "|" + regexp.QuoteMeta(text), ".*", ".+", "", "[a-z.]*", ".*[0-9].*"}[ft.r.IntN(8)])
}

// expr returns a random expression. Its parts may not fit together.
func (ft *filterTest) expr(depth int) Expr {
	n := ft.r.IntN(20)
	if depth == 0 {
		n = ft.r.IntN(11)
	}
	switch {
	case n < 7:
		f := Expr(ft.field())
		c := Expr(ft.constantFor(f))
		op := OpEqual + Op(ft.r.IntN(6))
		if ft.r.IntN(8) == 0 {
			return Binary{Op: op, Left: c, Right: f}
		}
		return Binary{Op: op, Left: f, Right: c}
	case n < 8:
		f := ft.field()
		return Binary{Op: OpRegex + Op(ft.r.IntN(2)), Left: f, Right: ft.pattern(f)}
	case n < 9:
		return Binary{Op: OpEqual + Op(ft.r.IntN(2)), Left: ft.field(), Right: Nil}
	case n < 10:
		return Binary{Op: OpEqual + Op(ft.r.IntN(8)), Left: ft.number(2), Right: ft.number(2)}
	case n < 11:
		switch ft.r.IntN(4) {
		case 0:
			return Bool(ft.r.IntN(2) == 0)
		case 1:
			return ft.number(2)
		}
		return ft.field()
	case n < 13:
		return Not{ft.expr(depth - 1)}
	case n < 14: // comparison of booleans
		return Binary{Op: OpEqual + Op(ft.r.IntN(2)), Left: ft.expr(depth - 1), Right: ft.expr(depth - 1)}
	}
	if n < 15 { // one field, many constants
		f := ft.field()
		x := Expr(Not{Binary{Op: OpEqual, Left: f, Right: ft.constantFor(f)}})
		for range ft.r.IntN(10) {
			x = Binary{Op: OpOr, Left: x, Right: Binary{Op: OpEqual + Op(ft.r.IntN(10)/8), Left: f, Right: ft.constantFor(f)}}
		}
		return Not{x}
	}
	x := Binary{Op: OpOr + Op(ft.r.IntN(2)), Left: ft.expr(depth - 1), Right: ft.expr(depth - 1)}
	for range ft.r.IntN(3) {
		x = Binary{Op: x.Op, Left: x, Right: ft.expr(depth - 1)}
	}
	return x
}

// number returns a random operand: a field, a constant or a calculation.
func (ft *filterTest) number(depth int) Expr {
	switch n := ft.r.IntN(8); {
	case n < 3:
		return ft.field()
	case n < 5 || depth == 0:
		return ft.constant()
	}
	return Binary{Op: OpAdd + Op(ft.r.IntN(6)), Left: ft.number(depth - 1), Right: ft.number(depth - 1)}
}

// filter returns a random filter.
func (ft *filterTest) filter() *Filter {
	for {
		f, err := New(ft.expr(ft.r.IntN(4)))
		if err == nil {
			return f
		}
	}
}

// batch builds a batch as other sources may: with repeated strings in the tables, and with resources shared
// by several spans.
func (ft *filterTest) batch(needs columnar.Needs) *columnar.Batch {
	b := columnar.NewBatch(needs, ft.traces...)
	again := func(c *columnar.TextColumn) {
		for i, code := range c.Codes {
			if code != 0 && ft.r.IntN(3) == 0 {
				c.Codes[i] = c.Add(slices.Clone(c.Bytes(code)))
			}
		}
	}
	if ft.r.IntN(2) == 0 {
		again(&b.Names)
		for _, c := range slices.Concat(b.Attributes, b.ResourceAttributes) {
			again(&c.Text)
		}
	}
	if ft.r.IntN(2) == 0 {
		rows := map[string]int32{}
		for i, r := range b.Resources {
			var text strings.Builder
			for _, c := range b.ResourceAttributes {
				fmt.Fprintf(&text, "%q %v %v,", c.Key, c.Value(r).Type(), c.Value(r))
			}
			if first, ok := rows[text.String()]; ok {
				b.Resources[i] = first
			} else {
				rows[text.String()] = r
			}
		}
	}
	return b
}
