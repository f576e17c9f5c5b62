package traceql

import (
	"math"
	"slices"
	"strings"
	"time"
)

// maxPrefilterBytes limits the filter that is sent to Tempo: half of the longest query that Tempo 3 accepts
// by default.
const maxPrefilterBytes = 64 << 10

// Prefilter returns a filter for which Tempo (2.8 and newer) returns at least every trace that f matches. It
// is f, except that conditions for which Tempo may find fewer spans are widened or omitted:
//
//   - Tempo compares a constant only with attributes of its own type. The condition selects ints, and every
//     float is selected.
//   - A comparison of durations gets an additional != that is always true. It prevents Tempo from skipping
//     pages by their bounds: the huge duration of a span that ends before it starts makes the bounds of its
//     page wrong.
//   - Tempo requires one event to match all conditions on event names, so each of several names is replaced
//     by all of them. Attributes of events and links are omitted, because Tempo tests only the first one with
//     the key.
//   - An unscoped attribute that has the name of an intrinsic is replaced by the span's or the resource's
//     attribute, because Tempo may read the intrinsic.
//   - Conditions on the whole trace (its root, its duration, children) are omitted, because Tempo sees only
//     the part of a trace that is in a block.
//   - Also omitted are !, presence and absence (Tempo stores some values as strings that it does not search),
//     the order of strings (Tempo compares them with their quotes), regular expressions on IDs, arithmetic,
//     and comparisons of fields with fields.
//   - A filter that is too long to send becomes { }.
//
// Tempo also loses lists if several conditions concern the same values, so the conditions are made
// [separate].
//
// Two gaps of Tempo remain, both with lists: it does not find a string in a list if the key has a dedicated
// column for strings; and if a filter compares several attributes, Tempo 2.8 may replace one list's elements
// by another's.
func (f *Filter) Prefilter() *Filter {
	w := widener{}
	w.collect(f.expr)
	wide := MustNew(w.widen(w.separate(f.expr)))
	if len(wide.String()) > maxPrefilterBytes {
		return All
	}
	return wide
}

// Widened returns a filter that is wider than f for the same reasons as the Prefilter, but keeps all
// conditions on an attribute. It is for readers that test each value of a list, such as the readers of
// blocks.
func (f *Filter) Widened() *Filter {
	w := widener{}
	w.collect(f.expr)
	return MustNew(w.widen(f.expr))
}

// maxEventNames is the maximum number of comparisons of event names in one filter.
const maxEventNames = 20

// widener widens one filter.
type widener struct {
	// eventNames are all different comparisons of event:name in the filter.
	eventNames []Expr
}

// comparison returns x as the comparison of a field with a constant. ok is false if x is not one.
func comparison(x Binary) (f Field, op Op, c Const, ok bool) {
	if !x.Op.isComparison() {
		return f, op, c, false
	}
	if f, ok = x.Left.(Field); ok {
		c, ok = x.Right.(Const)
		return f, x.Op, c, ok
	}
	if c, ok = x.Left.(Const); ok && x.Op != OpRegex && x.Op != OpNotRegex {
		f, ok = x.Right.(Field)
		return f, x.Op.flipped(), c, ok
	}
	return f, op, c, false
}

func isEventName(f Field) bool { return f.Scope == ScopeIntrinsic && f.Key == "event:name" }

// collect records the comparisons of event names.
func (w *widener) collect(x Expr) {
	b, ok := x.(Binary)
	if !ok {
		return
	}
	if f, op, c, ok := comparison(b); ok {
		if same := Compare(f, op, c); isEventName(f) && !slices.Contains(w.eventNames, same) {
			w.eventNames = append(w.eventNames, same)
		}
		return
	}
	for _, part := range operands(b, b.Op) {
		if part != x {
			w.collect(part)
		}
	}
}

// widen returns an expression for which Tempo finds at least the spans for which x is true.
func (w *widener) widen(x Expr) Expr {
	switch x := x.(type) {
	case Const:
		return x
	case Field: // a boolean
		return w.compare(x, OpEqual, True)
	case Binary:
		switch x.Op {
		case OpAnd:
			return And(w.widenAll(operands(x, OpAnd))...)
		case OpOr:
			return AnyOf(w.widenAll(operands(x, OpOr))...)
		}
		if f, op, c, ok := comparison(x); ok {
			return w.compare(f, op, c)
		}
	}
	return True
}

// operands returns the operands that are joined by op, from left to right. A chain of thousands is flattened
// once, not once for each operand.
func operands(x Expr, op Op) []Expr {
	var xs []Expr
	for {
		b, ok := x.(Binary)
		if !ok || b.Op != op {
			break
		}
		xs = append(xs, b.Right)
		x = b.Left
	}
	xs = append(xs, x)
	slices.Reverse(xs)
	return xs
}

func (w *widener) widenAll(xs []Expr) []Expr {
	wide := make([]Expr, len(xs))
	for i, x := range xs {
		wide[i] = w.widen(x)
	}
	return wide
}

func (w *widener) compare(f Field, op Op, c Const) Expr {
	isOrder := op != OpEqual && op != OpNotEqual && op != OpRegex && op != OpNotRegex
	if c.Type == TypeString && isOrder {
		return True
	}
	if f.Scope == ScopeIntrinsic {
		in := intrinsics[f.Key]
		switch {
		case in.whole, strings.HasPrefix(f.Key, "link:"), c.Type == TypeNil, in.typ != c.Type, f.Key == "event:timeSinceStart":
			return True
		case f.Key == "trace:id":
			return widenTraceID(f, op, c)
		case (f.Key == "span:id" || f.Key == "span:parentID") && (op == OpRegex || op == OpNotRegex):
			return True
		case f.Key == "span:duration":
			return widenDuration(f, op, c)
		case isEventName(f) && len(w.eventNames) > maxEventNames:
			return True
		case isEventName(f) && len(w.eventNames) > 1:
			return AnyOf(w.eventNames...)
		}
		return Compare(f, op, c)
	}
	switch {
	case f.Scope == ScopeEvent || f.Scope == ScopeLink:
		return True
	case f.Scope == ScopeAny && namedLikeIntrinsic(f.Key):
		return AnyOf(w.compare(Attribute(ScopeSpan, f.Key), op, c), w.compare(Attribute(ScopeResource, f.Key), op, c))
	}
	switch c.Type {
	case TypeInt, TypeFloat:
		return widenNumber(f, op, c)
	case TypeString:
		if c.Value.Str() == "" {
			// Dedicated columns hold "" if the attribute is absent.
			return True
		}
		return Compare(f, op, c)
	case TypeBool:
		return Compare(f, op, c)
	}
	return True
}

// namedLikeIntrinsic reports whether an attribute has the name of an intrinsic, in any of Tempo's spellings.
func namedLikeIntrinsic(key string) bool {
	switch key {
	case "parent", "traceDuration", "rootName", "rootServiceName", "nestedSetLeft", "nestedSetRight", "nestedSetParent", "childCount":
		return true
	}
	for name := range intrinsics {
		if _, last, _ := strings.Cut(name, ":"); key == name || key == last {
			return true
		}
	}
	return false
}

// widenDuration also selects negative durations, which Tempo computes for spans that end before they start.
// In the normal form such spans have duration 0.
func widenDuration(f Field, op Op, c Const) Expr {
	// 2^62+1 ns, 146 years: no span is that long.
	never := Compare(f, OpNotEqual, Duration(time.Duration(1<<62+1)))
	return And(AnyOf(Compare(f, op, c), Compare(f, OpLess, Duration(0))), never)
}

// widenTraceID selects an ID only if it has no leading zeros.
func widenTraceID(f Field, op Op, c Const) Expr {
	if op != OpEqual {
		return True
	}
	digits := strings.ToLower(c.Value.Str())
	trimmed := strings.TrimLeft(digits, "0")
	// For IDs that begin with zeros, Tempo finds some in its ingesters but not in blocks, regardless of their
	// spelling.
	if len(trimmed) != 32 {
		return True
	}
	return Compare(f, op, String(trimmed))
}

// widenNumber selects the ints that may meet the condition, and every float. With a bound on floats Tempo
// would skip pages by their bounds, which a NaN makes wrong. A second condition next to the bound, which
// would keep the pages, makes Tempo 2.8 replace floats of one list by another's.
func widenNumber(f Field, op Op, c Const) Expr {
	below, above, exact := wholeNumbersAround(c)
	if !exact || below == math.MinInt64 {
		return True // outside the range of ints, or without a literal
	}
	floats := Compare(f, OpNotEqual, Float(-math.Pi))
	if c.Type == TypeFloat && c.Value.Double() == -math.Pi {
		floats = Compare(f, OpNotEqual, Float(-math.E))
	}
	return AnyOf(intsThat(f, op, below, above), floats)
}

// intsThat selects the ints that may meet a comparison with a number between below and above. If the number
// is whole, both are equal to it.
func intsThat(f Field, op Op, below, above int64) Expr {
	whole := below == above
	switch op {
	case OpEqual:
		if !whole {
			return False
		}
		return Compare(f, op, Int(below))
	case OpNotEqual:
		if !whole {
			below = 1<<62 + 1 // every int is unequal
		}
		return Compare(f, op, Int(below))
	case OpLess, OpLessEqual:
		if !whole {
			op = OpLessEqual
		}
		return Compare(f, op, Int(below))
	}
	if !whole {
		op = OpGreaterEqual
	}
	return Compare(f, op, Int(above))
}

// wholeNumbersAround returns the greatest int that is not above c and the least that is not below it. ok is
// false if c is too large.
func wholeNumbersAround(c Const) (below, above int64, ok bool) {
	if c.Type == TypeInt {
		return c.Value.Int(), c.Value.Int(), true
	}
	f := c.Value.Double()
	if !(f >= -1<<62 && f <= 1<<62) {
		return 0, 0, false
	}
	return int64(math.Floor(f)), int64(math.Ceil(f)), true
}
