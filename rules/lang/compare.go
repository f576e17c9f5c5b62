package lang

import (
	"fmt"
	"math"

	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/betracehq/betrace/trace"
)

// number returns a CEL number as a trace value, which compares exactly. For a uint beyond int64 it returns
// huge instead, because there is no such value.
func number(v ref.Val) (n trace.Value, huge, ok bool) {
	switch v := v.(type) {
	case types.Int:
		return trace.IntValue(int64(v)), false, true
	case types.Double:
		return trace.DoubleValue(float64(v)), false, true
	case types.Uint:
		if v > math.MaxInt64 {
			return trace.Value{}, true, true
		}
		return trace.IntValue(int64(v)), false, true
	}
	return trace.Value{}, false, false
}

// compareNumbers compares two numbers by value. isNumbers is false if one of them is not a number; ordered is
// false if one is NaN.
func compareNumbers(a, b ref.Val) (c int, ordered, isNumbers bool) {
	x, xHuge, ok := number(a)
	if !ok {
		return 0, false, false
	}
	y, yHuge, ok := number(b)
	if !ok {
		return 0, false, false
	}
	if !xHuge && !yHuge {
		c, ordered = trace.CompareNumbers(x, y)
		return c, ordered, true
	}
	if xHuge && yHuge {
		u, w := a.(types.Uint), b.(types.Uint)
		switch {
		case u < w:
			return -1, true, true
		case u > w:
			return 1, true, true
		}
		return 0, true, true
	}
	if yHuge {
		c, ordered, _ = compareNumbers(b, a)
		return -c, ordered, true
	}
	// a is beyond every int64; b is an int64 or a double.
	if y.Type() == trace.TypeInt {
		return 1, true, true
	}
	f, u := y.Double(), uint64(a.(types.Uint))
	switch {
	case math.IsNaN(f):
		return 0, false, true
	case f >= 1<<64:
		return -1, true, true
	case f < 1<<63:
		return 1, true, true
	}
	switch w := uint64(f); { // doubles from 2^63 on are whole
	case u < w:
		return -1, true, true
	case u > w:
		return 1, true, true
	}
	return 0, true, true
}

// compareEqual reports whether two values are equal. comparable is false if their types are such that both ==
// and != are false.
func compareEqual(a, b ref.Val) (equal, comparable bool) {
	if isAbsent(a) || isAbsent(b) {
		return false, false
	}
	if c, ordered, ok := compareNumbers(a, b); ok {
		return ordered && c == 0, true
	}
	switch x := a.(type) {
	case traits.Mapper:
		y, ok := b.(traits.Mapper)
		return ok && equalMaps(x, y), ok
	case traits.Lister:
		y, ok := b.(traits.Lister)
		return ok && equalLists(x, y), ok
	}
	if a.Type().TypeName() != b.Type().TypeName() {
		return false, false
	}
	return a.Equal(b) == types.True, true
}

func equalLists(a, b traits.Lister) bool {
	if a.Size() != b.Size() {
		return false
	}
	for i, n := types.Int(0), a.Size().(types.Int); i < n; i++ {
		if equal, _ := compareEqual(a.Get(i), b.Get(i)); !equal {
			return false
		}
	}
	return true
}

func equalMaps(a, b traits.Mapper) bool {
	if a.Size() != b.Size() {
		return false
	}
	for it := a.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		x, _ := a.Find(key)
		y, ok := b.Find(key)
		if !ok {
			return false
		}
		if equal, _ := compareEqual(x, y); !equal {
			return false
		}
	}
	return true
}

// compareOrder evaluates <, <=, > and >=. The result is false for values without an order between them.
func compareOrder(op string, a, b ref.Val) ref.Val {
	c, ordered, isNumbers := compareNumbers(a, b)
	if !isNumbers {
		comparer, ok := a.(traits.Comparer)
		if !ok || a.Type().TypeName() != b.Type().TypeName() {
			return types.False
		}
		i, ok := comparer.Compare(b).(types.Int)
		if !ok {
			return types.False
		}
		c, ordered = int(i), true
	}
	switch op {
	case operators.Less:
		return types.Bool(ordered && c < 0)
	case operators.LessEquals:
		return types.Bool(ordered && c <= 0)
	case operators.Greater:
		return types.Bool(ordered && c > 0)
	}
	return types.Bool(ordered && c >= 0)
}

// contains evaluates in.
func contains(element, in ref.Val) ref.Val {
	switch in := in.(type) {
	case traits.Mapper:
		_, ok := find(in, element)
		return types.Bool(ok)
	case traits.Lister:
		for it := in.Iterator(); it.HasNext() == types.True; {
			if equal, _ := compareEqual(element, it.Next()); equal {
				return types.True
			}
		}
	}
	return types.False
}

// find returns the value of a map's key. Keys can only be strings, numbers and booleans.
func find(m traits.Mapper, key ref.Val) (ref.Val, bool) {
	switch key.(type) {
	case types.String, types.Int, types.Uint, types.Double, types.Bool:
		return m.Find(key)
	}
	return nil, false
}

// arithmetic evaluates +, -, *, / and %. Numbers of different types are converted to one type. The result is
// absent if the operands do not fit.
func arithmetic(op string, a, b ref.Val) ref.Val {
	a, b, err := sameNumbers(a, b)
	if err != nil {
		return types.WrapErr(err)
	}
	if f, ok := b.(types.Double); ok && op == operators.Divide && f == 0 {
		if _, ok := a.(types.Double); ok {
			return types.NewErr("division by zero")
		}
	}
	var result ref.Val
	switch op {
	case operators.Add:
		if x, ok := a.(traits.Adder); ok {
			result = x.Add(b)
		}
	case operators.Subtract:
		if x, ok := a.(traits.Subtractor); ok {
			result = x.Subtract(b)
		}
	case operators.Multiply:
		if x, ok := a.(traits.Multiplier); ok {
			result = x.Multiply(b)
		}
	case operators.Divide:
		if x, ok := a.(traits.Divider); ok {
			result = x.Divide(b)
		}
	case operators.Modulo:
		if x, ok := a.(traits.Modder); ok {
			result = x.Modulo(b)
		}
	}
	if result == nil {
		return absent
	}
	return result
}

// sameNumbers converts two numbers of different types to one type: a double if
// one is a double, otherwise an int.
func sameNumbers(a, b ref.Val) (ref.Val, ref.Val, error) {
	_, _, aIsNumber := number(a)
	_, _, bIsNumber := number(b)
	if !aIsNumber || !bIsNumber || a.Type() == b.Type() {
		return a, b, nil
	}
	if a.Type() == types.DoubleType || b.Type() == types.DoubleType {
		return a.ConvertToType(types.DoubleType), b.ConvertToType(types.DoubleType), nil
	}
	for _, v := range []*ref.Val{&a, &b} {
		if u, ok := (*v).(types.Uint); ok {
			if u > math.MaxInt64 {
				return nil, nil, fmt.Errorf("%d is out of the range of int", u)
			}
			*v = types.Int(u)
		}
	}
	return a, b, nil
}
