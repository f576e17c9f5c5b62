package lang

import (
	"context"
	"strings"
	"testing"

	"github.com/google/cel-go/common/types"
	"github.com/stretchr/testify/require"
)

// operandExpressions use every function with the attribute $ as an operand.
const operandExpressions = `
math.greatest($, 3)
math.greatest([$, 3])
math.least($, 3)
math.abs($)
math.ceil($)
math.floor($)
math.round($)
math.trunc($)
math.sign($)
math.sqrt($)
math.isNaN($)
math.isFinite($)
math.isInf($)
math.bitAnd($, 1)
math.bitOr(1, $)
math.bitXor($, $)
math.bitNot($)
math.bitShiftLeft($, 1)
math.bitShiftRight(1, $)
$.split(",")
$.join(",")
[$].join(",")
$.charAt(0)
$.indexOf("a")
$.lastIndexOf("a")
$.lowerAscii()
$.upperAscii()
$.replace("a", "b")
$.substring(0)
$.trim()
$.reverse()
strings.quote($)
"%s".format([$])
"%d".format([$])
"%.2f".format([$])
"%x".format([$])
"%e".format([$])
"%b".format([$])
$.format([1])
sets.contains($, ["a"])
sets.contains([$], [$])
sets.intersects(["a"], $)
sets.equivalent($, $)
$.distinct()
[$, $].distinct()
$.sort()
[$, "a"].sort()
$.sortBy(x, x)
spans.sortBy(s, $)
$.slice(0, 0)
$.flatten()
$.flatten(2)
$.first()
$.last()
lists.range(size([$]))
size($)
$.size()
$.exists(x, x == "a")
$.all(x, x == "a")
$.exists_one(x, x == "a")
$.map(x, x)
$.filter(x, x == "a")
count($, x, x == "a")
$.transformList(i, v, v)
$.transformMap(i, v, v)
$.transformMapEntry(i, v, {"k": v})
$.existsOne(i, v, v == "a")
string($)
bool($)
bytes($)
int($)
uint($)
double($)
duration($)
timestamp($)
type($) == string
dyn($)
$.getFullYear()
$.getMonth()
$.getDate()
$.getDayOfMonth()
$.getDayOfWeek()
$.getDayOfYear()
$.getHours("UTC")
$.getMinutes()
$.getSeconds()
$.getMilliseconds()
$.startsWith("a")
"a".endsWith($)
$.contains($)
$.matches("a")
$.hasCardNumber()
"abc".matches($)
-$
$ + 1
$ + "x"
["x"] + $
$ - 1
2 * $
$ / 2
$ % 2
spans[0].start + $
spans[0].duration - $
$ < 1
"a" <= $
$ > spans[0].start
$ >= spans[0].duration
$ == $
$ != "a"
$ in $
$ in {"a": 1}
1 in {$: 1}
$["k"]
{"k": 1}[?$]
[1][?$]
spans[0].attributes[$]
spans[0][$]
$ ? 1 : 2
$ && true
$ || false
!$
optional.of($).value()
optional.ofNonZeroValue($).hasValue()
optional.none().orValue($)
optional.of($).or(optional.none())
optional.unwrap([optional.of($)])
[optional.of($)].unwrapOpt()
$.?k
$.before(spans[0])
spans[0].before($)
$.ancestors()
$.descendants()
cel.bind(x, $, x == 1)
`

// Absent values must not cause errors, and attributes of any type must not cause panics.
func TestEveryFunctionTakesEveryTypeOfAttribute(t *testing.T) {
	env, err := NewEnvironment(1<<14, nil)
	require.NoError(t, err)
	all := strings.Split(strings.TrimSpace(operandExpressions), "\n")
	used := map[string]bool{}
	for _, expression := range all {
		for _, key := range []string{"zzz", "text", "badre", "amount", "max", "rate", "nan", "flag", "tags", "mixed", "empty", "bytes", "map"} {
			source := strings.ReplaceAll(expression, "$", `spans[1]["`+key+`"]`)
			p, err := env.compileAny(source)
			require.NoError(t, err, source)
			for id := range p.functions {
				used[p.functions[id].Operator] = true
			}
			v := p.eval(context.Background(), expressionTrace(), nil)
			failure, failed := v.(*types.Err)
			switch {
			case failed && key == "zzz":
				t.Errorf("%s: an absent value causes the error %v", source, failure)
			case failed && (strings.Contains(failure.Error(), "no such overload") || strings.Contains(failure.Error(), "runtime error") || strings.Contains(failure.Error(), "interface conversion")):
				t.Errorf("%s: %v", source, failure)
			case p.types[p.root.ID()].Kind() == types.BoolKind && !failed && v != types.True && v != types.False:
				t.Errorf("%s returns %v, which is not a boolean", source, v)
			}
		}
	}
	for name, f := range env.cel.Functions() {
		internal := strings.Contains(name, "@") || strings.HasPrefix(name, "__")
		operator := strings.HasPrefix(name, "_") || strings.HasSuffix(name, "_")
		named := internal || operator || strings.Contains(operandExpressions, name+"(")
		for _, o := range f.OverloadDecls() {
			named = named || used[o.ID()]
		}
		if !named {
			t.Errorf("no expression here uses %s", name)
		}
	}
}
