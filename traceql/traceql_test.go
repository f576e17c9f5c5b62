package traceql

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/trace"
)

func TestParsePrintsOneWayOfWriting(t *testing.T) {
	for _, tt := range []struct{ query, want string }{
		{`{}`, `{ }`},
		{`{ true }`, `{ }`},
		{`{ .a = 1 }`, `{ .a = 1 }`},
		{`{.a=1&&.b="x"||.c}`, `{ (.a = 1 && .b = "x") || .c }`},
		{`{ .a || .b && .c }`, `{ (.a || .b) && .c }`}, // && and || have equal precedence
		{`{ .a || (.b && .c) }`, `{ .a || (.b && .c) }`},
		{`{ span:name = name }`, `{ name = name }`},
		{`{ span."a b" = 'x' }`, ``},
		{`{ span."a b" = "x" }`, `{ span."a b" = "x" }`},
		{`{ span.foo."a \"b\" \\" = "x" }`, `{ span."foo.a \"b\" \\" = "x" }`},
		{`{ ."span.x" = 1 }`, `{ ."span.x" = 1 }`},
		{`{ .span.x = 1 }`, `{ ."span.x" = 1 }`},
		{`{ resource.service.name =~ "pay.*" }`, `{ resource.service.name =~ "pay.*" }`},
		{"{ name = `a\\b` }", `{ name = "a\\b" }`},
		{`{ duration > 1h30m }`, `{ duration > 90m }`},
		{`{ duration > 1.5s }`, `{ duration > 1500ms }`},
		{`{ duration > 2d }`, `{ duration > 48h }`},
		{`{ .a > -5 }`, `{ .a > -5 }`},
		{`{ .a > -1.5e3 }`, `{ .a > -1500.0 }`},
		{`{ .a + 1 * 2 ^ 3 ^ 4 > (.a + 1) * 2 }`, `{ .a + 1 * 2 ^ 3 ^ 4 > (.a + 1) * 2 }`},
		{`{ .a - (.b - 1) = 0 }`, `{ .a - (.b - 1) = 0 }`},
		{`{ !.a && !(.b = 1) }`, `{ !.a && !(.b = 1) }`},
		{`{ nil != .a }`, `{ .a != nil }`},
		{`{ status = error && kind = server }`, `{ status = error && kind = server }`},
		{`{ event.exception.type = "x" && event:name = "exception" && link.a = 1 }`, `{ event.exception.type = "x" && event:name = "exception" && link.a = 1 }`},
		{`{ rootName = "a" && trace:duration > 1s }`, `{ rootName = "a" && traceDuration > 1s }`},
		{`{ trace:id = "abc" }`, `{ trace:id = "abc" }`},
		{`{ .http.url = "a//b" }`, `{ .http.url = "a//b" }`},
	} {
		f, err := Parse(tt.query)
		if tt.want == "" {
			require.Error(t, err, tt.query)
			continue
		}
		require.NoError(t, err, tt.query)
		require.Equal(t, tt.want, f.String(), tt.query)
		again, err := Parse(f.String())
		require.NoError(t, err, f.String())
		require.Equal(t, f.String(), again.String())
	}
}

func TestParseRefusesByName(t *testing.T) {
	for _, tt := range []struct{ query, want string }{
		{``, `line 1, column 1: a filter starts with {: want "{", have the end`},
		{`.a = 1`, `line 1, column 1: a filter starts with {: want "{", have .a`},
		{"{ .a = 1", `line 1, column 9: the filter is not closed: want "}", have the end`},
		{"{ .a =\n }", `line 2, column 2: want an attribute, an intrinsic or a value, have }`},
		{`{ .a } | count() > 1`, `line 1, column 8: a pipeline (|) is not supported`},
		{`{ .a } >> { .b }`, `the structural operator >> is not supported`},
		{`{ .a } && { .b }`, `a combination of span sets (&&) is not supported`},
		{`{ .a } !~ { .b }`, `the structural operator !~ is not supported`},
		{`{ .a } with (most_recent=true)`, `a hint (with) is not supported`},
		{`count() > 1`, `the aggregate count() is not supported`},
		{`{ nestedSetLeft > 1 }`, `the intrinsic nestedSetLeft`},
		{`{ parent.a = 1 }`, `attributes of scope "parent" are not supported`},
		{`{ instrumentation.a = 1 }`, `attributes of scope "instrumentation"`},
		{`{ span:foo = 1 }`, `unknown intrinsic span:foo`},
		{`{ foo = 1 }`, `want an attribute, an intrinsic or a value, have foo`},
		{`{ . = 1 }`, `"." must be followed by an attribute key`},
		{`{ name = "x }`, `a string is not closed`},
		{`{ name > 5 }`, `name > 5: a string cannot be compared with an int`},
		{`{ name =~ "(" }`, `bad regular expression "("`},
		{`{ name =~ .a }`, `=~ requires a quoted regular expression`},
		{`{ status > error }`, `> cannot be applied to a status`},
		{`{ 1 }`, `a filter must be a boolean; 1 is an int`},
		{`{ name }`, `a filter must be a boolean; name is a string`},
		{`{ !name }`, `! takes a boolean; name is a string`},
		{`{ .a > nil }`, `nil can be compared with = and != only`},
		{`{ nil = nil }`, `nil cannot be compared with nil`},
		{`{ 1 = nil }`, `1 is not an attribute`},
		{`{ .a = 1x }`, `bad number or duration "1x"`},
		{`{ .a = 9223372036854775808d }`, `bad number or duration`},
		{"{ .a = \x01 }", `unexpected '\x01'`},
		{`{ /* x */ }`, `comments are not supported`},
	} {
		_, err := Parse(tt.query)
		require.ErrorContains(t, err, tt.want, tt.query)
		var at *Error
		require.ErrorAs(t, err, &at)
	}
}

func TestMatches(t *testing.T) {
	attrs := func(kv ...any) trace.Attributes {
		var as []trace.Attribute
		for i := 0; i < len(kv); i += 2 {
			as = append(as, trace.Attribute{Key: kv[i].(string), Value: kv[i+1].(trace.Value)})
		}
		normal, _ := trace.NewAttributes(as)
		return normal
	}
	s, n, d, b := trace.StringValue, trace.IntValue, trace.DoubleValue, trace.BoolValue
	tr := trace.New(trace.ID{15: 0xab}, []trace.Span{
		{
			ID: trace.SpanID{7: 1}, Name: "charge", Kind: trace.KindServer, Status: trace.StatusError, StatusMessage: "declined",
			Start: 1000, End: 1000 + 2e9, Scope: "lib", ScopeVersion: "1.0",
			Attributes: attrs("amount", n(2500), "rate", d(2.5), "currency", s("EUR"), "flag", b(true), "off", b(false), "big", n(1<<53+1),
				"tags", trace.ArrayValue(s("a"), s("b")), "mixed", trace.ArrayValue(s("a"), n(1)), "empty", trace.ArrayValue(), "same", s("span")),
			Resource: attrs("service.name", s("payment"), "same", s("resource"), "region", s("eu")),
			Events:   []trace.Event{{Name: "exception", Time: 2000, Attributes: attrs("exception.type", s("Timeout"), "n", n(3))}, {Name: "retry", Time: 3000}},
			Links:    []trace.Link{{TraceID: trace.ID{15: 7}, SpanID: trace.SpanID{7: 9}, Attributes: attrs("why", s("follows"))}},
		},
		{ID: trace.SpanID{7: 2}, ParentID: trace.SpanID{7: 1}, Name: "child", Start: 2000, End: 3000},
	})
	for _, tt := range []struct {
		query string
		want  bool // whether span "charge" matches
	}{
		{`{ }`, true}, {`{ false }`, false},
		{`{ name = "charge" }`, true}, {`{ name != "charge" }`, false}, {`{ name =~ "char" }`, false}, {`{ name =~ "char.*" }`, true}, {`{ name !~ "char" }`, true},
		{`{ name > "chaa" }`, true}, {`{ name <= "charge" }`, true}, {`{ name < "charge" }`, false},
		{`{ status = error }`, true}, {`{ status != ok }`, true}, {`{ kind = server }`, true}, {`{ kind = client }`, false},
		{`{ statusMessage = "declined" }`, true},
		{`{ duration = 2s }`, true}, {`{ duration > 1999ms }`, true}, {`{ duration > 2000000000 }`, false}, {`{ duration >= 2000000000.0 }`, true},
		{`{ .amount > 1000 }`, true}, {`{ .amount > 1000.5 }`, true}, {`{ .amount = 2500.0 }`, true}, {`{ .amount != 2500 }`, false}, {`{ .amount < 2500 }`, false},
		{`{ .rate > 2 }`, true}, {`{ .rate = 2.5 }`, true}, {`{ .rate != 2 }`, true},
		{`{ .big = 9007199254740993 }`, true}, {`{ .big = 9007199254740992 }`, false}, {`{ .big > 9007199254740992.0 }`, true},
		{`{ .amount = "2500" }`, false}, {`{ .amount != "2500" }`, false},
		{`{ .currency = "EUR" }`, true}, {`{ .zzz = "x" }`, false}, {`{ .zzz != "x" }`, false}, {`{ .zzz !~ "x" }`, false}, {`{ !(.zzz = "x") }`, true},
		{`{ .zzz = nil }`, true}, {`{ .zzz != nil }`, false}, {`{ .amount != nil }`, true}, {`{ nil = .amount }`, false}, {`{ .empty != nil }`, true},
		{`{ .flag }`, true}, {`{ .off }`, false}, {`{ !.off }`, true}, {`{ .currency && true }`, false}, {`{ .flag = true }`, true}, {`{ .off != true }`, true},
		{`{ .tags = "a" }`, true}, {`{ .tags = "c" }`, false}, {`{ .tags != "a" }`, true}, {`{ .tags =~ "a|x" }`, true}, {`{ .tags !~ "a" }`, true},
		{`{ .mixed = "a" }`, false}, {`{ .empty = "a" }`, false},
		{`{ .same = "span" }`, true}, {`{ .same = "resource" }`, false}, {`{ span.same = "span" }`, true}, {`{ resource.same = "resource" }`, true},
		{`{ .region = "eu" }`, true}, {`{ span.region = "eu" }`, false}, {`{ resource.service.name = "payment" }`, true},
		{`{ event:name = "retry" }`, true}, {`{ event.exception.type = "Timeout" }`, true}, {`{ event.exception.type != "Timeout" }`, false}, {`{ event.n > 2.5 }`, true},
		{`{ event:timeSinceStart = 2us }`, true}, {`{ event:timeSinceStart > 2us }`, false},
		{`{ link.why = "follows" }`, true}, {`{ link:spanID = "0000000000000009" }`, true}, {`{ link:traceID = "00000000000000000000000000000007" }`, true},
		{`{ instrumentation:name = "lib" && instrumentation:version = "1.0" }`, true},
		{`{ span:id = "0000000000000001" }`, true}, {`{ span:parentID = nil }`, true}, {`{ childCount = 1 }`, true},
		{`{ rootName = "charge" && rootServiceName = "payment" }`, true}, {`{ traceDuration = 2s }`, true},
		{`{ trace:id = "ab" }`, true}, {`{ trace:id = "000000000000000000000000000000AB" }`, true}, {`{ trace:id =~ "a." }`, true}, {`{ trace:id != "ab" }`, false},
		{`{ .amount + 500 = 3000 }`, true}, {`{ .amount / 1000 = 2 }`, true}, {`{ .amount / 0 = 0 }`, false}, {`{ .rate * 2 = 5 }`, true}, {`{ -.amount < 0 }`, true},
		{`{ .amount % 7 = 1 }`, true}, {`{ 2 ^ 3 ^ 2 = 512 }`, true}, {`{ .currency + 1 = 2 }`, false}, {`{ 2 < .rate }`, true}, {`{ 9223372036854775807 + 1 > 1 }`, true},
		{`{ .rate - 0.5 = 2 && 5 % 0 != 1 || false }`, false}, {`{ 5.5 % 2 = 1.5 }`, true}, {`{ 7 % -1 = 0 }`, true}, {`{ .amount * 4611686018427387904 > 0 }`, true},
		{`{ .amount = error }`, false}, {`{ name = "charge" && (.zzz || .flag) }`, true},
	} {
		f, err := Parse(tt.query)
		require.NoError(t, err, tt.query)
		require.Equal(t, tt.want, f.MatchesSpan(tr, 0), tt.query)
	}
	for _, tt := range []struct {
		query string
		want  bool
	}{{`{ name = "child" }`, true}, {`{ name = "other" }`, false}, {`{ name = "child" && kind = server }`, false}} {
		f, err := Parse(tt.query)
		require.NoError(t, err)
		require.Equal(t, tt.want, f.Matches(tr), tt.query)
	}
}

func TestPrefilterIsWidenedWhereTempoAnswersNarrowly(t *testing.T) {
	for _, tt := range []struct{ query, want string }{
		{`{ name = "a" }`, `{ name = "a" }`},
		{`{ name = "a" && !(.b = 1) }`, `{ name = "a" }`},
		{`{ .n > 1000 }`, `{ .n > 1000 || .n != -3.141592653589793 }`},
		{`{ .n > 1000.5 }`, `{ .n >= 1001 || .n != -3.141592653589793 }`},
		{`{ .n >= 1000.5 }`, `{ .n >= 1001 || .n != -3.141592653589793 }`},
		{`{ .n < 1000.5 }`, `{ .n <= 1000 || .n != -3.141592653589793 }`},
		{`{ .n <= 7 }`, `{ .n <= 7 || .n != -3.141592653589793 }`},
		{`{ 7 < .n }`, `{ .n > 7 || .n != -3.141592653589793 }`},
		{`{ .n = 7 }`, `{ .n = 7 || .n != -3.141592653589793 }`},
		{`{ .n = 7.5 }`, `{ .n != -3.141592653589793 }`},
		{`{ .n = 9007199254740993 }`, `{ .n = 9007199254740993 || .n != -3.141592653589793 }`},
		{`{ .n > 9007199254740993 }`, `{ .n > 9007199254740993 || .n != -3.141592653589793 }`},
		{`{ .n < 9007199254740993 }`, `{ .n < 9007199254740993 || .n != -3.141592653589793 }`},
		{`{ .n > 1.0e300 }`, `{ }`},
		{`{ .n != 7 }`, `{ .n != 7 || .n != -3.141592653589793 }`},
		{`{ .a = nil || .b = "x" }`, `{ }`},
		{`{ .a != nil && name = "x" }`, `{ name = "x" }`},
		{`{ .flag }`, `{ .flag = true }`},
		{`{ rootName = "a" && name = "b" }`, `{ name = "b" }`},
		{`{ childCount > 1 || name = "b" }`, `{ }`},
		{`{ .a = .b }`, `{ }`}, {`{ .a + 1 > 2 }`, `{ }`}, {`{ .s = "" }`, `{ }`},
		{`{ trace:id = "0ab" }`, `{ }`}, {`{ trace:id = "100000000000000000000000000000AB" }`, `{ trace:id = "100000000000000000000000000000ab" }`},
		{`{ duration > 1s }`, `{ (duration > 1s || duration < 0ns) && duration != 4611686018427387905ns }`}, {`{ duration > 5 }`, `{ }`},
		{`{ false && .a = 1 }`, `{ false }`},
		{`{ .n != 2.5 }`, `{ .n != 4611686018427387905 || .n != -3.141592653589793 }`},
		{`{ .n > -3.141592653589793 }`, `{ .n >= -3 || .n != -2.718281828459045 }`},
		{`{ .n = -9223372036854775808 }`, `{ }`},
		{`{ name > "POST" && .a = "x" }`, `{ .a = "x" }`}, {`{ .a < "x" }`, `{ }`},
		{`{ event.k = "x" && name = "b" }`, `{ name = "b" }`}, {`{ link.k = "x" }`, `{ }`},
		{`{ event:name = "a" }`, `{ event:name = "a" }`},
		{`{ event:name = "a" && event:name = "b" }`, `{ event:name = "a" || event:name = "b" }`},
		{`{ .name = "a" }`, `{ span.name = "a" || resource.name = "a" }`},
		{`{ .status = "a" && status = error }`, `{ (span.status = "a" || resource.status = "a") && status = error }`},
		{`{ span:id =~ "a.*" && name = "b" }`, `{ name = "b" }`}, {`{ span:id = "000000000000000a" }`, `{ span:id = "000000000000000a" }`},
	} {
		f, err := Parse(tt.query)
		require.NoError(t, err, tt.query)
		require.Equal(t, tt.want, f.Prefilter().String(), tt.query)
	}
	var long []Expr
	for i := range 5000 {
		long = append(long, Compare(Attribute(ScopeSpan, fmt.Sprintf("key-%d", i)), OpEqual, Int(int64(i))))
	}
	require.True(t, MustNew(AnyOf(long...)).Prefilter().IsAll(), "too long to send")
	var names []Expr
	for i := range maxEventNames + 1 {
		names = append(names, Compare(Intrinsic("event:name"), OpEqual, String(string(rune('a'+i)))))
	}
	require.True(t, MustNew(AnyOf(names...)).Prefilter().IsAll(), "too many names")
	require.False(t, MustNew(AnyOf(names[1:]...)).Prefilter().IsAll())
}

func TestOrJoinsFiltersWithoutRepeating(t *testing.T) {
	a, _ := Parse(`{ name = "a" }`)
	b, _ := Parse(`{ name = "b" || name = "a" }`)
	require.Equal(t, `{ name = "a" || name = "b" }`, Or(a, b, a).String())
	require.True(t, Or(a, All).IsAll())
	require.Equal(t, `{ false }`, Or().String())
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{ }`, `{ .a = 1 && span."x y" =~ "a.*" || !(duration > 1.5s) }`, `{ -.a ^ 2 > 1e-3 }`, `{ .a } | rate()`} {
		f.Add(seed)
	}
	tr := trace.New(trace.ID{1}, []trace.Span{{ID: trace.SpanID{1}, Name: "a"}})
	f.Fuzz(func(t *testing.T, query string) {
		filter, err := Parse(query)
		if err != nil {
			return
		}
		filter.Matches(tr)
		filter.Prefilter()
		again, err := Parse(filter.String())
		if err != nil {
			t.Fatalf("%q is printed as %q, which does not parse: %v", query, filter, err)
		}
		if again.String() != filter.String() {
			t.Fatalf("%q is printed as %q, then as %q", query, filter, again)
		}
	})
}
