package traceql

import (
	"math"
	"slices"
	"strings"
	"time"
)

// maxPrefilterBytes bounds what is sent to Tempo: half of the longest query that
// Tempo 3 takes by default.
const maxPrefilterBytes = 64 << 10

// Prefilter returns a filter that a Tempo (2.8 and newer) answers with at least
// every trace that f matches. It is f, but for what Tempo answers more narrowly
// than f's meaning, which is widened:
//
//   - Tempo compares a constant only with attributes of its own type. The condition
//     selects ints, and every float is selected.
//   - A comparison of durations has a != beside it that is always true: it keeps Tempo
//     from leaving out pages by their bounds, which the huge duration of a span that ends
//     before it starts makes wrong for its neighbours.
//   - Tempo wants one event of a span to match all that is asked of event names, so
//     each of several names stands for all of them. Attributes of events and links
//     are left out: it looks at the first with the key only.
//   - An unscoped attribute that is named like an intrinsic is asked for as the
//     span's or the resource's: Tempo may take it for the intrinsic.
//   - What needs the whole trace (its root, its duration, children) is left out,
//     since Tempo sees the part of a trace that is in a block.
//   - Left out too: !, presence and absence (Tempo keeps some values as text it
//     does not search), the order of texts (it compares them in quotes), regular
//     expressions on IDs, arithmetic, comparisons of fields with fields.
//   - A filter that is too long to send becomes { }.
//
// Tempo also loses lists where several conditions meet the same values, so the
// conditions are made [separate].
//
// Two gaps are Tempo's, and concern lists: it does not find a text in a list whose
// key has a dedicated column for texts, and where a filter compares several
// attributes, Tempo 2.8 may see one list's elements in the place of another's.
func (f *Filter) Prefilter() *Filter {
	w := widener{}
	w.collect(f.expr)
	wide := MustNew(w.widen(w.separate(f.expr)))
	if len(wide.String()) > maxPrefilterBytes {
		return All
	}
	return wide
}

// Widened returns a filter that is wider than f for the same reasons as the
// Prefilter, but keeps all conditions on an attribute. It is for readers that test
// each value of a list, as those of blocks do.
func (f *Filter) Widened() *Filter {
	w := widener{}
	w.collect(f.expr)
	return MustNew(w.widen(f.expr))
}

// maxEventNames bounds how many comparisons of event names one filter has.
const maxEventNames = 20

// widener widens one filter.
type widener struct {
	// eventNames are all comparisons of event:name in it, each once.
	eventNames []Expr
}

// comparison returns x as a field compared with a constant.
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

// collect notes what is asked of event names.
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

// widen returns an expression that Tempo finds wherever x is true.
func (w *widener) widen(x Expr) Expr {
	switch x := x.(type) {
	case Const:
		return x
	case Field: // a truth value
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

// operands returns what is joined by op, from left to right: a chain of
// thousands is joined again once, not once for each operand.
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
			// Columns of their own hold "" where the attribute is absent.
			return True
		}
		return Compare(f, op, c)
	case TypeBool:
		return Compare(f, op, c)
	}
	return True
}

// namedLikeIntrinsic says whether an attribute has the name of an intrinsic, as
// Tempo writes them with or without a scope.
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

// widenDuration asks for the negative durations too that Tempo sees where a span
// ends before it starts: here such a span's is 0.
func widenDuration(f Field, op Op, c Const) Expr {
	// 2^62+1 ns, 146 years: no span's.
	never := Compare(f, OpNotEqual, Duration(time.Duration(1<<62+1)))
	return And(AnyOf(Compare(f, op, c), Compare(f, OpLess, Duration(0))), never)
}

// widenTraceID asks for an ID that has no leading zeros.
func widenTraceID(f Field, op Op, c Const) Expr {
	if op != OpEqual {
		return True
	}
	digits := strings.ToLower(c.Value.Str())
	trimmed := strings.TrimLeft(digits, "0")
	// Of IDs that begin with zeros Tempo finds some in its ingesters and not in blocks,
	// however they are written.
	if len(trimmed) != 32 {
		return True
	}
	return Compare(f, op, String(trimmed))
}

// widenNumber selects the ints that may meet the condition, and every float. A bound
// on floats would have Tempo leave out pages by it, although a NaN makes theirs wrong. A
// second condition beside the bound, which would keep the pages, has Tempo 2.8 put floats
// of one list in the place of another's.
func widenNumber(f Field, op Op, c Const) Expr {
	below, above, exact := wholeNumbersAround(c)
	if !exact || below == math.MinInt64 {
		return True // beyond what an int holds, or what can be written
	}
	floats := Compare(f, OpNotEqual, Float(-math.Pi))
	if c.Type == TypeFloat && c.Value.Double() == -math.Pi {
		floats = Compare(f, OpNotEqual, Float(-math.E))
	}
	return AnyOf(intsThat(f, op, below, above), floats)
}

// intsThat selects the ints that compare with a number between below and above, both of
// which are that number if it is whole.
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
			below = 1<<62 + 1 // any int is unequal
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

// wholeNumbersAround returns the greatest int that is not above c and the least
// that is not below it; false if one of them is no int64.
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
