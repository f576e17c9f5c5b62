package engine

import (
	"math"
	"math/bits"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
)

// calculation is +, -, *, / or %. It has no condition: it is evaluated row by row.
type calculation struct{ op string }

func lowerCalculation(l *lowering, _ ast.Expr, call ast.CallExpr) *node {
	of, unknownOf := l.operands(call.Args()...)
	if unknownOf != nil {
		return unknownOf
	}
	return newNode(&calculation{call.FunctionName()}, false, of...)
}

func (x *calculation) name() string { return x.op }

// mayFail: a result may be out of range, and a divisor 0.
func (*calculation) mayFail(*node) bool { return true }

func (*calculation) condition(*compiler, *node, *binder) *predicate { return nil }

func (x *calculation) value(e *evaluation, n *node) value {
	return calculate(x.op, e.value(n.args[0]), e.value(n.args[1]))
}

// calculate returns a op b if it is a number, a timestamp or a duration. The value is absent if the types have no
// such operation. It is unknown if it is an error, or made of strings or lists.
func calculate(op string, a, b value) value {
	switch {
	case a.kind == kindUnknown || b.kind == kindUnknown:
		return unknownValue
	case a.kind == kindAbsent || b.kind == kindAbsent:
		return value{}
	case a.kind == kindInt && b.kind == kindInt:
		return calculateInts(op, a.i, b.i)
	case a.isNumber() && b.isNumber():
		return calculateDoubles(op, a.double(), b.double())
	case a.kind == kindTime && b.kind == kindTime && op == operators.Subtract:
		d := uint64(a.i) - uint64(b.i)
		if (uint64(a.i) >= uint64(b.i)) != (int64(d) >= 0) || magnitude(int64(d)) > almostTooLong {
			return unknownValue
		}
		return value{kind: kindDuration, i: int64(d)}
	case a.kind == kindDuration && b.kind == kindDuration && (op == operators.Add || op == operators.Subtract):
		v := calculateInts(op, a.i, b.i)
		if v.kind == kindInt {
			v.kind = kindDuration
		}
		return v
	case a.kind == kindTime && b.kind == kindDuration && a.i >= 0 && (op == operators.Add || op == operators.Subtract):
		return timeOf(calculateInts(op, a.i, b.i))
	case a.kind == kindDuration && b.kind == kindTime && b.i >= 0 && op == operators.Add:
		return timeOf(calculateInts(op, a.i, b.i))
	case a.isTimed() && b.isTimed(), op == operators.Add && a.kind == kindText && b.kind == kindText, a.kind > kindDuration, b.kind > kindDuration:
		return unknownValue
	}
	return value{}
}

// almostTooLong is the duration above which cel-go decides whether two timestamps are too far apart: it calculates
// with seconds and nanoseconds.
const almostTooLong = 1 << 62

func timeOf(v value) value {
	if v.kind != kindInt || v.i < 0 {
		return unknownValue
	}
	v.kind = kindTime
	return v
}

func (v value) isNumber() bool { return v.kind == kindInt || v.kind == kindDouble }

func (v value) isTimed() bool { return v.kind == kindTime || v.kind == kindDuration }

func (v value) double() float64 {
	if v.kind == kindInt {
		return float64(v.i)
	}
	return v.f
}

func calculateInts(op string, a, b int64) value {
	var v int64
	fits := true
	switch op {
	case operators.Add:
		v = a + b
		fits = (v > a) == (b > 0)
	case operators.Subtract:
		v = a - b
		fits = (v < a) == (b > 0)
	case operators.Multiply:
		v = a * b
		high, low := bits.Mul64(magnitude(a), magnitude(b))
		fits = high == 0 && low <= math.MaxInt64 // the least int is left to the interpreter
	case operators.Divide, operators.Modulo:
		if b == 0 || a == math.MinInt64 && b == -1 {
			return unknownValue
		}
		if v = a / b; op == operators.Modulo {
			v = a % b
		}
	}
	if !fits {
		return unknownValue
	}
	return value{kind: kindInt, i: v}
}

func magnitude(i int64) uint64 {
	if i < 0 {
		return -uint64(i)
	}
	return uint64(i)
}

func calculateDoubles(op string, a, b float64) value {
	switch op {
	case operators.Add:
		return value{kind: kindDouble, f: a + b}
	case operators.Subtract:
		return value{kind: kindDouble, f: a - b}
	case operators.Multiply:
		return value{kind: kindDouble, f: a * b}
	case operators.Divide:
		if b == 0 {
			return unknownValue
		}
		return value{kind: kindDouble, f: a / b}
	}
	return value{} // doubles have no remainder
}
