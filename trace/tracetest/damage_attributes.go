package tracetest

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/betracehq/betrace/trace"
)

// ruleKeys are the attributes that the rules of Pack read by name, and service.name. Only scenes change them.
var ruleKeys = map[string]bool{
	trace.ServiceName: true, environmentKey: true,
	keyAmount: true, "payment.bypass.reason": true, keyResend: true, "db.system.name": true, "db.collection.name": true,
	"refund.approved": true, "tls.established": true, "server.address": true,
	"gen_ai.operation.name": true, keyTool: true, "messaging.operation.type": true, "messaging.message.id": true,
	"messaging.consumer.group.name": true, keyCount: true, "url.path": true, "user.id": true, "enduser.id": true, "user.roles": true,
}

// keeps reports whether an attribute of a span may affect a verdict.
func (b *builder) keeps(i int, key string) bool { return ruleKeys[key] || b.spans[i].keepsAttrs }

func (b *builder) hurtAttributes() {
	b.someSpans(MissingAttributes, func(i int) bool {
		if b.spans[i].keepsAttrs {
			return false
		}
		share := b.rng.IntN(5) // of 4
		lost := 0
		s := b.own(i)
		s.attrs = slices.DeleteFunc(s.attrs, func(a trace.Attribute) bool {
			if ruleKeys[a.Key] || lost > 0 && b.rng.IntN(4) >= share {
				return false
			}
			lost++
			return true
		})
		return lost > 0
	})
	typ, last := 0, 0
	mix := func(i int) bool {
		b.retype(i)
		b.set(i, mixed[typ%len(mixed)])
		typ, last = typ+1, i
		return true
	}
	b.someSpans(MixedTypes, mix)
	if typ > 0 && len(b.spans) > 1 { // at least two types of the key in this trace
		mix((last + 1) % len(b.spans))
	}
	b.someSpans(EmptyStrings, func(i int) bool {
		for _, a := range b.own(i).attrs {
			if !b.keeps(i, a.Key) && a.Value.Type() == trace.TypeString && b.rng.IntN(4) == 0 {
				b.set(i, str(a.Key, ""))
			}
		}
		b.set(i, str("app.note", ""))
		return true
	})
	for _, n := range AllNasty() {
		examples := unusual[n]
		if examples == nil {
			continue
		}
		b.someSpans(n, func(i int) bool {
			a := examples[b.rng.IntN(len(examples))]
			if n == LongValues {
				a.Value = trace.StringValue(longText(3<<10 + b.rng.IntN(37<<10)))
			}
			if n == Unicode && i >= b.loose {
				b.spans[i].name = unicodeNames[b.rng.IntN(len(unicodeNames))]
			}
			if svc := b.spans[i].service; b.rng.IntN(4) == 0 {
				b.res[svc].extra = replace(b.res[svc].extra, a)
				return true
			}
			b.set(i, a)
			return true
		})
	}
}

// retype changes the type of one attribute that no rule reads, and keeps its content as far as possible.
func (b *builder) retype(i int) {
	attrs := b.own(i).attrs
	if len(attrs) == 0 {
		return
	}
	a := &attrs[b.rng.IntN(len(attrs))]
	if b.keeps(i, a.Key) {
		return
	}
	switch v := a.Value; v.Type() {
	case trace.TypeInt:
		if b.rng.IntN(2) == 0 {
			a.Value = trace.DoubleValue(float64(v.Int()))
		} else {
			a.Value = trace.StringValue(strconv.FormatInt(v.Int(), 10))
		}
	case trace.TypeDouble:
		a.Value = trace.IntValue(int64(v.Double()))
	case trace.TypeBool:
		a.Value = trace.StringValue(strconv.FormatBool(v.Bool()))
	case trace.TypeString:
		a.Value = trace.IntValue(int64(len(v.Str())))
	}
}

var mixed = []trace.Attribute{num("app.size", 7), dbl("app.size", 7), str("app.size", "7"), yes("app.size", true), dbl("app.size", 7.5)}

// replace returns a copy of the attributes in which a is added, or replaces the one with the same key.
func replace(attrs []trace.Attribute, a trace.Attribute) []trace.Attribute {
	attrs = slices.Clone(attrs)
	if i := slices.IndexFunc(attrs, func(old trace.Attribute) bool { return old.Key == a.Key }); i >= 0 {
		attrs[i] = a
		return attrs
	}
	return append(attrs, a)
}

// unusual lists attributes for each difficulty. Each difficulty has its own keys.
var unusual = func() (u [nastyEnd][]trace.Attribute) {
	s, n, f, t := trace.StringValue, trace.IntValue, trace.DoubleValue, trace.BoolValue
	bytes := func(key, value string) trace.Attribute {
		return trace.Attribute{Key: key, Value: trace.BytesValue([]byte(value))}
	}
	mapOf := func(key string, attrs ...trace.Attribute) trace.Attribute {
		normal, _ := trace.NewAttributes(attrs)
		return trace.Attribute{Key: key, Value: trace.MapValue(normal)}
	}
	u[AbsentValues] = []trace.Attribute{{Key: "app.absent"}}
	u[Lists] = []trace.Attribute{
		list("app.tags", s("tag1"), s("tag2"), s("")), list("app.sizes", n(3), n(-1), n(1<<53+1)),
		list("app.ratios", f(0.5), f(1), f(-2.25)), list("app.flags", t(true), t(false)), list("app.tags", s("tag1")),
	}
	u[EmptyLists] = []trace.Attribute{list("app.labels"), list("app.levels")}
	u[MixedLists] = []trace.Attribute{
		list("app.mixed", n(1), s("a"), f(2.5), t(true)), list("app.mixed", list("", s("nested"), n(1)).Value, list("").Value),
		list("app.mixed", trace.Value{}, s("after nothing")), list("app.mixed", n(1), f(1)),
		list("app.mixed", mapOf("", str("k", "v")).Value, trace.BytesValue([]byte{0})),
	}
	u[Bytes] = []trace.Attribute{bytes("app.digest", "\x00\x01\xfe\xff"), bytes("app.digest", ""), bytes("app.payload", "\xc3\x28 not UTF-8")}
	u[Maps] = []trace.Attribute{
		mapOf("app.context"), mapOf("app.context", str("tenant", "acme"), num("shard", 3)),
		mapOf("app.context", mapOf("inner", list("deep", n(1), n(2)), yes("leaf", true)), dbl("ratio", 0.5)),
	}
	for _, text := range unicodeTexts {
		u[Unicode] = append(u[Unicode], str("app.title", text))
	}
	u[Unicode] = append(u[Unicode], str("app.名前", "世界"), num("app.größe in m²", 7), str(`app."quoted" {key}`, "plain"), str("app.🔑", "🔒"))
	u[LongValues] = []trace.Attribute{{Key: "app.body"}, {Key: "app.dump"}}
	u[ExtremeNumbers] = []trace.Attribute{
		num("app.number", 1<<53+1), num("app.number", math.MaxInt64), num("app.number", math.MinInt64), num("app.number", 0),
		dbl("app.double", math.NaN()), dbl("app.double", math.Inf(1)), dbl("app.double", math.Inf(-1)), dbl("app.double", math.Copysign(0, -1)),
		dbl("app.double", math.SmallestNonzeroFloat64), dbl("app.double", math.MaxFloat64), dbl("app.double", 1<<53),
	}
	return u
}()

var unicodeTexts = []string{
	"Grüße aus Köln", "世界 こんにちは", "مرحبا بالعالم", "e\u0301 is é", "👩‍👩‍👧‍👦 🇪🇺", "zero\u200bwidth",
	"\"quoted\" \\ 'single' `back`", "line\nbreak\r\n\ttab", "\u2028line separator", "\u202eright-to-left", "{ } | && || => ∧ ≠",
	"<script>alert('x')</script>", "%s %d ${HOME} {{.}}", "\ufeffbyte order mark", "\U0010ffff", "\u0001 control",
}

var unicodeNames = []string{"GET /größe/{id}", "処理", "обработка заказа", "work \"in quotes\"", "a\nb", "🚀 launch"}

// longText returns n bytes of text, at most 40 KiB.
func longText(n int) string { return longestText[:n] }

var longestText = strings.Repeat("The quick brown fox jumps over the lazy dog. ", 40<<10/45+1)
